"""Every method that a reference library also has, against that library, on small random networks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from scipy.stats import spearmanr
from tiny import ConvNet, classifier, conv_evidence, window

from xai_panel.evidence import segments
from xai_panel.evidence.coalitions import Coalitions
from xai_panel.evidence.evidence import Evidence
from xai_panel.methods import METHODS, upsample
from xai_panel.methods.grad_cam import weighted_sum
from xai_panel.methods.kernel_shap import shapley_values
from xai_panel.methods.lime import coefficients


def captum_map(of: type, network: int = 0, **options: Any) -> np.ndarray:
    x = torch.from_numpy(window(network))[None, None]
    return of(ConvNet(network)).attribute(x, target=1, **options)[0, 0].detach().numpy()


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float((a * b).sum() / np.linalg.norm(a) / np.linalg.norm(b))


# --- Captum ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("network", range(3))
def test_saliency_and_input_x_gradient_of_captum(network: int) -> None:
    from captum.attr import InputXGradient, Saliency

    evidence = conv_evidence(network)
    assert_allclose(METHODS["saliency"](evidence).values, captum_map(Saliency, network), atol=1e-6)
    assert_allclose(METHODS["input-x-gradient"](evidence).values, captum_map(InputXGradient, network), atol=1e-6)


@pytest.mark.parametrize("network", range(3))
def test_integrated_gradients_of_captum(network: int) -> None:
    from captum.attr import IntegratedGradients

    expected = captum_map(IntegratedGradients, network, n_steps=32, method="gausslegendre")
    assert_allclose(METHODS["integrated-gradients"](conv_evidence(network)).values, expected, atol=1e-5)


def test_smoothgrad_of_captum() -> None:
    """Captum draws other noise: both approach the same map, and the difference is what the standard errors allow."""
    from captum.attr import NoiseTunnel, Saliency

    sigma = 0.15 * float(np.ptp(window()))
    torch.manual_seed(0)
    x = torch.from_numpy(window())[None, None]
    options: dict[str, Any] = {"nt_type": "smoothgrad", "nt_samples": 500, "stdevs": sigma, "abs": False}
    expected = NoiseTunnel(Saliency(ConvNet())).attribute(x, target=1, **options)[0, 0].abs().numpy()
    evidence = conv_evidence(budget={"noise": 500})
    result = METHODS["smoothgrad"](evidence)
    assert np.sqrt(np.mean((result.values - expected) ** 2)) < 1.7 * result.error  # two such errors: 1.41
    assert cosine(result.values, expected) > 0.995


@pytest.mark.parametrize("layer", ["relu1", "relu2", "conv2"])
def test_grad_cam_of_captum(layer: str) -> None:
    from captum.attr import LayerGradCam

    network = ConvNet(gap=False)
    x = torch.from_numpy(window())[None, None]
    expected = LayerGradCam(network, getattr(network, layer)).attribute(x, target=1)[0, 0].detach().numpy()
    evidence = conv_evidence(gap=False, layer=layer)
    assert_allclose(weighted_sum(evidence), expected, atol=1e-6)
    assert_allclose(METHODS["grad-cam"](evidence).values, np.maximum(expected, 0), atol=1e-6)


@pytest.mark.parametrize("baseline", ["floor", "mean"])
def test_occlusion_of_captum(baseline: str) -> None:
    from captum.attr import Occlusion

    value = 0.0 if baseline == "floor" else float(window().mean())
    options = {"sliding_window_shapes": (1, 4, 4), "strides": (1, 2, 2), "baselines": value}
    found = METHODS["occlusion"](conv_evidence(baseline=baseline)).values  # 4×4 patches by 2 are the default here
    assert_allclose(found, captum_map(Occlusion, **options), atol=1e-5)


def test_long_kernel_shap_of_captum() -> None:
    from captum.attr import KernelShap

    labels = segments.grid((16, 16), 9)
    mask = torch.from_numpy(labels.astype(np.int64))[None, None]
    torch.manual_seed(0)
    expected = captum_map(KernelShap, n_samples=4000, feature_mask=mask, perturbations_per_eval=64)
    coalitions = conv_evidence(budget={"coalitions": 510}).coalitions(labels)
    found = coalitions.paint(shapley_values(coalitions, np.arange(510)))
    assert_allclose(found, expected, atol=0.02 * np.abs(expected).max())


# --- pytorch-grad-cam ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", ["relu1", "relu2"])
@pytest.mark.parametrize(
    ("id", "name"), [("grad-cam", "GradCAM"), ("grad-cam++", "GradCAMPlusPlus"), ("layer-cam", "LayerCAM")]
)
def test_maps_of_pytorch_grad_cam(id: str, name: str, layer: str) -> None:
    """It scales each map to 0…1 before and after its own bilinear interpolation, so ours is scaled likewise.

    Its Grad-CAM++ adds 1e-6 to the denominator of α, which is of the order of the squared gradients of a pooled layer:
    the network's logits are multiplied by 1000 to make that vanish.
    """
    from xai_panel.models._torchvision import torchvision_models

    torchvision_models()  # it imports torchvision
    import pytorch_grad_cam
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    network = ConvNet(gap=False)
    network.head.weight.data.mul_(1000)
    x = torch.from_numpy(window())[None, None]
    with getattr(pytorch_grad_cam, name)(network, [getattr(network, layer)]) as cam:
        expected = cam(x, [ClassifierOutputTarget(1)])[0]
    evidence = Evidence(classifier(network, (16, 16)), window(), 1, layer=layer)
    found = METHODS[id](evidence).values
    scaled = upsample((found - found.min()) / np.ptp(found), (16, 16))
    scaled = (scaled - scaled.min()) / np.ptp(scaled)
    assert cosine(scaled, expected) >= 0.9999
    assert_allclose(scaled, expected, atol=2e-3)


# --- shap ------------------------------------------------------------------------------------------------------------


def masked_logits(labels: np.ndarray) -> Any:
    """The model as shap and lime see it: from presence of segments (n, k) to the target's logit (n,)."""
    backend, values = classifier(ConvNet(), (16, 16)).backend, window()

    def ask(masks: np.ndarray) -> np.ndarray:
        shown = np.where(np.asarray(masks)[:, labels] > 0.5, values, np.float32(0))
        return backend.logits(shown.astype(np.float32))[:, 1]

    return ask


