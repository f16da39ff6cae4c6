"""The best settings of one effect, or of every one, for an input and a reference: what a controller says, what a search
finds from there on, and how far from the reference each of them is.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vaefx_lib import (
    audio,
    blackbox,
    critic,
    echo_peaks,
    echo_profile,
    effects,
    passages,
    refining,
    search,
    sound_loss,
    style,
)
from vaefx_lib.controller import Controller

PEAK_DBFS = -12.0  # of the loudest passage before the effect, and of each after it
ECHO_WEIGHTS = 3.0, 6.0  # of echoes unlike in the cepstrum, and in lag and side, beside the distance to be expected
SAME_SOUND = 0.2  # `sound_loss` between the same settings at two rates, below which they sound alike
TRANSLATION_S = 3  # of the input that is compared at two rates: longer than the longest echo of mda Delay, twice
TRANSLATIONS = 20  # values of each setting that are tried for that, and three times as many steps from the best
SLOW_TO_LOAD = ("vst3:", "au:")  # up to many seconds each: only those that are named are tried
FEW = 2_000  # impulse responses of an effect that is met for the first time
FINALISTS = 4  # effects that share the second half of a search over all of them


@dataclass(frozen=True, eq=False)
class Candidate:
    """The settings of one effect to answer with.

    Attributes
    ----------
    effect : Effect
    settings : array, shape (n_params,)
    distance : float
        From the truth, as the critic expects it.
    refined : Refined
        How they were found, and at which rate they were tried.
    """

    effect: effects.Effect
    settings: np.ndarray
    distance: float
    refined: refining.Refined


class Task:
    """An input and a reference made ready: passages at one level, and a judge of the input through effects.

    Effects that the controller knows are tried at 24 kHz, at which it learned, and the answer is translated to the
    input's rate. Others are tried at that rate.
    """

    def __init__(
        self,
        inputs: Sequence[np.ndarray],
        rate_hz: int,
        references: Sequence[np.ndarray],
        reference_rate_hz: int,
        controller: Controller,
    ):
        self.rate_hz, self.controller, self.critic = rate_hz, controller, critic.load()
        self.gain = 10 ** (PEAK_DBFS / 20) / max(float(np.abs(passage).max()) for passage in inputs)
        self.inputs = _sounding([passage * np.float32(self.gain) for passage in inputs], "the input")
        references = [self._heard(passage, reference_rate_hz) for passage in references]
        self.references = _sounding(references, "the reference")
        self.wanted = _measured(self.references)
        self.profile = echo_profile.mean([echo_profile.measure(passage) for passage in self.references])
        self._unlike = echo_profile.unlike(self.profile)
        self.dry = [self._heard(passage, rate_hz) for passage in self.inputs]
        self.looks = [(self.dry[i % len(self.dry)], passage) for i, passage in enumerate(self.references)]
        dry = _measured(self.dry)
        self._judge = self.critic.judge(self.wanted, dry)
        self._met: dict[str, echo_peaks.Fingerprints] = {}
        self.baseline_distance = self._judge(dry)[0]

    def knows(self, name: str) -> bool:
        """Whether the controller has an answer for this effect."""
        return name in self.controller.effects

    def tried_at_hz(self, effect: effects.Effect) -> int:
        """The sample rate at which settings of this effect are tried."""
        return passages.RATE_HZ if self.knows(effect.name) else self.rate_hz

    def distance(self, effect: effects.Effect, settings, rate_hz: int) -> float:
        """From the truth, of the input at these settings and this rate, as the critic expects it.

        Infinite where the effect gives silence.
        """
        heard = self._wet(effect, settings, rate_hz)
        return self._judge(_measured(heard))[0] if heard else math.inf

    def proposals(self, effect: effects.Effect, *, count: int, seed: int = 0) -> np.ndarray:
        """Settings that may have made the reference, at the rate at which they are tried: (n, n_params)."""
        found = refining.propose(self.controller, effect, self.looks, count=count, seed=seed)
        return refining.with_echoes(effect, found, self.profile, self._echoes(effect), seed=seed)

    def refine(self, effect: effects.Effect, proposals: np.ndarray, **budget) -> Candidate:
        """The settings to answer with, by `refining.refine`.

        Raises
        ------
        EffectFailed
            If the effect failed wherever it was tried.
        """
        rate_hz, failures = self.tried_at_hz(effect), []

        def judge(settings: np.ndarray) -> float:
            try:
                distance, *unlike = self._judged(effect, settings, rate_hz)
                return distance + float(np.dot(ECHO_WEIGHTS, unlike))
            except effects.EffectFailed as error:
                failures.append(error)
                return math.inf

        def hear(settings: np.ndarray) -> np.ndarray | None:
            try:
                heard = self._wet(effect, settings, rate_hz, count=1)
            except effects.EffectFailed:
                return None
            return _long_enough(heard[0]) if heard else None

        found = refining.refine(judge, hear, proposals, _long_enough(self.dry[0]), **budget)
        if not math.isfinite(found.expected):
            if failures:
                raise failures[0]
            return Candidate(effect, found.settings, math.inf, found)
        settings = found.settings if rate_hz == self.rate_hz else self._translated(effect, found.settings)
        return Candidate(effect, settings, self.distance(effect, settings, self.rate_hz), found)

    def _judged(self, effect: effects.Effect, settings, rate_hz: int) -> tuple[float, float, float]:
        """What the critic says of the input at these settings, and how unlike its echoes are in lag and side.

        Infinite where the effect gives silence; the last is 0 for an effect that makes no echoes.
        """
        heard, unlike = self._wet(effect, settings, rate_hz), 0.0
        if not heard:
            return math.inf, math.inf, math.inf
        if len(self._echoes(effect).moving):
            unlike = self._unlike(echo_profile.mean([echo_profile.measure(sound) for sound in heard]))
        return *self._judge(_measured(heard)), unlike

    def _echoes(self, effect: effects.Effect) -> echo_peaks.Fingerprints:
        """Its fingerprints: the controller has those of its effects at 24 kHz, others are rendered, a few, and kept."""
        known, rate_hz = self.controller.echoes.get(effect.name), self.tried_at_hz(effect)
        if known is not None and known.sample_rate_hz == rate_hz:
            return known
        if effect.name not in self._met:
            self._met[effect.name] = echo_peaks.fingerprints(effect, FEW, seed=0, sample_rate_hz=rate_hz)
        return self._met[effect.name]

    def _wet(self, effect: effects.Effect, settings, rate_hz: int, *, count: int | None = None) -> list[np.ndarray]:
        """Passages of the input through the effect at a rate, the first `count` or all, as they are measured.

        Those that are silent are left out.
        """
        dry = (self.inputs if rate_hz == self.rate_hz else self.dry)[:count]
        wet = [blackbox.wet(effect, passage, settings, rate_hz, peak_dbfs=PEAK_DBFS) for passage in dry]
        heard = [self._heard(passage, rate_hz) for passage in wet if not audio.is_silent(passage)]
        return [sound for sound in heard if not audio.is_silent(sound)]

    def _translated(self, effect: effects.Effect, settings: np.ndarray) -> np.ndarray:
        """The settings that sound at the input's rate as these do at 24 kHz, for which the controller was made.

        A search without a reference: the same stretch of the input through the effect at both rates.
        """
        stretch = _loudest(self.inputs[0], TRANSLATION_S * self.rate_hz)
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


def _measured(heard: Sequence[np.ndarray]) -> style.Style:
    """The style of all passages together."""
    return style.mean([style.measure(passage) for passage in heard])


def _loudest(sound: np.ndarray, samples: int) -> np.ndarray:
    """The stretch of so many samples that has the most power; all of a shorter sound."""
    samples = min(samples, len(sound))
    energy = np.cumsum(np.append(0.0, np.square(sound, dtype=np.float64)))
    start = int(np.argmax(energy[samples:] - energy[: len(energy) - samples]))
    return sound[start : start + samples]


def _long_enough(sound: np.ndarray) -> np.ndarray:
    """The sound, repeated if it is shorter than the longest window on which sounds are compared."""
    return np.resize(sound, max(len(sound), max(refining.WINDOWS)))


def _sounding(heard: list[np.ndarray], name: str) -> list[np.ndarray]:
    """The passages that are not silent at the level that they are measured at."""
    sounding = [passage for passage in heard if not audio.is_silent(passage)]
    if not sounding:
        raise audio.AudioError(f"{name} is silent but for single peaks: its mean level is 38 dB or more below its peak")
    return sounding
