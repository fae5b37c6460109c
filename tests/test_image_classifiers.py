"""Classifiers of images: what they look at, what a map of colors means, and networks by their name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from PIL import Image
from radiograph_files import picture
from torch import nn

import xai_panel as xp
from xai_panel.cli import main
from xai_panel.evidence.baselines import KINDS, baseline
from xai_panel.evidence.evidence import Evidence
from xai_panel.evidence.segments import segment
from xai_panel.explanation.export import read_netcdf
from xai_panel.methods import METHODS
from xai_panel.models._torchvision import torchvision_models
from xai_panel.models.architectures import build
from xai_panel.models.backends.torch import TorchBackend
from xai_panel.models.frontends import ColorImage, build_frontend, describe
from xai_panel.signals.image import luminance, read_image

TABLE: dict[str, Any] = {"kind": "image", "resize_size": 20, "crop_size": 16, "mean": [0.5, 0.4, 0.3]}
LITTLE: dict[str, Any] = {"coalitions": 40, "positions": 9, "noise": 2, "steps": 8, "segments": 9}


def pixels(height: int = 40, width: int = 56) -> np.ndarray:
    """A disc of one color on a gradient of others, (y, x, channel) uint8."""
    y, x = np.mgrid[:height, :width]
    colors = np.stack([x * 3, y * 4, 200 - x - y], -1).astype(np.uint8)
    colors[(y - 20) ** 2 + (x - 30) ** 2 < 80] = [220, 30, 60]
    return colors


def image(**size: int) -> xr.DataArray:
    return read_image(picture(pixels(**size)), name="disc.png")


def network(outputs: int = 2) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, outputs)
    )  # fmt: skip


class Linear(nn.Module):
    """Logits (0, Σ weights · input): every method has a known answer."""

    def __init__(self, weights: np.ndarray) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.from_numpy(weights))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logit = (x * self.weights).sum((1, 2, 3))
        return torch.stack([torch.zeros_like(logit), logit], 1)


# --- what a network looks at


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("height", "width"), [(300, 411), (411, 300), (90, 90), (1, 40)])
def test_features_are_those_of_the_presets_of_torchvision(interpolation: str, height: int, width: int):
    torchvision_models()
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms._presets import ImageClassification

    values = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    frontend = build_frontend({"kind": "image", "resize_size": 90, "crop_size": 75, "interpolation": interpolation})
    preset = ImageClassification(crop_size=75, resize_size=90, interpolation=InterpolationMode(interpolation))
    expected = preset(Image.fromarray(values)).numpy()
    features = frontend.features(read_image(picture(values))).values
    ours = frontend.to_input(torch.from_numpy(features[None]), lambda parts: torch.stack(list(parts), 1))[0].numpy()
    different = abs(ours - expected)  # Pillow keeps the edges of a crop as float32: a few colors are rounded elsewhere
    assert (different > 1e-5).mean() < 0.01 and different.max() <= 1.01 / 255 / 0.224


def test_the_axes_are_those_of_the_image_and_the_crop_is_its_middle():
    features = build_frontend({**TABLE, "resize_size": 20, "crop_size": 20}).features(image())
    assert (features.dims, features.dtype) == (("channel", "y", "x"), np.float32)
    np.testing.assert_allclose(features["y"], np.arange(20) * 2 + 1)
    np.testing.assert_allclose(features["x"], np.arange(20) * 2 + 1 + 8)
    y, x = np.argwhere(features.sel(channel="red").values > 0.8).mean(axis=0)  # the disc is where it was
    place = np.interp(y, range(20), features["y"]), np.interp(x, range(20), features["x"])
    np.testing.assert_allclose(place, (20.5, 30.5), atol=1)
    squeezed = build_frontend({**TABLE, "fit": "squeeze"}).features(image())
    np.testing.assert_allclose(squeezed["x"][[0, -1]], [1.75, 54.25])


def test_grey_and_16_bits_are_the_same_colors():
    grey = pixels()[..., 0]
    frontend = build_frontend(TABLE)
    expected = frontend.features(read_image(picture(np.stack([grey] * 3, -1)))).values
    np.testing.assert_array_equal(frontend.features(read_image(picture(grey))).values, expected)
    deep = frontend.features(read_image(picture(grey.astype(np.uint16) * 257))).values
    np.testing.assert_allclose(deep, expected, atol=1.01 / 255)  # those of 8 bits are rounded in both directions


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fit": "stretch"}, "parameter «fit» is 'stretch'; one of crop, squeeze is expected"),
        ({"interpolation": "nearest"}, "parameter «interpolation» is 'nearest'; one of bilinear, bicubic"),
        ({"crop_size": 21}, "parameter «crop_size» is 21; at most resize_size = 20"),
        ({"mean": [0.5], "std": [0.5]}, "«mean» and «std» have 1 entries; one per color"),
        ({"size": 224}, "parameter «size» is unknown; known: resize_size, crop_size, fit"),
    ],
)
def test_a_wrong_table_is_named(changes: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        build_frontend({**TABLE, **changes})
    assert build_frontend(describe(ColorImage(crop_size=99))) == ColorImage(crop_size=99)


# --- what a map of colors means


def test_colors_of_a_pixel_are_one_feature():
    rng = np.random.default_rng(0)
    weights = rng.standard_normal((3, 16, 16)).astype(np.float32)
    mine = xp.Classifier.from_torch(
        Linear(weights), labels=["a", "b"], frontend={**TABLE, "mean": [0.0] * 3, "std": [1.0] * 3}
    )
    ds = xp.explain(mine, image(), ["saliency", "smoothgrad", "input-x-gradient", "integrated-gradients", "occlusion",
                                    "kernel-shap"], target=1, baseline="floor", store=False)  # fmt: skip
    features = mine.features(image()).values
    parts = (weights * features).sum(axis=0)
    for id in ("saliency", "smoothgrad"):
        np.testing.assert_allclose(ds.xai.map(id), np.linalg.norm(weights, axis=0), rtol=1e-4)
    for id in ("input-x-gradient", "integrated-gradients"):
        np.testing.assert_allclose(ds.xai.map(id), parts, atol=1e-4)
    np.testing.assert_allclose(float(ds["error"].sel({"method": "integrated-gradients"})), 0, atol=1e-3)
    evidence = Evidence(mine, features, 1, baseline="floor")
    labels = evidence.segments()
    sums = np.bincount(labels.ravel(), parts.ravel())
    np.testing.assert_allclose(ds.xai.map("kernel-shap"), sums[labels], atol=1e-3)
    for (top, bottom, left, right), logit in zip(
        evidence.occlusions().boxes, evidence.occlusions().logits, strict=True
    ):
        np.testing.assert_allclose(evidence.logit - logit, parts[top:bottom, left:right].sum(), atol=1e-3)


def test_baselines_treat_each_color_by_itself():
    window = np.moveaxis(pixels(), -1, 0).astype(np.float32) / 255
    for kind in KINDS:
        found = baseline(window, kind, 0.0)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, np.stack([baseline(color, kind, 0.0) for color in window]))
    assert np.ptp(baseline(window, "mean", 0.0), axis=(1, 2)).max() == 0


def test_superpixels_see_colors_of_the_same_luminance():
    window = np.zeros((3, 40, 40), np.float32)
    window[0, :, :13], window[1, :, 13:] = 0.587, 0.299  # red and green, equally bright

    def crossing(labels: np.ndarray) -> set[int]:
        return set(labels[:, :13].ravel()) & set(labels[:, 14:].ravel())  # the edge is found to a pixel

    labels = segment(window, "slic", 16)
    assert labels.shape == (40, 40) and not crossing(labels)
    assert crossing(segment(luminance(np.moveaxis(window, 0, -1)), "slic", 16))


def test_every_method_explains_a_small_network_and_its_answer_can_be_kept(tmp_path: Path):
    mine = xp.Classifier.from_torch(network(3), labels=["cat", "dog", "fish"], frontend=TABLE)
    assert mine.card.modality == "image" and all(answer is True for answer in xp.compatible(mine).values())
    ds = xp.explain(mine, image(), budget=LITTLE, store=False)
    assert list(ds["method"].values) == list(METHODS)
    assert ds["attribution"].dims == ("method", "y", "x") and ds["attribution"].shape == (12, 16, 16)
    assert ds["input"].dims == ("y", "x", "channel")
    assert np.isfinite(ds["attribution"]).all() and (np.ptp(ds["attribution"].values, axis=(1, 2)) > 0).all()
    gap = float(ds.xai.map("integrated-gradients").sum())
    evidence = Evidence(mine, mine.features(image()).values, int(ds.attrs["target"]))
    assert gap == pytest.approx(evidence.logit - evidence.baseline_logit, abs=1e-3)
    from xai_panel.explanation import export

    export.to_netcdf(ds, tmp_path / "a.nc")
    xr.testing.assert_identical(read_netcdf(tmp_path / "a.nc"), ds)
    export.to_csv(ds, tmp_path / "a.csv")
    rows = (tmp_path / "a.csv").read_text().splitlines()
    assert rows[0] == "method,y [px],x [px],input [1],attribution" and len(rows) == 1 + 12 * 16 * 16
    export.to_png(ds.isel(method=[0, 7]), tmp_path / "a.png", dpi=40)
    drawn = np.asarray(Image.open(tmp_path / "a.png").convert("RGB")).astype(int)
    assert (abs(drawn - [220, 30, 60]).max(axis=-1) < 12).sum() > 50  # the disc, in its color


def test_a_keras_network_agrees():
    keras = pytest.importorskip("keras", reason="needs the extra «tensorflow»")
    pytest.importorskip("tensorflow", reason="needs the extra «tensorflow»")
    module = network()
    inputs = keras.Input((16, 16, 3))
    grid = keras.layers.Conv2D(4, 3, activation="relu")
    head = keras.layers.Dense(2)
    model = keras.Model(inputs, head(keras.layers.GlobalAveragePooling2D()(grid(inputs))))
    grid.set_weights([module[0].weight.detach().numpy().transpose(2, 3, 1, 0), module[0].bias.detach().numpy()])
    head.set_weights([module[4].weight.detach().numpy().T, module[4].bias.detach().numpy()])
    answers = [
        xp.explain(make(net, labels=["a", "b"], frontend=TABLE), image(), budget=LITTLE, store=False)
        for make, net in ((xp.Classifier.from_torch, module), (xp.Classifier.from_keras, model))
    ]
    for id in set(METHODS) - {"consensus"}:  # ranks of values that differ by rounding
        one, other = (ds.xai.map(id).values for ds in answers)
        np.testing.assert_allclose(one, other, atol=1e-4 * max(1, abs(one).max()), err_msg=id)


# --- networks by their name


@pytest.mark.parametrize(
    ("architecture", "table", "layer"),
    [
        ("torchvision:efficientnet_b0", {"interpolation": "bicubic"}, "features.8.2"),
        ("torchvision:inception_v3", {"resize_size": 342, "crop_size": 299}, "Mixed_7c"),
        ("xai_panel:xception", {"resize_size": 333, "crop_size": 299, "mean": [0.5] * 3, "std": [0.5] * 3}, "relu4"),
    ],
)
def test_networks_by_their_name(architecture: str, table: dict[str, Any], layer: str):
    torch.manual_seed(0)
    mine = xp.Classifier.from_torch(
        build(architecture, 3), labels=["cat", "dog", "fish"], frontend={"kind": "image", **table}
    )
    assert mine.backend.default_layer() == layer
    size = mine.frontend.shape[-1]
    before = mine.backend.logits(mine.features(image()).values[None])[0]
    ds = xp.explain(mine, image(), ["grad-cam"], store=False)
    np.testing.assert_allclose(ds["logits"], before, rtol=1e-3, atol=1e-5)
    assert ds["attribution"].shape == (1, size, size) and np.isfinite(ds["attribution"]).all()
    rows = {"features.8.2": 7, "Mixed_7c": 8, "relu4": 10}[layer]
    assert str(ds["grid"].values[0]) == f"{rows}×{rows}"


# --- transformers


def swin() -> nn.Module:
    """A small Swin: of 32 × 64 pixels 8 × 16 patches, then 4 × 8 of twice the channels."""
    torch.manual_seed(0)
    return torchvision_models().SwinTransformer(
        patch_size=[4, 4], embed_dim=16, depths=[1, 1], num_heads=[2, 2], window_size=[4, 4], num_classes=3
    )


def test_a_swin_has_its_channels_last():
    backend = TorchBackend(swin(), lambda x: x, (3, 32, 64))
    assert backend.default_layer() == "permute"
    batch = np.random.default_rng(0).standard_normal((2, 3, 32, 64)).astype(np.float32)
    shapes = {name: backend.activations(batch, name, 1).values.shape for name in backend.layers()}
    assert {shape[2:] for shape in shapes.values()} == {(8, 16), (4, 8)}
    assert shapes["features.0.1"] == shapes["features.1.0"] == (2, 16, 8, 16)
    assert shapes["norm"] == shapes["features.3.0"] == (2, 32, 4, 8)
    for ask in (lambda layer: backend.activations(batch, layer, 1), lambda layer: backend.gradients(batch, 1, layer)):
        last, first = (vars(ask(layer)) for layer in ("norm", "permute"))  # one and the same values
        for name in last:
            np.testing.assert_array_equal(last[name], first[name])


def test_every_method_explains_a_swin():
    mine = xp.Classifier.from_torch(swin(), labels=["cat", "dog", "fish"], frontend={**TABLE, "crop_size": 20})
    assert all(answer is True for answer in xp.compatible(mine).values())
    ds = xp.explain(mine, image(), ["cam"], target=1, store=False)
    bias = mine.backend.module.head.bias[1].item()
    grid = METHODS["cam"](Evidence(mine, mine.features(image()).values, 1)).values
    assert grid.shape == (3, 3) and grid.mean() == pytest.approx(float(ds["logits"][1]) - bias, abs=1e-4)


def vision_transformer(size: int = 16) -> nn.Module:
    torch.manual_seed(0)
    network = torchvision_models().VisionTransformer(
        image_size=size, patch_size=4, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=32, num_classes=3
    )
    nn.init.normal_(network.heads.head.weight)  # untrained ones are zero
    return network


def test_a_vision_transformer_has_no_layer_for_activation_methods():
    network = vision_transformer()
    mine = xp.Classifier.from_torch(network, labels=["cat", "dog", "fish"], frontend=TABLE)
    reason = "the model has no layer with a spatial grid after the attention between its tokens"
    allowed = xp.compatible(mine)
    for id, method in METHODS.items():
        assert allowed[id] == (reason if method.family == "activation" else True)
    with pytest.raises(ValueError, match=f"Grad-CAM cannot explain own: {reason}"):
        xp.explain(mine, image(), ["grad-cam"], store=False)
    with pytest.raises(ValueError, match=f"layer: {reason}; choose a method that needs none"):
        METHODS["grad-cam"](Evidence(mine, mine.features(image()).values, 1))
    ds = xp.explain(mine, image(), target=1, budget=LITTLE, store=False)
    assert list(ds["method"].values) == [id for id, method in METHODS.items() if method.family != "activation"]
    features = torch.from_numpy(mine.features(image()).values[None]).requires_grad_()
    logit = network(mine.frontend.to_input(features, lambda parts: torch.stack(list(parts), 1)))[0, 1]
    (gradient,) = torch.autograd.grad(logit, features)
    np.testing.assert_allclose(ds.xai.map("saliency"), gradient[0].norm(dim=0), rtol=1e-3, atol=1e-5)
    chosen = xp.explain(mine, image(), ["layer-cam"], target=1, layer="conv_proj", store=False)
    assert str(chosen["grid"].values[0]) == "4×4"  # who wants the patch embedding asks for it


def test_a_vision_transformer_of_another_size_is_refused():
    with pytest.raises(ValueError, match=r"cannot take the front end's input \(1, 3, 16, 16\): Wrong image height"):
        xp.Classifier.from_torch(vision_transformer(24), labels=["cat", "dog", "fish"], frontend=TABLE)


class OverTime(nn.Module):
    """Convolutions to a grid of one row, then steps over time, normalised: no tokens of places."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.relu = nn.Conv2d(1, 8, (16, 3), stride=(1, 3)), nn.ReLU()
        self.norm, self.head = nn.LayerNorm(8), nn.Linear(8, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.norm(self.relu(self.conv(x))[:, :, 0].mT)).mean(dim=1)


