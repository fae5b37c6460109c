"""The Audio page's figures, what they draw, and what happens in them without the server.

`Plots` knows Bokeh and nothing of sessions: it is given pictures, maps and profiles and draws them.
"""

from __future__ import annotations

import html
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from bokeh.events import DoubleTap, MouseLeave, MouseMove, SelectionGeometry, Tap
from bokeh.models import (
    BoxAnnotation,
    BoxSelectTool,
    ColumnDataSource,
    CustomJS,
    Div,
    FixedTicker,
    LinearColorMapper,
    PanTool,
    Range1d,
    WheelZoomTool,
)
from bokeh.plotting import figure

from xai_panel.views import spectrogram as sg
from xai_panel.views.maps import MapStyle
from xai_panel.views.palettes import DIVERGING, GRAY, PLAYHEAD, SEQUENTIAL, SIGNS, TOWARD, css_gradient, palette
from xai_panel.views.theme import SIDE, cursor_span, new_figure
from xai_panel.views.widgets import css, readout

_JS = Path(__file__).parent / "js"

WAVE_COLOR = "#4f86a8"
BAND_COLOR = "#8a8f98"


class Plots:
    """Figures on one time axis, their data sources and their behavior in the browser.

    Parameters
    ----------
    prefix: of the names by which the player finds playheads and selection
    ids: of all methods that may send a map
    choices: `method`, `opacity` and `sign` to start with

    Attributes
    ----------
    overview, wave, picture, profile: score of each window; waveform; spectrogram with a map; time profiles
    spectral: frequency profiles, on the frequency axis of `picture`
    state, axes: what the browser chose; what the server drew (scale, range of levels)
    waveform, spectrum, maps, lines, scores, truth: data sources; a row of `lines` is one map (`LINE_COLUMNS`)
    shown: the one of `maps` that lies over the spectrogram
    readout, bars: cursor read-outs and color bars
    """

    def __init__(self, prefix: str, ids: list[str], choices: dict[str, Any]) -> None:
        self.ids = ids
        self.readout = readout()
        self.bars = Div(text="", tags=[""], width=SIDE, height=104, margin=0, stylesheets=[css("bars")], syncable=False)
        self._build_sources(choices)
        self._build_figures(prefix)
        self._connect()

    def _build_sources(self, choices: dict[str, Any]) -> None:
        """Data sources; those that only the browser changes are not synchronized."""
        # Set by the browser alone: were Python to set it too, an answer on its way could undo the latest choice.
        self.state = ColumnDataSource(data={name: [value] for name, value in choices.items()}, syncable=False)
        self.axes = ColumnDataSource(data={"scale": ["mel"], "low": [0.0], "high": [0.0]}, syncable=False)
        self.waveform = ColumnDataSource(data={"t": [], "y": []})
        self.spectrum = ColumnDataSource(data=_no_picture())
        self.maps = ColumnDataSource(data=_no_maps(self.ids), syncable=False)
        self.shown = ColumnDataSource(data=_no_picture(), syncable=False)
        self.lines = ColumnDataSource(data={name: [] for name in LINE_COLUMNS}, syncable=False)
        self.scores = ColumnDataSource(data={"left": [], "right": [], "p": []})
        self.truth = ColumnDataSource(data={name: [] for name in ("left", "right", "bottom", "top", "text")})
        self.x_range = Range1d(0, 1, bounds=(0, 1))
        self.y_range = Range1d(0, 1)
        self.mapper = LinearColorMapper(
            palette=palette(signed=True, transparent=True),
            low=-1,
            high=1,
            nan_color="#00000000",
            syncable=False,
        )

    def _build_figures(self, prefix: str) -> None:
        self.overview = new_figure(height=74, y_range=(0, 1), x_range=(0, 1), title="Score of each window")
        self.overview.quad(
            left="left",
            right="right",
            top="p",
            bottom=0,
            source=self.scores,
            fill_color=TOWARD,
            fill_alpha=0.5,
            line_color=None,
        )
        self.overview.yaxis.ticker = FixedTicker(ticks=[0, 1])
        self.overview.ygrid.ticker = FixedTicker(ticks=[0.5])
        self.explained = [
            BoxAnnotation(inverted=True, fill_color=BAND_COLOR, fill_alpha=0.3, visible=False) for _ in range(2)
        ]
        self.overview.add_layout(self.explained[0])

        self.wave = self._time_figure(height=104, tools=[_zoom(), BoxSelectTool(dimensions="width", overlay=_no_box())])
        self.wave.line("t", "y", source=self.waveform, line_color=WAVE_COLOR, line_width=1)
        self.wave.yaxis.axis_label = "Amplitude"
        self.wave.add_layout(self.explained[1])
        self.wave.quad(
            left="left",
            right="right",
            bottom="bottom",
            top="top",
            source=self.truth,
            fill_color=TOWARD,
            fill_alpha=0.85,
            line_color=None,
        )
        self.wave.text(
            x="left",
            y="top",
            text="text",
            source=self.truth,
            x_offset=4,
            y_offset=-2,
            text_font_size="11px",
            text_color=TOWARD,
        )
        self.wave.y_range = Range1d(-1, 1)

        self.picture = self._time_figure(
            tools=[_zoom(), PanTool(dimensions="width")],
            y_range=self.y_range,
            sizing_mode="stretch_both",
            min_height=240,
            title="Spectrogram",
        )
        self.picture.image(
            "image",
            x="x",
            y="y",
            dw="dw",
            dh="dh",
            source=self.spectrum,
            color_mapper=LinearColorMapper(palette=GRAY, low=0, high=sg.LEVELS),
        )
        self.overlay = self.picture.image(
            "image",
            x="x",
            y="y",
            dw="dw",
            dh="dh",
            source=self.shown,
            color_mapper=self.mapper,
            syncable=False,
        )
        self.overlay.visible = False
        self.overlay.syncable = False
        self.overlay.glyph.syncable = False
        self.picture.yaxis.axis_label = "Frequency [Hz]"

        self.profile = self._time_figure(
            tools=[_zoom(), PanTool(dimensions="width")],
            height=196,
            y_range=(-1.08, 1.08),
            title="Time profiles: sum over frequency, each divided by its largest magnitude",
        )
        self.spectral = new_figure(
            width=SIDE,
            sizing_mode="stretch_height",
            min_height=240,
            min_border_left=8,
            x_range=(-1.08, 1.08),
            y_range=self.y_range,
            title="Sum over time, normalized",
        )
        for fig, x, y in ((self.profile, "t", "p"), (self.spectral, "q", "f")):
            fig.multi_line(
                x, y, source=self.lines, line_color="color", line_dash="dash", line_width="width", line_alpha="alpha"
            )
        self.profile.yaxis.ticker = FixedTicker(ticks=[-1, -0.5, 0, 0.5, 1])
        self.profile.xaxis.axis_label = "Time [s]"
        self.spectral.xaxis.ticker = FixedTicker(ticks=[-1, 0, 1])
        self.spectral.yaxis.visible = False
        for fig in (self.picture, self.spectral):
            fig.min_border_bottom = 28
        self.wave.xaxis.visible = False

        figures = {"wave": self.wave, "picture": self.picture, "profile": self.profile}
        for name, fig in {**figures, "spectral": self.spectral, "overview": self.overview}.items():
            fig.name = name
        self.cursors = [cursor_span("height") for _ in figures]
        self.heads = [cursor_span("height", color=PLAYHEAD, width=2) for _ in figures]
        self.levels = [cursor_span("width"), cursor_span("width")]
        for (name, fig), cursor, head in zip(figures.items(), self.cursors, self.heads, strict=True):
            head.name = f"{prefix}-playhead-{name}"
            fig.add_layout(cursor)
            fig.add_layout(head)
        self.picture.add_layout(self.levels[0])
        self.spectral.add_layout(self.levels[1])
        self.selection = BoxAnnotation(
            name=f"{prefix}-selection",
            left=0,
            right=0,
            fill_color=PLAYHEAD,
            fill_alpha=0.15,
            line_color=PLAYHEAD,
            visible=False,
            syncable=False,
            level="overlay",
        )
        self.wave.add_layout(self.selection)

    def _time_figure(self, **options: Any) -> figure:
        tools = options.pop("tools")
        fig = new_figure(tools=tools, x_range=self.x_range, **options)
        fig.toolbar.active_scroll = tools[0]
        fig.toolbar.active_drag = tools[1]
        fig.yaxis.minor_tick_line_color = None
        return fig

    def _connect(self) -> None:
        """What happens in the browser alone: the chosen map, the cursor, seeking, selecting, zooming out."""
        show = CustomJS(
            code=(_JS / "show_map.js").read_text(encoding="utf-8"),
            args={
                "state": self.state,
                "lines": self.lines,
                "maps": self.maps,
                "shown": self.shown,
                "image": self.overlay,
                "mapper": self.mapper,
                "bars": self.bars,
                "palettes": {
                    **{sign: palette(signed=True, transparent=True, sign=sign) for sign in SIGNS},
                    "unsigned": palette(signed=False, transparent=True),
                    "nothing": ["#00000000"],
                },
            },
        )
        self.state.js_on_change("data", show)
        self.lines.js_on_change("data", show)
        cursor = CustomJS(
            code=(_JS / "cursor.js").read_text(encoding="utf-8"),
            args={
                "spans": self.cursors,
                "levels": self.levels,
                "spectrum": self.spectrum,
                "maps": self.maps,
                "lines": self.lines,
                "state": self.state,
                "axes": self.axes,
                "readout": self.readout,
                "picture": self.picture,
                "x_range": self.x_range,
            },
        )
        seek = CustomJS(args={"head": self.heads[0]}, code="if (isFinite(cb_obj.x)) { head.location = cb_obj.x }")
        whole = CustomJS(
            args={"range": self.x_range}, code="range.setv({start: range.bounds[0], end: range.bounds[1]})"
        )
        select = CustomJS(
            args={"box": self.selection, "range": self.x_range},
            code="""
            if (!cb_obj.final) { return }
            const [low, high] = range.bounds
            const left = Math.max(low, cb_obj.geometry.x0), right = Math.min(high, cb_obj.geometry.x1)
            box.setv({left, right, visible: right > left})
            box.tags = [left, right]
            """,
        )
        for fig in (self.wave, self.picture, self.profile):
            fig.js_on_event(MouseMove, cursor)
            fig.js_on_event(Tap, seek)
            fig.js_on_event(DoubleTap, whole)
        hide = CustomJS(args={"levels": self.levels}, code="for (const level of levels) { level.visible = false }")
        self.picture.js_on_event(MouseLeave, hide)
        self.wave.js_on_event(SelectionGeometry, select)

    # what is drawn --------------------------------------------------------------------------------------------------

    def show_range(self, view: tuple[float, float], peak: float) -> None:
        """All of a recording: its extent [s] and the range of its amplitude."""
        # Bounds first: the browser clips a range to the bounds it has at that moment.
        self.x_range.update(bounds=view, min_interval=0.02, start=view[0], end=view[1])
        self.wave.y_range.update(start=-1.05 * peak, end=1.05 * peak)
        self.wave.yaxis.ticker = FixedTicker(ticks=_round_ticks(peak))

    def show_truth(self, intervals: list[tuple[float, float]]) -> None:
        """Known answer of a sample: strips along the bottom of the waveform."""
        low, count = self.wave.y_range.start, len(intervals)
        self.truth.data = {
            "left": [a for a, _ in intervals],
            "right": [b for _, b in intervals],
            "bottom": [low] * count,
            "top": [0.9 * low] * count,
            "text": ["known answer: spoofed"] * count,
        }

    def show_frequencies(self, band: tuple[float, float], scale: str) -> None:
        """Frequency axes of a band [Hz] on a scale."""
        low, high = sg.position(band, scale)
        self.y_range.update(start=float(low), end=float(high))
        labels = sg.ticks(*band, scale)
        for axis, grid in ((self.picture.yaxis, self.picture.ygrid), (self.spectral.yaxis, self.spectral.ygrid)):
            axis.ticker = FixedTicker(ticks=list(labels))
            grid.ticker = FixedTicker(ticks=list(labels))
            axis.major_label_overrides = labels

    def show_picture(self, picture: sg.Picture, scale: str) -> None:
        """The spectrogram of what is in view, and its color bar."""
        self.spectrum.data = {
            "image": [picture.image],
            "x": [picture.x],
            "y": [picture.y],
            "dw": [picture.width],
            "dh": [picture.height],
        }
        self.axes.data = {"scale": [scale], "low": [picture.low], "high": [picture.high]}
        self.bars.tags = [_bar("Level [dBFS]", GRAY, f"{_signed(picture.low)}", f"{_signed(picture.high)}")]

    def clear_maps(self) -> None:
        """Forget all maps."""
        self.maps.data = _no_maps(self.ids)

    def show_map(self, id: str, image: np.ndarray, extent: dict[str, float]) -> None:
        """Send the steps of a map (rows, columns); `extent` is its x, y, dw, dh on the axes."""
        if any(self.maps.data[name][0] != value for name, value in extent.items()):
            self.maps.data = {**self.maps.data, **{name: [value] for name, value in extent.items()}, id: [image]}
        else:
            self.maps.data[id] = [image]

    def show_lines(self, rows: Iterable[dict[str, Any]]) -> None:
        """Profiles and everything else that the browser must know of each map."""
        rows = list(rows)
        self.lines.data = {name: [row[name] for row in rows] for name in LINE_COLUMNS}


