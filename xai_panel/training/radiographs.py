"""Training data of the radiograph classifiers: children (Kermany 2018) to train on, adults (NIH/RSNA) to test on.

Layout: `chest_xray_children/labels.csv` (image, label, cause, patient) and `chest_xray_adults/labels.csv` (image,
source_class, patient_id, rsna_class, …), each with a folder `images/`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from xai_panel.models.frontends import RadiographImage
from xai_panel.signals.radiograph import read_radiograph
from xai_panel.training import datasets


@dataclass(frozen=True)
class Radiographs:
    """Features (n, 224, 224) as uint8 (0…255 for 0…1), patients (n,), parts (n,).

    labels: (n, findings) of 1, 0 and NaN, «not known».
    """

    features: NDArray[np.uint8]
    labels: NDArray[np.float32]
    patients: NDArray[np.str_]
    parts: NDArray[np.str_]

    def select(self, keep: NDArray[np.bool_]) -> Radiographs:
        return Radiographs(self.features[keep], self.labels[keep], self.patients[keep], self.parts[keep])

    def part(self, name: str) -> Radiographs:
        """Those of one part of the split."""
        return self.select(self.parts == name)


def children(data: Path, frontend: RadiographImage, seed: int) -> Radiographs:
    """Radiographs of children, normal (0) or pneumonia (1), split by patient."""
    return _two(datasets.read(data, "chest-xray-children", seed=seed), ["normal", "pneumonia"], frontend)


def adults(data: Path, frontend: RadiographImage, seed: int) -> Radiographs:
    """Adults whose radiograph the RSNA radiologists called Normal (0) or Lung Opacity (1), split by patient."""
    return _two(datasets.read(data, "chest-xray-adults", seed=seed), ["normal", "lung opacity"], frontend)


def _two(items: list[datasets.Item], classes: list[str], frontend: RadiographImage) -> Radiographs:
    known = [item for item in items if item.label in classes]
    labels = np.array([[classes.index(item.label)] for item in known], dtype=np.float32)
    return read(known, labels, frontend)


def read(items: list[datasets.Item], labels: NDArray[np.float32], frontend: RadiographImage) -> Radiographs:
    """The radiographs of these items, with labels (n, findings) of 1, 0 and NaN, «not known»."""
    features = np.empty((len(items), *frontend.shape), dtype=np.uint8)
    for k, item in enumerate(tqdm(items, desc="radiographs", unit="image", mininterval=2)):
        features[k] = np.round(frontend.features(read_radiograph(item.path)).values * 255)
    groups, parts = np.array([item.group for item in items]), np.array([item.part for item in items])
    return Radiographs(features, labels, groups, parts)


def findings(sources: dict[int, Radiographs], outputs: int) -> Radiographs:
    """The finding of each source as the output of its number; not known of the other sources' radiographs."""
    labels = []
    for output, source in sources.items():
        labels.append(np.full((len(source.labels), outputs), np.nan, dtype=np.float32))
        labels[-1][:, output] = source.labels[:, 0]
    return Radiographs(
        np.concatenate([source.features for source in sources.values()]),
        np.concatenate(labels),
        np.concatenate([source.patients for source in sources.values()]),
        np.concatenate([source.parts for source in sources.values()]),
    )


