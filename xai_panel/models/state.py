"""State dicts of PyTorch as people have them: read without running code, and put into the network that they fit."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xai_panel.models.errors import CodeError, ModelError

if TYPE_CHECKING:
    from torch import Tensor, nn

#: What training scripts wrap a state dict in.
WRAPPERS = ("state_dict", "model_state_dict", "model")
#: What `DataParallel`, Lightning and `torch.compile` put before every name.
PREFIXES = ("module.", "model.", "_orig_mod.")
#: A checkpoint with the fully connected head of 4096 is loaded into the network that has it.
FULL_HEADS = {
    "xai_panel:vgg16-pooled": "torchvision:vgg16",
    "xai_panel:alexnet-pooled": "torchvision:alexnet",
}


def read_state(path: Path, allow_code: bool = False) -> dict[str, Tensor]:
    """The state dict in a safetensors file or a PyTorch file (`.pt`, `.pth`, …); floating point values as float32.

    allow_code: also read pickled modules and TorchScript, which run whatever code their author put into them.
    Raises `CodeError` when the file needs code and it is not allowed, `ModelError` when it holds no state dict.
    """
    import torch

    content = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path, allow_code)
    if isinstance(content, torch.nn.Module):
        content = content.state_dict()
    while isinstance(content, dict):
        inner = next((content[name] for name in WRAPPERS if isinstance(content.get(name), dict)), None)
        if inner is None:
            break
        content = inner
    if not isinstance(content, dict) or not content:
        raise ModelError(f"{path.name} holds a {type(content).__name__}; a state dict is expected: {REMEDY}")
    for name, value in content.items():
        if not isinstance(value, torch.Tensor):
            raise ModelError(
                f"{path.name}: entry «{name}» is a {type(value).__name__}; a state dict with tensors only, or one "
                f"below {' or '.join(WRAPPERS)}, is expected: {REMEDY}"
            )
    return {
        str(name): value.detach().float() if value.is_floating_point() else value.detach()
        for name, value in content.items()
    }


REMEDY = "torch.save(network.state_dict(), «file.pth»)"


def _read_safetensors(path: Path) -> Any:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise ModelError(f"{path.name} is no safetensors file ({error})") from error


def _read_torch(path: Path, allow_code: bool) -> Any:
    import pickle

    import torch

    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            script = any(name.endswith("/constants.pkl") for name in archive.namelist())
        if script:
            if not allow_code:
                raise CodeError(f"{path.name} is a TorchScript program, which runs code; save its weights: {REMEDY}")
            return torch.jit.load(path, map_location="cpu")
    try:
        return torch.load(path, map_location="cpu", weights_only=not allow_code)
    except pickle.UnpicklingError as error:
        wanted = re.search(r"GLOBAL (\S+)", str(error))
        if wanted is None or allow_code:
            raise ModelError(f"{path.name} cannot be read as a PyTorch file: {_first_line(error)}") from error
        raise CodeError(
            f"{path.name} is more than weights: it runs {wanted[1]} when it is read; save its weights: {REMEDY}"
        ) from error
    except (RuntimeError, ValueError, EOFError, OSError, AttributeError, ImportError) as error:
        raise ModelError(f"{path.name} cannot be read as a PyTorch file: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def network_for(
    architecture: str, labels: tuple[str, ...], state: dict[str, Tensor], name: str, chosen: tuple[int, ...] = ()
) -> nn.Module:
    """The network of a card with the weights of a state dict.

    What the file holds decides between variants of an architecture: a full or a pooled head, one logit or two classes.
    Parameters: architecture and labels of the card; name of the file, for messages; chosen, the outputs that the labels
    name, empty for all.
    Raises `ValueError` for an unknown architecture, and `ModelError` that names the first keys that differ.
    """
    from xai_panel.models.architectures import build

    if architecture in FULL_HEADS and any(key.endswith("classifier.6.weight") for key in state):
        architecture = FULL_HEADS[architecture]
    network = build(architecture, len(labels))
    state = _fitting(state, network)
    head = _head(network)
    outputs = state[head].shape[0] if head in state and state[head].ndim else len(labels)
    if chosen and head in state:
        if not all(0 <= one < outputs for one in chosen):
            raise ModelError(f"{name}: field «outputs» of the card is {list(chosen)}; its outputs are 0…{outputs - 1}")
        bias = head.removesuffix("weight") + "bias"
        state |= {key: state[key][list(chosen)] for key in (head, bias) if key in state}
        outputs = len(chosen)
    if outputs == 1 and len(labels) == 2:
        network = build(architecture, 1)
    elif outputs != len(labels):
        raise ModelError(
            f"{name}: its last layer «{head}» has {outputs} outputs, field «labels» of the card names {len(labels)}: "
            + ", ".join(labels)
        )
    expected = network.state_dict()
    differing = _differences(expected, state)
    if differing:
        raise ModelError(f"{name} does not fit {architecture}: {'; '.join(differing)}")
    network.load_state_dict(state)
    return network


def _fitting(state: dict[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """The state dict by the network's names: without prefixes of wrappers, and without what plays no part in a verdict.

    That is the auxiliary head of Inception and GoogLeNet, and the operating points of TorchXRayVision.
    """
    expected = network.state_dict()
    prefix = next((p for p in PREFIXES if all(key.startswith(p) for key in state)), None)
    while prefix is not None and not any(key.startswith(prefix) for key in expected):
        state = {key.removeprefix(prefix): value for key, value in state.items()}
        prefix = next((p for p in PREFIXES if all(key.startswith(p) for key in state)), None)
    idle = ("AuxLogits.", "aux1.", "aux2.", "op_threshs")
    return {key: value for key, value in state.items() if key in expected or not key.startswith(idle)}


def _head(network: nn.Module) -> str:
    """Name of the weight of the last linear or convolutional layer."""
    from torch import nn

    layers = [name for name, module in network.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)]
    return f"{layers[-1]}.weight" if layers else ""


def _differences(expected: dict[str, Any], found: dict[str, Any]) -> list[str]:
    def first(names: list[str]) -> str:
        return ", ".join(f"«{name}»" for name in names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")

    # old checkpoints do not count the batches of their batch normalisation, and nothing depends on it
    missing = [name for name in expected if name not in found and not name.endswith("num_batches_tracked")]
    unknown = [name for name in found if name not in expected]
    other = [name for name in expected if name in found and expected[name].shape != found[name].shape]
    return [
        *([f"missing {first(missing)}"] if missing else []),
        *([f"not known {first(unknown)}"] if unknown else []),
        *(f"«{name}» is {tuple(found[name].shape)}, {tuple(expected[name].shape)} is expected" for name in other[:3]),
    ]
