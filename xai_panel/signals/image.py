"""Images such as photographs: PNG, JPEG, TIFF and WebP as colors over y and x, in px."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import numpy as np
import xarray as xr

from .errors import SignalError
from .limits import LIMITS, Limits
from .picture import read_picture
from .source import AUDIO, IMAGE, Source, fingerprint, open_source

__all__ = ["CHANNELS", "luminance", "read_image"]

CHANNELS = ("red", "green", "blue")


def read_image(
    source: str | Path | bytes | BinaryIO | Source, *, name: str | None = None, limits: Limits = LIMITS
) -> xr.DataArray:
    """Read an image as red, green and blue.

    Parameters
    ----------
    source: path, bytes of a file, or a file open for reading binary
    name: what to call it in messages and attributes; default the file's name
    limits: bounds on file size and pixels

    Returns
    -------
    DataArray (y, x, channel), uint8, or uint16 of a file with 16 bits: stored values, turned upright as EXIF says, grey
    in all three channels, what is transparent over white. Of 16-bit colors in TIFF the upper eight bits are read, of
    several pages or frames the first; color profiles are not applied. `y` and `x` are pixel centers in px (0.5, 1.5,
    …). attrs: units, long_name, modality, value_range (all that the stored bits can say), bits, photometric, format,
    source, digest.

    Raises
    ------
    SignalError: not such an image, truncated or corrupted, too large, with 32 bits, or of one single color.
    """
    origin = open_source(source, name, limits, limits.image)
    modality, kind = origin.kind
    if kind not in ("PNG", "JPEG", "TIFF", "WebP"):
        found = {AUDIO: f"a {kind} recording", None: kind}.get(modality, f"a {kind} radiograph")
        raise SignalError(
            origin.name, f"this is {found}, not an image", limits.image, "choose an image, or convert it to PNG"
        )
    pixels, attrs = read_picture(origin, limits, limits.image)
    values = _colors(pixels)
    if (values == values[0, 0]).all():
        color = ", ".join(str(value) for value in values[0, 0])
        raise SignalError(
            origin.name,
            f"the image is blank, every pixel is ({color})",
            limits.image,
            "choose an image with content",
        )
    coords = {
        dim: (dim, np.arange(size) + 0.5, {"units": "px", "long_name": dim})
        for dim, size in zip(("y", "x"), values.shape, strict=False)
    }
    image = xr.DataArray(values, dims=("y", "x", "channel"), coords={**coords, "channel": list(CHANNELS)}, name="image")
    image.attrs = {
        "units": "1",
        "long_name": "Color value",
        "modality": IMAGE,
        **attrs,
        "format": kind,
        "source": origin.name,
        "digest": origin.digest,
    }
    image.attrs["fingerprint"] = fingerprint(image)
    return image


def luminance(colors: np.ndarray) -> np.ndarray:
    """0.299 R + 0.587 G + 0.114 B (ITU-R BT.601) of colors (…, channel) in their own units; (…) float32."""
    return colors @ np.array([0.299, 0.587, 0.114], np.float32)


def _colors(pixels: np.ndarray) -> np.ndarray:
    """Red, green and blue (y, x, channel) of pixels as `read_picture` gives them; alpha over white."""
    colors = pixels[..., None] if pixels.ndim == 2 else pixels
    if colors.shape[2] in (2, 4):
        white, alpha = np.uint32(np.iinfo(pixels.dtype).max), colors[..., -1:].astype(np.uint32)
        colors = ((colors[..., :-1] * alpha + white * (white - alpha) + white // 2) // white).astype(pixels.dtype)
    return np.ascontiguousarray(np.broadcast_to(colors, (*colors.shape[:2], 3)))