def test_kernel_shap_of_shap_with_all_coalitions() -> None:
    import shap

    labels = segments.grid((16, 16), 9)
    explainer = shap.KernelExplainer(masked_logits(labels), np.zeros((1, 9)))
    expected = explainer.shap_values(np.ones((1, 9)), nsamples=512, l1_reg=False, silent=True)[0]
    coalitions = conv_evidence(budget={"coalitions": 510}).coalitions(labels)
    assert_allclose(shapley_values(coalitions, np.arange(510)), expected, atol=1e-5)


def test_sampled_kernel_shap_is_as_good_as_shaps() -> None:
    """Twelve segments, 400 questions each: the root mean square error against the exact values, mean over ten seeds."""
    import shap

    labels = segments.grid((16, 16), 12)
    exact = conv_evidence(budget={"coalitions": 4094}).coalitions(labels)
    truth = shapley_values(exact, np.arange(4094))
    ours, theirs = [], []
    for seed in range(10):
        sampled = conv_evidence(seed=seed).coalitions(labels)
        ours.append(shapley_values(sampled, np.arange(400)) - truth)
        np.random.seed(seed)
        explainer = shap.KernelExplainer(masked_logits(labels), np.zeros((1, 12)))
        theirs.append(explainer.shap_values(np.ones((1, 12)), nsamples=400, l1_reg=False, silent=True)[0] - truth)
    assert np.sqrt(np.mean(np.square(ours))) <= 2 * np.sqrt(np.mean(np.square(theirs)))


# --- lime ------------------------------------------------------------------------------------------------------------


def lime_image(labels: np.ndarray, samples: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Coefficients (k,), masks (n, k) and logits (n,) of lime's own image explainer on an RGB copy of the window."""
    from lime.lime_image import LimeImageExplainer

    backend = classifier(ConvNet(), (16, 16)).backend
    rgb = np.repeat(window()[..., None].astype(np.float64), 3, axis=2)
    explainer = LimeImageExplainer(random_state=seed, feature_selection="none")
    asked: list[np.ndarray] = []
    original = explainer.base.explain_instance_with_data

    def spy(masks: np.ndarray, logits: np.ndarray, *rest: Any, **options: Any) -> Any:
        asked.extend([masks, logits[:, 1]])
        return original(masks, logits, *rest, **options)

    explainer.base.explain_instance_with_data = spy
    explanation = explainer.explain_instance(
        rgb, lambda images: backend.logits(images[..., 0].astype(np.float32)), labels=(1,), top_labels=None,
        hide_color=0, num_samples=samples, segmentation_fn=lambda _: labels,
    )  # fmt: skip
    pairs = dict(explanation.local_exp[1])
    return np.array([pairs[i] for i in range(labels.max() + 1)]), asked[0], asked[1]


def test_lime_image_on_the_same_coalitions_has_the_same_coefficients() -> None:
    """Its masks in our hands: every one weighs 1, as each of its coalitions is equally likely."""
    labels = segments.grid((16, 16), 16)
    expected, masks, logits = lime_image(labels, samples=300, seed=3)

    class TheirMasks(Coalitions):
        @property
        def uniform_weights(self) -> np.ndarray:
            return np.ones(len(self.masks))

    empty = float(masked_logits(labels)(np.zeros((1, 16)))[0])
    theirs = TheirMasks(
        labels, np.arange(16), lambda m: np.zeros(len(m)), full=float(logits[0]), empty=empty,
        budget=2, rng=np.random.default_rng(0),
    )  # fmt: skip
    theirs.masks, theirs.logits = masks[1:].astype(bool), logits[1:]
    found = coefficients(theirs, np.arange(299))
    # we also ask for nothing at all, which lime does not; its kernel weight is 0.0003
    assert_allclose(found, expected, atol=2e-3 * np.abs(expected).max())


def test_long_lime_image_agrees_with_the_balanced_coalitions() -> None:
    labels = segments.grid((16, 16), 16)
    expected, _, _ = lime_image(labels, samples=4000, seed=0)
    coalitions = conv_evidence(budget={"coalitions": 4000}).coalitions(labels)
    found = coefficients(coalitions, np.arange(4000))
    assert cosine(found, expected) > 0.998
    assert spearmanr(found, expected).statistic > 0.97
