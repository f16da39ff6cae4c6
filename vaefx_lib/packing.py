"""Making the models that come with the library: trained from nothing, made small, measured, and put where `packed` is.

`vaefx train pretrained` calls it. What is measured is what is shipped: weights are rounded before, and not after.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import os
import shutil
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from safetensors.numpy import load_file
from torch import nn

from vaefx_lib import (
    config,
    controller_material,
    controller_training,
    critic,
    packed,
    packing_scores,
    playable,
    playable_surrogate,
    playable_training,
    preset_json,
    rendering,
    runs,
    store,
    training,
)
from vaefx_lib import controller as controllers
from vaefx_lib.config import Preset
from vaefx_lib.packing_scores import DIMS

DIRECTIONS = 80  # of the measures of references
ECHOES = 4_096  # fingerprints of an effect: a power of 2 of them is spread evenly
LIMIT_BYTES = 15_000_000  # of all that is pretrained, the critic included
Net = TypeVar("Net", bound=nn.Module)


def train(preset: Preset) -> None:
    """Render the pairs of a preset, train its VAE, its controller and its maps: half an hour on two cores.

    What is there already is kept, and an interrupted call goes on.

    Raises
    ------
    OSError
        If a file cannot be written.
    """
    for subset in ("train", "valid", "test"):
        rendering.render(preset, subset, config.data_dir(preset.name, subset))
    run = training.train_vae(preset, resume=True)
    made = controller_training.train_controller(preset, clips=0)
    heard = playable_surrogate.hear(controller_material.prepare(preset, run, made.effects), made.effects)
    for dim in DIMS:
        playable_training.train_playable(preset, dim=dim, heard=heard)


def pack(preset: Preset, folder: Path, *, commit: str) -> dict:
    """Make what `train` has left small, measure it, and put it into a folder, in the place of what is there.

    Parameters
    ----------
    preset : Preset
    folder : path
        `packed.FOLDER`, or another.
    commit : str
        Of the code that trained.

    Returns
    -------
    dict
        As `packed.manifest`.

    Raises
    ------
    DamagedFile
        If something has not been trained.
    ValueError
        If all of it together is larger than `LIMIT_BYTES`.
    OSError
        If a file cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".packing-") as temporary:
        inside = Path(temporary)
        _write(preset, inside)
        files = {str(path.relative_to(inside)): _about(path) for path in sorted(inside.rglob("*")) if path.is_file()}
        size = sum(about["bytes"] for about in files.values())
        size += sum((critic.FOLDER / name).stat().st_size for name in (critic.MODEL, critic.MANIFEST))
        if size > LIMIT_BYTES:
            raise ValueError(
                f"the pretrained models have {size / 1e6:.2f} MB, critic included: they must have no more than "
                f"{LIMIT_BYTES / 1e6:g}"
            )
        about = {
            "preset": json.loads(preset_json.to_json(preset)),
            "commit": commit,
            "critic": critic.load().about["sha256"],
            "versions": {name: version(name) for name in ("torch", "numpy", "lightning")},
        }
        store.write_json(inside / packed.MANIFEST, about | {"files": files})  # or it could not be loaded and measured
        found = {
            "metrics": packing_scores.measure(preset, inside),
            "report": packing_scores.measure_report(),
            "few": packing_scores.measure_few(preset, inside),
        }
        store.write_json(inside / packed.MANIFEST, about | found | {"files": files})
        (folder / packed.MANIFEST).unlink(missing_ok=True)
        for old in (folder / packed.VAE, folder / packed.CONTROLLER, *folder.glob(packed.MAP.format("*"))):
            shutil.rmtree(old, ignore_errors=True)
        for new in (path for path in sorted(inside.iterdir()) if path.is_dir()):
            os.replace(new, folder / new.name)
        os.replace(inside / packed.MANIFEST, folder / packed.MANIFEST)
    return packed.manifest(folder)


def _write(preset: Preset, folder: Path) -> None:
    """The trained models in their folders, small."""
    run = runs.load(config.vae_dir(preset.name))
    made = controllers.load(config.controller_dir(preset.name), run)
    key = store.fingerprint(run.fingerprint, config.PACKED)
    about = {"preset": config.PACKED, "vae": key, "seed": made.about["seed"]}
    runs.save_run(folder / packed.VAE, run.preset, _halved(run.model), run.statistics, run.history, run.kl, key)
    inside = folder / packed.CONTROLLER
    tables = {name: runs.read_history(config.controller_dir(preset.name) / name) for name in controllers.TABLES}
    echoes = {
        name: dataclasses.replace(
            known,
            settings=known.settings[:ECHOES],
            lags=known.lags[:ECHOES],
            heights=known.heights[:ECHOES].astype(np.float16),
        )
        for name, known in made.echoes.items()
    }
    kept = dataclasses.replace(made, net=_halved(made.net), echoes=echoes, about=about, run=run)
    controllers.save_controller(inside, kept, tables, store.fingerprint(made.about["fingerprint"], config.PACKED))
    _shrink(inside, made)
    for dim in DIMS:
        one = playable.load(playable_training.folder_of(preset, None, "bottleneck", dim), run)
        history = runs.read_history(playable_training.folder_of(preset, None, "bottleneck", dim) / playable.HISTORY)
        key = store.fingerprint(one.about["fingerprint"], config.PACKED)
        one = dataclasses.replace(one, net=_halved(one.net), about=about | {"seed": one.about["seed"]})
        playable.save_playable(folder / packed.MAP.format(dim), one, history, key)


def _shrink(folder: Path, made: controllers.Controller) -> None:
    """Write the library of references anew, as `packed.small` gives it."""
    parts = load_file(folder / controllers.LIBRARY)
    for name, (whitened, _) in made.library.items():
        parts |= packed.small(name, whitened, DIRECTIONS)
    store.write_arrays(folder / controllers.LIBRARY, parts)
    about = store.read_json(folder / controllers.MANIFEST)
    about["sha256"][controllers.LIBRARY] = store.sha256(folder / controllers.LIBRARY)
    store.write_json(folder / controllers.MANIFEST, about)


def _halved(net: Net) -> Net:
    """A copy with weights of 16 bits; `load_state_dict` reads them as any."""
    return copy.deepcopy(net).to(torch.float16)


def _about(path: Path) -> dict:
    return {"bytes": path.stat().st_size, "sha256": store.sha256(path)}
