"""Where a signal comes from: its bytes, its name, its digest, and what kind of file it really is."""

from __future__ import annotations

import hashlib
import re
import zlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, NoReturn

import numpy as np
import xarray as xr

from .errors import SignalError
from .limits import LIMITS, Limits, bytes_text

AUDIO, RADIOGRAPH, IMAGE = "audio", "radiograph", "image"
#: Axes of a signal by its modality.
AXES = {AUDIO: ("time",), RADIOGRAPH: ("y", "x"), IMAGE: ("y", "x", "channel")}
#: What a signal is called, by its modality.
NOUNS = {AUDIO: "a recording", RADIOGRAPH: "a radiograph", IMAGE: "an image"}

# (offset, magic bytes, modality that can be read or None, name for the reader of the message)
_MAGIC: tuple[tuple[int, bytes, str | None, str], ...] = (
    (0, b"fLaC", AUDIO, "FLAC"),
    (0, b"OggS", AUDIO, "OGG"),
    (0, b"\x89PNG\r\n\x1a\n", RADIOGRAPH, "PNG"),
    (0, b"\xff\xd8\xff", RADIOGRAPH, "JPEG"),
    (128, b"DICM", RADIOGRAPH, "DICOM"),
    (8, b"WEBP", IMAGE, "WebP"),
    (8, b"AVI ", None, "an AVI video"),
    (8, b"AIFF", None, "an AIFF recording"),
    (8, b"AIFC", None, "an AIFF recording"),
    (4, b"ftypM4A", None, "an M4A (AAC) recording"),
    (4, b"ftyphei", None, "a HEIC image"),
    (4, b"ftypavif", None, "an AVIF image"),
    (4, b"ftyp", None, "an MP4 or QuickTime file"),
    (4, b"jP  ", None, "a bare JPEG 2000 image"),
    (0, b"\xff\x4f\xff\x51", None, "a bare JPEG 2000 image"),
    (0, b"\x1aE\xdf\xa3", None, "a WebM or Matroska file"),
    (0, b"0&\xb2u\x8ef\xcf\x11", None, "a Windows Media file"),
    (0, b"#!AMR", None, "an AMR recording"),
    (0, b".snd", None, "an AU recording"),
    (0, b"caff", None, "a CAF recording"),
    (0, b"MThd", None, "a MIDI file"),
    (0, b"GIF8", None, "a GIF image"),
    (0, b"II*\0", IMAGE, "TIFF"),
    (0, b"MM\0*", IMAGE, "TIFF"),
    (0, b"BM", None, "a BMP image"),
    (0, b"%PDF", None, "a PDF document"),
    (0, b"PK\x03\x04", None, "a ZIP archive or Office document"),
    (0, b"\x1f\x8b", None, "a gzip archive"),
    (0, b"7z\xbc\xaf", None, "a 7-Zip archive"),
    (0, b"Rar!", None, "a RAR archive"),
    (0, b"\x89HDF", None, "an HDF5 or NetCDF file"),
    (0, b"\x93NUMPY", None, "a NumPy array file"),
    (344, b"n+1\0", None, "a NIfTI volume"),
    (0, b"\x30\x80\x06\x09", None, "an encrypted or signed (CMS) file"),
    (0, b"\xff\xfe", None, "a text file"),
    (0, b"\xfe\xff", None, "a text file"),
)


def _is_mpeg_audio(head: bytes) -> bool:
    """Whether `head` starts with a valid MPEG layer II or III frame header (ISO 11172-3, 2.4.1.3)."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return False
    version, layer = head[1] >> 3 & 3, head[1] >> 1 & 3
    return version != 1 and layer in (1, 2) and head[2] >> 4 not in (0, 15) and head[2] >> 2 & 3 != 3


def id3_length(data: bytes) -> int:
    """Length [byte] of a leading ID3v2 tag, 0 if there is none (id3.org, ID3v2.4, 3.1)."""
    if data[:3] != b"ID3" or len(data) < 10:
        return 0
    size = 0
    for byte in data[6:10]:
        size = size << 7 | byte & 0x7F
    return 10 + size + (10 if data[5] & 0x10 else 0)


def kind_of(data: bytes) -> tuple[str | None, str]:
    """What a file is by its content: (modality or None when it cannot be read, name of the format).

    PNG and JPEG may also be read as images.
    """
    if data[:4] in (b"RIFF", b"RIFX", b"RF64") and data[8:12] == b"WAVE":
        return AUDIO, "WAV"
    if data[:3] == b"ID3":
        return AUDIO, "FLAC" if data[id3_length(data) :][:4] == b"fLaC" else "MP3"
    if _is_mpeg_audio(data):
        return AUDIO, "MP3"
    for offset, magic, modality, name in _MAGIC:
        if data[offset : offset + len(magic)] == magic:
            return modality, name
    # DICOM without the 128-byte preamble starts with an element of group 2 or 8, little endian
    if re.match(rb"[\x02\x08]\0[\0-\xff]\0(?:[A-Z]{2}|[\0-\x40]\0\0\0)", data, re.DOTALL):
        return RADIOGRAPH, "DICOM"
    head = data[:512]
    if head.lstrip()[:1] == b"<":
        return None, "an HTML or XML document"
    if head and all(byte >= 32 or byte in b"\t\n\r\f" for byte in head):
        return None, "a text file"
    return None, f"content of unknown type (it starts with {head[:8].hex(' ')})"


def _clean_name(name: str) -> str:
    """The last component of a path, printable and on one line; what a browser sends may be anything."""
    base = re.split(r"[/\\]", name.strip())[-1]
    base = "".join(char if char.isprintable() else "·" for char in base)
    return base if len(base) <= 120 else f"{base[:80]}…{base[-30:]}"


@dataclass(frozen=True)
class Source:
    """The bytes of one file with the name that the user knows it by."""

    name: str
    data: bytes

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the file's bytes, hexadecimal."""
        return hashlib.sha256(self.data).hexdigest()

    @cached_property
    def kind(self) -> tuple[str | None, str]:
        """See `kind_of`."""
        return kind_of(self.data)


