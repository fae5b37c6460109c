"""`xai-panel`: serve the apps, explain files, list models and methods, get data sets, train.

Exit codes: 0 all went well, 1 something failed (one line on stderr says what), 2 wrong usage, 130 stopped.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import logging
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xai_panel import __version__

if TYPE_CHECKING:
    import xarray as xr

    from xai_panel.engine.progress import Progress
    from xai_panel.models.card import Card
    from xai_panel.training.datasets.sources import Source

OK, FAILED, USAGE, STOPPED = 0, 1, 2, 130


class UsageError(Exception):
    """What was asked for cannot be done with these arguments."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    parser = _parser()
    arguments, extra = parser.parse_known_args(argv)
    if extra and arguments.command is not _serve:
        parser.error(f"unrecognized arguments: {' '.join(extra)}")
    if not arguments.verbose:  # one line per input; what libraries mention on the way stays out of it
        logging.captureWarnings(True)
        logging.basicConfig(level=logging.ERROR)
    arguments.extra = extra
    try:
        return arguments.command(arguments)
    except UsageError as error:
        _complain(f"xai-panel: {error}")
        return USAGE
    except KeyboardInterrupt:
        _complain("xai-panel: stopped")
        return STOPPED
    except BrokenPipeError:  # whoever read our output has seen enough
        sys.stderr.close()
        return OK


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="xai-panel",
        description="Explain audio deepfake and chest radiograph classifiers. Research and teaching only.",
    )
    parser.add_argument("--version", action="version", version=f"xai-panel {__version__}")
    parser.add_argument("-v", "--verbose", action="store_true", help="show warnings, and tracebacks of internal errors")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    serve = commands.add_parser(
        "serve", help="serve the apps in the browser", epilog="All other options are passed on to `panel serve`."
    )
    serve.add_argument("--port", type=int, default=5006)
    serve.add_argument("--address", default=None, help="network address to listen on (default: this machine only)")
    serve.add_argument("--show", action=argparse.BooleanOptionalAction, default=False, help="open the browser")
    serve.set_defaults(command=_serve)

    explain = commands.add_parser("explain", help="explain recordings, radiographs and images")
    explain.add_argument(
        "files", nargs="+", metavar="FILE", help="a recording, radiograph or image, or a folder of them"
    )
    explain.add_argument("--model", metavar="ID", help="classifier (default: the one for the kind of signal)")
    explain.add_argument("--methods", metavar="A,B", help="methods, separated by commas (default: all compatible)")
    explain.add_argument(
        "--target", metavar="LABEL", help="class to explain, by label or index (default: the most probable)"
    )
    explain.add_argument("--layer", metavar="NAME", help="target layer of the activation methods")
    explain.add_argument("--seed", type=int, default=0)
    explain.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="OUT",
        help="NetCDF file; a folder for several inputs; one Zarr store for all when it ends with .zarr",
    )
    explain.add_argument(
        "--scheduler",
        metavar="ADDRESS",
        help="explain on this Dask cluster, such as tcp://host:8786; needs -o OUT.zarr",
    )
    explain.add_argument("--png", type=Path, metavar="OUT", help="picture; a folder for several inputs")
    explain.add_argument("--csv", type=Path, metavar="OUT", help="table; a folder for several inputs")
    explain.add_argument("--no-store", action="store_true", help="neither look up nor keep maps")
    explain.set_defaults(command=_explain)

    models = commands.add_parser(
        "models",
        help="list the classifiers, print the card of one, add or remove one of your own",
        usage="xai-panel models [--json | --table] [ID]\n       xai-panel models add CARD.toml [--allow-code]\n"
        "       xai-panel models remove ID",
    )
    models.add_argument("what", nargs="*", metavar="ID | add CARD.toml | remove ID")
    models.add_argument("--json", action="store_true")
    models.add_argument("--table", action="store_true", help="first and lowest figure of each (Markdown)")
    models.add_argument(
        "--allow-code",
        action="store_true",
        help="also add weights that run code when they are loaded: only from an author whom you trust",
    )
    models.set_defaults(command=_models)

    methods = commands.add_parser("methods", help="list the explanation methods")
    methods.add_argument("--model", metavar="ID", help="say which of them can explain this classifier")
    methods.add_argument("--table", action="store_true", help="which method can explain which classifier (Markdown)")
    methods.add_argument("--json", action="store_true")
    methods.set_defaults(command=_methods)

    data = commands.add_parser("data", help="list the published data sets that can be read, and get them")
    actions = data.add_subparsers(metavar="ACTION", required=True)
    listing = actions.add_parser("list", help="name, licence, size and terms of each")
    listing.add_argument("--json", action="store_true")
    listing.set_defaults(command=_data_list)
    info = actions.add_parser("info", help="what one data set is, and how to get it")
    info.add_argument("name", metavar="NAME")
    info.set_defaults(command=_data_info)
    get = actions.add_parser("get", help="download one where its terms allow it; otherwise say how to get it")
    get.add_argument("name", metavar="NAME")
    get.add_argument("folder", type=Path, metavar="DIR")
    get.set_defaults(command=_data_get)

    train = commands.add_parser("train", help="train a classifier that ships with the package")
    train.add_argument("id", metavar="ID")
    train.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder with the data sets")
    train.add_argument("--seed", type=int, default=0)
    train.add_argument("--out", type=Path, default=Path("weights"), metavar="DIR", help="default: weights")
    train.add_argument("--initial", type=Path, metavar="FILE", help="weights to start from (default: the recipe's)")
    train.add_argument(
        "--classes", nargs=2, metavar=("NEGATIVE", "POSITIVE"), help="of a published data set with more than two labels"
    )
    train.add_argument(
        "--uncertain", choices=("zeros", "ones", "ignore"), help="what CheXpert's uncertain findings become"
    )
    train.add_argument("--epochs", type=int, metavar="N", help="default: as the shipped weights were made")
    train.set_defaults(command=_train)
    return parser


