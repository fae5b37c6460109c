"""Cards, front ends, the PyTorch backend and the classifier: known answers first."""

from __future__ import annotations

import dataclasses
import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn

from xai_panel.models import registry
from xai_panel.models.backends.torch import TorchBackend
from xai_panel.models.card import Card, CardError, read_card
from xai_panel.models.classifier import Classifier
from xai_panel.models.frontends import IMAGENET_MEAN, IMAGENET_STD, LogMel, RadiographImage, build_frontend, cut

CARD = Card(
    id="tiny", title="Tiny", summary="", modality="radiograph", framework="torch", architecture="torchvision:none",
    labels=("no", "yes"), frontend={"kind": "radiograph"},
)  # fmt: skip


def tone(frequency: float, seconds: float, rate: int = 16_000) -> xr.DataArray:
    time = np.arange(int(seconds * rate)) / rate
    return xr.DataArray(
        (0.5 * np.sin(2 * np.pi * frequency * time)).astype(np.float32),
        dims="time",
        coords={"time": time},
        attrs={"sampling_rate": float(rate), "modality": "audio", "source": "tone.wav"},
    )


def image(values: np.ndarray, spacing: float = 1.0, units: str = "px") -> xr.DataArray:
    coords = {
        dim: (dim, (np.arange(n) + 0.5) * spacing, {"units": units}) for dim, n in zip("yx", values.shape, strict=True)
    }
    return xr.DataArray(
        values.astype(np.float32), dims=("y", "x"), coords=coords, attrs={"modality": "radiograph", "source": "a.png"}
    )


def plain(x: torch.Tensor) -> torch.Tensor:
    return x[:, None]


class TestLogMel:
    def test_a_tone_lies_in_the_band_of_its_frequency(self) -> None:
        for frequency in (300.0, 1000.0, 5000.0):
            features = LogMel().features(tone(frequency, 2.0))
            loudest = float(features["frequency"][int(features.mean("time").values.argmax())])
            assert abs(loudest - frequency) < 0.02 * frequency + 10

    def test_levels_are_relative_to_the_maximum_and_bounded(self) -> None:
        values = LogMel().features(tone(1000.0, 1.0)).values
        assert values.max() == 0.0
        assert values.min() == pytest.approx(-80.0)

    def test_a_window_is_two_seconds_long(self) -> None:
        frontend = LogMel()
        features = frontend.features(tone(440.0, 224 * 144 / 16_000))
        assert features.shape == (224, 224)
        assert len(frontend.windows(features.shape[1])) == 1

    def test_a_click_stands_at_its_time(self) -> None:
        signal = tone(440.0, 3.0)
        signal.values[:] = 0
        signal.values[24_000] = 1.0
        features = LogMel().features(signal)
        assert float(features["time"][int(features.mean("frequency").values.argmax())]) == pytest.approx(1.5, abs=0.02)

    def test_blocks_do_not_show(self, monkeypatch: pytest.MonkeyPatch) -> None:
        rng = np.random.default_rng(0)
        signal = tone(440.0, 45.0)  # more frames than one block of 4096
        signal.values[:] += 0.1 * rng.standard_normal(signal.size).astype(np.float32)
        features = LogMel().features(signal)
        assert features.sizes["time"] == 5000
        late = LogMel().features(signal.isel(time=slice(4000 * LogMel().hop_length, None)))
        offset = features.values[:, 4004:4900] - late.values[:, 4:900]
        assert np.abs(offset - np.median(offset)).max() < 1e-3

    @pytest.mark.parametrize("width", [1, 50, 224, 225, 336, 1000])
    def test_windows_cover_every_frame(self, width: int) -> None:
        frontend = LogMel()
        covered = np.zeros(width, dtype=int)
        for window in frontend.windows(width):
            assert window.stop - window.start == min(width, 224)
            covered[window.start : window.stop] += 1
        assert covered.min() >= 1
        assert covered.max() <= 3

    def test_short_windows_are_padded_with_silence(self) -> None:
        frontend = LogMel()
        values = LogMel().features(tone(440.0, 0.5)).values
        padded = cut(values, frontend.windows(values.shape[1])[0], frontend)
        assert padded.shape == (224, 224)
        assert (padded[:, values.shape[1] :] == -80.0).all()


