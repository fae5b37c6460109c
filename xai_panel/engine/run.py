"""One request to explain something, in steps that may be interleaved with those of other requests."""

from __future__ import annotations

import datetime
import hashlib
import json
import logging
import platform
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Generator, Sequence
from functools import partial
from itertools import groupby
from types import SimpleNamespace
from typing import Any, Literal, cast

import numpy as np
import xarray as xr

import xai_panel
from xai_panel.engine.progress import Cancelled, Meter, Progress, evidence_of
from xai_panel.engine.stitch import Stitch
from xai_panel.evidence import baselines
from xai_panel.evidence.evidence import Activations, Evidence, target_layer
from xai_panel.explanation.schema import Reading, assemble
from xai_panel.explanation.store import Claim, Store, code_digest, default_store, key, scratch
from xai_panel.methods import METHODS, MapResult, Method, compatible, get
from xai_panel.models.backends.base import Activations as LayerAnswers
from xai_panel.models.classifier import BATCH, Classifier, Prediction
from xai_panel.models.frontends import cut, shown
from xai_panel.signals.errors import SignalError
from xai_panel.signals.source import AXES, IMAGE, NOUNS, digest_of, modality_of

logger = logging.getLogger(__name__)

QUICK, HEAVY, WAIT = "quick", "heavy", "wait"
BLOCK = 8  # windows whose evidence is kept at once


