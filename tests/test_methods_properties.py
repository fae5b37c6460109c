"""What must hold for every model: completeness, symmetry, additivity, invariance under batches, seeds and scales."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from tiny import ConvNet, Logits, classifier, conv_evidence, read_all, window
from torch import nn

from xai_panel.evidence import segments
from xai_panel.evidence.evidence import Evidence
from xai_panel.methods import METHODS, MapResult, upsample
from xai_panel.methods.grad_cam import weighted_sum
from xai_panel.methods.kernel_shap import shapley_values

SINGLE = [id for id in METHODS if id != "consensus"]
CUT_OFF = {"grad-cam", "grad-cam++", "layer-cam"}  # what speaks against the target is zero, not negative


class OneLogit(ConvNet):
    """A binary model with a single logit."""

    def __init__(self, sign: float = 1.0) -> None:
        super().__init__(classes=1)
        self.sign = sign

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.sign * super().forward(x)


class Scaled(nn.Module):
    """A network whose logits are multiplied by a factor."""

    def __init__(self, network: nn.Module, factor: float) -> None:
        super().__init__()
        self.network, self.factor = network, factor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.factor * self.network(x)


# --- every method ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [1, 7, 32])
def test_maps_do_not_depend_on_the_batch_size(batch: int) -> None:
    maps = read_all(conv_evidence(gap=True))
    other = read_all(conv_evidence(gap=True, budget={"batch": batch}))
    for id in SINGLE:
        assert_allclose(
            other[id].values, maps[id].values, atol=1e-5 * max(1.0, np.abs(maps[id].values).max()), err_msg=id
        )
        assert other[id].error == pytest.approx(maps[id].error, abs=1e-5, nan_ok=True)


def test_the_same_seed_gives_the_same_maps_bit_for_bit() -> None:
    one, other = read_all(conv_evidence(seed=5)), read_all(conv_evidence(seed=5))
    for id in METHODS:
        assert_array_equal(one[id].values, other[id].values)


def test_another_seed_changes_the_sampled_maps_only() -> None:
    one, other = read_all(conv_evidence(seed=5)), read_all(conv_evidence(seed=6))
    changed = {id for id in SINGLE if not np.array_equal(one[id].values, other[id].values)}
    assert changed == {"smoothgrad", "lime", "kernel-shap"}


@pytest.mark.parametrize("id", SINGLE)
def test_raw_values_keep_the_scale_of_the_logit(id: str) -> None:
    """No hidden normalization: twice the logit is twice the map; Grad-CAM++ weights depend on the gradient's size."""
    one = METHODS[id](conv_evidence())
    model = classifier(Scaled(ConvNet(), 2.0), (16, 16))
    layer = "network.relu2"
    two = METHODS[id](Evidence(model, window(), 1, baseline="floor", layer=layer))
    if id == "grad-cam++":
        assert 1.0 < two.values.max() / one.values.max() < 2.0
    else:
        assert_allclose(two.values, 2 * one.values, rtol=1e-3, atol=2e-5 * np.abs(one.values).max())


@pytest.mark.parametrize("id", SINGLE)
def test_the_other_class_of_a_one_logit_model_sees_the_opposite(id: str) -> None:
    model = classifier(OneLogit(), (16, 16))
    positive = METHODS[id](Evidence(model, window(), 1, baseline="floor")).values
    negative = METHODS[id](Evidence(model, window(), 0, baseline="floor")).values
    if METHODS[id].signed:
        assert_allclose(negative, -positive, atol=1e-5)
        assert np.abs(positive).max() > 0.01
    elif id not in CUT_OFF:
        assert_allclose(negative, positive, atol=1e-6)
    else:
        mirrored = classifier(OneLogit(-1.0), (16, 16))
        expected = METHODS[id](Evidence(mirrored, window(), 1, baseline="floor")).values
        assert_allclose(negative, expected, atol=1e-6)


@pytest.mark.parametrize("id", SINGLE)
def test_signed_maps_have_both_signs_and_unsigned_ones_none_below_zero(id: str) -> None:
    lowest = [METHODS[id](conv_evidence(network)).values.min() for network in range(6)]
    assert (min(lowest) < 0) == METHODS[id].signed


@pytest.mark.parametrize("id", list(METHODS))
def test_maps_are_float32_on_a_grid_and_finite(id: str) -> None:
    result = read_all(conv_evidence())[id]
    assert result.values.dtype == np.float32 and result.values.flags.c_contiguous
    assert result.values.shape == ((8, 8) if METHODS[id].family == "activation" else (16, 16))
    assert np.isfinite(result.values).all()


