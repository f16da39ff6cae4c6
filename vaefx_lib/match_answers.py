"""What is tried on a case: the controller's answer, a search from there on, and what they have to beat."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vaefx_lib import audio, blackbox, candidates, effects, match_cases, metrics, passages, refining, search

PROPOSED = 0.7  # of the settings that a search may try


@dataclass(frozen=True, eq=False)
class Answers:
    """Answers to one case.

    Attributes
    ----------
    sounds : dict of str to array, float32, shape (samples,)
        "none" (the dry input), "random" and "mean" (all 0.5) settings, "network" (the controller's first answer),
        "ours" (the best of a few proposals; dry where the controller expects nothing of a match), "ours_forced" (never
        dry), "oracle", and with a search "refined" and "refined_forced". One that is the dry input is the very same
        array.
    predicted : array, float64, shape (n_params,)
        The network's settings.
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
        Settings that a search may try, `PROPOSED` of them proposals; 0 is no search.
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

    def with_confidence(name: str, count: int, evaluations: int | None) -> refining.Refined:  # as `matching` decides it
        proposals = task.proposals(fx, count=count, seed=seed)
        candidate = task.refine(fx, proposals, evaluations=evaluations, seed=seed, workers=1)
        left_dry[name] = task.confidence(candidate) <= 0
        sounds[f"{name}_forced"] = wet(candidate.settings)
        sounds[name] = dry if left_dry[name] else sounds[f"{name}_forced"]
        return candidate.refined

    predicted = controller.predict(dry, case.reference, effect)
    middle, refine_s = np.full(len(predicted), 0.5), 0.0
    sounds = {"none": dry, "random": _random(wet, len(predicted), seed), "mean": wet(middle), "network": wet(predicted)}
    starts = [predicted, with_confidence("ours", refining.QUICK, None).settings]
    if refine_evaluations:
        found = with_confidence("refined", round(PROPOSED * refine_evaluations), refine_evaluations)
        refine_s = found.seconds
        starts.append(found.settings)
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
