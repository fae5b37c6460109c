"""Small classifiers with fixed weights, made in a line, for the tests of evidence and methods."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
import xarray as xr
from torch import nn

from xai_panel.evidence.evidence import Evidence
from xai_panel.methods import METHODS, MapResult, upsample
from xai_panel.models.backends.torch import TorchBackend
from xai_panel.models.card import Card
from xai_panel.models.classifier import Classifier
from xai_panel.models.frontends import Window
from xai_panel.models.windows import even_rows


@dataclass(frozen=True)
class PlainFrontEnd:
    """Features are the model's input: one channel, nothing scaled."""

    shape: tuple[int, int]
    modality: str = "radiograph"
    floor: float = 0.0
    units: str = "1"
    flipped: ClassVar[bool] = False

    @property
    def dims(self) -> tuple[str, str]:
        return ("frequency", "time") if self.modality == "audio" else ("y", "x")

    def features(self, signal: xr.DataArray) -> xr.DataArray:
        return signal

    def windows(self, width: int) -> list[Window]:
        return [Window(0, width)]

    def rows(self, count: int) -> np.ndarray:
        return even_rows(self.shape[0], count)

    def to_input(self, batch: Any, stack: Callable[[Sequence[Any]], Any]) -> Any:
        return stack([batch])


def card(classes: int = 2, framework: str = "torch", modality: str = "radiograph") -> Card:
    labels = tuple(f"class {i}" for i in range(classes))
    return Card(
        "tiny", "Tiny", "A test model.", modality, framework, "test", labels, {"kind": "plain"}, digest="0" * 64
    )


def classifier(
    network: nn.Module, shape: tuple[int, int], *, modality: str = "radiograph", floor: float = 0.0
) -> Classifier:
    """A PyTorch network on inputs (n, 1, H, W) as a classifier of features (H, W)."""
    frontend = PlainFrontEnd(shape, modality, floor)
    backend = TorchBackend(network, lambda x: x[:, None], shape)
    return Classifier(card(backend.classes, modality=modality), frontend, backend)


class Logits(nn.Module):
    """A network from a function of the input (n, 1, H, W) to logits (n, classes)."""

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x)


class ConvNet(nn.Module):
    """Random convolutions, ReLU, pooling (global, or a grid) and a linear head; the same for the same seed."""

    def __init__(self, seed: int = 0, classes: int = 3, gap: bool = True, size: int = 16) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.conv1 = nn.Conv2d(1, 6, 3, padding=1)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(6, 8, 3, padding=1, stride=2)
        self.relu2 = nn.ReLU()
        self.pool = nn.AdaptiveAvgPool2d(1 if gap else size // 2 - 1)
        self.head = nn.Linear(8 if gap else 8 * (size // 2 - 1) ** 2, classes)
        for parameter in self.parameters():
            parameter.data.mul_(2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.relu2(self.conv2(self.relu1(self.conv1(x))))
        return self.head(self.pool(x).flatten(1))


def window(seed: int = 0, shape: tuple[int, int] = (16, 16)) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def conv_evidence(network: int = 0, gap: bool = True, **options: Any) -> Evidence:
    """Evidence of a random conv net (of the seed `network`) about a random window, target 1, baseline 0."""
    options = {"target": 1, "baseline": "floor", **options}
    return Evidence(classifier(ConvNet(network, gap=gap), (16, 16)), window(network), **options)


def read_all(evidence: Evidence, order: Sequence[str] | None = None) -> dict[str, MapResult]:
    """What each method answers; the consensus reads the others on the grid of the features, as of an explanation."""
    answers = {}
    for id in order or sorted(METHODS, key=lambda id: METHODS[id].cost):
        answers[id] = METHODS[id](evidence)
        evidence.maps[id] = MapResult(upsample(answers[id].values, evidence.features.shape[-2:]))
    return answers
