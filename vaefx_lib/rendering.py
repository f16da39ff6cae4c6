"""Thousands of dry/wet pairs (see `pairs.py`), on every processor of a machine or of a cluster.

The work can be divided in any way and gives the same bytes. A render that was interrupted goes on with the shards (see
`shards.py`) that are not whole. What the workers need to know stands in `plan.json` beside the shards: a task is a
number, so that nothing grows with the size of a corpus, and any process that sees the folder can do it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from importlib.metadata import version
from pathlib import Path

import joblib
import numpy as np

from vaefx_lib import config, corpora, corpus_split, effects, pairs, preset_json, shard_writing, shards, store
from vaefx_lib.pairs import UNCHANGED, render_pair
from vaefx_lib.shards import Dataset, load

__all__ = ["UNCHANGED", "Dataset", "load", "render", "render_pair"]

MAX_LOST_WORKERS = 3
IDLE_S = 10  # after which a worker ends: the next subset finds them at work, training finds their memory free


def render(
    preset: config.Preset,
    subset: str,
    out_dir: str | Path,
    *,
    speech: Sequence[corpora.Utterance] | None = None,
    jobs: int | None = None,
    dask: str | None = None,
    progress: bool = True,
) -> Dataset:
    """Render all pairs of a subset into `out_dir`; shards that are there already are kept.

    Parameters
    ----------
    preset : Preset
    subset : str
        One of `config.SUBSETS`.
    out_dir : path
    speech : sequence of Utterance, optional
        Draw from these instead of the subset's part of the preset's corpus.
    jobs : int, optional
        Processes; by default one per processor. With 1, all happens in this process.
    dask : str, optional
        Address of a dask scheduler, such as ``"tcp://127.0.0.1:8786"``: its workers render instead. They must have
        this library, the effects, and see `out_dir` and the corpus under the same paths.
    progress : bool
        A bar in a terminal or live notebook, else a line every few seconds on stderr.

    Returns
    -------
    Dataset

    Raises
    ------
    ValueError, AudioError, EffectFailed
        As for `pairs.render_pair`; ValueError too for a subset without pairs.
    OSError
        If a file cannot be written, no space left included; what is whole stays and is kept by the next call.
    ChildProcessError
        If processes are killed again and again, for example for lack of memory.

    Used in `01_data_rendering`.
    """
    number, out_dir = pairs.subset_number(subset), Path(out_dir).absolute()
    count, step = getattr(preset.render, f"n_{subset}"), preset.render.shard_pairs
    if count < 1:
        raise ValueError(f"n_{subset} of preset {preset.name!r} is {count}: at least 1 pair is needed")
    name, damaged = preset.render.corpus, {}
    if speech is None:
        everything = corpora.load(name)
        speech = corpus_split.split(everything, name)[subset.removeprefix("dummy_")]
        corpus = corpora.fingerprint("speech" if name == "speech" else everything)
        damaged = {} if name == "speech" else corpora.check(name).damaged
    else:
        corpus = corpora.fingerprint(list(speech))
    choices = _choices(preset, subset)
    plugins = {name: effects.load(name).version for name in preset.render.effects}
    fingerprint = store.fingerprint(choices, number, corpus, plugins, *_sources())

    paths = [_shard_path(out_dir, shard) for shard in range(-(-count // step))]
    whole = shard_writing.keep_whole(out_dir, paths, fingerprint)
    if len(whole) < len(paths):
        _write_plan(out_dir, preset, subset, speech, fingerprint)
    for lost in itertools.count(1):
        wanted = [shard for shard, path in enumerate(paths) if path not in whole]
        done = sum(shard["pairs"] for shard in whole.values())
        try:
            for shard in _follow(_work(out_dir, wanted, jobs, dask), subset, count, done, progress):
                whole[out_dir / shard["file"]] = shard
            break
        except BrokenProcessPool as error:
            if lost > MAX_LOST_WORKERS:
                raise ChildProcessError(f"rendering {subset!r} lost {lost} processes: they were killed") from error
            print(f"{subset}: a process was killed; going on without it", file=sys.stderr, flush=True)
            whole = shard_writing.keep_whole(out_dir, paths, fingerprint)
    versions = {name: version(name) for name in ("numpy", "numba", "soxr", "soundfile", "pedalboard")} | plugins
    about = {"subset": subset, "sample_rate_hz": choices["sample_rate_hz"], "choices": choices, "versions": versions}
    about["damaged_recordings"] = damaged
    shard_writing.finish(out_dir, [whole[path] for path in paths], fingerprint, about)
    return load(out_dir)


def _choices(preset: config.Preset, subset: str) -> dict:
    """The part of a preset that the pairs of a subset depend on."""
    render = {key: value for key, value in dataclasses.asdict(preset.render).items() if not key.startswith("n_")}
    pairs = getattr(preset.render, f"n_{subset}")
    stft = preset.stft
    return {"pairs": pairs, "sample_rate_hz": stft.sample_rate_hz, "num_samples": stft.num_samples, **render}


def _sources() -> list[Path]:
    """The source files that decide what a pair sounds like."""
    here = Path(__file__).parent
    own = ("audio", "audio_faults", "corpora", "corpus_split", "dry_clips", "pairs", "shards", "shard_writing")
    return [*(here / f"{name}.py" for name in own), *sorted((here / "effects").glob("*.py"))]


def _write_plan(out_dir: Path, preset: config.Preset, subset: str, speech, fingerprint: str) -> None:
    """Write what workers need to know."""
    utterances = [{**dataclasses.asdict(u), "path": str(u.path.absolute())} for u in speech]
    plan = {
        "fingerprint": fingerprint,
        "preset": preset_json.to_json(preset),
        "subset": subset,
        "utterances": utterances,
    }
    store.write_json(out_dir / shards.PLAN, plan)


@functools.lru_cache(maxsize=1)
def _read_plan(path: Path, _mtime_ns: int):
    """Preset, subset, utterances by speaker, fingerprint."""
    plan = store.read_json(path)
    utterances = [corpora.Utterance(**{**u, "path": Path(u["path"])}) for u in plan["utterances"]]
    return preset_json.from_json(plan["preset"]), plan["subset"], pairs.by_speaker(utterances), plan["fingerprint"]


def _shard_path(out_dir: Path, number: int) -> Path:
    return out_dir / f"shard-{number:05d}.npy"


def _render_shard(out_dir: Path, number: int, main: int | None) -> dict:
    """Render one shard of the plan in a folder and write it; `main` is the process that it may not outlive."""
    if main is not None and os.getpid() != main:
        _end_with(main)
    path = out_dir / shards.PLAN
    preset, subset, speakers, fingerprint = _read_plan(path, path.stat().st_mtime_ns)
    count, step = getattr(preset.render, f"n_{subset}"), preset.render.shard_pairs
    indices = range(number * step, min((number + 1) * step, count))
    channels = (preset.render.channels,) if preset.render.channels > 1 else ()

    def fill(pair: np.ndarray, i: int) -> dict:
        return render_pair(preset, subset, indices[i], speakers, out=pair)[1]

    shape = (len(indices), 2, *channels, preset.stft.num_samples)
    return shard_writing.write(_shard_path(out_dir, number), shape, fill, fingerprint)


def _work(out_dir: Path, numbers: list[int], jobs: int | None, dask: str | None) -> Iterator[dict]:
    """Shards as they become ready, in any order."""
    with contextlib.ExitStack() as stack:
        if dask is None:
            options = {"n_jobs": min(jobs or joblib.cpu_count(), max(1, len(numbers))), "idle_worker_timeout": IDLE_S}
            stack.enter_context(joblib.parallel_config("loky", inner_max_num_threads=1))
        else:
            options = {"n_jobs": -1}
            stack.enter_context(_dask_client(dask))
            stack.enter_context(joblib.parallel_config("dask"))
        parallel = joblib.Parallel(return_as="generator_unordered", batch_size=1, **options)
        main = os.getpid() if dask is None else None
        yield from parallel(joblib.delayed(_render_shard)(out_dir, number, main) for number in numbers)


def _dask_client(address: str):
    """A connection to a dask scheduler."""
    try:
        from distributed import Client
    except ImportError as error:
        raise ValueError("rendering on a dask cluster needs dask: install vaefx with the extra [cluster]") from error
    try:
        return Client(address, timeout=10)
    except (OSError, ValueError) as error:
        raise ValueError(f"no dask scheduler answers at {address!r}: {error}") from error


@functools.cache
def _end_with(main: int) -> None:
    """End this worker soon after its main process, which may be killed without a chance to say so."""

    def watch():
        while os.getppid() == main:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _follow(results, label: str, total: int, done: int, progress: bool):
    """Pass `results` on, and show how many pairs are done."""
    live = progress and (sys.stderr.isatty() or ("ipykernel" in sys.modules and not os.environ.get("VAEFX_HEADLESS")))
    if live:
        from tqdm.auto import tqdm

        with tqdm(total=total, initial=done, desc=label, unit="pair") as bar:
            for shard in results:
                bar.update(shard["pairs"])
                yield shard
        return
    begun = last = time.monotonic()
    for shard in results:
        done += shard["pairs"]
        now = time.monotonic()
        if progress and (now - last > 5 or (done == total and now - begun > 5)):
            print(f"{label}: {done:,} of {total:,} pairs after {now - begun:.0f} s", file=sys.stderr, flush=True)
            last = now
        yield shard
