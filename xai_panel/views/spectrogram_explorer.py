"""The Audio page's plots: waveform, spectrogram under the chosen map, profiles of all maps, one cursor through them.

Everything that a person does to look at what is already there (choose a map, opacity, sign, cursor, zoom, play) happens
in the browser. The server is asked for a new view of the waveform and the spectrogram after zooming, and for new maps.
"""

from __future__ import annotations

import html
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import panel as pn
import panel_material_ui as pmui
import param
import xarray as xr
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
from xai_panel.views.maps import MapStyle, style_of
from xai_panel.views.palettes import DIVERGING, GRAY, PLAYHEAD, SEQUENTIAL, SIGNS, TOWARD, css_gradient, palette
from xai_panel.views.player import Player, playable, wav_bytes
from xai_panel.views.session import EXPLAIN_SECONDS, Session
from xai_panel.views.theme import SIDE, cursor_span, new_figure
from xai_panel.views.widgets import MapList, css, html_pane, map_entries, readout

_JS = Path(__file__).parent / "js"

FIRST = "grad-cam"  # the map that is laid over the spectrogram unless the person chooses another
MAP_COLUMNS = 600
PREFETCH_SECONDS = 60.0  # sound of shorter recordings is sent before it is asked for
WAVE_COLOR = "#4f86a8"
BAND_COLOR = "#8a8f98"
LOWEST, HIGHEST = 20.0, 8000.0  # Hz: the band the detector hears

_PLAIN = {"& .MuiToggleButton-root, & .MuiButton-root": {"textTransform": "none", "py": "3px"}}
_SMALL = {"& .MuiTypography-root, & .MuiFormLabel-root": {"fontSize": "13px"}}


