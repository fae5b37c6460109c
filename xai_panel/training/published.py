"""Published weights that trainings start from: downloaded by digest, named in the card with their licence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from xai_panel.models.state import read_state
from xai_panel.training import imagenet

Start = Callable[[nn.Module, Path, torch.Tensor], None]


@dataclass(frozen=True)
class Published:
    """A published checkpoint.

    title: what it is; credit: whose, under which licence; url and digest: where, and the file's SHA-256; start: fills
    a network in place from the file, given inputs (n, …) of the training
    """

    title: str
    credit: str
    url: str
    digest: str
    start: Start

    @property
    def file(self) -> str:
        return self.url.rpartition("/")[2]

    def download(self, folder: Path) -> Path:
        """The checkpoint in `folder`, downloaded when it is not there or damaged.

        Raises `OSError` when it cannot be had and `ValueError` when what came is not the published file.
        """
        import pooch

        return Path(
            pooch.retrieve(self.url, known_hash=f"sha256:{self.digest}", fname=self.file, path=folder, progressbar=True)
        )


def _imagenet(network: nn.Module, path: Path, inputs: torch.Tensor) -> None:
    imagenet.initialise(network, path)
    imagenet.restore_batch_norm(network, inputs)


def _aasist(network: nn.Module, path: Path, inputs: torch.Tensor) -> None:
    """AASIST's own order of the outputs is spoof, bona fide; here it is bona fide, spoof."""
    state = read_state(path)
    network.load_state_dict({name: v.flip(0) if name.startswith("out_layer.") else v for name, v in state.items()})


_GOOGLE = "https://raw.githubusercontent.com/google-coral/test_data/104342d2d3480b3e66203073dac24f4e2dbb4c41"
_NAVER = "https://raw.githubusercontent.com/clovaai/aasist/a04c9863f63d44471dde8a6abcb3b082b07cd1d1/models/weights"
PUBLISHED = {
    "imagenet": Published(
        "ImageNet MobileNetV2 1.0 224 (TFLite, Google), dequantised",
        "ImageNet weights © Google, Apache-2.0",
        f"{_GOOGLE}/mobilenet_v2_1.0_224_quant.tflite",
        "7aad0c74c5e3c06e5eb3c827e13304fdd68a83da6087d92ee169c24ff9fd4776",
        _imagenet,
    ),
    "aasist": Published(
        "AASIST as published, trained on ASVspoof 2019 LA (Jung et al. 2021)",
        "weights of AASIST © 2021-present NAVER Corp., MIT",
        f"{_NAVER}/AASIST.pth",
        "51d2d9cf0738172f61e2a384ec50a54a55363240f67c971ed55a92435bc1a1c0",
        _aasist,
    ),
    "aasist-l": Published(
        "AASIST-L as published, trained on ASVspoof 2019 LA (Jung et al. 2021)",
        "weights of AASIST-L © 2021-present NAVER Corp., MIT",
        f"{_NAVER}/AASIST-L.pth",
        "814331d088032bb4c3fa61cc014789eadeed464209dd094ab3a2dd6ffbdce27a",
        _aasist,
    ),
}
