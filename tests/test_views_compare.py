"""The Compare page without a browser: what is in the grid, on which axes, with which numbers and files."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from bokeh.models import Image
from maps_for_views import explanation, radiograph, recording_features, single_maps

from xai_panel.models.card import Card
from xai_panel.models.classifier import Prediction
from xai_panel.views import spectrogram as sg
from xai_panel.views.comparison import (
    Cell,
    Column,
    Comparison,
    ComparisonState,
    SecondClassifier,
    panel_columns,
    session_column,
)
from xai_panel.views.comparison_plots import agreement_cells, axes_of, create_ranges, image_of, profile_of
from xai_panel.views.comparison_table import agreement, comparison_table, download
from xai_panel.views.session import Session

SHAPE = (8, 12)
RNG = np.random.default_rng(0)
RISING = np.arange(96.0).reshape(SHAPE)
MAPS = {"grad-cam": RISING, "occlusion": RNG.normal(size=SHAPE), "lime": -RISING}


def columns(*models: str, features: xr.DataArray | None = None) -> list[Column]:
    features = radiograph(SHAPE) if features is None else features
    maps = {id: np.resize(values, features.shape) for id, values in MAPS.items()}
    return [Column(model, model.title(), single_maps(features, maps, model=model), tuple(MAPS)) for model in models]


# the grid


def test_the_grid_has_methods_in_the_order_of_the_plan_and_their_classifiers_side_by_side() -> None:
    one, two = columns("first", "second")
    plan = Column("first", "First", {"lime": one.results["lime"]}, ("grad-cam", "lime"))
    state = ComparisonState(columns=[plan, two])
    assert [(cell.key, cell.title) for cell in state.cells] == [
        ("0:grad-cam", "Grad-CAM · First"),
        ("1:grad-cam", "Grad-CAM · Second"),
        ("0:lime", "LIME · First"),
        ("1:lime", "LIME · Second"),
        ("1:occlusion", "Occlusion · Second"),
    ]
    state.columns = [plan]
    assert [cell.title for cell in state.cells] == ["Grad-CAM", "LIME"]


def test_explanations_have_the_maps_that_are_there_in_the_order_of_the_grid() -> None:
    (one,) = columns("first")
    some = {id: one.results[id] for id in ("lime", "grad-cam")}
    state = ComparisonState(columns=[Column("first", "First", some, ("grad-cam", "occlusion", "lime"))])
    (merged,) = state.explanations
    assert list(merged["method"].values) == ["grad-cam", "lime"]
    assert (merged["attribution"].sel({"method": "lime"}).values == MAPS["lime"]).all()


def test_axes_are_those_of_the_maps_else_of_the_radiograph() -> None:
    state = ComparisonState()
    assert state.axes is None
    state.signal = radiograph((40, 60), spacing=0.5)
    assert (state.axes.kind, state.axes.units, state.axes.extent.width) == ("radiograph", "mm", 30.0)
    state.param.update(signal=None, columns=columns("first", features=recording_features()))
    assert state.axes.kind == "audio" and state.axes.extent.width == pytest.approx(3.0)


def test_rows_of_a_radiograph_point_down_and_frequencies_up() -> None:
    _, down = create_ranges(axes_of(explanation(radiograph(SHAPE), {"lime": RISING})))
    assert (down.start, down.end) == (8.0, 0.0)
    features = recording_features()
    _, up = create_ranges(axes_of(explanation(features, {"lime": np.zeros(features.shape)})))
    assert up.start < up.end
    assert float(sg.hertz(up.start)) < float(features["frequency"][0]) < float(features["frequency"][-1])


@pytest.mark.parametrize("band", [0, 10, 23])
def test_a_band_is_drawn_at_its_frequency_on_the_mel_axis(band: int) -> None:
    features = recording_features()
    values = np.zeros(features.shape)
    values[band, 7] = 1.0
    one = explanation(features, {"occlusion": values})
    image, extent = image_of(one), axes_of(one).extent
    rows, (column,) = np.flatnonzero(image.any(axis=1)), np.flatnonzero(image.any(axis=0))
    at = extent.top + (rows.mean() + 0.5) / image.shape[0] * extent.height
    assert at == pytest.approx(float(sg.mel(features["frequency"][band])), abs=0.2)
    assert extent.left + (column + 0.5) / image.shape[1] * extent.width == pytest.approx(0.7)


def test_round_frequencies_are_labelled() -> None:
    features = recording_features()
    ticks = axes_of(explanation(features, {"lime": np.zeros(features.shape)})).ticks
    assert {label: round(place, 6) for place, label in ticks.items()}["1 k"] == 15.0
    assert "200" in ticks.values()


def test_the_time_profile_is_the_sum_over_the_bands_of_the_map_not_over_the_rows_of_its_image() -> None:
    features = recording_features()
    features["frequency"] = ("frequency", np.linspace(100.0, 7900.0, 24), {"units": "Hz"})  # even in Hz, not in mel
    values = RNG.normal(size=features.shape)
    one = explanation(features, {"occlusion": values})
    np.testing.assert_allclose(profile_of(one), values.sum(axis=0), rtol=1e-5, atol=1e-5)
    rows = image_of(one).sum(axis=0)
    assert np.abs(rows / np.abs(rows).max() - profile_of(one) / np.abs(values.sum(axis=0)).max()).max() > 0.1
    view = Comparison(one)
    np.testing.assert_array_equal(view._follow.args["sums"][0].data["occlusion"][0], profile_of(one))
    assert view.profiles[0].object.title.text == "Time profiles: sum over frequency"


# numbers


def test_agreement_is_spearmans_rank_correlation_within_and_across_classifiers() -> None:
    matrix, keys = agreement([column.results for column in columns("first", "second")])
    assert keys == ["0:grad-cam", "0:occlusion", "0:lime", "1:grad-cam", "1:occlusion", "1:lime"]
    value = {(a, b): float(matrix.loc[a, b]) for a in keys for b in keys}
    assert value["0:grad-cam", "0:grad-cam"] == pytest.approx(1)
    assert value["0:grad-cam", "0:lime"] == pytest.approx(-1)
    assert value["0:grad-cam", "1:grad-cam"] == pytest.approx(1)
    expected = pd.Series(MAPS["grad-cam"].ravel()).corr(pd.Series(MAPS["occlusion"].ravel()), method="spearman")
    assert value["0:grad-cam", "1:occlusion"] == pytest.approx(expected, abs=1e-6)


def test_maps_on_different_grids_are_not_compared() -> None:
    (small,), (large,) = columns("first"), columns("second", features=radiograph((16, 24)))
    matrix, _ = agreement([small.results, large.results])
    assert np.isnan(matrix.loc["0:lime", "1:lime"])
    assert float(matrix.loc["1:grad-cam", "1:grad-cam"]) == pytest.approx(1)


def test_the_matrix_shows_its_numbers() -> None:
    values = xr.DataArray([[1.0, -0.004], [np.nan, 0.5]], dims=("method", "other"), coords={"method": ["a", "b"]})
    cells, rows, numbers = agreement_cells(values, ["Grad-CAM", "LIME"])
    assert rows == ["Grad-CAM  1", "LIME  2"] and numbers == ["1", "2"]
    assert cells["text"] == ["1.00", "0.00", "–", "0.50"]
    assert cells["ink"][0] == "#ffffff" and cells["ink"][3] != "#ffffff"


def test_the_table_has_costs_errors_and_agreement_of_each_map() -> None:
    features = radiograph(SHAPE)
    one = explanation(features, MAPS, model="first", error=0.123456)
    table = comparison_table([one, explanation(features, {"lime": RISING}, model="second")], {"first": "First one"})
    assert table["model"].tolist() == ["First one"] * 3 + ["second"]
    first = table.iloc[0]
    assert (first["title"], first["seconds"], first["evaluations"]) == ("Grad-CAM", 0.5, 1)
    assert (first["error"], first["error_kind"]) == (0.123, "standard error")
    others = [float(agreement([single_maps(features, MAPS)])[0][0, i]) for i in (1, 2)]
    assert first["agreement"] == pytest.approx(np.mean(others), abs=0.005)
    assert np.isnan(table["agreement"].iloc[3]) and np.isnan(table["error"].iloc[3])


# files


def test_what_is_saved_opens_again() -> None:
    from xai_panel.explanation.export import read_netcdf

    one = explanation(radiograph(SHAPE), MAPS, model="first")
    again = read_netcdf(io.BytesIO(download([one], "NetCDF").getvalue()))
    xr.testing.assert_identical(again["attribution"], one["attribution"])
    table = pd.read_csv(download([one], "CSV"))
    assert len(table) == 3 * RISING.size
    assert download([one], "PNG").getvalue().startswith(b"\x89PNG")


def test_two_classifiers_are_saved_as_one_archive_with_a_file_each() -> None:
    features = radiograph(SHAPE)
    both = [explanation(features, MAPS, model=model) for model in ("first", "second")]
    with zipfile.ZipFile(download(both, "CSV")) as archive:
        assert archive.namelist() == ["first.csv", "second.csv"]
        assert len(pd.read_csv(archive.open("second.csv"))) == 3 * RISING.size


# the view


def images(view: Comparison) -> dict[str, Any]:
    """Key of a cell → renderer of its map."""
    return {key: plot.renderer for key, plot in view._plots.items()}


def test_all_maps_share_one_zoom_one_picture_and_one_cursor() -> None:
    view = Comparison(*[column.results["lime"] for column in columns("first", "second")])
    figures = [plot.figure for plot in view._plots.values()]
    assert len(figures) == 2 and len({fig.x_range.id for fig in figures} | {view.profiles[0].object.x_range.id}) == 1
    assert all({view._across, view._down} <= set(fig.center) for fig in figures)
    assert all(view._picture in [r.data_source for r in fig.renderers] for fig in figures)
    assert not (view._across.syncable or view._point.syncable or figures[0].x_range.syncable)


def test_each_figure_draws_its_own_map() -> None:
    view = Comparison(explanation(radiograph(SHAPE), MAPS))
    for key, renderer in images(view).items():
        id = key.split(":")[1]
        assert isinstance(renderer.glyph, Image) and renderer.glyph.image.field == id
        assert (renderer.data_source.data[id][0] == np.float32(MAPS[id])).all()


def test_a_map_that_arrives_leaves_the_others_as_they_are() -> None:
    (full,) = columns("first")
    view = Comparison()
    first = {"grad-cam": full.results["grad-cam"]}
    view.state.columns = [Column("first", "First", first, tuple(MAPS), {"lime": "3 of 9 masked inputs"})]
    assert len(view._plots) == 3
    before = dict(view._plots)
    text = dict(zip(view._panels.data["key"], view._panels.data["text"], strict=True))
    assert text["0:lime"] == "LIME: 3 of 9 masked inputs"
    view.state.columns = [full]
    assert view._plots == before and view._panels.data["ready"] == [True] * 3
    assert view._panels.data["text"] == [cell.title for cell in view._cells]


def test_another_signal_gets_new_axes_and_no_old_maps() -> None:
    view = Comparison(explanation(radiograph(SHAPE), MAPS))
    features = recording_features()
    view.state.columns = [Column("b", "B", single_maps(features, {"lime": np.ones(features.shape)}), ("lime",))]
    assert list(view._plots) == ["0:lime"] and len(view.profiles) == 1
    assert view._follow.args["kind"] == "audio"
    view.state.param.update(columns=[], signal=None)
    assert view.grid.objects == [] and view.table.value.empty


def test_every_cell_tells_javascript_how_it_is_drawn() -> None:
    (full,) = columns("first")
    cells = [Cell("0:grad-cam", 0, "grad-cam", "Grad-CAM"), Cell("0:saliency", 0, "saliency", "Saliency")]
    rows = panel_columns(cells, [full])
    assert rows["ready"] == [True, False] and rows["units"] == ["logit", ""]
    assert rows["signed"][0] is False and rows["low"][0] == 0.0 and rows["high"][0] > 90


# what is running, the second classifier


def running(message: str) -> Any:
    return SimpleNamespace(
        state="running",
        message=message,
        methods=["grad-cam", "grad-cam++", "lime", "cam"],
        available={"grad-cam": True, "grad-cam++": True, "lime": True, "cam": "no linear head"},
        results={},
        card=SimpleNamespace(title="First"),
        model_id="first",
    )


@pytest.mark.parametrize(
    ("message", "status"),
    [
        ("Grad-CAM++: layer", {"grad-cam": "waiting", "grad-cam++": "layer", "lime": "waiting"}),
        ("Grad-CAM", {"grad-cam": "…", "grad-cam++": "waiting", "lime": "waiting"}),
        (
            "LIME: 5 of 9 masked inputs",
            {"grad-cam": "waiting", "grad-cam++": "waiting", "lime": "5 of 9 masked inputs"},
        ),
    ],
)
def test_progress_is_shown_at_the_map_that_is_being_made(message: str, status: dict[str, str]) -> None:
    assert session_column(running(message)).status == status


def test_a_method_that_the_classifier_refuses_has_no_place_in_the_grid() -> None:
    assert "cam" not in session_column(running("LIME")).planned


def card(id: str, modality: str = "radiograph") -> Card:
    return Card(id, id.title(), "A test model.", modality, "torch", "test", ("no", "yes"), {"kind": "plain"})


class Quiet:
    """A model that answers nothing: what is asked of it is what the test looks at."""

    def predict(self, signal: xr.DataArray, progress: Callable[[float], None]) -> Any:
        raise ValueError("not asked in this test")


def pair() -> tuple[Session, Session, SecondClassifier]:
    cards = [card("a"), card("b"), card("c", "audio")]
    posted: list[Callable[[], None]] = []
    options = {"cards": cards, "schedule": posted.append, "load": lambda id: Quiet(), "compatible": lambda model: {}}
    first, second = Session(**options), Session(**options)
    return first, second, SecondClassifier(first, second)


def test_the_second_classifier_is_one_of_the_same_kind() -> None:
    first, _, choice = pair()
    assert list(choice._select.options.values()) == ["", "b"]
    first.model_id = "c"
    assert list(choice._select.options.values()) == [""] and choice._select.disabled


def test_the_second_session_follows_the_first() -> None:
    first, second, choice = pair()
    asked: list[tuple[Any, ...]] = []
    second.open_signal = lambda signal, name="": asked.append((signal, name))  # type: ignore[method-assign]
    second.stop = lambda: asked.append(("stop",))  # type: ignore[method-assign]
    image = radiograph(SHAPE)
    first.param.update(signal=image, signal_name="film.png")
    assert asked == [("stop",)]  # none is chosen yet
    choice._select.value = "b"
    assert second.model_id == "b" and asked[-1][0] is image and asked[-1][1] == "film.png"
    first.methods = ["lime"]
    assert second.methods == ["lime"]
    first.state = "stopped"
    assert asked[-1] == ("stop",)
    choice._select.value = ""
    assert second.signal is None and second.results == {}


def test_the_second_verdict_is_shown_beside_the_first() -> None:
    _, second, choice = pair()
    second.open_signal = lambda signal, name="": None  # type: ignore[method-assign]
    assert not choice.verdict.visible
    second.param.update(model_id="b", signal=radiograph(SHAPE))
    assert choice.verdict.visible and "B: asking the classifier…" in choice.verdict.object
    second.prediction = Prediction(
        ("no", "yes"), np.array([0.0, 1.0]), np.array([0.1, 0.9]), np.empty((0, 2)), np.zeros((1, 2)), np.zeros((1, 2))
    )
    assert "90 %" in choice.verdict.object and ">yes<" in choice.verdict.object
