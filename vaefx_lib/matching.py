"""From two sounds to the settings of an effect: make this recording sound like that one.

The *input* is dry. The *reference* went through an unknown effect and says other things, perhaps in another voice. A
trained controller proposes settings, a search may refine them, and a critic says how far from the truth each is to be
expected (`candidates`). The settings hold for the input's own rate: an effect that counts samples would otherwise sound
different in the file that comes out.
"""

from __future__ import annotations

import itertools
import math
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from vaefx_lib import audio, candidates, effect_choice, effects, passages, places
from vaefx_lib.controller import Controller
from vaefx_lib.packed import controller_at_hand


@dataclass(frozen=True, eq=False)
class Match:
    """Settings that bring an input near a reference, and the sound that comes of them.

    Attributes
    ----------
    effect : str
    settings : dict of str to dict
        For each parameter: ``setting`` in [0, 1], ``value`` as people read it, and its ``unit``.
    audio : array, float32, shape (channels, samples)
        The input through the effect; the dry input where `apply` is false. Its peak is at most the input's, and 1.
    sample_rate_hz : int
    distance, baseline_distance : float
        From the truth, which is not there to be heard, as the critic expects them (MRSTFT, no unit): of the input with
        these settings, and dry.
    confidence : float
        By how much the MRSTFT from the truth is expected to become smaller, to judge from trials on known settings; of
        an input unlike speech, no more than the critic expects (`candidates.Task.confidence`).
    apply : bool
        Whether the effect makes it better; if not, the best answer is to leave the input dry.
    ranking : tuple of (str, float)
        Every effect that was tried and its distance, the chosen one first.
    left_out : dict of str to str
        Effects that could not be tried, and why.
    interrupted : bool
        Whether Ctrl-C ended the search early.
    """

    effect: str
    settings: dict[str, dict]
    audio: np.ndarray
    sample_rate_hz: int
    distance: float
    baseline_distance: float
    confidence: float
    apply: bool
    ranking: tuple[tuple[str, float], ...] = ()
    left_out: dict[str, str] = field(default_factory=dict)
    interrupted: bool = False

    def summary(self) -> dict:
        """All but the sound, as JSON holds it."""
        names = ("effect", "settings", "sample_rate_hz", "distance", "baseline_distance", "confidence", "apply")
        told = {name: getattr(self, name) for name in names}
        return told | {"ranking": [list(row) for row in self.ranking], "left_out": self.left_out}


def match(
    sound,
    reference,
    *,
    effect: str,
    controller: Controller | None = None,
    sample_rate_hz: int = passages.RATE_HZ,
    reference_rate_hz: int | None = None,
    refine_s: float = 0.0,
    seed: int = 0,
    progress: Callable[[float, float], None] | None = None,
) -> Match:
    """Settings of an effect that make a sound like a reference, and the sound with them.

    Parameters
    ----------
    sound : array, shape (samples,) or (1 or 2, samples)
        Dry, at least 0.5 s. Its channels are kept.
    reference : array, shape (samples,) or (channels, samples)
    effect : str
        A name for `effects.load`; or ``"auto"`` for the best of those that the controller knows and, with a search,
        of all that are installed but for VST3 and Audio Unit plug-ins, which may take many seconds to load.
    controller : Controller, optional
        By default `packed.controller_at_hand`. For an effect that it does not know all is left to the search.
    sample_rate_hz, reference_rate_hz : int
        Of the sound, and of the reference if it differs.
    refine_s : float
        Seconds of search from the controller's answer on; 0 takes that answer as it is.
    seed : int
        Of the search.
    progress : callable, optional
        ``progress(share, distance)`` while it searches.

    Returns
    -------
    Match

    Raises
    ------
    ValueError
        For an unknown effect, one that needs a search and gets none, or a negative time.
    AudioError
        If a sound is too short, silent, not finite, or the input has more than two channels.
    EffectFailed
        If the effect fails wherever it is tried.

    Used in `05_controller_training`.
    """
    sound = audio.check(sound, name="the input")
    _check_request(effect, refine_s)
    inputs = _passages(sound, sample_rate_hz, "the input")
    reference_rate_hz = reference_rate_hz or sample_rate_hz
    references = passages.of_sound(reference, reference_rate_hz, name="the reference")
    task = candidates.Task(inputs, sample_rate_hz, references, reference_rate_hz, controller or controller_at_hand())
    return _answer(task, sound, effect, refine_s, seed, progress)


