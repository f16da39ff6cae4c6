"""Proposals for the settings of an effect that makes echoes, from the echoes that a reference shows.

A search cannot feel its way to an echo: off by a thousandth of its range, a delay time is as wrong as any other. But
the `echo_profile` of a sound shows its echoes at the very sample, whatever is said in it; and the response to one
impulse takes milliseconds to render. So the *fingerprint* of settings, the strongest echoes between the taps of the
response, is laid on the echoes of the reference.
"""

from __future__ import annotations

import itertools

import numpy as np

from vaefx_lib import echo_peaks, effects
from vaefx_lib.echo_peaks import LONGEST, NEAR, PEAKS, Ear, Fingerprints, fingerprints

__all__ = ["Fingerprints", "fingerprints", "propose"]

SHOWN = 64  # echoes of the reference, at most
NUDGE = 0.001  # of a setting, to see how fast the peaks move
STARTS = 120  # fingerprints of which each is moved onto the reference
AIMS, NEAREST = 8, 3  # the strongest echoes of the reference; fingerprints that lead to each pair of them
APART = 0.004  # of them, in at least one setting that moves peaks
MIXES = 200  # fingerprints whose other settings are tried
UNKEPT = 0.1  # what an echo that is not there weighs, while the settings that scale it are still any
STEPS = (  # how far settings may go, reach around a peak (per root of its lag; at most), how many stay, mixes for each
    (0.02, 0.5, 40, 24, 8),
    (0.002, 0.1, 12, 12, 9),
    (0.0005, 0.0, 3, 12, 0),
)
WIDE = (3.0, 400)  # the reach at which fingerprints are first compared
LEADING = 5  # peaks of a fingerprint that are laid on peaks of the reference, one or two at a time
CHOICES = 8  # of peaks for each


def propose(
    effect: effects.Effect, profile: np.ndarray, known: Fingerprints, *, seed: int, count: int = 4
) -> np.ndarray:
    """Settings whose echoes are those of a reference: where a search for the rest should begin.

    Fingerprints that are roughly alike, or lead to two echoes of the reference, are moved onto it: two of their peaks
    are laid on two of its peaks, in all ways, and the way that explains most peaks and promises fewest that are not
    there is taken. Then closer again, while the settings that move no peaks are exchanged for others.

    Parameters
    ----------
    effect : Effect
    profile : array, shape (68001,)
        Of the reference, or the mean over its passages: `echo_profile.measure`.
    known : Fingerprints
        Of this effect.
    seed : int
    count : int

    Returns
    -------
    np.ndarray, float64, shape (n, n_params)
        At most `count`, the best first, no two with the same echoes; none if the reference or the effect has no echo.

    Raises
    ------
    ValueError
        For fingerprints of another effect, or a profile that is not as above.

    References
    ----------
    Fischler and Bolles: Random sample consensus, Communications of the ACM 24, 1981, for the guesses from two peaks.

    Used in `05_controller_training`.
    """
    _check(effect, profile, known, count)
    wanted = _Wanted(np.asarray(profile, np.float32))
    if not len(known.settings) or not len(wanted.lags):
        return np.zeros((0, len(effect.params)))
    ear, rng = Ear(effect, known.sample_rate_hz), np.random.default_rng(seed)
    moving, still = known.moving, np.setdiff1d(np.arange(len(effect.params)), known.moving)
    order = np.argsort(-wanted.scores(known.lags, known.heights, wanted.table(*WIDE))[0], kind="stable")
    mixes = known.settings[order[:MIXES]][:, still]
    order = np.concatenate([wanted.nearest(known.lags, known.heights), order[: 8 * STARTS]])
    near = known.settings[order].astype(float)
    ear.heard.update(zip((row.tobytes() for row in near), zip(known.lags[order], known.heights[order])))
    pool = _distinct(near, moving, APART, STARTS)
    for within, share, widest, keep, mixed in STEPS:
        table, guesses = wanted.table(share, widest), 2 if within == STEPS[0][0] else 1
        moved = [moved for start in pool for moved in _moved(ear, wanted, start, moving, within, table)[:guesses]]
        rate = wanted.covered if within == STEPS[0][0] else wanted.score
        values = [rate(ear(settings), table) for settings in moved]
        pool = _distinct([moved[i] for i in np.argsort(-np.array(values), kind="stable")], moving, NUDGE / 10, keep)
        rated = []
        for settings in pool:
            others = np.tile(settings, (1 + mixed, 1))
            others[1:, still] = mixes[rng.integers(len(mixes), size=mixed)]
            values = [wanted.score(ear(other), table) for other in others]
            rated.append((max(values), others[int(np.argmax(values))]))
        pool = [settings for _, settings in sorted(rated, key=lambda pair: -pair[0])]
    return np.array(_of_other_echoes(ear, pool)[:count])


