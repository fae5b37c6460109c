"""How the weights are made: splits, figures, augmentation, resuming, the ImageNet start."""

from __future__ import annotations

import collections
import csv
import dataclasses
import functools
import hashlib
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from published import chexpert_small, collected_radiographs
from torch import nn

from xai_panel.models.frontends import LogMel, RadiographImage, build_frontend
from xai_panel.models.spectra import ConstantQ, Waveform
from xai_panel.models.state import read_state
from xai_panel.training import audio_task, evaluate, fit, imagenet, radiographs, recordings
from xai_panel.training.datasets import DatasetError
from xai_panel.training.learners import KerasLearner, Learner, TorchLearner, loss_of
from xai_panel.training.published import PUBLISHED
from xai_panel.training.recipes import RECIPES
from xai_panel.training.splits import part_of, split
from xai_panel.training.task import Source


def speech_like(seconds: float = 1.5, rate: int = 16_000) -> np.ndarray:
    """Harmonics of 120 Hz, switched on and off like syllables, over a little noise."""
    rng = np.random.default_rng(3)
    time = np.arange(int(seconds * rate)) / rate
    wave = sum(np.sin(2 * np.pi * 120 * k * time) / k for k in range(1, 20))
    wave = wave * (np.sin(2 * np.pi * 3 * time) > -0.3) + 0.01 * rng.standard_normal(time.size)
    return (0.1 * wave).astype(np.float32)


def recording(value: int, generator: str) -> recordings.Recording:
    wave = (speech_like() * 32767).astype(np.int16)
    return recordings.Recording(wave, generator, "LibriSpeech", f"s{value}", "train")


class TestFigures:
    def test_auroc_counts_pairs(self) -> None:
        rng = np.random.default_rng(0)
        scores = rng.integers(0, 6, 60).astype(float)
        positive = rng.random(60) < 0.4
        pairs = [(p > n) + 0.5 * (p == n) for p in scores[positive] for n in scores[~positive]]
        assert evaluate.auroc(scores, positive) == pytest.approx(np.mean(pairs))

    def test_equal_error_rate_of_known_lists(self) -> None:
        positive = np.array([1, 1, 1, 1, 0, 0, 0, 0], dtype=bool)
        assert evaluate.equal_error_rate(np.arange(8.0)[::-1], positive) == 0.0
        assert evaluate.equal_error_rate(np.array([8, 7, 6, 3, 5, 2, 1, 0.0]), positive) == pytest.approx(0.25)

    def test_the_scale_and_the_shift_of_each_finding_are_found(self) -> None:
        rng = np.random.default_rng(1)
        parts = []
        for shift in (0.7, -2.0):
            true = rng.normal(0, 2, 20_000)
            labels = (rng.random(true.size) < 1 / (1 + np.exp(-true))).astype(int)
            parts.append((np.stack([np.zeros_like(true), 3.0 * true - shift], axis=1), labels))
        temperature, shifts = evaluate.fit_calibration(parts)
        assert temperature == pytest.approx(3.0, rel=0.05)
        assert shifts == pytest.approx([0.7, -2.0], abs=0.15)
        logits, labels = parts[1]
        calibrated = evaluate.probabilities(logits + np.array([0.0, shifts[1]]), temperature)[:, 1]
        assert evaluate.calibration_error(calibrated, labels == 1) < 0.02
        assert evaluate.calibration_error(evaluate.probabilities(logits, 1.0)[:, 1], labels == 1) > 0.05

    def test_a_rare_class_weighs_as_much_as_a_frequent_one(self) -> None:
        rng = np.random.default_rng(2)
        labels = np.repeat([0, 1], [1000, 9000])
        margins = rng.normal(np.where(labels == 1, 1.0, -1.0), 1.0)  # equally likely at 0, with slope 2
        temperature, (shift,) = evaluate.fit_calibration([(np.stack([-margins / 2, margins / 2], axis=1), labels)])
        assert shift == pytest.approx(0.0, abs=0.1)
        assert temperature == pytest.approx(0.5, rel=0.1)

    def test_a_part_that_is_told_apart_does_not_make_the_classifier_sure_of_everything(self) -> None:
        labels = np.repeat([0, 1], 100)
        logits = np.stack([np.where(labels == 0, 2.0, -2.0), np.where(labels == 0, -2.0, 2.0)], axis=1)
        temperature, _ = evaluate.fit_calibration([(logits, labels)])
        chance = evaluate.probabilities(logits, temperature)[labels == 1, 1]
        assert chance == pytest.approx(101 / 102, abs=1e-3)

    def test_the_interval_draws_whole_groups(self) -> None:
        scores = np.repeat([0.0, 1.0, 0.4, 0.6], 50)
        positive = np.repeat([False, True, True, False], 50)
        few = evaluate.bootstrap_interval(scores, positive, np.repeat(np.arange(20), 10))
        many = evaluate.bootstrap_interval(scores, positive, np.arange(200))
        assert few[1] - few[0] > 2 * (many[1] - many[0]) > 0
        assert evaluate.bootstrap_interval(scores, positive, np.repeat(np.arange(9), 25)[:200]) == []


