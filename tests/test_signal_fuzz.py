"""Whatever the bytes, the readers give a valid signal or raise their one error, soon."""

from __future__ import annotations

import io
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image
from radiograph_files import dicom, encapsulated, picture, png

from xai_panel.signals.errors import SignalError
from xai_panel.signals.limits import Limits
from xai_panel.signals.read import read_signal

SMALL = Limits(seconds=30, pixels=1_000_000, file_bytes=2**22, samples=2**21)
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")  # pytest takes the reader's own filter away
FUZZ = settings(max_examples=150, deadline=5000, suppress_health_check=[HealthCheck.too_slow])


@cache
def valid_files() -> dict[str, bytes]:
    """One small valid file of each kind that the readers know."""
    rng = np.random.default_rng(0)
    wave = rng.normal(0, 0.1, (4000, 2)).astype(np.float32)
    files = {}
    for format in ("WAV", "FLAC", "OGG", "MP3", "RF64"):
        soundfile.write(file := io.BytesIO(), wave, 16_000, format=format)
        files[format] = file.getvalue()
    soundfile.write(file := io.BytesIO(), wave, 16_000, format="OGG", subtype="OPUS")
    files["OPUS"] = file.getvalue()
    soundfile.write(file := io.BytesIO(), wave, 16_000, format="WAV", subtype="FLOAT")
    files["WAV float"] = file.getvalue()
    grey = rng.integers(0, 255, (24, 32), dtype=np.uint8)
    files["PNG"] = picture(grey)
    files["PNG 16-bit RGB"] = png(np.stack([grey.astype(np.uint16)] * 3, -1), 2, interlaced=True)
    palette = Image.fromarray(grey % 4, "P")
    palette.putpalette(bytes(range(12)))
    palette.save(file := io.BytesIO(), "PNG", transparency=1)
    files["PNG palette"] = file.getvalue()
    files["JPEG"] = picture(grey, "JPEG")
    files["JPEG progressive RGB"] = picture(np.stack([grey] * 3, -1), "JPEG", progressive=True)
    files["TIFF"] = picture(grey.astype(np.uint16), "TIFF", compression="tiff_lzw")
    files["WebP"] = picture(np.stack([grey] * 4, -1), "WEBP")
    files["DICOM"] = dicom(
        grey, PixelSpacing=[0.2, 0.2], RescaleSlope=2, RescaleIntercept=1, WindowCenter=1, WindowWidth=9
    )
    files["DICOM frames"] = dicom(np.stack([grey, grey]))
    files["DICOM implicit"] = dicom(grey, "1.2.840.10008.1.2", preamble=False)
    files["DICOM deflated"] = dicom(grey, "1.2.840.10008.1.2.1.99")
    files["DICOM JPEG"] = encapsulated(picture(grey, "JPEG"), grey, "1.2.840.10008.1.2.4.50")
    return files


KINDS = sorted(valid_files())


def check(data: bytes) -> None:
    """Either the one error on one line, or a signal that keeps what the readers promise."""
    try:
        signal = read_signal(data, limits=SMALL)
    except SignalError as error:
        assert "\n" not in str(error)
        assert error.found and error.accepted and error.remedy
        return
    image = signal.attrs["modality"] == "image"
    assert signal.dtype in ((np.uint8, np.uint16) if image else (np.float32,))
    assert np.isfinite(signal.values).all()
    assert (signal.values != signal.values[0, 0]).any() if image else signal.values.min() < signal.values.max()
    if signal.attrs["modality"] == "audio":
        assert signal.dims == ("time",)
        assert abs(signal.values).max() <= 1
        assert SMALL.min_seconds <= signal.attrs["duration"] <= SMALL.seconds
    else:
        assert signal.dims == (("y", "x", "channel") if image else ("y", "x"))
        assert signal.sizes["y"] * signal.sizes["x"] <= SMALL.pixels
        low, high = signal.attrs["value_range"]
        assert low < high
    for dim in set(signal.dims) - {"channel"}:
        assert (np.diff(signal[dim].values) > 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_the_untouched_files_are_valid(kind: str):
    data = valid_files()[kind]
    if kind == "DICOM frames":
        with pytest.raises(SignalError, match="2 frames"):
            read_signal(data, limits=SMALL)
    else:
        check(data)
        read_signal(data, limits=SMALL)


@FUZZ
@given(st.binary(max_size=2000))
@example(b"\0")
@example(b"ID3")
@example(b"OggS")
@example(b"RIFF\0\0\0\0WAVE")
@example(b"RIFF\0\0\0\0WAVEdata\xff\xff\xff\x00")
@example(b"\x89PNG\r\n\x1a\n")
@example(b"\xff\xd8\xff")
@example(bytes(128) + b"DICM")
def test_random_bytes(data: bytes):
    check(data)


@FUZZ
@given(st.sampled_from(KINDS), st.binary(max_size=400), st.integers(2, 200))
def test_random_bytes_behind_a_valid_start(kind: str, tail: bytes, kept: int):
    check(valid_files()[kind][:kept] + tail)


@FUZZ
@given(st.sampled_from(KINDS), st.floats(0, 1))
def test_truncations(kind: str, fraction: float):
    data = valid_files()[kind]
    check(data[: int(fraction * len(data))])


@FUZZ
@given(
    st.sampled_from(KINDS),
    st.lists(
        st.tuples(st.one_of(st.integers(0, 400), st.integers(0, 2**20)), st.integers(1, 255)), min_size=1, max_size=8
    ),
)
def test_flipped_bits(kind: str, flips: list[tuple[int, int]]):
    data = bytearray(valid_files()[kind])
    for position, mask in flips:
        data[position % len(data)] ^= mask
    check(bytes(data))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_every_byte_of_the_header_at_its_extremes(kind: str):
    data = valid_files()[kind]
    for position in range(min(len(data), 420)):
        for value in (0x00, 0x7F, 0x80, 0xFF):
            check(data[:position] + bytes([value]) + data[position + 1 :])


def test_real_files_with_flipped_bits(shared_data: Path):
    rng = np.random.default_rng(0)
    paths = [
        next((shared_data / "speech").rglob("*.flac")),
        next((shared_data / "chest_xray_children").rglob("*.jpeg")),
        shared_data / "dicom" / "siim_chest.dcm",
    ]
    for path in paths:
        original = path.read_bytes()
        for _ in range(40):
            data = bytearray(original)
            for position in rng.integers(0, min(len(data), 4000), 3):
                data[position] ^= 1 << int(rng.integers(8))
            check(bytes(data))
