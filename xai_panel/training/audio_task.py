"""Training and test sets of the audio deepfake detectors."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from xai_panel.models.frontends import FrontEnd, LogMel, build_frontend
from xai_panel.models.spectra import ConstantQ, Waveform
from xai_panel.signals.vocoders import VOCODERS
from xai_panel.training import datasets, recordings
from xai_panel.training.cards import audio_card, published_card
from xai_panel.training.datasets.base import AUDIO
from xai_panel.training.datasets.collected import TRAINED_CORPUS
from xai_panel.training.recordings import HELD_OUT_VOCODERS, TRAINED_VOCODERS, Recording
from xai_panel.training.task import HeldOut, Recipe, Source, Task

FEWEST = 5  # recordings of a generator that get a figure of their own
MOST = 48  # recordings that batch norms and rounding are checked with
RATE = 16_000

Pairs = Callable[[np.random.Generator], Iterable[tuple[Recording, Recording]]]


def task(recipe: Recipe, source: Source) -> Task:
    """Of the collected recordings and their vocoded copies where the folder has them, else of a published data set."""
    if datasets.LAYOUTS["speech"].find(source.data) is None:
        return _published(recipe, source)
    source.refuse_choices()
    return _collected(recipe, source)


def _collected(recipe: Recipe, source: Source) -> Task:
    everything = recordings.recordings(source.data, source.cache, RATE, source.seed)
    train = [r for r in everything if r.part == "train" and r.generator in ("", *TRAINED_VOCODERS)]
    heard = _Heard(recipe, everything)

    def pick(part: str, corpus: str, generators: tuple[str, ...]) -> list[Recording]:
        return [r for r in everything if r.part == part and r.corpus == corpus and r.generator in generators]

    home = TRAINED_CORPUS
    own = pick("held-out", home, ("",))
    name = f"{home}, held-out speakers, "
    tests = [heard.test(f"{name}trained vocoders", own + pick("held-out", home, TRAINED_VOCODERS))]
    for vocoder in (*TRAINED_VOCODERS, *HELD_OUT_VOCODERS):
        note = " (not trained on)" if vocoder in HELD_OUT_VOCODERS else ""
        tests.append(heard.test(f"{name}{vocoder}{note}", own + pick("held-out", home, (vocoder,))))
    for corpus in ("LJSpeech", "LibriTTS", "AISHELL3"):
        own = pick("held-out", corpus, ("",))
        copies = pick("held-out", corpus, TRAINED_VOCODERS)
        tests.append(heard.test(f"{corpus} (another corpus), trained vocoders", own + copies))
        published = sorted({r.generator for r in everything if r.corpus == corpus} - {"", *VOCODERS})
        for generator in published:
            fakes = pick("held-out", corpus, (generator,))
            if len(fakes) >= FEWEST:
                tests.append(heard.test(f"{corpus}, published deepfakes: {generator} (not trained on)", own + fakes))
        if len(published) > 1:
            fakes = pick("held-out", corpus, tuple(published))
            tests.append(heard.test(f"{corpus}, all published deepfakes (not trained on)", own + fakes))
    validation = pick("validation", home, ("", *TRAINED_VOCODERS))
    bona_fide = [r for r in train if not r.generator]
    return heard.task(
        source,
        lambda rng: recordings.own_copies(train, recipe.rounds, rng),
        len(bona_fide) * recipe.rounds,
        validation,
        tests,
        audio_card(recipe, round(_samples(heard.frontend) / RATE, 1)),
    )


def _published(recipe: Recipe, source: Source) -> Task:
    layout, items = source.published(AUDIO)
    names = source.two_classes({item.label for item in items})
    everything = [recordings.of_item(item, item.label == names[1], RATE) for item in items if item.label in names]
    heard = _Heard(recipe, everything)
    train, held_out = ([r for r in everything if r.part == part] for part in ("train", "held-out"))
    classes = [[r for r in train if r.label == label] for label in (0, 1)]
    own = [r for r in held_out if not r.generator]
    tests = [heard.test(f"{layout.id}, held-out part", held_out)]
    for generator in sorted({r.generator for r in held_out} - {""}):
        fakes = [r for r in held_out if r.generator == generator]
        if FEWEST <= len(fakes) < len(held_out) - len(own):
            tests.append(heard.test(f"{layout.id}, held-out part, {generator}", own + fakes))
    return heard.task(
        source,
        lambda rng: recordings.drawn_pairs(classes[0], classes[1], rng),
        min(len(members) for members in classes),
        [r for r in everything if r.part == "validation"],
        tests,
        published_card(recipe, AUDIO, layout, list(names), []),
        f"-{layout.id}",
    )


class _Heard:
    """Recordings by number, as a recipe's front end hears them."""

    def __init__(self, recipe: Recipe, everything: list[Recording]) -> None:
        self.recipe = recipe
        self.frontend = build_frontend(recipe.frontend)
        self.everything = everything
        self._places = {id(r): k for k, r in enumerate(everything)}

    def inputs(self, k: int) -> torch.Tensor:
        windows = recordings.windows_of(self.everything[k].waveform / 32767.0, self.frontend, RATE)
        return recordings.model_input(np.stack(windows), self.frontend)

    def test(self, name: str, chosen: list[Recording]) -> HeldOut:
        return HeldOut(
            name,
            np.array([self._places[id(r)] for r in chosen]),
            np.array([r.label for r in chosen]),
            np.array([r.speaker for r in chosen]),
        )

    def task(
        self,
        source: Source,
        pairs: Pairs,
        count: int,
        validation: list[Recording],
        tests: list[HeldOut],
        card: dict[str, Any],
        suffix: str = "",
    ) -> Task:
        """`count`: pairs an epoch."""
        short = _shortened(self.frontend, self.recipe.piece)
        train = [k for k, r in enumerate(self.everything) if r.part == "train" and r.generator not in HELD_OUT_VOCODERS]
        return Task(
            batches=lambda _epoch, rng: recordings.epoch_batches(
                pairs(rng), short, RATE, self.recipe.batch, rng, loud=self.recipe.piece < 1
            ),
            schedule=self.recipe.schedule(source, 2 * count // self.recipe.batch),
            sample=self._sample(train[:: max(1, len(train) // MOST)]),
            inputs=self.inputs,
            validation=[self.test("validation", validation)],
            tests=tests,
            split=dict(sorted({r.speaker: r.part for r in self.everything}.items())),
            card=card,
            suffix=suffix,
        )

    def _sample(self, chosen: list[int]) -> torch.Tensor:
        """The first window of each, of those of the usual length."""
        windows = [self.inputs(k)[:1] for k in chosen]
        usual = max(windows, key=lambda one: sum(one.shape == other.shape for other in windows)).shape
        return torch.cat([one for one in windows if one.shape == usual])


def _samples(frontend: FrontEnd) -> int:
    """Samples of one window."""
    assert isinstance(frontend, LogMel | Waveform | ConstantQ)
    return frontend.samples if isinstance(frontend, Waveform) else frontend.frames * frontend.hop_length


def _shortened(frontend: FrontEnd, share: float) -> FrontEnd:
    """The front end with windows of this share of their length."""
    assert isinstance(frontend, LogMel | Waveform | ConstantQ)
    name = "samples" if isinstance(frontend, Waveform) else "frames"
    return replace(frontend, **{name: round(getattr(frontend, name) * share)})
