"""A small convolutional network for one-channel spectrograms, as the demonstrations of audio deepfakes use one."""

from __future__ import annotations

import torch
from torch import nn


class CustomCNN(nn.Module):
    """Three convolutions 32 → 64 → 128 with batch normalisation, global average pooling, dropout, one linear layer.

    Input (n, 1, h, w), by default 128 bands × 128 frames; output (n, outputs) logits. The last activation has a quarter
    of the input's height and width.
    """

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *_block(1, 32),
            nn.MaxPool2d(2),
            *_block(32, 64),
            nn.MaxPool2d(2),
            *_block(64, 128),
        )
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(0.3)
        self.classifier = nn.Linear(128, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.classifier(self.dropout(self.pool(self.features(x)).flatten(1)))
        return logits


def _block(inputs: int, outputs: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