def blurred(features: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """Gaussian blur of images (n, h, w), each with its own standard deviation (n,) in pixels."""
    reach = 7
    offsets = torch.arange(-reach, reach + 1, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (offsets / sigma.clamp(min=1e-2)[:, None]) ** 2)
    kernel = (kernel / kernel.sum(dim=1, keepdim=True))[:, None, None, :]
    padded = torch.nn.functional.pad(features[None], (reach, reach, reach, reach), mode="reflect")
    count = features.shape[0]
    rows = torch.nn.functional.conv2d(padded, kernel, groups=count)
    return torch.nn.functional.conv2d(rows, kernel.transpose(2, 3), groups=count)[0]


def augment(features: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Small rotations, scalings, shifts and changes of contrast, and sharpness over a wide range.

    Sharpness differs between the classes of the data (normal images are sharper); blurring, sharpening and noise of
    random strength take that shortcut away.
    """
    count, size = features.shape[0], features.shape[-1]

    def uniform(low: float, high: float) -> torch.Tensor:
        return torch.from_numpy(rng.uniform(low, high, count).astype(np.float32))

    angle, scale = uniform(-0.17, 0.17), torch.exp(uniform(-0.16, 0.16))
    aspect = torch.exp(uniform(-0.08, 0.08))
    theta = torch.zeros(count, 2, 3)
    theta[:, 0, 0], theta[:, 0, 1] = torch.cos(angle) * scale * aspect, -torch.sin(angle) * scale
    theta[:, 1, 0], theta[:, 1, 1] = torch.sin(angle) * scale, torch.cos(angle) * scale / aspect
    theta[:, 0, 2], theta[:, 1, 2] = uniform(-0.1, 0.1), uniform(-0.1, 0.1)
    grid = torch.nn.functional.affine_grid(theta, [count, 1, size, size], align_corners=False)
    moved = torch.nn.functional.grid_sample(features[:, None], grid, padding_mode="zeros", align_corners=False)[:, 0]
    soft = blurred(moved, torch.exp(uniform(-1.2, 0.9)))
    sharpen = torch.from_numpy(rng.uniform(0.0, 1.5, count).astype(np.float32) * (rng.random(count) < 0.3))
    mixed = soft + sharpen[:, None, None] * (moved - soft)
    toned = mixed.clamp(0, 1) ** torch.exp(uniform(-0.35, 0.35))[:, None, None]
    toned = (toned - 0.5) * torch.exp(uniform(-0.2, 0.2))[:, None, None] + 0.5 + uniform(-0.08, 0.08)[:, None, None]
    noise = torch.from_numpy(rng.standard_normal(tuple(toned.shape), dtype=np.float32))
    return (toned + noise * uniform(0.0, 0.03)[:, None, None]).clamp(0, 1)


def epoch_batches(
    train: Radiographs, frontend: RadiographImage, batch: int, shrink: int, rng: np.random.Generator
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Batches of inputs (n, channels, h, w) with labels (n,), or (n, findings) of several, drawn anew every epoch.

    shrink: the images have this fraction of their height and width.
    """
    order = epoch_order(train, rng)
    labels = torch.from_numpy(train.labels)
    for first in range(0, order.size - batch + 1, batch):
        index = order[first : first + batch]
        features = augment(torch.from_numpy(train.features[index]).float() / 255, rng)
        if shrink > 1:
            features = torch.nn.functional.avg_pool2d(features[:, None], shrink)[:, 0]
        yield model_input(features, frontend), labels[index] if labels.shape[1] > 1 else labels[index, 0].long()


def epoch_order(train: Radiographs, rng: np.random.Generator, most: int = 4) -> NDArray[np.int64]:
    """Indices of one epoch: as many of 1 as of 0 of each finding, rare findings up to `most` times."""
    classes = [[np.flatnonzero(column == label) for label in (0, 1)] for column in train.labels.T]
    counts = [min(len(members) for members in both) for both in classes]
    drawn = [
        rng.choice(members, count, replace=False)
        for both, count in zip(classes, counts, strict=True)
        if count
        for _ in range(min(most, max(counts) // count))
        for members in both
    ]
    order = np.concatenate(drawn)
    rng.shuffle(order)
    return order


def model_input(features: torch.Tensor, frontend: RadiographImage) -> torch.Tensor:
    """Network input (n, channels, h, w) of features (n, h, w)."""
    stacked: torch.Tensor = frontend.to_input(features, lambda channels: torch.stack(list(channels), dim=1))
    return stacked.contiguous(memory_format=torch.channels_last)
