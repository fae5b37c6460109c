"""`xai-panel train ID --data DIR`: how every file of weights/ was made."""

from __future__ import annotations

import csv
import hashlib
import platform
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from xai_panel.models.card import read_card
from xai_panel.models.state import read_state
from xai_panel.resources import weights_dir
from xai_panel.training import evaluate, fit
from xai_panel.training.cards import with_figures
from xai_panel.training.learners import Learner, TorchLearner, device, is_kernel
from xai_panel.training.published import PUBLISHED
from xai_panel.training.recipes import RECIPES
from xai_panel.training.task import HeldOut, Recipe, Source, Task

HALF_TOLERANCE = 1e-2  # logit
ROWS = 16  # windows that are answered at once


def train(
    id: str,
    data: Path,
    seed: int = 0,
    out: Path = Path("weights"),
    initial: Path | None = None,
    epochs: int | None = None,
    classes: tuple[str, str] | None = None,
    options: Mapping[str, str] | None = None,
) -> Path:
    """Train classifier `id` and write its weights, card and split into `out`; returns the card's path.

    data: the folder with the collected samples that the shipped weights were trained on, or a published data set in any
    of `datasets.LAYOUTS`; the card's id then ends with the data set's name.
    initial: the weights that the recipe starts from, when it does: published ones, downloaded when not given,
    or those of another classifier, looked for in `out` when not given.
    classes: labels of the negative and the positive class, where a data set has more than two; options: of its reader.
    Interrupted trainings go on where they were: the state is kept in `out/../.runs`, and so are the radiographs as the
    network sees them. Raises `ValueError` for an unknown id, `DatasetError` for a folder that is no data set of the
    classifier's kind, `FileNotFoundError` when the data or the initial weights are not there, `OSError` when they do
    not come or the disk is full.
    """
    if id not in RECIPES:
        raise ValueError(f"no recipe for {id!r}; there are: {', '.join(RECIPES)}")
    recipe = RECIPES[id]
    data, out = Path(data), Path(out)
    if not data.is_dir():
        raise FileNotFoundError(f"{data}: no such folder; it has the data sets that the README names")
    runs = out.parent / ".runs"
    source = Source(data, runs, seed, epochs, classes, options or {})
    start = _start(recipe, out, runs, initial, seed)
    torch.manual_seed(seed)
    task = recipe.task(recipe, source)
    task.check(data)
    asked, id = id, id + task.suffix
    checkpoint = runs / f"{id}-{seed}-{_fingerprint(recipe, task, source, start)}.pt"
    learner = recipe.learner(seed)
    if start is not None:
        _begin(learner, recipe, start, task.sample)

    def answers(tests: list[HeldOut], title: str, windows: int | None = None) -> dict[int, NDArray[np.float64]]:
        items = sorted({k for test in tests for k in test.items.tolist()})
        return _answers(learner, lambda k: task.inputs(k)[:windows], items, title)

    def validate(windows: int | None = 1) -> list[fit.Judged]:
        given = answers(task.validation, "validation", windows)  # one window each is enough to choose an epoch by
        return [part.judged(given) for part in task.validation]

    state = fit.fit(learner, task.batches, validate, task.schedule, checkpoint, seed)
    learner.finish()
    half, difference = _round_to_half(learner, task.sample)
    judged = validate(windows=None)
    temperature, shifts = evaluate.fit_calibration(judged)
    temperature = round(temperature, 4)
    for part, by in zip(task.validation, shifts, strict=True):
        learner.shift(part.shift(by, recipe.outputs))
    given = answers(task.tests, "answers on the test sets")
    metrics = {}
    for test in tqdm(task.tests, desc="figures", unit="test set"):
        logits, labels = test.judged(given)
        metrics[test.name] = evaluate.report(logits, labels, test.groups, temperature)
        tqdm.write(f"{test.name}: {metrics[test.name]}")
    merits = [h["validation_auroc"] - 0.01 * h["validation_nll"] for h in state["history"]]
    training = {
        **task.card.pop("training"),
        **({"initial_digest": hashlib.sha256(start.read_bytes()).hexdigest()} if start is not None else {}),
        "command": " ".join(["xai-panel train", asked, "--data DIR --seed", str(seed), *_chosen(source)]),
        "seed": seed,
        "epochs": len(state["history"]),
        "best_epoch": int(np.argmax(merits)) + 1,
        "hours": round(state["seconds"] / 3600, 2),
        "hardware": f"{platform.machine()}, {torch.get_num_threads()} threads, {device().type}",
        "precision": "float16" if half else "float32",
        "half_precision_logit_difference": difference,
    }
    card = {**with_figures(task.card, metrics), "temperature": temperature, "training": training, "metrics": metrics}
    path = _write(id, learner, out, card, task.split)
    checkpoint.unlink()
    return path


