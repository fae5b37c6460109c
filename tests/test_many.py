"""Many signals in one store: here and on a cluster, and after something died."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from PIL import Image

from xai_panel.cli import main
from xai_panel.engine import many
from xai_panel.engine.explain import explain
from xai_panel.engine.many import Done, SchedulerGone, explain_many
from xai_panel.engine.progress import Cancelled
from xai_panel.signals.errors import SignalError
from xai_panel.signals.read import read_signal

MODEL, METHODS = "xray-alexnet", ["saliency", "occlusion"]


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Six small radiographs that differ."""
    rng, folder = np.random.default_rng(0), tmp_path / "in"
    folder.mkdir()
    found = []
    for k in range(6):
        path = folder / f"chest-{k}.png"
        Image.fromarray(rng.integers(0, 256, (96, 96), dtype=np.uint8)).resize((256, 256)).save(path)
        found.append(path)
    return found


def ask(files: Any, to: Path, **more: Any) -> xr.DataTree:
    return explain_many(files, MODEL, METHODS, to=to, store=False, **more)


def check(to: Path, files: list[Path]) -> None:
    """Every file is there once, with the map that `explain` gives it, and nothing else is there."""
    tree = xr.open_datatree(to, engine="zarr", consolidated=False)
    assert sorted(tree.children) == sorted(path.name for path in files)
    assert sorted(p.name for p in to.iterdir()) == sorted([*(path.name for path in files), "zarr.json"])
    for path in files[:2]:
        one = explain(MODEL, read_signal(path, modality="radiograph"), METHODS, store=False)
        ds = tree[path.name].to_dataset()
        np.testing.assert_array_equal(ds["attribution"], one["attribution"])
        assert str(ds.xai.verdict) == str(one.xai.verdict)


class TestHere:
    def test_each_signal_is_a_group_with_its_explanation(self, files, tmp_path) -> None:
        seen: list[Done] = []
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            tree = ask(files[:2], tmp_path / "cases.zarr", on_done=seen.append)
        check(tmp_path / "cases.zarr", files[:2])
        assert [done.name for done in seen] == ["chest-0.png", "chest-1.png"]
        assert not any(done.kept or done.error for done in seen)
        assert tree["chest-0.png"].attrs["model"] == MODEL

    def test_what_is_there_is_kept_and_another_question_replaces_it(self, files, tmp_path) -> None:
        to, seen = tmp_path / "cases.zarr", []
        made = ask(files[:2], to)["chest-0.png"].attrs["created"]
        time.sleep(1.1)
        tree = ask(files[:3], to, on_done=seen.append)
        assert [done.kept for done in seen] == [True, True, False]
        assert tree["chest-0.png"].attrs["created"] == made and seen[0].verdict
        other = ask(files[:1], to, seed=1, on_done=seen.append)
        assert not seen[-1].kept and other["chest-0.png"].attrs["seed"] == 1
        files[1].write_bytes(files[2].read_bytes())
        ask(files[1:2], to, on_done=seen.append)
        assert not seen[-1].kept

    def test_a_bad_file_does_not_stop_the_others(self, files, tmp_path) -> None:
        files[1].write_bytes(b"no picture")
        with pytest.raises(ExceptionGroup, match="1 of 3 signals") as caught:
            ask(files[:3], tmp_path / "cases.zarr")
        assert caught.value.exceptions[0].__notes__ == ["chest-1.png"]
        check(tmp_path / "cases.zarr", [files[0], files[2]])

    def test_names_may_have_folders_and_signals_may_be_arrays(self, files, tmp_path) -> None:
        values = read_signal(files[1], modality="radiograph")
        tree = ask({"a/one": files[0], "a/b/two": values}, tmp_path / "cases.zarr")
        assert tree["a/b/two"].attrs["signal_digest"] != tree["a/one"].attrs["signal_digest"]

    @pytest.mark.parametrize("name", ["", "/etc/x", "../x", "__x", "."])
    def test_names_that_zarr_does_not_have_are_refused(self, name, files, tmp_path) -> None:
        with pytest.raises(ValueError, match="cannot be the name"):
            ask({name: files[0]}, tmp_path / "cases.zarr")
        assert not (tmp_path / "cases.zarr").exists()

    def test_one_name_for_two_signals_is_refused(self, files, tmp_path) -> None:
        with pytest.raises(ValueError, match="have the same name"):
            ask([files[0], Path("elsewhere") / files[0].name], tmp_path / "cases.zarr")
        with pytest.raises(ValueError, match="of the folder of"):
            ask({"a": files[0], "a/b": files[1]}, tmp_path / "cases.zarr")

    def test_a_folder_of_something_else_is_left_alone(self, files, tmp_path) -> None:
        with pytest.raises(FileExistsError, match="no Zarr store"):
            ask(files[:1], files[0].parent)
        assert len(list(files[0].parent.iterdir())) == 6

    def test_stopping_keeps_what_is_finished(self, files, tmp_path) -> None:
        stop = threading.Event()
        with pytest.raises(Cancelled):
            ask(files, tmp_path / "cases.zarr", cancel=stop, on_done=lambda done: stop.set())
        check(tmp_path / "cases.zarr", files[:1])

    def test_who_comes_second_drops_his_copy(self, files, tmp_path) -> None:
        to = tmp_path / "cases.zarr"
        first = ask(files[:1], to)["chest-0.png"].attrs
        ask(files[:1], tmp_path / "second.zarr")
        second = tmp_path / "second.zarr" / "chest-0.png"
        many._move(second, to / "chest-0.png", first["request"])
        assert not second.exists()
        check(to, files[:1])


