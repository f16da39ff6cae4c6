"""Where an effect's echoes are: what its response to one impulse repeats, on which side, and how strongly.

Any sound through the effect shows echoes at the same lags in its `echo_profile`; `echoes` compares the two.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import qmc

from vaefx_lib import audio, echo_profile, effects, passages

RATE_HZ = passages.RATE_HZ
PEAKS = 16  # of a fingerprint
TAPS = 10  # of a response
NEAR = 12  # samples: of two peaks as near as this, only the larger is one
FAINT = 0.01  # height of a peak that no speech would let through
ONSET = 0.4  # of the largest value of a tap: the first as large is where it begins
EQUAL = 0.7  # ratio of two taps above which neither is the faint one
EVEN = 0.02  # heights far above it are compared by their ratio, those far below by their difference
TRIED = 48  # fingerprints that tell whether an effect makes echoes
LATER_S = 0.4  # another time at which an impulse is heard, for effects that move their echoes themselves
STAYS = 0.6  # share of the strongest peaks below which they are taken to move
FIRST, LONGEST = echo_profile.FIRST, echo_profile.LONGEST  # samples
LENGTH = 2 * LONGEST  # samples of a response: two of the longest echoes, one after the other
IMPULSE = 0.25  # a level of sound, for effects that are not linear
ARRAYS = ("settings", "lags", "heights", "moving")  # of `Fingerprints`, as they are stored


@dataclass(frozen=True, eq=False)
class Fingerprints:
    """What echoes an effect makes at many settings.

    Attributes
    ----------
    effect : str
    settings : array, float32, shape (n, n_params)
        None if the effect makes no echoes, none that a setting moves, or moves them itself, as a chorus does.
    lags : array, int32, shape (n, 16)
        In samples at 24 kHz, the strongest echo first; negative for a pre-echo.
    heights : array, float32, shape (n, 16)
        How strong it is beside what it is an echo of, roughly; 0 where there are no more.
    moving : array, int32, shape (n_moving,)
        Which settings move peaks; the others only make them higher or lower.
    sample_rate_hz : int
        At which the effect runs.
    """

    effect: str
    settings: np.ndarray
    lags: np.ndarray
    heights: np.ndarray
    moving: np.ndarray
    sample_rate_hz: int = RATE_HZ


def fingerprints(effect: effects.Effect, count: int, *, seed: int, sample_rate_hz: int = RATE_HZ) -> Fingerprints:
    """Fingerprints of an effect at settings spread evenly over their range.

    Parameters
    ----------
    effect : Effect
    count : int
        4000 are enough for two delay times; each takes about 2 ms.
    seed : int
    sample_rate_hz : int
        Of the input, for an effect that counts samples. Lags are those heard at 24 kHz whatever it is.

    Returns
    -------
    Fingerprints
        Without a row, and soon, if the effect makes no echoes that stay where its settings put them.

    Raises
    ------
    ValueError
        If `count` is below 1.

    Used in `05_controller_training`.
    """
    if count < 1:
        raise ValueError(f"count is {count}: it must be at least 1")
    ear = Ear(effect, sample_rate_hz)
    points = qmc.Sobol(len(effect.params), seed=seed).random_base2(int(max(count, TRIED) - 1).bit_length())
    settings = points.astype(np.float32)[: max(count, TRIED)]
    found = [ear(row) for row in settings[:TRIED]]
    moving = _moving(ear, settings, found)
    count = count if len(moving) else 0
    found = (found + [ear(row) for row in settings[TRIED:count]])[:count]
    lags, heights = (np.array([f[i] for f in found]).reshape(count, PEAKS) for i in range(2))
    return Fingerprints(
        effect.name, settings[:count], lags.astype(np.int32), heights.astype(np.float32), moving, int(sample_rate_hz)
    )


class Ear:
    """The fingerprint of an effect at some settings, as a function."""

    def __init__(self, effect: effects.Effect, rate_hz: int, *, after_s: float = 0.0):
        self.effect, self.rate_hz, self.silent = effect, rate_hz, round(after_s * rate_hz)
        self.impulse = np.zeros(self.silent - (-LENGTH * rate_hz // RATE_HZ), np.float32)
        self.impulse[self.silent] = IMPULSE
        self.fade = (1 - np.arange(LENGTH) / passages.SAMPLES).astype(np.float32)  # a late echo loses its end
        self.heard: dict[bytes, tuple[np.ndarray, np.ndarray]] = {}

    def __call__(self, settings) -> tuple[np.ndarray, np.ndarray]:
        """Lags and heights, (16,) each; all 0 where the effect fails or is silent. What was heard is remembered."""
        settings = np.asarray(settings, float)
        if settings.tobytes() not in self.heard:
            self.heard[settings.tobytes()] = self._hear(settings)
        return self.heard[settings.tobytes()]

    def _hear(self, settings: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        try:
            response = self.effect.render(self.impulse, settings, self.rate_hz).mean(axis=0)[self.silent :]
        except effects.EffectFailed:
            response = np.zeros(1)
        if not np.isfinite(response).all() or not response.any():
            return np.zeros(PEAKS, int), np.zeros(PEAKS)
        if self.rate_hz != RATE_HZ:
            response = audio.resample(response, self.rate_hz, RATE_HZ)
        response = response[:LENGTH] * self.fade[: len(response)]
        taps = response.copy()
        taps[1:] -= response[:-1]  # of a tap that is filtered, its onset
        at = _onsets(taps, strongest(taps, TAPS))
        return _between(at, taps[at])


def _moving(ear: Ear, settings, found) -> np.ndarray:
    """Which settings move peaks; none if there hardly are any, or if these move by themselves."""
    heard = [i for i, (_, heights) in enumerate(found) if abs(heights[0]) > 3 * FAINT]
    if len(heard) < len(found) / 8:
        return np.zeros(0, np.int32)
    later = Ear(ear.effect, ear.rate_hz, after_s=LATER_S)
    if np.mean([_stayed(found[i], later(settings[i])) for i in heard]) < STAYS:
        return np.zeros(0, np.int32)
    moving = []
    for k in range(settings.shape[1]):
        nudged = settings[heard].copy()
        nudged[:, k] += np.where(nudged[:, k] < 0.5, 0.05, -0.05)
        if np.mean([_stayed(found[i], ear(other)) for i, other in zip(heard, nudged)]) < STAYS:
            moving.append(k)
    return np.array(moving, np.int32)


def _stayed(fingerprint, other) -> float:
    """The share of the four highest peaks that are in another fingerprint too, to a sample."""
    lags, heights = fingerprint[0][:4], fingerprint[1][:4]
    others = other[0][other[1] != 0]
    return float(np.mean([np.abs(others - lag).min(initial=NEAR) <= 1 for lag in lags[heights != 0]]))


def strongest(x: np.ndarray, count: int) -> np.ndarray:
    """Where the largest values of either sign stand, largest first; of two as near as 12 samples only the larger."""
    size = np.abs(x)
    at = np.flatnonzero(size > FAINT * size.max())
    at = at[np.argsort(-size[at], kind="stable")][: 2 * NEAR * count]  # every one that is kept may hide so many others
    return at[~((np.abs(at[:, None] - at) < NEAR) & np.tri(len(at), k=-1, dtype=bool)).any(axis=1)][:count]


def _onsets(taps: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Where the taps begin whose largest values stand at `at`: of a high-passed one, the second may be the largest."""
    size = np.abs(taps)
    near = [np.arange(max(0, k - NEAR + 1), k + 1) for k in at]
    return np.unique([within[np.argmax(size[within] >= ONSET * size[within[-1]])] for within in near])


def _between(at: np.ndarray, taps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lags and heights, (16,) each, of the echoes that taps are of stronger ones, whether after or before them."""
    apart, ratio = np.subtract.outer(at, at), np.abs(taps)[:, None] / np.abs(taps)
    share = np.where(ratio > EQUAL, 0.5, 1.0)  # of two alike, each is an echo of the other
    share[(ratio > 1 / EQUAL) | (np.abs(apart) < FIRST) | (np.abs(apart) > LONGEST)] = 0
    heights = share * np.outer(taps, taps) / np.square(taps).sum()
    echoes = np.zeros(2 * LONGEST + 1)
    np.add.at(echoes, np.clip(apart, -LONGEST, LONGEST) + LONGEST, heights)
    found = strongest(echoes, PEAKS)
    found = found[np.abs(echoes[found]) > FAINT]
    lags, heights = np.zeros(PEAKS, int), np.zeros(PEAKS)
    lags[: len(found)], heights[: len(found)] = found - LONGEST, echoes[found]
    return lags, heights


def even(heights):
    """Heights on a scale on which equal steps are equal ratios, but for those near 0; the sign is kept."""
    return np.sign(heights) * np.log1p(np.abs(heights) / EVEN)
