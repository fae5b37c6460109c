"""Networks by name: their shapes, the layer that is found for activation methods, and what is refused."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from torch import nn

from xai_panel.models.architectures import OWN, build
from xai_panel.models.backends.torch import TorchBackend
from xai_panel.models.frontends import IMAGENET_MEAN, LogMel, RadiographImage, build_frontend


def noise(channels: int, size: int, count: int = 1) -> torch.Tensor:
    return torch.randn(count, channels, size, size, generator=torch.Generator().manual_seed(0))


def test_the_custom_cnn_is_three_convolutions_and_a_pooled_head():
    network = build("xai_panel:custom-cnn", 2).eval()
    convolutions = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    assert [(layer.in_channels, layer.out_channels) for layer in convolutions] == [(1, 32), (32, 64), (64, 128)]
    x = noise(1, 128, 2)
    with torch.no_grad():
        grid = network.features(x)
        expected = grid.mean(dim=(2, 3)) @ network.classifier.weight.T + network.classifier.bias
        assert grid.shape == (2, 128, 32, 32)
        np.testing.assert_allclose(network(x), expected, atol=1e-5)
        assert network(noise(1, 64)).shape == (1, 2)  # any size


@pytest.mark.parametrize(("name", "channels", "largest"), [("vgg16", 512, 30e6), ("alexnet", 256, 30e6)])
def test_a_pooled_network_has_the_convolutions_of_torchvision(name, channels, largest):
    network = build(f"xai_panel:{name}-pooled", 2).eval()
    with torch.device("meta"):
        full = build(f"torchvision:{name}", 2)
    features = {key: value.shape for key, value in full.state_dict().items() if key.startswith("features.")}
    expected = features | {"classifier.1.weight": (2, channels), "classifier.1.bias": (2,)}
    assert {key: value.shape for key, value in network.state_dict().items()} == expected
    assert sum(p.numel() for p in network.parameters()) * 2 < largest  # bytes in half precision
    x = noise(3, 64)
    with torch.no_grad():
        grid = network.features(x)
        head = network.classifier[1]
        np.testing.assert_allclose(network(x), grid.mean(dim=(2, 3)) @ head.weight.T + head.bias, atol=1e-5)


#: architecture: its input behind the batch, the layer that is found, its grid
TARGETS = {
    "torchvision:mobilenet_v2": ((3, 64, 64), "features.18.2", (2, 2)),
    "torchvision:resnet50": ((3, 64, 64), "layer4.2.relu", (2, 2)),
    "torchvision:densenet121": ((3, 64, 64), "features.relu5", (2, 2)),
    "torchxrayvision:densenet121": ((1, 64, 64), "features.relu5", (2, 2)),
    "torchvision:efficientnet_b0": ((3, 64, 64), "features.8.2", (2, 2)),
    "torchvision:inception_v3": ((3, 128, 128), "Mixed_7c", (2, 2)),
    "torchvision:vgg16": ((3, 64, 64), "avgpool", (7, 7)),  # at 224 × 224 as it was, before the full head
    "torchvision:alexnet": ((3, 64, 64), "avgpool", (6, 6)),
    "torchvision:convnext_tiny": ((3, 64, 64), "features.7.2", (2, 2)),
    "torchvision:swin_t": ((3, 64, 64), "permute", (2, 2)),
    "xai_panel:xception": ((3, 96, 96), "relu4", (3, 3)),
    "xai_panel:vgg16-pooled": ((3, 64, 64), "features.30", (2, 2)),
    "xai_panel:alexnet-pooled": ((3, 224, 224), "features.12", (6, 6)),
    "xai_panel:custom-cnn": ((1, 128, 128), "features.10", (32, 32)),
    "xai_panel:aasist": ((8000,), "encoder.5.0.pool", (23, 3)),
    "xai_panel:aasist-l": ((8000,), "encoder.5.0.pool", (23, 3)),
    "xai_panel:tssdnet-1d": ((8000,), "RSM4.relu", (1, 31)),
    "xai_panel:tssdnet-2d": ((64, 48), "RSM4.relu", (4, 3)),
    "xai_panel:inc-tssdnet": ((8000,), "DCM4.relu", (1, 31)),
}
WITHOUT_RELU = (  # SiLU, SELU and what layers are normalised to go below zero
    "torchvision:efficientnet_b0", "torchvision:convnext_tiny", "torchvision:swin_t", "xai_panel:aasist",
    "xai_panel:aasist-l",
)  # fmt: skip


def test_every_network_of_the_project_has_its_target_layer_in_the_table():
    assert {f"xai_panel:{name}" for name in OWN} <= set(TARGETS)


@pytest.mark.parametrize("architecture", TARGETS)
def test_the_target_layer_is_the_last_one_with_a_grid_and_after_its_activation(architecture):
    shape, layer, grid = TARGETS[architecture]
    torch.manual_seed(0)
    network = build(architecture, 2)
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = None
    with torch.no_grad():
        network.train()(torch.randn(2, *shape))  # untrained networks give next to nothing without its statistics
    model = TorchBackend(network, lambda x: x, shape)
    assert model.default_layer() == model.layers()[-1] == layer
    one, other = np.random.default_rng(0).standard_normal((2, 1, *shape)).astype(np.float32)
    answer = model.activations(one, layer, 1)
    assert answer.values.shape[2:] == grid
    if architecture not in WITHOUT_RELU:
        assert answer.values.min() >= 0 < answer.values.max()
    # whatever else a second input would change, with this layer's values of the first it gets the answer of the first
    outputs: list[torch.Tensor] = []
    module = model.module.get_submodule(layer)
    with torch.no_grad():
        handle = module.register_forward_hook(lambda _module, _inputs, output: outputs.append(output.clone()))
        first, uses = network(torch.from_numpy(one)), len(outputs)
        second = network(torch.from_numpy(other))
        handle.remove()
        kept, calls = outputs[uses - 1], iter(range(1, uses + 1))
        module.register_forward_hook(lambda _module, _inputs, _output: kept if next(calls) == uses else None)
        np.testing.assert_allclose(network(torch.from_numpy(other)), first, atol=1e-6)
    assert np.abs(second - first).max() > 1e-4
    np.testing.assert_allclose(answer.values.reshape(kept.shape), kept, atol=1e-3 * float(kept.abs().max()))


def test_densenet_answers_as_torchvisions_and_can_be_trained():
    from xai_panel.models._torchvision import torchvision_models

    torch.manual_seed(0)
    network = build("torchvision:densenet121", 2).eval()
    published = torchvision_models().densenet121(weights=None, num_classes=2).eval()
    published.load_state_dict(network.state_dict())
    x = noise(3, 64)
    logits = network(x)
    np.testing.assert_allclose(published(x).detach(), logits.detach(), atol=1e-6)
    logits.sum().backward()
    assert network.features.conv0.weight.grad.abs().max() > 0


def test_torchxrayvision_has_its_own_parameter_names():
    keys = build("torchxrayvision:densenet121", 18).state_dict()
    assert keys["features.conv0.weight"].shape == (64, 1, 7, 7)
    assert keys["features.denseblock1.denselayer1.norm1.weight"].shape == (64,)
    assert keys["classifier.weight"].shape == (18, 1024)


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        ("resnet50", r"'resnet50' is unknown; expected torchvision:<name>, xai_panel:<name>"),
        ("jax:resnet50", "unknown; expected torchvision:<name>"),
        ("torchvision:resnet5", "did you mean torchvision:resnet"),
        ("torchvision:fasterrcnn_resnet50_fpn", "is unknown"),
        ("xai_panel:custom", "did you mean xai_panel:custom-cnn"),
        ("python:no_such_package:net", "python:package.module:factory"),
        ("python:torch.nn:NoSuchNet", "cannot be imported"),
        ("python:builtins:str", "returns a str; a torch.nn.Module is expected"),
    ],
)
def test_an_unknown_architecture_is_named_with_what_is_accepted(architecture, message):
    with pytest.raises(ValueError, match=message):
        build(architecture, 2)


def test_a_network_of_ones_own_is_made_by_its_factory(tmp_path, monkeypatch):
    (tmp_path / "own_networks.py").write_text(
        "from torch import nn\ndef tiny(outputs):\n    return nn.Sequential(nn.Flatten(), nn.Linear(16, outputs))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert build("python:own_networks:tiny", 5)[1].out_features == 5
    sys.modules.pop("own_networks")


# --- what goes into them


def test_one_channel_or_three_as_the_card_says():
    def stack(channels):
        return np.stack(channels, axis=1)

    decibels = np.array([[[-80.0, 0.0]]], np.float32)
    one = build_frontend({"kind": "log-mel", "bands": 128, "frames": 128, "mean": [0.5], "std": [0.25]})
    assert one.shape == (128, 128)
    np.testing.assert_allclose(one.to_input(decibels, stack), [[[[-2.0, 2.0]]]])
    three = LogMel().to_input(decibels, stack)
    assert three.shape == (1, 3, 1, 2)
    np.testing.assert_allclose(three[0, :, 0, 0], [-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225], rtol=1e-5)
    gray = np.array([[[0.0, 0.5, 1.0]]], np.float32)
    xrv = build_frontend({"kind": "radiograph", "mean": [0.5], "std": [1 / 2048]})
    np.testing.assert_array_equal(xrv.to_input(gray, stack), [[[[-1024.0, 0.0, 1024.0]]]])
    assert RadiographImage().mean == IMAGENET_MEAN


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"kind": "mel"}, "kind 'mel' is unknown; known: log-mel, "),
        ({"kind": "log-mel", "hop": 144}, "log-mel: parameter «hop» is unknown; known: .*hop_length"),
        ({"kind": "log-mel", "bands": "many"}, "«bands» is 'many'; a positive whole number is expected"),
        ({"kind": "log-mel", "bands": 0}, "«bands» is 0; a positive whole number"),
        ({"kind": "log-mel", "frames": 1}, "«frames» is 1; at least 2"),
        ({"kind": "log-mel", "fmax": 9000.0}, "«fmin» and «fmax» are 20 and 9000 Hz; .* 8000 Hz, half the sampling"),
        ({"kind": "log-mel", "win_length": 4096}, "«win_length» is 4096; at most n_fft = 2048"),
        ({"kind": "radiograph", "mean": [0.5]}, "«mean» and «std» have 1 and 3 entries"),
        ({"kind": "radiograph", "mean": 0.5}, "«mean» is 0.5; a list of numbers"),
        ({"kind": "radiograph", "mean": [0.5], "std": [0.0]}, r"«std» is \[0.0\]; positive numbers"),
        ({"kind": "radiograph", "size": True}, "«size» is True; a positive whole number"),
    ],
)  # fmt: skip
def test_a_wrong_parameter_of_a_front_end_is_named(table, message):
    with pytest.raises(ValueError, match=message):
        build_frontend(table)
