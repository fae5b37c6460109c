"""Classifiers: cards, front ends, backends. `xai_panel.models()` lists the cards."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xai_panel._callable import make_callable

if TYPE_CHECKING:
    from xai_panel.models.card import Card


def _call() -> list[Card]:
    """Cards of all classifiers, audio first."""
    from xai_panel.models.registry import models

    return models()


make_callable(__name__)