def _alone(files: list[Path], to: Path, address: str) -> None:
    ask(files, to, client=address)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    distributed = pytest.importorskip("distributed", reason="the extra «cluster» brings Dask")
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        yield cluster


class TestCluster:
    def test_a_worker_that_is_killed_loses_and_doubles_nothing(self, files, tmp_path, cluster) -> None:
        to, seen = tmp_path / "cases.zarr", []
        with cluster.get_client() as client:

            def kill(done: Done) -> None:
                if not seen:
                    os.kill(next(iter(client.run(os.getpid).values())), signal.SIGKILL)
                seen.append(done.name)

            ask(files, to, client=client, on_done=kill)
        assert sorted(seen) == [path.name for path in files]
        check(to, files)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["cases.zarr", "in"]

    def test_a_client_that_is_killed_has_lost_nothing(self, files, tmp_path, cluster) -> None:
        to = tmp_path / "cases.zarr"
        client = multiprocessing.get_context("spawn").Process(
            target=_alone, args=(files, to, cluster.scheduler_address)
        )
        client.start()
        deadline = time.monotonic() + 120
        while not list(to.glob("chest-*")) and time.monotonic() < deadline:
            time.sleep(0.02)
        client.kill()
        client.join()
        there = {path.name for path in to.glob("chest-*")}
        assert there and len(there) < len(files)
        seen: list[Done] = []
        ask(files, to, client=cluster.scheduler_address, on_done=seen.append)
        assert there <= {done.name for done in seen if done.kept}
        check(to, files)

    def test_a_bad_file_does_not_stop_the_others(self, files, tmp_path, cluster, capsys) -> None:
        files[1].write_bytes(b"no picture")
        to = tmp_path / "cases.zarr"
        arguments = ["--model", MODEL, "--methods", ",".join(METHODS), "--scheduler", cluster.scheduler_address]
        assert main(["explain", *map(str, files[:3]), *arguments, "--no-store", "-o", str(to)]) == 1
        told = capsys.readouterr()
        assert f"2 of 3 files explained -> {to}" in told.out
        assert told.err.startswith(str(files[1])) and "internal error" not in told.err
        check(to, [files[0], files[2]])

    def test_a_scheduler_that_dies_ends_the_run_and_the_rest_goes_on_elsewhere(self, files, tmp_path, cluster) -> None:
        code = """
            from distributed import LocalCluster
            with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster:
                print(cluster.scheduler_address, flush=True)
                input()
        """
        command = [sys.executable, "-c", textwrap.dedent(code)]
        to, seen = tmp_path / "cases.zarr", []
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
        ) as mortal:
            assert mortal.stdout is not None
            with pytest.raises(SchedulerGone, match=r"went away after [1-5] of 6"):
                ask(
                    files,
                    to,
                    client=mortal.stdout.readline().strip(),
                    on_done=lambda done: os.killpg(mortal.pid, signal.SIGKILL),
                )
        ask(files, to, client=cluster.scheduler_address, on_done=seen.append)
        assert any(done.kept for done in seen)
        check(to, files)


def test_errors_travel() -> None:
    class Stubborn(Exception):
        def __init__(self, a: int, b: int) -> None:
            super().__init__(f"{a} and {b}")

    plain = SignalError("x.wav", "silence", "sound", "record again")
    assert str(many._portable(plain)) == str(plain) and type(many._portable(plain)) is SignalError
    assert str(many._portable(Stubborn(1, 2))) == "Stubborn: 1 and 2"


def test_a_cluster_that_does_not_answer_is_named(files, tmp_path, monkeypatch) -> None:
    pytest.importorskip("distributed", reason="the extra «cluster» brings Dask")
    monkeypatch.setattr(many, "_CONNECT", 0.5)
    with pytest.raises(SchedulerGone, match=r"no Dask scheduler answers at tcp://127.0.0.1:9"):
        ask(files[:1], tmp_path / "cases.zarr", client="tcp://127.0.0.1:9")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--scheduler", "tcp://127.0.0.1:9"], "needs -o OUT.zarr"),
        (["-o", "x.zarr", "--png", "x.png"], "do not go with a Zarr store"),
    ],
)
def test_the_command_line_refuses_what_does_not_go_together(files, arguments, says, capsys) -> None:
    assert main(["explain", str(files[0]), *arguments]) == 2
    assert says in capsys.readouterr().err
