"""Dry/wet pairs: a stretch of one speaker's sentences, and the same through an effect at known settings.

Pair `i` of a subset depends on (seed, subset, i) and the corpus alone, so the work can be divided in any way and gives
the same bytes. A render that was interrupted goes on with the shards (see `shards.py`) that are not whole.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
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
import soxr

from vaefx_lib import audio, config, corpora, effects, shards, store
from vaefx_lib.shards import Dataset, load

__all__ = ["Dataset", "load", "render", "render_pair"]

MAX_DRAWS = 100  # of one pair, before giving up
UNCHANGED = 1e-3  # of the peak: wet and dry that nowhere differ by more (-60 dB) are the same sound
MAX_LOST_WORKERS = 3
IDLE_S = 10  # after which a worker ends: the next subset finds them at work, training finds their memory free
SENTENCES_BYTES = 256 * 2**20  # decoded sentences that one process keeps

_sentences: dict[tuple, np.ndarray] = {}  # decoded ones; see `_sentence`


def render_pair(
    preset: config.Preset, subset: str, index: int, utterances: Sequence[corpora.Utterance]
) -> tuple[np.ndarray, dict]:
    """One dry/wet pair and its row of the manifest.

    Sentences of one speaker are joined in random order and cut at a random place; for training subsets they run at a
    random tape speed. Dry and wet are each brought to `peak_dbfs`, dry before the effect. A dry or wet sound that is
    silent (`audio.is_silent`), a wet one that is not finite, or nowhere differs from dry by more than 0.1 % of the
    peak, is drawn again, clip and settings, and counted.

    Parameters
    ----------
    preset : Preset
    subset : str
        One of `config.SUBSETS`; the "dummy" ones have all settings 0.5, the others uniform in [0, 1].
    index : int
    utterances : sequence of Utterance
        What to draw from.

    Returns
    -------
    pair : array, float32, shape (2, samples)
        Dry and wet, both mono.
    row : dict
        index, subset, speaker, utterances (ids, in order), offset (the clip's first sample in the joined sentences, at
        `sample_rate_hz` and before the speed change), speed, effect, settings, redraws, sample_rate_hz, seed.

    Raises
    ------
    ValueError
        For an unknown subset or effect, no utterances, or an effect that gives nothing usable in 100 draws.
    AudioError
        For an utterance that cannot be read.
    """
    choices, rate = preset.render, preset.stft.sample_rate_hz
    speakers = _by_speaker(utterances)
    if not speakers:
        raise ValueError(f"no utterances for subset {subset!r} of corpus {choices.corpus!r}: at least one is needed")
    effect = effects.load(choices.effects[index % len(choices.effects)])
    rng = np.random.default_rng([choices.seed, _subset_number(subset), index])
    fastest = choices.max_speed_change if subset in ("train", "dummy_train") else 0.0
    redraws = {"silent": 0, "nonfinite": 0, "unchanged": 0}
    for _ in range(MAX_DRAWS):
        speaker = sorted(speakers)[rng.integers(len(speakers))]
        speed = float(rng.uniform(1 - fastest, 1 + fastest))
        clip, ids, offset = _draw_clip(rng, speakers[speaker], preset.stft.num_samples, rate, speed)
        count = len(effect.params)
        settings = np.full(count, 0.5) if subset.startswith("dummy") else rng.uniform(size=count)
        pair, reason = _through(effect, clip, settings, rate, choices.peak_dbfs)
        if pair is None:
            redraws[reason] += 1
            continue
        return pair, {
            "index": index,
            "subset": subset,
            "speaker": speaker,
            "utterances": ids,
            "offset": offset,
            "speed": speed,
            "effect": effect.name,
            "settings": settings.tolist(),
            "redraws": redraws,
            "sample_rate_hz": rate,
            "seed": choices.seed,
        }
    counts = ", ".join(f"{n} {reason}" for reason, n in redraws.items())
    raise ValueError(f"{effect.name} gave no usable pair {index} of {subset!r} in {MAX_DRAWS} draws: {counts}")


def render(
    preset: config.Preset,
    subset: str,
    out_dir: str | Path,
    *,
    speech: Sequence[corpora.Utterance] | None = None,
    jobs: int | None = None,
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
    progress : bool
        A bar in a terminal or live notebook, else a line every few seconds on stderr.

    Returns
    -------
    Dataset

    Raises
    ------
    ValueError, AudioError
        As for `render_pair`; ValueError too for a subset without pairs.
    OSError
        If a file cannot be written, no space left included; what is whole stays and is kept by the next call.
    ChildProcessError
        If processes are killed again and again, for example for lack of memory.

    Used in `01_data_rendering`.
    """
    number, out_dir = _subset_number(subset), Path(out_dir)
    count, step = getattr(preset.render, f"n_{subset}"), preset.render.shard_pairs
    if count < 1:
        raise ValueError(f"n_{subset} of preset {preset.name!r} is {count}: at least 1 pair is needed")
    if speech is None:
        everything = corpora.load(preset.render.corpus)
        part = {"dummy_train": "train", "dummy_test": "test"}.get(subset, subset)
        speech = corpora.split(everything, preset.render.corpus)[part]
        corpus = corpora.fingerprint(preset.render.corpus)
    else:
        corpus = corpora.fingerprint(list(speech))
    choices = _choices(preset, subset)
    fingerprint = store.fingerprint(choices, number, corpus, *_sources())

    ranges = {
        out_dir / f"shard-{start // step:05d}.npy": range(start, min(start + step, count))
        for start in range(0, count, step)
    }
    for lost in itertools.count(1):
        whole = shards.keep_whole(out_dir, ranges, fingerprint)
        tasks = [(preset, subset, ranges[path], speech, path, fingerprint) for path in ranges if path not in whole]
        done = sum(len(ranges[path]) for path in whole)
        try:
            whole.update(_follow(_work(tasks, jobs), subset, count, done, progress))
            break
        except BrokenProcessPool as error:
            if lost > MAX_LOST_WORKERS:
                raise ChildProcessError(f"rendering {subset!r} lost {lost} processes: they were killed") from error
            print(f"{subset}: a process was killed; going on without it", file=sys.stderr, flush=True)
    versions = {name: version(name) for name in ("numpy", "numba", "soxr", "soundfile")}
    about = {"subset": subset, "sample_rate_hz": choices["sample_rate_hz"], "choices": choices, "versions": versions}
    shards.finish(out_dir, {path: whole[path] for path in ranges}, about)
    return load(out_dir)


