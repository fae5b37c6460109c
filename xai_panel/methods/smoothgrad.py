"""SmoothGrad."""

from __future__ import annotations

import numpy as np

from xai_panel.evidence.evidence import Evidence, magnitude
from xai_panel.methods.base import MapResult, method


@method(
    "smoothgrad",
    title="SmoothGrad",
    family="gradient",
    needs={"gradients"},
    cite="Smilkov et al. 2017",
    cost=8,
    units="logit / feature unit",
    signed=False,
    summary="Saliency averaged over noisy copies of the input: sensitivity without the flicker of single gradients.",
    cannot="Says where the model is sensitive, not what it found; the noise makes inputs that the model never saw.",
    budget=("noise", "noise_level"),
)
def smoothgrad(evidence: Evidence) -> MapResult:
    """|mean of d logit / d features over the noisy copies|, (H, W); error: root mean square standard error."""
    noise = evidence.noise()
    return MapResult(magnitude(noise.mean), float(np.sqrt(np.mean(noise.error**2))), "standard error")
