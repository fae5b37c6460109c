"""What can be wrong with a classifier's files."""

from __future__ import annotations


class ModelError(RuntimeError):
    """A classifier that cannot be loaded; the message says which, why and what to do."""


class CodeError(ModelError):
    """Weights that bring code along, which reading them would run."""
