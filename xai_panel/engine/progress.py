"""How far a computation is, in numbers and in words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from xai_panel.methods import Method

#: What each stage of gathering evidence counts.
STAGES = {
    "gradient": "gradient",
    "baseline": "baseline",
    "path": "steps",
    "noise": "noisy copies",
    "occlusion": "patches",
    "coalitions": "masked inputs",
}
_VERDICT, _MAPS = 0.05, 0.94  # shares of the whole; the last hundredth is putting it together


class Cancelled(Exception):
    """The computation was stopped on request; maps that were finished before are kept in the store."""


@dataclass(frozen=True)
class Progress:
    """How far a computation is. method: id, or "" outside the methods; done: 0…1 overall, never less than before."""

    method: str
    done: float
    message: str


class Meter:
    """Turns what methods report of themselves into progress of the whole, which never goes back.

    methods: what will be read; windows: of the signal; tell: receives each `Progress`.
    """

    def __init__(self, tell: Callable[[Progress], None] | None) -> None:
        self._tell = tell
        self._done = 0.0
        self._shares: dict[str, float] = {}
        self._finished: set[str] = set()
        self._windows = 1
        self._stage, self._stage_began = "", 0

    def expect(self, methods: Sequence[Method], windows: int) -> None:
        """What is to come: each method's share is about its number of passes; evidence read again costs none."""
        seen: set[Any] = set()
        passes: dict[str, float] = {}
        for method in sorted(methods, key=lambda m: m.cost):
            most = max(method.params.values(), default=0.0) * (3 if "gradients" in method.needs else 1)
            passes[method.id] = 2 + (0 if evidence_of(method) in seen else most)
            seen.add(evidence_of(method))
        self._shares = {id: count / sum(passes.values()) for id, count in passes.items()}
        self._windows = windows

    def say(self, message: str, done: float, method: str = "") -> None:
        """Report `message`; `done` 0…1 of the whole."""
        self._done = max(self._done, min(1.0, done))
        if self._tell is not None:
            self._tell(Progress(method, self._done, message))

    def verdict(self, fraction: float) -> None:
        """`fraction` of the windows were heard for the verdict."""
        if self._windows > 1:
            heard = round(fraction * self._windows)
            self.say(f"Verdict: {heard} of {self._windows} windows", _VERDICT * fraction)

    def begin(self, method: Method, window: int) -> None:
        """`method` starts to read a window."""
        self._stage = ""
        self.say(self._name(method, window), self._overall(method, window, 0.0), method.id)

    def stage(self, method: Method, window: int, stage: str, fraction: float, passes: int) -> None:
        """`fraction` of a stage is done, after `passes` in all; both together say how many passes the stage takes."""
        if fraction == 0 or stage != self._stage:
            self._stage, self._stage_began = stage, passes
        what, count = STAGES.get(stage, stage), passes - self._stage_began
        if fraction > 0 and count > 0:
            what = f"{count} of {round(count / fraction)} {what}"
        self.say(f"{self._name(method, window)}: {what}", self._overall(method, window, fraction), method.id)

    def finish(self, method: Method) -> None:
        """The map of `method` is there."""
        self._finished.add(method.id)
        self.say(f"{method.title} is ready", self._overall(method, 0, 0.0), method.id)

    def _name(self, method: Method, window: int) -> str:
        return method.title if self._windows == 1 else f"{method.title}, window {window + 1} of {self._windows}"

    def _overall(self, method: Method, window: int, fraction: float) -> float:
        before = sum(self._shares[id] for id in self._finished)
        here = 0.0 if method.id in self._finished else self._shares[method.id] * (window + fraction) / self._windows
        return _VERDICT + _MAPS * (before + here)


def evidence_of(method: Method) -> tuple[frozenset[str], tuple[str, ...]]:
    """Methods that read the same parts of the budget read the same evidence, as do all that read one single pass."""
    parts = tuple(sorted(method.params))
    return (method.needs if parts else frozenset(), parts)
