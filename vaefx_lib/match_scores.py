"""How near matches come to what they should: beside no effect, random and mean settings, and the best there is.

Each case (`match_cases`) has a target, the input through the effect that made the reference. Every answer to it is
scored by its distance from that target, which no answer but the oracle has seen.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vaefx_lib import corpora, effects, match_answers, match_cases, metrics, passages, processes, speech_quality, store

MAIN = "mrstft_wide"  # the metric by which the oracle is sought
SOURCES = (  # the code that scores depend on, beside that of the controller
    *("match_scores.py", "match_answers.py", "match_cases.py", "candidates.py", "refining.py", "proposing.py"),
    "translation.py",
    *("search.py", "tries.py", "echoes.py", "echo_peaks.py", "echo_profile.py", "echo_colour.py", "echo_likeness.py"),
    *("movement.py", "movements.py", "movement_likeness.py"),
    *("metrics.py", "stft_distance.py", "critic.py", "loudness.py", "speech_quality.py"),
)
SIZES = {"smoke": (6, 40)}  # of presets that only show that all works: cases, and settings that a search may try
ENOUGH = (24, 250)  # the same of all others


@dataclass(frozen=True, eq=False)
class Scores:
    """Scores of every answer to each of n cases.

    Attributes
    ----------
    effect, made_by : str
        The effect that was set, and the one that made the references.
    values : dict of str to dict of str to array
        Metric -> answer (see `match_answers.Answers`) -> (n,); NaN where a metric says nothing, as of silence. The
        forced ones have `mrstft_wide` only.
    left_dry : dict of str to array of bool
        "ours" and "refined" -> (n,): whether that answer is the dry input.
    same_speaker : array of bool, shape (n,)
    true, predicted : array, float64, shape (n, n_params)
        Settings of the reference and of the controller's answer; `true` is None if another effect made the reference.
    refine_s : array, shape (n,)
        Wall time of each search, while as many run as there are processors; 0 without a search.
    """

    effect: str
    made_by: str
    values: dict[str, dict[str, np.ndarray]]
    left_dry: dict[str, np.ndarray]
    same_speaker: np.ndarray
    true: np.ndarray | None
    predicted: np.ndarray
    refine_s: np.ndarray


def score(
    controller,
    effect: str,
    speakers: Mapping[str, Sequence[corpora.Utterance]],
    *,
    n: int,
    seed: int = 0,
    made_by: str | None = None,
    speech: bool = True,
    refine_evaluations: int = 0,
    oracle_evaluations: int = 240,
    workers: int | None = None,
    progress: bool = True,
) -> Scores:
    """Try a controller on cases, and score what comes of them. The same seed gives the same, with any `workers`.

    The oracle is the true settings, at which every distance is 0; if another effect made the reference there are none,
    and it is the best of the dry input and of a search that may listen to the target.

    Parameters
    ----------
    controller : controller.Controller
    effect : str
        To be set; the controller must know it.
    speakers : mapping of str to sequence of Utterance
        As `match_cases.unseen` gives them.
    n : int
        Cases.
    seed : int
    made_by : str, optional
        The effect that makes the references; the same by default.
    speech : bool
        Whether the recordings are speech: only then is there a PESQ, where it is installed.
    refine_evaluations : int
        Of a search after the controller's answer; 0 is none.
    oracle_evaluations : int
        Of the search for the oracle.
    workers : int, optional
        Processes; one per processor by default.
    progress : bool
        Say on stderr how far it is.

    Raises
    ------
    ValueError
        If the controller does not know the effect, `n` or a number of evaluations is not positive, or there is no case.

    Used in `05_controller_training`.
    """
    counts = {"n": (n, 1), "refine_evaluations": (refine_evaluations, 0), "oracle_evaluations": (oracle_evaluations, 1)}
    for name, (value, least) in counts.items():
        if value < least:
            raise ValueError(f"{name} is {value}: it must be {least} or more")
    if effect not in controller.effects:
        raise ValueError(f"the controller does not know {effect!r}: it knows {', '.join(controller.effects)}")
    made_by = made_by or effect
    names = [name for name in metrics.SCORES if name != "pesq" or (speech and speech_quality.has_pesq())]
    label = effect if made_by == effect else f"{made_by} -> {effect}"

    def one(index: int) -> dict:
        case = match_cases.draw(speakers, made_by, index=index, seed=seed)
        to_target = metrics.MrstftTo(case.target)
        own_seed = int(np.random.SeedSequence([seed, index, 1]).generate_state(1)[0])
        searches = {"refine_evaluations": refine_evaluations, "seed": own_seed}
        if made_by != effect:
            searches["oracle_evaluations"] = oracle_evaluations
        given = match_answers.give(controller, effect, case, to_target, **searches)
        values = {name: _values(name, given.sounds, case.target, to_target) for name in names}
        row = {"values": values, "left_dry": given.left_dry, "predicted": given.predicted, "refine_s": given.refine_s}
        return row | {"same_speaker": case.same_speaker, "true": case.settings}

    rows = processes.each(one, range(n), workers=workers, tell=_progress(n, label) if progress else None)
    found = _stacked(rows)
    return Scores(effect, made_by, **found | {"true": found["true"] if made_by == effect else None})


def kept(path: str | Path, controller, effect: str, speakers: Mapping[str, Sequence], **given) -> Scores:
    """`score`, or what it gave the last time for the same controller, recordings and code, from the file at `path`."""
    sources = [Path(__file__).parent / name for name in SOURCES]
    heard = corpora.fingerprint([utterance for name in speakers for utterance in speakers[name]])
    versions = [effects.load(name).version for name in (effect, given.get("made_by") or effect)]
    asked = {name: value for name, value in given.items() if name not in ("progress", "workers")}
    key = store.fingerprint(controller.about["fingerprint"], effect, asked, versions, heard, *sources)

    def compute() -> dict[str, np.ndarray]:
        made = score(controller, effect, speakers, **given)
        values = {f"values/{name}/{a}": array for name, answers in made.values.items() for a, array in answers.items()}
        dry = {f"left_dry/{answer}": array for answer, array in made.left_dry.items()}
        true = {} if made.true is None else {"true": made.true}
        return values | dry | true | {name: getattr(made, name) for name in ("same_speaker", "predicted", "refine_s")}

    found = store.cached(path, key, compute)
    values: dict[str, dict[str, np.ndarray]] = {}
    left_dry = {name.partition("/")[2]: array for name, array in found.items() if name.startswith("left_dry/")}
    for name, array in found.items():
        if name.startswith("values/"):
            _, metric, answer = name.split("/")
            values.setdefault(metric, {})[answer] = array
    rest = {name: found[name] for name in ("same_speaker", "predicted", "refine_s")}
    return Scores(effect, given.get("made_by") or effect, values, left_dry, true=found.get("true"), **rest)


def summary(scores: Scores) -> dict:
    """Means over the cases, nested as in `metrics.json`.

    Returns
    -------
    dict
        For each metric the mean of every answer, over the cases in which all could be scored, and `gap_closed` (and
        `refined_gap_closed`): (none - ours) / (none - oracle) of the means, left out where the oracle is no better than
        none. Of `mrstft_wide` also both for each kind of case, `same_speaker` and `other_speaker`. `settings`: of each
        parameter mean absolute error `mae`, that of the middle `mae_mean`, and `r2`. `left_dry`: share of the cases
        in which ours is the dry input; `refined_left_dry` likewise. `n`: number of cases.
    """
    found: dict = {name: means for name, answers in scores.values.items() if (means := _means(name, answers))}
    for name, cases in (("same_speaker", scores.same_speaker), ("other_speaker", ~scores.same_speaker)):
        if means := _means(MAIN, {answer: values[cases] for answer, values in scores.values[MAIN].items()}):
            found[MAIN][name] = means
    found |= {"n": len(scores.same_speaker), "left_dry": float(scores.left_dry["ours"].mean())}
    if "refined" in scores.left_dry:
        found["refined_left_dry"] = float(scores.left_dry["refined"].mean())
    if scores.true is not None:
        names = effects.load(scores.effect).param_names
        found["settings"] = {
            name: _settings_errors(true, guessed)
            for name, true, guessed in zip(names, scores.true.T, scores.predicted.T)
        }
    return found


def _progress(total: int, label: str) -> Callable[[int], None]:
    """What says on stderr how many cases are done, every few seconds."""
    began = told = time.monotonic()

    def tell(done: int) -> None:
        nonlocal told
        now = time.monotonic()
        if now - told > 5 or done == total:
            print(f"{label}: {done} of {total} cases after {now - began:.0f} s", file=sys.stderr, flush=True)
            told = now

    return tell


def _values(name: str, sounds: Mapping[str, np.ndarray], target: np.ndarray, to_target) -> dict[str, float]:
    """One metric of each answer; NaN where it refuses: silence, or for PESQ what is not like speech."""
    known: dict[int, float] = {}  # by array: some answers are the same

    def value(sound: np.ndarray) -> float:
        try:
            return to_target(sound) if name == MAIN else metrics.SCORES[name].function(target, sound, passages.RATE_HZ)
        except ValueError:
            return math.nan

    scored = {answer: sound for answer, sound in sounds.items() if name == MAIN or not answer.endswith("_forced")}
    for sound in scored.values():
        if id(sound) not in known:
            known[id(sound)] = value(sound)
    return {answer: known[id(sound)] for answer, sound in scored.items()}


def _stacked(rows: Sequence):
    """Rows of nested values as nested arrays with a place for each row."""
    if isinstance(rows[0], dict):
        return {name: _stacked([row[name] for row in rows]) for name in rows[0]}
    return np.array(rows)


def _means(name: str, answers: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Mean of each answer over the cases that have all, and how much of the gap is closed; empty without such cases."""
    there = np.all([np.isfinite(values) for values in answers.values()], axis=0)
    if not there.any():
        return {}
    means = {answer: float(values[there].mean()) for answer, values in answers.items()}
    gap = means["none"] - means["oracle"]
    if (gap if metrics.SCORES[name].lower_is_better else -gap) > 0:
        closed = {"gap_closed": "ours", "refined_gap_closed": "refined"}
        means |= {key: (means["none"] - means[answer]) / gap + 0.0 for key, answer in closed.items() if answer in means}
    return means


def _settings_errors(true: np.ndarray, guessed: np.ndarray) -> dict[str, float]:
    errors = {"mae": float(np.abs(guessed - true).mean()), "mae_mean": float(np.abs(0.5 - true).mean())}
    variance = np.square(true - true.mean()).sum()
    return errors | ({"r2": float(1 - np.square(guessed - true).sum() / variance)} if variance else {})
