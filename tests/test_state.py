"""State dicts as people export them: wrappers, prefixes, heads, and files that must not be trusted."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from xai_panel.models import registry
from xai_panel.models.architectures import build
from xai_panel.models.card import Card, CardError
from xai_panel.models.errors import CodeError, ModelError
from xai_panel.models.registry import read_keras
from xai_panel.models.state import network_for, read_state

CNN = "xai_panel:custom-cnn"
LABELS = ("bona fide", "spoof")


def weights(outputs: int = 2, architecture: str = CNN) -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    return build(architecture, outputs).state_dict()


def card(path: Path, **changes) -> Card:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    values = Card(
        id="tiny", title="Tiny", summary="", modality="audio", framework="torch", architecture=CNN, labels=LABELS,
        frontend={"kind": "log-mel", "bands": 16, "frames": 16, "mean": [0.5], "std": [0.5]},
        weights=path.name, digest=digest,
    )  # fmt: skip
    return dataclasses.replace(values, **changes)


def logits(network: nn.Module) -> np.ndarray:
    with torch.no_grad():
        return network.eval()(torch.ones(1, 1, 16, 16)).numpy()


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"epoch": 3, "state_dict": state, "optimizer": {"lr": 0.1}},
        lambda state: {"model_state_dict": state},
        lambda state: {f"module.{name}": value for name, value in state.items()},
        lambda state: {"state_dict": {f"model._orig_mod.{name}": value for name, value in state.items()}},
        lambda state: {name: value.half() if value.is_floating_point() else value for name, value in state.items()},
        lambda state: {name: value for name, value in state.items() if "num_batches" not in name},
    ],
    ids=["plain", "state_dict", "model_state_dict", "module.", "prefixes", "half", "without counts"],
)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_every_wrapper_gives_the_same_network(tmp_path, wrap, suffix):
    expected, content = build(CNN, 2), wrap(weights())
    expected.load_state_dict(weights())
    path = tmp_path / f"w{suffix}"
    if suffix == ".pth":
        torch.save(content, path)
    elif all(isinstance(value, torch.Tensor) for value in content.values()):
        save_file(content, path)
    else:
        return
    network = network_for(CNN, LABELS, read_state(path), path.name)
    assert all(value.dtype == torch.float32 for value in network.parameters())
    np.testing.assert_allclose(logits(network), logits(expected), atol=2e-3)  # half precision


def test_a_single_logit_is_found_by_the_shape_of_the_last_layer(tmp_path):
    torch.save(weights(1), tmp_path / "w.pt")
    classifier = registry._load(card(tmp_path / "w.pt"), tmp_path)
    assert classifier.backend.one_logit and classifier.backend.classes == 2
    answer = classifier.backend.logits(np.zeros((1, 16, 16), np.float32))
    np.testing.assert_array_equal(answer[:, 0], -answer[:, 1])
    np.testing.assert_allclose(classifier.probabilities(answer)[0, 1], 1 / (1 + np.exp(-answer[0, 1])), rtol=1e-5)
    torch.save(weights(2), tmp_path / "w.pt")
    assert not registry._load(card(tmp_path / "w.pt"), tmp_path).backend.one_logit


def test_a_full_head_is_loaded_into_the_network_that_has_it():
    state = weights(1, "torchvision:alexnet")
    network = network_for("xai_panel:alexnet-pooled", LABELS, state, "w.pt")
    assert network.classifier[1].out_features == 4096 and network.classifier[6].out_features == 1
    pooled = network_for("xai_panel:alexnet-pooled", LABELS, weights(2, "xai_panel:alexnet-pooled"), "w.pt")
    assert pooled.classifier[1].in_features == 256


def test_what_plays_no_part_in_a_verdict_is_left_out():
    state = {**weights(18, "torchxrayvision:densenet121"), "op_threshs": torch.zeros(18)}
    labels = tuple(f"finding {k}" for k in range(18))
    assert network_for("torchxrayvision:densenet121", labels, state, "w.pt").classifier.out_features == 18


def test_outputs_that_were_never_trained_are_not_there(tmp_path):
    state = weights(5)
    torch.save(state, tmp_path / "w.pt")
    labels, chosen = ("effusion", "pneumonia", "edema"), (4, 0, 2)
    found = registry._load(card(tmp_path / "w.pt", labels=labels, outputs=chosen, multi_label=True), tmp_path)
    features = np.random.default_rng(0).random((2, 16, 16), np.float32)
    every = card(tmp_path / "w.pt", labels=tuple("abcde"))
    expected = registry._load(every, tmp_path).backend.logits(features)[:, list(chosen)]
    answer = found.backend.logits(features)
    np.testing.assert_allclose(answer, expected, rtol=1e-5)
    np.testing.assert_allclose(found.probabilities(answer), 1 / (1 + np.exp(-expected.astype(float))), rtol=1e-5)
    one = registry._load(card(tmp_path / "w.pt", outputs=(3,)), tmp_path)
    assert one.backend.one_logit  # a single finding: it is there, or it is not
    with pytest.raises(ModelError, match=r"field «outputs» of the card is \[0, 9\]; its outputs are 0…4"):
        registry._load(card(tmp_path / "w.pt", outputs=(0, 9)), tmp_path)
    with pytest.raises(CardError, match="field «outputs» has 2 entries"):
        card(tmp_path / "w.pt", labels=labels, outputs=(0, 1))


def test_the_first_keys_that_differ_are_named():
    state = weights()
    renamed = {name.replace("features.0.", "conv1."): value for name, value in state.items()}
    with pytest.raises(ModelError, match=r"w.pt does not fit .*: missing «features.0.weight»; not known «conv1"):
        network_for(CNN, LABELS, renamed, "w.pt")
    other = {**state, "features.0.weight": torch.zeros(32, 3, 3, 3)}
    with pytest.raises(ModelError, match=r"«features.0.weight» is \(32, 3, 3, 3\), \(32, 1, 3, 3\) is expected"):
        network_for(CNN, LABELS, other, "w.pt")
    with pytest.raises(ModelError, match=r"missing «features.0.weight», .* and \d+ more"):
        network_for(CNN, LABELS, {"classifier.weight": torch.zeros(2, 128)}, "w.pt")
    with pytest.raises(
        ModelError, match=r"«classifier.weight» has 5 outputs, field «labels» of the card names 2: bona"
    ):
        network_for(CNN, LABELS, weights(5), "w.pt")
    with pytest.raises(ModelError, match="has 1 outputs, field «labels» of the card names 3"):
        network_for(CNN, ("a", "b", "c"), weights(1), "w.pt")


def test_files_that_hold_no_state_dict_are_named(tmp_path):
    for name, content in {"number.pt": 3, "empty.pt": {}, "list.pt": [torch.zeros(1)]}.items():
        torch.save(content, tmp_path / name)
        with pytest.raises(ModelError, match=f"{name} holds a .* a state dict is expected"):
            read_state(tmp_path / name)
    torch.save({"epoch": 3, "loss": 0.1}, tmp_path / "a.pt")
    with pytest.raises(ModelError, match="entry «epoch» is a int"):
        read_state(tmp_path / "a.pt")
    for name in ("b.pt", "b.safetensors"):
        (tmp_path / name).write_bytes(b"no weights at all")
        with pytest.raises(ModelError, match=f"{name} "):
            read_state(tmp_path / name)


class Malicious:
    """Makes a folder when it is read from a pickle."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_malicious_pickle_is_refused_and_does_not_run(tmp_path):
    mark = tmp_path / "it ran"
    torch.save({"state_dict": weights(), "payload": Malicious(mark)}, tmp_path / "w.pt")
    with pytest.raises(CodeError, match=r"w.pt is more than weights: it runs \w+.mkdir when it is read; save"):
        read_state(tmp_path / "w.pt")
    with pytest.raises(CodeError):
        registry._load(card(tmp_path / "w.pt"), tmp_path)
    assert not mark.exists()
    read_state(tmp_path / "w.pt", allow_code=True)  # the file does what it is said to do
    assert mark.exists()


