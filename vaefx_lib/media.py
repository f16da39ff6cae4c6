"""What training sounds and looks like: a few validation clips, written as sound and picture after each epoch."""

from __future__ import annotations

import shutil
from pathlib import Path

import lightning as L
import numpy as np
import torch

from vaefx_lib import audio, batches, phase, shards, standardisation, store, thumbnails, tracking
from vaefx_lib.config import Preset


class Clips(L.Callback):
    """Writes what the network makes of some validation pairs into a folder, and gives it to the loggers.

    `reference` gets the pairs as they are, `epoch-001` and so on what the network rebuilds of them from mu:
    `clip-0-dry.wav` and `clip-0-wet.wav`, 16 bit, with the phase of the dry clip where the network knows none, and
    `clip-0.png`, with the reference above and the reconstruction below, the network's channels from left to right.

    Parameters
    ----------
    folder : Path
    dataset : Dataset
        The validation pairs.
    x : array, shape (n, channels, frames, bins)
        Their standardised spectrograms, in the representation of `preset.vae.inputs`.
    statistics : Statistics
    preset : Preset
    count : int
        How many pairs, spread over the set, the effects in turn.

    Used in `02_vae_training`.
    """

    def __init__(
        self,
        folder: Path,
        dataset: shards.Dataset,
        x: np.ndarray,
        statistics: standardisation.Statistics,
        preset: Preset,
        count: int,
    ):
        numbers = thumbnails.spread(len(dataset), len(preset.render.effects), count)
        self.folder, self.statistics, self.preset = folder, statistics, preset
        self.pairs = [dataset[number] for number in numbers]
        self.pairs = [pair.mean(axis=1) if pair.ndim == 3 else pair for pair in self.pairs]  # (2, samples)
        self.x = x[numbers].astype(np.float32)

    def on_fit_start(self, trainer, module):
        """The reference. What another training left there goes, unless this one goes on from it."""
        if trainer.is_global_zero:
            if trainer.ckpt_path is None:
                shutil.rmtree(self.folder, ignore_errors=True)
            for i, pair in enumerate(self.pairs):
                self._write_sounds(self.folder / "reference", i, pair)

    def on_validation_epoch_end(self, trainer, module):
        """The reconstructions of this epoch."""
        if not trainer.is_global_zero:
            return
        S = self.reconstruct(module.model, module.device)
        folder = self.folder / f"epoch-{trainer.current_epoch + 1:03d}"
        sounds, pictures = {}, {}
        for i, (pair, reference, rebuilt) in enumerate(zip(self.pairs, self.x, S, strict=True)):
            clips = phase.of(self.preset.vae.inputs).synthesise(
                self.statistics.restore(rebuilt), self.preset.stft, dry=pair[0]
            )
            image = thumbnails.picture(batches.inputs(self.preset, np.stack([reference, rebuilt])))
            self._write_sounds(folder, i, clips)
            with store.atomic(folder / f"clip-{i}.png") as temporary:
                temporary.write_bytes(thumbnails.png(image))
            sounds |= {f"clip-{i}/{name}": clip for name, clip in zip(("dry", "wet"), clips, strict=True)}
            pictures[f"clip-{i}/spectrograms"] = image
        rate = self.preset.stft.sample_rate_hz
        for logger in trainer.loggers:
            tracking.log_media(logger, trainer.global_step - 1, sounds, rate, pictures)  # that of the epoch's scores

    def reconstruct(self, model: torch.nn.Module, device) -> np.ndarray:
        """The pairs' spectrograms with the network's channels rebuilt from mu; any others are as they were."""
        S = self.x.copy()
        own = batches.inputs(self.preset, S)  # a view
        with torch.no_grad():
            own[:] = model(torch.from_numpy(np.ascontiguousarray(own)).to(device))[0].float().cpu().numpy()
        return S

    def _write_sounds(self, folder: Path, i: int, clips) -> None:
        for name, clip in zip(("dry", "wet"), clips, strict=True):
            with store.atomic(folder / f"clip-{i}-{name}.wav") as temporary:
                temporary.write_bytes(audio.to_wav_bytes(clip, self.preset.stft.sample_rate_hz))