class TestSplits:
    def test_a_group_is_on_one_side_whatever_else_is_there(self) -> None:
        names = [f"speaker-{k}" for k in range(500)]
        assert split(names) == split(reversed(names + names))
        shares = [
            sum(part == name for part in split(names).values()) / 500 for name in ("train", "validation", "held-out")
        ]
        assert shares[0] == pytest.approx(0.72, abs=0.05)
        assert shares[2] == pytest.approx(0.20, abs=0.05)
        assert any(part_of(n, 0) != part_of(n, 1) for n in names)

    def test_shipped_splits_keep_groups_apart(self) -> None:
        from xai_panel.resources import weights_dir

        files = list(weights_dir().glob("*.split.csv"))
        assert len(files) >= 2
        for path in files:
            with open(path, newline="", encoding="utf-8") as file:
                rows = list(csv.DictReader(file))
            assert len({row["group"] for row in rows}) == len(rows)
            assert {row["part"] for row in rows} == {"train", "validation", "held-out"}


class TestAugmentation:
    def test_recordings_of_both_classes_meet_the_same_lottery(self) -> None:
        wave = speech_like().astype(np.float64)
        outcomes = [recordings.augment_waveform(wave, 16_000, np.random.default_rng(k)) for k in range(40)]
        again = recordings.augment_waveform(wave, 16_000, np.random.default_rng(7))
        np.testing.assert_array_equal(outcomes[7], again)
        assert all(np.isfinite(o).all() and np.abs(o).max() <= 1.3 and o.size >= 0.2 * wave.size for o in outcomes)
        assert len({o.size for o in outcomes}) > 5

    @pytest.mark.parametrize(
        ("frontend", "shape"),
        [
            (LogMel(), (3, 224, 224)),
            (LogMel(bands=40, frames=32, mean=[0.5], std=[0.25]), (1, 40, 32)),
            (Waveform(samples=16_000), (16_000,)),
            (ConstantQ(frames=20), (432, 20)),
        ],
    )
    def test_batches_pair_each_recording_with_its_own_copy(self, frontend, shape) -> None:
        everything = [recording(k, name) for name in ("", *recordings.SHARES) for k in range(4)]
        pairs = list(recordings.own_copies(everything, 2, np.random.default_rng(0)))
        assert [a.generator for a, _ in pairs] == [""] * 8 and all(b.generator for _, b in pairs)
        assert all(a.speaker == b.speaker for a, b in pairs)
        batches = list(recordings.epoch_batches(pairs, frontend, 16_000, 8, np.random.default_rng(0)))
        assert len(batches) == 2
        for inputs, labels in batches:
            assert inputs.shape == (8, *shape) and inputs.isfinite().all()
            assert labels.tolist() == [0, 1] * 4

    def test_loud_windows_are_not_the_pauses(self, monkeypatch) -> None:
        monkeypatch.setattr(recordings, "augment_waveform", lambda wave, rate, rng: wave)
        frontend = Waveform(samples=3200)
        rng = np.random.default_rng(0)
        wave = np.where(np.arange(32_000) > 12_000, 3000 * rng.standard_normal(32_000), 0).astype(np.int16)
        pairs = [tuple(recordings.Recording(wave, name, "", "s", "train") for name in ("", "lpc"))] * 8
        for loud in (True, False):
            ((inputs, _),) = recordings.epoch_batches(pairs, frontend, 16_000, 16, np.random.default_rng(0), loud)
            assert ((inputs.std(dim=1) > 0.01) == loud).all()

    def test_published_pairs_have_both_classes_and_no_recording_twice(self) -> None:
        bona_fide, spoofed = [recording(k, "") for k in range(3)], [recording(k, "tts") for k in range(7)]
        pairs = list(recordings.drawn_pairs(bona_fide, spoofed, np.random.default_rng(0)))
        assert sorted(a.speaker for a, _ in pairs) == ["s0", "s1", "s2"]
        assert len({b.speaker for _, b in pairs}) == 3 and all(b.label for _, b in pairs)

    def test_an_epoch_has_both_answers_of_each_finding_alike(self) -> None:
        unknown = np.nan
        labels = np.array([[0, unknown]] * 6 + [[1, unknown]] * 20 + [[unknown, 0]] * 2 + [[unknown, 1]] * 2)
        some = np.full(30, "")
        images = radiographs.Radiographs(np.zeros((30, 8, 8)), np.arange(30), labels.astype(np.float32), some, some)
        seen = labels[radiographs.epoch_order(images, np.random.default_rng(0))]
        assert [int((seen[:, 0] == k).sum()) for k in (0, 1)] == [6, 6]
        assert [int((seen[:, 1] == k).sum()) for k in (0, 1)] == [6, 6]  # two of each, three times

    def test_radiographs_stay_radiographs(self) -> None:
        rng = np.random.default_rng(0)
        features = torch.from_numpy(rng.random((6, 224, 224)).astype(np.float32)) * 0.5 + 0.25
        changed = radiographs.augment(features, rng)
        assert changed.shape == features.shape
        assert float(changed.min()) >= 0.0 and float(changed.max()) <= 1.0
        assert not torch.allclose(changed, features)

    def test_blur_keeps_the_mean_and_spreads_a_point_by_its_sigma(self) -> None:
        point = torch.zeros(1, 65, 65)
        point[0, 32, 32] = 1.0
        spread = radiographs.blurred(point, torch.tensor([2.0]))[0]
        assert float(spread.sum()) == pytest.approx(1.0, abs=1e-4)
        offsets = torch.arange(65) - 32.0
        assert float((spread.sum(dim=0) * offsets**2).sum()) == pytest.approx(4.0, rel=0.02)


