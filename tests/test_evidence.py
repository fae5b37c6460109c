"""Evidence: asked once, in batches, the same answers whatever the order, the batches and the chunks."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from tiny import ConvNet, Logits, classifier, conv_evidence, read_all, window

from xai_panel.evidence import baselines, segments
from xai_panel.evidence.coalitions import Coalitions, binomial_sizes, enumerate_masks, shapley_sizes
from xai_panel.evidence.evidence import BUDGET, Evidence
from xai_panel.methods import METHODS
from xai_panel.models.backends.base import Gradients

ONE_PASS = ["saliency", "input-x-gradient", "cam", "grad-cam", "grad-cam++", "layer-cam"]


class CountingBackend:
    """Counts the windows that really reach the network, and how many at once."""

    def __init__(self, backend) -> None:
        self._backend = backend
        self.forward, self.backward, self.largest = 0, 0, 0

    def __getattr__(self, name: str):
        return getattr(self._backend, name)

    def logits(self, batch: np.ndarray) -> np.ndarray:
        self.forward += len(batch)
        self.largest = max(self.largest, len(batch))
        return self._backend.logits(batch)

    def gradients(self, batch: np.ndarray, target: int, layer: str | None = None) -> Gradients:
        self.forward += len(batch)
        self.backward += len(batch)
        self.largest = max(self.largest, len(batch))
        return self._backend.gradients(batch, target, layer)


def counted(**options) -> tuple[Evidence, CountingBackend]:
    model = classifier(ConvNet(), (16, 16))
    model.backend = CountingBackend(model.backend)
    return Evidence(model, window(), 1, baseline="floor", **options), model.backend


# --- how much is asked ----------------------------------------------------------------------------------------------


def test_six_methods_read_one_forward_and_one_backward_pass() -> None:
    evidence, backend = counted()
    read_all(evidence, ONE_PASS)
    assert (backend.forward, backend.backward) == (1, 1)
    assert (evidence.evaluations.forward, evidence.evaluations.backward) == (1, 1)


def test_lime_after_kernel_shap_asks_nothing() -> None:
    evidence, backend = counted()
    METHODS["kernel-shap"](evidence)
    before = backend.forward
    METHODS["lime"](evidence)
    assert backend.forward == before == 400 + 2  # the coalitions, the window and its baseline
    assert backend.backward == 1


def test_the_counter_agrees_with_what_reaches_the_network() -> None:
    evidence, backend = counted()
    read_all(evidence)
    assert (evidence.evaluations.forward, evidence.evaluations.backward) == (backend.forward, backend.backward)
    assert evidence.evaluations.total == backend.forward + backend.backward
    assert backend.backward == 1 + BUDGET["noise"] + BUDGET["steps"]


@pytest.mark.parametrize("batch", [1, 5, 16])
def test_no_batch_is_larger_than_the_budget(batch: int) -> None:
    evidence, backend = counted(budget={"batch": batch, "coalitions": 40})
    read_all(evidence)
    assert backend.largest == batch


def test_a_second_reading_asks_nothing() -> None:
    evidence, backend = counted()
    first = read_all(evidence)
    before = backend.forward
    second = {id: METHODS[id](evidence).values for id in METHODS}
    assert backend.forward == before
    for id in METHODS:
        assert_array_equal(first[id].values, second[id])


# --- the same answers -----------------------------------------------------------------------------------------------


def test_the_order_of_requests_does_not_matter() -> None:
    ids = [id for id in METHODS if id != "consensus"]
    one, other = read_all(conv_evidence(), ids), read_all(conv_evidence(), ids[::-1])
    for id in ids:
        assert_array_equal(one[id].values, other[id].values)


def test_noise_does_not_depend_on_the_batches() -> None:
    whole = conv_evidence(budget={"batch": 40}).noise(20)
    for batch in (1, 3, 14):
        chunked = conv_evidence(budget={"batch": batch}).noise(20)
        assert_allclose(chunked.mean, whole.mean, atol=1e-6)
        assert_allclose(chunked.error, whole.error, atol=1e-6)


def test_kinds_of_evidence_have_independent_generators() -> None:
    evidence = conv_evidence()
    assert evidence.rng("noise").random() == evidence.rng("noise").random()
    assert evidence.rng("noise").random() != evidence.rng("coalitions").random()
    assert evidence.rng("noise").random() != conv_evidence(seed=1).rng("noise").random()


def test_no_hooks_are_left_behind() -> None:
    evidence = conv_evidence()
    read_all(evidence)
    network = evidence.classifier.backend.module
    for module in network.modules():
        assert not module._forward_hooks and not module._backward_hooks and not module._forward_pre_hooks
    assert all(p.grad is None and p.requires_grad for p in network.parameters())


def test_a_window_that_changes_later_does_not_change_the_evidence() -> None:
    values = window()
    evidence = Evidence(classifier(ConvNet(), (16, 16)), values, 1, baseline="floor")
    values[:] = 0.0
    assert_array_equal(evidence.features, window())


# --- cancellation ---------------------------------------------------------------------------------------------------


class Stop(Exception):
    pass


@pytest.mark.parametrize(("method", "stage"), [("smoothgrad", "noise"), ("integrated-gradients", "path"),
                                               ("occlusion", "occlusion"), ("kernel-shap", "coalitions")])  # fmt: skip
def test_checkpoint_comes_before_every_batch_and_may_stop(method: str, stage: str) -> None:
    seen: list[tuple[str, float]] = []

    def checkpoint(name: str, fraction: float) -> None:
        seen.append((name, fraction))
        if stop and name == stage and fraction >= 0.5:
            raise Stop

    stop = True
    evidence = conv_evidence(checkpoint=checkpoint)
    with pytest.raises(Stop):
        METHODS[method](evidence)
    fractions = [fraction for name, fraction in seen if name == stage]
    assert fractions[0] == 0.0 and 0.5 <= fractions[-1] < 1.0
    assert all(a < b for a, b in pairwise(fractions))
    stop = False  # a cancelled request leaves nothing half-done behind
    assert_array_equal(METHODS[method](evidence).values, METHODS[method](conv_evidence()).values)


def test_a_released_evidence_asks_again_and_answers_the_same() -> None:
    evidence, backend = counted()
    maps = read_all(evidence)
    asked = backend.forward
    evidence.release()
    assert not evidence.maps
    again = read_all(evidence)
    assert backend.forward == 2 * asked
    for id in METHODS:
        assert_array_equal(again[id].values, maps[id].values)


# --- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"window": np.zeros((8, 16), np.float32)}, r"shape \(8, 16\); accepted: \(16, 16\)"),
        ({"window": np.full((16, 16), np.nan, np.float32)}, "256 values are not finite"),
        ({"target": 3}, "target 3: no such class; accepted: 0…2"),
        ({"target": -1}, "target -1"),
        ({"layer": "head"}, "layer 'head': not in the model; accepted: conv1, relu1"),
        ({"baseline": "zero"}, "baseline 'zero': not known; accepted: floor, mean, blur"),
        ({"budget": {"lime": 3}}, "budget: lime not known; accepted: positions"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(change: dict, message: str) -> None:
    options = {"window": window(), "target": 1} | change
    model = classifier(ConvNet(), (16, 16))
    with pytest.raises(ValueError, match=message):
        Evidence(model, options.pop("window"), options.pop("target"), **options)


def test_the_target_layer_is_chosen_by_the_caller_the_card_or_the_model() -> None:
    model = classifier(ConvNet(), (16, 16))
    assert Evidence(model, window(), 0).layer == "relu2"
    model.card = replace(model.card, target_layer="relu1")
    assert Evidence(model, window(), 0).layer == "relu1"
    evidence = Evidence(model, window(), 0, layer="conv2")
    assert evidence.activations.layer == "conv2" and evidence.activations.values.shape == (8, 8, 8)


def test_a_model_without_grid_says_so() -> None:
    model = classifier(Logits(lambda x: x.flatten(1)[:, :2]), (1, 3))
    evidence = Evidence(model, np.ones((1, 3), np.float32), 0)
    assert evidence.layer is None
    with pytest.raises(ValueError, match="no layer with a spatial grid"):
        _ = evidence.activations


def test_a_stride_longer_than_the_patch_is_refused() -> None:
    with pytest.raises(ValueError, match=r"stride \(3, 1\)"):
        conv_evidence().occlusions(patch=(2, 2), stride=(3, 1))


# --- baselines ------------------------------------------------------------------------------------------------------


def test_baselines_of_a_known_window() -> None:
    values = np.array([[0.0, 2.0], [4.0, 6.0]], np.float32)
    assert_array_equal(baselines.baseline(values, "floor", -80.0), np.full((2, 2), -80.0))
    assert_array_equal(baselines.baseline(values, "mean", -80.0), np.full((2, 2), 3.0))


def test_blur_removes_a_spot_and_keeps_the_layout() -> None:
    ramp = np.tile(np.linspace(0, 1, 60, dtype=np.float32), (60, 1))
    spot = ramp.copy()
    spot[30, 30] += 10
    blurred = baselines.baseline(spot, "blur", 0.0)
    assert abs(blurred[30, 30] - ramp[30, 30]) < 0.06  # 10 / (2π·6²) = 0.044 is left of the spot
    assert_allclose(baselines.baseline(ramp, "blur", 0.0)[:, 30], ramp[:, 30], atol=0.01)


def test_each_modality_has_its_own_defaults() -> None:
    values = np.random.default_rng(0).random((16, 16), np.float32)
    radiograph = Evidence(classifier(ConvNet(), (16, 16)), values, 0)
    audio = Evidence(classifier(ConvNet(), (16, 16), modality="audio", floor=-80.0), values, 0)
    assert (radiograph.baseline_kind, audio.baseline_kind) == ("blur", "floor")
    assert_allclose(audio.baseline, -80.0)
    assert_array_equal(audio.segments(), audio.segments("grid"))
    assert_array_equal(radiograph.segments(), radiograph.segments("slic"))


# --- segments -------------------------------------------------------------------------------------------------------


def test_grid_of_single_features() -> None:
    assert_array_equal(segments.grid((1, 3), 49), [[0, 1, 2]])


def test_grid_of_four_cells() -> None:
    assert_array_equal(segments.grid((4, 4), 4), [[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 3, 3], [2, 2, 3, 3]])


def test_a_grid_of_a_spectrogram_has_equal_square_cells() -> None:
    labels = segments.grid((224, 224), 49)
    assert_array_equal(np.bincount(labels.ravel()), np.full(49, 32 * 32))


def test_superpixels_follow_edges_and_start_at_zero() -> None:
    values = np.zeros((60, 60), np.float32)
    values[:, 33:] = 1.0
    labels = segments.superpixels(values, 16)
    assert_array_equal(np.unique(labels), np.arange(labels.max() + 1))
    assert not set(labels[5:-5, :31].ravel()) & set(labels[5:-5, 35:].ravel())  # no superpixel crosses the edge


def test_a_flat_window_is_cut_like_a_grid() -> None:
    flat = np.full((8, 8), 0.5, np.float32)
    assert segments.segment(flat, "slic", 4).max() == 3


def test_unknown_segments_are_refused() -> None:
    with pytest.raises(ValueError, match="segments 'quickshift': not known; accepted: grid, slic"):
        conv_evidence().segments("quickshift")


# --- coalitions -----------------------------------------------------------------------------------------------------


def coalitions(k: int, budget: int, seed: int = 0) -> Coalitions:
    weights = np.arange(1.0, k + 1)
    return Coalitions(
        np.arange(k)[None], np.arange(k), lambda masks: masks @ weights, full=weights.sum(), empty=0.0,
        budget=budget, rng=np.random.default_rng(seed),
    )  # fmt: skip


def test_shapley_kernel_of_four_players() -> None:
    assert_allclose(shapley_sizes(4), np.array([1 / 3, 1 / 4, 1 / 3]) / (11 / 12))
    assert_allclose(binomial_sizes(4), np.array([4, 6, 4]) / 14)


def test_masks_of_two_players() -> None:
    assert_array_equal(enumerate_masks(2), [[True, False], [False, True]])


def test_all_coalitions_are_asked_when_they_fit() -> None:
    drawn = coalitions(5, budget=30)
    assert drawn.exact and len(drawn.masks) == 30 == len(np.unique(drawn.masks, axis=0))
    assert not coalitions(5, budget=28).exact


def test_a_coalition_shows_exactly_its_segments() -> None:
    values = np.random.default_rng(0).random((9, 9), np.float32) + 1
    seen: list[torch.Tensor] = []
    model = classifier(Logits(lambda x: seen.append(x) or x.flatten(1)[:, :2]), (9, 9))
    evidence = Evidence(model, values, 0, baseline="floor", budget={"segments": 3})
    answer = evidence.coalitions(segments.grid((9, 9), 9))
    windows = torch.cat(seen)[-len(answer.masks) :, 0].detach().numpy()  # the coalitions are asked last
    for mask, shown in zip(answer.masks, windows, strict=True):
        assert_array_equal(shown, np.where(mask[answer.labels], values, 0.0))


def test_a_coalition_comes_with_its_complement() -> None:
    masks = coalitions(20, budget=100).masks
    assert_array_equal(masks[0::2], ~masks[1::2])


def test_coalitions_are_neither_empty_nor_full() -> None:
    sizes = coalitions(9, budget=400).masks.sum(axis=1)
    assert sizes.min() >= 1 and sizes.max() <= 8


@pytest.mark.parametrize("wanted", ["shapley", "uniform"])
def test_weights_turn_the_mixture_into_the_wanted_distribution(wanted: str) -> None:
    drawn = coalitions(12, budget=4000)
    weights = getattr(drawn, f"{wanted}_weights")
    expected = shapley_sizes(12) if wanted == "shapley" else binomial_sizes(12)
    found = np.bincount(drawn.masks.sum(axis=1) - 1, weights, minlength=11) / len(drawn.masks)
    assert_allclose(found, expected, atol=0.012)
    assert_allclose(weights.mean(), 1.0, atol=0.03)
    # given its size, every player is equally likely
    assert_allclose((weights[:, None] * drawn.masks).mean(axis=0) / weights.mean(), 0.5, atol=1e-12)


def test_an_extension_continues_the_same_sequence() -> None:
    whole, grown = coalitions(15, budget=120), coalitions(15, budget=40)
    grown.extend(30)
    grown.extend(50)
    assert_array_equal(whole.masks, grown.masks)
    assert_array_equal(whole.logits, grown.logits)


def test_nothing_is_left_to_extend_after_all_coalitions() -> None:
    drawn = coalitions(4, budget=14)
    drawn.extend(100)
    assert len(drawn.masks) == 14


def test_a_jackknife_leaves_out_each_coalition_once() -> None:
    drawn = coalitions(15, budget=100)
    folds = drawn.folds(10)
    missing = np.concatenate([np.setdiff1d(np.arange(100), kept) for kept in folds])
    assert_array_equal(np.sort(missing), np.arange(100))


def test_segments_at_their_baseline_do_not_play() -> None:
    values = window()
    values[:8] = 0.0
    evidence = Evidence(classifier(ConvNet(), (16, 16)), values, 1, baseline="floor")
    answer = evidence.coalitions(segments.grid((16, 16), 16))
    assert_array_equal(answer.players, np.arange(8, 16))
    painted = answer.paint(np.arange(1.0, 9.0))
    assert_array_equal(painted[:8], 0.0)
    assert_array_equal(painted[8, ::4], [1, 2, 3, 4])


def test_a_window_that_is_its_baseline_has_no_players() -> None:
    evidence = Evidence(classifier(ConvNet(), (16, 16)), np.zeros((16, 16), np.float32), 1, baseline="floor")
    assert_array_equal(METHODS["kernel-shap"](evidence).values, 0.0)
    assert_array_equal(METHODS["lime"](evidence).values, 0.0)


# --- occlusion ------------------------------------------------------------------------------------------------------


def test_patches_of_a_known_size() -> None:
    boxes = conv_evidence().occlusions(patch=(8, 6), stride=(8, 5)).boxes
    assert_array_equal(boxes, [(t, t + 8, left, min(left + 6, 16)) for t in (0, 8) for left in (0, 5, 10)])


@pytest.mark.parametrize("shape", [(16, 16), (1, 3), (7, 40), (224, 224)])
def test_default_patches_cover_everything_within_the_budget(shape: tuple[int, int]) -> None:
    model = classifier(Logits(lambda x: x.flatten(1)[:, :2]), shape)
    boxes = Evidence(model, np.ones(shape, np.float32), 0).occlusions().boxes
    assert len(boxes) <= BUDGET["positions"]
    covered = np.zeros(shape, int)
    for top, bottom, left, right in boxes:
        covered[top:bottom, left:right] += 1
    assert covered.min() >= 1
