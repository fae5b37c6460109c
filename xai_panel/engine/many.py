"""Explanations of many signals, in this process or on a Dask cluster, in one Zarr store.

Each explanation is one group of the store, written by whoever computed it beside the store and moved there in one step.
A run that is interrupted, or that loses workers, its scheduler or its client, has lost only what was being computed;
the same call goes on with the rest. Nothing is there twice: a group has the name of its signal.
"""

from __future__ import annotations

import contextlib
import pickle
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xarray as xr

from xai_panel.engine.defaults import default_model
from xai_panel.engine.explain import explain
from xai_panel.engine.progress import Cancelled
from xai_panel.explanation.export import to_zarr
from xai_panel.explanation.store import code_digest, key
from xai_panel.models.registry import load_model
from xai_panel.signals.read import read_signal
from xai_panel.signals.source import digest_of

if TYPE_CHECKING:
    from distributed import Client

Signal = str | Path | xr.DataArray

_AHEAD = 2  # signals a thread of the cluster that are sent before they can be begun
_CONNECT = 10.0  # seconds that a scheduler has to answer
_LOOK = 0.05  # seconds between two looks at what is finished
_STALE = 24 * 3600.0  # seconds after which what is unfinished belongs to a run that died


class SchedulerGone(ConnectionError):
    """The cluster cannot be reached, or not any more; what it had finished is in the store."""


@dataclass(frozen=True)
class Done:
    """What became of one signal.

    name: of its group; verdict: what the classifier says, "" when it failed; kept: whether an earlier run had
    explained it; error: why there is no explanation.
    """

    name: str
    verdict: str = ""
    kept: bool = False
    error: Exception | None = None


def explain_many(
    signals: Mapping[str, Signal] | Iterable[str | Path],
    model: str | None = None,
    methods: Sequence[str] | None = None,
    target: int | str | None = None,
    seed: int = 0,
    *,
    to: str | Path,
    client: Client | str | None = None,
    cancel: threading.Event | None = None,
    on_done: Callable[[Done], None] | None = None,
    **options: Any,
) -> xr.DataTree:
    """Explain many signals, and keep the explanations in one Zarr store.

    Parameters
    ----------
    signals: files, or names of the groups with a file or a signal (time,) or (y, x) each. Files are read by whoever
        explains them: a cluster's workers must find them under the same path. A name may have folders: a/b.wav
    model: id of a classifier, loaded once per worker; None for the default one of each signal's kind
    methods, target, seed: as of `explain`; options: its layer, baseline, budget and store
    to: folder of the store, on a disk that the workers share. What it already has of the same signal, classifier,
        question and version of the code is kept, and what it has of another question under the same name is replaced
    client: of a Dask cluster, or its scheduler's address such as "tcp://host:8786"; None for this process
    cancel: set it to stop; what a cluster is just computing is finished and kept
    on_done: called with `Done` after each signal, in the order in which they are finished

    Returns
    -------
    The store as a tree, opened lazily: `tree["recording.wav"].to_dataset().xai`.

    Raises
    ------
    ExceptionGroup: signals that could not be explained, each with its name as a note, after all others were.
    SchedulerGone: the cluster cannot be reached; the same call goes on with what is missing.
    Cancelled: `cancel` was set. ValueError: two signals of the same name, or a name that Zarr does not have.
    ImportError: a cluster was asked for, and `distributed` is not installed (the extra «cluster»).
    """
    named = _named(signals)
    to = Path(to).absolute()
    cancel = cancel or threading.Event()
    _prepare(to, named)
    unfinished = _unfinished(to) / uuid.uuid4().hex
    unfinished.mkdir(parents=True)
    ask = _Ask(str(to), str(unfinished), model, tuple(methods) if methods else None, target, seed, options)
    failed: list[Exception] = []
    try:
        answers = _here(named, ask, cancel) if client is None else _there(named, ask, cancel, client)
        with contextlib.closing(answers):  # what waits on a cluster is cancelled, whatever `on_done` raises
            for done in answers:
                if done.error is not None:
                    done.error.add_note(done.name)
                    failed.append(done.error)
                if on_done is not None:
                    on_done(done)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
        with contextlib.suppress(OSError):  # another run has something there
            unfinished.parent.rmdir()
    if failed:
        raise ExceptionGroup(f"{len(failed)} of {len(named)} signals could not be explained", failed)
    return xr.open_datatree(to, engine="zarr", consolidated=False)


@dataclass(frozen=True)
class _Ask:
    """One question about many signals; travels to the workers."""

    to: str
    unfinished: str
    model: str | None
    methods: tuple[str, ...] | None
    target: int | str | None
    seed: int
    options: Mapping[str, Any]

    def about(self, name: str, signal: Signal, cancel: threading.Event | None = None) -> Done:
        """Explain one signal, unless its group is there already. Raises nothing but `Cancelled`."""
        try:
            return self._answer(name, signal, cancel)
        except Cancelled:
            raise
        except Exception as error:  # one signal that cannot be explained must not stop the others
            return Done(name, error=_portable(error))

    def _answer(self, name: str, signal: Signal, cancel: threading.Event | None) -> Done:
        classifier = load_model(self.model) if self.model else None
        if not isinstance(signal, xr.DataArray):  # a picture file does not say what it shows, but its classifier does
            signal = read_signal(Path(signal), modality=classifier.card.modality if classifier else None)
        classifier = classifier or load_model(default_model(signal.attrs["modality"]))
        request = key(
            signal=digest_of(signal), classifier=[classifier.id, classifier.digest], code=code_digest(),
            methods=self.methods, target=self.target, seed=self.seed,
            options={k: v for k, v in sorted(self.options.items()) if k != "store"},
        )  # fmt: skip
        place = Path(self.to, name)
        found = _verdict(place, request)
        if found is not None:
            return Done(name, found, kept=True)
        ds = explain(
            classifier, signal, self.methods, self.target, self.seed, cancel=cancel, **self.options
        ).assign_attrs(request=request)
        new = Path(self.unfinished, uuid.uuid4().hex)
        to_zarr(ds, new)
        _move(new, place, request)
        return Done(name, str(ds.xai.verdict))


