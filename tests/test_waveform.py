"""Models of the raw waveform, explained through the inverse Fourier transform, and the constant-Q transform."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
import xarray as xr
from numpy.testing import assert_allclose
from questions import make_card
from scipy.stats import rankdata
from tiny import Logits
from torch import nn

from xai_panel.engine.explain import explain
from xai_panel.engine.stitch import Stitch
from xai_panel.evidence import baselines
from xai_panel.evidence.evidence import Evidence
from xai_panel.methods import METHODS, MapResult, compatible
from xai_panel.models.architectures import build
from xai_panel.models.backends.torch import TorchBackend
from xai_panel.models.classifier import Classifier
from xai_panel.models.frontends import build_frontend, cut, shown
from xai_panel.models.spectra import ConstantQ, Waveform
from xai_panel.models.state import network_for
from xai_panel.models.windows import Window
from xai_panel.signals.audio import read_audio

SMALL = Waveform(samples=2000, n_fft=64, hop_length=16)  # 33 bins, 125 frames


def recording(values: np.ndarray, rate: float = 16_000.0) -> xr.DataArray:
    return xr.DataArray(
        values.astype(np.float32),
        dims="time",
        coords={"time": ("time", np.arange(values.size) / rate, {"units": "s"})},
        attrs={"modality": "audio", "sampling_rate": rate, "source": "test.wav", "units": "1"},
    )


def noise(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(count).astype(np.float32) / 10


def classifier(network: nn.Module, frontend: Waveform | ConstantQ = SMALL) -> Classifier:
    backend = TorchBackend(network, lambda x: frontend.to_input(x, torch.stack), frontend.shape)
    return Classifier(make_card("audio", "c" * 64), frontend, backend)


def listener(weights: np.ndarray) -> Classifier:
    """The logit of «spoof» is the sum of weight × sample."""
    tensor = torch.from_numpy(weights)
    return classifier(Logits(lambda x: torch.stack([-(x @ tensor), x @ tensor], dim=1)))


class Net(nn.Module):
    """A smooth network over time, so that quadrature along a path is exact enough to test it."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv1d(1, 4, 9, stride=4)
        self.act = nn.Softplus()
        self.head = nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.act(3 * self.conv(x[:, None])).square().mean(dim=2))


# --- exact reconstruction


@pytest.mark.parametrize("frontend", [SMALL, Waveform(), Waveform(samples=96_000)])
@pytest.mark.parametrize("length", [0.4, 1.0, 2.7])
def test_the_model_hears_the_recording_sample_by_sample(frontend, length):
    wave = noise(int(length * frontend.samples) + 5)
    features = frontend.features(recording(wave))
    assert features.dtype == np.complex64 and features.shape == (frontend.shape[0], wave.size // frontend.hop_length)
    windows = frontend.windows(features.shape[1])
    assert windows[0].start == 0 and windows[-1].stop == features.shape[1]
    for window in windows:
        heard = frontend.to_input(torch.from_numpy(cut(features.values, window, frontend)[None]), torch.stack)
        piece = wave[window.start * frontend.hop_length : window.stop * frontend.hop_length]
        assert_allclose(heard[0], np.resize(piece, frontend.samples), atol=1e-5)


def test_features_do_not_depend_on_the_blocks_they_are_computed_in(monkeypatch):
    whole = SMALL.features(recording(noise(5000))).values
    monkeypatch.setattr("xai_panel.models.spectra.BLOCK", 7)
    np.testing.assert_array_equal(SMALL.features(recording(noise(5000))).values, whole)


def test_a_tone_lies_at_its_frequency_and_time_on_the_axes():
    wave = np.zeros(32_000)
    wave[16_000:20_000] = np.sin(2 * np.pi * 1000 * np.arange(4000) / 16_000)
    level = shown(Waveform().features(recording(wave)))
    assert level.dtype == np.float32 and level.attrs["units"] == "dB" and float(level.max()) == 0.0
    assert float(level.min()) == -80.0
    assert float(level["frequency"][int(level.max("time").values.argmax())]) == 1000.0
    loud = level["time"].values[level.sel(frequency=1000.0) > -6.5]
    assert_allclose([loud[0], loud[-1]], [1.0, 1.25], atol=0.016)
    silence = shown(Waveform().features(recording(np.zeros(8000))))
    assert (silence == -80.0).all()


@pytest.mark.parametrize("name", ["AASIST-L", "Inc-TSSDNet"])
def test_published_outputs_are_those_through_the_front_end(shared_data, name):
    path, architecture, samples = {
        "AASIST-L": ("aasist/AASIST-L.pth", "xai_panel:aasist-l", 64_600),
        "Inc-TSSDNet": ("inc_tssdnet/Inc_TSSDNet.pth", "xai_panel:inc-tssdnet", 96_000),  # hears 4 s repeated
    }[name]
    folder = shared_data.parent / "checkpoints"
    state = torch.load(folder / path, weights_only=True, map_location="cpu")
    state = state.get("model_state_dict", state)
    network = network_for(architecture, ("a", "b"), state, path, (1, 0))
    model = classifier(network, Waveform(samples=samples))
    reference = json.loads((folder / "reference_outputs.json").read_text())["outputs"][name]
    for file in list(reference)[:2]:
        assert_allclose(model.predict(read_audio(shared_data / file)).logits, reference[file][::-1], atol=1e-4)


# --- two numbers per bin


def test_gradients_of_both_parts_are_those_of_finite_differences():
    model, wave = classifier(Net()), noise(2000)
    window = SMALL.features(recording(wave)).values
    gradient = model.backend.gradients(window[None], 1).inputs[0]
    assert gradient.dtype == np.complex64
    network, step = model.backend.module.double(), 1e-3
    for row, column in ((3, 10), (20, 60), (32, 100)):
        for part, unit in ((gradient.real, 1.0), (gradient.imag, 1j)):
            ends = []
            for sign in (1, -1):
                moved = window.astype(np.complex128)
                moved[row, column] += sign * step * unit
                taper = torch.from_numpy(SMALL._taper()).double()
                heard = torch.istft(torch.from_numpy(moved)[None], 64, 16, window=taper, length=2000)
                ends.append(float(network(heard)[0, 1].detach()))
            assert part[row, column] == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-3, abs=1e-9)


