"""How evident the movement that an effect makes by itself is in a reference, and at which settings it is most.

A rate that is off by a hundredth is soon out of step, and no search feels its way there. So the movements at thousands
of settings are looked for at once, first in the beginning of the reference, where they are not yet far out of step.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vaefx_lib import effects, movement, movements, passages

LEAST = 20.0  # nats of evidence that hardly any speech without movement shows, of the best of thousands of settings
CLEAR = 8.0  # natural logarithm of the nats beyond the least from which on a movement is not in doubt
SHARES = (1.0, 0.5, 0.25)  # of the reference
BEST = 8  # settings that are kept of each, once as they are and once where delays need not agree to a sample
CLIMB = ((0.25, 8, 0.06), (0.5, 4, 0.03), (1.0, 4, 0.02))  # share, settings that go on, largest deviation of a step
STEPS, CHILDREN = 2, 4
RISE = 1.1  # of the evidence in one step, as long as which the climb goes on once the movement is evident
LAST = 16  # steps
APART = 0.003  # of two proposals, in at least one setting on which the movement depends


class MovementLikeness:
    """The movement in references, in which that of an effect is looked for.

    Parameters
    ----------
    references : sequence of array, shape (samples,) each
        At 24 kHz; each is looked at by itself.
    effect : Effect
    known : movements.Movements
        Of this effect.

    Attributes
    ----------
    moving : array of int
        On which settings the movement depends.

    Raises
    ------
    ValueError
        For movements of another effect.
    """

    def __init__(self, references: Sequence[np.ndarray], effect: effects.Effect, known: movements.Movements):
        if known.effect != effect.name:
            raise ValueError(f"the movements are of {known.effect}, not of {effect.name}")
        self._references, self._effect, self._known = references, effect, known
        self.moving = known.moving
        self._wanted = [movement.Wanted(sound, known.deviations) for sound in references]
        self._eye = movements.Eye(effect, known.deviations)

    def evidence(self, settings: np.ndarray) -> float:
        """In nats, of the reference that shows most of it; 0 where the effect is silent or fails."""
        at, heights = self._eye(settings)
        return max(float(wanted.evidence(at[None], heights[None])[0, 0]) for wanted in self._wanted)

    def unlike(self, settings: np.ndarray) -> float:
        """1 where there is no evidence of the effect's movement, 0 where there is no doubt about it."""
        return float(np.clip(1 - np.log1p(max(0.0, self.evidence(settings) - LEAST)) / CLEAR, 0, 1))

    def propose(self, *, seed: int, count: int = 4) -> np.ndarray:
        """Settings that move as a reference does: where a search for the rest should begin.

        Those whose movement is most evident are moved a little, again and again, in more and more of the reference.

        Returns
        -------
        np.ndarray, float64, shape (n, n_params)
            At most `count`, the best first; none if no movement is evident.
        """
        climbed = [self._climbed(i, np.random.default_rng(seed)) for i in range(len(self._references))]
        pool, values = (np.concatenate([one[i] for one in climbed]) for i in (0, 1))
        order = np.argsort(-values, kind="stable")
        kept = self._distinct(pool[order[values[order] > LEAST]])[:count]
        return kept.reshape(-1, len(self._effect.params))

    def _climbed(self, which: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Settings whose movement is most evident in one of the references, and how evident."""
        known, best = self._known, []
        heights = known.heights.astype(np.float32)
        for blurred in (False, True):
            for of_share in self._wanted[which].evidence(known.at, heights, SHARES, blurred=blurred):
                best.append(known.settings[np.argsort(-of_share, kind="stable")[:BEST]])
        pool, values = np.concatenate(best).astype(float), np.zeros(0)
        for share, keep, largest in CLIMB:
            beginning = self._references[which][: round(share * passages.SAMPLES)]
            wanted = movement.Wanted(beginning, known.deviations)
            eye = movements.Eye(self._effect, known.deviations, share=share)

            def evidence(some, wanted=wanted, eye=eye):
                at, tall = (np.array(part) for part in zip(*map(eye, some)))
                return wanted.evidence(at, tall)[0]

            pool = self._distinct(pool)
            values = evidence(pool)
            order = np.argsort(-values, kind="stable")[:keep]
            pool, values = pool[order], values[order]
            for step in range(LAST):
                before = values.max()
                moved = np.array([self._moved(one, largest, rng) for one in pool for _ in range(CHILDREN)])
                family = np.concatenate([pool[:, None], moved.reshape(len(pool), CHILDREN, -1)], axis=1)
                of_all = np.concatenate([values[:, None], evidence(moved).reshape(-1, CHILDREN)], axis=1)
                pool, values = family[np.arange(len(pool)), of_all.argmax(axis=1)], of_all.max(axis=1)
                evident = share == 1 and values.max() > LEAST and values.max() > RISE * before
                if step + 1 >= STEPS and not evident:
                    break
        return pool, values

    def _moved(self, settings: np.ndarray, largest: float, rng: np.random.Generator) -> np.ndarray:
        """With one or two of those on which the movement depends changed by a little, up to `largest` as a rule."""
        moved, which = settings.copy(), rng.permutation(self.moving)[: rng.integers(1, 3)]
        size = np.exp(rng.uniform(np.log(largest / 50), np.log(largest), len(which)))
        moved[which] = np.clip(moved[which] + size * rng.standard_normal(len(which)), 0, 1)
        return moved

    def _distinct(self, candidates: np.ndarray) -> np.ndarray:
        """Without those that are as near as `APART` to one before in all the settings on which the movement depends."""
        kept: list[np.ndarray] = []
        for settings in candidates:
            away = np.abs(np.array(kept) - settings)[:, self.moving].max(axis=1) if kept else np.ones(1)
            if away.min() > APART:
                kept.append(settings)
        return np.array(kept)
