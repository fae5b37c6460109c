"""RSNA Pneumonia Detection Challenge 2018: Shih et al. 2019, Radiology: Artificial Intelligence 1(1):e180041.

`stage_2_train_labels.csv` (one row per box), `stage_2_detailed_class_info.csv` and `stage_2_train_images/*.dcm`. What
the challenge calls patientId is one image; images come from the NIH's 30 805 patients, whom the mapping file of RSNA
(`pneumonia-challenge-dataset-mappings_2018.json`) names: with it beside the tables, groups are real patients.
"""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

from xai_panel.training.splits import part_of

from . import nih
from .base import RADIOGRAPH, DatasetError, Item, Layout, named, table

LABELS = {
    "Normal": "normal",
    "Lung Opacity": "lung opacity",
    "No Lung Opacity / Not Normal": "no lung opacity / not normal",
}
_BOXES, _CLASSES = "stage_2_train_labels.csv", "stage_2_detailed_class_info.csv"
_MAPPING = "pneumonia-challenge-dataset-mappings_2018.json"


def _find(folder: Path) -> Path | None:
    return folder if (folder / _BOXES).is_file() or (folder / _CLASSES).is_file() else None


def _patients(path: Path) -> dict[str, str]:
    """NIH patient of each image of the challenge, as far as the mapping file tells."""
    if not path.is_file():
        return {}
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        return {row["subset_img_id"]: nih.patient(row["img_id"].split("_")[0]) for row in rows}
    except (ValueError, KeyError, TypeError) as error:
        raise DatasetError(
            path, f"not the mapping ({error!r})", "a list with img_id and subset_img_id", "download it again"
        ) from error


def _read(root: Path, seed: int) -> list[Item]:
    classes = {
        row["patientId"]: named(f"{root / _CLASSES}, {row['patientId']}", row["class"], LABELS)
        for row in table(root / _CLASSES, ["patientId", "class"])
    }
    boxes: dict[str, list[tuple[float, ...]]] = defaultdict(list)
    for row in table(root / _BOXES, ["patientId", "x", "y", "width", "height", "Target"]):
        place = f"{root / _BOXES}, {row['patientId']}"
        if row["patientId"] not in classes:
            raise DatasetError(place, f"not in {_CLASSES}", "the same images in both tables", "download both again")
        found = boxes[row["patientId"]]
        if named(place, row["Target"], {"0": "", "1": "box"}):
            try:
                found.append(tuple(float(row[side]) for side in ("x", "y", "width", "height")))
            except ValueError as error:
                raise DatasetError(
                    place, f"an incomplete box ({error})", "x, y, width, height", "download it again"
                ) from error
    patients = _patients(root / _MAPPING)
    items = []
    for id, found in boxes.items():
        group = patients.get(id, id)
        path = root / "stage_2_train_images" / f"{id}.dcm"
        extra = {"boxes": tuple(found)} if found else {}
        items.append(Item(path, classes[id], group, part_of(group, seed), "RSNA", extra=extra))
    return items


LAYOUT = Layout(
    "rsna-pneumonia",
    RADIOGRAPH,
    f"{_BOXES}, {_CLASSES} and stage_2_train_images/",
    _find,
    _read,
    "Shih et al. 2019, Radiology: AI 1(1):e180041; kaggle.com/c/rsna-pneumonia-detection-challenge",
)
