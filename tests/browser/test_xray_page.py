"""The X-ray page in a real Chromium: samples, uploads, map, cursor, window, zoom, contour, messages, light and dark."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Locator, Page, expect

from xai_panel.resources import assets_dir
from xai_panel.views.session import DEFAULT_METHODS

pytestmark = pytest.mark.browser

SAMPLE = "Thorax with an opacity"
FRAMES = """() => {
  const frames = {}
  for (const view of Bokeh.index.all_views()) {
    if (view.frame && view.model.name) {
      const box = view.el.getBoundingClientRect(), frame = view.frame.bbox, {x_range, y_range} = view.model
      frames[view.model.name] = {
        left: box.left + frame.left, right: box.left + frame.right,
        top: box.top + frame.top, bottom: box.top + frame.bottom,
        x: [x_range.start, x_range.end], y: [y_range.start, y_range.end],
      }
    }
  }
  return frames
}"""
STATE = """() => {
  const views = [...Bokeh.index.all_views()], state = {spans: [], lines: {}}
  for (const view of views) {
    const model = view.model
    if (model.type === "Span" && model.visible) { state.spans.push([model.dimension, model.location]) }
    if (model.name === "radiograph" && view.frame) {
      const sources = model.renderers.map((renderer) => renderer.data_source)
      const {image, x, y, dw, dh} = sources[0].data
      state.sent = {shape: image[0].shape, x: x[0], y: y[0], dw: dw[0], dh: dh[0]}
      state.contours = sources[2].data.xs.length
      state.bar = model.right[0].visible ? model.right[0].title : ""
    }
    if (model.name === "row" && view.frame) {
      const {id, row, column, width} = model.renderers[0].data_source.data
      id.forEach((name, i) => { state.lines[name] = {row: [...row[i]], column: [...column[i]], width: width[i]} })
    }
  }
  return state
}"""


def open_page(page: Page, query: str = "") -> None:
    page.goto(f"/xray{query}")
    expect(page.locator(".verdict")).to_contain_text("Pick a sample")


def pick(page: Page, title: str = SAMPLE) -> None:
    page.locator(".cards button", has_text=title).first.click()
    expect(page.locator(".verdict")).to_contain_text("calibrated probability")
    wait_for_all(page)


def upload(page: Page, file: Path | dict[str, Any]) -> None:
    page.locator('input[type="file"]').set_input_files(file)


def wait_for_all(page: Page) -> None:
    expect(page.get_by_text(re.compile(r"^\d+ maps? ready$"))).to_be_visible()


def thumbnail(page: Page, title: str) -> Locator:
    return page.get_by_role("radio", name=title, exact=True)


def frame(page: Page, name: str = "radiograph") -> dict[str, Any]:
    return page.evaluate(FRAMES)[name]


def state(page: Page) -> dict[str, Any]:
    return page.evaluate(STATE)


def at(area: dict[str, Any], x: float, y: float) -> tuple[float, float]:
    """Place on the page of a point in data coordinates."""
    (x0, x1), (bottom, top) = area["x"], area["y"]
    across, down = (x - x0) / (x1 - x0), (y - top) / (bottom - top)
    return (
        area["left"] + across * (area["right"] - area["left"]),
        area["top"] + down * (area["bottom"] - area["top"]),
    )


def pixels(page: Page, area: dict[str, Any]) -> np.ndarray:
    """Pixels (rows, columns, 3) of a plot area."""
    clip = {"x": area["left"] + 2, "y": area["top"] + 2}
    clip |= {"width": area["right"] - area["left"] - 4, "height": area["bottom"] - area["top"] - 4}
    return np.asarray(Image.open(io.BytesIO(page.screenshot(clip=clip))).convert("RGB"), dtype=np.float64)


def colorfulness(shot: np.ndarray) -> float:
    """Mean difference between the largest and smallest channel: 0 for a gray picture."""
    return float(np.ptp(shot, axis=2).mean())


def frames_sent(page: Page) -> list[Any]:
    """What the page sends to the server from now on; call it before the page is opened."""
    sent: list[Any] = []
    page.on("websocket", lambda socket: socket.on("framesent", lambda payload: sent.append(payload)))
    return sent


def noise(height: int, width: int) -> bytes:
    """A PNG radiograph of this size with structure down to single pixels."""
    values = np.random.default_rng(0).integers(40, 200, (height, width), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def test_a_phantom_gets_its_verdict_and_a_map_over_it(page: Page) -> None:
    open_page(page)
    pick(page)
    expect(page.locator(".verdict")).to_contain_text("Known answer:")
    expect(page.locator(".verdict b").first).to_have_text(re.compile(r"^[<>]?\d+ %$"))
    expect(thumbnail(page, "Grad-CAM")).to_be_checked()
    assert state(page)["bar"] == "Grad-CAM [logit]"
    assert colorfulness(pixels(page, frame(page))) > 5  # the radiograph alone is gray


def real_files(shared_data: Path) -> list[Path]:
    jpeg = sorted((shared_data / "chest_xray_children").rglob("*.jpeg"))[0]
    return [jpeg, shared_data / "dicom" / "siim_chest.dcm"]


@pytest.mark.parametrize("which", [0, 1], ids=["jpeg", "dicom"])
def test_a_real_radiograph_is_explained_and_the_cursor_reads_its_numbers(
    page: Page, shared_data: Path, which: int
) -> None:
    import xai_panel as xp

    file = real_files(shared_data)[which]
    open_page(page)
    upload(page, file)
    expect(page.locator(".verdict .name")).to_have_text(file.name)
    wait_for_all(page)
    expect(page.locator(".verdict")).to_contain_text("calibrated probability")

    signal = xp.read_signal(file)
    ds = xp.explain("xray-mobilenetv2", signal, ["grad-cam"], store=False)
    attribution = ds["attribution"][0]
    row, column = np.unravel_index(int(attribution.values.argmax()), attribution.shape)
    area = frame(page)
    page.mouse.move(*at(area, float(attribution["x"][column]), float(attribution["y"][row])))
    line = page.get_by_text(re.compile("Grad-CAM .* logit$"))
    expect(line).to_be_visible()
    text = line.inner_text()
    units = "mm" if which else "px"
    x, y = (float(re.search(rf"{axis} ([\d.]+) {units}", text)[1]) for axis in "xy")  # type: ignore[index]
    assert float(re.search(r"Grad-CAM ([\d.e-]+) logit", text)[1]) == pytest.approx(float(attribution.max()), rel=0.05)  # type: ignore[index]
    near = signal.sel(x=slice(x - 2, x + 3), y=slice(y - 2, y + 3)).values
    assert near.min() - 1 <= float(re.search(r"intensity ([\d.]+)", text)[1]) <= near.max() + 1  # type: ignore[index]

    first = state(page)
    crossed = dict(first["spans"])
    tolerance = 2 * abs(area["x"][1] - area["x"][0]) / (area["right"] - area["left"]) + 1
    assert crossed["height"] == pytest.approx(x, abs=tolerance) and crossed["width"] == pytest.approx(y, abs=tolerance)
    strongest = np.abs(attribution.values).max()
    profile = first["lines"]["grad-cam"]
    assert profile["row"] == pytest.approx((attribution.values[row] / strongest).tolist(), abs=0.03)
    assert profile["column"] == pytest.approx((attribution.values[:, column] / strongest).tolist(), abs=0.03)
    assert len(first["lines"]) == len(DEFAULT_METHODS)
    assert profile["width"] == max(item["width"] for item in first["lines"].values())

    below = frame(page, "row")
    page.mouse.move(below["left"] + 0.25 * (below["right"] - below["left"]), (below["top"] + below["bottom"]) / 2)
    page.wait_for_timeout(300)
    second = state(page)
    quarter = area["x"][0] + 0.25 * (area["x"][1] - area["x"][0])
    assert dict(second["spans"])["height"] == pytest.approx(quarter, abs=tolerance)
    assert dict(second["spans"])["width"] == crossed["width"]
    assert second["lines"]["grad-cam"]["column"] != profile["column"]


def test_moving_the_cursor_sends_nothing_to_the_server(page: Page) -> None:
    sent = frames_sent(page)
    open_page(page)
    pick(page)
    page.wait_for_timeout(1500)
    area = frame(page)
    page.mouse.move(*at(area, 100, 100))
    page.wait_for_timeout(300)
    before = len(sent)
    for step in range(60):
        page.mouse.move(*at(area, 100 + 5 * step, 120 + 4 * step))
    page.wait_for_timeout(500)
    assert len(sent) == before
    assert dict(state(page)["spans"])["height"] == pytest.approx(395, abs=4)


def test_window_and_invert_change_the_picture(page: Page) -> None:
    open_page(page)
    pick(page)
    page.get_by_role("slider", name="Opacity").focus()
    page.keyboard.press("Home")
    page.mouse.move(5, 890)
    page.wait_for_timeout(500)
    area = frame(page)
    plain = pixels(page, area)
    assert colorfulness(plain) < 0.5  # no map any more
    page.get_by_role("switch", name="Invert").click()
    page.wait_for_timeout(500)
    inverted = pixels(page, area)
    inside = plain.mean(axis=2) > 0
    assert np.corrcoef(plain.mean(axis=2)[inside], inverted.mean(axis=2)[inside])[0, 1] < -0.95
    page.get_by_role("switch", name="Invert").click()

    page.get_by_role("slider", name="Center").focus()
    for _ in range(40):
        page.keyboard.press("ArrowLeft")
    page.wait_for_timeout(500)
    brighter = pixels(page, area)
    assert brighter.mean() > plain.mean() + 15

    page.get_by_role("button", name="Window").click()
    middle = at(area, 380, 380)
    page.mouse.move(*middle)
    page.mouse.down()
    page.mouse.move(middle[0], middle[1] + 100, steps=5)
    page.mouse.up()
    page.mouse.move(5, 890)
    page.wait_for_timeout(500)
    darker = pixels(page, area)
    assert darker.mean() < brighter.mean() - 15
    assert frame(page)["x"] == area["x"]  # it was the window that was dragged, not the picture


def test_zooming_keeps_pixels_square_and_brings_the_stored_ones(page: Page) -> None:
    open_page(page)
    upload(page, {"name": "large.png", "mimeType": "image/png", "buffer": noise(1500, 2400)})
    expect(page.locator(".verdict .name")).to_have_text("large.png")
    wait_for_all(page)
    whole = state(page)["sent"]
    assert whole["shape"] == [500, 800] and (whole["dw"], whole["dh"]) == (2400, 1500)
    area = frame(page)
    page.mouse.move(*at(area, 600, 600))
    for _ in range(8):
        page.mouse.wheel(0, -240)
        page.wait_for_timeout(60)
    page.wait_for_timeout(1500)
    zoomed, sent = frame(page), state(page)["sent"]
    width, height = zoomed["x"][1] - zoomed["x"][0], zoomed["y"][0] - zoomed["y"][1]
    assert width < 0.6 * (area["x"][1] - area["x"][0])
    per_px = width / (zoomed["right"] - zoomed["left"]), height / (zoomed["bottom"] - zoomed["top"])
    assert per_px[0] == pytest.approx(per_px[1], rel=0.01)
    assert sent["shape"] == [sent["dh"], sent["dw"]]  # one sent pixel for each stored one
    assert sent["x"] <= max(zoomed["x"][0], 0) and sent["x"] + sent["dw"] >= min(zoomed["x"][1], 2400)


def test_a_radiograph_fills_its_frame_when_the_page_changes_its_size(page: Page) -> None:
    open_page(page)
    pick(page)
    for size in ((1440, 900), (1100, 700), (1440, 1000), (1300, 900)):
        page.set_viewport_size({"width": size[0], "height": size[1]})
        page.wait_for_timeout(800)
        area = frame(page)
        per_px = (area["x"][1] - area["x"][0]) / (area["right"] - area["left"])
        needed = max(768 / (area["right"] - area["left"]), 768 / (area["bottom"] - area["top"]))
        assert per_px == pytest.approx(needed, rel=0.01)


def test_thumbnails_are_chosen_with_mouse_and_keyboard(page: Page) -> None:
    open_page(page)
    pick(page)
    page.wait_for_timeout(1000)  # thumbnails are drawn anew while maps arrive
    page.locator(".card", has_text="Integrated gradients").click()
    expect(thumbnail(page, "Integrated gradients")).to_be_checked()
    page.wait_for_function(f"() => ({STATE})().bar.startsWith('Integrated gradients [logit')")
    titles = page.locator(".card").all_inner_texts()
    thumbnail(page, "Integrated gradients").focus()
    page.keyboard.press("ArrowLeft")
    before = titles[titles.index("Integrated gradients") - 1]
    expect(thumbnail(page, before)).to_be_checked()
    page.wait_for_function(f"(title) => ({STATE})().bar.startsWith(title + ' [')", arg=before)
    bold = [id for id, line in state(page)["lines"].items() if line["width"] == 3]
    assert len(bold) == 1 and bold != ["integrated-gradients"]


def test_the_contour_is_drawn_on_demand(page: Page) -> None:
    open_page(page)
    pick(page)
    assert state(page)["contours"] == 0
    page.get_by_role("switch", name="Contour").click()
    page.wait_for_function(f"() => ({STATE})().contours > 0")
    expect(page.get_by_text("Contour around the strongest")).to_be_visible()


def test_a_bad_file_gives_a_message_and_leaves_the_page_as_it_was(page: Page) -> None:
    open_page(page)
    pick(page)
    verdict = page.locator(".verdict").inner_text()
    upload(page, {"name": "broken.png", "mimeType": "image/png", "buffer": noise(200, 200)[:5000]})
    expect(page.get_by_role("alert")).to_contain_text("broken.png")
    expect(page.get_by_role("alert")).to_contain_text("truncated")
    assert page.locator(".verdict").inner_text() == verdict
    assert len(state(page)["lines"]) == len(DEFAULT_METHODS)


def test_a_recording_is_refused_with_the_way_to_the_other_page(page: Page) -> None:
    open_page(page)
    recording = (assets_dir() / "samples" / "speech.flac").read_bytes()
    upload(page, {"name": "named-wrongly.png", "mimeType": "image/png", "buffer": recording})
    expect(page.get_by_role("alert")).to_contain_text("Audio page")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_radiograph_is_on_black_and_fits_narrow_screens(page: Page, theme: str) -> None:
    page.set_viewport_size({"width": 820, "height": 1180})
    open_page(page, f"?theme={theme}")
    expect(page.locator(".MuiBackdrop-root")).to_have_count(0)
    pick(page)
    page.wait_for_timeout(500)
    assert page.evaluate("document.documentElement.scrollWidth") <= 820
    area = frame(page)
    assert area["right"] - area["left"] > 450 and area["right"] <= 820
    (x0, x1), (bottom, top) = area["x"], area["y"]
    assert x0 <= 0.5 and x1 >= 767.5 and top <= 0.5 and bottom >= 767.5  # all of the 768 × 768 pixels
    assert pixels(page, area)[:2].mean() < 3
    below = frame(page, "row")
    assert (below["left"], below["right"]) == pytest.approx((area["left"], area["right"]), abs=1)


def test_another_classifier_is_chosen_and_stays_chosen(page: Page) -> None:
    open_page(page)
    page.locator(".cards button", has_text="Thorax with an opacity").click()
    expect(page.locator(".verdict")).to_contain_text("calibrated probability")
    chosen = page.get_by_role("combobox", name="Classifier")
    chosen.click()
    page.get_by_text("DenseNet121 of TorchXRayVision").last.click()
    expect(page.locator(".verdict")).to_contain_text("Lung Opacity")
    expect(page.get_by_text(re.compile(r"^\d+ maps? ready$"))).to_be_visible()
    expect(chosen).to_contain_text("TorchXRayVision")
