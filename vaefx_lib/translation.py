"""From the rate at which settings were found to that of the sound that they are for, where they may sound different."""

from __future__ import annotations

import math
from collections.abc import Callable

import joblib
import numpy as np

from vaefx_lib import audio, blackbox, effects, passages, search, sound_loss

SAME_SOUND = 0.2  # `sound_loss` between the same settings at two rates, below which they sound alike
COMPARED_S = 3  # of the input: longer than the longest echo of mda Delay, twice
VALUES = 20  # of each setting that are tried, and three times as many steps from the best


def translated(
    effect: effects.Effect,
    settings: np.ndarray,
    sound: np.ndarray,
    rate_hz: int,
    heard: Callable[[np.ndarray, int], np.ndarray],
    *,
    peak_dbfs: float,
) -> np.ndarray:
    """The settings that sound at a rate as these do at 24 kHz.

    A search without a reference: the same stretch of a sound through the effect at both rates.

    Parameters
    ----------
    effect : Effect
    settings : array, shape (n_params,)
        For 24 kHz.
    sound : array, float32, shape (samples,)
        At `rate_hz`; its loudest three seconds are compared.
    rate_hz : int
    heard : callable
        ``heard(sound, rate_hz)``: as it is compared, at 24 kHz.
    peak_dbfs : float
        Before and after the effect.

    Returns
    -------
    array, shape (n_params,)
    """
    stretch = _loudest(sound, COMPARED_S * rate_hz)
    target = blackbox.wet(effect, heard(stretch, rate_hz), settings, passages.RATE_HZ, peak_dbfs=peak_dbfs)
    if audio.is_silent(target):
        return settings
    loss = sound_loss.to_target(target, l1=0)

    def difference(candidate):
        try:
            wet = blackbox.wet(effect, stretch, candidate, rate_hz, peak_dbfs=peak_dbfs)
        except effects.EffectFailed:
            return math.inf
        return math.inf if audio.is_silent(wet) else loss(heard(wet, rate_hz))

    if difference(settings) < SAME_SOUND:
        return settings
    starts = np.tile(settings, (1 + VALUES * len(settings), 1))  # a row as it is, then each setting elsewhere
    for i, rows in enumerate(np.split(starts[1:], len(settings))):
        rows[:, i] = (np.arange(VALUES) + 0.5) / VALUES
    most = len(starts) + 3 * VALUES
    return search.minimise(difference, starts, max_evaluations=most, workers=joblib.cpu_count()).settings


def _loudest(sound: np.ndarray, samples: int) -> np.ndarray:
    """The stretch of so many samples that has the most power; all of a shorter sound."""
    samples = min(samples, len(sound))
    energy = np.cumsum(np.append(0.0, np.square(sound, dtype=np.float64)))
    start = int(np.argmax(energy[samples:] - energy[: len(energy) - samples]))
    return sound[start : start + samples]
