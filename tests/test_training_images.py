"""Radiographs that training reads from disk: each decoded once, never half trusted, few at a time in memory."""

from __future__ import annotations

import collections
import dataclasses
import os
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from published import chexpert_small, collected_radiographs

from xai_panel.models.frontends import RadiographImage
from xai_panel.signals.radiograph import read_radiograph
from xai_panel.training import datasets, images, radiographs, run
from xai_panel.training.datasets import DatasetError
from xai_panel.training.recipes import RECIPES
from xai_panel.training.task import Recipe, Source, Task

SIZE = 32
SMALL = RadiographImage(size=SIZE)


@pytest.fixture
def decoded(monkeypatch) -> list[Path]:
    """The files that were decoded, in order."""
    paths: list[Path] = []

    def read(path: Path) -> Any:
        paths.append(path)
        return read_radiograph(path)

    monkeypatch.setattr(images, "read_radiograph", read)
    return paths


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    rng = np.random.default_rng(0)
    paths = [tmp_path / "data" / f"{k}.png" for k in range(7)]
    paths[0].parent.mkdir()
    for path in paths:
        Image.fromarray(rng.integers(0, 255, (40, 48), dtype=np.uint8)).save(path)
    return paths


def at_once(paths: list[Path], frontend: RadiographImage) -> np.ndarray:
    """What `stored` has to give, in memory."""
    return np.stack([np.round(frontend.features(read_radiograph(path)).values * 255) for path in paths]).astype("uint8")


def small(id: str, **changes: Any) -> Recipe:
    recipe = RECIPES[id]
    return dataclasses.replace(recipe, frontend={**recipe.frontend, "size": SIZE}, **changes)


