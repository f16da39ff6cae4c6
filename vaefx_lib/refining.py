"""Which settings to answer with: those whose sound is nearest, in expectation, to all sounds that are likely.

Many settings are proposed, each is rendered, and the critic says how far from the truth each sound may be. To search on
for what the critic likes best would be to search for its mistakes. So the proposals are weighed by what it says of
them, as samples of the settings that may have made the reference, and the answer is the one with the least *expected*
distance: the mean of its distances from all samples' sounds, each measured exactly. To leave the sound dry is one of
the answers. A search for settings that lower the expected distance goes on from there.

Echoes are another matter: what is said of them leaves little room for mistakes, but a tap that is a sample off is as
wrong as any. There the best proposals are varied instead, and all that was judged is weighed.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import joblib
import numpy as np

from vaefx_lib import blackbox, proposing, search
from vaefx_lib.stft_distance import spectra

TEMPERATURE = 0.3  # of the weights: so much more MRSTFT expected by the critic, and a sample counts 1/e
LIKELY = 40  # samples, those that the critic expects most of
HURRIED = 4  # of them where Ctrl-C cuts their weighing short
SAMPLED = 16  # of them that a search is held against
WINDOWS = (512, 2048, 8192)  # samples: of the distances between sounds
PROPOSING, WEIGHING = 0.4, 0.65  # shares of a time after which no more is proposed, and the search begins
TRIED_FIRST = PROPOSING / (PROPOSING + 1 - WEIGHING)  # of a number of settings: proposals; the search has the others
VARIED = 0.5  # of what may be judged, or of the time: where the best are varied, proposals that are judged first
GENERATION = 8  # variations that are drawn at once
QUICK = 24  # proposals where no time is given; that many are always judged first
PROPOSALS = 600  # the most


@dataclass(frozen=True, eq=False)
class Refined:
    """The settings to answer with.

    Attributes
    ----------
    settings : array, float64, shape (n_params,)
    expected, expected_dry : float
        Distance from the truth of the sound with these settings, and of the dry sound: mean over the likely settings.
    evaluations : int
        Settings that were rendered.
    seconds : float
    interrupted : bool
        Whether Ctrl-C ended the search early; if nothing was judged until then, it is raised.
    """

    settings: np.ndarray
    expected: float
    expected_dry: float
    evaluations: int
    seconds: float
    interrupted: bool = False


def refine(
    judge: Callable[[np.ndarray], float],
    hear: Callable[[np.ndarray], np.ndarray | None],
    proposals: np.ndarray,
    dry: np.ndarray,
    *,
    budget_s: float | None = None,
    evaluations: int | None = None,
    varied: bool = False,
    explains: Callable[[np.ndarray], bool] | None = None,
    seed: int = 0,
    workers: int | None = None,
    progress: Callable[[float, float], None] | None = None,
) -> Refined:
    """The settings with the least expected distance from the truth.

    Parameters
    ----------
    judge : callable
        From settings (n_params,) to the distance from the truth that the critic expects; infinite where of no use.
    hear : callable
        From settings to the sound, shape (samples,), or None if they are of no use.
    proposals : array, shape (n, n_params)
        In [0, 1]. Judged in this order, some of them whatever the budget.
    dry : array, shape (samples,)
        What is heard if the sound is left as it is.
    budget_s, evaluations : float and int, optional
        Of a search after the proposals have been weighed, with what these take included; without either there is none.
    varied : bool
        Whether, given a budget, proposals take half of it, and variations of the best the place of the others and of
        settings that a search would try.
    explains : callable, optional
        Whether settings explain the reference, asked of the best of proposals and variations: if not, variations are
        taken to be mistakes of the judge, and left out.
    seed : int
    workers : int, optional
        Threads; one per processor by default.
    progress : callable, optional
        ``progress(share, distance)``: how much of the budget is spent, and the least distance expected so far.

    Returns
    -------
    Refined
        `expected` is infinite if no proposal is of use.

    References
    ----------
    The answer of least expected loss: Berger, Statistical Decision Theory and Bayesian Analysis, 1985, section 4.4.

    Used in `05_controller_training`.
    """
    began, interrupted = time.monotonic(), False
    whole_s, told = budget_s or math.inf, progress or (lambda share, value: None)
    most, until = len(proposals), PROPOSING
    if varied := varied and bool(budget_s or evaluations):
        most, until = evaluations or math.inf, WEIGHING
    elif evaluations:
        most = min(most, math.ceil(TRIED_FIRST * evaluations))
    tried, rng = np.asarray(proposals)[:0], np.random.default_rng(seed)
    judged, proposed, trusted = list[float](), 0, True

    def spent() -> float:  # share of what may be judged, or of the time for it
        return max(len(judged) / most, (time.monotonic() - began) / (until * whole_s))

    try:
        while not judged or spent() < 1:
            left = int(min(QUICK, most - len(judged)))
            if varied and judged and (spent() >= VARIED or len(judged) >= len(proposals)):
                batch = proposing.vary(tried, judged, min(GENERATION, left), rng)
            else:
                batch = proposals[len(judged) :][:left]
                proposed += len(batch)
            tried = np.concatenate([tried, batch])
            judged += blackbox.in_threads(judge, batch, workers=workers)
            told(until * min(1.0, spent()), min(judged))
        if explains and len(judged) > proposed:
            trusted = explains(tried[int(np.argmin(judged))])
    except KeyboardInterrupt:
        if not judged:
            raise
        interrupted = True
    count, weighable = len(judged), len(judged) if trusted else proposed
    weigh = functools.partial(_weigh, np.array(judged[:weighable]), tried, hear, dry, workers=workers)
    try:
        weighed = weigh(LIKELY)
    except KeyboardInterrupt:
        weighed, interrupted = weigh(HURRIED), True
    if weighed is None:
        seconds = time.monotonic() - began
        return Refined(np.asarray(proposals[0]), math.inf, math.inf, count, seconds, interrupted)
    settings, samples, weights, expected = weighed
    best = settings[expected[:-1].argmin()]
    least = float(expected[:-1].min())
    told(WEIGHING if budget_s or evaluations else 1.0, least)
    if (budget_s or evaluations) and count != evaluations and not interrupted:

        def loss(one: np.ndarray, most: int = SAMPLED) -> float:
            sound = hear(one)
            if sound is None:
                return math.inf
            heard, share = spectra(sound, WINDOWS), weights[:most] / weights[:most].sum()
            return float(sum(w * truth.distance(heard) for w, truth in zip(share, samples)))

        searched = search.minimise(
            loss,
            [best, weights @ settings],
            budget_s=budget_s and max(1e-3, whole_s - (time.monotonic() - began)),
            max_evaluations=evaluations and evaluations - count,
            seed=seed,
            workers=workers or joblib.cpu_count(),
            progress=lambda share, value: told(WEIGHING + (1 - WEIGHING) * share, value),
        )
        count, interrupted = count + searched.evaluations, searched.interrupted
        if (of_all := loss(searched.settings, LIKELY)) < least:
            best, least = searched.settings, of_all
    return Refined(best, least, float(expected[-1]), count, time.monotonic() - began, interrupted)


def _weigh(
    values, proposals, hear, dry, most: int, *, workers
) -> tuple[np.ndarray, list, np.ndarray, np.ndarray] | None:
    """The most likely proposals, their sounds' spectra and weights, and the expected distance of each and of dry."""
    likely = np.argsort(values, kind="stable")[:most]
    likely = likely[np.isfinite(values[likely])]
    heard = blackbox.in_threads(hear, proposals[likely], workers=workers)
    likely = likely[np.array([sound is not None for sound in heard], bool)]
    if not len(likely):
        return None
    weights = np.exp((values[likely[0]] - values[likely]) / TEMPERATURE)
    weights /= weights.sum()
    sounding = [sound for sound in heard if sound is not None]
    samples = blackbox.in_threads(lambda sound: spectra(sound, WINDOWS), sounding, workers=workers)
    answers = [*samples, spectra(dry, WINDOWS)]
    distances = blackbox.in_threads(lambda truth: [truth.distance(one) for one in answers], samples, workers=workers)
    return proposals[likely], samples, weights, weights @ np.array(distances)
