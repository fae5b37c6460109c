"""One door for recordings and radiographs: what a file is, its content decides, not its name."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import xarray as xr

from .audio import read_audio
from .errors import SignalError
from .limits import LIMITS, Limits
from .radiograph import read_radiograph
from .source import AUDIO, RADIOGRAPH, open_source


def read_signal(
    source: str | Path | bytes | BinaryIO,
    name: str | None = None,
    limits: Limits = LIMITS,
    *,
    frame: int | None = None,
) -> xr.DataArray:
    """Read a recording (time,) or a radiograph (y, x); attrs `modality` says which it was.

    Parameters as of `read_audio`, `read_radiograph`. Raises `SignalError` when the file is neither or cannot be used.
    """
    origin = open_source(source, name, limits)
    modality, kind = origin.kind
    if modality == AUDIO:
        return read_audio(origin, limits=limits)
    if modality == RADIOGRAPH:
        return read_radiograph(origin, limits=limits, frame=frame)
    raise SignalError(
        origin.name,
        f"this is {kind}",
        limits.signal,
        "choose another file, or convert it: sound to WAV or FLAC, images to PNG or DICOM",
    )