class TestStored:
    def test_files_are_decoded_once(self, files: list[Path], decoded: list[Path], tmp_path: Path) -> None:
        cache = tmp_path / "runs"
        first = images.stored(files, SMALL, cache)
        assert decoded == files and isinstance(first.mapped(), np.memmap)
        np.testing.assert_array_equal(first.mapped(), at_once(files, SMALL))
        again = images.stored(files, dataclasses.replace(SMALL, mean=(0.5,), std=(0.5,)), cache)
        rows = np.array([4, 1, 4])
        torch.testing.assert_close(
            again.features(rows), torch.from_numpy(at_once(files, SMALL)[rows]).float() / 255, rtol=0, atol=0
        )
        assert decoded == files and [path.suffix for path in cache.iterdir()] == [".u8"]

    def test_other_files_another_grid_and_other_code_are_decoded_anew(
        self, files: list[Path], decoded: list[Path], tmp_path: Path, monkeypatch
    ) -> None:
        def count() -> int:
            decoded.clear()
            images.stored(files, SMALL, tmp_path)
            return len(decoded)

        assert (count(), count()) == (7, 0)
        Image.open(files[0]).transpose(Image.Transpose.ROTATE_180).save(files[3])
        assert (count(), count()) == (7, 0)
        os.utime(files[2], ns=(0, 0))
        assert (count(), count()) == (7, 0)
        images.stored(files[:6], SMALL, tmp_path)
        images.stored(files, RadiographImage(size=16), tmp_path)
        assert len(decoded) == 6 + 7 and count() == 0
        monkeypatch.setattr(images, "version", lambda name: "0")
        assert count() == 7

    def test_an_interrupted_reading_goes_on_after_the_last_whole_image(
        self, files: list[Path], decoded: list[Path], tmp_path: Path
    ) -> None:
        good = files[4].read_bytes()
        files[4].write_bytes(bytes(len(good)))  # as large, and later as old: only its content is another
        os.utime(files[4], ns=(0, 0))
        with pytest.raises(DatasetError, match=r"data/4\.png: "):
            images.stored(files, SMALL, tmp_path)
        (partial,) = tmp_path.glob("radiographs-*")
        assert partial.suffix == ".part" and partial.stat().st_size == 4 * SIZE**2
        with open(partial, "ab") as file:
            file.write(b"half")
        files[4].write_bytes(good)
        os.utime(files[4], ns=(0, 0))
        decoded.clear()
        np.testing.assert_array_equal(images.stored(files, SMALL, tmp_path).mapped(), at_once(files, SMALL))
        assert decoded == files[4:] and not partial.exists()

    def test_two_trainings_may_make_it_at_once(self, files: list[Path], tmp_path: Path, monkeypatch) -> None:
        others: list[images.Images] = []

        def read(path: Path) -> Any:
            if path == files[3] and not others:
                monkeypatch.setattr(images, "read_radiograph", read_radiograph)
                others.append(images.stored(files, SMALL, tmp_path))
            return read_radiograph(path)

        monkeypatch.setattr(images, "read_radiograph", read)
        for one in (images.stored(files, SMALL, tmp_path), *others):
            np.testing.assert_array_equal(one.mapped(), at_once(files, SMALL))
        assert len(others) == len(list(tmp_path.glob("radiographs-*"))) == 1

    def test_a_file_that_lost_its_end_is_made_anew(
        self, files: list[Path], decoded: list[Path], tmp_path: Path
    ) -> None:
        images.stored(files, SMALL, tmp_path)
        (whole,) = tmp_path.glob("radiographs-*.u8")
        os.truncate(whole, whole.stat().st_size - 1)
        np.testing.assert_array_equal(images.stored(files, SMALL, tmp_path).mapped(), at_once(files, SMALL))
        assert len(decoded) == 14

    def test_the_set_that_was_not_used_for_longest_makes_room_and_can_be_read_to_its_end(
        self, files: list[Path], decoded: list[Path], tmp_path: Path, monkeypatch
    ) -> None:
        monkeypatch.setattr(images, "LIMIT", 10 * SIZE**2)
        sets = [images.stored(files[:4], SMALL, tmp_path), images.stored(files[4:], SMALL, tmp_path)]
        for k, path in enumerate(sorted(tmp_path.glob("radiographs-*"), key=lambda path: -path.stat().st_size)):
            os.utime(path, (k, k))
        images.stored(files[:4], SMALL, tmp_path)  # is used again, so that the other one is the oldest
        images.stored(files[1:6], SMALL, tmp_path)
        assert sum(path.stat().st_size for path in tmp_path.glob("radiographs-*")) == 9 * SIZE**2
        np.testing.assert_array_equal(sets[1].mapped(), at_once(files[4:], SMALL))
        decoded.clear()
        images.stored(files[:4], SMALL, tmp_path)
        assert not decoded

    def test_a_full_disk_is_said_before_anything_is_decoded(
        self, files: list[Path], decoded: list[Path], tmp_path: Path, monkeypatch
    ) -> None:
        usage = collections.namedtuple("usage", "free")(7 * SIZE**2 - 1)
        monkeypatch.setattr(images.shutil, "disk_usage", lambda path: usage)
        with pytest.raises(OSError, match=r"need 7 kB; .* --out DIR"):
            images.stored(files, SMALL, tmp_path)
        assert not decoded

    @pytest.mark.skipif(sys.platform != "linux", reason="what a process has mapped is read from /proc")
    def test_in_memory_are_only_the_images_that_were_asked_for(self, tmp_path: Path) -> None:
        path, count, size = tmp_path / "large.u8", 1000, 224 * 224
        with open(path, "wb") as file:
            file.truncate(count * size)
        large = images.Images(path, (count, 224, 224))
        tracemalloc.start()
        for rows in np.random.default_rng(0).permutation(count).reshape(-1, 20):
            assert large.features(rows).shape == (20, 224, 224)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert 20 * size <= peak < 40 * size  # one batch, as bytes
        mapped = large.mapped()
        assert path.name in Path("/proc/self/maps").read_text(encoding="utf-8")
        del mapped
        assert path.name not in Path("/proc/self/maps").read_text(encoding="utf-8")


