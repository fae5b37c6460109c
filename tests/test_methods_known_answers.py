"""Every method against answers from elsewhere: other projects' cases, closed forms, slower plainer rules."""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from tiny import ConvNet, Logits, classifier, conv_evidence, window
from torch import nn

from xai_panel.evidence import segments
from xai_panel.evidence.evidence import Activations, Evidence, Occlusions
from xai_panel.methods import METHODS, MapResult
from xai_panel.methods.kernel_shap import shapley_values
from xai_panel.methods.lime import WIDTH, coefficients


def read(id: str, evidence: Any) -> np.ndarray:
    return METHODS[id](evidence).values


def function(
    of: Callable[[torch.Tensor], torch.Tensor], values: list[list[float]], target: int = 1, **options: Any
) -> Evidence:
    """Evidence of a one-logit model z = of(x), x (n, H, W), about a window; target 1 has the logit z. Baseline 0."""
    features = np.asarray(values, np.float32)
    model = classifier(Logits(lambda x: of(x[:, 0])[:, None]), features.shape)
    return Evidence(model, features, target, **{"baseline": "floor", **options})


# --- Captum's fixed-weight models: tests/helpers/basic_models.py, BSD-3-Clause ---------------------------------------


def multi_layer(x: torch.Tensor) -> torch.Tensor:
    """Captum's BasicModel_MultiLayer: four sums with biases (-10, 1, 1, 1), ReLU, sums with biases (-1, 1)."""
    total = x.flatten(1).sum(1, keepdim=True)
    hidden = torch.relu(total + torch.tensor([-10.0, 1.0, 1.0, 1.0])).sum(1, keepdim=True)
    return hidden + torch.tensor([-1.0, 1.0])


class OneConvolution(nn.Module):
    """Captum's BasicModel_ConvNet_One_Conv: 3×3 sums with biases (-50, -75), ReLU, a signed sum, ReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 2, 3)
        self.relu1 = nn.ReLU()
        self.fc1 = nn.Linear(8, 4)
        self.relu2 = nn.ReLU()
        with torch.no_grad():
            self.conv1.weight.fill_(1.0)
            self.conv1.bias.copy_(torch.tensor([-50.0, -75.0]))
            self.fc1.weight.copy_(torch.tensor([1.0] * 5 + [-1.0] * 3).expand(4, 8))
            self.fc1.bias.zero_()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.relu2(self.fc1(self.relu1(self.conv1(x)).flatten(1)))


def captum_linear(baseline: list[float]) -> Evidence:
    """Captum's input [20, 50, 30]; its baseline enters as the origin of the features."""
    shift = torch.tensor(baseline)
    model = classifier(Logits(lambda x: multi_layer(x[:, 0, 0] + shift)), (1, 3))
    return Evidence(model, np.array([[20.0, 50.0, 30.0]], np.float32) - shift.numpy(), 0, baseline="floor")


@pytest.mark.parametrize(
    ("layer", "expected"), [("conv1", [[11.25, 13.5], [20.25, 22.5]]), ("relu1", [[0.0, 4.0], [28.0, 32.5]])]
)
def test_grad_cam_of_captum(layer: str, expected: list[list[float]]) -> None:
    """captum tests/attr/layer/test_grad_cam.py: test_simple_input_conv, test_simple_input_conv_relu."""
    model = classifier(OneConvolution(), (4, 4))
    evidence = Evidence(model, np.arange(16, dtype=np.float32).reshape(4, 4), 0, layer=layer)
    assert_allclose(read("grad-cam", evidence), expected, atol=1e-4)


def test_occlusion_of_captum() -> None:
    """captum tests/attr/test_occlusion.py: test_simple_input."""
    assert_allclose(read("occlusion", captum_linear([0, 0, 0])), [[80.0, 200.0, 120.0]])


def test_occlusion_with_longer_patches_of_captum() -> None:
    """captum tests/attr/test_occlusion.py: test_simple_input_larger_shape and test_simple_input_shape_with_stride."""
    evidence = captum_linear([10, 10, 10])
    asked = evidence.occlusions(patch=(1, 2), stride=(1, 1))
    assert_allclose(occlusion_of(asked, evidence), [[200.0, 220.0, 240.0]])
    evidence = captum_linear([0, 0, 0])
    asked = evidence.occlusions(patch=(1, 2), stride=(1, 2))
    assert_allclose(occlusion_of(asked, evidence), [[280.0, 280.0, 120.0]])


