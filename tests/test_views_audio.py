"""The Audio page without a browser: palettes, pictures of recordings, the session, the explorer's data."""

from __future__ import annotations

import io
import re
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import maps_for_views
import numpy as np
import panel as pn
import pytest
import soundfile
import torch
import xarray as xr
from bokeh.document import Document
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from panel.io.state import set_curdoc

from xai_panel.engine.jobs import QueueFull
from xai_panel.models.backends.torch import TorchBackend
from xai_panel.models.card import Card
from xai_panel.models.classifier import Classifier, Prediction
from xai_panel.models.frontends import LogMel
from xai_panel.models.registry import ModelError
from xai_panel.signals.audio import waveform
from xai_panel.signals.synthetic import samples
from xai_panel.views import palettes, widgets
from xai_panel.views import spectrogram as sg
from xai_panel.views.palettes import AWAY, TOWARD
from xai_panel.views.player import MOST_BYTES, playable, wav_bytes
from xai_panel.views.session import DEFAULT_METHODS, Session, excerpt, most_telling
from xai_panel.views.shell import Shell
from xai_panel.views.spectrogram_explorer import SpectrogramExplorer

RATE = 16_000


def tone(seconds: float = 1.0, hertz: float = 1000.0, rate: float = RATE, peak: float = 1.0) -> xr.DataArray:
    t = np.arange(round(seconds * rate)) / rate
    wave = (peak * np.sin(2 * np.pi * hertz * t)).astype(np.float32)
    return waveform(wave, rate, source="tone.wav", digest="0" * 64)


# palettes


def alpha(colors: list[str]) -> np.ndarray:
    return np.array([int(color[7:9], 16) for color in colors])


def test_an_overlay_is_transparent_at_zero_and_grows_with_the_magnitude() -> None:
    both = alpha(palettes.overlay(palettes.DIVERGING, signed=True))
    middle = len(both) // 2
    assert both[middle] <= 2 and both[0] == both[-1] == 255
    assert (np.diff(both[middle:]) >= 0).all() and (np.diff(both[:middle]) <= 0).all()
    unsigned = alpha(palettes.overlay(palettes.SEQUENTIAL, signed=False))
    assert unsigned[0] == 0 and unsigned[-1] == 255 and (np.diff(unsigned) >= 0).all()


def test_one_sign_hides_the_other_half() -> None:
    toward = alpha(palettes.overlay(palettes.DIVERGING, signed=True, sign="toward"))
    away = alpha(palettes.overlay(palettes.DIVERGING, signed=True, sign="away"))
    half = len(toward) // 2
    assert not toward[:half].any() and toward[-1] == 255
    assert not away[half:].any() and away[0] == 255
    with pytest.raises(ValueError, match="both, toward, away"):
        palettes.overlay(palettes.DIVERGING, signed=True, sign="up")


def test_the_color_range_is_symmetric_robust_and_never_empty() -> None:
    values = np.linspace(-3, 1, 1001)
    assert palettes.value_range(values, signed=True) == pytest.approx((-2.98, 2.98), abs=0.01)
    assert palettes.value_range(values[values > 0], signed=False) == pytest.approx((0, 0.995), abs=0.01)
    spike = np.zeros(1000)
    spike[3] = 7.0
    assert palettes.value_range(spike, signed=False) == (0, 7)
    assert palettes.value_range(np.zeros(5), signed=True) == (-1, 1)
    assert palettes.value_range([np.nan, 2.0, -4.0], signed=True, share=1.0) == (-4, 4)


def test_every_method_has_its_own_line() -> None:
    from xai_panel.methods import METHODS

    assert set(palettes.METHOD_STYLES) == set(METHODS)
    assert len(set(palettes.METHOD_STYLES.values())) == len(METHODS)


# pictures


def test_the_mel_scale_has_slaneys_values() -> None:
    assert sg.mel([0, 200, 1000, 6400]) == pytest.approx([0, 3, 15, 42])


