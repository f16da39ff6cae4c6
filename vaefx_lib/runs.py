"""The folder that a trained VAE lives in.

It holds `model.safetensors`, `config.json` (the preset), `history.csv` (a row per epoch), `kl.csv` (nats per latent
dimension, a row per epoch) and `manifest.json` (statistics, fingerprint, versions, sha256 of the other files). `load`
needs nothing else. While training goes on, what is there of it lies in the sub-folder `unfinished`.
"""

from __future__ import annotations

import csv
import dataclasses
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from vaefx_lib import config, preset_json, shards, standardisation, store, vae
from vaefx_lib.config import Preset

FILES = ("model.safetensors", "config.json", "history.csv", "kl.csv")
UNFINISHED = "unfinished"
ACTIVE_NATS = 0.01  # a latent dimension with a smaller mean KL says nothing about its input
# the code that weights depend on
SOURCES = (
    "vae.py",
    "factorised.py",
    "muon.py",
    "spectrogram.py",
    "standardisation.py",
    "phase.py",
    "batches.py",
    "lit_vae.py",
    "training.py",
)


@dataclass(frozen=True, eq=False)
class Run:
    """A trained VAE with all that is needed to use it.

    Attributes
    ----------
    folder : Path
    preset : Preset
    model : JointVae
        In eval mode, on the CPU.
    statistics : Statistics
        Of the training spectrograms; `preset.vae.inputs` tells which channels the network reads.
    history : dict of str to array, shape (epochs,)
        The columns of `history.csv`.
    kl : array, shape (epochs, latent_dim)
        KL per latent dimension in nats, mean over the training pairs of each epoch.
    fingerprint : str
        Of everything that the weights depend on.
    """

    folder: Path
    preset: Preset
    model: vae.JointVae
    statistics: standardisation.Statistics
    history: dict[str, np.ndarray]
    kl: np.ndarray
    fingerprint: str


def fingerprint(preset: Preset, precision: str, *data: shards.Dataset) -> str:
    """Of all that the weights depend on: choices, data and code."""
    choices = [dataclasses.asdict(part) for part in (preset.stft, preset.vae, preset.train)]
    sources = [Path(__file__).parent / name for name in SOURCES]
    data_prints = [part.fingerprint for part in data]
    return store.fingerprint(choices, list(preset.render.effects), precision, data_prints, *sources)


def finished(preset: Preset, *, seed: int | None = None, precision: str = "32-true", folder=None) -> Run | None:
    """The run that training a preset would give, if it is there already, of the same choices, data and code.

    Parameters
    ----------
    preset : Preset
    seed : int, optional
        In place of `preset.train.seed`.
    precision : str
        Of the training's arithmetic.
    folder : path, optional
        The run folder; `config.vae_dir` by default.

    Raises
    ------
    DamagedFile
        If there are no whole rendered pairs.

    Used in `02_vae_training`.
    """
    if seed is not None:
        preset = dataclasses.replace(preset, train=dataclasses.replace(preset.train, seed=seed))
    data = [shards.load(config.data_dir(preset.name, subset)) for subset in ("train", "valid")]
    try:
        run = load(folder or config.vae_dir(preset.name))
    except store.DamagedFile:  # absent, or an interrupted or damaged run
        return None
    return run if run.fingerprint == fingerprint(preset, precision, *data) else None


def load(folder: str | Path) -> Run:
    """The run in a folder, checked against its manifest.

    Raises
    ------
    DamagedFile
        If a file is missing or differs from its sha256, or was written by another version of this library.
    """
    folder = Path(folder)
    path = folder / "manifest.json"
    if not path.is_file():
        raise store.DamagedFile(f"{folder} holds no trained VAE (manifest.json is missing): train one first")
    manifest = store.read_json(path)
    if not isinstance(manifest, dict) or manifest.get("self") != _manifest_sum(manifest):
        raise store.DamagedFile(f"{path} has changed since it was written: train again")
    for name in FILES:
        path = folder / name
        if not path.is_file() or store.sha256(path) != manifest["sha256"][name]:
            raise store.DamagedFile(f"{path} is missing or has changed since it was written (sha256): train again")
    try:
        preset = preset_json.from_json((folder / "config.json").read_text())
        model = vae.build(preset.vae, preset.stft.num_frames, preset.stft.num_bins)
    except ValueError as error:
        raise store.DamagedFile(f"{folder / 'config.json'} is of another version ({error}): train again") from error
    try:
        model.load_state_dict(load_file(folder / "model.safetensors"))
    except (SafetensorError, RuntimeError) as error:
        raise store.DamagedFile(f"{folder / 'model.safetensors'} does not fit config.json: train again") from error
    history = read_history(folder / "history.csv")
    kl = np.loadtxt(folder / "kl.csv", delimiter=",", ndmin=2)
    statistics = standardisation.Statistics.from_dict(manifest["statistics"])
    return Run(folder, preset, model.eval(), statistics, history, kl, manifest["fingerprint"])


def save_run(folder: Path, preset: Preset, model, statistics, history: dict, kl: np.ndarray, key: str) -> None:
    """Write a run folder, the manifest last: without it there is no run.

    Parameters
    ----------
    folder : Path
    preset : Preset
    model : JointVae
    statistics : Statistics
    history : dict of str to array, shape (epochs,)
    kl : array, shape (epochs, latent_dim)
    key : str
        The `fingerprint`.

    Raises
    ------
    OSError
        If a file cannot be written, no space left included.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "manifest.json").unlink(missing_ok=True)
    for left in (left for name in (*FILES, "manifest.json") for left in folder.glob(f".{name}.*")):
        left.unlink()  # half written by a process that was killed
    with store.atomic(folder / "model.safetensors") as temporary:  # not save_file: a full disk is an OSError
        temporary.write_bytes(save({name: value.contiguous() for name, value in model.state_dict().items()}))
    with store.atomic(folder / "config.json") as temporary:
        temporary.write_text(preset_json.to_json(preset))
    write_history(folder / "history.csv", history)
    with store.atomic(folder / "kl.csv") as temporary:
        np.savetxt(temporary, kl, delimiter=",", fmt="%.6g")
    manifest = {
        "fingerprint": key,
        "statistics": statistics.to_dict(),
        "versions": {name: version(name) for name in ("torch", "lightning", "numpy")},
        "sha256": {name: store.sha256(folder / name) for name in FILES},
    }
    store.write_json(folder / "manifest.json", manifest | {"self": _manifest_sum(manifest)})


def read_history(path: str | Path) -> dict[str, np.ndarray]:
    """The columns that `write_history` wrote."""
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    return {name: np.array([float(row[name]) for row in rows]) for name in rows[0]}


def write_history(path: Path, history: dict[str, np.ndarray]) -> None:
    """Columns of equal length as a CSV file with a header."""
    with store.atomic(path) as temporary, open(temporary, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(history)
        writer.writerows(zip(*(values.tolist() for values in history.values()), strict=True))


def _manifest_sum(manifest: dict) -> str:
    """A checksum of all but itself, for the statistics."""
    return store.fingerprint({key: value for key, value in manifest.items() if key != "self"})
