"""The handful of questions that a framework answers; everything else is written once, on NumPy arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Gradients:
    """Answers of one forward and backward pass over a batch of n windows.

    logits: (n, classes); inputs: d logit[target] / d features, like the batch;
    activations and layer: values of the target layer and d logit[target] / d values, (n, channels, h, w), or None
    when no layer was asked for.
    """

    logits: Array
    inputs: Array
    activations: Array | None = None
    layer: Array | None = None


@dataclass(frozen=True)
class Activations:
    """Answers of one forward pass over a batch of n windows, and of the way back from the logit to one layer.

    logits: (n, classes); target: the class index; values and gradients: of the layer and d logit[target] / d values,
    (n, channels, h, w).
    """

    logits: Array
    target: int
    values: Array
    gradients: Array


class Backend(Protocol):
    """A network behind its front end. Batches are windows of features, (n, H, W) or (n, C, H, W), in their units.

    A network with a single logit z is presented as the two-class model with logits (−z, +z); `one_logit` tells, because
    its probability is sigmoid(z), not the softmax of that pair. A backend that is not `differentiable` has forward
    passes only: no gradients, and no layers. `batch` is the number of windows that one forward pass has memory for;
    larger batches are answered, too, but take their time.
    """

    framework: str
    differentiable: bool
    classes: int
    one_logit: bool
    batch: int

    def logits(self, batch: Array) -> Array:
        """Logits (n, classes); forward only."""
        ...

    def gradients(self, batch: Array, target: int, layer: str | None = None) -> Gradients:
        """One forward and backward pass from the target's logit. Raises `ValueError` for an unknown layer."""
        ...

    def activations(self, batch: Array, layer: str, target: int | None = None) -> Activations:
        """One forward pass, and back from the target's logit to the layer only, which costs next to nothing.

        target None: the class with the highest mean logit over the batch. Raises `ValueError` for an unknown layer.
        """
        ...

    def layers(self) -> list[str]:
        """Names of the layers whose output has a spatial grid, in forward order; over time alone, a grid of one row."""
        ...

    def default_layer(self) -> str:
        """The last layer with a spatial grid, after its activation. Raises `ValueError` that says why there is none."""
        ...