def test_a_model_that_looks_at_nothing_gets_empty_maps() -> None:
    network = ConvNet()
    nn.init.zeros_(network.head.weight)
    evidence = Evidence(classifier(network, (16, 16)), window(), 1, baseline="floor")
    for id in SINGLE:
        assert_allclose(METHODS[id](evidence).values, 0.0, atol=1e-6, err_msg=id)


# --- gradients -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("baseline", ["floor", "mean", "blur"])
@pytest.mark.parametrize("network", range(3))
def test_integrated_gradients_are_complete_up_to_the_gap(network: int, baseline: str) -> None:
    evidence = conv_evidence(network, baseline=baseline)
    result = METHODS["integrated-gradients"](evidence)
    difference = evidence.logit - evidence.baseline_logit
    gap = abs(float(result.values.sum(dtype=np.float64)) - difference)
    assert gap == pytest.approx(result.error, abs=1e-5)
    assert gap <= 0.02 * abs(difference) + 1e-3


def test_more_steps_close_the_gap() -> None:
    gaps = [conv_evidence(budget={"steps": steps}).path().gap for steps in (2, 16, 128)]
    assert gaps[0] > 4 * gaps[1] > 4 * gaps[2]


def test_gradient_methods_agree_on_a_linear_model() -> None:
    weights = torch.linspace(-1, 1, 16).reshape(4, 4)
    values = np.random.default_rng(0).random((4, 4), np.float32)
    model = classifier(Logits(lambda x: (x[:, 0] * weights).sum((1, 2))[:, None]), (4, 4))
    evidence = Evidence(model, values, 1, baseline="mean")
    expected = weights.numpy() * (values - values.mean())
    labels = np.arange(16).reshape(4, 4)
    shapley = shapley_values(evidence.coalitions(labels), np.arange(400))
    for found in (
        METHODS["input-x-gradient"](evidence).values,
        METHODS["integrated-gradients"](evidence).values,
        shapley.reshape(4, 4),  # exact although only 400 of 65534 coalitions were asked
    ):
        assert_allclose(found, expected, atol=1e-5)


def test_the_error_of_smoothgrad_falls_with_the_root_of_the_copies() -> None:
    few = METHODS["smoothgrad"](conv_evidence(budget={"noise": 25})).error
    many = METHODS["smoothgrad"](conv_evidence(budget={"noise": 400})).error
    assert few / many == pytest.approx(4.0, rel=0.2)


# --- activations -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("network", range(3))
def test_cam_is_grad_cam_before_its_relu_times_the_places(network: int) -> None:
    """Selvaraju et al. 2017, section 3: Grad-CAM generalizes CAM."""
    evidence = conv_evidence(network)
    cam = METHODS["cam"](evidence).values
    assert_allclose(cam, 64 * weighted_sum(evidence), atol=1e-4 * np.abs(cam).max())
    assert_allclose(np.maximum(cam, 0), 64 * METHODS["grad-cam"](evidence).values, atol=1e-4 * np.abs(cam).max())


def test_activation_maps_move_with_the_input() -> None:
    """Convolution and pooling do not know places: shifting a spot by two cells shifts the maps by two cells."""
    first, second = np.zeros((2, 16, 16), np.float32)
    first[4:7, 4:7], second[4:7, 8:11] = 1.0, 1.0
    model = classifier(ConvNet(), (16, 16))
    for id in ("cam", "grad-cam", "grad-cam++", "layer-cam"):
        one, other = (METHODS[id](Evidence(model, x, 1)).values for x in (first, second))
        assert_allclose(other[1:6, 3:7], one[1:6, 1:5], atol=1e-5)
    assert np.ptp(one) > 0


# --- Shapley values --------------------------------------------------------------------------------------------------

Game = Callable[[np.ndarray], np.ndarray]


def shapley_of(game: Callable[[torch.Tensor], torch.Tensor], k: int, **budget: Any) -> np.ndarray:
    model = classifier(Logits(lambda x: game(x[:, 0, 0])[:, None]), (1, k))
    coalitions = Evidence(model, np.ones((1, k), np.float32), 1, baseline="floor", budget=budget).coalitions(
        np.arange(k)[None]
    )
    return shapley_values(coalitions, np.arange(len(coalitions.masks)))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.integers(3, 8))
