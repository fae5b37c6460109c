"""Input × gradient."""

from __future__ import annotations

from xai_panel.evidence.evidence import Evidence, effect
from xai_panel.methods.base import MapResult, method


@method(
    "input-x-gradient",
    title="Input × gradient",
    family="gradient",
    needs={"gradients"},
    cite="Shrikumar et al. 2016",
    cost=6,
    units="logit",
    signed=True,
    summary="First-order estimate of what each feature adds to the logit, compared with the baseline.",
    cannot="Only exact for a linear model; a saturated or gated model breaks the estimate, and features at the "
    "baseline get zero.",
)
def input_x_gradient(evidence: Evidence) -> MapResult:
    """(features - baseline) · d logit / d features, (H, W): the input is measured from the baseline, not from zero."""
    return MapResult(effect(evidence.features - evidence.baseline, evidence.gradient))
