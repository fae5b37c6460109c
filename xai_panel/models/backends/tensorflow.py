"""The TensorFlow backend."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from xai_panel.models.backends.base import Activations, Array, Gradients

if TYPE_CHECKING:
    from xai_panel.models.frontends import FrontEnd


class TensorFlowBackend:
    """A functional or sequential Keras model behind its front end.

    Channels are last inside the model and first in what this backend answers. There are no hooks: a sub-model with the
    target layer as a second output gives activations and gradients, so calls from several threads do not disturb each
    other.

    Parameters
    ----------
    model: the network; its last layer must give logits
    to_input: differentiable map from features (n, *shape) to the network's input, on tensors
    shape: of one window of features, (H, W) or (C, H, W)

    Raises ValueError for a model that cannot be taken apart into layers, or that ends with probabilities.
    """

    framework = "tensorflow"
    differentiable = True
    batch = 16

    def __init__(self, model: Any, to_input: Callable[[Any], Any], shape: tuple[int, ...]) -> None:
        import tensorflow as tf

        self.model = model
        self._to_input = to_input
        self._shape = shape
        self._lock = threading.Lock()
        self._compiled: dict[tuple[str | None, bool], Callable[..., Any]] = {}
        inputs = to_input(tf.zeros((1, *shape)))
        try:
            model(inputs, training=False)  # a sequential model has its layers only once it was called
        except (ValueError, tf.errors.OpError) as error:
            raise ValueError(
                f"the network cannot take the front end's input {tuple(inputs.shape)}: {str(error).splitlines()[0]}"
            ) from error
        if not getattr(model, "inputs", None):
            raise ValueError(f"{model.name}: a subclassed Keras model; a functional or sequential one is expected")
        if len(model.inputs) != 1:
            raise ValueError(f"{model.name}: {len(model.inputs)} inputs; a model with one input is expected")
        self._refuse_probabilities()
        outputs = model.output_shape
        if len(outputs) != 2:
            raise ValueError(f"the network answers with shape {outputs}; (n, classes) is expected")
        self.one_logit = outputs[1] == 1
        self.classes = 2 if self.one_logit else int(outputs[1])
        signature = [tf.TensorSpec((None, *shape), tf.float32)]
        self._forward = tf.function(lambda features: self._pair(model(to_input(features), training=False)), signature)

    @classmethod
    def behind(cls, frontend: FrontEnd, model: Any) -> TensorFlowBackend:
        """`model`, fed by `frontend`."""
        import tensorflow as tf

        return cls(
            model, lambda x: frontend.to_input(x, lambda channels: tf.stack(list(channels), axis=-1)), frontend.shape
        )

    def _refuse_probabilities(self) -> None:
        """Behind softmax or sigmoid the gradients of a confident verdict vanish, and maps would have no logit units."""
        last = self.model.layers[-1]
        name = getattr(getattr(last, "activation", None), "__name__", type(last).__name__.lower())
        if name in ("softmax", "sigmoid"):
            raise ValueError(f"{self.model.name} ends with {name}; logits are expected: end it with activation=None")

    def _pair(self, outputs: Any) -> Any:
        import tensorflow as tf

        return tf.concat([-outputs, outputs], axis=1) if self.one_logit else outputs

    def logits(self, batch: Array) -> Array:
        return np.asarray(self._forward(np.ascontiguousarray(batch, np.float32)))

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
        with self._lock:
            if (layer, inputs) not in self._compiled:
                self._compiled[layer, inputs] = self._compile(layer, inputs)
            return self._compiled[layer, inputs]

    def _compile(self, layer: str | None, inputs: bool) -> Callable[..., Any]:
        import tensorflow as tf
        from tensorflow import keras

        if layer is not None and layer not in self.layers():
            raise ValueError(f"no layer {layer!r} with a spatial grid; there are: {', '.join(self.layers())}")
        watched = [] if layer is None else [self._output(layer)]
        network = keras.Model(self.model.inputs[0], [*watched, self.model.outputs[0]])

        @tf.function(input_signature=[tf.TensorSpec((None, *self._shape), tf.float32), tf.TensorSpec((), tf.int32)])
        def backward(features: Any, target: Any) -> list[Any]:
            with tf.GradientTape() as tape:
                tape.watch(features)
                answers = network(self._to_input(features), training=False)
                *seen, outputs = answers if watched else [answers]
                logits = self._pair(outputs)
                predicted = tf.argmax(tf.reduce_mean(logits, axis=0), output_type=tf.int32)
                index = tf.where(target < 0, predicted, target)
                score = tf.reduce_sum(tf.gather(logits, index, axis=1))
            sources = [features, *seen] if inputs else seen
            gradients = tape.gradient(score, sources, unconnected_gradients="zero")
            back = gradients[:1] if inputs else []
            return [logits, index, *back, *seen, *gradients[len(back) :]]

        return backward

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

    def default_layer(self) -> str:
        layers = self.layers()
        if not layers:
            raise ValueError("the network has no layer with a spatial grid")
        return layers[-1]


def _channels_first(values: Array) -> Array:
    return np.ascontiguousarray(values.transpose(0, 3, 1, 2))
