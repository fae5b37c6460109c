"""One door for recordings, radiographs and images: what a file is, its content decides, not its name."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import xarray as xr

from .audio import read_audio
from .errors import SignalError
from .image import read_image
from .limits import LIMITS, Limits
from .radiograph import read_radiograph
from .source import AUDIO, IMAGE, RADIOGRAPH, open_source


def read_signal(
    source: str | Path | bytes | BinaryIO,
    name: str | None = None,
    limits: Limits = LIMITS,
    *,
    frame: int | None = None,
    modality: str | None = None,
) -> xr.DataArray:
    """Read a recording (time,), a radiograph (y, x) or an image (y, x, channel); attrs `modality` says which it was.

    Parameters as of `read_audio`, `read_radiograph`, `read_image`, and modality: "radiograph" or "image", which no
    picture file says itself; None reads PNG and JPEG as radiographs, TIFF and WebP as images. Raises `SignalError` when
    the file is none of them or cannot be used.
    """
    origin = open_source(source, name, limits)
    found, kind = origin.kind
    if found == AUDIO:
        return read_audio(origin, limits=limits)
    if found in (RADIOGRAPH, IMAGE):
        wanted = modality if modality in (RADIOGRAPH, IMAGE) and kind != "DICOM" else found
        if wanted == IMAGE:
            return read_image(origin, limits=limits)
        return read_radiograph(origin, limits=limits, frame=frame)
    raise SignalError(
        origin.name,
        f"this is {kind}",
        limits.signal,
        "choose another file, or convert it: sound to WAV or FLAC, images to PNG or DICOM",
    )
