"""Colors: one diverging and one uniform palette for maps, one style per method for lines.

Signed maps are drawn blue – neutral – vermilion (blue pushes away from the target, vermilion towards it), unsigned ones
blue – magenta – yellow. Both come from colorcet and keep their order for the common color vision deficiencies
(P. Kovesi, «Good Colour Maps: How to Design Them», 2015; palettes D9 and L8).
"""

from __future__ import annotations

from collections.abc import Iterable

import colorcet
import numpy as np
from bokeh.models import LinearColorMapper
from numpy.typing import ArrayLike

SIGNS = ("both", "toward", "away")

DIVERGING: list[str] = list(colorcet.CET_D9)
SEQUENTIAL: list[str] = list(colorcet.CET_L8)
GRAY: list[str] = list(colorcet.CET_L1)

TOWARD = DIVERGING[-1]
AWAY = DIVERGING[0]
CURSOR = "#d6249f"  # on neither palette, seen on black, gray and white
PLAYHEAD = "#12a150"
OPAQUE_AT = 0.75  # share of the range at which an overlay hides what is under it completely


def overlay(palette: Iterable[str], *, signed: bool, sign: str = "both") -> list[str]:
    """RGBA variant `#rrggbbaa` of a palette that is transparent where the map is zero; alpha grows with |value|.

    `sign` leaves only one half of a signed palette visible: "toward" the target, or "away" from it. For unsigned maps
    every value counts as towards the target. Raises `ValueError` for another sign.
    """
    if sign not in SIGNS:
        raise ValueError(f"sign {sign!r} is unknown; one of {', '.join(SIGNS)} is expected")
    colors = list(palette)
    position = np.linspace(-1.0 if signed else 0.0, 1.0, len(colors))
    alpha = np.clip(np.abs(position) / OPAQUE_AT, 0.0, 1.0)
    if sign == "toward":
        alpha[position < 0] = 0.0
    elif sign == "away":
        alpha[position >= 0] = 0.0
    return [_with_alpha(color, a) for color, a in zip(colors, alpha, strict=True)]


def palette(*, signed: bool, transparent: bool = False, sign: str = "both") -> list[str]:
    """The palette of a map: opaque for a map on its own, transparent at zero for a map laid over its signal."""
    colors = DIVERGING if signed else SEQUENTIAL
    return overlay(colors, signed=signed, sign=sign) if transparent else list(colors)


def value_range(values: ArrayLike, *, signed: bool, share: float = 0.995) -> tuple[float, float]:
    """Color range (low, high) of a map: symmetric about zero when signed, from zero when not; never empty.

    `share` of the values lie within it; the few beyond get the end color. Maps of single pixels have tails so long that
    a range up to the largest value would show nothing else. NaN counts for nothing; a map that is zero but for fewer
    values than that reaches up to its largest, one of zeros gets the range of a map that reaches 1.
    """
    magnitude = np.abs(np.asarray(values, dtype=np.float64).ravel())
    magnitude = magnitude[np.isfinite(magnitude)]
    reach = float(np.quantile(magnitude, share)) if magnitude.size else 0.0
    reach = reach or float(magnitude.max(initial=0.0)) or 1.0
    return (-reach if signed else 0.0), reach


def color_mapper(
    low: float, high: float, *, signed: bool, transparent: bool = False, sign: str = "both"
) -> LinearColorMapper:
    """Bokeh color mapper of a map over [low, high]; NaN is transparent."""
    return LinearColorMapper(
        palette=palette(signed=signed, transparent=transparent, sign=sign), low=low, high=high, nan_color="#00000000"
    )


# One hue per family of methods, so that a family is seen at a glance; within it lightness and dashes tell methods apart
# (hues after Okabe & Ito 2008; every tone has contrast on white and on near-black).
METHOD_STYLES: dict[str, tuple[str, str]] = {
    "saliency": ("#0a7abf", "solid"),
    "input-x-gradient": ("#0a7abf", "dashed"),
    "smoothgrad": ("#3fa7e0", "dotted"),
    "integrated-gradients": ("#3fa7e0", "solid"),
    "cam": ("#c2410c", "dotted"),
    "grad-cam": ("#dd6b10", "solid"),
    "grad-cam++": ("#dd6b10", "dashed"),
    "layer-cam": ("#b7950b", "solid"),
    "occlusion": ("#0f9d75", "solid"),
    "lime": ("#0f9d75", "dashed"),
    "kernel-shap": ("#4caf50", "dotted"),
    "consensus": ("#a855a0", "solid"),
}
_OTHERS = ("#8c6bb1", "#7a7a7a", "#b0577d", "#5d8aa8")


def method_style(id: str) -> tuple[str, str]:
    """(line color, Bokeh line dash) of a method; stable for methods that this module does not know."""
    return METHOD_STYLES.get(id, (_OTHERS[sum(id.encode()) % len(_OTHERS)], "dashdot"))


def css_gradient(colors: list[str], stops: int = 12) -> str:
    """CSS `linear-gradient` through a palette, for swatches and legends outside a figure."""
    picks = [colors[round(i * (len(colors) - 1) / (stops - 1))] for i in range(stops)]
    return f"linear-gradient(90deg, {', '.join(picks)})"


def _with_alpha(color: str, alpha: float) -> str:
    return f"{color[:7]}{round(float(alpha) * 255):02x}"
