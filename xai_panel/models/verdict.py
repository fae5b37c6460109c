"""What a classifier says about a signal, as data and in words: the same on pages, in files, on the command line."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

NOTHING = "none of the findings that it was trained on"


@dataclass(frozen=True)
class Verdict:
    """Calibrated probabilities and what they mean; `str()` says it in words.

    probabilities: label → 0…1, most probable first
    multi_label: each label is a finding of its own, and several may be present, or none; else one class is the answer
    """

    probabilities: dict[str, float]
    multi_label: bool

    @classmethod
    def of(cls, labels: Iterable[str], probabilities: Iterable[float], multi_label: bool) -> Verdict:
        """From labels and probabilities in the order of the logits."""
        chances = {str(label): float(chance) for label, chance in zip(labels, probabilities, strict=True)}
        return cls(dict(sorted(chances.items(), key=lambda item: -item[1])), multi_label)

    @property
    def found(self) -> dict[str, float]:
        """What is there, label → probability: the most probable class; of several findings, each above 50 %."""
        if self.multi_label:
            return {label: chance for label, chance in self.probabilities.items() if chance > 0.5}
        return dict(list(self.probabilities.items())[:1])

    @property
    def headline(self) -> str:
        """What is there, by name alone."""
        return ", ".join(self.found) or NOTHING

    def __str__(self) -> str:
        said = [f"{label} {percent(chance)}" for label, chance in self.probabilities.items()]
        return ", ".join(said[: len(self.found)]) or f"{NOTHING}; most probable: {said[0]}"


def percent(probability: float) -> str:
    """A probability in whole percent, or that it is next to nothing or to everything: no classifier is certain."""
    if 0.005 < probability < 0.995:
        return f"{100 * probability:.0f} %"
    return ">99 %" if probability > 0.5 else "<1 %"