def _complain(line: str) -> None:
    print(" ".join(line.split()), file=sys.stderr)


# --- serve
# -------------------------------------------------------------------------------------------------------------


def _serve(arguments: argparse.Namespace) -> int:
    from xai_panel.engine.defaults import warm_up
    from xai_panel.resources import apps_dir

    pages = sorted(str(path) for path in apps_dir().glob("*.py"))
    if not pages:
        _complain(f"xai-panel: no page found in {apps_dir()}")
        return FAILED
    print("Loading the classifiers …", flush=True)
    try:
        warm_up()
    except (ValueError, RuntimeError, OSError) as error:  # the pages say what is missing to those who need it
        _complain(f"xai-panel: {error}")
    from panel.command import main as panel
    from tornado.ioloop import IOLoop

    host = arguments.address if arguments.address not in (None, "", "0.0.0.0", "::") else "localhost"
    options = ["--port", str(arguments.port), *arguments.extra]
    if arguments.address:
        options += ["--address", arguments.address]
    if arguments.show:
        options += ["--show"]

    def announce() -> None:
        print(f"xai_panel: http://{host}:{arguments.port}  (Ctrl+C stops)", flush=True)

    IOLoop.current().add_callback(announce)  # called once the server listens
    given = sys.argv
    sys.argv = ["panel", "serve", *pages, *options]
    try:
        panel()
    except SystemExit as end:
        return int(end.code or 0) if isinstance(end.code, int | None) else FAILED
    finally:
        sys.argv = given
    return OK


# --- explain
# -----------------------------------------------------------------------------------------------------------


def _explain(arguments: argparse.Namespace) -> int:
    methods = _known_methods(arguments.methods)
    if arguments.model is not None:
        _card(arguments.model)
    inputs = list(_inputs(arguments.files))
    if arguments.scheduler or (arguments.output is not None and arguments.output.suffix == ".zarr"):
        return _explain_to_zarr(inputs, methods, arguments)
    several = len(inputs) > 1 or any(Path(name).is_dir() for name in arguments.files)
    outputs = {kind: _output(getattr(arguments, kind), kind, several) for kind in ("output", "png", "csv")}
    failed = 0
    for path, name in inputs:
        try:
            _explain_one(path, name, methods, arguments, outputs)
        except Exception as error:  # one file that cannot be explained must not stop the others
            failed += 1
            _complain(_one_line(path, error))
            if arguments.verbose:
                logging.exception("%s", path)
    if len(inputs) > 1:
        print(f"{len(inputs) - failed} of {len(inputs)} files explained")
    return FAILED if failed or not inputs else OK


