"""What a sound is like, whatever is said in it: long-term measures.

`measure` describes a sound by numbers that two passages through the same effect share more or less: the spectrum, how
it spreads and moves, the distribution of samples and of levels, slow modulation, echoes. How far one sound is from
another by these numbers is for `style_space` to say.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.fft
from scipy.ndimage import uniform_filter1d

from vaefx_lib import audio, passages

RATE_HZ = passages.RATE_HZ
MELS = 40  # bands from 40 Hz to half the rate
GROUPS = 8  # of such bands, whose changes from frame to frame are measured
STEPS = (1, 2, 4, 8)  # frames (of 43 ms) between which they are measured
SHARES = (0.05, 0.25, 0.75, 0.95)  # quantiles over time of the level in each band
BANDS = np.array([0, 6, 13, 28, 64])  # first of 129 bins of a short frame: five bands whose modulation is measured
MODULATION_HZ = np.geomspace(0.5, 60, 29)  # edges
LONGEST = 34_000  # samples: echoes of up to 1.4 s
LAGS = np.unique(  # where the ranges begin in which the strongest echo is looked for
    np.concatenate([np.arange(4, 48, 2), np.geomspace(48, 480, 30), 1.4 * RATE_HZ * np.linspace(0.12, 1, 90) ** 2])
    .round()
    .astype(int)
)


@dataclass(frozen=True, eq=False)
class Style:
    """The measures of one sound.

    Attributes
    ----------
    numbers : array, float32, shape (n_measures,)
    cepstrum : array, float32, shape (34000,)
        Real cepstrum; an echo is a peak at its lag in samples.
    """

    numbers: np.ndarray
    cepstrum: np.ndarray


def measure(sound) -> Style:
    """Long-term measures of a sound; its level has no influence.

    Parameters
    ----------
    sound : array, shape (samples,)
        At 24 kHz, 0.5 s or more. Beyond 5.46 s the echoes are measured on the first 5.46 s.

    Returns
    -------
    Style

    Raises
    ------
    AudioError
        If the sound is shorter, not finite, all zeros or not mono.

    Used in `05_controller_training`.
    """
    x = audio.check(sound, min_samples=int(passages.SHORTEST_S * RATE_HZ))
    if len(x) != 1:
        raise audio.AudioError(f"the sound has {len(x)} channels: style is measured on one")
    power = float(np.square(x[0]).mean())
    if not power:
        raise audio.AudioError("the sound is all zeros: it has no style")
    x = x[0] / np.float32(np.sqrt(power))
    cepstrum = _cepstrum(x)
    parts = [*_spectrum(x), *_levels(x), _modulation(x), *_echoes(cepstrum)]
    return Style(np.concatenate(parts).astype(np.float32), cepstrum)


def mean(styles: Sequence[Style]) -> Style:
    """The style of several passages together."""
    return Style(*(np.mean([getattr(style, name) for style in styles], axis=0) for name in ("numbers", "cepstrum")))


def smooth(x: np.ndarray, width: int) -> np.ndarray:
    """Mean over `width` neighbours of each number, as echoes are compared that may miss each other by a little."""
    return uniform_filter1d(x, width) if width > 1 else x


def _spectrum(x: np.ndarray) -> list[np.ndarray]:
    """Level in each band: mean, deviation and quantiles over time; how much it changes."""
    power = _power(scipy.fft.rfft(_frames(x, 2048, 1024) * _window(2048))) / np.float32(0.1 * 2048**2)
    levels = _db(power @ _mel().T, 1e-7)  # (frames, bands)
    parts = [levels.mean(0), levels.std(0), _quantiles(levels, SHARES).ravel()]
    for step in STEPS:
        change = (levels[step:] - levels[:-step]).reshape(len(levels) - step, GROUPS, -1).mean(2)
        parts += [change.std(0), _quantiles(change, (0.1, 0.9)).ravel()]
    return parts


def _levels(x: np.ndarray) -> list[np.ndarray]:
    """Quantiles of the samples' magnitudes, their peak, and quantiles of the level in steps of 5 ms and its change."""
    magnitudes = np.abs(x)
    tall = np.append(_quantiles(magnitudes[::4], (0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999)), magnitudes.max())
    levels = _db(np.square(x[: len(x) // 120 * 120]).reshape(-1, 120).mean(1), 1e-6)
    change = levels[2:] - levels[:-2]
    return [
        _db(np.square(tall), 1e-6),
        _quantiles(levels, (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99)),
        _quantiles(change, (0.01, 0.05, 0.1, 0.25, 0.75, 0.9, 0.95, 0.99)),
    ]


def _modulation(x: np.ndarray) -> np.ndarray:
    """How fast the level in five bands goes up and down: power in ranges of modulation frequency, in dB."""
    power = _power(scipy.fft.rfft(_frames(x, 256, 192) * _window(256)))
    levels = _db(np.add.reduceat(power, BANDS, axis=1), 1e-3)
    levels -= levels.mean(0)
    spectrum = _power(scipy.fft.rfft(levels * _window(len(levels))[:, None], n=1024, axis=0))
    edges = np.searchsorted(np.arange(len(spectrum)) * RATE_HZ / 192 / 1024, MODULATION_HZ)
    sums = np.add.reduceat(spectrum[: edges[-1]], edges[:-1])  # of a range without a value the one at its edge
    return _db(sums / np.maximum(np.diff(edges), 1)[:, None].astype(np.float32), 1e-2).ravel()


def _echoes(cepstrum: np.ndarray) -> list[np.ndarray]:
    """The strongest positive and negative peak in each range of lags; noise falls with the lag, hence the root."""
    even = cepstrum * np.sqrt(np.arange(len(cepstrum), dtype=np.float32) + 50)
    return [np.maximum.reduceat(even, LAGS), np.minimum.reduceat(even, LAGS)]


def _cepstrum(x: np.ndarray) -> np.ndarray:
    power = _power(scipy.fft.rfft(x, passages.SAMPLES))
    return scipy.fft.irfft(np.log(power + np.float32(1e-6) * power.mean()))[:LONGEST]


def _power(spectrum: np.ndarray) -> np.ndarray:
    return np.square(spectrum.real) + np.square(spectrum.imag)


def _frames(x: np.ndarray, length: int, hop: int) -> np.ndarray:
    return np.lib.stride_tricks.sliding_window_view(x, length)[::hop]


def _quantiles(x: np.ndarray, shares: Sequence[float]) -> np.ndarray:
    """Without interpolation: one of the values each, (len(shares), ...)."""
    return np.sort(x, axis=0)[[int(share * (len(x) - 1)) for share in shares]]


def _db(power: np.ndarray, floor: float) -> np.ndarray:
    return 10 * np.log10(power + np.float32(floor))


@functools.cache
def _window(length: int) -> np.ndarray:
    return np.hanning(length + 1)[:-1].astype(np.float32)


@functools.cache
def _mel() -> np.ndarray:
    """Triangular bands (40, 1025)."""
    import librosa  # here, because it takes seconds to import

    return librosa.filters.mel(sr=RATE_HZ, n_fft=2048, n_mels=MELS, fmin=40, fmax=RATE_HZ / 2, norm=None)
