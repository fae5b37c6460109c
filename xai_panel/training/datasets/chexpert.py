"""CheXpert-v1.0-small: Irvin et al. 2019, AAAI 33, arXiv:1901.07031; stanfordmlgroup.github.io/competitions/chexpert.

`train.csv` and `valid.csv` with paths like `CheXpert-v1.0-small/train/patient00001/study1/view1_frontal.jpg`. A finding
is 1, 0, −1 (the report is uncertain) or blank (not mentioned). What −1 becomes has to be chosen, as in the paper's
table 3; blank counts as 0, as there. No test part was published with it.
"""

from __future__ import annotations

from pathlib import Path

from .base import RADIOGRAPH, TRAIN, VALIDATION, DatasetError, Item, Layout, below, table

FINDINGS = (
    "Enlarged Cardiomediastinum",
    "Cardiomegaly",
    "Lung Opacity",
    "Lung Lesion",
    "Edema",
    "Consolidation",
    "Pneumonia",
    "Atelectasis",
    "Pneumothorax",
    "Pleural Effusion",
    "Pleural Other",
    "Fracture",
    "Support Devices",
)
POLICIES = {"zeros": 0, "ones": 1, "ignore": None}
_PARTS = {"train.csv": TRAIN, "valid.csv": VALIDATION}


def _find(folder: Path) -> Path | None:
    names = ["CheXpert-v1.0-small", "CheXpert-v1.0"]
    return below(folder, names, lambda place: any((place / name).is_file() for name in _PARTS))


def _value(place: str, text: str, uncertain: int | None) -> int | None:
    values = {"": 0, "0.0": 0, "0": 0, "1.0": 1, "1": 1, "-1.0": uncertain, "-1": uncertain}
    if text not in values:
        raise DatasetError(place, f"value {text!r}", "1, 0, −1 or blank", "take the file as it was published")
    return values[text]


def _read(root: Path, seed: int, uncertain: str | None = None) -> list[Item]:
    """uncertain: what −1 becomes, "zeros", "ones" or "ignore" (the finding is left out of the item's `findings`)."""
    if uncertain not in POLICIES:
        raise DatasetError(
            root,
            "no policy for uncertain findings (−1)" if uncertain is None else f"policy {uncertain!r}",
            ", ".join(f"uncertain={name!r}" for name in POLICIES),
            "choose one (Irvin et al. 2019, table 3, compares them)",
        )
    columns = ["Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", "No Finding", *FINDINGS]
    items = []
    for name, part in _PARTS.items():
        for row in table(root / name, columns):
            place = f"{root / name}, {row['Path']}"
            inside = Path(row["Path"]).parts[1:]
            if len(inside) != 4 or not inside[1].startswith("patient"):
                raise DatasetError(
                    place, "no patient in the path", "…/train/patient00001/study1/view1_frontal.jpg", "keep the paths"
                )
            values = {finding: _value(f"{place}, {finding}", row[finding], POLICIES[uncertain]) for finding in FINDINGS}
            known = {finding: value for finding, value in values.items() if value is not None}
            healthy = _value(f"{place}, No Finding", row["No Finding"], 0)
            label = "no finding" if healthy else "finding" if any(known.values()) else ""
            extra = {key: row[column] for key, column in (("sex", "Sex"), ("age", "Age"), ("projection", "AP/PA"))}
            extra |= {"view": row["Frontal/Lateral"].lower()}
            items.append(Item(root.joinpath(*inside), label, inside[1], part, "CheXpert", findings=known, extra=extra))
    return items


LAYOUT = Layout(
    "chexpert-small",
    RADIOGRAPH,
    "CheXpert-v1.0-small/train.csv and valid.csv, with train/ and valid/",
    _find,
    _read,
    "Irvin et al. 2019, AAAI 33, arXiv:1901.07031",
)
