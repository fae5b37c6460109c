"""How maps are drawn side by side: one small figure per map on shared axes, their profiles, the agreement matrix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from bokeh.models import (
    BoxZoomTool,
    ColorBar,
    ColumnDataSource,
    FactorRange,
    FixedTicker,
    GlyphRenderer,
    Label,
    LinearColorMapper,
    PanTool,
    Range1d,
    ResetTool,
    Title,
    WheelZoomTool,
)
from bokeh.plotting import figure
from numpy.typing import NDArray

from xai_panel.views import spectrogram as sg
from xai_panel.views.maps import BLANK, map_values
from xai_panel.views.palettes import DIVERGING, color_mapper
from xai_panel.views.picture import Extent, edges, extent_of
from xai_panel.views.radiograph_plots import short_numbers
from xai_panel.views.theme import black_field, color_bar, new_figure

COLUMNS = 1024  # most columns of a map that are sent
CELL = {"audio": 216, "radiograph": 290}  # px, height of one map
PROFILE = 190  # px, height of the profiles
BAR_SIDE = 88  # px at the right of a map: its color bar


@dataclass(frozen=True)
class Axes:
    """The axes that all maps share: kind "audio" or "radiograph" (any image), the rectangle in view coordinates, units.

    Of a recording, x is the time [s] and y the frequency on the mel scale.
    """

    kind: str
    extent: Extent
    units: str

    @property
    def ticks(self) -> dict[float, str]:
        """Labels of the frequency axis by their place on it; empty for a radiograph."""
        if self.kind != "audio":
            return {}
        low, high = sg.hertz([self.extent.top, self.extent.bottom])
        return sg.ticks(float(low), float(high), "mel")


def axes_of(explanation: xr.Dataset) -> Axes:
    """Axes of an explanation's maps."""
    if explanation.attrs["modality"] == "audio":
        left, right = edges(np.asarray(explanation["time"].values, dtype=np.float64))
        low, high = edges(sg.mel(explanation["frequency"].values))
        return Axes("audio", Extent(left, low, right - left, high - low), "s")
    return Axes("radiograph", extent_of(explanation["input"]), str(explanation["x"].attrs["units"]))


def audio_rows(values: xr.DataArray) -> NDArray[np.float32]:
    """A map or the features (frequency, time) as an image of equally spaced mel rows and at most `COLUMNS` columns."""
    low, high = sg.hertz(edges(sg.mel(values["frequency"].values)))
    return sg.shrink(sg.map_rows(values, (float(low), float(high)), "mel"), COLUMNS)


def image_of(explanation: xr.Dataset) -> NDArray[np.float32]:
    """The one map of an explanation as an image on `axes_of` it."""
    if explanation.attrs["modality"] == "audio":
        return audio_rows(explanation["attribution"].isel(method=0))
    return map_values(explanation)


def profile_of(explanation: xr.Dataset) -> NDArray[np.float32]:
    """Sum over frequency of the one map of a recording's explanation, on the columns of `image_of` it.

    The rows of the image are not the map's own, so that their sum would be another. Of a radiograph: `BLANK`.
    """
    if explanation.attrs["modality"] == "audio":
        return sg.shrink(explanation.xai.profile("time").values, COLUMNS)[0]
    return BLANK


@dataclass(frozen=True)
class MapPlot:
    """A figure with one map, and what of it JavaScript sets."""

    figure: figure
    title: Title
    mapper: LinearColorMapper
    renderer: GlyphRenderer
    bar: ColorBar
    label: Label


def create_ranges(axes: Axes) -> tuple[Range1d, Range1d]:
    """Ranges (x, y) that all maps share; y of a radiograph points down. The browser moves them, nobody else."""
    extent = axes.extent
    x = Range1d(extent.left, extent.right, syncable=False)
    if axes.kind == "audio":
        return x, Range1d(extent.top, extent.bottom, syncable=False)
    return x, Range1d(extent.bottom, extent.top, syncable=False)


