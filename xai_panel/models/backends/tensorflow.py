"""The TensorFlow backend."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from xai_panel.models.backends.base import Activations, Array, Gradients

if TYPE_CHECKING:
    from xai_panel.models.frontends import FrontEnd


class TapeBackend:
    """A TensorFlow network behind its front end: what does not depend on the form in which the network comes.

    Channels are last inside the model and first in what this backend answers. There are no hooks: the network is cut at
    the target layer, so calls from several threads do not disturb each other.

    Parameters
    ----------
    to_input: differentiable map from features (n, *shape) to the network's input, on tensors
    shape: of one window of features, (H, W) or (C, H, W); W None: of any width
    outputs: of the network; a single one is presented as two classes
    """

    framework = "tensorflow"
    differentiable = True
    batch = 16

    def __init__(self, to_input: Callable[[Any], Any], shape: tuple[int | None, ...], outputs: int) -> None:
        self._to_input = to_input
        self._shape = shape
        self._lock = threading.Lock()
        self._compiled: dict[Any, Callable[..., Any]] = {}
        self.one_logit = outputs == 1
        self.classes = 2 if self.one_logit else outputs

    def layers(self) -> list[str]:
        """Names of the layers whose output has a spatial grid, in forward order."""
        raise NotImplementedError

    def _cut(self, layer: str | None) -> Callable[[Any], tuple[Any, Any]]:
        """Map from the network's input to the values of a layer, None without one, and to the outputs (n, outputs)."""
        raise NotImplementedError

    def _pair(self, outputs: Any) -> Any:
        import tensorflow as tf

        outputs = tf.cast(outputs, tf.float32)
        return tf.concat([-outputs, outputs], axis=1) if self.one_logit else outputs

    def logits(self, batch: Array) -> Array:
        return np.asarray(self._once(None, self._forward)(np.ascontiguousarray(batch, np.float32)))

    def _forward(self) -> Callable[..., Any]:
        """The compiled forward pass."""
        import tensorflow as tf

        network = self._cut(None)
        compiled: Callable[..., Any] = tf.function(
            lambda features: self._pair(network(self._to_input(features))[1]),
            [tf.TensorSpec((None, *self._shape), tf.float32)],
        )
        return compiled

    def gradients(self, batch: Array, target: int, layer: str | None = None) -> Gradients:
        answers = self._backward(layer, True)(np.ascontiguousarray(batch, np.float32), np.int32(target))
        logits, _, inputs, *rest = (answer.numpy() for answer in answers)
        activations, gradients = (_channels_first(answer) for answer in rest) if rest else (None, None)
        return Gradients(logits, inputs, activations, gradients)

    def activations(self, batch: Array, layer: str, target: int | None = None) -> Activations:
        asked = np.int32(-1 if target is None else target)
        answers = self._backward(layer, False)(np.ascontiguousarray(batch, np.float32), asked)
        logits, index, values, gradients = (answer.numpy() for answer in answers)
        return Activations(logits, int(index), _channels_first(values), _channels_first(gradients))

    def _backward(self, layer: str | None, inputs: bool) -> Callable[..., Any]:
        """The compiled forward pass and the way back to `layer` and, when `inputs`, to the features."""
        return self._once((layer, inputs), lambda: self._compile(layer, inputs))

    def _once(self, key: Any, compile: Callable[[], Callable[..., Any]]) -> Callable[..., Any]:
        with self._lock:
            if key not in self._compiled:
                self._compiled[key] = compile()
            return self._compiled[key]

    def _compile(self, layer: str | None, inputs: bool) -> Callable[..., Any]:
        import tensorflow as tf

        if layer is not None and layer not in self.layers():
            raise ValueError(f"no layer {layer!r} with a spatial grid; there are: {', '.join(self.layers())}")
        network = self._cut(layer)

        @tf.function(input_signature=[tf.TensorSpec((None, *self._shape), tf.float32), tf.TensorSpec((), tf.int32)])
        def backward(features: Any, target: Any) -> list[Any]:
            with tf.GradientTape() as tape:
                tape.watch(features)
                values, outputs = network(self._to_input(features))
                logits = self._pair(outputs)
                predicted = tf.argmax(tf.reduce_mean(logits, axis=0), output_type=tf.int32)
                index = tf.where(target < 0, predicted, target)
                score = tf.reduce_sum(tf.gather(logits, index, axis=1))
            seen = [] if values is None else [values]
            sources = [features, *seen] if inputs else seen
            gradients = tape.gradient(score, sources, unconnected_gradients="zero")
            back = gradients[:1] if inputs else []
            return [logits, index, *back, *seen, *gradients[len(back) :]]

        return backward

    def default_layer(self) -> str:
        layers = self.layers()
        if not layers:
            raise ValueError("the model has no layer with a spatial grid")
        return layers[-1]