class TestRadiographImage:
    def test_axes_keep_the_physical_extent(self) -> None:
        features = RadiographImage().features(image(np.random.default_rng(0).random((300, 400)), 0.5, "mm"))
        assert features.shape == (224, 224)
        assert features["x"].attrs["units"] == "mm"
        step = float(features["x"][1] - features["x"][0])
        assert float(features["x"][0]) - step / 2 == pytest.approx(0.0, abs=1e-9)
        assert float(features["x"][-1]) + step / 2 == pytest.approx(200.0)
        assert float(features["y"][-1]) < 150.0

    def test_contrast_and_brightness_of_the_file_do_not_matter(self) -> None:
        values = np.random.default_rng(1).random((256, 256)).astype(np.float32)
        first = RadiographImage().features(image(values))
        second = RadiographImage().features(image(values * 4000 - 1000))
        np.testing.assert_allclose(first.values, second.values, atol=1e-3)

    def test_wrong_parameters_name_the_front_end(self) -> None:
        with pytest.raises(ValueError, match="radiograph"):
            build_frontend({"kind": "radiograph", "sise": 3})
        with pytest.raises(ValueError, match="log-mel"):
            build_frontend({"kind": "wavelet"})


class Linear(nn.Module):
    """logit 1 = Σ w·x, logit 0 = 0."""

    def __init__(self, weights: np.ndarray) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.from_numpy(weights.astype(np.float32)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        score = (x[:, 0] * self.weights).sum(dim=(1, 2))
        return torch.stack([torch.zeros_like(score), score], dim=1)


class TestTorchBackend:
    def test_the_gradient_of_a_linear_model_is_its_weights(self) -> None:
        weights = np.arange(12.0).reshape(3, 4)
        answer = TorchBackend(Linear(weights), plain, (3, 4)).gradients(np.ones((2, 3, 4), np.float32), 1)
        np.testing.assert_array_equal(answer.inputs, np.stack([weights, weights]).astype(np.float32))
        np.testing.assert_array_equal(answer.logits[:, 1], [66.0, 66.0])

    def test_one_logit_is_a_two_class_model(self) -> None:
        network = nn.Sequential(nn.Flatten(), nn.Linear(4, 1))
        backend = TorchBackend(network, plain, (2, 2))
        x = np.random.default_rng(0).random((3, 2, 2)).astype(np.float32)
        logits = backend.logits(x)
        assert backend.one_logit and backend.classes == 2
        np.testing.assert_array_equal(logits[:, 0], -logits[:, 1])
        np.testing.assert_array_equal(backend.gradients(x, 0).inputs, -backend.gradients(x, 1).inputs)
        raw = network(torch.from_numpy(x)).detach().numpy()[:, 0]
        classifier = Classifier(CARD, RadiographImage(2), backend)
        np.testing.assert_allclose(classifier.probabilities(logits)[:, 1], 1 / (1 + np.exp(-raw)), rtol=1e-6)

    def test_an_in_place_activation_does_not_change_what_is_captured(self) -> None:
        torch.manual_seed(0)
        network = nn.Sequential(
            nn.Conv2d(1, 2, 3, padding=1), nn.BatchNorm2d(2), nn.ReLU(inplace=True), nn.Conv2d(2, 2, 1),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        ).eval()  # fmt: skip
        backend = TorchBackend(network, plain, (4, 4))
        x = np.random.default_rng(0).standard_normal((1, 4, 4)).astype(np.float32)
        assert backend.layers() == ["0", "2", "3"]  # the in-place activation stands for the layer before it
        values = backend.gradients(x, 1, "0").activations
        np.testing.assert_allclose(values, network[0](torch.from_numpy(x)[:, None]).detach().numpy(), rtol=1e-5)
        activated = backend.gradients(x, 1, "2").activations
        assert activated is not None and activated.min() >= 0.0

    def test_the_last_grid_of_mobilenetv2_is_the_one_after_its_last_activation(self) -> None:
        from xai_panel.models.architectures import build

        backend = TorchBackend(
            build("torchvision:mobilenet_v2", 2), lambda x: x[:, None].expand(-1, 3, -1, -1), (64, 64)
        )
        assert backend.default_layer() == "features.18.2"

    def test_a_module_that_is_used_twice_stands_for_its_last_use(self) -> None:
        class Shared(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.first, self.second, self.relu = nn.Conv2d(1, 2, 1), nn.Conv2d(2, 2, 1), nn.ReLU()

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return self.relu(self.second(self.relu(self.first(x)))).mean(dim=(2, 3))

        torch.manual_seed(0)
        network = Shared()
        backend = TorchBackend(network, plain, (3, 3))
        assert backend.layers() == ["first", "second", "relu"]
        x = np.random.default_rng(0).standard_normal((1, 3, 3)).astype(np.float32)
        answer = backend.gradients(x, 0, "relu")
        with torch.no_grad():
            inner = network.relu(network.first(torch.from_numpy(x)[:, None]))
            expected = network.relu(network.second(inner)).numpy()
        np.testing.assert_allclose(answer.activations, expected, rtol=1e-5)
        np.testing.assert_allclose(answer.layer[0, 0], np.full((3, 3), 1 / 9), rtol=1e-5)

    def test_activations_alone_are_those_of_the_whole_pass(self) -> None:
        from xai_panel.models.architectures import build

        torch.manual_seed(0)
        network = build("torchvision:mobilenet_v2", 2)
        backend = TorchBackend(network, lambda x: x[:, None].expand(-1, 3, -1, -1), (64, 64))
        x = np.random.default_rng(0).standard_normal((3, 64, 64)).astype(np.float32)
        for layer in ("features.18.2", "features.10"):
            whole = backend.gradients(x, 1, layer)
            answer = backend.activations(x, layer, 1)
            np.testing.assert_allclose(answer.logits, whole.logits, rtol=1e-5)
            np.testing.assert_allclose(answer.values, whole.activations, rtol=1e-4, atol=1e-6)
            np.testing.assert_allclose(answer.gradients, whole.layer, rtol=1e-3, atol=1e-9)
        predicted = backend.activations(x, "features.18.2")
        assert predicted.target == int(backend.logits(x).mean(axis=0).argmax())
        with pytest.raises(ValueError, match="no layer 'head'"):
            backend.activations(x, "head")

    def test_no_hook_and_no_gradient_stays_behind(self) -> None:
        network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 2))
        backend = TorchBackend(network, plain, (4, 4))
        backend.gradients(np.ones((1, 4, 4), np.float32), 0, "1")
        backend.activations(np.ones((1, 4, 4), np.float32), "1")
        with pytest.raises(ValueError, match="no layer 'head'"):
            backend.gradients(np.ones((1, 4, 4), np.float32), 0, "head")
        assert all(not m._forward_hooks for m in network.modules())
        assert all(p.requires_grad and p.grad is None for p in network.parameters())


