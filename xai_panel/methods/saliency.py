"""Saliency."""

from __future__ import annotations

from xai_panel.evidence.evidence import Evidence, magnitude
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
    """|d logit / d features|, (H, W); the norm over both parts of complex features, and over the colors of a pixel."""
    return MapResult(magnitude(evidence.gradient))