def match_files(
    input_path: str | Path,
    reference_path: str | Path,
    out_path: str | Path,
    *,
    effect: str,
    controller: Controller | None = None,
    refine_s: float = 0.0,
    seed: int = 0,
    progress: Callable[[float, float], None] | None = None,
) -> Match:
    """`match` for files: the whole input, at its own rate and with its own channels, is written through the effect.

    Parameters
    ----------
    input_path, reference_path : path
        What `audio.load` reads. The input must fit into memory; of a reference of more than a minute only passages do.
    out_path : path
        Ending in .wav or .flac, whole or not at all; neither of the two sounds.
    effect, controller, refine_s, seed, progress
        As `match` takes them.

    Returns
    -------
    Match

    Raises
    ------
    ValueError
        As `match`; if two of the paths are the same file, or the output has another suffix.
    AudioError
        If a file cannot be used.
    OSError
        If the output cannot be written, which is tried before the work begins.

    Used in `05_controller_training`.
    """
    input_path, reference_path, out_path = (Path(path) for path in (input_path, reference_path, out_path))
    _check_paths(input_path, reference_path, out_path)
    _check_request(effect, refine_s)
    references, reference_rate_hz = passages.of_file(reference_path)
    sound, rate_hz = audio.load(input_path)
    inputs = _passages(sound, rate_hz, str(input_path))
    task = candidates.Task(inputs, rate_hz, references, reference_rate_hz, controller or controller_at_hand())
    found = _answer(task, sound, effect, refine_s, seed, progress)
    audio.save(out_path, found.audio, rate_hz)
    return found


def _answer(task: candidates.Task, sound: np.ndarray, name: str, refine_s: float, seed: int, progress) -> Match:
    """The best candidate of one effect or of all, with the whole sound through it."""
    if name == "auto":
        tried, left_out = effect_choice.of_all(task, refine_s, seed, progress)
    else:
        tried, left_out = [effect_choice.of_one(task, name, refine_s, seed, progress)], {}
    best = min(tried, key=lambda candidate: candidate.distance)
    if not math.isfinite(best.distance):
        raise effects.EffectFailed(f"{best.effect.name} gave silence or failed at all settings that were tried")
    confidence = task.confidence(best)
    apply = confidence > 0
    made = sound
    if apply:
        made = best.effect.render(sound * np.float32(task.gain), best.settings, task.rate_hz)
        made = audio.check(made, name=f"the whole input through {best.effect.name}")
    if len(made) > len(sound):  # a mono sound stays mono, as it was when it was measured
        made = made.mean(axis=0, keepdims=True)
    made = _at_peak(made, min(1.0, _peak(sound)))
    ranking = sorted(((c.effect.name, c.distance) for c in tried if math.isfinite(c.distance)), key=lambda r: r[1])
    head = best.effect.name, places.told(best.effect, best.settings), made, task.rate_hz
    expected = best.distance, task.baseline_distance, confidence, apply
    interrupted = any(candidate.refined.interrupted for candidate in tried)
    return Match(*head, *expected, tuple(ranking), left_out, interrupted)


def _peak(sound: np.ndarray) -> float:
    return float(max(sound.max(), -sound.min()))


def _at_peak(sound: np.ndarray, peak: float) -> np.ndarray:
    """The sound with this largest magnitude, and no rounding beyond it; itself if that is so already."""
    if _peak(sound) == peak:
        return sound
    sound = sound * np.float32(peak / max(_peak(sound), 1e-12))
    return np.clip(sound, -peak, peak, out=sound)


def _check_request(effect: str, refine_s: float) -> None:
    """Refuse what cannot work before the work begins."""
    if not 0 <= refine_s < math.inf:
        raise ValueError(f"the time for the search is {refine_s} s: it must be 0 (no search) or more")
    if effect != "auto":
        effects.load(effect)


def _passages(sound: np.ndarray, rate_hz: int, name: str) -> list[np.ndarray]:
    if len(sound) > 2:
        raise audio.AudioError(f"{name} has {len(sound)} channels: effects take 1 or 2")
    return passages.of_sound(sound, rate_hz, name=name)


def _check_paths(input_path: Path, reference_path: Path, out_path: Path) -> None:
    """Refuse the same file twice, also by a link, and an output that cannot be written."""
    if out_path.suffix.lower() not in (".wav", ".flac"):
        raise ValueError(f"{out_path} has the suffix {out_path.suffix!r}: it must be .wav or .flac")
    named = {"input": input_path, "reference": reference_path, "output": out_path}
    for (one, a), (other, b) in itertools.combinations(named.items(), 2):
        if a.absolute() == b.absolute() or (a.exists() and b.exists() and os.path.samefile(a, b)):
            raise ValueError(f"{one} and {other} are the same file, {a}: they must be two")
    if out_path.is_dir():
        raise ValueError(f"{out_path} is a folder: the output must be a file")
    try:
        out_path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out_path.parent):
            pass
    except OSError as error:
        raise OSError(error.errno, f"could not write {out_path}: {error.strerror}") from error
