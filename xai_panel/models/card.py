"""Model cards: what a classifier is, what it was trained on, how well it does, and where it fails.

A card is a TOML file beside the weights (Mitchell et al. 2019, «Model Cards for Model Reporting»).
"""

from __future__ import annotations

import tomllib
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any

MODALITIES = ("audio", "radiograph", "image")
FRAMEWORKS = ("torch", "tensorflow", "onnxruntime")
#: Annotation of a field → what a person calls it.
_KINDS = {
    "str": "a text",
    "str | None": "a text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "tuple[str, ...]": "a list of texts",
    "tuple[int, ...]": "a list of whole numbers",
    "dict[str, Any]": "a table",
}


class CardError(ValueError):
    """A card that does not describe a classifier; the message names the field."""


@dataclass(frozen=True)
class Card:
    """Everything that is known about a classifier without loading it.

    Attributes
    ----------
    id, title, summary: its name in code, its name in the user interface, one sentence about it
    modality: "audio", "radiograph" or "image"; framework: "torch", "tensorflow" or "onnxruntime"
    architecture: of a PyTorch network, see `xai_panel.models.architectures.build`; a name for people otherwise
    labels: names of the classes, in the order of the logits; positive: index of the class that is the finding
    multi_label: each label is a finding of its own, and several may be present: its probability is sigmoid(logit)
    outputs: of a PyTorch network, those that the labels name, when others were never trained; empty for all
    weights: file beside the card, or SavedModel folder; digest: its SHA-256, see `registry.digest_of`
    runs_code: the weights bring code along, and whoever added the classifier allowed it
    frontend: `kind` of front end and its parameters
    temperature: the logits are divided by it before the softmax (Guo et al. 2017); 1 when not calibrated
    target_layer: layer that the activation methods read; found automatically when None
    training: data, split, command, seed, duration; metrics: figures per test set
    limitations, not_for: where it fails, what it must not be used for
    """

    id: str
    title: str
    summary: str
    modality: str
    framework: str
    architecture: str
    labels: tuple[str, ...]
    frontend: dict[str, Any]
    positive: int = 1
    multi_label: bool = False
    outputs: tuple[int, ...] = ()
    weights: str = ""
    digest: str = ""
    runs_code: bool = False
    temperature: float = 1.0
    target_layer: str | None = None
    license: str = ""
    caveat: str = ""
    limitations: tuple[str, ...] = ()
    not_for: tuple[str, ...] = ()
    training: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        def refuse(name: str, why: str) -> CardError:
            return CardError(f"card {self.id or '(without id)'}: field «{name}» {why}")

        for one in fields(self):
            value = getattr(self, one.name)
            if not _fits(value, str(one.type)):
                raise refuse(one.name, f"is {value!r}; {_KINDS[str(one.type)]} is expected")
        if not self.id:
            raise refuse("id", "is empty")
        if self.modality not in MODALITIES:
            raise refuse("modality", f"is {self.modality!r}; one of {', '.join(MODALITIES)} is expected")
        if self.framework not in FRAMEWORKS:
            raise refuse("framework", f"is {self.framework!r}; one of {', '.join(FRAMEWORKS)} is expected")
        if len(self.labels) < 2:
            raise refuse("labels", f"has {len(self.labels)} entries; a classifier has at least two classes")
        if len(set(self.labels)) < len(self.labels):
            raise refuse("labels", f"is {list(self.labels)}; a name of its own is expected for each class")
        if not 0 <= self.positive < len(self.labels):
            raise refuse("positive", f"is {self.positive}; an index of labels (0…{len(self.labels) - 1}) is expected")
        accepted = {0, len(self.labels)} | ({1} if len(self.labels) == 2 else set())  # one logit is two classes
        if len(self.outputs) not in accepted:
            raise refuse("outputs", f"has {len(self.outputs)} entries; one per label is expected ({len(self.labels)})")
        if not self.temperature > 0:
            raise refuse("temperature", f"is {self.temperature}; a positive number is expected")
        if "kind" not in self.frontend:
            raise refuse("frontend", "has no «kind»")

    def class_index(self, target: int | str) -> int:
        """Index of a class given by index or label; `ValueError` names the classes there are."""
        if isinstance(target, str):
            if target in self.labels:
                return self.labels.index(target)
        elif 0 <= int(target) < len(self.labels):
            return int(target)
        known = ", ".join(f"{i} = {label}" for i, label in enumerate(self.labels))
        raise ValueError(f"{self.id} has no class {target!r}; its classes: {known}")


def read_card(path: Path) -> Card:
    """Read a card from a TOML file. Raises `CardError` that names file and field."""
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CardError(f"{path.name}: not valid TOML: {error}") from error
    known = {f.name for f in fields(Card)}
    unknown = sorted(set(values) - known)
    if unknown:
        raise CardError(f"{path.name}: unknown field «{unknown[0]}»; known: {', '.join(sorted(known))}")
    for one in fields(Card):
        if one.name not in values and one.default is MISSING and one.default_factory is MISSING:
            raise CardError(f"{path.name}: field «{one.name}» is missing; {_KINDS[str(one.type)]} is expected")
    values |= {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
    return Card(**values)


def _fits(value: Any, kind: str) -> bool:
    """Whether a field that is annotated with `kind` may have this value."""
    if kind == "str | None":
        return value is None or isinstance(value, str)
    if kind.startswith("tuple["):
        return isinstance(value, tuple) and all(_fits(item, kind[6:9]) for item in value)
    if kind == "float":
        return isinstance(value, int | float) and not isinstance(value, bool)
    if kind == "int":
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, {"str": str, "bool": bool, "dict[str, Any]": dict}[kind])
