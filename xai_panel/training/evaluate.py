"""Figures of a trained classifier: discrimination, calibration, and how sure the figures are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.stats import rankdata

Floats = NDArray[np.floating]


def auroc(scores: Floats, positive: NDArray[np.bool_]) -> float:
    """Area under the ROC curve of scores (n,) for the positives (n,); the Mann–Whitney statistic, ties count half."""
    count, rest = int(positive.sum()), int((~positive).sum())
    if not count or not rest:
        return float("nan")
    ranks = rankdata(scores)
    return float((ranks[positive].sum() - count * (count + 1) / 2) / (count * rest))


def equal_error_rate(scores: Floats, positive: NDArray[np.bool_]) -> float:
    """Error rate at the threshold where false alarms and misses are equally frequent."""
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(positive[order]) / positive.sum()
    alarms = np.cumsum(~positive[order]) / (~positive).sum()
    at = int(np.argmin(np.abs((1 - hits) - alarms)))
    return float(((1 - hits[at]) + alarms[at]) / 2)


def probabilities(logits: Floats, temperature: float) -> Floats:
    """Softmax of logits (n, classes) divided by the temperature."""
    powers = np.exp((logits - logits.max(axis=1, keepdims=True)) / temperature)
    return powers / powers.sum(axis=1, keepdims=True)


def fit_calibration(parts: Sequence[tuple[Floats, NDArray[np.integer]]]) -> tuple[float, list[float]]:
    """Temperature, and what to add to the positive logit of each part, with the smallest negative log-likelihood.

    parts: logits (n, 2) and labels (n,); one of them, or one for each finding of a network. The probability is
    softmax((logits + (0, shift)) / temperature): Platt scaling (Platt 1999). Both classes weigh the same, however many
    items they have, so that 50 % is where either is equally likely. The targets are Platt's, (n₊ + 1) / (n₊ + 2) and
    1 / (n₋ + 2): where all items are told apart, n of them do not prove more (eq. 10).
    """
    margins = [logits[:, 1] - logits[:, 0] for logits, _ in parts]
    wanted, weights = [], []
    for _, labels in parts:
        ones = int((labels == 1).sum())
        rest = labels.size - ones
        wanted.append(np.where(labels == 1, (ones + 1) / (ones + 2), 1 / (rest + 2)))
        weights.append(np.where(labels == 1, 0.5 / ones, 0.5 / rest))

    def loss(chosen: Floats) -> float:
        powers = [(m + shift) * np.exp(-chosen[0]) for m, shift in zip(margins, chosen[1:], strict=True)]
        return float(
            sum(
                (w * (np.logaddexp(0, z) - target * z)).sum()
                for z, target, w in zip(powers, wanted, weights, strict=True)
            )
        )

    starts = [
        -(m[labels == 1].mean() + m[labels == 0].mean()) / 2 for m, (_, labels) in zip(margins, parts, strict=True)
    ]
    bounds = [(-3.0, 3.0), *[(None, None)] * len(parts)]
    found = minimize(loss, np.array([0.0, *starts]), method="L-BFGS-B", bounds=bounds).x
    return float(np.exp(found[0])), [float(shift) for shift in found[1:]]


def likelihood_loss(logits: Floats, labels: NDArray[np.integer], temperature: float = 1.0) -> float:
    """Mean negative log-likelihood of the labels (n,) under logits (n, classes)."""
    chosen = probabilities(logits, temperature)[np.arange(labels.size), labels]
    return float(-np.log(chosen + 1e-12).mean())


def calibration_error(probability: Floats, positive: NDArray[np.bool_], bins: int = 10) -> float:
    """Expected calibration error of the positive class in equally wide bins (Guo et al. 2017, eq. 3)."""
    index = np.minimum((probability * bins).astype(int), bins - 1)
    error = 0.0
    for k in range(bins):
        inside = index == k
        if inside.any():
            error += inside.mean() * abs(probability[inside].mean() - positive[inside].mean())
    return float(error)


def bootstrap_interval(
    scores: Floats, positive: NDArray[np.bool_], groups: NDArray[Any], draws: int = 500, seed: int = 0
) -> list[float]:
    """95 % interval of the AUROC; whole groups (patients, speakers) are drawn: their items depend on each other.

    Empty for fewer than ten groups, which say nothing about groups that were not seen.
    """
    rng = np.random.default_rng(seed)
    names, inverse = np.unique(groups, return_inverse=True)
    if names.size < 10:
        return []
    members = [np.flatnonzero(inverse == k) for k in range(names.size)]
    values = []
    for _ in range(draws):
        index = np.concatenate([members[k] for k in rng.integers(0, names.size, names.size)])
        value = auroc(scores[index], positive[index])
        if np.isfinite(value):
            values.append(value)
    return [round(float(v), 4) for v in np.percentile(values, (2.5, 97.5))] if values else []


def report(logits: Floats, labels: NDArray[np.integer], groups: NDArray[Any], temperature: float) -> dict[str, Any]:
    """AUROC with its 95 % interval, equal error rate, accuracy, calibration error and counts of one test set."""
    positive = labels == 1
    probability = probabilities(logits, temperature)[:, 1]
    scores = logits[:, 1] - logits[:, 0]
    return {
        "auroc": round(auroc(scores, positive), 4),
        "auroc_interval": bootstrap_interval(scores, positive, groups),
        "eer": round(equal_error_rate(scores, positive), 4),
        "accuracy": round(float(((probability > 0.5) == positive).mean()), 4),
        "calibration_error": round(calibration_error(probability, positive), 4),
        "positives": int(positive.sum()),
        "negatives": int((~positive).sum()),
    }
