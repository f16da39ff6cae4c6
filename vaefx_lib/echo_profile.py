"""Which echoes a sound has, and whether the faint one comes after the strong one or before it.

A dry sound beneath a strong echo is a *pre-echo*, and magnitude spectra cannot tell it from an echo: 1 + a z^-L and
a + z^-L have the same. Time can: where a sound is quiet, the faint one is heard alone, and repeats what was loud so
long before, or what will be loud so long after.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.fft
from scipy.ndimage import uniform_filter1d

from vaefx_lib import audio, passages, style

LONGEST = style.LONGEST  # samples: lags from minus this to this
FIRST = 48  # samples (2 ms): what is nearer is the colour of a filter and no echo
CLEAR = 5.0  # deviations by which an echo stands out of the speech
BROAD = 201  # lags over which the deviation is measured: voices repeat themselves at the lags of their pitch
SHORT = 240  # samples (10 ms) over which the level is measured
LOUD = 0.9  # quantile of that level over time
FLOOR = 1e-3  # of that (-30 dB): what is still quieter weighs no more
WHITENED = 401  # bins of 0.18 Hz: the colour of the sound, finer than a filter and coarser than a comb
LEAST = 1e-3  # of all energy: what a lag has to be measured on, at least
BLOCK = 16  # samples: of what lags are measured on, which is as smooth as the level
LENGTH = 2 * scipy.fft.next_fast_len((passages.SAMPLES + LONGEST) // 2 + 1, real=True)  # samples of a correlation
LAGS = np.arange(-LONGEST, LONGEST + 1)
WIDTHS = (1, 17)  # samples over which two echoes may miss each other and still be alike


@dataclass(frozen=True, eq=False)
class Whitened:
    """A sound without its colour.

    Attributes
    ----------
    white : array, float32, shape (samples,)
        Every stretch of 73 Hz of its spectrum at one level.
    weights : array, float32, shape (samples,)
        Of each sample: the quieter the sound is there, the heavier.
    spectrum, weighted : array, complex64, shape (1 + LENGTH / 2,)
        Of the white sound, and of it times the weights.
    """

    white: np.ndarray
    weights: np.ndarray
    spectrum: np.ndarray
    weighted: np.ndarray


def measure(sound) -> np.ndarray:
    """How strong each echo is, beside what it is an echo of, and on which side; its level has no influence.

    Each sample of the whitened sound is explained by that one so many samples before, as far as it can be. This is the
    regression whose errors are as large as the sound is loud there, so quiet samples weigh most. What stays within the
    deviation of its neighbours, over all lags nearby, is no echo.

    Parameters
    ----------
    sound : array, shape (samples,)
        At 24 kHz; of more than 5.46 s the first 5.46 s.

    Returns
    -------
    array, float32, shape (68001,)
        At index 34000 + lag for each lag in samples from -34000 to 34000: the ratio of the faint to the strong one, 0
        where there is no echo. At a positive lag the faint one comes after the strong one: an echo; at a negative one
        before it: a pre-echo.

    Raises
    ------
    AudioError
        If the sound is not finite, all zeros or not mono.

    References
    ----------
    Aitken: On least squares and linear combination of observations, 1936, for the weights.

    Used in `05_controller_training`.
    """
    return profile(whiten(sound))


def profile(sound: Whitened) -> np.ndarray:
    """`measure` of a sound that is whitened already."""
    power = np.square(sound.white)
    explained = _around(sound.weighted * np.conj(sound.spectrum), LONGEST)
    blocks = scipy.fft.rfft([_blocks(sound.weights), _blocks(power)], -(-LENGTH // BLOCK))
    by = _around(blocks[0] * np.conj(blocks[1]), LONGEST // BLOCK + 1) / BLOCK  # smooth over the lags
    by = np.interp(LAGS, BLOCK * (np.arange(len(by)) - len(by) // 2), np.maximum(by, 0)).astype(np.float32)
    least = np.float32(LEAST * power.sum())
    deviations = explained / np.sqrt(by + least)
    usual = uniform_filter1d(np.abs(deviations), BROAD) / np.float32(0.8)
    usual = np.maximum(usual, np.median(np.abs(deviations)) / np.float32(0.67)) + np.float32(1e-9)
    share = np.maximum(1 - np.float32(CLEAR) * usual / np.maximum(np.abs(deviations), 1e-9), 0)
    share[LONGEST - FIRST + 1 : LONGEST + FIRST] = 0
    return explained / (by + least * sound.weights.mean()) * share


def whiten(sound) -> Whitened:
    """A sound without its colour.

    Parameters
    ----------
    sound : array, shape (samples,)
        As `measure` takes it.

    Raises
    ------
    AudioError
        If the sound is not finite, all zeros or not mono.
    """
    x = audio.check(sound)
    if len(x) != 1:
        raise audio.AudioError(f"the sound has {len(x)} channels: echoes are measured on one")
    x = x[0][: passages.SAMPLES]
    level = uniform_filter1d(np.square(x), SHORT, mode="constant")
    loud = np.quantile(level[::64], LOUD) or level.max()
    if not loud > 0:
        raise audio.AudioError("the sound is all zeros: it has no echoes")
    weights = 1 / (level / loud + np.float32(FLOOR))
    white = _whitened(x)
    return Whitened(white, weights, scipy.fft.rfft(white, LENGTH), scipy.fft.rfft(white * weights, LENGTH))


def mean(profiles: Sequence[np.ndarray]) -> np.ndarray:
    """The profile of several passages together."""
    return np.mean(profiles, axis=0)


def unlike(wanted: np.ndarray) -> Callable[[np.ndarray], float]:
    """How unlike another profile the wanted one is, as a function of the other.

    0 for the same, 1 for one with other echoes or none, 2 for the same upside down; always 0 if none are wanted.
    """
    aims = [style.smooth(wanted, width) for width in WIDTHS]

    def compare(other: np.ndarray) -> float:
        found = []
        for width, aim in zip(WIDTHS, aims):
            there = style.smooth(other, width)
            most = np.maximum(np.abs(aim), np.abs(there)).sum()
            found.append(float(np.abs(aim - there).sum() / most) if most else 0.0)
        return float(np.mean(found))

    return compare if wanted.any() else lambda other: 0.0


def _whitened(x: np.ndarray) -> np.ndarray:
    """The sound without its colour: every stretch of 73 Hz of its spectrum at one level, its phase kept."""
    spectrum = scipy.fft.rfft(x, passages.SAMPLES)
    size = np.sqrt(uniform_filter1d(np.square(spectrum.real) + np.square(spectrum.imag), WHITENED))
    return scipy.fft.irfft(spectrum / (size + np.float32(1e-3) * size.max()))[: len(x)]


def _blocks(x: np.ndarray) -> np.ndarray:
    return np.add.reduceat(x, np.arange(0, len(x), BLOCK))


def _around(cross: np.ndarray, most: int) -> np.ndarray:
    """The correlation with this spectrum, for each lag from minus `most` to `most`."""
    both = scipy.fft.irfft(cross)
    return np.concatenate([both[-most:], both[: most + 1]])
