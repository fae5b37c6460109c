"""Where finished maps are kept, so that the same question is computed once, for all users and processes.

Content-addressed: an entry's name is the digest of everything that its values depend on. Each entry is one Zarr group
in one zip file, written beside its place and moved there in one step, so that a reader sees all of it or nothing. Each
read makes an entry the youngest; when the store is full, the oldest go.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

logger = logging.getLogger(__name__)

LIMIT = 2 * 2**30  # bytes
_CHUNK = 4096  # columns in one chunk; an explanation of a short signal is a single one
_STALE = 3600.0  # seconds after which an unfinished file belongs to a process that died
_IN_MEMORY = 256 * 2**20  # bytes; arrays beyond live in an unlinked file, so that the system can page them out


def default_folder() -> Path:
    """`$XAI_PANEL_CACHE`, else the platform's folder for caches."""
    configured = os.environ.get("XAI_PANEL_CACHE")
    if configured:
        return Path(configured).expanduser()
    import platformdirs

    return Path(platformdirs.user_cache_dir("xai_panel", appauthor=False))


def default_store() -> Store:
    """The store that `explain` uses unless it is told otherwise; bounded by `$XAI_PANEL_CACHE_BYTES`.

    Raises `ValueError` when that variable is not a number of bytes.
    """
    text = os.environ.get("XAI_PANEL_CACHE_BYTES", "").strip()
    if text and not text.isdecimal():
        raise ValueError(f"XAI_PANEL_CACHE_BYTES is {text!r}; expected a number of bytes, such as {LIMIT}")
    return _store(default_folder(), int(text) if text else LIMIT)


@cache
def _store(folder: Path, limit: int) -> Store:
    return Store(folder, limit)


