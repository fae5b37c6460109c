"""The small public samples that the shipped weights were trained on: a table of labels beside each folder of files.

`speech/manifest.csv`: LibriSpeech (Panayotov et al. 2015) and, for testing only, other corpora and published
deepfakes. `chest_xray_children/labels.csv`: Kermany et al. 2018. `chest_xray_adults/labels.csv`: NIH ChestX-ray8 (Wang
et al. 2017) with the classes of the RSNA challenge (Shih et al. 2019).
"""

from __future__ import annotations

import json
from pathlib import Path

from xai_panel.training.splits import part_of

from . import nih
from .base import AUDIO, BONA_FIDE, HELD_OUT, RADIOGRAPH, SPOOF, Item, Layout, below, named, table
from .rsna import LABELS

TRAINED_CORPUS = "LibriSpeech"


def speaker_of(corpus: str, utterance: str) -> str:
    """Speaker of an utterance; LibriTTS and LibriSpeech share their numbers."""
    if corpus in ("LibriSpeech", "LibriTTS"):
        return "libri-" + utterance.replace("_", "-").split("-")[0]
    return "LJ" if corpus == "LJSpeech" else utterance[:7]


def _speech(root: Path, seed: int) -> list[Item]:
    items = []
    path = root / "manifest.csv"
    for row in table(path, ["file", "label", "system", "corpus", "utterance", "licence"]):
        label = named(f"{path}, {row['file']}", row["label"], {"bonafide": BONA_FIDE, "spoof": SPOOF})
        speaker = speaker_of(row["corpus"], row["utterance"])
        part = part_of(speaker, seed) if row["corpus"] == TRAINED_CORPUS else HELD_OUT
        extra = {"utterance": row["utterance"], "licence": row["licence"]}
        generator = row["system"] if label == SPOOF else ""
        items.append(Item(root / row["file"], label, speaker, part, row["corpus"], generator, extra=extra))
    return items


def _children(root: Path, seed: int) -> list[Item]:
    items = []
    path = root / "labels.csv"
    for row in table(path, ["image", "label", "cause", "patient"]):
        label = named(f"{path}, {row['image']}", row["label"], {"normal": "normal", "pneumonia": "pneumonia"})
        extra = {"cause": row["cause"]} if row["cause"] else {}
        part = part_of(row["patient"], seed)
        items.append(Item(root / "images" / row["image"], label, row["patient"], part, "Kermany", extra=extra))
    return items


def _adults(root: Path, seed: int) -> list[Item]:
    items = []
    path = root / "labels.csv"
    columns = ["image", "nih_labels", "patient_id", "age", "sex", "view", "rsna_class", "rsna_boxes_xywh_1024"]
    for row in table(path, columns):
        place = f"{path}, {row['image']}"
        label = named(place, row["rsna_class"], {"": "", **LABELS})
        extra = {"view": row["view"], "age": row["age"], "sex": row["sex"]}
        if row["rsna_boxes_xywh_1024"]:
            extra["boxes"] = tuple(tuple(box) for box in json.loads(row["rsna_boxes_xywh_1024"]))
        known = nih.findings(place, row["nih_labels"])
        group = nih.patient(row["patient_id"])
        image = root / "images" / row["image"]
        part = part_of(group, seed)
        items.append(Item(image, label, group, part, "NIH ChestX-ray8", findings=known, extra=extra))
    return items


def _finder(name: str, file: str):
    """Finds `file` in the folder itself, when that has the set's name, or in the folder `name` below it."""
    return lambda folder: below(
        folder, [name], lambda place: place.absolute().name == name and (place / file).is_file()
    )


SPEECH = Layout(
    "speech", AUDIO, "speech/manifest.csv", _finder("speech", "manifest.csv"), _speech, "Panayotov et al. 2015, ICASSP"
)
CHILDREN = Layout(
    "chest-xray-children",
    RADIOGRAPH,
    "chest_xray_children/labels.csv and images/",
    _finder("chest_xray_children", "labels.csv"),
    _children,
    "Kermany et al. 2018; doi:10.17632/rscbjbr9sj.2",
)
ADULTS = Layout(
    "chest-xray-adults",
    RADIOGRAPH,
    "chest_xray_adults/labels.csv and images/",
    _finder("chest_xray_adults", "labels.csv"),
    _adults,
    "Wang et al. 2017, CVPR; Shih et al. 2019, Radiology: AI 1(1):e180041",
)
