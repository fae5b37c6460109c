"""The PyTorch backend."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from xai_panel.models.backends.base import Activations, Array, Gradients

if TYPE_CHECKING:
    from xai_panel.models.frontends import FrontEnd

MEMORY = 2**30  # bytes that the activations of one pass may take; larger batches are worked through in parts
LAST_AXIS = (nn.Linear, nn.LayerNorm)  # work along the last axis, and not what inherits from them
OTHER_TOKENS = 8  # at most, besides those of places: class, distillation, registers


class TorchBackend:
    """A `torch.nn.Module` behind its front end.

    Parameters
    ----------
    module: the network; put into evaluation mode, images channels last
    to_input: differentiable map from features (n, *shape) to the network's input, on tensors
    shape: of one window of features, (H, W) or (C, H, W)

    A layer has a spatial grid when its output is (n, channels, h, w), or, in a network that hears a waveform
    (n, samples) or (n, channels, samples), also (n, channels, time), which is a grid of one row. A network of images
    that normalises or mixes channels along the last axis, as ConvNeXt and Swin do, may also have (n, h, w, channels):
    there a grid is what keeps the proportions of the input. A module with the attribute `spatial = False` has no grid,
    nor has anything inside it.

    The default is the last layer with a grid, unless the network goes on with the places of a grid as tokens
    (n, tokens, channels), as vision transformers do: the grid of their patch embedding knows of one patch each.
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
            outputs, seen, kept, largest = self._probe()
        except (RuntimeError, AssertionError) as error:
            wanted = tuple(to_input(torch.zeros(1, *shape)).shape)
            raise ValueError(
                f"the network cannot take the front end's input {wanted}: {str(error).splitlines()[0]}"
            ) from error
        self._layers, self._without_default = self._grids(*seen)
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
        return Gradients(logits, inputs, *(self._grid(values, layer) for values in grids))

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
        return Activations(logits, decided, self._grid(values, layer), self._grid(gradients, layer))

    def _grid(self, values: Array, layer: str | None) -> Array:
        """Values of a layer (n, channels, h, w); one row for a layer over time alone."""
        return values[:, :, None] if values.ndim == 3 else np.moveaxis(values, self._layers[layer or ""], 1)

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

    def _probe(self) -> tuple[torch.Tensor, tuple[torch.Tensor, list[_Seen]], int, int]:
        """One window of zeros: outputs; network's input and what its modules gave; bytes of all and of the largest."""
        seen: list[_Seen] = []

        def note(name: str) -> Callable[[nn.Module, Any, Any], None]:
            def hook(module: nn.Module, _inputs: Any, output: Any) -> None:
                if isinstance(output, torch.Tensor):
                    seen.append(_Seen(name, module, output, output._version, len(seen)))

            return hook

        handles = [module.register_forward_hook(note(name)) for name, module in self.module.named_modules() if name]
        inputs: list[torch.Tensor] = []
        handles.append(self.module.register_forward_pre_hook(lambda _module, args: inputs.extend(args)))
        try:
            with torch.no_grad():
                outputs = self._call(torch.zeros(1, *self._shape))
        finally:
            for handle in handles:
                handle.remove()
        sizes = {id(tensor): tensor.nbytes for tensor in (*inputs, *(one.output for one in seen))}
        return outputs, (inputs[0], seen), sum(sizes.values()), max(sizes.values())

    def _grids(self, window: torch.Tensor, seen: list[_Seen]) -> tuple[dict[str, int], str]:
        """The layers with a grid, with the axis of their channels; why none of them is the default, where that is so.

        A container returns the tensor of its last child, and an in-place activation that of the layer before it: of the
        modules that return one and the same tensor, the last leaf is kept, or the container that changed it since.
        """
        blind = {name for name, module in self.module.named_modules() if not getattr(module, "spatial", True)}
        image, size = window.ndim > 3, window.shape[-2:]
        kept: dict[int, _Seen] = {}
        for one in seen:
            parents = {one.name[:end] for end, sign in enumerate(one.name + ".") if sign == "."}
            before = kept.get(id(one.output))
            if parents & blind or one.output.ndim not in ((4,) if image else (3, 4)):
                continue
            if before is None or one.leaf or one.version != before.version:
                kept[id(one.output)] = one
        ordered = sorted(kept.values(), key=lambda one: one.place)
        mixed = image and any(type(one.module) in LAST_AXIS and _channels(one.output, size) == 3 for one in ordered)
        layers: dict[str, int] = {}
        cells, last = set(), -1
        for one in ordered:
            if axis := _channels(one.output, size if mixed else None):
                layers.pop(one.name, None)  # of a module that is used twice, the last use
                layers[one.name], last = axis, one.place
                grid = [count for k, count in enumerate(one.output.shape) if k not in (0, axis)]
                cells |= {int(np.prod(grid))} if min(grid) > 1 else set()
        if not layers:
            return layers, "the model has no layer with a spatial grid"
        for one in seen[last + 1 :]:
            tokens = one.output.shape[1] if image and type(one.module) is nn.LayerNorm and one.output.ndim == 3 else 0
            if any(0 <= tokens - count <= OTHER_TOKENS for count in cells):
                return layers, "the model has no layer with a spatial grid after the attention between its tokens"
        return layers, ""

    def default_layer(self) -> str:
        if self._without_default:
            raise ValueError(self._without_default)
        return list(self._layers)[-1]


@dataclass(frozen=True, eq=False)
class _Seen:
    """What a module gave, how often that had been changed in place by then, and its place in the order of the pass."""

    name: str
    module: nn.Module
    output: torch.Tensor
    version: int
    place: int

    @property
    def leaf(self) -> bool:
        return not any(self.module.children())


def _channels(output: torch.Tensor, window: torch.Size | None) -> int:
    """Axis of the channels of a layer's output; 0 when it has no spatial grid.

    window: rows and columns of the network's input, where channels may come last; None where they come first.
    """
    if window is None:
        return 1 if output.shape[2:].numel() > 1 else 0
    proportion = window[1] / window[0]
    for axis, (rows, columns) in ((1, output.shape[2:]), (3, output.shape[1:3])):
        if rows * columns > 1 and abs(rows * proportion - columns) < max(1, proportion):
            return axis
    return 0


def _tensor(batch: Array) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(batch, np.complex64 if np.iscomplexobj(batch) else np.float32))


def _joined(parts: list[torch.Tensor] | tuple[torch.Tensor, ...]) -> Array:
    return torch.cat(parts).detach().contiguous().numpy()


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
