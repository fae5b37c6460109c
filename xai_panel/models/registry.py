"""The classifiers that ship with the package and those that were added, loaded when first asked for."""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from xai_panel.models.backends.base import Backend
from xai_panel.models.card import Card, CardError, read_card
from xai_panel.models.classifier import Classifier
from xai_panel.models.errors import CodeError, ModelError
from xai_panel.models.frontends import FrontEnd, build_frontend, check_framework
from xai_panel.resources import own_models_dir, weights_dir

CARD = "card.toml"  # of an added classifier, in a folder of its own

logger = logging.getLogger(__name__)
_lock = threading.Lock()
_loaded: dict[str, Classifier] = {}


@cache
def _shipped() -> dict[str, Card]:
    cards = [read_card(path) for path in sorted(weights_dir().glob("*.toml"))]
    return {card.id: card for card in cards}


def added() -> dict[str, tuple[Card, Path]]:
    """Card and folder of the classifiers that were added; looked up each time, for another process may add one."""
    found = {}
    for path in sorted(own_models_dir().glob(f"[!.]*/{CARD}")):
        try:
            card = read_card(path)
        except (OSError, CardError) as error:  # one of them must not take the others along
            logger.warning("the classifier in %s is left out: %s", path.parent, error)
            continue
        found[card.id] = (card, path.parent)
    return found


def _places() -> dict[str, tuple[Card, Path]]:
    """Card and folder of every classifier."""
    return added() | {id: (card, weights_dir()) for id, card in _shipped().items()}


def models() -> list[Card]:
    """Cards of all classifiers, audio first; the added ones too."""
    return sorted((card for card, _ in _places().values()), key=lambda card: (card.modality, card.id))


def load_model(id: str) -> Classifier:
    """The classifier with this id, loaded once per process.

    Raises `ValueError` for an unknown id and `ModelError` when its weights are missing or not the ones of the card.
    """
    places = _places()
    if id not in places:
        raise ValueError(f"no classifier {id!r}; there are: {', '.join(card.id for card in models())}")
    card, folder = places[id]
    with _lock:
        if id not in _loaded or _loaded[id].card != card:
            _loaded[id] = _load(card, folder)
        return _loaded[id]


def _load(card: Card, folder: Path) -> Classifier:
    path = folder / card.weights
    shipped = folder == weights_dir()
    remedy = f"train it: xai-panel train {card.id} --data DIR" if shipped else "add the classifier again"
    if not path.exists():
        raise ModelError(f"{card.id}: weights file {card.weights} is missing; {remedy}")
    digest = digest_of(path)
    if digest != card.digest:
        raise ModelError(
            f"{card.id}: {card.weights} is not the file of its card (SHA-256 {digest[:12]}…, the card says "
            f"{card.digest[:12]}…); restore it, or {remedy}"
        )
    if path.is_dir() and card.framework != "tensorflow":
        raise ModelError(f"{card.id}: {card.weights} is a folder; a file is expected of {card.framework}")
    frontend = _frontend(card)
    try:
        return Classifier(card, frontend, BACKENDS[card.framework](card, frontend, path))
    except CardError:
        raise
    except ValueError as error:
        raise ModelError(f"{card.id}: {card.weights}: {error}") from error


def digest_of(path: Path) -> str:
    """SHA-256 of a file; of a folder, that of a line for each file: its path, NUL, its SHA-256.

    Raises `ModelError` as `files_of`.
    """
    if path.is_dir():
        lines = [f"{file.relative_to(path).as_posix()}\0{digest_of(file)}\n" for file in files_of(path)]
        return hashlib.sha256("".join(lines).encode()).hexdigest()
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def files_of(folder: Path) -> list[Path]:
    """All files in a folder, sorted by path. Raises `ModelError` for a link, which is not followed, or a device."""
    files = []
    for path in [folder, *folder.rglob("*")]:
        if path.is_symlink() or not (path.is_dir() or path.is_file()):
            raise ModelError(f"{path.name} in {folder.name} is a link or no file; plain files and folders are expected")
        if path.is_file():
            files.append(path)
    return sorted(files, key=lambda path: path.relative_to(folder).as_posix())


def _frontend(card: Card) -> FrontEnd:
    try:
        frontend = build_frontend(card.frontend)
        check_framework(frontend, card.framework)
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
        network = network_for(card.architecture, card.labels, state, path.name, card.outputs)
    except ValueError as error:
        raise CardError(f"card {card.id}: field «architecture»: {error}") from error
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return TorchBackend.behind(frontend, network)


def _tensorflow_backend(card: Card, frontend: FrontEnd, path: Path) -> Backend:
    from xai_panel.models.backends.savedmodel import SavedModelBackend
    from xai_panel.models.backends.tensorflow import TensorFlowBackend

    if path.is_dir():
        return SavedModelBackend.behind(frontend, path)
    return TensorFlowBackend.behind(frontend, read_keras(path, allow_code=card.runs_code))


def _onnx_backend(card: Card, frontend: FrontEnd, path: Path) -> Backend:
    from xai_panel.models.backends.onnx import OnnxBackend

    return OnnxBackend.behind(frontend, path)


BACKENDS: dict[str, Callable[[Card, FrontEnd, Path], Backend]] = {
    "torch": _torch_backend,
    "tensorflow": _tensorflow_backend,
    "onnxruntime": _onnx_backend,
}


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
