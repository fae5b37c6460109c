"""The pieces of a signal's features that a model looks at in one go."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Window:
    """Range [start, stop) over the last axis of the features.

    A window that is narrower than the model's is `filled` up with the front end's "floor", or by the front end with its
    "copies" until it is full: a feature that is taken away is then missing in every copy. With "nothing" it stays
    narrow, for a network that takes windows of any width.
    """

    start: int
    stop: int
    filled: str = "floor"

    @property
    def width(self) -> int:
        return self.stop - self.start


def overlapping(width: int, size: int, filled: str = "floor") -> list[Window]:
    """Windows of `size` columns over features of `width` columns, overlapping by half; the last one ends with them.

    filled: what features that are shorter than one window are filled up with.
    """
    if width <= size:
        return [Window(0, width, filled if width < size else "floor")]
    starts = [*range(0, width - size, size // 2), width - size]
    return [Window(start, start + size) for start in starts]


def even_rows(rows: int, count: int) -> NDArray[np.float64]:
    """Places of `rows` features on a layer's grid of `count` rows that divide the features into equal cells, in rows.

    (rows,); row r of the layer is centred at r.
    """
    return (np.arange(rows) + 0.5) * count / rows - 0.5
