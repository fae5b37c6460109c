"""Explanations as files: NetCDF and Zarr to go on working, CSV for a spreadsheet, PNG for a paper.

Each function takes a path or a file open for writing bytes. A path is written beside its place and moved there in one
step; what stood there before is replaced only by a complete file.
"""

from __future__ import annotations

import io
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xai_panel.explanation.schema import DIMS, validate
from xai_panel.signals.image import luminance

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.image import AxesImage

COLUMNS = 2000  # of a picture; longer recordings are averaged down to them
_ROWS = 200_000  # of a table that are written at once
_OPAQUE_AT = 0.6  # share of the range at which an overlay hides what is under it, as in the apps


def to_netcdf(ds: xr.Dataset, to: str | Path | BinaryIO) -> None:
    """Write the whole explanation, for `read_netcdf` or `xarray.open_dataset`. Raises `SchemaError`, `OSError`."""
    validate(ds)
    packed = {str(name): {"zlib": True, "complevel": 4} for name in ("attribution", "input", "spread") if name in ds}
    if isinstance(to, str | Path):
        with _beside(Path(to)) as path:
            ds.to_netcdf(path, engine="h5netcdf", encoding=packed)
    else:
        to.write(ds.to_netcdf(engine="h5netcdf", encoding=packed))


def read_netcdf(source: str | Path | BinaryIO) -> xr.Dataset:
    """Read an explanation into memory. Raises `SchemaError` when the file holds something else, `OSError`."""
    with xr.open_dataset(source, engine="h5netcdf") as ds:
        return validate(ds.load())


def to_zarr(ds: xr.Dataset, to: Path) -> None:
    """Write the whole explanation as a Zarr group, for `xarray.open_zarr`. Raises `SchemaError`, `OSError`."""
    texts = {name: ds[name].astype(object) for name in ds.variables if ds[name].dtype.kind == "U"}  # Zarr's own strings
    validate(ds).assign_coords(texts).to_zarr(to, mode="w-", consolidated=False, zarr_format=3)


def to_csv(ds: xr.Dataset, to: str | Path | BinaryIO) -> None:
    """Write a long table, one row per method and place: method, the two axes, input, attribution; units in the header.

    The input of an image is its luminance. Numbers have six significant digits. Raises `SchemaError`, `OSError`.
    """
    validate(ds)
    with _opened(to) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", newline="")
        for first, part in enumerate(_tables(ds)):
            part.to_csv(text, index=False, float_format="%.6g", header=first == 0, lineterminator="\n")
        text.detach()  # flushed, and not closed with the wrapper


