"""Images: colors of files of all kinds, and what is refused with which words."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageOps
from radiograph_files import dicom, picture, png

from xai_panel.signals.errors import SignalError
from xai_panel.signals.image import luminance, read_image
from xai_panel.signals.limits import Limits
from xai_panel.signals.read import read_signal
from xai_panel.signals.source import digest_of

RNG = np.random.default_rng(0)
COLORS = RNG.integers(0, 256, (9, 13, 3), dtype=np.uint8)
SMOOTH = np.stack([np.add.outer(2 * np.arange(32), 3 * np.arange(48))] * 3, -1).astype(np.uint8) + np.uint8([0, 9, 30])


def tiff16(values: np.ndarray, white_is_zero: bool) -> bytes:
    """An uncompressed little-endian 16-bit greyscale TIFF, written out plainly (TIFF 6.0)."""
    rows, columns = values.shape
    tags = [(256, columns), (257, rows), (258, 16), (259, 1), (262, int(not white_is_zero)), (273, 8), (277, 1),
            (278, rows), (279, values.nbytes)]  # fmt: skip
    entries = b"".join(np.array([tag, 4], "<u2").tobytes() + np.array([1, v], "<u4").tobytes() for tag, v in tags)
    start = np.array([8 + values.nbytes], "<u4").tobytes()
    return b"II*\0" + start + values.astype("<u2").tobytes() + bytes([len(tags), 0]) + entries + bytes(4)


@pytest.mark.parametrize("options", [{"format": "PNG"}, {"format": "TIFF"}, {"format": "WEBP", "lossless": True}])
def test_colors_are_read_exactly_on_pixel_centers(options):
    image = read_image(picture(COLORS, **options), name="a.jpg")
    assert (image.dims, image.dtype, image.attrs["modality"]) == (("y", "x", "channel"), np.uint8, "image")
    np.testing.assert_array_equal(image.values, COLORS)
    np.testing.assert_array_equal(image["y"], np.arange(9) + 0.5)
    assert list(image["channel"].values) == ["red", "green", "blue"]
    assert image["x"].attrs["units"] == "px"
    assert (image.attrs["format"].upper(), image.attrs["value_range"]) == (options["format"], [0, 255])
    assert digest_of(image) == image.attrs["digest"] != digest_of(image.isel(x=slice(3)))


def test_jpeg_in_color():
    assert abs(read_image(picture(SMOOTH, "JPEG", quality=95)).values.astype(int) - SMOOTH).max() <= 6


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize(("color", "channels"), [(0, 1), (2, 3), (4, 2), (6, 4)])
def test_png_of_any_depth_with_what_is_transparent_over_white(color: int, channels: int, bits: int):
    pixels = RNG.integers(0, 2**bits, (11, 14, channels)).astype(f"uint{bits}")
    image = read_image(png(pixels, color))
    white, exact = 2**bits - 1, pixels.astype(float)
    colors = exact[..., :3] if channels > 2 else np.repeat(exact[..., :1], 3, axis=2)
    if channels in (2, 4):
        alpha = exact[..., -1:] / white
        colors = colors * alpha + white * (1 - alpha)
    assert image.dtype == f"uint{bits}" and image.attrs["bits"] == bits
    assert abs(image.values - colors).max() <= 0.5 + 1e-6


def test_palettes_bilevel_and_16_bit_tiff():
    indexed = Image.fromarray(COLORS[..., 0] % 2, "P")
    indexed.putpalette([10, 20, 30, 200, 100, 0])
    for options in ({"format": "PNG"}, {"format": "TIFF"}):
        indexed.save(file := io.BytesIO(), **options)
        np.testing.assert_array_equal(
            read_image(file.getvalue()).values, np.array([[10, 20, 30], [200, 100, 0]])[COLORS[..., 0] % 2]
        )
    indexed.save(file := io.BytesIO(), "PNG", transparency=0)
    assert set(map(tuple, read_image(file.getvalue()).values.reshape(-1, 3))) == {(255, 255, 255), (200, 100, 0)}
    black = COLORS[..., 0] > 99
    np.testing.assert_array_equal(read_image(picture(black, "TIFF")).values[..., 1], 255 * black)
    deep = RNG.integers(0, 65536, (9, 13), dtype=np.uint16)
    for white_is_zero in (False, True):
        image = read_image(tiff16(deep, white_is_zero))
        np.testing.assert_array_equal(image.values[..., 2], 65535 - deep if white_is_zero else deep)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["PNG", "JPEG", "TIFF", "WEBP"])
def test_exif_orientation_is_applied(orientation: int, format: str):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = picture(SMOOTH, format, exif=exif)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    np.testing.assert_array_equal(read_image(data).values, expected)
    assert read_image(data).shape[:2] == ((48, 32) if orientation > 4 else (32, 48))


def test_luminance_weighs_what_the_eye_sees():
    np.testing.assert_allclose(luminance(np.uint8([[255, 0, 0], [10, 10, 10]])), [76.245, 10], rtol=1e-6)


def test_the_door_asks_what_a_picture_is():
    for data in (picture(COLORS), picture(COLORS, "JPEG")):
        assert read_signal(data).attrs["modality"] == "radiograph"
        assert read_signal(data, modality="image").attrs["modality"] == "image"
    assert read_signal(picture(COLORS, "TIFF")).attrs["modality"] == "image"
    assert read_signal(dicom(COLORS[..., 0]), modality="image").attrs["modality"] == "radiograph"
    with pytest.raises(SignalError, match=r"this is a WebP image, not a radiograph; accepted: PNG, JPEG or"):
        read_signal(picture(COLORS, "WEBP"), modality="radiograph")


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"", "empty"),
        (b"fLaC" + bytes(99), "a FLAC recording, not an image"),
        (dicom(COLORS[..., 0]), "a DICOM radiograph, not an image"),
        (b"GIF89a..", "a GIF image, not an image"),
        (picture(COLORS)[:-30], "the PNG file is truncated or corrupted"),
        (picture(COLORS, "TIFF")[:300], "the TIFF file is truncated or corrupted"),
        (picture(COLORS, "WEBP")[:-50], "the WebP file is truncated or corrupted"),
        (picture(np.full((8, 8, 3), [1, 2, 3], np.uint8)), r"blank, every pixel is \(1, 2, 3\)"),
        (picture(RNG.random((8, 8), np.float32), "TIFF"), "a TIFF image of 32 bits.*save it with 8 or 16 bits"),
        (picture(RNG.integers(0, 9, (80, 80), np.uint8), "WEBP"), "80 × 80 pixels.*accepted: .*0.005 megapixels"),
    ],
)
def test_what_cannot_be_used_is_named(data: bytes, found: str):
    with pytest.raises(SignalError, match=found):
        read_image(data, name="a.png", limits=Limits(pixels=5000))
