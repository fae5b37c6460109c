"""What the cards of the shipped classifiers say, apart from the figures that training measures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from xai_panel.training import datasets, recordings
from xai_panel.training.published import PUBLISHED

if TYPE_CHECKING:
    from xai_panel.training.run import Recipe

_CHILDREN = (
    "Kermany, Zhang, Goldbaum 2018 (Mendeley Data V2, doi:10.17632/rscbjbr9sj.2), CC-BY-4.0, downscaled to 224 × 224"
)
_ADULTS = "NIH ChestX-ray8 (Wang et al. 2017) with the classes of the RSNA Pneumonia Detection Challenge 2018"


def radiograph_card(recipe: Recipe) -> dict[str, Any]:
    """Card of a classifier of children's chest radiographs."""
    return {
        **_made(recipe, "training images CC-BY-4.0"),
        "summary": "Tells normal from pneumonia on frontal chest radiographs of young children.",
        "modality": "radiograph",
        "labels": ["normal", "pneumonia"],
        "positive": 1,
        "caveat": "Trained on children aged 1–5 from one hospital; on adults it is much less reliable. Not a medical device.",
        "limitations": [
            "Trained on radiographs of children aged 1–5 from one hospital in Guangzhou; adults are another domain (see the figures).",
            "Knows two answers only: any other finding (effusion, fracture, tube, tumor) is forced into one of them.",
            "Frontal views only; a lateral view, another body part or a photograph gets an answer all the same.",
            "In the training data normal images are sharper; sharpness is varied in training, but a remainder of the shortcut may be left.",
            "Sees 224 × 224 pixels: nothing smaller than about two of them can count.",
        ],
        "not_for": ["diagnosis, triage or any decision about a patient", "adults", "other body parts or modalities"],
        "training": {
            "data": _CHILDREN,
            "other_domain": _ADULTS,
            "split": "by patient: 72 % training, 8 % validation (epoch, calibration), 20 % held out",
            "initial": _initial(recipe),
        },
    }


def findings_card(recipe: Recipe, findings: dict[int, str]) -> dict[str, Any]:
    """Card of a classifier of several findings, in the head of TorchXRayVision's networks; findings: output → name."""
    return {
        **_made(recipe, "training images CC-BY-4.0 (children), of the NIH Clinical Center (adults)"),
        "summary": "Finds pneumonia on chest radiographs of children, and lung opacity on those of adults.",
        "modality": "radiograph",
        "labels": list(findings.values()),
        "outputs": list(findings),
        "positive": 0,
        "multi_label": True,
        "caveat": "Pneumonia was learnt on children of one hospital, lung opacity on few adults; see the figures. Not a medical device.",
        "limitations": [
            "Has the 18 outputs of TorchXRayVision; the data supports two, the others were never trained and are not shown.",
            "Pneumonia: trained on radiographs of children aged 1–5 from one hospital in Guangzhou; adults are another domain (see the figures).",
            "Lung Opacity: trained on about a hundred radiographs of adults; its figure is uncertain, and children are another domain.",
            "Frontal views only; a lateral view, another body part or a photograph gets an answer all the same.",
            "Sees 224 × 224 pixels: nothing smaller than about two of them can count.",
        ],
        "not_for": ["diagnosis, triage or any decision about a patient", "other body parts or modalities"],
        "training": {
            "data": f"{_CHILDREN} (Pneumonia); {_ADULTS}: Lung Opacity against Normal (Lung Opacity)",
            "split": "by patient: 72 % training, 8 % validation (epoch, calibration), 20 % held out",
            "initial": _initial(recipe),
        },
    }


