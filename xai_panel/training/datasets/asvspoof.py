"""ASVspoof 2019 and 2021, logical access (LA).

2019: Wang et al. 2020, Computer Speech & Language 64:101114, doi:10.7488/ds/2555. Protocol lines «speaker utterance -
attack key»; train, dev and eval have different speakers. 2021: Liu et al. 2023, IEEE/ACM TASLP 31, zenodo.org/records/
4837263, all of it for evaluation: the speakers and attacks of 2019's eval through telephone codecs; labels come
separately as LA-keys-full.tar.gz, lines «speaker utterance codec transmission attack key trim phase».
"""

from __future__ import annotations

from pathlib import Path

from .base import (
    AUDIO,
    BONA_FIDE,
    HELD_OUT,
    SPOOF,
    TRAIN,
    VALIDATION,
    DatasetError,
    Item,
    Layout,
    below,
    named,
    protocol,
)

_KEYS = {"bonafide": BONA_FIDE, "spoof": SPOOF}
_PROTOCOLS = {"train.trn": ("train", TRAIN), "dev.trl": ("dev", VALIDATION), "eval.trl": ("eval", HELD_OUT)}
_METADATA = ("keys/LA/CM/trial_metadata.txt", "keys/CM/trial_metadata.txt", "trial_metadata.txt")


def _find_2019(folder: Path) -> Path | None:
    return below(folder, ["LA"], lambda place: (place / "ASVspoof2019_LA_cm_protocols").is_dir())


def _read_2019(root: Path, seed: int) -> list[Item]:
    protocols = root / "ASVspoof2019_LA_cm_protocols"
    items = []
    for name, (folder, part) in _PROTOCOLS.items():
        path = protocols / f"ASVspoof2019.LA.cm.{name}.txt"
        if not path.is_file():
            raise DatasetError(path, "there is no such file", "the three cm protocols", "unpack LA.zip again")
        for place, (speaker, utterance, _, attack, key) in protocol(path, "LA_0079 LA_T_1138215 - - bonafide"):
            label = named(place, key, _KEYS)
            audio = root / f"ASVspoof2019_LA_{folder}" / "flac" / f"{utterance}.flac"
            items.append(Item(audio, label, speaker, part, "ASVspoof 2019 LA", attack if label == SPOOF else ""))
    return items


def _find_2021(folder: Path) -> Path | None:
    def fits(place: Path) -> bool:
        return (place / "ASVspoof2021.LA.cm.eval.trl.txt").is_file() or any((place / m).is_file() for m in _METADATA)

    return below(folder, ["ASVspoof2021_LA_eval"], fits)


def _read_2021(root: Path, seed: int) -> list[Item]:
    metadata = next((root / name for name in _METADATA if (root / name).is_file()), None)
    if metadata is None:
        raise DatasetError(
            root,
            "recordings without labels",
            _METADATA[0],
            "unpack LA-keys-full.tar.gz here, from https://www.asvspoof.org/index2021.html",
        )
    audio = below(root, ["ASVspoof2021_LA_eval"], lambda place: (place / "flac").is_dir()) or root
    items = []
    example = "LA_0009 LA_E_9332881 alaw ita_tx A07 spoof notrim eval"
    for place, (speaker, utterance, codec, transmission, attack, key, trim, phase) in protocol(metadata, example):
        label = named(place, key, _KEYS)
        extra = {"codec": codec, "transmission": transmission, "trim": trim, "phase": phase}
        generator = attack if label == SPOOF else ""
        path = audio / "flac" / f"{utterance}.flac"
        items.append(Item(path, label, speaker, HELD_OUT, "ASVspoof 2021 LA", generator, extra=extra))
    return items


LAYOUT_2019 = Layout(
    "asvspoof2019-la",
    AUDIO,
    "LA/ASVspoof2019_LA_cm_protocols/ and LA/ASVspoof2019_LA_{train,dev,eval}/flac/",
    _find_2019,
    _read_2019,
    "Wang et al. 2020, Computer Speech & Language 64:101114; doi:10.7488/ds/2555",
)
LAYOUT_2021 = Layout(
    "asvspoof2021-la",
    AUDIO,
    "ASVspoof2021_LA_eval/flac/ and keys/LA/CM/trial_metadata.txt",
    _find_2021,
    _read_2021,
    "Liu et al. 2023, IEEE/ACM TASLP 31; zenodo.org/records/4837263, asvspoof.org/index2021.html",
)
