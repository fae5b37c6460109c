"""Where the published data sets come from: licence, size, terms, addresses and digests, as `sources.toml` has them."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path


@dataclass(frozen=True)
class Archive:
    """One file to download: its address, digest ("md5:…", "sha256:…", or "" for none), and what it unpacks to."""

    url: str
    digest: str
    gives: str
    name: str = ""

    @property
    def file(self) -> str:
        return self.name or self.url.rsplit("/", 1)[-1]


@dataclass(frozen=True)
class Source:
    """A published data set.

    Parameters
    ----------
    name: as the readers know its layout
    title, modality, content, licence, size, terms: what a person wants to know before getting it
    page: the publisher's page
    steps: how to get it by hand; DIR stands for the folder
    files: what can be downloaded without asking anybody
    kaggle: what the `kaggle` command downloads with the person's own credentials («datasets OWNER/NAME»)
    gives: what is in the folder after Kaggle's download
    """

    name: str
    title: str
    modality: str
    content: str
    licence: str
    size: str
    terms: str
    page: str
    steps: tuple[str, ...]
    files: tuple[Archive, ...] = ()
    kaggle: str = ""
    gives: str = ""


@cache
def sources() -> dict[str, Source]:
    """All data sets by name."""
    table = tomllib.loads(Path(__file__).with_name("sources.toml").read_text(encoding="utf-8"))
    return {
        name: Source(
            name=name,
            **{key: value for key, value in entry.items() if key not in ("steps", "files")},
            steps=tuple(entry["steps"]),
            files=tuple(Archive(**file) for file in entry.get("files", ())),
        )
        for name, entry in table.items()
    }


def source(name: str) -> Source:
    """One data set; raises `ValueError` that lists the names."""
    if name not in sources():
        raise ValueError(f"no data set {name!r}; there are: {', '.join(sources())}")
    return sources()[name]