def create_map_plot(
    column: str,
    maps: ColumnDataSource,
    picture: ColumnDataSource,
    gray: LinearColorMapper,
    ranges: tuple[Range1d, Range1d],
    axes: Axes,
    *,
    title: str,
    name: str,
) -> MapPlot:
    """The map in `column` of `maps` over the picture that all maps share."""
    audio = axes.kind == "audio"
    fig = new_figure(
        tools=[PanTool(), WheelZoomTool(zoom_on_axis=False), BoxZoomTool(match_aspect=not audio), ResetTool()],
        toolbar_location="above",
        x_range=ranges[0],
        y_range=ranges[1],
        height=CELL[axes.kind],
        min_border_left=46,
        min_border_right=BAR_SIDE,
        min_border_bottom=28,
        lod_threshold=None,
        name=name,
    )
    heading = Title(text=title, syncable=False)
    fig.title = heading
    fig.toolbar.active_scroll = fig.select_one({"type": WheelZoomTool})
    fig.grid.visible = False
    if audio:
        label_frequencies(fig, axes)
    else:
        black_field(fig)
    fig.xaxis.ticker.desired_num_ticks = 5
    place = {"x": "x", "y": "y", "dw": "dw", "dh": "dh"}
    fig.image(image="image", source=picture, color_mapper=gray, **place)
    mapper = color_mapper(-1.0, 1.0, signed=True, transparent=True)
    mapper.syncable = False
    renderer = fig.image(image={"field": column}, source=maps, color_mapper=mapper, **place)
    bar = color_bar(mapper, "", visible=False, syncable=False, formatter=short_numbers())
    fig.add_layout(bar, "right")
    label = Label(
        x=5,
        y=5,
        x_units="screen",
        y_units="screen",
        text="",
        visible=False,
        syncable=False,
        text_font_size="12px",
        text_color="#ffffff",
        background_fill_color="#000000",
        background_fill_alpha=0.65,
        padding=3,
    )
    fig.add_layout(label)
    return MapPlot(fig, heading, mapper, renderer, bar, label)


def label_frequencies(fig: figure, axes: Axes) -> None:
    """Round frequencies in Hz on a mel axis."""
    fig.yaxis.ticker = FixedTicker(ticks=list(axes.ticks))
    fig.yaxis.major_label_overrides = axes.ticks


def create_profile_plot(profiles: ColumnDataSource, x_range: Range1d, *, title: str, label: str, name: str) -> figure:
    """Profiles of all maps on one axis, each over its own maximum.

    profiles: one row per line with `xs`, `ys`, `color`, `dash`, `width`.
    """
    fig = new_figure(
        title=title,
        x_range=x_range,
        y_range=Range1d(-1.08, 1.08, syncable=False),
        height=PROFILE,
        x_axis_label=label,
        y_axis_label="÷ own maximum",
        name=name,
    )
    fig.multi_line(
        "xs", "ys", source=profiles, line_color="color", line_dash="dash", line_width="width", line_alpha=0.9
    )
    ticks = FixedTicker(ticks=[-1, -0.5, 0, 0.5, 1])
    fig.yaxis.ticker = ticks
    fig.ygrid.ticker = ticks
    return fig


def create_agreement_plot(cells: ColumnDataSource, columns: FactorRange, rows: FactorRange) -> figure:
    """Matrix of Spearman's rank correlations with their numbers.

    cells: one row per pair with `row`, `column`, `value`, `text`, `ink`; columns and rows have these as factors.
    """
    fig = new_figure(
        title="Rank agreement of the maps (Spearman)",
        name="agreement",
        x_range=columns,
        y_range=rows,
        x_axis_location="above",
        height=340,
        min_border_left=8,
        min_border_right=BAR_SIDE,
    )
    fig.grid.visible = False
    fig.axis.axis_line_color = None
    mapper = LinearColorMapper(palette=DIVERGING, low=-1, high=1, nan_color="#80808040")
    fig.rect(
        "column",
        "row",
        0.97,
        0.97,
        source=cells,
        fill_color={"field": "value", "transform": mapper},
        line_color=None,
    )
    fig.text(
        "column",
        "row",
        "text",
        source=cells,
        text_align="center",
        text_baseline="middle",
        text_color="ink",
        text_font_size="12px",
    )
    fig.add_layout(color_bar(mapper, "ρ", ticker=FixedTicker(ticks=[-1, -0.5, 0, 0.5, 1])), "right")
    return fig


def agreement_cells(matrix: xr.DataArray, titles: Sequence[str]) -> tuple[dict[str, list[Any]], list[str], list[str]]:
    """Columns of `create_agreement_plot` from a matrix (method, other), and the factors of its rows and columns.

    Rows are numbered titles, columns the numbers, so that long names fit.
    """
    numbers = [str(i + 1) for i in range(len(titles))]
    rows = [f"{title}  {number}" for title, number in zip(titles, numbers, strict=True)]
    cells: dict[str, list[Any]] = {"row": [], "column": [], "value": [], "text": [], "ink": []}
    for i, row in enumerate(rows):
        for j, column in enumerate(numbers):
            value = float(matrix.values[i, j])
            cells["row"].append(row)
            cells["column"].append(column)
            cells["value"].append(value)
            cells["text"].append("–" if np.isnan(value) else f"{round(value, 2) + 0.0:.2f}".replace("-", "−"))
            cells["ink"].append("#ffffff" if abs(value) > 0.75 else "#1b1f23")
    return cells, rows, numbers