@given(st.floats(0, 24_000))
def test_hertz_undoes_mel(frequency: float) -> None:
    assert float(sg.hertz(sg.mel(frequency))) == pytest.approx(frequency, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("scale", sg.SCALES)
@pytest.mark.parametrize("frequency", [440.0, 1000.0, 3520.0])
def test_a_full_scale_sine_is_0_dbfs_in_its_own_row(scale: str, frequency: float) -> None:
    wave, rate, start = sg.samples(tone(hertz=frequency))
    picture = sg.spectrogram(wave, rate, (0, 1), (20, 8000), scale, top=0.0, start=start)
    column = picture.image[:, picture.image.shape[1] // 2]
    centers = sg.row_centers(20, 8000, scale)
    width = np.gradient(centers)[column.argmax()] + rate / sg.window_length(rate)
    assert abs(centers[column.argmax()] - frequency) <= width
    level = picture.low + column.max() / sg.LEVELS * (picture.high - picture.low)
    assert level == pytest.approx(0.0, abs=1.5)  # scalloping of a Hann window: at most 1.42 dB


def test_a_long_recording_is_shown_at_the_resolution_of_the_screen() -> None:
    wave = np.tile(sg.samples(tone(1.0))[0], 600)
    picture = sg.spectrogram(wave, RATE, (0, 600), (20, 8000), "mel", top=0.0, columns=300)
    assert picture.image.shape == (sg.ROWS, 300) and (picture.x, picture.width) == (0, 600)
    line = sg.Envelope(wave, RATE).view(0, 600, columns=300)
    assert line["y"].size == 600 and line["y"].max() == pytest.approx(1, abs=1e-3)


@settings(deadline=None, max_examples=60)
@given(
    hnp.arrays(np.float32, st.integers(50, 9000), elements=st.floats(-1, 1, width=32)),
    st.integers(3, 40),
    st.tuples(st.floats(0, 1), st.floats(0, 1)),
)
def test_an_envelope_touches_the_extremes_of_what_is_in_view(
    wave: np.ndarray, columns: int, ends: tuple[float, float]
) -> None:
    rate = 100.0
    t0, t1 = (end * wave.size / rate for end in sorted(ends))
    line = sg.Envelope(wave, rate).view(t0, t1, columns)
    inside = wave[int(np.floor(t0 * rate)) : int(np.ceil(t1 * rate)) + 1]
    assert line["y"].size <= 2 * columns + 2
    assert line["y"].max() >= inside.max() and line["y"].min() <= inside.min()
    assert (np.diff(line["t"]) >= 0).all()


def test_steps_of_a_sent_map_are_fine() -> None:
    values = np.random.default_rng(0).normal(size=(20, 30)).astype(np.float32)
    steps, unit = sg.quantize(values)
    assert np.abs(steps * unit - values).max() <= unit / 2 * 1.001 and unit < 2e-4
    assert sg.quantize(np.zeros((2, 2), np.float32))[1] == 1.0


def test_a_map_on_mel_bands_is_drawn_as_it_is_on_the_mel_axis() -> None:
    bands = LogMel().frequencies()
    values = np.random.default_rng(0).normal(size=(bands.size, 7)).astype(np.float32)
    attribution = xr.DataArray(values, dims=("frequency", "time"), coords={"frequency": bands, "time": np.arange(7.0)})
    drawn = sg.map_rows(attribution, (20, 8000), "mel", rows=bands.size)
    assert (drawn == values).mean() > 0.98
    linear = sg.map_rows(attribution, (20, 8000), "linear")
    row = np.abs(sg.row_centers(20, 8000, "linear") - 4000).argmin()
    assert (linear[row] == values[np.abs(bands - sg.row_centers(20, 8000, "linear")[row]).argmin()]).all()


def test_shrinking_a_map_keeps_its_mean() -> None:
    values = np.arange(60, dtype=np.float32).reshape(2, 30)
    small = sg.shrink(values, 10)
    assert small.shape == (2, 10) and small.mean() == pytest.approx(values.mean())
    assert small[0, 0] == pytest.approx(1.0)


# the sound


def test_the_player_gets_the_recording_as_it_is() -> None:
    signal = tone(0.5, rate=22_050, peak=0.5)
    wave, rate = soundfile.read(io.BytesIO(wav_bytes(signal)), dtype="float32")
    assert rate == 22_050 and np.abs(wave - signal.values).max() < 2**-15


def test_long_recordings_are_sent_within_bounds() -> None:
    minutes = waveform(np.zeros(44_100 * 300, np.float32) + 0.1, 44_100, source="a", digest="0" * 64)
    sent = playable(minutes)
    assert sent.attrs["sampling_rate"] == 16_000 and 2 * sent.size <= MOST_BYTES
    hour = waveform(np.zeros(16_000 * 3600, np.float32) + 0.1, 16_000, source="a", digest="0" * 64)
    sent = playable(hour, (60.0, 90.0))
    assert float(sent["time"][0]) == 60.0 and sent.sizes["time"] == 30 * 16_000


# the session


class Clock:
    """Runs what worker threads post when the test says so."""

    def __init__(self) -> None:
        self.calls: list[Callable[[], None]] = []
        self.arrived = threading.Condition()

    def schedule(self, call: Callable[[], None]) -> None:
        with self.arrived:
            self.calls.append(call)
            self.arrived.notify()

    def run_until(self, condition: Callable[[], bool], seconds: float = 20.0) -> None:
        while not condition():
            with self.arrived:
                assert self.arrived.wait_for(lambda: bool(self.calls), seconds), "nothing arrived in time"
                call = self.calls.pop(0)
            call()


class HandQueue:
    """A job queue that does what the test does by hand."""

    def __init__(self) -> None:
        self.jobs: list[Any] = []
        self.full = False

    def submit(self, user: str, model: Any, signal: xr.DataArray, methods: list[str], **rest: Any) -> Any:
        if self.full:
            raise QueueFull("2 of your requests are not finished")
        if (on_prediction := rest.get("on_prediction")) is not None:
            on_prediction(model.predict(signal))
        job = HandJob(signal, methods, rest)
        self.jobs.append(job)
        return job


class HandJob:
    def __init__(self, signal: xr.DataArray, methods: list[str], calls: dict[str, Any]) -> None:
        self.signal, self.methods, self.calls, self.cancelled = signal, methods, calls, False

    def cancel(self) -> None:
        self.cancelled = True


class Level(torch.nn.Module):
    """Logit of «spoof»: the mean level of the window above −40 dB, in units of 10 dB."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        z = (x.mean(dim=(1, 2, 3)) + 40.0) / 10.0
        return torch.stack([-z, z], dim=1)


def detector(id: str = "level", **fields: Any) -> Classifier:
    frontend = LogMel()
    card = Card(
        id, "Level", "Loud is spoof.", "audio", "torch", "test", ("bona fide", "spoof"), {"kind": "log-mel"},
        digest="1" * 64, caveat="Made for tests.", **fields,
    )  # fmt: skip
    return Classifier(card, frontend, TorchBackend(Level(), lambda x: x[:, None], frontend.shape))


class Desk:
    """A session with everything around it in the test's hands."""

    def __init__(self, *ids: str, load: Callable[[str], Any] | None = None, **params: Any) -> None:
        self.models = {id: detector(id) for id in ids or ("level",)}
        self.clock, self.queue = Clock(), HandQueue()
        self.session = Session(
            modality="audio",
            schedule=self.clock.schedule,
            queue=self.queue,
            cards=[model.card for model in self.models.values()],
            load=load or self.models.__getitem__,
            compatible=lambda model: {**dict.fromkeys(palettes.METHOD_STYLES, True), "cam": "no linear head"},
            **params,
        )

    def open(self, signal: xr.DataArray, name: str = "tone.wav") -> None:
        count = len(self.queue.jobs)
        self.session.open_signal(signal, name)
        self.clock.run_until(lambda: len(self.queue.jobs) > count and self.session.prediction is not None)

    def upload(self, name: str, data: bytes) -> None:
        self.session.open_upload(name, data)
        self.clock.run_until(lambda: not self.session.opening)

    def arrive(self, job: HandJob, id: str, fill: float = 1.0) -> None:
        job.calls["on_map"](id, explanation(id, fill))
        self.clock.run_until(lambda: id in self.session.results)


def explanation(id: str, fill: float = 1.0, columns: int = 55, start: float = 0.0) -> xr.Dataset:
    """An explanation with one map: zero but for one bright cell at band 100, column 20."""
    coords = {
        "frequency": ("frequency", LogMel().frequencies(), {"units": "Hz"}),
        "time": ("time", start + np.arange(columns) * 0.018, {"units": "s"}),
    }
    values = np.zeros((224, columns), np.float32)
    values[100, 20] = fill
    features = xr.DataArray(values, coords, ("frequency", "time"), attrs={"units": "dB"})
    return maps_for_views.explanation(features, {id: values}).assign_attrs(target_label="spoof")


def test_a_signal_gets_its_verdict_and_its_methods_are_asked_for() -> None:
    desk = Desk()
    desk.open(tone())
    session, (job,) = desk.session, desk.queue.jobs
    assert session.prediction.labels == ("bona fide", "spoof") and session.signal_name == "tone.wav"
    assert job.methods == list(DEFAULT_METHODS) and job.calls["target"] is None  # the predicted one, in one job
    assert session.state == "running" and session.target_label == session.prediction.label


def test_maps_are_kept_in_the_order_in_which_they_arrive() -> None:
    desk = Desk()
    desk.open(tone())
    (job,) = desk.queue.jobs
    for id in ("layer-cam", "grad-cam"):
        desk.arrive(job, id)
    assert list(desk.session.results) == ["layer-cam", "grad-cam"]
    job.calls["on_done"](None)
    desk.clock.run_until(lambda: desk.session.state == "done")


def test_threads_never_set_a_parameter() -> None:
    desk = Desk()
    threads = set()
    desk.session.param.watch(lambda *_: threads.add(threading.current_thread()), list(desk.session.param))
    desk.open(tone())
    desk.arrive(desk.queue.jobs[0], "grad-cam")
    assert threads == {threading.current_thread()}


def test_a_bad_file_gives_a_message_and_changes_nothing_else() -> None:
    desk = Desk()
    desk.open(tone())
    desk.arrive(desk.queue.jobs[0], "grad-cam")
    before = {name: getattr(desk.session, name) for name in ("signal", "prediction", "results", "state", "model_id")}
    desk.upload("note.wav", b"this is not a recording, it is a text")
    notice = desk.session.notice
    assert notice.kind == "error" and notice.text.startswith("note.wav: ") and "accepted: " in notice.text
    assert all(getattr(desk.session, name) is value for name, value in before.items())
    assert not desk.queue.jobs[0].cancelled


def test_a_radiograph_on_the_audio_page_says_where_it_belongs() -> None:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8)).save(file, "PNG")
    desk = Desk()
    desk.upload("chest.png", file.getvalue())
    assert "open it on the X-ray page" in desk.session.notice.text and desk.session.signal is None


