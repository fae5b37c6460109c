"""What an explanation is: maps of several methods on the axes of one signal, and all that is needed to read them.

::

    attribution (method, *dims)  float32   signed values in the method's units; normalisation is a view's choice
    input       (*dims)          float32   the features the model looked at; (*dims, channel) 0…1 of an image
    error, seconds (method)      float64   error estimate of the method (NaN: exact or not estimated), time spent
    evaluations, backward (method) int64   forward passes of one window that the method added to the evidence, and
                                           those among them that were followed by a backward pass
    spread      (*dims)          float32   spread of the ranks behind the consensus, where there is one
    logits, probability (label)  float64   verdict on the whole signal; probabilities are calibrated, and sum to 1
                                           unless the attribute `multi_label` is 1: then each label is a finding
    window_start, window_stop, window_logit (window)   audio only: [s], and the target's logit in each window

`dims` is (frequency [Hz], time [s]) of a recording, (y, x) [mm or px] of a radiograph or an image. Coordinates along
`method`: title, family, units, signed, error_kind, grid (the grid the method answers on, before interpolation).
Attributes: `ATTRIBUTES`.

One map is `ds.xai.map("lime")` or `ds.attribution.sel({"method": "lime"})`; `sel(method="lime")` selects nothing,
because xarray's `sel` has a parameter of that name (how to match inexact labels).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

if TYPE_CHECKING:
    from xai_panel.models.classifier import Prediction

DIMS = {"audio": ("frequency", "time"), "radiograph": ("y", "x"), "image": ("y", "x")}
INPUT = {**DIMS, "image": ("y", "x", "channel")}
METHOD_COORDS = ("title", "family", "units", "signed", "error_kind", "grid")
METHOD_VARIABLES = ("error", "evaluations", "backward", "seconds")
ATTRIBUTES = (
    "modality",
    "model",
    "weights_digest",
    "signal_digest",
    "signal_source",
    "target",
    "target_label",
    "multi_label",
    "target_layer",
    "baseline",
    "seed",
    "params",
    "versions",
    "created",
)
QUESTION = ("model", "weights_digest", "signal_digest", "target", "target_layer", "baseline", "seed")


class SchemaError(ValueError):
    """A dataset that is not an explanation; the message names the variable, what was found and what is expected."""


@dataclass(frozen=True)
class Reading:
    """One method's finished map on the axes of the features.

    values and spread (H, T); error in `error_kind`; evaluations: forward passes, backward: those with a backward pass;
    seconds: time spent; grid: grid of the method's own answer, "7×7"; params: the method's parameters.
    """

    method: str
    title: str
    family: str
    units: str
    signed: bool
    values: NDArray[np.float32]
    error: float = float("nan")
    error_kind: str = ""
    evaluations: int = 0
    backward: int = 0
    seconds: float = 0.0
    grid: str = ""
    spread: NDArray[np.float32] | None = None
    params: dict[str, Any] = field(default_factory=dict)


def assemble(
    features: xr.DataArray,
    readings: Sequence[Reading],
    *,
    prediction: Prediction,
    target: int,
    attrs: dict[str, Any],
    values: NDArray[np.float32] | None = None,
) -> xr.Dataset:
    """One explanation from finished readings, in their order.

    features (*dims), of an image with its channels, gives axes and input; `values` (method, *dims) saves a copy where
    the caller holds all maps in one array; `attrs` as in `ATTRIBUTES`, apart from `target`, `target_label`,
    `multi_label` and `params`, which follow from the rest.
    """
    dims, seen = DIMS[attrs["modality"]], INPUT[attrs["modality"]]
    features = features.transpose(*seen)
    shape = features.shape[:2]
    if values is None:
        values = readings[0].values[None] if len(readings) == 1 else _stack([r.values for r in readings], shape)
    method = ("method", [r.method for r in readings])
    variables: dict[str, Any] = {
        "attribution": (("method", *dims), values, {"long_name": "Attribution"}),
        "input": (seen, np.asarray(features.values, dtype=np.float32), _plain(features.attrs, ("units", "long_name"))),
        "error": ("method", np.array([r.error for r in readings], dtype=np.float64), {"long_name": "Error estimate"}),
        "evaluations": ("method", np.array([r.evaluations for r in readings], dtype=np.int64)),
        "backward": ("method", np.array([r.backward for r in readings], dtype=np.int64)),
        "seconds": ("method", np.array([r.seconds for r in readings], dtype=np.float64), {"units": "s"}),
        "logits": ("label", np.asarray(prediction.logits, dtype=np.float64)),
        "probability": ("label", np.asarray(prediction.probabilities, dtype=np.float64)),
    }
    variables["evaluations"] += ({"long_name": "Forward passes"},)
    variables["backward"] += ({"long_name": "Backward passes"},)
    for reading in readings:
        if reading.spread is not None:
            variables["spread"] = (dims, np.asarray(reading.spread, dtype=np.float32), {"long_name": "Spread of ranks"})
    if len(prediction.window_times):
        times = np.asarray(prediction.window_times, dtype=np.float64)
        variables["window_start"] = ("window", times[:, 0], {"units": "s"})
        variables["window_stop"] = ("window", times[:, 1], {"units": "s"})
        variables["window_logit"] = ("window", np.asarray(prediction.window_logits, dtype=np.float64)[:, target])
    coords: dict[str, Any] = {dim: features[dim] for dim in seen}
    coords["method"] = method
    coords["label"] = ("label", list(prediction.labels))
    coords |= {
        "title": ("method", [r.title for r in readings]),
        "family": ("method", [r.family for r in readings]),
        "units": ("method", [r.units for r in readings]),
        "signed": ("method", np.array([r.signed for r in readings], dtype=bool)),
        "error_kind": ("method", [r.error_kind for r in readings]),
        "grid": ("method", [r.grid for r in readings]),
    }
    attributes = {
        **attrs,
        "target": int(target),
        "target_label": prediction.labels[target],
        "multi_label": int(prediction.multi_label),
        "params": json.dumps({r.method: r.params for r in readings}, sort_keys=True, default=_plain_value),
    }
    return validate(xr.Dataset(variables, coords, {name: attributes[name] for name in ATTRIBUTES}))


def validate(ds: xr.Dataset) -> xr.Dataset:
    """The dataset itself when it is an explanation, else `SchemaError`."""
    for name in ATTRIBUTES:
        if name not in ds.attrs:
            raise SchemaError(f"attribute «{name}» is missing; an explanation has: {', '.join(ATTRIBUTES)}")
    modality = ds.attrs["modality"]
    if modality not in DIMS:
        raise SchemaError(f"attribute «modality» is {modality!r}; expected {' or '.join(DIMS)}")
    dims = DIMS[modality]
    expected: dict[str, tuple[str, ...]] = {"attribution": ("method", *dims), "input": INPUT[modality]}
    expected |= {"logits": ("label",), "probability": ("label",)}
    expected |= {name: ("method",) for name in (*METHOD_VARIABLES, *METHOD_COORDS, "method")}
    expected |= {dim: (dim,) for dim in dims}
    if "spread" in ds:
        expected["spread"] = dims
    for name, wanted in expected.items():
        if name not in ds.variables:
            raise SchemaError(f"variable «{name}» is missing; expected over ({', '.join(wanted)})")
        if ds[name].dims != wanted:
            raise SchemaError(f"variable «{name}» is over {ds[name].dims}; expected ({', '.join(wanted)})")
    for name in ("attribution", "input"):
        if ds[name].dtype != np.float32:
            raise SchemaError(f"variable «{name}» is {ds[name].dtype}; expected float32")
    for dim in dims:
        if not ds[dim].attrs.get("units"):
            units = "Hz and s" if modality == "audio" else "mm or px"
            raise SchemaError(f"coordinate «{dim}» has no units; expected {units}")
    return ds


def merge(explanations: Sequence[xr.Dataset]) -> xr.Dataset:
    """One explanation from several about the same question, such as the single maps that arrive one by one.

    A method that occurs twice is taken from its last occurrence. Raises `SchemaError` when the questions differ.
    """
    if not explanations:
        raise SchemaError("no explanation to merge; give at least one")
    first = explanations[0]
    for other in explanations[1:]:
        for name in QUESTION:
            if other.attrs[name] != first.attrs[name]:
                raise SchemaError(
                    f"explanations differ in «{name}»: {first.attrs[name]!r} and {other.attrs[name]!r}; "
                    "only maps of the same question go into one dataset"
                )
    latest = {str(id): ds.sel({"method": [id]}) for ds in explanations for id in ds["method"].values}
    parts = list(latest.values())
    along = xr.concat(
        [part[["attribution", *METHOD_VARIABLES]] for part in parts],
        dim="method",
        data_vars="minimal",
        coords="minimal",
        compat="override",
        join="override",
        combine_attrs="override",
    )
    rest = first.drop_dims("method")
    merged = along.assign(rest.data_vars).assign_coords({"label": first["label"]})
    for ds in explanations:
        if "spread" in ds:
            merged["spread"] = ds["spread"]
    params: dict[str, Any] = {}
    for ds in explanations:
        params |= json.loads(ds.attrs["params"])
    merged.attrs = {**first.attrs, "params": json.dumps(params, sort_keys=True)}
    return validate(merged)


def _stack(maps: list[NDArray[np.float32]], shape: tuple[int, ...]) -> NDArray[np.float32]:
    return np.stack(maps).astype(np.float32, copy=False) if maps else np.empty((0, *shape), dtype=np.float32)


def _plain(attrs: dict[Any, Any], names: Sequence[str]) -> dict[str, Any]:
    return {name: attrs[name] for name in names if name in attrs}


def _plain_value(value: Any) -> Any:
    """JSON for the values that parameters may hold besides JSON's own: NumPy scalars, sets, tuples."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, set | frozenset):
        return sorted(value)
    raise TypeError(f"parameter of type {type(value).__name__} cannot be written as JSON")
