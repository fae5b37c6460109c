"""Explain audio deepfake and chest radiograph classifiers, many methods side by side on linked physical axes.

>>> import xai_panel as xp
>>> signal = xp.read_signal("recording.wav")                              # doctest: +SKIP
>>> ds = xp.explain("audio-mobilenetv2", signal, methods=["grad-cam", "lime"])  # doctest: +SKIP

Research and teaching only; not a medical device, not forensic evidence.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_EXPORTS = {
    "SignalError": "xai_panel.signals.errors",
    "Limits": "xai_panel.signals.limits",
    "read_audio": "xai_panel.signals.audio",
    "read_image": "xai_panel.signals.image",
    "read_radiograph": "xai_panel.signals.radiograph",
    "read_signal": "xai_panel.signals.read",
    "samples": "xai_panel.signals.synthetic",
    "load_sample": "xai_panel.signals.synthetic",
    "Classifier": "xai_panel.models.classifier",
    "load_model": "xai_panel.models.registry",
    "add_model": "xai_panel.models.added",
    "remove_model": "xai_panel.models.added",
    "compatible": "xai_panel.methods",
    "explain": "xai_panel.engine.explain",
    "explain_many": "xai_panel.engine.many",
    "Cancelled": "xai_panel.engine.explain",
    "Progress": "xai_panel.engine.explain",
}

_CALLABLE_PACKAGES = ("models", "methods")  # see xai_panel._callable

__all__ = ["__version__", *_EXPORTS, *_CALLABLE_PACKAGES]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that `import xai_panel` takes no time."""
    if name in _CALLABLE_PACKAGES:
        return import_module(f"{__name__}.{name}")
    if name in _EXPORTS:
        value = getattr(import_module(_EXPORTS[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'xai_panel' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
