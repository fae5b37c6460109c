"""Radiographs: grey values, axes in mm or px, and what is refused with which words."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from PIL import Image, ImageOps
from pydicom import Dataset, dcmread
from pydicom.pixels import apply_modality_lut, apply_voi_lut
from pydicom.sequence import Sequence
from pydicom.uid import (
    BasicTextSRStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)
from radiograph_files import dicom, encapsulated, look_up_table, picture, png

from xai_panel.signals.audio import digest_of
from xai_panel.signals.errors import SignalError
from xai_panel.signals.limits import Limits
from xai_panel.signals.radiograph import display_window, read_radiograph
from xai_panel.signals.read import read_signal

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")  # pytest takes the reader's own filter away
RAMP = np.arange(12 * 20, dtype=np.uint8).reshape(12, 20)
RNG = np.random.default_rng(0)


# PNG and JPEG ------------------------------------------------------------------------------------------------------


def test_an_8_bit_png_is_read_exactly_on_pixel_centers():
    image = read_radiograph(picture(RAMP))
    assert (image.dims, image.dtype) == (("y", "x"), np.float32)
    np.testing.assert_array_equal(image.values, RAMP)
    np.testing.assert_array_equal(image["y"], np.arange(12) + 0.5)
    np.testing.assert_array_equal(image["x"], np.arange(20) + 0.5)
    assert image["y"].attrs["units"] == image["x"].attrs["units"] == "px"
    assert image.attrs["value_range"] == [0, 255]
    assert image.attrs["photometric"] == "greyscale"
    assert "spacing" not in image.attrs


def test_the_resolution_of_a_png_is_never_taken_for_millimeters():
    assert read_radiograph(picture(RAMP, dpi=(300, 300)))["x"].attrs["units"] == "px"


def test_a_16_bit_png_is_read_exactly():
    deep = RNG.integers(0, 65536, (9, 13), dtype=np.uint16)
    image = read_radiograph(picture(deep))
    np.testing.assert_array_equal(image.values, deep)
    assert (image.attrs["bits"], image.attrs["value_range"]) == (16, [0, 65535])


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize(("color", "channels"), [(0, 1), (2, 3), (4, 2), (6, 4)])
def test_color_and_alpha_of_any_depth(color: int, channels: int, bits: int, interlaced: bool):
    pixels = RNG.integers(0, 2**bits, (11, 14, channels)).astype(f"uint{bits}")
    image = read_radiograph(png(pixels, color, interlaced))
    exact = pixels.astype(float)
    grey = exact[..., :3] @ [0.299, 0.587, 0.114] if channels > 2 else exact[..., 0]
    if channels in (2, 4):
        grey = grey * exact[..., -1] / (2**bits - 1)
    np.testing.assert_allclose(image.values, grey, rtol=1e-6)
    assert image.attrs["value_range"] == [0, 2**bits - 1]


@pytest.mark.parametrize("bits", [8, 16])
def test_grey_stored_as_color_is_exactly_that_grey(bits: int):
    grey = RNG.integers(0, 2**bits, (8, 8)).astype(f"uint{bits}")
    image = read_radiograph(png(np.stack([grey] * 3, -1), 2))
    np.testing.assert_array_equal(image.values, grey)


def test_palette_bilevel_and_transparent_color():
    indexed = Image.fromarray(RAMP % 3, "P")
    indexed.putpalette([10, 10, 10, 100, 100, 100, 255, 0, 0])
    file = io.BytesIO()
    indexed.save(file, "PNG")
    image = read_radiograph(file.getvalue())
    np.testing.assert_allclose(image.values, np.array([10, 100, 76.245])[RAMP % 3], rtol=1e-6)
    assert image.attrs["photometric"] == "palette"

    indexed.save(file := io.BytesIO(), "PNG", transparency=1)
    np.testing.assert_allclose(read_radiograph(file.getvalue()).values, np.array([10, 0, 76.245])[RAMP % 3], rtol=1e-6)
    np.testing.assert_array_equal(read_radiograph(picture(RAMP > 99)).values, 255 * (RAMP > 99))


def test_jpeg_grey_and_color():
    smooth = np.add.outer(np.arange(64), np.arange(96)).astype(np.uint8)
    for pixels in (smooth, np.stack([smooth] * 3, -1)):
        image = read_radiograph(picture(pixels, "JPEG", quality=95))
        assert abs(image.values - smooth).max() <= 3
    progressive = read_radiograph(picture(smooth, "JPEG", progressive=True, quality=95))
    assert abs(progressive.values - smooth).max() <= 3


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["PNG", "JPEG"])
def test_exif_orientation_is_applied(orientation: int, format: str):
    smooth = np.add.outer(2 * np.arange(32), 3 * np.arange(48)).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = picture(smooth, format, exif=exif)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    np.testing.assert_array_equal(read_radiograph(data).values, expected)


def test_path_bytes_and_open_file_give_the_same_image(tmp_path: Path):
    data = dicom(RAMP, PixelSpacing=[0.2, 0.1])
    path = tmp_path / "chest.dcm"
    path.write_bytes(data)
    image = read_radiograph(path)
    with path.open("rb") as file:
        assert image.identical(read_radiograph(file))
    assert image.identical(read_radiograph(data, name="chest.dcm"))
    assert image.identical(read_signal(data, "chest.dcm"))
    assert image.attrs["digest"] == hashlib.sha256(data).hexdigest() == digest_of(image)
    assert digest_of(image.isel(x=slice(0, 10))) != digest_of(image)


def test_content_decides_not_the_name():
    assert read_signal(picture(RAMP), "speech.wav").attrs["modality"] == "radiograph"
    assert read_signal(picture(RAMP, "JPEG"), "x.png").attrs["format"] == "JPEG"


def test_an_image_survives_netcdf(tmp_path: Path):
    image = read_radiograph(dicom(RAMP, PixelSpacing=[0.2, 0.1], WindowCenter=100, WindowWidth=50))
    image.to_netcdf(tmp_path / "image.nc", engine="h5netcdf")
    with xr.open_dataarray(tmp_path / "image.nc", engine="h5netcdf") as stored:
        xr.testing.assert_equal(stored, image)
        assert list(stored.attrs["spacing"]) == [0.2, 0.1]


# DICOM -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "syntax",
    [
        ExplicitVRLittleEndian,
        ImplicitVRLittleEndian,
        ExplicitVRBigEndian,
        DeflatedExplicitVRLittleEndian,
    ],
)
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16"])
def test_stored_values_in_every_native_transfer_syntax(syntax: str, dtype: str):
    info = np.iinfo(dtype)
    pixels = RNG.integers(info.min, info.max, (16, 10), dtype=dtype, endpoint=True)
    image = read_radiograph(dicom(pixels, syntax))
    np.testing.assert_array_equal(image.values, pixels)
    assert image.attrs["value_range"] == [info.min, info.max]
    assert image["y"].attrs["units"] == "px"


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
def test_a_dicom_file_without_preamble(syntax: str):
    np.testing.assert_array_equal(read_signal(dicom(RAMP, syntax, preamble=False)).values, RAMP)


def test_rle_and_jpeg_2000_are_decoded_exactly():
    deep = RNG.integers(0, 65536, (32, 24), dtype=np.uint16)
    dataset = dcmread(io.BytesIO(dicom(deep)))
    dataset.compress(RLELossless)
    dataset.save_as(file := io.BytesIO())
    np.testing.assert_array_equal(read_radiograph(file.getvalue()).values, deep)
    codestream = picture(deep, "JPEG2000", no_jp2=True)
    np.testing.assert_array_equal(read_radiograph(encapsulated(codestream, deep, JPEG2000Lossless)).values, deep)


def test_spacing_gives_millimeters_rows_first():
    image = read_radiograph(dicom(RAMP, PixelSpacing=[0.2, 0.1]))
    np.testing.assert_allclose(image["y"], (np.arange(12) + 0.5) * 0.2)
    np.testing.assert_allclose(image["x"], (np.arange(20) + 0.5) * 0.1)
    assert image["y"].attrs["units"] == "mm"
    assert (image.attrs["spacing"], image.attrs["spacing_source"]) == ([0.2, 0.1], "PixelSpacing")


def test_spacing_at_the_detector_is_used_and_said():
    image = read_radiograph(dicom(RAMP, ImagerPixelSpacing=[0.15, 0.15]))
    assert image.attrs["spacing"] == [0.15, 0.15]
    assert "detector" in image.attrs["spacing_source"]
    both = read_radiograph(dicom(RAMP, ImagerPixelSpacing=[0.15, 0.15], PixelSpacing=[0.14, 0.14]))
    assert both.attrs["spacing"] == [0.14, 0.14]


@pytest.mark.parametrize("spacing", [[0, 0], [-1, 1]])
def test_an_impossible_spacing_is_no_spacing(spacing: list[float]):
    image = read_radiograph(dicom(RAMP, PixelSpacing=spacing))
    assert image["x"].attrs["units"] == "px"
    assert "spacing" not in image.attrs


def test_rescale_and_its_units():
    pixels = np.arange(200, dtype=np.uint16).reshape(10, 20)
    image = read_radiograph(dicom(pixels, BitsStored=12, RescaleSlope=2, RescaleIntercept=-1024, Modality="CT"))
    np.testing.assert_array_equal(image.values, pixels * 2.0 - 1024)
    assert (image.attrs["units"], image.attrs["value_range"]) == ("HU", [-1024, 2 * 4095 - 1024])
    density = read_radiograph(dicom(pixels, RescaleSlope="0.5", RescaleIntercept=0, RescaleType="OD"))
    assert density.attrs["units"] == "OD"
    falling = read_radiograph(dicom(pixels, BitsStored=12, RescaleSlope=-1, RescaleIntercept=0))
    assert (falling.attrs["units"], falling.attrs["value_range"]) == ("1", [-4095, 0])


def test_monochrome1_is_inverted_within_the_range_of_its_bits():
    pixels = np.arange(200, dtype=np.uint16).reshape(10, 20)
    image = read_radiograph(dicom(pixels, BitsStored=12, PhotometricInterpretation="MONOCHROME1"))
    np.testing.assert_array_equal(image.values, 4095.0 - pixels)
    assert (image.attrs["photometric"], image.attrs["value_range"]) == ("MONOCHROME1", [0, 4095])


def test_modality_and_voi_look_up_tables_against_pydicom():
    pixels = RNG.integers(0, 1024, (12, 9), dtype=np.uint16)
    voi = np.sort(RNG.integers(0, 4096, 600)).astype(np.uint16)
    modality = np.arange(1000, dtype=np.uint16)[::-1].copy()
    data = dicom(
        pixels,
        BitsStored=10,
        ModalityLUTSequence=look_up_table(modality, 10, 16, ModalityLUTType="US"),
        VOILUTSequence=look_up_table(voi, 100, 12),
    )
    dataset = dcmread(io.BytesIO(data))
    expected = apply_voi_lut(apply_modality_lut(pixels, dataset), dataset)
    image = read_radiograph(data)
    np.testing.assert_array_equal(image.values, expected)
    assert image.attrs["value_range"] == [0, 4095]


def test_a_long_look_up_table_of_8_bit_entries_does_not_wrap_around():
    pixels = np.linspace(0, 4095, 240).astype(np.uint16).reshape(12, 20)
    data = dicom(pixels, BitsStored=12, VOILUTSequence=look_up_table(np.arange(4096) // 16, 0, 8))
    np.testing.assert_array_equal(read_radiograph(data).values, pixels // 16)


def test_the_first_value_of_a_look_up_table_is_signed_when_the_pixels_are():
    pixels = np.arange(-120, 120, dtype=np.int16).reshape(12, 20)
    data = dicom(pixels, VOILUTSequence=look_up_table(np.arange(200), 2**16 - 100, 8))
    np.testing.assert_array_equal(read_radiograph(data).values, np.clip(pixels + 100, 0, 199))


def test_the_window_of_the_header():
    image = read_radiograph(dicom(RAMP, WindowCenter=[100, 7], WindowWidth=[51, 8]))
    assert (image.attrs["window_center"], image.attrs["window_width"]) == (100, 51)
    np.testing.assert_array_equal(image.values, RAMP)  # the window is for display, the values stay
    assert display_window(image) == (74.5, 124.5)
    exact = read_radiograph(dicom(RAMP, WindowCenter=100, WindowWidth=50, VOILUTFunction="LINEAR_EXACT"))
    assert display_window(exact) == (75, 125)


@pytest.mark.parametrize(("function", "width"), [("LINEAR", 51), ("LINEAR_EXACT", 50)])
def test_the_window_of_an_inverted_image_shows_the_same_pixels(function: str, width: float):
    elements = {"WindowCenter": 100, "WindowWidth": width, "VOILUTFunction": function}
    low, high = display_window(read_radiograph(dicom(RAMP, **elements)))
    inverted = read_radiograph(dicom(RAMP, PhotometricInterpretation="MONOCHROME1", **elements))
    assert display_window(inverted) == (255 - high, 255 - low)


def test_the_window_without_header_is_robust():
    values = np.clip(np.random.default_rng(1).normal(1000, 100, (400, 400)), 0, 60_000).astype(np.uint16)
    values[0, :5] = 65535
    low, high = display_window(read_radiograph(picture(values)))
    assert low == pytest.approx(1000 - 257.6, abs=6)
    assert high == pytest.approx(1000 + 257.6, abs=6)


def test_padding_is_black_in_both_polarities():
    pixels = np.arange(100, 300, dtype=np.int16).reshape(10, 20)
    pixels[:, :3] = -2000
    for photometric in ("MONOCHROME1", "MONOCHROME2"):
        image = read_radiograph(dicom(pixels, PixelPaddingValue=-2000, PhotometricInterpretation=photometric))
        assert (image.values[:, :3] == image.values[:, 3:].min()).all()


def test_frames_are_chosen_and_told_apart():
    frames = np.stack([RAMP, 255 - RAMP, RAMP // 2])
    data = dicom(frames)
    images = [read_radiograph(data, frame=index) for index in range(3)]
    for image, frame in zip(images, frames, strict=True):
        np.testing.assert_array_equal(image.values, frame)
    assert images[1].attrs["frame"] == 1
    assert len({digest_of(image) for image in images}) == 3


def test_what_the_header_says_is_kept_and_who_it_is_not():
    data = dicom(
        RAMP, BodyPartExamined="CHEST", ViewPosition="PA", PatientOrientation=["L", "F"], SeriesDescription="Doe PA"
    )
    image = read_radiograph(data)
    assert (image.attrs["body_part"], image.attrs["view"], image.attrs["dicom_modality"]) == ("CHEST", "PA", "DX")
    text = repr(image.attrs)
    for secret in ("Doe", "Jane", "4711", "1970", "Elsewhere"):
        assert secret not in text


# what is refused, and with which words ------------------------------------------------------------------------------


def refused(data: bytes, *words: str, frame: int | None = None, **limits: int) -> SignalError:
    with pytest.raises(SignalError) as caught:
        read_radiograph(data, name="x.dcm", frame=frame, limits=Limits(**limits))
    assert "\n" not in str(caught.value)
    assert "PNG, JPEG or single-frame greyscale DICOM of" in caught.value.accepted
    assert len(caught.value.remedy) > 8
    for word in words:
        assert word in caught.value.found + caught.value.remedy, str(caught.value)
    return caught.value


def test_wrong_type_behind_the_right_name():
    refused(b"", "empty")
    refused(b"RIFF....WAVEfmt ", "a WAV recording")
    refused(b"GIF89a..", "a GIF image")
    refused(b"\x30\x80\x06\x09" + bytes(99), "encrypted")
    with pytest.raises(SignalError, match=r"recording .* a radiograph .* or an image"):
        read_signal(b"%PDF-1.4")


@pytest.mark.parametrize("fraction", [0.97, 0.7, 0.3, 0.05])
@pytest.mark.parametrize("kind", ["PNG", "PNG16", "JPEG", "progressive", "DICOM", "deflated", "jpeg-dicom"])
def test_truncated_files_are_refused_not_padded_with_grey(kind: str, fraction: float):
    pixels = RNG.integers(0, 256, (64, 64)).astype(np.uint8)
    data = {
        "PNG": lambda: picture(pixels),
        "PNG16": lambda: png(np.stack([pixels.astype(np.uint16)] * 3, -1), 2),
        "JPEG": lambda: picture(pixels, "JPEG"),
        "progressive": lambda: picture(pixels, "JPEG", progressive=True),
        "DICOM": lambda: dicom(pixels),
        "deflated": lambda: dicom(pixels, DeflatedExplicitVRLittleEndian),
        "jpeg-dicom": lambda: encapsulated(picture(pixels, "JPEG"), pixels, "1.2.840.10008.1.2.4.50"),
    }[kind]()
    refused(data[: int(len(data) * fraction)])


def test_jpeg_inside_dicom():
    smooth = np.add.outer(np.arange(64), np.arange(96)).astype(np.uint8)
    image = read_radiograph(encapsulated(picture(smooth, "JPEG", quality=95), smooth, "1.2.840.10008.1.2.4.50"))
    assert abs(image.values - smooth).max() <= 3


def test_wrong_checksums_of_a_png():
    data = bytearray(picture(RAMP))
    data[17] ^= 1  # the width
    refused(bytes(data), "checksum", "IHDR")


def test_decompression_bombs_are_judged_by_their_header():
    bomb = png(np.zeros((1, 1), np.uint8), 0, size=(50_000, 50_000))
    refused(bomb, "50000 × 50000", "2500 megapixels")
    refused(picture(np.zeros((100, 100), np.uint8)), "100 × 100", pixels=9999)
    refused(picture(RNG.integers(0, 255, (100, 100)).astype(np.uint8), "JPEG"), "100 × 100", pixels=9999)
    refused(dicom(np.eye(100, dtype=np.uint8)), "100 × 100", pixels=9999)
    refused(dicom(RAMP, Rows=60_000, Columns=60_000), "3600 megapixels")


def test_a_deflate_bomb_is_not_inflated():
    data = dicom(np.zeros((4000, 4000), np.uint8), DeflatedExplicitVRLittleEndian)
    assert len(data) < 100_000
    refused(data, "deflated", file_bytes=2**20)


def test_a_jpeg_of_endless_scans():
    refused(picture(RAMP, "JPEG") + b"\xff\xda" * 200, "scans")


def test_zero_size():
    refused(png(np.zeros((0, 0), np.uint8), 0), "0 × 0")
    refused(dicom(RAMP, Rows=0), "20 × 0")


def test_blank_and_not_finite():
    refused(picture(np.full((8, 8), 7, np.uint8)), "blank", "7")
    values = RAMP.astype(np.float32)
    values[3, 3] = np.nan
    data = dicom(RAMP.astype(np.uint32), PixelData=None, FloatPixelData=values.tobytes(), BitsStored=None, HighBit=None)
    refused(data, "NaN")


def test_several_frames_need_a_choice():
    data = dicom(np.stack([RAMP] * 3))
    error = refused(data, "3 frames")
    assert error.remedy == "open one of them with frame=0…2"
    refused(data, "frame=3", frame=3)
    refused(data, "frame=-1", frame=-1)
    refused(dicom(RAMP), "1 frame ", "frame=2", frame=2)
    refused(picture(RAMP), "one image", frame=1)


def test_color_dicom():
    pixels = np.zeros((8, 8), np.uint8)
    data = dicom(
        pixels,
        SamplesPerPixel=3,
        PhotometricInterpretation="RGB",
        PlanarConfiguration=0,
        PixelData=bytes(8 * 8 * 3),
    )
    refused(data, "RGB", "MONOCHROME2")
    refused(dicom(pixels, PhotometricInterpretation="PALETTE COLOR"), "PALETTE COLOR")


def test_dicom_without_image_and_encrypted():
    report = dicom(RAMP, SOPClassUID=BasicTextSRStorage, PixelData=None)
    refused(report, "without image", "Basic Text SR")
    secret = Dataset()
    secret.EncryptedContentTransferSyntaxUID = ExplicitVRLittleEndian
    secret.EncryptedContent = b"1234"
    refused(dicom(RAMP, PixelData=None, EncryptedAttributesSequence=Sequence([secret])), "encrypted", "decrypt")


def test_a_transfer_syntax_without_decoder():
    error = refused(encapsulated(b"\xff\xd8....", RAMP, JPEGLSLossless), "JPEG-LS", "nothing installed decodes")
    assert "Explicit VR Little Endian" in error.remedy
    refused(encapsulated(b"\0\0\0\1", RAMP, "1.2.840.10008.1.2.4.102"), "MPEG-4")


def test_rle_that_is_much_too_long():
    refused(encapsulated(bytes(200_000), RAMP, RLELossless), "RLE")


def test_real_radiographs(shared_data: Path):
    two = read_radiograph(shared_data / "dicom" / "siim_chest.dcm")
    one = read_radiograph(shared_data / "dicom" / "Fake_MONOHR1.dcm")
    np.testing.assert_array_equal(one.values, 255 - two.values)  # the same pixels, declared MONOCHROME1
    assert two.shape == (1024, 1024)
    assert float(two["x"][-1]) == pytest.approx(1023.5 * 0.168)
    assert (two.attrs["body_part"], two.attrs["view"]) == ("CHEST", "PA")
    for folder in ("chest_xray_children", "chest_xray_adults"):
        paths = sorted((shared_data / folder).rglob("*.jp*g"))[::100]
        assert len(paths) >= 7
        for path in paths:
            image = read_radiograph(path)
            expected = np.asarray(Image.open(path).convert("L"), float)
            assert abs(image.values - expected).max() <= 0.51  # Pillow rounds