def test_input_x_gradient_of_a_linear_model_is_the_logit_bin_by_bin():
    weights, wave = noise(2000, seed=1), noise(2000)
    ds = explain(listener(weights), recording(wave), ["input-x-gradient", "saliency"], target="spoof", store=False)
    map_ = ds.xai.map("input-x-gradient")
    assert map_.shape == (33, 125) and map_.dtype == np.float32
    assert float(map_.sum()) == pytest.approx(float(weights @ wave), rel=1e-4)
    # a bin adds what the model hears when the bin sounds alone
    features = SMALL.features(recording(wave)).values
    alone = np.zeros((2, *features.shape), np.complex64)
    for window, (row, column) in zip(alone, ((4, 30), (17, 99)), strict=True):
        window[row, column] = features[row, column]
        heard = SMALL.to_input(torch.from_numpy(window[None]), torch.stack)[0].numpy()
        assert float(map_[row, column]) == pytest.approx(float(heard @ weights), rel=1e-3, abs=1e-6)
        # and the magnitude of a gradient is that of the phase which the model likes best
        turns = np.exp(2j * np.pi * np.arange(360) / 360)
        ways = np.zeros((360, *features.shape), np.complex64)
        ways[:, row, column] = turns
        best = (SMALL.to_input(torch.from_numpy(ways), torch.stack).numpy() @ weights).max()
        assert float(ds.xai.map("saliency")[row, column]) == pytest.approx(float(best), rel=1e-3)


@pytest.mark.parametrize("length", [2000, 900])
def test_integrated_gradients_add_up_to_the_logit_over_frequency_and_time(length):
    model, signal = classifier(Net()), recording(10 * noise(length))
    ds = explain(model, signal, ["integrated-gradients"], target=1, store=False)
    silence = model.backend.logits(np.zeros((1, *SMALL.shape), np.float32))[0, 1]
    difference = float(ds["logits"][1]) - silence
    assert abs(difference) > 0.01
    profile = ds.xai.profile("time")[0]
    np.testing.assert_array_equal(profile, ds.xai.map("integrated-gradients").sum("frequency"))
    assert float(profile.sum()) == pytest.approx(difference, rel=1e-4)
    assert float(ds["error"][0]) < 1e-4 * abs(difference)