def test_the_next_good_file_takes_the_message_away() -> None:
    desk = Desk()
    desk.upload("note.wav", b"text")
    assert desk.session.notice is not None
    desk.open(tone())
    assert desk.session.notice is None


def test_stop_keeps_the_maps_that_are_ready() -> None:
    desk = Desk()
    desk.open(tone())
    (job,) = desk.queue.jobs
    desk.arrive(job, "grad-cam")
    desk.session.stop()
    assert job.cancelled and desk.session.state == "stopped" and list(desk.session.results) == ["grad-cam"]
    desk.session.explain()
    assert desk.queue.jobs[1].methods == [id for id in DEFAULT_METHODS if id != "grad-cam"]


def test_a_verdict_can_be_stopped_and_asked_for_again() -> None:
    gate, waiting = threading.Event(), threading.Event()

    def slow(id: str) -> Any:
        waiting.set()
        assert gate.wait(20)
        return detector(id)

    desk = Desk(load=slow)
    desk.session.open_signal(tone())
    desk.clock.run_until(lambda: desk.session.state == "running")
    assert waiting.wait(20)
    desk.session.stop()
    gate.set()
    assert desk.session.state == "stopped" and desk.session.prediction is None
    desk.session.explain()
    desk.clock.run_until(lambda: desk.session.prediction is not None)
    assert len(desk.queue.jobs) == 1


