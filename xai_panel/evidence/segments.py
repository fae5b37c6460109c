"""Parts of a window that are switched on and off together.

A grid of time-frequency patches for spectrograms: every cell is the same number of frames and the same share of the
frequency scale, mel or logarithmic, so a part can be named («1.2–1.8 s, 800–1500 Hz»), and harmonics, which superpixels
would cut into slivers, stay whole. SLIC superpixels for radiographs and images, whose parts are bounded by edges
(Achanta et al. 2012).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from xai_panel.models.windows import even_rows

Rows = Callable[[int], np.ndarray]

KINDS = ("grid", "slic")


def default_kind(dims: tuple[str, ...]) -> str:
    """The kind of segments for features with these dimension names."""
    return "grid" if "frequency" in dims else "slic"


def segment(window: np.ndarray, kind: str, count: int, rows: Rows | None = None) -> np.ndarray:
    """Labels 0…k-1 of about `count` segments of a window (H, W) or (C, H, W), (H, W) int32. ValueError: another kind.

    Of a complex window the magnitudes are cut. rows: as `FrontEnd.rows`; None for cells of the same height.
    """
    shape = window.shape[-2:]
    if kind == "grid":
        return grid(shape, count, rows)
    if kind == "slic":
        labels = superpixels(np.abs(window) if np.iscomplexobj(window) else window, count)
        # One superpixel cannot be compared with anything; a flat window is cut like a grid instead.
        return labels if labels.max() > 0 else grid(shape, count)
    raise ValueError(f"segments {kind!r}: not known; accepted: {', '.join(KINDS)}")


def grid(shape: tuple[int, ...], count: int, rows: Rows | None = None) -> np.ndarray:
    """About `count` cells, as square as the shape (H, W) allows, labelled row by row; returns (H, W) int32.

    rows: from a number of cells to the places of the H rows on them; None for cells of the same height.
    """
    height, width = shape
    down = min(height, max(1, round((count * height / width) ** 0.5)))
    across = min(width, max(1, round(count / down)))
    places = even_rows(height, down) if rows is None else rows(down)
    cells = np.clip(np.floor(places + 0.5), 0, down - 1)
    row = np.unique(cells, return_inverse=True)[1]  # empty cells have no label
    column = np.arange(width) * across // width
    return (row[:, None] * across + column[None, :]).astype(np.int32)


def superpixels(window: np.ndarray, count: int) -> np.ndarray:
    """About `count` SLIC superpixels of a window (H, W), or of red, green and blue (3, H, W) in CIELAB.

    Returns (H, W) int32, labels 0…k-1 without gaps.
    """
    from skimage.segmentation import slic

    low, high = float(window.min()), float(window.max())
    scaled = (window - low) / (high - low) if high > low else np.zeros_like(window)
    # start_label: the default of 1 shifts every mask by one segment. compactness: a difference of a tenth of the range,
    # which is 100 for the lightness of colors, weighs as much as the distance to the next center.
    axis, compactness = (0, 10.0) if window.ndim == 3 else (None, 0.1)
    labels = slic(scaled, n_segments=count, compactness=compactness, sigma=1.0, channel_axis=axis, start_label=0)
    return np.unique(labels, return_inverse=True)[1].reshape(window.shape[-2:]).astype(np.int32)