def occlusion_of(asked: Occlusions, evidence: Evidence) -> np.ndarray:
    return read(
        "occlusion", SimpleNamespace(occlusions=lambda: asked, logit=evidence.logit, features=evidence.features)
    )


@pytest.mark.parametrize(
    ("baseline", "expected"),
    [([10.0, 20.0, 10.0], [40.0, 120.0, 80.0]), ([0.0, 0.0, 0.0], [76 + 2 / 3, 196 + 2 / 3, 116 + 2 / 3])],
)
def test_kernel_shap_of_captum(baseline: list[float], expected: list[float]) -> None:
    """captum tests/attr/test_kernel_shap.py: test_linear_kernel_shap, test_simple_kernel_shap."""
    result = METHODS["kernel-shap"](captum_linear(baseline))
    assert_allclose(result.values, [expected], rtol=1e-5)
    assert result.error == 0.0


def test_kernel_shap_with_two_segments_of_captum() -> None:
    """captum tests/attr/test_kernel_shap.py: test_simple_kernel_shap_with_mask."""
    coalitions = captum_linear([0, 0, 0]).coalitions(np.array([[0, 0, 1]]))
    values = shapley_values(coalitions, np.arange(len(coalitions.masks)))
    assert_allclose(coalitions.paint(values), [[275.0, 275.0, 115.0]], rtol=1e-5)


# --- gradients -------------------------------------------------------------------------------------------------------


def test_saliency_of_a_linear_model_is_the_size_of_its_weights() -> None:
    weights = torch.tensor([[1.0, -2.0], [0.0, 3.0]])
    evidence = function(lambda x: (x * weights).sum((1, 2)), [[5, 6], [7, 8]])
    assert_array_equal(read("saliency", evidence), [[1, 2], [0, 3]])


def test_saliency_of_a_product() -> None:
    evidence = function(lambda x: x[:, 0, 0] * x[:, 0, 1], [[3, -4]])
    assert_array_equal(read("saliency", evidence), [[4, 3]])


def test_input_x_gradient_is_measured_from_the_baseline() -> None:
    evidence = function(lambda x: (x**2).sum((1, 2)), [[1, 3]], baseline="mean")
    assert_array_equal(read("input-x-gradient", evidence), [[(1 - 2) * 2, (3 - 2) * 6]])


def test_integrated_gradients_of_a_polynomial() -> None:
    """x²y from 0: along t·(x, y) the integrals of 2t²·xy and t²·x² give 2/3 and 1/3 of x²y; x³ goes to x alone."""
    evidence = function(lambda x: x[:, 0, 0] ** 2 * x[:, 0, 1] + x[:, 0, 2] ** 3, [[3, 2, -2]])
    result = METHODS["integrated-gradients"](evidence)
    assert_allclose(result.values, [[12, 6, -8]], rtol=1e-5)
    assert result.error < 1e-4


def test_integrated_gradients_of_sundararajans_example() -> None:
    """1 - relu(1 - x) at x = 2 is flat, so the gradient is 0, but x alone made the output 1 (section 2.1)."""
    evidence = function(lambda x: 1 - torch.relu(1 - x[:, 0, 0]), [[2, 0]])
    assert_allclose(read("integrated-gradients", evidence), [[1, 0]], atol=1e-5)  # the kink lies between two points
    assert_array_equal(read("input-x-gradient", evidence), [[0, 0]])


def test_the_completeness_gap_is_the_error_of_the_quadrature() -> None:
    """One Gauss-Legendre point is the midpoint rule: x⁴ at 2 becomes 2 · 4 · 1³ = 8 instead of 16."""
    evidence = function(lambda x: x[:, 0, 0] ** 4, [[2, 0]], budget={"steps": 1})
    result = METHODS["integrated-gradients"](evidence)
    assert_allclose(result.values, [[8, 0]], atol=1e-5)
    assert (result.error, result.error_kind) == (pytest.approx(8.0), "completeness gap")


def test_smoothgrad_of_a_linear_model_is_saliency_without_error() -> None:
    weights = torch.tensor([[1.0, -2.0], [0.0, 3.0]])
    result = METHODS["smoothgrad"](function(lambda x: (x * weights).sum((1, 2)), [[5, 6], [7, 8]]))
    assert_allclose(result.values, [[1, 2], [0, 3]], atol=1e-6)
    assert result.error == pytest.approx(0.0, abs=1e-6)


