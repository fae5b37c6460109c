"""One training loop for every classifier: the best validation epoch is kept, a killed run goes on."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from xai_panel.training.evaluate import auroc, likelihood_loss
from xai_panel.training.learners import Learner

Batches = Callable[[int, np.random.Generator], Iterator[tuple[torch.Tensor, torch.Tensor]]]
Judged = tuple[NDArray[np.floating], NDArray[np.integer]]  # logits (n, 2) and labels (n,)


@dataclass(frozen=True)
class Schedule:
    """Epochs at most, batches an epoch (for the progress bar and the cosine schedule), peak learning rate, patience."""

    epochs: int
    batches: int
    learning_rate: float = 5e-4
    patience: int = 5

    def rate(self, step: int) -> float:
        """Learning rate of a step: half an epoch of linear warm-up, then half a cosine down to 0."""
        warmup = max(1, self.batches // 2)
        falling = 0.5 * (1 + math.cos(math.pi * min(1.0, step / (self.epochs * self.batches))))
        return self.learning_rate * min(1.0, (step + 1) / warmup) * falling


def fit(
    learner: Learner,
    batches: Batches,
    validate: Callable[[], list[Judged]],
    schedule: Schedule,
    checkpoint: Path,
    seed: int = 0,
) -> dict[str, Any]:
    """Train a network in place and leave it with the weights of its best validation epoch.

    batches: of an epoch, yields inputs (n, …) and labels, see `Learner`; validate: logits and labels of the validation
    part, once for each finding; their mean decides. `checkpoint` is written after every epoch and read back when it
    exists. Returns the history.
    """
    state: dict[str, Any] = {"epoch": 0, "step": 0, "best": -1.0, "best_epoch": -1, "history": [], "seconds": 0.0}
    best = learner.weights()
    if checkpoint.is_file():
        saved = torch.load(checkpoint, map_location="cpu", weights_only=True)
        learner.set_weights(saved["weights"])
        learner.set_optimizer(saved["optimizer"])
        state, best = saved["state"], saved["best"]
    while state["epoch"] < schedule.epochs and state["epoch"] - state["best_epoch"] <= schedule.patience:
        epoch, started = state["epoch"], time.monotonic()
        torch.manual_seed(seed * 1000 + epoch)
        losses = []
        bar = tqdm(
            batches(epoch, np.random.default_rng([seed, epoch])),
            total=schedule.batches,
            desc=f"epoch {epoch + 1}/{schedule.epochs}",
            unit="batch",
            mininterval=5,
        )
        for inputs, labels in bar:
            losses.append(learner.step(inputs, labels, schedule.rate(state["step"])))
            state["step"] += 1
            bar.set_postfix(loss=f"{np.mean(losses[-20:]):.3f}")
        judged = validate()
        score = float(np.mean([auroc(logits[:, 1] - logits[:, 0], labels == 1) for logits, labels in judged]))
        nll = float(np.mean([likelihood_loss(logits, labels) for logits, labels in judged]))
        state["history"].append(
            {"epoch": epoch + 1, "loss": float(np.mean(losses)), "validation_auroc": score, "validation_nll": nll}
        )
        print(f"epoch {epoch + 1}: loss {np.mean(losses):.4f}, validation AUROC {score:.4f}, NLL {nll:.4f}", flush=True)
        merit = score - 0.01 * nll  # several epochs reach the same AUROC; the surer one is kept
        if merit > state["best"]:
            state["best"], state["best_epoch"] = merit, epoch
            best = learner.weights()
        state["epoch"] = epoch + 1
        state["seconds"] += time.monotonic() - started
        checkpoint.parent.mkdir(parents=True, exist_ok=True)
        partial = checkpoint.with_suffix(".part")
        torch.save(
            {"weights": learner.weights(), "optimizer": learner.optimizer(), "state": state, "best": best}, partial
        )
        partial.replace(checkpoint)
    learner.set_weights(best)
    return state
