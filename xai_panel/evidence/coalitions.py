"""Which segments are present in each masked question, designed once for LIME and KernelSHAP.

LIME wants coalitions in which every segment is present with probability ½; KernelSHAP wants coalition sizes s with
probability proportional to 1 / (s (k - s)). Each would waste most of the other's answers, so half of the pairs are
drawn from either, and every coalition carries the balance weight of its size: the wanted density over the density of
the mixture (Veach & Guibas 1995). Each coalition comes with its complement, which removes the odd part of the
sampling error (Covert & Lee 2021). When all 2^k coalitions fit into the budget they are enumerated and the answers
are exact.
"""

from __future__ import annotations

from collections.abc import Callable
from math import comb

import numpy as np

_GOLDEN = 0.6180339887498949


class Coalitions:
    """Coalitions of segments and the logit that the model gave to each.

    Attributes
    ----------
    labels: (H, W) int, segment of every feature
    players: (k,) int, the segments that take part; a segment that equals its baseline cannot change anything and is
    left out
    masks: (n, k) bool, True = present; neither empty nor full
    logits: (n,) float64
    full, empty: logit with all segments and with none
    exact: whether `masks` holds every coalition exactly once
    """

    def __init__(
        self,
        labels: np.ndarray,
        players: np.ndarray,
        ask: Callable[[np.ndarray], np.ndarray],
        *,
        full: float,
        empty: float,
        budget: int,
        rng: np.random.Generator,
    ) -> None:
        self.labels, self.players, self.full, self.empty = labels, players, full, empty
        self._ask, self._rng, self._pairs = ask, rng, 0
        k = len(players)
        self.exact = k < 2 or 2**k - 2 <= budget
        self.masks, self.logits = np.zeros((0, k), bool), np.zeros(0)
        if self.exact:
            self._append(enumerate_masks(k))
        else:
            self._start = rng.random()
            self.extend(budget)

    def extend(self, count: int) -> None:
        """Ask `count` more coalitions (rounded up to whole pairs); nothing happens when all were asked already.

        The sequence does not depend on how it was cut: two extensions by 100 give the same coalitions as one by 200.
        """
        if not self.exact:
            self._append(np.concatenate([self._pair() for _ in range(-(-count // 2))]))

    def _append(self, masks: np.ndarray) -> None:
        if len(masks):
            self.masks = np.concatenate([self.masks, masks])
            self.logits = np.concatenate([self.logits, self._ask(masks).astype(np.float64)])

    def _pair(self) -> np.ndarray:
        """The next coalition and its complement, (2, k): even pairs by the Shapley kernel, odd ones by fair coins."""
        k = len(self.players)
        draw = self._rng.random(k)
        if self._pairs % 2 == 0:
            # Sizes follow a golden-ratio sequence: as evenly spread as stratified ones, without knowing the end.
            u = (self._start + (self._pairs // 2) * _GOLDEN) % 1.0
            size = 1 + int(np.searchsorted(np.cumsum(shapley_sizes(k)), u, side="right"))
            mask = np.zeros(k, bool)
            mask[np.argsort(draw, kind="stable")[: min(size, k - 1)]] = True
        else:
            mask = draw < 0.5
            if mask.all() or not mask.any():
                mask[0] = not mask[0]
        self._pairs += 1
        return np.stack([mask, ~mask])

    @property
    def shapley_weights(self) -> np.ndarray:
        """(n,) weights under which a sum over `masks` is one over the Shapley kernel; mean about 1."""
        return self._balance(shapley_sizes(len(self.players)))

    @property
    def uniform_weights(self) -> np.ndarray:
        """(n,) weights under which a sum over `masks` is one over equally likely coalitions; mean about 1."""
        return self._balance(binomial_sizes(len(self.players)))

    def _balance(self, wanted: np.ndarray) -> np.ndarray:
        k = len(self.players)
        if not len(self.masks):
            return np.zeros(0)
        asked = binomial_sizes(k) if self.exact else (shapley_sizes(k) + binomial_sizes(k)) / 2
        return (wanted / asked)[self.masks.sum(axis=1) - 1]

    def folds(self, count: int) -> list[np.ndarray]:
        """Index arrays that each leave out one of `count` groups of pairs: the subsets of a delete-group jackknife."""
        fold = (np.arange(len(self.masks)) // 4) % count  # four: a pair of either kind in each group
        return [np.flatnonzero(fold != i) for i in range(count)]

    def paint(self, values: np.ndarray) -> np.ndarray:
        """Write one value per player (k,) on all its features; returns (H, W) float32, 0 where no player is."""
        segments = np.zeros(int(self.labels.max()) + 1, np.float32)
        segments[self.players] = values
        return segments[self.labels]


def shapley_sizes(k: int) -> np.ndarray:
    """Probability of the sizes 1…k-1 under the Shapley kernel; (k-1,). Lundberg & Lee 2017, theorem 2."""
    size = np.arange(1, k)
    weight = 1.0 / (size * (k - size))
    return weight / weight.sum()


def binomial_sizes(k: int) -> np.ndarray:
    """Probability of the sizes 1…k-1 when every coalition but the empty and the full one is equally likely; (k-1,)."""
    weight = np.array([comb(k, size) for size in range(1, k)], float)
    return weight / weight.sum()


def enumerate_masks(k: int) -> np.ndarray:
    """Every coalition of k players but the empty and the full one; (2^k - 2, k) bool."""
    codes = np.arange(1, 2**k - 1)
    return (codes[:, None] >> np.arange(k) & 1).astype(bool)
