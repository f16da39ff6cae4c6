"""What is tried on a case: the controller's answer, a search from there on, and what they have to beat."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from vaefx_lib import audio, blackbox, candidates, effects, match_cases, metrics, passages, refining, search

STARTS = 1 / 3  # of a search's evaluations at most are the controller's proposals


@dataclass(frozen=True, eq=False)
class Answers:
    """Answers to one case.

    Attributes
    ----------
    sounds : dict of str to array, float32, shape (samples,)
        "none" (the dry input), "random" and "mean" (all 0.5) settings, "ours" (dry where the controller expects nothing
        of a match), "ours_forced" (never dry), "oracle", and with a search "refined" and "refined_forced". One that
        is the dry input is the very same array.
    predicted : array, float64, shape (n_params,)
        The controller's settings.
    left_dry : dict of str to bool
        "ours" and "refined" -> whether that answer is the dry input.
    refine_s : float
        Wall time of the search; 0 without one.
    """

    sounds: dict[str, np.ndarray]
    predicted: np.ndarray
    left_dry: dict[str, bool]
    refine_s: float


def give(
    controller,
    effect: str,
    case: match_cases.Case,
    to_target: metrics.MrstftTo,
    *,
    refine_evaluations: int = 0,
    oracle_evaluations: int | None = None,
    seed: int = 0,
) -> Answers:
    """All answers to a case; the same seed gives the same.

    Parameters
    ----------
    controller : controller.Controller
    effect : str
        To be set; the controller must know it.
    case : Case
    to_target : MrstftTo
        Distance from the case's target.
    refine_evaluations : int
        Of a search for the distance of style from the reference, after the controller's answer; 0 is none.
    oracle_evaluations : int, optional
        Of a search that may listen to the target: the best of it and of the dry input is the oracle. Without, the
        oracle is the target itself.
    seed : int

    Used in `05_controller_training`.
    """
    fx, dry = effects.load(effect), case.dry
    task = candidates.Task([dry], passages.RATE_HZ, [case.reference], passages.RATE_HZ, controller)
    left_dry: dict[str, bool] = {}

    def wet(settings: np.ndarray) -> np.ndarray:  # silence where the effect fails
        try:
            return blackbox.wet(fx, dry, settings, passages.RATE_HZ)
        except effects.EffectFailed:
            return np.zeros_like(dry)

    def style(settings: np.ndarray) -> float:
        try:
            return task.distance(fx, settings)
        except effects.EffectFailed:
            return math.inf

    def with_confidence(name: str, settings: np.ndarray) -> dict[str, np.ndarray]:  # as `matching` decides it
        distance, sound = style(settings), wet(settings)
        left_dry[name] = controller.expected_improvement(effect, task.baseline_distance, distance) <= 0
        return {name: dry if left_dry[name] else sound, f"{name}_forced": sound}

    predicted = task.starts(fx, seed=seed)[0]
    middle, starts, refine_s = np.full(len(predicted), 0.5), [predicted], 0.0
    sounds = {"none": dry, "random": _random(wet, len(predicted), seed), "mean": wet(middle)}
    sounds |= with_confidence("ours", predicted)
    if refine_evaluations:
        count = min(refining.PROPOSALS, max(1, int(STARTS * refine_evaluations)))
        begin, believed = task.starts(fx, count=count, seed=seed), task.distributions(fx)
        found = refining.refine(style, begin, believed, max_evaluations=refine_evaluations, seed=seed)
        refine_s = found.seconds
        starts.append(found.settings)
        sounds |= with_confidence("refined", found.settings)
    sounds["oracle"] = case.target
    if oracle_evaluations is not None:
        starts.append(middle)
        best = search.minimise(lambda s: to_target(wet(s)), starts, max_evaluations=oracle_evaluations, seed=seed)
        sounds["oracle"] = wet(best.settings) if best.value < to_target(dry) else dry
    return Answers(sounds, predicted, left_dry, refine_s)


def _random(wet, n_params: int, seed: int) -> np.ndarray:
    """The sound at random settings, drawn again where they give silence."""
    rng = np.random.default_rng([seed, 1])
    for _ in range(match_cases.TRIES):
        sound = wet(rng.uniform(size=n_params))
        if not audio.is_silent(sound):
            break
    return sound
