"""Consensus."""

from __future__ import annotations

import numpy as np

from xai_panel.evidence.evidence import Evidence
from xai_panel.methods.base import MapResult, method


@method(
    "consensus",
    title="Consensus",
    family="consensus",
    needs={"maps"},
    cite="rank average, Borda 1781",
    cost=100,
    units="rank",
    signed=False,
    summary="Mean rank of each feature over the other maps, 0 to 1; the spread shows where they disagree.",
    cannot="Methods that share a weakness outvote the others: agreement is no proof.",
)
def consensus(evidence: Evidence) -> MapResult:
    """Mean over all maps that were read, each on the grid of the features, of the features' ranks, (H, W) between 0
    and 1; spread: standard deviation over the maps.

    Ranks go from the strongest evidence against the target (signed maps) or the least (unsigned) to the strongest for
    it, ties share their mean rank. Raises ValueError when fewer than two other maps were read, or one of them on
    another grid.
    """
    from scipy.stats import rankdata

    maps = {id: result for id, result in sorted(evidence.maps.items()) if id != "consensus"}
    if len(maps) < 2:
        raise ValueError(f"consensus: {len(maps)} other map(s) to compare; accepted: two or more; choose more methods")
    shape = evidence.features.shape[-2:]
    for id, result in maps.items():
        if result.values.shape != shape:
            raise ValueError(
                f"consensus: the map of {id} is {result.values.shape}; accepted: that of the features, {shape}"
            )
    ranks = np.stack([(rankdata(m.values, axis=None) - 0.5) / np.prod(shape) for m in maps.values()])
    ranks = ranks.reshape(len(maps), *shape)
    return MapResult(ranks.mean(axis=0), spread=ranks.std(axis=0).astype(np.float32))
