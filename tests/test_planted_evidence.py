"""Each method finds evidence that was planted, on models that are built to use it and nothing else.

The networks are matched filters: one channel answers to the planted pattern, another to the distractors, and the head
reads the first only. The distractors have stronger edges than the evidence and cover more of the window, so that a
map that outlines what is conspicuous, instead of what the model used, loses: an edge detector of the input is such a
map (Adebayo et al. 2018).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter, sobel
from scipy.stats import rankdata
from tiny import classifier, read_all
from torch import nn

from xai_panel.evidence.evidence import Evidence
from xai_panel.methods import METHODS, compatible, upsample
from xai_panel.models.frontends import LogMel, RadiographImage
from xai_panel.signals.speech import speech
from xai_panel.signals.synthetic import load_sample, truth_mask

SIZE = 64
SEEDS = range(4)


class MatchedFilters(nn.Module):
    """Two filters (evidence, distractors), thresholds, ReLU, global average pooling; the head reads the first only."""

    def __init__(self, filters: list[np.ndarray], thresholds: list[float], scale: float, offset: float) -> None:
        super().__init__()
        side = filters[0].shape[0]
        self.scale, self.offset = scale, offset
        self.conv = nn.Conv2d(1, 2, side, stride=4, padding=side // 2, padding_mode="replicate")
        self.relu = nn.ReLU()
        self.head = nn.Linear(2, 2)
        with torch.no_grad():
            self.conv.weight.copy_(torch.from_numpy(np.stack(filters)[:, None].astype(np.float32)))
            self.conv.bias.copy_(-torch.tensor(thresholds))
            self.head.weight.copy_(torch.tensor([[-200.0, 0.0], [200.0, 0.0]]))
            self.head.bias.copy_(torch.tensor([1.0, -1.0]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.relu(self.conv(x * self.scale + self.offset)).mean((2, 3)))


@dataclass(frozen=True)
class Planted:
    """A window (H, W), the mask of what the model uses, and of what it must not be fooled by."""

    window: np.ndarray
    mask: np.ndarray
    distractors: np.ndarray


# --- a radiograph: a soft opacity among sharp stripes ----------------------------------------------------------------


def stripes(shape: tuple[int, int]) -> np.ndarray:
    return np.broadcast_to(np.where(np.arange(shape[1]) % 4 < 2, 1.0, -1.0), shape)


def spot(shape: tuple[int, int], center: tuple[float, float], sigma: float) -> np.ndarray:
    y, x = np.indices(shape)
    return np.exp(-((y - center[0]) ** 2 + (x - center[1]) ** 2) / (2 * sigma**2))


def radiograph(seed: int) -> Planted:
    """An opacity of 0.3 on gray with noise, beside two fields of stripes of 0.25 that make the strongest edges."""
    rng = np.random.default_rng(seed)
    left = bool(rng.integers(2))
    center = (rng.uniform(14, 50), rng.uniform(12, 18) if left else rng.uniform(46, 52))
    opacity = spot((SIZE, SIZE), center, 5.0)
    distractors = np.zeros((SIZE, SIZE), bool)
    distractors[2:30, 30:62] = distractors[36:62, 30:62] = True
    if not left:
        distractors = distractors[:, ::-1].copy()
    image = 0.4 + 0.03 * rng.standard_normal((SIZE, SIZE)) + 0.3 * opacity + 0.25 * distractors * stripes((SIZE, SIZE))
    return Planted(image.astype(np.float32), opacity > 0.4, distractors)


def radiograph_model() -> nn.Module:
    """Fires where the blurred image is brighter than 0.52; stripes cancel in the blur."""
    blur = spot((13, 13), (6, 6), 2.5)
    in_phase = -stripes((13, 13))  # the filters start at columns 2, 6, 10, …
    return MatchedFilters([blur / blur.sum(), in_phase * blur / blur.sum()], [0.52, 0.05], 1.0, 0.0)


# --- a spectrogram: a steady patch among clicks and tones ------------------------------------------------------------


def spectrogram(seed: int) -> Planted:
    """A patch of 16 bands × 16 frames, 20 dB above a noise floor; clicks and tones of 45 dB are sharper and longer."""
    rng = np.random.default_rng(seed)
    level = -70 + 2 * rng.standard_normal((SIZE, SIZE))
    distractors = np.zeros((SIZE, SIZE), bool)
    places = np.array([4, 20, 36, 52])
    distractors[:, places + 4 * rng.integers(0, 2, 4)] = True
    distractors[places + 4 * rng.integers(0, 2, 4)] = True
    level[distractors] += 45
    top, left = rng.integers(4, SIZE - 20, 2)
    mask = np.zeros((SIZE, SIZE), bool)
    mask[top : top + 16, left : left + 16] = True
    level[mask & ~distractors] += 20
    return Planted(np.maximum(level, -80).astype(np.float32), mask, distractors & ~mask)


def spectrogram_model() -> nn.Module:
    """Fires where 9 bands × 9 frames have a mean level above -56 dB: a click or a tone fills one row of nine."""
    patch = np.full((9, 9), 1 / 81)
    click = np.zeros((9, 9))
    click[:, 4] = 1 / 9
    return MatchedFilters([patch, click - patch], [24 / 80, 10 / 80], 1 / 80, 1.0)


CASES = {"radiograph": (radiograph, radiograph_model, 0.0), "audio": (spectrogram, spectrogram_model, -80.0)}


# --- how well a map finds a mask -------------------------------------------------------------------------------------


def auroc(values: np.ndarray, mask: np.ndarray) -> float:
    """Probability that a feature inside the mask ranks above one outside; ties count half."""
    ranks = rankdata(values, axis=None).reshape(mask.shape)
    inside, outside = int(mask.sum()), int((~mask).sum())
    return float((ranks[mask].sum() - inside * (inside + 1) / 2) / (inside * outside))


def rank_accuracy(values: np.ndarray, mask: np.ndarray) -> float:
    """Part of the mask among as many highest values (Arras et al. 2022); ties are broken evenly."""
    count = int(mask.sum())
    threshold = np.sort(values, axis=None)[-count]
    above, level = values > threshold, values == threshold
    return float(mask[above].sum() + mask[level].sum() * (count - above.sum()) / level.sum()) / count


def test_scores_of_known_maps() -> None:
    mask = np.array([[True, False], [False, False]])
    assert auroc(np.array([[4.0, 3.0], [2.0, 1.0]]), mask) == 1.0
    assert auroc(np.array([[2.0, 3.0], [1.0, 0.0]]), mask) == pytest.approx(2 / 3)
    assert auroc(np.zeros((2, 2)), mask) == 0.5
    assert rank_accuracy(np.array([[4.0, 3.0], [2.0, 1.0]]), mask) == 1.0
    assert rank_accuracy(np.array([[2.0, 3.0], [1.0, 0.0]]), mask) == 0.0
    assert rank_accuracy(np.zeros((2, 2)), mask) == 0.25


# --- the methods -----------------------------------------------------------------------------------------------------


@cache
def explained(case: str, seed: int, swapped: bool = False) -> tuple[Planted, dict[str, np.ndarray], Evidence]:
    """Window, maps on its grid and evidence; `swapped`: of a model whose head reads the distractors instead."""
    plant, build, floor = CASES[case]
    planted, network = plant(seed), build()
    if swapped:
        network.head.weight.data = network.head.weight.data.flip(1)
    model = classifier(network, (SIZE, SIZE), modality=case, floor=floor)
    evidence = Evidence(model, planted.window, 1, seed=seed)
    maps = {id: upsample(result.values, (SIZE, SIZE)) for id, result in read_all(evidence).items()}
    return planted, maps, evidence


def edges(window: np.ndarray) -> np.ndarray:
    return np.hypot(sobel(window, 0), sobel(window, 1))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("seed", SEEDS)
def test_the_models_use_the_planted_evidence_and_nothing_else(case: str, seed: int) -> None:
    planted, _, evidence = explained(case, seed)
    backend = evidence.classifier.backend
    without = np.where(planted.mask, np.median(planted.window), planted.window)
    calm = np.where(planted.distractors, np.median(planted.window), planted.window)
    whole, absent, undisturbed = backend.logits(np.stack([planted.window, without, calm]).astype(np.float32))[:, 1]
    assert whole > absent + 0.1  # the pattern makes the verdict
    assert absent == pytest.approx(-1.0, abs=0.02)  # what is left is the bias
    assert abs(undisturbed - whole) < 0.5 * (whole - absent)  # the distractors do not
    assert evidence.activations.values[1].max() > 0  # although a channel sees them
    assert all(answer is True for answer in compatible(evidence.classifier).values())


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("seed", SEEDS)
def test_an_edge_detector_is_misled(case: str, seed: int) -> None:
    planted, _, _ = explained(case, seed)
    assert auroc(edges(planted.window), planted.mask) < 0.6
    assert (
        rank_accuracy(edges(planted.window), planted.mask) < 0.05
    )  # none of the strongest edges belong to the evidence


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("id", list(METHODS))
def test_the_planted_evidence_is_found(id: str, case: str) -> None:
    """On every seed better than the edges and than the best of twenty random maps, smooth or not."""
    for seed in SEEDS:
        planted, maps, _ = explained(case, seed)
        rng = np.random.default_rng(seed)
        noise = [rng.random((SIZE, SIZE)) for _ in range(10)]
        random = noise + [gaussian_filter(n, 4) for n in noise]
        for score in (auroc, rank_accuracy):
            found = score(maps[id], planted.mask)
            rivals = [score(rival, planted.mask) for rival in (edges(planted.window), *random)]
            assert found > max(rivals) + 0.05, f"{score.__name__}, seed {seed}"


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("id", list(METHODS))
def test_maps_follow_the_model_and_not_the_window(id: str, case: str) -> None:
    """The same windows, a head that reads the distractors instead: the evidence is no longer what the maps show."""
    for seed in SEEDS:
        planted, maps, _ = explained(case, seed)
        _, other, _ = explained(case, seed, swapped=True)
        assert auroc(other[id], planted.mask) < auroc(maps[id], planted.mask) - 0.2, f"seed {seed}"


# --- the generated samples -------------------------------------------------------------------------------------------


class Deviation(nn.Module):
    """Fires where a window exceeds a reference by more than a margin, averaged over boxes of 16×16 features.

    It is built to use what was planted: the reference is the same signal without it, and nothing else differs.
    """

    def __init__(self, reference: np.ndarray, margin: float, threshold: float) -> None:
        super().__init__()
        self.margin = margin
        self.reference = nn.Buffer(torch.tensor(reference)[None, None])
        self.conv = nn.Conv2d(1, 1, 16, stride=8, padding=4)
        self.relu = nn.ReLU()
        self.head = nn.Linear(1, 2)
        with torch.no_grad():
            self.conv.weight.fill_(1 / 256)
            self.conv.bias.fill_(-threshold)
            self.head.weight.copy_(torch.tensor([[-10.0], [10.0]]) / threshold)
            self.head.bias.zero_()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        excess = torch.relu(x - self.reference - self.margin)
        return self.head(self.relu(self.conv(excess)).mean((2, 3)))


@cache
def recording() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Window, mask and reference of the recording with a spoofed stretch: the same speech, not vocoded."""
    spoofed = load_sample("speech-spoofed-stretch")
    genuine = spoofed.copy(data=speech(2, 6.0, 16_000))
    frontend = LogMel(win_length=1024, hop_length=288)  # 4 s a window, so that it holds what is genuine, too
    features, reference = frontend.features(spoofed), frontend.features(genuine)
    here = slice(50, 274)  # around 2.1…3.7 s
    mask = truth_mask("speech-spoofed-stretch", features)
    # levels are relative to the maximum of each recording: the reference is shifted to agree where nothing was vocoded
    difference = (features.values - reference.values)[~mask.values]
    offset = np.median(difference)
    assert np.median(np.abs(difference - offset)) < 0.05  # [dB]: it is the same speech
    return features.values[:, here], mask.values[:, here], reference.values[:, here] + offset


