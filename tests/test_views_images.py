"""The Images page without a browser: colors, crops, what is offered when no classifier of images was added."""

from __future__ import annotations

import base64
import dataclasses
import io
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import xarray as xr
from PIL import Image
from questions import make_card
from radiograph_files import dicom, picture

import xai_panel as xp
from xai_panel.models import registry
from xai_panel.models.frontends import ColorImage
from xai_panel.signals.image import read_image
from xai_panel.views.comparison import Comparison, gray
from xai_panel.views.comparison_table import agreement
from xai_panel.views.picture import crop, extent_of, packed
from xai_panel.views.radiograph_viewer import COLOR_HINT, RadiographViewer
from xai_panel.views.session import Session
from xai_panel.views.shell import Shell

CARD = dataclasses.replace(make_card("radiograph", "c" * 64), id="pets", modality="image", labels=("cat", "dog"))
COLORS = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)


def photo(pixels: np.ndarray = COLORS) -> xr.DataArray:
    return read_image(picture(pixels), name="photo.png")


def explained(signal: xr.DataArray) -> xr.Dataset:
    """A Grad-CAM map of a small network that sees the middle 32 × 32 pixels of the image."""
    from torch import manual_seed, nn

    manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 2))
    frontend = ColorImage(resize_size=40, crop_size=32)
    pets = xp.Classifier.from_torch(network, labels=["cat", "dog"], frontend=frontend)
    return xp.explain(pets, signal, ["grad-cam", "saliency"], store=False)


def wait(until: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not until():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_colors_are_sent_as_the_browser_draws_them() -> None:
    cut = crop(COLORS, extent_of(photo()))
    np.testing.assert_array_equal(cut.values, COLORS)
    pixels = packed(cut.values, 255)
    assert pixels.dtype == np.uint32 and pixels[3, 4] == int.from_bytes([*COLORS[3, 4], 255], "little")
    np.testing.assert_array_equal(packed(COLORS.astype(np.uint16) * 257, 65535), pixels)
    small = crop(COLORS, extent_of(photo()), size=20)
    assert small.values.shape == (14, 20, 3)
    np.testing.assert_allclose(small.values[0, 0], COLORS[:3, :3].mean(axis=(0, 1)), rtol=1e-6)


def test_an_image_is_shown_in_its_colors_and_its_map_where_the_network_looked() -> None:
    signal = photo()
    view = RadiographViewer(signal, explained(signal))
    (sent,) = view._picture.data["image"]
    assert sent.shape == (40, 60) and sent[0, 0] & 255 == COLORS[0, 0, 0]
    place = {name: view._maps.maps.data[name][0] for name in ("x", "y", "dw", "dh")}
    assert place == pytest.approx({"x": 14, "y": 4, "dw": 32, "dh": 32})
    assert not view.window_controls.visible and view._axes.data["hint"] == [COLOR_HINT]
    assert view.thumbnails.heading == "Map over the image"
    assert [entry["id"] for entry in view.thumbnails.entries] == ["grad-cam", "saliency"]
    small = Image.open(io.BytesIO(base64.b64decode(view.thumbnails.entries[1]["image"].split(",")[1])))
    assert np.ptp(np.asarray(small).astype(int), axis=-1).mean() > 30  # in color


def test_maps_side_by_side_lie_over_gray() -> None:
    signal = photo()
    view = Comparison(explained(signal))
    (image,) = view._picture.data["image"]
    assert image.shape == (32, 32)
    view.state.signal = signal
    view._show_picture(view.state.axes)  # type: ignore[arg-type]
    np.testing.assert_allclose(view._picture.data["image"][0], gray(COLORS), rtol=1e-6)


def test_maps_on_other_pixels_are_not_ranked_against_each_other() -> None:
    one = explained(photo())
    moved = one.assign_coords(x=one["x"] + 1)
    columns = [{"grad-cam": ds.isel(method=[0])} for ds in (one, one, moved)]
    matrix, _ = agreement(columns)
    np.testing.assert_array_equal(np.isnan(matrix.values), [[False, False, True]] * 2 + [[True, True, False]])


def page(modality: str | None, cards: list[Any]) -> Shell:
    session = Session(modality=modality, cards=cards, load=lambda id: None, compatible=lambda model: {})
    return Shell(session, RadiographViewer(session=session), page="images" if modality else "compare")


def test_an_empty_page_says_how_to_add_a_classifier() -> None:
    shell = page("image", [])
    assert "xai-panel models add card.toml" in shell.verdict.object
    assert list(shell.sample.options) == ["None"] and shell.start.samples == []
    shell = page("image", [CARD])
    assert "upload an image" in shell.verdict.object and "Upload an image" == shell.upload.label
    assert list(shell.sample.options.values()) == ["", "still-life"]


def test_images_are_offered_where_a_classifier_takes_them(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "still-life" not in page(None, []).sample.options.values()
    assert "still-life" in page(None, [CARD]).sample.options.values()
    assert ">Images<" not in page(None, []).nav.object
    assert ">Images<" in page("image", []).nav.object
    monkeypatch.setattr(registry, "added", lambda: {"pets": (CARD, registry.weights_dir())})
    assert ">Images<" in page(None, []).nav.object


@pytest.mark.parametrize(
    ("modality", "cards", "data", "found"),
    [
        ("image", [], picture(COLORS), "image"),
        (None, [CARD], picture(COLORS), "image"),
        (None, [make_card("radiograph", "d" * 64)], picture(COLORS), "radiograph"),
        ("radiograph", [], picture(COLORS, "TIFF"), "this is a TIFF image, not a radiograph"),
        (
            "image",
            [],
            dicom(COLORS[..., 0]),
            "a radiograph; accepted: an image on this page; open it on the X-ray",
        ),
        (
            "audio",
            [],
            picture(COLORS, "WEBP"),
            "an image; accepted: a recording on this page; open it on the Images",
        ),
    ],
)
def test_the_page_or_the_classifier_says_what_a_picture_is(
    modality: str | None, cards: list[Any], data: bytes, found: str
) -> None:
    session = Session(modality=modality, cards=cards, load=lambda id: None, compatible=lambda model: {})
    session.open_upload("a.file", data)
    wait(lambda: not session.opening)
    if session.signal is None:
        assert session.notice is not None and found in session.notice.text
    else:
        assert session.signal.attrs["modality"] == found
