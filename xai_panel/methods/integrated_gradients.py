"""Integrated gradients."""

from __future__ import annotations

from xai_panel.evidence.evidence import Evidence, effect
from xai_panel.methods.base import MapResult, method


@method(
    "integrated-gradients",
    title="Integrated gradients",
    family="gradient",
    needs={"gradients"},
    cite="Sundararajan, Taly & Yan 2017",
    cost=9,
    units="logit",
    signed=True,
    summary="What each feature adds to the logit on the way from the baseline to the input; the values sum to "
    "the difference.",
    cannot="Depends on the baseline; the inputs on the way look like nothing the model was trained on, and features "
    "at the baseline get zero.",
    budget=("steps",),
)
def integrated_gradients(evidence: Evidence) -> MapResult:
    """(features - baseline) · mean gradient on the path, (H, W), Gauss-Legendre quadrature.

    error: |sum of the map - (logit - baseline logit)|, the completeness gap of the quadrature.
    """
    path = evidence.path()
    return MapResult(effect(evidence.features - evidence.baseline, path.mean), path.gap, "completeness gap")
