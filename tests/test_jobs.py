"""The queue: fair among users, first maps first, prompt to stop, deaf to the failures of others."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import numpy as np
import pytest
from questions import listener, radiograph, recording, seer

from xai_panel.engine.explain import Cancelled, Progress, explain
from xai_panel.engine.jobs import Job, JobQueue, QueueFull
from xai_panel.explanation.store import Store

ASKED = {"target": 0, "store": False}


@pytest.fixture
def queue():
    queue = JobQueue(per_user=4)
    yield queue
    queue.close()


class Gate:
    """Lets a model answer only while it is open."""

    def __init__(self, classifier) -> None:
        self._open = threading.Event()
        self.reached = threading.Event()
        classifier.backend.before_call = self._pass

    def _pass(self) -> None:
        self.reached.set()
        assert self._open.wait(30)

    def open(self) -> None:
        self._open.set()


def eventually(condition: Callable[[], object], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.005)


def test_a_job_gives_the_same_explanation_as_explain(queue):
    ids = ["lime", "grad-cam", "saliency", "consensus"]
    maps, events, verdicts, ends = {}, [], [], []
    job = queue.submit(
        "ada", seer(), radiograph(), ids, **ASKED, on_map=lambda id, ds: maps.update({id: ds}),
        on_progress=events.append, on_prediction=verdicts.append, on_done=ends.append,
    )  # fmt: skip
    ds = job.wait(60)
    expected = explain(seer(), radiograph(), ids, **ASKED)
    np.testing.assert_array_equal(ds["attribution"], expected["attribution"])
    assert ds["method"].values.tolist() == ids
    assert list(maps) == ["grad-cam", "saliency", "lime", "consensus"]
    assert events[-1].done == 1.0
    assert verdicts[0].labels == ("normal", "pneumonia")
    assert ends[0] is ds and job.state == "done"
    np.testing.assert_array_equal(job.partial.sel({"method": ids})["attribution"], ds["attribution"])


def test_first_maps_do_not_wait_for_the_perturbations_of_others(queue):
    slow = seer()
    gate = Gate(slow)
    gate.open()
    slow.backend.before_call = lambda: time.sleep(0.02)
    order = []
    first = queue.submit(
        "ada",
        slow,
        radiograph(),
        ["lime"],
        **ASKED,
        budget={"coalitions": 2000},
        on_done=lambda ds: order.append("lime"),
    )
    eventually(lambda: first.partial is None and first.state == "running")
    second = queue.submit(
        "bob", seer(1), radiograph(), ["saliency", "grad-cam"], **ASKED, on_done=lambda ds: order.append("saliency")
    )
    second.wait(60)
    assert first.state == "running"
    first.wait(60)
    assert order == ["saliency", "lime"]


def test_users_take_turns(queue):
    held = seer()
    gate = Gate(held)
    order: list[tuple[str, str]] = []

    def ask(user: str, seed: int) -> Job:
        return queue.submit(
            user, seer(seed), radiograph(seed), ["saliency", "smoothgrad"], **ASKED,
            on_done=lambda ds: order.append((user, seed)),
        )  # fmt: skip

    queue.submit("eve", held, radiograph(), ["saliency"], **ASKED)
    assert gate.reached.wait(10)  # the worker is busy, so that the others line up
    jobs = [ask("ada", 0), ask("ada", 1), ask("ada", 2), ask("bob", 3), ask("cyd", 4)]
    gate.open()
    for job in jobs:
        job.wait(60)
    assert {user for user, _ in order[:3]} == {"ada", "bob", "cyd"}
    assert [seed for user, seed in order if user == "ada"] == [0, 1, 2]


def test_a_running_job_stops_within_one_batch(queue):
    classifier, batches, late = seer(), [], []
    job: list[Job] = []

    def watch(progress: Progress) -> None:
        if " of " in progress.message and not batches:
            batches.append(classifier.backend.calls)
            job[0].cancel()
        elif batches:
            late.append(progress)

    ready = threading.Event()
    classifier.backend.before_call = lambda: ready.wait(10)
    job.append(queue.submit("ada", classifier, radiograph(), ["lime"], **ASKED, on_progress=watch, on_done=late.append))
    ready.set()
    with pytest.raises(Cancelled):
        job[0].wait(10)
    assert job[0].state == "cancelled"
    assert classifier.backend.calls - batches[0] <= 1
    assert not late
    assert len(queue) == 0


def test_a_waiting_job_stops_at_once_and_frees_its_place(queue):
    held = seer()
    gate = Gate(held)
    queue.submit("eve", held, radiograph(), ["saliency"], **ASKED)
    assert gate.reached.wait(10)
    jobs = [queue.submit("ada", seer(), radiograph(), ["saliency"], **ASKED) for _ in range(4)]
    with pytest.raises(QueueFull, match="4 of your requests are not finished"):
        queue.submit("ada", seer(), radiograph(), ["saliency"], **ASKED)
    jobs[1].cancel()
    with pytest.raises(Cancelled):
        jobs[1].wait(0)
    again = queue.submit("ada", seer(), radiograph(), ["saliency"], **ASKED)
    gate.open()
    assert again.wait(30).sizes["method"] == 1
    jobs[1].cancel()  # twice is once


def test_maps_that_came_before_the_stop_are_kept(queue):
    job: list[Job] = []
    ready = threading.Event()
    classifier = seer()
    classifier.backend.before_call = lambda: ready.wait(10)

    def stop(progress: Progress) -> None:
        if progress.method == "lime":
            job[0].cancel()

    job.append(queue.submit("ada", classifier, radiograph(), ["saliency", "lime"], **ASKED, on_progress=stop))
    ready.set()
    with pytest.raises(Cancelled):
        job[0].wait(30)
    assert job[0].partial["method"].values.tolist() == ["saliency"]


def test_too_many_requests_of_all_users_together():
    queue = JobQueue(per_user=2, limit=3)
    held = seer()
    gate = Gate(held)
    try:
        for user in ("ada", "bob", "cyd"):
            queue.submit(user, held, radiograph(), ["saliency"], **ASKED)
        with pytest.raises(QueueFull, match="3 requests are waiting on this server"):
            queue.submit("dan", held, radiograph(), ["saliency"], **ASKED)
    finally:
        gate.open()
        queue.close()


class Unforeseen(BaseException):
    """Not even an Exception."""


@pytest.mark.parametrize("error", [RuntimeError("out of order"), Unforeseen(), SystemExit(3)], ids=type)
def test_the_worker_survives_what_models_and_callbacks_raise(queue, error):
    def fail(*_):
        raise error

    broken, errors = seer(), []
    broken.backend.before_call = fail
    job = queue.submit("ada", broken, radiograph(), ["saliency", "lime"], **ASKED, on_error=errors.append)
    with pytest.raises(type(error)):
        job.wait(30)
    assert job.state == "failed" and errors == [error]
    careless = queue.submit(
        "ada", seer(), radiograph(), ["saliency", "lime"], **ASKED,
        on_map=fail, on_progress=fail, on_prediction=fail, on_done=fail,
    )  # fmt: skip
    assert careless.wait(30).sizes["method"] == 2
    assert queue.submit("bob", seer(), radiograph(), ["occlusion"], **ASKED).wait(30).sizes["method"] == 1


def test_an_impossible_request_fails_with_its_reason(queue):
    errors = []
    job = queue.submit(
        "ada", listener(np.ones((4, 8))), radiograph(), ["saliency"], store=False, on_error=errors.append
    )
    with pytest.raises(ValueError, match="this is a radiograph"):
        job.wait(30)
    assert job.state == "failed" and job.error is errors[0]


def test_identical_requests_of_several_users_are_computed_once(queue, tmp_path):
    alone = seer()
    explain(alone, radiograph(), ["saliency", "lime"], target=0, store=Store(tmp_path / "alone"))
    shared, store = seer(), Store(tmp_path / "shared")
    jobs = [
        queue.submit(user, shared, radiograph(), ["saliency", "lime"], target=0, store=store)
        for user in ("ada", "bob", "cyd")
    ]
    maps = [job.wait(60)["attribution"].values for job in jobs]
    assert shared.backend.windows == alone.backend.windows
    np.testing.assert_array_equal(maps[0], maps[1])
    np.testing.assert_array_equal(maps[0], maps[2])


def test_a_request_waits_for_another_process_that_computes_the_same(queue, tmp_path):
    store, keys = Store(tmp_path), []
    original = store.claim
    store.claim = lambda key: keys.append(key) or original(key)
    explain(seer(), radiograph(), ["saliency"], target=0, store=store)
    store.clear()
    other = original(keys[0])  # a lock on a file is the same from another process and from another place in this one
    assert other.acquire()
    job = queue.submit("ada", seer(), radiograph(), ["saliency"], target=0, store=store)
    time.sleep(0.3)
    assert job.state == "running" and job.partial is None
    assert queue.submit("bob", seer(2), radiograph(2), ["saliency"], **ASKED).wait(10)  # nobody else is held up
    other.release()
    assert job.wait(10).sizes["method"] == 1


def test_a_long_recording_lets_others_go_between(queue):
    long = listener(np.ones((4, 8)))
    long.backend.before_call = lambda: time.sleep(0.005)
    hours = queue.submit("ada", long, recording(400.0), ["saliency", "smoothgrad"], target=1, store=False)
    eventually(lambda: hours.state == "running")
    queue.submit("bob", seer(), radiograph(), ["saliency"], **ASKED).wait(10)
    assert hours.state == "running"
    hours.cancel()


def test_closing_stops_everything_promptly():
    queue = JobQueue()
    slow = seer()
    slow.backend.before_call = lambda: time.sleep(0.02)
    jobs = [queue.submit(user, slow, radiograph(), ["lime"], **ASKED) for user in ("ada", "bob")]
    began = time.monotonic()
    queue.close()
    assert time.monotonic() - began < 5
    assert [job.state for job in jobs] == ["cancelled", "cancelled"]
    with pytest.raises(QueueFull, match="stopping"):
        queue.submit("ada", slow, radiograph(), ["lime"], **ASKED)


@pytest.mark.slow
def test_many_jobs_at_once_give_the_maps_of_one_after_the_other():
    queue = JobQueue(workers=2, per_user=20, limit=40)
    ids = ["saliency", "grad-cam", "smoothgrad", "lime", "kernel-shap", "occlusion"]
    models = [seer(0), seer(1)]
    try:
        jobs = [
            queue.submit(f"user {i % 3}", models[i % 2], radiograph(i), ids, seed=i, target=0, store=False)
            for i in range(12)
        ]
        for i, job in enumerate(jobs):
            expected = explain(seer(i % 2), radiograph(i), ids, seed=i, target=0, store=False)
            np.testing.assert_array_equal(job.wait(120)["attribution"], expected["attribution"])
    finally:
        queue.close()
