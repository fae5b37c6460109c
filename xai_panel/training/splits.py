"""Splits by group: everything of one speaker or patient falls on the same side."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

PARTS = ("train", "validation", "held-out")


def part_of(group: str, seed: int = 0, held_out: float = 0.2, validation: float = 0.1) -> str:
    """Part of a group: 20 % held out, 10 % of the rest for choosing the epoch and the calibration.

    The draw hashes the group's name, so that it does not depend on the order of the files or on other groups.
    """
    digest = hashlib.sha256(f"{seed}:{group}".encode()).digest()
    draw = int.from_bytes(digest[:8], "big") / 2**64
    if draw < held_out:
        return "held-out"
    return "validation" if draw < held_out + (1 - held_out) * validation else "train"


def split(groups: Iterable[str], seed: int = 0) -> dict[str, str]:
    """Part of each group."""
    return {group: part_of(group, seed) for group in sorted(set(groups))}