def test_modules_and_programs_are_read_only_where_their_code_is_allowed(tmp_path):
    network = build(CNN, 2)
    torch.save(network, tmp_path / "module.pt")
    torch.jit.script(network).save(tmp_path / "script.pt")
    with pytest.raises(CodeError, match=r"it runs xai_panel.models.architectures.custom_cnn.CustomCNN"):
        read_state(tmp_path / "module.pt")
    with pytest.raises(CodeError, match=r"script.pt is a TorchScript program, which runs code; .*state_dict"):
        read_state(tmp_path / "script.pt")
    for name in ("module.pt", "script.pt"):
        same = network_for(CNN, LABELS, read_state(tmp_path / name, allow_code=True), name)
        np.testing.assert_allclose(logits(same), logits(network), atol=1e-6)
        allowed = registry._load(card(tmp_path / name, runs_code=True), tmp_path)
        assert allowed.backend.classes == 2


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_lambda_layers_are_read_only_where_their_code_is_allowed(tmp_path, suffix):
    pytest.importorskip("tensorflow", reason="needs the extra «tensorflow»")
    keras = pytest.importorskip("keras", reason="needs the extra «tensorflow»")
    layers = [keras.Input((4,)), keras.layers.Lambda(lambda x: 2 * x), keras.layers.Dense(2)]
    path = tmp_path / f"w{suffix}"
    keras.Sequential(layers).save(path)
    with pytest.raises(CodeError, match=f"w{suffix} holds Python code in a Lambda layer"):
        read_keras(path)
    assert read_keras(path, allow_code=True).output_shape == (None, 2)
    path.write_bytes(b"nothing")
    with pytest.raises(ModelError, match="cannot be read as a Keras file"):
        read_keras(path)


def test_another_digest_is_an_error(tmp_path):
    torch.save(weights(), tmp_path / "w.pt")
    right = card(tmp_path / "w.pt")
    torch.save(weights(1), tmp_path / "w.pt")
    with pytest.raises(ModelError, match=r"w.pt is not the file of its card"):
        registry._load(right, tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": "torchvision:resnet5"}, "field «architecture».* did you mean"),
        ({"frontend": {"kind": "log-mel", "hop": 3}}, "field «frontend».*«hop»"),
        ({"frontend": {"kind": "radiograph"}}, "field «frontend».*radiograph signals, field «modality» says audio"),
    ],
)
def test_a_wrong_field_of_the_card_is_named(tmp_path, changes, message):
    torch.save(weights(), tmp_path / "w.pt")
    with pytest.raises(CardError, match=message):
        registry._load(card(tmp_path / "w.pt", **changes), tmp_path)
