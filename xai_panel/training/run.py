"""`xai-panel train ID --data DIR`: how every file of weights/ was made."""

from __future__ import annotations

import csv
import hashlib
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from xai_panel.models.architectures import build
from xai_panel.models.frontends import LogMel, RadiographImage
from xai_panel.signals.vocoders import VOCODERS
from xai_panel.training import evaluate, fit, imagenet, radiographs, recordings
from xai_panel.training.cards import AUDIO_CARD, XRAY_CARD
from xai_panel.training.datasets.collected import TRAINED_CORPUS

HALF_TOLERANCE = 1e-2  # logit
FEWEST = 5  # recordings of a generator that get a figure of their own


@dataclass(frozen=True)
class HeldOut:
    """One test set: a name for the card, windows (first, last) → (n, 3, h, w), and of each item: label and group.

    owners: index of the item that each window belongs to, ascending; an item's logits are the mean over its windows.
    """

    name: str
    windows: Callable[[int, int], torch.Tensor]
    owners: NDArray[np.int64]
    labels: NDArray[np.int64]
    groups: NDArray[Any]

    def logits(self, network: nn.Module) -> NDArray[np.float64]:
        """Logits (items, classes)."""
        answers = fit.predict(network, self.windows, self.owners.size).astype(np.float64)
        first = np.searchsorted(self.owners, np.arange(self.labels.size))
        return np.asarray(np.add.reduceat(answers, first) / np.bincount(self.owners)[:, None])


@dataclass(frozen=True)
class Task:
    """What one classifier is trained on."""

    batches: fit.Batches
    schedule: fit.Schedule
    sample: torch.Tensor
    validation: HeldOut
    tests: list[HeldOut]
    split: dict[str, str]
    card: dict[str, Any]


def train(
    id: str,
    data: Path,
    seed: int = 0,
    out: Path = Path("weights"),
    initial: Path | None = None,
    epochs: int | None = None,
) -> Path:
    """Train classifier `id` and write its weights, card and split into `out`; returns the card's path.

    initial: the published ImageNet MobileNetV2 (TFLite) to start from; downloaded when not given.
    Interrupted trainings go on where they were: the state is kept in `out/../.runs`. Raises `ValueError` for an unknown
    id, `FileNotFoundError` when the data or the initial weights are not there, `OSError` when they do not come.
    """
    if id not in TASKS:
        raise ValueError(f"no recipe for {id!r}; there are: {', '.join(TASKS)}")
    data, out = Path(data), Path(out)
    if not data.is_dir():
        raise FileNotFoundError(f"{data}: no such folder; it has the data sets that the README names")
    runs = out.parent / ".runs"
    if initial is None:
        initial = imagenet.download(runs)
    elif not Path(initial).is_file():
        raise FileNotFoundError(f"{initial}: no such file; it should be {imagenet.FILE}")
    started = time.monotonic()
    torch.manual_seed(seed)
    task = TASKS[id](data, runs, seed, epochs)
    network = build(task.card["architecture"], len(task.card["labels"]))
    imagenet.initialise(network, initial)
    imagenet.restore_batch_norm(network, task.sample)

    def validate(net: nn.Module) -> tuple[NDArray[Any], NDArray[Any]]:
        return task.validation.logits(net), task.validation.labels

    state = fit.fit(network, task.batches, validate, task.schedule, runs / f"{id}-{seed}.pt", seed)
    half, difference = _round_to_half(network, task.sample)
    temperature = round(evaluate.fit_temperature(*validate(network)), 4)
    metrics = {}
    for test in task.tests:
        metrics[test.name] = evaluate.report(test.logits(network), test.labels, test.groups, temperature)
        print(f"{test.name}: {metrics[test.name]}", flush=True)
    training = {
        **task.card.pop("training"),
        "command": f"xai-panel train {id} --data DIR --seed {seed}" + (f" --epochs {epochs}" if epochs else ""),
        "seed": seed,
        "epochs": len(state["history"]),
        "best_epoch": int(np.argmax([h["validation_auroc"] - 0.01 * h["validation_nll"] for h in state["history"]]))
        + 1,
        "hours": round(max(state["seconds"], time.monotonic() - started) / 3600, 2),
        "hardware": f"{platform.machine()}, {torch.get_num_threads()} threads, {fit.device().type}",
        "precision": "float16" if half else "float32",
        "half_precision_logit_difference": difference,
    }
    return _write(
        id, network, out, {**task.card, "temperature": temperature, "training": training, "metrics": metrics}, task
    )


