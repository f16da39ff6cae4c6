"""Settings of an effect for an input and a reference: what a controller says, what a search finds from there on, and
how far from the truth each of them is. Which effect is to answer is left to `effect_choice`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vaefx_lib import (
    audio,
    blackbox,
    critic,
    echo_likeness,
    echo_peaks,
    echoes,
    effects,
    movement_likeness,
    passages,
    proposing,
    refining,
    style,
    translation,
)
from vaefx_lib.controller import Controller

PEAK_DBFS = -12.0  # of the loudest passage before the effect, and of each after it
WEIGHTS = 3.0, 4.0, 6.0, 6.0  # of echoes unlike in cepstrum, in lag and side, in colour, and of unlike movement
EXPLAINED = 0.6  # share of the distance of the dry input, below which settings explain a reference unlike speech
EVIDENT = 0.95  # how unlike in lag and side echoes may be that are taken for those of a reference unlike speech
VARIED = 0.4  # as `EXPLAINED`, of any reference, above which variations are not trusted
FEW = 2_000  # impulse responses of an effect that is met for the first time


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
        self.wanted_echoes = echo_likeness.EchoLikeness(self.references)
        self.dry = [self._heard(passage, rate_hz) for passage in self.inputs]
        self.looks = [(self.dry[i % len(self.dry)], passage) for i, passage in enumerate(self.references)]
        dry = _measured(self.dry)
        self._judge = self.critic.judge(self.wanted, dry)
        self._met: dict[str, echo_peaks.Fingerprints] = {}
        self._placed: dict[tuple[str, int], np.ndarray] = {}  # settings with the echoes or movement of the references
        self._moves: dict[str, movement_likeness.MovementLikeness] = {}
        self.baseline_distance, self.familiar = self._judge(dry)[0], self.critic.is_familiar(dry)

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
        found = proposing.propose(self.controller, effect, self.looks, count=count, seed=seed)
        known, asked, moves = self._echoes(effect), (effect.name, seed), self._movement(effect)
        if asked not in self._placed:
            in_echoes = echoes.propose(effect, self.wanted_echoes.profile, known, seed=seed)
            self._placed[asked] = moves.propose(seed=seed) if moves else in_echoes
        return proposing.with_found(found, self._placed[asked], moves.moving if moves else known.moving, seed=seed)

    def refine(self, effect: effects.Effect, proposals: np.ndarray, **budget) -> Candidate:
        """The settings to answer with, by `refining.refine`; those of an effect that makes echoes are varied.

        Raises
        ------
        EffectFailed
            If the effect failed wherever it was tried.
        """
        rate_hz, failures = self.tried_at_hz(effect), []

        def judge(settings: np.ndarray) -> float:
            try:
                distance, *unlike = self._judged(effect, settings, rate_hz)
                return distance + float(np.dot(WEIGHTS, unlike))
            except effects.EffectFailed as error:
                failures.append(error)
                return math.inf

        def hear(settings: np.ndarray) -> np.ndarray | None:
            try:
                heard = self._wet(effect, settings, rate_hz, count=1)
            except effects.EffectFailed:
                return None
            return _long_enough(heard[0]) if heard else None

        varied = len(self._echoes(effect).moving) > 0
        found = refining.refine(
            judge,
            hear,
            proposals,
            _long_enough(self.dry[0]),
            varied=varied,
            explains=lambda settings: self.distance(effect, settings, rate_hz) < VARIED * self.baseline_distance,
            **budget,
        )
        if not math.isfinite(found.expected):
            if failures:
                raise failures[0]
            return Candidate(effect, found.settings, math.inf, found)
        settings = (
            found.settings
            if rate_hz == self.rate_hz
            else translation.translated(
                effect, found.settings, self.inputs[0], self.rate_hz, self._heard, peak_dbfs=PEAK_DBFS
            )
        )
        return Candidate(effect, settings, self.distance(effect, settings, self.rate_hz), found)

    def confidence(self, candidate: Candidate) -> float:
        """By how much it is expected to be nearer to the truth than the dry input, which is the answer from 0 down.

        The controller knows that from trials on speech. Of an input unlike speech the critic must say so as well: it
        has to expect less than the share `EXPLAINED` of what it expects of the dry input, and echoes have to be those
        of the reference. Else what sets the reference apart is hardly the effect. (The shares were chosen on music that
        is in no score.)
        """
        gain = candidate.refined.expected_dry - candidate.refined.expected
        expected = self.controller.expected_improvement(candidate.effect.name, gain)
        if self.familiar:
            return expected
        if not self._echoes_shown(candidate):
            return min(expected, 0.0)
        return min(expected, EXPLAINED * self.baseline_distance - candidate.distance)

    def _echoes_shown(self, candidate: Candidate) -> bool:
        """Whether the reference shows the echoes of the candidate, if its effect makes any that settings move."""
        if not len(self._echoes(candidate.effect).moving):
            return True
        heard = self._wet(candidate.effect, candidate.settings, self.rate_hz)
        return bool(heard and self.wanted_echoes.profile.any() and self.wanted_echoes.unlike(heard)[0] < EVIDENT)

    def _judged(self, effect: effects.Effect, settings, rate_hz: int) -> tuple[float, ...]:
        """What the critic says of the input at these settings, and how unlike echoes and movement are, for `WEIGHTS`.

        Infinite where the effect gives silence; 0 of an effect that makes no echoes, or does not move.
        """
        heard, unlike, moves = self._wet(effect, settings, rate_hz), (0.0, 0.0), self._movement(effect)
        if not heard:
            return (math.inf,) * (1 + len(WEIGHTS))
        if len(self._echoes(effect).moving):
            unlike = self.wanted_echoes.unlike(heard)
        return *self._judge(_measured(heard)), *unlike, moves.unlike(settings) if moves else 0.0

    def _echoes(self, effect: effects.Effect) -> echo_peaks.Fingerprints:
        """Its fingerprints: the controller has those of its effects at 24 kHz, others are rendered, a few, and kept."""
        known, rate_hz = self.controller.echoes.get(effect.name), self.tried_at_hz(effect)
        if known is not None and known.sample_rate_hz == rate_hz:
            return known
        if effect.name not in self._met:
            self._met[effect.name] = echo_peaks.fingerprints(effect, FEW, seed=0, sample_rate_hz=rate_hz)
        return self._met[effect.name]

    def _movement(self, effect: effects.Effect) -> movement_likeness.MovementLikeness | None:
        """That of the references, to look for the effect's own; None if it does not move, or is not known."""
        known = self.controller.movements.get(effect.name)
        if known is None or not len(known.settings):
            return None
        if effect.name not in self._moves:
            self._moves[effect.name] = movement_likeness.MovementLikeness(self.references, effect, known)
        return self._moves[effect.name]

    def _wet(self, effect: effects.Effect, settings, rate_hz: int, *, count: int | None = None) -> list[np.ndarray]:
        """Passages of the input through the effect at a rate, the first `count` or all, as they are measured.

        Those that are silent are left out.
        """
        dry = (self.inputs if rate_hz == self.rate_hz else self.dry)[:count]
        wet = [blackbox.wet(effect, passage, settings, rate_hz, peak_dbfs=PEAK_DBFS) for passage in dry]
        heard = [self._heard(passage, rate_hz) for passage in wet if not audio.is_silent(passage)]
        return [sound for sound in heard if not audio.is_silent(sound)]

    def _heard(self, passage: np.ndarray, rate_hz: int) -> np.ndarray:
        """As it is measured: at 24 kHz and one level."""
        return audio.peak_level(audio.resample(passage, rate_hz, passages.RATE_HZ)[: passages.SAMPLES], PEAK_DBFS)


def _measured(heard: Sequence[np.ndarray]) -> style.Style:
    """The style of all passages together."""
    return style.mean([style.measure(passage) for passage in heard])


def _long_enough(sound: np.ndarray) -> np.ndarray:
    """The sound, repeated if it is shorter than the longest window on which sounds are compared."""
    return np.resize(sound, max(len(sound), max(refining.WINDOWS)))


def _sounding(heard: list[np.ndarray], name: str) -> list[np.ndarray]:
    """The passages that are not silent at the level that they are measured at."""
    sounding = [passage for passage in heard if not audio.is_silent(passage)]
    if not sounding:
        raise audio.AudioError(f"{name} is silent but for single peaks: its mean level is 38 dB or more below its peak")
    return sounding
