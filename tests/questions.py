"""Classifiers and signals with known answers for the tests of what stands around the methods."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import torch
import xarray as xr
from tiny import Logits, PlainFrontEnd
from torch import nn

from xai_panel.models.backends.torch import TorchBackend
from xai_panel.models.card import Card
from xai_panel.models.classifier import Classifier
from xai_panel.models.frontends import LogMel, RadiographImage, Window

RATE = 100.0  # samples per second of the test recordings
HOP = 0.1  # seconds between two frames


@dataclass(frozen=True)
class Frames(PlainFrontEnd):
    """A recording as `shape[0]` bands of ten samples per frame; windows overlap by half."""

    modality: str = "audio"

    def features(self, signal: xr.DataArray) -> xr.DataArray:
        count = signal.sizes["time"] // 10
        values = signal.values[: count * 10].reshape(count, 10).T[: self.shape[0]]
        return xr.DataArray(
            np.ascontiguousarray(values, np.float32),
            dims=("frequency", "time"),
            coords={
                "frequency": ("frequency", 100.0 * np.arange(1, self.shape[0] + 1), {"units": "Hz"}),
                "time": ("time", HOP * np.arange(count), {"units": "s"}),
            },
            attrs={**signal.attrs, "units": "dB"},
        )

    def windows(self, width: int) -> list[Window]:
        frames = self.shape[1]
        if width <= frames:
            return [Window(0, width)]
        starts = [*range(0, width - frames, frames // 2), width - frames]
        return [Window(start, start + frames) for start in starts]


class CountingBackend(TorchBackend):
    """Counts the windows that go through the network, and waits a little when told to."""

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.windows = 0
        self.calls = 0
        self.before_call = lambda: None

    def logits(self, batch):
        self.windows, self.calls = self.windows + len(batch), self.calls + 1
        self.before_call()
        return super().logits(batch)

    def activations(self, batch, layer, target=None):
        self.windows, self.calls = self.windows + len(batch), self.calls + 1
        self.before_call()
        return super().activations(batch, layer, target)

    def gradients(self, batch, target, layer=None):
        self.windows, self.calls = self.windows + len(batch), self.calls + 1
        self.before_call()
        return super().gradients(batch, target, layer)


def make_card(modality: str, digest: str, **changes) -> Card:
    labels = ("bona fide", "spoof") if modality == "audio" else ("normal", "pneumonia")
    kind = {"kind": "plain"}
    card = Card("tiny", "Tiny", "A test model.", modality, "torch", "test", labels, kind, digest=digest)
    return dataclasses.replace(card, **changes)


def listener(weights: np.ndarray, digest: str = "a" * 64) -> Classifier:
    """Audio: the logit of «spoof» is the sum of weights (H, W) × features, that of «bona fide» its negative."""
    tensor = torch.from_numpy(np.asarray(weights, np.float32))
    network = Logits(lambda x: torch.stack([-(x[:, 0] * tensor).sum((1, 2)), (x[:, 0] * tensor).sum((1, 2))], 1))
    frontend = Frames(weights.shape)
    return Classifier(
        make_card("audio", digest), frontend, CountingBackend(network, lambda x: x[:, None], weights.shape)
    )


class Seer(nn.Module):
    """Two random convolutions, global average pooling, a linear head."""

    def __init__(self, seed: int, pool: int = 1) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.conv = nn.Conv2d(1, 4, 3, padding=1, stride=2)
        self.relu = nn.ReLU()
        self.pool = nn.AdaptiveAvgPool2d(pool)
        self.head = nn.Linear(4 * pool * pool, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.pool(self.relu(self.conv(x))).flatten(1))


def seer(seed: int = 0, digest: str = "b" * 64, size: int = 16, pool: int = 1) -> Classifier:
    """Radiographs: a random convolutional network."""
    backend = CountingBackend(Seer(seed, pool), lambda x: x[:, None], (size, size))
    return Classifier(make_card("radiograph", digest), PlainFrontEnd((size, size)), backend)


def recording(seconds: float = 1.0, seed: int = 0) -> xr.DataArray:
    """Noise over time [s]."""
    count = round(seconds * RATE)
    values = np.random.default_rng(seed).standard_normal(count).astype(np.float32)
    return xr.DataArray(
        values,
        dims="time",
        coords={"time": ("time", np.arange(count) / RATE, {"units": "s"})},
        attrs={"modality": "audio", "source": "noise.wav", "sampling_rate": RATE, "units": "1"},
    )


def radiograph(seed: int = 0, size: int = 16, units: str = "mm") -> xr.DataArray:
    """A noise image over y, x."""
    centers = np.arange(size) + 0.5
    return xr.DataArray(
        np.random.default_rng(seed).standard_normal((size, size)).astype(np.float32),
        dims=("y", "x"),
        coords={"y": ("y", centers, {"units": units}), "x": ("x", centers, {"units": units})},
        attrs={"modality": "radiograph", "source": "noise.png", "units": "1"},
    )


def small(modality: str) -> Classifier:
    """A small random network behind the front end of the shipped classifier of this modality, under its id."""
    frontend = LogMel() if modality == "audio" else RadiographImage()
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 4, 9, stride=8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)
    )
    backend = CountingBackend(
        network, lambda x: frontend.to_input(x, lambda parts: torch.stack(list(parts), dim=1)), frontend.shape
    )
    id = {"audio": "audio-mobilenetv2", "radiograph": "xray-mobilenetv2"}[modality]
    return Classifier(make_card(modality, "e" * 64, id=id, title=f"Small {modality}"), frontend, backend)
