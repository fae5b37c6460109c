"""The one error that every reader of signals raises."""

from __future__ import annotations


class SignalError(ValueError):
    """A file or array that cannot be used as a signal.

    Parameters
    ----------
    name: what was read (a file name, never a path of the server)
    found: what was found in it
    accepted: what is accepted instead
    remedy: what the person can do about it
    """

    def __init__(self, name: str, found: str, accepted: str, remedy: str) -> None:
        self.name, self.found, self.accepted, self.remedy = name, found, accepted, remedy
        super().__init__(f"{name}: {found}; accepted: {accepted}; {remedy}")

    def __reduce__(self) -> tuple[type[SignalError], tuple[str, str, str, str]]:
        return SignalError, (self.name, self.found, self.accepted, self.remedy)  # travels between processes
