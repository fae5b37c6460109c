"""Any data as one folder per class: `normal/`, `pneumonia/`, or `train/normal/`, `test/normal/` and so on.

The folder's name is the label. A folder below a class is a group (speaker, patient) by its name; a file that lies in
the class itself is a group of its own.
"""

from __future__ import annotations

from pathlib import Path

from xai_panel.training.splits import part_of

from .base import AUDIO, HELD_OUT, RADIOGRAPH, SUFFIXES, TRAIN, VALIDATION, DatasetError, Item, Layout, signals

_PARTS = {
    "train": TRAIN,
    "training": TRAIN,
    "val": VALIDATION,
    "valid": VALIDATION,
    "validation": VALIDATION,
    "test": HELD_OUT,
    "testing": HELD_OUT,
}


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("[!.]*") if path.is_dir())


def _classes(folder: Path) -> list[tuple[Path, str | None]]:
    """Folders of classes, each with its part where the layout has parts."""
    parts = [path for path in _folders(folder) if path.name.lower() in _PARTS]
    if parts:
        return [(path, _PARTS[part.name.lower()]) for part in parts for path in _folders(part)]
    return [(path, None) for path in _folders(folder)]


def _find(folder: Path) -> Path | None:
    return folder if len({path.name for path, _ in _classes(folder) if signals(path)}) > 1 else None


def _read(root: Path, seed: int) -> list[Item]:
    items = []
    for folder, part in _classes(root):
        for path in signals(folder):
            inside = path.relative_to(folder).parts
            group = inside[0] if len(inside) > 1 else f"{part or ''}/{folder.name}/{path.name}".lstrip("/")
            items.append(Item(path, folder.name, group, part or part_of(group, seed), root.resolve().name))
    kinds = {modality for modality, suffixes in SUFFIXES.items() for i in items if i.path.suffix.lower() in suffixes}
    if len(kinds) > 1:
        raise DatasetError(root, "recordings and radiographs", "one of them", "give each a folder of its own")
    return items


LAYOUT = Layout(
    "folder-per-class",
    f"{AUDIO} or {RADIOGRAPH}",
    "two or more folders, one per class, with recordings or radiographs in them (below train/, val/, test/ or not)",
    _find,
    _read,
    "",
)
