"""Explanations as datasets and files: schema, accessor, NetCDF, CSV, PNG."""

from __future__ import annotations

import io
import json

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from matplotlib.figure import Figure
from PIL import Image
from questions import listener, radiograph, recording, seer
from scipy.stats import spearmanr
from tiny import Logits

from xai_panel.engine.explain import explain
from xai_panel.explanation.export import read_netcdf, to_csv, to_netcdf, to_png
from xai_panel.explanation.schema import ATTRIBUTES, SchemaError, merge, validate
from xai_panel.models.classifier import Classifier
from xai_panel.models.verdict import percent

IDS = ["saliency", "input-x-gradient", "lime", "consensus"]


@pytest.fixture(scope="module")
def image() -> xr.Dataset:
    return explain(seer(), radiograph(), IDS, target=1, store=False)


@pytest.fixture(scope="module")
def sound() -> xr.Dataset:
    weights = np.random.default_rng(1).standard_normal((4, 8)).astype(np.float32)
    return explain(listener(weights), recording(2.1), IDS, target=1, store=False)


@pytest.fixture(params=["image", "sound"])
def ds(request) -> xr.Dataset:
    return request.getfixturevalue(request.param)


def with_maps(ds: xr.Dataset, maps: np.ndarray) -> xr.Dataset:
    return ds.assign(attribution=(ds["attribution"].dims, maps.astype(np.float32)))


# --- schema


def test_the_attributes_say_what_was_asked_of_whom(image):
    assert set(image.attrs) == set(ATTRIBUTES)
    assert image.attrs["target_label"] == "pneumonia"
    assert image.attrs["signal_source"] == "noise.png"
    assert json.loads(image.attrs["params"])["lime"] == {"coalitions": 400, "segments": 49}
    assert json.loads(image.attrs["versions"])["xai_panel"]


@pytest.mark.parametrize(
    "spoil, message",
    [
        (lambda ds: ds.drop_vars("probability"), "«probability» is missing"),
        (lambda ds: ds.assign(error=("label", np.zeros(2))), r"«error» is over \('label',\); expected \(method\)"),
        (lambda ds: ds.assign(input=ds["input"].astype(np.float64)), "«input» is float64; expected float32"),
        (lambda ds: ds.drop_attrs(deep=False), "attribute «modality» is missing"),
        (lambda ds: ds.assign_attrs(modality="video"), "'video'; expected audio or radiograph"),
        (lambda ds: ds.assign_coords(y=np.arange(16)), "«y» has no units"),
    ],
)
def test_a_dataset_that_is_no_explanation_is_refused_by_name(image, spoil, message):
    with pytest.raises(SchemaError, match=message):
        validate(spoil(image))


def test_the_accessor_refuses_other_datasets():
    with pytest.raises(SchemaError):
        xr.Dataset().xai  # noqa: B018


def test_single_maps_merge_into_one_explanation(ds):
    parts = [ds.isel(method=[i]) for i in (2, 0, 1, 3)]
    merged = merge([part.drop_vars("spread") if i != 3 else part for i, part in enumerate(parts)])
    xr.testing.assert_identical(merged.sel({"method": IDS}), ds)


def test_a_map_that_arrives_again_replaces_the_first(ds):
    later = with_maps(ds.isel(method=[0]), np.ones_like(ds["attribution"][:1]))
    merged = merge([ds, later])
    assert merged.sizes["method"] == len(IDS)
    assert (merged.xai.map("saliency") == 1).all()


def test_maps_of_different_questions_do_not_merge(image):
    other = explain(seer(), radiograph(), ["saliency"], target=0, store=False)
    with pytest.raises(SchemaError, match="differ in «target»: 1 and 0"):
        merge([image, other])


# --- accessor


def test_a_map_by_name_has_its_units(ds):
    one = ds.xai.map("lime")
    np.testing.assert_array_equal(one, ds["attribution"].values[2])
    assert one.attrs["units"] == "logit"
    with pytest.raises(ValueError, match="no map of 'cam'; this explanation has: saliency"):
        ds.xai.map("cam")


