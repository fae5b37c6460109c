"""Pictures in PNG, JPEG, TIFF and WebP files: their pixels as they are stored, turned upright."""

from __future__ import annotations

import io
import struct
import zlib
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from PIL import Image

from .errors import SignalError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .limits import Limits
    from .source import Source

_MOST_SCANS = 100  # of a progressive JPEG; more only burn time
_ORIENTATION = 0x0112  # EXIF tag: how to turn the stored image upright
_PHOTOMETRIC = 262  # TIFF tag: what the values mean
_UPRIGHT = {  # EXIF 2.32, 4.6.4 A
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a),
}
_PNG_COLOR = {0: "greyscale", 2: "RGB", 3: "palette", 4: "greyscale with alpha", 6: "RGB with alpha"}
_COLOR = {
    **dict.fromkeys(("1", "L", "I;16", "I;16B"), "greyscale"),
    "P": "palette",
    "LA": "greyscale with alpha",
    "RGBA": "RGB with alpha",
}


def read_picture(origin: Source, limits: Limits, accepted: str) -> tuple[np.ndarray, dict[str, Any]]:
    """Decode a PNG, JPEG, TIFF or WebP file, the first picture where there are several.

    accepted: what is accepted, as a phrase for error messages.

    Returns pixels (y, x) of greyscale or (y, x, channel) of grey with alpha, RGB, or RGB with alpha, uint8 or uint16,
    upright as EXIF says, and the attributes bits, value_range and photometric. Palettes and other colors become RGB;
    of 16-bit colors in TIFF the upper eight bits are read. Raises `SignalError` for what is too large or damaged.
    """
    return _Picture(origin, limits, accepted).read()


class _Picture:
    def __init__(self, origin: Source, limits: Limits, accepted: str) -> None:
        self.origin, self.limits, self.accepted, self.kind = origin, limits, accepted, origin.kind[1]

    def fail(self, found: str, remedy: str) -> NoReturn:
        raise SignalError(self.origin.name, found, self.accepted, remedy)

    def broken(self, found: str) -> NoReturn:
        self.fail(f"the {self.kind} file is truncated or corrupted ({found})", "copy or export it again, completely")

    def read(self) -> tuple[np.ndarray, dict[str, Any]]:
        try:
            return self._read_png() if self.kind == "PNG" else self._read_other()
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

    def _read_other(self) -> tuple[np.ndarray, dict[str, Any]]:
        if self.kind == "JPEG" and (scans := self.origin.data.count(b"\xff\xda")) > _MOST_SCANS:
            self.fail(f"a JPEG image in {scans} scans", "save it again as an ordinary JPEG")
        with Image.open(io.BytesIO(self.origin.data), formats=[self.kind.upper()]) as picture:
            self._check_size(*picture.size)
            if picture.mode in ("I", "F"):
                self.fail(f"a {self.kind} image of 32 bits", "save it with 8 or 16 bits")
            picture.load()
            values = _stored(picture)
            if picture.mode == "I;16" and getattr(picture, "tag_v2", {}).get(_PHOTOMETRIC) == 0:  # white is zero
                values = np.uint16(65535) - values
            return self._upright(picture, values), _attrs(values, _COLOR.get(picture.mode, picture.mode))

    def _read_png(self) -> tuple[np.ndarray, dict[str, Any]]:
        width, height, depth, color, interlaced = self._png_header()
        self._check_size(width, height)
        pixels = b"".join(data for kind, data in self._png_chunks() if kind == b"IDAT")
        if len(pixels) == 0:
            self.broken("it has no pixels")
        with Image.open(io.BytesIO(self.origin.data), formats=["PNG"]) as picture:
            if depth == 16 and color != 0:
                values = _deep(pixels, (width, height), color, interlaced)
            else:
                del pixels
                picture.load()
                values = _stored(picture)
            return self._upright(picture, values), _attrs(values, _PNG_COLOR[color])

    def _upright(self, picture: Image.Image, values: np.ndarray) -> np.ndarray:
        try:
            orientation = picture.getexif().get(_ORIENTATION, 1)
        except Exception:  # a broken EXIF block says nothing about the pixels: they stay as they are stored
            orientation = 1
        return _UPRIGHT.get(orientation, lambda a: a)(values)

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


def _attrs(values: np.ndarray, photometric: str) -> dict[str, Any]:
    bits = 8 * values.dtype.itemsize
    return {"bits": bits, "value_range": [0.0, float(2**bits - 1)], "photometric": photometric}


def _stored(picture: Image.Image) -> np.ndarray:
    """Pixels of what Pillow decodes without loss: all but 16-bit colors and 16-bit grey with alpha."""
    if picture.mode.startswith("I"):  # 16-bit grey
        return np.asarray(picture).astype(np.uint16)
    if picture.mode == "1":
        return np.asarray(picture.convert("L"))
    if "transparency" in picture.info or picture.mode in ("LA", "PA", "La", "RGBa"):
        picture = picture.convert("RGBA")
    elif picture.mode not in ("L", "RGB", "RGBA"):
        picture = picture.convert("RGB")
    return np.asarray(picture)


def _deep(pixels: bytes, size: tuple[int, int], color: int, interlaced: bool) -> np.ndarray:
    """Pixels (y, x, channel) uint16 of the 16-bit color or grey-alpha PNG whose compressed pixels are given.

    Pillow keeps only the high byte of these. Its decoder, told that the samples are little endian, gives the low byte
    instead: decode twice. Grey with alpha has as many bits to a pixel as 8-bit RGBA and is decoded as that.
    """

    def decode(mode: str, raw: str) -> np.ndarray:
        return np.asarray(Image.frombytes(mode, size, pixels, "zip", raw, *([1] if interlaced else [])))

    if color == 4:
        return decode("RGBA", "RGBA").view(">u2").astype(np.uint16)
    mode = "RGBA" if color == 6 else "RGB"
    values = decode(mode, f"{mode};16B").astype(np.uint16)
    values <<= 8
    values |= decode(mode, f"{mode};16L")
    return values
