"""Matches on many cases: what `vaefx evaluate controller` says, and a study over nine effects that takes hours."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from vaefx_lib import (
    blackbox,
    config,
    controller,
    corpora,
    effects,
    match_cases,
    match_scores,
    metrics,
    passages,
    store,
)
from vaefx_lib.config import Preset

CROSS = {  # references made by an effect that the controller cannot set: what made them, and what is set
    "Distortion_to_Overdrive": ("pedalboard:Distortion", "mda:Overdrive"),
    "Delay_to_Delay": ("pedalboard:Delay", "mda:Delay"),
    "Reverb_to_Ambience": ("pedalboard:Reverb", "lv2:mda/Ambience"),
    "EQ_Compressor_to_MultiBand": (
        "chain:[pedalboard:LowShelfFilter, pedalboard:HighShelfFilter, pedalboard:Compressor]",
        "lv2:mda/MultiBand",
    ),
}
STUDIED = "nine"  # the preset of the study
CASES, REFINE_EVALUATIONS = 24, 700  # of each part of the study
FOLDER = "match_study"  # of a run folder
NEARLY = 0.02  # of its range: how far each setting of an answer is off that is called nearly right
ANSWERS = ("none", "random", "mean", "network", "ours", "refined", "oracle")


def evaluate(
    preset: Preset,
    corpus: str,
    *,
    speech: bool = True,
    effects: Sequence[str] = (),
    made_by: str | None = None,
    n: int = 200,
    refine_evaluations: int = 0,
    seed: int = 0,
) -> dict:
    """Scores of the trained controller of a preset on a corpus, nested as in `metrics.json`.

    Parameters
    ----------
    preset : Preset
    corpus : str
        A name for `corpora.load`, or a folder with a sub-folder for each speaker or piece of music. Speakers of the
        training are left out.
    speech : bool
        Whether it is speech, of which alone there is a PESQ.
    effects : sequence of str
        To be set; by default all that the controller knows.
    made_by : str, optional
        The effect that makes the references; by default the one that is set.
    n : int
        Cases for each effect.
    refine_evaluations : int
        Of a search after the controller's answer.
    seed : int

    Returns
    -------
    dict
        `controller.<effect>`, or `controller.cross.<made_by> -> <effect>`: see `match_scores.summary`. `speakers`.

    Raises
    ------
    DamagedFile
        If no controller is trained.
    ValueError
        If there is no such corpus, or the controller does not know an effect.
    """
    trained = controller.load(config.controller_dir(preset.name))
    speakers = match_cases.unseen(corpora.named(corpus), preset)
    given: dict = {"n": n, "seed": seed, "speech": speech, "refine_evaluations": refine_evaluations}
    found: dict = {}
    for effect in effects or trained.effects:
        scores = match_scores.score(trained, effect, speakers, made_by=made_by, **given)
        if scores.true is None:
            found.setdefault("cross", {})[f"{made_by} -> {effect}"] = match_scores.summary(scores)
        else:
            found[effect] = match_scores.summary(scores)
    return {"controller": found, "speakers": list(speakers)}


def study(preset: Preset, *, music: str | None = None, cases: int = CASES, seed: int = 0) -> Iterator[dict]:
    """Score the trained controller of a preset on every effect that it knows, and of `CROSS`, the latter in music too.

    Every part is given as soon as it is done, and kept in the run folder: an interrupted study goes on with the part
    that it lost. How far it is, is told on stderr.

    Parameters
    ----------
    preset : Preset
        Its controller must be trained.
    music : str, optional
        A corpus of music, or a folder with a sub-folder for each piece; without it there is speech alone.
    cases : int
        Of each part.
    seed : int

    Yields
    ------
    dict
        A part of `metrics.json`: `controller.nine.<effect>`, `controller.cross.<name>`, and for music
        `controller.music.cross.<name>`; each as `match_scores.summary`, the first with `nearly`, as `nearly` gives it.

    Raises
    ------
    DamagedFile
        If no controller is trained.
    ValueError
        If there is no such corpus.
    """
    trained = controller.load(config.controller_dir(preset.name))
    sounds = {"speech": match_cases.unseen(preset.render.corpus, preset)}
    if music is not None:
        sounds["music"] = match_cases.unseen(corpora.named(music), preset)
    parts: dict[str, tuple[str | None, str]] = {effect: (None, effect) for effect in trained.effects}
    for name, (made_by, effect) in CROSS.items():
        if effect in trained.effects:
            parts[name] = made_by, effect
        else:
            print(f"{name} is left out: the controller does not know {effect}", file=sys.stderr)
    asked = [(kind, name) for kind, name in itertools.product(sounds, parts) if kind == "speech" or name in CROSS]
    for i, (kind, name) in enumerate(asked, start=1):
        print(f"part {i} of {len(asked)}: {name}, {kind}", file=sys.stderr, flush=True)
        made_by, effect = parts[name]
        given = {"n": cases, "seed": seed, "speech": kind == "speech", "refine_evaluations": REFINE_EVALUATIONS}
        path = config.run_dir(preset.name) / FOLDER / f"{kind}_{store.file_name(name)}.safetensors"
        scores = match_scores.kept(path, trained, effect, sounds[kind], made_by=made_by, **given)
        found = match_scores.summary(scores)
        if kind == "music":
            yield {"controller": {"music": {"cross": {name: found}}}}
        elif made_by:
            yield {"controller": {"cross": {name: found}}}
        else:
            found["nearly"] = nearly(effect, sounds[kind], n=cases, seed=seed)
            yield {"controller": {"nine": {name: found}}}


def nearly(effect: str, speakers: Mapping[str, Sequence], *, n: int, seed: int = 0, off: float = NEARLY) -> dict:
    """What an answer is worth whose settings are all nearly right: how exact they must be to sound right.

    Where a setting is a time, or the speed of a movement, the least error puts the sound out of step with the true one.

    Parameters
    ----------
    effect : str
    speakers : mapping of str to sequence of Utterance
        As `match_cases.unseen` gives them.
    n, seed : int
        Cases, those of `match_scores.score`.
    off : float
        How far from the true ones all settings are, up or down at random, but inside [0, 1].

    Returns
    -------
    dict
        `off`; `mrstft_wide`: mean distance from the targets; `gap_closed`: (none - that) / none, of the means.
    """
    fx = effects.load(effect)

    def one(index: int) -> tuple[float, float]:
        case = match_cases.draw(speakers, effect, index=index, seed=seed)
        signs = np.random.default_rng([seed, index, 2]).choice([-1.0, 1.0], len(case.settings))
        moved = case.settings + off * np.where(np.abs(case.settings + off * signs - 0.5) > 0.5, -signs, signs)
        to_target = metrics.MrstftTo(case.target)
        return to_target(case.dry), to_target(blackbox.wet(fx, case.dry, moved, passages.RATE_HZ))

    none, distance = np.mean(blackbox.in_threads(one, range(n)), axis=0).tolist()
    return {"off": off, "mrstft_wide": distance, "gap_closed": (none - distance) / none}


def table(found: dict) -> str:
    """What `study` found as a table in Markdown, a row for each part; empty without any.

    Parameters
    ----------
    found : dict
        The part `controller` of `metrics.json`.

    Used in `05_controller_training`.
    """
    parts = dict(found.get("nine", {}))
    for kind, of in (("speech", found), ("music", found.get("music", {}))):
        parts |= {
            f"{name.replace('_', ' ')}, {kind}": row for name, row in of.get("cross", {}).items() if name in CROSS
        }
    columns = [*ANSWERS, "gap closed", "refined", "by nearly right settings"]
    lines = [f"| | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for name, row in parts.items():
        means = row[match_scores.MAIN]
        cells = [f"{means[answer]:.2f}" for answer in ANSWERS]
        cells += [f"{means[key]:.0%}" if key in means else "" for key in ("gap_closed", "refined_gap_closed")]
        cells.append(f"{row['nearly']['gap_closed']:.0%}" if "nearly" in row else "")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) if parts else ""
