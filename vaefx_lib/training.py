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

from vaefx_lib import batches, checkpoints, config, media, phase, runs, shards, spectrogram, store, tracking, vae
from vaefx_lib.batches import EffectBatches, inputs, training_spectrograms
from vaefx_lib.config import Preset
from vaefx_lib.history import ACTIVE_NATS as ACTIVE_NATS  # for the lessons
from vaefx_lib.history import History
from vaefx_lib.lit_vae import LitVae
from vaefx_lib.runs import Run, load

OPTIMISERS = ("muon", "adamw")
PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")


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


def _namer(data: shards.Dataset) -> Callable[[int], str]:
    """A pair's number with its speaker and effect."""

    def name(number: int) -> str:
        row = data.rows[number]
        return f"{number} ({row['speaker']}, {row['effect']})"

    return name