def test_smoothgrad_of_a_square() -> None:
    """The gradient 2x at x + σe is 2x + 2σe: mean 2x + 2σ·mean(e), standard error 2σ·sd(e)/√n."""
    evidence = function(lambda x: (x**2).sum((1, 2)), [[1, 3]], budget={"noise": 50, "noise_level": 0.5})
    sigma = 0.5 * 2
    e = evidence.rng("noise").standard_normal((50, 1, 2), np.float32)
    result = METHODS["smoothgrad"](evidence)
    assert_allclose(result.values, np.abs(2 * np.array([[1, 3]]) + 2 * sigma * e.mean(axis=0)), rtol=1e-5)
    assert_allclose(evidence.noise().error, 2 * sigma * e.std(axis=0, ddof=1) / np.sqrt(50), rtol=1e-4)
    assert result.error == pytest.approx(np.sqrt((evidence.noise().error ** 2).mean()), rel=1e-5)


def test_smoothgrad_counts_a_kink_by_its_sides() -> None:
    """relu at 0 with noise on both sides: about half of the gradients are 1, the single gradient is 0."""
    evidence = function(lambda x: torch.relu(x[:, 0, 0]), [[0, 1]], budget={"noise": 400})
    assert read("saliency", evidence)[0, 0] == 0.0
    assert read("smoothgrad", evidence)[0, 0] == pytest.approx(0.5, abs=0.08)


# --- activations -----------------------------------------------------------------------------------------------------


def layer_of(values: list, gradients: list) -> Any:
    """Two channels on a 1×2 grid."""
    return SimpleNamespace(activations=Activations(np.array(values, np.float32), np.array(gradients, np.float32), "l"))


VALUES = [[[1.0, 2.0]], [[3.0, 0.0]]]
GRADIENTS = [[[0.5, 0.5]], [[-1.0, 2.0]]]


def test_grad_cam_by_hand() -> None:
    """Mean gradients ½ and ½: ½·1 + ½·3 = 2, ½·2 + ½·0 = 1."""
    assert_allclose(read("grad-cam", layer_of(VALUES, GRADIENTS)), [[2.0, 1.0]])


def test_grad_cam_cuts_off_what_speaks_against() -> None:
    assert_allclose(read("grad-cam", layer_of([[[1.0, -2.0]]], [[[1.0, 1.0]]])), [[1.0, 0.0]])


def test_grad_cam_plusplus_by_hand() -> None:
    """ΣA is 3 and 3. Channel 1: two places with ½ / 3.5, w = 2/7. Channel 2: only g = 2 counts, w = 2/8."""
    expected = [[2 / 7 * 1 + 1 / 4 * 3, 2 / 7 * 2 + 0]]
    assert_allclose(read("grad-cam++", layer_of(VALUES, GRADIENTS)), expected, rtol=1e-6)


def test_layer_cam_by_hand() -> None:
    """½·1 + relu(-1)·3 = ½; ½·2 + 2·0 = 1."""
    assert_allclose(read("layer-cam", layer_of(VALUES, GRADIENTS)), [[0.5, 1.0]])


def test_cam_by_hand() -> None:
    """Gradient ¼ and -½ at each of two places are head weights ½ and -1: ½·1 - 3 = -2.5, ½·2 - 0 = 1."""
    answer = read("cam", layer_of(VALUES, [[[0.25, 0.25]], [[-0.5, -0.5]]]))
    assert_allclose(answer, [[-2.5, 1.0]])


def test_cam_reads_the_weights_of_the_head() -> None:
    evidence = conv_evidence()
    network = evidence.classifier.backend.module
    weights = network.head.weight[1].detach().numpy()
    activations = network.relu2(network.conv2(network.relu1(network.conv1(torch.from_numpy(window())[None, None]))))
    expected = np.einsum("k,khw->hw", weights, activations[0].detach().numpy())
    assert_allclose(read("cam", evidence), expected, rtol=1e-4, atol=1e-5)
    assert evidence.logit == pytest.approx(expected.mean() + float(network.head.bias[1].detach()), abs=1e-4)