class TensorFlowBackend(TapeBackend):
    """A functional or sequential Keras model behind its front end.

    Parameters
    ----------
    model: the network; a softmax or sigmoid at its end is left out, and the logits in front of it are explained
    to_input, shape: see `TapeBackend`

    The model itself is not changed. Raises ValueError for a model that cannot be taken apart into layers, or that ends
    with probabilities from a layer of its own kind.
    """

    def __init__(self, model: Any, to_input: Callable[[Any], Any], shape: tuple[int | None, ...]) -> None:
        import tensorflow as tf

        self.model = model
        inputs = to_input(tf.zeros((1, *shape[:-1], shape[-1] or shape[-2])))
        try:
            model(inputs, training=False)  # a sequential model has its layers only once it was called
        except (ValueError, tf.errors.OpError) as error:
            raise ValueError(
                f"the network cannot take the front end's input {tuple(inputs.shape)}: {str(error).splitlines()[0]}"
            ) from error
        if not getattr(model, "inputs", None):
            raise ValueError(f"{model.name}: a subclassed Keras model; a functional or sequential one is expected")
        if len(model.inputs) != 1 or len(model.outputs) != 1:
            raise ValueError(
                f"{model.name}: {len(model.inputs)} inputs and {len(model.outputs)} outputs; one of each is expected"
            )
        self._logits = logits_of(model)
        outputs = self._logits.shape
        if len(outputs) != 2:
            raise ValueError(f"the network answers with shape {outputs}; (n, classes) is expected")
        super().__init__(to_input, shape, int(outputs[1]))

    @classmethod
    def behind(cls, frontend: FrontEnd, model: Any) -> TensorFlowBackend:
        """`model`, fed by `frontend`."""
        import tensorflow as tf

        return cls(
            model, lambda x: frontend.to_input(x, lambda channels: tf.stack(list(channels), axis=-1)), taken(frontend)
        )

    def _cut(self, layer: str | None) -> Callable[[Any], tuple[Any, Any]]:
        from tensorflow import keras

        watched = [] if layer is None else [self._output(layer)]
        network = keras.Model(self.model.inputs[0], [*watched, self._logits])

        def answers(inputs: Any) -> tuple[Any, Any]:
            given = network(inputs, training=False)
            return (given[0], given[1]) if watched else (None, given)

        return answers

    def _output(self, layer: str) -> Any:
        """The symbolic output of a layer in this model's graph.

        A layer that was called several times, or a model used as a layer, has one output per call; the last one that
        hangs on this model's inputs is meant.
        """
        from tensorflow import keras

        nodes = self.model.get_layer(layer)._inbound_nodes
        for node in reversed(nodes):
            try:
                keras.Model(self.model.inputs[0], node.outputs)
            except ValueError:  # this call belongs to another graph
                continue
            return node.outputs[0]
        raise ValueError(f"layer {layer!r} does not hang on the inputs of {self.model.name}; choose another one")

    def layers(self) -> list[str]:
        """Names of the Keras layers whose output has a spatial grid, in forward order."""
        names = []
        for layer in self.model.layers:
            shape: Any = getattr(layer.output, "shape", ())
            if type(layer).__name__ != "InputLayer" and len(shape) == 4 and (shape[1] or 2) * (shape[2] or 2) > 1:
                names.append(layer.name)
        return names


def logits_of(model: Any) -> Any:
    """The logits of a functional Keras model with one output, as a symbolic output of its own graph on its own weights.

    Behind softmax or sigmoid the gradients of a confident verdict vanish, and maps would have no logit units. Raises
    ValueError where the layer that gives the probabilities cannot be had without them.
    """
    from tensorflow import keras

    output = model.outputs[0]
    while True:
        operation, index, _ = output._keras_history
        inputs = operation._inbound_nodes[index].input_tensors
        if isinstance(operation, keras.Model):
            inner = logits_of(operation)
            return output if inner is operation.outputs[0] else keras.Model(operation.inputs, inner)(inputs)
        activation = getattr(operation, "activation", operation)
        kind = getattr(activation, "__name__", type(activation).__name__).lower()
        alone = activation is operation or isinstance(operation, keras.layers.Activation)
        if kind in ("softmax", "sigmoid"):
            break
        if not alone or kind not in ("linear", "identity", "dropout"):
            return output
        output = inputs[0]
    if alone:
        return inputs[0]
    if type(operation) is not keras.layers.Dense or operation.quantization_mode is not None:
        raise ValueError(
            f"{model.name} ends with {kind} inside of the layer {operation.name} ({type(operation).__name__}), whose "
            "logits cannot be had: end it with activation=None, and let a layer Activation or Softmax follow"
        )
    logits = keras.ops.matmul(inputs[0], operation.kernel)
    return logits if operation.bias is None else keras.ops.add(logits, operation.bias)


def taken(frontend: FrontEnd) -> tuple[int | None, ...]:
    """Shape of the windows that a network behind this front end takes; the last one None where they may be narrower."""
    return (*frontend.shape[:-1], None if frontend.windows(1)[0].filled == "nothing" else frontend.shape[-1])


def _channels_first(values: Array) -> Array:
    return np.ascontiguousarray(values.transpose(0, 3, 1, 2))
