"""Which classifier is meant when none was named, and how to have it ready before the first person asks."""

from __future__ import annotations

from functools import cache

import numpy as np
import xarray as xr

PREFERRED = {"audio": "audio-mobilenetv2", "radiograph": "xray-mobilenetv2"}


def default_model(modality: str) -> str:
    """Id of the classifier for signals of this modality. Raises `ValueError` when there is none."""
    from xai_panel.models.registry import models

    ids = [card.id for card in models() if card.modality == modality]
    if not ids:
        raise ValueError(f"there is no classifier for {modality} signals; add one: xai-panel models add CARD.toml")
    preferred = PREFERRED.get(modality)
    return preferred if preferred in ids else ids[0]


@cache
def warm_up() -> None:
    """Load the default classifiers and explain a generated signal with each, so that nothing is left to import.

    Done once per process.

    Raises `ValueError` or `ModelError` when a default classifier is missing.
    """
    from xai_panel.engine.explain import explain
    from xai_panel.methods import compatible

    generator = np.random.default_rng(0)
    time = np.arange(16_000) / 16_000
    sound = xr.DataArray(
        generator.standard_normal(time.size).astype(np.float32) / 10,
        dims="time",
        coords={"time": ("time", time, {"units": "s"})},
        attrs={"modality": "audio", "sampling_rate": 16_000.0, "source": "noise"},
    )
    centers = np.arange(224) + 0.5
    image = xr.DataArray(
        generator.random((224, 224), dtype=np.float32),
        dims=("y", "x"),
        coords={dim: (dim, centers, {"units": "px"}) for dim in ("y", "x")},
        attrs={"modality": "radiograph", "source": "noise"},
    )
    for signal in (sound, image):
        model = default_model(signal.attrs["modality"])
        compatible(model)
        explain(model, signal, ["grad-cam"], store=False)
