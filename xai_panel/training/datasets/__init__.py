"""Readers for data sets as they were published: a folder in, items with label, group and part out.

`read(folder)` finds out what the folder is, or takes `layout=` by name. Parts are the publisher's where there are any,
and drawn by group where there are none; no group is ever in two of them.
"""

from __future__ import annotations

from inspect import signature
from pathlib import Path
from typing import Any

from . import asvspoof, chexpert, collected, fake_or_real, folders, in_the_wild, kermany, nih, rsna, wavefake
from .base import UNUSED, DatasetError, Item, Layout, checked

__all__ = ["LAYOUTS", "UNUSED", "DatasetError", "Item", "Layout", "detect", "read"]

LAYOUTS: dict[str, Layout] = {
    layout.id: layout
    for layout in (
        fake_or_real.LAYOUT,
        asvspoof.LAYOUT_2019,
        asvspoof.LAYOUT_2021,
        wavefake.LAYOUT,
        in_the_wild.LAYOUT,
        chexpert.LAYOUT,
        nih.LAYOUT,
        kermany.LAYOUT,
        rsna.LAYOUT,
        collected.SPEECH,
        collected.CHILDREN,
        collected.ADULTS,
        folders.LAYOUT,
    )
}


def detect(folder: str | Path) -> Layout:
    """Which published layout a folder has; one folder per class when it has none of the others.

    Raises `DatasetError` when there is no such folder, when no layout fits (with what was looked for), and when several
    fit.
    """
    folder = Path(folder)
    _is_there(folder)
    published = [layout for layout in LAYOUTS.values() if layout is not folders.LAYOUT and layout.find(folder)]
    if len(published) > 1:
        names = ", ".join(layout.id for layout in published)
        raise DatasetError(folder, f"several data sets ({names})", "one", "name its layout, or give its own folder")
    if published:
        return published[0]
    if folders.LAYOUT.find(folder):
        return folders.LAYOUT
    looked_for = "\n".join(f"  {layout.id}: {layout.looks_for}" for layout in LAYOUTS.values())
    raise DatasetError(folder, "no data set", "one of these layouts", f"give the folder that has\n{looked_for}")


def read(folder: str | Path, layout: str | None = None, *, seed: int = 0, **options: Any) -> list[Item]:
    """All items of a data set.

    Parameters
    ----------
    folder: the data set's own folder, or the one that it was unpacked in
    layout: a name in `LAYOUTS`; found out when not given
    seed: draws the parts of groups that have none of the publisher's
    options: what the layout's reader asks for

    Raises
    ------
    DatasetError: no such layout there; a table, column, file or label that is missing or unknown, named.
    """
    folder = Path(folder)
    _is_there(folder)
    if layout is not None and layout not in LAYOUTS:
        raise DatasetError(folder, f"no layout {layout!r}", ", ".join(LAYOUTS), "choose one of them")
    chosen = LAYOUTS[layout] if layout is not None else detect(folder)
    root = chosen.find(folder)
    if root is None:
        raise DatasetError(folder, f"not the layout of {chosen.id}", chosen.looks_for, "give the folder that has them")
    taken = list(signature(chosen.read).parameters)[2:]
    if unknown := sorted(set(options) - set(taken)):
        raise DatasetError(
            folder, f"option {unknown[0]!r} for {chosen.id}", ", ".join(taken) or "no options", "leave it out"
        )
    return checked(root, chosen.read(root, seed, **options), seed)


def _is_there(folder: Path) -> None:
    if not folder.is_dir():
        raise DatasetError(folder, "there is no such folder", "the folder of a data set", "check the path")
