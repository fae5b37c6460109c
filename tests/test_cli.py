"""The command line: exit codes, one line per failure, the same results as the Python API."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image
from questions import small
from tiny import Logits

from xai_panel.cli import main
from xai_panel.engine.explain import explain
from xai_panel.explanation.export import read_netcdf
from xai_panel.models import registry
from xai_panel.models.classifier import Classifier
from xai_panel.signals.read import read_signal

SMALL = {name: small(name) for name in ("audio", "radiograph")}


@pytest.fixture(autouse=True)
def small_models(monkeypatch, tmp_path_factory):
    """Small networks under the ids of the shipped classifiers, and an empty store."""
    by_id = {classifier.id: classifier for classifier in SMALL.values()}
    monkeypatch.setattr(registry, "models", lambda: [classifier.card for classifier in SMALL.values()])
    monkeypatch.setattr(registry, "load_model", by_id.__getitem__)
    monkeypatch.setenv("XAI_PANEL_CACHE", str(tmp_path_factory.mktemp("store")))


@pytest.fixture
def files(tmp_path) -> Path:
    """A folder with a recording, a radiograph of the same name, a deeper recording, and three files of neither kind."""
    folder = tmp_path / "in"
    (folder / "deeper").mkdir(parents=True)
    noise = np.random.default_rng(0)
    soundfile.write(folder / "case.wav", noise.uniform(-0.3, 0.3, 8000), 16_000)
    soundfile.write(folder / "deeper" / "case.flac", noise.uniform(-0.3, 0.3, 12_000), 16_000)
    Image.fromarray(noise.integers(0, 255, (300, 240), dtype=np.uint8)).save(folder / "case.png")
    (folder / "empty.wav").touch()
    (folder / "notes.txt").write_text("not a signal\n" * 40)
    (folder / "torn.png").write_bytes((folder / "case.png").read_bytes()[:700])
    return folder


def lines(capsys) -> tuple[list[str], list[str]]:
    captured = capsys.readouterr()
    return captured.out.splitlines(), captured.err.splitlines()


# --- explain


def test_one_file_gives_the_dataset_of_the_api(files, tmp_path, capsys):
    out = tmp_path / "case.nc"
    assert main(["explain", str(files / "case.wav"), "--methods", "grad-cam, saliency", "-o", str(out)]) == 0
    ds = read_netcdf(out)
    expected = explain(SMALL["audio"], read_signal(files / "case.wav"), ["grad-cam", "saliency"], store=False)
    np.testing.assert_array_equal(ds["attribution"], expected["attribution"])
    assert ds["method"].values.tolist() == ["grad-cam", "saliency"]
    stdout, stderr = lines(capsys)
    assert re.fullmatch(r".*case\.wav: audio-mobilenetv2: (bona fide|spoof) >?\d+ % -> .*case\.nc", stdout[0])
    assert not stderr


@pytest.mark.parametrize(
    ("logits", "words"),
    [
        ([2.0, 0.1], "Pneumonia 88 %, Edema 52 %"),
        ([-1.0, -3.0], "none of the findings that it was trained on; most probable: Pneumonia 27 %"),
    ],
)
def test_each_finding_is_named(logits, words, files, capsys, monkeypatch):
    frontend = {"kind": "radiograph", "size": 16}
    seen = Logits(lambda x: x.mean((1, 2, 3))[:, None] * 0 + torch.tensor(logits))
    mine = Classifier.from_torch(
        seen, labels=["Pneumonia", "Edema"], frontend=frontend, multi_label=True, id="findings"
    )
    monkeypatch.setattr(registry, "models", lambda: [mine.card])
    monkeypatch.setattr(registry, "load_model", lambda id: mine)
    arguments = ["explain", str(files / "case.png"), "--model", "findings", "--methods", "saliency"]
    assert main(arguments) == 0
    assert lines(capsys)[0][0] == f"{files / 'case.png'}: findings: {words}"


def test_the_model_follows_from_the_kind_of_signal(files, tmp_path, capsys):
    assert main(["explain", str(files / "case.png"), "--methods", "saliency"]) == 0
    stdout, _ = lines(capsys)
    assert "case.png: xray-mobilenetv2: " in stdout[0]
    assert stdout[1].split() == ["method", "seconds", "evaluations", "error", "agreement"]
    assert stdout[2].startswith("saliency")


def test_target_seed_and_layer_are_passed_on(files, tmp_path):
    out = tmp_path / "case.nc"
    arguments = ["explain", str(files / "case.png"), "--methods", "grad-cam", "-o", str(out)]
    assert main([*arguments, "--target", "normal", "--seed", "5", "--layer", "0"]) == 0
    attrs = read_netcdf(out).attrs
    assert (attrs["target"], attrs["seed"], attrs["target_layer"]) == (0, 5, "0")
    assert main([*arguments, "--target", "1"]) == 0
    assert read_netcdf(out).attrs["target_label"] == "pneumonia"


def test_a_folder_gives_an_explanation_or_one_line_for_each_file(files, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["explain", str(files), "--methods", "saliency", "-o", str(out), "--png", str(out)]) == 1
    made = sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())
    names = ["case.png", "case.wav", "deeper/case.flac"]
    assert made == sorted([f"{name}.nc" for name in names] + [f"{name}.png" for name in names])
    stdout, stderr = lines(capsys)
    assert stdout[-1] == "3 of 6 files explained"
    assert len(stderr) == 3
    for name, line in zip(("empty.wav", "notes.txt", "torn.png"), stderr, strict=True):
        assert line.startswith(f"{files / name}: ")
        assert "; accepted: " in line


def test_several_files_need_a_folder_for_their_outputs(files, tmp_path, capsys):
    both = [str(files / "case.wav"), str(files / "case.png")]
    assert main(["explain", *both, "--methods", "saliency", "-o", str(tmp_path / "out.nc")]) == 2
    assert "several inputs need a folder" in lines(capsys)[1][0]
    assert main(["explain", *both, "--methods", "saliency", "-o", str(tmp_path / "out")]) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["case.png.nc", "case.wav.nc"]


def test_a_single_file_may_go_into_an_existing_folder(files, tmp_path):
    assert main(["explain", str(files / "case.wav"), "--methods", "saliency", "--csv", str(tmp_path)]) == 0
    assert (tmp_path / "case.wav.csv").read_text().startswith("method,frequency [Hz],time [s],input [dB],attribution\n")


def test_files_that_are_not_there(tmp_path, capsys):
    assert main(["explain", str(tmp_path / "missing.wav")]) == 1
    (tmp_path / "empty").mkdir()
    assert main(["explain", str(tmp_path / "empty")]) == 1
    _, stderr = lines(capsys)
    assert len(stderr) == 2
    assert "missing.wav" in stderr[0] and "no file in this folder" in stderr[1]


def test_a_radiograph_for_an_audio_model_is_one_line(files, capsys):
    assert main(["explain", str(files / "case.png"), "--model", "audio-mobilenetv2", "--methods", "saliency"]) == 1
    _, stderr = lines(capsys)
    assert len(stderr) == 1
    assert "this is a radiograph" in stderr[0] and "audio-mobilenetv2" in stderr[0]


def test_an_internal_error_is_one_line_too(files, capsys, monkeypatch):
    def fail(*_):
        raise ZeroDivisionError("so\nmany\nlines")

    monkeypatch.setattr(SMALL["audio"].backend, "before_call", lambda: fail())
    assert main(["explain", str(files / "case.wav"), "--methods", "saliency"]) == 1
    _, stderr = lines(capsys)
    assert stderr == [f"{files / 'case.wav'}: internal error, ZeroDivisionError: so many lines; -v shows where"]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["explain", "a.wav", "--methods", "grad-cm"], "did you mean grad-cam"),
        (["explain", "a.wav", "--methods", " ,"], "names no method"),
        (["explain", "a.wav", "--model", "resnet"], "no classifier 'resnet'; there are: audio-mobilenetv2"),
        (["explain", "a.wav", "-o", "/no/such/folder/a.nc"], "there is no folder /no/such/folder"),
        (["models", "resnet"], "no classifier 'resnet'"),
    ],
)
def test_wrong_usage_is_one_line_and_2(arguments, message, capsys):
    assert main(arguments) == 2
    _, stderr = lines(capsys)
    assert len(stderr) == 1 and message in stderr[0]


@pytest.mark.parametrize("arguments", [[], ["explain"], ["explain", "a.wav", "--tpyo"], ["train", "x"]])
def test_argparse_errors_exit_with_2(arguments, capsys):
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2


def test_a_stopped_command_says_so(files, capsys, monkeypatch):
    def stop():
        raise KeyboardInterrupt

    monkeypatch.setattr(SMALL["audio"].backend, "before_call", stop)
    assert main(["explain", str(files / "case.wav"), "--methods", "saliency"]) == 130
    assert lines(capsys)[1] == ["xai-panel: stopped"]


def test_progress_is_drawn_only_for_somebody_who_watches(files, capsys, monkeypatch):
    arguments = ["explain", str(files / "case.wav"), "--methods", "saliency,occlusion", "--no-store"]
    assert main(arguments) == 0
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert main(arguments) == 0
    drawn = capsys.readouterr().err
    assert "case.wav" in drawn and "Occlusion: " in drawn and "100 %" in drawn


def test_maps_are_kept_unless_told_otherwise(files):
    arguments = ["explain", str(files / "case.wav"), "--methods", "saliency"]
    store = Path(os.environ["XAI_PANEL_CACHE"])
    assert main([*arguments, "--no-store"]) == 0
    assert not list(store.rglob("*.zip"))
    assert main(arguments) == 0
    assert len(list(store.rglob("*.zip"))) == 2  # the verdict and the map


# --- models, methods, train


def test_models_are_listed_in_columns(capsys):
    assert main(["models"]) == 0
    stdout, _ = lines(capsys)
    assert stdout[0].split() == ["id", "signal", "framework", "classes", "title"]
    assert len({line.index(word, 6) for line, word in zip(stdout, ("signal", "audio", "radiograph"), strict=True)}) == 1
    assert main(["models", "--json"]) == 0
    cards = json.loads(capsys.readouterr().out)
    assert [card["id"] for card in cards] == ["audio-mobilenetv2", "xray-mobilenetv2"]


def test_a_card_is_printed_whole(capsys):
    assert main(["models", "xray-mobilenetv2"]) == 0
    stdout, _ = lines(capsys)
    assert "labels: normal, pneumonia" in stdout and "modality: radiograph" in stdout
    assert main(["models", "xray-mobilenetv2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["labels"] == ["normal", "pneumonia"]


def test_methods_are_listed_with_what_they_need(capsys):
    from xai_panel.methods import METHODS

    assert main(["methods"]) == 0
    stdout, _ = lines(capsys)
    assert [line.split()[0] for line in stdout] == ["id", *METHODS]
    assert main(["methods", "--json", "--model", "xray-mobilenetv2"]) == 0
    facts = {fact["id"]: fact for fact in json.loads(capsys.readouterr().out)}
    assert facts["cam"]["compatible"] == "yes" and facts["lime"]["needs"] == "forward"


def test_train_passes_on_what_was_asked(monkeypatch, tmp_path, capsys):
    from xai_panel.training import run

    asked = {}
    monkeypatch.setattr(
        run, "train", lambda id, data, **rest: asked.update(id=id, data=data, **rest) or Path("card.toml")
    )
    assert (
        main(
            [
                "train",
                "xray-mobilenetv2",
                "--data",
                str(tmp_path),
                "--seed",
                "3",
                "--classes",
                "normal",
                "opacity",
                "--uncertain",
                "ones",
            ]
        )
        == 0
    )
    assert asked == {
        "id": "xray-mobilenetv2", "data": tmp_path, "seed": 3, "out": Path("weights"), "initial": None, "epochs": None,
        "classes": ("normal", "opacity"), "options": {"uncertain": "ones"},
    }  # fmt: skip
    assert "card.toml" in lines(capsys)[0][0]


def test_training_without_data_is_one_line(tmp_path, capsys):
    assert main(["train", "xray-mobilenetv2", "--data", str(tmp_path / "none")]) == 1
    assert main(["train", "no-such-model", "--data", str(tmp_path)]) == 2
    assert len(lines(capsys)[1]) == 2


# --- the real thing, in a process of its own


def run(*arguments: str, **options) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "xai_panel", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, **options)


def test_version_and_help_need_no_model():
    assert run("--version").stdout.startswith("xai-panel 0.")
    help = run("explain", "--help")
    assert help.returncode == 0 and "--methods A,B" in help.stdout


@pytest.mark.slow
def test_a_folder_of_real_recordings_and_radiographs(shared_data, tmp_path):
    folder = tmp_path / "mixed"
    folder.mkdir()
    recordings = sorted((shared_data / "speech").rglob("*.flac"))[::200]
    radiographs = sorted((shared_data / "chest_xray_adults").rglob("*.jpg"))[::300]
    dicom = sorted(path for path in (shared_data / "dicom").iterdir() if path.suffix == ".dcm")
    for i, path in enumerate([*recordings, *radiographs, *dicom]):
        shutil.copy(path, folder / f"{i}{path.suffix}")
    (folder / "broken.flac").write_bytes(recordings[0].read_bytes()[:1000])
    count = len(list(folder.iterdir()))
    done = run("explain", str(folder), "--methods", "grad-cam,saliency", "-o", str(tmp_path / "out"), cwd=tmp_path)
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == 1 and "broken.flac: " in done.stderr
    assert done.returncode == 1
    made = list((tmp_path / "out").glob("*.nc"))
    assert len(made) == count - 1
    for path in made:
        assert np.isfinite(read_netcdf(path)["attribution"]).all()


@pytest.mark.slow
def test_serve_answers_on_its_address_and_stops():
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "xai_panel", "serve", "--port", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        said = [server.stdout.readline().strip() for _ in range(2)]
        assert said[1] == f"xai_panel: http://localhost:{port}  (Ctrl+C stops)"
        with urllib.request.urlopen(f"http://localhost:{port}/audio", timeout=120) as answer:
            assert answer.status == 200
    finally:
        server.send_signal(signal.SIGINT)
        server.communicate(timeout=60)
    assert server.returncode == 0