@cache
def code_digest() -> str:
    """SHA-256 of the source that maps are computed by: a map of older code is never taken for one of newer code."""
    package = Path(__file__).resolve().parent.parent
    digest = hashlib.sha256()
    for pattern in ("evidence/*.py", "methods/*.py", "models/**/*.py", "engine/run.py", "engine/stitch.py"):
        for path in sorted(package.glob(pattern)):
            digest.update(path.relative_to(package).as_posix().encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


def key(**parts: Any) -> str:
    """Name of the entry that depends on these values, which JSON can write."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def scratch(shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Zeros (*shape) float32; large ones in a file that vanishes with the array, so that two hours fit any memory."""
    size = int(np.prod(shape)) * 4
    if size <= _IN_MEMORY:
        return np.zeros(shape, dtype=np.float32)
    with tempfile.TemporaryFile(prefix="xai_panel-") as file:
        file.truncate(size)
        return np.memmap(file, dtype=np.float32, mode="r+", shape=shape)


class Store:
    """A bounded folder of entries, each a few named arrays with attributes. Safe for threads and processes.

    Parameters
    ----------
    folder: made when the first entry is written
    limit: bytes on disk that are kept
    """

    def __init__(self, folder: Path, limit: int = LIMIT) -> None:
        self.folder, self.limit = Path(folder), limit
        self._counting = threading.Lock()
        self._known: int | None = None  # bytes at the last count and what was written since
        self._written = 0

    def __repr__(self) -> str:
        return f"<Store {self.folder}, at most {self.limit / 2**20:.0f} MiB>"

    def _path(self, key: str) -> Path:
        return self.folder / "maps" / key[:2] / f"{key}.zarr.zip"

    def __contains__(self, key: str) -> bool:
        return self._path(key).is_file()

    def get(self, key: str) -> tuple[dict[str, NDArray[Any]], dict[str, Any]] | None:
        """Arrays and attributes of an entry; None when there is none. A damaged one is logged, removed, and None."""
        path = self._path(key)
        while True:
            try:
                before = path.stat()
            except OSError:  # not there, nor is a folder that it could be in
                return None
            try:
                arrays, attrs = _read(path)
            except Exception as error:  # whatever a damaged zip, Zarr metadata or compressed chunk raises
                if _changed(before, path):  # another process removed it, or wrote it anew, while it was being read
                    continue
                logger.warning("store: entry %s is damaged and will be computed again (%s)", path.name, error)
                self._remove(path)
                return None
            with contextlib.suppress(OSError):  # removed since, or another user's: what was read is good
                os.utime(path)
            return arrays, attrs

    def put(self, key: str, arrays: Mapping[str, NDArray[Any]], attrs: Mapping[str, Any]) -> None:
        """Write an entry; an entry larger than the whole store is not kept. Raises `OSError` when the disk refuses."""
        if sum(values.nbytes for values in arrays.values()) > self.limit:
            logger.info("store: entry of %s is larger than the store and is not kept", attrs.get("method", key[:12]))
            return
        path = self._path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = self.folder / "unfinished"
        unfinished.mkdir(exist_ok=True)
        temporary = unfinished / f"{key[:16]}-{os.getpid()}-{uuid.uuid4().hex[:12]}.zip"
        try:
            _write(temporary, arrays, attrs)
            size = temporary.stat().st_size
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        with self._counting:
            self._written += size
            if self._known is None or self._known + self._written > self.limit or self._written > self.limit / 20:
                self._known, self._written = self._shrink(), 0

    def size(self) -> int:
        """Bytes of all entries on disk."""
        return sum(entry.st_size for _, entry in self._entries())

    def clear(self) -> None:
        """Remove all entries."""
        for path, _ in self._entries():
            self._remove(path)

    def _entries(self) -> list[tuple[Path, os.stat_result]]:
        found = []
        for path in (self.folder / "maps").glob("*/*.zarr.zip"):
            with contextlib.suppress(FileNotFoundError):  # another process has just removed it
                found.append((path, path.stat()))
        return found

    def _remove(self, path: Path) -> None:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:  # Windows does not remove files that somebody reads; it will go the next time
            logger.warning("store: %s cannot be removed (%s)", path.name, error)

    def _shrink(self) -> int:
        """Remove the entries used longest ago until a tenth of the store is free; returns the bytes that are left."""
        for path in (self.folder / "unfinished").glob("*.zip"):
            with contextlib.suppress(FileNotFoundError):  # its writer has just finished
                if time.time() - path.stat().st_mtime > _STALE:
                    self._remove(path)
        entries = sorted(self._entries(), key=lambda entry: entry[1].st_mtime_ns)
        total = sum(status.st_size for _, status in entries)
        if total <= self.limit:
            return total
        for path, status in entries[:-1]:  # the youngest was asked for just now
            if total <= 0.9 * self.limit:
                break
            self._remove(path)
            total -= status.st_size
        return total

    def claim(self, key: str) -> Claim:
        """The right to compute what belongs to `key`, which one thread of one process has at a time."""
        return Claim(self.folder / "claims" / f"{key}.lock")


class Claim:
    """A lock on a file, which the system takes back from a process that dies. `acquire` never blocks.

    The lock belongs to the open file, not to the thread: it may be released by another one.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: IO[bytes] | None = None

    def acquire(self) -> bool:
        """Whether the claim is ours now. Raises `OSError` when the folder cannot be written."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        file = open(self.path, "ab")
        if _lock(file) and _is(file, self.path):
            self._file = file
            return True
        file.close()
        return False

    def release(self) -> None:
        """Give the claim back; nothing happens when it is not held."""
        if self._file is None:
            return
        with contextlib.suppress(PermissionError):  # Windows keeps files that somebody waits on
            self.path.unlink(missing_ok=True)  # while locked: who opened it before us finds it gone and tries again
        self._file.close()
        self._file = None


def _lock(file: IO[bytes]) -> bool:
    if sys.platform == "win32":
        import msvcrt

        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is(file: IO[bytes], path: Path) -> bool:
    """Whether `path` still names the open file, not one that was made after it was removed."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _changed(before: os.stat_result, path: Path) -> bool:
    """Whether the file was removed or written since; a new one may have the old one's number."""
    try:
        now = path.stat()
    except OSError:
        return True
    return (now.st_ino, now.st_size, now.st_mtime_ns) != (before.st_ino, before.st_size, before.st_mtime_ns)


def _checksum(arrays: Mapping[str, NDArray[Any]]) -> str:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(f"{name} {arrays[name].dtype.str} {arrays[name].shape}".encode())
        digest.update(np.ascontiguousarray(arrays[name]).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _write(path: Path, arrays: Mapping[str, NDArray[Any]], attrs: Mapping[str, Any]) -> None:
    import zarr
    from zarr.storage import ZipStore

    with ZipStore(path, mode="w") as file:
        # one string: how attributes with NaN are written differs between versions of Zarr
        group = zarr.create_group(
            file, attributes={"xai_panel": json.dumps(dict(attrs)), "checksum": _checksum(arrays)}
        )
        for name, values in arrays.items():
            chunks = tuple(max(1, min(size, _CHUNK)) for size in values.shape)
            group.create_array(name, data=values, chunks=chunks)


def _read(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    import zarr
    from zarr.storage import ZipStore

    with ZipStore(path, mode="r") as file:
        group = zarr.open_group(file, mode="r")
        arrays: dict[str, NDArray[Any]] = {}
        for name, stored in group.arrays():
            if stored.dtype == np.float32:
                values = scratch(stored.shape)
                for start in range(0, stored.shape[-1], _CHUNK):
                    values[..., start : start + _CHUNK] = stored[..., start : start + _CHUNK]
            else:
                values = np.asarray(stored[...])
            arrays[name] = values
        attrs = dict(group.attrs)
    if attrs["checksum"] != _checksum(arrays):
        raise ValueError("its checksum does not match")
    return arrays, json.loads(str(attrs["xai_panel"]))