def torch_learner(outputs: int) -> TorchLearner:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.Dropout(0.2), nn.ReLU(), nn.Linear(8, outputs))
    return TorchLearner(network, 1e-4, 0.05)


def keras_learner(outputs: int) -> KerasLearner:
    keras = pytest.importorskip("tensorflow", reason="the extra «tensorflow» trains Keras models").keras

    def build() -> Any:
        inputs = keras.Input((2, 2, 3))
        x = keras.layers.BatchNormalization()(keras.layers.Dense(8, activation="relu")(keras.layers.Flatten()(inputs)))
        return keras.Model(inputs, keras.layers.Softmax()(keras.layers.Dense(outputs)(keras.layers.Dropout(0.2)(x))))

    return KerasLearner(build, 1e-4, 0.05, seed=0)


@pytest.mark.parametrize(
    ("made", "outputs"),
    [(torch_learner, 2), (torch_learner, 1), (keras_learner, 2)],
    ids=["PyTorch", "one logit", "Keras"],
)
class TestFit:
    @staticmethod
    def run(learner: Learner, checkpoint: Path, epochs: int) -> dict:
        rng = np.random.default_rng(0)
        inputs = torch.from_numpy(rng.standard_normal((64, 3, 2, 2)).astype(np.float32))
        labels = (inputs.sum(dim=(1, 2, 3)) > 0).long()

        def batches(epoch: int, rng: np.random.Generator):
            for index in rng.permutation(64).reshape(8, 8):
                yield inputs[index], labels[index]

        def validate():
            logits = learner.logits(inputs)
            return [(np.concatenate([-logits, logits], axis=1) if logits.shape[1] == 1 else logits, labels.numpy())]

        schedule = fit.Schedule(epochs=epochs, batches=8, learning_rate=1e-2, patience=10)
        return fit.fit(learner, batches, validate, schedule, checkpoint)

    def test_a_training_that_was_killed_goes_on_as_if_nothing_had_happened(
        self, made, outputs, tmp_path: Path, monkeypatch
    ) -> None:
        whole = made(outputs)
        state = self.run(whole, tmp_path / "whole.pt", 4)
        assert state["history"][-1]["validation_auroc"] > max(0.8, state["history"][0]["validation_auroc"] - 0.01)

        real, calls = fit.auroc, []

        def dies(*arguments):
            calls.append(1)
            if len(calls) == 3:
                raise KeyboardInterrupt
            return real(*arguments)

        monkeypatch.setattr(fit, "auroc", dies)
        with pytest.raises(KeyboardInterrupt):
            self.run(made(outputs), tmp_path / "cut.pt", 4)
        monkeypatch.setattr(fit, "auroc", real)
        resumed = made(outputs)
        after = self.run(resumed, tmp_path / "cut.pt", 4)
        assert [h["epoch"] for h in after["history"]] == [1, 2, 3, 4]
        for a, b in zip(whole.weights().values(), resumed.weights().values(), strict=True):
            torch.testing.assert_close(a, b)


