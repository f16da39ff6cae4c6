"""What settings do to what is heard: a small network that stands for an effect, so that hearing has a gradient."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor, nn

from vaefx_lib import playable_maps
from vaefx_lib.controller import Scale
from vaefx_lib.controller_material import Material
from vaefx_lib.playable_net import Inputs, one_thread

DIRECTIONS = 64  # of the measures of style, of several hundred
TOLD = 0.1  # share of a direction's variance that settings must foretell for it to count
WIDTH = 128
BATCH, EPOCHS, RATE = 192, 25, 3e-3


class Surrogate(nn.Module):
    """How an effect's settings change what is heard: (batch, n_params) to (batch, DIRECTIONS)."""

    def __init__(self, n_params: int):
        super().__init__()
        self.layers = nn.Sequential(
            *(nn.Linear(n_params, WIDTH), nn.GELU(), nn.Linear(WIDTH, WIDTH), nn.GELU()), nn.Linear(WIDTH, DIRECTIONS)
        )
        self.register_buffer("certainty", torch.ones(DIRECTIONS))  # of each direction, adding up to 1

    def forward(self, settings: Tensor) -> Tensor:
        """Change of the measures, along `Inputs.components`."""
        return self.layers(2 * settings - 1)

    def unlike(self, one: Tensor, other: Tensor) -> Tensor:
        """How far apart two settings sound, (batch,): mean square in units of what the words make."""
        return (self(one) - self(other)).square() @ self.certainty


@dataclass(frozen=True, eq=False)
class Heard:
    """What maps of some effects are made from.

    Attributes
    ----------
    material : Material
    inputs : Inputs
        What the encoder reads.
    features, settings : dict of str to dict of str to Tensor
        Of the references, by subset and effect.
    surrogates : dict of str to Surrogate
    """

    material: Material
    inputs: Inputs
    features: dict[str, dict[str, Tensor]]
    settings: dict[str, dict[str, Tensor]]
    surrogates: dict[str, Surrogate]


@threadpool_limits.wrap(limits=1, user_api="blas")  # or the last bits would depend on how many threads there are
def hear(material: Material, names: Sequence[str]) -> Heard:
    """Describe all references of some effects, and learn what their settings do to the sound.

    Parameters
    ----------
    material : Material
        As `controller_training.prepare` gives it.
    names : sequence of str
        Effects.

    Returns
    -------
    Heard

    Used in `06_playable_latent`.
    """
    drawn, dry = material.drawn["train"], material.dry_numbers
    numbers, mu = (np.concatenate([getattr(drawn[n], of) for n in names]) for of in ("numbers", "mu"))
    scale = Scale(numbers.mean(0), numbers.std(0) + 1e-3, mu.mean(0), mu.std(0) + 1e-3)
    changes = {n: (drawn[n].numbers - dry["train"][drawn[n].passages]) / scale.numbers_std for n in names}
    _, components = playable_maps.principal(np.concatenate(list(changes.values())), DIRECTIONS)
    inputs = Inputs(scale, components.astype(np.float32))
    features = {
        part: {
            name: torch.from_numpy(inputs.features(dry[part][refs.inputs], refs.numbers, refs.mu))
            for name, refs in of.items()
            if name in names
        }
        for part, of in material.drawn.items()
    }
    settings = {p: {n: torch.from_numpy(r.settings) for n, r in of.items()} for p, of in material.drawn.items()}

    def changed(part, name):
        refs = material.drawn[part][name]
        return inputs.change(dry[part][refs.passages], refs.numbers)

    surrogates = {
        n: _surrogate({p: settings[p][n] for p in settings}, {p: changed(p, n) for p in settings}) for n in names
    }
    return Heard(material, inputs, features, settings, surrogates)


def _surrogate(settings: dict[str, Tensor], changes: dict[str, np.ndarray]) -> Surrogate:
    """Taught by the training references; a direction counts as far as it foretells those of validation."""
    torch.manual_seed(0)
    net, target = Surrogate(settings["train"].shape[1]), torch.from_numpy(changes["train"].astype(np.float32))

    def loss(_, batch):
        return (net(settings["train"][batch]) - target[batch]).square().mean()

    descend(net, [len(target)], loss, np.random.default_rng(0), epochs=EPOCHS)
    net.eval().requires_grad_(False)
    true = torch.from_numpy(changes["valid"].astype(np.float32))
    left = (net(settings["valid"]) - true).square().mean(0)
    explained = 1 - left / true.var(0)
    certainty = torch.where(explained > TOLD, 1 / left, 0.0)
    net.certainty.copy_(certainty / max(1, int((explained > TOLD).sum())))
    return net


@one_thread()
def descend(net: nn.Module, sizes: Sequence[int], loss: Callable, rng: np.random.Generator, *, epochs: int) -> list:
    """Minimise ``loss(which, batch)``, batches of each of several sets in turn at random; mean loss of each epoch."""
    counts = [max(1, size // BATCH) for size in sizes]
    optimiser = torch.optim.AdamW(net.parameters(), lr=RATE, weight_decay=0.02, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=epochs * sum(counts))
    means = []
    for _ in range(epochs):
        net.train()
        shuffled = [iter(np.array_split(rng.permutation(size), count)) for size, count in zip(sizes, counts)]
        losses = []
        for which in rng.permutation(np.repeat(np.arange(len(sizes)), counts)):
            value = loss(int(which), next(shuffled[which]))
            optimiser.zero_grad()
            value.backward()
            optimiser.step()
            schedule.step()
            losses.append(float(value.detach()))
        means.append(float(np.mean(losses)))
    return means