class Run:
    """One request on its way. Parameters as of `xai_panel.explain`, and

    on_prediction: called with the `Prediction` as soon as it is there
    breathe: called between batches, to let more urgent work go ahead

    `steps()` yields, before each step, the lane it belongs to: `QUICK` (the verdict and methods that read one pass),
    `HEAVY` (methods that ask the model many times), or `WAIT` while somebody else computes the same. The steps may be
    done in any thread, one at a time. The evidence that methods share is kept from step to step.
    """

    def __init__(
        self,
        model: str | Classifier,
        signal: xr.DataArray,
        methods: Sequence[str] | None = None,
        target: int | str | None = None,
        *,
        seed: int = 0,
        progress: Callable[[Progress], None] | None = None,
        cancel: threading.Event | None = None,
        layer: str | None = None,
        baseline: str | None = None,
        budget: dict[str, float] | None = None,
        store: Store | Literal[False] | None = None,
        on_map: Callable[[str, xr.Dataset], None] | None = None,
        on_prediction: Callable[[Prediction], None] | None = None,
        breathe: Callable[[], None] | None = None,
    ) -> None:
        self.cancel = cancel or threading.Event()
        self.seed = seed
        self._asked = (model, methods, target, layer)
        self._signal, self._baseline, self._budget = signal, baseline, dict(budget or {})
        self._on_map, self._on_prediction, self._breathe = on_map, on_prediction, breathe
        self._given_store = default_store() if store is None else store or None
        self._meter = Meter(progress)
        self._evidence: OrderedDict[int, Evidence] = OrderedDict()
        self._heard: LayerAnswers | None = None  # all windows in one pass, with the target layer
        self._readings: dict[str, Reading] = {}

    # --- what is asked
    # -------------------------------------------------------------------------------------------------

    def _prepare(self) -> None:
        model, methods, target, layer = self._asked
        self._check()
        self._meter.say("Loading the model", 0.0)
        if isinstance(model, str):
            from xai_panel.models.registry import load_model

            model = load_model(model)
        self.classifier = model
        check_modality(model, self._signal)
        layers = model.backend.layers()
        if layer is not None and layer not in layers:
            raise ValueError(
                f"{model.id} has no layer {layer!r} with a spatial grid; its layers: {', '.join(layers) or 'none'}"
            )
        if target is not None:
            model.card.class_index(target)
        self.layer = layer or target_layer(model)
        self.methods = choose(model, methods, self.layer)
        self.baseline = self._baseline or baselines.default_kind(model.frontend.dims)
        self._meter.say("Computing the features", 0.01)
        self.features = model.features(self._signal)
        self.windows = model.frontend.windows(self.features.shape[-1])
        self._meter.expect(self.methods, len(self.windows))
        self._shown = shown(self.features)
        self._signal_digest = digest_of(self._signal)
        self._facts = self._describe()
        self._values = scratch((len(self.methods), *self.features.shape[-2:]))

    def _describe(self) -> dict[str, Any]:
        """What the answers to this request depend on, apart from the target, the method and its parameters."""
        digest = hashlib.sha256()
        for array in (self.features, *(self.features[dim] for dim in self.features.dims)):
            digest.update(np.ascontiguousarray(array.values).reshape(-1).view(np.uint8).data)
        card = self.classifier.card
        return {
            "features": digest.hexdigest(),
            "shape": list(self.features.shape),
            "model": [card.id, card.architecture, card.framework, self.classifier.digest, *card.outputs],
            "frontend": card.frontend,
            "code": code_digest(),
        }

    def _key(self, **more: Any) -> str:
        facts = {"target": self.target, "layer": self.layer, "seed": self.seed, "baseline": self.baseline}
        return key(**self._facts, **facts, **more)

    def _map_key(self, method: Method) -> str:
        others = [m for m in self.methods if _asks_model(m)] if not _asks_model(method) else []
        return self._key(
            method=method.id,
            params=self._params(method),
            others=sorted([m.id, self._params(m)] for m in others),
        )

    def _params(self, method: Method) -> dict[str, float]:
        return {name: self._budget.get(name, default) for name, default in sorted(method.params.items())}

    @property
    def store(self) -> Store | None:
        """Where maps are kept; a classifier whose weights have no digest cannot be told from another: nowhere."""
        return self._given_store if self.classifier.digest else None

    def _predict(self) -> Generator[str, None, None]:
        """Hear all windows, a batch at a time; the verdict is kept like the maps."""
        name = key(**self._facts, answer="verdict")
        wanted = None if self._asked[2] is None else self.classifier.card.class_index(self._asked[2])
        entry = self.store.get(name) if self.store is not None else None
        if entry is not None:
            logits = entry[0]["logits"]
        elif self._one_pass and any("layer" in method.needs for method in self.methods):
            self._heard = self._listen(wanted)
            logits = self._heard.logits
        else:
            logits = np.empty((len(self.windows), self.classifier.backend.classes), dtype=np.float32)
            size = min(BATCH, self.classifier.backend.batch)
            for start in range(0, len(self.windows), size):
                if start:
                    yield QUICK
                self._check()
                batch = slice(start, start + size)
                logits[batch] = self.classifier.backend.logits(self._pieces(batch))
                self._meter.verdict(min(1.0, (start + size) / len(self.windows)))
        if entry is None:
            self._keep(name, {"logits": logits}, {})
        self.prediction = self.classifier.prediction(self.features, logits)
        self.target = self.prediction.index if wanted is None else wanted
        if self._on_prediction is not None:
            self._on_prediction(self.prediction)

    def _pieces(self, batch: slice) -> np.ndarray:
        """Windows of the features, (n, H, W)."""
        return np.stack([cut(self.features.values, w, self.classifier.frontend) for w in self.windows[batch]])

    @property
    def _one_pass(self) -> bool:
        """Whether all windows fit into one pass; then the verdict's pass gives the target layer's activations, too."""
        return self.layer is not None and len(self.windows) <= min(BLOCK, self.classifier.backend.batch)

    @property
    def _layer_alone(self) -> bool:
        """Whether no method asks the model for more than its target layer: the way back ends there, then."""
        return all("layer" in method.needs for method in self.methods if _asks_model(method))

    def _listen(self, target: int | None, windows: slice = slice(None)) -> LayerAnswers:
        assert self.layer is not None
        return self.classifier.backend.activations(self._pieces(windows), self.layer, target)

    def _activations(self, index: int) -> Activations:
        """Of one window, from a pass of its own; from the verdict's when that was one pass, or from one like it."""
        heard, place = self._heard, index
        if not self._one_pass:
            self._evidence[index].checkpoint("gradient", 0.0)
            heard, place = self._listen(self.target, slice(index, index + 1)), 0
            self._evidence[index].evaluations.forward += 1
        elif heard is None or heard.target != self.target:
            heard = self._heard = self._listen(self.target)
            self._evidence[index].evaluations.forward += len(self.windows)
        return Activations(heard.values[place], heard.gradients[place], cast(str, self.layer))

    def _keep(self, name: str, arrays: dict[str, Any], attrs: dict[str, Any]) -> None:
        if self.store is None:
            return
        try:
            self.store.put(name, arrays, attrs)
        except OSError as error:
            logger.warning("an answer cannot be kept in %s (%s)", self.store.folder, error)

    # --- the steps
    # -----------------------------------------------------------------------------------------------------

    def steps(self) -> Generator[str, None, None]:
        """Do the work; yields the lane of the next step before each one. Raises as `explain` does."""
        yield QUICK
        self._prepare()
        yield from self._predict()
        lane = QUICK
        try:
            for lane in (QUICK, HEAVY):
                yield from self._gather(lane, [m for m in self.methods if _asks_model(m) and lane_of(m) == lane])
        finally:
            self._heard = None
            while self._evidence:
                self._evidence.popitem()[1].release()
        for method in self.methods:
            if not _asks_model(method) and self._recall([method]):
                yield lane
                self._summarize(method)
        self._meter.say("Done", 1.0)

    def _gather(self, lane: str, methods: list[Method]) -> Generator[str, None, None]:
        """Read the methods of one lane that the store does not have, unless another request is just doing the same."""
        missing = self._recall(methods)
        if not missing:
            return
        claim = None if self.store is None else self.store.claim(self._key(lane=lane, budget=self._budget))
        try:
            while claim is not None and not self._acquired(claim):
                yield WAIT
                self._check()
                missing = self._recall(missing)
                if not missing:
                    return
            first: dict[Any, int] = {}
            for method in methods:
                group = evidence_of(method)
                first[group] = min(first.get(group, method.cost), method.cost)
            ordered = sorted(self._recall(missing), key=lambda m: (first[evidence_of(m)], m.cost))
            for _, same in groupby(ordered, evidence_of):
                yield from self._read_together(lane, list(same))
        finally:
            if claim is not None:
                claim.release()

    def _acquired(self, claim: Claim) -> bool:
        try:
            return claim.acquire()
        except OSError as error:
            logger.warning("requests cannot be told from each other, %s is not writable (%s)", claim.path.parent, error)
            return True  # nobody else can have it either

    def _read_together(self, lane: str, methods: list[Method]) -> Generator[str, None, None]:
        """Methods that read the same evidence; of a long recording, that of one block of windows is kept at a time."""
        stitches = {method.id: self._stitch(method) for method in methods}
        for start in range(0, len(self.windows), BLOCK):
            block = range(start, min(start + BLOCK, len(self.windows)))
            for method in methods:
                yield lane
                self._check()
                for index in block:
                    self._read(method, index, stitches[method.id])
                if block.stop == len(self.windows):
                    self._finish(method, stitches[method.id])

    def _stitch(self, method: Method) -> Stitch:
        return Stitch(self._values[self.methods.index(method)], self.classifier.frontend, self.windows)

    def _read(self, method: Method, index: int, stitch: Stitch) -> None:
        began = time.perf_counter()
        evidence = self._evidence_for(index)
        evidence.checkpoint = partial(self._checkpoint, method, index)  # nothing that refers back to the evidence
        before = evidence.evaluations.forward, evidence.evaluations.backward
        self._meter.begin(method, index)
        stitch.add(index, method.read(evidence))
        stitch.forward += evidence.evaluations.forward - before[0]
        stitch.backward += evidence.evaluations.backward - before[1]
        stitch.seconds += time.perf_counter() - began

    def _evidence_for(self, index: int) -> Evidence:
        if index not in self._evidence:
            self._evidence[index] = Evidence(
                self.classifier,
                cut(self.features.values, self.windows[index], self.classifier.frontend),
                self.target,
                seed=self.seed,
                layer=self.layer,
                baseline=self.baseline,
                budget=self._budget,
                activations=partial(self._activations, index) if self._one_pass or self._layer_alone else None,
            )
            while len(self._evidence) > BLOCK:
                self._evidence.popitem(last=False)[1].release()
        return self._evidence[index]

    def _summarize(self, method: Method) -> None:
        """Read a method that asks the model nothing, from the other maps on the signal's axis, window by window."""
        began, stitch = time.perf_counter(), self._stitch(method)
        for index, window in enumerate(self.windows):
            self._check()
            self._meter.begin(method, index)
            here = (..., slice(window.start, window.stop))
            maps = {m.id: MapResult(self._values[i][here]) for i, m in enumerate(self.methods) if _asks_model(m)}
            # all of the evidence that such a method reads: real columns only, whether the maps were stored or not
            evidence = SimpleNamespace(features=self.features.values[here], maps=maps)
            stitch.add(index, method.read(cast(Evidence, evidence)))
        stitch.seconds = time.perf_counter() - began
        self._finish(method, stitch)

    # --- finished maps
    # -------------------------------------------------------------------------------------------------

    def _finish(self, method: Method, stitch: Stitch) -> None:
        stitch.finish()
        facts = {
            "error": stitch.error,
            "error_kind": stitch.error_kind,
            "evaluations": stitch.forward,
            "backward": stitch.backward,
            "seconds": stitch.seconds,
            "grid": stitch.grid,
        }
        self._deliver(method, stitch.spread, facts)
        spread = {} if stitch.spread is None else {"spread": stitch.spread}
        self._keep(self._map_key(method), {"values": stitch.values, **spread}, {"method": method.id, "facts": facts})

    def _recall(self, methods: list[Method]) -> list[Method]:
        """Take what the store has; returns the methods that are still missing."""
        for method in methods:
            if method.id in self._readings or self.store is None:
                continue
            entry = self.store.get(self._map_key(method))
            if entry is not None:
                arrays, attrs = entry
                self._values[self.methods.index(method)] = arrays["values"]
                self._deliver(method, arrays.get("spread"), attrs["facts"])
        return [method for method in methods if method.id not in self._readings]

    def _deliver(self, method: Method, spread: Any, facts: dict[str, Any]) -> None:
        reading = Reading(
            method.id,
            method.title,
            method.family,
            method.units,
            method.signed,
            values=self._values[self.methods.index(method)],
            spread=spread,
            params=self._params(method),
            **facts,
        )
        self._readings[method.id] = reading
        self._meter.finish(method)
        if self._on_map is not None:
            self._on_map(method.id, self._assemble([reading]))

    def dataset(self) -> xr.Dataset:
        """The explanation with the maps that are finished, in the order they were asked for."""
        readings = [self._readings[method.id] for method in self.methods if method.id in self._readings]
        return self._assemble(readings, self._values if len(readings) == len(self.methods) else None)

    def _assemble(self, readings: list[Reading], values: Any = None) -> xr.Dataset:
        return assemble(
            self._shown,
            readings,
            prediction=self.prediction,
            target=self.target,
            values=values,
            attrs={
                "modality": self.classifier.card.modality,
                "model": self.classifier.id,
                "weights_digest": self.classifier.digest,
                "signal_digest": self._signal_digest,
                "signal_source": str(self._signal.attrs.get("source", "")),
                "target_layer": self.layer or "",
                "baseline": self.baseline,
                "seed": self.seed,
                "versions": json.dumps(versions(self.classifier.card.framework)),
                "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            },
        )

    # --- cancellation
    # --------------------------------------------------------------------------------------------------

    def _check(self) -> None:
        if self.cancel.is_set():
            raise Cancelled("stopped on request")

    def _checkpoint(self, method: Method, index: int, stage: str, fraction: float) -> None:
        self._check()
        if self._breathe is not None:
            self._breathe()
            self._check()
        self._meter.stage(method, index, stage, fraction, self._evidence[index].evaluations.forward)


def _asks_model(method: Method) -> bool:
    return "maps" not in method.needs


def lane_of(method: Method) -> str:
    """`QUICK` for methods that read one single pass, `HEAVY` for those that ask the model many times."""
    return HEAVY if method.params else QUICK


def choose(classifier: Classifier, ids: Sequence[str] | None, layer: str | None) -> list[Method]:
    """The methods with these ids, None for all that the classifier allows; `ValueError` for those that it does not."""
    allowed = compatible(classifier, layer)
    if ids is None:
        return [method for method in METHODS.values() if allowed[method.id] is True]
    if isinstance(ids, str):
        raise ValueError(f"methods is the text {ids!r}; expected a list of ids, such as {[ids]!r}")
    chosen = [get(id) for id in dict.fromkeys(ids)]
    if not chosen:
        raise ValueError(f"no method was asked for; there are: {', '.join(METHODS)}")
    for method in chosen:
        if allowed[method.id] is not True:
            raise ValueError(f"{method.title} cannot explain {classifier.id}: {allowed[method.id]}")
        if not _asks_model(method) and sum(_asks_model(m) for m in chosen) < 2:
            raise ValueError(f"{method.title} compares the maps of other methods: ask for two or more besides it")
    return chosen


def check_modality(classifier: Classifier, signal: Any) -> None:
    """Raise `SignalError` unless the signal is of the classifier's modality, `TypeError` when it is no DataArray."""
    if not isinstance(signal, xr.DataArray):
        raise TypeError(
            f"the signal is a {type(signal).__name__}; expected a DataArray on physical axes, "
            "as xai_panel.read_signal returns it"
        )
    dims = tuple(str(dim) for dim in signal.dims)
    found, expected = modality_of(signal), classifier.card.modality
    if found == expected and dims == AXES[expected]:
        return
    what = f"{NOUNS.get(str(found), 'a signal')} over ({', '.join(dims)})"
    raise SignalError(
        str(signal.attrs.get("source") or "signal"),
        f"this is {what}, which {classifier.card.title} ({classifier.id}) cannot explain",
        f"{NOUNS[expected]} over ({', '.join(AXES[expected])})",
        "choose another signal or another classifier"
        + ("; xai_panel.read_image reads PNG and JPEG files as images" if expected == IMAGE else ""),
    )


def versions(framework: str) -> dict[str, str]:
    """Versions of what the maps depend on."""
    found = {"xai_panel": xai_panel.__version__, "python": platform.python_version(), "numpy": np.__version__}
    if framework in sys.modules:
        found[framework] = str(getattr(sys.modules[framework], "__version__", ""))
    return found
