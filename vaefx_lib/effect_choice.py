"""Which effect is to answer: candidates of that which was asked for, or of every one where none was."""

from __future__ import annotations

import time

import numpy as np

from vaefx_lib import effects, refining
from vaefx_lib.candidates import Candidate, Task

SLOW_TO_LOAD = ("vst3:", "au:")  # up to many seconds each: only those that are named are tried
FINALISTS = 4  # effects that share the second half of a search over all of them


def of_one(task: Task, name: str, refine_s: float, seed: int, progress=None, *, first=(), workers=None) -> Candidate:
    """The settings of one effect to answer with; `first` are settings to be tried before all others.

    Raises
    ------
    ValueError
        If there is no search and the controller does not know the effect.
    """
    effect = effects.load(name)
    if not refine_s and not task.knows(name):
        known = ", ".join(task.controller.effects)
        raise ValueError(f"the controller does not know {name}, only {known}: give seconds for a search")
    began = time.monotonic()
    proposals = task.proposals(effect, count=refining.PROPOSALS if refine_s else refining.QUICK, seed=seed)
    if len(first):
        proposals = np.concatenate([first, proposals])
    budget = {"budget_s": max(1e-3, refine_s - (time.monotonic() - began))} if refine_s else {}
    return task.refine(effect, proposals, seed=seed, workers=workers, progress=progress, **budget)


def of_all(task: Task, refine_s: float, seed: int, progress) -> tuple[list[Candidate], dict[str, str]]:
    """Candidates of all effects, and those left out with the reason.

    Half of the time is shared by all, the other half by those few that are best after it.

    Raises
    ------
    ValueError
        If none of them could be tried.
    """
    names = list(task.controller.effects)
    if refine_s:
        names += [name for name in effects.available() if name not in names and not name.startswith(SLOW_TO_LOAD)]
    began = time.monotonic()
    found: dict[str, Candidate] = {}
    left_out: dict[str, str] = {}

    def told(done, count, first):  # progress over one half of the time
        def tell(share, value):
            if progress:
                lowest = min([value, *(candidate.distance for candidate in found.values())])
                progress(first + 0.5 * (done + share) / count, lowest)

        return tell

    for i, name in enumerate(names):
        if refine_s and time.monotonic() - began > refine_s / 2 and not task.knows(name):
            left_out[name] = "the time was over"
            continue
        try:
            found[name] = of_one(task, name, refine_s / 2 / len(names), seed, told(i, len(names), 0.0), workers=1)
        except (ValueError, effects.EffectFailed) as error:  # ValueError: of no use at this rate, say
            left_out[name] = str(error)
        if name in found and found[name].refined.interrupted:
            break
    if not found:
        raise ValueError(f"no effect could be tried: {'; '.join(left_out.values())}")
    best = sorted(found.values(), key=lambda candidate: candidate.distance)[:FINALISTS]
    if refine_s and not any(candidate.refined.interrupted for candidate in found.values()):
        for i, first in enumerate(best):
            left_s = (refine_s - (time.monotonic() - began)) / (len(best) - i)
            if left_s > 0:
                tell, own = told(i, len(best), 0.5), first.refined.settings[None]
                again = of_one(task, first.effect.name, left_s, seed + 1, tell, first=own)
                if again.distance < first.distance:
                    found[first.effect.name] = again
                if again.refined.interrupted:
                    break
    return list(found.values()), left_out
