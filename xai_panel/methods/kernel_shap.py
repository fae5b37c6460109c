"""KernelSHAP."""

from __future__ import annotations

import numpy as np

from xai_panel.evidence.coalitions import Coalitions
from xai_panel.evidence.evidence import Evidence
from xai_panel.methods.base import MapResult, jackknife, method


@method(
    "kernel-shap",
    title="KernelSHAP",
    family="perturbation",
    needs={"forward"},
    cite="Lundberg & Lee 2017",
    cost=11,
    units="logit",
    signed=True,
    summary="Shapley values of the segments: what each adds on average over all orders of adding them; they sum "
    "to the difference.",
    cannot="Absent segments are at the baseline, which the model may never have seen; with many segments the "
    "samples leave an error.",
    budget=("coalitions", "segments"),
)
def kernel_shap(evidence: Evidence) -> MapResult:
    """Shapley values by weighted least squares on the shared coalitions, painted on their segments, (H, W).

    error: delete-group jackknife standard error; 0 when all coalitions were asked, the values then are exact.
    """
    coalitions = evidence.coalitions()
    everything = np.arange(len(coalitions.masks))
    return MapResult(
        coalitions.paint(shapley_values(coalitions, everything)),
        jackknife(lambda kept: shapley_values(coalitions, kept), coalitions),
        "standard error",
    )


def shapley_values(coalitions: Coalitions, kept: np.ndarray) -> np.ndarray:
    """Shapley values (k,) from the coalitions `kept`; they sum to full - empty.

    The constraint is met by construction: an equal share for everybody plus a deviation that sums to zero, which the
    least squares solution of minimal norm on centered masks does.
    """
    k = len(coalitions.players)
    if k == 0:
        return np.zeros(0)
    share = (coalitions.full - coalitions.empty) / k
    masks = coalitions.masks[kept].astype(np.float64)
    root = np.sqrt(coalitions.shapley_weights[kept])
    rest = coalitions.logits[kept] - coalitions.empty - share * masks.sum(axis=1)
    centered = masks - masks.mean(axis=1, keepdims=True)
    return share + np.linalg.lstsq(root[:, None] * centered, root * rest, rcond=None)[0]
