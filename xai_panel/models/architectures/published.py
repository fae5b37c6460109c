"""State dicts as their authors published them, made into networks with our order of classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn


def load_published(network: nn.Module, state: Mapping[str, torch.Tensor], order: Sequence[int]) -> None:
    """Load a state dict whose classes are in another order than ours.

    Parameters
    ----------
    network: its last linear layer gives the logits
    state: every parameter of the network, and no other
    order: logit k of the network becomes logit order[k] of the publication. The published AASIST has bona fide at
        index 1, so that (1, 0) gives («bona fide», «spoof»)

    Raises `ValueError` when `order` is no permutation of the classes, torch's `RuntimeError` for keys or shapes that
    differ.
    """
    head, layer = [(name, module) for name, module in network.named_modules() if isinstance(module, nn.Linear)][-1]
    if sorted(order) != list(range(layer.out_features)):
        raise ValueError(f"order {tuple(order)}: expected the indices 0…{layer.out_features - 1}, each once")
    ours = (f"{head}.weight", f"{head}.bias")
    network.load_state_dict({name: value[list(order)] if name in ours else value for name, value in state.items()})
