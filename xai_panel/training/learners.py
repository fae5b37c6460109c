"""What a training loop asks of a network: one step, an answer, its weights. One learner per framework."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

State = dict[str, torch.Tensor]


class Learner(Protocol):
    """A network that learns. Inputs are float32 (n, …) as a front end makes them for PyTorch, channels first.

    Labels are class indices (n,), or (n, outputs) of 1, 0 and NaN, «not known», where each output is a finding.
    """

    suffix: str  # of the file of weights
    halves: bool  # whether that may have half precision

    def step(self, inputs: torch.Tensor, labels: torch.Tensor, rate: float) -> float:
        """One step of the optimiser at this learning rate; returns the loss."""
        ...

    def logits(self, inputs: torch.Tensor) -> NDArray[np.float32]:
        """Logits (n, outputs), in evaluation mode."""
        ...

    def weights(self) -> State:
        """A copy of all weights, on the CPU; PyTorch's by name, Keras's by number."""
        ...

    def set_weights(self, weights: State) -> None: ...

    def optimizer(self) -> dict[str, Any]:
        """What a training that goes on needs besides the weights."""
        ...

    def set_optimizer(self, state: dict[str, Any]) -> None: ...

    def finish(self) -> None:
        """Fold what only helped to learn into the weights; nothing is learnt afterwards."""
        ...

    def shift(self, by: NDArray[np.float32]) -> None:
        """Add `by` (outputs,) to the logits of every input, in the bias of the last layer."""
        ...

    def save(self, path: Path, half: bool) -> None:
        """Write the weights; half: kernels in half precision."""
        ...


def device() -> torch.device:
    """A GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def is_kernel(weights: torch.Tensor) -> bool:
    """Whether these are most of a network's weights, not the few of biases and norms, which need their precision."""
    return weights.is_floating_point() and weights.ndim > 1


def loss_of(logits: torch.Tensor, labels: torch.Tensor, smoothing: float) -> torch.Tensor:
    """Cross-entropy: softmax of the classes, sigmoid of a single logit, sigmoid of each finding that is known."""
    if logits.shape[1] > 1 and labels.ndim == 1:
        return nn.functional.cross_entropy(logits, labels, label_smoothing=smoothing)
    wanted = labels.float().reshape(logits.shape)
    known = ~wanted.isnan()
    return nn.functional.binary_cross_entropy_with_logits(
        logits[known], wanted[known] * (1 - smoothing) + smoothing / 2
    )


class _Normed(nn.Sequential):
    """A convolution with a batch norm behind it (Ioffe & Szegedy 2015), while a network without norms learns."""

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__(convolution, nn.BatchNorm2d(convolution.out_channels))

    def folded(self) -> nn.Conv2d:
        """The one convolution that answers as both do."""
        return fuse_conv_bn_eval(*self.eval())


def _each(network: nn.Module, kind: type[nn.Module], change: Callable[[Any], nn.Module]) -> None:
    """Exchange the modules of this kind."""
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, kind):
                setattr(module, name, change(child))


