"""Xception: convolutions that look at space and at channels one after the other, with shortcuts around them.

Source: Chollet, «Xception: Deep Learning with Depthwise Separable Convolutions», CVPR 2017, figure 5. Parameters have
the names of the PyTorch checkpoints that are in use, whose last layer is «fc»; their convolutions are padded alike on
all sides.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn


class Separable(nn.Module):
    """A depthwise 3 × 3 convolution and a pointwise one, without activation in between."""

    def __init__(self, channels: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        self.pointwise = nn.Conv2d(channels, outputs, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.pointwise(self.conv1(x))
        return y


class Block(nn.Module):
    """Separable convolutions through these numbers of channels, each after an activation, and a shortcut around them.

    stride 2: pooled at the end, the shortcut by a strided convolution; first: whether an activation comes first.
    """

    def __init__(self, *channels: int, stride: int = 2, first: bool = True) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for here, there in pairwise(channels):
            layers += [nn.ReLU(), Separable(here, there), nn.BatchNorm2d(there)]
        self.rep = nn.Sequential(*layers[not first :], *([nn.MaxPool2d(3, 2, 1)] if stride > 1 else []))
        if stride > 1:
            self.skip = nn.Conv2d(channels[0], channels[-1], 1, stride, bias=False)
            self.skipbn = nn.BatchNorm2d(channels[-1])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shortcut = self.skipbn(self.skip(x)) if hasattr(self, "skip") else x
        y: torch.Tensor = self.rep(x) + shortcut
        return y


class Xception(nn.Module):
    """Input (n, 3, h, w), in the paper 299 × 299 with mean = std = 0.5; output (n, outputs) logits."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 32, 3, 2, bias=False)
        self.bn1 = nn.BatchNorm2d(32)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(32, 64, 3, bias=False)
        self.bn2 = nn.BatchNorm2d(64)
        self.relu2 = nn.ReLU()
        blocks = [
            Block(64, 128, 128, first=False),
            Block(128, 256, 256),
            Block(256, 728, 728),
            *(Block(728, 728, 728, 728, stride=1) for _ in range(8)),
            Block(728, 728, 1024),
        ]
        for number, block in enumerate(blocks, start=1):
            self.add_module(f"block{number}", block)
        self.conv3 = Separable(1024, 1536)
        self.bn3 = nn.BatchNorm2d(1536)
        self.relu3 = nn.ReLU()
        self.conv4 = Separable(1536, 2048)
        self.bn4 = nn.BatchNorm2d(2048)
        self.relu4 = nn.ReLU()
        self.fc = nn.Linear(2048, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for name, layer in self.named_children():
            if name != "fc":
                x = layer(x)
        logits: torch.Tensor = self.fc(x.mean(dim=(2, 3)))
        return logits