def _tables(ds: xr.Dataset) -> Iterator[Any]:
    import pandas as pd

    first, second = DIMS[ds.attrs["modality"]]
    names = [f"{dim} [{ds[dim].attrs['units']}]" for dim in (first, second)]
    unit = ds["input"].attrs.get("units", "")
    width = max(1, _ROWS // max(1, ds.sizes[first]))
    places = ds["input"].transpose(second, first, ...)
    if "channel" in places.dims:
        places = places[..., 0].copy(data=luminance(places.values))
    for i, id in enumerate(ds["method"].values):
        maps = ds["attribution"].isel(method=i).transpose(second, first)
        for start in range(0, ds.sizes[second], width):
            piece = slice(start, start + width)
            outer, inner = np.meshgrid(ds[second].values[piece], ds[first].values, indexing="ij")
            columns = [inner, outer, places[piece].values, maps[piece].values]
            yield pd.DataFrame(
                {"method": str(id)}
                | {
                    name: values.ravel()
                    for name, values in zip(
                        [*names, f"input [{unit}]" if unit else "input", "attribution"], columns, strict=True
                    )
                },
                index=range(maps[piece].size),
            )


def to_png(ds: xr.Dataset, to: str | Path | BinaryIO, dpi: int = 110) -> None:
    """Write a picture with three panels for each method: the input, the map, and the map over the input.

    Signed maps are blue (against the target) to vermilion (for it), centered at zero; others dark to bright from zero.
    Raises `SchemaError`, `OSError`.
    """
    from matplotlib.figure import Figure

    validate(ds)
    spatial = ds.attrs["modality"] != "audio"
    ink, paper = ("white", "black") if ds.attrs["modality"] == "radiograph" else ("black", "white")
    count = max(1, ds.sizes["method"])
    width, height = (12.6, 3.7 * count + 0.6) if spatial else (15.0, 2.8 * count + 0.7)
    figure = Figure(
        figsize=(width, height), dpi=dpi, layout="compressed" if spatial else "constrained", facecolor=paper
    )
    grid = figure.subplots(count, 3, squeeze=False)
    for row, axes in zip(range(ds.sizes["method"]), grid, strict=True):
        _three_panels(ds, row, list(axes), ink, paper)
    source = ds.attrs["signal_source"] or "signal"
    figure.suptitle(
        f"{source} · {ds.attrs['model']}: {ds.xai.verdict} · evidence for «{ds.attrs['target_label']}»",
        color=ink,
        fontsize=12,
        wrap=True,
    )
    with _opened(to) as file:
        figure.savefig(file, format="png", facecolor=paper)


def _three_panels(ds: xr.Dataset, row: int, axes: list[Axes], ink: str, paper: str) -> None:
    import colorcet
    from matplotlib.colors import ListedColormap

    reading = ds.xai.reading(str(ds["method"].values[row]))
    signed = bool(reading["signed"])
    attribution = _thin(ds["attribution"].isel(method=row).transpose(*ds.xai.dims).values)
    picture = _thin(ds["input"].values)
    peak = float(np.nanmax(np.abs(attribution), initial=0.0)) or 1.0
    low = -peak if signed else 0.0
    colors = ListedColormap(colorcet.CET_D9 if signed else colorcet.CET_L8)
    gray = ListedColormap(colorcet.CET_L1)

    shown = _show(ds, axes[0], picture, gray, None)
    unit = ds["input"].attrs.get("units", "1")
    name = ds["input"].attrs.get("long_name", "Input")
    if picture.ndim == 2:
        _bar(axes[0], shown, name if unit == "1" else f"{name} [{unit}]", ink)
    axes[0].set_title("Input", color=ink, fontsize=10)

    shown = _show(ds, axes[1], attribution, colors, (low, peak))
    _bar(axes[1], shown, f"Attribution [{reading['units']}]", ink)
    note = "" if np.isnan(reading["error"]) else f" ({reading['error_kind']} {reading['error']:.2g})"
    axes[1].set_title(f"{reading['title']}{note}", color=ink, fontsize=10)

    _show(ds, axes[2], picture, gray, None)
    rgba = colors((attribution - low) / (peak - low))
    rgba[..., 3] = np.clip(np.abs(attribution) / peak / _OPAQUE_AT, 0.0, 1.0)
    shown = _show(ds, axes[2], rgba, None, None)
    axes[2].set_title(f"{reading['title']} over the input", color=ink, fontsize=10)
    for panel in axes:
        _label(ds, panel, ink, paper)


def _show(
    ds: xr.Dataset, axes: Axes, values: NDArray[Any], colors: Any, limits: tuple[float, float] | None
) -> AxesImage:
    low, high = limits or (None, None)
    return axes.imshow(
        values,
        cmap=colors,
        vmin=low,
        vmax=high,
        extent=_extent(ds),
        origin="lower" if ds.attrs["modality"] == "audio" else "upper",
        aspect="auto" if ds.attrs["modality"] == "audio" else "equal",
        interpolation="nearest",
    )


def _extent(ds: xr.Dataset) -> tuple[float, float, float, float]:
    """Edges of the picture. Bands of a mel spectrogram are drawn equally high, and labelled with their frequencies."""
    rows, columns = ds.xai.dims
    left, right = _edges(ds[columns].values)
    if ds.attrs["modality"] == "audio":
        return left, right, -0.5, ds.sizes[rows] - 0.5
    top, bottom = _edges(ds[rows].values)
    return left, right, bottom, top


def _edges(centers: NDArray[Any]) -> tuple[float, float]:
    half = float(centers[-1] - centers[0]) / max(1, centers.size - 1) / 2 if centers.size > 1 else 0.5
    return float(centers[0]) - half, float(centers[-1]) + half


def _label(ds: xr.Dataset, axes: Axes, ink: str, paper: str) -> None:
    rows, columns = ds.xai.dims
    axes.set_facecolor(paper)
    axes.tick_params(colors=ink, labelsize=8)
    for spine in axes.spines.values():
        spine.set_color(ink)
    for dim, set_label in ((rows, axes.set_ylabel), (columns, axes.set_xlabel)):
        name = dim if len(dim) == 1 else dim.capitalize()
        set_label(f"{name} [{ds[dim].attrs['units']}]", color=ink, fontsize=8)
    if ds.attrs["modality"] == "audio":
        bands = ds[rows].values
        ticks = [f for f in (125, 250, 500, 1000, 2000, 4000, 8000, 16000) if bands[0] <= f <= bands[-1]]
        if ticks:
            axes.set_yticks(np.interp(ticks, bands, np.arange(bands.size)), [str(f) for f in ticks])


def _bar(axes: Axes, shown: AxesImage, label: str, ink: str) -> None:
    bar = axes.figure.colorbar(shown, ax=axes, fraction=0.05, pad=0.02, format="%.3g")
    bar.set_label(label, color=ink, fontsize=8)
    bar.ax.tick_params(colors=ink, labelsize=7)
    bar.outline.set_edgecolor(ink)


def _thin(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """At most `COLUMNS` columns, (rows, columns): means of as many columns as it takes."""
    every = -(-values.shape[-1] // COLUMNS)
    if every <= 1:
        return values
    starts = np.arange(0, values.shape[-1], every)
    widths = np.diff([*starts, values.shape[-1]])
    return (np.add.reduceat(values, starts, axis=-1) / widths).astype(np.float32)


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to; it takes the place of `path` when all went well."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def _opened(to: str | Path | BinaryIO) -> Iterator[BinaryIO]:
    if not isinstance(to, str | Path):
        yield to
        return
    with _beside(Path(to)) as path, open(path, "wb") as file:
        yield file