LINE_COLUMNS = (
    "id", "title", "units", "signed", "step", "reach", "color", "dash", "width", "alpha", "t", "p", "f", "q", "bar",
)  # fmt: skip


def _no_picture() -> dict[str, list[Any]]:
    return {"image": [np.zeros((1, 1), np.uint8)], "x": [0.0], "y": [0.0], "dw": [1.0], "dh": [1.0]}


def _no_maps(methods: Iterable[str]) -> dict[str, list[Any]]:
    """A column for every method from the start: one more map is then one more column to send, not all of them."""
    blank = np.zeros((1, 1), np.int16)
    return {"x": [0.0], "y": [0.0], "dw": [1.0], "dh": [1.0], **{id: [blank] for id in methods}}


def _zoom() -> WheelZoomTool:
    return WheelZoomTool(dimensions="width")


def _no_box() -> BoxAnnotation:
    """The rubber band while a selection is drawn."""
    return BoxAnnotation(
        left="nan", right="nan", top="nan", bottom="nan", fill_color=PLAYHEAD, fill_alpha=0.15, line_color=PLAYHEAD,
        level="overlay", visible=False, syncable=False,
    )  # fmt: skip


def _signed(value: float, digits: int = 2) -> str:
    size = abs(value)
    text = f"{size:.0f}" if size >= 10 ** (digits - 1) else f"{size:.{digits}g}"
    return ("−" if value < 0 else "+" if value > 0 else "") + text


def _bar(title: str, colors: list[str], *labels: str) -> str:
    ends = "".join(f"<span>{html.escape(label)}</span>" for label in labels)
    return (
        f'<div class="bar"><div class="title" title="{html.escape(title)}">{html.escape(title)}</div>'
        f'<div class="colors" style="background:{css_gradient(colors)}"></div><div class="ticks">{ends}</div></div>'
    )


def map_bar(style: MapStyle, target: str) -> str:
    """Color bar of a map; its title carries the unit, its ends say which way they point."""
    if style.signed:
        return _bar(
            f"{style.title} [{style.units}]", DIVERGING,
            f"≤ {_signed(style.low)} away", "0", f"≥ {_signed(style.high)} → {target}",
        )  # fmt: skip
    return _bar(f"{style.title} [{style.units}], unsigned", SEQUENTIAL, "0", f"≥ {_signed(style.high)}")


def _round_ticks(peak: float) -> list[float]:
    """Three ticks of an amplitude axis: zero and a round value either side below the peak."""
    magnitude = 10.0 ** np.floor(np.log10(peak))
    top = float(max(m * magnitude for m in (1, 2, 5) if m * magnitude <= peak))
    return [-top, 0.0, top]
