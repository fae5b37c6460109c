"""The PyTorch backend."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from xai_panel.models.backends.base import Activations, Array, Gradients

if TYPE_CHECKING:
    from xai_panel.models.frontends import FrontEnd

MEMORY = 2**30  # bytes that the activations of one pass may take; larger batches are worked through in parts


class TorchBackend:
    """A `torch.nn.Module` behind its front end.

    Parameters
    ----------
    module: the network; put into evaluation mode, images channels last
    to_input: differentiable map from features (n, *shape) to the network's input, on tensors
    shape: of one window of features, (H, W) or (C, H, W)

    A layer has a spatial grid when its output is (n, channels, h, w), or, in a network that hears a waveform
    (n, samples) or (n, channels, samples), also (n, channels, time), which is a grid of one row. A module with the
    attribute `spatial = False` has no grid, nor has anything inside it.
    """

    framework = "torch"
    differentiable = True

    def __init__(
        self, module: nn.Module, to_input: Callable[[torch.Tensor], torch.Tensor], shape: tuple[int, ...]
    ) -> None:
        self.module = module.eval()
        self._to_input = to_input
        self._shape = shape
        self._lock = threading.RLock()  # hooks of two calls on one module at once would give silently wrong maps
        try:
            outputs, self._layers, kept, largest = self._probe()
        except RuntimeError as error:
            wanted = tuple(to_input(torch.zeros(1, *shape)).shape)
            raise ValueError(
                f"the network cannot take the front end's input {wanted}: {str(error).splitlines()[0]}"
            ) from error
        self.batch = max(1, MEMORY // (4 * largest))  # a few activations live at a time
        self._backward = max(1, MEMORY // kept)  # all of them wait for the way back
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
        x = self._to_input(features)
        x = x.contiguous(memory_format=torch.channels_last if x.ndim == 4 else torch.contiguous_format)
        outputs: torch.Tensor = self.module(x)
        return outputs[:, None] if outputs.ndim == 1 else outputs

    def _pair(self, outputs: torch.Tensor) -> torch.Tensor:
        return torch.cat([-outputs, outputs], dim=1) if self.one_logit else outputs

    def _split(self, batch: Array, part: int) -> Iterator[torch.Tensor]:
        for start in range(0, len(batch), part):
            yield _tensor(batch[start : start + part])

    def logits(self, batch: Array) -> Array:
        with self._lock, torch.inference_mode():
            return _joined([self._pair(self._call(features)) for features in self._split(batch, self.batch)])

    def gradients(self, batch: Array, target: int, layer: str | None = None) -> Gradients:
        parts = []
        with self._lock, torch.enable_grad(), self._frozen():
            for features, answer, seen in self._passes(batch, layer):
                found = torch.autograd.grad(answer[:, target].sum(), [features, *seen])
                parts.append((answer.detach(), found[0], *seen, *found[1:]))
        logits, inputs, *grids = map(_joined, zip(*parts, strict=True))
        return Gradients(logits, inputs, *map(_grid, grids))

    def activations(self, batch: Array, layer: str, target: int | None = None) -> Activations:
        parts, asked = [], target
        with self._lock, torch.enable_grad(), self._frozen():
            for _, answer, seen in self._passes(batch, layer, start=True):
                if asked is None:  # all windows together decide, and mostly as the first ones do
                    asked = int(answer.detach().mean(dim=0).argmax())
                parts.append((answer.detach(), *seen, *torch.autograd.grad(answer[:, asked].sum(), seen)))
        logits, values, gradients = map(_joined, zip(*parts, strict=True))
        decided = int(logits.mean(axis=0).argmax()) if target is None else target
        if decided != asked:
            return self.activations(batch, layer, decided)
        return Activations(logits, decided, _grid(values), _grid(gradients))

    def _passes(
        self, batch: Array, layer: str | None, start: bool = False
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor, list[torch.Tensor]]]:
        """Features, logits and the values of the layer, if one is asked for, in parts that memory holds.

        start: gradients begin at the layer, not at the features.
        """
        for features in self._split(batch, self._backward):
            captured: list[torch.Tensor] = []
            with _watch(self._named(layer), captured, start) if layer else nullcontext():
                answer = self._pair(self._call(features.requires_grad_(not start)))
            yield features, answer, captured[-1:]  # a module that is used twice stands for its last use

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
        if layer not in self._layers:
            raise ValueError(f"no layer {layer!r} with a spatial grid; there are: {', '.join(self._layers)}")
        return self.module.get_submodule(layer)

    def layers(self) -> list[str]:
        return list(self._layers)

    def _probe(self) -> tuple[torch.Tensor, list[str], int, int]:
        """Outputs for one window of zeros; the layers with a grid; bytes of all activations and of the largest one.

        A container returns the tensor of its last child, and an in-place activation that of the layer before it: of the
        modules that return one and the same tensor, the last leaf is kept, so that an activation stands for its layer.
        """
        seen: list[tuple[str, torch.Tensor, bool]] = []

        def note(name: str, leaf: bool) -> Callable[[nn.Module, Any, Any], None]:
            def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
                if isinstance(output, torch.Tensor):
                    seen.append((name, output, leaf))

            return hook

        blind = {name for name, module in self.module.named_modules() if not getattr(module, "spatial", True)}
        handles = [
            module.register_forward_hook(note(name, not any(module.children())))
            for name, module in self.module.named_modules()
            if name
        ]
        inputs: list[torch.Tensor] = []
        handles.append(self.module.register_forward_pre_hook(lambda _module, args: inputs.extend(args)))
        try:
            with torch.inference_mode():
                outputs = self._call(torch.zeros(1, *self._shape))
        finally:
            for handle in handles:
                handle.remove()
        ranks = (4,) if inputs[0].ndim > 3 else (3, 4)
        sizes = {id(tensor): tensor.nbytes for tensor in (*inputs, *(output for _, output, _ in seen))}
        kept: dict[int, str] = {}
        for name, output, leaf in seen:
            grid = output.ndim in ranks and output[0, 0].numel() > 1
            parents = {name[:end] for end, sign in enumerate(name + ".") if sign == "."}
            if grid and not parents & blind and (leaf or id(output) not in kept):
                kept[id(output)] = name
        names = list(kept.values())
        layers = [name for k, name in enumerate(names) if name not in names[k + 1 :]]  # the last use of each module
        return outputs, layers, sum(sizes.values()), max(sizes.values())

    def default_layer(self) -> str:
        if not self._layers:
            raise ValueError("the network has no layer with a spatial grid")
        return self._layers[-1]


def _tensor(batch: Array) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(batch, np.complex64 if np.iscomplexobj(batch) else np.float32))


def _joined(parts: list[torch.Tensor] | tuple[torch.Tensor, ...]) -> Array:
    return torch.cat(parts).detach().contiguous().numpy()


def _grid(values: Array) -> Array:
    """Values of a layer (n, channels, h, w); one row for a layer over time alone."""
    return values[:, :, None] if values.ndim == 3 else values


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
