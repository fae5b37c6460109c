"""The X-ray page without a browser: view-resolution pictures, maps, contours, window, what is shown when."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
import xarray as xr
from bokeh.models import Range1d
from hypothesis import given, settings
from hypothesis import strategies as st
from maps_for_views import explanation, radiograph, single_maps
from PIL import Image

from xai_panel.views.maps import BLANK, MapSource, colorize, contour_lines, strength, style_of, thumbnail
from xai_panel.views.picture import Extent, compact, crop, edges, extent_of, reduce
from xai_panel.views.radiograph_viewer import RadiographState, RadiographViewer
from xai_panel.views.session import Session

SHAPE = (8, 12)


def disc(radius: float, size: int = 200) -> np.ndarray:
    """A cone: 1 in the middle, 0 at `radius` and beyond."""
    y, x = np.mgrid[0:size, 0:size] - (size - 1) / 2
    return np.maximum(1.0 - np.hypot(x, y) / radius, 0.0)


# pictures at the resolution of the screen


def test_edges_lie_half_a_cell_beyond_the_centers() -> None:
    assert edges(np.array([0.5, 1.5, 2.5])) == (0.0, 3.0)
    assert edges(np.array([0.1, 0.3])) == pytest.approx((0.0, 0.4))
    assert edges(np.array([7.0])) == (6.5, 7.5)


def test_the_extent_of_a_radiograph_is_its_size_in_its_units() -> None:
    assert extent_of(radiograph((4, 6))) == Extent(0.0, 0.0, 6.0, 4.0)
    place = extent_of(radiograph((4, 6), spacing=0.2))
    assert (place.left, place.top, place.right, place.bottom) == pytest.approx((0.0, 0.0, 1.2, 0.8))


def test_reducing_takes_means_of_blocks_and_of_what_is_left_at_the_edges() -> None:
    values = np.arange(15, dtype=np.float32).reshape(3, 5)
    assert reduce(values, (2, 2)).tolist() == [[3.0, 5.0, 6.5], [10.5, 12.5, 14.0]]
    assert reduce(values, (1, 1)).tolist() == values.tolist()


def test_a_large_radiograph_is_sent_at_the_resolution_of_the_screen() -> None:
    image = radiograph((3000, 2500), spacing=0.1)
    cut = crop(image.values, extent_of(image))
    assert cut.values.shape == (1000, 834)
    assert cut.values[0, 0] == pytest.approx(image.values[:3, :3].mean())
    assert (cut.extent.top, cut.extent.bottom) == pytest.approx((0.0, 300.0))


def test_what_is_zoomed_in_is_sent_pixel_by_pixel() -> None:
    image = radiograph((3000, 2500), spacing=0.1)
    cut = crop(image.values, extent_of(image), Extent(100.0, 50.0, 30.0, 20.0))
    assert (cut.values == image.values[500:700, 1000:1300]).all()
    assert (cut.extent.left, cut.extent.top) == pytest.approx((100.0, 50.0))
    assert (cut.extent.right, cut.extent.bottom) == pytest.approx((130.0, 70.0))


def test_a_view_beside_the_radiograph_shows_all_of_it() -> None:
    image = radiograph()
    cut = crop(image.values, extent_of(image), Extent(1000.0, 0.0, 5.0, 5.0))
    assert (cut.values == image.values).all()


@settings(deadline=None)
@given(
    st.tuples(st.integers(1, 70), st.integers(1, 70)),
    st.tuples(*[st.floats(-20, 90)] * 2, *[st.floats(0.5, 100)] * 2),
    st.integers(4, 40),
)
def test_a_crop_covers_what_is_in_view_within_the_size(
    shape: tuple[int, int], view: tuple[float, float, float, float], size: int
) -> None:
    values = np.random.default_rng(0).normal(size=shape)
    place = Extent(0.0, 0.0, float(shape[1]), float(shape[0]))
    wanted = Extent(*view)
    cut = crop(values, place, wanted, size)
    assert max(cut.values.shape) <= size
    assert np.isfinite(cut.values).all()
    if wanted.left < place.right and wanted.right > 0 and wanted.top < place.bottom and wanted.bottom > 0:
        assert cut.extent.left <= max(wanted.left, 0.0) + 1e-5
        assert cut.extent.top <= max(wanted.top, 0.0) + 1e-5
        assert cut.extent.right >= min(wanted.right, place.right) - 1e-5
        assert cut.extent.bottom >= min(wanted.bottom, place.bottom) - 1e-5


@pytest.mark.parametrize(
    ("low", "high", "whole", "kind"),
    [(0, 255, True, "uint8"), (0, 4095, True, "uint16"), (-1000, 3000, True, "int16"), (0, 1, False, "float32")],
)
def test_pixels_are_sent_in_as_few_bytes_as_they_need(low: float, high: float, whole: bool, kind: str) -> None:
    values = np.array([[low, high]], dtype=np.float32)
    sent = compact(values, whole)
    assert sent.dtype == kind and (sent == values).all()


# maps


def test_strength_keeps_what_the_sign_asks_for() -> None:
    values = np.array([-3.0, 0.0, 2.0])
    assert strength(values, signed=True).tolist() == [3, 0, 2]
    assert strength(values, signed=True, sign="toward").tolist() == [0, 0, 2]
    assert strength(values, signed=True, sign="away").tolist() == [3, 0, 0]


def test_a_contour_encloses_the_share_of_the_pixels_that_was_asked_for() -> None:
    centers = np.arange(200) + 0.5
    (x,), (y,) = contour_lines(centers, centers, disc(90.0), 0.10)
    area = 0.5 * abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1)))
    assert area == pytest.approx(0.10 * 200**2, rel=0.01)
    assert np.hypot(x - 100, y - 100) == pytest.approx(np.sqrt(0.10 * 200**2 / np.pi), rel=0.02)


def test_a_contour_of_a_sparse_map_is_around_all_of_it() -> None:
    centers = np.arange(200) + 0.5
    (x,), (y,) = contour_lines(centers, centers, disc(30.0), 0.50)
    assert np.hypot(x - 100, y - 100) == pytest.approx(30.0, abs=1.0)
    assert contour_lines(centers, centers, np.zeros((200, 200)), 0.10) == ([], [])


def test_colors_follow_the_range_and_nothing_is_drawn_for_nan() -> None:
    rgba = colorize(np.array([[0.0, 1.0, 5.0, np.nan]]), ["#ff0000", "#00ff0080"], 0.0, 1.0)
    assert rgba[0, 0].tolist() == [1, 0, 0, 1]
    assert rgba[0, 1] == pytest.approx([0, 1, 0, 128 / 255])
    assert (rgba[0, 2] == rgba[0, 1]).all() and rgba[0, 3, 3] == 0


def test_a_thumbnail_shows_the_map_over_the_picture_in_its_proportions() -> None:
    image = radiograph(SHAPE)
    values = np.zeros(SHAPE)
    values[:, :6] = 2.0
    style = style_of(explanation(image, {"occlusion": values}))
    uri = thumbnail(np.full(SHAPE, 0.5), style, values, size=120)
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))), dtype=int)
    assert pixels.shape == (80, 120, 3)
    red, green, blue = pixels[40, 10]
    assert red > green + 40 and red > blue + 40  # towards the target: warm
    assert np.ptp(pixels[40, 110]) <= 2  # nothing there: gray


def test_a_map_that_arrives_does_not_send_the_others_again() -> None:
    image = radiograph(SHAPE)
    results = single_maps(image, {"grad-cam": np.ones(SHAPE), "lime": np.eye(*SHAPE)})
    source = MapSource()
    source.update({"grad-cam": results["grad-cam"]}, extent_of(image), planned=["grad-cam", "lime"])
    assert source.maps.data["lime"][0] is BLANK
    before = source.maps.data["grad-cam"]
    changed: list[object] = []
    source.maps.on_change("data", lambda attr, old, new: changed.append(new))
    source.update(results, extent_of(image), planned=["grad-cam", "lime"])
    assert source.maps.data["grad-cam"] is before
    assert (source.maps.data["lime"][0] == np.eye(*SHAPE)).all()
    assert len(changed) == 1
    assert source.styles.data["id"] == ["grad-cam", "lime"]


def test_maps_of_another_signal_take_the_place_of_the_old_ones() -> None:
    source = MapSource()
    first, second = radiograph(SHAPE), radiograph((16, 16))
    source.update(single_maps(first, {"grad-cam": np.ones(SHAPE), "lime": np.ones(SHAPE)}), extent_of(first))
    source.update(single_maps(second, {"lime": np.zeros((16, 16))}), extent_of(second))
    assert source.maps.data["grad-cam"][0] is BLANK and source.styles.data["id"] == ["lime"]
    assert source.maps.data["lime"][0].shape == (16, 16) and source.maps.data["dw"] == [16.0]


# the state


def test_the_window_of_the_header_is_the_first_to_be_shown() -> None:
    state = RadiographState(signal=radiograph(window_center=1000.0, window_width=401.0))
    assert (state.center, state.width) == (999.5, 400.0)
    state.full_window()
    assert (state.center, state.width) == (2399 / 2, 2399)
    state.reset_window()
    assert (state.center, state.width) == (999.5, 400.0)


def test_the_preferred_map_is_laid_over_as_soon_as_it_is_there() -> None:
    image = radiograph(SHAPE)
    maps = single_maps(image, {id: np.ones(SHAPE) for id in ("saliency", "grad-cam", "lime")})
    state = RadiographState(signal=image)
    shown = []
    for ids in (["saliency"], ["saliency", "grad-cam"], ["saliency", "grad-cam", "lime"], []):
        state.results = {id: maps[id] for id in ids}
        shown.append(state.method)
    assert shown == ["saliency", "grad-cam", "grad-cam", ""]


# the viewer


def viewer(image: xr.DataArray | None = None, maps: dict[str, np.ndarray] | None = None) -> RadiographViewer:
    image = radiograph() if image is None else image
    small = radiograph(SHAPE).assign_coords(
        {dim: (dim, grid(image[dim].values, count), image[dim].attrs) for dim, count in zip("yx", SHAPE, strict=True)}
    )
    return RadiographViewer(image, explanation(small, maps or {"grad-cam": np.ones(SHAPE)}))


def grid(centers: np.ndarray, count: int) -> np.ndarray:
    low, high = edges(centers)
    return low + (np.arange(count) + 0.5) * (high - low) / count


def test_millimeters_get_a_scale_bar_and_pixels_none() -> None:
    assert viewer(radiograph(spacing=0.2))._scale.visible
    view = viewer(radiograph())
    assert not view._scale.visible and view.figure.yaxis.axis_label == "y [px]"
    view.state.signal = radiograph(spacing=0.2)
    assert view._scale.visible and view.figure.yaxis.axis_label == "y [mm]"


def test_nothing_of_a_mouse_move_goes_to_the_server() -> None:
    view = viewer()
    quiet = (view._across, view._down, view._point, view._profiles, view._shown, view._choice, view._gray, view._mapper)
    assert not any(model.syncable for model in quiet) and not view.readout.syncable
    ranges = (view.figure.x_range, view.figure.y_range)
    assert all(isinstance(axis, Range1d) and not axis.syncable for axis in ranges)
    assert view._row.x_range is view.figure.x_range and view._column.y_range is view.figure.y_range
    assert "mousemove" not in view.figure.subscribed_events


def test_zooming_in_sends_the_stored_pixels() -> None:
    image = radiograph((2200, 2200))
    view = viewer(image)
    assert view._picture.data["image"][0].shape == (734, 734)
    view._view.data = {"x": [100.0], "y": [200.0], "dw": [300.0], "dh": [400.0]}
    sent = view._picture.data
    assert (sent["image"][0] == image.values[200:600, 100:400]).all()
    assert (sent["x"], sent["y"], sent["dw"], sent["dh"]) == ([100.0], [200.0], [300.0], [400.0])


def test_the_contour_follows_map_sign_and_share() -> None:
    y, x = np.mgrid[0 : SHAPE[0], 0 : SHAPE[1]]
    values = np.exp(-((y - 4) ** 2 + (x - 2) ** 2) / 4) - 3 * np.exp(-((y - 4) ** 2 + (x - 9) ** 2) / 4)
    view = viewer(maps={"occlusion": values})  # weakly towards the target at the left, strongly away at the right
    middle = 60 / 2

    def sides() -> set[bool]:
        return {bool(line.mean() > middle) for line in view._contours.data["xs"]}

    assert sides() == set()
    view.state.contour = True
    assert sides() == {True}
    view.state.sign = "toward"
    assert sides() == {False}
    view.state.param.update(sign="both", share=40.0)
    assert sides() == {True, False}
    view.state.contour = False
    assert sides() == set()


def test_thumbnails_say_what_is_ready_and_what_is_on_its_way() -> None:
    session = Session(modality="radiograph", cards=[])
    view = RadiographViewer(session=session)
    session.param.update(
        methods=["grad-cam", "lime", "cam"], available={"grad-cam": True, "lime": True, "cam": "no head"}
    )
    session.state = "running"
    session.results = single_maps(radiograph(SHAPE), {"grad-cam": np.ones(SHAPE)})
    assert [(entry["id"], bool(entry["image"])) for entry in view.thumbnails.entries] == [
        ("grad-cam", True),
        ("lime", False),
    ]
    assert view.thumbnails.value == "grad-cam"
    session.state = "stopped"
    assert [entry["id"] for entry in view.thumbnails.entries] == ["grad-cam"]


def test_choosing_a_thumbnail_lays_its_map_over_and_keeps_it() -> None:
    view = viewer(maps={"grad-cam": np.ones(SHAPE), "lime": np.eye(*SHAPE)})
    view.thumbnails.value = "lime"
    assert view.state.method == "lime"
    view.state.results = dict(view.state.results)
    assert view.state.method == view.thumbnails.value == "lime"
