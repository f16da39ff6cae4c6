"""What the critic learns from: sounds whose truth is known, through many effects at settings near and far apart.

A *group* has one dry passage and another one of other words, both through the same eight effects and settings. Each of
the eight is the truth for all others and for the dry passage, with the other words' wet passage as the reference. Every
second group is of speech, the others of invented music: what learned from speech alone knows little of recorded music.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vaefx_lib import (
    audio,
    blackbox,
    effects,
    invented_music,
    passages,
    processes,
    references,
    store,
    style,
    style_space,
)
from vaefx_lib.stft_distance import spectra

VARIANTS, NEAR, FAR = 8, 3, 2  # of a group; of the first one's effect at settings near it, and anywhere; others' rest
SETTABLE = 2.0  # how much more often an effect that is to be set is drawn than another
CLOSEST, FARTHEST = 0.02, 0.5  # deviations from the first one's settings of those near it
KINDS = "speech", "invented music"  # of dry sounds; every second group is of the one, every second of the other
PIECES, PLAYED = {"train": 140, "valid": 25}, 4  # of invented music, and passages of each
CHUNK = 100  # groups in one file


@dataclasses.dataclass(frozen=True, eq=False)
class Groups:
    """Groups as the critic learns from them, `n` of them; `VARIANTS` wet sounds each, and the dry one as the last.

    Attributes
    ----------
    inputs : array, float32, shape (n, 9, n_measures)
        Measures of the input through each effect, and dry.
    references : array, float32, shape (n, 8, n_measures)
        Of the other passage through each.
    compared : array, float32, shape (n, 8, 9, 5)
        `style_space.Space.compare` of each reference with each input.
    distances : array, float32, shape (n, 8, 9)
        MRSTFT of each input from each truth.
    kinds : array of int, shape (n, 8)
        Which effect.
    """

    inputs: np.ndarray
    references: np.ndarray
    compared: np.ndarray
    distances: np.ndarray
    kinds: np.ndarray


def invented(part: str, peak_dbfs: float, *, folder: Path, key: str, seed: int) -> references.Dry:
    """Passages of invented music, a piece in place of a speaker, kept in a folder.

    Raises
    ------
    ValueError
        If a piece was silent in `references.TRIES` draws.
    """
    numbered = [(piece, passage) for piece in range(PIECES[part]) for passage in range(PLAYED)]

    def one(which: tuple[int, int]) -> np.ndarray:
        own = [seed, ("train", "valid").index(part), which[0]]
        piece = invented_music.invent(np.random.default_rng(own), passages.RATE_HZ)
        for rng in np.random.default_rng([*own, which[1]]).spawn(references.TRIES):
            sound = audio.peak_level(invented_music.play(piece, rng, passages.SAMPLES), peak_dbfs)
            if not audio.is_silent(sound):
                return sound
        raise ValueError(f"invented piece {which[0]} was silent in {references.TRIES} draws")

    def compute() -> dict[str, np.ndarray]:
        return {"sounds": np.stack(processes.each(one, numbered))}

    sounds = store.cached(folder / f"music_{part}.safetensors", key, compute)["sounds"]
    return references.Dry(sounds, np.array([f"piece {piece}" for piece, _ in numbered]))


def draw_all(
    kinds: Sequence[references.Dry],
    names: Sequence[str],
    settable: int,
    space: style_space.Space,
    part: str,
    count: int,
    *,
    folder: Path,
    key: str,
    seed: int,
) -> Groups:
    """All groups of a part, of each kind of dry sounds in turn, by all processors, kept in files of `CHUNK`.

    Raises
    ------
    ValueError
        As `draw` raises it.
    """
    chunks = []
    for start in range(0, count, CHUNK):
        rows = range(start, min(start + CHUNK, count))

        def compute(rows=rows) -> dict[str, np.ndarray]:
            made = processes.each(lambda i: draw(kinds[i % len(kinds)], names, settable, space, part, i, seed), rows)
            return {name: np.stack([one[name] for one in made]) for name in made[0]}

        chunks.append(store.cached(folder / f"{part}_{start}.safetensors", f"{key} {rows}", compute))
        print(f"groups of {part}: {rows.stop} of {count}", flush=True)
    return Groups(**{name: np.concatenate([chunk[name] for chunk in chunks]) for name in chunks[0]})


def draw(
    dry: references.Dry, names: Sequence[str], settable: int, space: style_space.Space, part: str, index: int, seed: int
) -> dict[str, np.ndarray]:
    """One group: the fields of `Groups` without their first axis. It depends on its number and the seed alone.

    The first `settable` names are drawn `SETTABLE` times as often as the others.

    Raises
    ------
    ValueError
        If nothing was heard in `references.TRIES` draws.
    """
    fxs = {name: effects.load(name) for name in names}
    weights = np.where(np.arange(len(names)) < settable, SETTABLE, 1.0)
    weights /= weights.sum()
    rng = np.random.default_rng([seed, ("train", "valid").index(part), index])
    for _ in range(references.TRIES):
        x = int(rng.integers(len(dry.sounds)))
        y = dry.other(rng, x, same_speaker=rng.uniform() < references.SAME_VOICE)
        variants = _variants(rng, names, fxs, weights)
        try:
            wet = [
                [blackbox.wet(fxs[name], dry.sounds[at], s, passages.RATE_HZ) for name, s in variants] for at in (x, y)
            ]
        except effects.EffectFailed:
            continue
        if not any(audio.is_silent(sound) for sounds in wet for sound in sounds):
            break
    else:
        raise ValueError(f"group {index} was silent in {references.TRIES} draws")
    sounds = [*wet[0], dry.sounds[x]]
    inputs, others = [style.measure(sound) for sound in sounds], [style.measure(sound) for sound in wet[1]]
    analysed = [spectra(sound) for sound in sounds]
    compare = [space.compare(other) for other in others]
    return {
        "inputs": np.stack([one.numbers for one in inputs]),
        "references": np.stack([one.numbers for one in others]),
        "compared": np.array([[with_(one) for one in inputs] for with_ in compare]),
        "distances": np.array([[truth.distance(one) for one in analysed] for truth in analysed[:-1]], np.float32),
        "kinds": np.array([names.index(name) for name, _ in variants]),
    }


def _variants(rng: np.random.Generator, names: Sequence[str], fxs, weights) -> list[tuple[str, np.ndarray]]:
    """Effects and settings of one group."""
    first = names[rng.choice(len(names), p=weights)]
    at = rng.uniform(size=len(fxs[first].params))
    found = [(first, at)]
    for _ in range(NEAR):
        deviation = np.exp(rng.uniform(np.log(CLOSEST), np.log(FARTHEST)))
        moved = rng.uniform(size=len(at)) < rng.choice([0.3, 1.0])
        if not moved.any():
            moved[rng.integers(len(at))] = True
        found.append((first, np.clip(at + moved * deviation * rng.standard_normal(len(at)), 0, 1)))
    found += [(first, rng.uniform(size=len(at))) for _ in range(FAR)]
    while len(found) < VARIANTS:
        other = names[rng.choice(len(names), p=weights)]
        found.append((other, rng.uniform(size=len(fxs[other].params))))
    return found
