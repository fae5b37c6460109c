"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session", autouse=True)
def own_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tests keep their maps and classifiers apart from the person's own, and from those of earlier runs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XAI_PANEL_HOME", str(tmp_path_factory.mktemp("home")))
        patch.setenv("XAI_PANEL_CACHE", str(tmp_path_factory.mktemp("store")))
        yield


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder with real recordings and radiographs: $XAI_PANEL_DATA, or `shared/data` beside the checkout."""
    folder = Path(os.environ.get("XAI_PANEL_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"real data not found at {folder}; set XAI_PANEL_DATA to run this test")
    return folder