def _here(named: Mapping[str, Signal], ask: _Ask, cancel: threading.Event) -> Generator[Done, None, None]:
    for name, signal in named.items():
        yield ask.about(name, signal, cancel)


def _there(
    named: Mapping[str, Signal], ask: _Ask, cancel: threading.Event, client: Client | str
) -> Generator[Done, None, None]:
    try:
        import distributed
    except ImportError as error:
        raise ImportError("a cluster needs Dask: pip install 'xai_panel[cluster]'") from error

    if isinstance(client, str):
        try:
            opened = distributed.Client(client, timeout=_CONNECT)
        except (OSError, ValueError) as error:
            raise SchedulerGone(f"no Dask scheduler answers at {client} ({error})") from error
        with opened:
            yield from _there(named, ask, cancel, opened)
        return
    waiting: dict[Any, str] = {}
    finished, left = 0, iter(named.items())
    try:
        while True:
            room = _AHEAD * max(1, sum(client.nthreads().values())) - len(waiting)
            for name, signal in islice(left, max(0, room)):
                future = client.submit(ask.about, name, signal, key=f"explain-{uuid.uuid4().hex}", pure=False)
                waiting[future] = name
            if not waiting:
                return
            for future in _ready(waiting, cancel, client):
                name = waiting.pop(future)
                if future.status == "finished":
                    yield future.result()
                else:
                    yield Done(name, error=RuntimeError(f"its worker died ({future.exception()})"))
                finished += 1
    except (OSError, CancelledError) as error:
        raise SchedulerGone(
            f"the scheduler went away after {finished} of {len(named)} signals; the same call goes on with the rest"
        ) from error
    finally:
        with contextlib.suppress(OSError, CancelledError):
            client.cancel(list(waiting))


def _ready(waiting: Iterable[Any], cancel: threading.Event, client: Client) -> list[Any]:
    """Futures that are finished, once there is one. Raises `Cancelled`, or `ConnectionError` without a scheduler."""
    while not cancel.wait(_LOOK):
        if client.status != "running" or any(future.status in ("lost", "cancelled") for future in waiting):
            raise ConnectionError("the connection to the scheduler is lost")
        ready = [future for future in waiting if future.done()]
        if ready:
            return ready
    raise Cancelled("stopped on request")


def _named(signals: Mapping[str, Signal] | Iterable[str | Path]) -> dict[str, Signal]:
    if isinstance(signals, Mapping):
        named = dict(signals)
    else:
        named = {}
        for path in map(Path, signals):
            if path.name in named:
                raise ValueError(f"{named[path.name]} and {path} have the same name; give names: {{name: file, …}}")
            named[path.name] = path
    for name in named:
        parts = Path(name).parts
        if not parts or Path(name).is_absolute() or any(set(p) == {"."} or p.startswith("__") for p in parts):
            raise ValueError(
                f"{name!r} cannot be the name of a group; a relative path is expected, without __ in front"
            )
        folders = [str(parent) for parent in Path(name).parents if str(parent) in named]
        if folders:
            raise ValueError(f"{folders[0]!r} is the name of a signal, and of the folder of {name!r}; give other names")
    return named


def _portable(error: Exception) -> Exception:
    """The error, or its words where it cannot travel between processes as it is."""
    try:
        copy: Exception = pickle.loads(pickle.dumps(error))
    except Exception:  # whatever a library's error raises when it is built without its arguments
        return RuntimeError(f"{type(error).__name__}: {error}")
    return copy


# --- the store
# ---------------------------------------------------------------------------------------------------------


def _unfinished(to: Path) -> Path:
    return to.with_name(f"{to.name}.unfinished")


def _prepare(to: Path, named: Iterable[str]) -> None:
    """Make the store and the groups between it and the names; remove what dead runs left. Raises `OSError`."""
    import zarr

    if to.exists() and not (to / "zarr.json").is_file():
        raise FileExistsError(f"{to} is there and is no Zarr store; choose another place")
    for folder in sorted({Path(), *(parent for name in named for parent in Path(name).parents)}):
        if not (to / folder / "zarr.json").is_file():
            zarr.create_group(to / folder, zarr_format=3)
    for left in _unfinished(to).glob("*"):
        if time.time() - left.stat().st_mtime > _STALE:
            shutil.rmtree(left, ignore_errors=True)


def _verdict(place: Path, request: str) -> str | None:
    """What a group says that answers this request; None when there is none."""
    if not (place / "zarr.json").is_file():
        return None
    with xr.open_zarr(place, consolidated=False) as ds:
        return str(ds.xai.verdict) if ds.attrs.get("request") == request else None


def _move(new: Path, place: Path, request: str) -> None:
    """Move a finished group to its place. Who comes second finds the same answer there, and drops his."""
    while True:
        try:
            new.rename(place)
            return
        except OSError:
            if not place.exists():
                raise
        if _verdict(place, request) is not None:
            shutil.rmtree(new, ignore_errors=True)
            return
        with contextlib.suppress(FileNotFoundError):  # another one has moved it away
            place.rename(new.with_name(f"{uuid.uuid4().hex}-replaced"))
