"""What models that come with the library are worth, beside what the preset report has trained."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from vaefx_lib import (
    config,
    controller_material,
    evaluation,
    figures,
    latent,
    match_cases,
    match_scores,
    packed,
    playable,
    playable_sounds,
    playable_surrogate,
    playable_training,
    rendering,
    runs,
    shards,
    spectrogram,
    store,
)
from vaefx_lib.config import Preset

DIMS = (2, 4)  # of the maps
CASES = 24  # of each effect, those that lesson 05 tries with the report's controller
FEW_PAIRS, FEW_CASES = 16, 4


def measure(preset: Preset, folder: Path) -> dict:
    """What packed models are worth, on speakers that they have not heard; minutes.

    Parameters
    ----------
    preset : Preset
        Whose rendered pairs are there.
    folder : path

    Returns
    -------
    dict
        `reconstruction`: as `evaluation.reconstruction_scores`. `controller`: effect -> `none`, `ours` and
        `gap_closed` of `match_scores.summary`, MRSTFT. `playable`: dimensions -> effect -> the round trip.
    """
    run, trained = packed.vae(folder), packed.controller(folder)
    pca = latent.training_pca(runs.load(config.vae_dir(preset.name)))
    test = shards.load(config.data_dir(preset.name, "test"))
    speakers = match_cases.unseen(preset.render.corpus, preset)
    scores = {
        name: match_scores.summary(match_scores.score(trained, name, speakers, n=CASES)) for name in trained.effects
    }
    return {
        "reconstruction": evaluation.reconstruction_scores(latent.embed_dataset(run, pca, test)),
        "controller": {name: _of_match(found) for name, found in scores.items()},
        "playable": round_trips(preset, {dim: packed.playable_map(dim, folder) for dim in DIMS}),
    }


def measure_report() -> dict:
    """The same of the preset report, from its `metrics.json`, and of its maps where they are.

    What is not there is left out.
    """
    numbers, preset = figures.metrics("report"), config.preset("report")
    found: dict = {}
    if "reconstruction" in numbers:
        errors = numbers["reconstruction"]
        found["reconstruction"] = {channel: errors[channel] for channel in spectrogram.CHANNELS}
    known = {name: of for name, of in numbers.get("controller", {}).items() if name in preset.render.effects}
    if known:
        found["controller"] = {name: _of_match(of) for name, of in known.items()}
    try:
        folders = {dim: playable_training.folder_of(preset, None, "bottleneck", dim) for dim in DIMS}
        found["playable"] = round_trips(preset, {dim: playable.load(folder) for dim, folder in folders.items()})
    except store.DamagedFile as error:
        print(f"the report's maps are not compared: {error}", flush=True)
    return found


def measure_few(preset: Preset, folder: Path) -> dict:
    """A few numbers that take seconds and are the same on every machine but for rounding: a test makes them again.

    Parameters
    ----------
    preset : Preset
    folder : path

    Returns
    -------
    dict
        `reconstruction`: channel -> mean squared error of the first `FEW_PAIRS` test pairs. `settings_mae`: effect ->
        mean absolute error of the controller's first answer to `FEW_CASES` cases, and `map_settings_mae` of the
        settings at the place of each on the smallest map.
    """
    run, trained, small = packed.vae(folder), packed.controller(folder), packed.playable_map(min(DIMS), folder)
    choices = dataclasses.replace(preset, render=dataclasses.replace(preset.render, n_test=FEW_PAIRS))
    with tempfile.TemporaryDirectory() as temporary:
        data = rendering.render(choices, "test", Path(temporary) / "test", jobs=1, progress=False)
        x = spectrogram.pairs(data, run.preset.stft, statistics=run.statistics)
    errors = latent.mse(x, latent.decode(run, latent.embed(run, x))).mean(0)
    found: dict = {"reconstruction": dict(zip(spectrogram.CHANNELS, errors.tolist(), strict=True))}
    speakers = match_cases.unseen(preset.render.corpus, preset)
    for name in trained.effects:
        cases = [match_cases.draw(speakers, name, index=i, seed=0) for i in range(FEW_CASES)]
        answers = {"settings_mae": [trained.predict(case.dry, case.reference, name) for case in cases]}
        places = [small.place(case.dry, case.reference) for case in cases]
        answers["map_settings_mae"] = [small.settings(place, name) for place in places]
        for score, settings in answers.items():
            away = np.abs(np.array(settings) - [case.settings for case in cases])
            found.setdefault(score, {})[name] = float(away.mean())
    return found


def round_trips(preset: Preset, maps: dict[int, playable.Playable]) -> dict[str, dict[str, float]]:
    """How far a sound is from itself by way of its place on a map: dimensions, as text -> effect -> MRSTFT.

    Parameters
    ----------
    preset : Preset
        Its unseen speakers are heard.
    maps : dict of int to Playable
        Of one VAE.
    """
    one = next(iter(maps.values()))
    material = controller_material.Material(one.run, {}, {}, {}, {}, {})  # sounds are told by the VAE alone
    heard = playable_surrogate.Heard(material, one.inputs, {}, {}, {})
    found: dict[str, dict[str, float]] = {str(dim): {} for dim in maps}
    for name in one.effects:
        sounds = playable_sounds.draw(preset, heard, name)
        for dim, made in maps.items():
            back = made.settings(sounds.places(made), name)
            found[str(dim)][name] = float(sounds.distances(back).mean())
    return found


def compared(found: dict) -> list[str]:
    """Errors and distances of packed models beside the report's, a line each: lower is better.

    Parameters
    ----------
    found : dict
        With `metrics` and `report`, as `packed.manifest` has them.
    """
    ways: dict[str, Callable] = {
        "reconstruction": lambda of: {channel: errors["vae_mse"] for channel, errors in of.items()},
        "controller": lambda of: {name: means["ours"] for name, means in of.items()},
        "playable": lambda of: {f"{dim}, {name}": trip for dim, trips in of.items() for name, trip in trips.items()},
    }
    lines = []
    for part, values in ways.items():
        report = values(found["report"].get(part, {}))
        for name, value in values(found["metrics"][part]).items():
            beside = f", the report's {report[name]:.3f}" if name in report else ""
            lines.append(f"{part} {name}: {value:.3f}{beside}")
    return lines


def _of_match(found: dict) -> dict:
    means = found[match_scores.MAIN]
    return {name: means[name] for name in ("none", "ours", "gap_closed") if name in means} | {"n": found["n"]}
