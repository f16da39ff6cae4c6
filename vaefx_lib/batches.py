"""What goes into training: the spectrograms, their order and the noise.

The order follows from the seed and the epoch, the noise from the seed and the step, both for the whole batch. So one
process or several that share the batch out, and a run in one piece or one that was interrupted, see the same numbers.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from vaefx_lib import config, phase, shards, spectrogram, standardisation
from vaefx_lib.config import Preset

ORDER, NOISE, WARP = 0, 1, 2  # three streams of random numbers from one seed
_kept = {}  # the last result of `training_spectrograms`


def training_spectrograms(
    dataset: shards.Dataset,
    stft: config.Stft,
    *,
    representation: phase.Representation | None = None,
    scratch: str | Path | None = None,
) -> tuple[np.ndarray, standardisation.Statistics]:
    """Standardised spectrogram pairs and the statistics measured on them.

    Parameters
    ----------
    dataset : Dataset
    stft : Stft
    representation : phase.Representation, optional
        `magnitude` by default.
    scratch : path, optional
        A folder with room for the pairs, which then need not fit into memory. The last such result is kept and given
        again for the same data: in a notebook, training and PCA need it one after the other.

    Returns
    -------
    x : array, float16, shape (n, channels, frames, bins)
        Not to be changed.
    statistics : Statistics
    """
    if representation is not None and representation.channels == spectrogram.CHANNELS:
        representation = None
    key = (dataset.fingerprint, len(dataset), stft, representation)
    if scratch is not None and key in _kept:
        return _kept[key]
    _kept.clear()  # before the next one is made: there may not be room for both
    x = spectrogram.pairs(dataset, stft, scratch=scratch, representation=representation)
    statistics = standardisation.measure(x)
    for i in range(len(x)):  # in place: the array is a large part of the memory there is
        x[i] = statistics.standardise(x[i])
    x.flags.writeable = False
    if scratch is not None:
        _kept[key] = x, statistics
    return x, statistics


def inputs(preset: Preset, x: np.ndarray) -> np.ndarray:
    """The channels that the network reads of spectrograms in its representation (`phase.of`), a view.

    Raises
    ------
    ValueError
        If `preset.vae.inputs` are channels of no representation, or `x` has not as many as theirs.
    """
    wanted = preset.vae.inputs
    channels = phase.of(wanted).channels
    if x.shape[1] != len(channels):
        raise ValueError(f"spectrograms of {x.shape[1]} channels: vae.inputs {wanted} needs those of {channels}")
    first = channels.index(wanted[0])
    return x[:, first : first + len(wanted)]


class Spectrograms(Dataset):
    """Standardised spectrograms in memory, given a whole batch at a time as float32, with the numbers of its pairs."""

    def __init__(self, x: np.ndarray):
        self.x = x

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, indices: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """One batch, (batch, channels, frames, bins) and (batch,)."""
        return torch.from_numpy(self.x[indices]).float(), torch.from_numpy(indices)


class EffectBatches(Sampler):
    """Random batches in which every effect is equally frequent: validation losses of different epochs compare.

    Parameters
    ----------
    count : int
        Pairs; pair `i` has effect `i % effects`.
    effects : int
    batch_size : int
        Over all processes.
    seed : int
    rank, world : int
        Which of how many processes: each gets its share of every batch.
    """

    def __init__(self, count: int, effects: int, batch_size: int, seed: int, *, rank: int = 0, world: int = 1):
        if batch_size < 1 or batch_size % effects or count < batch_size:
            raise ValueError(
                f"batch_size {batch_size} with {effects} effects and {count} pairs: it must be a positive multiple of "
                "the number of effects and not above the number of pairs"
            )
        if batch_size % world:
            raise ValueError(f"batch_size {batch_size} on {world} devices: it must be a multiple of their number")
        self.groups, self.effects, self.per_batch = count // effects, effects, batch_size // effects
        self.seed, self.epoch = seed, 0
        self.share = share(batch_size, rank, world)

    def __len__(self) -> int:
        return self.groups // self.per_batch

    def set_epoch(self, epoch: int) -> None:
        """Lightning calls this before each epoch."""
        self.epoch = epoch

    def __iter__(self):
        rng = np.random.default_rng([self.seed, ORDER, self.epoch])
        order = rng.permutation(self.groups)[: len(self) * self.per_batch]
        for groups in order.reshape(len(self), self.per_batch):
            yield np.sort((groups[:, None] * self.effects + np.arange(self.effects)).ravel())[self.share]


def share(batch_size: int, rank: int, world: int) -> slice:
    """The rows of a batch that one of several processes works on."""
    size = batch_size // world
    return slice(rank * size, (rank + 1) * size)


def noise(seed: int, step: int, batch_size: int, latent_dim: int) -> torch.Tensor:
    """The standard normal draws of one step for the whole batch, float32, (batch_size, latent_dim)."""
    rng = np.random.default_rng([seed, NOISE, step])
    return torch.from_numpy(rng.standard_normal((batch_size, latent_dim), np.float32))


def warp_factors(seed: int, step: int, batch_size: int, most: float) -> np.ndarray:
    """How far `warp` stretches each pair of a step's whole batch, uniform from 1 - most to 1 + most, (batch_size,)."""
    return np.random.default_rng([seed, WARP, step]).uniform(1 - most, 1 + most, batch_size)


def warp(x: torch.Tensor, factors: np.ndarray) -> torch.Tensor:
    """Spectra stretched along frequency, as by a voice of another pitch and size; tempo and rhythm stay.

    What was at bin k * factor is at bin k afterwards, in all channels of a pair; bins that would come from above the
    highest have its value. With few speakers to learn from, it makes many.

    Parameters
    ----------
    x : Tensor, shape (batch, channels, frames, bins)
    factors : array, shape (batch,)
        Above 0.

    Returns
    -------
    Tensor, shape of `x`
    """
    last = x.shape[3] - 1
    out = torch.empty_like(x)
    for pair, stretched, factor in zip(x, out, factors, strict=True):
        where = np.minimum(np.arange(last + 1) * factor, last)
        low = np.minimum(where.astype(np.int64), max(0, last - 1))
        share = torch.from_numpy((where - low).astype(np.float32)).to(x)
        low = torch.from_numpy(low).to(x.device)
        torch.lerp(pair.index_select(2, low), pair.index_select(2, (low + 1).clamp(max=last)), share, out=stretched)
    return out


def loader(x: np.ndarray, sampler) -> DataLoader:
    """Batches in the order of a sampler, each element of which is the indices of one batch."""
    own = torch.Generator()  # otherwise each pass over the loader would draw from the generator of all the rest
    return DataLoader(Spectrograms(x), batch_size=None, sampler=sampler, generator=own)


def in_order(count: int, batch_size: int, *, rank: int = 0, world: int = 1) -> list[np.ndarray]:
    """The indices of each batch of one process, which are all pairs in turn if there is no other process.

    Raises
    ------
    ValueError
        If there are fewer pairs than processes.
    """
    if count < world:
        raise ValueError(f"{count} validation pairs on {world} devices: there must be at least one for each")
    own, size = np.arange(rank, count, world), max(1, batch_size // world)
    return [own[start : start + size] for start in range(0, len(own), size)]
