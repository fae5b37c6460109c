"""What one person is doing, without any user interface: the signal, the classifier, the verdict, the maps so far.

Pages draw a `Session` and call its methods; a test drives it without a browser. Work that takes time runs in a few
shared threads (reading, predicting) and in the process-wide job queue (explaining). Threads never set a parameter: they
hand a function to `schedule`, which runs it where parameters may be set (`Document.add_next_tick_callback` on servers).
"""

from __future__ import annotations

import atexit
import hashlib
import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from typing import Any, NamedTuple

import numpy as np
import param
import xarray as xr

from xai_panel.engine.defaults import PREFERRED
from xai_panel.signals.errors import SignalError
from xai_panel.signals.source import NOUNS, modality_of

log = logging.getLogger(__name__)

EXPLAIN_SECONDS = 30.0  # longest stretch of a recording that is explained at once
PROGRESS_EVERY = 0.1  # s between two reports of progress to a page
# Quick ones only: a person asks for the methods that take seconds of a shared machine.
DEFAULT_METHODS = ("grad-cam", "layer-cam", "input-x-gradient", "integrated-gradients")
PAGE_NAMES = {"audio": "Audio", "radiograph": "X-ray", "image": "Images"}
STATES = ("idle", "queued", "running", "done", "stopped", "failed")

_pool = ThreadPoolExecutor(max_workers=4, thread_name_prefix="xai-session")


class Notice(NamedTuple):
    """A message for the person: kind "error", "warning" or "info"; text of one or two sentences."""

    kind: str
    text: str


class _Stale(Exception):
    """The answer is no longer wanted: another signal or model was chosen, or the session ended."""


@cache
def job_queue() -> Any:
    """The queue of explanation jobs that all sessions of this process share."""
    from xai_panel.engine.jobs import JobQueue

    queue = JobQueue()
    atexit.register(queue.close)  # a thread that computes while the interpreter goes would abort the process
    return queue


def duration_of(signal: xr.DataArray) -> float:
    """Length of a recording [s]; 0 for an image."""
    return signal.sizes["time"] / float(signal.attrs["sampling_rate"]) if "time" in signal.dims else 0.0


def excerpt(signal: xr.DataArray, interval: tuple[float, float] | None) -> xr.DataArray:
    """The stretch [t0, t1) s of a recording; its digest is another one, so that stored maps are not mixed up."""
    if interval is None:
        return signal
    rate = float(signal.attrs["sampling_rate"])
    start = float(signal["time"][0])
    first, last = (round((t - start) * rate) for t in interval)
    first, last = max(0, first), min(signal.sizes["time"], last)
    piece = signal.isel(time=slice(first, last))
    whole = str(signal.attrs.get("digest", ""))
    digest = hashlib.sha256(f"{whole}[{first}:{last}]".encode()).hexdigest()
    return piece.assign_attrs(digest=digest, duration=(last - first) / rate)


def most_telling(times: np.ndarray, scores: np.ndarray, seconds: float = EXPLAIN_SECONDS) -> tuple[float, float]:
    """The stretch of as many whole windows as fit into `seconds` whose mean score is highest.

    times (windows, 2) [s], ascending; scores (windows,). One window longer than `seconds` is cut at its end.
    """
    best, found = -np.inf, (float(times[0, 0]), float(times[0, 1]))
    stop = 0
    total = np.concatenate([[0.0], np.cumsum(scores)])
    for first in range(len(times)):
        stop = max(stop, first + 1)
        while stop < len(times) and times[stop, 1] - times[first, 0] <= seconds:
            stop += 1
        mean = (total[stop] - total[first]) / (stop - first)
        if mean > best:
            best, found = mean, (float(times[first, 0]), float(times[stop - 1, 1]))
    return found[0], min(found[1], found[0] + seconds)