def _round_to_half(network: nn.Module, sample: torch.Tensor) -> tuple[bool, float]:
    """Round the weights to half precision where no logit of the sample changes by more than `HALF_TOLERANCE`.

    Returns whether they were rounded, and the largest change that rounding makes.
    """
    network.eval()
    with torch.inference_mode():
        exact = {k: v.clone() for k, v in network.state_dict().items()}
        before = network(sample)
        network.load_state_dict({k: v.half().float() if v.is_floating_point() else v for k, v in exact.items()})
        difference = float((network(sample) - before).abs().max())
    if difference > HALF_TOLERANCE:
        network.load_state_dict(exact)
    return difference <= HALF_TOLERANCE, round(difference, 5)


def _write(id: str, network: nn.Module, out: Path, card: dict[str, Any], task: Task) -> Path:
    import tomli_w
    from safetensors.torch import save_file

    out.mkdir(parents=True, exist_ok=True)
    weights = out / f"{id}.safetensors"
    state = network.state_dict()
    half = card["training"]["precision"] == "float16"
    save_file({k: (v.half() if half and v.is_floating_point() else v).contiguous() for k, v in state.items()}, weights)
    weights.chmod(0o644)
    with open(out / f"{id}.split.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["group", "part"])
        writer.writerows(task.split.items())
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    path = out / f"{id}.toml"
    ordered = {"id": id, **card, "weights": weights.name, "digest": digest}
    tables = {k: ordered.pop(k) for k in ("frontend", "training", "metrics")}
    path.write_text(tomli_w.dumps({**ordered, **tables}, multiline_strings=False), encoding="utf-8")
    return path


def _xray_mobilenetv2(data: Path, runs: Path, seed: int, epochs: int | None) -> Task:
    frontend = RadiographImage()
    everything = radiographs.children(data, frontend, seed)
    train = everything.select(everything.parts == "train")
    per_class = int(min((train.labels == 0).sum(), (train.labels == 1).sum()))
    batch = 32

    def test_set(name: str, images: radiographs.Radiographs, sigma: float = 0.0) -> HeldOut:
        def inputs(first: int, last: int) -> torch.Tensor:
            features = torch.from_numpy(images.features[first:last]).float() / 255
            if sigma:
                features = radiographs.blurred(features, torch.full((last - first,), sigma))
            return radiographs.model_input(features, frontend)

        return HeldOut(name, inputs, np.arange(images.labels.size), images.labels, images.patients)

    held_out = everything.select(everything.parts == "held-out")
    validation = test_set("validation", everything.select(everything.parts == "validation"))
    return Task(
        batches=lambda rng: radiographs.epoch_batches(train, frontend, per_class, batch, rng),
        schedule=fit.Schedule(epochs=epochs or 6, batches=2 * per_class // batch, patience=5),
        sample=radiographs.model_input(
            torch.from_numpy(train.features[:: max(1, len(train.labels) // 96)]).float() / 255, frontend
        ),
        validation=validation,
        tests=[
            test_set("children, held-out patients", held_out),
            test_set("children, held-out patients, blurred (σ = 1.5 px)", held_out, 1.5),
            test_set("adults, RSNA Lung Opacity against Normal (another domain)", radiographs.adults(data, frontend)),
        ],
        split=dict(
            sorted({p: q for p, q in zip(everything.patients.tolist(), everything.parts.tolist(), strict=True)}.items())
        ),
        card=XRAY_CARD,
    )


def _audio_mobilenetv2(data: Path, runs: Path, seed: int, epochs: int | None) -> Task:
    frontend = LogMel()
    everything = recordings.recordings(data, runs, frontend.sampling_rate, seed)
    originals = [r for r in everything if not r.generator]
    copies: dict[int, list[recordings.Recording]] = {id(r): [] for r in originals}
    for name in recordings.TRAINED_VOCODERS:
        made = [r for r in everything if r.generator == name]
        for original, copy in zip(originals, made, strict=True):
            copies[id(original)].append(copy)
    pairs = [(r, copies[id(r)]) for r in originals if r.part == "train"]
    batch, rounds = 32, 3

    def test_set(name: str, bona_fide: list[recordings.Recording], spoofed: list[recordings.Recording]) -> HeldOut:
        chosen = bona_fide + spoofed
        heard = [recordings.windows_of(r.waveform / 32767.0, frontend) for r in chosen]
        values = np.stack([window for windows in heard for window in windows])
        return HeldOut(
            name,
            lambda first, last: recordings.model_input(values[first:last], frontend),
            np.repeat(np.arange(len(chosen)), [len(windows) for windows in heard]),
            np.array([r.label for r in chosen]),
            np.array([r.speaker for r in chosen]),
        )

    def pick(part: str, corpus: str, generators: tuple[str, ...]) -> list[recordings.Recording]:
        return [r for r in everything if r.part == part and r.corpus == corpus and r.generator in generators]

    trained, unseen = recordings.TRAINED_VOCODERS, recordings.HELD_OUT_VOCODERS
    home = TRAINED_CORPUS
    bona_fide = pick("held-out", home, ("",))
    tests = [test_set("LibriSpeech, held-out speakers, trained vocoders", bona_fide, pick("held-out", home, trained))]
    tests += [
        test_set(
            f"LibriSpeech, held-out speakers, {name}" + (" (not trained on)" if name in unseen else ""),
            bona_fide,
            pick("held-out", home, (name,)),
        )
        for name in (*trained, *unseen)
    ]
    for corpus in ("LJSpeech", "LibriTTS", "AISHELL3"):
        own = pick("held-out", corpus, ("",))
        tests.append(test_set(f"{corpus} (another corpus), trained vocoders", own, pick("held-out", corpus, trained)))
        published = sorted({r.generator for r in everything if r.corpus == corpus} - {"", *VOCODERS})
        for name in published:
            if len(pick("held-out", corpus, (name,))) < FEWEST:
                continue
            tests.append(
                test_set(
                    f"{corpus}, published deepfakes: {name} (not trained on)", own, pick("held-out", corpus, (name,))
                )
            )
        if len(published) > 1:
            every = pick("held-out", corpus, tuple(published))
            tests.append(test_set(f"{corpus}, all published deepfakes (not trained on)", own, every))
    return Task(
        batches=lambda rng: recordings.epoch_batches(pairs, frontend, batch, rounds, rng),
        schedule=fit.Schedule(epochs=epochs or 12, batches=len(pairs) * rounds // (batch // 2), patience=6),
        sample=recordings.model_input(
            np.stack(
                [
                    recordings.windows_of(r.waveform / 32767.0, frontend)[0]
                    for p in pairs[:24]
                    for r in (p[0], *p[1][:2])
                ]
            ),
            frontend,
        ),
        validation=test_set("validation", pick("validation", home, ("",)), pick("validation", home, trained)),
        tests=tests,
        split=dict(sorted({r.speaker: r.part for r in everything}.items())),
        card=AUDIO_CARD,
    )


TASKS: dict[str, Callable[[Path, Path, int, int | None], Task]] = {
    "audio-mobilenetv2": _audio_mobilenetv2,
    "xray-mobilenetv2": _xray_mobilenetv2,
}