class TorchLearner:
    """A `torch.nn.Module`, trained by AdamW (Loshchilov & Hutter 2019) on a GPU where there is one.

    norms: batch norms behind the convolutions while it learns; deep networks without norms hardly start otherwise.
    """

    suffix = ".safetensors"
    halves = True

    def __init__(self, network: nn.Module, weight_decay: float, smoothing: float, norms: bool = False) -> None:
        if norms:
            _each(network, nn.Conv2d, _Normed)
        self.network = network.to(device(), memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._optimizer = torch.optim.AdamW(network.parameters(), weight_decay=weight_decay)
        self._smoothing = smoothing
        self._fast = bool(torch.cuda.is_available() or torch.ops.mkldnn._is_mkldnn_bf16_supported())

    def step(self, inputs: torch.Tensor, labels: torch.Tensor, rate: float) -> float:
        where = device()
        self.network.train()
        with torch.autocast(where.type, torch.bfloat16, enabled=self._fast):
            logits = self.network(inputs.to(where))
        loss = loss_of(logits.float(), labels.to(where), self._smoothing)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self._optimizer.step()
        return float(loss.detach())

    def logits(self, inputs: torch.Tensor) -> NDArray[np.float32]:
        self.network.eval()
        with torch.inference_mode():
            answer: NDArray[np.float32] = self.network(inputs.to(device())).float().cpu().numpy()
        return answer

    def weights(self) -> State:
        return {k: v.detach().cpu().clone() for k, v in self.network.state_dict().items()}

    def set_weights(self, weights: State) -> None:
        self.network.load_state_dict(weights)

    def optimizer(self) -> dict[str, Any]:
        return self._optimizer.state_dict()

    def set_optimizer(self, state: dict[str, Any]) -> None:
        self._optimizer.load_state_dict(state)

    def finish(self) -> None:
        _each(self.network, _Normed, _Normed.folded)

    def shift(self, by: NDArray[np.float32]) -> None:
        head = [m for m in self.network.modules() if isinstance(m, nn.Linear) and m.out_features == by.size][-1]
        with torch.no_grad():
            head.bias.add_(torch.from_numpy(by).to(head.bias))

    def save(self, path: Path, half: bool) -> None:
        from safetensors.torch import save_file

        weights = self.weights().items()
        save_file({k: (v.half() if half and is_kernel(v) else v).contiguous() for k, v in weights}, path)


class KerasLearner:
    """A Keras model, trained by AdamW. Where it ends with a softmax, the logits before it are trained."""

    suffix = ".keras"
    halves = False

    def __init__(self, build: Callable[[], Any], weight_decay: float, smoothing: float, seed: int) -> None:
        import tensorflow as tf
        from tensorflow import keras

        keras.utils.set_random_seed(seed)
        model = build()
        last = model.layers[-1]
        network = keras.Model(model.inputs, last.input) if isinstance(last, keras.layers.Softmax) else model
        self.model = model
        self._optimizer = keras.optimizers.AdamW(weight_decay=weight_decay)
        self._optimizer.build(network.trainable_variables)
        entropy = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=smoothing)

        @tf.function(reduce_retracing=True)
        def step(inputs: Any, labels: Any) -> Any:
            with tf.GradientTape() as tape:
                logits = network(inputs, training=True)
                loss = entropy(tf.one_hot(labels, logits.shape[1]), logits)
            variables = network.trainable_variables
            self._optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
            return loss

        self._step = step
        self._answer = tf.function(lambda inputs: network(inputs, training=False), reduce_retracing=True)

    def step(self, inputs: torch.Tensor, labels: torch.Tensor, rate: float) -> float:
        self._optimizer.learning_rate.assign(rate)
        return float(self._step(_channels_last(inputs), labels.numpy()))

    def logits(self, inputs: torch.Tensor) -> NDArray[np.float32]:
        return np.asarray(self._answer(_channels_last(inputs)))

    def weights(self) -> State:
        return {str(k): torch.from_numpy(np.array(v)) for k, v in enumerate(self.model.variables)}

    def set_weights(self, weights: State) -> None:
        for k, variable in enumerate(self.model.variables):
            variable.assign(weights[str(k)].numpy())

    def optimizer(self) -> dict[str, Any]:
        return {str(k): torch.from_numpy(np.array(v)) for k, v in enumerate(self._optimizer.variables)}

    def set_optimizer(self, state: dict[str, Any]) -> None:
        for k, variable in enumerate(self._optimizer.variables):
            variable.assign(state[str(k)].numpy())

    def finish(self) -> None:
        """Nothing was added."""

    def shift(self, by: NDArray[np.float32]) -> None:
        head = [layer for layer in self.model.layers if getattr(layer, "bias", None) is not None][-1]
        head.bias.assign_add(by)

    def save(self, path: Path, half: bool) -> None:
        self.model.save(path)


def _channels_last(inputs: torch.Tensor) -> NDArray[np.float32]:
    return np.ascontiguousarray(np.moveaxis(inputs.numpy(), 1, -1))