def _explain_to_zarr(inputs: list[tuple[Path, Path]], methods: list[str] | None, arguments: argparse.Namespace) -> int:
    from tqdm import tqdm

    from xai_panel.engine.many import Done, explain_many

    if arguments.output is None or arguments.output.suffix != ".zarr":
        raise UsageError("--scheduler needs -o OUT.zarr, a store on a disk that the workers share")
    if arguments.png or arguments.csv:
        raise UsageError("--png and --csv do not go with a Zarr store; leave them out")
    names = [name.as_posix() for _, name in inputs]
    doubled = next((name for name in names if names.count(name) > 1), None)
    if doubled is not None:
        raise UsageError(f"several inputs are called {doubled}; one store cannot hold them")
    files = {name: path.absolute() for name, (path, _) in zip(names, inputs, strict=True)}
    failed = 0
    with tqdm(total=len(files), unit="file", disable=not sys.stderr.isatty(), leave=False) as bar:

        def tell(done: Done) -> None:
            nonlocal failed
            bar.update()
            if done.error is not None:
                failed += 1
                bar.clear()
                _complain(_one_line(files[done.name], done.error))
            else:
                tqdm.write(f"{done.name}: {done.verdict}" + (" (was there)" if done.kept else ""))

        try:
            explain_many(
                files,
                arguments.model,
                methods,
                _target(arguments.target),
                arguments.seed,
                to=arguments.output,
                client=arguments.scheduler,
                on_done=tell,
                layer=arguments.layer,
                store=False if arguments.no_store else None,
            )
        except ExceptionGroup:
            pass  # each was told when it happened
        except (ImportError, OSError, ValueError) as error:
            _complain(f"xai-panel: {error}")
            return FAILED
    print(f"{len(files) - failed} of {len(files)} files explained -> {arguments.output}")
    return FAILED if failed or not files else OK


def _inputs(files: Sequence[str]) -> Iterator[tuple[Path, Path]]:
    """Each file with the name that its outputs get: below a folder, its path from there."""
    for given in map(Path, files):
        if not given.is_dir():
            yield given, Path(given.name)
            continue
        found = sorted(path for path in given.rglob("*") if path.is_file())
        if not found:
            _complain(f"{given}: there is no file in this folder")
        for path in found:
            yield path, path.relative_to(given)


def _output(to: Path | None, kind: str, several: bool) -> Callable[[Path], Path] | None:
    """Where the output for an input of some name goes; None when it was not asked for."""
    if to is None:
        return None
    suffix = {"output": ".nc", "png": ".png", "csv": ".csv"}[kind]
    option = {"output": "-o", "png": "--png", "csv": "--csv"}[kind]
    if not several and not to.is_dir():
        if not to.absolute().parent.is_dir():
            raise UsageError(f"{option} {to}: there is no folder {to.parent}")
        return lambda name: to
    if to.suffix == suffix or to.is_file():
        raise UsageError(f"{option} {to}: several inputs need a folder, not a file")

    def below(name: Path) -> Path:
        place = to / f"{name}{suffix}"  # recording.wav.nc: recording.png may lie beside it
        place.parent.mkdir(parents=True, exist_ok=True)
        return place

    return below


def _explain_one(
    path: Path,
    name: Path,
    methods: list[str] | None,
    arguments: argparse.Namespace,
    outputs: dict[str, Callable[[Path], Path] | None],
) -> None:
    from xai_panel.engine.defaults import default_model
    from xai_panel.engine.explain import explain
    from xai_panel.explanation import export
    from xai_panel.signals.read import read_signal

    # a picture file does not say what it shows, but its classifier does
    signal = read_signal(path, modality=_card(arguments.model).modality if arguments.model else None)
    model = arguments.model or default_model(signal.attrs["modality"])
    with _bar(str(name)) as progress:
        ds = explain(
            model,
            signal,
            methods,
            target=_target(arguments.target),
            seed=arguments.seed,
            layer=arguments.layer,
            store=False if arguments.no_store else None,
            progress=progress,
        )
    written = []
    for kind, write in (("output", export.to_netcdf), ("png", export.to_png), ("csv", export.to_csv)):
        place = outputs[kind]
        if place is not None:
            to = place(name)
            write(ds, to)
            written.append(str(to))
    print(f"{path}: {model}: {ds.xai.verdict}" + (f" -> {', '.join(written)}" if written else ""))
    if not written:
        _print_table(_summary(ds))


