"""The maps of a radiograph as thumbnails: which are ready, which are on their way, which one is laid over."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import param
from panel.custom import JSComponent

from xai_panel.views.maps import Results, map_values, style_of, thumbnail
from xai_panel.views.palettes import method_style
from xai_panel.views.widgets import css

_JS = Path(__file__).parent / "js"


class MapThumbnails(JSComponent):
    """All maps, small, over their picture. `value`: id of the chosen one, empty before the first is ready."""

    entries = param.List(default=[], doc="[{id, title, color, dash, image: data URI or empty, note, help}].")
    value = param.String(default="")
    heading = param.String(default="Map over the radiograph")
    placeholder = param.String(default="Maps appear here as they are ready.")

    _esm = _JS / "map_thumbnails.js"
    _stylesheets: ClassVar[list[str]] = [css("inputs"), css("map_thumbnails")]


def thumbnail_entries(results: Results) -> list[dict[str, Any]]:
    """`MapThumbnails.entries` of the maps that are ready, in their order."""
    entries = []
    for id, explanation in results.items():
        style = style_of(explanation)
        color, dash = method_style(id)
        image = thumbnail(explanation["input"].values, style, map_values(explanation))
        entries.append(
            {
                "id": id,
                "title": style.title,
                "color": color,
                "dash": dash,
                "image": image,
                "note": "",
                "help": style.title,
            }
        )
    return entries


def waiting_entries(ids: list[str]) -> list[dict[str, Any]]:
    """`MapThumbnails.entries` of maps that are still being made."""
    from xai_panel.methods import get

    entries = []
    for id in ids:
        color, dash = method_style(id)
        title = get(id).title
        entries.append(
            {"id": id, "title": title, "color": color, "dash": dash, "image": "", "note": "…", "help": title}
        )
    return entries
