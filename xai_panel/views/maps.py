"""Attribution maps in the browser: all maps of one signal in one data source, how each is drawn, contours, thumbnails.

A column of the source is one map; figures, profiles, cursors and read-outs all read it there, so a map is sent once.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import xarray as xr
from bokeh.models import ColumnDataSource
from numpy.typing import NDArray

from xai_panel.views.palettes import GRAY, method_style, palette, value_range
from xai_panel.views.picture import Extent

BLANK: NDArray[np.float32] = np.full((1, 1), np.nan, dtype=np.float32)  # the map that is not there yet

Results = Mapping[str, xr.Dataset]  # method id → explanation with that one method


@dataclass(frozen=True)
class MapStyle:
    """How one map is drawn: its names, the units of its values, its color range, the line of its profile."""

    id: str
    title: str
    units: str
    signed: bool
    low: float
    high: float
    color: str
    dash: str


def style_of(explanation: xr.Dataset) -> MapStyle:
    """Style of the one map of an explanation."""
    one = explanation.isel(method=0)
    signed = bool(one["signed"])
    low, high = value_range(one["attribution"].values, signed=signed)
    id = str(one["method"].item())
    return MapStyle(id, str(one["title"].item()), str(one["units"].item()), signed, low, high, *method_style(id))


def map_values(explanation: xr.Dataset) -> NDArray[np.float32]:
    """The one map (rows, columns) of an explanation."""
    return np.asarray(explanation["attribution"].isel(method=0).values, dtype=np.float32)


def style_columns(results: Results) -> dict[str, list[Any]]:
    """Columns of a data source with one row per map; the fields of `MapStyle`."""
    names = list(MapStyle.__dataclass_fields__)
    rows = [asdict(style_of(explanation)) for explanation in results.values()]
    return {name: [row[name] for row in rows] for name in names}


def placed(extent: Extent) -> dict[str, list[float]]:
    """Columns that place an image glyph on its axes."""
    return {"x": [extent.left], "y": [extent.top], "dw": [extent.width], "dh": [extent.height]}


class MapSource:
    """The maps of one signal as columns of a data source, and their styles as rows of another.

    Only what changed is sent: a map that arrives costs its own bytes, not those of the maps that are there already.
    `values` makes the image of an explanation; default: the map as it is.
    """

    def __init__(self, values: Callable[[xr.Dataset], NDArray[np.float32]] = map_values) -> None:
        self.maps = ColumnDataSource(data={**placed(Extent(0, 0, 1, 1)), "": [BLANK]})
        self.styles = ColumnDataSource(data=style_columns({}))
        self._values = values
        self._shown: dict[str, xr.Dataset | None] = {}
        self._extent = Extent(0, 0, 1, 1)

    def update(self, results: Results, extent: Extent, planned: Iterable[str] = ()) -> None:
        """Show these maps, which cover `extent`; those that are only planned, or are gone, have a blank column.

        A column is never dropped: figures that draw it may still be on the page.
        """
        shown: dict[str, xr.Dataset | None] = {**dict.fromkeys(self._shown), **dict.fromkeys(planned), **results}
        kept = [id for id, old in self._shown.items() if shown[id] is old]
        added = {id: [BLANK if new is None else self._values(new)] for id, new in shown.items() if id not in kept}
        if extent == self._extent:
            for id, column in added.items():
                self.maps.data[id] = column
        else:
            columns: dict[str, Any] = {id: self.maps.data[id] for id in kept}
            self.maps.data = {**placed(extent), "": [BLANK], **columns, **added}
        self._shown, self._extent = shown, extent
        self.styles.data = style_columns(results)


def strength(values: NDArray[np.floating], *, signed: bool, sign: str = "both") -> NDArray[np.floating]:
    """How strong each pixel of a map counts, ≥ 0: all of it, or only what points toward or away from the target."""
    if not signed or sign == "toward":
        return np.maximum(values, 0.0) if signed else np.abs(values)
    return np.abs(values) if sign == "both" else np.maximum(-values, 0.0)


def contour_lines(
    x: NDArray[np.floating], y: NDArray[np.floating], weights: NDArray[np.floating], share: float
) -> tuple[list[NDArray[np.float64]], list[NDArray[np.float64]]]:
    """Lines around the strongest `share` (0…1) of the pixels: their x and y, one array each per line.

    weights (y, x) ≥ 0 at the centers x (columns,) and y (rows,). Where fewer pixels than that have any weight, the line
    is around all that have. Marching squares of contourpy.
    """
    from contourpy import contour_generator

    level = float(np.quantile(weights, 1.0 - share))
    if level <= 0.0:
        positive = weights[weights > 0]
        if not positive.size:
            return [], []
        level = float(positive.min()) / 2
    lines: Any = contour_generator(x=x, y=y, z=weights).lines(level)
    return [line[:, 0] for line in lines], [line[:, 1] for line in lines]


def colorize(values: NDArray[np.floating], colors: list[str], low: float, high: float) -> NDArray[np.float32]:
    """RGBA (rows, columns, 4) in 0…1 of values on a palette of `#rrggbb` or `#rrggbbaa`; NaN is transparent."""
    table = np.array([[int(c[i : i + 2] or "ff", 16) for i in (1, 3, 5, 7)] for c in colors], dtype=np.float32) / 255
    position = (np.nan_to_num(values, nan=low) - low) / (high - low) * len(colors)
    rgba = table[np.clip(position.astype(int), 0, len(colors) - 1)]
    rgba[~np.isfinite(values), 3] = 0.0
    return rgba


def thumbnail(picture: NDArray[np.floating], style: MapStyle, values: NDArray[np.floating], size: int = 144) -> str:
    """Data URI of a small PNG: the map laid over its picture.

    picture (y, x), or colors (y, x, channel), in 0…1 of any size; values (rows, columns). `size`: px of the longer
    side.
    """
    from PIL import Image

    height, width = picture.shape[:2]
    scale = size / max(height, width)
    shape = max(1, round(width * scale)), max(1, round(height * scale))

    def fit(channel: NDArray[np.floating]) -> NDArray[np.float32]:
        return np.asarray(Image.fromarray(channel.astype(np.float32)).resize(shape, Image.Resampling.BILINEAR))

    if picture.ndim == 3:
        under = np.stack([fit(color) for color in np.moveaxis(picture, -1, 0)], axis=-1)
    else:
        under = colorize(fit(picture), GRAY, 0.0, 1.0)[..., :3]
    over = colorize(fit(values), palette(signed=style.signed, transparent=True), style.low, style.high)
    alpha = 0.75 * over[..., 3:]
    pixels = (over[..., :3] * alpha + under * (1 - alpha)) * 255
    buffer = io.BytesIO()
    Image.fromarray(np.rint(pixels).astype(np.uint8)).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
