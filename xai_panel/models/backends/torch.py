"""The PyTorch backend."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from xai_panel.models.backends.base import Activations, Array, Gradients

if TYPE_CHECKING:
    from xai_panel.models.frontends import FrontEnd


class TorchBackend:
    """A `torch.nn.Module` behind its front end.

    Parameters
    ----------
    module: the network; put into evaluation mode, channels last
    to_input: differentiable map from features (n, H, W) to the network's input, on tensors
    shape: (H, W) of one window of features
    """

    framework = "torch"
    differentiable = True

    def __init__(
        self, module: nn.Module, to_input: Callable[[torch.Tensor], torch.Tensor], shape: tuple[int, int]
    ) -> None:
        self.module = module.eval()
        self._to_input = to_input
        self._shape = shape
        self._lock = threading.RLock()  # hooks of two calls on one module at once would give silently wrong maps
        self._layers: list[str] | None = None
        try:
            with torch.inference_mode():
                outputs = self._call(torch.zeros(1, *shape))
        except RuntimeError as error:
            wanted = tuple(to_input(torch.zeros(1, *shape)).shape)
            raise ValueError(
                f"the network cannot take the front end's input {wanted}: {str(error).splitlines()[0]}"
            ) from error
        if outputs.ndim != 2:
            raise ValueError(f"the network answers with shape {tuple(outputs.shape)}; (n, classes) is expected")
        self.one_logit = outputs.shape[1] == 1
        self.classes = 2 if self.one_logit else int(outputs.shape[1])

    @classmethod
    def behind(cls, frontend: FrontEnd, module: nn.Module) -> TorchBackend:
        """`module`, fed by `frontend`."""
        return cls(
            module,
            lambda x: frontend.to_input(x, lambda channels: torch.stack(list(channels), dim=1)),
            frontend.shape,
        )

    def _call(self, features: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = self.module(self._to_input(features).contiguous(memory_format=torch.channels_last))
        return outputs[:, None] if outputs.ndim == 1 else outputs

    def _pair(self, outputs: torch.Tensor) -> torch.Tensor:
        return torch.cat([-outputs, outputs], dim=1) if self.one_logit else outputs

    def logits(self, batch: Array) -> Array:
        with self._lock, torch.inference_mode():
            return self._pair(self._call(_tensor(batch))).numpy()

    def gradients(self, batch: Array, target: int, layer: str | None = None) -> Gradients:
        with self._lock, torch.enable_grad(), self._frozen():
            features = _tensor(batch).requires_grad_()
            captured: list[torch.Tensor] = []
            with _watch(self._named(layer), captured) if layer else _nothing():
                logits = self._pair(self._call(features))
            score = logits[:, target].sum()
            wanted = [features, *captured[-1:]]  # a module that is used twice stands for its last use
            answers = torch.autograd.grad(score, wanted)
        values = [answer.numpy() for answer in answers]
        if layer is None:
            return Gradients(logits.detach().numpy(), values[0])
        return Gradients(logits.detach().numpy(), values[0], captured[-1].detach().contiguous().numpy(), values[1])

    def activations(self, batch: Array, layer: str, target: int | None = None) -> Activations:
        with self._lock, torch.enable_grad(), self._frozen():
            captured: list[torch.Tensor] = []
            with _watch(self._named(layer), captured, start=True):
                logits = self._pair(self._call(_tensor(batch)))
            index = int(logits.detach().mean(dim=0).argmax()) if target is None else target
            (gradients,) = torch.autograd.grad(logits[:, index].sum(), captured[-1:])
        values = captured[-1].detach().contiguous().numpy()
        return Activations(logits.detach().numpy(), index, values, gradients.contiguous().numpy())

    @contextmanager
    def _frozen(self) -> Iterator[None]:
        """Nobody asks for the gradients of the weights; not computing them saves a third of the backward pass."""
        trainable = [p for p in self.module.parameters() if p.requires_grad]
        for parameter in trainable:
            parameter.requires_grad_(False)
        try:
            yield
        finally:
            for parameter in trainable:
                parameter.requires_grad_(True)

    def _named(self, layer: str) -> nn.Module:
        if layer not in self.layers():
            raise ValueError(f"no layer {layer!r} with a spatial grid; there are: {', '.join(self.layers())}")
        return self.module.get_submodule(layer)

    def layers(self) -> list[str]:
        if self._layers is None:  # asked before the lock, which a long batch may hold
            with self._lock:
                if self._layers is None:
                    self._layers = self._find_layers()
        return list(self._layers)

    def _find_layers(self) -> list[str]:
        """One forward pass that notes each module with a 4-D output of more than one position.

        A container returns the tensor of its last child, and an in-place activation that of the layer before it: of the
        modules that return one and the same tensor, the last leaf is kept, so that an activation stands for its layer.
        """
        seen: list[tuple[str, torch.Tensor, bool]] = []

        def note(name: str, leaf: bool) -> Callable[[nn.Module, Any, Any], None]:
            def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
                if isinstance(output, torch.Tensor) and output.ndim == 4 and output.shape[2] * output.shape[3] > 1:
                    seen.append((name, output, leaf))

            return hook

        handles = [
            module.register_forward_hook(note(name, not any(module.children())))
            for name, module in self.module.named_modules()
            if name
        ]
        try:
            with torch.inference_mode():
                self._call(torch.zeros(1, *self._shape))
        finally:
            for handle in handles:
                handle.remove()
        kept: dict[int, str] = {}
        for name, output, leaf in seen:
            if leaf or id(output) not in kept:
                kept[id(output)] = name
        names = list(kept.values())
        return [name for k, name in enumerate(names) if name not in names[k + 1 :]]  # the last use of each module

    def default_layer(self) -> str:
        layers = self.layers()
        if not layers:
            raise ValueError("the network has no layer with a spatial grid")
        return layers[-1]


def _tensor(batch: Array) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(batch, dtype=np.float32))


@contextmanager
def _watch(module: nn.Module, captured: list[torch.Tensor], start: bool = False) -> Iterator[None]:
    """Capture the output of `module`; what follows works on a copy, so that in-place operations cannot change it.

    start: gradients begin here; what came before is not remembered.
    """

    def hook(_module: nn.Module, _inputs: Any, output: torch.Tensor) -> torch.Tensor:
        if start:
            output = output.detach().requires_grad_()
        captured.append(output)
        return output.clone()

    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def _nothing() -> Iterator[None]:
    yield
