"""`xai-panel data`: what is listed, and downloads from a server of the test's own, whole, broken and malicious."""

from __future__ import annotations

import hashlib
import io
import json
import os
import stat
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from xai_panel.cli import main
from xai_panel.training.datasets import LAYOUTS, DatasetError, fetch, sources
from xai_panel.training.datasets.sources import Archive, Source

NOISE = np.random.default_rng(0).bytes(300_000)


def zipped(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def tarred(files: dict[str, bytes | str], mode: str = "w:gz") -> bytes:
    """A TAR archive; a text is the target of a symbolic link."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:  # type: ignore[call-overload]
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            if isinstance(content, str):
                member.type, member.linkname = tarfile.SYMTYPE, content
                archive.addfile(member)
            else:
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


class Server(ThreadingHTTPServer):
    """Serves `content`, whole or from a range on; breaks off after `breaks_after` bytes of one answer."""

    content: bytes = b""
    breaks_after: int | None = None
    ranges = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str | None] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/set.zip"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server, asked = self.server, self.headers.get("Range")
        server.asked.append(asked)
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and server.ranges else 0
        if start and start >= len(server.content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(server.content)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        body = server.content[start:]
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(server.content) - 1}/{len(server.content)}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: server.breaks_after])
        server.breaks_after = None
        self.close_connection = True

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as served:
        thread = threading.Thread(target=served.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield served
        served.shutdown()
        thread.join()


def offered(server: Server, content: bytes, kind: str = "sha256", **changes: object) -> Source:
    """A source of one archive at the server, with its right digest."""
    server.content = content
    digest = f"{kind}:{hashlib.new(kind, content).hexdigest()}" if kind else ""
    facts = {name: "" for name in ("title", "modality", "content", "licence", "size", "terms", "page")}
    archive = Archive(server.url, digest, "set")
    return Source("mine", **facts, steps=("Open DIR.",), **({"files": (archive,)} | changes))  # type: ignore[arg-type]


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


FILES = {"set/meta.csv": b"file,label\n", "set/deep/1.wav": NOISE}


class TestDownload:
    @pytest.mark.parametrize("kind", ["sha256", "md5", ""])
    @pytest.mark.parametrize("pack", [zipped, tarred])
    def test_the_data_set_is_there_and_only_it(self, kind: str, pack, server: Server, tmp_path: Path) -> None:
        source = offered(server, pack(FILES), kind)
        assert fetch.get(source, tmp_path / "new")
        assert everything(tmp_path / "new") == FILES
        assert fetch.get(source, tmp_path / "new")
        assert server.asked == [None]

    def test_an_interrupted_download_goes_on_where_it_was(self, server: Server, tmp_path: Path) -> None:
        source = offered(server, zipped(FILES))
        server.breaks_after = 200_000
        with pytest.raises(OSError, match=r"set.zip: .*; the same command goes on where it stopped"):
            fetch.get(source, tmp_path)
        part = tmp_path / "set.zip.part"
        have = part.stat().st_size
        assert 0 < have <= 200_000 and everything(tmp_path) == {part.name: server.content[:have]}
        assert fetch.get(source, tmp_path)
        assert server.asked == [None, f"bytes={have}-"]
        assert everything(tmp_path) == FILES

    def test_a_server_without_ranges_begins_again(self, server: Server, tmp_path: Path) -> None:
        source = offered(server, zipped(FILES))
        server.ranges = False
        (tmp_path / "set.zip.part").write_bytes(b"from before")
        assert fetch.get(source, tmp_path)
        assert everything(tmp_path) == FILES

    def test_a_part_that_is_whole_is_taken(self, server: Server, tmp_path: Path) -> None:
        source = offered(server, zipped(FILES))
        (tmp_path / "set.zip.part").write_bytes(server.content)
        assert fetch.get(source, tmp_path)
        assert everything(tmp_path) == FILES

    def test_a_part_of_a_longer_file_is_thrown_away(self, server: Server, tmp_path: Path) -> None:
        source = offered(server, zipped(FILES))
        (tmp_path / "set.zip.part").write_bytes(server.content + b"more")
        with pytest.raises(OSError, match="416"):
            fetch.get(source, tmp_path)
        assert everything(tmp_path) == {}

    def test_a_wrong_digest_is_an_error_and_keeps_nothing(self, server: Server, tmp_path: Path) -> None:
        source = offered(server, zipped(FILES))
        server.content = zipped({"set/meta.csv": b"another"})
        with pytest.raises(DatasetError, match=r"set.zip: not the published file.*expected: sha256:.*it was not kept"):
            fetch.get(source, tmp_path)
        assert everything(tmp_path) == {}

    def test_a_page_instead_of_an_archive_is_not_kept(self, server: Server, tmp_path: Path) -> None:
        source = offered(server, b"<html>Please sign in</html>", kind="")
        with pytest.raises(DatasetError, match=r"set.zip: neither a ZIP nor a TAR archive"):
            fetch.get(source, tmp_path)
        assert everything(tmp_path) == {}

    def test_a_server_that_does_not_answer_is_an_error(self, server: Server, tmp_path: Path) -> None:
        source = offered(server, zipped(FILES), files=(Archive("http://127.0.0.1:1/set.zip", "", "set"),))
        with pytest.raises(OSError):
            fetch.get(source, tmp_path)
        assert everything(tmp_path) == {}


class TestUnpack:
    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (zipped({"set/1.wav": b"good", "../evil.txt": b"x"}), r"'../evil.txt' would lie outside the folder"),
            (zipped({"set/../../evil.txt": b"x"}), "would lie outside the folder"),
            (zipped({"/evil.txt": b"x"}), "would lie outside the folder"),
            (zipped({"..\\evil.txt": b"x"}), "would lie outside the folder"),
            (zipped({"C:\\evil.txt": b"x"}), "would lie outside the folder"),
            (tarred({"../evil.txt": b"x"}), "would lie outside the folder"),
            (tarred({"set/link": "/etc", "set/link/evil.txt": b"x"}), "'set/link' is a link or a device"),
            (zipped({"set/bomb": bytes(2**27)}), "it unpacks to more than .* MB, as no data set's archive does"),
            (tarred({f"set/{k}": b"" for k in range(2**11)} | {"bomb": bytes(2**27)}), "it unpacks to more than"),
            (zipped(FILES)[:-100], "neither a ZIP nor a TAR archive, or not all of one"),
            (tarred(FILES)[:-1000], "damaged or encrypted"),
            (zipped(FILES).replace(NOISE[1000:1010], bytes(10)), "damaged or encrypted"),
            (b"<html>Please sign in</html>", "neither a ZIP nor a TAR archive, or not all of one"),
        ],
    )
    def test_what_is_refused_leaves_nothing(self, content: bytes, message: str, tmp_path: Path) -> None:
        archive, folder = tmp_path / "set.zip", tmp_path / "deep" / "data"
        folder.mkdir(parents=True)
        archive.write_bytes(content)
        with pytest.raises(DatasetError, match=rf"set.zip: .*{message}.*nothing of it was unpacked"):
            fetch.unpack(archive, folder)
        assert everything(tmp_path) == {"set.zip": content} and list(folder.iterdir()) == []

    def test_a_full_disk_is_seen_before_it_is_full(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        archive = tmp_path / "set.zip"
        archive.write_bytes(zipped(FILES))
        monkeypatch.setattr(fetch.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 200_000}))
        with pytest.raises(OSError, match="it unpacks to more than 195 kB, all that is free on the disk"):
            fetch.unpack(archive, tmp_path)


class TestKaggle:
    @staticmethod
    def install(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
        command = folder / "kaggle"
        command.write_text(f"#!/bin/sh\n{script}\n")
        command.chmod(command.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)

    @pytest.mark.skipif(os.name == "nt", reason="the stand-in for the kaggle command is a shell script")
    def test_the_command_downloads_with_the_persons_credentials(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "packed.zip").write_bytes(zipped({"labels.csv": b"a", "images/1.dcm": NOISE}))
        script = f'echo "$@" > {tmp_path}/asked; cp {tmp_path}/packed.zip "$6/challenge.zip"'
        self.install(tmp_path, script, monkeypatch)
        entry = sources.sources()["rsna-pneumonia"]
        source = Source(**{**vars(entry), "gives": "labels.csv"})
        assert fetch.get(source, tmp_path / "data")
        assert everything(tmp_path / "data") == {"labels.csv": b"a", "images/1.dcm": NOISE}
        asked = (tmp_path / "asked").read_text().split()
        assert asked[:5] == ["competitions", "download", "-c", "rsna-pneumonia-detection-challenge", "-p"]
        (tmp_path / "kaggle").unlink()
        assert fetch.get(source, tmp_path / "data")  # it is there

    @pytest.mark.skipif(os.name == "nt", reason="the stand-in for the kaggle command is a shell script")
    def test_what_it_says_when_it_fails_is_passed_on(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
    ) -> None:
        self.install(tmp_path, "echo '403 - Forbidden: accept the rules first' >&2; exit 1", monkeypatch)
        assert main(["data", "get", "rsna-pneumonia", str(tmp_path / "data")]) == 1
        out, err = capsys.readouterr()
        assert "403 - Forbidden: accept the rules first" in err and "accept the rules." in out
        assert everything(tmp_path / "data") == {}

    def test_without_the_command_the_steps_are_told(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
    ) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        assert main(["data", "get", "nih-chestxray14", str(tmp_path / "data")]) == 1
        assert f"so that there is {tmp_path / 'data'}/images/00000001_000.png" in capsys.readouterr().out
        assert not (tmp_path / "data").exists()


class TestCommands:
    def test_every_published_layout_is_listed_with_licence_and_size(self, capsys: pytest.CaptureFixture) -> None:
        assert main(["data", "list", "--json"]) == 0
        rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
        own = {"speech", "chest-xray-children", "chest-xray-adults", "folder-per-class"}
        assert set(rows) == set(LAYOUTS) - own | {"ljspeech"}
        for row in rows.values():
            assert all(row[key] for key in ("title", "modality", "content", "licence", "size", "terms", "steps"))
            assert row["page"].startswith("https://") and any("DIR" in step for step in row["steps"])
            assert all(file["url"].startswith("https://") and file["gives"] for file in row["files"])
        assert main(["data", "list"]) == 0
        out = capsys.readouterr().out.splitlines()
        assert out[0].split() == ["name", "modality", "size", "licence", "terms"] and len(out) == 1 + len(rows)

    def test_one_is_described(self, capsys: pytest.CaptureFixture) -> None:
        assert main(["data", "info", "chexpert-small"]) == 0
        out = capsys.readouterr().out
        assert "licence: Stanford University Dataset Research Use Agreement" in out
        assert "layout: CheXpert-v1.0-small/train.csv" in out and "2. Register with Stanford AIMI" in out

    @pytest.mark.parametrize("arguments", [["info", "mnist"], ["get", "mnist", "somewhere"]])
    def test_an_unknown_name_lists_the_names(self, arguments: list[str], capsys: pytest.CaptureFixture) -> None:
        assert main(["data", *arguments]) == 2
        assert "no data set 'mnist'; there are: fake-or-real, asvspoof2019-la" in capsys.readouterr().err

    def test_get_says_where_it_is_or_how_to_get_it(
        self, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
    ) -> None:
        source = offered(server, zipped(FILES))
        monkeypatch.setattr(sources, "sources", lambda: {"mine": source})
        server.content = b"an error page"
        assert main(["data", "get", "mine", str(tmp_path)]) == 1
        out, err = capsys.readouterr()
        assert "not the published file" in err and f"1. Open {tmp_path}." in out
        server.content = zipped(FILES)
        assert main(["data", "get", "mine", str(tmp_path)]) == 0
        assert f"mine: {tmp_path}" in capsys.readouterr().out
