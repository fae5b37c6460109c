"""Import torchvision beside a CPU build of torch.

The published torchvision wheel is compiled for another build of torch: its native library does not load, and its import
dies because two operators are unknown. Defining their schemas first makes all but the detection operators work, which
classifiers do not use. Where the operators exist, nothing is done.
"""

from __future__ import annotations

import importlib
from types import ModuleType

import torch

_SCHEMAS = {
    "nms": "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}
_library: torch.library.Library | None = None  # the schemas live as long as this object


def torchvision_models() -> ModuleType:
    """The module `torchvision.models`."""
    global _library
    try:
        return importlib.import_module("torchvision.models")
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
    _library = torch.library.Library("torchvision", "FRAGMENT")
    for schema in _SCHEMAS.values():
        _library.define(schema)
    return importlib.import_module("torchvision.models")