class TestTask:
    def test_the_collected_radiographs_give_the_inputs_of_a_set_in_memory(
        self, shared_data: Path, tmp_path: Path
    ) -> None:
        data = collected_radiographs(tmp_path / "data", shared_data, children=40, adults=12)
        read = {name: datasets.read(data, name) for name in radiographs.CLASSES}
        kept = [(i, classes) for name, classes in radiographs.CLASSES.items() for i in read[name] if i.label in classes]
        pixels = at_once([item.path for item, _ in kept], SMALL)
        labels = np.array([classes.index(item.label) for item, classes in kept])
        rows = np.array([k for k, (item, _) in enumerate(kept) if item.part == "train" and "Kermany" in item.corpus])
        task = _task(small("xray-mobilenetv2", batch=8), Source(data, tmp_path))

        rng = np.random.default_rng(5)
        zeros, ones = (np.flatnonzero(labels[rows] == label) for label in (0, 1))
        count = min(len(zeros), len(ones))
        order = np.concatenate([rng.choice(members, count, replace=False) for members in (zeros, ones)])
        rng.shuffle(order)
        for k, (inputs, given) in enumerate(task.batches(0, np.random.default_rng(5))):
            index = rows[order[8 * k : 8 * k + 8]]
            expected = radiographs.augment(torch.from_numpy(pixels[index]).float() / 255, rng)
            torch.testing.assert_close(inputs, radiographs.model_input(expected, SMALL), rtol=0, atol=0)
            assert given.tolist() == labels[index].tolist()

        plain, blurred, elsewhere = task.tests
        for test in (plain, elsewhere):
            for number, label in zip(test.items.tolist(), test.labels.tolist(), strict=True):
                expected = radiographs.model_input(torch.from_numpy(pixels[number][None]).float() / 255, SMALL)
                torch.testing.assert_close(task.inputs(number), expected, rtol=0, atol=0)
                assert label == labels[number]
        assert {kept[k][0].corpus for k in elsewhere.items} == {"NIH ChestX-ray8"}
        assert not set(plain.items) & set(blurred.items)
        flat = torch.from_numpy(pixels[plain.items[:1]]).float() / 255
        expected = radiographs.model_input(radiographs.blurred(flat, torch.tensor([1.5])), SMALL)
        torch.testing.assert_close(task.inputs(int(blurred.items[0])), expected, rtol=0, atol=0)

    def test_findings_share_their_images_and_answers(self, tmp_path: Path, decoded: list[Path], capsys) -> None:
        root = chexpert_small(tmp_path, 120)
        source = Source(root, tmp_path / "runs", options={"uncertain": "zeros"})
        task = _task(small("xray-xrv-densenet121"), source)
        edema, effusion = task.tests
        assert len(decoded) == 120 and (edema.output, effusion.output) == (4, 7)
        np.testing.assert_array_equal(edema.items, effusion.items)
        np.testing.assert_array_equal(edema.labels, edema.items % 2)
        np.testing.assert_array_equal(effusion.labels, effusion.items // 2 % 2)

        class Means:
            """Two outputs that are means of the image; counts what it is asked."""

            asked = 0

            def logits(self, inputs: torch.Tensor) -> np.ndarray:
                self.asked += len(inputs)
                return inputs.mean(dim=(1, 2, 3))[:, None].repeat(1, 18).numpy()

        learner = Means()
        items = sorted({k for test in task.tests for k in test.items.tolist()})
        answers = run._answers(learner, task.inputs, items, "answers on the test sets")
        assert learner.asked == len(edema.items) == len(answers) > 10
        assert "answers on the test sets: 100%" in capsys.readouterr().err
        assert edema.judged(answers)[0].shape == (len(items), 2)

        two = _task(small("xray-alexnet"), source).tests[0]  # other classes, of the same images
        np.testing.assert_array_equal(two.items, edema.items)
        np.testing.assert_array_equal(two.labels, two.items % 4 > 0)
        assert len(decoded) == 120

    def test_epochs_decode_nothing(self, tmp_path: Path, decoded: list[Path]) -> None:
        root = chexpert_small(tmp_path, 90)
        task = _task(
            small("xray-xrv-densenet121", batch=8), Source(root, tmp_path / "runs", options={"uncertain": "ones"})
        )
        for epoch in range(2):
            batches = list(task.batches(epoch, np.random.default_rng(epoch)))
            assert len(batches) == task.schedule.batches > 2
        assert len(decoded) == 90


def _task(recipe: Recipe, source: Source) -> Task:
    return recipe.task(recipe, source)
