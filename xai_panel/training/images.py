"""Radiographs as training looks at them: decoded and reduced once, kept on disk, read by row when they are needed."""

from __future__ import annotations

import hashlib
import inspect
import math
import os
import shutil
import weakref
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from xai_panel.models.frontends import RadiographImage
from xai_panel.signals import dicom, picture, radiograph
from xai_panel.signals.errors import SignalError
from xai_panel.signals.limits import bytes_text
from xai_panel.signals.radiograph import read_radiograph
from xai_panel.training.datasets import DatasetError

LIMIT = 32 * 2**30  # bytes on disk of all sets together; one set alone may have more


class Images:
    """Images (n, h, w) uint8, 0…255 for 0…1, in a file; in memory are only those that were asked for.

    The file stays open, so that a training can go on when another one needs its room in the cache.
    """

    def __init__(self, path: Path, shape: tuple[int, int, int]) -> None:
        self._file, self.shape = open(path, "rb"), shape
        weakref.finalize(self, self._file.close)

    def __len__(self) -> int:
        return self.shape[0]

    def mapped(self) -> np.memmap:
        """All of them, mapped anew: what was read through another mapping does not add up in memory."""
        return np.memmap(self._file, np.uint8, "r", shape=self.shape)

    def features(self, rows: NDArray[np.int64]) -> torch.Tensor:
        """Features (rows, h, w) float32, 0…1, of some of them."""
        return torch.from_numpy(self.mapped()[rows]).float() / 255


def stored(paths: Sequence[Path], frontend: RadiographImage, cache: Path) -> Images:
    """The radiographs in these files, as the front end reduces them; read from `cache`, or made there first.

    What is there is named after all that it depends on: the files with their sizes and times, the grid, the code that
    reads and reduces. It has another name until it is whole; when making it was interrupted, it goes on after the last
    complete image. Sets that were not used for longest are removed when all of them have more than `LIMIT` bytes.
    Raises `DatasetError` for a file that is no radiograph, `OSError` when the disk has no room.
    """
    shape = (len(paths), *frontend.shape)
    whole = cache / f"radiographs-{_key(paths, frontend)}.u8"
    if not whole.is_file() or whole.stat().st_size != math.prod(shape):
        _make(paths, frontend, whole)
    os.utime(whole)
    return Images(whole, shape)


def _make(paths: Sequence[Path], frontend: RadiographImage, whole: Path) -> None:
    size = math.prod(frontend.shape)
    whole.parent.mkdir(parents=True, exist_ok=True)
    partial = whole.with_suffix(".part")
    partial.touch()
    done = min(partial.stat().st_size // size, len(paths))
    _make_room(partial, len(paths) * size)
    with open(partial, "r+b") as file:
        file.seek(done * size)  # every image at its place: two trainings that make it at once write the same bytes
        for path in tqdm(paths[done:], desc="radiographs", unit="image", initial=done, total=len(paths), mininterval=2):
            try:
                file.write(_reduced(path, frontend).tobytes())
            except SignalError as error:  # its message has no folder, and there are thousands
                raise DatasetError(path, error.found, error.accepted, error.remedy) from error
        file.flush()
        os.fsync(file.fileno())
    with suppress(FileNotFoundError):  # the other training was faster
        partial.replace(whole)


def _reduced(path: Path, frontend: RadiographImage) -> NDArray[np.uint8]:
    return np.round(frontend.features(read_radiograph(path)).values * 255).astype(np.uint8)


def _make_room(partial: Path, size: int) -> None:
    """Remove what was used longest ago until `size` bytes fit under the limit. Raises `OSError` on a full disk."""
    others = [path for path in partial.parent.glob("radiographs-*") if path != partial]
    others.sort(key=lambda path: path.stat().st_mtime)
    while others and sum(path.stat().st_size for path in others) + size > LIMIT:
        others.pop(0).unlink()
    free, missing = shutil.disk_usage(partial.parent).free, size - partial.stat().st_size
    if free < missing:
        raise OSError(
            f"{partial.parent}: {bytes_text(free)} are free, the reduced radiographs need {bytes_text(missing)}; "
            "free them, or write to another disk: --out DIR"
        )


def _key(paths: Sequence[Path], frontend: RadiographImage) -> str:
    """Digest of all that the reduced radiographs depend on."""
    sources = [inspect.getsource(part) for part in (radiograph, dicom, picture, frontend.features, _reduced)]
    versions = [version(name) for name in ("numpy", "pillow", "pydicom")]
    digest = hashlib.sha256(repr((frontend.shape, sources, versions)).encode())
    for path in paths:
        status = path.stat()
        digest.update(os.fsencode(os.path.abspath(path)))
        digest.update(f"\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]