def audio_card(recipe: Recipe, seconds: float) -> dict[str, Any]:
    """Card of a detector; seconds: length of its window."""
    return {
        **_made(recipe, "training speech CC-BY-4.0"),
        "summary": "Tells recorded speech from speech that came out of a vocoder.",
        "modality": "audio",
        "labels": ["bona fide", "spoof"],
        "positive": 1,
        "caveat": "Knows six classic vocoders on read English; other generators may pass, and other recordings may be accused. "
        "Not forensic evidence.",
        "limitations": [
            "Trained on six signal-processing vocoders (Griffin-Lim, mel inversion, phase vocoder, sinusoidal model, LPC, WORLD); "
            "the hardest of them: {trained}.",
            "Generators that it never heard may pass; the worst of those that were tried: {unheard}. See their figures.",
            "Trained on read English audiobooks (LibriSpeech) at 16 kHz; other corpora, languages, rooms and codecs are other domains.",
            f"A recording is heard in windows of {seconds:g} s whose logits are averaged: a short spoofed stretch in a long recording is diluted; "
            "look at the score of each window.",
            "Answers for music and noise too, where the answer means nothing.",
        ],
        "not_for": [
            "evidence in court or accusations",
            "deciding alone about content moderation",
            "speaker verification",
        ],
        "training": {
            "data": "LibriSpeech (Panayotov et al. 2015), CC-BY-4.0, first 4 s of 351 recordings, and a vocoded copy of each by each vocoder",
            "vocoders": list(recordings.TRAINED_VOCODERS),
            "held_out_vocoders": list(recordings.HELD_OUT_VOCODERS),
            "split": "by speaker: 72 % training, 8 % validation (epoch, calibration), 20 % held out; other corpora held out entirely",
            "initial": _initial(recipe),
        },
    }


def published_card(
    recipe: Recipe, modality: str, layout: datasets.Layout, labels: list[str], outputs: list[int]
) -> dict[str, Any]:
    """Card of a classifier that was trained on a published data set; outputs: those with labels, of many findings."""
    findings = {"multi_label": True, "outputs": outputs, "positive": 0} if outputs else {"positive": 1}
    return {
        **_made(recipe, f"the terms of {layout.id} for its data"),
        "title": f"{recipe.title}, trained on {layout.id}",
        "summary": f"Trained on {layout.id}: {', '.join(labels)}.",
        "modality": modality,
        "labels": labels,
        **findings,
        "caveat": f"Trained on {layout.id} alone; what comes from elsewhere is another domain.",
        "limitations": [
            f"Trained on {layout.id} alone: whatever tells its classes apart there, corpus and devices included, may be what it looks at.",
            "No figures on other data sets; expect them to be worse.",
        ],
        "not_for": ["decisions about a person", "data of another kind than it was trained on"],
        "training": {
            "data": f"{layout.id}" + (f" ({layout.source})" if layout.source else ""),
            "split": "as published; by group where no parts were published",
            "initial": _initial(recipe),
        },
    }


def with_figures(card: dict[str, Any], metrics: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """A detector's card whose limitations name the vocoders that it does worst on, as measured."""
    sets = {
        "trained": [name for name in metrics if name.rpartition(", ")[2] in recordings.TRAINED_VOCODERS],
        "unheard": [name for name in metrics if name.endswith("(not trained on)")],
    }
    worst = {}
    for kind, names in sets.items():
        if names:
            name = min(names, key=lambda one: float(metrics[one]["auroc"]))
            worst[kind] = f"{name.removesuffix(' (not trained on)')} (AUROC {metrics[name]['auroc']:.2f})"
    texts = [text.format(**worst) if worst else text for text in card["limitations"]]
    return {**card, "limitations": texts}


def _made(recipe: Recipe, data: str) -> dict[str, Any]:
    """What a card says of a recipe itself; data: the licence of what it was trained on."""
    credit = f"starts from {PUBLISHED[recipe.initial].credit}; " if recipe.initial in PUBLISHED else ""
    return {
        "title": recipe.title,
        "framework": recipe.framework,
        "architecture": recipe.architecture,
        "frontend": recipe.frontend,
        "license": f"BSD-3-Clause; {credit}{data}",
    }


def _initial(recipe: Recipe) -> str:
    if recipe.initial in PUBLISHED:
        return PUBLISHED[recipe.initial].title
    return f"the weights of {recipe.initial}" if recipe.initial else "random weights"
