"""What a method is: a pure reading of evidence, with a card that says what it shows, needs and costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from xai_panel.evidence.coalitions import Coalitions
from xai_panel.evidence.evidence import BUDGET, Evidence
from xai_panel.models.windows import even_rows

#: Everything that a method can need of a classifier or of the evidence.
NEEDS = ("forward", "gradients", "layer", "cam-head", "maps")


@dataclass(frozen=True)
class MapResult:
    """An attribution map on its own grid.

    Attributes
    ----------
    values: (h, w) float32, raw, in the method's units
    error: its uncertainty in the same units; nan when the method makes no estimate
    error_kind: "completeness gap", "standard error" or ""
    spread: (h, w) disagreement per cell, or None
    """

    values: np.ndarray
    error: float = float("nan")
    error_kind: str = ""
    spread: np.ndarray | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", np.ascontiguousarray(self.values, np.float32))


@dataclass(frozen=True)
class Method:
    """An attribution method.

    Attributes
    ----------
    id, title: name in code and on screen
    family: "gradient", "activation", "perturbation" or "consensus"
    needs: subset of `NEEDS`
    cite: source
    cost: rank, cheapest first; methods run in this order
    units: of the raw values
    signed: whether values below zero speak against the target
    summary, cannot: what the map shows, and what it cannot show
    params: the parts of the evidence's budget that it reads, with their defaults
    read: evidence → map
    """

    id: str
    title: str
    family: str
    needs: frozenset[str]
    cite: str
    cost: int
    units: str
    signed: bool
    summary: str
    cannot: str
    read: Callable[[Evidence], MapResult] = field(repr=False)
    params: Mapping[str, float] = field(default_factory=dict)

    def __call__(self, evidence: Evidence) -> MapResult:
        return self.read(evidence)


def method(
    id: str,
    *,
    title: str,
    family: str,
    needs: set[str],
    cite: str,
    cost: int,
    units: str,
    signed: bool,
    summary: str,
    cannot: str,
    budget: tuple[str, ...] = (),
) -> Callable[[Callable[[Evidence], MapResult]], Method]:
    """Turn a reading of evidence into a `Method`. `budget` names the entries of `BUDGET` that it depends on."""
    unknown = needs - set(NEEDS)
    if unknown:
        raise ValueError(f"{id}: needs {', '.join(sorted(unknown))}; accepted: {', '.join(NEEDS)}")
    params = {name: BUDGET[name] for name in budget}

    def wrap(read: Callable[[Evidence], MapResult]) -> Method:
        return Method(
            id, title, family, frozenset(needs), cite, cost, units, signed, summary, cannot, read=read, params=params
        )

    return wrap


def upsample(values: np.ndarray, shape: tuple[int, int], rows: np.ndarray | None = None) -> np.ndarray:
    """Bilinear interpolation of a map (h, w) to `shape` (H, W), cells aligned by their edges; returns float32.

    The grid of a layer divides the window into h·w equal cells, so its values belong to the centers of these cells.
    rows: where the H rows lie on the map's, as `FrontEnd.rows` says, when its cells are not equally high.
    """

    def weights(source: int, places: np.ndarray) -> np.ndarray:
        distance = np.abs(np.clip(places, 0, source - 1)[:, None] - np.arange(source))
        return np.maximum(1.0 - distance, 0.0)

    height, width = values.shape
    if (height, width) == tuple(shape):
        return np.asarray(values, np.float32)
    rows = even_rows(shape[0], height) if rows is None else rows
    return (weights(height, rows) @ values @ weights(width, even_rows(shape[1], width)).T).astype(np.float32)


def jackknife(fit: Callable[[np.ndarray], np.ndarray], coalitions: Coalitions, groups: int = 10) -> float:
    """Standard error of coefficients fitted to sampled coalitions, root mean square over the segments [logit].

    Delete-group jackknife (Kott 2001): `fit(indices)` returns the coefficients (k,) of a subset of the coalitions;
    whole pairs are left out together, because a coalition and its complement are not independent. 0 when every
    coalition was asked.
    """
    if coalitions.exact:
        return 0.0
    estimates = np.stack([fit(kept) for kept in coalitions.folds(groups)])
    variance = (groups - 1) / groups * ((estimates - estimates.mean(axis=0)) ** 2).sum(axis=0)
    return float(np.sqrt(variance.mean()))
