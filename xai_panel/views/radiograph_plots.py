"""How a radiograph, the map over it and the profiles at the cursor are drawn: from data sources to figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bokeh.models import (
    BoxZoomTool,
    ColorBar,
    ColumnDataSource,
    CustomJS,
    CustomJSTickFormatter,
    FixedTicker,
    GlyphRenderer,
    LinearColorMapper,
    PanTool,
    Range,
    Range1d,
    ResetTool,
    WheelZoomTool,
)
from bokeh.models.annotations import ScaleBar
from bokeh.plotting import figure

from xai_panel.views.picture import Extent
from xai_panel.views.theme import black_field, color_bar, new_figure

JS = Path(__file__).parent / "js"
CONTOUR = "#ffd60a"  # on neither palette, seen on black, gray and white
BAR_SIDE = 92  # px to the right of the radiograph: room for the color bar, and the same below it
PROFILE = 150  # px, thickness of the profiles


def source_of(name: str) -> str:
    """Text of `js/<name>.js`."""
    return (JS / f"{name}.js").read_text(encoding="utf-8")


def script(name: str, **args: Any) -> CustomJS:
    """The JavaScript of `js/<name>.js` as a callback on these models and values."""
    return CustomJS(code=source_of(name), args=args)


def create_radiograph_plot(
    picture: ColumnDataSource,
    gray: LinearColorMapper,
    shown: ColumnDataSource,
    mapper: LinearColorMapper,
    contours: ColumnDataSource,
    extent: Extent,
    *,
    units: str,
    colored: bool,
) -> tuple[figure, GlyphRenderer, ColorBar, ScaleBar]:
    """The radiograph on black with a map and contours over it: (figure, renderer of the map, color bar, scale bar).

    picture and shown hold one `image` each with its `x`, `y`, `dw`, `dh`; contours holds `xs` and `ys`. colored: the
    picture holds the colors of an image instead, as `packed` makes them.
    """
    fig = new_figure(
        tools=[PanTool(), WheelZoomTool(zoom_on_axis=False), BoxZoomTool(match_aspect=True), ResetTool()],
        toolbar_location="above",
        x_range=Range1d(extent.left, extent.right, syncable=False),
        y_range=Range1d(extent.bottom, extent.top, syncable=False),
        x_axis_location=None,
        y_axis_label=f"y [{units}]",
        min_border_right=BAR_SIDE,
        sizing_mode="stretch_both",
        min_height=320,
        lod_threshold=None,
        name="radiograph",
    )
    fig.toolbar.active_scroll = fig.select_one(WheelZoomTool)
    fig.grid.visible = False
    black_field(fig)
    place = {"x": "x", "y": "y", "dw": "dw", "dh": "dh"}
    if colored:
        fig.image_rgba(image="image", source=picture, **place)
    else:
        fig.image(image="image", source=picture, color_mapper=gray, **place)
    over = fig.image(image="image", source=shown, color_mapper=mapper, global_alpha=0.6, **place)
    fig.multi_line("xs", "ys", source=contours, line_color="#000000", line_width=3.5, line_alpha=0.7)
    fig.multi_line("xs", "ys", source=contours, line_color=CONTOUR, line_width=1.75)
    bar = color_bar(mapper, "", visible=False, syncable=False, formatter=short_numbers())
    fig.add_layout(bar, "right")
    scale = scale_bar(visible=units == "mm")
    fig.add_layout(scale)
    return fig, over, bar, scale


def short_numbers() -> CustomJSTickFormatter:
    """Ticks of a color bar with at most three digits, so that they fit beside it whatever the units."""
    return CustomJSTickFormatter(code="return String(Number(tick.toPrecision(3))).replaceAll('-', '−')")


def scale_bar(*, visible: bool) -> ScaleBar:
    """A scale bar in round millimeters or centimeters, white on the black of the radiograph."""
    return ScaleBar(
        visible=visible,
        unit="mm",
        location="bottom_left",
        bar_length=0.2,
        background_fill_color="#000000",
        background_fill_alpha=0.45,
        padding=6,
        border_line_color=None,
        bar_line_color="white",
        label_text_color="white",
    )


def create_profile_plot(profiles: ColumnDataSource, shared: Range, *, along: str, units: str) -> figure:
    """Profiles of all maps along x (below the radiograph) or y (at its right), each over its map's largest |value|.

    profiles: one row per map with `xs`, `row`, `column`, `ys`, `color`, `dash`, `width`, `alpha`.
    """
    line = {"line_color": "color", "line_dash": "dash", "line_width": "width", "line_alpha": "alpha"}
    values = Range1d(-1.08, 1.08, syncable=False)
    ticks = FixedTicker(ticks=[-1, 0, 1])
    if along == "x":
        fig = new_figure(
            x_range=shared,
            y_range=values,
            height=PROFILE,
            min_border_right=BAR_SIDE,
            x_axis_label=f"x [{units}]",
            y_axis_label="row, ÷ max |·|",
            name="row",
        )
        fig.multi_line("xs", "row", source=profiles, **line)
        fig.yaxis.ticker = ticks
        fig.ygrid.ticker = ticks
    else:
        fig = new_figure(
            x_range=values,
            y_range=shared,
            width=PROFILE,
            sizing_mode="stretch_height",
            min_border_left=8,
            y_axis_location=None,
            x_axis_location="above",
            x_axis_label="column, ÷ max |·|",
            name="column",
        )
        fig.multi_line("column", "ys", source=profiles, **line)
        fig.xaxis.ticker = ticks
        fig.xgrid.ticker = ticks
    return fig
