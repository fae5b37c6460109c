"""`ds.xai`: what one asks of an explanation in a notebook."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from xai_panel.explanation.schema import DIMS, METHOD_VARIABLES, validate
from xai_panel.models.verdict import Verdict

if TYPE_CHECKING:
    import pandas as pd

_MOST = 1_000_000  # values of a map that are ranked; a two-hour recording has ninety times as many


@xr.register_dataset_accessor("xai")
class ExplanationAccessor:
    """Questions to an explanation. Raises `SchemaError` for a dataset that is none."""

    def __init__(self, ds: xr.Dataset) -> None:
        self._ds = validate(ds)

    @property
    def dims(self) -> tuple[str, str]:
        """Names of the axes of the maps: ("frequency", "time") or ("y", "x")."""
        first, second = DIMS[self._ds.attrs["modality"]]
        return first, second

    @property
    def verdict(self) -> Verdict:
        """What the classifier says about the signal, as data; `str(ds.xai.verdict)` says it in words."""
        return Verdict.of(self._ds["label"].values, self._ds["probability"].values, bool(self._ds.attrs["multi_label"]))

    def _position(self, id: str) -> int:
        ids = [str(known) for known in self._ds["method"].values]
        if id not in ids:
            raise ValueError(f"no map of {id!r}; this explanation has: {', '.join(ids)}")
        return ids.index(id)

    def map(self, id: str) -> xr.DataArray:
        """The map of one method over the axes, with its units. Raises `ValueError` when there is no such map."""
        one = self._ds["attribution"].isel(method=self._position(id))
        return one.assign_attrs(units=str(one["units"].item()))

    def agreement(self) -> xr.DataArray:
        """Spearman's rank correlation of the maps, (method, other), −1…1; NaN with a map that is the same everywhere.

        Ranks go from the strongest evidence against the target (signed maps) or the least (unsigned) to the strongest
        for it, as in the consensus. Of very long recordings, evenly spread columns are ranked.
        """
        from scipy.stats import rankdata

        maps = self._ds["attribution"].transpose("method", *self.dims).values
        step = max(1, -(-maps[0].size // _MOST)) if len(maps) else 1
        ids = [str(id) for id in self._ds["method"].values]
        result = np.full((len(ids), len(ids)), np.nan)
        ranks = []
        for i, values in enumerate(maps):
            rank = rankdata(values[:, ::step], axis=None)
            rank -= rank.mean()
            norm = np.sqrt((rank**2).sum())
            ranks.append(rank / norm if norm > 0 else np.full_like(rank, np.nan))
            if norm > 0:
                result[i, i] = 1.0
        for i, j in combinations(range(len(ids)), 2):
            result[i, j] = result[j, i] = float(np.clip(ranks[i] @ ranks[j], -1.0, 1.0))
        return xr.DataArray(
            result, dims=("method", "other"), coords={"method": ids, "other": ids}, name="agreement"
        ).assign_attrs(long_name="Rank correlation", units="1")

    def compare(self) -> pd.DataFrame:
        """One row per method: title, family, seconds, evaluations, backward, error, error_kind, units, agreement.

        agreement: mean rank correlation with the other methods; NaN when there is no other.
        """
        import pandas as pd

        table = pd.DataFrame(index=pd.Index([str(id) for id in self._ds["method"].values], name="method"))
        for name in ("title", "family", *METHOD_VARIABLES, "error_kind", "units"):
            table[name] = self._ds[name].values
        matrix = self.agreement().values.copy()
        np.fill_diagonal(matrix, np.nan)
        counts = np.isfinite(matrix).sum(axis=1)
        table["agreement"] = np.where(counts > 0, np.nansum(matrix, axis=1) / np.maximum(counts, 1), np.nan)
        return table

    def profile(self, dim: str, at: float | None = None) -> xr.DataArray:
        """Attribution along one axis, (method, dim), in each method's units.

        dim: an axis of the maps; at: place on the other axis in its units (the nearest row or column is taken), None
        for the sum over the other axis: the time profile of integrated gradients is what each moment adds to the logit,
        and within one window of the model it adds up to the difference from the baseline's logit (Sundararajan, Taly &
        Yan 2017, completeness). Raises `ValueError` when the explanation has no such axis.
        """
        if dim not in self.dims:
            raise ValueError(f"no axis {dim!r}; the maps are over {' and '.join(self.dims)}")
        other = self.dims[1 - self.dims.index(dim)]
        maps = self._ds["attribution"]
        if at is None:
            profile, name = maps.sum(other), f"Attribution, sum over {other}"
        else:
            profile, name = maps.sel({other: at}, method="nearest", drop=True), f"Attribution at one {other}"
        return profile.transpose("method", dim).rename("profile").assign_attrs(long_name=name)

    def normalized(self) -> xr.DataArray:
        """Maps divided by their largest absolute value, (method, *dims), within −1…1; a map of zeros stays zero."""
        maps = self._ds["attribution"]
        largest = abs(maps).max(self.dims)
        result = (maps / largest.where(largest > 0, 1)).astype(np.float32).rename("normalized")
        return result.assign_attrs(long_name="Attribution over its maximum", units="1")

    def reading(self, id: str) -> dict[str, Any]:
        """What is known of one method besides its map: title, family, units, error and so on, as plain values.

        Raises `ValueError` when the explanation has no map of that method.
        """
        one = self._ds.isel(method=self._position(id))
        names = ("title", "family", "units", "signed", "error_kind", "grid", *METHOD_VARIABLES)
        return {name: one[name].item() for name in names}