class _Wanted:
    """The echoes of a reference."""

    def __init__(self, profile: np.ndarray):
        at = echo_peaks.strongest(profile, SHOWN)
        self.lags, self.even = at - LONGEST, echo_peaks.even(profile[at])

    def nearest(self, lags, heights) -> np.ndarray:
        """Of fingerprints, (n, 16) each, those few whose two highest peaks lie nearest to each pair of its highest."""
        lags, heights = lags[:, :2], heights[:, :2]
        misses = [
            np.where(heights * even > 0, np.abs(lags - lag) / np.sqrt(abs(lag)), np.inf).min(axis=1)
            for lag, even in zip(self.lags[:AIMS], self.even)
        ]  # (n,) each
        pairs = itertools.combinations_with_replacement(misses, 2)
        return np.concatenate([np.argsort(one + other, kind="stable")[:NEAREST] for one, other in pairs])

    def table(self, share: float, widest: float) -> np.ndarray:
        """The strongest peak, for either sign, within reach of each lag: indices (2, 68001), -1 for none."""
        table = np.full((2, 2 * LONGEST + 1), -1)
        for i in np.argsort(np.abs(self.even)):
            reach = int(np.clip(share * np.sqrt(np.abs(self.lags[i])), 3, widest))
            at = self.lags[i] + LONGEST
            table[int(self.even[i] > 0), max(0, at - reach) : at + reach + 1] = i
        return table

    def score(self, fingerprint, table) -> float:
        """`scores` of a single one."""
        return float(self.scores(fingerprint[0][None], fingerprint[1][None], table)[0][0])

    def covered(self, fingerprint, table) -> float:
        """How much of the reference the peaks of a fingerprint explain, however high they are."""
        lags, heights = fingerprint
        taken = self.scores(lags[None], heights[None], table)[1][0]
        there = self.even[taken[taken >= 0]]
        return float(np.square(there).sum() - UNKEPT * np.square(echo_peaks.even(heights[taken < 0])).sum())

    def scores(self, lags, heights, table) -> tuple[np.ndarray, np.ndarray]:
        """How much of the reference peaks (n, 16) explain, (n,), and which peak each is taken for, -1 for none."""
        taken = np.where(heights == 0, -1, table[(heights > 0).astype(int), lags + LONGEST])
        again = (taken[:, :, None] == taken[:, None, :]) & np.tri(PEAKS, k=-1, dtype=bool)
        taken[again.any(axis=2)] = -1  # each peak of the reference is explained once, by the highest
        promised, there = echo_peaks.even(heights), np.where(taken >= 0, self.even[taken], 0)
        return (2 * there * promised - promised**2).sum(axis=1), taken


