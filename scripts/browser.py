"""Find a Chromium or Chrome for the browser tests, or install one, and print its path.

An installed browser is used as it is. Otherwise Playwright installs its own, and where that cannot be had and the user
is root on a Debian system, apt does.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")
BUNDLES = (
    Path("/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"),
    Path("/Applications/Chromium.app/Contents/MacOS/Chromium"),
)


def find() -> str | None:
    """Path of a browser that is there, or None."""
    for name in NAMES:
        path = shutil.which(name)
        if path:
            return path
    for bundle in BUNDLES:
        if bundle.exists():
            return str(bundle)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        path = playwright.chromium.executable_path
    return path if Path(path).exists() else None


def install() -> str:
    """Install a browser and return its path; exits with a message when there is no way."""
    subprocess.run([sys.executable, "-m", "playwright", "install", "chromium"], check=False)
    path = find()
    if path is None and shutil.which("apt-get") and os.geteuid() == 0:
        subprocess.run(["apt-get", "update", "-qq"], check=True)
        subprocess.run(["apt-get", "install", "-y", "-qq", "chromium"], check=True)
        path = find()
    if path is None:
        sys.exit("no Chromium or Chrome found, and none could be installed: install one and run again")
    return path


if __name__ == "__main__":
    print(find() or install())
