"""Multi-resolution STFT distances: how far apart two sounds are on spectrograms with windows of several lengths."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vaefx_lib import sound_loss
from vaefx_lib.audio import SILENT_MEAN_SQUARE, check, is_silent

MRSTFT_SAMPLES = 2048  # the longest window of `mrstft`: a shorter clip has no whole frame
WIDE_WINDOWS = (32, 128, 512, 2048, 8192, 32768)  # samples: 1.3 ms to 1.4 s at 24 kHz


def mrstft(y, y_hat) -> float:
    """Multi-resolution STFT distance of a sound from the true one: no unit, 0 is the same, lower is better.

    The mean over three windows (10, 25 and 50 ms at 24 kHz) of *spectral convergence*, the norm of the error of the
    magnitudes divided by that of the true ones, plus the mean absolute error of their natural logarithms. Phase has
    no influence of its own.

    Parameters
    ----------
    y, y_hat : array, shape (samples,)
        The true sound and the other one; at least 2,048 samples.

    Raises
    ------
    AudioError
        If a sound is empty, not finite, or too short.
    ValueError
        If the shapes differ, or `y` is silent (`audio.is_silent`), from which every distance is huge. `y_hat` may be:
        that distance is finite, but its gradient is 0, so that a model which has gone silent would never learn.

    References
    ----------
    Yamamoto, Song, Kim: Parallel WaveGAN, ICASSP 2020; computed by auraloss (Steinmetz and Reiss, 2020) with its
    windows of 600, 1200 and 240 samples in transforms of 1024, 2048 and 512.

    Used in `07_loss_and_phase`.
    """
    import torch  # here: it takes seconds to import, and the other metrics do without

    y, y_hat = two_sounds(y, y_hat, min_samples=MRSTFT_SAMPLES)
    refuse_silence(y)
    with torch.inference_mode():
        estimate, target = (torch.from_numpy(x.astype(np.float32))[None, None] for x in (y_hat, y))
        return float(_mrstft()(estimate, target))


@dataclass(frozen=True, eq=False)
class Spectra:
    """What the multi-resolution STFT distance compares of a sound: for each window magnitudes and their logarithms.

    Attributes
    ----------
    magnitudes, logarithms : tuple of array, float32, shape (frames, bins)
    norms : tuple of float
        Of the magnitudes.
    """

    magnitudes: tuple[np.ndarray, ...]
    logarithms: tuple[np.ndarray, ...]
    norms: tuple[float, ...]

    def distance(self, other: Spectra) -> float:
        """`mrstft_wide` of another sound from this, the true one, over the windows that both were analysed with."""
        total = 0.0
        for m, log, norm, m_hat, log_hat in zip(
            self.magnitudes, self.logarithms, self.norms, other.magnitudes, other.logarithms, strict=True
        ):
            squares, differences = _apart(m, m_hat, log, log_hat)
            total += math.sqrt(squares) / norm + differences / m.size
        return total / len(self.norms)


def spectra(y, windows: Sequence[int] = WIDE_WINDOWS) -> Spectra:
    """Analyse a sound for `Spectra.distance`.

    Parameters
    ----------
    y : array, shape (samples,)
        At least as many samples as the longest window.
    windows : sequence of int
        In samples, each half a window from the next.

    Raises
    ------
    AudioError
        If the sound is empty, not finite or too short.

    Used in `05_controller_training`.
    """
    y, _ = two_sounds(y, y, min_samples=max(windows))
    magnitudes = tuple(sound_loss.magnitudes(y, window, window // 2, window) for window in windows)
    return Spectra(magnitudes, tuple(map(np.log, magnitudes)), tuple(float(np.linalg.norm(m)) for m in magnitudes))


class MrstftTo:
    """`mrstft_wide` from one true sound, which is analysed once: `MrstftTo(y)(y_hat)`.

    Parameters
    ----------
    y : array, shape (samples,)
        The true sound; at least 32,768 samples.

    Raises
    ------
    AudioError, ValueError
        As `mrstft_wide`.

    Used in `05_controller_training`.
    """

    def __init__(self, y):
        self._y = y
        self._spectra = spectra(y)
        refuse_silence(y)

    def __call__(self, y_hat) -> float:
        """The distance of one sound, shape (samples,), from the true one."""
        two_sounds(self._y, y_hat)
        return self._spectra.distance(spectra(y_hat))


def mrstft_wide(y, y_hat) -> float:
    """Multi-resolution STFT distance over windows of 1.3 ms to 1.4 s: no unit, 0 is the same, lower is better.

    As `mrstft`, but the mean over windows of 32, 128, 512, 2048, 8192 and 32768 samples, each half a window from the
    next: the short ones see attacks and distortion, the long ones echoes, tuning and tone. `MrstftTo` is the same with
    the true sound analysed once.

    Parameters
    ----------
    y, y_hat : array, shape (samples,)
        The true sound and the other one; at least 32,768 samples.

    Raises
    ------
    AudioError
        If a sound is empty, not finite, or too short.
    ValueError
        If the shapes differ, or `y` is silent (`audio.is_silent`), from which every distance is huge. `y_hat` may be.

    References
    ----------
    Windows and hops of Steinmetz, Bryan, Reiss: Style transfer of audio effects with differentiable signal
    processing, JAES 70(9), 2022. The first of the two terms is there the mean absolute error of the magnitudes, which
    grows with the level; here it is spectral convergence, which does not.

    Used in `05_controller_training`.
    """
    return MrstftTo(y)(y_hat)


def two_sounds(y, y_hat, *, min_samples: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """A true sound and another one, checked: float32 of one shape (samples,).

    Raises
    ------
    AudioError
        If a sound is empty, not finite, or shorter than `min_samples`.
    ValueError
        If the shapes differ or are not (samples,).
    """
    if np.shape(y) != np.shape(y_hat) or np.ndim(y) != 1:
        raise ValueError(f"sounds of shapes {np.shape(y)} and {np.shape(y_hat)}: both must be the same (samples,)")
    y, y_hat = (check(x, min_samples=min_samples, name=n)[0] for x, n in ((y, "the true sound"), (y_hat, "the other")))
    return y, y_hat


def refuse_silence(y, *, name: str = "the true sound", what: str = "from which every distance is huge") -> None:
    """Raise ValueError if a sound is silent (`audio.is_silent`), with `name` and `what` in the sentence."""
    if is_silent(y):
        raise ValueError(
            f"{name} has a mean square of {np.square(y).mean():.1e}: below {SILENT_MEAN_SQUARE:g} it counts as "
            f"silence, {what}"
        )


def both_heard(y, y_hat, *, min_samples: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """As `two_sounds`, and ValueError too if either is silent."""
    pair = two_sounds(y, y_hat, min_samples=min_samples)
    for sound, name in zip(pair, ("the true sound", "the other")):
        refuse_silence(sound, name=name, what="of which there is nothing to measure")
    return pair


@sound_loss.compiled(fastmath={"reassoc", "nsz"})  # sums in any order: eight at once
def _apart(one, other, one_logarithms, other_logarithms):
    """Sum of squared differences of the first two arrays (frames, bins), and of absolute ones of the last two."""
    squares = differences = 0.0
    for row in range(len(one)):
        a, b, c, d = one[row], other[row], one_logarithms[row], other_logarithms[row]
        square = difference = np.float32(0)
        for k in range(a.size):
            square += (a[k] - b[k]) * (a[k] - b[k])
            difference += abs(c[k] - d[k])
        squares += square
        differences += difference
    return squares, differences


@functools.cache
def _mrstft():
    import auraloss

    return auraloss.freq.MultiResolutionSTFTLoss()