def _draw_clip(rng, utterances, num_samples: int, rate: int, speed: float):
    """A clip (num_samples,) of joined utterances in random order at a tape speed, their ids, and its offset in them."""
    needed = math.ceil(num_samples * speed) + 8  # a few more, so that rounding never leaves the clip short
    order = rng.permutation(len(utterances))
    joined, ids = [], []
    offset = int(rng.integers(len(_sentence(utterances[order[0]].path, rate))))
    while sum(map(len, joined)) < offset + needed:
        utterance = utterances[order[len(ids) % len(order)]]  # a speaker with little to say repeats it
        joined.append(_sentence(utterance.path, rate))
        ids.append(utterance.utterance_id)
    clip = np.concatenate(joined)[offset : offset + needed]
    if speed != 1:
        clip = soxr.resample(clip, rate * speed, rate)
    return clip[:num_samples], ids, offset


def _through(effect, clip: np.ndarray, settings: np.ndarray, rate: int, peak_dbfs: float):
    """The levelled pair (2, samples) and None, or None and why the result is of no use."""
    if np.abs(clip).max() < audio.SILENT_PEAK:
        return None, "silent"
    dry = audio.peak_level(clip, peak_dbfs)
    if audio.is_silent(dry):
        return None, "silent"
    wet = effect.render(dry, settings, rate)  # (channels, samples)
    if not np.isfinite(wet).all():
        return None, "nonfinite"
    wet = wet.mean(axis=0)
    if audio.is_silent(wet):
        return None, "silent"
    wet = audio.peak_level(wet, peak_dbfs)
    if np.abs(wet - dry).max() < UNCHANGED * np.abs(dry).max():
        return None, "unchanged"
    return np.stack([dry, wet]), None


