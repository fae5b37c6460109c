"""Networks by name, with a head of the wanted number of outputs and without trained weights."""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from importlib import import_module
from types import MethodType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import nn


def build(architecture: str, outputs: int) -> nn.Module:
    """An untrained network with this number of outputs.

    architecture: "torchvision:<name>", any of its classifiers; "xai_panel:<name>", one of the project's own;
    "torchxrayvision:densenet121"; "python:<package.module>:<factory>", a function of your own that takes the number of
    outputs and returns a `torch.nn.Module`. Raises `ValueError` for anything else; it names what is accepted.
    """
    source, _, name = architecture.partition(":")
    if source not in SOURCES or not name:
        accepted = ", ".join(f"{source}:<name>" for source in SOURCES)
        raise ValueError(f"architecture {architecture!r} is unknown; expected {accepted}")
    return SOURCES[source](name, outputs)


def build_keras(architecture: str, outputs: int) -> Any:
    """An untrained Keras model of the project's own, "xai_panel:<name>"; raises `ValueError` for another name."""
    source, _, name = architecture.partition(":")
    _check("xai_panel", name if source == "xai_panel" else architecture, KERAS)
    return getattr(import_module(f"{__name__}.keras_networks"), KERAS[name])(outputs)


def _torchvision(name: str, outputs: int) -> nn.Module:
    """A classifier of torchvision.

    DenseNet rectifies its last activation in a function, which hooks cannot see: here a layer does, and the network
    goes on as published. Auxiliary heads serve only
    training and are left out. Residual branches start at 0, as in Goyal et al. 2017.
    """
    from torch import nn

    from xai_panel.models._torchvision import torchvision_models

    models = torchvision_models()
    _check("torchvision", name, models.list_models(module=models))
    options: dict[str, bool] = {}
    if name in ("googlenet", "inception_v3"):
        options = {"aux_logits": False, "init_weights": False}
    elif name.startswith(("resnet", "resnext", "wide_resnet")):
        options = {"zero_init_residual": True}
    network: nn.Module = models.get_model(name, weights=None, num_classes=outputs, **options)
    if isinstance(network, models.DenseNet):
        network.features.add_module("relu5", nn.ReLU())
        network.forward = MethodType(_rectified, network)
    return network


def _rectified(densenet: Any, x: torch.Tensor) -> torch.Tensor:
    """The forward pass of a DenseNet whose features end with a rectifier."""
    logits: torch.Tensor = densenet.classifier(densenet.features(x).mean(dim=(2, 3)))
    return logits


def _own(name: str, outputs: int) -> nn.Module:
    _check("xai_panel", name, OWN)
    module, _, function = OWN[name].partition(":")
    network: nn.Module = getattr(import_module(f"{__name__}.{module}"), function)(outputs)
    return network


def _torchxrayvision(name: str, outputs: int) -> nn.Module:
    """The DenseNet of TorchXRayVision (Cohen et al. 2022): torchvision's with one channel, by the same parameter names.

    It answers with logits: the library's rescaling (`op_norm`) is no part of it.
    """
    from torch import nn

    _check("torchxrayvision", name, ["densenet121"])
    network = _torchvision("densenet121", outputs)
    network.features.conv0 = nn.Conv2d(1, 64, 7, stride=2, padding=3, bias=False)  # type: ignore[union-attr]
    return network


def _python(name: str, outputs: int) -> nn.Module:
    from torch import nn

    module, _, function = name.partition(":")
    try:
        factory = getattr(import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f"architecture python:{name} cannot be imported ({error}); expected python:package.module:factory"
        ) from error
    network = factory(outputs)
    if not isinstance(network, nn.Module):
        raise ValueError(
            f"architecture python:{name} returns a {type(network).__name__}; a torch.nn.Module is expected"
        )
    return network


def _check(source: str, name: str, known: list[str] | dict[str, str]) -> None:
    if name not in known:
        near = get_close_matches(name, known, n=3, cutoff=0.4)
        raise ValueError(
            f"architecture {source}:{name} is unknown; {'did you mean' if near else 'there are:'} "
            + ", ".join(f"{source}:{one}" for one in (near or known))
        )


#: The project's own networks: module, and class or function in it, below this package.
OWN = {
    "custom-cnn": "custom_cnn:CustomCNN",
    "xception": "xception:Xception",
    "vgg16-pooled": "pooled:vgg16",
    "alexnet-pooled": "pooled:alexnet",
    "aasist": "aasist:aasist",
    "aasist-l": "aasist:aasist_l",
    "tssdnet-1d": "tssdnet:res_tssdnet_1d",
    "tssdnet-2d": "tssdnet:res_tssdnet_2d",
    "inc-tssdnet": "tssdnet:inc_tssdnet",
}

#: The project's own Keras models: function in `keras_networks`.
KERAS = {"keras-length-free": "length_free", "keras-picture": "picture"}

SOURCES: dict[str, Callable[[str, int], nn.Module]] = {
    "torchvision": _torchvision,
    "xai_panel": _own,
    "torchxrayvision": _torchxrayvision,
    "python": _python,
}
