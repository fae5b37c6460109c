"""Who may import whom, and what is not imported before it is used."""

from __future__ import annotations

import ast
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import soundfile

PACKAGE = Path(__file__).resolve().parents[1] / "xai_panel"

#: The rooms from left to right; those on one line do not import each other.
ORDER = [
    ("_callable", "resources"),
    ("signals",),
    ("models",),
    ("evidence",),
    ("methods",),
    ("explanation", "trust"),
    ("engine", "training"),
    ("views", "classroom"),
    ("cli",),
    ("__main__",),
]
RANK = {room: rank for rank, rooms in enumerate(ORDER) for room in rooms}
LEFT_OF_VIEWS = [room for rooms in ORDER for room in rooms if RANK[room] < RANK["views"]] + ["cli"]
UI = ("panel", "panel_material_ui", "holoviews", "bokeh")
#: Modules that take long to import, or that not everybody has.
LATE = (*UI, "tensorflow", "librosa", "shap", "lime", "captum", "matplotlib", "pydicom", "zarr", "sklearn")


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def modules() -> list[Path]:
    return [path for path in sorted(PACKAGE.rglob("*.py")) if path != PACKAGE / "__init__.py"]


def imported(path: Path, *, only_at_import: bool = False) -> set[str]:
    """Absolute names of the modules that a file imports, in functions too unless told otherwise."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    package = ["xai_panel", *path.relative_to(PACKAGE).parent.parts]
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            name = ".".join([*base, *([node.module] if node.module else [])])
            found.add(name)
            found.update(f"{name}.{alias.name}" for alias in node.names)
        for child in ast.iter_child_nodes(node):
            late = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) or _only_for_types(child)
            if not (only_at_import and late):
                visit(child)

    visit(tree)
    return found


def _only_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def test_the_rooms_are_all_known():
    assert {room_of(path) for path in modules()} <= set(RANK)


def test_imports_run_one_way():
    wrong = []
    for path in modules():
        room = room_of(path)
        for name in imported(path):
            parts = name.split(".")
            other = parts[1] if parts[0] == "xai_panel" and len(parts) > 1 else None
            if other in RANK and other != room and RANK[other] >= RANK[room]:
                wrong.append(f"{path.relative_to(PACKAGE)} imports {name}")
    assert not wrong


def test_only_views_know_the_user_interface():
    wrong = []
    for path in modules():
        if RANK[room_of(path)] < RANK["views"]:
            wrong += [f"{path.relative_to(PACKAGE)}: {name}" for name in imported(path) if name.split(".")[0] in UI]
    assert not wrong


def test_the_scan_sees_every_way_to_import(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "PACKAGE", tmp_path)
    (tmp_path / "signals").mkdir()
    path = tmp_path / "signals" / "a.py"
    path.write_text(
        textwrap.dedent("""
        import numpy
        from . import b
        from ..engine.jobs import JobQueue
        from xai_panel import views
        def late():
            import bokeh.plotting
        class C:
            import holoviews
        """)
    )
    found = imported(path)
    assert {"numpy", "xai_panel.signals.b", "xai_panel.engine.jobs", "xai_panel.views", "bokeh.plotting"} <= found
    early = imported(path, only_at_import=True)
    assert "holoviews" in early and "bokeh.plotting" not in early


def python(code: str, *arguments: object) -> list[str]:
    """Lines that a fresh interpreter prints."""
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


LOADED = "print(*[name for name in sys.argv[1].split(',') if name in sys.modules])"


def test_everything_left_of_the_views_loads_without_the_user_interface():
    names = [
        ".".join(["xai_panel", *path.relative_to(PACKAGE).with_suffix("").parts]).removesuffix(".__init__")
        for path in modules()
        if room_of(path) in LEFT_OF_VIEWS
    ]
    assert "xai_panel.engine.jobs" in names and "xai_panel.methods" in names
    code = f"import sys, importlib\nfor name in {names!r}: importlib.import_module(name)\n{LOADED}"
    assert python(code, ",".join((*UI, "tensorflow", "librosa", "shap", "lime", "captum", "matplotlib"))) == []


def test_the_package_itself_loads_nothing_heavy():
    code = f"import sys, xai_panel\ndir(xai_panel)\n{LOADED}"
    assert python(code, ",".join((*LATE, "torch", "scipy", "xarray", "numpy"))) == []


def test_reading_and_predicting_with_a_torch_model_loads_no_other_framework(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.random.default_rng(0).uniform(-0.3, 0.3, 8000), 16_000)
    code = f"""
    import sys
    sys.path.insert(0, {str(Path(__file__).parent)!r})
    import xai_panel as xp
    from questions import seer, radiograph
    recording = xp.read_audio({str(tmp_path / "a.wav")!r})
    seer().predict(radiograph())
    xp.explain(seer(), radiograph(), ["grad-cam"], store=False)
    {LOADED}
    """
    assert python(code, ",".join(LATE)) == []


def test_librosa_comes_with_the_first_mel_spectrogram(tmp_path):
    code = f"""
    import sys
    sys.path.insert(0, {str(Path(__file__).parent)!r})
    from questions import recording, small
    classifier = small("audio")
    {LOADED}
    sound = recording(0.5)
    sound.attrs["sampling_rate"] = 100.0
    classifier.frontend.features(sound.assign_coords(time=sound["time"] / 160).assign_attrs(sampling_rate=16000.0))
    {LOADED}
    """
    assert python(code, "librosa,tensorflow") == ["librosa"]


@pytest.mark.parametrize(
    "name", ["tensorflow", "keras", "onnxruntime", "librosa", "shap", "lime", "captum", "matplotlib", "pydicom"]
)
def test_what_takes_long_is_imported_in_functions(name):
    wrong = [
        path.relative_to(PACKAGE).as_posix()
        for path in modules()
        if any(found.split(".")[0] == name for found in imported(path, only_at_import=True))
    ]
    assert not wrong