class TestCards:
    def test_every_shipped_card_is_complete(self) -> None:
        cards = registry.models()
        assert {"audio-mobilenetv2", "xray-mobilenetv2"} <= {card.id for card in cards}
        for card in cards:
            assert card.limitations and card.not_for and card.caveat and card.metrics and card.license
            assert "command" in card.training
            assert registry.load_model(card.id) is registry.load_model(card.id)

    def test_weights_that_are_not_the_cards_are_refused(self) -> None:
        card = dataclasses.replace(registry.models()[0], digest="0" * 64)
        with pytest.raises(registry.ModelError, match="is not the file of its card"):
            registry._load(card, registry.weights_dir())
        with pytest.raises(registry.ModelError, match="is missing"):
            registry._load(dataclasses.replace(card, weights="none.safetensors"), registry.weights_dir())

    def test_a_keras_file_is_loaded_through_its_card(self, tmp_path: Path) -> None:
        keras = pytest.importorskip("keras", reason="needs the extra «tensorflow»")
        pytest.importorskip("tensorflow", reason="needs the extra «tensorflow»")
        inputs = keras.Input((4, 4, 3))
        network = keras.Model(inputs, keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(inputs)))
        path = tmp_path / "tiny.keras"
        network.save(path)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        card = dataclasses.replace(
            CARD,
            framework="tensorflow",
            frontend={"kind": "radiograph", "size": 4},
            weights=path.name,
            digest=digest,
        )
        classifier = registry._load(card, tmp_path)
        signal = image(np.arange(16.0).reshape(4, 4))
        features = classifier.features(signal)
        channels = [(features.values - m) / s for m, s in zip(IMAGENET_MEAN, IMAGENET_STD, strict=True)]
        expected = network(np.stack(channels, axis=-1)[None].astype(np.float32)).numpy()[0]
        np.testing.assert_allclose(classifier.predict(signal).logits, expected, rtol=1e-4)

    @pytest.mark.parametrize(
        ("change", "field"),
        [({"labels": ("one",)}, "labels"), ({"labels": ("a", "a")}, "labels"), ({"modality": "video"}, "modality"),
         ({"temperature": 0.0}, "temperature"), ({"positive": 2}, "positive"),
         ({"frontend": {}}, "frontend"), ({"framework": "jax"}, "framework")],
    )  # fmt: skip
    def test_a_wrong_field_is_named(self, change: dict, field: str) -> None:
        with pytest.raises(CardError, match=f"«{field}»"):
            dataclasses.replace(CARD, **change)

    def test_an_unknown_field_is_named(self, tmp_path) -> None:
        path = tmp_path / "a.toml"
        path.write_text('id = "a"\nlables = ["x", "y"]\n')
        with pytest.raises(CardError, match="«lables»"):
            read_card(path)

    def test_a_target_is_an_index_or_a_label(self) -> None:
        assert CARD.class_index("yes") == CARD.class_index(1) == 1
        with pytest.raises(ValueError, match="0 = no, 1 = yes"):
            CARD.class_index("maybe")


