"""Peak memory of explanations above the loaded model: python benchmarks/memory.py [ID …] [--seconds 60], on Linux.

Each classifier in a process of its own, all its methods, on a generated recording of that length or a generated
radiograph. Few questions are asked, but in batches as large as ever: memory depends on the batch, not on the number.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import threading
import time
from pathlib import Path

BUDGET = {"coalitions": 32.0, "positions": 32.0, "noise": 16.0, "steps": 16.0}


def resident() -> float:
    """Memory of this process that is in use [MiB]."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def measure(model: str, seconds: float) -> None:
    """Print what one classifier needs."""
    import numpy as np
    import xarray as xr

    import xai_panel as xp
    from xai_panel.engine.defaults import warm_up
    from xai_panel.signals.synthetic import samples

    warm_up()  # libraries and the default models count as loaded
    classifier = xp.load_model(model)
    sample = next(sample for sample in samples() if sample.modality == classifier.card.modality)
    signal = xp.read_signal(sample.file)
    if classifier.card.modality == "audio":
        rate = signal.attrs["sampling_rate"]
        values = np.resize(signal.values, round(seconds * rate))
        signal = xr.DataArray(values, {"time": np.arange(values.size) / rate}, ["time"], attrs=signal.attrs)
    before, peak, done = resident(), 0.0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.01):
            peak = max(peak, resident())

    watcher = threading.Thread(target=watch)
    watcher.start()
    began = time.perf_counter()
    try:
        explanation = xp.explain(classifier, signal, budget=BUDGET, store=False)
    finally:
        done.set()
        watcher.join()
    took = time.perf_counter() - began
    print(f"{model:24} {explanation.sizes['method']:3d} methods {peak - before:8.0f} MiB {took:8.1f} s", flush=True)


def main() -> None:
    """Print one line per classifier."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="ID")
    parser.add_argument("--seconds", type=float, default=60.0)
    asked = parser.parse_args()
    import xai_panel as xp

    for model in asked.models or [card.id for card in xp.models()]:
        process = multiprocessing.get_context("spawn").Process(target=measure, args=(model, asked.seconds))
        process.start()
        process.join()
        if process.exitcode:
            raise SystemExit(process.exitcode)


if __name__ == "__main__":
    main()
