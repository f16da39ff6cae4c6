"""Settings that may have made a reference: a controller's, its echoes' or movement's, variations of the best."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.stats import qmc

from vaefx_lib import effects
from vaefx_lib.controller import Controller

MIXED = 2  # of proposals one in so many has its other settings tried with each of the right echoes
BEST, RANK = 6, 1.5  # settings that are varied, and the mean of the exponential that says which of them
CROSSED = 0.3  # share of variations that take half of their settings from another one of these first
MOVED = 3  # settings at most, at random
SMALLEST, LARGEST = 1e-3, 0.25  # deviations of a step: from a few samples of a delay to a quarter of the range


def propose(
    controller: Controller,
    effect: effects.Effect,
    looks: Sequence[tuple[np.ndarray, np.ndarray]],
    *,
    count: int,
    seed: int = 0,
) -> np.ndarray:
    """Settings that may have made a reference, the controller's answers first if it knows the effect: (n, n_params).

    Of an effect that it does not know they are spread evenly over the range, after the defaults.

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
        sequence = qmc.Sobol(len(effect.params), rng=np.random.default_rng(seed))
        even = sequence.random_base2(math.ceil(math.log2(max(1, count))))[:count]
        return np.concatenate([[effect.default_settings, np.full(len(effect.params), 0.5)], even])
    each = math.ceil(count / len(looks))
    asked = [
        controller.proposals(dry, reference, effect.name, count=each, seed=seed + i)
        for i, (dry, reference) in enumerate(looks)
    ]
    rest = np.concatenate([proposed[1:] for proposed in asked])
    return np.concatenate([*(proposed[:1] for proposed in asked), np.random.default_rng(seed).permutation(rest)])


def with_found(begin: np.ndarray, found: np.ndarray, moving: np.ndarray, *, seed: int = 0) -> np.ndarray:
    """Settings that make the echoes of a reference, or its movement, and `begin`.

    Each is also tried with the other settings, those that move no echo, from `begin`; these come in turn with `begin`.

    Parameters
    ----------
    begin : array, shape (n, n_params)
    found : array, shape (m, n_params)
        Of `echoes.propose` or `MovementLikeness.propose`; there may be none.
    moving : array of int
        Which settings move echoes, or on which movement depends: `Fingerprints.moving` or `Movements.moving`.
    seed : int

    Returns
    -------
    array, shape (n + (1 + n // 2) m, n_params)

    Used in `05_controller_training`.
    """
    if not len(found):
        return begin
    rng = np.random.default_rng(seed)
    mixed = begin[rng.integers(len(begin), size=(len(begin) // MIXED, len(found)))]  # (mixes, found, n_params)
    mixed[..., moving] = found[:, moving]
    mixed, rest = mixed.reshape(-1, begin.shape[1]), begin[1:]
    order = np.argsort(np.append(np.arange(len(mixed)), np.arange(len(rest))), kind="stable")  # in turn
    return np.concatenate([begin[:1], found, np.concatenate([mixed, rest])[order]])


def vary(settings, values, count: int, rng: np.random.Generator) -> np.ndarray:
    """Settings near those with the lowest values, as an evolution strategy draws its next generation.

    Parameters
    ----------
    settings : array, shape (n, n_params)
        In [0, 1].
    values : array, shape (n,)
        Lower is better; infinite where of no use.
    count : int
    rng : Generator

    Returns
    -------
    array, shape (count, n_params)
        In [0, 1].

    References
    ----------
    Recombination and mutation of the best: Beyer and Schwefel, Evolution strategies: a comprehensive introduction,
    Natural Computing 1, 2002.

    Used in `05_controller_training`.
    """
    best = np.asarray(settings)[np.argsort(values, kind="stable")[:BEST]]
    n_params, made = best.shape[1], []
    for _ in range(count):
        one = best[min(int(rng.exponential(RANK)), len(best) - 1)].copy()
        if rng.uniform() < CROSSED:
            taken = rng.uniform(size=n_params) < 0.5
            one[taken] = best[rng.integers(len(best)), taken]
        moved = rng.permutation(n_params)[: rng.integers(1, MOVED + 1)]
        deviation = np.exp(rng.uniform(np.log(SMALLEST), np.log(LARGEST), len(moved)))
        one[moved] = np.clip(one[moved] + deviation * rng.standard_normal(len(moved)), 0, 1)
        made.append(one)
    return np.array(made)
