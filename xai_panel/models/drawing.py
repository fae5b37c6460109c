"""Spectrograms as pictures: drawn by matplotlib, saved as PNG and read back, and their colors on tensors."""

from __future__ import annotations

from functools import cache
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

LEVELS = 256  # of a channel of the picture
BLOCK = 4096  # pixels that are drawn at once


def draw(values: NDArray[np.floating], limits: tuple[float, float], size: tuple[int, int]) -> NDArray[np.uint8]:
    """A picture of `values` (rows, columns) in 256 levels of grey, (height, width), its first row below.

    Each value is a flat cell, as `librosa.display.specshow` and `Axes.pcolormesh` draw it; limits: the values that are
    black and white; size: height and width [px]. Wide pictures are drawn in blocks.
    """
    height, width = size
    picture = np.empty(size, np.uint8)
    for left in range(0, width, BLOCK):
        right = min(left + BLOCK, width)
        edges = (left * values.shape[1] / width, right * values.shape[1] / width)
        first, last = int(edges[0]), min(-int(-edges[1] // 1), values.shape[1])
        place = (first - edges[0], last - edges[0])
        picture[:, left:right] = _block(values[:, first:last], limits, place, edges[1] - edges[0], height, right - left)
    return picture


def _block(
    values: NDArray[np.floating],
    limits: tuple[float, float],
    place: tuple[float, float],
    span: float,
    height: int,
    width: int,
) -> NDArray[np.uint8]:
    """The columns 0…span of a picture whose `values` lie at `place`, in columns."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.colors import ListedColormap
    from matplotlib.figure import Figure
    from PIL import Image

    figure = Figure(figsize=(width, height), dpi=1)  # an inch is a pixel
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.imshow(
        values,
        cmap=ListedColormap(np.repeat(np.arange(LEVELS)[:, None] / (LEVELS - 1), 3, axis=1)),
        vmin=limits[0],
        vmax=limits[1],
        origin="lower",
        aspect="auto",
        interpolation="nearest",
        extent=(*place, 0, values.shape[0]),
    )
    axes.set_xlim(0, span)
    file = BytesIO()
    canvas.print_png(file, pil_kwargs={"compress_level": 1})
    return np.asarray(Image.open(file))[..., 0]


@cache
def colors(name: str) -> NDArray[np.float32]:
    """The 256 colors of a color map of matplotlib, (256, 3), 0…1. Raises `ValueError` for an unknown name."""
    from matplotlib import colormaps

    if name not in colormaps:
        raise ValueError(f"parameter «colormap» is {name!r}; a color map of matplotlib is expected, such as viridis")
    return colormaps[name].resampled(LEVELS)(np.arange(LEVELS))[:, :3].astype(np.float32)


def colored(levels: Any, table: NDArray[np.float32]) -> list[Any]:
    """Color channels [(n, height, width), …] of levels 0…255 by a table (256, channels), upside down.

    Piecewise linear between the colors and constant beyond, so that it has a gradient; the slope at a level is that
    towards the next one. `levels` is an array or tensor of NumPy, PyTorch or TensorFlow, and so are the channels.
    """
    top = len(table) - 1
    steps = np.diff(table, axis=0)
    package = type(levels).__module__.partition(".")[0]
    if package == "torch":
        import torch

        levels = levels.flip(1).clamp(0, top)
        below = levels.detach().long().clamp(max=top - 1)
        parts = [(torch.from_numpy(part).to(levels.device)[below]) for part in (table, steps)]
        rest = levels - below
    elif package == "tensorflow":
        import tensorflow as tf

        levels = tf.clip_by_value(levels[:, ::-1], 0.0, float(top))
        below = tf.minimum(tf.cast(levels, tf.int32), top - 1)
        parts = [tf.gather(part, below) for part in (table, steps)]
        rest = levels - tf.cast(below, levels.dtype)
    else:
        levels = np.clip(levels[:, ::-1], 0, top)
        below = np.minimum(levels.astype(np.int64), top - 1)
        parts = [part[below] for part in (table, steps)]
        rest = levels - below
    return [parts[0][..., channel] + rest * parts[1][..., channel] for channel in range(table.shape[1])]
