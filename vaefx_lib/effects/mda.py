"""mda Overdrive and mda Delay, native: the mathematics of Paul Kellett's plug-ins in two compiled loops.

They agree with the real plug-ins (Debian package `mda-lv2` 1.2.10) to a few millionths. The small functions that give
delays, gains and filter coefficients are the same ones that the loops use, so a notebook can plot them.

Each loop sets what falls below 1e-30 (-600 dB) to zero: a decaying tail would otherwise end in denormal numbers, which
are many times slower to compute with.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numba
import numpy as np

from vaefx_lib.effects import lv2
from vaefx_lib.effects.effect import Effect, Param

LONGEST_DELAY = 32_766  # samples, at any rate: 1365 ms at 24 kHz, 743 ms at 44.1 kHz
SHORTEST_DELAY = 4  # samples
RATIOS = {17: 1 / 2, 16: 0.6667, 15: 3 / 4, 14: 0.8333, 13: 1.0, 12: 1.2, 11: 1.3333, 10: 1.5, 9: 2.0}
_RING = 32_768  # cells of the delay line: the power of two above LONGEST_DELAY, so that an index wraps by a bit mask
_TINY = 1e-30


def _compiled(loop: Callable) -> Callable:
    """`loop` compiled at its first call, without the GIL; kept on disk wherever a folder for that can be written."""
    try:
        return numba.njit(cache=True, nogil=True)(loop)
    except RuntimeError:  # neither the package's folder nor the user's cache folder can be written
        return numba.njit(nogil=True)(loop)


def overdrive(audio, sample_rate_hz, *, drive=0.5, muffle=0.5, output=0.5) -> np.ndarray:
    """mda Overdrive: a square-root distortion, a one-pole low-pass and a gain; each channel on its own.

    With drive d, u[n] = (1 - d) x[n] + d sign(x[n]) sqrt|x[n]|. The root has infinite slope at 0: unlike tanh, it lifts
    quiet sound and noise.

    Parameters
    ----------
    audio : np.ndarray, float32, shape (channels, samples)
    sample_rate_hz : float
        Without influence: the filter is set per sample, so it moves with the rate (see `muffle_cutoff_hz`).
    drive, muffle, output : float in [0, 1]

    Returns
    -------
    np.ndarray, float32, shape (channels, samples)

    Used in `01_data_rendering`.
    """
    wet = np.array(audio, np.float32, order="C", ndmin=2)  # always a copy, so the loop can work in place
    _overdrive(wet, drive, muffle_coefficient(muffle), overdrive_gain(output))
    return wet


def muffle_coefficient(muffle: float) -> float:
    """The f of Overdrive's low-pass v[n] = v[n-1] + f (u[n] - v[n-1]): 1 (open) down to 0.025, evenly in dB."""
    return 10 ** (-1.6 * muffle)


def muffle_cutoff_hz(muffle: float, sample_rate_hz: float) -> float:
    """Where Overdrive's low-pass is 3 dB down, in Hz; `inf` if it is too open for that to be below half the rate."""
    f = muffle_coefficient(muffle)
    cosine = 1 - f * f / (2 * (1 - f)) if f < 1 else -math.inf
    return math.acos(cosine) / (2 * math.pi) * sample_rate_hz if cosine >= -1 else math.inf


def overdrive_gain(output: float) -> float:
    """Overdrive's factor on the output: 0.1 to 10 (-20 to +20 dB), evenly in dB."""
    return 10 ** (2 * output - 1)


@_compiled
def _overdrive(wet, drive, f, gain):
    """Overdrive of `wet` (channels, samples), in place."""
    for channel in range(wet.shape[0]):
        v = 0.0
        for n in range(wet.shape[1]):
            x = float(wet[channel, n])
            v += f * ((1.0 - drive) * x + drive * math.copysign(math.sqrt(abs(x)), x) - v)
            if abs(v) < _TINY:
                v = 0.0
            wet[channel, n] = gain * v


def delay(
    audio, sample_rate_hz, *, l_delay=0.5, r_delay=0.5, feedback=0.5, fb_tone=0.5, fx_mix=0.5, output=0.5
) -> np.ndarray:
    """mda Delay: one mono delay line fed by both channels and read by two taps, with a tone control in its loop.

    Both taps feed back: w[n] = wet (x_L[n] + x_R[n]) + fb (b[n-L] + b[n-R]), b = low * lowpass(w) + high * w, and
    y_L[n] = dry x_L[n] + b[n-L], likewise right. See `delay_samples`, `delay_gains` and `delay_tone`.

    Parameters
    ----------
    audio : np.ndarray, float32, shape (1 or 2, samples)
        One channel feeds both inputs.
    sample_rate_hz : float
        Sets the tone filter. The delays are counted in samples, so they are shorter at a higher rate.
    l_delay, r_delay, feedback, fb_tone, fx_mix, output : float in [0, 1]

    Returns
    -------
    np.ndarray, float32, shape (2, samples)

    Used in `01_data_rendering`.
    """
    shape = (2, np.shape(audio)[-1])
    stereo = np.array(np.broadcast_to(audio, shape), np.float32, order="C")  # always a copy: the loop works in place
    dry, wet = delay_gains(fx_mix, output)
    _delay(stereo, *delay_samples(l_delay, r_delay), dry, wet, 0.495 * feedback, *delay_tone(fb_tone, sample_rate_hz))
    return stereo


