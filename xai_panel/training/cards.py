"""What the cards of the shipped classifiers say, apart from the figures that training measures."""

from __future__ import annotations

from typing import Any

from xai_panel.training import recordings

_IMAGENET = "ImageNet MobileNetV2 1.0 224 (TFLite, Google), dequantised"


def radiograph_card(title: str, architecture: str, imagenet: bool = False) -> dict[str, Any]:
    """Card of a classifier of children's chest radiographs; imagenet: it starts from MobileNetV2's ImageNet weights."""
    return {
        "title": title,
        "summary": "Tells normal from pneumonia on frontal chest radiographs of young children.",
        "modality": "radiograph",
        "framework": "torch",
        "architecture": architecture,
        "labels": ["normal", "pneumonia"],
        "positive": 1,
        "license": _license(imagenet, "training images CC-BY-4.0"),
        "caveat": "Trained on children aged 1–5 from one hospital; on adults it is much less reliable. Not a medical device.",
        "limitations": [
            "Trained on radiographs of children aged 1–5 from one hospital in Guangzhou; adults are another domain (see the figures).",
            "Knows two answers only: any other finding (effusion, fracture, tube, tumor) is forced into one of them.",
            "Frontal views only; a lateral view, another body part or a photograph gets an answer all the same.",
            "In the training data normal images are sharper; sharpness is varied in training, but a remainder of the shortcut may be left.",
            "Sees 224 × 224 pixels: nothing smaller than about two of them can count.",
        ],
        "not_for": ["diagnosis, triage or any decision about a patient", "adults", "other body parts or modalities"],
        "frontend": {"kind": "radiograph", "size": 224},
        "training": {
            "data": "Kermany, Zhang, Goldbaum 2018 (Mendeley Data V2, doi:10.17632/rscbjbr9sj.2), CC-BY-4.0, downscaled to 224 × 224",
            "other_domain": "NIH ChestX-ray8 (Wang et al. 2017) with the classes of the RSNA Pneumonia Detection Challenge 2018",
            "split": "by patient: 72 % training, 8 % validation (epoch, temperature), 20 % held out",
            "initial": _IMAGENET if imagenet else "random weights",
        },
    }


def audio_card(
    title: str, architecture: str, seconds: float, frontend: dict[str, Any] | None = None, imagenet: bool = False
) -> dict[str, Any]:
    """Card of a detector on log-mel spectrograms.

    seconds: length of its window; frontend: parameters that differ from `LogMel`'s; imagenet: as above.
    """
    return {
        "title": title,
        "summary": "Tells recorded speech from speech that came out of a vocoder.",
        "modality": "audio",
        "framework": "torch",
        "architecture": architecture,
        "labels": ["bona fide", "spoof"],
        "positive": 1,
        "license": _license(imagenet, "training speech CC-BY-4.0"),
        "caveat": "Knows six classic vocoders on read English; other generators may pass, and other recordings may be accused. "
        "Not forensic evidence.",
        "limitations": [
            "Trained on six signal-processing vocoders (Griffin-Lim, mel inversion, phase vocoder, sinusoidal model, LPC, WORLD). Generators that it never heard often pass, FastSpeech 2 and an LPC-10 codec mostly; see their figures.",
            "Copies by Griffin-Lim from the full magnitudes are the hard case: their traces are fainter than what recordings differ by; "
            "see their figure.",
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
        "frontend": {"kind": "log-mel", **(frontend or {})},
        "training": {
            "data": "LibriSpeech (Panayotov et al. 2015), CC-BY-4.0, first 4 s of 351 recordings, and a vocoded copy of each by each vocoder",
            "vocoders": list(recordings.TRAINED_VOCODERS),
            "held_out_vocoders": list(recordings.HELD_OUT_VOCODERS),
            "split": "by speaker: 72 % training, 8 % validation (epoch, temperature), 20 % held out; other corpora held out entirely",
            "initial": _IMAGENET if imagenet else "random weights",
        },
    }


def _license(imagenet: bool, data: str) -> str:
    return f"BSD-3-Clause; {'starts from ImageNet weights © Google, Apache-2.0; ' if imagenet else ''}{data}"
