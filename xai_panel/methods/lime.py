"""LIME."""

from __future__ import annotations

import numpy as np

from xai_panel.evidence.coalitions import Coalitions
from xai_panel.evidence.evidence import Evidence
from xai_panel.methods.base import MapResult, jackknife, method

#: Width of the exponential kernel on the cosine distance, as in lime's image explainer.
WIDTH = 0.25


@method(
    "lime",
    title="LIME",
    family="perturbation",
    needs={"forward"},
    cite="Ribeiro, Singh & Guestrin 2016",
    cost=10,
    units="logit",
    signed=True,
    summary="Coefficients of a linear model of the logit around the input: what each segment adds when most "
    "others are present.",
    cannot="The linear model may fit badly; segments, kernel width and baseline are choices, and the samples "
    "leave an error.",
    budget=("coalitions", "segments"),
)
def lime(evidence: Evidence) -> MapResult:
    """Coefficients of lime's weighted ridge regression on the shared coalitions, painted on their segments, (H, W).

    error: delete-group jackknife standard error.
    """
    coalitions = evidence.coalitions()
    everything = np.arange(len(coalitions.masks))
    return MapResult(
        coalitions.paint(coefficients(coalitions, everything)),
        jackknife(lambda kept: coefficients(coalitions, kept), coalitions),
        "standard error",
    )


def coefficients(coalitions: Coalitions, kept: np.ndarray) -> np.ndarray:
    """Ridge coefficients (k,) of lime's own regression on the coalitions `kept` and the two ends."""
    from lime.lime_base import LimeBase

    k = len(coalitions.players)
    if k == 0:
        return np.zeros(0)
    masks = np.concatenate([np.ones((1, k)), coalitions.masks[kept], np.zeros((1, k))])
    logits = np.concatenate([[coalitions.full], coalitions.logits[kept], [coalitions.empty]])
    distances = 1 - np.sqrt(masks.mean(axis=1))  # cosine distance to the coalition of all
    balance = np.concatenate([[1.0], coalitions.uniform_weights[kept], [1.0]])
    weights = balance * np.sqrt(np.exp(-(distances**2) / WIDTH**2))
    # The seed is never used: the regression is solved in closed form.
    base = LimeBase(kernel_fn=lambda _: weights, random_state=0)
    _, pairs, _, _ = base.explain_instance_with_data(masks, logits[:, None], distances, 0, k, feature_selection="none")
    values = np.zeros(k)
    for segment, coefficient in pairs:
        values[segment] = coefficient
    return values