class TestLoss:
    def test_two_classes_and_one_logit_are_the_same_loss(self) -> None:
        logits, labels = torch.tensor([[0.3], [-1.2], [2.0]]), torch.tensor([1, 0, 0])
        for smoothing in (0.0, 0.1):
            one = loss_of(logits, labels, smoothing)
            two = loss_of(torch.cat([-logits / 2, logits / 2], dim=1), labels, smoothing)
            torch.testing.assert_close(one, two)

    def test_findings_that_are_not_known_do_not_count(self) -> None:
        known, unknown = torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, float("nan")]])
        logits = torch.tensor([[0.5, 3.0]], requires_grad=True)
        loss = loss_of(logits, unknown, 0.0)
        torch.testing.assert_close(loss, loss_of(logits[:, :1], known[:, 0], 0.0))
        loss.backward()
        assert logits.grad[0, 1] == 0 and logits.grad[0, 0] < 0


class TestImageNetStart:
    def test_restored_batch_norms_do_not_change_the_function(self) -> None:
        torch.manual_seed(0)
        network = nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4)
        ).eval()
        inputs = torch.randn(8, 1, 12, 12)
        with torch.no_grad():
            before = network(inputs)
            imagenet.restore_batch_norm(network, inputs)
            torch.testing.assert_close(network(inputs), before, atol=1e-4, rtol=1e-4)
            torch.testing.assert_close(network.train()(inputs), before, atol=1e-4, rtol=1e-4)
        assert not any(m._forward_pre_hooks for m in network.modules())

    def test_the_published_checkpoint_answers_like_its_own_interpreter(self, shared_data: Path) -> None:
        tf = pytest.importorskip("tensorflow", reason="the extra «tensorflow» reads the TFLite file")
        path = shared_data.parent / "checkpoints" / "mobilenetv2" / "mobilenet_v2_1.0_224_quant.tflite"
        if not path.is_file():
            pytest.skip(f"no checkpoint at {path}")
        from xai_panel.models.architectures import build
        from xai_panel.models.frontends import IMAGENET_MEAN, IMAGENET_STD

        network = build("torchvision:mobilenet_v2", 1001)
        imagenet.initialise(network, path)
        kernel, bias = imagenet._tensors(path)[-1]
        network.classifier[1].load_state_dict(
            {"weight": torch.from_numpy(kernel[:, :, 0, 0].copy()), "bias": torch.from_numpy(bias)}
        )
        for module in network.modules():  # TensorFlow pads "SAME": nothing before, one after, where the stride is 2
            if isinstance(module, nn.Conv2d) and module.stride == (2, 2):
                module.padding = (0, 0)
                module.register_forward_pre_hook(lambda _m, args: (nn.functional.pad(args[0], (0, 1, 0, 1)),))
        from skimage import data, transform

        pixels = np.round(transform.resize(data.astronaut(), (224, 224), anti_aliasing=True) * 255).astype(np.uint8)
        interpreter = tf.lite.Interpreter(model_path=str(path))
        interpreter.allocate_tensors()
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], pixels[None])
        interpreter.invoke()
        theirs = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0].astype(float)
        mean, std = torch.tensor(IMAGENET_MEAN)[:, None, None], torch.tensor(IMAGENET_STD)[:, None, None]
        tensor = (torch.from_numpy(pixels).permute(2, 0, 1).float() / 255 - mean) / std
        with torch.inference_mode():
            ours = network.eval()(tensor[None])[0].softmax(0).numpy()
        assert int(ours.argmax()) == int(theirs.argmax())
        assert np.corrcoef(ours, theirs)[0, 1] > 0.9  # theirs, probabilities, are rounded at every layer


