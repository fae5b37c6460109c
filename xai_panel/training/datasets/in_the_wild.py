"""In-the-Wild: Müller et al. 2022, «Does Audio Deepfake Detection Generalize?», Interspeech; deepfake-total.com.

`release_in_the_wild/meta.csv` (file, speaker, label) beside `0.wav`, `1.wav`, …: 58 public figures, bona fide and
spoofed. The generators are not known; no split was published, so parts are drawn by speaker.
"""

from __future__ import annotations

from pathlib import Path

from xai_panel.training.splits import part_of

from .base import AUDIO, BONA_FIDE, SPOOF, Item, Layout, below, named, table

_LABELS = {"bona-fide": BONA_FIDE, "spoof": SPOOF}


def _find(folder: Path) -> Path | None:
    return below(folder, ["release_in_the_wild"], lambda place: (place / "meta.csv").is_file())


def _read(root: Path, seed: int) -> list[Item]:
    path = root / "meta.csv"
    items = []
    for row in table(path, ["file", "speaker", "label"]):
        label = named(f"{path}, {row['file']}", row["label"], _LABELS)
        generator = "not named" if label == SPOOF else ""
        speaker = row["speaker"]
        items.append(Item(root / row["file"], label, speaker, part_of(speaker, seed), "In-the-Wild", generator))
    return items


LAYOUT = Layout(
    "in-the-wild",
    AUDIO,
    "release_in_the_wild/meta.csv and the recordings beside it",
    _find,
    _read,
    "Müller et al. 2022, Interspeech; deepfake-total.com/in_the_wild",
)
