"""The classifiers that ship with the package, loaded when first asked for."""

from __future__ import annotations

import hashlib
import threading
from functools import cache
from pathlib import Path

from xai_panel.models.backends.base import Backend
from xai_panel.models.card import Card, read_card
from xai_panel.models.classifier import Classifier
from xai_panel.models.frontends import FrontEnd, build_frontend
from xai_panel.resources import weights_dir

_lock = threading.Lock()
_loaded: dict[str, Classifier] = {}


class ModelError(RuntimeError):
    """A classifier that cannot be loaded; the message says which, why and what to do."""


@cache
def _cards() -> dict[str, Card]:
    cards = [read_card(path) for path in sorted(weights_dir().glob("*.toml"))]
    return {card.id: card for card in cards}


def models() -> list[Card]:
    """Cards of all classifiers, audio first."""
    return sorted(_cards().values(), key=lambda card: (card.modality, card.id))


def load_model(id: str) -> Classifier:
    """The classifier with this id, loaded once per process.

    Raises `ValueError` for an unknown id and `ModelError` when its weights are missing or not the ones of the card.
    """
    cards = _cards()
    if id not in cards:
        raise ValueError(f"no classifier {id!r}; there are: {', '.join(card.id for card in models())}")
    with _lock:
        if id not in _loaded:
            _loaded[id] = _load(cards[id], weights_dir())
        return _loaded[id]


def _load(card: Card, folder: Path) -> Classifier:
    path = folder / card.weights
    if not path.is_file():
        raise ModelError(
            f"{card.id}: weights file {card.weights} is missing; train it: xai-panel train {card.id} --data DIR"
        )
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != card.digest:
        raise ModelError(
            f"{card.id}: {card.weights} is not the file of its card (SHA-256 {digest[:12]}…, the card says "
            f"{card.digest[:12]}…); restore it or train it again"
        )
    frontend = build_frontend(card.frontend)
    build_backend = _torch_backend if card.framework == "torch" else _tensorflow_backend
    return Classifier(card, frontend, build_backend(card, frontend, path))


def _torch_backend(card: Card, frontend: FrontEnd, path: Path) -> Backend:
    import torch
    from safetensors.torch import load_file

    from xai_panel.models.architectures import build
    from xai_panel.models.backends.torch import TorchBackend

    network = build(card.architecture, len(card.labels))
    state = {name: value.float() if value.is_floating_point() else value for name, value in load_file(path).items()}
    network.load_state_dict(state)
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return TorchBackend(network, lambda x: frontend.to_input(x, lambda c: torch.stack(list(c), dim=1)), frontend.shape)


def _tensorflow_backend(card: Card, frontend: FrontEnd, path: Path) -> Backend:
    import keras
    import tensorflow as tf

    from xai_panel.models.backends.tensorflow import TensorFlowBackend

    network = keras.saving.load_model(path, compile=False, safe_mode=True)  # safe: a file cannot bring code along
    return TensorFlowBackend(
        network, lambda x: frontend.to_input(x, lambda c: tf.stack(list(c), axis=-1)), frontend.shape
    )
