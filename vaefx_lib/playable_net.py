"""The network of a map to play on, from what is heard to a place and from a place to settings, and what it hears."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vaefx_lib import controller


class MapNet(nn.Module):
    """What is heard to a place on a map of `dim` dimensions, and a place to the settings of each effect.

    Parameters
    ----------
    features : int
        Numbers that describe a sound beside a dry one.
    width : int
        Of the hidden layers.
    dim : int
    n_params : sequence of int
        For each effect.
    """

    def __init__(self, features: int, width: int, dim: int, n_params: Sequence[int]):
        super().__init__()
        self.dim, self.n_params = dim, tuple(n_params)
        self.heard_first, self.heard_second = nn.Linear(features, width), nn.Linear(width, width)
        self.place = nn.Linear(width, 2 * dim)
        self.effect = nn.Embedding(len(self.n_params), width)
        self.first, self.second = nn.Linear(dim, width), nn.Linear(width, width)
        self.settings = nn.ModuleList(nn.Linear(width, n) for n in self.n_params)
        self.which = nn.Sequential(nn.Linear(dim, width), nn.GELU(), nn.Linear(width, len(self.n_params)))

    def encode(self, features: Tensor, leave_out: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Mean and logarithm of the variance of the place, (batch, dim) each; in training a part is left out."""
        hidden = F.gelu(self.heard_first(_dropped(features, 0.3, leave_out)))
        hidden = F.gelu(self.heard_second(_dropped(hidden, 0.2, leave_out)))
        return self.place(_dropped(hidden, 0.2, leave_out)).chunk(2, dim=1)

    def decode(self, z: Tensor, effect: int) -> Tensor:
        """Settings in (0, 1), (batch, n_params): continuous in the place, and defined everywhere."""
        hidden = F.gelu(self.second(F.gelu(self.first(z) + self.effect.weight[effect])))
        return torch.sigmoid(self.settings[effect](hidden))


def _dropped(x: Tensor, share: float, draws: torch.Generator | None) -> Tensor:
    """Dropout with a source of randomness of its own, so that networks can be trained side by side."""
    return x if draws is None else x * (torch.rand(x.shape, generator=draws) >= share) / (1 - share)


@dataclass(frozen=True, eq=False)
class Inputs:
    """What is heard of a sound beside a dry one, as numbers of one scale.

    Attributes
    ----------
    scale : controller.Scale
        Of the measures of style and of mu.
    components : array, float32, shape (n_measures, k)
        Directions in which effects change the measures most.
    """

    scale: controller.Scale
    components: np.ndarray

    def features(self, dry_numbers, numbers, mu) -> np.ndarray:
        """What has changed, what is heard, and mu: float32, (n, 2 * k + latent_dim)."""
        every = self.scale.features(dry_numbers, numbers, mu)
        wet, change, rest = np.split(every, [len(self.components), 2 * len(self.components)], axis=1)
        parts = [change @ self.components, wet @ self.components, rest]
        return np.clip(np.concatenate(parts, axis=1), -controller.FARTHEST, controller.FARTHEST).astype(np.float32)

    def change(self, dry_numbers, numbers) -> np.ndarray:
        """The first k of these: what has changed between two sounds."""
        return (np.subtract(numbers, dry_numbers) / self.scale.numbers_std) @ self.components


@contextlib.contextmanager
def one_thread():
    """Torch with one thread: those of a small network wait for each other; and with one, the bits repeat anywhere."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
