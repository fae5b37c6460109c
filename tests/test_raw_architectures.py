"""Networks on the raw waveform and the constant-Q transform: sizes, layers, and the published checkpoints' answers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import xai_panel as xp
from xai_panel.models.architectures import build
from xai_panel.models.architectures.aasist import SincBands
from xai_panel.models.backends.torch import TorchBackend
from xai_panel.models.state import network_for
from xai_panel.signals.audio import read_audio

#: architecture: samples in a window, trainable parameters, all values
WAVEFORM = {
    "xai_panel:aasist": (64_600, 297_866, 299_550),
    "xai_panel:aasist-l": (64_600, 85_306, 86_270),
    "xai_panel:tssdnet-1d": (96_000, 348_530, None),
    "xai_panel:inc-tssdnet": (96_000, 92_658, 93_411),
}
PUBLISHED = {
    "AASIST": ("xai_panel:aasist", "aasist/AASIST.pth"),
    "AASIST-L": ("xai_panel:aasist-l", "aasist/AASIST-L.pth"),
    "Inc-TSSDNet": ("xai_panel:inc-tssdnet", "inc_tssdnet/Inc_TSSDNet.pth"),
}


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0)) / 10


def published(shared_data: Path, name: str) -> tuple[str, dict[str, torch.Tensor]]:
    architecture, path = PUBLISHED[name]
    file = shared_data.parent / "checkpoints" / path
    if not file.is_file():
        pytest.skip(f"published checkpoint not found at {file}")
    state = torch.load(file, weights_only=True, map_location="cpu")
    return architecture, state.get("model_state_dict", state)


@pytest.mark.parametrize("architecture", WAVEFORM)
def test_the_networks_have_the_published_number_of_parameters(architecture):
    network = build(architecture, 2)
    _, trainable, values = WAVEFORM[architecture]
    assert sum(p.numel() for p in network.parameters()) == trainable
    if values is not None:
        assert sum(value.numel() for value in network.state_dict().values()) == values


def test_the_network_on_a_spectrogram_has_the_published_number_of_parameters():
    assert sum(p.numel() for p in build("xai_panel:tssdnet-2d", 2).parameters()) == 966_674


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_checkpoints_load_and_give_the_published_outputs(shared_data, name):
    architecture, state = published(shared_data, name)
    network = build(architecture, 2).eval()
    network.load_state_dict(state, strict=True)
    reference = json.loads((shared_data.parent / "checkpoints" / "reference_outputs.json").read_text())["outputs"]
    samples = WAVEFORM[architecture][0]
    files = list(reference[name])[::2]
    waveforms = [np.resize(read_audio(shared_data / file).values, samples) for file in files]
    with torch.inference_mode():
        logits = torch.cat([network(torch.from_numpy(waveform)[None]) for waveform in waveforms])
    np.testing.assert_allclose(logits, [reference[name][file] for file in files], atol=1e-4)


def test_a_published_checkpoint_gets_our_order_of_classes(shared_data):
    architecture, state = published(shared_data, "AASIST-L")
    theirs = build(architecture, 2).eval()
    theirs.load_state_dict(state)
    ours = network_for(architecture, ("bona fide", "spoof"), state, "AASIST-L.pth", (1, 0)).eval()
    with torch.inference_mode():
        torch.testing.assert_close(ours(noise(1, 16_000)), theirs(noise(1, 16_000))[:, [1, 0]])


CARD = """
id = "published"
title = "AASIST-L as published"
summary = "Jung et al. 2021, trained on ASVspoof 2019 LA."
modality = "audio"
framework = "torch"
architecture = "xai_panel:aasist-l"
labels = ["bona fide", "spoof"]
outputs = [1, 0]
weights = "AASIST-L.pth"

