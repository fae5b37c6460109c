"""Radiographs: PNG, JPEG and DICOM as images over y and x, in mm when the file gives the spacing."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NoReturn

import numpy as np
import xarray as xr
from PIL import Image

from .dicom import read_dicom
from .errors import SignalError
from .limits import LIMITS, Limits
from .source import RADIOGRAPH, Source, fingerprint, open_source

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["display_window", "read_radiograph"]

_MOST_SCANS = 100  # of a progressive JPEG; more only burn time
_ORIENTATION = 0x0112  # EXIF tag: how to turn the stored image upright
_UPRIGHT = {  # EXIF 2.32, 4.6.4 A
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.T,
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].T,
    8: lambda a: np.rot90(a),
}


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
        found = f"a {kind} recording" if modality else kind
        raise SignalError(
            origin.name,
            f"this is {found}, not an image",
            limits.radiograph,
            "choose a radiograph, or convert it to PNG or DICOM",
        )
    if kind == "DICOM":
        values, spacing, attrs = read_dicom(origin, limits, frame)
    else:
        values, attrs = _Picture(origin, limits, kind).read(frame)
        spacing = None
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


class _Picture:
    """A PNG or JPEG file on its way to grey values."""

    def __init__(self, origin: Source, limits: Limits, kind: str) -> None:
        self.origin, self.limits, self.kind = origin, limits, kind

    def fail(self, found: str, remedy: str) -> NoReturn:
        raise SignalError(self.origin.name, found, self.limits.radiograph, remedy)

    def broken(self, found: str) -> NoReturn:
        self.fail(f"the {self.kind} file is truncated or corrupted ({found})", "copy or export it again, completely")

    def read(self, frame: int | None) -> tuple[np.ndarray, dict[str, Any]]:
        """Grey values (y, x) and attributes."""
        if frame not in (None, 0):
            self.fail(f"a {self.kind} file has one image and frame={frame} was asked for", "leave frame out")
        try:
            if self.kind == "PNG":
                return self._read_png()
            return self._read_jpeg()
        except SignalError:
            raise
        except Exception as error:  # whatever the decoder stumbles over: a decoder of foreign bytes raises anything
            if isinstance(error, Image.DecompressionBombError | MemoryError):
                self.fail(f"a {self.kind} image too large to decode", "reduce its size")
            self.broken(" ".join(str(error).split())[:120] or type(error).__name__)

    def _check_size(self, width: int, height: int) -> None:
        if width < 1 or height < 1:
            self.fail(f"an image of {width} × {height} pixels", "export it again")
        if width * height > self.limits.pixels:
            self.fail(
                f"an image of {width} × {height} pixels = {width * height / 1e6:.0f} megapixels",
                "reduce its size or crop it",
            )

    def _read_jpeg(self) -> tuple[np.ndarray, dict[str, Any]]:
        if (scans := self.origin.data.count(b"\xff\xda")) > _MOST_SCANS:
            self.fail(f"a JPEG image in {scans} scans", "save it again as an ordinary JPEG")
        with Image.open(io.BytesIO(self.origin.data), formats=["JPEG"]) as picture:
            self._check_size(*picture.size)
            picture.load()
            grey = _luminance(np.asarray(picture if picture.mode in ("L", "RGB") else picture.convert("RGB")))
            return self._upright(picture, grey), self._attrs(8, _JPEG_COLOR.get(picture.mode, picture.mode))

    def _read_png(self) -> tuple[np.ndarray, dict[str, Any]]:
        width, height, depth, color, interlaced = self._png_header()
        self._check_size(width, height)
        pixels = b"".join(data for kind, data in self._png_chunks() if kind == b"IDAT")
        if len(pixels) == 0:
            self.broken("it has no pixels")
        with Image.open(io.BytesIO(self.origin.data), formats=["PNG"]) as picture:
            if depth == 16 and color != 0:
                grey = _deep_luminance(pixels, (width, height), color, interlaced)
            else:
                del pixels
                picture.load()
                grey = self._shallow(picture, depth)
            return self._upright(picture, grey), self._attrs(16 if depth == 16 else 8, _PNG_COLOR[color])

    def _shallow(self, picture: Image.Image, depth: int) -> np.ndarray:
        """Grey values of what Pillow decodes without loss: all but 16-bit color and 16-bit grey with alpha."""
        if depth == 16:
            return np.asarray(picture, np.uint16)
        if picture.mode == "1":
            return np.asarray(picture.convert("L"))
        if "transparency" in picture.info or picture.mode in ("LA", "PA"):
            picture = picture.convert("RGBA")
        elif picture.mode == "P":
            picture = picture.convert("RGB")
        return _luminance(np.asarray(picture))

    def _attrs(self, bits: int, photometric: str) -> dict[str, Any]:
        return {"bits": bits, "value_range": [0.0, float(2**bits - 1)], "photometric": photometric}

    def _upright(self, picture: Image.Image, grey: np.ndarray) -> np.ndarray:
        try:
            orientation = picture.getexif().get(_ORIENTATION, 1)
        except Exception:  # a broken EXIF block says nothing about the pixels: they stay as they are stored
            orientation = 1
        return _UPRIGHT.get(orientation, lambda a: a)(grey)

    def _png_header(self) -> tuple[int, int, int, int, bool]:
        """(width, height, bit depth, color type, interlaced) of the IHDR chunk (PNG 1.2, 4.1.1)."""
        kind, data = next(self._png_chunks())
        if kind != b"IHDR" or len(data) != 13:
            self.broken("it does not start with its header")
        width, height, depth, color, _, _, interlace = struct.unpack(">IIBBBBB", data)
        return width, height, depth, color, bool(interlace)

    def _png_chunks(self) -> Iterator[tuple[bytes, memoryview]]:
        """Type and data of each chunk up to IEND, their checksums compared (PNG 1.2, 3.2)."""
        data = memoryview(self.origin.data)
        position = 8
        while position + 12 <= len(data):
            size = int.from_bytes(data[position : position + 4], "big")
            kind = bytes(data[position + 4 : position + 8])
            end = position + 8 + size
            if end + 4 > len(data):
                break
            if zlib.crc32(data[position + 4 : end]) != int.from_bytes(data[end : end + 4], "big"):
                self.broken(f"wrong checksum in its {kind.decode('latin-1') if kind.isalpha() else 'unnamed'} block")
            yield kind, data[position + 8 : end]
            if kind == b"IEND":
                return
            position = end + 4
        self.broken("it ends before its last block")


_PNG_COLOR = {0: "greyscale", 2: "RGB", 3: "palette", 4: "greyscale with alpha", 6: "RGB with alpha"}
_JPEG_COLOR = {"L": "greyscale"}


def _luminance(pixels: np.ndarray) -> np.ndarray:
    """Grey (y, x) of 8-bit pixels (y, x) or (y, x, 3 or 4): 0.299 R + 0.587 G + 0.114 B, alpha over black.

    ITU-R BT.601 in whole thousandths, so that equal R, G and B give exactly their own value.
    """
    if pixels.ndim == 2:
        return pixels
    grey = _weigh(pixels)
    if pixels.shape[2] == 4:
        return grey.astype(np.float32) * (pixels[..., 3] / np.float32(255_000))
    return grey / np.float32(1000)


def _weigh(pixels: np.ndarray) -> np.ndarray:
    """Luminance in thousandths (y, x) uint32 of (y, x, channels) uint8."""
    grey = pixels[..., 0] * np.uint32(299)
    grey += pixels[..., 1] * np.uint32(587)
    grey += pixels[..., 2] * np.uint32(114)
    return grey


def _deep_luminance(pixels: bytes, size: tuple[int, int], color: int, interlaced: bool) -> np.ndarray:
    """Grey (y, x) float32 of the 16-bit color or grey-alpha PNG whose compressed pixels are given.

    Pillow keeps only the high byte of these. Its decoder, told that the samples are little endian, gives the low byte
    instead: decode twice. Grey with alpha has as many bits to a pixel as 8-bit RGBA and is decoded as that.
    """

    def decode(mode: str, raw: str) -> np.ndarray:
        return np.asarray(Image.frombytes(mode, size, pixels, "zip", raw, *([1] if interlaced else [])))

    if color == 4:
        high, low, alpha_high, alpha_low = np.moveaxis(decode("RGBA", "RGBA"), -1, 0).astype(np.uint32)
        return (high * 256 + low).astype(np.float32) * ((alpha_high * 256 + alpha_low) / np.float32(65535))
    mode = "RGBA" if color == 6 else "RGB"
    coarse = decode(mode, f"{mode};16B")
    grey = _weigh(coarse) * np.uint32(256)
    alpha = coarse[..., 3] * np.uint32(256) if color == 6 else None
    del coarse
    fine = decode(mode, f"{mode};16L")
    grey += _weigh(fine)
    if alpha is None:
        return (grey / 1000).astype(np.float32)
    return (grey * ((alpha + fine[..., 3]) / 65_535_000)).astype(np.float32)
