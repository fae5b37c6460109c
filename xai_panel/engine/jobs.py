"""Explanations for many users on few cores: a fair queue with two lanes.

First maps come from the quick lane, whose worker no method that asks the model many times ever occupies; these run in
the heavy lane and pause while the quick lane is busy. Both lanes go round the users one step, that is one method, at a
time.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from bisect import insort
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from itertools import count
from typing import Any, Literal

import xarray as xr

from xai_panel.engine.progress import Cancelled, Progress
from xai_panel.engine.run import HEAVY, QUICK, WAIT, Run
from xai_panel.explanation.schema import merge
from xai_panel.explanation.store import Store
from xai_panel.models.classifier import Classifier, Prediction

logger = logging.getLogger(__name__)

State = Literal["queued", "running", "done", "failed", "cancelled"]

_numbers = count()  # jobs by age
_LOOK = 0.05  # seconds between two looks at what another process is computing
_PATIENCE = 1.0  # seconds that a heavy batch waits at most for the quick lane, so that it never starves


class QueueFull(RuntimeError):
    """No room for another request; the message is for the person who asked."""


class Job:
    """One request in a queue.

    id: unguessable; user: who asked; state: queued, running, done, failed or cancelled; error: why it failed.
    """

    def __init__(self, queue: JobQueue, user: str, calls: dict[str, Callable[..., None] | None]) -> None:
        self.id, self.user, self._number = uuid.uuid4().hex, user, next(_numbers)
        self.state: State = "queued"
        self.error: BaseException | None = None
        self._queue, self._calls = queue, calls
        self._cancel, self._ended = threading.Event(), threading.Event()
        self._maps: list[xr.Dataset] = []
        self._result: xr.Dataset | None = None
        self._stepping = False
        self._run: Run
        self._steps: Any

    def __repr__(self) -> str:
        return f"<Job {self.id[:8]} of {self.user}: {self.state}>"

    def cancel(self) -> None:
        """Stop: at once when it waits, within one batch of the model when it runs. No callback is called any more."""
        self._queue._cancel(self)

    def wait(self, timeout: float | None = None) -> xr.Dataset:
        """The explanation, once it is there. Raises what made it fail, `Cancelled`, or, in time, `TimeoutError`."""
        if not self._ended.wait(timeout):
            raise TimeoutError(f"the explanation is not there after {timeout} s")
        if self.error is not None:
            raise self.error
        if self._result is None:
            raise Cancelled("stopped on request")
        return self._result

    @property
    def partial(self) -> xr.Dataset | None:
        """An explanation of the maps that are there so far, None before the first; also of a cancelled job."""
        maps = list(self._maps)
        return merge(maps) if maps else None

    def _call(self, name: str, *arguments: Any) -> None:
        """Call back, in the worker's thread. What a callback raises is its author's to fix and must not stop others."""
        if name == "on_map":
            self._maps.append(arguments[1])
        call = self._calls.get(name)
        if call is None or self._cancel.is_set():
            return
        try:
            call(*arguments)
        except BaseException:  # SystemExit too
            logger.exception("callback %s of a job failed", name)


class JobQueue:
    """Computes explanations in the background.

    Parameters
    ----------
    workers: threads for methods that ask the model many times; there is one more for the verdict and for methods that
        read one pass
    per_user: unfinished requests that one user may have
    limit: unfinished requests of all users together
    """

    def __init__(self, workers: int = 1, per_user: int = 2, limit: int = 32) -> None:
        if min(workers, per_user, limit) < 1:
            raise ValueError(f"workers {workers}, per_user {per_user}, limit {limit}: at least 1 each is expected")
        self.per_user, self.limit = per_user, limit
        self._lanes: dict[str, OrderedDict[str, list[Job]]] = {QUICK: OrderedDict(), HEAVY: OrderedDict()}
        self._parked: list[tuple[float, Job]] = []  # wait for another process until a time
        self._jobs: set[Job] = set()
        self._quick_busy = False
        self._closed = False
        self._changed = threading.Condition()
        self._threads = [threading.Thread(target=self._work, args=(QUICK,), name="xai-quick", daemon=True)]
        self._threads += [
            threading.Thread(target=self._work, args=(HEAVY,), name=f"xai-heavy-{i}", daemon=True)
            for i in range(workers)
        ]
        for thread in self._threads:
            thread.start()

    def __len__(self) -> int:
        """Unfinished requests."""
        return len(self._jobs)

    def submit(
        self,
        user: str,
        model: str | Classifier,
        signal: xr.DataArray,
        methods: Sequence[str] | None = None,
        target: int | str | None = None,
        *,
        seed: int = 0,
        layer: str | None = None,
        baseline: str | None = None,
        budget: dict[str, float] | None = None,
        store: Store | Literal[False] | None = None,
        on_prediction: Callable[[Prediction], None] | None = None,
        on_map: Callable[[str, xr.Dataset], None] | None = None,
        on_progress: Callable[[Progress], None] | None = None,
        on_done: Callable[[xr.Dataset], None] | None = None,
        on_error: Callable[[BaseException], None] | None = None,
    ) -> Job:
        """Ask for an explanation; parameters as of `xai_panel.explain`.

        The callbacks are called in a worker's thread: on_prediction once the verdict is there, on_map(id, explanation
        with that one map) for each map, on_progress between batches, and at the end on_done(explanation) or
        on_error(exception). After `Job.cancel` none is called.

        Raises `QueueFull` when this user or all users together have too many unfinished requests.
        """
        calls: dict[str, Callable[..., None] | None] = {
            "on_prediction": on_prediction,
            "on_map": on_map,
            "on_progress": on_progress,
            "on_done": on_done,
            "on_error": on_error,
        }
        job = Job(self, user, calls)
        job._run = Run(
            model,
            signal,
            methods,
            target,
            seed=seed,
            layer=layer,
            baseline=baseline,
            budget=budget,
            store=store,
            cancel=job._cancel,
            on_map=partial(job._call, "on_map"),
            progress=partial(job._call, "on_progress"),
            on_prediction=partial(job._call, "on_prediction"),
            breathe=partial(self._give_way, job),
        )
        job._steps = job._run.steps()
        lane = next(job._steps)
        with self._changed:
            if self._closed:
                raise QueueFull("the server is stopping; try again in a moment")
            mine = sum(other.user == user for other in self._jobs)
            if mine >= self.per_user:
                raise QueueFull(f"{mine} of your requests are not finished; stop one, or wait until one is done")
            if len(self._jobs) >= self.limit:
                raise QueueFull(f"{len(self._jobs)} requests are waiting on this server; try again in a moment")
            self._jobs.add(job)
            self._line_up(job, lane)
            self._changed.notify_all()
        return job

    def close(self) -> None:
        """Cancel all requests and stop the workers; running ones stop within one batch."""
        with self._changed:
            self._closed = True
            jobs = list(self._jobs)
            self._changed.notify_all()
        for job in jobs:
            job.cancel()
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join()

    # --- whose turn it is
    # ----------------------------------------------------------------------------------------------

    def _line_up(self, job: Job, lane: str) -> None:
        """Put a job in line: its user last, among this user's jobs by age."""
        if lane == WAIT:
            self._parked.append((time.monotonic() + _LOOK, job))
            return
        insort(self._lanes[lane].setdefault(job.user, []), job, key=lambda job: job._number)

    def _next(self, lane: str) -> Job | None:
        """Take the job whose turn it is. The condition must be held."""
        if lane == QUICK:
            now = time.monotonic()
            for due, job in [parked for parked in self._parked if parked[0] <= now]:
                self._parked.remove((due, job))
                self._line_up(job, QUICK)
        line = self._lanes[lane]
        if not line:
            return None
        user, jobs = line.popitem(last=False)
        job = jobs.pop(0)
        if jobs:
            line[user] = jobs  # behind all other users
        return job

    def _work(self, lane: str) -> None:
        while True:
            with self._changed:
                while not self._closed and (job := self._next(lane)) is None:
                    self._changed.wait(_LOOK if lane == QUICK and self._parked else None)
                if self._closed:
                    return
                assert job is not None
                job._stepping = True
                if job.state == "queued":
                    job.state = "running"
                if lane == QUICK:
                    self._quick_busy = True
            self._step(job)
            if lane == QUICK:
                with self._changed:
                    self._quick_busy = False
                    self._changed.notify_all()

    def _step(self, job: Job) -> None:
        following: str | None = None
        result: xr.Dataset | None = None
        error: BaseException | None = None
        try:
            following = next(job._steps)
        except StopIteration:
            result = job._run.dataset()
        except BaseException as failure:  # whatever it is, it ends this job and not the worker
            error = failure
        with self._changed:
            job._stepping = False
            if job.state != "cancelled":
                if following is not None:
                    self._line_up(job, following)
                    self._changed.notify_all()
                    return
                job.state, job.error = ("done", None) if error is None else ("failed", error)
                job._result = result
                self._jobs.discard(job)
        job._steps.close()
        if job.state == "done":
            job._call("on_done", result)
        elif job.state == "failed":
            job._call("on_error", error)
        job._ended.set()

    def _cancel(self, job: Job) -> None:
        with self._changed:
            if job.state in ("done", "failed", "cancelled"):
                return
            job.state = "cancelled"
            job._cancel.set()
            self._jobs.discard(job)  # its place is free at once
            self._parked = [parked for parked in self._parked if parked[1] is not job]
            for line in self._lanes.values():
                if job in line.get(job.user, ()):
                    line[job.user].remove(job)
                    if not line[job.user]:
                        del line[job.user]
            self._changed.notify_all()
            if job._stepping:
                return  # its worker ends it
        job._steps.close()
        job._ended.set()

    def _give_way(self, job: Job) -> None:
        """Called between batches: in the heavy lane, wait while the quick lane is busy."""
        if threading.current_thread() is self._threads[0]:
            return
        with self._changed:
            self._changed.wait_for(
                lambda: job._cancel.is_set() or not (self._quick_busy or self._lanes[QUICK]), timeout=_PATIENCE
            )
