"""Loudness of a sound as broadcasters measure it: ITU-R BS.1770, gated, for one channel."""

from __future__ import annotations

import math

import numpy as np
from scipy.signal import lfilter

from vaefx_lib.audio import AudioError, check

BLOCK_S, STEP_S = 0.4, 0.1
ABSOLUTE_GATE_LUFS, RELATIVE_GATE_LU = -70.0, -10.0
OFFSET_LU = -0.691  # so that a full-scale sine of 997 Hz in one channel reads -3.01 LUFS
MIN_RATE_HZ = 16_000  # below, the shelf from 1.7 kHz on comes too near half the rate: an error above 0.05 LU


def lufs(y, sample_rate_hz: int) -> float:
    """Integrated loudness of one channel, in LUFS.

    The mean power of the *K-weighted* sound (a shelf of 4 dB above 1.7 kHz, as of a head, and a high-pass at 38 Hz)
    over its blocks of 0.4 s, each 0.1 s after the last, but for those below -70 LUFS, and then for those more than
    10 LU below the mean of the others. A sine of 997 Hz that peaks at 0 dBFS reads -3.01 LUFS.

    Parameters
    ----------
    y : array, shape (samples,)
        At least 0.4 s. What is left at its end after the last whole block counts nothing.
    sample_rate_hz : int
        At least 16,000 Hz, where the filters are within 0.05 dB of those at 48 kHz (24,000 Hz: 0.02 dB).

    Raises
    ------
    AudioError
        If the sound is empty, not finite, has more than one channel or is too short.
    ValueError
        If no block reaches -70 LUFS, or the sample rate is too low.

    References
    ----------
    ITU-R BS.1770-4 (2015), annex 1. Its two filters are given for 48 kHz; here they are designed for any rate by the
    bilinear transform from the same prototypes (Brecht De Man: Evaluation of implementations of the EBU R128 loudness
    measurement, AES 145, 2018), which at 48 kHz gives the coefficients of the standard.

    Used in `05_controller_training`.
    """
    if sample_rate_hz < MIN_RATE_HZ:
        raise ValueError(f"the sample rate is {sample_rate_hz} Hz: loudness is defined from {MIN_RATE_HZ} Hz on")
    if np.ndim(y) != 1:
        raise AudioError(f"the sound has shape {np.shape(y)}: it must be one channel, (samples,)")
    block, step = (round(seconds * sample_rate_hz) for seconds in (BLOCK_S, STEP_S))
    weighted = check(y, min_samples=block, name="the sound")[0].astype(np.float64)
    for b, a in k_weighting(sample_rate_hz):
        weighted = lfilter(b, a, weighted)
    energy = np.concatenate([[0.0], np.cumsum(np.square(weighted))])
    starts = np.arange(0, len(weighted) - block + 1, step)
    power = (energy[starts + block] - energy[starts]) / block
    gated = power[power > _power(ABSOLUTE_GATE_LUFS)]
    if not gated.size:
        raise ValueError(f"no {BLOCK_S} s of the sound reach {ABSOLUTE_GATE_LUFS:g} LUFS: it has no loudness")
    gated = gated[gated > gated.mean() * 10 ** (RELATIVE_GATE_LU / 10)]
    return OFFSET_LU + 10 * math.log10(gated.mean())


def k_weighting(sample_rate_hz: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """The two filters of `lufs` as (numerator, denominator), three coefficients each: the shelf and the high-pass."""
    gain_db, q, k = 3.99984385397, 0.7071752369554193, _warped(1681.9744509555319, sample_rate_hz)
    high = 10 ** (gain_db / 20)
    band = high**0.4996667741545416
    a0 = 1 + k / q + k**2
    shelf = np.array([high + band * k / q + k**2, 2 * (k**2 - high), high - band * k / q + k**2]) / a0
    shelf_poles = np.array([a0, 2 * (k**2 - 1), 1 - k / q + k**2]) / a0
    q, corner_hz = 0.5003270373253953, 38.13547087613982
    k, k_48 = _warped(corner_hz, sample_rate_hz), _warped(corner_hz, 48_000)
    a0, a0_48 = 1 + k / q + k**2, 1 + k_48 / q + k_48**2
    passed = np.array([1.0, -2.0, 1.0]) * a0_48 / a0  # 1, -2, 1 at 48 kHz: the standard passes treble with 0.04 dB
    passed_poles = np.array([a0, 2 * (k**2 - 1), 1 - k / q + k**2]) / a0
    return [(shelf, shelf_poles), (passed, passed_poles)]


def _warped(frequency_hz: float, sample_rate_hz: int) -> float:
    return math.tan(math.pi * frequency_hz / sample_rate_hz)


def _power(loudness_lufs: float) -> float:
    return 10 ** ((loudness_lufs - OFFSET_LU) / 10)
