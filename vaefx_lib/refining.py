"""The search for settings from a controller's answer on: how near the style comes, and what the controller believes.

The distance of style knows nothing of an effect, so it serves any; but of settings that it can hardly tell apart, some
are likely, as the controller has learned. Both are joined as a likelihood and a prior are: the distance enters by its
logarithm, since it errs by a share of itself.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

import numpy as np

from vaefx_lib import echo_peaks, echoes, effects, passages, search
from vaefx_lib.controller import BINS, Controller

SHARPNESS = 20.0  # of the likelihood: how many times the logarithm of the distance counts
DOUBT = 0.1  # share of the prior that is even over the range: the network may be wrong
PROPOSALS = 100  # of the controller, from which a search begins
MIXED = 12  # of these, whose other settings are tried with each proposal of the right echoes
FEW = 2_000  # impulse responses of an effect that is met for the first time


def prior(distributions: Sequence[np.ndarray]) -> Callable[[np.ndarray], float]:
    """Logarithm of how likely settings are, from the distributions over each, mean over several looks.

    Parameters
    ----------
    distributions : sequence of array, shape (n_params, BINS)
        Of `Controller.distribution`; with none of them all settings are equally likely.

    Returns
    -------
    callable
        From settings (n_params,) to a number that is 0 where nothing is known.
    """
    if not len(distributions):
        return lambda settings: 0.0
    centres = (np.arange(BINS) + 0.5) / BINS
    logs = np.mean([np.log((1 - DOUBT) * BINS * d + DOUBT) for d in distributions], axis=0)

    def log_prior(settings: np.ndarray) -> float:
        return float(sum(np.interp(value, centres, row) for value, row in zip(settings, logs)))

    return log_prior


def refine(
    distance: Callable[[np.ndarray], float],
    starts: np.ndarray,
    distributions: Sequence[np.ndarray] = (),
    **budget,
) -> search.Found:
    """Settings that are likely and bring the style near, by `search.minimise`.

    Parameters
    ----------
    distance : callable
        Of style, from settings (n_params,); infinite where they are of no use.
    starts : array, shape (n, n_params)
    distributions : sequence of array, shape (n_params, BINS)
        See `prior`.
    **budget
        As `search.minimise` takes it.

    Returns
    -------
    Found
        Its `value` is the distance at the settings found.

    Used in `05_controller_training`.
    """
    log_prior, distances = prior(distributions), {}

    def objective(settings: np.ndarray) -> float:
        found = distances[settings.tobytes()] = distance(settings)
        return SHARPNESS * math.log(found + 1e-9) - log_prior(settings) if math.isfinite(found) else math.inf

    found = search.minimise(objective, starts, **budget)
    return dataclasses.replace(found, value=distances[found.settings.tobytes()])


def starts(
    controller: Controller,
    effect: effects.Effect,
    looks: Sequence[tuple[np.ndarray, np.ndarray]],
    *,
    count: int = PROPOSALS,
    seed: int = 0,
) -> np.ndarray:
    """Settings where a search begins, the controller's answers first if it knows the effect: (n, n_params).

    Parameters
    ----------
    controller : Controller
    effect : Effect
    looks : sequence of (array, array), shape (samples,) each
        Dry sound and reference, as `Controller.predict` takes them.
    count : int
        About so many.
    seed : int

    Used in `05_controller_training`.
    """
    if effect.name not in controller.effects:
        return np.stack([effect.default_settings, np.full(len(effect.params), 0.5)])
    each = math.ceil(count / len(looks))
    asked = [
        controller.proposals(dry, reference, effect.name, count=each, seed=seed + i)
        for i, (dry, reference) in enumerate(looks)
    ]
    answers = np.stack([proposed[0] for proposed in asked])
    more = [answers.mean(0, keepdims=True)] if len(answers) > 1 else []
    return np.concatenate([answers, *more, *(proposed[1:] for proposed in asked)])


def with_echoes(
    controller: Controller,
    effect: effects.Effect,
    begin: np.ndarray,
    cepstrum: np.ndarray,
    *,
    sample_rate_hz: int = passages.RATE_HZ,
    seed: int = 0,
) -> np.ndarray:
    """Settings that make the echoes of a reference, and `begin`.

    Each proposal of `echoes.propose` is also tried with the other settings, those that move no echo, from `begin`.

    Parameters
    ----------
    controller : Controller
        It knows the echoes of its effects at 24 kHz; of others and at other rates a few are rendered here.
    effect : Effect
    begin : array, shape (n, n_params)
    cepstrum : array, shape (34000,)
        Of the reference.
    sample_rate_hz : int
        At which the effect will run.
    seed : int

    Returns
    -------
    array, shape (at least n, n_params)

    Used in `05_controller_training`.
    """
    known = controller.echoes.get(effect.name)
    if known is None or known.sample_rate_hz != sample_rate_hz:
        known = echo_peaks.fingerprints(effect, FEW, seed=0, sample_rate_hz=sample_rate_hz)
    found = echoes.propose(effect, cepstrum, known, noise=controller.space.echo_deviation, seed=seed)
    if not len(found):
        return begin
    rng = np.random.default_rng(seed)
    mixed = begin[rng.integers(len(begin), size=(len(found), MIXED))]  # (proposals, MIXED, n_params)
    mixed[..., known.moving] = found[:, None, known.moving]
    return np.concatenate([begin[:1], found, mixed.reshape(-1, begin.shape[1]), begin[1:]])
