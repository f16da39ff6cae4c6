"""Training a controller: a warm start on known settings, end to end through the effects, then what to expect of it.

The encoder is frozen: what it says of each (dry, reference) is computed once (`controller_material`). The two stages
are in `controller_stages`, the confidence comes from `controller_calibration`, and what there is to hear of it all from
`controller_media`.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vaefx_lib import (
    config,
    controller_calibration,
    controller_material,
    controller_media,
    controller_stages,
    critic,
    runs,
    store,
    tracking,
)
from vaefx_lib.controller import Controller, Scale, load, n_params, save_controller
from vaefx_lib.controller_material import Material, prepare
from vaefx_lib.settings_net import SettingsNet

INPUTS = ("measures", "embedding")  # that the network can read of a pair
SOURCES = (  # the code that a controller depends on
    *controller_material.SOURCES,
    *("controller.py", "settings_net.py", "controller_training.py", "controller_stages.py"),
    *("controller_calibration.py", "sound_loss.py", "stft_distance.py", "style_space.py", "critic.py"),
    *("echo_profile.py", "echo_peaks.py", "echo_colour.py", "echo_likeness.py", "echoes.py"),
    *("movement.py", "movements.py", "movement_likeness.py"),
    *("refining.py", "proposing.py", "translation.py", "candidates.py"),
)


def train_controller(
    preset: config.Preset,
    *,
    names: Sequence[str] | None = None,
    seed: int | None = None,
    folder: Path | None = None,
    inputs: Sequence[str] = INPUTS,
    loggers: Sequence[str] = (),
    clips: int = 3,
) -> Controller:
    """The controller of a preset, trained unless a finished one of the same choices is there.

    If another process is training it, that is waited for: lesson 06 may ask for the controller that lesson 05 trains.

    Parameters
    ----------
    preset : Preset
    names : sequence of str, optional
        Effects; those of the preset by default. One controller knows all of them.
    seed : int, optional
        Of weights and order, in place of the preset's; the data stay.
    folder : Path, optional
        In place of `config.controller_dir`.
    inputs : sequence of str
        Of `INPUTS`: what the network reads; the rest is zeros.
    loggers : sequence of str
        Of `tracking.LOGGERS`, besides the tables in the folder, which are always written.
    clips : int
        So many validation pairs are kept as sound and picture while it learns end to end, in `media` in the folder.

    Returns
    -------
    Controller

    Raises
    ------
    DamagedFile
        If there is no trained VAE.
    ValueError
        For other inputs, an unknown logger or one whose package is not installed, or more clips than pairs.

    Used in `05_controller_training`.
    """
    names = tuple(names or preset.render.effects)
    seed = preset.controller.seed if seed is None else seed
    folder = Path(folder or config.controller_dir(preset.name))
    if not inputs or not set(inputs) <= set(INPUTS):
        raise ValueError(f"inputs are {list(inputs)}: they must be some of {', '.join(INPUTS)}")
    run = runs.load(config.vae_dir(preset.name))
    judge = critic.load().about["sha256"]
    choices = [dataclasses.asdict(preset.controller), seed, sorted(inputs), judge]
    key = controller_material.fingerprint(preset, run, names, choices, SOURCES)

    def train() -> Controller:
        tracking.check(loggers)
        material = prepare(preset, run, names)
        return fit(preset, material, seed=seed, folder=folder, key=key, inputs=inputs, loggers=loggers, clips=clips)

    return store.once(folder, key, lambda: load(folder, run), train)


def fit(
    preset: config.Preset,
    material: Material,
    *,
    seed: int,
    folder: Path,
    key: str = "",
    inputs: Sequence[str] = INPUTS,
    loggers: Sequence[str] = (),
    clips: int = 0,
) -> Controller:
    """Train on prepared material, and save; arguments as those of `train_controller`.

    Returns
    -------
    Controller
    """
    choices, names = preset.controller, tuple(material.drawn["train"])
    torch.manual_seed(seed)
    scale = _scale(material, inputs)
    sizes = n_params(names)
    features = {part: {n: _features(material, scale, part, n) for n in names} for part in material.drawn}
    net = SettingsNet(features["train"][names[0]].shape[1], choices.width, sizes)
    shutil.rmtree(folder / "media", ignore_errors=True)  # of another training
    heard = None
    if clips:
        valid = material.dry["valid"], material.drawn["valid"]
        heard = controller_media.Clips(folder / "media", preset, material.run, *valid, clips)

    def answer(name: str, row: int) -> np.ndarray:
        with torch.inference_mode():
            return net(features["valid"][name][row : row + 1], names.index(name))[0][0].double().numpy()

    with tracking.opened(loggers, folder, preset, resume=False) as trackers:

        def watch(step: int, scores: dict[str, float]) -> None:
            for tracker in trackers:
                tracker.log_metrics(scores, step)
            if heard:
                heard.write(step, answer, trackers)

        epochs, rate = choices.max_epochs, choices.learning_rate
        history = controller_stages.warm_start(net, material, features, epochs=epochs, rate=rate, seed=seed)
        for tracker in trackers:
            for row in zip(*history.values()):
                epoch, *scores = map(float, row)
                named = {f"warm_start/{name}": score for name, score in zip(list(history)[1:], scores)}
                tracker.log_metrics(named, int(epoch))
        end_to_end = controller_stages.through_effects(
            net, preset, material, features, steps=choices.end_to_end_steps, seed=seed, watch=watch
        )
    shutil.rmtree(folder / runs.UNFINISHED, ignore_errors=True)
    library = {
        name: ((refs.numbers @ critic.load().space.whitening).astype(np.float16), refs.settings)
        for name, refs in material.drawn["train"].items()
    }
    about = {"preset": preset.name, "vae": material.run.fingerprint, "seed": seed}
    made = Controller(names, net.eval(), scale, library, material.echoes, material.movements, {}, material.run, about)
    made = dataclasses.replace(made, calibration=controller_calibration.calibrate(made, preset, material))
    save_controller(folder, made, {"history.csv": history, "end_to_end.csv": end_to_end}, key)
    return load(folder, material.run)


def _scale(material: Material, inputs: Sequence[str] = INPUTS) -> Scale:
    """What the network is not to read counts in an infinite unit: it is 0 for every pair."""
    drawn = list(material.drawn["train"].values())
    numbers, mu = np.concatenate([r.numbers for r in drawn]), np.concatenate([r.mu for r in drawn])
    units = [np.float32(1 if name in inputs else np.inf) for name in INPUTS]
    return Scale(numbers.mean(0), units[0] * (numbers.std(0) + 1e-3), mu.mean(0), units[1] * (mu.std(0) + 1e-3))


def _features(material: Material, scale: Scale, part: str, name: str) -> Tensor:
    refs = material.drawn[part][name]
    return torch.from_numpy(scale.features(material.dry_numbers[part][refs.inputs], refs.numbers, refs.mu))
