"""Seconds that a person waits in the browser: python benchmarks/pages.py

A server of its own with an empty store, and a headless Chromium. «Page» ends when the page can be used, after a first
visit; «first map» is the time from the click on a generated sample to the frame in which its first map stands on the
screen, by the browser's own clock. Every sample is picked once with an empty store and once more when its maps are
stored. Medians and the slowest.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

from playwright.sync_api import Browser, sync_playwright

# Looks once a frame, through all shadow roots: a map is ready, and the gray picture has become colored.
WATCH = """() => {
  const find = (root, what) => [...root.querySelectorAll(what)].concat(
    [...root.querySelectorAll("*")].flatMap(e => e.shadowRoot ? find(e.shadowRoot, what) : []))
  const small = new OffscreenCanvas(32, 32).getContext("2d", {willReadFrequently: true})
  const colored = canvas => {
    small.clearRect(0, 0, 32, 32)
    small.drawImage(canvas, 0, 0, 32, 32)
    const rgba = small.getImageData(0, 0, 32, 32).data
    let count = 0
    for (let k = 0; k < rgba.length; k += 4) {
      const [r, g, b] = rgba.subarray(k, k + 3)
      count += Math.max(r, g, b) - Math.min(r, g, b) > 40
    }
    return count > 50
  }
  const shown = () => find(document, ".maps .row.ready, .thumbnails img").length > 0
    && find(document, "canvas").some(canvas => canvas.clientHeight > 200 && colored(canvas))
  window.firstMap = new Promise(done => addEventListener("click", click => {
    const look = () => requestAnimationFrame(now => shown() ? done((now - click.timeStamp) / 1000) : look())
    look()
  }, {capture: true, once: true}))
}"""
PAGES = {"audio": "audio", "xray": "radiograph"}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(url: str, seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.2)
    raise SystemExit(f"no answer from {url} within {seconds:.0f} s")


def visit(browser: Browser, url: str, sample: str | None) -> tuple[float, float]:
    """Seconds until the page can be used and from the pick to the first map (0 when nothing is picked)."""
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    page = context.new_page()
    page.set_default_timeout(120_000)
    began = time.perf_counter()
    page.goto(url)
    page.locator(".cards button").first.wait_for(state="visible")
    loaded = time.perf_counter() - began
    seconds = 0.0
    if sample is not None:
        page.wait_for_timeout(1000)  # a person looks before choosing
        card = page.locator(".cards button").filter(has_text=sample).first
        page.evaluate(WATCH)
        card.click()
        seconds = page.evaluate("window.firstMap")
        page.get_by_text("maps ready").first.wait_for(state="visible")
    context.close()
    return loaded, seconds


def main() -> None:
    """Print the table."""
    from xai_panel.signals.synthetic import samples

    port = free_port()
    address = f"http://localhost:{port}"
    command = [sys.executable, "-m", "xai_panel", "serve", "--port", str(port)]
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        environment = {**os.environ, "XAI_PANEL_CACHE": folder}
        server = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            wait_for(address)
            chromium = shutil.which("chromium") or shutil.which("google-chrome")
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
            print(f"{'page':8}{'what':34}{'median s':>10}{'slowest s':>11}{'runs':>6}")
            for name, modality in PAGES.items():
                titles = [sample.title for sample in samples() if sample.modality == modality]
                visit(browser, f"{address}/{name}", None)
                cold = [visit(browser, f"{address}/{name}", title) for title in titles]
                warm = [visit(browser, f"{address}/{name}", title) for title in titles]
                rows = {
                    "page, warm": [loaded for loaded, _ in cold + warm],
                    "pick to first map, empty store": [seconds for _, seconds in cold],
                    "pick to first map, map stored": [seconds for _, seconds in warm],
                }
                for what, values in rows.items():
                    print(f"{name:8}{what:34}{statistics.median(values):>10.2f}{max(values):>11.2f}{len(values):>6}")
            browser.close()
        finally:
            server.send_signal(signal.SIGINT)
            server.wait(30)


if __name__ == "__main__":
    main()
