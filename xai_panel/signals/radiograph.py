"""Radiographs: PNG, JPEG and DICOM as images over y and x, in mm when the file gives the spacing."""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import xarray as xr

from .dicom import read_dicom
from .errors import SignalError
from .limits import LIMITS, Limits
from .picture import read_picture
from .source import AUDIO, IMAGE, RADIOGRAPH, Source, fingerprint, open_source

__all__ = ["display_window", "read_radiograph"]


def read_radiograph(
    source: str | Path | bytes | BinaryIO | Source,
    *,
    name: str | None = None,
    limits: Limits = LIMITS,
    frame: int | None = None,
) -> xr.DataArray:
    """Read a radiograph as one greyscale image in which larger is brighter.

    Parameters
    ----------
    source: path, bytes of a file, or a file open for reading binary
    name: what to call it in messages and attributes; default the file's name
    limits: bounds on file size and pixels
    frame: which image of a DICOM file with several, from 0

    Returns
    -------
    DataArray (y, x) float32. PNG and JPEG: stored values, color as luminance (ITU-R BT.601, what is transparent is
    black), turned upright as EXIF says. DICOM: after the modality LUT or rescale and the VOI LUT, MONOCHROME1 inverted
    (PS3.3 C.11.1, C.11.2, C.7.6.3.1.2). `y` and `x` are pixel centers, in mm when a DICOM file gives the spacing, else
    in px (0.5, 1.5, …). attrs: units, long_name, modality, value_range (all that the stored bits can say), bits,
    photometric, format, source, digest; where the header has them window_center, window_width, window_function,
    spacing [mm] (y, x), spacing_source, body_part, view, laterality, orientation, dicom_modality, frame, frames.
    Nothing that tells who the patient is.

    Raises
    ------
    SignalError: not an image, truncated or corrupted, too large, no or one single grey value, NaN; DICOM in color,
    without image, encrypted, compressed in a way that nothing installed decodes, or of several frames with none chosen.
    """
    origin = open_source(source, name, limits, limits.radiograph)
    modality, kind = origin.kind
    if modality != RADIOGRAPH:
        found = {AUDIO: f"a {kind} recording", IMAGE: f"a {kind} image"}.get(str(modality), kind)
        raise SignalError(
            origin.name,
            f"this is {found}, not a radiograph",
            limits.radiograph,
            "choose a radiograph, or convert it to PNG or DICOM",
        )
    if kind == "DICOM":
        values, spacing, attrs = read_dicom(origin, limits, frame)
    else:
        if frame not in (None, 0):
            raise SignalError(
                origin.name,
                f"a {kind} file has one image and frame={frame} was asked for",
                limits.radiograph,
                "leave frame out",
            )
        pixels, attrs = read_picture(origin, limits, limits.radiograph)
        values, spacing = _luminance(pixels), None
    return _image(values, spacing, {**attrs, "format": kind}, origin, limits)


def display_window(image: xr.DataArray) -> tuple[float, float]:
    """Grey values (black, white) to display (y, x) between: the header's window, else the 0.5 and 99.5 percentiles.

    The header's center c and width w mean c − 0.5 ± (w − 1)/2 (DICOM PS3.3 C.11.2.1.2.1), or c ± w/2 when the window's
    function is LINEAR_EXACT.
    """
    center, width = image.attrs.get("window_center"), image.attrs.get("window_width")
    if center is not None and width is not None:
        if image.attrs.get("window_function") == "LINEAR_EXACT":
            return float(center - width / 2), float(center + width / 2)
        half = max(float(width) - 1, 1e-6) / 2
        return float(center) - 0.5 - half, float(center) - 0.5 + half
    step = max(1, int(np.sqrt(image.size / 1e6)))  # a million pixels tell the percentiles well enough
    values = np.asarray(image.values[::step, ::step], np.float32)
    values = values[np.isfinite(values)]
    low, high = (float(value) for value in np.percentile(values, (0.5, 99.5)))
    if high <= low:
        low, high = float(values.min()), float(values.max())
    return (low, high) if high > low else (low, low + 1.0)


def _image(
    values: np.ndarray, spacing: tuple[float, float] | None, attrs: dict[str, Any], origin: Source, limits: Limits
) -> xr.DataArray:
    values = np.ascontiguousarray(values, np.float32)
    low, high = float(values.min()), float(values.max())  # NaN propagates through both
    if not np.isfinite([low, high]).all():
        raise SignalError(
            origin.name, "NaN or infinite pixels", limits.radiograph, "export it again with finite values"
        )
    if low == high:
        raise SignalError(
            origin.name,
            f"the image is blank, every pixel is {low:g}",
            limits.radiograph,
            "choose an image with content",
        )
    units = "px" if spacing is None else "mm"
    coords = {}
    for dim, size, step in zip(("y", "x"), values.shape, spacing or (1.0, 1.0), strict=True):
        coords[dim] = (dim, (np.arange(size) + 0.5) * step, {"units": units, "long_name": dim})
    image = xr.DataArray(values, coords=coords, dims=("y", "x"), name="radiograph")
    image.attrs = {
        "units": "1",
        "long_name": "Grey value",
        "modality": RADIOGRAPH,
        **attrs,
        "source": origin.name,
        "digest": origin.digest,
    }
    if spacing is not None:
        image.attrs["spacing"] = list(spacing)
    image.attrs["fingerprint"] = fingerprint(image)
    return image


def _luminance(pixels: np.ndarray) -> np.ndarray:
    """Grey (y, x) of pixels as `read_picture` gives them: 0.299 R + 0.587 G + 0.114 B, alpha over black.

    ITU-R BT.601 in whole thousandths, so that equal R, G and B give exactly their own value.
    """
    if pixels.ndim == 2:
        return pixels
    weights = (299, 587, 114) if pixels.shape[2] > 2 else (1000,)
    grey = pixels[..., 0] * np.uint32(weights[0])
    for channel, weight in enumerate(weights[1:], start=1):
        grey += pixels[..., channel] * np.uint32(weight)
    if pixels.shape[2] % 2:
        return (grey / 1000).astype(np.float32)
    return grey.astype(np.float32) * (pixels[..., -1] / np.float32(1000 * np.iinfo(pixels.dtype).max))
