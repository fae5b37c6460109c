"""Class activation mapping."""

from __future__ import annotations

import numpy as np

from xai_panel.evidence.evidence import Evidence
from xai_panel.methods.base import MapResult, method


@method(
    "cam",
    title="CAM",
    family="activation",
    needs={"layer", "cam-head"},
    cite="Zhou et al. 2016",
    cost=1,
    units="logit",
    signed=True,
    summary="The logit of each place of the last layer by itself; the mean over the map is the logit without its bias.",
    cannot="Only for a head of global average pooling and one linear layer, and as coarse as that layer's grid.",
)
def cam(evidence: Evidence) -> MapResult:
    """Sum over channels of head weight · activation, (h, w).

    Behind global average pooling d logit / d activation is the weight divided by the h·w places, so the weights need
    not be looked up in the framework's layers.
    """
    layer = evidence.activations
    weights = layer.gradients.sum(axis=(1, 2), dtype=np.float64)
    return MapResult(np.tensordot(weights, layer.values, axes=1))
