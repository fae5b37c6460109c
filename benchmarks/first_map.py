"""Seconds until the first map: python benchmarks/first_map.py [--runs 5]

Medians. «Fresh process» is what the command line pays; a server has paid it before it listens (`xai-panel serve`), and
its users wait for the last lines: a generated sample is read, judged, and explained by Grad-CAM.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

TIMED = "import time; began = time.perf_counter()\n{code}\nprint(time.perf_counter() - began)"
LOAD = "from xai_panel.models.registry import load_model; load_model({model!r})"
FIRST_MAP = """
import sys, time
from pathlib import Path
from xai_panel.engine.explain import explain
from xai_panel.explanation.store import Store
from xai_panel.models.registry import load_model
from xai_panel.signals.read import read_signal
from xai_panel.signals.synthetic import samples
file = next(sample.file for sample in samples() if sample.modality == {modality!r})
load_model({model!r})
def first_map(folder):
    began = time.perf_counter()
    explain({model!r}, read_signal(file), ["grad-cam"], store=Store(Path({folder!r}) / folder))
    return time.perf_counter() - began
print(first_map("first"))
print(*[first_map(f"cold-{{i}}") for i in range({runs})])
print(*[first_map("first") for i in range({runs})])
"""


def python(code: str) -> list[list[float]]:
    """The numbers that a fresh interpreter prints, by line."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return [[float(number) for number in line.split()] for line in done.stdout.splitlines()]


def fresh(code: str, runs: int) -> float:
    """Median seconds of `code` in fresh processes."""
    return statistics.median(python(TIMED.format(code=code))[0][0] for _ in range(runs))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    runs = parser.parse_args().runs
    from xai_panel.engine.defaults import default_model

    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, ",
        end="",
    )
    print(f"median of {runs} runs, seconds\n")
    rows = [
        ("fresh process: import xai_panel", [fresh("import xai_panel", runs)] * 2),
        ("fresh process: import the engine", [fresh("import xai_panel.engine.explain", runs)] * 2),
    ]
    loads, firsts, cold, warm = [], [], [], []
    for modality in ("audio", "radiograph"):
        model = default_model(modality)
        loads.append(fresh(LOAD.format(model=model), runs))
        repeated: list[list[list[float]]] = []
        for _ in range(min(3, runs)):
            with tempfile.TemporaryDirectory() as folder:
                code = FIRST_MAP.format(model=model, modality=modality, folder=str(Path(folder)), runs=runs)
                repeated.append(python(code))
        firsts.append(statistics.median(run[0][0] for run in repeated))
        cold.append(statistics.median(seconds for run in repeated for seconds in run[1]))
        warm.append(statistics.median(seconds for run in repeated for seconds in run[2]))
    rows += [
        ("fresh process: load the model", loads),
        ("first explanation of a process", firsts),
        ("read, verdict, first map; store empty", cold),
        ("read, verdict, first map; map stored", warm),
    ]
    width = max(len(name) for name, _ in rows)
    print(f"{'':{width}}  {'audio':>8}  {'X-ray':>8}")
    for name, (audio, radiograph) in rows:
        print(f"{name:{width}}  {audio:8.3f}  {radiograph:8.3f}")


if __name__ == "__main__":
    main()
