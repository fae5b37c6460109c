"""The classifiers that ship with the package, loaded when first asked for."""

from __future__ import annotations

import hashlib
import threading
from functools import cache
from pathlib import Path
from typing import Any

from xai_panel.models.backends.base import Backend
from xai_panel.models.card import Card, CardError, read_card
from xai_panel.models.classifier import Classifier
from xai_panel.models.errors import CodeError, ModelError
from xai_panel.models.frontends import FrontEnd, build_frontend
from xai_panel.resources import weights_dir

_lock = threading.Lock()
_loaded: dict[str, Classifier] = {}


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
    frontend = _frontend(card)
    build_backend = _torch_backend if card.framework == "torch" else _tensorflow_backend
    return Classifier(card, frontend, build_backend(card, frontend, path))


def _frontend(card: Card) -> FrontEnd:
    try:
        frontend = build_frontend(card.frontend)
    except ValueError as error:
        raise CardError(f"card {card.id}: field «frontend»: {error}") from error
    if frontend.modality != card.modality:
        raise CardError(
            f"card {card.id}: field «frontend»: {card.frontend['kind']} is for {frontend.modality} signals, field "
            f"«modality» says {card.modality}"
        )
    return frontend


def _torch_backend(card: Card, frontend: FrontEnd, path: Path) -> Backend:
    import torch

    from xai_panel.models.backends.torch import TorchBackend
    from xai_panel.models.state import network_for, read_state

    state = read_state(path, allow_code=card.runs_code)
    try:
        network = network_for(card.architecture, card.labels, state, path.name)
    except ValueError as error:
        raise CardError(f"card {card.id}: field «architecture»: {error}") from error
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return TorchBackend(network, lambda x: frontend.to_input(x, lambda c: torch.stack(list(c), dim=1)), frontend.shape)


def _tensorflow_backend(card: Card, frontend: FrontEnd, path: Path) -> Backend:
    import tensorflow as tf

    from xai_panel.models.backends.tensorflow import TensorFlowBackend

    network = read_keras(path, allow_code=card.runs_code)
    return TensorFlowBackend(
        network, lambda x: frontend.to_input(x, lambda c: tf.stack(list(c), axis=-1)), frontend.shape
    )


def read_keras(path: Path, allow_code: bool = False) -> Any:
    """A Keras model from a `.keras` or `.h5` file.

    allow_code: also read Lambda layers, which are Python code. Raises `CodeError` for these when it is not allowed, and
    `ModelError` for a file that cannot be read.
    """
    import keras

    try:
        return keras.saving.load_model(path, compile=False, safe_mode=not allow_code)
    except Exception as error:  # Keras raises what its layers raise
        text = str(error)
        if not allow_code and "safe_mode" in text:
            raise CodeError(
                f"{path.name} holds Python code in a Lambda layer, which runs with the model; replace it by a layer "
                "of Keras, and save again"
            ) from error
        raise ModelError(f"{path.name} cannot be read as a Keras file: {' '.join(text.split())[:300]}") from error
