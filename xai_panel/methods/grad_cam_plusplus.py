"""Grad-CAM++."""

from __future__ import annotations

import numpy as np

from xai_panel.evidence.evidence import Evidence
from xai_panel.methods.base import MapResult, method


@method(
    "grad-cam++",
    title="Grad-CAM++",
    family="activation",
    needs={"layer"},
    cite="Chattopadhay et al. 2018",
    cost=3,
    units="logit",
    signed=False,
    summary="Grad-CAM whose channel weights count each place where the gradient speaks for the target: better "
    "with several finds.",
    cannot="Evidence against the target is cut off; as coarse as the layer's grid.",
)
def grad_cam_plusplus(evidence: Evidence) -> MapResult:
    """ReLU of the sum over channels of w · activation, w = sum over places of α · relu(gradient), (h, w).

    Equation 19, α = g² / (2 g² + g³ ΣA), with the score exp(logit): α · relu(g) = relu(g) / (2 + g ΣA), without the
    division 0 / 0. The factor exp(logit) that is common to all weights is left out, which keeps the map in logit
    units. The derivation takes the activations to be non-negative; where a layer is read before its activation a
    negative sum ΣA counts as none.
    """
    layer = evidence.activations
    positive = np.maximum(layer.gradients.astype(np.float64), 0)
    total = np.maximum(layer.values.sum(axis=(1, 2), keepdims=True, dtype=np.float64), 0)
    weights = (positive / (2 + positive * total)).sum(axis=(1, 2))
    return MapResult(np.maximum(np.tensordot(weights, layer.values, axes=1), 0))
