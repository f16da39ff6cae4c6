"""What a sound is like, whatever is said in it: long-term measures, and a distance between two sounds of other words.

`measure` describes a sound by numbers that two passages through the same effect share more or less: the spectrum, how
it spreads and moves, the distribution of samples and of levels, slow modulation, echoes. `Space` learns from passages
of many speakers how much each number, and each combination of them, differs where only the words and the voice do,
and counts a difference between two sounds in those units.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
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
WIDTHS = (1, 17, 129)  # samples over which two echoes may miss each other and still be alike
CLEAR = 4.5  # deviations by which an echo stands out of the speech
FIRST = 240  # samples (10 ms): below, the pitch of a voice is taken for an echo
ECHO_WEIGHT = 5.0  # of the echoes' unlikeness, against that of all else
REPETITION = 40.0  # norm of what stands out of dry speech at the most: synthesised speech repeats itself exactly


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


@dataclass(frozen=True, eq=False)
class Space:
    """How much measures differ between passages of one style.

    Attributes
    ----------
    whitening : array, float32, shape (n_measures, n_measures)
        ``numbers @ whitening`` differ between two passages of one style by sqrt(2) in each column, and independently.
    echo_deviation : array, float32, shape (34000,)
        Of the cepstrum of a sound without echoes, at each lag.
    """

    whitening: np.ndarray
    echo_deviation: np.ndarray

    def measure(self, sound) -> Style:
        """`measure`."""
        return measure(sound)

    def echoes(self, cepstrum: np.ndarray) -> np.ndarray:
        """What stands out of the cepstrum, in its deviations, 0 elsewhere: float32, (34000,)."""
        deviations = cepstrum / self.echo_deviation
        deviations[:FIRST] = 0
        return np.sign(deviations) * np.maximum(np.abs(deviations) - np.float32(CLEAR), 0)

    def distance(self, wanted: Style, other: Style) -> float:
        """How far one style is from another: 0 for the same sound, and without a unit.

        The mean square of the whitened differences, plus how unlike the clear echoes are. 1 is what two passages of one
        style differ by if their voices are those that the space was fitted on; voices never heard are 2.6 to 3 apart.

        References
        ----------
        Hatch, Kajarekar, Stolcke: Within-class covariance normalization for SVM-based speaker recognition,
        Interspeech 2006. Bogert, Healy, Tukey: The quefrency alanysis of time series for echoes, 1963.
        """
        return self.target(wanted)(other)

    def target(self, wanted: Style) -> Callable[[Style], float]:
        """`distance` from one style, as a function of the other: quicker where it is called often."""
        compare = self.compare(wanted)
        return lambda other: float(total(compare(other)))

    def compare(self, wanted: Style) -> Callable[[Style], np.ndarray]:
        """The parts of the distance from one style, as a function of the other: float32, (5,).

        Mean square of the whitened differences, how clear the echoes of the wanted style are (0 to 1), and how unlike
        the other's (0 to 1) if they may miss each other by 0, 8 and 64 samples.
        """
        aim = wanted.numbers @ self.whitening
        clear = [_smooth(self.echoes(wanted.cepstrum), width) for width in WIDTHS]
        energies = [float(c @ c) for c in clear]
        clarity = float(np.clip(np.sqrt(energies[0]) / REPETITION - 1, 0, 1))

        def parts(other: Style) -> np.ndarray:
            whitened = other.numbers @ self.whitening - aim
            found = self.echoes(other.cepstrum)
            unlike = []
            for width, c, energy in zip(WIDTHS, clear, energies):
                f = _smooth(found, width)
                unlike.append(1 - float(c @ f) / max(energy, float(f @ f), 1e-9))
            return np.array([float(whitened @ whitened) / (2 * len(aim)), clarity, *unlike], np.float32)

        return parts


def total(parts: np.ndarray) -> np.ndarray:
    """The distance of style from its parts (..., 5), as `Space.compare` gives them."""
    return parts[..., 0] + ECHO_WEIGHT * parts[..., 1] * parts[..., 2:].sum(-1)


def fit(classes: np.ndarray, dry_cepstra: np.ndarray) -> Space:
    """The space in which passages of the same style are at unit distance.

    Parameters
    ----------
    classes : array, shape (n, members, n_measures)
        `Style.numbers` of two or more passages, of different words and voices, through one effect at one setting each.
    dry_cepstra : array, shape (m, 34000)
        `Style.cepstrum` of sounds without echoes.

    Returns
    -------
    Space

    Raises
    ------
    ValueError
        If an array has another shape.

    References
    ----------
    Ledoit and Wolf: A well-conditioned estimator for large-dimensional covariance matrices, 2004.

    Used in `05_controller_training`.
    """
    classes, dry_cepstra = np.asarray(classes, np.float64), np.asarray(dry_cepstra)
    if classes.ndim != 3 or classes.shape[1] < 2 or dry_cepstra.ndim != 2 or dry_cepstra.shape[1:] != (LONGEST,):
        raise ValueError(
            f"classes of shape {classes.shape} and cepstra of shape {dry_cepstra.shape}: they must be (n, at least 2 "
            f"members, n_measures) and (m, {LONGEST})"
        )
    from sklearn.covariance import ledoit_wolf

    members = classes.shape[1]
    residuals = (classes - classes.mean(1, keepdims=True)).reshape(-1, classes.shape[2])
    residuals *= np.sqrt(members / (members - 1))
    deviation = np.sqrt(np.square(residuals).mean(0)) + 1e-6
    covariance, _ = ledoit_wolf(residuals / deviation, assume_centered=True)
    values, vectors = np.linalg.eigh(covariance)
    whitening = vectors / np.sqrt(values) / deviation[:, None]
    echo_deviation = np.sqrt(uniform_filter1d(np.square(dry_cepstra).mean(0), 201)) + 1e-9
    return Space(whitening.astype(np.float32), echo_deviation.astype(np.float32))


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


def _smooth(x: np.ndarray, width: int) -> np.ndarray:
    return uniform_filter1d(x, width) if width > 1 else x


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
