"""The Audio page in a real Chromium: samples, uploads, maps, cursor, player, messages, light and dark."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Locator, Page, expect

pytestmark = pytest.mark.browser

FRAMES = """() => {
  const frames = {}
  for (const view of Bokeh.index.all_views()) {
    if (view.frame && view.model.name) {
      const box = view.el.getBoundingClientRect(), frame = view.frame.bbox
      const x = view.model.x_range, y = view.model.y_range
      frames[view.model.name] = {
        left: box.left + frame.left, right: box.left + frame.right,
        top: box.top + frame.top, bottom: box.top + frame.bottom,
        start: x.start, end: x.end, low: y.start, high: y.end, background: view.model.background_fill_color,
      }
    }
  }
  return frames
}"""
CURSORS = """() => {
  const places = []
  for (const view of Bokeh.index.all_views()) {
    const model = view.model
    if (model.type === "Span" && model.dimension === "height" && model.name === null && model.visible) {
      places.push(model.location)
    }
  }
  return places
}"""


def open_page(page: Page, query: str = "") -> None:
    page.goto(f"/audio{query}")
    expect(page.locator(".verdict")).to_contain_text("Pick a sample")


def pick(page: Page, title: str) -> None:
    page.locator(".cards button", has_text=title).first.click()
    expect(page.locator(".verdict")).to_contain_text("calibrated probability")


def upload(page: Page, file: Path | dict[str, Any]) -> None:
    page.locator('input[type="file"]').set_input_files(file)


def map_row(page: Page, title: str) -> Locator:
    return page.locator(".maps .row", has=page.get_by_text(title, exact=True))


def wait_for_map(page: Page, title: str = "Grad-CAM") -> None:
    expect(map_row(page, title)).to_have_class(re.compile("ready"))


def wait_for_all(page: Page) -> None:
    expect(page.get_by_text(re.compile(r"^\d+ maps? ready$"))).to_be_visible()


def frames(page: Page) -> dict[str, dict[str, Any]]:
    return page.evaluate(FRAMES)


def readout(page: Page) -> str:
    return page.get_by_text(re.compile("^time ")).inner_text()


def point(frame: dict[str, Any], x: float, y: float) -> tuple[float, float]:
    """Place on the page of a share of a frame, from its left and from its bottom."""
    return (
        frame["left"] + x * (frame["right"] - frame["left"]),
        frame["bottom"] - y * (frame["bottom"] - frame["top"]),
    )


def shot(page: Page, frame: dict[str, Any]) -> np.ndarray:
    """Pixels (rows, columns, 3) of a frame."""
    from PIL import Image

    clip = {
        "x": frame["left"] + 2,
        "y": frame["top"] + 2,
        "width": frame["right"] - frame["left"] - 4,
        "height": frame["bottom"] - frame["top"] - 4,
    }
    image = Image.open(io.BytesIO(page.screenshot(clip=clip)))
    return np.asarray(image.convert("RGB"), dtype=np.float64)


def colorfulness(pixels: np.ndarray) -> float:
    """Mean difference between the largest and smallest channel: 0 for a gray picture."""
    return float((pixels.max(axis=2) - pixels.min(axis=2)).mean())


def test_a_sample_gets_its_verdict_and_its_maps(page: Page) -> None:
    open_page(page)
    pick(page, "LPC")
    expect(page.locator(".verdict")).to_contain_text("Known answer:")
    expect(page.locator(".verdict b").first).to_have_text(re.compile(r"^[<>]?\d+ %$"))
    wait_for_map(page)
    wait_for_all(page)
    expect(page.get_by_text("Grad-CAM [logit]")).to_be_visible()
    assert colorfulness(shot(page, frames(page)["picture"])) > 2  # the spectrogram alone is gray


def test_an_empty_file_gives_a_message(page: Page) -> None:
    open_page(page)
    upload(page, {"name": "empty.wav", "mimeType": "audio/wav", "buffer": b""})
    expect(page.get_by_role("alert")).to_contain_text("empty")
    expect(page.get_by_role("alert")).to_contain_text("accepted:")
    expect(page.locator(".verdict")).to_contain_text("Pick a sample")


def test_plot_areas_are_in_line(page: Page) -> None:
    open_page(page)
    pick(page, "LPC")
    wait_for_all(page)
    areas = frames(page)
    edges = {(areas[name]["left"], areas[name]["right"]) for name in ("wave", "picture", "profile", "overview")}
    assert len(edges) == 1
    assert areas["spectral"]["top"] == areas["picture"]["top"]
    assert areas["spectral"]["bottom"] == areas["picture"]["bottom"]


def test_the_map_follows_choice_and_opacity(page: Page) -> None:
    open_page(page)
    pick(page, "LPC")
    wait_for_all(page)
    page.mouse.move(5, 895)  # no cursor over the plots
    area = frames(page)["picture"]
    first = shot(page, area)
    map_row(page, "LayerCAM").click()  # unsigned as Grad-CAM: the same colors
    expect(page.get_by_text("LayerCAM [logit]")).to_be_visible()
    page.wait_for_timeout(300)
    second = shot(page, area)
    assert np.abs(first - second).mean() > 1
    map_row(page, "Grad-CAM").click()
    expect(page.get_by_text("Grad-CAM [logit]")).to_be_visible()
    page.wait_for_timeout(300)
    assert np.abs(first - shot(page, area)).mean() < 0.01
    page.get_by_role("slider").focus()
    for _ in range(20):
        page.keyboard.press("ArrowLeft")
    page.wait_for_timeout(500)
    assert colorfulness(shot(page, area)) < 0.5 < colorfulness(second)


def test_a_real_recording_is_explained_and_the_cursor_reads_its_numbers(page: Page, shared_data: Path) -> None:
    import xai_panel as xp

    file = sorted((shared_data / "speech").rglob("*.flac"))[3]
    open_page(page)
    upload(page, file)
    expect(page.locator(".verdict .name")).to_have_text(file.name)
    expect(page.locator(".verdict")).to_contain_text("calibrated probability")
    wait_for_all(page)
    area = frames(page)["picture"]
    signal = xp.read_signal(file)
    ds = xp.explain("audio-mobilenetv2", signal, ["grad-cam"], store=False)
    assert area["end"] == pytest.approx(signal.sizes["time"] / signal.attrs["sampling_rate"])

    attribution = ds["attribution"][0]
    row, column = np.unravel_index(attribution.values.argmax(), attribution.shape)
    from xai_panel.views.spectrogram import mel

    brightest = float(attribution["time"][column])
    across = (brightest - area["start"]) / (area["end"] - area["start"])
    up = (float(mel(attribution["frequency"][row])) - area["low"]) / (area["high"] - area["low"])
    x, y = point(area, across, up)
    spot = shot(page, {"left": x - 4, "right": x + 4, "top": y - 4, "bottom": y + 4}).mean(axis=(0, 1))
    assert min(spot[0], spot[1]) - spot[2] > 60  # the yellow end of the palette
    page.mouse.move(x, y)
    expect(page.get_by_text(re.compile("Grad-CAM .* logit"))).to_be_visible()
    first = readout(page)
    seconds = float(re.search(r"time ([\d.]+) s", first)[1])
    hertz = float(re.search(r"frequency (\d+) Hz", first)[1])
    value = float(re.search(r"Grad-CAM ([+−][\d.e+-]+) logit", first)[1].replace("−", "-"))
    pixel = (area["end"] - area["start"]) / (area["right"] - area["left"])
    assert seconds == pytest.approx(brightest, abs=1.5 * pixel)
    assert hertz == pytest.approx(float(attribution["frequency"][row]), rel=0.05)
    assert value == pytest.approx(float(attribution[row, column]), rel=0.05)
    level = float(re.search(r"level ([+−][\d.]+) dBFS", first)[1].replace("−", "-"))
    assert -150 < level <= 0
    assert page.evaluate(CURSORS) == [pytest.approx(seconds, abs=1e-3)] * 3

    page.mouse.move(*point(frames(page)["wave"], 0.25, 0.5))
    expect(page.get_by_text(re.compile("of its maximum"))).to_be_visible()
    second = readout(page)
    assert second != first
    quarter = 0.25 * (area["end"] - area["start"])
    assert page.evaluate(CURSORS) == [pytest.approx(quarter, abs=1.5 * pixel)] * 3


def test_moving_the_cursor_sends_nothing_to_the_server(page: Page) -> None:
    frames_sent: list[Any] = []
    page.on("websocket", lambda socket: socket.on("framesent", lambda payload: frames_sent.append(payload)))
    open_page(page)
    pick(page, "LPC")
    wait_for_all(page)
    page.wait_for_timeout(1000)
    area = frames(page)["picture"]
    page.mouse.move(*point(area, 0.1, 0.5))
    page.wait_for_timeout(300)
    frames_sent.clear()
    for i in range(60):
        page.mouse.move(*point(area, 0.1 + i / 100, 0.3 + i / 200))
    page.wait_for_timeout(500)
    assert frames_sent == []


def test_the_player_plays_seeks_and_plays_the_selection(page: Page) -> None:
    open_page(page)
    pick(page, "LPC")
    wait_for_map(page)
    audio = page.locator("audio")
    page.get_by_role("button", name="Play", exact=True).click()
    expect(page.get_by_role("button", name="Pause")).to_be_visible()
    before = audio.evaluate("a => a.currentTime")
    page.wait_for_timeout(700)
    after = audio.evaluate("a => a.currentTime")
    assert after - before > 0.3
    page.get_by_role("button", name="Pause").click()

    area = frames(page)["picture"]
    page.mouse.click(*point(area, 0.5, 0.5))
    page.wait_for_timeout(300)
    middle = (area["start"] + area["end"]) / 2
    assert audio.evaluate("a => a.currentTime") == pytest.approx(middle, abs=0.03)
    expect(page.locator(".clock")).to_contain_text(f"0:{middle:05.2f}"[:5])

    wave = frames(page)["wave"]
    page.mouse.move(*point(wave, 0.2, 0.5))
    page.mouse.down()
    for share in (0.25, 0.3, 0.35):
        page.mouse.move(*point(wave, share, 0.4))
    page.mouse.up()
    span = page.locator(".player .range")
    expect(span).to_have_text(re.compile(r"^\d+\.\d\d–\d+\.\d\d s$"))
    start, stop = (float(text) for text in re.findall(r"[\d.]+", span.inner_text()))
    assert start == pytest.approx(0.2 * area["end"], abs=0.02) and stop == pytest.approx(0.35 * area["end"], abs=0.02)
    page.get_by_role("button", name="Play", exact=True).click()
    expect(page.get_by_role("button", name="Play", exact=True)).to_be_visible(timeout=20_000)
    page.wait_for_timeout(int(1000 * (stop - start)) + 500)
    assert audio.evaluate("a => [a.paused, a.currentTime]") == [True, pytest.approx(stop, abs=0.05)]


def test_a_long_recording_is_explained_in_part_and_the_part_can_be_chosen(page: Page) -> None:
    import soundfile

    from xai_panel.signals.synthetic import load_sample

    parts = [load_sample(id).values for id in ("speech", "speech-lpc", "speech-spoofed-stretch")]
    file = io.BytesIO()
    soundfile.write(file, np.concatenate(parts * 5), 16_000, format="FLAC")
    open_page(page)
    upload(page, {"name": "long.flac", "mimeType": "audio/flac", "buffer": file.getvalue()})
    expect(page.get_by_text("At most 30 s are explained at once")).to_be_visible()
    wait_for_map(page)
    areas = frames(page)
    assert areas["picture"]["end"] - areas["picture"]["start"] <= 30.01
    assert areas["overview"]["end"] == pytest.approx(80.0)

    page.get_by_role("button", name="Play", exact=True).click()  # the sound is sent now
    audio = page.locator("audio")
    expect(page.get_by_role("button", name="Pause")).to_be_visible()
    page.wait_for_timeout(500)
    assert audio.evaluate("a => a.currentTime > 0.2 && Math.abs(a.duration - 80) < 0.01")
    page.get_by_role("button", name="Pause").click()

    page.mouse.dblclick(*point(areas["picture"], 0.5, 0.5))
    page.wait_for_timeout(500)
    wave = frames(page)["wave"]
    assert (wave["start"], wave["end"]) == (0, pytest.approx(80.0))
    button = page.get_by_role("button", name="Explain the selection")
    expect(button).to_be_disabled()
    page.mouse.move(*point(wave, 0.5, 0.5))
    page.mouse.down()
    page.mouse.move(*point(wave, 0.52, 0.5))
    page.mouse.move(*point(wave, 0.55, 0.5))
    page.mouse.up()
    button.click()
    expect(page.get_by_text("now 0:40.0–0:44.0 of 1:20.0")).to_be_visible()
    wait_for_map(page)
    wait_for_all(page)
    chosen = frames(page)["picture"]
    assert (chosen["start"], chosen["end"]) == (pytest.approx(40, abs=0.1), pytest.approx(44, abs=0.1))


def test_a_bad_file_gets_a_message_and_the_page_keeps_its_state(page: Page) -> None:
    open_page(page)
    pick(page, "LPC")
    wait_for_all(page)
    verdict = page.locator(".verdict").inner_text()
    upload(page, {"name": "note.wav", "mimeType": "audio/wav", "buffer": b"This is a text, not a recording."})
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("note.wav")
    expect(alert).to_contain_text("accepted:")
    assert page.locator(".verdict").inner_text() == verdict
    wait_for_map(page)
    page.get_by_role("button", name="Close", exact=True).click()
    expect(alert).to_be_hidden()


def test_a_radiograph_is_sent_to_its_page(page: Page) -> None:
    from xai_panel.resources import assets_dir

    open_page(page)
    image = (assets_dir() / "samples" / "thorax-clear.png").read_bytes()
    upload(page, {"name": "chest.wav", "mimeType": "audio/wav", "buffer": image})
    expect(page.get_by_role("alert")).to_contain_text("open it on the X-ray page")
    expect(page.locator(".cards")).to_be_visible()


def test_long_methods_show_progress_and_stop(page: Page) -> None:
    open_page(page)
    pick(page, "Griffin")
    wait_for_all(page)
    for id in ("smoothgrad", "kernel-shap", "lime"):
        page.locator(f'.picker input[data-method="{id}"]').check()
    page.get_by_role("button", name="Run (3)").click()
    expect(page.get_by_role("progressbar").first).to_be_visible()
    page.get_by_role("button", name="Stop").first.click()
    expect(page.get_by_text("Stopped", exact=True)).to_be_visible()
    expect(page.get_by_role("button", name=re.compile("^Run"))).to_be_enabled()
    wait_for_map(page)


def luminance(color: str) -> float:
    parts = re.findall(r"[\d.]+", color)[:3] if color.startswith("rgb") else re.findall("..", color.lstrip("#"))
    values = [float(part) if color.startswith("rgb") else int(part, 16) for part in parts]
    return sum(values) / 3 / 255


def test_dark_and_light_reach_the_figures_both_ways(page: Page) -> None:
    open_page(page)
    pick(page, "LPC")
    wait_for_map(page)
    toggle = page.get_by_role("button", name="Toggle theme")
    seen = []
    for _ in range(3):
        page.wait_for_timeout(500)
        area = frames(page)["profile"]
        x, y = point(area, 0.995, 0.97)
        pixel = shot(page, {"left": x - 6, "right": x + 2, "top": y - 4, "bottom": y + 4}).mean() / 255
        seen.append((luminance(area["background"]) > 0.5, pixel > 0.5))
        toggle.click()
    assert seen == [(True, True), (False, False), (True, True)]


def test_the_other_pages_are_one_link_away_and_keep_the_theme(page: Page) -> None:
    open_page(page, "?theme=dark")
    expect(page.get_by_role("link", name="Audio")).to_have_attribute("aria-current", "page")
    expect(page.get_by_role("link", name="X-ray")).to_have_attribute("href", "xray?theme=dark")
    expect(page.get_by_role("link", name="Compare")).to_have_attribute("href", "compare?theme=dark")


def test_a_narrow_window_closes_the_drawer_and_nothing_is_cut(page: Page) -> None:
    page.set_viewport_size({"width": 820, "height": 1180})
    open_page(page)
    expect(page.get_by_role("button", name="Open drawer")).to_be_visible()
    pick(page, "LPC")
    wait_for_all(page)
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    areas = frames(page)
    assert areas["picture"]["right"] - areas["picture"]["left"] > 400
    assert areas["spectral"]["right"] <= 820
    page.get_by_role("button", name="Open drawer").click()
    expect(page.get_by_text("Upload a recording")).to_be_visible()


def test_a_click_on_a_page_that_is_still_being_drawn_is_not_lost(page: Page) -> None:
    page.goto("/audio")
    page.locator(".cards button", has_text="LPC").first.click()
    expect(page.locator(".verdict")).to_contain_text("calibrated probability")
    expect(page.locator(".cards")).to_be_hidden()
    expect(page.get_by_role("combobox", name="Sample")).to_contain_text("LPC")
    wait_for_map(page)


def test_a_link_opens_a_sample(page: Page) -> None:
    page.goto("/audio?sample=speech-lpc")
    expect(page.locator(".verdict .name")).to_contain_text("LPC")
    wait_for_all(page)
    page.goto("/audio?sample=nothing")
    expect(page.get_by_role("alert")).to_contain_text("no sample «nothing»")


def test_the_keyboard_reaches_sample_and_maps(page: Page) -> None:
    open_page(page)
    page.locator(".cards button").first.focus()
    page.keyboard.press("Enter")
    expect(page.locator(".verdict")).to_contain_text("calibrated probability")
    expect(page.locator(".cards")).to_be_hidden()
    wait_for_all(page)
    page.locator(".maps input:checked").focus()
    page.keyboard.press("ArrowDown")
    expect(map_row(page, "LayerCAM")).to_have_class(re.compile("bold"))
    expect(page.get_by_text("LayerCAM [logit]")).to_be_visible()


def test_zooming_reads_the_recording_again(page: Page) -> None:
    open_page(page)
    pick(page, "LPC")
    wait_for_map(page)
    area = frames(page)["picture"]
    page.mouse.move(*point(area, 0.5, 0.5))
    for _ in range(4):
        page.mouse.wheel(0, -240)
        page.wait_for_timeout(100)
    zoomed = frames(page)
    span = zoomed["picture"]["end"] - zoomed["picture"]["start"]
    assert span < 0.7 * area["end"] and zoomed["profile"]["start"] == zoomed["picture"]["start"]
    page.wait_for_function(
        """([start, end]) => Bokeh.index.all_views().some((view) => view.model.name === "picture"
             && view.model.renderers[0].data_source.data.dw[0] <= 1.05 * (end - start))""",
        arg=[zoomed["picture"]["start"], zoomed["picture"]["end"]],
    )
    page.mouse.dblclick(*point(area, 0.5, 0.5))
    page.wait_for_timeout(500)
    assert frames(page)["picture"]["end"] == pytest.approx(area["end"])
