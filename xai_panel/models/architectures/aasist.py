"""AASIST and its light variant: anti-spoofing on the raw waveform with spectro-temporal graph attention.

Jung et al. 2021, «AASIST: Audio Anti-Spoofing using Integrated Spectro-Temporal Graph Attention Networks»,
arXiv 2110.01200. Modules are named like the parameters of the published checkpoints, which load with every key.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F


class SincBands(nn.Module):
    """Fixed bank of windowed-sinc band-pass filters, evenly spaced on the mel scale from 0 Hz to half the rate.

    (n, samples) → (n, bands, samples − taps + 1). Filter k passes the range between the edges k and k + 1; it is the
    difference of two ideal low-pass filters under a Hamming window (Ravanelli & Bengio 2018,
    «Speaker Recognition from Raw Waveform with SincNet»).
    """

    filters: torch.Tensor

    def __init__(self, bands: int, taps: int, rate: float = 16_000.0) -> None:
        super().__init__()
        edges = 700.0 * (10.0 ** (np.linspace(0.0, 2595.0 * np.log10(1.0 + rate / 1400.0), bands + 1) / 2595.0) - 1.0)
        cutoff = 2.0 * edges[:, None] / rate
        low_pass = cutoff * np.sinc(cutoff * (np.arange(taps) - (taps - 1) / 2))
        filters = torch.from_numpy(np.diff(low_pass, axis=0) * np.hamming(taps)).float()[:, None]
        self.register_buffer("filters", filters, persistent=False)

    def forward(self, waveform: torch.Tensor) -> torch.Tensor:
        return F.conv1d(waveform[:, None], self.filters)


class ResidualBlock(nn.Module):
    """(n, in, bands, time) → (n, out, bands, time // 3): two convolutions and a shortcut, then max pooling over time.

    `bn1` belongs to the published parameters, but their network convolves the block's input itself: its output is never
    used, in training neither.
    """

    def __init__(self, inputs: int, outputs: int, first: bool = False) -> None:
        super().__init__()
        if not first:
            self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, (2, 3), padding=(1, 1))
        self.bn2 = nn.BatchNorm2d(outputs)
        self.selu = nn.SELU()
        self.conv2 = nn.Conv2d(outputs, outputs, (2, 3), padding=(0, 1))
        if inputs != outputs:
            self.conv_downsample = nn.Conv2d(inputs, outputs, (1, 3), padding=(0, 1))
        self.pool = nn.MaxPool2d((1, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shortcut = self.conv_downsample(x) if hasattr(self, "conv_downsample") else x
        return self.pool(self.conv2(self.selu(self.bn2(self.conv1(x)))) + shortcut)


class GraphAttention(nn.Module):
    """Attention between all pairs of nodes of one graph, (n, nodes, in) → (n, nodes, out)."""

    spatial = False  # nodes are no places: (n, nodes, features)

    def __init__(self, inputs: int, outputs: int, temperature: float) -> None:
        super().__init__()
        self.att_proj = nn.Linear(inputs, outputs)
        self.att_weight = _weight(outputs)
        self.proj_with_att = nn.Linear(inputs, outputs)
        self.proj_without_att = nn.Linear(inputs, outputs)
        self.bn = nn.BatchNorm1d(outputs)
        self.drop = nn.Dropout(0.2)
        self.temperature = temperature

    def forward(self, nodes: torch.Tensor) -> torch.Tensor:
        nodes = self.drop(nodes)
        scores = torch.tanh(self.att_proj(_pairs(nodes))) @ self.att_weight
        attention = (scores / self.temperature).softmax(dim=2).squeeze(3)
        return _activate(self.bn, self.proj_with_att(attention @ nodes) + self.proj_without_att(nodes))


class HeterogeneousAttention(nn.Module):
    """Attention between the nodes of two graphs, with a master node that hears all of them.

    Graphs (n, nodes of type 1, in) and (n, nodes of type 2, in) and master (n or 1, 1, in) → the same with `out`
    features. The score of a pair has weights of its own for two nodes of type 1, two of type 2, and one of each.
    """

    spatial = False

    def __init__(self, inputs: int, outputs: int, temperature: float) -> None:
        super().__init__()
        self.proj_type1 = nn.Linear(inputs, inputs)
        self.proj_type2 = nn.Linear(inputs, inputs)
        self.att_proj = nn.Linear(inputs, outputs)
        self.att_projM = nn.Linear(inputs, outputs)
        self.att_weight11 = _weight(outputs)
        self.att_weight22 = _weight(outputs)
        self.att_weight12 = _weight(outputs)
        self.att_weightM = _weight(outputs)
        self.proj_with_att = nn.Linear(inputs, outputs)
        self.proj_without_att = nn.Linear(inputs, outputs)
        self.proj_with_attM = nn.Linear(inputs, outputs)
        self.proj_without_attM = nn.Linear(inputs, outputs)
        self.bn = nn.BatchNorm1d(outputs)
        self.drop = nn.Dropout(0.2)
        self.temperature = temperature

    def forward(
        self, first: torch.Tensor, second: torch.Tensor, master: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        count = first.shape[1]
        nodes = self.drop(torch.cat([self.proj_type1(first), self.proj_type2(second)], dim=1))

        heard = torch.tanh(self.att_projM(nodes * master)) @ self.att_weightM
        heard = (heard / self.temperature).softmax(dim=1).transpose(1, 2) @ nodes
        master = self.proj_with_attM(heard) + self.proj_without_attM(master)

        is_first = torch.arange(nodes.shape[1], device=nodes.device) < count
        both_first = (is_first[:, None] & is_first)[..., None]
        both_second = (~is_first[:, None] & ~is_first)[..., None]
        weights = torch.cat([self.att_weight11, self.att_weight22, self.att_weight12], dim=1)
        score11, score22, score12 = (torch.tanh(self.att_proj(_pairs(nodes))) @ weights).split(1, dim=3)
        scores = torch.where(both_first, score11, torch.where(both_second, score22, score12))
        attention = (scores / self.temperature).softmax(dim=2).squeeze(3)
        nodes = _activate(self.bn, self.proj_with_att(attention @ nodes) + self.proj_without_att(nodes))
        return nodes[:, :count], nodes[:, count:], master


class GraphPool(nn.Module):
    """Keeps the share `ratio` of the nodes that score highest, each times its score, best first.

    (n, nodes, features) → (n, kept, features)
    """

    spatial = False

    def __init__(self, features: int, ratio: float) -> None:
        super().__init__()
        self.proj = nn.Linear(features, 1)
        self.drop = nn.Dropout(0.3)
        self.ratio = ratio

    def forward(self, nodes: torch.Tensor) -> torch.Tensor:
        scores = torch.sigmoid(self.proj(self.drop(nodes)))
        best = scores.topk(max(1, int(nodes.shape[1] * self.ratio)), dim=1).indices
        return (nodes * scores).gather(1, best.expand(-1, -1, nodes.shape[2]))


class AASIST(nn.Module):
    """Waveform (n, samples) at 16 kHz, in the publication 64 600 samples → logits (n, classes).

    Parameters
    ----------
    classes: number of logits
    widths: channels of the two halves of the encoder
    features: of the graphs' nodes, before and after the heterogeneous attention
    ratios: kept nodes of the spectral graph, of the temporal one, and of both after the first heterogeneous attention

    The shortest waveform has 128 + 3⁷ samples. The encoder's feature map, the layer that activation methods read, is
    (n, channels, 23, about samples / 3⁷): row r stands for the sinc bands 3r to 3r + 2, so that its rows are evenly
    spaced on the mel scale from 0 to 8 kHz.
    """

    def __init__(
        self,
        classes: int = 2,
        widths: Sequence[int] = (32, 64),
        features: Sequence[int] = (64, 32),
        ratios: Sequence[float] = (0.5, 0.7, 0.5),
    ) -> None:
        super().__init__()
        bands, (narrow, wide), (before, after), (spectral, temporal, joint) = 70, widths, features, ratios
        self.sinc = SincBands(bands, taps=129)
        self.first_bn = nn.BatchNorm2d(1)
        self.first_selu = nn.SELU()
        channels = (1, narrow, narrow, wide, wide, wide, wide)
        self.encoder = nn.Sequential(
            *(
                nn.Sequential(ResidualBlock(inputs, outputs, first=k == 0))
                for k, (inputs, outputs) in enumerate(pairwise(channels))
            )
        )
        self.pos_S = nn.Parameter(torch.randn(1, bands // 3, wide))
        self.master1 = nn.Parameter(torch.randn(1, 1, before))
        self.master2 = nn.Parameter(torch.randn(1, 1, before))
        self.GAT_layer_S = GraphAttention(wide, before, temperature=2.0)
        self.GAT_layer_T = GraphAttention(wide, before, temperature=2.0)
        self.pool_S = GraphPool(before, spectral)
        self.pool_T = GraphPool(before, temporal)
        self.HtrgGAT_layer_ST11 = HeterogeneousAttention(before, after, temperature=100.0)
        self.HtrgGAT_layer_ST12 = HeterogeneousAttention(after, after, temperature=100.0)
        self.HtrgGAT_layer_ST21 = HeterogeneousAttention(before, after, temperature=100.0)
        self.HtrgGAT_layer_ST22 = HeterogeneousAttention(after, after, temperature=100.0)
        self.pool_hS1 = GraphPool(after, joint)
        self.pool_hT1 = GraphPool(after, joint)
        self.pool_hS2 = GraphPool(after, joint)
        self.pool_hT2 = GraphPool(after, joint)
        self.out_layer = nn.Linear(5 * after, classes)

    def forward(self, waveform: torch.Tensor) -> torch.Tensor:
        bands = F.max_pool2d(self.sinc(waveform).abs()[:, None], 3)
        maps = self.encoder(self.first_selu(self.first_bn(bands))).abs()
        spectral = self.pool_S(self.GAT_layer_S(maps.amax(dim=3).transpose(1, 2) + self.pos_S))
        temporal = self.pool_T(self.GAT_layer_T(maps.amax(dim=2).transpose(1, 2)))

        branches = []
        for start, attend, pool_t, pool_s, attend_again in (
            (self.master1, self.HtrgGAT_layer_ST11, self.pool_hT1, self.pool_hS1, self.HtrgGAT_layer_ST12),
            (self.master2, self.HtrgGAT_layer_ST21, self.pool_hT2, self.pool_hS2, self.HtrgGAT_layer_ST22),
        ):
            t, s, master = attend(temporal, spectral, start)
            nodes = pool_t(t), pool_s(s), master
            more = attend_again(*nodes)
            branches.append([F.dropout(a + b, 0.2, self.training) for a, b in zip(nodes, more, strict=True)])
        t, s, master = (torch.maximum(a, b) for a, b in zip(*branches, strict=True))

        read = torch.cat([t.abs().amax(dim=1), t.mean(dim=1), s.abs().amax(dim=1), s.mean(dim=1), master[:, 0]], dim=1)
        return self.out_layer(F.dropout(read, 0.5, self.training))


def aasist(classes: int) -> AASIST:
    """AASIST as published: 297 866 trainable parameters."""
    return AASIST(classes)


def aasist_l(classes: int) -> AASIST:
    """AASIST-L as published: 85 306 trainable parameters."""
    return AASIST(classes, widths=(32, 24), features=(24, 32), ratios=(0.4, 0.5, 0.7))


def _weight(features: int) -> nn.Parameter:
    return nn.Parameter(nn.init.xavier_normal_(torch.empty(features, 1)))


def _pairs(nodes: torch.Tensor) -> torch.Tensor:
    """Products of every two nodes, (n, nodes, features) → (n, nodes, nodes, features)."""
    return nodes[:, :, None] * nodes[:, None, :]


def _activate(norm: nn.BatchNorm1d, nodes: torch.Tensor) -> torch.Tensor:
    """SELU of the normalised features; the nodes of all graphs of a batch count as samples."""
    return F.selu(norm(nodes.flatten(0, 1)).view_as(nodes))
