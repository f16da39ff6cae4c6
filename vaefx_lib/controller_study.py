"""One controller for all effects beside one for each, and what its inputs are worth: minutes to an hour of training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vaefx_lib import blackbox, config, controller, controller_training, effects, match_cases, metrics, passages, store
from vaefx_lib.config import Preset

SEEDS = (0, 1, 2)
CASES = 60  # of each effect
FOLDER = "controller_study"  # of a run folder


@dataclass(frozen=True)
class Variant:
    """A way to train a controller."""

    each: bool = False  # one for each effect, in place of one for all
    inputs: tuple[str, ...] = controller_training.INPUTS  # what it reads of a pair


VARIANTS = {
    "joint": Variant(),
    "each": Variant(each=True),
    "measures": Variant(inputs=("measures",)),
    "embedding": Variant(inputs=("embedding",)),
}
SCORES = ("settings_mae", "mrstft_wide")
LABELS = {  # of a table
    "none": "dry input",
    "mean": "all settings 0.5",
    "joint": "one controller for all effects",
    "each": "one for each effect",
    "measures": "one for all, which reads the measures alone",
    "embedding": "one for all, which reads the embedding alone",
}


def study(preset: Preset, *, seeds: Sequence[int] = SEEDS, cases: int = CASES) -> dict:
    """Train every variant from several seeds, and score its answers on the same cases of unseen speakers.

    They learn from the same references. Finished trainings are kept. The joint controller of the preset's own seed is
    that of `controller_training.train_controller`.

    Parameters
    ----------
    preset : Preset
        Its VAE must be trained.
    seeds : sequence of int
        At least two.
    cases : int
        Of each effect.

    Returns
    -------
    dict
        For each effect: `none` (the dry input) with `mrstft_wide`, the distance from the true sound; `mean` (all
        settings 0.5) with that and `settings_mae`, the mean absolute error over all settings; and of each of `VARIANTS`
        both, means over the seeds, with `<name>_std`, their standard deviation (of the sample). `seeds` and `cases`:
        their numbers.

    Raises
    ------
    DamagedFile
        If there is no trained VAE.
    ValueError
        For fewer than two seeds.

    Used in `05_controller_training`.
    """
    if len(seeds) < 2:
        raise ValueError(f"seeds are {list(seeds)}: at least two are needed for a spread")
    speakers = match_cases.unseen(preset.render.corpus, preset)
    drawn = {
        effect: [match_cases.draw(speakers, effect, index=i) for i in range(cases)] for effect in preset.render.effects
    }
    found: dict = {effect: _lazy(effect, drawn[effect]) for effect in drawn}
    for label in VARIANTS:
        for effect in found:
            rows = [_scores(_trained(preset, label, effect, seed), effect, drawn[effect]) for seed in seeds]
            found[effect][label] = {}
            for name, values in zip(SCORES, np.transpose(rows)):
                found[effect][label] |= {name: float(values.mean()), f"{name}_std": float(values.std(ddof=1))}
    return found | {"seeds": len(seeds), "cases": cases}


def table(found: dict) -> str:
    """What `study` found as a table in Markdown, a row for each effect and answer."""
    lines = ["| effect | answer | error of a setting | MRSTFT from the true sound |", "|---|---|---|---|"]
    for effect, answers in found.items():
        for answer, label in LABELS.items() if isinstance(answers, dict) else ():
            cells = [_cell(answers[answer], name) for name in SCORES]
            lines.append(f"| {effect} | {label} | {cells[0]} | {cells[1]} |")
    return "\n".join(lines)


def _trained(preset: Preset, label: str, effect: str, seed: int) -> controller.Controller:
    """One variant that knows an effect, trained unless that is done."""
    variant, home = VARIANTS[label], config.run_dir(preset.name) / FOLDER
    name = f"{label}_{store.file_name(effect)}" if variant.each else label
    own = label == "joint" and seed == preset.controller.seed
    folder = config.controller_dir(preset.name) if own else home / f"{name}_seed{seed}"
    given: dict = {
        "names": (effect,) if variant.each else preset.render.effects,
        "seed": seed,
        "inputs": variant.inputs,
    }
    return controller_training.train_controller(preset, folder=folder, **given)


def _scores(trained: controller.Controller, effect: str, cases: Sequence[match_cases.Case]) -> tuple[float, float]:
    """Mean error of the settings, and mean distance of the sound from the true one."""

    def one(case: match_cases.Case) -> tuple[float, float]:
        return _errors(effect, case, trained.predict(case.dry, case.reference, effect))

    return tuple(np.mean(blackbox.in_threads(one, cases), axis=0).tolist())


def _lazy(effect: str, cases: Sequence[match_cases.Case]) -> dict[str, dict[str, float]]:
    """Scores of the dry input and of the middle of every range."""
    none = blackbox.in_threads(lambda case: metrics.mrstft_wide(case.target, case.dry), cases)
    mean = blackbox.in_threads(lambda case: _errors(effect, case, np.full(len(case.settings), 0.5)), cases)
    return {"none": {SCORES[1]: float(np.mean(none))}, "mean": dict(zip(SCORES, np.mean(mean, axis=0).tolist()))}


def _errors(effect: str, case: match_cases.Case, settings: np.ndarray) -> tuple[float, float]:
    try:
        sound = blackbox.wet(effects.load(effect), case.dry, settings, passages.RATE_HZ)
    except effects.EffectFailed:
        sound = np.zeros_like(case.dry)
    return float(np.abs(settings - case.settings).mean()), metrics.mrstft_wide(case.target, sound)


def _cell(numbers: dict, name: str) -> str:
    spread = f" ± {numbers[f'{name}_std']:.3f}" if f"{name}_std" in numbers else ""
    return f"{numbers[name]:.3f}{spread}" if name in numbers else ""
