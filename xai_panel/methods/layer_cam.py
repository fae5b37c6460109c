"""LayerCAM."""

from __future__ import annotations

import numpy as np

from xai_panel.evidence.evidence import Evidence
from xai_panel.methods.base import MapResult, method


@method(
    "layer-cam",
    title="LayerCAM",
    family="activation",
    needs={"layer"},
    cite="Jiang et al. 2021",
    cost=4,
    units="logit",
    signed=False,
    summary="Where activations and their own gradients speak for the target; unlike Grad-CAM also sharp in "
    "earlier layers.",
    cannot="Evidence against the target is cut off; as coarse as the layer's grid.",
)
def layer_cam(evidence: Evidence) -> MapResult:
    """ReLU of the sum over channels of relu(gradient) · activation, place by place, (h, w)."""
    layer = evidence.activations
    return MapResult(np.maximum((np.maximum(layer.gradients, 0) * layer.values).sum(axis=0, dtype=np.float64), 0))
