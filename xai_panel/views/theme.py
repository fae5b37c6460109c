"""One look for all figures and pages, in light and dark.

panel-material-ui themes every Bokeh model of a page in the browser: text, axes, grids and the backgrounds of figures
follow the theme toggle without a round trip (its `apply_bokeh_theme`). Python therefore sets what does not depend on
the theme (sizes, margins, tools, tick counts), and colors of lines and bands are taken from `palettes`, where each was
chosen to be seen on white and on near-black. A figure that must stay black in the light theme too gets `black_field`.
"""

from __future__ import annotations

from typing import Any

from bokeh.models import BoxAnnotation, ColorBar, LinearColorMapper, Span
from bokeh.plotting import figure

from xai_panel.views.palettes import CURSOR

LEFT = 68  # px between the left edge of a figure and its plot area: room for an axis label, equal for aligned axes
RIGHT = 22  # px: half a tick label at the end of an axis fits
SIDE = 232  # px, width of the column to the right of the main plots
SIDEBAR = 320
NARROW = 900  # px: below this the drawer floats over the page and starts closed
BAR = 12  # px, thickness of color bars

ACCENT = "#0b6e8f"
ACCENT_DARK = "#5cc1de"
HEADER = "#0a4f68"  # white text on it in both themes

THEME_CONFIG: dict[str, Any] = {
    "light": {
        "palette": {
            "primary": {"main": ACCENT},
            "background": {"default": "#f4f6f8", "paper": "#ffffff"},
        },
    },
    "dark": {
        "palette": {
            "primary": {"main": ACCENT_DARK},
            "background": {"default": "#101418", "paper": "#171c21"},
        },
    },
}

FIGURE_DEFAULTS: dict[str, Any] = {
    "min_border_left": LEFT,
    "min_border_right": RIGHT,
    "min_border_top": 6,
    "min_border_bottom": 6,
    "sizing_mode": "stretch_width",
    "toolbar_location": None,
    "output_backend": "canvas",
}


def new_figure(*, tools: Any = "", title: str | None = None, **options: Any) -> figure:
    """A Bokeh figure in the house style.

    Plot areas of figures stacked in one column line up because all have the same fixed left and right border; give
    `min_border_left=…` for another. `options` are those of `bokeh.plotting.figure`.
    """
    fig = figure(tools=tools, title=title, **{**FIGURE_DEFAULTS, **options})
    fig.toolbar.logo = None
    fig.toolbar.autohide = True
    for axis in fig.axis:
        axis.axis_label_standoff = 6
        axis.major_tick_in = 0
        axis.minor_tick_line_color = None
    return fig


def black_field(fig: figure) -> None:
    """Keep the plot area black in the light theme too (radiographs are read on black)."""
    fig.add_layout(BoxAnnotation(fill_color="#000000", fill_alpha=1.0, line_color=None, level="image"))


def cursor_span(dimension: str, *, color: str = CURSOR, width: float = 1.5) -> Span:
    """A cursor line, "height" for a vertical and "width" for a horizontal one, hidden until it is moved.

    It is moved by JavaScript and not synchronized: a synchronized one sends every mouse move to the server.
    """
    return Span(
        dimension=dimension,
        location=0,
        line_color=color,
        line_width=width,
        visible=False,
        syncable=False,
        level="overlay",
    )


def color_bar(mapper: LinearColorMapper, title: str, **options: Any) -> ColorBar:
    """A slim color bar whose title carries the unit."""
    return ColorBar(
        color_mapper=mapper,
        title=title,
        width=BAR,
        padding=4,
        label_standoff=5,
        title_standoff=6,
        major_tick_in=0,
        border_line_color=None,
        **options,
    )