def test_late_answers_about_another_signal_are_dropped() -> None:
    desk = Desk()
    desk.open(tone(1.0))
    old = desk.queue.jobs[0]
    desk.open(tone(0.7), "second.wav")
    assert old.cancelled
    old.calls["on_map"]("grad-cam", explanation("grad-cam"))
    desk.arrive(desk.queue.jobs[1], "layer-cam")
    assert list(desk.session.results) == ["layer-cam"] and desk.session.signal_name == "second.wav"


def test_another_target_or_seed_makes_the_maps_again() -> None:
    desk = Desk()
    desk.open(tone())
    desk.arrive(desk.queue.jobs[0], "grad-cam")
    other = 1 - desk.session.prediction.index
    desk.session.set_target(other)
    assert desk.session.results == {} and desk.queue.jobs[-1].calls["target"] == other
    desk.session.set_options(seed=3)
    assert desk.queue.jobs[-1].calls["seed"] == 3 and desk.queue.jobs[-1].calls["target"] == other
    count = len(desk.queue.jobs)
    desk.session.set_options(seed=3)
    assert len(desk.queue.jobs) == count


def test_a_method_that_the_classifier_cannot_be_asked_for_is_left_out() -> None:
    desk = Desk(methods=["cam", "grad-cam"])
    desk.open(tone())
    assert desk.queue.jobs[0].methods == ["grad-cam"] and desk.session.available["cam"] == "no linear head"


