"""Attribution methods: one file each, and the registry. `xai_panel.methods()` lists them."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import numpy as np

from xai_panel._callable import make_callable
from xai_panel.evidence.evidence import no_layer, target_layer
from xai_panel.methods.base import MapResult, Method, upsample
from xai_panel.methods.cam import cam
from xai_panel.methods.consensus import consensus
from xai_panel.methods.grad_cam import grad_cam
from xai_panel.methods.grad_cam_plusplus import grad_cam_plusplus
from xai_panel.methods.input_x_gradient import input_x_gradient
from xai_panel.methods.integrated_gradients import integrated_gradients
from xai_panel.methods.kernel_shap import kernel_shap
from xai_panel.methods.layer_cam import layer_cam
from xai_panel.methods.lime import lime
from xai_panel.methods.occlusion import occlusion
from xai_panel.methods.saliency import saliency
from xai_panel.methods.smoothgrad import smoothgrad

if TYPE_CHECKING:
    from xai_panel.models.classifier import Classifier

__all__ = ["METHODS", "MapResult", "Method", "compatible", "get", "upsample"]

METHODS: dict[str, Method] = {
    method.id: method
    for method in (
        saliency,
        input_x_gradient,
        smoothgrad,
        integrated_gradients,
        cam,
        grad_cam,
        grad_cam_plusplus,
        layer_cam,
        occlusion,
        lime,
        kernel_shap,
        consensus,
    )
}


def _call() -> list[Method]:
    """All methods, by family."""
    return list(METHODS.values())


def get(id: str) -> Method:
    """The method with this id. Raises ValueError that names the nearest ones."""
    if id not in METHODS:
        near = get_close_matches(id, METHODS, n=3, cutoff=0.4)
        raise ValueError(
            f"method {id!r}: not known; {'did you mean' if near else 'accepted:'} {', '.join(near or METHODS)}"
        )
    return METHODS[id]


def compatible(model: str | Classifier, layer: str | None = None) -> dict[str, bool | str]:
    """For each method whether it can explain the classifier: True, or the reason why not.

    Parameters: model, a classifier or its id; layer, the target layer, None for the default.
    """
    if isinstance(model, str):
        from xai_panel.models.registry import load_model

        model = load_model(model)
    layer = layer or target_layer(model)
    reasons = {} if layer else {"layer": no_layer(model)}
    if not model.backend.differentiable:
        reasons = dict.fromkeys(("gradients", "layer"), f"{model.backend.framework} answers with logits only")
    answer: dict[str, bool | str] = {}
    for method in METHODS.values():
        missing = [reasons[need] for need in sorted(method.needs, reverse=True) if need in reasons]
        if not missing and "cam-head" in method.needs and layer is not None:
            reason = _no_cam_head(model, layer)
            missing = [reason] if reason else []
        answer[method.id] = missing[0] if missing else True
    return answer


_heads: WeakKeyDictionary[Classifier, dict[str, str]] = WeakKeyDictionary()


def _no_cam_head(classifier: Classifier, layer: str) -> str:
    """Why the part behind `layer` is not global average pooling and one linear layer; empty when it is.

    Such a head, and no other, has a gradient that is the same at all places and for all inputs. Two random inputs are
    asked, which needs nothing of the framework; the answer is kept with the classifier.
    """
    known = _heads.setdefault(classifier, {})
    if layer not in known:
        frontend = classifier.frontend
        scale = abs(frontend.floor) or 1.0
        noise = np.random.default_rng(0).random((2, *frontend.shape), np.float32)
        gradients = classifier.backend.activations(
            np.float32(frontend.floor) + scale * noise, layer, classifier.card.positive
        ).gradients
        largest = np.abs(gradients).max()
        if largest == 0:
            known[layer] = f"the gradient at layer {layer} is zero, the head cannot be read"
        elif np.ptp(gradients, axis=(2, 3)).max() > 1e-4 * largest:
            known[layer] = (
                f"the head behind layer {layer} is not global average pooling: its gradient differs between places"
            )
        elif np.ptp(gradients, axis=0).max() > 1e-4 * largest:
            known[layer] = f"the head behind layer {layer} is not linear: its gradient depends on the input"
        else:
            known[layer] = ""
    return known[layer]


make_callable(__name__)
