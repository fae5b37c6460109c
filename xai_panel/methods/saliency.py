"""Saliency."""

from __future__ import annotations

import numpy as np

from xai_panel.evidence.evidence import Evidence
from xai_panel.methods.base import MapResult, method


@method(
    "saliency",
    title="Saliency",
    family="gradient",
    needs={"gradients"},
    cite="Simonyan, Vedaldi & Zisserman 2014",
    cost=5,
    units="logit / feature unit",
    signed=False,
    summary="How strongly the logit reacts to a small change of each feature.",
    cannot="Says where the model is sensitive, not what it found; blind where the model is saturated, and noisy.",
)
def saliency(evidence: Evidence) -> MapResult:
    """|d logit / d features|, (H, W); of complex features the norm over both parts."""
    return MapResult(np.abs(evidence.gradient))