class Session(param.Parameterized):
    """One person's signal, classifier, verdict and explanation.

    Parameters
    ----------
    schedule: runs a function where parameters may be set; called from worker threads. Default: runs it at once.
    queue, cards, load, compatible: the job queue, the model cards, the loader of models and the filter of methods;
        default to the process-wide queue, `registry.models`, `registry.load_model` and `methods.compatible`.

    `results` maps method id → explanation `Dataset` with that one method, in order of arrival; a new dict each time.
    """

    modality = param.Selector(
        default=None,
        objects=[None, *NOUNS],
        allow_None=True,
        doc="""
        The only modality that the page accepts; None accepts all and picks a classifier that fits.""",
    )
    signal = param.ClassSelector(class_=xr.DataArray, default=None, doc="The signal on its physical axes.")
    signal_name = param.String(default="", doc="Title of the sample, or name of the uploaded file.")
    sample = param.Parameter(default=None, doc="The generated sample with its known answer, None for an upload.")
    opening = param.Boolean(default=False, doc="A file is being read.")
    model_id = param.String(default="", doc="Id of the chosen classifier.")
    classifier = param.Parameter(default=None, doc="The loaded classifier, None while it loads or when it cannot be.")
    model_problem = param.String(default="", doc="Why the chosen classifier cannot be used; empty when it can.")
    available = param.Dict(default={}, doc="Method id → True, or the reason why the classifier cannot be asked for it.")
    prediction = param.Parameter(default=None, doc="The verdict (`Prediction`).")
    target = param.Integer(default=None, allow_None=True, doc="Class to explain; None explains the predicted one.")
    interval = param.Tuple(
        default=None,
        length=2,
        allow_None=True,
        doc="""
        Stretch [s] of a long recording that is explained; None explains all of it.""",
    )
    methods = param.List(default=list(DEFAULT_METHODS), doc="Ids of the methods to run.")
    results = param.Dict(default={}, doc="Method id → explanation with that one method.")
    state = param.Selector(default="idle", objects=list(STATES), doc="Of the explanation job.")
    fraction = param.Number(default=0.0, bounds=(0, 1), doc="Share of the work that is done.")
    message = param.String(default="", doc="What is being done.")
    notice = param.ClassSelector(class_=tuple, default=None, doc="The last message for the person.")
    seed = param.Integer(default=0, doc="Seed of every random draw.")
    layer = param.String(default=None, allow_None=True, doc="Layer that activation methods read; None finds it.")

    def __init__(
        self,
        *,
        schedule: Callable[[Callable[[], None]], Any] | None = None,
        queue: Any = None,
        cards: Iterable[Any] | None = None,
        load: Callable[[str], Any] | None = None,
        compatible: Callable[[Any], dict[str, Any]] | None = None,
        **params: Any,
    ) -> None:
        super().__init__(**params)
        self.user = secrets.token_hex(8)
        self.closed = False
        self._schedule = schedule or (lambda call: call())
        self._queue = queue
        self._load = load
        self._compatible = compatible
        if cards is None:
            from xai_panel.models.registry import models

            cards = models()
        self.cards = [card for card in cards if self.modality in (None, card.modality)]
        self._opening_run = 0  # grows with each file that is opened: an older one that is still being read is dropped
        self._run = 0  # grows when signal, model, target or interval change: older answers are dropped
        self._jobs: list[Any] = []  # one at most that still runs
        if not self.model_id and self.cards:
            self.model_id = self._card_for(self.cards[0].modality).id

    # what a page asks for ------------------------------------------------------------------------------------------

    @property
    def card(self) -> Any:
        """Card of the chosen classifier, None when there is no classifier."""
        return next((card for card in self.cards if card.id == self.model_id), None)

    @property
    def target_index(self) -> int | None:
        """Class that is explained: the chosen one, else the predicted one, None before the verdict."""
        if self.target is not None:
            return self.target
        return None if self.prediction is None else self.prediction.index

    @property
    def target_label(self) -> str:
        """Name of the class that is explained, empty before the verdict."""
        index = self.target_index
        return "" if index is None else self.card.labels[index]

    @property
    def duration(self) -> float:
        """Length of the recording [s]; 0 for no signal or an image."""
        return 0.0 if self.signal is None else duration_of(self.signal)

    @property
    def explained(self) -> xr.DataArray | None:
        """The signal that is explained: all of it, or the chosen stretch of a long recording."""
        return None if self.signal is None else excerpt(self.signal, self.interval)

    @property
    def busy(self) -> bool:
        """Whether anything is being read, predicted or explained."""
        return self.opening or self.state in ("queued", "running")

    def open_sample(self, id: str) -> None:
        """Open a generated sample by its id; `ValueError` names the ones there are."""
        from xai_panel.signals.synthetic import load_sample, samples

        known = {sample.id: sample for sample in samples()}
        if id not in known:
            raise ValueError(f"no sample {id!r}; there are: {', '.join(known)}")
        self._open(known[id].title, lambda: load_sample(id), known[id])

    def open_upload(self, name: str, data: bytes) -> None:
        """Open an uploaded file. A file that cannot be read gives a `notice`; everything else stays as it is.

        What a picture file shows, the page or else the chosen classifier says.
        """
        from xai_panel.signals.read import read_signal

        modality = self.modality or (self.card.modality if self.card else None)
        self._open(name, lambda: read_signal(data, name=name, modality=modality), None)

    def open_signal(self, signal: xr.DataArray, name: str = "") -> None:
        """Open a signal that is already in memory (a notebook's)."""
        self._open(name or str(signal.attrs.get("source", "signal")), lambda: signal, None)

    def set_model(self, id: str) -> None:
        """Choose another classifier: verdict and maps are made again. `ValueError` names the ones there are."""
        if id not in (card.id for card in self.cards):
            raise ValueError(f"no classifier {id!r}; there are: {', '.join(card.id for card in self.cards)}")
        if id == self.model_id and self.classifier is not None:
            return
        with param.parameterized.batch_call_watchers(self):  # nobody draws the classifier that was chosen before
            self._forget("verdict")
            self.param.update(model_id=id, classifier=None, available={}, model_problem="", target=None, layer=None)
        self._submit_prediction()

    def set_target(self, target: int | None) -> None:
        """Choose the class to explain (None: the predicted one); the maps are made again."""
        if target == self.target:
            return
        before = self.target_index
        self.target = target
        if self.target_index != before:
            self._forget("maps")
            self.explain()

    def set_options(self, **options: Any) -> None:
        """Choose `seed` or `layer`; the maps are made again."""
        if any(getattr(self, name) != value for name, value in options.items()):
            self._forget("maps")
            self.param.update(**options)
            self.explain()

    def set_interval(self, start: float, stop: float) -> None:
        """Choose the stretch [s] of a recording to explain, at most `EXPLAIN_SECONDS` long; the maps are made again."""
        begin = float(self.signal["time"][0])
        start = max(start, begin)
        stop = min(stop, start + EXPLAIN_SECONDS, begin + self.duration)
        shortest = 0.1
        if stop - start < shortest:
            self.notice = Notice("warning", f"The selection is {stop - start:.2f} s long; select {shortest} s or more.")
            return
        self._forget("maps")
        self.interval = (start, stop)
        self.explain()

    def explain(self, methods: list[str] | None = None) -> None:
        """Run the methods (default: the chosen ones) that have no map yet; maps appear in `results` one by one."""
        if methods is not None:
            self.methods = list(methods)
        if self.signal is None:
            return
        if self.prediction is None:
            if self.state not in ("queued", "running"):  # stopped, or failed, before the verdict
                self._submit_prediction()
            return
        wanted = [id for id in self.methods if id not in self.results and self.available.get(id) is True]
        self._cancel_job()
        if not wanted:
            ready = bool(self.results)
            self.param.update(state="done" if ready else "idle", fraction=float(ready), message="")
            return
        run = self._run
        self.param.update(state="queued", fraction=0.0, message="Waiting for its turn")
        try:
            self._jobs.append(self._request(run, self.target_index)(self.classifier, self.explained, wanted))
        except Exception as error:
            self._fail(run, error)

    def stop(self) -> None:
        """Stop what is running; the maps that are ready stay."""
        if self.state in ("queued", "running"):
            self._run += 1  # what is on its way in a thread will be dropped
            self._cancel_job()
            self.param.update(state="stopped", message="Stopped")

    def background(self, work: Callable[[], Any], done: Callable[[Any], None]) -> None:
        """Run `work()` in a worker thread, then `done(result)` where parameters may be set; a fault is a notice."""

        def run() -> None:
            try:
                result = work()
            except Exception:
                log.exception("background work of a page failed")
                text = (
                    "Something could not be drawn because of a fault of this program. It was logged; please report it."
                )
                self._post(lambda: self.param.update(notice=Notice("error", text)))
            else:
                self._post(done, result)

        _pool.submit(run)

    def close(self) -> None:
        """End the session: its job is cancelled, its buffers are dropped, late answers go nowhere."""
        self.closed = True
        self._run += 1
        self._opening_run += 1
        self._cancel_job()
        with param.parameterized.discard_events(self):
            self.param.update(signal=None, results={}, prediction=None, classifier=None)

    # how it is done ------------------------------------------------------------------------------------------------

    def _card_for(self, modality: str) -> Any:
        fitting = [card for card in self.cards if card.modality == modality]
        preferred = [card for card in fitting if card.id == PREFERRED.get(modality)]
        return (preferred or fitting or [None])[0]

    def _post(self, call: Callable[..., None], *args: Any) -> None:
        """Have `call(*args)` run where parameters may be set, unless the session has ended by then."""

        def guarded() -> None:
            if not self.closed:
                call(*args)

        if not self.closed:
            self._schedule(guarded)

    def _open(self, name: str, read: Callable[[], xr.DataArray], sample: Any) -> None:
        self._opening_run += 1
        self.param.update(opening=sample is None, notice=None)  # a sample is there before anybody could read a word
        _pool.submit(self._read, self._opening_run, name, read, sample)

    def _read(self, run: int, name: str, read: Callable[[], xr.DataArray], sample: Any) -> None:
        """In a worker thread: read a file."""
        try:
            signal = read()
            modality = modality_of(signal) or "radiograph"
            if self.modality not in (None, modality):
                raise SignalError(
                    name,
                    NOUNS[modality],
                    f"{NOUNS[str(self.modality)]} on this page",
                    f"open it on the {PAGE_NAMES[modality]} page",
                )
        except SignalError as error:
            self._post(self._refuse, run, Notice("error", str(error)))
        except Exception:
            log.exception("reading %s failed", name)
            text = f"{name} could not be read because of a fault of this program. It was logged; please report it."
            self._post(self._refuse, run, Notice("error", text))
        else:
            self._post(self._take, run, name, signal, modality, sample)

    def _refuse(self, run: int, notice: Notice) -> None:
        if run == self._opening_run:
            self.param.update(opening=False, notice=notice)

    def _take(self, run: int, name: str, signal: xr.DataArray, modality: str, sample: Any) -> None:
        if run != self._opening_run:
            return
        self._forget("verdict")
        updates: dict[str, Any] = {}
        card = self.card
        if card is None or card.modality != modality:
            fitting = self._card_for(modality)
            updates = {
                "model_id": fitting.id if fitting else "",
                "classifier": None,
                "layer": None,
                "available": {},
                "model_problem": "" if fitting else f"There is no classifier for {NOUNS[modality]} yet.",
            }
        with param.parameterized.batch_call_watchers(self):
            self.param.update(target=None, interval=None, **updates)
            # Asked before the watchers draw the new signal, so that drawing and predicting overlap.
            self._submit_prediction(signal)
            self.param.update(opening=False, notice=None, sample=sample, signal_name=name, signal=signal)

    def _forget(self, what: str) -> None:
        """Drop the maps, and with "verdict" the verdict too; answers that are still on their way are dropped."""
        self._run += 1
        self._cancel_job()
        updates: dict[str, Any] = {"results": {}, "state": "idle", "fraction": 0.0, "message": ""}
        if what == "verdict":
            updates["prediction"] = None
        self.param.update(**updates)

    def _cancel_job(self) -> None:
        while self._jobs:
            self._jobs.pop().cancel()

    def _submit_prediction(self, signal: xr.DataArray | None = None) -> None:
        signal = self.signal if signal is None else signal
        if not self.model_id:
            return
        if signal is not None:
            self.param.update(state="running", fraction=0.0, message="Asking the classifier")
        request = self._request(self._run, self.target)
        _pool.submit(self._predict, self._run, self.model_id, signal, list(self.methods), request)

    def _predict(
        self, run: int, model_id: str, signal: xr.DataArray | None, methods: list[str], request: Callable[..., Any]
    ) -> None:
        """In a worker thread: load the classifier, see which methods it can be asked for, ask it for its verdict.

        What is explained as a whole is one job, so that its maps need not wait for the verdict to come and go.
        """
        report = self._reporter(run)

        def progress(fraction: float) -> None:
            if run != self._run or self.closed:
                raise _Stale
            report(fraction, "Asking the classifier")

        try:
            classifier = (self._load or _load_model)(model_id)
            available = (self._compatible or _compatible)(classifier)
            wanted = [id for id in methods if available.get(id) is True]
            if run != self._run or self.closed:
                raise _Stale
            if signal is None:
                self._post(self._loaded, run, classifier, available)
            elif wanted and duration_of(signal) <= EXPLAIN_SECONDS:
                decide = partial(self._post, self._decide, run, classifier, available)
                job = request(classifier, signal, wanted, on_prediction=decide)
                self._jobs.append(job)
                if run != self._run or self.closed:  # whoever changed that may not have seen the job yet
                    job.cancel()
            else:
                prediction = classifier.predict(signal, progress)
                self._post(self._decide, run, classifier, available, prediction)
                self._post(self._explain_stretch, run)
        except _Stale:
            return  # nobody waits for this answer any more
        except Exception as error:
            self._post(self._no_verdict, run, error)

    def _loaded(self, run: int, classifier: Any, available: dict[str, Any]) -> None:
        if run == self._run:
            self.param.update(classifier=classifier, available=available, model_problem="")

    def _decide(self, run: int, classifier: Any, available: dict[str, Any], prediction: Any) -> None:
        if run != self._run:
            return
        interval = None
        if self.duration > EXPLAIN_SECONDS:
            interval = most_telling(prediction.window_times, prediction.window_logits[:, prediction.index])
        self.param.update(
            classifier=classifier, available=available, model_problem="", prediction=prediction, interval=interval
        )

    def _explain_stretch(self, run: int) -> None:
        if run == self._run:
            self.explain()

    def _no_verdict(self, run: int, error: Exception) -> None:
        if run != self._run:
            return
        from xai_panel.models.registry import ModelError

        if isinstance(error, ModelError):
            self.param.update(classifier=None, model_problem=str(error), state="idle", message="")
        else:
            self._fail(run, error)

    def _request(self, run: int, target: int | None) -> Callable[..., Any]:
        """A request that wants classifier, signal, methods and, for the verdict, `on_prediction`; for any thread."""
        report = self._reporter(run)
        queue = job_queue() if self._queue is None else self._queue
        return partial(
            queue.submit,
            self.user,
            target=target,
            seed=self.seed,
            layer=self.layer,
            on_progress=lambda p: report(p.done, p.message),
            on_map=lambda id, dataset: self._post(self._arrived, run, id, dataset),
            on_done=lambda _dataset: self._post(self._finish, run),
            on_error=lambda error: self._post(self._fail, run, error),
        )

    def _reporter(self, run: int) -> Callable[[float, str], None]:
        """Reports progress to the page, but not more often than a person can see."""
        last = 0.0

        def report(fraction: float, message: str) -> None:
            nonlocal last
            now = time.monotonic()
            if now - last >= PROGRESS_EVERY:
                last = now
                self._post(self._progress, run, fraction, message)

        return report

    def _progress(self, run: int, fraction: float, message: str) -> None:
        if run == self._run and self.state in ("queued", "running"):
            self.param.update(state="running", fraction=float(np.clip(fraction, 0, 1)), message=message)

    def _arrived(self, run: int, id: str, dataset: xr.Dataset) -> None:
        if run == self._run:
            self.results = {**self.results, id: dataset}

    def _finish(self, run: int) -> None:
        if run == self._run:
            self._jobs.clear()
            self.param.update(state="done", fraction=1.0, message="")

    def _fail(self, run: int, error: BaseException) -> None:
        """Show why a job ended: in its own words when the error is meant for people, and in the log when it is not."""
        from xai_panel.engine.jobs import QueueFull

        if run != self._run:
            return
        self._jobs.clear()
        if isinstance(error, ValueError | QueueFull):
            text = str(error)
        else:
            log.error("an explanation failed", exc_info=error)
            text = f"The explanation failed ({type(error).__name__}). The fault was logged; please report it."
        self.param.update(state="failed", message="Failed", notice=Notice("error", text))


def _load_model(id: str) -> Any:
    from xai_panel.models.registry import load_model

    return load_model(id)


def _compatible(classifier: Any) -> dict[str, Any]:
    from xai_panel.methods import compatible

    return dict(compatible(classifier))


@cache
def warm_up() -> None:
    """Have the default classifiers ready, in the background and once per process: the first person need not wait."""

    def load() -> None:
        from xai_panel.engine import defaults
        from xai_panel.models.registry import ModelError

        try:
            defaults.warm_up()
        except (ModelError, ValueError) as error:  # the page that needs it says so; here it is no news
            log.info("not warmed up: %s", error)

    threading.Thread(target=load, name="xai-warm-up").start()