def delay_samples(l_delay: float, r_delay: float) -> tuple[int, int]:
    """Delay's left and right delays in samples, each in [4, 32766].

    The left one is 32766 l_delay^2, rounded down: a setting of 0.1 is 327 samples (14 ms at 24 kHz), 0.5 is 8191 (341
    ms). The right one is the left one times `delay_ratio`. Computed in float32, as the plug-in does: in float64 a tap
    can land one sample away.
    """
    left = np.float32(LONGEST_DELAY) * np.float32(l_delay) * np.float32(l_delay)
    right = left * np.float32(delay_ratio(r_delay))
    left, right = (min(max(int(samples), SHORTEST_DELAY), LONGEST_DELAY) for samples in (left, right))
    return left, right


def delay_ratio(r_delay: float) -> float:
    """Delay's right delay divided by its left one, before both are limited.

    Up to r_delay = 0.5 it rises evenly from 0 to 2; above, nine steps give musical ratios, from 2 down to 1/2.
    """
    return RATIOS.get(int(np.float32(17.9) * np.float32(r_delay)), float(np.float32(4) * np.float32(r_delay)))


def delay_gains(fx_mix: float, output: float) -> tuple[float, float]:
    """Delay's factors (dry, wet): on the direct sound, and on the sum of both inputs into the delay line."""
    return 2 * output * (1 - fx_mix**2), output * (1 - (1 - fx_mix) ** 2)


def delay_tone(fb_tone: float, sample_rate_hz: float) -> tuple[float, float, float]:
    """The (low, high, a) of Delay's tone control: b = low * p + high * w, where p[n] = a p[n-1] + (1 - a) w[n].

    A low-pass below fb_tone = 0.5, nothing at 0.5, a gentle low cut above.
    """
    if fb_tone <= 0.5:
        t, low, high = fb_tone, 1 - 2 * fb_tone, 2 * fb_tone
    else:
        t = fb_tone / 2 - 0.25
        low, high = -2 * t, 1.0
    return low, high, math.exp(-2 * math.pi * 10 ** (2.2 + 4.5 * t) / sample_rate_hz)


@_compiled
def _delay(stereo, left, right, dry, wet, feedback, low, high, a):
    """Delay of `stereo` (2, samples), in place; `left` and `right` in samples."""
    line = np.zeros(_RING)
    p = 0.0
    for n in range(stereo.shape[1]):
        x_left, x_right = float(stereo[0, n]), float(stereo[1, n])
        tap_left, tap_right = line[(n - left) & (_RING - 1)], line[(n - right) & (_RING - 1)]
        w = wet * (x_left + x_right) + feedback * (tap_left + tap_right)
        p = a * (p - w) + w
        b = low * p + high * w
        if abs(p) < _TINY:
            p = 0.0
        line[n & (_RING - 1)] = b if abs(b) >= _TINY else 0.0
        stereo[0, n] = dry * x_left + tap_left
        stereo[1, n] = dry * x_right + tap_right


OVERDRIVE = Effect(
    "mda:Overdrive",
    (
        Param("drive", "%", 0, 100, 50),  # share of the square root
        Param("muffle", "%", 0, 100, 50),
        Param("output", "dB", -20, 20, 0),
    ),
    overdrive,
)
DELAY = Effect(
    "mda:Delay",
    (
        Param("l_delay", "%", 0, 100, 50),  # the time goes with its square: delay_samples
        Param("r_delay", "%", 0, 100, 50),  # in steps: delay_ratio
        Param("feedback", "%", 0, 99, 49.5),  # what the two taps together send round again
        Param("fb_tone", "%", -100, 100, 0),  # low-pass below 0, low cut above
        Param("fx_mix", "%", 0, 100, 50),
        Param("output", "x", 0, 2, 1),  # factor on the sound at fx_mix 0
    ),
    delay,
)
_NATIVE = {effect.name: effect for effect in (OVERDRIVE, DELAY)}


def names(prefix: str = "mda") -> list[str]:
    """Names of the compiled effects."""
    return [name.partition(":")[2] for name in _NATIVE]


def load(name: str) -> Effect:
    """The compiled effect of a name such as ``"mda:Delay"``, else the installed plug-in, such as ``"mda:Ambience"``.

    Raises
    ------
    ValueError
        If there is neither; the message names the known ones.
    """
    if name in _NATIVE:
        return _NATIVE[name]
    installed = [f"mda:{found.partition('/')[2]}" for found in lv2.names() if found.startswith("mda/")]
    if name not in installed:
        known = ", ".join(dict.fromkeys((*_NATIVE, *installed)))
        hint = "" if installed else "; Debian's package mda-lv2 brings 30 more"
        raise ValueError(f"unknown effect {name!r}: known are {known}{hint}")
    return replace(lv2.load(f"lv2:mda/{name.partition(':')[2]}"), name=name)
