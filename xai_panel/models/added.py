"""Classifiers of one's own: a card and its weights, checked once and kept in the person's data folder.

Only whoever may run commands or Python here adds a classifier: no page does. Files that would run code are refused
unless that person allows it.
"""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from xai_panel.models import registry
from xai_panel.models.card import Card, CardError, read_card
from xai_panel.models.errors import CodeError, ModelError
from xai_panel.resources import own_models_dir
from xai_panel.signals.image import CHANNELS
from xai_panel.signals.source import AXES


def add_model(path: str | Path, *, allow_code: bool = False) -> Card:
    """Add the classifier that a card (TOML) describes, with the weights beside it. Returns the card as it is kept.

    The card is checked field by field and the classifier asked about a blank signal; then both are copied into
    the data folder (`$XAI_PANEL_HOME`, or the platform's), from where `xai_panel.models()` and the pages list it. A
    digest that the card does not give is computed.

    allow_code: also take weights that bring code along (pickled modules, TorchScript, Lambda layers); their code runs
    each time the classifier is loaded. An architecture "python:…" is imported from what is installed here either way.

    Raises `CardError` that names the field, `CodeError` for weights that need `allow_code`, and `ModelError` for
    weights that do not fit or an id that is taken.
    """
    path = Path(path)
    try:
        card = read_card(path)
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror or error}; the card (TOML) of a classifier is expected") from error
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", card.id):
        raise CardError(f"card {card.id}: field «id» may have letters, digits, «.», «_» and «-» only")
    if card.id in {known.id for known in registry.models()}:
        raise ModelError(
            f"there is a classifier {card.id} already; `xai-panel models remove {card.id}` removes an added one"
        )
    if card.runs_code and not allow_code:
        raise CodeError(f"card {card.id}: field «runs_code»: its weights run code, which has to be allowed")
    weights = path.parent / card.weights
    if Path(card.weights).name != card.weights or card.weights in ("", "..", registry.CARD) or not weights.exists():
        raise CardError(
            f"card {card.id}: field «weights» is {card.weights!r}; the name of a file, or of a SavedModel folder, "
            "beside the card is expected"
        )
    home = own_models_dir()
    home.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".adding-", dir=home) as name:
        folder = Path(name) / card.id
        folder.mkdir()
        _copy(weights, folder / card.weights)
        if not card.digest:
            card = dataclasses.replace(card, digest=registry.digest_of(folder / card.weights))
        card = _try(card, folder, allow_code)
        (folder / registry.CARD).write_text(_text(path, card), encoding="utf-8")
        try:
            folder.rename(home / card.id)
        except OSError as error:
            raise ModelError(
                f"{home / card.id}: {error.strerror or error}; remove that folder, or change «id»"
            ) from error
    return card


def remove_model(id: str) -> None:
    """Remove an added classifier and its files. Raises `ValueError` when there is none with this id."""
    added = registry.added()
    if id not in added:
        raise ValueError(f"no added classifier {id!r}; there are: {', '.join(added) or 'none'}")
    shutil.rmtree(added[id][1])


def _copy(weights: Path, to: Path) -> None:
    """Copy a file, or the files of a folder, which may have no links."""
    if not weights.is_dir():
        shutil.copyfile(weights, to)
        return
    for file in registry.files_of(weights):
        place = to / file.relative_to(weights)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, place)


def _try(card: Card, folder: Path, allow_code: bool) -> Card:
    """The card, with `runs_code` when its weights need it, after the classifier has answered to a blank signal."""
    try:
        classifier = registry._load(card, folder)
    except CodeError:
        if not allow_code:
            raise
        card = dataclasses.replace(card, runs_code=True)
        classifier = registry._load(card, folder)
    logits = classifier.predict(_blank(card.modality)).logits
    if not np.isfinite(logits).all():
        raise ModelError(
            f"{card.id}: the network answers {logits.tolist()} to a blank signal; finite logits are expected"
        )
    return card


def _blank(modality: str) -> xr.DataArray:
    """A second of silence, or a black image."""
    if modality == "audio":
        rate = 16_000
        return xr.DataArray(
            np.zeros(rate, np.float32),
            dims="time",
            coords={"time": ("time", np.arange(rate) / rate, {"units": "s"})},
            attrs={"modality": modality, "sampling_rate": float(rate), "source": "silence"},
        )
    centers, dims = np.arange(64) + 0.5, AXES[modality]
    coords: dict[str, Any] = {dim: (dim, centers, {"units": "px"}) for dim in ("y", "x")}
    return xr.DataArray(
        np.zeros((64, 64, 3)[: len(dims)], np.float32),
        dims=dims,
        coords=coords | ({"channel": list(CHANNELS)} if "channel" in dims else {}),
        attrs={"modality": modality, "source": "black"},
    )


def _text(path: Path, card: Card) -> str:
    """The card's file as it is, after the fields that adding it has found."""
    text, given = path.read_text(encoding="utf-8"), read_card(path)
    for name in ("digest", "runs_code"):
        if getattr(card, name) != getattr(given, name):
            line = f"{name} = {json.dumps(getattr(card, name))}\n"
            text = line + re.sub(rf"(?m)^{name}\s*=.*\n?", "", text, count=1)
    return text