@pytest.mark.parametrize("layer", ["relu1", "relu2"])
def test_activation_methods_agree_with_slower_plainer_rules(layer: str) -> None:
    """Loops over channels and places, gradients of exp(logit) for Grad-CAM++ with the published α."""
    evidence = conv_evidence(gap=False, layer=layer)
    network = evidence.classifier.backend.module
    kept: list[torch.Tensor] = []
    handle = getattr(network, layer).register_forward_hook(lambda m, i, o: kept.append(o))
    logit = network(torch.from_numpy(window())[None, None])[0, 1]
    handle.remove()
    g = torch.autograd.grad(logit, kept[0])[0][0].double().numpy()
    a = kept[0][0].detach().double().numpy()
    channels, height, width = a.shape
    grad_cam, plusplus, layer_cam = np.zeros((3, height, width))
    for k in range(channels):
        weight_plain = sum(g[k, i, j] for i in range(height) for j in range(width)) / (height * width)
        weight_plus = 0.0
        for i in range(height):
            for j in range(width):
                denominator = 2 * g[k, i, j] ** 2 + a[k].sum() * g[k, i, j] ** 3
                alpha = g[k, i, j] ** 2 / denominator if g[k, i, j] > 0 else 0.0
                weight_plus += alpha * max(g[k, i, j], 0.0)
                layer_cam[i, j] += max(g[k, i, j], 0.0) * a[k, i, j]
        grad_cam += weight_plain * a[k]
        plusplus += weight_plus * a[k]
    for id, expected in (("grad-cam", grad_cam), ("grad-cam++", plusplus), ("layer-cam", layer_cam)):
        assert np.abs(expected).max() > 0.01
        assert_allclose(read(id, evidence), np.maximum(expected, 0), atol=1e-5 * np.abs(expected).max())


# --- perturbations ---------------------------------------------------------------------------------------------------


def test_occlusion_agrees_with_a_slower_plainer_rule() -> None:
    evidence = conv_evidence()
    asked = evidence.occlusions()
    network, whole = evidence.classifier.backend.module, torch.from_numpy(window())
    changes: list[list[list[float]]] = [[[] for _ in range(16)] for _ in range(16)]
    with torch.no_grad():
        reference = network(whole[None, None])[0, 1]
        for top, bottom, left, right in asked.boxes:
            hidden = whole.clone()
            hidden[top:bottom, left:right] = 0
            change = float(reference - network(hidden[None, None])[0, 1])
            for i in range(top, bottom):
                for j in range(left, right):
                    changes[i][j].append(change)
    expected = [[np.mean(cell) for cell in row] for row in changes]
    assert_allclose(read("occlusion", evidence), expected, atol=1e-5)


def by_orders(value: Callable[[frozenset[int]], float], k: int) -> np.ndarray:
    """Shapley values by definition: mean contribution over all orders of joining."""
    total = np.zeros(k)
    orders = list(permutations(range(k)))
    for order in orders:
        present: frozenset[int] = frozenset()
        for player in order:
            total[player] += value(present | {player}) - value(present)
            present |= {player}
    return total / len(orders)


def test_kernel_shap_agrees_with_the_mean_over_all_orders() -> None:
    evidence = conv_evidence()
    labels = segments.grid((16, 16), 6)
    assert labels.max() == 5
    network = evidence.classifier.backend.module
    known: dict[frozenset[int], float] = {}

    def value(present: frozenset[int]) -> float:
        if present not in known:
            shown = np.where(np.isin(labels, list(present)), window(), 0).astype(np.float32)
            known[present] = float(network(torch.from_numpy(shown)[None, None])[0, 1].detach())
        return known[present]

    coalitions = evidence.coalitions(labels)
    assert coalitions.exact
    assert_allclose(shapley_values(coalitions, np.arange(62)), by_orders(value, 6), atol=2e-5)


def test_sampled_kernel_shap_approaches_the_exact_values_of_twelve_segments() -> None:
    """4094 coalitions give the exact values; 400 of them come near, within the error that the jackknife states."""
    labels = segments.grid((16, 16), 12)
    assert labels.max() == 11
    exact = conv_evidence(budget={"coalitions": 4094}).coalitions(labels)
    truth = shapley_values(exact, np.arange(4094))
    inside = []
    for seed in range(8):
        sampled = conv_evidence(seed=seed).coalitions(labels)
        found = shapley_values(sampled, np.arange(400))
        estimates = np.stack([shapley_values(sampled, kept) for kept in sampled.folds(10)])
        error = np.sqrt(0.9 * ((estimates - estimates.mean(axis=0)) ** 2).sum(axis=0))
        inside.append(np.abs(found - truth) <= 2 * error)
        assert np.corrcoef(found, truth)[0, 1] > 0.999
    assert np.mean(inside) >= 0.8  # two standard errors of ten groups: 93 % if everything were normal


