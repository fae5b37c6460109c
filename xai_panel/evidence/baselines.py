"""What a feature is replaced by when it is «absent».

An explanation says «this made the difference, compared with …», and the baseline is that comparison; zero is an
accident of the feature scale. Three kinds:

- `floor`: silence or black, the value the front end pads with.
- `mean`: the mean of the window, the same everywhere.
- `blur`: the window itself without its fine structure.

The defaults are chosen by what absence means in each modality. In a recording it is silence, and the floor is exactly
that, in every time-frequency cell. In a radiograph nothing is ever absent: black is a hole with sharp edges that no
body has, and the mean gray is about the gray of an opacity in the lung, so that the finding itself would count as
absent. A blur wider than most opacities takes them away and leaves the layout of the thorax; it weakens only those
that fill a lung, and for these the floor is the better question. Images are asked like radiographs.

Sources: Fong & Vedaldi 2017 (blur); Sturmfels, Lundberg & Lee, «Visualizing the Impact of Feature Attribution
Baselines», Distill 2020.
"""

from __future__ import annotations

import numpy as np

KINDS = ("floor", "mean", "blur")


def default_kind(dims: tuple[str, ...]) -> str:
    """The kind of baseline for features with these dimension names."""
    return "floor" if "frequency" in dims else "blur"


def baseline(window: np.ndarray, kind: str, floor: float) -> np.ndarray:
    """Baseline of a window.

    Parameters: window (H, W) or (C, H, W) in feature units, kind one of `KINDS`, floor in feature units (silence,
    black). Returns the like float32, each color with a mean or a blur of its own; of a complex window complex64, the
    baseline of its magnitudes with its own phases. Raises ValueError for another kind.
    """
    if np.iscomplexobj(window):
        magnitude = np.abs(window)
        phase = np.divide(window, magnitude, out=np.ones_like(window), where=magnitude > 0)
        return (baseline(magnitude, kind, floor) * phase).astype(np.complex64)
    if kind == "floor":
        return np.full_like(window, floor, dtype=np.float32)
    if kind == "mean":
        return np.full_like(window, window.mean(axis=(-2, -1), keepdims=True, dtype=np.float64), dtype=np.float32)
    if kind == "blur":
        from scipy.ndimage import gaussian_filter

        sigma = [size / 10 for size in window.shape[-2:]]  # leaves a sixth of a spot as wide as a tenth of the window
        return gaussian_filter(window.astype(np.float32), sigma, mode="nearest", axes=(-2, -1))
    raise ValueError(f"baseline {kind!r}: not known; accepted: {', '.join(KINDS)}")
