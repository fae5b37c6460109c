"""The Images page in a real Chromium: empty, then with an added classifier; colors, map, cursor."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from playwright.sync_api import Page, expect

import xai_panel as xp
from xai_panel.models.architectures import build

pytestmark = pytest.mark.browser

CARD = """
id = "pets"
title = "Pets"
summary = "An untrained network for the tests of the page."
modality = "image"
framework = "torch"
architecture = "torchvision:squeezenet1_1"
labels = ["cat", "dog"]
weights = "pets.pth"
[frontend]
kind = "image"
resize_size = 72
crop_size = 64
"""


@pytest.fixture
def pets(tmp_path: Path) -> Iterator[None]:
    """An added classifier, in the folder that the server looks into."""
    assert os.environ["XAI_PANEL_HOME"]
    torch.manual_seed(0)
    torch.save(build("torchvision:squeezenet1_1", 2).state_dict(), tmp_path / "pets.pth")
    (tmp_path / "card.toml").write_text(CARD, encoding="utf-8")
    xp.add_model(tmp_path / "card.toml")
    yield
    xp.remove_model("pets")


def test_the_empty_page_says_how_to_add_a_classifier(page: Page) -> None:
    page.goto("/xray")
    expect(page.locator("nav a", has_text="X-ray")).to_be_visible()
    expect(page.locator("nav a", has_text="Images")).to_have_count(0)
    page.goto("/images")
    expect(page.locator(".verdict")).to_contain_text("xai-panel models add card.toml")
    expect(page.locator(".cards button")).to_have_count(0)


@pytest.mark.usefixtures("pets")
def test_an_image_is_explained_in_its_colors(page: Page) -> None:
    page.goto("/images")
    expect(page.locator("nav a", has_text="Images")).to_be_visible()
    page.locator(".cards button", has_text="A red disc").click()
    expect(page.locator(".verdict")).to_contain_text("calibrated probability")
    expect(page.get_by_text(re.compile(r"^\d+ maps? ready$"))).to_be_visible()
    expect(page.get_by_role("radio", name="Grad-CAM", exact=True)).to_be_checked()
    place = page.evaluate("""() => {
      const view = [...Bokeh.index.all_views()].find((view) => view.frame && view.model.name === "radiograph")
      const box = view.el.getBoundingClientRect(), {x_scale, y_scale} = view.frame
      return {x: box.left + x_scale.compute(232), y: box.top + y_scale.compute(158)}
    }""")
    page.mouse.move(place["x"], place["y"])  # the middle of the disc
    line = page.get_by_text(re.compile(r"R \d+\s+G \d+\s+B \d+"))
    expect(line).to_be_visible()
    red, green, blue = map(int, re.findall(r"[RGB] (\d+)", line.inner_text()))
    assert red > 170 and green < 70 and blue < 70
    expect(line).to_contain_text("Grad-CAM")


@pytest.mark.usefixtures("pets")
def test_an_image_is_compared_over_gray(page: Page) -> None:
    page.goto("/compare")
    page.locator(".cards button", has_text="A red disc").click()
    expect(page.locator(".verdict").first).to_contain_text("calibrated probability")
    expect(page.get_by_text(re.compile(r"^\d+ maps? ready$"))).to_be_visible()