def _target(text: str | None) -> int | str | None:
    return int(text) if text is not None and text.lstrip("-").isdecimal() else text


def _summary(ds: xr.Dataset) -> list[dict[str, Any]]:
    table = ds.xai.compare()
    return [
        {
            "method": id,
            "seconds": f"{row['seconds']:.2f}",
            "evaluations": int(row["evaluations"]),
            "error": "" if row["error"] != row["error"] else f"{row['error']:.2g} ({row['error_kind']})",
            "agreement": "" if row["agreement"] != row["agreement"] else f"{row['agreement']:+.2f}",
        }
        for id, row in table.iterrows()
    ]


def _one_line(path: Path, error: Exception) -> str:
    """What went wrong with a file, beginning with its name."""
    from xai_panel.signals.errors import SignalError

    if isinstance(error, SignalError):
        return f"{path.parent / str(error)}" if path.name == error.name else f"{path}: {error}"
    if isinstance(error, OSError) and error.strerror:
        return f"{path}: {error.strerror}" + (f" ({error.filename})" if error.filename not in (None, str(path)) else "")
    if isinstance(error, ValueError | RuntimeError):
        return f"{path}: {error}"
    return f"{path}: internal error, {type(error).__name__}: {error}; -v shows where"


@contextlib.contextmanager
def _bar(name: str) -> Iterator[Callable[[Progress], None] | None]:
    """A progress bar, when somebody is watching."""
    if not sys.stderr.isatty():
        yield None
        return
    from tqdm import tqdm

    with tqdm(
        total=100, desc=name, leave=False, bar_format="{desc} {percentage:3.0f} % |{bar}| {elapsed}{postfix}"
    ) as bar:

        def show(progress: Progress) -> None:
            bar.update(100 * progress.done - bar.n)
            bar.set_postfix_str(progress.message)

        yield show


# --- models, methods
# ---------------------------------------------------------------------------------------------------


def _card(id: str) -> Card:
    from xai_panel.models.registry import models

    cards = {card.id: card for card in models()}
    if id not in cards:
        raise UsageError(f"no classifier {id!r}; there are: {', '.join(cards) or 'none'}")
    return cards[id]


def _known_methods(text: str | None) -> list[str] | None:
    if text is None:
        return None
    from xai_panel.methods import get

    ids = [id.strip() for id in text.split(",") if id.strip()]
    if not ids:
        raise UsageError("--methods names no method; `xai-panel methods` lists them")
    try:
        return [get(id).id for id in ids]
    except ValueError as error:
        raise UsageError(str(error)) from error


def _models(arguments: argparse.Namespace) -> int:
    match arguments.what:
        case ["add", path]:
            return _add_model(Path(path), arguments.allow_code)
        case ["remove", id]:
            return _remove_model(id)
        case [] | [_]:
            return _show_models(arguments)
    raise UsageError("models takes one ID, «add CARD.toml» or «remove ID»; xai-panel models --help")


def _add_model(path: Path, allow_code: bool) -> int:
    from xai_panel.models.added import add_model
    from xai_panel.models.errors import CodeError

    try:
        card = add_model(path, allow_code=allow_code)
    except CodeError as error:
        _complain(f"xai-panel: {error}; or, if you trust its author: --allow-code")
        return FAILED
    except (ValueError, RuntimeError, OSError) as error:
        _complain(f"xai-panel: {error}")
        return FAILED
    print(f"added {card.id}: {' / '.join(card.labels)}")
    return OK


def _remove_model(id: str) -> int:
    from xai_panel.models.added import remove_model

    try:
        remove_model(id)
    except ValueError as error:
        raise UsageError(str(error)) from error
    print(f"removed {id}")
    return OK


