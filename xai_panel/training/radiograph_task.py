"""Training and test sets of the radiograph classifiers."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from xai_panel.models.frontends import RadiographImage, build_frontend
from xai_panel.training import datasets, radiographs
from xai_panel.training.cards import findings_card, published_card, radiograph_card
from xai_panel.training.datasets.base import RADIOGRAPH
from xai_panel.training.images import Images
from xai_panel.training.radiographs import Radiographs
from xai_panel.training.splits import PARTS
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
BLUR = 1.5  # px, σ of the test sets that tell whether a classifier goes by sharpness
MOST = 96  # images that batch norms and rounding are checked with


def _test(name: str, images: Radiographs, finding: int | None = None, blurred: bool = False) -> HeldOut:
    """The test set of these images; finding: the label that is meant when there are several.

    An item's number is its image's row; blurred images come after all others. So the tests of several findings share
    their items, and each is answered once.
    """
    labels = images.labels[:, finding or 0]
    known = np.flatnonzero(~np.isnan(labels))
    items = images.rows[known] + blurred * len(images.images)
    return HeldOut(name, items, labels[known].astype(np.int64), images.patients[known], finding)


def _inputs(images: Images, frontend: RadiographImage, k: int) -> torch.Tensor:
    blurred, row = divmod(k, len(images))
    features = images.features(np.array([row]))
    if blurred:
        features = radiographs.blurred(features, torch.tensor([BLUR]))
    return radiographs.model_input(features, frontend)


def task(recipe: Recipe, source: Source) -> Task:
    """Of the collected children and adults where the folder has them, else of a published data set."""
    frontend = build_frontend(recipe.frontend)
    assert isinstance(frontend, RadiographImage)
    suffix = ""
    if datasets.LAYOUTS["chest-xray-children"].find(source.data) is None:
        suffix = f"-{datasets.detect(source.data).id}"
        everything, tests, checks, card = _published(recipe, source, frontend)
    elif recipe.outputs > 2:
        source.refuse_choices()
        everything, tests, checks, card = _findings(recipe, source, frontend)
    else:
        source.refuse_choices()
        everything, tests, checks, card = _children(recipe, source, frontend)
    training = everything.part("train")
    size = len(radiographs.epoch_order(training, np.random.default_rng(source.seed)))
    pick = slice(None, None, max(1, len(training.labels) // MOST))
    return Task(
        batches=lambda epoch, rng: radiographs.epoch_batches(
            training, frontend, recipe.batch, 2 if epoch < recipe.coarse else 1, rng
        ),
        schedule=recipe.schedule(source, size // recipe.batch),
        sample=radiographs.model_input(training.features(pick), frontend),
        inputs=partial(_inputs, everything.images, frontend),
        validation=checks,
        tests=tests,
        split=dict(sorted(zip(everything.patients.tolist(), everything.parts.tolist(), strict=True))),
        card=card,
        suffix=suffix,
    )


_Made = tuple[Radiographs, list[HeldOut], list[HeldOut], dict[str, Any]]


def _children(recipe: Recipe, source: Source, frontend: RadiographImage) -> _Made:
    children, adults = radiographs.collected(source, frontend)
    held_out = children.part("held-out")
    tests = [
        _test("children, held-out patients", held_out),
        _test(f"children, held-out patients, blurred (σ = {BLUR} px)", held_out, blurred=True),
        _test("adults, RSNA Lung Opacity against Normal (another domain)", adults),
    ]
    return children, tests, [_test("validation", children.part("validation"))], radiograph_card(recipe)


def _findings(recipe: Recipe, source: Source, frontend: RadiographImage) -> _Made:
    children, adults = radiographs.collected(source, frontend)
    everything = radiographs.findings({PNEUMONIA: children, OPACITY: adults}, recipe.outputs)
    held_out, validation = everything.part("held-out"), everything.part("validation")
    elsewhere = radiographs.findings({PNEUMONIA: adults}, recipe.outputs).part("held-out")
    tests = [
        _test("Pneumonia: children, held-out patients", held_out, PNEUMONIA),
        _test(f"Pneumonia: children, held-out patients, blurred (σ = {BLUR} px)", held_out, PNEUMONIA, blurred=True),
        _test("Lung Opacity: adults, RSNA against Normal, held-out patients", held_out, OPACITY),
        _test(
            "Pneumonia: adults, RSNA Lung Opacity against Normal (adults of the other finding)", elsewhere, PNEUMONIA
        ),
    ]
    checks = [_test(FINDINGS[output], validation, output) for output in (PNEUMONIA, OPACITY)]
    return everything, tests, checks, findings_card(recipe, {k: FINDINGS[k] for k in (PNEUMONIA, OPACITY)})


def _complete(items: list[datasets.Item], labels: NDArray[np.float32]) -> bool:
    """Whether every part has radiographs with the finding and without it, by these labels (items,)."""
    seen = {(item.part, label) for item, label in zip(items, labels.tolist(), strict=True)}
    return {(part, label) for part in PARTS for label in (0.0, 1.0)} <= seen


def _published(recipe: Recipe, source: Source, frontend: RadiographImage) -> _Made:
    """Two classes by label, or every finding of TorchXRayVision's that the data set labels."""
    layout, items = source.published(RADIOGRAPH)
    outputs: list[int | None] = [None]
    used = np.ones(len(items), dtype=bool)
    if recipe.outputs > 2:
        columns = {name: k for k, name in enumerate(FINDINGS)}
        labels = np.full((len(items), len(FINDINGS)), np.nan, dtype=np.float32)
        for row, item in zip(labels, items, strict=True):
            for name, value in item.findings.items():
                if (k := columns.get(SYNONYMS.get(name, name))) is not None:
                    row[k] = value
        outputs = [k for k in range(len(FINDINGS)) if _complete(items, labels[:, k])]
        names = [FINDINGS[k] for k in outputs if k is not None]
        if not names:
            raise datasets.DatasetError(source.data, f"{layout.id} has no findings", "findings", "choose another set")
    else:
        names = list(source.two_classes({item.label for item in items}))
        values = dict(zip(names, (0.0, 1.0), strict=True))
        labels = np.array([[values.get(item.label, np.nan)] for item in items], dtype=np.float32)
        used = ~np.isnan(labels[:, 0])
    # all are read, whatever is used of them: one set on disk serves findings and any two classes
    everything = radiographs.read(items, labels, source, frontend).select(used)
    titles = ["" if k is None else f"{FINDINGS[k]}: " for k in outputs]
    held_out, validation = everything.part("held-out"), everything.part("validation")
    return (
        everything,
        [_test(f"{t}{layout.id}, held-out part", held_out, k) for t, k in zip(titles, outputs, strict=True)],
        [_test(f"{t}validation", validation, k) for t, k in zip(titles, outputs, strict=True)],
        published_card(recipe, RADIOGRAPH, layout, names, [k for k in outputs if k is not None]),
    )
