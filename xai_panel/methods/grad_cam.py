"""Grad-CAM."""

from __future__ import annotations

import numpy as np

from xai_panel.evidence.evidence import Evidence
from xai_panel.methods.base import MapResult, method


@method(
    "grad-cam",
    title="Grad-CAM",
    family="activation",
    needs={"layer"},
    cite="Selvaraju et al. 2017",
    cost=2,
    units="logit",
    signed=False,
    summary="Where the target layer's channels that speak for the target are active.",
    cannot="Evidence against the target is cut off; as coarse as the layer's grid, and blurred between several places.",
)
def grad_cam(evidence: Evidence) -> MapResult:
    """ReLU of the sum over channels of mean gradient · activation, (h, w)."""
    return MapResult(np.maximum(weighted_sum(evidence), 0))


def weighted_sum(evidence: Evidence) -> np.ndarray:
    """Grad-CAM before its ReLU, (h, w)."""
    layer = evidence.activations
    return np.tensordot(layer.gradients.mean(axis=(1, 2), dtype=np.float64), layer.values, axes=1)
