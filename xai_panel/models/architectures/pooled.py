"""VGG16 and AlexNet without their fully connected layers of 4096, which hold nine tenths of their weights."""

from __future__ import annotations

import torch
from torch import nn


class Pooled(nn.Module):
    """The convolutions of a torchvision network, global average pooling, dropout and one linear layer.

    Input (n, 3, h, w), output (n, outputs) logits. The convolutions have torchvision's parameter names and, untrained,
    the initialisation of He et al. 2015, without which the sixteen layers of VGG do not learn.
    """

    def __init__(self, name: str, outputs: int) -> None:
        from xai_panel.models._torchvision import torchvision_models

        super().__init__()
        with torch.device("meta"):  # the large head is never allocated
            full = torchvision_models().get_model(name, weights=None)
        self.features: nn.Sequential = full.features.to_empty(device="cpu")
        convolutions = [layer for layer in self.features if isinstance(layer, nn.Conv2d)]
        for layer in convolutions:
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(nn.Dropout(), nn.Linear(convolutions[-1].out_channels, outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.classifier(self.avgpool(self.features(x)).flatten(1))
        return logits


def vgg16(outputs: int) -> Pooled:
    """VGG16 (Simonyan & Zisserman 2015) with a pooled head: 14.7 million weights instead of 134."""
    return Pooled("vgg16", outputs)


def alexnet(outputs: int) -> Pooled:
    """AlexNet (Krizhevsky 2014) with a pooled head: 2.5 million weights instead of 57."""
    return Pooled("alexnet", outputs)
