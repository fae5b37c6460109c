"""TSSDNet, «time-domain synthetic speech detection nets», and the counterpart on a spectrogram.

Hua, Teoh & Zhang 2021, «Towards End-to-End Synthetic Speech Detection», IEEE Signal Processing Letters 28,
arXiv 2106.06341. Modules are named like the parameters of the published checkpoint of Inc-TSSDNet, which loads with
every key.
"""

from __future__ import annotations

import torch
from torch import nn

_CONV: dict[int, type[nn.Conv1d] | type[nn.Conv2d]] = {1: nn.Conv1d, 2: nn.Conv2d}
_NORM: dict[int, type[nn.BatchNorm1d] | type[nn.BatchNorm2d]] = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d}
_POOL: dict[int, type[nn.MaxPool1d] | type[nn.MaxPool2d]] = {1: nn.MaxPool1d, 2: nn.MaxPool2d}


class ResidualModule(nn.Module):
    """Three convolutions of size 3 and a shortcut of size 1, (n, in, *grid) → (n, out, *grid)."""

    def __init__(self, inputs: int, outputs: int, dimensions: int) -> None:
        super().__init__()
        conv, norm = _CONV[dimensions], _NORM[dimensions]
        self.conv1 = conv(inputs, outputs, 3, padding=1, bias=False)
        self.conv2 = conv(outputs, outputs, 3, padding=1, bias=False)
        self.conv3 = conv(outputs, outputs, 3, padding=1, bias=False)
        self.bn1 = norm(outputs)
        self.bn2 = norm(outputs)
        self.bn3 = norm(outputs)
        self.nin = conv(inputs, outputs, 1, bias=False)
        self.relu = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        return self.relu(self.bn3(self.conv3(y) + self.nin(x)))


class DilatedModule(nn.Module):
    """Four convolutions of size 3 side by side, dilated by 1, 2, 4 and 8, (n, in, time) → (n, out, time)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.cv1, self.cv2, self.cv4, self.cv8 = (
            nn.Conv1d(inputs, outputs // 4, 3, padding=dilation, dilation=dilation, bias=False)
            for dilation in (1, 2, 4, 8)
        )
        self.bn1, self.bn2, self.bn4, self.bn8 = (nn.BatchNorm1d(outputs // 4) for _ in range(4))
        self.relu = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        branches = ((self.cv1, self.bn1), (self.cv2, self.bn2), (self.cv4, self.bn4), (self.cv8, self.bn8))
        return self.relu(torch.cat([norm(conv(x)) for conv, norm in branches], dim=1))


class _Net(nn.Module):
    """Convolution, four modules with max pooling in between, global max pooling and three linear layers."""

    def __init__(self, modules: dict[str, nn.Module], classes: int, dimensions: int, pool: int) -> None:
        super().__init__()
        self.conv1 = _CONV[dimensions](1, 16, 7, padding=3, bias=False)
        self.bn1 = _NORM[dimensions](16)
        self.relu = nn.ReLU()
        self.pool = _POOL[dimensions](pool)
        self.stages = tuple(modules)
        for name, module in modules.items():
            self.add_module(name, module)
        self.fc1 = nn.Linear(128, 64)
        self.fc2 = nn.Linear(64, 32)
        self.out = nn.Linear(32, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.relu(self.bn1(self.conv1(x[:, None])))
        for name in self.stages:
            x = self.get_submodule(name)(self.pool(x))
        x = x.flatten(2).amax(dim=2)
        return self.out(self.fc2(self.fc1(x).relu()).relu())


def res_tssdnet_1d(classes: int) -> nn.Module:
    """Res-TSSDNet: waveform (n, samples) at 16 kHz, 96 000 samples as published → logits (n, classes).

    348 530 trainable parameters, the publication's 0.35 M.
    """
    return _residual(classes, dimensions=1, pool=4)


def res_tssdnet_2d(classes: int) -> nn.Module:
    """Its counterpart with two-dimensional kernels: spectrogram (n, frequency, time), there a constant-Q transform of
    432 bins and 400 frames → logits (n, classes).

    966 674 trainable parameters, the publication's 0.97 M. Max pooling takes 2 × 2 cells.
    """
    return _residual(classes, dimensions=2, pool=2)


def inc_tssdnet(classes: int) -> nn.Module:
    """Inc-TSSDNet: waveform (n, samples) at 16 kHz, 96 000 samples as published → logits (n, classes)."""
    widths = (16, 32, 64, 128, 128)
    modules = {f"DCM{k + 1}": DilatedModule(widths[k], widths[k + 1]) for k in range(4)}
    return _Net(dict(modules), classes, dimensions=1, pool=4)


def _residual(classes: int, dimensions: int, pool: int) -> nn.Module:
    widths = (16, 32, 64, 128, 128)
    modules = {f"RSM{k + 1}": ResidualModule(widths[k], widths[k + 1], dimensions) for k in range(4)}
    return _Net(dict(modules), classes, dimensions, pool)
