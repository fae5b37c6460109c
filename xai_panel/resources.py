"""Where the package finds its files: trained weights with their cards, sample signals, pages, added classifiers."""

from __future__ import annotations

import os
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def _resource(name: str) -> Path:
    """Folder `name`, from the wheel (`xai_panel/_<name>`) or from the checkout beside the package."""
    for folder in (_PACKAGE / f"_{name}", _PACKAGE.parent / name):
        if folder.is_dir():
            return folder
    raise FileNotFoundError(f"xai_panel was installed without its folder «{name}»; install the wheel or checkout again")


def weights_dir() -> Path:
    """Folder with one weights file and one card (TOML) per classifier."""
    return _resource("weights")


def own_models_dir() -> Path:
    """Folder with the classifiers that were added: below `$XAI_PANEL_HOME`, else the platform's folder for data."""
    configured = os.environ.get("XAI_PANEL_HOME")
    if configured:
        return Path(configured).expanduser() / "models"
    import platformdirs

    return Path(platformdirs.user_data_dir("xai_panel", appauthor=False)) / "models"


def assets_dir() -> Path:
    """Folder with generated sample signals, icons and style sheets."""
    return _resource("assets")


def apps_dir() -> Path:
    """Folder with the pages that `panel serve` serves."""
    return _resource("apps")
