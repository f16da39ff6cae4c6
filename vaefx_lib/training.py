"""Training the joint VAE with Lightning: the loss and the optimiser.

`train_vae` fills a run folder (`runs.py`) from rendered pairs; `fit` is the training alone, from arrays. Batches come
from `batches.py`; what is kept of each epoch is in `history.py`, `checkpoints.py`, `tracking.py` and `media.py`.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import shutil
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import lightning as L
import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_only

from vaefx_lib import batches, checkpoints, config, media, muon, phase, runs, shards, spectrogram, store, tracking, vae
from vaefx_lib.batches import EffectBatches, inputs, training_spectrograms
from vaefx_lib.config import Preset
from vaefx_lib.history import ACTIVE_NATS as ACTIVE_NATS  # for the lessons
from vaefx_lib.history import History
from vaefx_lib.runs import Run, load

OPTIMISERS = ("muon", "adamw")
PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")
NAMED = 5  # so many pairs of a batch are named when a loss is not finite


@dataclass(frozen=True)
class Hardware:
    """What training runs on. Each batch is shared out over all devices: their number changes no more than rounding."""

    devices: int = 1  # of each machine
    num_nodes: int = 1  # machines
    precision: str = "32-true"  # one of `PRECISIONS`


def train_vae(
    preset: Preset,
    *,
    seed: int | None = None,
    folder: str | Path | None = None,
    progress: bool = True,
    resume: bool = False,
    loggers: Sequence[str] = (),
    clips: int = 0,
    hardware: Hardware | None = None,
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
    resume : bool
        Go on from the last epoch of an interrupted training with the same choices, data and code, if there is one; on
        the same machine the weights are those of an uninterrupted one, bit for bit.
    loggers : sequence of str
        Of `tracking.LOGGERS`, besides `history.csv`, which is always written.
    clips : int
        So many of the `valid` pairs are kept as sound and picture after each epoch, in `media` in the run folder.
    hardware : Hardware, optional

    Raises
    ------
    DamagedFile
        If there are no whole rendered pairs, or the checkpoint to resume from has changed.
    FloatingPointError
        If the loss is not finite; the message names pairs of the batch.
    ValueError
        For an unknown logger, or one whose package is not installed.

    Used in `02_vae_training`.
    """
    if seed is not None:
        preset = dataclasses.replace(preset, train=dataclasses.replace(preset.train, seed=seed))
    hardware = hardware or Hardware()
    folder = Path(folder or config.vae_dir(preset.name))
    data = {subset: shards.load(config.data_dir(preset.name, subset)) for subset in ("train", "valid")}
    key = runs.fingerprint(preset, hardware.precision, *data.values())
    try:
        run = load(folder)
        if run.fingerprint == key:
            return run
    except store.DamagedFile:
        pass  # absent, or an interrupted or damaged run: train
    tracking.check(loggers)
    unfinished = checkpoints.Unfinished(folder / runs.UNFINISHED, key)
    resume = resume and unfinished.can_resume()
    kind = phase.of(preset.vae.inputs)
    train_x, statistics = training_spectrograms(data["train"], preset.stft, representation=kind, scratch=folder)
    valid_x = spectrogram.pairs(data["valid"], preset.stft, statistics=statistics, representation=kind)
    callbacks = [media.Clips(folder / "media", data["valid"], valid_x, statistics, preset, clips)] if clips else []
    with tracking.opened(loggers, folder, preset, resume=resume) as trackers:
        model, history, kl = fit(
            preset,
            inputs(preset, train_x),
            inputs(preset, valid_x),
            progress=progress,
            unfinished=unfinished,
            resume=resume,
            callbacks=callbacks,
            loggers=trackers,
            hardware=hardware,
            names={subset: _namer(part) for subset, part in data.items()},
        )
    if rank_zero_only.rank == 0:
        runs.save_run(folder, preset, model, statistics, history, kl, key)
        shutil.rmtree(folder / runs.UNFINISHED, ignore_errors=True)
    if torch.distributed.is_initialized():
        torch.distributed.barrier()
    return load(folder)