class TestDownload:
    """The real download code against a server of its own."""

    @pytest.fixture
    def server(self, tmp_path: Path) -> Iterator[tuple[Path, str]]:
        folder = tmp_path / "served"
        folder.mkdir()
        handler = functools.partial(SimpleHTTPRequestHandler, directory=str(folder))
        with ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
            thread = threading.Thread(target=httpd.serve_forever)
            thread.start()
            yield folder, f"http://127.0.0.1:{httpd.server_port}/some.pth"
            httpd.shutdown()
            thread.join()

    def test_the_published_file_is_kept_and_not_asked_for_twice(self, server, tmp_path: Path) -> None:
        folder, url = server
        (folder / "some.pth").write_bytes(b"weights")
        digest = hashlib.sha256(b"weights").hexdigest()
        published = dataclasses.replace(PUBLISHED["aasist"], url=url, digest=digest)
        path = published.download(tmp_path / "kept")
        assert path.read_bytes() == b"weights"
        (folder / "some.pth").unlink()
        assert published.download(tmp_path / "kept") == path

    def test_another_file_is_refused_and_not_kept(self, server, tmp_path: Path) -> None:
        folder, url = server
        (folder / "some.pth").write_bytes(b"something else")
        with pytest.raises(ValueError, match="hash"):
            dataclasses.replace(PUBLISHED["aasist"], url=url).download(tmp_path / "kept")
        assert not (tmp_path / "kept" / "some.pth").exists()


@pytest.mark.parametrize(("id", "file"), [("aasist", "AASIST.pth"), ("aasist-l", "AASIST-L.pth")])
def test_aasist_starts_as_published_with_its_outputs_in_our_order(shared_data: Path, id: str, file: str) -> None:
    from xai_panel.models.architectures import build

    path = shared_data.parent / "checkpoints" / "aasist" / file
    published = PUBLISHED[id]
    assert published.file == file
    assert hashlib.sha256(path.read_bytes()).hexdigest() == published.digest
    network, other = build(f"xai_panel:{id}", 2).eval(), build(f"xai_panel:{id}", 2).eval()
    waves = torch.randn(2, 64_600, generator=torch.Generator().manual_seed(0)) * 0.1
    published.start(network, path, waves)
    other.load_state_dict(read_state(path))
    with torch.inference_mode():
        assert torch.equal(network(waves), other(waves).flip(1))