LABELS = ("Edema", "Pneumonia", "Mass")
FINDINGS = [
    ([0.1, 2.0, -1.0], {"Pneumonia": 0.881, "Edema": 0.525}, "Pneumonia 88 %, Edema 52 %"),
    ([-9.0, -3.0, -1.0], {}, "none of the findings that it was trained on; most probable: Mass 27 %"),
]


def findings(logits: list[float]) -> xr.Dataset:
    """A radiograph explained by a classifier of three findings, which has these logits."""
    seen = Logits(lambda x: x.mean((1, 2, 3))[:, None] * 0 + torch.tensor(logits))
    table = {"kind": "radiograph", "size": 16}
    mine = Classifier.from_torch(seen, labels=LABELS, frontend=table, multi_label=True)
    return explain(mine, radiograph(), ["saliency"], store=False)


@pytest.mark.parametrize(("logits", "found", "words"), FINDINGS)
def test_the_verdict_on_several_findings_is_the_same_from_a_file(logits, found, words, tmp_path):
    ds = findings(logits)
    assert ds["probability"].sum() != pytest.approx(1)
    to_netcdf(ds, tmp_path / "case.nc")
    for one in (ds, read_netcdf(tmp_path / "case.nc"), merge([ds.isel(method=[0])])):
        assert str(one.xai.verdict) == words
        assert one.xai.verdict.found == pytest.approx(found, abs=1e-3) and list(one.xai.verdict.found) == list(found)
        assert list(one.xai.verdict.probabilities) == [LABELS[k] for k in np.argsort(logits)[::-1]]


def test_the_verdict_on_one_class_is_the_most_probable_one(ds):
    best = int(ds["probability"].values.argmax())
    label, probability = str(ds["label"].values[best]), float(ds["probability"][best])
    assert ds.xai.verdict.found == {label: probability}
    assert str(ds.xai.verdict) == f"{label} {percent(probability)}"


def test_the_verdict_is_that_of_the_prediction():
    for classifier, signal in ((seer(), radiograph()), (listener(np.ones((4, 8))), recording(2.1))):
        expected = classifier.predict(signal).verdict
        assert str(explain(classifier, signal, ["saliency"], store=False).xai.verdict) == str(expected)


def test_no_verdict_is_certain():
    assert [percent(p) for p in (0, 0.2, 0.974, 0.992, 0.9951, 1)] == ["<1 %", "20 %", "97 %", "99 %", ">99 %", ">99 %"]


@pytest.mark.parametrize(("logits", "found", "words"), FINDINGS)
def test_a_picture_says_the_verdict(logits, found, words, monkeypatch):
    titles = []
    monkeypatch.setattr(Figure, "suptitle", lambda self, text, **options: titles.append(text))
    to_png(findings(logits), io.BytesIO(), dpi=20)
    assert titles == [f"noise.png · own: {words} · evidence for «{'Pneumonia' if found else 'Mass'}»"]


def test_agreement_is_spearmans_rank_correlation(ds):
    maps = ds["attribution"].values.reshape(len(IDS), -1)
    np.testing.assert_allclose(ds.xai.agreement(), spearmanr(maps, axis=1).statistic, atol=1e-12)


def test_agreement_with_ties_and_with_a_constant_map(image):
    maps = np.random.default_rng(0).integers(0, 3, (4, 16, 16))
    maps[3] = 1
    agreement = with_maps(image, maps).xai.agreement().values
    assert np.isnan(agreement[3]).all() and np.isnan(agreement[:, 3]).all()
    expected = spearmanr(maps[:3].reshape(3, -1), axis=1).statistic
    np.testing.assert_allclose(agreement[:3, :3], expected, atol=1e-12)