def fit(
    preset: Preset,
    train_x: np.ndarray,
    valid_x: np.ndarray,
    *,
    progress: bool = True,
    unfinished: checkpoints.Unfinished | None = None,
    resume: bool = False,
    callbacks: Sequence[L.Callback] = (),
    loggers: Sequence = (),
    hardware: Hardware | None = None,
    names: dict[str, Callable[[int], str]] | None = None,
) -> tuple[vae.JointVae, dict[str, np.ndarray], np.ndarray]:
    """Train a fresh network.

    Parameters
    ----------
    preset : Preset
    train_x, valid_x : array, float16 or float32, shape (n, channels, frames, bins)
        Standardised. Pair `i` of `train_x` has effect `i % n_effects`, so that each batch can hold all effects.
    progress : bool
    unfinished : Unfinished, optional
        Where to keep what there is after each epoch; nowhere by default.
    resume : bool
        Go on from what is there.
    callbacks, loggers : sequence
        Lightning's.
    hardware : Hardware, optional
    names : dict of str to function, optional
        For "train" and "valid", what to call a pair in an error.

    Returns
    -------
    model : JointVae
        With the weights of the best epoch, in eval mode, on the CPU.
    history : dict of str to array, shape (epochs,)
    kl : array, shape (epochs, latent_dim)

    Raises
    ------
    FloatingPointError
        If the loss is not finite.
    ValueError
        If a batch cannot be divided among effects and devices.
    """
    hardware, train = hardware or Hardware(), preset.train
    if train.optimiser not in OPTIMISERS:
        raise ValueError(f"unknown optimiser {train.optimiser!r}: known are {', '.join(OPTIMISERS)}")
    if not 0 <= train.frequency_warp < 1:
        raise ValueError(f"frequency_warp is {train.frequency_warp}: it must be from 0 to below 1")
    L.seed_everything(train.seed, verbose=False)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)  # no news about absent accelerators
    history = History(progress and rank_zero_only.rank == 0, unfinished and unfinished.path.with_name("history.csv"))
    live = progress and (sys.stderr.isatty() or ("ipykernel" in sys.modules and not os.environ.get("VAEFX_HEADLESS")))
    trainer = L.Trainer(
        max_epochs=train.max_epochs,
        gradient_clip_val=train.gradient_clip,
        accelerator="auto",
        devices=hardware.devices,
        num_nodes=hardware.num_nodes,
        precision=hardware.precision,
        strategy="ddp" if hardware.devices * hardware.num_nodes > 1 else "auto",
        use_distributed_sampler=False,  # `EffectBatches` shares batches out
        callbacks=[history, *callbacks, *([unfinished] if unfinished else [])],
        plugins=[checkpoints.CheckpointFile(unfinished.key)] if unfinished else [],
        logger=list(loggers) or False,
        enable_checkpointing=unfinished is not None,
        enable_progress_bar=live,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    part = {"rank": trainer.global_rank, "world": trainer.world_size}
    order = EffectBatches(len(train_x), len(preset.render.effects), train.batch_size, train.seed, **part)
    model = vae.build(preset.vae, *train_x.shape[2:])
    module = LitVae(model, preset, train.max_epochs * len(order), names)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")  # the data is in memory already
        warnings.filterwarnings("ignore", message=".*LeafSpec.* is deprecated")  # between Lightning and torch
        warnings.filterwarnings("ignore", message=".*smaller than the logging interval.*")  # epochs are logged
        trainer.fit(
            module,
            batches.loader(train_x, order),
            batches.loader(valid_x, batches.in_order(len(valid_x), train.batch_size, **part)),
            ckpt_path=unfinished.path if resume and unfinished else None,
        )
    model = module.model.cpu()
    model.load_state_dict(history.best_weights)
    return model.eval(), history.columns(), np.stack(history.kl)


class LitVae(L.LightningModule):
    """What one step of training is. The loss is minimised per input value, which keeps gradients of order one; what
    is logged are the terms of the ELBO: sums over one clip, mean over the batch.
    """

    def __init__(self, model: vae.JointVae, preset: Preset, steps: int, names: dict | None = None):
        super().__init__()
        self.model, self.preset, self.steps = model, preset, steps
        self.names = names or {"train": str, "valid": str}
        self.kl_sum, self.kl_count = 0.0, 0
        self.valid_sum, self.valid_count = 0.0, 0

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], _index: int) -> torch.Tensor:
        """The loss of one batch: x, (batch, channels, frames, bins), and the numbers of its pairs.

        Raises
        ------
        FloatingPointError
            If it is not finite; the message names the pairs.
        """
        x, pairs = batch
        x = self.warped(x)
        x_hat, mu, logvar = self.model(x, self.noise(len(x)).to(x))
        reconstruction = vae.reconstruction_error(x, x_hat)
        kl = vae.kl_per_dimension(mu.float(), logvar.float())
        loss = reconstruction + self.preset.train.beta * kl.sum()
        if not torch.isfinite(loss):
            what = f"the loss is {loss.item()} after {self.global_step} steps, on pairs "
            raise FloatingPointError(what + self.whose("train", pairs, x_hat - x) + ": it must be finite")
        terms = {"train_loss": loss, "train_reconstruction": reconstruction, "train_kl": kl.sum()}
        self.log_dict(terms, on_step=False, on_epoch=True, batch_size=len(x), sync_dist=True)
        self.kl_sum, self.kl_count = self.kl_sum + kl.detach(), self.kl_count + 1
        return loss / x[0].numel()

    def validation_step(self, batch: tuple[torch.Tensor, torch.Tensor], _index: int) -> None:
        """Mean squared error of each channel, from mu; FloatingPointError if it is not finite."""
        x, pairs = batch
        x_hat, _, _ = self.model(x)
        mse = (x_hat - x).square().mean(dim=(0, 2, 3))
        if not torch.isfinite(mse).all():
            what = f"the validation errors are {mse.tolist()}, on pairs "
            raise FloatingPointError(what + self.whose("valid", pairs, x_hat - x) + ": they must be finite")
        self.valid_sum, self.valid_count = self.valid_sum + mse * len(x), self.valid_count + len(x)

    def on_validation_epoch_end(self) -> None:
        """The mean over all pairs, of which processes may have had unequal numbers."""
        count = torch.full_like(self.valid_sum[:1], self.valid_count)
        *sums, count = self.trainer.strategy.reduce(torch.cat([self.valid_sum, count]), reduce_op="sum")
        self.valid_sum, self.valid_count = 0.0, 0
        names = [f"valid_mse_{name}" for name in self.preset.vae.inputs]
        self.log_dict({n: total / count for n, total in zip(names, sums, strict=True)}, sync_dist=True)

    def configure_optimizers(self) -> dict:
        """Muon or AdamW, learning rate in one cycle (Smith and Topin, Super-Convergence, 2018)."""
        rate = self.preset.train.learning_rate
        if self.preset.train.optimiser == "muon":
            optimiser = muon.Muon(self.parameters(), rate)
        else:
            optimiser = torch.optim.AdamW(self.parameters(), rate, betas=(0.9, 0.98), weight_decay=0.01)
        total = self.steps + 1
        rising = max(0.1, 2 / total)  # at least one step: a rise of none divides by zero
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimiser, rate, total_steps=total, pct_start=rising, cycle_momentum=False
        )
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def warped(self, x: torch.Tensor) -> torch.Tensor:
        """The rows of this process, stretched along frequency."""
        train, rank, world = self.preset.train, self.trainer.global_rank, self.trainer.world_size
        if not train.frequency_warp:
            return x
        count = len(x) * world
        factors = batches.warp_factors(train.seed, self.global_step, count, train.frequency_warp)
        return batches.warp(x, factors[batches.share(count, rank, world)])

    def noise(self, rows: int) -> torch.Tensor:
        """The rows of the noise of this step that belong to this process, (rows, latent_dim)."""
        rank, world = self.trainer.global_rank, self.trainer.world_size
        all_rows = batches.noise(self.preset.train.seed, self.global_step, rows * world, self.preset.vae.latent_dim)
        return all_rows[batches.share(rows * world, rank, world)]

    def whose(self, subset: str, pairs: torch.Tensor, error: torch.Tensor) -> str:
        """The first pairs whose own error is not finite, or the first of all."""
        own = ~torch.isfinite(error.flatten(1).square().sum(1))
        numbers = pairs[own].tolist() if own.any() else pairs.tolist()
        named = ", ".join(self.names[subset](number) for number in numbers[:NAMED])
        return named + (f" and {len(numbers) - NAMED} more" if len(numbers) > NAMED else "")


def _namer(data: shards.Dataset) -> Callable[[int], str]:
    """A pair's number with its speaker and effect."""

    def name(number: int) -> str:
        row = data.rows[number]
        return f"{number} ({row['speaker']}, {row['effect']})"

    return name
