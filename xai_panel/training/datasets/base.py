"""What the readers of published data sets have in common: items, errors, tables, and what is checked of all of them."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from xai_panel.training.splits import PARTS, part_of

TRAIN, VALIDATION, HELD_OUT = PARTS
UNUSED = "unused"  # of a group that another part has, too
BONA_FIDE, SPOOF = "bona fide", "spoof"
AUDIO, RADIOGRAPH = "audio", "radiograph"
SUFFIXES = {AUDIO: (".wav", ".flac", ".mp3", ".ogg"), RADIOGRAPH: (".png", ".jpg", ".jpeg", ".dcm")}


class DatasetError(ValueError):
    """A folder that is not laid out as its data set was published.

    Parameters
    ----------
    place: the folder, file or line
    found: what was found there
    expected: what the published layout has there
    remedy: what the person can do about it
    """

    def __init__(self, place: object, found: str, expected: str, remedy: str) -> None:
        super().__init__(f"{place}: {found}; expected: {expected}; {remedy}")


@dataclass(frozen=True)
class Item:
    """One recording or radiograph with all that is known about it.

    Parameters
    ----------
    path: its file
    label: its class by name; "" where the publisher gives none (see `findings`)
    group: speaker, patient or whatever else must not be in two parts
    part: "train", "validation", "held-out", or "unused" where another part has the group, too
    corpus: where it was recorded
    generator: what made a spoofed recording; "" for bona fide speech and radiographs
    findings: 1 or 0 of each finding that is known; unknown ones are missing
    extra: what else the publisher says: cause, view, codec, boxes, …
    """

    path: Path
    label: str
    group: str
    part: str
    corpus: str
    generator: str = ""
    findings: Mapping[str, int] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Layout:
    """How one data set lies on disk.

    Parameters
    ----------
    id: its name in `xai-panel data list` where it is listed there
    looks_for: the files or folders that it is known by, as a phrase
    find: the folder's own root of this layout (itself or one below), None when it has another layout
    read: root, seed and the layout's own options → items
    source: paper and publisher's page
    """

    id: str
    modality: str
    looks_for: str
    find: Callable[[Path], Path | None]
    read: Callable[..., list[Item]]
    source: str


def below(folder: Path, names: Iterable[str], fits: Callable[[Path], bool]) -> Path | None:
    """The folder itself or the first one of `names` below it that fits; archives differ in how deep they pack."""
    return next((place for place in (folder, *(folder / name for name in names)) if fits(place)), None)


def table(path: Path, columns: Iterable[str], remedy: str = "take the file as it was published") -> list[dict]:
    """Rows of a CSV file with a header; raises `DatasetError` when the file, a column or a row's end is missing."""
    needed = list(columns)
    if not path.is_file():
        raise DatasetError(path, "there is no such file", f"a table with the columns {', '.join(needed)}", remedy)
    with open(path, newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        given = reader.fieldnames or []
        if missing := [name for name in needed if name not in given]:
            raise DatasetError(
                path, f"no column {', '.join(missing)}", f"the columns {', '.join(needed)}", f"found {', '.join(given)}"
            )
        rows = []
        for row in reader:
            if any(row[name] is None for name in needed):
                raise DatasetError(
                    f"{path}, line {reader.line_num}", "the line ends early", f"{len(given)} columns", remedy
                )
            rows.append(row)
    return rows


def protocol(path: Path, example: str) -> Iterator[tuple[str, list[str]]]:
    """Each line of a protocol without header with its place, in as many words as `example` has."""
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        words = line.split()
        place = f"{path}, line {number}"
        if words and len(words) != len(example.split()):
            raise DatasetError(place, f"{len(words)} words", f"«{example}»", "take the file as it was published")
        if words:
            yield place, words


def named(place: object, value: str, names: Mapping[str, str]) -> str:
    """What a published label means here; raises `DatasetError` for a label that the publisher does not have."""
    if value not in names:
        raise DatasetError(place, f"label {value!r}", " or ".join(names), "take the file as it was published")
    return names[value]


def signals(folder: Path, modality: str | None = None) -> list[Path]:
    """All recordings or radiographs below a folder, in order; without what file managers leave behind."""
    suffixes = SUFFIXES[modality] if modality else sum(SUFFIXES.values(), ())
    return sorted(
        path for path in folder.rglob("*") if path.suffix.lower() in suffixes and not path.name.startswith(".")
    )


def checked(place: Path, items: list[Item], seed: int) -> list[Item]:
    """The items when all their files are there; groups kept apart, a validation part drawn where there is none.

    A held-out part stays as it was published: items of other parts that share a group with it become "unused", and
    so do training items that share one with the validation part. Where a training and a held-out part were published
    without a validation part, a tenth of the training groups becomes one.
    """
    if not items:
        raise DatasetError(place, "not one item", "at least one recording or radiograph", "unpack the archive again")
    if missing := [item.path for item in items if not item.path.is_file()]:
        raise DatasetError(
            missing[0],
            f"missing, as {len(missing)} of {len(items)} listed files are",
            "every listed file",
            "unpack all archives of the data set",
        )
    if {item.part for item in items} == {TRAIN, HELD_OUT}:
        items = [
            replace(item, part=part_of(item.group, seed, held_out=0.0)) if item.part == TRAIN else item
            for item in items
        ]
    strongest: dict[str, int] = {}
    for item in items:
        strongest[item.group] = max(strongest.get(item.group, 0), PARTS.index(item.part))
    return [item if PARTS.index(item.part) == strongest[item.group] else replace(item, part=UNUSED) for item in items]
