"""Small folders laid out as data sets were published, with images that can be read."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from PIL import Image

from xai_panel.training.datasets.chexpert import FINDINGS


def made(path: Path) -> Path:
    """The path, with the folder that it lies in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def chexpert_small(folder: Path, count: int) -> Path:
    """CheXpert-v1.0-small with images of noise, four patients in turn: no finding, edema, effusion, both."""
    rng = np.random.default_rng(0)
    root = folder / "CheXpert-v1.0-small"
    header = ["Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", "No Finding", *FINDINGS]
    made(root / "valid.csv").write_text(",".join(header) + "\n", encoding="utf-8")
    with open(root / "train.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        for k in range(count):
            inside = f"train/patient{k:05}/study1/view1_frontal.jpg"
            Image.fromarray(rng.integers(0, 255, (64, 64), dtype=np.uint8)).save(made(root / inside))
            values = {"Edema": k % 2, "Pleural Effusion": k // 2 % 2}
            row = [values.get(name, "") for name in FINDINGS]
            healthy = "" if any(values.values()) else 1
            writer.writerow([f"CheXpert-v1.0-small/{inside}", "Male", 50, "Frontal", "AP", healthy, *row])
    return root


def collected_radiographs(folder: Path, shared: Path, children: int, adults: int) -> Path:
    """Some of the collected radiographs: so many of each class of the children, and of each of RSNA's of the adults."""
    for name, column, keep in (
        ("chest_xray_children", "label", children),
        ("chest_xray_adults", "rsna_class", adults),
    ):
        made(folder / name / "images").symlink_to(shared / name / "images")
        with open(shared / name / "labels.csv", newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        by_class: dict[str, list] = {}
        for row in rows:
            by_class.setdefault(row[column], []).append(row)
        with open(folder / name / "labels.csv", "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]))
            writer.writeheader()
            for group in by_class.values():
                writer.writerows(group[:keep])
    return folder