def test_lime_solves_its_normal_equations() -> None:
    """Weighted ridge regression (α = 1) with a free intercept, written out."""
    coalitions = conv_evidence().coalitions(segments.grid((16, 16), 16))
    assert not coalitions.exact
    z = np.concatenate([np.ones((1, 16)), coalitions.masks, np.zeros((1, 16))])
    y = np.concatenate([[coalitions.full], coalitions.logits, [coalitions.empty]])
    norms = np.linalg.norm(z, axis=1)
    cosine = np.divide(z @ np.ones(16), norms * 4, out=np.zeros(len(z)), where=norms > 0)
    kernel = np.sqrt(np.exp(-((1 - cosine) ** 2) / WIDTH**2))
    w = kernel * np.concatenate([[1], coalitions.uniform_weights, [1]])
    centered = z - (w @ z) / w.sum()
    matrix = (centered * w[:, None]).T @ centered + np.eye(16)
    expected = np.linalg.solve(matrix, (centered * w[:, None]).T @ (y - (w @ y) / w.sum()))
    assert_allclose(coefficients(coalitions, np.arange(400)), expected, atol=1e-8)


def test_lime_of_a_linear_model_finds_its_weights() -> None:
    """A ridge of 1 against 400 weighted samples takes a few percent of each coefficient and keeps their order."""
    weights = torch.tensor([[4.0, -8.0, 2.0, 0.0], [6.0, 1.0, -3.0, 10.0]])
    evidence = function(lambda x: (x * weights).sum((1, 2)), [[1] * 4] * 2, budget={"coalitions": 2000})
    found = coefficients(evidence.coalitions(np.arange(8).reshape(2, 4)), np.arange(254))
    assert_allclose(found, weights.numpy().ravel(), atol=1.2)
    assert_array_equal(np.argsort(found), np.argsort(weights.numpy().ravel()))


# --- consensus -------------------------------------------------------------------------------------------------------


def test_consensus_of_two_small_maps() -> None:
    """Ranks 1…4 become ⅛, ⅜, ⅝, ⅞; the tie of the second map shares ⅛ and ⅜."""
    maps = {
        "saliency": MapResult(np.array([[0.1, 0.2], [0.3, 9.0]])),
        "occlusion": MapResult(np.array([[5.0, -3.0], [-3.0, 7.0]])),
    }
    result = METHODS["consensus"](SimpleNamespace(maps=maps, features=np.zeros((2, 2))))
    first, second = np.array([[1, 3], [5, 7]]) / 8, np.array([[5, 2], [2, 7]]) / 8
    assert_allclose(result.values, (first + second) / 2, rtol=1e-6)
    assert_allclose(result.spread, np.abs(first - second) / 2, atol=1e-7)


def test_consensus_needs_two_maps_besides_itself() -> None:
    maps = {id: MapResult(np.zeros((2, 2))) for id in ("saliency", "consensus")}
    with pytest.raises(ValueError, match=r"1 other map\(s\) to compare; accepted: two or more"):
        METHODS["consensus"](SimpleNamespace(maps=maps, features=np.zeros((2, 2))))


# --- the registry ----------------------------------------------------------------------------------------------------


def test_the_methods_and_their_order() -> None:
    import xai_panel as xp

    assert [method.id for method in xp.methods()] == [
        "saliency", "input-x-gradient", "smoothgrad", "integrated-gradients", "cam", "grad-cam", "grad-cam++",
        "layer-cam", "occlusion", "lime", "kernel-shap", "consensus",
    ]  # fmt: skip
    assert len({method.cost for method in xp.methods()}) == 12


def test_an_unknown_method_names_its_neighbors() -> None:
    from xai_panel.methods import get

    assert get("lime") is METHODS["lime"]
    with pytest.raises(ValueError, match="method 'gradcam': not known; did you mean grad-cam"):
        get("gradcam")


def test_methods_say_which_models_they_cannot_explain() -> None:
    from xai_panel.methods import compatible

    assert all(answer is True for answer in compatible(classifier(ConvNet(), (16, 16))).values())
    grid = compatible(classifier(ConvNet(gap=False), (16, 16)))
    assert grid.pop("cam") == (
        "the head behind layer pool is not global average pooling: its gradient differs between places"
    )
    assert all(answer is True for answer in grid.values())
    squared = classifier(Squared(), (16, 16))
    assert compatible(squared)["cam"] == "the head behind layer relu2 is not linear: its gradient depends on the input"
    flat = compatible(classifier(Logits(multi_layer), (1, 3)))
    assert {id for id, answer in flat.items() if answer is not True} == {"cam", "grad-cam", "grad-cam++", "layer-cam"}
    assert flat["grad-cam"] == "the model has no layer with a spatial grid"


class Squared(ConvNet):
    """Pooled, but not linear behind the pooling."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) ** 2
