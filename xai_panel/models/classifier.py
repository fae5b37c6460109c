"""A classifier: card, front end and backend in one object."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xai_panel.models.backends.base import Backend
from xai_panel.models.card import Card
from xai_panel.models.frontends import FrontEnd, cut

BATCH = 16  # windows asked at once, when the backend has memory for them


@dataclass(frozen=True)
class Prediction:
    """What a classifier says about one signal.

    labels: names of the classes; logits (classes,): mean over the windows; probabilities (classes,): calibrated;
    window_times (windows, 2): start and end [s] of each window, empty for radiographs; window_logits and
    window_probabilities (windows, classes).
    """

    labels: tuple[str, ...]
    logits: NDArray[np.float64]
    probabilities: NDArray[np.float64]
    window_times: NDArray[np.float64]
    window_logits: NDArray[np.float64]
    window_probabilities: NDArray[np.float64]

    @property
    def index(self) -> int:
        """The predicted class."""
        return int(np.argmax(self.logits))

    @property
    def label(self) -> str:
        """Name of the predicted class."""
        return self.labels[self.index]

    @property
    def probability(self) -> float:
        """Calibrated probability of the predicted class, 0…1."""
        return float(self.probabilities[self.index])


class Classifier:
    """Signal in, calibrated verdict out, and the questions that explanation methods may ask.

    `digest` identifies the weights; results are stored under it.
    """

    def __init__(self, card: Card, frontend: FrontEnd, backend: Backend) -> None:
        if backend.classes != len(card.labels):
            raise ValueError(
                f"{card.id}: the network has {backend.classes} classes, its card names {len(card.labels)}: "
                + ", ".join(card.labels)
            )
        self.card = card
        self.frontend = frontend
        self.backend = backend

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
        modality = signal.attrs.get("modality") or ("audio" if signal.dims == ("time",) else "radiograph")
        if modality != self.card.modality:
            raise ValueError(
                f"{self.id} takes {self.card.modality} signals, «{signal.attrs.get('source', 'this')}» is {modality}; "
                f"choose a classifier for {modality}"
            )
        return self.frontend.features(signal)

    def probabilities(self, logits: NDArray[np.floating]) -> NDArray[np.float64]:
        """Calibrated probabilities (…, classes) of logits (…, classes): softmax, or sigmoid for a one-logit network."""
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
        )
