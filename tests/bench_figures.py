"""What `make figures` takes, into figures/benchmarks.json: `make bench-figures`, after a `make figures`.

Warm, with nothing out of date, beside `make help`, which makes nothing at all. After an edit of a plot, beside a cold
run: for that the time of plots.py is set to now, and set back. Cold: what the first `make figures` here took, which is
not run again, beside the last commit at which that was another time.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import benching

from vaefx_lib import config, versions

ROOT = Path(__file__).parents[1]
IDLE, EDITED = 5, 2  # repeats
SETTLED = "nothing to render or train"  # says `make figures` where no more than plots has changed
RUNS = " notebook "  # is in the command of a lesson
INHERITED = ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "PRESET", "PYTHON")  # of `make bench`


def main() -> None:
    """Measure and record."""
    with tempfile.NamedTemporaryFile() as ready:  # newer than all else: there is nothing to install
        idle, nothing, edited = warm(ROOT, f"PY={sys.executable}", f"READY={ready.name}")
    try:
        cold_s = int((config.run_dir("report") / "notebooks" / ".cold_s").read_text())
    except FileNotFoundError:
        raise SystemExit("how long a cold `make figures` takes is not known: run `make clean`, then it") from None
    rows = [
        benching.row("`make figures`, nothing out of date", "s", idle, "`make help`", nothing),
        benching.row("`make figures` after an edit of a plot", "s", edited, "cold", [cold_s]),
    ]
    if found := earlier(cold_s):
        commit, seconds = found
        rows.append(benching.row("`make figures`, cold", "s", [cold_s], f"at commit {commit.name}", [seconds]))
    benching.keep("figures", rows, cold_s=cold_s)


def warm(folder: Path, *variables: str) -> tuple[list[float], list[float], list[float]]:
    """Seconds of `make figures` with nothing out of date, of `make help`, and of the first after an edit of a plot.

    Raises
    ------
    SystemExit
        If something is out of date, or `make` fails.
    """

    def make(*goals: str) -> tuple[float, str]:
        environment = {name: value for name, value in os.environ.items() if name not in INHERITED}
        command = ["make", *goals, "PRESET=report", *variables]
        begun = time.perf_counter()
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"`make {' '.join(goals)}` failed:\n{done.stdout}{done.stderr}")
        return time.perf_counter() - begun, done.stdout

    told = make("--dry-run", "figures")[1]
    if SETTLED not in told or RUNS in told:
        raise SystemExit(
            "figures are out of date: run `make figures` first, it is measured when there is nothing to do"
        )
    make("figures")  # files are in memory from here on
    idle, nothing = zip(*((make("figures")[0], make("help")[0]) for _ in range(IDLE)))
    plots = folder / "vaefx_lib" / "plots.py"
    before, edited = plots.stat(), []
    try:
        for _ in range(EDITED):
            plots.touch()
            told = make("--dry-run", "figures")[1]
            if SETTLED not in told or RUNS not in told:
                raise SystemExit(f"no lessons side by side after an edit of {plots.name}, but:\n{told}")
            edited.append(make("figures")[0])
            print(f"`make figures` after an edit of a plot: {edited[-1]:.1f} s", flush=True)
    finally:
        os.utime(plots, ns=(before.st_atime_ns, before.st_mtime_ns))
    return list(idle), list(nothing), edited


def earlier(cold_s: int) -> tuple[versions.Commit, int] | None:
    """The last commit whose benchmarks know another time of a cold run, and how many seconds."""
    try:
        for commit, text in versions.history(config.figures_dir("report") / "benchmarks.json"):
            before = json.loads(text).get("figures", {}).get("cold_s", cold_s)
            if before != cold_s:
                return commit, before
    except versions.NoCheckout as error:
        print(f"no reference for a cold run: {error}", flush=True)
    return None


if __name__ == "__main__":
    main()
