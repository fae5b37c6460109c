"""What a feature is replaced by when it is «absent».

An explanation says «this made the difference, compared with …», and the baseline is that comparison; zero is an
accident of the feature scale. Three kinds:

- `floor`: silence or black, the value the front end pads with.
- `mean`: the mean of the window, the same everywhere.
- `blur`: the window itself without its fine structure.

The defaults are chosen by what absence means in each modality. In a recording it is silence, and the floor is exactly
that: no other value lies inside the data for every time-frequency cell. In a radiograph nothing is ever absent: black
is a hole with sharp edges that no body has, and a multiplication by zero would hide the dark lungs, which argue for
«normal»; a blur keeps diffuse opacities, which are the finding. So the default there is the mean gray of the
radiograph.

Source: Sturmfels, Lundberg & Lee, «Visualizing the Impact of Feature Attribution Baselines», Distill 2020.
"""

from __future__ import annotations

import numpy as np

KINDS = ("floor", "mean", "blur")


def default_kind(dims: tuple[str, ...]) -> str:
    """The kind of baseline for features with these dimension names."""
    return "floor" if "frequency" in dims else "mean"


def baseline(window: np.ndarray, kind: str, floor: float) -> np.ndarray:
    """Baseline of a window.

    Parameters: window (H, W) in feature units, kind one of `KINDS`, floor in feature units (silence, black).
    Returns (H, W) float32. Raises ValueError for another kind.
    """
    if kind == "floor":
        return np.full_like(window, floor, dtype=np.float32)
    if kind == "mean":
        return np.full_like(window, window.mean(dtype=np.float64), dtype=np.float32)
    if kind == "blur":
        from scipy.ndimage import gaussian_filter

        sigma = [size / 10 for size in window.shape]  # details up to a fifth of the window disappear, its layout stays
        return gaussian_filter(window.astype(np.float32), sigma, mode="nearest")
    raise ValueError(f"baseline {kind!r}: not known; accepted: {', '.join(KINDS)}")
