"""Occlusion."""

from __future__ import annotations

import numpy as np

from xai_panel.evidence.evidence import Evidence
from xai_panel.methods.base import MapResult, method


@method(
    "occlusion",
    title="Occlusion",
    family="perturbation",
    needs={"forward"},
    cite="Zeiler & Fergus 2014",
    cost=7,
    units="logit",
    signed=True,
    summary="How far the logit falls when a patch around each place is replaced by the baseline.",
    cannot="Blind to evidence that is present twice, because one copy suffices; as coarse as the patch.",
    budget=("positions",),
)
def occlusion(evidence: Evidence) -> MapResult:
    """Logit minus logit without the patch, mean over the patches that cover a feature, (H, W)."""
    occlusions = evidence.occlusions()
    total, count = np.zeros((2, *evidence.features.shape[-2:]))
    for (top, bottom, left, right), logit in zip(occlusions.boxes, occlusions.logits, strict=True):
        total[top:bottom, left:right] += evidence.logit - logit
        count[top:bottom, left:right] += 1
    return MapResult(total / count)
