"""Training and test sets of the radiograph classifiers."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from xai_panel.models.frontends import RadiographImage, build_frontend
from xai_panel.training import datasets, radiographs
from xai_panel.training.cards import findings_card, published_card, radiograph_card
from xai_panel.training.datasets.base import RADIOGRAPH
from xai_panel.training.radiographs import Radiographs
from xai_panel.training.task import HeldOut, Recipe, Source, Task

#: TorchXRayVision's 18 outputs, in order.
FINDINGS = (
    "Atelectasis",
    "Consolidation",
    "Infiltration",
    "Pneumothorax",
    "Edema",
    "Emphysema",
    "Fibrosis",
    "Effusion",
    "Pneumonia",
    "Pleural_Thickening",
    "Cardiomegaly",
    "Nodule",
    "Mass",
    "Hernia",
    "Lung Lesion",
    "Fracture",
    "Lung Opacity",
    "Enlarged Cardiomediastinum",
)
PNEUMONIA, OPACITY = FINDINGS.index("Pneumonia"), FINDINGS.index("Lung Opacity")
#: What data sets call them.
SYNONYMS = {"Pleural Effusion": "Effusion"}
MOST = 96  # images that batch norms and rounding are checked with


class _Images:
    """Radiographs by number, each source blurred by its σ [px] when that is not 0."""

    def __init__(self, frontend: RadiographImage) -> None:
        self.frontend = frontend
        self._sources: list[tuple[Radiographs, float]] = []
        self._ends = [0]

    def test(self, name: str, images: Radiographs, column: int | None = None, sigma: float = 0) -> HeldOut:
        """The test set of these images; column: the finding that is meant when there are several."""
        labels = images.labels[:, column or 0]
        first = self._ends[-1]
        self._sources.append((images, sigma))
        self._ends.append(first + len(labels))
        known = np.flatnonzero(~np.isnan(labels))
        return HeldOut(name, first + known, labels[known].astype(np.int64), images.patients[known], column)

    def inputs(self, k: int) -> torch.Tensor:
        source = int(np.searchsorted(self._ends, k, side="right")) - 1
        images, sigma = self._sources[source]
        features = torch.from_numpy(images.features[k - self._ends[source]][None]).float() / 255
        if sigma:
            features = radiographs.blurred(features, torch.tensor([sigma]))
        return radiographs.model_input(features, self.frontend)


def task(recipe: Recipe, source: Source) -> Task:
    """Of the collected children and adults where the folder has them, else of a published data set."""
    frontend = build_frontend(recipe.frontend)
    assert isinstance(frontend, RadiographImage)
    images = _Images(frontend)
    suffix = ""
    if datasets.LAYOUTS["chest-xray-children"].find(source.data) is None:
        suffix = f"-{datasets.detect(source.data).id}"
        everything, tests, checks, card = _published(recipe, source, images)
    elif recipe.outputs > 2:
        source.refuse_choices()
        everything, tests, checks, card = _findings(recipe, source, images)
    else:
        source.refuse_choices()
        everything, tests, checks, card = _children(recipe, source, images)
    training = everything.part("train")
    size = len(radiographs.epoch_order(training, np.random.default_rng(source.seed)))
    pick = slice(None, None, max(1, len(training.labels) // MOST))
    return Task(
        batches=lambda epoch, rng: radiographs.epoch_batches(
            training, frontend, recipe.batch, 2 if epoch < recipe.coarse else 1, rng
        ),
        schedule=recipe.schedule(source, size // recipe.batch),
        sample=radiographs.model_input(torch.from_numpy(training.features[pick]).float() / 255, frontend),
        inputs=images.inputs,
        validation=checks,
        tests=tests,
        split=dict(sorted(zip(everything.patients.tolist(), everything.parts.tolist(), strict=True))),
        card=card,
        suffix=suffix,
    )


_Made = tuple[Radiographs, list[HeldOut], list[HeldOut], dict[str, Any]]


def _children(recipe: Recipe, source: Source, images: _Images) -> _Made:
    children = radiographs.children(source.data, images.frontend, source.seed)
    held_out = children.part("held-out")
    adults = radiographs.adults(source.data, images.frontend, source.seed)
    tests = [
        images.test("children, held-out patients", held_out),
        images.test("children, held-out patients, blurred (σ = 1.5 px)", held_out, sigma=1.5),
        images.test("adults, RSNA Lung Opacity against Normal (another domain)", adults),
    ]
    return children, tests, [images.test("validation", children.part("validation"))], radiograph_card(recipe)


def _findings(recipe: Recipe, source: Source, images: _Images) -> _Made:
    children = radiographs.children(source.data, images.frontend, source.seed)
    adults = radiographs.adults(source.data, images.frontend, source.seed)
    everything = radiographs.findings({PNEUMONIA: children, OPACITY: adults}, recipe.outputs)
    held_out, validation = everything.part("held-out"), everything.part("validation")
    elsewhere = radiographs.findings({PNEUMONIA: adults}, recipe.outputs).part("held-out")
    tests = [
        images.test("Pneumonia: children, held-out patients", held_out, PNEUMONIA),
        images.test("Pneumonia: children, held-out patients, blurred (σ = 1.5 px)", held_out, PNEUMONIA, 1.5),
        images.test("Lung Opacity: adults, RSNA against Normal, held-out patients", held_out, OPACITY),
        images.test(
            "Pneumonia: adults, RSNA Lung Opacity against Normal (adults of the other finding)", elsewhere, PNEUMONIA
        ),
    ]
    checks = [images.test(FINDINGS[output], validation, output) for output in (PNEUMONIA, OPACITY)]
    return everything, tests, checks, findings_card(recipe, {k: FINDINGS[k] for k in (PNEUMONIA, OPACITY)})


def _complete(images: Radiographs, finding: int) -> bool:
    """Whether every part has radiographs with the finding and without it."""
    parts = [images.part(name).labels[:, finding] for name in ("train", "validation", "held-out")]
    return all({0.0, 1.0} <= set(values.tolist()) for values in parts)


def _published(recipe: Recipe, source: Source, images: _Images) -> _Made:
    """Two classes by label, or every finding of TorchXRayVision's that the data set labels."""
    layout, items = source.published(RADIOGRAPH)
    if recipe.outputs > 2:
        named = [{SYNONYMS.get(name, name): value for name, value in item.findings.items()} for item in items]
        labels = np.array([[known.get(name, np.nan) for name in FINDINGS] for known in named], dtype=np.float32)
        everything = radiographs.read(items, labels, images.frontend)
        outputs: list[int | None] = [k for k in range(len(FINDINGS)) if _complete(everything, k)]
        names = [FINDINGS[k] for k in outputs if k is not None]
        if not names:
            raise datasets.DatasetError(source.data, f"{layout.id} has no findings", "findings", "choose another set")
    else:
        names = list(source.two_classes({item.label for item in items}))
        chosen = [item for item in items if item.label in names]
        labels = np.array([[names.index(item.label)] for item in chosen], dtype=np.float32)
        everything, outputs = radiographs.read(chosen, labels, images.frontend), [None]
    titles = ["" if k is None else f"{FINDINGS[k]}: " for k in outputs]
    held_out, validation = everything.part("held-out"), everything.part("validation")
    return (
        everything,
        [images.test(f"{t}{layout.id}, held-out part", held_out, k) for t, k in zip(titles, outputs, strict=True)],
        [images.test(f"{t}validation", validation, k) for t, k in zip(titles, outputs, strict=True)],
        published_card(recipe, RADIOGRAPH, layout, names, [k for k in outputs if k is not None]),
    )
