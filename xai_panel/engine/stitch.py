"""From maps of windows to one map on the signal's axis."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from xai_panel.explanation.store import scratch
from xai_panel.methods import MapResult, upsample
from xai_panel.models.frontends import FrontEnd, Window, window_shape


class Stitch:
    """Puts the maps of windows into one array: the weighted mean of the windows that cover a column, real columns only.

    A window counts less towards its edges (a triangle), so that no seam shows where the next one begins.

    values: (H, T) float32 zeros to fill; frontend: of the model; windows: of the signal.
    `error` is that of the worst window; forward and backward count passes, seconds the time, over all windows.
    """

    def __init__(self, values: NDArray[np.float32], frontend: FrontEnd, windows: Sequence[Window]) -> None:
        self.values, self._frontend, self._windows = values, frontend, windows
        self.spread: NDArray[np.float32] | None = None
        self.error, self.error_kind, self.grid = float("nan"), "", ""
        self.forward = self.backward = 0
        self.seconds = 0.0

    def add(self, index: int, result: MapResult) -> None:
        """The answer of a method to one window, on its own grid.

        A layer's grid covers the model's whole window, with its padding or the copies that fill it; what the
        model hears several times gets the mean over the copies.
        """
        window = self._windows[index]
        here = (slice(None), slice(window.start, window.stop))
        weights = taper(window.width)
        self.values[here] += weights * self._on_columns(result.values, window)
        if result.spread is not None:
            if self.spread is None:
                self.spread = scratch(self.values.shape)
            self.spread[here] += weights * self._on_columns(result.spread, window)
        self.error = float(np.fmax(self.error, result.error))
        self.error_kind = result.error_kind or self.error_kind
        self.grid = "×".join(str(size) for size in result.values.shape)

    def _on_columns(self, values: NDArray[np.float32], window: Window) -> NDArray[np.float32]:
        shape = self._frontend.shape[-2], self._frontend.shape[-1]
        if values.shape in ((shape[0], window.width), window_shape(window, self._frontend)[-2:]):
            return values[:, : window.width]
        rows = self._frontend.rows(values.shape[0])
        if window.filled == "nothing":
            return upsample(values, (shape[0], window.width), rows)
        whole = upsample(values, shape, rows)
        if window.filled == "floor":
            return whole[:, : window.width]
        copies = np.pad(whole, ((0, 0), (0, -shape[1] % window.width)), constant_values=np.nan)
        return np.nanmean(copies.reshape(shape[0], -1, window.width), axis=1)

    def finish(self) -> None:
        """All windows were added."""
        cover = np.zeros(self.values.shape[-1], dtype=np.float32)
        for window in self._windows:
            cover[window.start : window.stop] += taper(window.width)
        self.values /= cover
        if self.spread is not None:
            self.spread /= cover


def taper(width: int) -> NDArray[np.float32]:
    """Weights of a window's columns, (width,): 1 in the middle, falling evenly to almost 0 at both edges."""
    return (1.0 - np.abs(2.0 * (np.arange(width) + 0.5) / width - 1.0) + 1e-3).astype(np.float32)
