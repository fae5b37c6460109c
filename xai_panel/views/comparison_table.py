"""What a comparison says in numbers: costs and errors, agreement of the maps, files to take away."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import xarray as xr

import xai_panel.explanation.accessor  # noqa: F401  # registers .xai
from xai_panel.views.maps import Results

COLUMNS = {
    "title": "Method",
    "model": "Classifier",
    "family": "Family",
    "seconds": "Seconds",
    "evaluations": "Evaluations",
    "error": "Error",
    "error_kind": "Error is",
    "agreement": "Agreement",
}
NUMBERS = ("seconds", "evaluations", "error", "agreement")
RANKED = 60_000  # values of a map that are ranked: all of 224 × 224, evenly spread columns of longer recordings
SUFFIXES = {"NetCDF": "nc", "CSV": "csv", "PNG": "png"}


def comparison_table(explanations: Sequence[xr.Dataset], titles: Mapping[str, str] | None = None) -> pd.DataFrame:
    """One row per map, columns as in `COLUMNS`: seconds [s], forward passes, error, mean rank agreement.

    The agreement is that with the other maps of the same classifier. `titles`: id of a classifier → its name.
    """
    parts = [
        thinned(one).xai.compare().assign(model=(titles or {}).get(one.attrs["model"], one.attrs["model"]))
        for one in explanations
    ]
    if not parts:
        return pd.DataFrame({name: pd.Series(dtype=object) for name in COLUMNS})
    table = pd.concat(parts, ignore_index=True)[list(COLUMNS)]
    for name, count in {"seconds": 3, "agreement": 2}.items():
        table[name] = table[name].astype(float).round(count)
    table["error"] = [float(f"{value:.3g}") for value in table["error"].astype(float)]
    return table


def thinned(explanation: xr.Dataset) -> xr.Dataset:
    """The explanation with at most about `RANKED` values per map: every nth column."""
    rows, columns = explanation["input"].shape[:2]
    step = max(1, -(-rows * columns // RANKED))
    return explanation.isel({explanation["input"].dims[1]: slice(None, None, step)})


def agreement(results: Sequence[Results]) -> tuple[xr.DataArray, list[str]]:
    """Spearman's rank correlations of all maps, (method, other) named `<classifier>:<id>`, and these names.

    Maps of two classifiers on different grids are not compared: NaN.
    """
    maps = {f"{i}:{id}": thinned(one) for i, column in enumerate(results) for id, one in column.items()}
    keys = list(maps)
    whole = xr.DataArray(
        np.full((len(keys), len(keys)), np.nan), dims=("method", "other"), coords={"method": keys, "other": keys}
    )
    grids = {
        key: tuple((one.sizes[dim], *one[dim].values[[0, -1]].tolist()) for dim in one.xai.dims)
        for key, one in maps.items()
    }
    for grid in set(grids.values()):
        same = [key for key in keys if grids[key] == grid]
        joined = xr.concat(
            [maps[key].drop_vars("spread", errors="ignore").assign_coords(method=[key]) for key in same],
            dim="method",
            data_vars="minimal",
            coords="minimal",
            compat="override",
            join="override",
            combine_attrs="override",
        )
        whole.loc[same, same] = joined.xai.agreement().values
    return whole, keys


def download(explanations: Sequence[xr.Dataset], kind: str) -> io.BytesIO:
    """The explanations as a file of this kind ("NetCDF", "CSV", "PNG"); several of them as a ZIP of one file each."""
    files = {f"{one.attrs['model']}.{SUFFIXES[kind]}": _written(one, kind) for one in explanations}
    if len(files) == 1:
        return io.BytesIO(next(iter(files.values())))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    buffer.seek(0)
    return buffer


def _written(explanation: xr.Dataset, kind: str) -> bytes:
    from xai_panel.explanation import export

    buffer = io.BytesIO()
    {"NetCDF": export.to_netcdf, "CSV": export.to_csv, "PNG": export.to_png}[kind](explanation, buffer)
    return buffer.getvalue()