@cache
def thorax() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Window, mask and reference of the thorax with an opacity: the same thorax with clear lungs."""
    features, reference = (RadiographImage().features(load_sample(f"thorax-{id}")) for id in ("opacity", "clear"))
    return features.values, truth_mask("thorax-opacity", features).values, reference.values


# Margins and thresholds of the detectors; the noise of SmoothGrad stays below them, or it would itself be the
# deviation.
SAMPLES = {
    "recording": (recording, "audio", -80.0, 0.3, 0.8, 0.02),
    "thorax": (thorax, "radiograph", 0.0, 0.03, 0.02, 0.02),
}


@cache
def explained_sample(name: str) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray], float]:
    """Window, mask, maps on the window's grid, and by how much the logit falls without the planted part."""
    load, modality, floor, margin, threshold, noise = SAMPLES[name]
    window, mask, reference = load()
    model = classifier(Deviation(reference, margin, threshold), window.shape, modality=modality, floor=floor)
    evidence = Evidence(model, window, 1, baseline="floor", budget={"noise_level": noise})
    maps = {id: upsample(result.values, window.shape) for id, result in read_all(evidence).items()}
    without = np.where(mask, reference, window)[None]
    return window, mask, maps, evidence.logit - float(model.backend.logits(without)[0, 1])


@pytest.mark.parametrize("name", SAMPLES)
def test_the_planted_part_of_a_sample_makes_the_verdict(name: str) -> None:
    _, mask, _, fall = explained_sample(name)
    assert 0.005 < mask.mean() < 0.5
    assert fall > 1.0


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize("id", list(METHODS))
def test_the_planted_part_of_a_sample_is_found(id: str, name: str) -> None:
    """The spoofed stretch of the recording, the opacity of the thorax: better than the edges and than random maps."""
    window, mask, maps, _ = explained_sample(name)
    noise = [np.random.default_rng(seed).random(window.shape) for seed in range(10)]
    rivals = [edges(window), *noise, *(gaussian_filter(n, 14) for n in noise)]
    for score in (auroc, rank_accuracy):
        assert score(maps[id], mask) > max(score(rival, mask) for rival in rivals) + 0.05, score.__name__
