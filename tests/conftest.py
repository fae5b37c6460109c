"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder with real recordings and radiographs: $XAI_PANEL_DATA, or `shared/data` beside the checkout."""
    folder = Path(os.environ.get("XAI_PANEL_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"real data not found at {folder}; set XAI_PANEL_DATA to run this test")
    return folder
