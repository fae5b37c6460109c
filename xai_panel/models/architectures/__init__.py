"""Networks by name, with a head of the wanted number of classes and without trained weights."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

#: The project's own networks: module and function below this package.
OWN = {
    "aasist": "aasist:aasist",
    "aasist-l": "aasist:aasist_l",
    "tssdnet-1d": "tssdnet:res_tssdnet_1d",
    "tssdnet-2d": "tssdnet:res_tssdnet_2d",
    "inc-tssdnet": "tssdnet:inc_tssdnet",
}


def build(architecture: str, classes: int) -> nn.Module:
    """An untrained network.

    `architecture` is "torchvision:<name>" or "xai_panel:<name>" with a name of `OWN`; `ValueError` for anything else.
    """
    source, _, name = architecture.partition(":")
    if source == "torchvision":
        from xai_panel.models._torchvision import torchvision_models

        return torchvision_models().get_model(name, weights=None, num_classes=classes)
    if source != "xai_panel" or name not in OWN:
        own = ", ".join(f"xai_panel:{name}" for name in OWN)
        raise ValueError(f"architecture {architecture!r} is unknown; expected torchvision:<name> or one of {own}")
    module, function = OWN[name].split(":")
    network: nn.Module = getattr(import_module(f"{__name__}.{module}"), function)(classes)
    return network
