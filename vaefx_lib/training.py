"""Training the joint VAE with Lightning, and the run folder that a trained one lives in.

A run folder holds `model.safetensors`, `config.json` (the preset), `history.csv` (a row per epoch), `kl.csv` (nats per
latent dimension, a row per epoch) and `manifest.json` (statistics, fingerprint, versions, sha256 of the other files).
`load` needs nothing else.
"""

from __future__ import annotations

import csv
import dataclasses
import logging
import os
import sys
import time
import warnings
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import lightning as L
import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch.utils.data import DataLoader, Dataset, Sampler

from vaefx_lib import config, shards, spectrogram, store, vae
from vaefx_lib.config import Preset

FILES = ("model.safetensors", "config.json", "history.csv", "kl.csv")
ACTIVE_NATS = 0.01  # a latent dimension with a smaller mean KL says nothing about its input


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
    statistics: spectrogram.Statistics
    history: dict[str, np.ndarray]
    kl: np.ndarray
    fingerprint: str


def train_vae(
    preset: Preset, *, seed: int | None = None, folder: str | Path | None = None, progress: bool = True
) -> Run:
    """Train the VAE of a preset on its rendered pairs; a finished run with the same choices and data is kept.

    The checkpoint kept is the one with the smallest reconstruction error on the `valid` pairs: unseen speakers, and
    other sentences than those of the reported numbers.

    Parameters
    ----------
    preset : Preset
    seed : int, optional
        In place of `preset.train.seed`.
    folder : path, optional
        The run folder; `config.vae_dir` by default.
    progress : bool
        A bar in a terminal or live notebook, else a line every few seconds.

    Raises
    ------
    DamagedFile
        If there are no whole rendered pairs.
    FloatingPointError
        If the loss is not finite.

    Used in `02_vae_training`.
    """
    if seed is not None:
        preset = dataclasses.replace(preset, train=dataclasses.replace(preset.train, seed=seed))
    folder = Path(folder or config.vae_dir(preset.name))
    data = {subset: shards.load(config.data_dir(preset.name, subset)) for subset in ("train", "valid")}
    key = _fingerprint(preset, *data.values())
    try:
        run = load(folder)
        if run.fingerprint == key:
            return run
    except store.DamagedFile:
        pass  # absent, or an interrupted or damaged run: train
    train_x, statistics = training_spectrograms(data["train"], preset.stft, scratch=folder)
    valid_x = spectrogram.pairs(data["valid"], preset.stft, statistics=statistics)
    model, history, kl = fit(preset, inputs(preset, train_x), inputs(preset, valid_x), progress=progress)
    return _save(folder, preset, model, statistics, history, kl, key)


def training_spectrograms(
    dataset: shards.Dataset, stft: config.Stft, *, scratch: str | Path | None = None
) -> tuple[np.ndarray, spectrogram.Statistics]:
    """Standardised spectrogram pairs and the statistics measured on them.

    Parameters
    ----------
    dataset : Dataset
    stft : Stft
    scratch : path, optional
        A folder with room for the pairs, which then need not fit into memory.

    Returns
    -------
    x : array, float16, shape (n, 2, frames, bins)
    statistics : Statistics
    """
    x = spectrogram.pairs(dataset, stft, scratch=scratch)
    statistics = spectrogram.measure(x)
    for i in range(len(x)):  # in place: the array is a large part of the memory there is
        x[i] = statistics.standardise(x[i])
    return x, statistics


def inputs(preset: Preset, x: np.ndarray) -> np.ndarray:
    """The channels that the network reads, a view.

    Raises
    ------
    ValueError
        If `preset.vae.inputs` are not neighbours in `spectrogram.CHANNELS`.
    """
    channels, wanted = spectrogram.CHANNELS, preset.vae.inputs
    runs = [channels[i:j] for j in range(1, len(channels) + 1) for i in range(j)]
    if wanted not in runs:
        raise ValueError(f"vae.inputs is {wanted}: it must be one of {', '.join(map(str, runs))}")
    first = channels.index(wanted[0])
    return x[:, first : first + len(wanted)]