def test_the_map_of_a_model_that_measures_energy_is_the_energy_of_each_bin():
    wave = np.zeros(2000, np.float32)
    wave[800:1200] = np.sin(2 * np.pi * 2000 * np.arange(400) / 16_000)
    model = classifier(Logits(lambda x: torch.stack([-x.square().sum(1), x.square().sum(1)], dim=1)))
    ds = explain(model, recording(wave), ["integrated-gradients"], target=1, store=False)
    map_ = ds["attribution"][0]
    assert float(map_.sum()) == pytest.approx(200.0, rel=1e-4)  # the energy of the tone
    there = map_.sel(time=slice(0.048, 0.077), frequency=slice(1500, 2500))
    assert float(there.sum()) == pytest.approx(200.0, rel=0.01)


@pytest.mark.parametrize("length", [2000, 960])
def test_perturbation_methods_are_exact_on_a_linear_model(length):
    """A segment adds what its bins add, and a bin goes with both parts and with every copy of a short recording."""
    weights, signal = noise(2000, seed=1), recording(noise(length))
    budget = {"segments": 9, "positions": 12}
    ids = ["input-x-gradient", "kernel-shap", "occlusion"]
    ds = explain(listener(weights), signal, ids, target=1, budget=budget, store=False)
    bins = ds.xai.map("input-x-gradient").values
    heard = np.resize(signal.values, 2000)
    assert bins.sum() == pytest.approx(float(heard @ weights), rel=1e-3)
    window = SMALL.features(signal).values
    evidence = Evidence(listener(weights), window, 1, budget=budget)
    for label in np.unique(evidence.segments()):
        segment = evidence.segments() == label
        assert_allclose(ds.xai.map("kernel-shap").values[segment], bins[segment].sum(), atol=1e-4)
    occlusions = evidence.occlusions()
    for (top, bottom, left, right), logit in zip(occlusions.boxes, occlusions.logits, strict=True):
        assert evidence.logit - logit == pytest.approx(bins[top:bottom, left:right].sum(), abs=1e-4)


def test_smoothgrad_of_a_linear_model_is_its_saliency_without_error():
    ds = explain(listener(noise(2000, 1)), recording(noise(2000)), ["saliency", "smoothgrad"], target=1, store=False)
    assert_allclose(ds.xai.map("smoothgrad"), ds.xai.map("saliency"), rtol=1e-3, atol=1e-6)
    assert float(ds["error"][1]) < 1e-5


def test_the_noise_of_smoothgrad_is_relative_to_the_sound():
    window = SMALL.features(recording(noise(2000))).values
    seen = []
    model = listener(noise(2000))
    ask = model.backend.gradients
    model.backend.gradients = lambda batch, *more: (seen.append(batch), ask(batch, *more))[1]
    Evidence(model, window, 1, budget={"noise": 8, "noise_level": 0.5}).noise()
    added = np.concatenate(seen) - window
    assert np.sqrt(np.mean(np.abs(added) ** 2)) == pytest.approx(0.5 * np.sqrt(np.mean(np.abs(window) ** 2)), rel=0.01)
    assert np.std(added.real) == pytest.approx(np.std(added.imag), rel=0.02)


@pytest.mark.parametrize("kind", baselines.KINDS)
def test_baselines_of_complex_features_keep_the_phase_and_change_the_magnitude(kind):
    window = SMALL.features(recording(noise(2000))).values
    base = baselines.baseline(window, kind, 0.0)
    assert base.dtype == np.complex64
    assert_allclose(np.abs(base), baselines.baseline(np.abs(window), kind, 0.0), atol=1e-5)
    assert_allclose(base * np.abs(window), np.abs(base) * window, atol=1e-4)


# --- from a layer's grid to the axes


def test_a_map_over_time_alone_is_the_same_at_all_frequencies():
    ds = explain(classifier(Net()), recording(noise(2000)), ["grad-cam", "layer-cam"], target=1, store=False)
    assert ds.attrs["target_layer"] == "act" and list(ds["grid"].values) == ["1×498"] * 2
    values = ds["attribution"].values
    assert np.ptp(values, axis=1).max() == 0.0 and np.ptp(values, axis=2).max() > 0.0