class TestClassifier:
    def test_the_logit_of_a_recording_is_the_mean_of_its_windows(self) -> None:
        card = dataclasses.replace(CARD, modality="audio", frontend={"kind": "log-mel"}, temperature=2.0)
        weights = np.zeros((224, 224))
        weights[100] = 1 / 224
        classifier = Classifier(card, LogMel(), TorchBackend(Linear(weights), plain, (224, 224)))
        signal = tone(700.0, 10.0)
        prediction = classifier.predict(signal)
        features = classifier.features(signal).values
        expected = [features[100, w.start : w.stop].mean() for w in LogMel().windows(features.shape[1])]
        np.testing.assert_allclose(prediction.window_logits[:, 1], expected, rtol=1e-5)
        assert prediction.logits[1] == pytest.approx(np.mean(expected), rel=1e-5)
        assert prediction.probabilities[1] == pytest.approx(1 / (1 + np.exp(-np.mean(expected) / 2)), rel=1e-5)
        assert prediction.window_times[0, 0] == 0.0
        assert prediction.window_times[-1, 1] == pytest.approx(10.0, abs=0.02)

    def test_a_signal_of_another_modality_is_refused(self) -> None:
        classifier = Classifier(CARD, RadiographImage(4), TorchBackend(Linear(np.ones((4, 4))), plain, (4, 4)))
        with pytest.raises(ValueError, match=r"tiny takes radiograph signals, «tone.wav» is audio"):
            classifier.predict(tone(440.0, 1.0))


def test_torchvision_imports_beside_any_build_of_torch() -> None:
    code = "from xai_panel.models._torchvision import torchvision_models as t; print(t().vgg16.__name__, t() is t())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["vgg16", "True"]