def _fingerprint(recipe: Recipe, task: Task, source: Source, start: Path | None) -> str:
    """What an interrupted training must have in common with the one that goes on with it."""
    facts = [repr(recipe), repr(task.split), repr(task.schedule), repr(_chosen(source))]
    if start is not None:
        facts.append(hashlib.sha256(start.read_bytes()).hexdigest())
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:12]


def _chosen(source: Source) -> list[str]:
    """The options of the command that made a source, as far as they were given."""
    chosen = ["--epochs", str(source.epochs)] if source.epochs else []
    chosen += ["--classes", *(f'"{name}"' for name in source.classes)] if source.classes else []
    return chosen + [f"--{name} {value}" for name, value in source.options.items()]


def _start(recipe: Recipe, out: Path, runs: Path, given: Path | None, seed: int) -> Path | None:
    """The file of the weights that a recipe starts from."""
    if not recipe.initial:
        if given is not None:
            raise ValueError(f"{recipe.title} starts from random weights; leave --initial {given} out")
        return None
    published = PUBLISHED.get(recipe.initial)
    if given is not None and not Path(given).is_file():
        wanted = f"weights of {recipe.initial}" if published is None else published.file
        raise FileNotFoundError(f"{given}: no such file; it should be {wanted}")
    if given is not None:
        return Path(given)
    if published is not None:
        return published.download(runs)
    places = [folder / f"{recipe.initial}.safetensors" for folder in (out, weights_dir())]
    weights = next((place for place in places if place.is_file()), None)
    if weights is None:
        raise FileNotFoundError(f"{places[0]}: no such file; train it first: xai-panel train {recipe.initial}")
    made = read_card(weights.with_suffix(".toml")).training.get("seed")
    if made != seed:
        raise ValueError(f"{weights} was made with seed {made}, whose held-out part is another; give --seed {made}")
    return weights


def _begin(learner: Learner, recipe: Recipe, start: Path, sample: torch.Tensor) -> None:
    """Start from given weights; layers that have another shape, the head, stay random."""
    assert isinstance(learner, TorchLearner)
    if recipe.initial in PUBLISHED:
        PUBLISHED[recipe.initial].start(learner.network, start, sample.to(device()))
        return
    own, given = learner.weights(), read_state(start)
    for name, value in own.items():
        other = given.get(name)
        if other is not None and other.shape == value.shape:
            own[name] = other
        elif other is not None and other.ndim == 4 and value.shape[1] == 1:  # colors that were copies of one channel
            own[name] = other.sum(dim=1, keepdim=True)
    learner.set_weights(own)


def _answers(
    learner: Learner, inputs: Callable[[int], torch.Tensor], items: list[int], title: str
) -> dict[int, NDArray[np.float64]]:
    """Mean logits (outputs,) over the windows of each item."""
    found: dict[int, NDArray[np.float64]] = {}
    waiting: list[tuple[int, torch.Tensor]] = []

    def answer() -> None:
        logits = learner.logits(torch.cat([windows for _, windows in waiting])).astype(np.float64)
        ends = np.cumsum([len(windows) for _, windows in waiting])[:-1]
        for (k, _), own in zip(waiting, np.split(logits, ends), strict=True):
            found[k] = own.mean(axis=0)
        waiting.clear()

    for k in tqdm(items, desc=title, unit="item", mininterval=5):
        windows = inputs(k)
        if waiting and (
            sum(len(w) for _, w in waiting) + len(windows) > ROWS or windows.shape[1:] != waiting[0][1].shape[1:]
        ):
            answer()
        waiting.append((k, windows))
    if waiting:
        answer()
    return found


def _round_to_half(learner: Learner, sample: torch.Tensor) -> tuple[bool, float]:
    """Round the kernels to half precision where no logit of the sample changes by more than `HALF_TOLERANCE`.

    Returns whether they were rounded, and the largest change that rounding makes.
    """
    exact, before = learner.weights(), learner.logits(sample)
    learner.set_weights({k: v.half().float() if is_kernel(v) else v for k, v in exact.items()})
    difference = float(np.abs(learner.logits(sample) - before).max())
    rounded = difference <= HALF_TOLERANCE and learner.halves
    if not rounded:
        learner.set_weights(exact)
    return rounded, round(difference, 5)


def _write(id: str, learner: Learner, out: Path, card: dict[str, Any], split: dict[str, str]) -> Path:
    import tomli_w

    out.mkdir(parents=True, exist_ok=True)
    weights = out / f"{id}{learner.suffix}"
    learner.save(weights, card["training"]["precision"] == "float16")
    weights.chmod(0o644)
    with open(out / f"{id}.split.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["group", "part"])
        writer.writerows(split.items())
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    path = out / f"{id}.toml"
    ordered = {"id": id, **card, "weights": weights.name, "digest": digest}
    tables = {k: ordered.pop(k) for k in ("frontend", "training", "metrics")}
    path.write_text(tomli_w.dumps({**ordered, **tables}, multiline_strings=False), encoding="utf-8")
    return path
