"""A classifier: card, front end and backend in one object."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xai_panel.models.backends.base import Backend
from xai_panel.models.card import Card, CardError
from xai_panel.models.frontends import FrontEnd, build_frontend, check_framework, cut, describe
from xai_panel.models.verdict import Verdict
from xai_panel.signals.source import modality_of

if TYPE_CHECKING:
    from torch import nn

BATCH = 16  # windows asked at once, when the backend has memory for them
Own = FrontEnd | dict[str, Any]


@dataclass(frozen=True)
class Prediction:
    """What a classifier says about one signal.

    labels: names of the classes; logits (classes,): mean over the windows; probabilities (classes,): calibrated;
    window_times (windows, 2): start and end [s] of each window, empty for images; window_logits and
    window_probabilities (windows, classes); multi_label: as in the card.
    """

    labels: tuple[str, ...]
    logits: NDArray[np.float64]
    probabilities: NDArray[np.float64]
    window_times: NDArray[np.float64]
    window_logits: NDArray[np.float64]
    window_probabilities: NDArray[np.float64]
    multi_label: bool = False

    @property
    def index(self) -> int:
        """The most probable class, which is explained unless another one is asked for."""
        return int(np.argmax(self.logits))

    @property
    def label(self) -> str:
        """Name of the most probable class."""
        return self.labels[self.index]

    @property
    def verdict(self) -> Verdict:
        """What is there, as data and in words."""
        return Verdict.of(self.labels, self.probabilities, self.multi_label)


class Classifier:
    """Signal in, calibrated verdict out, and the questions that explanation methods may ask.

    `digest` identifies the weights; results are stored under it.
    """

    def __init__(self, card: Card, frontend: FrontEnd, backend: Backend) -> None:
        if backend.classes != len(card.labels):
            raise CardError(
                f"card {card.id}: field «labels» names {len(card.labels)} classes ({', '.join(card.labels)}); "
                f"the network has {backend.classes}"
            )
        if card.target_layer is not None and card.target_layer not in backend.layers():
            raise CardError(
                f"card {card.id}: field «target_layer» is {card.target_layer!r}; layers with a spatial grid: "
                f"{', '.join(backend.layers()) or 'none'}"
            )
        self.card = card
        self.frontend = frontend
        self.backend = backend

    @classmethod
    def from_torch(cls, module: nn.Module, *, labels: Sequence[str], frontend: Own, **card: Any) -> Classifier:
        """A `torch.nn.Module` of your own as a classifier.

        Parameters
        ----------
        module: gives logits (n, classes), or (n, 1) for two classes; on the CPU, in float32; put into evaluation mode
        labels: names of the classes, in the order of the logits
        frontend: a front end, or its table as in a card, such as {"kind": "radiograph", "size": 256}
        card: more fields of the `Card`: id, title, positive, temperature, target_layer, caveat, …

        Maps are not kept in the store, because no digest says when the module has changed. Raises `CardError` that
        names the field that does not fit the module, and `ValueError` for a module that cannot take the front end's
        input.
        """
        from xai_panel.models.backends.torch import TorchBackend

        for name, weights in module.named_parameters():
            if weights.device.type != "cpu" or str(weights.dtype) != "torch.float32":
                raise ValueError(
                    f"parameter «{name}» is {weights.dtype} on {weights.device}; float32 on the CPU is expected: "
                    "module.float().cpu()"
                )
        return cls._own(partial(TorchBackend.behind, module=module), "torch", labels, frontend, card)

    @classmethod
    def from_keras(cls, model: Any, *, labels: Sequence[str], frontend: Own, **card: Any) -> Classifier:
        """A functional or sequential Keras model of your own as a classifier, see `from_torch`.

        Its input is (n, H, W, channels). A softmax or sigmoid at its end is left out: the logits in front of it are
        explained. Several outputs behind a sigmoid are findings of their own, which `multi_label=True` says.
        """
        from xai_panel.models.backends.tensorflow import TensorFlowBackend

        return cls._own(partial(TensorFlowBackend.behind, model=model), "tensorflow", labels, frontend, card)

    @classmethod
    def from_saved_model(cls, folder: str | Path, *, labels: Sequence[str], frontend: Own, **card: Any) -> Classifier:
        """A SavedModel folder of your own, as TensorFlow and Keras export it, as a classifier, see `from_keras`.

        Its serving signature has one input (n, H, W, channels) and one output (n, classes).
        """
        from xai_panel.models.backends.savedmodel import SavedModelBackend

        backend = partial(SavedModelBackend.behind, folder=Path(folder))
        return cls._own(backend, "tensorflow", labels, frontend, card)

    @classmethod
    def from_onnx(cls, path: str | Path, *, labels: Sequence[str], frontend: Own, **card: Any) -> Classifier:
        """An ONNX file of your own as a classifier, see `from_torch`, for the methods that need only forward passes.

        Its input is (n, channels, H, W) or (n, H, W, channels), its first output are logits. Needs ONNX Runtime.
        """
        from xai_panel.models.backends.onnx import OnnxBackend

        return cls._own(partial(OnnxBackend.behind, path=Path(path)), "onnxruntime", labels, frontend, card)

    @classmethod
    def _own(
        cls,
        backend: Callable[[FrontEnd], Backend],
        framework: str,
        labels: Sequence[str],
        frontend: Own,
        fields: dict[str, Any],
    ) -> Classifier:
        if isinstance(labels, str):
            raise CardError(f"field «labels» is {labels!r}; a list of texts is expected")
        built = build_frontend(frontend) if isinstance(frontend, dict) else frontend
        check_framework(built, framework)
        card = Card(
            **{"id": "own", "title": "Own network", "summary": "", **fields},
            modality=built.modality,
            framework=framework,
            architecture="own",
            labels=tuple(labels),
            frontend=describe(built),
        )
        return cls(card, built, backend(built))

    @property
    def id(self) -> str:
        return self.card.id

    @property
    def labels(self) -> tuple[str, ...]:
        return self.card.labels

    @property
    def digest(self) -> str:
        return self.card.digest

    def __repr__(self) -> str:
        return f"<Classifier {self.id} ({self.card.framework}): {' / '.join(self.labels)}>"

    def features(self, signal: xr.DataArray) -> xr.DataArray:
        """Features of a signal on physical axes. Raises `ValueError` when the signal is of another modality."""
        modality = modality_of(signal)
        if modality != self.card.modality:
            raise ValueError(
                f"{self.id} takes {self.card.modality} signals, «{signal.attrs.get('source', 'this')}» is {modality}; "
                f"choose a classifier for {modality}"
            )
        return self.frontend.features(signal)

    def probabilities(self, logits: NDArray[np.floating]) -> NDArray[np.float64]:
        """Calibrated probabilities (…, classes) of logits (…, classes).

        Softmax; sigmoid for a one-logit network, and of each logit where several findings may be present.
        """
        if self.card.multi_label:
            return 0.5 + 0.5 * np.tanh(np.asarray(logits, dtype=np.float64) / self.card.temperature / 2)  # sigmoid
        scale = 0.5 if self.backend.one_logit else 1.0  # softmax of (−z/2, z/2) is sigmoid(z)
        scaled = np.asarray(logits, dtype=np.float64) * scale / self.card.temperature
        powers = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
        return powers / powers.sum(axis=-1, keepdims=True)

    def predict(self, signal: xr.DataArray, progress: Callable[[float], None] | None = None) -> Prediction:
        """Verdict on a signal; a long recording is heard window by window and the logits are averaged."""
        return self.predict_features(self.features(signal), progress)

    def predict_features(self, features: xr.DataArray, progress: Callable[[float], None] | None = None) -> Prediction:
        """Verdict on features that are already computed. `progress` is called with the fraction done, 0…1."""
        values = features.values
        windows = self.frontend.windows(values.shape[-1])
        answers = []
        size = min(BATCH, self.backend.batch)
        for first in range(0, len(windows), size):
            batch = np.stack([cut(values, window, self.frontend) for window in windows[first : first + size]])
            answers.append(self.backend.logits(batch))
            if progress is not None:
                progress(min(1.0, (first + size) / len(windows)))
        return self.prediction(features, np.concatenate(answers))

    def prediction(self, features: xr.DataArray, window_logits: NDArray[np.floating]) -> Prediction:
        """Verdict from the logits (windows, classes) that the backend gave to the windows of these features."""
        windows = self.frontend.windows(features.shape[-1])
        answers = window_logits.astype(np.float64)
        logits = answers.mean(axis=0)
        times = np.empty((0, 2))
        if self.card.modality == "audio":
            axis = features["time"].values
            step = float(axis[1] - axis[0]) if axis.size > 1 else 0.0
            times = np.array([[axis[w.start], axis[w.stop - 1] + step] for w in windows])
        return Prediction(
            self.labels,
            logits,
            self.probabilities(logits),
            times,
            answers,
            self.probabilities(answers),
            self.card.multi_label,
        )