def test_rows_of_mel_bands_lie_at_the_frequencies_of_these_bands():
    frontend = Waveform()
    edges = 700 * (np.expm1(np.log1p(8000 / 700) * np.arange(24) / 23))  # of 23 bands, even in mel
    frequency = np.arange(257) * 31.25
    for row in (3, 12, 22):
        grid = np.zeros((23, 29), np.float32)
        grid[row] = 1.0
        values = np.zeros((257, 646), np.float32)
        stitch = Stitch(values, frontend, [Window(0, 646)])
        stitch.add(0, MapResult(grid))
        stitch.finish()
        inside = (frequency > edges[row]) & (frequency < edges[row + 1])
        assert_allclose(values[inside].min(), 0.5, atol=0.25)
        assert values[(frequency < edges[row - 1]) | (frequency > edges[min(row + 2, 23)] + 1)].max(initial=0) == 0.0
        assert inside[values[:, 0].argmax()]


def test_segments_are_as_high_as_the_scale_says():
    window = Waveform().features(recording(noise(64_600))).values
    model = classifier(Logits(lambda x: x[:, :2]), Waveform())
    labels = Evidence(model, window, 0, budget={"segments": 40}).segments()
    assert labels.max() + 1 == 40  # 4 × 10
    tops = np.flatnonzero(np.diff(labels[:, 0])) * 31.25
    assert_allclose(tops, [700 * np.expm1(np.log1p(8000 / 700) * k / 4) for k in (1, 2, 3)], atol=31.25)
    linear = classifier(Logits(lambda x: x[:, :2]), Waveform(scale="linear"))
    even = Evidence(linear, window, 0, budget={"segments": 40}).segments()
    assert_allclose(np.flatnonzero(np.diff(even[:, 0])) * 31.25, [2000, 4000, 6000], atol=31.25)


def test_copies_of_a_short_recording_share_one_place_on_the_map():
    values = np.zeros((33, 50), np.float32)
    stitch = Stitch(values, SMALL, [Window(0, 50, filled="copies")])
    heard = np.concatenate([np.arange(50), np.arange(50), np.arange(25)]).astype(np.float32)
    more = np.repeat([0.0, 3.0, 0.0], [50, 50, 25])  # the second copy speaks louder
    stitch.add(0, MapResult((heard + more)[None]))
    stitch.finish()
    expected = np.arange(50) + np.where(np.arange(50) < 25, 1.0, 1.5)
    assert_allclose(values, np.tile(expected, (33, 1)), rtol=1e-5)


def test_a_narrow_window_has_the_layers_grid_for_itself():
    values = np.zeros((33, 50), np.float32)
    stitch = Stitch(values, SMALL, [Window(0, 50, filled="nothing")])
    stitch.add(0, MapResult(np.arange(5, dtype=np.float32)[None]))
    stitch.finish()
    assert_allclose(values[0, [4, 24, 45]], [0.0, 2.0, 4.0], atol=0.1)


# --- every method, any length


