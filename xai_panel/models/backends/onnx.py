"""The ONNX Runtime backend: forward passes only."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from xai_panel.models.backends.base import Activations, Array, Gradients
from xai_panel.models.errors import ModelError

if TYPE_CHECKING:
    from xai_panel.models.frontends import FrontEnd

REASON = "ONNX Runtime answers with logits only: there are no gradients and no layers"


class OnnxBackend:
    """An ONNX file behind its front end.

    Parameters
    ----------
    path: the file; one float32 input (n, channels, H, W) or (n, H, W, channels), and logits (n, classes) or (n,) as its
        first output
    to_input: map from features (n, *shape) and the channel axis (1 or -1) to the network's input
    shape: of one window of features, (H, W) or (C, H, W)

    Raises `ModelError` when ONNX Runtime is not installed or cannot read the file, and `ValueError` for a network that
    takes something else or answers with probabilities.
    """

    framework = "onnxruntime"
    differentiable = False
    batch = 16

    def __init__(self, path: Path, to_input: Callable[[Array, int], Array], shape: tuple[int, ...]) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise ModelError(f"{path.name} needs ONNX Runtime: pip install xai-panel[onnx]") from error
        try:
            self._session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        except Exception as error:  # its exceptions have no common class
            raise ModelError(f"{path.name} cannot be read as an ONNX file: {str(error).splitlines()[0]}") from error
        inputs = self._session.get_inputs()
        if len(inputs) != 1 or inputs[0].type != "tensor(float)" or len(inputs[0].shape) != 4:
            found = ", ".join(f"{i.name}: {i.type} {i.shape}" for i in inputs)
            raise ValueError(f"{path.name} takes {found}; one float32 input with four axes is expected")
        self._input, wanted = inputs[0].name, inputs[0].shape
        last = isinstance(wanted[3], int) and wanted[3] <= 4 and wanted[1] not in (1, 2, 3, 4)
        self._axis = -1 if last else 1
        self._size = wanted[0] if isinstance(wanted[0], int) else None  # some files take so many windows at once
        self._to_input, self._shape = to_input, shape
        self.one_logit = False
        noise = np.random.default_rng(0).standard_normal((3, *shape)).astype(np.float32)
        try:
            answers = self._run(noise * np.array([0, 1, 100], np.float32).reshape(-1, *[1] * len(shape)))
        except Exception as error:
            raise ValueError(
                f"{path.name} takes {wanted} and cannot take the {to_input(noise[:1], self._axis).shape} of the front "
                f"end: {str(error).splitlines()[0]}"
            ) from error
        if answers.ndim != 2:
            raise ValueError(f"{path.name} answers with shape {answers.shape}; (n, classes) is expected")
        self.one_logit = answers.shape[1] == 1
        self.classes = 2 if self.one_logit else int(answers.shape[1])
        sums = answers.sum(axis=1)
        if answers.min() >= 0 and answers.max() <= 1 and (self.one_logit or np.abs(sums - 1).max() < 1e-3):
            raise ValueError(f"{path.name} answers with probabilities; logits are expected: export it without its end")

    @classmethod
    def behind(cls, frontend: FrontEnd, path: Path) -> OnnxBackend:
        """The network in `path`, fed by `frontend`."""
        return cls(
            path,
            lambda x, axis: frontend.to_input(x, lambda channels: np.stack(list(channels), axis=axis)),
            frontend.shape,
        )

    def _run(self, batch: Array) -> Array:
        """What the network answers to features (n, *shape): (n, outputs)."""
        inputs = np.ascontiguousarray(self._to_input(batch, self._axis), np.float32)
        size = self._size or len(inputs)
        answers = []
        for first in range(0, len(inputs), size):
            piece = inputs[first : first + size]
            full = np.concatenate([piece, np.repeat(piece[-1:], size - len(piece), axis=0)])
            answers.append(self._session.run(None, {self._input: full})[0][: len(piece)])
        outputs = np.concatenate(answers)
        return outputs[:, None] if outputs.ndim == 1 else outputs

    def logits(self, batch: Array) -> Array:
        outputs = self._run(np.asarray(batch, np.float32))
        return np.concatenate([-outputs, outputs], axis=1) if self.one_logit else outputs

    def gradients(self, batch: Array, target: int, layer: str | None = None) -> Gradients:
        raise ValueError(REASON)

    def activations(self, batch: Array, layer: str, target: int | None = None) -> Activations:
        raise ValueError(REASON)

    def layers(self) -> list[str]:
        return []

    def default_layer(self) -> str:
        raise ValueError(REASON)