def test_compare_lists_cost_error_and_mean_agreement(ds):
    table = ds.xai.compare()
    assert table.index.tolist() == IDS
    matrix = ds.xai.agreement().values
    assert table.loc["lime", "agreement"] == pytest.approx((matrix[2].sum() - 1) / 3)
    assert table.loc["lime", "evaluations"] == int(ds["evaluations"][2]) > 0
    assert table.loc["lime", "error_kind"] == "standard error"


def test_compare_of_one_method_has_nothing_to_agree_with(image):
    assert np.isnan(image.isel(method=[0]).xai.compare()["agreement"].item())


def test_profiles_are_sums_or_lines(sound):
    values = sound["attribution"].values
    time, column = sound.xai.profile("time"), sound.xai.profile("frequency", at=0.52)
    np.testing.assert_allclose(time, values.sum(axis=1), rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(sound.xai.profile("frequency"), values.sum(axis=2), rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(column, values[:, :, 5])
    assert time.attrs["long_name"] == "Attribution, sum over frequency"
    assert column.attrs["long_name"] == "Attribution at one time"
    assert time["units"].values.tolist() == sound["units"].values.tolist()
    assert sound.xai.profile("time").dims == ("method", "time")
    with pytest.raises(ValueError, match="no axis 'x'; the maps are over frequency and time"):
        sound.xai.profile("x")


def test_normalized_maps_keep_sign_and_shape(image):
    maps = np.zeros((4, 16, 16))
    maps[0, 2, 3], maps[0, 4, 5], maps[1, 0, 0] = -4.0, 2.0, 1e-9
    normalized = with_maps(image, maps).xai.normalized().values
    assert (normalized[0, 2, 3], normalized[0, 4, 5]) == (-1.0, 0.5)
    assert normalized[1, 0, 0] == 1.0
    assert not normalized[2].any()


# --- files


@pytest.mark.parametrize("plain", [False, True], ids=["to_netcdf", "xarray"])
def test_netcdf_gives_back_the_same_explanation(ds, tmp_path, plain):
    path = tmp_path / "case.nc"
    if plain:
        ds.to_netcdf(path)
    else:
        to_netcdf(ds, path)
    again = read_netcdf(path)
    xr.testing.assert_identical(again, ds)
    assert again["attribution"].dtype == np.float32 and again["signed"].dtype == bool
    xr.testing.assert_identical(again.xai.agreement(), ds.xai.agreement())
    assert [p.name for p in tmp_path.iterdir()] == ["case.nc"]


def test_netcdf_into_memory(ds):
    file = io.BytesIO()
    to_netcdf(ds, file)
    file.seek(0)
    xr.testing.assert_identical(read_netcdf(file), ds)


@pytest.mark.filterwarnings("ignore:The data type")  # fixed-length text has no Zarr v3 specification yet
def test_zarr_gives_back_the_same_explanation(ds, tmp_path):
    ds.to_zarr(tmp_path / "case.zarr", consolidated=False)
    xr.testing.assert_identical(xr.open_zarr(tmp_path / "case.zarr", consolidated=False, chunks=None).load(), ds)


def test_another_netcdf_file_is_no_explanation(tmp_path):
    xr.Dataset({"a": ("x", [1.0])}).to_netcdf(tmp_path / "other.nc")
    with pytest.raises(SchemaError):
        read_netcdf(tmp_path / "other.nc")


def test_a_failed_write_leaves_the_old_file(image, tmp_path):
    path = tmp_path / "case.nc"
    path.write_bytes(b"the old one")
    with pytest.raises(SchemaError):
        to_netcdf(image.drop_vars("error"), path)
    broken = image.assign_attrs(seed=object())
    with pytest.raises(TypeError):
        to_netcdf(broken, path)
    assert path.read_bytes() == b"the old one"
    assert [p.name for p in tmp_path.iterdir()] == ["case.nc"]


def test_csv_has_one_row_per_method_and_place(ds, tmp_path, monkeypatch):
    monkeypatch.setattr("xai_panel.explanation.export._ROWS", 50)  # several parts
    to_csv(ds, tmp_path / "case.csv")
    table = pd.read_csv(tmp_path / "case.csv")
    first, second = ds["input"].dims
    units = {"frequency": "Hz", "time": "s", "y": "mm", "x": "mm"}
    unit = {"frequency": "dB", "y": "1"}[first]
    assert table.columns.tolist() == [
        "method", f"{first} [{units[first]}]", f"{second} [{units[second]}]", f"input [{unit}]", "attribution",
    ]  # fmt: skip
    assert len(table) == ds["attribution"].size
    for (_, row), id, i, j in [(next(table.iloc[[k]].iterrows()), *place(ds, k)) for k in (0, 7, len(table) - 1)]:
        assert row["method"] == id
        assert row.iloc[1] == pytest.approx(ds[first].values[i])
        assert row.iloc[2] == pytest.approx(ds[second].values[j])
        assert row.iloc[3] == pytest.approx(ds["input"].values[i, j], rel=1e-5)
        assert row["attribution"] == pytest.approx(ds.xai.map(id).values[i, j], rel=1e-5)


def place(ds: xr.Dataset, row: int) -> tuple[str, int, int]:
    """Method, row and column of the map of a row of the table: the first axis runs fastest."""
    height, width = ds["input"].shape
    method, rest = divmod(row, height * width)
    j, i = divmod(rest, height)
    return IDS[method], i, j


def pixels(ds: xr.Dataset) -> np.ndarray:
    file = io.BytesIO()
    to_png(ds, file, dpi=60)
    return np.asarray(Image.open(io.BytesIO(file.getvalue())).convert("RGB")).astype(int)


def share(picture: np.ndarray, color: tuple[int, int, int]) -> float:
    """Share of the picture's middle panel column that is within a few steps of a color."""
    third = picture.shape[1] // 3
    middle = picture[:, third : 2 * third]
    return float((np.abs(middle - np.array(color)).max(axis=-1) <= 6).mean())


def test_signed_maps_are_blue_and_vermilion_about_a_neutral_zero(image):
    import colorcet

    maps = np.zeros((4, 16, 16))
    maps[1, :8, :8], maps[1, 8:, 8:] = 0.5, -1.0  # a quarter each; the palette is centered although these are not
    picture = pixels(with_maps(image, maps).isel(method=[1]))

    def rgb(position: float) -> tuple[int, ...]:
        text = colorcet.CET_D9[round(position * 255)]
        return tuple(int(text[i : i + 2], 16) for i in (1, 3, 5))

    away, towards, neutral = share(picture, rgb(0.0)), share(picture, rgb(0.75)), share(picture, rgb(0.5))
    assert away == pytest.approx(towards, rel=0.25)
    assert neutral == pytest.approx(2 * towards, rel=0.25)
    assert away > 0.08


def test_radiographs_are_on_black_and_recordings_on_white(image, sound):
    assert (pixels(image.isel(method=[0]))[[0, -1], [0, -1]] == 0).all()
    assert (pixels(sound.isel(method=[0]))[[0, -1], [0, -1]] == 255).all()


def test_a_picture_has_a_row_per_method_and_the_verdict(ds, tmp_path):
    one, all_of_them = pixels(ds.isel(method=[0])), pixels(ds)
    assert all_of_them.shape[0] > 3 * one.shape[0]
    to_png(ds, tmp_path / "case.png")
    assert Image.open(tmp_path / "case.png").format == "PNG"


def test_a_map_of_zeros_can_be_drawn(ds):
    assert pixels(with_maps(ds, np.zeros(ds["attribution"].shape))).size


def test_long_recordings_are_averaged_to_the_width_of_a_picture():
    from xai_panel.explanation.export import COLUMNS, _thin

    values = np.arange(2 * 5001, dtype=np.float32).reshape(2, 5001)
    thin = _thin(values)
    assert thin.shape == (2, 1667) and thin.shape[1] <= COLUMNS
    np.testing.assert_allclose(thin[:, 0], values[:, :3].mean(axis=1))
    np.testing.assert_allclose(thin[:, -1], values[:, 4998:].mean(axis=1))
