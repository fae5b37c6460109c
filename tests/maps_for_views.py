"""Radiographs and explanations with known answers for the tests of the views."""

from __future__ import annotations

import numpy as np
import xarray as xr

from xai_panel.explanation.schema import ATTRIBUTES, Reading, assemble
from xai_panel.methods import get
from xai_panel.models.classifier import Prediction

ATTRS = {
    **dict.fromkeys(ATTRIBUTES, ""),
    "modality": "radiograph",
    "model": "tiny",
    "weights_digest": "0" * 64,
    "signal_digest": "1" * 64,
    "signal_source": "made",
    "seed": 0,
    "versions": "{}",
    "created": "2025-01-01T00:00:00+00:00",
}


def radiograph(shape: tuple[int, int] = (40, 60), spacing: float | None = None, **attrs: object) -> xr.DataArray:
    """Gray values 0, 1, 2, … row by row; in mm when a spacing is given."""
    units = "px" if spacing is None else "mm"
    coords = {
        dim: (dim, (np.arange(count) + 0.5) * (spacing or 1.0), {"units": units})
        for dim, count in zip(("y", "x"), shape, strict=True)
    }
    values = np.arange(shape[0] * shape[1], dtype=np.float32).reshape(shape)
    return xr.DataArray(
        values, dims=("y", "x"), coords=coords, attrs={"units": "1", "modality": "radiograph", "digest": "d", **attrs}
    )


def recording_features(bands: int = 24, columns: int = 30) -> xr.DataArray:
    """Features of a recording on equally spaced mel bands."""
    from xai_panel.views.spectrogram import hertz

    coords = {
        "frequency": ("frequency", hertz(np.linspace(1.0, 44.0, bands)), {"units": "Hz"}),
        "time": ("time", np.arange(columns) * 0.1, {"units": "s"}),
    }
    values = np.linspace(-80, 0, bands * columns, dtype=np.float32).reshape(bands, columns)
    return xr.DataArray(values, dims=("frequency", "time"), coords=coords, attrs={"units": "dB"})


def explanation(
    features: xr.DataArray, maps: dict[str, np.ndarray], *, model: str = "tiny", error: float = np.nan
) -> xr.Dataset:
    """An explanation with these maps (rows, columns) of the methods of these ids."""
    audio = "time" in features.dims
    readings = []
    for place, (id, values) in enumerate(maps.items()):
        method = get(id)
        readings.append(
            Reading(
                id,
                method.title,
                method.family,
                method.units,
                method.signed,
                np.asarray(values, np.float32),
                error=error,
                error_kind="standard error" if np.isfinite(error) else "",
                evaluations=10 * place + 1,
                seconds=0.5 * (place + 1),
                grid="x",
            )
        )
    logits = np.array([-1.0, 1.0])
    windows = np.array([[0.0, 1.0]]) if audio else np.empty((0, 2))
    prediction = Prediction(
        ("normal", "finding"), logits, np.array([0.2, 0.8]), windows, logits[None], np.array([[0.2, 0.8]])
    )
    attrs = {**ATTRS, "modality": "audio" if audio else "radiograph", "model": model}
    return assemble(features, readings, prediction=prediction, target=1, attrs=attrs)


def single_maps(features: xr.DataArray, maps: dict[str, np.ndarray], **options: object) -> dict[str, xr.Dataset]:
    """`Session.results` of these maps."""
    return {id: explanation(features, {id: values}, **options) for id, values in maps.items()}  # type: ignore[arg-type]