def _sentence(path: Path, rate: int) -> np.ndarray:
    """An utterance, mono, float32 (samples,), decoded once per process as long as it fits."""
    stat = path.stat()
    key = (path, rate, stat.st_mtime_ns, stat.st_size)
    if key not in _sentences:
        sentence = audio.to_mono(audio.load(path, sample_rate_hz=rate)[0])
        if sum(s.nbytes for s in _sentences.values()) + sentence.nbytes > SENTENCES_BYTES:
            _sentences.clear()
        _sentences[key] = sentence
    return _sentences[key]


def _by_speaker(utterances) -> dict[str, list]:
    speakers: dict[str, list] = {}
    for utterance in utterances:
        speakers.setdefault(utterance.speaker, []).append(utterance)
    return speakers


def _subset_number(subset: str) -> int:
    if subset not in config.SUBSETS:
        raise ValueError(f"unknown subset {subset!r}: known are {', '.join(config.SUBSETS)}")
    return config.SUBSETS.index(subset)


def _choices(preset: config.Preset, subset: str) -> dict:
    """The part of a preset that the pairs of a subset depend on."""
    render = {key: value for key, value in dataclasses.asdict(preset.render).items() if not key.startswith("n_")}
    pairs = getattr(preset.render, f"n_{subset}")
    stft = preset.stft
    return {"pairs": pairs, "sample_rate_hz": stft.sample_rate_hz, "num_samples": stft.num_samples, **render}


def _sources() -> list[Path]:
    """The source files that decide what a pair sounds like."""
    here = Path(__file__).parent
    return [
        here / "audio.py",
        here / "corpora.py",
        here / "rendering.py",
        here / "shards.py",
        *sorted((here / "effects").glob("*.py")),
    ]


def _work(tasks: list[tuple], jobs: int | None) -> Iterator[tuple[Path, dict]]:
    """Shards as they become ready, in any order."""
    jobs = min(jobs or joblib.cpu_count(), max(1, len(tasks)))
    with joblib.parallel_config("loky", inner_max_num_threads=1):
        parallel = joblib.Parallel(
            n_jobs=jobs, return_as="generator_unordered", batch_size=1, idle_worker_timeout=IDLE_S
        )
        yield from parallel(joblib.delayed(_render_shard)(*task, os.getpid()) for task in tasks)


@functools.cache
def _end_with(main: int) -> None:
    """End this worker soon after its main process, which may be killed without a chance to say so."""

    def watch():
        while os.getppid() == main:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _render_shard(
    preset, subset: str, indices: range, utterances, path: Path, fingerprint: str, main: int
) -> tuple[Path, dict]:
    """Render one shard and write it, its rows last; `main` is the id of the process that wants it."""
    if os.getpid() != main:
        _end_with(main)
    pairs, rows = np.empty((len(indices), 2, preset.stft.num_samples), np.float32), []
    for pair, index in zip(pairs, indices, strict=True):
        pair[:], row = render_pair(preset, subset, index, utterances)
        rows.append(row)
    return path, shards.write(path, pairs, rows, fingerprint)


def _follow(results, label: str, total: int, done: int, progress: bool):
    """Pass `results` on, and show how many pairs are done."""
    live = progress and (sys.stderr.isatty() or ("ipykernel" in sys.modules and not os.environ.get("VAEFX_HEADLESS")))
    if live:
        from tqdm.auto import tqdm

        with tqdm(total=total, initial=done, desc=label, unit="pair") as bar:
            for path, shard in results:
                bar.update(len(shard["rows"]))
                yield path, shard
        return
    begun = last = time.monotonic()
    for path, shard in results:
        done += len(shard["rows"])
        now = time.monotonic()
        if progress and (now - last > 5 or (done == total and now - begun > 5)):
            print(f"{label}: {done:,} of {total:,} pairs after {now - begun:.0f} s", file=sys.stderr, flush=True)
            last = now
        yield path, shard