def _show_models(arguments: argparse.Namespace) -> int:
    from xai_panel.models.registry import models

    if arguments.what:
        card = dataclasses.asdict(_card(arguments.what[0]))
        print(json.dumps(card, indent=2, ensure_ascii=False) if arguments.json else "\n".join(_lines(card)))
        return OK
    cards = models()
    if arguments.table:
        return _figures(cards)
    if arguments.json:
        print(json.dumps([dataclasses.asdict(card) for card in cards], indent=2, ensure_ascii=False))
        return OK
    _print_table(
        [
            {
                "id": c.id,
                "signal": c.modality,
                "framework": c.framework,
                "classes": " / ".join(c.labels),
                "title": c.title,
            }
            for c in cards
        ]
    )
    return OK


def _figures(cards: list[Card]) -> int:
    """Each classifier with its first figure, on held-out data like those that it was trained on, and with its worst."""
    print("| classifier | framework | front end | window | held out: AUROC (95 % interval) | lowest of its figures |")
    print("|---|---|---|---|---|---|")
    for card in cards:
        tests = {
            name: figures
            for name, figures in card.metrics.items()
            if isinstance(figures, dict) and math.isfinite(float(figures.get("auroc", "nan")))
        }
        if not tests:
            continue
        name, first = next(iter(tests.items()))
        interval = "–".join(_share(value) for value in first.get("auroc_interval", [])) or "—"
        worst = min(tests, key=lambda test: float(tests[test]["auroc"]))
        length = _window(card)
        print(
            f"| `{card.id}` | {card.framework} | {card.frontend['kind']} | {length} | {_share(first['auroc'])} "
            f"({interval}): {name} | {_share(tests[worst]['auroc'])}: {worst} |"
        )
    return OK


def _share(value: float) -> str:
    """Three decimals; what is rounded to 1 without being 1 says so."""
    return ">0.999" if 0.9995 <= value < 1 else f"{value:.3f}"


def _window(card: Card) -> str:
    """What a classifier looks at in one go: seconds of a recording, or pixels."""
    from xai_panel.models.frontends import build_frontend

    frontend = build_frontend(card.frontend)
    if card.modality != "audio":
        return " × ".join(str(size) for size in frontend.shape[-2:]) + " px"
    samples = getattr(frontend, "samples", None) or frontend.frames * frontend.hop_length  # type: ignore[attr-defined]
    return f"{samples / frontend.sampling_rate:.2f} s"  # type: ignore[attr-defined]


def _compatibility() -> int:
    """Classifiers × methods: «yes», or the number of the reason below the table."""
    from xai_panel.methods import METHODS, compatible
    from xai_panel.models.registry import models

    answers = {}
    for card in models():
        try:
            answers[card.id] = compatible(card.id)
        except RuntimeError as error:
            _complain(f"xai-panel: {error}")
            return FAILED
    reasons: dict[str, int] = {}
    print("| classifier | " + " | ".join(f"`{method}`" for method in METHODS) + " |")
    print("|---" * (1 + len(METHODS)) + "|")
    for id, answer in answers.items():
        cells = [
            "yes" if answer[method] is True else f"no ({reasons.setdefault(str(answer[method]), len(reasons) + 1)})"
            for method in METHODS
        ]
        print(f"| `{id}` | " + " | ".join(cells) + " |")
    for reason, number in reasons.items():
        print(f"\n({number}) {reason}")
    return OK


def _methods(arguments: argparse.Namespace) -> int:
    from xai_panel.methods import METHODS, compatible

    if arguments.table:
        return _compatibility()
    answers: dict[str, bool | str] = {}
    if arguments.model is not None:
        _card(arguments.model)
        try:
            answers = compatible(arguments.model)
        except RuntimeError as error:
            _complain(f"xai-panel: {error}")
            return FAILED
    rows = [
        {
            "id": method.id,
            "title": method.title,
            "family": method.family,
            "needs": ", ".join(sorted(method.needs)),
            "units": method.units,
            "source": method.cite,
        }
        | ({"compatible": "yes" if answers[method.id] is True else f"no: {answers[method.id]}"} if answers else {})
        for method in METHODS.values()
    ]
    if arguments.json:
        facts = [
            row | {"signed": m.signed, "shows": m.summary, "cannot": m.cannot, "params": dict(m.params)}
            for row, m in zip(rows, METHODS.values(), strict=True)
        ]
        print(json.dumps(facts, indent=2, ensure_ascii=False))
    else:
        _print_table(rows)
    return OK