def fit(
    preset: Preset, train_x: np.ndarray, valid_x: np.ndarray, *, progress: bool = True
) -> tuple[vae.JointVae, dict[str, np.ndarray], np.ndarray]:
    """Train a fresh network.

    Parameters
    ----------
    preset : Preset
    train_x, valid_x : array, float16 or float32, shape (n, channels, frames, bins)
        Standardised. Pair `i` of `train_x` has effect `i % n_effects`, so that each batch can hold all effects.
    progress : bool

    Returns
    -------
    model : JointVae
        With the weights of the best epoch, in eval mode, on the CPU.
    history : dict of str to array, shape (epochs,)
    kl : array, shape (epochs, latent_dim)
    """
    L.seed_everything(preset.train.seed, verbose=False)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)  # no news about absent accelerators
    batches = EffectBatches(len(train_x), len(preset.render.effects), preset.train.batch_size, preset.train.seed)
    steps = preset.train.max_epochs * len(batches)
    module = LitVae(vae.build(preset.vae, *train_x.shape[2:]), preset, steps)
    history = History(progress)
    live = progress and (sys.stderr.isatty() or ("ipykernel" in sys.modules and not os.environ.get("VAEFX_HEADLESS")))
    trainer = L.Trainer(
        max_epochs=preset.train.max_epochs,
        gradient_clip_val=preset.train.gradient_clip,
        accelerator="auto",
        devices=1,
        callbacks=[history],
        logger=False,
        enable_checkpointing=False,  # Lightning's checkpoints are pickles: `History` keeps the best weights
        enable_progress_bar=live,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")  # the data is in memory already
        warnings.filterwarnings("ignore", message=".*LeafSpec.* is deprecated")  # between Lightning and torch
        trainer.fit(
            module,
            DataLoader(Spectrograms(train_x), batch_sampler=batches, collate_fn=_as_it_is),
            DataLoader(Spectrograms(valid_x), batch_size=preset.train.batch_size, collate_fn=_as_it_is),
        )
    model = module.model.cpu()
    model.load_state_dict(history.best_weights)
    columns = {name: np.array([row[name] for row in history.rows]) for name in history.rows[0]}
    return model.eval(), columns, np.stack(history.kl)


class LitVae(L.LightningModule):
    """What one step of training is. The loss is minimised per input value, which keeps gradients of order one; what
    is logged are the terms of the ELBO: sums over one clip, mean over the batch.
    """

    def __init__(self, model: vae.JointVae, preset: Preset, steps: int):
        super().__init__()
        self.model, self.preset, self.steps = model, preset, steps
        self.kl_sum, self.kl_count = 0.0, 0

    def training_step(self, x: torch.Tensor, _index: int) -> torch.Tensor:
        """The loss of one batch (batch, channels, frames, bins)."""
        x_hat, mu, logvar = self.model(x)
        reconstruction = vae.reconstruction_error(x, x_hat)
        kl = vae.kl_per_dimension(mu, logvar)
        loss = reconstruction + self.preset.train.beta * kl.sum()
        if not torch.isfinite(loss):
            raise FloatingPointError(f"the loss is {loss.item()} after {self.global_step} steps: it must be finite")
        terms = {"train_loss": loss, "train_reconstruction": reconstruction, "train_kl": kl.sum()}
        self.log_dict(terms, on_step=False, on_epoch=True, batch_size=len(x))
        self.kl_sum, self.kl_count = self.kl_sum + kl.detach(), self.kl_count + 1
        return loss / x[0].numel()

    def validation_step(self, x: torch.Tensor, _index: int) -> None:
        """Mean squared error of each channel, from mu."""
        x_hat, _, _ = self.model(x)
        mse = (x_hat - x).square().mean(dim=(0, 2, 3))
        if not torch.isfinite(mse).all():
            raise FloatingPointError(f"the validation errors are {mse.tolist()}: they must be finite")
        names = [f"valid_mse_{name}" for name in self.preset.vae.inputs]
        self.log_dict(dict(zip(names, mse, strict=True)), batch_size=len(x))

    def configure_optimizers(self) -> dict:
        """AdamW, learning rate in one cycle (Smith and Topin, Super-Convergence, 2018)."""
        rate = self.preset.train.learning_rate
        optimiser = torch.optim.AdamW(self.parameters(), rate, betas=(0.9, 0.98), weight_decay=0.01)
        total = self.steps + 1
        rising = max(0.1, 2 / total)  # at least one step: a rise of none divides by zero
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimiser, rate, total_steps=total, pct_start=rising, cycle_momentum=False
        )
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class History(L.Callback):
    """Keeps a row per epoch and the best weights, and prints how it goes where there is no bar."""

    def __init__(self, progress: bool):
        self.rows, self.kl = [], []
        self.best_weights, self.best = None, float("inf")
        self.progress, self.begun, self.told = progress, time.monotonic(), time.monotonic()

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        """A line every ten seconds."""
        if self.progress and trainer.progress_bar_callback is None and time.monotonic() - self.told > 10:
            self.told = time.monotonic()
            seconds = self.told - self.begun
            print(f"step {trainer.global_step} of {module.steps} after {seconds:.0f} s", file=sys.stderr, flush=True)

    def on_train_epoch_end(self, trainer, module):
        """The epoch's row; Lightning has validated before this."""
        now = {name: float(value) for name, value in trainer.callback_metrics.items()}
        kl = (module.kl_sum / module.kl_count).cpu().numpy()
        module.kl_sum, module.kl_count = 0.0, 0
        self.kl.append(kl)
        row = {"epoch": trainer.current_epoch + 1, **{name: now[name] for name in sorted(now)}}
        row["active_dimensions"] = int((kl > ACTIVE_NATS).sum())
        row["seconds"] = round(time.monotonic() - self.begun, 1)
        self.rows.append(row)
        error = sum(value for name, value in now.items() if name.startswith("valid_mse_"))
        if error < self.best:
            self.best = error
            self.best_weights = {k: v.detach().cpu().clone() for k, v in module.model.state_dict().items()}
        if self.progress:
            scores = ", ".join(f"{name} {value:.4g}" for name, value in row.items() if name != "epoch")
            print(f"epoch {row['epoch']}: {scores}", flush=True)


