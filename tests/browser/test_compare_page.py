"""The Compare page in a real Chromium: grid, one cursor, one zoom, profiles, table, agreement, files, stop."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from PIL import Image
from playwright.sync_api import Page, expect

from xai_panel.explanation.export import read_netcdf
from xai_panel.views.session import DEFAULT_METHODS

pytestmark = pytest.mark.browser

FAST = ("saliency", "input-x-gradient", "cam", "grad-cam", "grad-cam++", "layer-cam")
STATE = """() => {
  const maps = {}, profiles = {}, spans = new Map()
  for (const view of Bokeh.index.all_views()) {
    const model = view.model
    if (model.type === "Span" && model.visible && view.parent.model.name?.startsWith("map ")) {
      spans.set(model.id, [model.dimension, model.location])
    }
    if (view.frame && model.name?.startsWith("map ")) {
      const box = view.el.getBoundingClientRect(), frame = view.frame.bbox, {x_range, y_range} = model
      const [picture, map] = model.renderers, {color_mapper: mapper, global_alpha} = map.glyph
      const label = model.center.find((item) => item.type === "Label")
      maps[model.name.slice(6)] = {
        left: box.left + frame.left, right: box.left + frame.right,
        top: box.top + frame.top, bottom: box.top + frame.bottom,
        x: [x_range.start, x_range.end], y: [y_range.start, y_range.end],
        title: model.title.text, units: model.right[0].visible ? model.right[0].title : "",
        range: [mapper.low, mapper.high], alpha: global_alpha.value ?? global_alpha,
        label: label.visible ? label.text : "",
      }
    }
    if (view.frame && model.name?.startsWith("profile-")) {
      const {xs, ys} = model.renderers[0].data_source.data
      profiles[model.name.slice(8)] = {xs: xs.map((x) => [...x]), ys: ys.map((y) => [...y])}
    }
  }
  return {maps, profiles, spans: [...spans.values()]}
}"""


def open_page(page: Page, *ids: str, query: str = "") -> None:
    """The empty page with these methods ticked and no others."""
    page.goto(f"/compare{query}")
    expect(page.locator(".verdict")).to_contain_text("Pick a sample")
    for id in ids:
        page.locator(f'input[data-method="{id}"]').set_checked(True)
    for id in set(DEFAULT_METHODS) - set(ids) if ids else ():
        page.locator(f'input[data-method="{id}"]').set_checked(False)


def upload(page: Page, file: Path | dict[str, Any]) -> None:
    page.locator('input[type="file"]').set_input_files(file)


def wait_for_all(page: Page, count: int) -> None:
    expect(page.get_by_text(re.compile(rf"^{count} maps? ready$"))).to_be_visible()
    page.wait_for_function(
        f"(count) => Object.values(({STATE})().maps).filter((map) => map.units).length === count", arg=count
    )


def state(page: Page) -> dict[str, Any]:
    return page.evaluate(STATE)


def hover(page: Page, area: dict[str, Any], across: float, down: float) -> None:
    x = area["left"] + across * (area["right"] - area["left"])
    page.mouse.move(x, area["top"] + down * (area["bottom"] - area["top"]))
    page.wait_for_timeout(400)


def saved(page: Page, kind: str, folder: Path) -> Path:
    with page.expect_download() as waiting:
        page.get_by_role("button", name=kind).click()
    path = folder / waiting.value.suggested_filename
    waiting.value.save_as(path)
    return path


def real_radiograph(shared_data: Path) -> Path:
    return sorted((shared_data / "chest_xray_children").rglob("*.jpeg"))[5]


def test_a_real_radiograph_by_six_methods_on_one_cursor_and_one_zoom(page: Page, shared_data: Path) -> None:
    import xai_panel as xp

    file = real_radiograph(shared_data)
    open_page(page, *FAST)
    upload(page, file)
    wait_for_all(page, 6)
    expect(page.locator(".verdict .name")).to_have_text(file.name)
    maps = state(page)["maps"]
    assert set(maps) == set(FAST) and maps["saliency"]["units"] == "logit / feature unit"

    ds = xp.explain("xray-mobilenetv2", xp.read_signal(file), list(FAST), store=False)
    hover(page, maps["cam"], 0.5, 0.6)
    after = state(page)
    crossed = {dimension: place for dimension, place in after["spans"]}
    x, y = crossed["height"], crossed["width"]
    for id in FAST:
        value = float(ds["attribution"].sel({"method": id}).sel(x=x, y=y, method="nearest"))
        assert float(after["maps"][id]["label"]) == pytest.approx(value, rel=0.06, abs=1e-12)
    row = ds["attribution"].sel({"method": "grad-cam"}).sel(y=y, method="nearest").values
    strongest = float(np.abs(ds["attribution"].sel({"method": "grad-cam"})).max())
    assert any(np.allclose(line, row / strongest, atol=0.02) for line in after["profiles"]["x"]["ys"])
    assert len(after["profiles"]["y"]["ys"]) == 6
    expect(page.get_by_text(re.compile(r"^x \d+ px {3}y \d+ px.*CAM .* logit$"))).to_be_visible()

    for _ in range(4):
        page.mouse.wheel(0, -240)
    page.wait_for_timeout(500)
    zoomed = state(page)["maps"]
    assert len({tuple(area["x"] + area["y"]) for area in zoomed.values()}) == 1
    assert zoomed["cam"]["x"][1] - zoomed["cam"]["x"][0] < 0.8 * (maps["cam"]["x"][1] - maps["cam"]["x"][0])


def test_a_real_recording_by_six_methods_with_their_time_profiles(page: Page, shared_data: Path) -> None:
    import xai_panel as xp

    file = sorted((shared_data / "speech").rglob("*.flac"))[7]
    open_page(page, *FAST)
    upload(page, file)
    wait_for_all(page, 6)
    ds = xp.explain("audio-mobilenetv2", xp.read_signal(file), list(FAST), store=False)
    expected = ds.xai.profile("time").sel({"method": "layer-cam"}).values
    drawn = state(page)
    lines = [np.array(line) for line in drawn["profiles"]["time"]["ys"]]
    assert len(lines) == 6
    assert any(np.allclose(line, expected / np.abs(expected).max(), atol=0.03) for line in lines)
    hover(page, drawn["maps"]["saliency"], 0.3, 0.5)
    after = state(page)
    assert all(area["label"] for area in after["maps"].values())
    expect(page.get_by_text(re.compile(r"^[\d.]+ s {3}\d+ Hz.*Saliency .* logit"))).to_be_visible()
    crossed = {dimension: place for dimension, place in after["spans"]}
    area = after["maps"]["saliency"]
    assert crossed["height"] == pytest.approx(area["x"][0] + 0.3 * (area["x"][1] - area["x"][0]), abs=0.03)
    page.locator(".lines input").first.uncheck()
    page.wait_for_timeout(400)
    assert len(state(page)["profiles"]["time"]["ys"]) == 5


def test_table_agreement_and_files_say_the_same_as_the_explanation(
    page: Page, shared_data: Path, tmp_path: Path
) -> None:
    open_page(page, *FAST)
    upload(page, real_radiograph(shared_data))
    wait_for_all(page, 6)

    ds = read_netcdf(saved(page, "NetCDF", tmp_path))
    assert set(ds["method"].values) == set(FAST) and ds.attrs["model"] == "xray-mobilenetv2"
    table = pd.read_csv(saved(page, "CSV", tmp_path))
    assert len(table) == ds["attribution"].size and set(table["method"]) == set(FAST)
    picture = Image.open(saved(page, "PNG", tmp_path))
    assert picture.format == "PNG" and min(picture.size) > 300

    shown = page.locator(".tabulator-row")
    expect(shown).to_have_count(6)
    titles = page.locator('.tabulator-cell[tabulator-field="title"]')
    agreements = page.locator('.tabulator-cell[tabulator-field="agreement"]')
    expected = ds.xai.compare().set_index("title")
    assert sorted(titles.all_inner_texts()) == sorted(expected.index)
    for title, text in zip(titles.all_inner_texts(), agreements.all_inner_texts(), strict=True):
        assert float(text) == pytest.approx(expected.loc[title, "agreement"], abs=0.006)
    page.locator(".tabulator-col", has_text="Agreement").click()
    page.wait_for_timeout(500)
    in_order = [float(text) for text in agreements.all_inner_texts()]
    assert in_order == sorted(in_order)

    cells_shown = page.evaluate(
        """() => {
      for (const view of Bokeh.index.all_views()) {
        if (view.frame && view.model.name === "agreement") {
          const {row, column, value} = view.model.renderers[0].data_source.data
          return [row, column, [...value]]
        }
      }
    }"""
    )
    matrix = ds.xai.agreement()
    assert len(cells_shown[2]) == 36
    order = [FAST.index(id) for id in ds["method"].values]
    assert sorted(cells_shown[2]) == pytest.approx(sorted(matrix.values[np.ix_(order, order)].ravel()), abs=1e-6)


def test_ranges_sign_and_opacity_are_the_browsers_work(page: Page) -> None:
    open_page(page)
    page.locator(".cards button", has_text="Thorax with an opacity").first.click()
    wait_for_all(page, len(DEFAULT_METHODS))
    own = state(page)["maps"]
    page.get_by_role("button", name="Common range").click()
    page.wait_for_timeout(400)
    common = state(page)["maps"]
    tops = {area["range"][1] for area in common.values() if area["units"] == "logit"}
    assert len(tops) == 1 and tops == {max(area["range"][1] for area in own.values() if area["units"] == "logit")}
    page.get_by_role("slider", name="Opacity").focus()
    page.keyboard.press("Home")
    page.wait_for_timeout(400)
    assert {area["alpha"] for area in state(page)["maps"].values()} == {0}


def test_a_long_method_shows_its_progress_and_can_be_stopped(page: Page) -> None:
    open_page(page, "grad-cam", "lime", "kernel-shap")
    page.locator(".cards button", has_text="Thorax").first.click()
    page.wait_for_function(f"() => /LIME: .*\\d+ of \\d+/.test(({STATE})().maps.lime?.title ?? '')")
    page.get_by_role("button", name="Stop").last.click()
    expect(page.get_by_text("Stopped", exact=True)).to_be_visible()
    page.wait_for_timeout(500)
    assert set(state(page)["maps"]) == {"grad-cam"}


def test_a_bad_file_gives_a_message_and_leaves_the_grid_as_it_was(page: Page) -> None:
    open_page(page, "grad-cam", "cam")
    page.locator(".cards button", has_text="Thorax").first.click()
    wait_for_all(page, 2)
    upload(page, {"name": "empty.wav", "mimeType": "audio/wav", "buffer": b"RIFF"})
    expect(page.get_by_role("alert")).to_contain_text("empty.wav")
    assert set(state(page)["maps"]) == {"grad-cam", "cam"}


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_grid_fits_narrow_screens(page: Page, theme: str) -> None:
    page.set_viewport_size({"width": 820, "height": 1180})
    open_page(page, query=f"?theme={theme}")
    expect(page.locator(".MuiBackdrop-root")).to_have_count(0)
    page.locator(".cards button", has_text="Thorax").first.click()
    wait_for_all(page, len(DEFAULT_METHODS))
    assert page.evaluate("document.documentElement.scrollWidth") <= 820
    areas = state(page)["maps"].values()
    assert {round(area["right"] - area["left"]) for area in areas} <= set(range(200, 420))
    assert max(area["right"] for area in areas) <= 820


def test_compared_maps_are_those_of_the_engine(page: Page) -> None:
    import xai_panel as xp

    open_page(page, "grad-cam")
    page.locator(".cards button", has_text="Thorax with an opacity").first.click()
    wait_for_all(page, 1)
    sent = page.evaluate(
        """() => {
      for (const view of Bokeh.index.all_views()) {
        if (view.frame && view.model.name === "map 0:grad-cam") {
          const image = view.model.renderers[1].data_source.data["grad-cam"][0]
          return [image.shape, [...image]]
        }
      }
    }"""
    )
    ds = xp.explain("xray-mobilenetv2", xp.load_sample("thorax-opacity"), ["grad-cam"], store=False)
    drawn = xr.DataArray(np.reshape(sent[1], sent[0]), dims=("y", "x"))
    assert np.allclose(drawn, ds["attribution"][0], atol=1e-4 * float(ds["attribution"].max()))


PLACES = """() => [...Bokeh.index.all_views()].filter((view) => view.frame && view.model.name?.startsWith("map "))
  .filter((view) => view.model.right[0].visible).map((view) => {
    const top = view.el.getBoundingClientRect().top + view.frame.bbox.top
    return [view.model.title.text, top, top + view.frame.bbox.height]
  })"""


def test_two_classifiers_stand_side_by_side(page: Page) -> None:
    methods = ("cam", "grad-cam", "grad-cam++", "layer-cam")
    open_page(page, *methods)
    page.locator(".cards button", has_text="Thorax with an opacity").click()
    wait_for_all(page, 4)
    page.get_by_role("combobox", name="Second classifier").click()
    page.get_by_text("AlexNet on chest radiographs").last.click()
    page.wait_for_function(f"() => ({PLACES})().length === 8")
    expect(page.locator(".verdict .name").filter(has_text="AlexNet")).to_be_visible()
    places = page.evaluate(PLACES)
    assert sum("AlexNet" in title for title, _, _ in places) == len(methods)
    rows = sorted({(round(top), round(bottom)) for _, top, bottom in places})
    assert len(rows) == len(methods)
    assert all(lower[0] - upper[1] > 40 for upper, lower in itertools.pairwise(rows))  # none covers another
