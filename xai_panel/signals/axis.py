"""A time axis that takes no memory and is selected like any other."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from xarray.core.indexing import IndexSelResult
from xarray.indexes import Index, RangeIndex


class TimeIndex(RangeIndex):
    """Evenly spaced times, computed when asked for: `sel(time=slice(1.0, 2.0))` works as on an ordinary coordinate.

    xarray's own RangeIndex selects by slice only to the nearest, and only when told so.
    """

    def isel(self, indexers: Mapping[Any, int | slice | np.ndarray | xr.Variable]) -> Index | None:
        index = super().isel(indexers)
        return TimeIndex(index.transform) if isinstance(index, RangeIndex) else index

    def sel(self, labels: dict[Any, Any], method: str | None = None, tolerance: float | None = None) -> IndexSelResult:
        label = labels[self.dim]
        if method is not None or not isinstance(label, slice) or label.step is not None:
            return super().sel(labels, method=method, tolerance=tolerance)
        start = 0 if label.start is None else math.ceil(self._position(label.start))
        stop = self.size if label.stop is None else math.floor(self._position(label.stop)) + 1  # both ends are included
        return IndexSelResult({self.dim: slice(min(max(start, 0), self.size), min(max(stop, 0), self.size))})

    def _position(self, time: float) -> float:
        """Where on the axis a time is, in steps; a time that misses a step by rounding alone is on it."""
        position = (float(time) - self.start) / self.step
        nearest = round(position)
        return nearest if abs(position - nearest) < 1e-6 else position


def time_coordinate(start: float, rate: float, count: int) -> xr.Coordinates:
    """Coordinate `time` [s] of `count` samples at `rate` [Hz] from `start`."""
    index = TimeIndex.linspace(start, start + count / rate, num=count, endpoint=False, coord_name="time", dim="time")
    coordinates = xr.Coordinates.from_xindex(index)
    coordinates["time"].attrs.update(units="s", long_name="Time")
    return coordinates