def test_shapley_values_of_a_random_game(seed: int, k: int) -> None:
    """Efficiency, symmetry, dummy and additivity, for games with products of up to three players."""
    rng = np.random.default_rng(seed)

    def game() -> Callable[[torch.Tensor], torch.Tensor]:
        pairs = torch.tensor(rng.normal(size=(k, k)), dtype=torch.float32)
        triples = torch.tensor(rng.normal(size=(k, k, k)), dtype=torch.float32)
        pairs[-1], pairs[:, -1] = 0.0, 0.0  # the last player is a dummy worth 0.7
        for axis in range(3):
            triples.select(axis, k - 1).zero_()
        swap = torch.arange(k)
        swap[0], swap[1] = 1, 0  # the first two are interchangeable
        pairs = pairs + pairs[swap][:, swap]
        triples = triples + triples[swap][:, swap][:, :, swap]
        return lambda x: (
            0.7 * x[:, -1]
            + torch.einsum("ni,nj,ij->n", x, x, pairs)
            + torch.einsum("ni,nj,nl,ijl->n", x, x, x, triples)
        )

    one, two = game(), game()
    a, b = shapley_of(one, k), shapley_of(two, k)
    everybody, nobody = torch.ones(1, k), torch.zeros(1, k)
    assert a.sum() == pytest.approx(float(one(everybody) - one(nobody)), abs=1e-4)
    assert a[0] == pytest.approx(a[1], abs=1e-4)
    assert a[-1] == pytest.approx(0.7, abs=1e-4)
    assert_allclose(shapley_of(lambda x: one(x) + two(x), k), a + b, atol=2e-4)


def test_sampled_values_still_sum_to_the_difference() -> None:
    evidence = conv_evidence()
    coalitions = evidence.coalitions()
    assert not coalitions.exact
    values = shapley_values(coalitions, np.arange(len(coalitions.masks)))
    assert values.sum() == pytest.approx(evidence.logit - evidence.baseline_logit, abs=1e-6)


def test_more_coalitions_lower_the_error() -> None:
    for id in ("lime", "kernel-shap"):
        few, many = (METHODS[id](conv_evidence(budget={"coalitions": n, "segments": 16})).error for n in (400, 6400))
        assert few / many == pytest.approx(4.0, rel=0.4)


def test_the_stated_error_is_the_scatter_over_seeds() -> None:
    for id in ("lime", "kernel-shap"):
        results = [METHODS[id](conv_evidence(seed=seed, budget={"segments": 25})) for seed in range(12)]
        scatter = np.sqrt(np.stack([r.values for r in results]).var(axis=0, ddof=1).mean())
        stated = np.sqrt(np.mean([r.error**2 for r in results]))
        assert stated == pytest.approx(scatter, rel=0.35)


def test_perturbation_maps_are_constant_on_segments() -> None:
    evidence = conv_evidence()
    labels = evidence.segments()
    for id in ("lime", "kernel-shap"):
        values = METHODS[id](evidence).values
        for part in np.unique(labels):
            assert np.ptp(values[labels == part]) == 0.0


def test_segments_that_equal_the_baseline_get_nothing() -> None:
    values = window()
    values[:, :8] = 0.0
    evidence = Evidence(classifier(ConvNet(), (16, 16), modality="audio"), values, 1, budget={"segments": 16})
    assert_array_equal(evidence.segments(), segments.grid((16, 16), 16))
    for id in ("input-x-gradient", "integrated-gradients", "lime", "kernel-shap"):
        found = METHODS[id](evidence).values
        assert_array_equal(found[:, :8], 0.0)
        assert np.abs(found[:, 8:]).max() > 0.001


# --- consensus and grids ---------------------------------------------------------------------------------------------


def consensus_of(*maps: np.ndarray) -> MapResult:
    evidence = conv_evidence()
    evidence.maps.update({f"map {i}": MapResult(values) for i, values in enumerate(maps)})
    return METHODS["consensus"](evidence)


def test_consensus_knows_order_only() -> None:
    a, b = window(1), window(2)
    plain, bent = consensus_of(a, b), consensus_of(np.exp(3 * a), b * 1e-6)
    assert_allclose(bent.values, plain.values, atol=1e-7)


def test_consensus_of_agreement_has_no_spread() -> None:
    a = window(1)
    result = consensus_of(a, 2 * a, a**3)
    assert_array_equal(np.argsort(result.values.ravel()), np.argsort(a.ravel()))
    assert_allclose(result.spread, 0.0, atol=1e-7)


def test_consensus_refuses_a_map_on_another_grid() -> None:
    with pytest.raises(ValueError, match=r"map of map 1 is \(8, 8\); accepted: that of the features, \(16, 16\)"):
        consensus_of(window(1), window(2, (8, 8)))


def test_consensus_of_opposites_is_undecided() -> None:
    a = window(1)
    assert_allclose(consensus_of(a, -a).values, 0.5, atol=1e-7)


@pytest.mark.parametrize(
    ("source", "target"), [((7, 7), (224, 224)), ((2, 3), (16, 20)), ((1, 1), (5, 4)), ((4, 4), (4, 4))]
)
def test_upsampling_is_that_of_torch(source: tuple[int, int], target: tuple[int, int]) -> None:
    values = window(0, source)
    expected = nn.functional.interpolate(torch.from_numpy(values)[None, None], target, mode="bilinear")[0, 0]
    assert_allclose(upsample(values, target), expected, atol=1e-5)