def test_another_classifier_gives_another_verdict_on_the_same_signal() -> None:
    desk = Desk("level", "other")
    desk.open(tone())
    first = desk.session.prediction
    desk.session.set_model("other")
    assert desk.session.prediction is None
    desk.clock.run_until(lambda: len(desk.queue.jobs) == 2)
    assert desk.session.classifier.id == "other" and desk.session.prediction is not first
    with pytest.raises(ValueError, match="level, other"):
        desk.session.set_model("third")


def test_missing_weights_are_said_and_the_signal_stays() -> None:
    def missing(id: str) -> Any:
        raise ModelError(f"{id}: weights file is missing; train it")

    desk = Desk(load=missing)
    desk.session.open_signal(tone())
    desk.clock.run_until(lambda: desk.session.model_problem != "")
    assert "train it" in desk.session.model_problem and desk.session.signal is not None
    assert desk.session.state == "idle" and desk.session.notice is None


def test_a_full_queue_is_said_in_its_own_words() -> None:
    desk = Desk()
    desk.queue.full = True
    desk.session.open_signal(tone())
    desk.clock.run_until(lambda: desk.session.state == "failed")
    assert "2 of your requests are not finished" in desk.session.notice.text


def test_a_fault_of_the_program_is_logged_and_not_shown_raw(caplog: pytest.LogCaptureFixture) -> None:
    desk = Desk()
    desk.open(tone())
    desk.queue.jobs[0].calls["on_error"](RuntimeError("secret path /srv/x"))
    desk.clock.run_until(lambda: desk.session.state == "failed")
    assert "secret" not in desk.session.notice.text and "secret path" in caplog.text


def test_a_closed_session_lets_go_of_everything() -> None:
    desk = Desk()
    desk.open(tone())
    (job,) = desk.queue.jobs
    desk.session.close()
    assert job.cancelled and desk.session.signal is None
    job.calls["on_map"]("grad-cam", explanation("grad-cam"))
    assert desk.clock.calls == []


def test_a_long_recording_is_explained_where_its_score_is_highest() -> None:
    quiet, loud = tone(50, peak=0.001).values, tone(20, peak=1.0).values
    signal = waveform(np.concatenate([quiet, loud, quiet]), RATE, source="long.wav", digest="2" * 64)
    desk = Desk(target=None)
    desk.open(signal, "long.wav")
    start, stop = desk.session.interval
    predicted = desk.session.prediction.index
    middle = desk.session.prediction.window_times.mean(axis=1)
    inside = (middle > start) & (middle < stop)
    scores = desk.session.prediction.window_logits[:, predicted]
    assert stop - start <= 30.0 and scores[inside].mean() >= scores[~inside].mean()
    job = desk.queue.jobs[0]
    assert job.signal.sizes["time"] == round((stop - start) * RATE)
    assert float(job.signal["time"][0]) == pytest.approx(start, abs=1 / RATE)


def test_the_most_telling_stretch_is_found() -> None:
    times = np.array([[2.0 * i, 2.0 * i + 4.0] for i in range(10)])
    scores = np.array([0, 0, 1, 0, 5, 5, 4, 0, 0, 0.0])
    assert most_telling(times, scores, 6.0) == (8.0, 14.0)  # two windows of 5
    assert most_telling(times, scores, 8.0) == (8.0, 16.0)  # as many windows as fit
    assert most_telling(times[:1], scores[:1], 3.0) == (0.0, 3.0)  # a window is cut when it is too long


def test_an_excerpt_keeps_its_times_and_has_its_own_digest() -> None:
    signal = tone(2.0)
    piece = excerpt(signal, (0.5, 1.25))
    assert float(piece["time"][0]) == 0.5 and piece.sizes["time"] == 12_000
    assert piece.attrs["duration"] == 0.75 and piece.attrs["digest"] != signal.attrs["digest"]
    assert piece.attrs["digest"] != excerpt(signal, (0.5, 1.3)).attrs["digest"]
    assert excerpt(signal, None) is signal


def test_a_selection_that_is_too_short_is_refused() -> None:
    desk = Desk()
    desk.open(tone(2.0))
    desk.session.set_interval(0.5, 0.52)
    assert desk.session.interval is None and "0.02 s" in desk.session.notice.text
    desk.session.set_interval(0.5, 1.0)
    assert desk.session.interval == (0.5, 1.0) and desk.queue.jobs[-1].signal.sizes["time"] == 8000


def test_samples_open_by_id_and_bring_their_known_answer() -> None:
    desk = Desk()
    sample = next(sample for sample in samples() if sample.modality == "audio" and sample.truth["intervals"])
    desk.session.open_sample(sample.id)
    desk.clock.run_until(lambda: desk.session.signal is not None)
    assert desk.session.sample is sample or desk.session.sample == sample
    with pytest.raises(ValueError, match=sample.id):
        desk.session.open_sample("nothing")


