"""Fixed statistics that bring each channel of a spectrogram to mean 0 and deviation 1.

They are measured once, on the training set, and belong to the network as its weights do.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass

import numpy as np


@dataclass(frozen=True)
class Statistics:
    """Mean and standard deviation over all clips, frames and bins of the training set, one each per channel."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def standardise(self, S) -> np.ndarray:
        """(S - mean) / std as float32; `S` has shape (..., channels, frames, bins)."""
        mean, std = self._per_channel(S)
        return (np.asarray(S, np.float32) - mean) / std

    def restore(self, S) -> np.ndarray:
        """S * std + mean as float32, which undoes `standardise`; `S` has shape (..., channels, frames, bins)."""
        mean, std = self._per_channel(S)
        return np.asarray(S, np.float32) * std + mean

    def to_dict(self) -> dict:
        """For JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, raw: dict) -> Statistics:
        """What `to_dict` gave."""
        return cls(tuple(raw["mean"]), tuple(raw["std"]))

    def _per_channel(self, S):
        shape = np.shape(S)
        if len(shape) < 3 or shape[-3] != len(self.mean):
            raise ValueError(f"spectrograms of shape {shape}: must be (..., {len(self.mean)} channels, frames, bins)")
        return (np.array(v, np.float32)[:, None, None] for v in (self.mean, self.std))


def measure(batches: Iterable) -> Statistics:
    """Mean and standard deviation of each channel over all batches, in one pass in float64.

    Parameters
    ----------
    batches : iterable of arrays, shape (n, channels, frames, bins) or (channels, frames, bins)
        So one array of shape (n, channels, frames, bins) will do as well.

    Raises
    ------
    ValueError
        If there is nothing to measure, a value is not finite, or all values of a channel are the same.
    """
    count, mean, squares = 0, 0.0, 0.0  # squares: sum of squared deviations from the mean, per channel
    for batch in batches:
        for S in batch if np.ndim(batch) == 4 else [batch]:
            x = np.asarray(S).astype(np.float64).reshape(len(S), -1)  # (channels, frames * bins)
            here = x.mean(axis=1)
            x -= here[:, None]
            step, total = here - mean, count + x.shape[1]
            mean = mean + step * x.shape[1] / total  # Chan, Golub and LeVeque, "Updating formulae", 1979
            squares = squares + np.einsum("cn,cn->c", x, x) + step**2 * count * x.shape[1] / total
            count = total
    if not count:
        raise ValueError("no spectrograms to measure: at least one is needed")
    std = np.asarray(np.sqrt(squares / count))
    if not (np.isfinite(std).all() and std.all()):
        raise ValueError(f"the standard deviation of the channels is {std.tolist()}: it must be finite and above 0")
    return Statistics(tuple(np.asarray(mean).tolist()), tuple(std.tolist()))
