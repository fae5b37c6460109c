"""Figures of a trained classifier: discrimination, calibration, and how sure the figures are."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
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


def fit_temperature(logits: Floats, labels: NDArray[np.integer]) -> float:
    """Temperature with the smallest negative log-likelihood (Guo et al. 2017) for logits (n, 2).

    The targets are Platt's, (n₊ + 1) / (n₊ + 2) and 1 / (n₋ + 2): where all items are told apart, n of them do not
    prove more (Platt 1999, eq. 10).
    """
    ones = int((labels == 1).sum())
    wanted = np.where(labels == 1, (ones + 1) / (ones + 2), 1 / (labels.size - ones + 2))

    def loss(log_temperature: float) -> float:
        chances = probabilities(logits, float(np.exp(log_temperature)))
        return float(-(wanted * np.log(chances[:, 1] + 1e-12) + (1 - wanted) * np.log(chances[:, 0] + 1e-12)).mean())

    return float(np.exp(minimize_scalar(loss, bounds=(-3.0, 3.0), method="bounded").x))


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