@pytest.mark.slow
def test_training_writes_a_card_that_loads_and_predicts(shared_data: Path, tmp_path: Path) -> None:
    """The whole command on a few real radiographs: data, split, one epoch, weights, card, prediction."""
    pytest.importorskip("tensorflow", reason="the extra «tensorflow» reads the ImageNet weights")
    from xai_panel.models import registry
    from xai_panel.models.card import read_card
    from xai_panel.signals.radiograph import read_radiograph
    from xai_panel.training.run import train

    small = collected_radiographs(tmp_path / "data", shared_data, children=60, adults=10)
    initial = shared_data.parent / "checkpoints" / "mobilenetv2" / "mobilenet_v2_1.0_224_quant.tflite"
    path = train("xray-mobilenetv2", small, out=tmp_path / "weights", initial=initial, epochs=1)
    card = read_card(path)
    assert set(card.metrics) == {
        "children, held-out patients",
        "children, held-out patients, blurred (σ = 1.5 px)",
        "adults, RSNA Lung Opacity against Normal (another domain)",
    }
    classifier = registry._load(card, path.parent)
    image = next(iter((small / "chest_xray_children" / "images" / "normal").iterdir()))
    prediction = classifier.predict(read_radiograph(image))
    assert prediction.probabilities.sum() == pytest.approx(1.0)


@pytest.fixture
def small_networks(monkeypatch) -> None:
    """The recipes as they are, but short windows and small networks."""
    from xai_panel.training import recipes

    small = {"kind": "log-mel", "bands": 32, "frames": 64, "mean": [0.5], "std": [0.25]}
    for id, changes in {
        "audio-custom-cnn": {"frontend": small, "learning_rate": 5e-3},
        "audio-for-keras": {"frontend": {**small, "padded": False}, "learning_rate": 5e-3},
        "audio-inc-tssdnet": {"frontend": {"kind": "waveform", "samples": 4000}, "piece": 0.5},
        "xray-xrv-densenet121": {"frontend": {"kind": "radiograph", "size": 64, "mean": [0.5], "std": [0.5]}},
    }.items():
        monkeypatch.setitem(recipes.RECIPES, id, dataclasses.replace(recipes.RECIPES[id], **changes))


