"""The models that come with the library: a VAE, a controller and maps to play on, trained before you came.

They lie in `vaefx_lib/pretrained`, beside the critic: `vae` and one folder for each map, as `runs` and `playable` write
them but with weights of 16 bits; `controller`, whose library of references is small as well; and `manifest.json`, with
the preset and the commit that made them, what they are worth, and the sha256 of each file. `packing` makes them.
"""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from vaefx_lib import config, critic, echo_peaks, playable, runs, store
from vaefx_lib import controller as controllers

FOLDER = Path(__file__).parent / "pretrained"
MANIFEST = "manifest.json"
VAE, CONTROLLER, MAP = "vae", "controller", "map_{}"  # sub-folders; of a map with its number of dimensions


def available() -> bool:
    """Whether models come with this copy of the library; cheap to ask."""
    return (FOLDER / MANIFEST).is_file()


def manifest(folder: Path | None = None) -> dict:
    """What the models were made from and what they are worth, after a look whether their files are whole.

    Parameters
    ----------
    folder : path, optional
        Of other packed models than those of the library.

    Returns
    -------
    dict
        `preset`: as `preset_json.to_json` has it. `commit`, `versions`, and the sha256 of the `critic`: what made them.
        `metrics`, `report`, `few`: see `packing_scores`. `files`: name -> `bytes` and `sha256`.

    Raises
    ------
    DamagedFile
        If there are none, or a file is missing or has changed.
    """
    folder = folder or FOLDER
    path = folder / MANIFEST
    if not path.is_file():
        raise store.DamagedFile(
            f"{folder} holds no pretrained models: `make figures` trains those of the preset report, `make pretrained` "
            "those that should be there"
        )
    about = store.read_json(path)
    if not isinstance(about, dict) or not isinstance(about.get("files"), dict):
        raise store.DamagedFile(f"{path} does not say which files there are: restore it, or `make pretrained`")
    for name, known in about["files"].items():
        file = folder / name
        if not file.is_file() or store.sha256(file) != known["sha256"]:
            raise store.DamagedFile(
                f"{file} is missing or has changed since it was packed: restore it, or `make pretrained`"
            )
    return about


def vae(folder: Path | None = None) -> runs.Run:
    """The pretrained VAE. What is measured with it cannot be kept in its folder: for that see `begin`.

    Raises
    ------
    DamagedFile
        As `manifest`.
    """
    manifest(folder)
    return runs.load((folder or FOLDER) / VAE)


def controller(folder: Path | None = None) -> controllers.Controller:
    """The pretrained controller, with its VAE.

    Raises
    ------
    DamagedFile
        As `manifest`; or if the critic is another than that by which its references were measured.

    Used in `05_controller_training`.
    """
    inside = (folder or FOLDER) / CONTROLLER
    made = controllers.load(inside, vae(folder))
    if manifest(folder)["critic"] != critic.load().about["sha256"]:
        raise store.DamagedFile(f"the controller in {inside} was made with another critic: `make pretrained`")
    parts = load_file(inside / controllers.LIBRARY)
    library = {name: (restored(name, parts), settings) for name, (_, settings) in made.library.items()}
    echoes = {name: _with_floats(known) for name, known in made.echoes.items()}
    return dataclasses.replace(made, library=library, echoes=echoes)


def controller_at_hand() -> controllers.Controller:
    """The trained controller of the preset `report`; where none has been trained, that which comes with the library.

    The latter's `about["preset"]` is `config.PACKED`.

    Raises
    ------
    DamagedFile
        If there is neither, or one that has changed since it was written: then the other does not take its place.

    Used in `05_controller_training`.
    """
    folder = config.controller_dir("report")
    if available() and not (folder / controllers.MANIFEST).is_file():
        return controller()
    return controllers.load(folder)


def playable_map(dim: int, folder: Path | None = None) -> playable.Playable:
    """The pretrained map of `dim` dimensions, a bottleneck of all effects, with its VAE.

    Raises
    ------
    DamagedFile
        As `manifest`.
    ValueError
        If there is none of so many dimensions.

    Used in `06_playable_latent`.
    """
    run, inside = vae(folder), (folder or FOLDER) / MAP.format(dim)
    if not inside.is_dir():
        known = sorted(path.name.removeprefix(MAP.format("")) for path in inside.parent.glob(MAP.format("*")))
        raise ValueError(f"there is no pretrained map of {dim} dimensions: known are {', '.join(known)}")
    return playable.load(inside, run)


def begin() -> config.Preset:
    """Let a lesson begin with the pretrained VAE: put it into a run folder, `runs/packed`, where it can be measured.

    Returns
    -------
    Preset
        Of that folder, so that nothing of the report is overwritten. It is the report's, with fewer training pairs.

    Raises
    ------
    DamagedFile
        As `manifest`.
    OSError
        If a file cannot be written.

    Used in `04_interpolation_figures`, `05_controller_training` and `06_playable_latent`.
    """
    made, there = vae(), config.vae_dir(config.PACKED)
    try:
        current = runs.load(there).fingerprint == made.fingerprint
    except store.DamagedFile:
        current = False
    if not current:
        (there / "manifest.json").unlink(missing_ok=True)
        there.mkdir(parents=True, exist_ok=True)
        for name in (*runs.FILES, "manifest.json"):  # the manifest last: without it there is no run
            with store.atomic(there / name) as temporary:
                shutil.copyfile(made.folder / name, temporary)
    return config.preset(config.PACKED)


def small(name: str, whitened: np.ndarray, directions: int) -> dict[str, np.ndarray]:
    """Measures of references, whitened, in a tenth of the room; `restored` gives them back, as far as it matters.

    What remains are their main directions, each in steps of 1/127 of its range.

    Parameters
    ----------
    name : str
        Of the effect.
    whitened : array, float16, shape (n, n_measures)
    directions : int
        At most; no more than n or n_measures.

    Returns
    -------
    dict of str to array
    """
    mean = whitened.astype(np.float64).mean(0)
    away = whitened - mean
    values, vectors = np.linalg.eigh(away.T @ away)
    basis = vectors[:, np.argsort(-values, kind="stable")[:directions]].astype(np.float16)
    along = away @ basis.astype(np.float64)
    steps = np.maximum(np.abs(along).max(0) / 127, 1e-9)
    parts = {"whitened": np.rint(along / steps).astype(np.int8), "basis": basis}
    parts |= {"steps": steps.astype(np.float32), "mean": mean.astype(np.float32)}
    return {f"{name}/{part}": array for part, array in parts.items()}


def restored(name: str, parts: dict[str, np.ndarray]) -> np.ndarray:
    """What `small` was given, nearly: float16, (n, n_measures)."""
    whitened, basis, steps, mean = (parts[f"{name}/{part}"] for part in ("whitened", "basis", "steps", "mean"))
    along = whitened.astype(np.float32) * steps
    return (along @ basis.astype(np.float32).T + mean).astype(np.float16)


def _with_floats(known: echo_peaks.Fingerprints) -> echo_peaks.Fingerprints:
    return dataclasses.replace(known, heights=known.heights.astype(np.float32))