def _print_table(rows: list[dict[str, Any]]) -> None:
    """Aligned columns with a header; numbers are short texts already."""
    if not rows:
        return
    names = list(rows[0])
    widths = {name: max(len(name), *(len(str(row[name])) for row in rows)) for name in names}
    for cells in ({name: name for name in names}, *rows):
        print("  ".join(str(cells[name]).ljust(widths[name]) for name in names).rstrip())


def _lines(value: dict[str, Any], indent: str = "") -> Iterator[str]:
    """A card as indented lines; empty fields are left out."""
    for name, item in value.items():
        if item in (None, "", (), [], {}):
            continue
        title = name.replace("_", " ")
        if isinstance(item, dict):
            yield f"{indent}{title}:"
            yield from _lines(item, indent + "  ")
        elif isinstance(item, list | tuple) and any(len(str(part)) > 20 for part in item):
            yield f"{indent}{title}:"
            yield from (f"{indent}  - {part}" for part in item)
        else:
            text = ", ".join(map(str, item)) if isinstance(item, list | tuple) else item
            yield f"{indent}{title}: {text}"


# --- data
# --------------------------------------------------------------------------------------------------------------


def _data_list(arguments: argparse.Namespace) -> int:
    from xai_panel.training.datasets.sources import sources

    if arguments.json:
        print(json.dumps([dataclasses.asdict(entry) for entry in sources().values()], indent=2, ensure_ascii=False))
        return OK
    columns = ("name", "modality", "size", "licence", "terms")
    _print_table([{column: getattr(entry, column) for column in columns} for entry in sources().values()])
    return OK


def _source(name: str) -> Source:
    from xai_panel.training.datasets.sources import source

    try:
        return source(name)
    except ValueError as error:
        raise UsageError(str(error)) from error


def _data_info(arguments: argparse.Namespace) -> int:
    from xai_panel.training.datasets import LAYOUTS

    entry = _source(arguments.name)
    facts = {
        key: getattr(entry, key) for key in ("name", "title", "modality", "content", "licence", "size", "terms", "page")
    }
    layout = LAYOUTS.get(entry.name)
    print("\n".join(_lines(facts | ({"layout": layout.looks_for, "source": layout.source} if layout else {}))))
    how = f"xai-panel data get {entry.name} DIR"
    if entry.files:
        print(f"get it with: {how}")
    elif entry.kaggle:
        print(f"get it with: {how} (with the kaggle command and your own credentials), or:")
    if not entry.files:
        _print_steps(entry, "DIR")
    return OK


def _print_steps(entry: Source, folder: str) -> None:
    for number, step in enumerate(entry.steps, start=1):
        print(f"{number}. {step.replace('DIR', folder)}")


def _data_get(arguments: argparse.Namespace) -> int:
    from xai_panel.training.datasets.base import DatasetError
    from xai_panel.training.datasets.fetch import get

    entry, folder = _source(arguments.name), arguments.folder
    print(f"{entry.title}: {entry.size}, {entry.licence}. {entry.terms}", flush=True)
    try:
        done = get(entry, folder)
    except (DatasetError, OSError) as error:
        _complain(f"xai-panel: {error}")
        print("By hand:")
        _print_steps(entry, str(folder))
        return FAILED
    if not done:
        print("This data set is not downloaded by itself:")
        _print_steps(entry, str(folder))
        return FAILED
    print(f"{entry.name}: {folder}")
    return OK


# --- train
# -------------------------------------------------------------------------------------------------------------


def _train(arguments: argparse.Namespace) -> int:
    from xai_panel.training.run import train

    try:
        card = train(
            arguments.id,
            arguments.data,
            seed=arguments.seed,
            out=arguments.out,
            initial=arguments.initial,
            epochs=arguments.epochs,
            classes=tuple(arguments.classes) if arguments.classes else None,
            options={"uncertain": arguments.uncertain} if arguments.uncertain else {},
        )
    except ValueError as error:
        raise UsageError(str(error)) from error
    except (OSError, RuntimeError) as error:
        _complain(f"xai-panel: {error}")
        return FAILED
    print(f"trained {arguments.id}: {card}")
    return OK
