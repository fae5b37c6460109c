"""Training data of the radiograph classifiers: children (Kermany 2018) to train on, adults (NIH/RSNA) to test on.

Layout: `chest_xray_children/labels.csv` (image, label, cause, patient) and `chest_xray_adults/labels.csv` (image,
source_class, patient_id, rsna_class, …), each with a folder `images/`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from xai_panel.models.frontends import RadiographImage
from xai_panel.training import datasets
from xai_panel.training.images import Images, stored
from xai_panel.training.task import Source

#: The negative and the positive class of the collected radiographs.
CLASSES = {"chest-xray-children": ("normal", "pneumonia"), "chest-xray-adults": ("normal", "lung opacity")}


@dataclass(frozen=True)
class Radiographs:
    """Some of the images of a set: their rows (n,) there, patients (n,), parts (n,).

    labels: (n, findings) of 1, 0 and NaN, «not known».
    """

    images: Images
    rows: NDArray[np.int64]
    labels: NDArray[np.float32]
    patients: NDArray[np.str_]
    parts: NDArray[np.str_]

    def select(self, keep: NDArray[np.bool_]) -> Radiographs:
        return Radiographs(self.images, self.rows[keep], self.labels[keep], self.patients[keep], self.parts[keep])

    def part(self, name: str) -> Radiographs:
        """Those of one part of the split."""
        return self.select(self.parts == name)

    def features(self, index: slice | NDArray[np.int64]) -> torch.Tensor:
        """Features (index, h, w), 0…1, of some of them by number, read from disk."""
        return self.images.features(self.rows[index])


def collected(source: Source, frontend: RadiographImage) -> tuple[Radiographs, Radiographs]:
    """Children, normal (0) or pneumonia (1), and adults, whose radiograph RSNA's readers called Normal or Lung Opacity.

    Both are split by patient, and rows of one set of images.
    """
    known: list[datasets.Item] = []
    labels: list[int] = []
    counts = []
    for layout, classes in CLASSES.items():
        items = [item for item in datasets.read(source.data, layout, seed=source.seed) if item.label in classes]
        known += items
        labels += [classes.index(item.label) for item in items]
        counts.append(len(items))
    everything = read(known, np.array(labels, dtype=np.float32)[:, None], source, frontend)
    children = np.arange(len(known)) < counts[0]
    return everything.select(children), everything.select(~children)


def read(
    items: list[datasets.Item], labels: NDArray[np.float32], source: Source, frontend: RadiographImage
) -> Radiographs:
    """The radiographs of these items, with labels (n, findings) of 1, 0 and NaN, «not known»."""
    images = stored([item.path for item in items], frontend, source.cache)
    groups, parts = np.array([item.group for item in items]), np.array([item.part for item in items])
    return Radiographs(images, np.arange(len(items)), labels, groups, parts)


def findings(sources: dict[int, Radiographs], outputs: int) -> Radiographs:
    """The finding of each source as the output of its number; not known of the other sources' radiographs.

    They are rows of one set of images.
    """
    labels = []
    for output, source in sources.items():
        labels.append(np.full((len(source.labels), outputs), np.nan, dtype=np.float32))
        labels[-1][:, output] = source.labels[:, 0]
    return Radiographs(
        next(iter(sources.values())).images,
        np.concatenate([source.rows for source in sources.values()]),
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
        features = augment(train.features(index), rng)
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
