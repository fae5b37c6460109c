"""Peak memory of explanations above the loaded model: python benchmarks/memory.py [ID …] [--seconds 60], on Linux.

Each classifier in a process of its own, all its methods in one explanation, which shares what they ask, of a generated
recording of that length or a radiograph of 3072 × 3072 pixels. Of every kind of question one full batch is asked in
each window: memory depends on the batch, not on the number. The exit status is 1 when a classifier needs more than
2 GB.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

LIMIT = 2e9 / 2**20  # MiB
SIDE = 3072  # px


def resident() -> float:
    """Memory of this process that is in use [MiB]."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def measure(model: str, seconds: float) -> tuple[int, str, float, float]:
    """Number of methods, the one with the highest peak, that peak above the loaded model [MiB], and time taken [s]."""
    import numpy as np
    import xarray as xr

    import xai_panel as xp
    from xai_panel.engine.defaults import warm_up
    from xai_panel.evidence.evidence import BUDGET
    from xai_panel.signals.synthetic import samples

    warm_up()  # libraries and the default models count as loaded
    classifier = xp.load_model(model)
    sample = next(sample for sample in samples() if sample.modality == classifier.card.modality)
    signal = xp.read_signal(sample.file)
    if classifier.card.modality == "audio":
        values = np.resize(signal.values, round(seconds * signal.attrs["sampling_rate"]))
        coords = {"time": np.arange(values.size) / signal.attrs["sampling_rate"]}
    else:
        values = signal.values[np.ix_(*(np.arange(SIDE) * size // SIDE for size in signal.shape))]
        coords = {dim: (dim, np.arange(SIDE) + 0.5, signal[dim].attrs) for dim in signal.dims}
    signal = xr.DataArray(values, coords, signal.dims, attrs=signal.attrs)
    whole = BUDGET["batch"]
    batch, half = (min(size, classifier.backend.batch) for size in (whole, whole // 2))
    budget = {"coalitions": whole, "positions": batch, "noise": half, "steps": half}

    before, done, now = resident(), threading.Event(), "verdict"
    peaks = [(before, now)]

    def watch() -> None:
        while not done.wait(0.005):
            peaks[0] = max(peaks[0], (resident(), now))

    def follow(progress: xp.Progress) -> None:
        nonlocal now
        now = progress.method or now

    watcher = threading.Thread(target=watch)
    watcher.start()
    began = time.perf_counter()
    try:
        explanation = xp.explain(classifier, signal, budget=budget, progress=follow, store=False)
    finally:
        done.set()
        watcher.join()
    peak, method = peaks[0]
    return explanation.sizes["method"], method, peak - before, time.perf_counter() - began


def main() -> None:
    """Print one line per classifier, and whether all keep within the limit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="ID")
    parser.add_argument("--seconds", type=float, default=60.0)
    asked = parser.parse_args()
    import xai_panel as xp

    models = asked.models or [card.id for card in xp.models()]
    print(f"{'classifier':24} methods  {'highest peak at':22} {'MiB':>6} {'s':>7}")
    exceeded = []
    fresh = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, max_tasks_per_child=1, mp_context=fresh) as pool:
        for model in models:
            count, method, peak, took = pool.submit(measure, model, asked.seconds).result()
            print(f"{model:24} {count:7d}  {method:22} {peak:6.0f} {took:7.1f}", flush=True)
            if peak > LIMIT:
                exceeded.append(model)
    print(f"exceeded {LIMIT:.0f} MiB: {', '.join(exceeded)}" if exceeded else f"OK: at most {LIMIT:.0f} MiB")
    raise SystemExit(bool(exceeded))


if __name__ == "__main__":
    main()