class SpectrogramExplorer(pn.viewable.Viewer):
    """Waveform, spectrogram, maps and profiles of the session's recording.

    `method`, `opacity`, `sign` and `scale` may be set from Python, too; `readout` is the line of cursor read-outs.
    """

    method = param.String(default="", doc="Id of the map over the spectrogram, empty before the first is ready.")
    opacity = param.Number(default=0.75, bounds=(0, 1))
    sign = param.Selector(default="both", objects=list(SIGNS), doc="Which part of a signed map is shown.")
    scale = param.Selector(default="mel", objects=list(sg.SCALES), doc="Frequency axis.")

    def __init__(self, session: Session, **params: Any) -> None:
        from xai_panel.methods import METHODS

        super().__init__(**params)
        self.session = session
        self._prefix = f"xai-{uuid.uuid4().hex[:8]}"
        self._preferred = FIRST
        self._envelope: sg.Envelope | None = None
        self._top = 0.0
        self._drawn = 0  # grows with each signal: late pictures of an older one are dropped
        self._refreshing = False
        self._stale = False
        self._quiet = False  # the view is being set by us, its pictures come with it
        self._relabel = False
        self._shown_interval: tuple[float, float] | None = None
        self._methods = list(METHODS.values())
        self._sent: dict[str, dict[str, Any]] = {}  # method id → row of `lines`, for the maps that the browser has
        self._build_models()
        self._build_figures()
        self._build_controls()
        self._connect()
        self._layout = self._compose()
        self._watch()
        self._show_signal()
        self._show_maps()

    def __panel__(self) -> pn.viewable.Viewable:
        return self._layout

    # models --------------------------------------------------------------------------------------------------------

    def _build_models(self) -> None:
        """Data sources; those that only the browser changes are not synchronized."""
        # Set by the browser alone: were Python to set it too, an answer on its way could undo the latest choice.
        choices = {"method": [self.method], "opacity": [self.opacity], "sign": [self.sign]}
        self.state = ColumnDataSource(data=choices, syncable=False)
        self.axes = ColumnDataSource(data={"scale": [self.scale], "low": [0.0], "high": [0.0]}, syncable=False)
        self.waveform = ColumnDataSource(data={"t": [], "y": []})
        self.spectrum = ColumnDataSource(data=_no_picture())
        self.maps = ColumnDataSource(data=_no_maps(method.id for method in self._methods), syncable=False)
        self.lines = ColumnDataSource(data={name: [] for name in _LINE_COLUMNS}, syncable=False)
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

    def _build_figures(self) -> None:
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
            FIRST,
            x="x",
            y="y",
            dw="dw",
            dh="dh",
            source=self.maps,
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
            title="Time profiles: mean over frequency, each divided by its largest magnitude",
        )
        self.spectral = new_figure(
            width=SIDE,
            sizing_mode="stretch_height",
            min_height=240,
            min_border_left=8,
            x_range=(-1.08, 1.08),
            y_range=self.y_range,
            title="Mean over time, normalized",
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
            head.name = f"{self._prefix}-playhead-{name}"
            fig.add_layout(cursor)
            fig.add_layout(head)
        self.picture.add_layout(self.levels[0])
        self.spectral.add_layout(self.levels[1])
        self.selection = BoxAnnotation(
            name=f"{self._prefix}-selection",
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

    def _build_controls(self) -> None:
        self.readout = readout()
        self.bars = Div(text="", tags=[""], width=SIDE, height=104, margin=0, stylesheets=[css("bars")], syncable=False)
        self.list = MapList(
            sizing_mode="fixed", width=SIDE - 8, height=196, margin=(2, 0, 0, 8), styles={"overflow": "auto"}
        )
        self.player = Player(prefix=self._prefix, margin=(0, 0, 0, 8), sizing_mode="fixed", width=440, height=36)
        self.opacity_slider = pmui.FloatSlider(
            label="Opacity",
            start=0,
            end=1,
            step=0.05,
            value=self.opacity,
            width=120,
            size="small",
            margin=(0, 10),
            sx=_SMALL,
        )
        self.sign_choice = pmui.RadioButtonGroup(
            options={sign.capitalize(): sign for sign in SIGNS}, value=self.sign, size="small", margin=(6, 6), sx=_PLAIN
        )
        self.scale_choice = pmui.RadioButtonGroup(
            options={"Mel": "mel", "Linear": "linear"}, value=self.scale, size="small", margin=(6, 6), sx=_PLAIN
        )
        self.note = html_pane("", css("note"), visible=False)
        self.note.margin = (2, 12)
        self.explain_selection = pmui.Button(
            label="Explain the selection",
            icon="center_focus_strong",
            size="small",
            variant="outlined",
            visible=False,
            disabled=True,
            margin=(4, 6),
        )

    def _connect(self) -> None:
        """What happens in the browser alone."""
        show = CustomJS(
            code=(_JS / "show_map.js").read_text(encoding="utf-8"),
            args={
                "state": self.state,
                "lines": self.lines,
                "maps": self.maps,
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
        for widget, name, value in (
            (self.list, "method", "source.value"),
            (self.opacity_slider, "opacity", "source.value"),
            (self.sign_choice, "sign", "source.value.toLowerCase()"),  # the browser knows the title, not the value
        ):
            code = f"state.data = {{...state.data, {name}: [{value}]}}"
            widget.jscallback(value=code, args={"state": self.state})

        self._cursor = CustomJS(
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
            fig.js_on_event(MouseMove, self._cursor)
            fig.js_on_event(Tap, seek)
            fig.js_on_event(DoubleTap, whole)
        hide = CustomJS(args={"levels": self.levels}, code="for (const level of levels) { level.visible = false }")
        self.picture.js_on_event(MouseLeave, hide)
        self.wave.js_on_event(SelectionGeometry, select)

    def _compose(self) -> pn.Column:
        def pane(model: Any, **options: Any) -> pn.pane.Bokeh:
            return pn.pane.Bokeh(model, **{"sizing_mode": "stretch_width", "margin": 0, **options})

        def row(left: Any, right: Any, **options: Any) -> pn.Row:
            return pn.Row(left, right, **{"sizing_mode": "stretch_width", "margin": 0, **options})

        controls = pn.FlexBox(
            self.player,
            pn.Row(
                self.explain_selection,
                self.scale_choice,
                self.sign_choice,
                self.opacity_slider,
                margin=0,
                styles={"align-items": "center"},
            ),
            justify_content="space-between",
            align_items="center",
            sizing_mode="stretch_width",
            margin=(0, 8),
        )
        self._overview_row = row(pane(self.overview, height=74), pn.Spacer(width=SIDE), visible=False)
        return pn.Column(
            controls,
            self.note,
            self._overview_row,
            row(pane(self.wave, height=104), pane(self.bars, sizing_mode="fixed", width=SIDE, height=104)),
            row(
                pane(self.picture, sizing_mode="stretch_both", min_height=240),
                pane(self.spectral, sizing_mode="stretch_height", width=SIDE, min_height=240),
                sizing_mode="stretch_both",
                min_height=240,
            ),
            row(pane(self.profile, height=196), self.list),
            sizing_mode="stretch_both",
            margin=(0, 12, 0, 0),
        )

    # what follows what ---------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        session = self.session
        session.param.watch(lambda *_: self._show_signal(), "signal")
        session.param.watch(lambda *_: self._show_maps(), ["results", "methods", "state"])
        session.param.watch(lambda *_: self._show_scores(), ["prediction", "interval"])
        self.list.param.watch(self._chosen, "value")
        self.opacity_slider.param.watch(lambda event: self.param.update(opacity=event.new), "value")
        self.sign_choice.param.watch(lambda event: self.param.update(sign=event.new), "value")
        self.scale_choice.param.watch(lambda event: self.param.update(scale=event.new), "value")
        self.player.param.watch(lambda *_: self._send_sound(), "wanted")
        self.player.param.watch(lambda event: self._selected(event.new), "selection")
        self.explain_selection.on_click(lambda _event: session.set_interval(*self.player.selection))
        for name in ("start", "end"):
            self.x_range.on_change(name, lambda attr, old, new: self._refresh())
        self.param.watch(lambda event: self.list.param.update(value=event.new), "method")
        self.param.watch(lambda event: self.opacity_slider.param.update(value=event.new), "opacity")
        self.param.watch(lambda event: self.sign_choice.param.update(value=event.new), "sign")
        self.param.watch(lambda *_: self._rescale(), "scale")

    def _chosen(self, event: Any) -> None:
        if event.new != self.method:  # by the person; a choice of ours sets `method` first
            self._preferred = event.new
            self.method = event.new

    def _selected(self, selection: list[float]) -> None:
        self.explain_selection.disabled = selection[1] <= selection[0]

    # the signal ----------------------------------------------------------------------------------------------------

    @property
    def band(self) -> tuple[float, float]:
        """Frequencies [Hz] that are shown: the detector's band, or up to half the sampling rate when that is lower."""
        rate = float(self.session.signal.attrs["sampling_rate"])
        return LOWEST, min(HIGHEST, rate / 2)

    def _show_signal(self) -> None:
        signal = self.session.signal
        self._drawn += 1
        if signal is None or signal.dims != ("time",):
            return
        drawn, band, scale = self._drawn, self.band, self.scale
        wave, rate, start = sg.samples(signal)
        view = (start, start + wave.size / rate)

        def work() -> tuple[sg.Envelope, float, dict[str, Any], sg.Picture]:
            envelope = sg.Envelope(wave, rate, start)
            top = sg.loudest(wave, rate)
            return (
                envelope,
                top,
                envelope.view(*view),
                sg.spectrogram(wave, rate, view, band, scale, top=top, start=start),
            )

        def done(result: tuple[sg.Envelope, float, dict[str, Any], sg.Picture]) -> None:
            if drawn != self._drawn:
                return
            self._envelope, self._top, line, picture = result
            peak = 1.05 * self._envelope.peak
            self._quiet = True
            # Bounds first: the browser clips a range to the bounds it has at that moment.
            self.x_range.update(bounds=view, min_interval=0.02, start=view[0], end=view[1])
            self._quiet = False
            self.wave.y_range.update(start=-peak, end=peak)
            self.wave.yaxis.ticker = FixedTicker(ticks=_round_ticks(self._envelope.peak))
            self.waveform.data = line
            self._show_truth(peak)
            self._show_frequencies()
            self._show_picture(picture)
            self._show_scores()

        self.session.background(work, done)
        self._offer_sound()

    def _show_truth(self, peak: float) -> None:
        """Known answer of a sample: a strip along the bottom of the waveform."""
        intervals = _intervals(self.session.sample)
        count = len(intervals)
        self.truth.data = {
            "left": [a for a, _ in intervals],
            "right": [b for _, b in intervals],
            "bottom": [-peak] * count,
            "top": [-0.9 * peak] * count,
            "text": ["known answer: spoofed"] * count,
        }

    def _show_frequencies(self) -> None:
        low, high = sg.position(self.band, self.scale)
        self.y_range.update(start=float(low), end=float(high))
        labels = sg.ticks(*self.band, self.scale)
        for axis, grid in ((self.picture.yaxis, self.picture.ygrid), (self.spectral.yaxis, self.spectral.ygrid)):
            axis.ticker = FixedTicker(ticks=list(labels))
            grid.ticker = FixedTicker(ticks=list(labels))
            axis.major_label_overrides = labels

    def _show_picture(self, picture: sg.Picture) -> None:
        self.spectrum.data = {
            "image": [picture.image],
            "x": [picture.x],
            "y": [picture.y],
            "dw": [picture.width],
            "dh": [picture.height],
        }
        self.axes.data = {"scale": [self.scale], "low": [picture.low], "high": [picture.high]}
        self.bars.tags = [_bar("Level [dBFS]", GRAY, f"{_signed(picture.low)}", f"{_signed(picture.high)}")]

    def _refresh(self) -> None:
        """Draw what is in view again, at the resolution of the screen; one at a time, the last one wins."""
        if self._envelope is None or self._quiet:
            return
        if self._refreshing:
            self._stale = True
            return
        envelope, drawn, band, scale, top = self._envelope, self._drawn, self.band, self.scale, self._top
        view = (float(self.x_range.start), float(self.x_range.end))
        self._refreshing, self._stale = True, False

        def work() -> tuple[dict[str, Any], sg.Picture]:
            picture = sg.spectrogram(envelope.wave, envelope.rate, view, band, scale, top=top, start=envelope.start)
            return envelope.view(*view), picture

        def done(result: tuple[dict[str, Any], sg.Picture]) -> None:
            self._refreshing = False
            if drawn == self._drawn and scale == self.scale:
                self.waveform.data, picture = result
                self._show_picture(picture)
            if self._stale:
                self._refresh()

        self.session.background(work, done)

    def _rescale(self) -> None:
        self.scale_choice.value = self.scale
        if self._envelope is not None:
            self._show_frequencies()
            self._sent, self._relabel = {}, True
            self._show_maps()
            self._refresh()

    # maps ----------------------------------------------------------------------------------------------------------

    def _show_maps(self) -> None:
        session = self.session
        methods = {method.id: method for method in self._methods}
        results = {id: dataset for id, dataset in session.results.items() if "frequency" in dataset.dims}
        if not set(self._sent) <= set(results):
            self._sent = {}
            self.maps.data = _no_maps(methods)
        for id, dataset in results.items():
            if id not in self._sent:
                self._sent[id] = self._send_map(id, dataset)
        if list(self.lines.data["id"]) != list(self._sent) or self._relabel:
            self._relabel = False
            self.lines.data = {name: [row[name] for row in self._sent.values()] for name in _LINE_COLUMNS}
        self.list.param.update(
            entries=map_entries(list(methods.values()), session.methods, results, busy=session.busy),
            placeholder="Maps appear here as they are ready" if session.model_problem == "" else "No classifier",
        )
        if self._preferred in results:
            self.method = self._preferred
        elif self.method not in results:
            self.method = next(iter(results), "")

    def _send_map(self, id: str, dataset: xr.Dataset) -> dict[str, Any]:
        """Send a map to the browser; returns the row of `lines` that belongs to it."""
        style = style_of(dataset)
        attribution = dataset["attribution"].isel(method=0).transpose("frequency", "time")
        time = attribution["time"].values
        hop = float(time[1] - time[0]) if time.size > 1 else self.session.duration
        image, step = sg.quantize(sg.shrink(sg.map_rows(attribution, self.band, self.scale), MAP_COLUMNS))
        low, high = sg.position(self.band, self.scale)
        extent = {"x": float(time[0]) - hop / 2, "y": low, "dw": hop * time.size, "dh": high - low}
        if any(self.maps.data[name][0] != value for name, value in extent.items()):
            self.maps.data = {**self.maps.data, **{name: [value] for name, value in extent.items()}, id: [image]}
        else:
            self.maps.data[id] = [image]
        profiles = sg.profiles(attribution)
        target = str(dataset.attrs.get("target_label", self.session.target_label))
        return {
            "id": id,
            "title": style.title,
            "units": style.units,
            "signed": style.signed,
            "step": step,
            "reach": style.high / step,
            "color": style.color,
            "dash": style.dash,
            "width": 1.0,
            "alpha": 0.4,
            "t": time,
            "p": sg.normalized(profiles["time"]),
            "f": sg.position(attribution["frequency"].values, self.scale),
            "q": sg.normalized(profiles["frequency"]),
            "bar": _map_bar(style, target),
        }

    # the verdict of each window --------------------------------------------------------------------------------------

    def _show_scores(self) -> None:
        session = self.session
        prediction, interval = session.prediction, session.interval
        several = prediction is not None and len(prediction.window_times) > 1
        self._overview_row.visible = several
        for box in self.explained:
            box.visible = interval is not None
            if interval is not None:
                box.update(left=interval[0], right=interval[1])
        self.explain_selection.visible = session.duration > EXPLAIN_SECONDS
        self.note.visible = interval is not None
        if session.signal is None or prediction is None:
            return
        start = float(session.signal["time"][0])
        self.overview.x_range.update(start=start, end=start + session.duration)
        if several:
            positive = session.card.positive
            self.overview.title.text = f"Score of each window: probability of {session.card.labels[positive]}"
            centers = prediction.window_times.mean(axis=1)
            middle = (centers[:-1] + centers[1:]) / 2
            self.scores.data = {
                "left": np.concatenate([[start], middle]),
                "right": np.concatenate([middle, [start + session.duration]]),
                "p": prediction.window_probabilities[:, positive],
            }
        if interval is not None:
            self.note.object = (
                f"<div>At most {EXPLAIN_SECONDS:.0f} s are explained at once, now {_clock(interval[0])}–"
                f"{_clock(interval[1])} of {_clock(session.duration)} (the rest is shaded). Drag over the waveform to "
                "select another stretch; double-click to see all.</div>"
            )
            if interval != self._shown_interval:
                self.x_range.update(start=interval[0], end=interval[1])
        self._shown_interval = interval

    # the sound -----------------------------------------------------------------------------------------------------

    def _offer_sound(self) -> None:
        signal = self.session.signal
        start = float(signal["time"][0])
        self.player.param.update(sound=b"", start=start, duration=self.session.duration, selection=[0.0, 0.0])
        self.selection.update(visible=False, left=0, right=0)
        if self.session.duration <= PREFETCH_SECONDS:
            self._send_sound()

    def _send_sound(self) -> None:
        drawn, signal, interval = self._drawn, self.session.signal, self.session.interval
        if signal is None:
            return

        def work() -> tuple[float, float, bytes]:
            piece = playable(signal, interval)
            seconds = piece.sizes["time"] / float(piece.attrs["sampling_rate"])
            return float(piece["time"][0]), seconds, wav_bytes(piece)

        def done(result: tuple[float, float, bytes]) -> None:
            if drawn == self._drawn:
                start, seconds, sound = result
                self.player.param.update(start=start, duration=seconds, sound=sound)

        self.session.background(work, done)


_LINE_COLUMNS = (
    "id", "title", "units", "signed", "step", "reach", "color", "dash", "width", "alpha", "t", "p", "f", "q", "bar",
)  # fmt: skip


def _no_picture() -> dict[str, list[Any]]:
    return {"image": [np.zeros((1, 1), np.uint8)], "x": [0.0], "y": [0.0], "dw": [1.0], "dh": [1.0]}


def _no_maps(methods: Iterable[str]) -> dict[str, list[Any]]:
    """A column for every method from the start, so that the glyph that shows one never names a missing column."""
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


def _intervals(sample: Any) -> list[tuple[float, float]]:
    """Intervals [s] of a sample's known answer; none for an upload."""
    truth = getattr(sample, "truth", None) or {}
    return [(float(a), float(b)) for a, b in truth.get("intervals", [])]


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


def _map_bar(style: MapStyle, target: str) -> str:
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


def _clock(seconds: float) -> str:
    minutes, rest = divmod(seconds, 60)
    return f"{int(minutes)}:{rest:04.1f}"