class TestPublishedDataSets:
    """The whole command on a tiny folder of a published layout: data, split, weights, card, prediction."""

    @pytest.mark.parametrize("id", ["audio-custom-cnn", "audio-for-keras", "audio-inc-tssdnet"])
    def test_fake_or_real(self, id: str, small_networks, tmp_path: Path) -> None:
        import soundfile

        from xai_panel.models import registry
        from xai_panel.models.card import read_card
        from xai_panel.signals.audio import read_audio
        from xai_panel.training.recipes import RECIPES
        from xai_panel.training.run import train

        if RECIPES[id].framework == "tensorflow":
            pytest.importorskip("tensorflow", reason="the extra «tensorflow» trains Keras models")
        rng = np.random.default_rng(0)
        root = tmp_path / "for-norm"
        for part, count in (("training", 34), ("validation", 6), ("testing", 6)):
            for label in ("real", "fake"):
                (root / part / label).mkdir(parents=True)
                for k in range(count):
                    wave = speech_like(0.6 + 0.1 * (k % 3)) if label == "real" else 0.05 * rng.standard_normal(9600)
                    soundfile.write(root / part / label / f"file{k}.wav", wave, 16_000)
        path = train(id, root, out=tmp_path / "weights", epochs=2)
        card = read_card(path)
        assert card.id == f"{id}-fake-or-real" and "fake-or-real" in card.caveat
        figures = card.metrics["fake-or-real, held-out part"]
        assert figures["positives"] == figures["negatives"] == 6 and 0 <= figures["auroc"] <= 1
        prediction = registry._load(card, path.parent).predict(read_audio(root / "testing" / "fake" / "file0.wav"))
        assert prediction.labels == ("bona fide", "spoof") and prediction.probabilities.sum() == pytest.approx(1.0)
        assert not list((tmp_path / ".runs").glob("*.pt"))  # nothing that another training could go on with
        with pytest.raises(DatasetError, match="radiograph"):
            train("xray-alexnet", root, out=tmp_path / "weights", epochs=1)
        with pytest.raises(DatasetError, match="option 'uncertain'"):
            train(id, root, out=tmp_path / "weights", epochs=1, options={"uncertain": "ones"})
        for file in (root / "validation" / "fake").iterdir():
            file.unlink()
        with pytest.raises(DatasetError, match="of 1 classes in «validation»"):
            train(id, root, out=tmp_path / "weights", epochs=1)

    def test_findings_and_classes_of_radiographs(self, small_networks, tmp_path: Path, monkeypatch, capsys) -> None:
        from xai_panel.models import registry
        from xai_panel.models.card import read_card
        from xai_panel.signals.radiograph import read_radiograph
        from xai_panel.training import radiograph_task
        from xai_panel.training.run import train

        asked: list[int] = []
        inputs = radiograph_task._inputs
        monkeypatch.setattr(
            radiograph_task, "_inputs", lambda images, frontend, k: asked.append(k) or inputs(images, frontend, k)
        )
        root = chexpert_small(tmp_path, 90)
        with pytest.raises(DatasetError, match="no policy for uncertain findings"):
            train("xray-xrv-densenet121", root, out=tmp_path / "weights", initial=_weights(tmp_path))
        path = train(
            "xray-xrv-densenet121",
            root,
            out=tmp_path / "weights",
            initial=_weights(tmp_path),
            epochs=1,
            options={"uncertain": "ones"},
        )
        card = read_card(path)
        assert card.labels == ("Edema", "Effusion") and card.outputs == (4, 7) and card.multi_label
        assert set(card.metrics) == {f"{name}: chexpert-small, held-out part" for name in card.labels}
        assert "--uncertain ones" in card.training["command"]
        with open(path.with_suffix(".split.csv"), newline="", encoding="utf-8") as file:
            parts = collections.Counter(row["part"] for row in csv.DictReader(file))
        times = collections.Counter(collections.Counter(asked).values())
        assert times == {1: parts["held-out"], 2: parts["validation"]}  # whatever the number of findings
        assert "answers on the test sets: 100%" in (bars := capsys.readouterr().err) and "figures: 100%" in bars
        image = read_radiograph(root / "train/patient00001/study1/view1_frontal.jpg")
        prediction = registry._load(card, path.parent).predict(image)
        assert prediction.logits.shape == (2,)

    def test_more_than_two_classes_have_to_be_chosen_from(self) -> None:
        source = Source(Path("rsna"), Path("."), classes=None)
        labels = {"normal", "lung opacity", "no lung opacity / not normal", ""}
        with pytest.raises(DatasetError, match="--classes NEGATIVE POSITIVE"):
            source.two_classes(labels)
        chosen = dataclasses.replace(source, classes=("normal", "lung opacity"))
        assert chosen.two_classes(labels) == ("normal", "lung opacity")
        assert source.two_classes({"spoof", "bona fide"}) == ("bona fide", "spoof")


def _weights(folder: Path) -> Path:
    """A DenseNet121 of three channels to start from."""
    from safetensors.torch import save_file

    from xai_panel.models.architectures import build

    path = folder / "start.safetensors"
    torch.manual_seed(0)
    save_file(build("torchvision:densenet121", 2).state_dict(), path)
    return path


