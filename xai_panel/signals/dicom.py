"""DICOM radiographs: from a file's elements to grey values in which larger is brighter."""

from __future__ import annotations

import io
import warnings
import zlib
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from .errors import SignalError
from .limits import Limits, bytes_text

if TYPE_CHECKING:
    from pydicom import Dataset

    from .source import Source

# pydicom warns about every oddity of a header; what matters is checked here
warnings.filterwarnings("ignore", module=r"pydicom\.")

_KEPT = {  # what the header may tell the user; the rest stays in the file, above all who the patient is
    "BodyPartExamined": "body_part",
    "ViewPosition": "view",
    "ImageLaterality": "laterality",
    "PatientOrientation": "orientation",
    "Modality": "dicom_modality",
}
_SPACING = {  # element: where the distance between pixel centers is measured
    "PixelSpacing": "PixelSpacing",
    "ImagerPixelSpacing": "ImagerPixelSpacing: at the detector, anatomy is magnified",
    "NominalScannedPixelSpacing": "NominalScannedPixelSpacing: on the scanned film, anatomy is magnified",
}
_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_DEFLATED = b"1.2.840.10008.1.2.1.99"
_CHUNK = 2**20
_RLE_SLACK = 65_536  # byte; RLE never needs much more than the plain pixels (PS3.5 annex G)


def read_dicom(
    origin: Source, limits: Limits, frame: int | None
) -> tuple[np.ndarray, tuple[float, float] | None, dict[str, Any]]:
    """Grey values (y, x), spacing (y, x) [mm] if the file gives it, and attributes of a DICOM file.

    Raises `SignalError`; see `radiograph.read_radiograph`.
    """
    try:
        return _Dicom(origin, limits).read(frame)
    except SignalError:
        raise
    except Exception as error:  # a parser of foreign bytes raises anything, and what it says is all there is to know
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise SignalError(
            origin.name,
            f"the DICOM file is truncated or corrupted ({reason})",
            limits.radiograph,
            "export it again, uncompressed (Explicit VR Little Endian) if possible",
        ) from error