[frontend]
kind = "waveform"
"""


def test_a_card_makes_a_published_checkpoint_a_classifier(shared_data, tmp_path, monkeypatch):
    published(shared_data, "AASIST-L")
    monkeypatch.setenv("XAI_PANEL_HOME", str(tmp_path / "home"))
    checkpoints = shared_data.parent / "checkpoints"
    shutil.copy(checkpoints / "aasist" / "AASIST-L.pth", tmp_path)
    (tmp_path / "card.toml").write_text(CARD)
    xp.add_model(tmp_path / "card.toml")
    reference = json.loads((checkpoints / "reference_outputs.json").read_text())["outputs"]["AASIST-L"]
    file, (spoof, bona_fide) = next(iter(reference.items()))
    ds = xp.explain("published", read_audio(shared_data / file), ["grad-cam", "input-x-gradient"], store=False)
    np.testing.assert_allclose(ds["logits"], [bona_fide, spoof], atol=1e-4)
    assert ds["attribution"].dims == ("method", "frequency", "time")
    assert (np.ptp(ds["attribution"].values, axis=(1, 2)) > 0).all()


@pytest.mark.parametrize("architecture", [*WAVEFORM, "xai_panel:tssdnet-2d"])
def test_windows_do_not_hear_each_other_and_every_parameter_matters(architecture):
    torch.manual_seed(0)
    network = build(architecture, 3).eval()
    x = noise(3, 64, 48) if architecture.endswith("2d") else noise(3, 8000)
    together = network(x)
    assert together.shape == (3, 3)
    with torch.no_grad():
        torch.testing.assert_close(torch.cat([network(window[None]) for window in x]), together, atol=1e-5, rtol=1e-4)
    together.square().sum().backward()
    silent = {name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().max() > 0}
    unused = {name for name, _ in network.named_parameters() if name.startswith("encoder") and ".bn1." in name}
    assert silent == unused  # as published
    assert network.train()(x).isfinite().all()


@pytest.mark.parametrize(
    ("architecture", "layer", "channels", "grid"),
    [
        ("xai_panel:aasist", "encoder.5.0.pool", 64, (23, 3)),
        ("xai_panel:aasist-l", "encoder.5.0.pool", 24, (23, 3)),
        ("xai_panel:tssdnet-1d", "RSM4.relu", 128, (1, 31)),
        ("xai_panel:inc-tssdnet", "DCM4.relu", 128, (1, 31)),
    ],
)
def test_the_target_layer_is_the_last_one_with_a_grid(architecture, layer, channels, grid):
    torch.manual_seed(0)
    network = build(architecture, 2)
    backend = TorchBackend(network, lambda x: x.flatten(1), (8, 1000))
    assert backend.default_layer() == layer
    assert not any("GAT" in name or "pool_" in name for name in backend.layers())  # nodes are no places
    x = noise(2, 8, 1000).numpy()
    answer = backend.gradients(x, 1, layer)
    assert answer.activations.shape == answer.layer.shape == (2, channels, *grid)
    assert np.abs(answer.layer).max() > 0 and np.abs(answer.inputs).max() > 0
    alone = backend.activations(x, layer, 1)
    np.testing.assert_allclose(alone.values, answer.activations, atol=1e-6)
    np.testing.assert_allclose(alone.gradients, answer.layer, atol=1e-6)
    with torch.no_grad():
        np.testing.assert_allclose(network(torch.from_numpy(x).flatten(1)), answer.logits, atol=1e-5)


def test_every_layer_of_aasist_is_read_without_changing_the_answer():
    torch.manual_seed(0)
    network = build("xai_panel:aasist-l", 2)
    backend = TorchBackend(network, lambda x: x.flatten(1), (4, 1000))
    x = noise(1, 4, 1000).numpy()
    plain = backend.gradients(x, 0)
    assert backend.layers()[0] == "sinc"
    for layer in backend.layers()[::6]:
        answer = backend.gradients(x, 0, layer)
        np.testing.assert_allclose(answer.inputs, plain.inputs, rtol=1e-4, atol=1e-7)
        np.testing.assert_array_equal(answer.logits, plain.logits)


def test_batches_that_memory_does_not_hold_go_through_in_parts(monkeypatch):
    torch.manual_seed(0)
    network = build("xai_panel:inc-tssdnet", 2)
    x = noise(5, 4, 500).numpy()
    together = TorchBackend(network, lambda x: x.flatten(1), (4, 500))
    layer = together.default_layer()
    monkeypatch.setattr("xai_panel.models.backends.torch.MEMORY", 3 * 4 * 16 * 2000 * 4)  # of 16 channels, 4 bytes each
    heard = []
    parts = TorchBackend(network, lambda x: (heard.append(len(x)), x.flatten(1))[1], (4, 500))
    assert parts.batch == 3
    heard.clear()
    np.testing.assert_allclose(parts.logits(x), together.logits(x), atol=1e-6)
    assert heard == [3, 2]
    for one, other in (
        (parts.gradients(x, 1, layer), together.gradients(x, 1, layer)),
        (parts.activations(x, layer, 1), together.activations(x, layer, 1)),
        (parts.activations(x, layer), together.activations(x, layer)),  # all windows decide about the target
    ):
        for name, values in vars(other).items():
            np.testing.assert_allclose(getattr(one, name), values, atol=1e-6, err_msg=name)
    assert max(heard) == 3


@pytest.mark.parametrize(("first", "passes"), [(0, 2), (1, 1)])
def test_windows_are_heard_again_only_when_the_first_ones_were_mistaken_for_the_verdict(monkeypatch, first, passes):
    """The mean over the windows is for class 1; the first part alone may be for class 0."""
    layer = torch.nn.Conv2d(1, 2, 1, bias=False)
    layer.weight.data = torch.tensor([1.0, -1.0]).reshape(2, 1, 1, 1)
    network = torch.nn.Sequential(layer, torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    x = np.full((6, 4, 4), np.arange(-1, -7, -1)[:, None, None], np.float32)
    x[:2] *= -1 if first == 0 else 1
    together = TorchBackend(network, lambda x: x[:, None], (4, 4)).activations(x, "0")
    assert together.target == 1 and int(together.logits[0].argmax()) == first
    heard = []
    parts = TorchBackend(network, lambda x: (heard.append(len(x)), x[:, None])[1], (4, 4))
    monkeypatch.setattr(parts, "_backward", 2)
    heard.clear()
    answer = parts.activations(x, "0")
    assert heard == [2, 2, 2] * passes
    for name, values in vars(together).items():
        np.testing.assert_array_equal(getattr(answer, name), values, err_msg=name)


def test_aasist_keeps_within_the_memory_of_one_pass():
    backend = TorchBackend(build("xai_panel:aasist", 2), lambda x: x.flatten(1), (646, 100))
    assert backend.batch == 4 and backend._backward == 1


def test_the_sinc_bands_are_the_ones_of_the_mel_scale():
    response = np.abs(np.fft.rfft(SincBands(70, 129).filters[:, 0].numpy(), 16_000))
    mel = 2595 * np.log10(1 + 8000 / 700) * (np.arange(70) + 0.5) / 70
    centers = 700 * (10 ** (mel / 2595) - 1)
    inner = slice(10, -1)  # 129 taps do not resolve the narrow low bands; the highest one is flat up to 8 kHz
    np.testing.assert_allclose(response.argmax(axis=1)[inner], centers[inner], atol=20)


def test_a_network_without_a_name_is_refused():
    with pytest.raises(ValueError, match="assist is unknown; did you mean xai_panel:aasist, xai_panel:aasist-l"):
        build("xai_panel:assist", 2)
