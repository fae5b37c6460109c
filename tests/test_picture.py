"""The picture of a spectrogram as a front end: what matplotlib draws, on physical axes, with gradients."""

from __future__ import annotations

import sys
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
import torch
import xarray as xr
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image
from questions import make_card
from torch import nn

from xai_panel.engine.explain import explain
from xai_panel.models import drawing
from xai_panel.models.backends.torch import TorchBackend
from xai_panel.models.classifier import Classifier
from xai_panel.models.frontends import LogMel, Picture, build_frontend, cut
from xai_panel.signals.synthetic import load_sample

RATE = 16_000
DEMO = Picture(hop_length=512, win_length=2048, bands=120, frames=125, size=200)  # librosa's own step; 4 s


def recording(values: np.ndarray, start: float = 0.0) -> xr.DataArray:
    return xr.DataArray(
        values.astype(np.float32),
        dims="time",
        coords={"time": ("time", start + np.arange(values.size) / RATE, {"units": "s"})},
        attrs={"modality": "audio", "sampling_rate": float(RATE), "source": "test.wav", "units": "1"},
    )


@pytest.fixture(scope="module")
def speech() -> xr.DataArray:
    return load_sample("speech-lpc")


def mel_of(frontend: Picture, signal: xr.DataArray) -> np.ndarray:
    """Levels (bands, frames) that the picture shows."""
    own = ("sampling_rate", "n_fft", "win_length", "hop_length", "bands", "frames", "fmin", "fmax")
    return LogMel(**{name: getattr(frontend, name) for name in own}).features(signal).values


def drawn(level: np.ndarray, width: int, height: int, colormap: str) -> np.ndarray:
    """The picture in color, drawn at once, saved as PNG and read back: (height, width, 3), 0…255."""
    figure = Figure(figsize=(width / 100, height / 100), dpi=100)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.axis("off")
    axes.pcolormesh(level, cmap=colormap, vmin=-80, vmax=0)
    file = BytesIO()
    FigureCanvasAgg(figure).print_png(file)
    return np.asarray(Image.open(file).convert("RGB"))


def network_input(frontend: Picture, features: np.ndarray, framework: str) -> np.ndarray:
    """(n, channels, rows, columns) of features (n, H, W)."""
    if framework == "tensorflow":
        tf = pytest.importorskip("tensorflow", reason="needs the extra «tensorflow»")
        stacked = frontend.to_input(tf.constant(features), lambda channels: tf.stack(list(channels), axis=1))
        return stacked.numpy()
    if framework == "torch":
        return frontend.to_input(torch.from_numpy(features), lambda channels: torch.stack(list(channels), 1)).numpy()
    return frontend.to_input(features, lambda channels: np.stack(list(channels), 1))


@pytest.mark.parametrize("framework", ["torch", "tensorflow", "numpy"])
@pytest.mark.parametrize("frontend", [Picture(), Picture(colormap="magma"), DEMO], ids=["default", "magma", "demo"])
def test_the_model_sees_the_picture_that_matplotlib_draws_in_color(frontend, framework, speech):
    speech = speech.isel(time=slice(0, 155 * 512))  # whole pixels, so that no edge of a cell falls on a pixel's middle
    features, level = frontend.features(speech), mel_of(frontend, speech)
    width = features.shape[1]
    assert abs(width - level.shape[1] * frontend.size / frontend.frames) <= 0.5
    seen = network_input(frontend, features.values[None], framework)[0]
    expected = drawn(level, width, frontend.size, frontend.colormap).transpose(2, 0, 1)
    assert np.ptp(expected, axis=(1, 2)).min() > 100  # the picture is not flat
    assert_allclose(seen * 255, expected, atol=1)


def test_a_tone_lies_at_its_frequency_and_time_on_the_axes_and_low_frequencies_are_at_the_bottom():
    wave = np.zeros(4 * RATE)
    wave[RATE : RATE + 8000] = np.sin(2 * np.pi * 1000 * np.arange(8000) / RATE)
    for frontend in (Picture(), DEMO):
        features = frontend.features(recording(wave, start=10.0))
        assert features.dims == ("frequency", "time") and features.dtype == np.float32
        assert (features.attrs["units"], float(features.min()), float(features.max())) == ("dB", -80.0, 0.0)
        frequency = features["frequency"].values
        assert (np.diff(frequency) > 0).all() and frequency[0] > 20 and frequency[-1] < 8000
        loud = features.values > -3
        assert_allclose(frequency[loud.any(axis=1)].mean(), 1000, rtol=0.02)
        times = features["time"].values[loud.any(axis=0)]
        assert_allclose([times[0], times[-1]], [11.0, 11.5], atol=0.04)
        seen = network_input(frontend, features.values[None, :, : frontend.size], "numpy")[0]
        brightest = frontend.size - 1 - seen.sum(axis=0).max(axis=1).argmax()
        assert loud[brightest].any()


def test_each_pixel_shows_the_band_and_frame_of_the_log_mel_spectrogram(speech):
    frontend = Picture()
    level, features = mel_of(frontend, speech), frontend.features(speech)
    assert_allclose(features.values, np.repeat(level, 2, axis=0), atol=80 / 255)
    assert len(np.unique(features.values)) <= 256
    mel = LogMel(bands=112).features(speech)
    assert_allclose(features["time"], mel["time"])
    assert_allclose(features["frequency"].values.reshape(-1, 2).mean(axis=1), mel["frequency"], rtol=0.01)


@pytest.mark.parametrize("frontend", [Picture(), DEMO], ids=["default", "demo"])
def test_the_picture_does_not_depend_on_the_blocks_it_is_drawn_in(frontend, speech, monkeypatch):
    whole = frontend.features(speech).values
    monkeypatch.setattr(drawing, "BLOCK", 37)
    assert_array_equal(frontend.features(speech).values, whole)