class _Dicom:
    """One DICOM file on its way to grey values."""

    def __init__(self, origin: Source, limits: Limits) -> None:
        self.origin, self.limits = origin, limits

    def fail(self, found: str, remedy: str) -> NoReturn:
        raise SignalError(self.origin.name, found, self.limits.radiograph, remedy)

    def read(self, frame: int | None) -> tuple[np.ndarray, tuple[float, float] | None, dict[str, Any]]:
        dataset = self._parse()
        self._check_image(dataset)
        attrs: dict[str, Any] = {
            key: " ".join(str(dataset.get(tag)).replace("\\", " ").split())[:64]
            for tag, key in _KEPT.items()
            if dataset.get(tag) not in (None, "", [])
        }
        frames, index = self._choose_frame(dataset, frame)
        if frames > 1:
            attrs |= {"frame": index, "frames": frames}
        values, more = self._grey(dataset, self._decode(dataset, index))
        attrs |= {**more, "photometric": str(dataset.PhotometricInterpretation)}
        spacing, where = _spacing(dataset)
        if spacing is not None:
            attrs["spacing_source"] = where
        return values, spacing, attrs

    def _parse(self) -> Dataset:
        from pydicom import dcmread
        from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

        self._check_deflated()
        dataset = dcmread(io.BytesIO(self.origin.data), force=True)
        if not dataset:
            self.fail("a DICOM file without any element, truncated or corrupted", "export it again")
        if not dataset.file_meta.get("TransferSyntaxUID"):  # a file without preamble: what the parser found out
            implicit = dataset.original_encoding[0]
            dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
        return dataset

    def _check_deflated(self) -> None:
        """A deflated file (PS3.5 A.5) is inflated as a whole by the parser: count first what comes out of it."""
        data = memoryview(self.origin.data)
        if _DEFLATED not in bytes(data[132:2048]):
            return
        start = 144 + int.from_bytes(data[140:144], "little")  # after the group length, the first element of the header
        inflate, size = zlib.decompressobj(-zlib.MAX_WBITS), 0
        for position in range(start, len(data), _CHUNK):
            rest: bytes | memoryview = data[position : position + _CHUNK]
            while rest and not inflate.eof:
                size += len(inflate.decompress(rest, _CHUNK))
                rest = inflate.unconsumed_tail
                if size > self.limits.file_bytes:
                    self.fail(f"a deflated DICOM file of more than {bytes_text(size)}", "reduce its size")

    def _check_image(self, dataset: Dataset) -> None:
        """Everything that can be said before a pixel is decoded."""
        if not any(tag in dataset for tag in _PIXELS):
            if "EncryptedAttributesSequence" in dataset:
                self.fail("an encrypted DICOM file", "decrypt it first, or export it without encryption")
            kind = getattr(dataset.get("SOPClassUID"), "name", "") or "of unknown kind"
            self.fail(
                f"a DICOM object without image ({kind})", "choose the image of the study, not its report or index"
            )
        photometric = dataset.get("PhotometricInterpretation") or "missing"
        samples = dataset.get("SamplesPerPixel", 1)
        if photometric not in ("MONOCHROME1", "MONOCHROME2") or samples != 1:
            self.fail(
                f"a DICOM image with {samples} samples per pixel, photometric interpretation {photometric}",
                "export it as greyscale (MONOCHROME2, one sample per pixel)",
            )
        rows, columns = dataset.get("Rows") or 0, dataset.get("Columns") or 0
        if rows * columns > self.limits.pixels:
            self.fail(
                f"an image of {columns} × {rows} pixels = {rows * columns / 1e6:.0f} megapixels",
                "reduce its size or crop it",
            )
        if rows * columns == 0:
            self.fail(f"an image of {columns} × {rows} pixels", "export it again")
        self._check_decoder(dataset, rows * columns)

    def _check_decoder(self, dataset: Dataset, pixels: int) -> None:
        from pydicom.pixels import get_decoder
        from pydicom.uid import RLELossless

        syntax = dataset.file_meta.TransferSyntaxUID
        try:
            decoder = get_decoder(syntax)
        except NotImplementedError:
            decoder = None
        if decoder is None or not decoder.is_available:
            self.fail(
                f"pixels in the transfer syntax «{syntax.name}», which nothing installed decodes",
                "save it uncompressed (Explicit VR Little Endian), or install pylibjpeg with its plugins",
            )
        if syntax == RLELossless:
            plain = pixels * (int(dataset.BitsAllocated) // 8) * _frames(dataset)
            if len(dataset.PixelData) > 2 * plain + _RLE_SLACK:
                self.fail("RLE data much longer than the image it is for", "export it again, uncompressed")

    def _choose_frame(self, dataset: Dataset, frame: int | None) -> tuple[int, int]:
        """(number of frames, index of the one to read)."""
        frames = _frames(dataset)
        if frame is None and frames > 1:
            self.fail(f"{frames} frames", f"open one of them with frame=0…{frames - 1}")
        if frame is not None and not 0 <= frame < frames:
            one = "open it without frame" if frames == 1 else f"open one with frame=0…{frames - 1}"
            self.fail(f"{frames} frame{'s' * (frames > 1)} and frame={frame} was asked for", one)
        return frames, frame or 0

    def _decode(self, dataset: Dataset, index: int) -> np.ndarray:
        from pydicom.pixels import pixel_array

        values = pixel_array(dataset, index=index)
        if values.shape != (dataset.Rows, dataset.Columns):
            self.fail(
                f"pixels of shape {values.shape} where the header says {(dataset.Rows, dataset.Columns)}",
                "export it again",
            )
        return values

    def _grey(self, dataset: Dataset, stored: np.ndarray) -> tuple[np.ndarray, dict[str, Any]]:
        """Stored values through the grey scale pipeline of PS3.3 C.11, up to but without the window."""
        padding = _padding(dataset, stored)
        attrs: dict[str, Any] = {"bits": int(dataset.get("BitsStored") or dataset.BitsAllocated), "units": "1"}
        values, (low, high) = stored, _stored_range(dataset, stored)
        if lut := _first(dataset.get("ModalityLUTSequence")):
            values, (low, high) = _look_up(values, lut, dataset)
        elif (slope := _number(dataset, "RescaleSlope")) is not None:
            intercept = _number(dataset, "RescaleIntercept") or 0.0
            values = stored * np.float64(slope) + intercept
            low, high = sorted((low * slope + intercept, high * slope + intercept))
            kind = str(dataset.get("RescaleType") or ("HU" if dataset.get("Modality") == "CT" else "US")).strip()
            attrs["units"] = "1" if kind == "US" else kind[:16]  # US: unspecified
        window = _window(dataset)
        if lut := _first(dataset.get("VOILUTSequence")):
            values, (low, high) = _look_up(np.rint(values).astype(np.int64), lut, dataset)
            attrs["units"], window = "1", None
        values = values.astype(np.float32)
        if dataset.PhotometricInterpretation == "MONOCHROME1":
            values = np.float32(low + high) - values
            if window:  # c − 0.5 is the middle of the window; LINEAR_EXACT means c itself
                middle = 0.0 if window["window_function"] == "LINEAR_EXACT" else 0.5
                window["window_center"] = low + high - (window["window_center"] - middle) + middle
        if padding is not None and padding.any() and not padding.all():
            values[padding] = values[~padding].min()
        return values, {**attrs, **(window or {}), "value_range": [float(low), float(high)]}


def _number(dataset: Dataset, tag: str) -> float | None:
    """The (first) finite value of a numeric element, None when there is none."""
    value = _first(dataset.get(tag))
    if value in (None, ""):
        return None
    number = float(value)
    return number if np.isfinite(number) else None


def _first(value: Any) -> Any:
    """The first of several values, the value itself when it is one, None when there is none."""
    if value is None or isinstance(value, str | bytes) or not hasattr(value, "__len__"):
        return value
    return value[0] if len(value) else None


def _frames(dataset: Dataset) -> int:
    return max(1, int(_number(dataset, "NumberOfFrames") or 1))


def _stored_range(dataset: Dataset, stored: np.ndarray) -> tuple[float, float]:
    """Smallest and largest value that the stored bits can say; for floating-point pixels those that occur."""
    if stored.dtype.kind == "f":
        return float(stored.min()), float(stored.max())
    bits = int(dataset.BitsStored)
    return (-(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1) if dataset.PixelRepresentation else (0.0, 2.0**bits - 1)


def _padding(dataset: Dataset, stored: np.ndarray) -> np.ndarray | None:
    """Where (y, x) there is no image but padding around it (PS3.3 C.7.5.1.1.2)."""
    value = _number(dataset, "PixelPaddingValue")
    if value is None:
        return None
    limit = _number(dataset, "PixelPaddingRangeLimit")
    low, high = sorted((value, value if limit is None else limit))
    return (stored >= low) & (stored <= high)


def _look_up(values: np.ndarray, item: Dataset, dataset: Dataset) -> tuple[np.ndarray, tuple[float, float]]:
    """Values through a look-up table (PS3.3 C.11.1.1, C.11.2.1.1) and the range of its output.

    Written out because pydicom 3.0 keeps the index in the type of the output: 4096 entries of 8 bits wrap around.
    """
    entries, first, bits = (int(number) for number in item.LUTDescriptor)
    entries = entries or 2**16
    if dataset.get("PixelRepresentation") and first >= 2**15:
        first -= 2**16  # the first value mapped is signed when the pixels are, whatever its type says
    data = item.LUTData
    if isinstance(data, bytes):
        wide = len(data) >= 2 * entries
        order = "<" if dataset.file_meta.TransferSyntaxUID.is_little_endian else ">"
        data = np.frombuffer(data, f"{order}u2" if wide else "u1")
    table = np.atleast_1d(np.asarray(data, np.int64))[:entries] & (2**bits - 1)
    if len(table) < entries:
        raise ValueError(f"a look-up table of {len(table)} entries where {entries} are announced")
    index = np.clip(values.astype(np.int64) - first, 0, entries - 1)
    return table[index], (0.0, 2.0**bits - 1)


def _window(dataset: Dataset) -> dict[str, Any] | None:
    """The first window of the header (PS3.3 C.11.2.1.2)."""
    center, width = _number(dataset, "WindowCenter"), _number(dataset, "WindowWidth")
    function = str(dataset.get("VOILUTFunction") or "LINEAR")
    if center is None or width is None or width < (1 if function == "LINEAR" else 1e-9):
        return None
    return {"window_center": center, "window_width": width, "window_function": function}


def _spacing(dataset: Dataset) -> tuple[tuple[float, float], str] | tuple[None, None]:
    """Distance between pixel centers (y, x) [mm] and where it is measured."""
    for tag, where in _SPACING.items():
        value = dataset.get(tag)
        if value is None or isinstance(value, str) or len(value) != 2:
            continue
        rows, columns = (float(number) for number in value)
        if 0 < rows < np.inf and 0 < columns < np.inf:
            return (rows, columns), where
    return None, None