# the explorer


@pytest.fixture
def explorer() -> tuple[Desk, SpectrogramExplorer]:
    desk = Desk()
    view = SpectrogramExplorer(desk.session)
    desk.open(tone())
    desk.clock.run_until(lambda: view.plots.spectrum.data["image"][0].shape != (1, 1))
    return desk, view


def test_plots_share_one_time_axis_and_one_left_edge(explorer: tuple[Desk, SpectrogramExplorer]) -> None:
    _, view = explorer
    figures = (view.plots.wave, view.plots.picture, view.plots.profile)
    assert all(fig.x_range is view.plots.x_range for fig in figures)
    assert len({(fig.min_border_left, fig.min_border_right) for fig in (*figures, view.plots.overview)}) == 1
    assert view.plots.spectral.y_range is view.plots.picture.y_range
    assert (view.plots.x_range.start, view.plots.x_range.end) == (0, 1) and tuple(view.plots.x_range.bounds) == (0, 1)


def test_what_moves_in_the_browser_is_not_sent_to_the_server(explorer: tuple[Desk, SpectrogramExplorer]) -> None:
    _, view = explorer
    plots = view.plots
    moving = [*plots.cursors, *plots.heads, *plots.levels, plots.selection, plots.state, plots.readout, plots.bars]
    moving += [plots.mapper, plots.overlay, plots.overlay.glyph, plots.lines, plots.shown]
    assert not any(model.syncable for model in moving)


def test_grad_cam_is_laid_over_unless_the_person_chooses(explorer: tuple[Desk, SpectrogramExplorer]) -> None:
    desk, view = explorer
    (job,) = desk.queue.jobs
    desk.arrive(job, "layer-cam")
    assert view.method == view.list.value == "layer-cam"  # better than nothing
    desk.arrive(job, "grad-cam")
    assert view.method == "grad-cam"
    view.list.value = "layer-cam"
    desk.arrive(job, "occlusion")
    assert view.method == "layer-cam"


def test_a_map_is_sent_in_steps_of_its_units_and_with_normalized_profiles(
    explorer: tuple[Desk, SpectrogramExplorer],
) -> None:
    desk, view = explorer
    desk.arrive(desk.queue.jobs[0], "occlusion", fill=-2.5)
    lines, image = view.plots.lines.data, view.plots.maps.data["occlusion"][0]
    assert lines["id"] == ["occlusion"] and image.dtype == np.int16
    assert image.min() * lines["step"][0] == pytest.approx(-2.5, rel=1e-4)
    assert np.unravel_index(image.argmin(), image.shape)[1] == 20
    assert lines["p"][0].min() == -1 and lines["p"][0].argmin() == 20
    assert lines["q"][0].min() == -1 and lines["q"][0].argmin() == 100
    assert "sum over frequency" in view.plots.profile.title.text
    assert "logit" in lines["bar"][0] and "spoof" in lines["bar"][0]


def test_the_cell_of_a_map_lies_at_its_time_and_frequency(explorer: tuple[Desk, SpectrogramExplorer]) -> None:
    desk, view = explorer
    desk.arrive(desk.queue.jobs[0], "grad-cam")
    data, image = view.plots.maps.data, view.plots.maps.data["grad-cam"][0]
    row, column = np.unravel_index(image.argmax(), image.shape)
    time = data["x"][0] + (column + 0.5) / image.shape[1] * data["dw"][0]
    place = data["y"][0] + (row + 0.5) / image.shape[0] * data["dh"][0]
    assert time == pytest.approx(20 * 0.018)
    assert sg.hertz(place) == pytest.approx(LogMel().frequencies()[100], rel=0.02)


def test_the_linear_axis_shows_the_same_cell_at_the_same_frequency(explorer: tuple[Desk, SpectrogramExplorer]) -> None:
    desk, view = explorer
    desk.arrive(desk.queue.jobs[0], "grad-cam")
    view.scale = "linear"
    desk.clock.run_until(lambda: view.plots.axes.data["scale"] == ["linear"])
    assert view.plots.y_range.end == 8000 and view.plots.picture.yaxis[0].major_label_overrides[4000.0] == "4 k"
    data, image = view.plots.maps.data, view.plots.maps.data["grad-cam"][0]
    rows = np.flatnonzero(image.max(axis=1))
    frequencies = data["y"][0] + (rows + 0.5) / image.shape[0] * data["dh"][0]
    assert LogMel().frequencies()[100] == pytest.approx(frequencies.mean(), rel=0.02)
    assert view.plots.lines.data["f"][0][100] == pytest.approx(LogMel().frequencies()[100])


