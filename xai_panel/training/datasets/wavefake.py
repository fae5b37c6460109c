"""WaveFake: Frank & Schönherr 2021, NeurIPS Datasets and Benchmarks, zenodo.org/records/5642694 (CC-BY-SA-4.0).

`generated_audio/ljspeech_melgan/LJ001-0001_gen.wav` and so on, one folder per corpus and generator. The bona fide
speech comes separately and is read when it lies beside: `LJSpeech-1.1/wavs/` (Ito & Johnson 2017) and
`jsut_ver1.1/basic5000/wav/` (Sonobe et al. 2017). One speaker per corpus: a group is a sentence with all its copies.
"""

from __future__ import annotations

from pathlib import Path

from xai_panel.training.splits import part_of

from .base import AUDIO, BONA_FIDE, SPOOF, DatasetError, Item, Layout, signals

_CORPORA = {"ljspeech_": "LJSpeech", "jsut_": "JSUT", "common_voices_prompts_from_": "LJSpeech"}
_BONA_FIDE = {"LJSpeech": "LJSpeech-1.1/wavs", "JSUT": "jsut_ver1.1/basic5000/wav"}


def _generated(folder: Path) -> Path:
    inside = folder / "generated_audio"
    return inside if inside.is_dir() else folder


def _find(folder: Path) -> Path | None:
    place = _generated(folder)
    return folder if any(path.is_dir() for prefix in _CORPORA for path in place.glob(f"{prefix}*")) else None


def _read(root: Path, seed: int) -> list[Item]:
    sources: list[tuple[Path, str, str]] = []
    for folder in sorted(path for path in _generated(root).glob("[!.]*") if path.is_dir()):
        prefix = next((prefix for prefix in _CORPORA if folder.name.startswith(prefix)), None)
        if prefix is not None:
            sources.append((folder, _CORPORA[prefix], folder.name.removeprefix(prefix)))
        elif _generated(root) != root:
            accepted = ", ".join(f"{prefix}…" for prefix in _CORPORA)
            raise DatasetError(folder, "a generator's folder without a corpus", accepted, "keep the published names")
    sources += [(root / place, corpus, "") for corpus, place in _BONA_FIDE.items() if (root / place).is_dir()]
    items = []
    for folder, corpus, generator in sources:
        for path in signals(folder, AUDIO):
            sentence = path.stem.removesuffix("_gen")
            label = SPOOF if generator else BONA_FIDE
            items.append(Item(path, label, sentence, part_of(sentence, seed), corpus, generator))
    return items


LAYOUT = Layout(
    "wavefake",
    AUDIO,
    "generated_audio/{ljspeech_…,jsut_…}/, and LJSpeech-1.1/wavs/ beside it for the bona fide speech",
    _find,
    _read,
    "Frank & Schönherr 2021, NeurIPS Datasets and Benchmarks; zenodo.org/records/5642694",
)
