"""Search for the settings of an effect by trying them: for any objective, with no need for a gradient.

Some settings hide what they do: a delay time that is off by a tenth of its range is as wrong as any other. So the
search looks widely first, then takes steps of every size, and only then narrows down around the best places found.
"""

from __future__ import annotations

import heapq
import itertools
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import qmc

from vaefx_lib.tries import Spent, Tries, check_budget

WIDE = 0.15  # share of the budget for points all over the range
AROUND = 0.7  # share after which no more steps of every size are tried
SMALLEST, LARGEST = 0.001, 0.5  # standard deviations of such steps
MOVED = 0.3  # chance of each setting to be moved by such a step; one is moved in any case
GOOD = 8  # points from which such steps begin
BATCH = 8  # points tried between two looks at what has been found
SIGMA = 0.05  # standard deviation of the first generation of CMA-ES around a good place
STARTS = 3  # places narrowed down at once
STALLED = 8  # generations without a gain, after which a place is given up
GAIN = 1e-3  # of the value: what counts as one


@dataclass(frozen=True, eq=False)
class Found:
    """The best settings of a search, and how it went.

    Attributes
    ----------
    settings : array, float64, shape (n_params,)
        Each in [0, 1].
    value : float
        The objective there; infinite if it was finite nowhere.
    evaluations : int
    seconds : float
        Wall time.
    trace : array, float64, shape (evaluations,)
        The lowest value so far, after each evaluation.
    interrupted : bool
        Whether Ctrl-C ended the search before its budget was spent.
    """

    settings: np.ndarray
    value: float
    evaluations: int
    seconds: float
    trace: np.ndarray
    interrupted: bool = False


def minimise(
    objective: Callable[[np.ndarray], float],
    starts: Sequence | np.ndarray,
    *,
    budget_s: float | None = None,
    max_evaluations: int | None = None,
    seed: int = 0,
    workers: int = 1,
    progress: Callable[[float, float], None] | None = None,
) -> Found:
    """The settings with the lowest objective that a budget allows to find.

    The given starts are tried first, then a Sobol sequence, then steps of every size along a few settings at a time
    from the best points so far, then CMA-ES around the best places, again and again, until the budget is spent.

    Parameters
    ----------
    objective : callable
        ``objective(settings (n_params,)) -> float``, lower is better; NaN and infinity count as worst. With several
        workers it is called from as many threads.
    starts : sequence of array, shape (n_params,)
        Settings in [0, 1] that are tried first, at least one of them whatever the budget.
    budget_s : float, optional
        Wall time in seconds. An evaluation that would probably end later is not begun.
    max_evaluations : int, optional
        With this and no `budget_s` the same seed always finds the same, with any number of workers.
    seed : int
    workers : int
        Threads that evaluate.
    progress : callable, optional
        ``progress(share, value)`` after each evaluation: how much of the budget is spent, and the lowest value so far.

    Returns
    -------
    Found
        What was found until then if it is interrupted (Ctrl-C).

    Raises
    ------
    ValueError
        If there is no start, a start is outside [0, 1], no budget is given, or a budget is not positive.

    References
    ----------
    Hansen: The CMA evolution strategy: a tutorial, arXiv:1604.00772, 2016; computed by the package cmaes (Nomura and
    Shibata, 2024). Sobol: USSR Computational Mathematics and Mathematical Physics 7, 1967; by scipy.

    Used in `05_controller_training`.
    """
    starts = _checked_starts(starts)
    check_budget(budget_s, max_evaluations, workers)
    tries = Tries(objective, budget_s, max_evaluations, workers, progress)
    interrupted = False
    try:
        tries.values(starts)
        if starts.shape[1]:
            _look_widely(tries, starts.shape[1], seed)
            _look_around(tries, starts.shape[1], seed)
            _narrow_down(tries, seed)
    except Spent:
        pass
    except KeyboardInterrupt:
        if not tries.found:
            raise
        interrupted = True
    finally:
        tries.close()
    values = np.array([value for value, _ in tries.found])
    value, settings = min(tries.found, key=lambda one: one[0])
    trace = np.minimum.accumulate(values)
    return Found(settings.copy(), value, len(values), time.monotonic() - tries.began, trace, interrupted)


def _look_widely(tries: Tries, n_params: int, seed: int) -> None:
    """Points of a Sobol sequence for a share of the budget."""
    sequence = qmc.Sobol(n_params, rng=np.random.default_rng([seed, 0]))
    while tries.share < WIDE:
        tries.values(sequence.random(BATCH))


def _look_around(tries: Tries, n_params: int, seed: int) -> None:
    """Steps of every size along a few settings at a time, half of them from the best point, half from other good ones.

    A step's size is drawn evenly on a logarithmic scale, so that a hidden setting is found from afar and then hit.
    """
    rng = np.random.default_rng([seed, 1])
    while tries.share < AROUND:
        good = [point for _, point in heapq.nsmallest(GOOD, tries.found, key=lambda found: found[0])]
        points = []
        for _ in range(BATCH):
            origin = good[0] if rng.uniform() < 0.5 else good[rng.integers(len(good))]
            moved = rng.uniform(size=n_params) < MOVED
            moved[rng.integers(n_params)] = True
            sizes = LARGEST * (SMALLEST / LARGEST) ** rng.uniform(size=n_params)
            points.append(_reflected(origin + moved * sizes * rng.normal(size=n_params)))
        tries.values(points)


def _narrow_down(tries: Tries, seed: int) -> None:
    """CMA-ES around the best places, those that do worse given up one by one; then again, more narrowly."""
    from cmaes import CMA

    for again in itertools.count():
        sigma = SIGMA / 2 ** (again % 4)
        runs = []
        for i, place in enumerate(tries.places(STARTS if again == 0 else 1)):
            runs.append(_Run(CMA(place, sigma, bounds=_bounds(place.size), seed=_seed(seed, again, i))))
        while runs:
            for run in runs:
                run.step(tries)
            if len(runs) > 1 and runs[0].cma.generation % 4 == 0:
                runs.remove(max(runs, key=lambda run: run.lowest))
            runs = [run for run in runs if run.waiting < STALLED]


class _Run:
    """One CMA-ES."""

    def __init__(self, cma):
        self.cma, self.lowest, self.waiting = cma, math.inf, 0

    def step(self, tries: Tries) -> None:
        """One generation."""
        points = [self.cma.ask() for _ in range(self.cma.population_size)]
        values = tries.values(points)
        finite = values[np.isfinite(values)]
        worst = finite.max() if finite.size else 0.0
        told = np.where(np.isfinite(values), values, worst + 1)
        self.cma.tell(list(zip(points, told)))
        self.waiting = 0 if values.min() < self.lowest * (1 - GAIN) else self.waiting + 1
        self.lowest = min(self.lowest, values.min())


def _reflected(point: np.ndarray) -> np.ndarray:
    """Back into [0, 1] from beyond its ends, as from a mirror."""
    return 1 - np.abs(1 - np.abs(point) % 2)


def _seed(*numbers: int) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


def _bounds(n_params: int) -> np.ndarray:
    return np.tile([0.0, 1.0], (n_params, 1))


def _checked_starts(starts) -> np.ndarray:
    starts = np.asarray(starts, np.float64)
    if starts.ndim != 2 or not len(starts):
        raise ValueError(f"starts of shape {starts.shape}: they must be at least one row of settings")
    if not np.all((starts >= 0) & (starts <= 1)):
        raise ValueError(
            f"a start is {starts[~np.all((starts >= 0) & (starts <= 1), axis=1)][0]}: settings are in [0, 1]"
        )
    return starts
