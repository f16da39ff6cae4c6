"""What the benchmarks share: repeats and their spread, rows of the README's table, and where it is all kept.

A benchmark is a script `bench_NAME.py` with a `main`, run by `make bench-NAME`, and with all others by `make bench`, in
a process of its own. It keeps one part of figures/benchmarks.json. Nothing else should run meanwhile.
"""

from __future__ import annotations

import os
import platform
import resource
import statistics
from collections.abc import Sequence

import numpy as np

from vaefx_lib import figures, results


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, least and most of some repeats."""
    return {
        "median": float(statistics.median(values)),
        "low": float(min(values)),
        "high": float(max(values)),
        "repeats": len(values),
    }


def medians(values: Sequence[float], rounds: int) -> list[float]:
    """Of many values in the order of time: the median of each of some rounds, which are repeats."""
    return [float(np.median(part)) for part in np.array_split(values, rounds)]


def row(
    what: str, unit: str, values: Sequence[float], reference: str, against: Sequence[float], *, reached=True
) -> dict:
    """A row of the README's table (`results.benchmarks_table`), as it is kept.

    `reached` is false of a reference that was given up before it had done the same: the ratio is an upper bound then.
    """
    measured, beside = spread(values), spread(against)
    ratio = measured["median"] / beside["median"]
    about = {"what": reference, "reached": reached}
    return {"what": what, "unit": unit, "measured": measured, "reference": beside | about, "ratio": ratio}


def peak_mb() -> float:
    """The largest memory that this process has had so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if platform.system() == "Darwin" else 1024) / 1e6


def memory_row(what: str, imported_mb: float) -> dict:
    """A row of `peak_mb` up to now, beside what it was when all modules were there and nothing had been done."""
    return row(f"peak memory of {what}", "MB", [peak_mb()], "its imports alone", [imported_mb])


def machine() -> dict[str, object]:
    """What it was measured on."""
    import torch

    cuda = torch.cuda.is_available()
    return {
        "system": platform.system(),
        "kind": platform.machine(),
        "processors": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "device": torch.cuda.get_device_name() if cuda else "CPU",
    }


def keep(part: str, rows: Sequence[dict], **details: object) -> None:
    """Keep all that a benchmark has measured, in place of what it had before, and write the README's table anew."""
    figures.record_benchmarks({part: {"rows": list(rows), "machine": machine(), **details}})
    results.update_benchmarks()
    print(results.benchmarks_table({part: figures.benchmarks()[part]}), flush=True)
