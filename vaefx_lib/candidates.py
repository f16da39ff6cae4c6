"""The best settings of one effect, or of every one, for an input and a reference: what a controller says, what a search
finds from there on, and how far from the reference each of them is.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import joblib
import numpy as np

from vaefx_lib import audio, blackbox, effects, passages, refining, search, sound_loss, style
from vaefx_lib.controller import Controller

PEAK_DBFS = -12.0  # of the loudest passage before the effect, and of each after it
SAME_SOUND = 0.2  # `sound_loss` between the same settings at two rates, below which they sound alike
TRANSLATION_S = 3  # of the input that is compared at two rates: longer than the longest echo of mda Delay, twice
TRANSLATIONS = 20  # values of each setting that are tried for that, and three times as many steps from the best
SLOW_TO_LOAD = ("vst3:", "au:")  # up to many seconds each: only those that are named are tried
FINALISTS = 4  # effects that share the second half of a search over all of them


@dataclass(frozen=True, eq=False)
class Candidate:
    """The best settings found for one effect."""

    effect: effects.Effect
    settings: np.ndarray
    distance: float
    interrupted: bool = False


class Task:
    """An input and a reference made ready: passages at one level, and what the reference measures."""

    def __init__(
        self,
        inputs: Sequence[np.ndarray],
        rate_hz: int,
        references: Sequence[np.ndarray],
        reference_rate_hz: int,
        controller: Controller,
    ):
        self.rate_hz, self.controller = rate_hz, controller
        self.gain = 10 ** (PEAK_DBFS / 20) / max(float(np.abs(passage).max()) for passage in inputs)
        self.inputs = _sounding([passage * np.float32(self.gain) for passage in inputs], "the input")
        references = [self._heard(passage, reference_rate_hz) for passage in references]
        self.references = _sounding(references, "the reference")
        self.wanted = _measured(self.references)
        self._away = controller.space.target(self.wanted)
        self.dry = [self._heard(passage, rate_hz) for passage in self.inputs]
        self.looks = [(self.dry[i % len(self.dry)], passage) for i, passage in enumerate(self.references)]
        self.baseline_distance = self._away(_measured(self.dry))

    def distance(self, effect: effects.Effect, settings) -> float:
        """Of the input at these settings from the reference; infinite where the effect gives silence."""
        return self._distance(effect, self.inputs, settings, self.rate_hz)

    def knows(self, name: str) -> bool:
        """Whether the controller has an answer for this effect."""
        return name in self.controller.effects

    def starts(self, effect: effects.Effect, *, count: int = 1, seed: int = 0) -> np.ndarray:
        """Settings to begin with, the controller's answer first if it knows the effect; with the right echoes if more
        than one is wanted."""
        found = refining.starts(self.controller, effect, self.looks, count=count, seed=seed)
        if self.knows(effect.name) and self.rate_hz != passages.RATE_HZ:
            answers = found[: len(self.looks)]
            best = min(answers, key=lambda settings: self._distance(effect, self.dry, settings, passages.RATE_HZ))
            found = self._translated(effect, best)[None]
        if count == 1:
            return found
        rate = {"sample_rate_hz": self.rate_hz, "seed": seed}
        return refining.with_echoes(self.controller, effect, found, self.wanted.cepstrum, **rate)

    def distributions(self, effect: effects.Effect) -> list[np.ndarray]:
        """What the controller believes of the settings, at its own rate."""
        if self.rate_hz != passages.RATE_HZ or not self.knows(effect.name):
            return []
        return [self.controller.distribution(dry, reference, effect.name) for dry, reference in self.looks]

    def _distance(self, effect: effects.Effect, dry: list[np.ndarray], settings, rate_hz: int) -> float:
        """Of dry passages at a rate, through the effect, from the reference; infinite where all are silent."""
        wet = [blackbox.wet(effect, passage, settings, rate_hz, peak_dbfs=PEAK_DBFS) for passage in dry]
        heard = [self._heard(passage, rate_hz) for passage in wet if not audio.is_silent(passage)]
        return self._away(_measured(heard)) if heard else math.inf

    def _translated(self, effect: effects.Effect, settings: np.ndarray) -> np.ndarray:
        """The settings that sound at the input's rate as these do at 24 kHz, for which the controller was made.

        A search without a reference: the same stretch of the input through the effect at both rates.
        """
        stretch = self.inputs[0][: TRANSLATION_S * self.rate_hz]
        dry = self._heard(stretch, self.rate_hz)
        target = blackbox.wet(effect, dry, settings, passages.RATE_HZ, peak_dbfs=PEAK_DBFS)
        if audio.is_silent(target):
            return settings
        loss = sound_loss.to_target(target, l1=0)

        def difference(candidate):
            try:
                wet = blackbox.wet(effect, stretch, candidate, self.rate_hz, peak_dbfs=PEAK_DBFS)
            except effects.EffectFailed:
                return math.inf
            return math.inf if audio.is_silent(wet) else loss(self._heard(wet, self.rate_hz))

        if difference(settings) < SAME_SOUND:
            return settings
        starts = np.tile(settings, (1 + TRANSLATIONS * len(settings), 1))  # a row as it is, then each setting elsewhere
        for i, rows in enumerate(np.split(starts[1:], len(settings))):
            rows[:, i] = (np.arange(TRANSLATIONS) + 0.5) / TRANSLATIONS
        return search.minimise(difference, starts, max_evaluations=len(starts) + 3 * TRANSLATIONS).settings

    def _heard(self, passage: np.ndarray, rate_hz: int) -> np.ndarray:
        """As it is measured: at 24 kHz and one level."""
        return audio.peak_level(audio.resample(passage, rate_hz, passages.RATE_HZ)[: passages.SAMPLES], PEAK_DBFS)


def of_one(task: Task, name: str, refine_s: float, seed: int, progress=None, *, starts=(), workers=None) -> Candidate:
    """The best settings of one effect: of those proposed, or of a search that begins there."""
    effect = effects.load(name)
    if not refine_s and not task.knows(name):
        known = ", ".join(task.controller.effects)
        raise ValueError(f"the controller does not know {name}, only {known}: give seconds for a search")
    failure = None

    def distance(settings):
        nonlocal failure
        try:
            return task.distance(effect, settings)
        except effects.EffectFailed as error:
            failure = error
            return math.inf

    began = time.monotonic()
    if not len(starts):
        starts = task.starts(effect, count=refining.PROPOSALS if refine_s else 1, seed=seed)
    believed = task.distributions(effect) if refine_s else []
    left_s = max(1e-3, refine_s - (time.monotonic() - began))
    budget = {"max_evaluations": len(starts)}
    if refine_s:
        budget = {"budget_s": left_s, "workers": workers or joblib.cpu_count()}
    found = refining.refine(distance, starts, believed, seed=seed, progress=progress, **budget)
    if not math.isfinite(found.value) and failure:
        raise failure
    return Candidate(effect, found.settings, found.value, found.interrupted)


def of_all(task: Task, refine_s: float, seed: int, progress) -> tuple[list[Candidate], dict[str, str]]:
    """Candidates of all effects, and those left out with the reason.

    Half of the time is shared by all, the other half by those few that are best after it.
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
        if name in found and found[name].interrupted:
            break
    if not found:
        raise ValueError(f"no effect could be tried: {'; '.join(left_out.values())}")
    best = sorted(found.values(), key=lambda candidate: candidate.distance)[:FINALISTS]
    if refine_s and not any(candidate.interrupted for candidate in found.values()):
        for i, first in enumerate(best):
            left_s = (refine_s - (time.monotonic() - began)) / (len(best) - i)
            if left_s > 0:
                tell, starts = told(i, len(best), 0.5), [first.settings]
                again = of_one(task, first.effect.name, left_s, seed + 1, tell, starts=starts)
                if again.distance < first.distance:
                    found[first.effect.name] = again
                if again.interrupted:
                    break
    return list(found.values()), left_out


def _measured(heard: Sequence[np.ndarray]) -> style.Style:
    """The style of all passages together."""
    return style.mean([style.measure(passage) for passage in heard])


def _sounding(heard: list[np.ndarray], name: str) -> list[np.ndarray]:
    """The passages that are not silent at the level that they are measured at."""
    sounding = [passage for passage in heard if not audio.is_silent(passage)]
    if not sounding:
        raise audio.AudioError(f"{name} is silent but for single peaks: its mean level is 38 dB or more below its peak")
    return sounding
