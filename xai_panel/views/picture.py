"""Large images at the resolution of the screen: what is in view, reduced to at most `SCREEN` pixels a side.

Window and level are changed in the browser, on what it was sent: a 3000 × 2500 radiograph costs a second per change
there, its view-resolution crop 30 ms. A new crop is cut from the full-resolution image after zooming or panning.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

SCREEN = 1024  # px, largest side of what is sent to the browser


@dataclass(frozen=True)
class Extent:
    """A rectangle in the units of the image's axes: left and top edge, width and height."""

    left: float
    top: float
    width: float
    height: float

    @property
    def right(self) -> float:
        return self.left + self.width

    @property
    def bottom(self) -> float:
        return self.top + self.height


@dataclass(frozen=True)
class Crop:
    """Pixels (y, x), or (y, x, channel), that are sent to the browser, and where they lie."""

    values: NDArray[np.float32]
    extent: Extent


def edges(centers: NDArray[np.floating]) -> tuple[float, float]:
    """Outer edges of the cells with these equally spaced centers (n,); one cell alone is one unit wide."""
    step = float(centers[-1] - centers[0]) / (len(centers) - 1) if len(centers) > 1 else 1.0
    return float(centers[0]) - step / 2, float(centers[-1]) + step / 2


def extent_of(image: xr.DataArray, dims: tuple[str, str] = ("y", "x")) -> Extent:
    """The rectangle that the cells of an image over `dims` (rows, columns) cover."""
    top, bottom = edges(np.asarray(image[dims[0]].values, dtype=np.float64))
    left, right = edges(np.asarray(image[dims[1]].values, dtype=np.float64))
    return Extent(left, top, right - left, bottom - top)


def reduce(values: NDArray[np.generic], factor: tuple[int, int]) -> NDArray[np.float32]:
    """Mean over blocks of `factor` (rows, columns) pixels; blocks at the lower and right edge may be smaller.

    values (y, x, …) → (⌈y / rows⌉, ⌈x / columns⌉, …) float32.
    """
    if factor == (1, 1):
        return np.asarray(values, dtype=np.float32)
    rows, columns = factor
    starts = np.arange(0, values.shape[0], rows), np.arange(0, values.shape[1], columns)
    sums = np.add.reduceat(np.add.reduceat(values, starts[1], axis=1, dtype=np.float64), starts[0], axis=0)
    counts = np.outer(*(np.diff(np.append(s, n)) for s, n in zip(starts, values.shape, strict=False)))
    return (sums / counts.reshape(*counts.shape, *[1] * (values.ndim - 2))).astype(np.float32)


def crop(values: NDArray[np.generic], extent: Extent, view: Extent | None = None, size: int = SCREEN) -> Crop:
    """What of an image (y, x) or (y, x, channel) lies in `view` (default: all of it), at most `size` pixels a side.

    The pixels are means over whole blocks of k × k stored pixels, k as small as `size` allows, so that what is
    zoomed in far enough is shown pixel by pixel. A view beside the image gives the whole image.
    """
    height, width = values.shape[:2]
    view = extent if view is None else view

    def span(low: float, high: float, start: float, length: float, count: int) -> tuple[int, int]:
        first = int(np.floor((low - start) / length * count + 1e-6))  # a millionth of a pixel is rounding
        last = int(np.ceil((high - start) / length * count - 1e-6))
        return max(0, first), min(count, last)

    rows = span(view.top, view.bottom, extent.top, extent.height, height)
    columns = span(view.left, view.right, extent.left, extent.width, width)
    if rows[0] >= rows[1] or columns[0] >= columns[1]:
        rows, columns = (0, height), (0, width)
    k = max(1, -(-(rows[1] - rows[0]) // size), -(-(columns[1] - columns[0]) // size))
    rows, columns = (rows[0] // k * k, rows[1]), (columns[0] // k * k, columns[1])
    k = max(k, -(-(rows[1] - rows[0]) // size), -(-(columns[1] - columns[0]) // size))
    pixels = reduce(values[slice(*rows), slice(*columns)], (k, k))
    # A block at the lower or right edge may be cut; it is drawn as wide as the others, a little beyond the edge.
    dy, dx = extent.height / height, extent.width / width
    place = Extent(
        extent.left + columns[0] * dx, extent.top + rows[0] * dy, pixels.shape[1] * k * dx, pixels.shape[0] * k * dy
    )
    return Crop(pixels, place)


def compact(values: NDArray[np.float32], whole: bool) -> NDArray[np.generic]:
    """The same pixels in as few bytes as they need: integers of 8 or 16 bits when the image holds whole numbers.

    `whole` says whether the full-resolution image does; means over blocks are then rounded.
    """
    if not whole:
        return np.asarray(values, dtype=np.float32)
    low, high = float(values.min()), float(values.max())
    for kind in (np.uint8, np.uint16, np.int16):
        limits = np.iinfo(kind)
        if limits.min <= low and high <= limits.max:
            return np.rint(values).astype(kind)
    return np.asarray(values, dtype=np.float32)


def packed(colors: NDArray[np.floating], most: float) -> NDArray[np.uint32]:
    """Opaque pixels (y, x) of red, green and blue (y, x, channel), or of grey (y, x), in 0…`most`, for `image_rgba`."""
    pixels = np.full((*colors.shape[:2], 4), 255, np.uint8)
    pixels[..., :3] = np.rint(np.atleast_3d(colors) * (255 / most))
    return pixels.view("<u4")[..., 0]