@pytest.mark.parametrize("seconds", [0.05, 0.3])
def test_every_compatible_method_explains_a_waveform(seconds):
    torch.manual_seed(0)
    model = classifier(build("xai_panel:inc-tssdnet", 2))
    allowed = compatible(model)
    assert [id for id, answer in allowed.items() if answer is not True] == ["cam"]  # its head is a maximum
    budget = {"segments": 6, "positions": 9, "coalitions": 20, "noise": 3, "steps": 4}
    signal = recording(noise(int(seconds * 16_000)))
    ds = explain(model, signal, budget=budget, store=False)
    assert list(ds["method"].values) == [id for id in METHODS if id != "cam"]
    assert ds["attribution"].shape[1:] == (33, signal.size // 16) and np.isfinite(ds["attribution"]).all()
    assert ds["input"].attrs["units"] == "dB"
    times = np.stack([ds["window_start"], ds["window_stop"]], axis=1)
    assert times[0, 0] == 0.0 and times[-1, 1] == pytest.approx(signal.size // 16 * 0.001)
    again = explain(model, signal, ["lime"], budget=budget, store=False)
    assert_allclose(again.xai.map("lime"), ds.xai.map("lime"), atol=1e-6)


def test_aasist_explains_a_recording_on_the_axes_of_its_transform():
    torch.manual_seed(0)
    model = classifier(build("xai_panel:aasist-l", 2), Waveform(samples=8000))
    ids = ["grad-cam", "layer-cam", "integrated-gradients", "occlusion", "consensus"]
    ds = explain(model, recording(noise(9000)), ids, budget={"steps": 2, "positions": 4}, store=False)
    assert ds["attribution"].shape == (5, 257, 90)
    assert list(ds["grid"].values[:3]) == ["23×3", "23×3", "257×80"]
    assert ds["window_logit"].size == 2 and np.isfinite(ds["attribution"]).all()
    assert float(ds["frequency"][-1]) == 8000.0
    for id, profile in zip(ids, ds.xai.profile("time"), strict=True):
        np.testing.assert_array_equal(profile, ds.xai.map(id).sum("frequency"))


def test_the_consensus_ranks_a_layers_map_where_its_rows_lie():
    torch.manual_seed(0)
    model = classifier(build("xai_panel:aasist-l", 2), Waveform(samples=8000))
    ds = explain(model, recording(noise(8000)), ["grad-cam", "layer-cam", "consensus"], store=False)
    first, second, mean = ds["attribution"].values
    assert_allclose(mean, (rankdata(first) + rankdata(second) - 1).reshape(mean.shape) / 2 / mean.size, atol=1e-6)


def test_the_time_profile_of_aasist_adds_up_to_its_logit_above_silence():
    torch.manual_seed(0)
    model = classifier(build("xai_panel:aasist-l", 2), Waveform(samples=4000))
    ids, budget = ["integrated-gradients"], {"steps": 16}
    ds = explain(model, recording(noise(4000)), ids, target=1, budget=budget, store=False)
    silence = model.backend.logits(np.zeros((1, *model.frontend.shape), np.float32))[0, 1]
    difference = float(ds["logits"][1]) - silence
    assert float(ds["error"][0]) < 0.01 * abs(difference)  # of the quadrature, as the method states it
    assert float(ds.xai.profile("time").sum()) == pytest.approx(difference, rel=0.01)


# --- constant-Q transform


def test_a_tone_lies_in_the_constant_q_band_of_its_frequency():
    frontend = ConstantQ()
    for frequency in (220.0, 1000.0, 5000.0):
        features = frontend.features(recording(np.sin(2 * np.pi * frequency * np.arange(32_000) / 16_000)))
        assert features.shape == (432, 125) and float(features.max()) == 0.0 and float(features.min()) >= -80.0
        loudest = float(features["frequency"][int(features.mean("time").values.argmax())])
        assert abs(np.log2(loudest / frequency)) < 0.6 / 48
    octave = features["frequency"].values
    assert_allclose(octave[48:] / octave[:-48], 2.0)


def test_the_constant_q_transform_does_not_depend_on_blocks(monkeypatch):
    signal = recording(noise(40_000))
    whole = ConstantQ().features(signal).values
    monkeypatch.setattr("xai_panel.models.spectra.BLOCK", 50)
    assert_allclose(10 ** (ConstantQ().features(signal).values / 20), 10 ** (whole / 20), atol=1e-3)


def test_a_network_on_the_constant_q_transform_is_explained():
    frontend = replace(ConstantQ(), bins=96, bins_per_octave=12, fmin=31.25, frames=40)
    torch.manual_seed(0)
    model = classifier(build("xai_panel:tssdnet-2d", 2), frontend)
    assert model.backend.default_layer() == "RSM4.relu"
    for samples in (5120, 20_480):  # repeated, and three windows
        signal = recording(noise(samples))
        ds = explain(model, signal, ["saliency", "grad-cam", "input-x-gradient"], store=False)
        assert ds["attribution"].shape == (3, 96, samples // 256)
        assert float(abs(ds["attribution"]).max(("frequency", "time")).min()) > 0
    features = frontend.features(recording(noise(5120))).values
    heard = frontend.to_input(torch.from_numpy(features[None]), torch.stack)[0].numpy()
    assert_allclose(heard, np.tile(features / 80 + 1, (1, 2)), atol=1e-6)


def test_front_ends_are_built_from_a_card():
    assert build_frontend({"kind": "waveform", "samples": 96_000}) == Waveform(samples=96_000)
    assert build_frontend({"kind": "cqt", "frames": 300}) == ConstantQ(frames=300)
    with pytest.raises(ValueError, match="parameter «scale» is 'bark'; one of mel, linear is expected"):
        build_frontend({"kind": "waveform", "scale": "bark"})
    with pytest.raises(ValueError, match="parameter «hop_length» is 256; 1…128, a quarter of n_fft, is expected"):
        build_frontend({"kind": "waveform", "hop_length": 256})
