"""A real server, `panel serve apps/*.py`, and a real Chromium for the browser tests."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Playwright, Request, expect, sync_playwright

ROOT = Path(__file__).resolve().parents[2]
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--no-sandbox",  # tests run as root in containers
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--mute-audio",
    "--autoplay-policy=no-user-gesture-required",
)
READY_SECONDS = 60.0
WAIT_MS = 60_000  # of a step in a page; machines that run tests are busy

expect.set_options(timeout=WAIT_MS)


@dataclass(frozen=True)
class Server:
    """Where the server listens, and the file that it logs to."""

    url: str
    log: Path

    def written(self) -> str:
        """Everything logged so far."""
        return self.log.read_text(encoding="utf-8", errors="replace")


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """`panel serve apps/*.py` on a free port with an empty store; ended by its own process id."""
    folder = tmp_path_factory.mktemp("server")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    apps = sorted(str(path) for path in (ROOT / "apps").glob("*.py"))
    command = [sys.executable, "-m", "panel", "serve", *apps, "--port", str(port), "--address", "127.0.0.1"]
    command += ["--allow-websocket-origin", f"127.0.0.1:{port}"]
    running = Server(f"http://127.0.0.1:{port}", folder / "server.log")
    with running.log.open("wb") as log:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "XAI_PANEL_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "2"},
        )
        try:
            _wait_until_ready(running, process)
            yield running
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_until_ready(server: Server, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + READY_SECONDS
    while time.monotonic() < end:
        if process.poll() is not None:
            pytest.fail(f"the server ended with code {process.returncode}:\n{server.written()}")
        try:
            with urllib.request.urlopen(server.url, timeout=2):
                return
        except (urllib.error.URLError, TimeoutError, ConnectionError):
            time.sleep(0.2)
    pytest.fail(f"the server did not answer within {READY_SECONDS:.0f} s:\n{server.written()}")


@pytest.fixture(scope="session")
def playwright() -> Iterator[Playwright]:
    with sync_playwright() as running:
        yield running


@pytest.fixture(scope="session")
def chromium(playwright: Playwright) -> Iterator[Browser]:
    """The installed Chromium or Chrome, else the one that Playwright installed."""
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    browser = playwright.chromium.launch(executable_path=found, args=list(FLAGS))
    yield browser
    browser.close()


# What is no fault of the pages, each with its reason.
TOLERATED: tuple[str, ...] = ()  # in the browser's console: nothing
TOLERATED_ERRORS = (  # in the server's log
    "tornado.websocket.WebSocketClosedError",  # the browser left while something was being sent to it
    "tornado.iostream.StreamClosedError",  # the cause of the one above
)


def server_faults(logged: str) -> list[str]:
    """The log, when it has an error that is not tolerated."""
    errors = re.findall(r"^([\w.]+(?:Error|Exception|Interrupt))\b", logged, re.MULTILINE)
    return [f"server: {logged}"] if set(errors) - set(TOLERATED_ERRORS) else []


@pytest.fixture
def page(chromium: Browser, server: Server) -> Iterator[Page]:
    """A page of 1440×900. The test fails when it logs an error or asks another host, or the server logs a traceback."""
    context = chromium.new_context(viewport={"width": 1440, "height": 900}, base_url=server.url)
    opened = context.new_page()
    opened.set_default_timeout(WAIT_MS)
    faults: list[str] = []

    def console(message: ConsoleMessage) -> None:
        if message.type == "error" and not any(text in message.text for text in TOLERATED):
            faults.append(f"console: {message.text}")

    def request(asked: Request) -> None:
        address = urlsplit(asked.url)
        if address.scheme in ("http", "https", "ws", "wss") and address.netloc != urlsplit(server.url).netloc:
            faults.append(f"request to another host: {asked.url}")

    opened.on("console", console)
    opened.on("pageerror", lambda error: faults.append(f"uncaught: {error}"))
    opened.on("request", request)
    before = len(server.written())
    yield opened
    context.close()
    faults += server_faults(server.written()[before:])
    assert not faults, "\n".join(faults)
