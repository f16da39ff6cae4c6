"""How fast and how large rendering is, into figures/benchmarks.json: `make bench-render`.

The reference is to call the effects and do nothing else; of two processes it is one, and of many pairs few.
*Efficiency* is the time of calling the effects alone on a set of clips, divided by the time of rendering that set
(crop, effect, checks, levels, SHA-256, write), on one processor. It is 1 if everything around the effect costs nothing.
Draws that are rejected (silent, unchanged, not finite) call the effect as well, and count on both sides.
"""

from __future__ import annotations

import dataclasses
import math
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import benching
import numpy as np

from vaefx_lib import config, corpora, corpus_split, effects, rendering, store

SECONDS = 0.25  # of rendering with one effect, once
REPEATS = 3
LARGE, SMALL = 10_000, 1_000  # pairs whose peak memory is compared
SHARED = 6_000  # pairs that one process renders, or two
REPORT = config.preset("report")


def with_render(preset, **changes):
    return dataclasses.replace(preset, render=dataclasses.replace(preset.render, **changes))


def rendered(preset, folder, jobs):
    """Seconds of rendering the test pairs of a preset anew."""
    shutil.rmtree(folder, ignore_errors=True)
    begun = time.perf_counter()
    rendering.render(preset, "test", folder, jobs=jobs, progress=False)
    return time.perf_counter() - begun


