"""What controllers learn from: dry passages, and references of each effect, made once and kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vaefx_lib import (
    blackbox,
    config,
    corpora,
    echo_peaks,
    effects,
    movement,
    movements,
    passages,
    references,
    runs,
    store,
    style,
)

ARRAYS = ("inputs", "passages", "settings", "numbers", "mu")  # of `references.References`
SOURCES = ("style.py", "passages.py", "references.py", "blackbox.py")  # the code that it depends on
FINGERPRINTS = 2  # impulse responses of an effect for each of its references, and movements
SPREAD = 64  # dry passages that say how the cepstra of speech are spread


@dataclass(frozen=True, eq=False)
class Material:
    """All that controllers of some effects learn from."""

    run: runs.Run
    dry: dict[str, references.Dry]  # "train" and "valid"
    drawn: dict[str, dict[str, references.References]]  # subset, effect
    dry_numbers: dict[str, np.ndarray]  # subset: measures of the dry passages
    echoes: dict[str, echo_peaks.Fingerprints]  # effect
    movements: dict[str, movements.Movements]  # effect


def prepare(preset: config.Preset, run: runs.Run, names: Sequence[str]) -> Material:
    """Dry passages, and references of each effect; what was made before is kept."""
    choices = preset.controller
    folder = config.controller_dir(preset.name).with_name("controller_data")
    counts = {"train": choices.n_passages, "valid": max(8, choices.n_passages // 4)}
    dry = {part: references.draw_dry(preset, part, count, seed=choices.seed) for part, count in counts.items()}

    def cached(name: str, compute, *more, of: Sequence[str] = (), sources: Sequence[str] = SOURCES):
        key = fingerprint(preset, run, of, [name, choices.n_passages, choices.seed, *more], sources)
        return store.cached(folder / f"{store.file_name(name)}.safetensors", key, compute)

    def measure_dry():
        styles = {part: blackbox.in_threads(style.measure, list(dry[part].sounds)) for part in dry}
        return {part: np.stack([s.numbers for s in styles[part]]) for part in styles}

    measured = cached("dry", measure_dry)
    drawn: dict[str, dict] = {"train": {}, "valid": {}}
    for part, count in {"train": choices.n_train, "valid": choices.n_valid}.items():
        for name in names:

            def draw(name=name, part=part, count=count):
                made = references.draw(preset, run, dry[part], name, count, seed=choices.seed)
                return {field: getattr(made, field) for field in ARRAYS}

            print(f"references of {name}: {count} for {part}", flush=True)
            drawn[part][name] = references.References(name, **cached(f"{name} {part}", draw, count, of=[name]))
    echoes, moves = {}, {}
    for name in names:

        def listen(name=name):
            count = FINGERPRINTS * choices.n_train
            found = echo_peaks.fingerprints(effects.load(name), count, seed=choices.seed)
            return {field: getattr(found, field) for field in echo_peaks.ARRAYS}

        sources = [*SOURCES, "echo_peaks.py", "echo_profile.py"]
        kept = cached(f"{name} echoes", listen, choices.n_train, of=[name], sources=sources)
        echoes[name] = echo_peaks.Fingerprints(name, *(kept[field] for field in echo_peaks.ARRAYS))

        def watch(name=name):
            deviations = movement.spread(list(dry["train"].sounds[:SPREAD]))
            count = FINGERPRINTS * choices.n_train
            found = movements.movements(effects.load(name), count, deviations, seed=choices.seed)
            return {field: getattr(found, field) for field in movements.ARRAYS}

        sources = [*SOURCES, "movement.py", "movements.py"]
        kept = cached(f"{name} movements", watch, choices.n_train, of=[name], sources=sources)
        moves[name] = movements.Movements(name, *(kept[field] for field in movements.ARRAYS))
    return Material(run, dry, drawn, {part: measured[part] for part in dry}, echoes, moves)


def both(preset: config.Preset, material: Material, part: str, name: str, row: int) -> tuple[np.ndarray, np.ndarray]:
    """Reference and truth of one pair, float32 (samples,): another passage, and the input, at the same settings."""
    fx, sounds, refs = effects.load(name), material.dry[part].sounds, material.drawn[part][name]
    at, peak_dbfs = refs.settings[row].astype(np.float64), preset.render.peak_dbfs
    reference, truth = (
        blackbox.wet(fx, sounds[i], at, passages.RATE_HZ, peak_dbfs=peak_dbfs)
        for i in (refs.passages[row], refs.inputs[row])
    )
    return reference, truth


def fingerprint(
    preset: config.Preset, run: runs.Run, names: Sequence[str], choices, sources: Sequence[str] = SOURCES
) -> str:
    """Of all that a controller, or what it learns from, depends on."""
    versions = {name: effects.load(name).version for name in names}
    render = [preset.render.corpus, preset.render.peak_dbfs, preset.render.max_speed_change]
    files = [Path(__file__).parent / name for name in sources]
    corpus = corpora.fingerprint(preset.render.corpus)
    return store.fingerprint(choices, render, preset.name, versions, run.fingerprint, corpus, *files)