def test_maps_of_another_signal_are_cleared_before_new_ones_come(explorer: tuple[Desk, SpectrogramExplorer]) -> None:
    desk, view = explorer
    desk.arrive(desk.queue.jobs[0], "grad-cam")
    desk.open(tone(0.7), "second.wav")
    assert view.plots.lines.data["id"] == [] and view.method == ""
    assert all(view.plots.maps.data[id][0].shape == (1, 1) for id in DEFAULT_METHODS)
    desk.clock.run_until(lambda: view.plots.x_range.end == pytest.approx(0.7))


def test_zooming_draws_what_is_in_view_again(explorer: tuple[Desk, SpectrogramExplorer]) -> None:
    desk, view = explorer
    view.plots.x_range.update(start=0.25, end=0.5)
    desk.clock.run_until(lambda: view.plots.spectrum.data["x"] == [0.25] and view.plots.spectrum.data["dw"] == [0.25])
    assert view.plots.waveform.data["t"][0] >= 0.25 - 1 / RATE and view.plots.waveform.data["t"][-1] <= 0.5 + 1 / RATE


def test_known_intervals_are_marked(explorer: tuple[Desk, SpectrogramExplorer]) -> None:
    desk, view = explorer
    sample = next(s for s in samples() if s.id == "speech-spoofed-stretch")
    desk.session.open_sample(sample.id)
    desk.clock.run_until(lambda: bool(view.plots.truth.data["left"]))
    ((start, stop),) = sample.truth["intervals"]
    assert (view.plots.truth.data["left"], view.plots.truth.data["right"]) == ([start], [stop])


# the shell around it


def shell(desk: Desk) -> Shell:
    return Shell(desk.session, SpectrogramExplorer(desk.session), page="audio")


def test_the_page_invites_then_shows_the_verdict_with_its_caveat() -> None:
    desk = Desk()
    page = shell(desk)
    assert page.start.visible and page.body.styles["visibility"] == "hidden" and "Pick a sample" in page.verdict.object
    desk.open(tone())
    assert not page.start.visible and page.body.styles["visibility"] == "visible"
    assert desk.session.prediction.label in page.verdict.object and "Made for tests." in page.verdict.object
    assert list(page.target.options.values()) == [-1, 0, 1]


def test_run_counts_what_is_missing_and_stop_works_while_it_runs() -> None:
    desk = Desk()
    page = shell(desk)
    assert page.run.disabled and page.halt.disabled
    desk.open(tone())
    assert page.run.disabled and not page.halt.disabled and page.progress.visible
    page.halt.clicks += 1
    assert desk.queue.jobs[0].cancelled and page.run.label == f"Run ({len(DEFAULT_METHODS)})"
    page.picker.value = [*DEFAULT_METHODS, "lime"]
    assert page.run.label == f"Run ({len(DEFAULT_METHODS) + 1})" and not page.run.disabled
    page.run.clicks += 1
    assert desk.queue.jobs[1].methods == page.picker.value


def test_a_message_is_shown_and_goes_with_the_next_signal() -> None:
    desk = Desk()
    page = shell(desk)
    desk.upload("note.wav", b"text")
    assert page.alert.visible and "note.wav" in page.alert.object and page.alert.severity == "error"
    desk.open(tone())
    assert not page.alert.visible


def test_another_class_is_explained_when_it_is_chosen() -> None:
    desk = Desk()
    page = shell(desk)
    desk.open(tone())
    other = 1 - desk.session.prediction.index
    page.target.value = other
    assert desk.queue.jobs[-1].calls["target"] == other
    page.target.value = -1
    assert desk.session.target is None and desk.queue.jobs[-1].calls["target"] == 1 - other