def test_a_wrong_folder_or_id_is_named(tmp_path: Path, monkeypatch) -> None:
    from xai_panel.training import run
    from xai_panel.training.run import train

    with pytest.raises(ValueError, match="no recipe for 'xray-oracle'"):
        train("xray-oracle", tmp_path)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        train("xray-mobilenetv2", tmp_path / "nowhere")
    with pytest.raises(ValueError, match="give --seed 0"):
        train("xray-xrv-densenet121", tmp_path, seed=1, out=tmp_path)
    monkeypatch.setattr(run, "weights_dir", lambda: tmp_path)
    with pytest.raises(FileNotFoundError, match="xai-panel train xray-densenet121"):
        train("xray-xrv-densenet121", tmp_path, out=tmp_path)
    with pytest.raises(ValueError, match="random weights; leave --initial"):
        train("xray-alexnet", tmp_path, initial=tmp_path / "none.safetensors")
    with pytest.raises(FileNotFoundError, match="mobilenet_v2"):
        train("xray-mobilenetv2", tmp_path, initial=tmp_path / "none.tflite")


def test_front_ends_and_training_agree_on_the_input() -> None:
    """The network's input in training is the front end's own."""
    from xai_panel.models.backends.torch import TorchBackend

    class Echo(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.mean(dim=(2, 3))

    features = np.random.default_rng(0).random((2, 224, 224)).astype(np.float32)
    frontend = RadiographImage()
    backend = TorchBackend(
        Echo(), lambda x: frontend.to_input(x, lambda c: torch.stack(list(c), dim=1)), frontend.shape
    )
    expected = radiographs.model_input(torch.from_numpy(features), frontend).mean(dim=(2, 3)).numpy()
    np.testing.assert_allclose(backend.logits(features), expected, rtol=1e-5)


def test_norms_that_help_to_learn_are_folded_into_the_network_that_was_asked_for() -> None:
    torch.manual_seed(0)

    def plain() -> nn.Module:
        body = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 3, padding=1), nn.ReLU())
        return nn.Sequential(body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 2))

    learner = TorchLearner(plain(), 1e-4, 0.05, norms=True)
    assert sum(isinstance(m, nn.BatchNorm2d) for m in learner.network.modules()) == 2
    inputs, labels = torch.randn(8, 1, 12, 12), torch.arange(8) % 2
    for _ in range(5):
        learner.step(inputs, labels, 0.05)
    before = learner.logits(inputs)
    learner.finish()
    np.testing.assert_allclose(learner.logits(inputs), before, atol=1e-5)
    assert set(learner.weights()) == set(plain().state_dict())
    assert np.ptp(before) > 0.01


@pytest.mark.parametrize("id", RECIPES)
def test_a_shift_is_added_to_the_logits_of_every_network(id: str) -> None:
    recipe = RECIPES[id]
    if recipe.framework == "tensorflow":
        pytest.importorskip("tensorflow", reason="the extra «tensorflow» trains Keras models")
    torch.manual_seed(0)
    learner = recipe.learner(0)
    frontend = build_frontend(recipe.frontend)
    if recipe.task is audio_task.task:
        window = recordings.windows_of(speech_like(1.0), frontend, audio_task.RATE)[0]
        inputs = recordings.model_input(np.stack([window, window[::-1].copy()]), frontend)
    else:
        inputs = radiographs.model_input(torch.rand(2, *frontend.shape), frontend)
    by = np.linspace(-1.0, 2.0, recipe.outputs).astype(np.float32)
    before = learner.logits(inputs)
    learner.shift(by)
    np.testing.assert_allclose(learner.logits(inputs) - before, np.broadcast_to(by, before.shape), atol=1e-4)


def test_a_training_is_found_again_by_another_process(tmp_path: Path) -> None:
    code = """
        import sys
        from pathlib import Path
        from types import SimpleNamespace
        from xai_panel.training.run import RECIPES, _fingerprint
        from xai_panel.training.task import Source
        task = SimpleNamespace(split={"a": "train"}, schedule=(3, 4))
        print(_fingerprint(RECIPES["xray-alexnet"], task, Source(Path("data"), Path("runs")), None))
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    one, two = (subprocess.run(command, capture_output=True, text=True, check=True).stdout for _ in range(2))
    assert one == two != ""
