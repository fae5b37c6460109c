"""A package that can be called: `xp.models()` lists the classifiers and `xp.models` is where they live."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


class CallableModule(ModuleType):
    """A module whose call is the call of its function `_call`."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.__dict__["_call"](*args, **kwargs)


def make_callable(name: str) -> None:
    """Let the module `name` be called; it must define `_call`.

    Python binds a subpackage as an attribute of its parent whenever it is imported, so a function of the same name in
    the parent would be overwritten: the subpackage itself has to answer.
    """
    sys.modules[name].__class__ = CallableModule