def test_what_a_person_does_before_the_page_was_drawn_happens_once_it_was() -> None:
    desk = Desk()
    page, asked, doc = shell(desk), [], Document()
    for name in ("open_sample", "set_model", "set_target", "set_options", "explain", "stop"):
        setattr(desk.session, name, lambda *args, name=name, **options: asked.append((name, *args, *options.items())))
    page.model.options = {**page.model.options, "Another": "another"}
    page.target.options = {**page.target.options, "spoof": 1}
    page.layer.options = {**page.layer.options, "relu": "relu"}
    pn.state._loaded[doc] = False
    with set_curdoc(doc):
        page.sample.value = "speech-lpc"
        page.model.value = "another"
        page.target.value = 1
        page.layer.value = "relu"
        page.seed.value = 7
        page.picker.value = ["lime"]
        for button in (page.run, page.halt, page.status_stop):
            button.clicks += 1
        page.page.dark_theme = True
        assert asked == [] and desk.session.methods != ["lime"] and "theme=dark" not in page.nav.object
        pn.state._on_load(doc)
    assert asked == [
        ("open_sample", "speech-lpc"),
        ("set_model", "another"),
        ("set_target", 1),
        ("set_options", ("layer", "relu")),
        ("set_options", ("seed", 7)),
        ("explain",),
        ("stop",),
        ("stop",),
    ]
    assert desk.session.methods == ["lime"] and "theme=dark" in page.nav.object


def test_a_page_without_a_classifier_still_shows_the_signal() -> None:
    clock = Clock()
    session = Session(modality="audio", schedule=clock.schedule, queue=HandQueue(), cards=[])
    page = Shell(session, SpectrogramExplorer(session), page="audio")
    session.open_signal(tone(), "tone.wav")
    clock.run_until(lambda: session.signal is not None)
    assert (
        page.body.styles["visibility"] == "visible"
        and "There is no classifier for a recording yet" in page.verdict.object
    )
    assert page.run.disabled


# what is written


def verdict(logits: list[float], labels: tuple[str, ...], name: str = "n", truth: str = "", **fields: Any) -> str:
    """The verdict card of these logits, whose probabilities are sigmoids where `multi_label`, a softmax otherwise."""
    values = np.array(logits)
    several = fields.get("multi_label", False)
    chances = 1 / (1 + np.exp(-values)) if several else np.exp(values) / np.exp(values).sum()
    window = (np.empty((0, 2)), values[None], chances[None])
    card = Card("m", "M", "s", "audio", "torch", "a", labels, {"kind": "log-mel"}, **fields)
    return widgets.verdict_html(Prediction(labels, values, chances, *window, several), card, name, truth)


def test_the_verdict_escapes_names_and_rounds_honestly() -> None:
    text = verdict([-3.5, 3.5], ("bona fide", "spoof"), "<b>x</b>.wav", "it's 1 < 2", caveat="a & b")
    assert "<b>x</b>" not in text and "&lt;b&gt;x" in text and "a &amp; b" in text and "1 &lt; 2" in text
    assert ">99 %" in text.replace("&gt;", ">")
    assert "93 %" in verdict([2.65, 0.0], ("a", "b"))


def test_the_verdict_on_several_findings_has_the_probability_of_each() -> None:
    labels = ("Edema", "Pneumonia", "Mass")
    text = verdict([0.1, 2.0, -1.0], labels, multi_label=True)
    assert '<div class="label">Pneumonia, Edema</div>' in text and TOWARD in text
    assert [text.index(part) for part in ("88 %", "52 %", "27 %")] == sorted(
        text.index(part) for part in ("88 %", "52 %", "27 %")
    )
    none = verdict([-1.0, -2.0, -3.0], labels, multi_label=True)
    assert '<div class="label">none of the findings that it was trained on</div>' in none and "27 %" in none
    assert AWAY in none and TOWARD not in none


@pytest.mark.parametrize(("several", "found"), [(True, "The most probable finding"), (False, "The predicted class")])
def test_what_is_explained_by_default_has_its_true_name(
    several: bool, found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(globals(), "detector", partial(detector, multi_label=several))
    desk = Desk()
    page = shell(desk)
    assert next(iter(page.target.options)) == found
    desk.open(tone())
    prediction = desk.session.prediction
    assert next(iter(page.target.options)) == f"{found} ({prediction.label})" and prediction.multi_label == several
    assert prediction.verdict.headline in page.verdict.object


def test_an_unavailable_method_says_why() -> None:
    from xai_panel.methods import METHODS

    groups = widgets.method_groups(list(METHODS.values()), {"cam": "no linear head"})
    rows = {row["id"]: row for group in groups for row in group["methods"]}
    assert rows["cam"]["reason"] == "no linear head" and rows["grad-cam"]["reason"] == ""
    assert [group["family"] for group in groups] == ["Gradients", "Class activation", "Perturbation", "Consensus"]


def test_scripts_in_the_browser_carry_no_server_address() -> None:
    from pathlib import Path

    folder = Path(widgets.__file__).parent / "js"
    assert not [file.name for file in folder.glob("*.js") if re.search(r"https?://(?!www\.w3\.org)", file.read_text())]
