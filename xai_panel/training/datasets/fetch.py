"""Get a published data set: download what may be downloaded, by digest, and unpack it without trusting it.

An interrupted download leaves `FILE.part` and goes on there (HTTP Range). Archives are unpacked beside their place and
moved there when all of it was good, so that a refused one leaves nothing. With Kaggle, the `kaggle` command uses the
credentials that the person gave it; they are neither asked for nor seen here.
"""

from __future__ import annotations

import gzip
import lzma
import os
import shutil
import subprocess
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

from tqdm import tqdm

from xai_panel.signals.limits import bytes_text

from .base import DatasetError
from .sources import Archive, Source

_CHUNK = 2**16  # byte; what of a chunk had come is lost when the connection breaks
_RATIO = 100  # unpacked against packed: recordings and images are below 20, bombs beyond 1000
_SLACK = 2**26  # small archives of text may be packed tighter
_MEMBER = 512  # what a member counts besides its content
_DAMAGED = (zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError)


def get(source: Source, folder: Path) -> bool:
    """Bring a data set into a folder; False when that takes a person (see `source.steps`).

    Raises `OSError` when the server does not answer or the connection breaks (what came is kept, the next call goes
    on), `DatasetError` when a file is not the published one or its archive is refused (nothing of it is kept).
    """
    if source.kaggle:
        return (folder / source.gives).exists() or _by_kaggle(source, folder)
    for archive in source.files:
        if not (folder / archive.gives).exists():
            folder.mkdir(parents=True, exist_ok=True)
            path = download(archive, folder)
            try:
                unpack(path, folder)
            except DatasetError:  # the publisher's server sent something else, a page that asks to sign in perhaps
                path.unlink()
                raise
            path.unlink()
    return bool(source.files)


def download(archive: Archive, folder: Path) -> Path:
    """The archive's file in `folder`, whole and with the right digest."""
    import pooch

    pooch.get_logger().setLevel("WARNING")
    try:
        return Path(
            pooch.retrieve(
                archive.url,
                archive.digest or None,
                fname=archive.file,
                path=folder,
                downloader=_resume(archive, folder),
            )
        )
    except OSError as error:
        raise OSError(f"{archive.url}: {error}; the same command goes on where it stopped") from error
    except ValueError as error:
        raise DatasetError(
            archive.url, f"not the published file ({error})", archive.digest, "get it again; it was not kept"
        ) from error


def _resume(archive: Archive, folder: Path) -> Callable[[str, str, object], None]:
    """A downloader for pooch that goes on where `FILE.part` ends."""

    def fetch(url: str, output_file: str, pooch: object) -> None:
        import requests

        part = folder / f"{archive.file}.part"
        have = part.stat().st_size if part.is_file() else 0
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
        with requests.get(url, headers=headers, stream=True, timeout=60) as response:
            whole = response.headers.get("Content-Range", "").rsplit("/", 1)[-1]
            if response.status_code == 416:  # nothing after the part: it was whole, or another version's
                if whole == str(have):
                    os.replace(part, output_file)
                    return
                part.unlink()
            response.raise_for_status()
            if response.status_code != 206:  # the server begins again
                have = 0
            length = response.headers.get("Content-Length")
            total = have + int(length) if length else None
            bar = tqdm(
                desc=archive.file, initial=have, total=total, unit="B", unit_scale=True, mininterval=1, disable=None
            )
            with open(part, "ab" if have else "wb") as file, bar:
                for chunk in response.iter_content(_CHUNK):
                    file.write(chunk)
                    bar.update(len(chunk))
        os.replace(part, output_file)

    return fetch


def _by_kaggle(source: Source, folder: Path) -> bool:
    """Download with the `kaggle` command where it is installed; raises `OSError` with what it said when it fails."""
    command = shutil.which("kaggle")
    if command is None:
        return False
    kind, reference = source.kaggle.split()
    option = {"competitions": "-c", "datasets": "-d"}[kind]
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".download-", dir=folder) as place:
        done = subprocess.run([command, kind, "download", option, reference, "-p", place], stderr=subprocess.PIPE)
        if done.returncode:
            said = " ".join(done.stderr.decode(errors="replace").split())[-300:]
            raise OSError(f"kaggle {kind} download {option} {reference}: {said or f'exit code {done.returncode}'}")
        for path in sorted(Path(place).iterdir()):
            unpack(path, folder)
    return True


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a ZIP or TAR file into a folder.

    Raises `DatasetError`, before anything is in the folder, for members that would lie outside it, links and devices,
    damaged archives, and archives that unpack to more than 100 times their size; `OSError` when the disk has no room.
    """
    room = shutil.disk_usage(folder).free
    most = _RATIO * archive.stat().st_size + _SLACK
    with tempfile.TemporaryDirectory(prefix=".unpack-", dir=folder) as place:
        inside, size = Path(place), 0
        try:
            for name, length, content in _members(archive):
                size += length + _MEMBER
                if size > most:
                    raise _refused(
                        archive, f"it unpacks to more than {bytes_text(most)}, as no data set's archive does"
                    )
                if size > room:
                    raise OSError(
                        f"{archive}: it unpacks to more than {bytes_text(room)}, all that is free on the disk"
                    )
                target = inside.joinpath(_safe(archive, name))
                target.parent.mkdir(parents=True, exist_ok=True)
                with content() as packed, open(target, "wb") as file:
                    shutil.copyfileobj(packed, file, _CHUNK)
        except _DAMAGED as error:
            raise _refused(archive, f"damaged or encrypted ({error})") from error
        for path in sorted(path for path in inside.rglob("*") if path.is_file()):
            to = folder / path.relative_to(inside)
            to.parent.mkdir(parents=True, exist_ok=True)
            os.replace(path, to)


def _refused(archive: Path, found: str) -> DatasetError:
    return DatasetError(archive.name, found, "the publisher's archive", "nothing of it was unpacked; get it again")


def _safe(archive: Path, name: str) -> PurePosixPath:
    """A member's name as a path that stays below the folder, on every system."""
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or ":" in name:
        raise _refused(archive, f"{name!r} would lie outside the folder")
    return path


def _members(archive: Path) -> Iterator[tuple[str, int, Callable[[], IO[bytes]]]]:
    """Name, size and content of each file of a ZIP or TAR archive; folders come with their files."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as packed:
            for entry in packed.infolist():
                if not entry.is_dir():
                    yield entry.filename, entry.file_size, partial(packed.open, entry)
        return
    try:
        opened = tarfile.open(archive)
    except tarfile.ReadError as error:  # its message tells each compression's own story
        raise _refused(archive, "neither a ZIP nor a TAR archive, or not all of one") from error
    with opened as tar:
        for member in tar:
            if member.isfile():
                yield member.name, member.size, partial(_content, tar, member)
            elif not member.isdir():
                raise _refused(archive, f"{member.name!r} is a link or a device")


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    content = tar.extractfile(member)
    assert content is not None  # it is a file
    return content