def open_source(
    source: str | Path | bytes | bytearray | memoryview | BinaryIO | Source,
    name: str | None = None,
    limits: Limits = LIMITS,
    accepted: str | None = None,
) -> Source:
    """Read the bytes of a file, an upload or an open binary file, of at most `limits.file_bytes`.

    Raises `SignalError` when there is nothing to read, or too much.
    """
    if isinstance(source, Source):
        return source
    accepted = accepted or limits.signal
    if isinstance(source, str | Path):
        path = Path(source)
        name = _clean_name(name or path.name or str(path))
        data = _read_path(path, name, limits, accepted)
    elif isinstance(source, bytes | bytearray | memoryview):
        name = _clean_name(name or "upload")
        data = bytes(source)
    elif hasattr(source, "read"):
        own = getattr(source, "name", None)
        name = _clean_name(name or (own if isinstance(own, str) and own else "upload"))
        data = source.read(limits.file_bytes + 1)
        if not isinstance(data, bytes):
            raise SignalError(name, "an open text file", "a file opened as binary", "open it with mode 'rb'")
    else:
        raise TypeError(f"a signal is read from a path, bytes or an open binary file, not from {type(source).__name__}")
    if not data:
        raise SignalError(
            name, "the file is empty (0 byte)", accepted, "check that it was saved or uploaded completely"
        )
    if len(data) > limits.file_bytes:
        _too_large(name, f"more than {bytes_text(limits.file_bytes)}", accepted)
    return Source(name, data)


def _read_path(path: Path, name: str, limits: Limits, accepted: str) -> bytes:
    try:
        if path.is_dir():
            raise SignalError(name, "this is a folder", accepted, "choose a file inside it")
        if not path.exists():
            raise SignalError(name, "there is no such file", accepted, "check the path")
        if not path.is_file():
            raise SignalError(name, "this is a device or a pipe, not a file", accepted, "save it to a file first")
        if (size := path.stat().st_size) > limits.file_bytes:
            _too_large(name, bytes_text(size), accepted)
        with path.open("rb") as file:
            return file.read(limits.file_bytes + 1)
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL character; SignalError is one, too
        if isinstance(error, SignalError):
            raise
        reason = getattr(error, "strerror", None) or str(error)
        raise SignalError(
            name, f"it cannot be opened ({reason})", accepted, "check the file and its permissions"
        ) from error


def _too_large(name: str, found: str, accepted: str) -> NoReturn:
    raise SignalError(
        name, f"the file has {found}", accepted, "cut it, compress it, or raise the limits if the memory allows"
    )


def modality_of(signal: xr.DataArray) -> str | None:
    """What a signal says it is, else what its axes say; None when they say nothing."""
    found = signal.attrs.get("modality")
    return found or next((modality for modality, axes in AXES.items() if axes == signal.dims), None)


def _content(signal: xr.DataArray) -> tuple[bytes, memoryview]:
    """What makes a signal what it is: the axes (size and ends, in words) and the values."""
    axes = [
        (str(dim), signal.sizes[dim], [signal[dim][i].item() for i in (0, -1)] if signal.sizes[dim] else [])
        for dim in signal.dims
    ]
    values = np.ascontiguousarray(signal.values)
    return repr((axes, str(values.dtype))).encode(), values.data


def fingerprint(signal: xr.DataArray) -> int:
    """CRC-32 of axes and values: tells whether an array is still what was read from its file."""
    axes, values = _content(signal)
    return zlib.crc32(values, zlib.crc32(axes))


def digest_of(signal: xr.DataArray) -> str:
    """Identity of a signal, SHA-256 in hexadecimal.

    For a signal as it was read: the digest of the file's bytes (with the frame, where one was chosen). For any other
    array the digest of axes and values; selections and filtered copies too, although xarray lets them keep the
    attributes of the original.
    """
    attrs = signal.attrs
    if "digest" in attrs and attrs.get("fingerprint") == fingerprint(signal):
        if "frame" in attrs:
            return hashlib.sha256(f"{attrs['digest']} frame {attrs['frame']}".encode()).hexdigest()
        return str(attrs["digest"])
    axes, values = _content(signal)
    digest = hashlib.sha256(axes)
    digest.update(values)
    return digest.hexdigest()
