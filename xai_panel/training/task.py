"""What a training consists of: a recipe, and the task that it makes of the data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from xai_panel.training import datasets, fit
from xai_panel.training.datasets.base import HELD_OUT, SUFFIXES, TRAIN
from xai_panel.training.learners import KerasLearner, Learner, TorchLearner
from xai_panel.training.splits import part_of

#: What data sets call the class of which nothing is wrong.
NEGATIVE = ("bona fide", "bonafide", "real", "genuine", "human", "normal", "no finding", "healthy", "negative")


@dataclass(frozen=True)
class HeldOut:
    """One test set: its name for the card, and of each item: its number in the task, label and group.

    output: the network's logit that is meant, when each of its outputs is a finding.
    """

    name: str
    items: NDArray[np.int64]
    labels: NDArray[np.int64]
    groups: NDArray[Any]
    output: int | None = None

    def judged(self, answers: dict[int, NDArray[np.float64]]) -> fit.Judged:
        """Logits (items, 2) and labels, from the answers (outputs,) of the items."""
        logits = np.stack([answers[k] for k in self.items.tolist()])
        if self.output is not None:
            logits = logits[:, self.output, None]
        return (np.concatenate([-logits / 2, logits / 2], axis=1) if logits.shape[1] == 1 else logits), self.labels

    def shift(self, by: float, outputs: int) -> NDArray[np.float32]:
        """What to add to a network's logits (outputs,), so that the positive of those meant here gains `by`."""
        if self.output is None and outputs == 2:
            return np.array([-by / 2, by / 2], dtype=np.float32)
        shift = np.zeros(outputs, dtype=np.float32)
        shift[self.output or 0] = by
        return shift


@dataclass(frozen=True)
class Task:
    """What one classifier is trained on.

    inputs: the windows (n, …) of an item by number, as the classifier looks at them; its answer is their mean.
    """

    batches: fit.Batches
    schedule: fit.Schedule
    sample: torch.Tensor
    inputs: Callable[[int], torch.Tensor]
    validation: list[HeldOut]
    tests: list[HeldOut]
    split: dict[str, str]
    card: dict[str, Any]
    suffix: str = ""  # of the classifier's id, when it was trained on a published data set

    def check(self, data: Path) -> None:
        """Raises `DatasetError` when there is not enough to train with, or a part lacks a class."""
        if not self.schedule.batches:
            raise datasets.DatasetError(data, "less than one batch to train on", "more", "add data")
        for part in (*self.validation, *self.tests):
            if set(part.labels.tolist()) != {0, 1}:
                found = f"{len(part.items)} items of {len(set(part.labels.tolist()))} classes in «{part.name}»"
                raise datasets.DatasetError(data, found, "both classes in every part", "add data of the other one")


@dataclass(frozen=True)
class Source:
    """Where a training gets its data, and what whoever asked for it chose.

    data: the folder with the collected samples, or a published data set; cache: a folder for what is made of it;
    epochs: None for the recipe's; classes: labels of the negative and the positive class, None where there are two;
    options: of the data set's reader.
    """

    data: Path
    cache: Path
    seed: int = 0
    epochs: int | None = None
    classes: tuple[str, str] | None = None
    options: Mapping[str, str] = field(default_factory=dict)

    def published(self, modality: str) -> tuple[datasets.Layout, list[datasets.Item]]:
        """The published data set in the folder, with a held-out part by group where none was published.

        Raises `DatasetError` for a folder that is none, or one of another modality.
        """
        layout = datasets.detect(self.data)
        items = datasets.read(self.data, layout.id, seed=self.seed, **self.options)
        if {items[0].path.suffix.lower()} - set(SUFFIXES[modality]):
            raise datasets.DatasetError(
                self.data, f"{layout.id}, files like {items[0].path.name}", modality, "choose a classifier of its kind"
            )
        if not any(item.part == HELD_OUT for item in items):
            kept = 0.1 if len({item.part for item in items}) == 1 else 0.0  # a published validation part stays one
            items = [
                replace(item, part=part_of(item.group, self.seed, validation=kept)) if item.part == TRAIN else item
                for item in items
            ]
        return layout, [item for item in items if item.part != datasets.UNUSED]

    def refuse_choices(self) -> None:
        """Raises `DatasetError` when classes or options were chosen; the collected samples leave no choice."""
        if self.classes or self.options:
            raise datasets.DatasetError(
                self.data,
                "--classes or an option of a reader",
                "none of them",
                "leave it out: these samples have a recipe",
            )

    def two_classes(self, labels: set[str]) -> tuple[str, str]:
        """Negative and positive class among these labels. Raises `DatasetError` where a choice is needed."""
        known = sorted(labels - {""}, key=lambda label: (label.lower() not in NEGATIVE, label))
        negative, positive = self.classes or (known if len(known) == 2 else ("", ""))
        if not {negative, positive} <= set(known):
            raise datasets.DatasetError(
                self.data, f"labels {', '.join(known)}", "two classes", "choose them: --classes NEGATIVE POSITIVE"
            )
        return negative, positive


@dataclass(frozen=True)
class Recipe:
    """How one classifier is made.

    task: reads the data; architecture: see `build`, of PyTorch, and `build_keras`; outputs: of the network;
    initial: "" for random weights, the id of `PUBLISHED` ones, or of the classifier whose weights it starts from;
    piece: share of the front end's window that one training window has; coarse: epochs that look at images of half the
    height and width, the first ones; rounds: how often each bona fide recording of the collected ones is heard in an
    epoch; batch: windows a step; norms: see `TorchLearner`.
    """

    task: Callable[[Recipe, Source], Task] = field(repr=False)  # whose address is another in each process
    title: str
    architecture: str
    frontend: dict[str, Any]
    epochs: int
    learning_rate: float = 5e-4
    framework: str = "torch"
    outputs: int = 2
    initial: str = ""
    piece: float = 1.0
    coarse: int = 0
    rounds: int = 3
    batch: int = 32
    smoothing: float = 0.05
    norms: bool = False

    def schedule(self, source: Source, batches: int) -> fit.Schedule:
        """Of `batches` an epoch."""
        return fit.Schedule(source.epochs or self.epochs, batches, self.learning_rate, patience=6)

    def learner(self, seed: int) -> Learner:
        """The network with random weights."""
        if self.framework == "tensorflow":
            from xai_panel.models.architectures import build_keras

            return KerasLearner(lambda: build_keras(self.architecture, self.outputs), 1e-4, self.smoothing, seed)
        from xai_panel.models.architectures import build

        return TorchLearner(build(self.architecture, self.outputs), 1e-4, self.smoothing, self.norms)