def test_windows_are_stretches_of_one_long_picture_and_a_short_one_is_black_behind_its_end():
    frontend = Picture()
    wave = np.random.default_rng(0).standard_normal(10 * RATE) / 10
    features = frontend.features(recording(wave))
    windows = frontend.windows(features.shape[1])
    assert {window.width for window in windows} == {224} and windows[-1].stop == features.shape[1] == 1111
    short = frontend.features(recording(wave[:8000]))
    window = cut(short.values, frontend.windows(short.shape[1])[0], frontend)
    assert window.shape == (224, 224) and (window[:, short.shape[1] :] == -80).all()
    for count in (0, 1, 200):
        assert frontend.features(recording(wave[:count])).shape == (224, max(1, count // 144))


@pytest.mark.parametrize("framework", ["torch", "tensorflow"])
def test_the_gradient_is_the_slope_of_the_color_map(framework):
    frontend = Picture(colormap="plasma", std=(0.5, 0.25, 2.0))
    places = np.array([[[-81.0, -80.0, -79.9], [-40.0, -30.1, -0.1], [-0.0, 1.0, -3.3]]], np.float32)
    if framework == "torch":
        levels = torch.from_numpy(places).requires_grad_()
        seen = frontend.to_input(levels, lambda channels: torch.stack(list(channels), 1))
        (gradient,) = torch.autograd.grad(seen[:, 1].sum(), levels)
    else:
        tf = pytest.importorskip("tensorflow", reason="needs the extra «tensorflow»")
        levels = tf.constant(places)
        with tf.GradientTape() as tape:
            tape.watch(levels)
            seen = frontend.to_input(levels, lambda channels: tf.stack(list(channels), axis=1))
            total = tf.reduce_sum(seen[:, 1])
        gradient = tape.gradient(total, levels)
    green = drawing.colors("plasma")[:, 1] / 0.25
    position = (places.astype(np.float64) + 80) / 80 * 255
    assert_allclose(np.asarray(seen.detach() if framework == "torch" else seen)[0, 1, ::-1],
                    np.interp(position[0], np.arange(256), green), atol=1e-5)  # fmt: skip
    after = np.minimum(np.floor(np.round(position, 3)).astype(int), 254)
    slope = np.where((places < -80) | (places > 0), 0, np.diff(green)[np.clip(after, 0, 254)] * 255 / 80)
    assert_allclose(np.asarray(gradient), slope, rtol=1e-3, atol=1e-6)


class Low(nn.Module):
    """Hears the red of the picture's lower half only, in the last layer over the whole grid or a coarser one."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 1, step, stride=step, bias=False)
        self.relu = nn.ReLU()
        self.conv.weight.data = torch.tensor([1.0, 0.0, 0.0])[None, :, None, None].expand(1, 3, step, step) / step**2

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.relu(self.conv(x))
        z = x[:, :, x.shape[2] // 2 :].mean(dim=(1, 2, 3))
        return torch.stack([-z, z], dim=1)


@pytest.mark.parametrize("step", [1, 4])
def test_maps_of_layers_and_of_pixels_agree_on_what_is_low(step):
    frontend = Picture(bands=16, frames=32, size=32)
    backend = TorchBackend(
        Low(step), lambda x: frontend.to_input(x, lambda channels: torch.stack(list(channels), dim=1)), (32, 32)
    )
    classifier = Classifier(make_card("audio", "d" * 64), frontend, backend)
    noise = recording(np.random.default_rng(0).standard_normal(RATE) / 10)
    ds = explain(classifier, noise, ["layer-cam", "occlusion", "saliency", "consensus"], target=1, store=False)
    for method in ds["method"].values:
        values = np.abs(ds.xai.map(method).values)
        assert values[:16].mean() > 2 * values[16:].mean(), method


def test_a_keras_network_of_the_picture_is_explained_by_every_method(speech):
    pytest.importorskip("tensorflow", reason="needs the extra «tensorflow»")
    import keras

    keras.utils.set_random_seed(0)
    layers = keras.layers
    network = keras.Sequential(
        [
            keras.Input((64, 64, 3)),
            layers.Conv2D(4, 5, strides=2, activation="relu"),
            layers.Conv2D(4, 3, strides=2, activation="relu"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(2, activation="softmax"),
        ]
    )
    table = {"kind": "picture", "bands": 32, "frames": 128, "size": 64}
    mine = Classifier.from_keras(network, labels=["bona fide", "spoof"], frontend=table)
    assert len(mine.predict(speech).window_logits) > 3
    budget = {"coalitions": 60, "positions": 9, "noise": 2, "steps": 2}
    ds = explain(mine, speech.isel(time=slice(0, 2 * RATE)), budget=budget, store=False)
    assert ds.sizes["method"] == 12 and ds.sizes["frequency"] == 64
    for method in ds["method"].values:
        assert np.ptp(ds.xai.map(method).values) > 0, method


def test_a_card_names_the_front_end_and_what_is_wrong_with_it():
    table = {"kind": "picture", "bands": 64, "colormap": "gray", "mean": [0, 0, 0], "std": [1, 1, 1]}
    assert build_frontend(table) == replace(Picture(), bands=64, colormap="gray")
    for change, message in (
        ({"colormap": "viridian"}, "«colormap» is 'viridian'; a color map of matplotlib is expected"),
        ({"mean": [0.5], "std": [0.5]}, "have 1 entries; a picture has three channels"),
        ({"size": 0}, "«size» is 0; a positive whole number"),
    ):
        with pytest.raises(ValueError, match=message):
            build_frontend(table | change)


def test_drawing_leaves_no_figure_behind():
    Picture().features(recording(np.ones(4000)))
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or not pyplot.get_fignums()
