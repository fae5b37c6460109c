"""Chest radiographs of children: Kermany, Zhang & Goldbaum 2018, Mendeley Data, doi:10.17632/rscbjbr9sj (CC-BY-4.0).

`chest_xray/{train,test,val}/{NORMAL,PNEUMONIA}/`; the Mendeley archive has no `val`. Paper: Kermany et al. 2018,
«Identifying Medical Diagnoses and Treatable Diseases by Image-Based Deep Learning», Cell 172(5). The numbers of
bacterial and viral patients overlap, between train and test too; equal numbers are taken for one patient, to be safe.
"""

from __future__ import annotations

import re
from pathlib import Path

from .base import HELD_OUT, RADIOGRAPH, TRAIN, VALIDATION, DatasetError, Item, Layout, named, signals

_PARTS = {"train": TRAIN, "val": VALIDATION, "test": HELD_OUT}
_LABELS = {"NORMAL": "normal", "PNEUMONIA": "pneumonia"}
_NAMES = (  # the first two of versions 1 and 2, the last of version 3
    re.compile(r"(?P<patient>person\d+)_(?P<cause>bacteria|virus)_\d+"),
    re.compile(r"(?P<patient>(?:NORMAL2-)?IM-\d+)-\d+"),
    re.compile(r"(?P<patient>(?P<cause>BACTERIA|VIRUS|NORMAL)-\d+)-\d+"),
)


def _find(folder: Path) -> Path | None:
    for place in (folder, folder / "chest_xray", folder / "ChestXRay2017" / "chest_xray"):
        if any((place / part / name).is_dir() for part in _PARTS for name in _LABELS):
            return place
    return None


def _patient(path: Path) -> tuple[str, str]:
    """Patient and cause ("" for normal) from a file's name."""
    for pattern in _NAMES:
        if match := pattern.match(path.stem):
            cause = (match.groupdict().get("cause") or "").lower()
            return match["patient"], "" if cause == "normal" else cause
    raise DatasetError(
        path,
        "no patient in the file's name",
        "a name like person9_bacteria_41, IM-0005-0001, NORMAL2-IM-0041-0001 or VIRUS-1003233-0001",
        "keep the published names, or give the images as one folder per class",
    )


def _read(root: Path, seed: int) -> list[Item]:
    items = []
    for part in _PARTS:
        for folder in sorted(path for path in (root / part).glob("[!.]*") if path.is_dir()):
            label = named(folder, folder.name, _LABELS)
            for path in signals(folder, RADIOGRAPH):
                patient, cause = _patient(path)
                extra = {"cause": cause} if cause else {}
                items.append(Item(path, label, patient, _PARTS[part], "Kermany", extra=extra))
    return items


LAYOUT = Layout(
    "kermany",
    RADIOGRAPH,
    "chest_xray/train/{NORMAL,PNEUMONIA}/, and test/ and val/ alike",
    _find,
    _read,
    "Kermany et al. 2018, Cell 172(5); doi:10.17632/rscbjbr9sj",
)
