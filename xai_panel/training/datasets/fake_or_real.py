"""Fake-or-Real: Reimao & Tzerpos 2019, «FoR: A Dataset for Synthetic Speech Detection», SpeD.

`for-norm/{training,validation,testing}/{real,fake}/`, and for-original, for-2sec and for-rerec alike. The variants are
treatments of the same recordings, so one of them is read at a time. Speakers and generators are not published: each
recording (`file1000` in `file1000.wav_16k.wav_norm.wav…`) is a group of its own.
"""

from __future__ import annotations

from pathlib import Path

from .base import AUDIO, BONA_FIDE, HELD_OUT, SPOOF, TRAIN, VALIDATION, DatasetError, Item, Layout, named, signals

VARIANTS = {
    "for-norm": "norm",
    "for-original": "original",
    "for-2sec": "2sec",
    "for-2seconds": "2sec",
    "for-rerec": "rerec",
    "for-rerecorded": "rerec",
}
_PARTS = {"training": TRAIN, "validation": VALIDATION, "testing": HELD_OUT}
_LABELS = {"real": BONA_FIDE, "fake": SPOOF}


def _is_variant(folder: Path) -> bool:
    return any((folder / part / name).is_dir() for part in _PARTS for name in _LABELS)


def _variants(folder: Path) -> list[Path]:
    """Folders of variants: the folder itself, or those below it; archives pack for-2sec/for-2seconds/training/…."""
    if _is_variant(folder):
        return [folder]
    outer = [folder / name for name in VARIANTS] + [folder]
    inner = {place / name for place in outer for name in VARIANTS}
    return sorted(place for place in inner if _is_variant(place))


def _find(folder: Path) -> Path | None:
    return folder if _variants(folder) else None


def _read(root: Path, seed: int) -> list[Item]:
    variants = _variants(root)
    if len(variants) > 1:
        raise DatasetError(
            root,
            f"several variants of the same recordings ({', '.join(path.name for path in variants)})",
            "one variant",
            "give the folder of the one that you want",
        )
    items = []
    for part in _PARTS:
        for folder in sorted(path for path in (variants[0] / part).glob("[!.]*") if path.is_dir()):
            label = named(folder, folder.name, _LABELS)
            for path in signals(folder, AUDIO):
                group = f"{part}/{folder.name}/{path.name.split('.')[0]}"
                generator = "text-to-speech (not named)" if label == SPOOF else ""
                extra = {"variant": VARIANTS.get(variants[0].name, variants[0].name)}
                items.append(Item(path, label, group, _PARTS[part], "Fake-or-Real", generator, extra=extra))
    return items


LAYOUT = Layout(
    "fake-or-real",
    AUDIO,
    "for-norm/training/{real,fake}/, and validation/ and testing/ alike (or for-original, for-2sec, for-rerec)",
    _find,
    _read,
    "Reimao & Tzerpos 2019, SpeD; bil.eecs.yorku.ca/datasets",
)