def test_a_network_over_time_keeps_its_layer():
    assert TorchBackend(OverTime(), lambda x: x, (1, 16, 30)).default_layer() == "relu"


def test_xception_has_as_many_weights_as_published():
    weights = build("xai_panel:xception", 1000).parameters()
    assert sum(parameter.numel() for parameter in weights) == 22_855_952  # Keras Applications


CARD = """
id = "pets"
title = "Pets"
summary = "Tells cats from dogs."
modality = "image"
framework = "torch"
architecture = "torchvision:squeezenet1_1"
labels = ["cat", "dog"]
weights = "pets.pth"
[frontend]
kind = "image"
resize_size = 48
crop_size = 40
"""


@pytest.fixture
def pets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A card of an untrained network with its weights beside it."""
    monkeypatch.setenv("XAI_PANEL_HOME", str(tmp_path / "home"))
    torch.manual_seed(0)
    torch.save(build("torchvision:squeezenet1_1", 2).state_dict(), tmp_path / "pets.pth")
    (tmp_path / "card.toml").write_text(CARD, encoding="utf-8")
    return tmp_path / "card.toml"


def test_the_image_card_of_the_readme_is_a_card(pets: Path):
    readme = (Path(__file__).resolve().parents[1] / "README.md").read_text(encoding="utf-8")
    pets.write_text(readme.split("```toml\n")[2].split("```")[0], encoding="utf-8")
    torch.save(build("torchvision:efficientnet_b0", 1).state_dict(), pets.parent / "pets.pth")
    xp.add_model(pets)
    assert xp.load_model("pets").frontend == ColorImage(interpolation="bicubic")


def test_an_added_classifier_explains_a_file(pets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    photo = tmp_path / "photo.webp"
    photo.write_bytes(picture(pixels(), "WEBP", lossless=True))
    command = ["explain", str(photo), "--methods", "grad-cam"]
    assert main(command) == 1
    assert "no classifier for image signals; add one: xai-panel models add CARD.toml" in capsys.readouterr().err
    assert main(["models", "add", str(pets)]) == 0
    assert main([*command, "-o", str(tmp_path / "a.nc")]) == 0
    (tmp_path / "photo.png").write_bytes(picture(pixels()))
    again = ["explain", str(tmp_path / "photo.png"), "--model", "pets", "--methods", "grad-cam"]
    assert main([*again, "-o", str(tmp_path / "b.nc")]) == 0  # which kind of picture it is, the classifier says
    one, other = (read_netcdf(tmp_path / name) for name in ("a.nc", "b.nc"))
    assert one.attrs["model"] == "pets" and one.attrs["modality"] == "image"
    xr.testing.assert_allclose(one["attribution"], other["attribution"])
    radiograph = xp.read_signal(tmp_path / "photo.png")
    with pytest.raises(xp.SignalError, match=r"a radiograph over \(y, x\).*xai_panel.read_image reads PNG"):
        xp.explain("pets", radiograph, ["grad-cam"])


def test_a_card_of_an_image_classifier_with_the_front_end_of_radiographs_is_refused(pets: Path):
    pets.write_text(CARD.replace('kind = "image"\nresize_size = 48\ncrop_size = 40', 'kind = "radiograph"'))
    with pytest.raises(ValueError, match="field «frontend»: radiograph is for radiograph signals"):
        xp.add_model(pets)
