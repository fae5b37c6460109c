"""The Audio page's plots: waveform, spectrogram under the chosen map, profiles of all maps, one cursor through them.

Everything that a person does to look at what is already there (choose a map, opacity, sign, cursor, zoom, play) happens
in the browser. The server is asked for a new view of the waveform and the spectrogram after zooming, and for new maps.
"""

from __future__ import annotations

import uuid
from typing import Any

import numpy as np
import panel as pn
import panel_material_ui as pmui
import param
import xarray as xr

import xai_panel.explanation.accessor  # noqa: F401  # registers .xai
from xai_panel.views import spectrogram as sg
from xai_panel.views.maps import style_of
from xai_panel.views.palettes import SIGNS
from xai_panel.views.player import Player, playable, wav_bytes
from xai_panel.views.session import EXPLAIN_SECONDS, Session
from xai_panel.views.spectrogram_plots import Plots, map_bar
from xai_panel.views.theme import SIDE
from xai_panel.views.widgets import MapList, css, html_pane, map_entries

FIRST = "grad-cam"  # the map that is laid over the spectrogram unless the person chooses another
MAP_COLUMNS = 600
PREFETCH_SECONDS = 60.0  # sound of shorter recordings is sent before it is asked for, once the maps are there
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
        self._sound_due = False
        self._shown_interval: tuple[float, float] | None = None
        self._methods = list(METHODS.values())
        self._sent: dict[str, dict[str, Any]] = {}  # method id → row of `lines`, for the maps that the browser has
        choices = {"method": self.method, "opacity": self.opacity, "sign": self.sign}
        self.plots = Plots(self._prefix, [method.id for method in self._methods], choices)
        self.readout = self.plots.readout
        self._build_controls()
        self._layout = self._compose()
        self._watch()
        self._show_signal()
        self._show_maps()

    def __panel__(self) -> pn.viewable.Viewable:
        return self._layout

    def _build_controls(self) -> None:
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
        for widget, name, value in (
            (self.list, "method", "source.value"),
            (self.opacity_slider, "opacity", "source.value"),
            (self.sign_choice, "sign", "source.value.toLowerCase()"),  # the browser knows the title, not the value
        ):
            code = f"state.data = {{...state.data, {name}: [{value}]}}"
            widget.jscallback(value=code, args={"state": self.plots.state})

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
        self._overview_row = row(pane(self.plots.overview, height=74), pn.Spacer(width=SIDE), visible=False)
        return pn.Column(
            controls,
            self.note,
            self._overview_row,
            row(pane(self.plots.wave, height=104), pane(self.plots.bars, sizing_mode="fixed", width=SIDE, height=104)),
            row(
                pane(self.plots.picture, sizing_mode="stretch_both", min_height=240),
                pane(self.plots.spectral, sizing_mode="stretch_height", width=SIDE, min_height=240),
                sizing_mode="stretch_both",
                min_height=240,
            ),
            row(pane(self.plots.profile, height=196), self.list),
            sizing_mode="stretch_both",
            margin=(0, 12, 0, 0),
        )

    # what follows what ---------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        session = self.session
        session.param.watch(lambda *_: self._show_signal(), "signal")
        session.param.watch(lambda *_: self._show_maps(), ["results", "methods", "state"])
        session.param.watch(lambda *_: self._prefetch_sound(), "state")
        session.param.watch(lambda *_: self._show_scores(), ["prediction", "interval"])
        self.list.param.watch(self._chosen, "value")
        self.opacity_slider.param.watch(lambda event: self.param.update(opacity=event.new), "value")
        self.sign_choice.param.watch(lambda event: self.param.update(sign=event.new), "value")
        self.scale_choice.param.watch(lambda event: self.param.update(scale=event.new), "value")
        self.player.param.watch(lambda *_: self._send_sound(), "wanted")
        self.player.param.watch(lambda event: self._selected(event.new), "selection")
        self.explain_selection.on_click(lambda _event: session.set_interval(*self.player.selection))
        for name in ("start", "end"):
            self.plots.x_range.on_change(name, lambda attr, old, new: self._refresh())
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
            self._quiet = True
            self.plots.show_range(view, self._envelope.peak)
            self._quiet = False
            self.plots.waveform.data = line
            self.plots.show_truth(_intervals(self.session.sample))
            self.plots.show_frequencies(band, scale)
            self.plots.show_picture(picture, scale)
            self._show_scores()

        self.session.background(work, done)
        self._offer_sound()

    def _refresh(self) -> None:
        """Draw what is in view again, at the resolution of the screen; one at a time, the last one wins."""
        if self._envelope is None or self._quiet:
            return
        if self._refreshing:
            self._stale = True
            return
        envelope, drawn, band, scale, top = self._envelope, self._drawn, self.band, self.scale, self._top
        view = (float(self.plots.x_range.start), float(self.plots.x_range.end))
        self._refreshing, self._stale = True, False

        def work() -> tuple[dict[str, Any], sg.Picture]:
            picture = sg.spectrogram(envelope.wave, envelope.rate, view, band, scale, top=top, start=envelope.start)
            return envelope.view(*view), picture

        def done(result: tuple[dict[str, Any], sg.Picture]) -> None:
            self._refreshing = False
            if drawn == self._drawn and scale == self.scale:
                self.plots.waveform.data, picture = result
                self.plots.show_picture(picture, scale)
            if self._stale:
                self._refresh()

        self.session.background(work, done)

    def _rescale(self) -> None:
        self.scale_choice.value = self.scale
        if self._envelope is not None:
            self.plots.show_frequencies(self.band, self.scale)
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
            self.plots.clear_maps()
        for id, dataset in results.items():
            if id not in self._sent:
                self._sent[id] = self._send_map(id, dataset)
        if list(self.plots.lines.data["id"]) != list(self._sent) or self._relabel:
            self._relabel = False
            self.plots.show_lines(self._sent.values())
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
        self.plots.show_map(id, image, extent)
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
            "p": sg.normalized(dataset.xai.profile("time").values[0]),
            "f": sg.position(attribution["frequency"].values, self.scale),
            "q": sg.normalized(dataset.xai.profile("frequency").values[0]),
            "bar": map_bar(style, target),
        }

    # the verdict of each window --------------------------------------------------------------------------------------

    def _show_scores(self) -> None:
        session = self.session
        prediction, interval = session.prediction, session.interval
        several = prediction is not None and len(prediction.window_times) > 1
        self._overview_row.visible = several
        for box in self.plots.explained:
            box.visible = interval is not None
            if interval is not None:
                box.update(left=interval[0], right=interval[1])
        self.explain_selection.visible = session.duration > EXPLAIN_SECONDS
        self.note.visible = interval is not None
        if session.signal is None or prediction is None:
            return
        start = float(session.signal["time"][0])
        self.plots.overview.x_range.update(start=start, end=start + session.duration)
        if several:
            positive = session.card.positive
            self.plots.overview.title.text = f"Score of each window: probability of {session.card.labels[positive]}"
            centers = prediction.window_times.mean(axis=1)
            middle = (centers[:-1] + centers[1:]) / 2
            self.plots.scores.data = {
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
                self.plots.x_range.update(start=interval[0], end=interval[1])
        self._shown_interval = interval

    # the sound -----------------------------------------------------------------------------------------------------

    def _offer_sound(self) -> None:
        signal = self.session.signal
        start = float(signal["time"][0])
        self.player.param.update(sound=b"", start=start, duration=self.session.duration, selection=[0.0, 0.0])
        self.plots.selection.update(visible=False, left=0, right=0)
        self._sound_due = self.session.duration <= PREFETCH_SECONDS
        self._prefetch_sound()

    def _prefetch_sound(self) -> None:
        """Send the sound when the maps no longer need the machine."""
        if self._sound_due and not self.session.busy:
            self._send_sound()

    def _send_sound(self) -> None:
        self._sound_due = False
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


def _intervals(sample: Any) -> list[tuple[float, float]]:
    """Intervals [s] of a sample's known answer; none for an upload."""
    truth = getattr(sample, "truth", None) or {}
    return [(float(a), float(b)) for a, b in truth.get("intervals", [])]


def _clock(seconds: float) -> str:
    minutes, rest = divmod(seconds, 60)
    return f"{int(minutes)}:{rest:04.1f}"