class Spectrograms(Dataset):
    """Standardised spectrograms in memory, given a whole batch at a time as float32."""

    def __init__(self, x: np.ndarray):
        self.x = x

    def __len__(self) -> int:
        return len(self.x)

    def __getitems__(self, indices: list[int]) -> torch.Tensor:
        """One batch, (batch, channels, frames, bins)."""
        return torch.from_numpy(self.x[np.sort(indices)]).float()


class EffectBatches(Sampler):
    """Random batches in which every effect is equally frequent: validation losses of different epochs compare."""

    def __init__(self, count: int, effects: int, batch_size: int, seed: int):
        if batch_size < 1 or batch_size % effects or count < batch_size:
            raise ValueError(
                f"batch_size {batch_size} with {effects} effects and {count} pairs: it must be a positive multiple of "
                "the number of effects and not above the number of pairs"
            )
        self.groups, self.effects, self.per_batch = count // effects, effects, batch_size // effects
        self.rng = np.random.default_rng(seed)

    def __len__(self) -> int:
        return self.groups // self.per_batch

    def __iter__(self):
        order = self.rng.permutation(self.groups)[: len(self) * self.per_batch]
        for groups in order.reshape(len(self), self.per_batch):
            yield (groups[:, None] * self.effects + np.arange(self.effects)).ravel().tolist()


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
        preset = config.from_json((folder / "config.json").read_text())
        model = vae.build(preset.vae, preset.stft.num_frames, preset.stft.num_bins)
    except ValueError as error:
        raise store.DamagedFile(f"{folder / 'config.json'} is of another version ({error}): train again") from error
    try:
        model.load_state_dict(load_file(folder / "model.safetensors"))
    except (SafetensorError, RuntimeError) as error:
        raise store.DamagedFile(f"{folder / 'model.safetensors'} does not fit config.json: train again") from error
    with open(folder / "history.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    history = {name: np.array([float(row[name]) for row in rows]) for name in rows[0]}
    kl = np.loadtxt(folder / "kl.csv", delimiter=",", ndmin=2)
    statistics = spectrogram.Statistics.from_dict(manifest["statistics"])
    return Run(folder, preset, model.eval(), statistics, history, kl, manifest["fingerprint"])


def _save(folder: Path, preset: Preset, model, statistics, history: dict, kl: np.ndarray, key: str) -> Run:
    """Write a run folder, the manifest last: without it there is no run."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "manifest.json").unlink(missing_ok=True)
    with store.atomic(folder / "model.safetensors") as temporary:  # not save_file: a full disk is an OSError
        temporary.write_bytes(save({name: value.contiguous() for name, value in model.state_dict().items()}))
    with store.atomic(folder / "config.json") as temporary:
        temporary.write_text(config.to_json(preset))
    with store.atomic(folder / "history.csv") as temporary, open(temporary, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(history)
        writer.writerows(zip(*(values.tolist() for values in history.values()), strict=True))
    with store.atomic(folder / "kl.csv") as temporary:
        np.savetxt(temporary, kl, delimiter=",", fmt="%.6g")
    manifest = {
        "fingerprint": key,
        "statistics": statistics.to_dict(),
        "versions": {name: version(name) for name in ("torch", "lightning", "numpy")},
        "sha256": {name: store.sha256(folder / name) for name in FILES},
    }
    store.write_json(folder / "manifest.json", manifest | {"self": _manifest_sum(manifest)})
    return load(folder)


def _manifest_sum(manifest: dict) -> str:
    """A checksum of all but itself, for the statistics."""
    return store.fingerprint({key: value for key, value in manifest.items() if key != "self"})


def _fingerprint(preset: Preset, *data: shards.Dataset) -> str:
    """Of all that the weights depend on: choices, data and code."""
    here = Path(__file__).parent
    choices = [dataclasses.asdict(part) for part in (preset.stft, preset.vae, preset.train)]
    sources = [here / name for name in ("vae.py", "spectrogram.py", "training.py")]
    return store.fingerprint(choices, list(preset.render.effects), [part.fingerprint for part in data], *sources)


def _as_it_is(batch: torch.Tensor) -> torch.Tensor:
    return batch
