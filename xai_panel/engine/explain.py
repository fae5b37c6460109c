"""`explain()`: the one entry point, the same for the Python API, the command line and the apps."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Literal

import xarray as xr

from xai_panel.engine.progress import Cancelled, Progress
from xai_panel.engine.run import WAIT, Run
from xai_panel.explanation.store import Store
from xai_panel.models.classifier import Classifier

__all__ = ["Cancelled", "Progress", "explain"]

_WAIT = 0.05  # seconds between two looks at what another request is computing


def explain(
    model: str | Classifier,
    signal: xr.DataArray,
    methods: Sequence[str] | None = None,
    target: int | str | None = None,
    seed: int = 0,
    progress: Callable[[Progress], None] | None = None,
    cancel: threading.Event | None = None,
    *,
    layer: str | None = None,
    baseline: str | None = None,
    budget: dict[str, float] | None = None,
    store: Store | Literal[False] | None = None,
    on_map: Callable[[str, xr.Dataset], None] | None = None,
) -> xr.Dataset:
    """Explain what a classifier says about a signal.

    Parameters
    ----------
    model: a classifier or its id
    signal: (time,) or (y, x), as the readers return it
    methods: ids in the order of the result; None for all that the classifier allows
    target: class index or label to explain; None for the most probable one
    seed: of every random choice: the same seed gives the same maps
    progress: called with `Progress` between batches
    cancel: set it to stop within one batch
    layer: target layer of the activation methods; None for the classifier's
    baseline: what masked features become; None for the modality's default
    budget: replaces values of `xai_panel.evidence.evidence.BUDGET`
    store: where maps are kept and looked up; None for the default, False for none
    on_map: called with a method's id and an explanation with that one map as soon as it is there

    Returns
    -------
    Dataset as in `xai_panel.explanation.schema`: attribution (method, frequency, time) or (method, y, x). A recording
    longer than the model's window is read window by window; where windows overlap, a map is their weighted mean, each
    in the units of its window's logit, and its error is that of the worst window.

    Raises
    ------
    SignalError: the signal is not of the model's modality. TypeError: it is no DataArray. ValueError: unknown model,
    method, class, layer, baseline or budget, or a method that cannot explain this classifier, with the reason.
    Cancelled: `cancel` was set.
    """
    run = Run(
        model,
        signal,
        methods,
        target,
        seed=seed,
        progress=progress,
        cancel=cancel,
        layer=layer,
        baseline=baseline,
        budget=budget,
        store=store,
        on_map=on_map,
    )
    with closing(run.steps()) as steps:
        for lane in steps:
            if lane == WAIT:
                run.cancel.wait(_WAIT)
    return run.dataset()
