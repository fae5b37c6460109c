"""One training loop for every PyTorch classifier: the best validation epoch is kept, a killed run goes on."""

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
from torch import nn
from tqdm import tqdm

from xai_panel.training.evaluate import auroc

Batches = Callable[[np.random.Generator], Iterator[tuple[torch.Tensor, torch.Tensor]]]


@dataclass(frozen=True)
class Schedule:
    """Epochs at most, batches an epoch (for the progress bar and the cosine schedule), peak learning rate, patience."""

    epochs: int
    batches: int
    learning_rate: float = 5e-4
    weight_decay: float = 1e-4
    patience: int = 5
    label_smoothing: float = 0.05


def device() -> torch.device:
    """A GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def fast_precision() -> bool:
    """Whether bfloat16 is computed by the hardware here."""
    return bool(torch.cuda.is_available() or torch.ops.mkldnn._is_mkldnn_bf16_supported())


def predict(network: nn.Module, inputs: Callable[[int, int], torch.Tensor], count: int, batch: int = 64) -> Any:
    """Logits (count, classes) of `inputs(first, last)`, in evaluation mode, float32."""
    network.eval()
    where = device()
    answers = []
    with torch.inference_mode():
        for first in range(0, count, batch):
            piece = inputs(first, min(first + batch, count)).to(where, memory_format=torch.channels_last)
            answers.append(network(piece).float().cpu().numpy())
    return np.concatenate(answers)


def fit(
    network: nn.Module,
    batches: Batches,
    validate: Callable[[nn.Module], tuple[NDArray[Any], NDArray[Any]]],
    schedule: Schedule,
    checkpoint: Path,
    seed: int = 0,
) -> dict[str, Any]:
    """Train `network` in place and leave it with the weights of its best validation epoch.

    batches: yields inputs (n, c, h, w) and labels (n,) of one epoch; validate: returns logits and labels of the
    validation part. `checkpoint` is written after every epoch and read back when it exists. Returns the history.
    """
    where = device()
    network.to(where, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(network.parameters(), lr=schedule.learning_rate, weight_decay=schedule.weight_decay)
    total = schedule.epochs * schedule.batches
    warmup = max(1, schedule.batches // 2)

    def rate(step: int) -> float:
        return min(1.0, (step + 1) / warmup) * 0.5 * (1 + math.cos(math.pi * min(1.0, step / total)))

    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    state: dict[str, Any] = {"epoch": 0, "best": -1.0, "best_epoch": -1, "weights": None, "history": [], "seconds": 0.0}
    if checkpoint.is_file():
        saved = torch.load(checkpoint, map_location=where, weights_only=True)
        network.load_state_dict(saved["network"])
        optimizer.load_state_dict(saved["optimizer"])
        scheduler.load_state_dict(saved["scheduler"])
        state = saved["state"]
    while state["epoch"] < schedule.epochs and state["epoch"] - state["best_epoch"] <= schedule.patience:
        epoch, started = state["epoch"], time.monotonic()
        torch.manual_seed(seed * 1000 + epoch)
        network.train()
        losses = []
        bar = tqdm(
            batches(np.random.default_rng([seed, epoch])),
            total=schedule.batches,
            desc=f"epoch {epoch + 1}/{schedule.epochs}",
            unit="batch",
            mininterval=5,
        )
        for inputs, labels in bar:
            inputs = inputs.to(where, memory_format=torch.channels_last)
            with torch.autocast(where.type, torch.bfloat16, enabled=fast_precision()):
                logits = network(inputs)
            loss = nn.functional.cross_entropy(
                logits.float(), labels.to(where), label_smoothing=schedule.label_smoothing
            )
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            scheduler.step()
            losses.append(float(loss.detach()))
            bar.set_postfix(loss=f"{np.mean(losses[-20:]):.3f}")
        logits, labels = validate(network)
        score = auroc(logits[:, 1] - logits[:, 0], labels == 1)
        nll = float(nn.functional.cross_entropy(torch.from_numpy(logits), torch.from_numpy(labels)))
        state["history"].append(
            {"epoch": epoch + 1, "loss": float(np.mean(losses)), "validation_auroc": score, "validation_nll": nll}
        )
        print(f"epoch {epoch + 1}: loss {np.mean(losses):.4f}, validation AUROC {score:.4f}, NLL {nll:.4f}", flush=True)
        merit = score - 0.01 * nll  # several epochs reach the same AUROC; the surer one is kept
        if merit > state["best"]:
            state["best"], state["best_epoch"] = merit, epoch
            state["weights"] = {k: v.detach().cpu().clone() for k, v in network.state_dict().items()}
        state["epoch"] = epoch + 1
        state["seconds"] += time.monotonic() - started
        checkpoint.parent.mkdir(parents=True, exist_ok=True)
        partial = checkpoint.with_suffix(".part")
        torch.save(
            {
                "network": network.state_dict(),
                "optimizer": optimizer.state_dict(),
                "scheduler": scheduler.state_dict(),
                "state": state,
            },
            partial,
        )
        partial.replace(checkpoint)
    network.load_state_dict(state["weights"])
    network.to("cpu")
    return state
