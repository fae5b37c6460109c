"""Networks by name, with a head of the wanted number of classes and without trained weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


def build(architecture: str, classes: int) -> nn.Module:
    """An untrained network. `architecture` is "torchvision:<name>"; `ValueError` for anything else."""
    source, _, name = architecture.partition(":")
    if source != "torchvision":
        raise ValueError(f"architecture {architecture!r} is unknown; expected torchvision:<name>")
    from xai_panel.models._torchvision import torchvision_models

    return torchvision_models().get_model(name, weights=None, num_classes=classes)