def cost_of(name, folder):
    """Milliseconds per draw of the effect alone and of the whole path, each of alternating repeats.

    The path is that of one shard after the other, without what happens once per render (listing the corpus and so on).
    Each repeat writes over the files of the one before: on a virtual machine fresh memory can be slow at first touch.
    """
    effect, speech = effects.load(name), corpus_split.split(corpora.load("speech"), "speech")["test"]
    one = with_render(REPORT, effects=(name,), shard_pairs=32)
    for index in (0, 1):  # the first time it is compiled, or its process started
        begun = time.perf_counter()
        rendering.render_pair(one, "test", index, speech)
    count = math.ceil(SECONDS / (time.perf_counter() - begun))
    shards = max(1, min(count, 384) // 32)
    one = with_render(one, n_test=max(4, min(count, 32 * shards)))
    shutil.rmtree(folder, ignore_errors=True)
    rendering._write_plan(folder, one, "test", speech, "bench")
    whole, alone = [], []
    for _ in range(REPEATS):
        begun = time.perf_counter()
        for shard in range(shards):
            rendering._render_shard(folder, shard, None)
        whole.append(time.perf_counter() - begun)
        if not alone:
            pairs = [np.load(path, mmap_mode="r") for path in sorted(folder.glob("shard-*.npy"))]
            clips = [np.array(pair[0]) for shard in pairs for pair in shard]
            rows = [row for path in sorted(folder.glob("shard-*.json")) for row in store.read_json(path)["rows"]]
        begun = time.perf_counter()
        for dry, row in zip(clips, rows, strict=True):
            effect.render(dry, row["settings"], row["sample_rate_hz"])
        alone.append(time.perf_counter() - begun)
    draws = len(rows) + sum(sum(row["redraws"].values()) for row in rows)
    return [1000 * seconds / len(rows) for seconds in alone], [1000 * seconds / draws for seconds in whole]


def efficiency(folder):
    """Rows of the table for the report's effects and for all that this machine has; scores of all and per backend."""
    repeats, costs = {}, {}
    for name in effects.available():
        try:
            repeats[name] = cost_of(name, folder)
        except ValueError as error:  # of a gain, nothing is left at equal levels
            print(f"{name:32} left out: {error}", flush=True)
            continue
        costs[name] = alone, whole = tuple(map(statistics.median, repeats[name]))
        print(f"{name:32} alone {alone:8.3f} ms, whole path {whole:8.3f} ms, {alone / whole:.2f}", flush=True)
    ratios = {name: alone / whole for name, (alone, whole) in costs.items()}
    backends = {}
    for prefix in dict.fromkeys(name.partition(":")[0] for name in costs):
        mine = [name for name in costs if name.startswith(f"{prefix}:")]
        alone, whole = (sum(costs[name][i] for name in mine) for i in range(2))
        backends[prefix] = {
            "effects": len(mine),
            "efficiency": statistics.median(ratios[name] for name in mine),
            "efficiency_of_total_time": alone / whole,
            "draws_per_s": 1000 * len(mine) / whole,
        }
    rows = []
    for what, names in (("the report's effects", REPORT.render.effects), (f"{len(costs)} effects", costs)):
        alone, whole = ([statistics.median(ms) for ms in zip(*(repeats[n][i] for n in names))] for i in range(2))
        rows.append(benching.row(f"a rendered pair, median of {what}", "ms", whole, "the effect alone", alone))
    alone, whole = (sum(cost[i] for cost in costs.values()) for i in range(2))
    return rows, {
        "efficiency": statistics.median(ratios.values()),  # the total below is mostly that of the slowest effect
        "efficiency_of_total_time": alone / whole,
        "efficiency_by_backend": backends,
        "overhead_ms": statistics.median(whole - alone for alone, whole in costs.values()),
    }


def times_real_time():
    """How many seconds of sound the native effects process in a second, on a clip of 5.46 s at 24 kHz."""
    dry = np.random.default_rng(0).uniform(-0.5, 0.5, 131_072).astype(np.float32)
    cases = {"overdrive": ("mda:Overdrive", [[0.5] * 3])}
    cases["delay_slowest_setting"] = ("mda:Delay", [[x, 0.5, 0.5, 0.2, 0.5, 0.5] for x in (0, 0.02, 0.1, 0.5, 1)])
    speeds = {}
    for case, (name, settings) in cases.items():
        effect, slowest = effects.load(name), 0.0
        for values in settings:
            seconds = []
            for _ in range(25):
                begun = time.perf_counter()
                effect.render(dry, values, 24_000)
                seconds.append(time.perf_counter() - begun)
            slowest = max(slowest, statistics.median(seconds))
        speeds[case] = len(dry) / 24_000 / slowest
    return speeds


def shared(folder):
    """Seconds of one process and of two for as many pairs of the report's effects; all have been at work before."""
    preset, seconds = with_render(REPORT, n_test=SHARED), {1: [], 2: []}
    for _ in range(REPEATS):
        for jobs, taken in seconds.items():
            rendered(with_render(REPORT, n_test=512), folder, jobs)  # starts them
            taken.append(rendered(preset, folder, jobs))
    return seconds[1], seconds[2]


RENDER = """
import dataclasses, sys
from vaefx_lib import config, rendering
smoke = config.preset("smoke")
preset = dataclasses.replace(
    smoke,
    stft=dataclasses.replace(smoke.stft, num_frames=17),
    render=dataclasses.replace(smoke.render, n_test=int(sys.argv[1]), shard_pairs=64),
)
rendering.render(preset, "test", sys.argv[2], jobs=2, progress=False)
"""


def peak_memory_mb(pairs, folder):
    """Largest memory of a render by two processes and all their helpers together, in MB (proportional set size)."""
    shutil.rmtree(folder, ignore_errors=True)
    process = subprocess.Popen([sys.executable, "-c", RENDER, str(pairs), str(folder)], start_new_session=True)
    peak = 0
    while process.poll() is None:
        peak = max(peak, sum(memory_kb(pid) for pid in tree(process.pid)))
        time.sleep(0.02)
    assert process.returncode == 0
    return peak * 1024 / 1e6


def tree(root):
    """A process and all below it."""
    children = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue  # it has ended meanwhile
        children.setdefault(parent, []).append(int(stat.parent.name))
    found = [root]
    for pid in found:
        found += children.get(pid, [])
    return found


def memory_kb(pid):
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0  # it has ended meanwhile
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)


def main():
    runs = config.run_dir("bench").parent
    runs.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=runs) as temporary:
        folder = Path(temporary) / "data"
        small, large = zip(*([peak_memory_mb(pairs, folder) for pairs in (SMALL, LARGE)] for _ in range(REPEATS)))
        one, two = shared(folder)
        pairs_per_s = SHARED / statistics.median(one)
        speeds = times_real_time()
        rows, scores = efficiency(folder)
    rows += [
        benching.row(f"{SHARED:,} pairs by two processes", "s", two, "by one", one),
        benching.row(f"peak memory of rendering {LARGE:,} pairs", "MB", large, f"{SMALL:,} pairs", small),
    ]
    benching.keep(
        "render",
        rows,
        memory_ratio_10x=statistics.median(large) / statistics.median(small),
        speedup_2=statistics.median(one) / statistics.median(two),
        pairs_per_s=pairs_per_s,
        times_real_time=speeds,
        **scores,
    )


if __name__ == "__main__":
    main()