def _moved(ear: Ear, wanted: _Wanted, settings, moving, within: float, table) -> list[np.ndarray]:
    """The best guesses of settings nearby whose peaks fall on those of the reference."""
    lags, heights = ear(settings)
    slopes = _slopes(ear, settings, lags, heights, moving)
    gaps = []  # of each leading peak to those of the reference that it could fall on
    for lag, height, reach in zip(lags[:LEADING], heights[:LEADING], 3 + within * np.abs(slopes).sum(axis=1)):
        alike = (np.abs(wanted.lags - lag) <= reach) & (np.sign(wanted.even) == np.sign(height))
        gaps.append(wanted.lags[alike][:CHOICES] - lag)
    changes = [np.zeros((1, len(moving)))]
    for size in (1, 2):
        for group in itertools.combinations(range(LEADING), size):
            gap = np.array(list(itertools.product(*(gaps[i] for i in group)))).reshape(-1, size)
            changes.append(gap @ np.linalg.pinv(slopes[list(group)], rcond=0.02).T)
    changes = np.concatenate(changes)
    inside = (settings[moving] + changes >= 0) & (settings[moving] + changes <= 1) & (np.abs(changes) <= within)
    changes = changes[inside.all(axis=1)]
    expected = np.clip(np.rint(lags + changes @ slopes.T), -LONGEST, LONGEST).astype(int)
    values, taken = wanted.scores(expected, np.broadcast_to(heights, expected.shape), table)
    order = np.argsort(-values, kind="stable")
    guesses = []
    for i in [order[0], *(i for i in order[1:] if np.abs(changes[i] - changes[order[0]]).max() > 2 * NUDGE)][:2]:
        used = taken[i] >= 0
        weights = np.sqrt(np.abs(echo_peaks.even(heights[used])))
        left = wanted.lags[taken[i][used]] - lags[used] - slopes[used] @ changes[i]
        change = changes[i] + np.linalg.pinv(slopes[used] * weights[:, None], rcond=0.02) @ (left * weights)
        guesses.append(settings.copy())
        guesses[-1][moving] = np.clip(settings[moving] + change, 0, 1)
    return guesses


def _slopes(ear: Ear, settings, lags, heights, moving) -> np.ndarray:
    """Samples that each peak moves per unit of each setting, (16, n_moving); 0 where that is not seen."""
    slopes = np.zeros((PEAKS, len(moving)))
    for column, k in enumerate(moving):
        nudged = settings.copy()
        nudged[k] += NUDGE if settings[k] < 0.5 else -NUDGE
        others, tall = ear(nudged)
        distance = np.abs(others - lags[:, None])
        distance[np.abs(tall - heights[:, None]) >= np.abs(heights[:, None]) / 2] = LONGEST
        at = distance.argmin(axis=1)
        seen = distance[np.arange(PEAKS), at] < 200 * NUDGE / 0.001
        slopes[:, column] = np.where(seen, (others[at] - lags) / (nudged[k] - settings[k]), 0)
    return slopes


def _of_other_echoes(ear: Ear, pool: list[np.ndarray]) -> list[np.ndarray]:
    """Without those whose three highest peaks are those of one before."""
    kept, heard = [], []
    for settings in pool:
        lags = np.sort(ear(settings)[0][:3])
        if not any((np.abs(lags - other) < NEAR).all() for other in heard):
            kept.append(settings)
            heard.append(lags)
    return kept


def _distinct(candidates, moving, apart: float, keep: int) -> list[np.ndarray]:
    """The first few, no two of which are nearer than `apart` in all the settings that move peaks."""
    kept: list[np.ndarray] = []
    for settings in candidates:
        if len(kept) < keep and (not kept or np.abs(np.array(kept) - settings)[:, moving].max(1).min() > apart):
            kept.append(settings)
    return kept


def _check(effect, profile, known, count) -> None:
    if known.effect != effect.name:
        raise ValueError(f"the fingerprints are of {known.effect}, not of {effect.name}")
    if np.shape(profile) != (2 * LONGEST + 1,) or not np.isfinite(profile).all():
        raise ValueError(f"profile has the shape {np.shape(profile)}: it must be ({2 * LONGEST + 1},), all finite")
    if count < 1:
        raise ValueError(f"count is {count}: it must be at least 1")
