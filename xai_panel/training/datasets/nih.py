"""NIH ChestX-ray14: Wang et al. 2017, «ChestX-ray8», CVPR; nihcc.app.box.com/v/ChestXray-NIHCC.

`Data_Entry_2017.csv` (or `Data_Entry_2017_v2020.csv`), `train_val_list.txt`, `test_list.txt`, and the images in
`images/` or, as Kaggle unpacks them, `images_001/images/` and so on. The lists keep patients apart; findings were mined
from the reports' text: what a report does not mention counts as absent.
"""

from __future__ import annotations

from pathlib import Path

from .base import HELD_OUT, RADIOGRAPH, TRAIN, DatasetError, Item, Layout, table

FINDINGS = (
    "Atelectasis",
    "Cardiomegaly",
    "Effusion",
    "Infiltration",
    "Mass",
    "Nodule",
    "Pneumonia",
    "Pneumothorax",
    "Consolidation",
    "Edema",
    "Emphysema",
    "Fibrosis",
    "Pleural_Thickening",
    "Hernia",
)
_TABLES = ("Data_Entry_2017.csv", "Data_Entry_2017_v2020.csv")
_LISTS = {"train_val_list.txt": TRAIN, "test_list.txt": HELD_OUT}


def patient(id: str) -> str:
    """Group of an NIH patient, the same in every data set that has images of the NIH."""
    return f"nih-{int(id)}"


def findings(place: object, text: str) -> dict[str, int]:
    """0 or 1 of each of the 14 findings from «Effusion|Mass» or «No Finding»."""
    named = set(text.split("|")) - {"No Finding"}
    if unknown := named - set(FINDINGS):
        raise DatasetError(
            place, f"label {', '.join(sorted(unknown))!r}", ", ".join(FINDINGS), "take the file as it was published"
        )
    return {name: int(name in named) for name in FINDINGS}


def _find(folder: Path) -> Path | None:
    return folder if any((folder / name).is_file() for name in _TABLES) else None


def _parts(root: Path) -> dict[str, str]:
    parts: dict[str, str] = {}
    for name, part in _LISTS.items():
        if not (root / name).is_file():
            raise DatasetError(
                root / name, "there is no such file", " and ".join(_LISTS), "download it beside the table"
            )
        parts |= dict.fromkeys((root / name).read_text(encoding="utf-8").split(), part)
    return parts


def _read(root: Path, seed: int) -> list[Item]:
    parts = _parts(root)
    images = {path.name: path for path in root.glob("images*/**/*.png")}
    path = next(root / name for name in _TABLES if (root / name).is_file())
    items = []
    for row in table(path, ["Image Index", "Finding Labels", "Patient ID", "Patient Age", "View Position"]):
        name = row["Image Index"]
        place = f"{path}, {name}"
        if name not in parts:
            raise DatasetError(place, "in none of the lists", " or ".join(_LISTS), "download the lists again")
        known = findings(place, row["Finding Labels"])
        label = "finding" if any(known.values()) else "no finding"
        extra = {"view": row["View Position"], "age": row["Patient Age"]}
        image = images.get(name, root / "images" / name)
        group = patient(row["Patient ID"])
        items.append(Item(image, label, group, parts[name], "NIH ChestX-ray14", findings=known, extra=extra))
    return items


LAYOUT = Layout(
    "nih-chestxray14",
    RADIOGRAPH,
    "Data_Entry_2017.csv, train_val_list.txt, test_list.txt and images/ or images_001/images/ …",
    _find,
    _read,
    "Wang et al. 2017, CVPR; nihcc.app.box.com/v/ChestXray-NIHCC",
)
