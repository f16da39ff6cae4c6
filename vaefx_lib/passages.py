"""Which parts of a sound are measured: a few loud passages, spread over it, of an array or of a file of any length."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
import soundfile

from vaefx_lib import audio

RATE_HZ = 24_000  # of everything that is measured
SAMPLES = 131_072  # of a passage at `RATE_HZ`: 5.46 s
COUNT = 3  # passages of a long sound
SHORTEST_S = 0.5  # of a sound that still has a style
BLOCK_S = 0.25  # passages begin at whole numbers of these
QUIET = 0.01  # of the power of the loudest passage: one below (-20 dB) is not measured
LONG_S = 60.0  # of a file; of a longer one no more than a passage is held in memory


def of_sound(sound, sample_rate_hz: int, *, name: str = "audio") -> list[np.ndarray]:
    """The passages of a sound that are measured: one in each third, where it is loudest; mono, at its own rate.

    None overlap, and none is 20 dB below the loudest. A sound that is no longer than a passage is one.

    Parameters
    ----------
    sound : array, shape (samples,) or (channels, samples)
    sample_rate_hz : int
    name : str
        What an error calls it.

    Returns
    -------
    list of array, float32, shape (samples,)

    Raises
    ------
    AudioError
        If it is shorter than 0.5 s, silent (also if it is so in mono), not finite or not audio.

    Used in `05_controller_training`.
    """
    sound = audio.check(sound, name=name)
    _check_length(sound.shape[1], sample_rate_hz, name)
    block, samples = round(BLOCK_S * sample_rate_hz), math.ceil(SAMPLES * sample_rate_hz / RATE_HZ)
    starts = range(0, sound.shape[1], block)
    power = np.array([np.square(sound[:, at : at + block].mean(axis=0)).mean() for at in starts])
    found = [sound[:, at * block : at * block + samples].mean(axis=0) for at in _places(power)]
    return _checked(found, name)


def of_file(path: str | Path) -> tuple[list[np.ndarray], int]:
    """The passages of a sound file that are measured, and their rate.

    A file of up to a minute is loaded by `audio.load`, strictly; a longer one is read twice in small parts and may be
    larger than the memory.

    Returns
    -------
    passages : list of array, float32, shape (samples,)
    sample_rate_hz : int

    Raises
    ------
    AudioError
        As `of_sound` and `audio.load` raise it.

    Used in `05_controller_training`.
    """
    try:
        with soundfile.SoundFile(os.fsencode(path) if os.name == "posix" else path) as file:
            rate, frames = file.samplerate, file.frames
            is_long = LONG_S * rate < frames <= 2**40 and audio.MIN_RATE_HZ <= rate <= audio.MAX_RATE_HZ
            power = _power(file, path) if is_long else None
    except (soundfile.LibsndfileError, TypeError):  # `audio.load` says why
        power = None
    if power is None:
        sound, rate = audio.load(path)
        return of_sound(sound, rate, name=str(path)), rate
    block = round(BLOCK_S * rate)
    starts = [at * block * RATE_HZ // rate for at in _places(power)]
    found = [audio.load_stretch(path, start, SAMPLES, sample_rate_hz=RATE_HZ).mean(axis=0) for start in starts]
    return _checked(found, str(path)), RATE_HZ


def _power(file: soundfile.SoundFile, path: str | Path) -> np.ndarray:
    """Mean square of each block of an open file, as mono."""
    power, frames = [], 0
    for part in file.blocks(round(BLOCK_S * file.samplerate), dtype="float32", always_2d=True):
        power.append(np.square(audio.check(part.T, name=str(path)).mean(axis=0)).mean())
        frames += len(part)
    if frames < file.frames:
        raise audio.AudioError(f"{path} is cut short: its header promises {file.frames} samples, it holds {frames}")
    return np.array(power)


def _places(power: np.ndarray) -> list[int]:
    """Blocks at which passages begin, in order, for the mean power of each block."""
    length = math.ceil(SAMPLES / RATE_HZ / BLOCK_S)
    if len(power) <= length:
        return [0]
    sums = np.convolve(power, np.ones(length), "valid")[: max(1, len(power) - length)]  # the last block may be short
    chosen: list[int] = []
    for region in np.array_split(np.arange(len(sums)), min(COUNT, math.ceil(len(power) / length))):
        free = region[region >= (chosen[-1] + length if chosen else 0)]
        if free.size:
            chosen.append(int(free[np.argmax(sums[free])]))
    return [at for at in chosen if sums[at] >= QUIET * sums[chosen].max()]


def _check_length(samples: int, sample_rate_hz: int, name: str) -> None:
    if samples < SHORTEST_S * sample_rate_hz:
        raise audio.AudioError(
            f"{name} lasts {samples / sample_rate_hz:.3g} s (samples: {samples}): at least {SHORTEST_S:g} s are needed"
        )


def _checked(found: list[np.ndarray], name: str) -> list[np.ndarray]:
    if max(np.abs(passage).max() for passage in found) < audio.SILENT_PEAK:
        raise audio.AudioError(f"{name} is silent, or its channels cancel: as mono no sample is above -80 dBFS")
    return found
