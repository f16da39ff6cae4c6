"""How an effect that moves by itself does so at thousands of settings: what it adds to the cepstra of noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import qmc

from vaefx_lib import blackbox, effects, movement, passages

RATE_HZ = passages.RATE_HZ
TRIED = 24  # settings that tell whether an effect moves
REPEATED = 0.5  # correlation of the strongest cells with those of another noise, above which they are no chance
NUDGE = 0.05  # of a setting, to see whether the movement depends on it
LEVEL = 0.1  # of the noise
ARRAYS = ("settings", "at", "heights", "moving", "deviations")  # of `Movements`, as they are stored


@dataclass(frozen=True, eq=False)
class Movements:
    """How an effect moves at many settings.

    Attributes
    ----------
    effect : str
    settings : array, float32, shape (n, n_params)
        None if the effect does not move by itself.
    at, heights : array, int32 and float16, shape (n, n_views, 256)
        Where in the cepstra it shows most, and how strongly: `movement.strongest`.
    moving : array, int32, shape (n_moving,)
        On which settings the movement depends most; the others make it larger or smaller.
    deviations : array, shape (2604,)
        Of the cepstra of dry sounds: `movement.spread`.
    """

    effect: str
    settings: np.ndarray
    at: np.ndarray
    heights: np.ndarray
    moving: np.ndarray
    deviations: np.ndarray


class Eye:
    """The movement of an effect at some settings, as a function; `share` of a passage, from the beginning."""

    def __init__(self, effect: effects.Effect, deviations: np.ndarray, *, share: float = 1.0, seed: int = 0):
        self.effect, self.deviations = effect, deviations
        noise = np.random.default_rng(seed).standard_normal(passages.SAMPLES)[: round(share * passages.SAMPLES)]
        self.noise = (LEVEL * noise).astype(np.float32)
        self.dry = movement.spectra(self.noise)

    def all(self, settings) -> list[np.ndarray] | None:
        """In all cells; None where the effect fails or is silent."""
        try:
            wet = blackbox.wet(self.effect, self.noise, settings, RATE_HZ)
        except effects.EffectFailed:
            return None
        return movement.added(movement.spectra(wet), self.dry, self.deviations) if wet.any() else None

    def __call__(self, settings) -> tuple[np.ndarray, np.ndarray]:
        """In the strongest cells, (n_views, 256) each; heights of 0 where the effect fails or is silent."""
        return movement.strongest(self.all(settings) or [])


def movements(effect: effects.Effect, count: int, deviations: np.ndarray, *, seed: int) -> Movements:
    """Movements of an effect at settings spread evenly over their range.

    Parameters
    ----------
    effect : Effect
    count : int
        4000 are enough for a rate and a depth; each takes about 15 ms.
    deviations : array, shape (2604,)
        Of the cepstra of dry sounds: `movement.spread`.
    seed : int

    Returns
    -------
    Movements
        Without a row, and soon, if the effect does not move by itself.

    Raises
    ------
    ValueError
        If `count` is below 1.

    Used in `05_controller_training`.
    """
    if count < 1:
        raise ValueError(f"count is {count}: it must be at least 1")
    points = qmc.Sobol(len(effect.params), seed=seed).random_base2(int(max(count, TRIED) - 1).bit_length())
    settings, eye = points.astype(np.float32), Eye(effect, deviations)
    moving = _moving(eye, settings[:TRIED])
    settings = settings[: count if len(moving) else 0]
    found = blackbox.in_threads(eye, settings)
    at, heights = (np.array([one[i] for one in found]).reshape(-1, len(movement.VIEWS), movement.CELLS) for i in (0, 1))
    return Movements(effect.name, settings, at.astype(np.int32), heights.astype(np.float16), moving, deviations)


def _moving(eye: Eye, settings: np.ndarray) -> np.ndarray:
    """On which settings the movement depends; none if the effect hardly ever moves."""
    other, moves = Eye(eye.effect, eye.deviations, seed=1), []
    for row in settings:
        found, again = eye(row), other.all(row)
        if again is not None and (repeated := _correlation(found, again)) > REPEATED:
            moves.append((row, found, repeated))
    if len(moves) < len(settings) / 8:
        return np.zeros(0, np.int32)
    moving = []
    for k in range(settings.shape[1]):
        alike = []
        for row, found, repeated in moves[:8]:
            nudged = row.copy()
            nudged[k] += NUDGE if row[k] < 0.5 else -NUDGE
            there = other.all(nudged)
            alike.append(0.0 if there is None else _correlation(found, there) / repeated)
        if np.median(alike) < REPEATED:
            moving.append(k)
    return np.array(moving, np.int32)


def _correlation(found: tuple[np.ndarray, np.ndarray], cells: list[np.ndarray]) -> float:
    """Of the strongest cells with what stands there in another movement, in the view where they agree most."""
    views = []
    for at, heights, flat in zip(*found, map(np.ravel, cells)):
        norm = np.sqrt(np.square(heights).sum() * np.square(flat[at]).sum())
        views.append(float((heights * flat[at]).sum() / (norm + 1e-9)))
    return max(views)
