"""Radiograph files for the tests, written out plainly, also of the kinds that libraries do not write."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image
from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import (
    DigitalXRayImageStorageForPresentation,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    generate_uid,
)


def picture(pixels: np.ndarray, format: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format, **options)
    return file.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


ADAM7 = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]


def png(pixels: np.ndarray, color: int, interlaced: bool = False, size: tuple[int, int] | None = None) -> bytes:
    """A PNG written out plainly (PNG 1.2; no filter), also of the kinds that Pillow cannot write."""
    rows, columns = size or pixels.shape[:2]
    big = pixels.astype(">u2") if pixels.dtype == np.uint16 else pixels
    passes = ADAM7 if interlaced else [(0, 0, 1, 1)]
    lines = b"".join(b"\0" + line.tobytes() for y, x, dy, dx in passes for line in big[y::dy, x::dx] if line.size)
    header = struct.pack(">IIBBBBB", columns, rows, 8 * pixels.dtype.itemsize, color, 0, 0, interlaced)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")


def dicom(pixels: np.ndarray, syntax: str = ExplicitVRLittleEndian, preamble: bool = True, **elements: Any) -> bytes:
    """A digital radiograph with the given stored values (y, x) or (frame, y, x) and elements by keyword."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = DigitalXRayImageStorageForPresentation
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = generate_uid()
    dataset.PatientName, dataset.PatientID = "Doe^Jane", "4711"
    dataset.PatientBirthDate, dataset.InstitutionName = "19700101", "St. Elsewhere"
    dataset.Modality = "DX"
    dataset.Rows, dataset.Columns = pixels.shape[-2:]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 8 * pixels.dtype.itemsize
    dataset.HighBit = dataset.BitsAllocated - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    if pixels.ndim == 3:
        dataset.NumberOfFrames = len(pixels)
    big = syntax == ExplicitVRBigEndian
    dataset.PixelData = pixels.astype(pixels.dtype.newbyteorder(">" if big else "<")).tobytes()
    for keyword, value in elements.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    if elements.get("BitsStored"):
        dataset.HighBit = dataset.BitsStored - 1
    file = io.BytesIO()
    if preamble:
        dataset.save_as(file, enforce_file_format=True)
    else:
        del dataset.file_meta
        dataset.save_as(file, implicit_vr=syntax == ImplicitVRLittleEndian, little_endian=True)
    return file.getvalue()


def look_up_table(table: np.ndarray, first: int, bits: int, **more: Any) -> Sequence:
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [len(table) % 2**16, first, bits])
    item.add_new("LUTData", "OW", table.astype("<u2").tobytes())
    for keyword, value in more.items():
        setattr(item, keyword, value)
    return Sequence([item])


def encapsulated(frame: bytes, pixels: np.ndarray, syntax: str) -> bytes:
    dataset = dcmread(io.BytesIO(dicom(pixels)))
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.PixelData = encapsulate([frame])
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    dataset.save_as(file := io.BytesIO())
    return file.getvalue()
