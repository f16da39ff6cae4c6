"""What the networks of maps to play on learn, and from what: what is heard of settings, and then the sound itself.

Settings that cannot be heard must not fill a map of two dimensions. So the loss is not of settings alone. A small
network learns, from known references, how each effect's settings change the measures of style (`Surrogate`). Through
it, what is heard has a gradient. In the end settings go through the effect, and the gradient is SPSA's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vaefx_lib import audio, blackbox, config, effects, passages, playable_maps
from vaefx_lib.controller import Scale
from vaefx_lib.controller_material import Material
from vaefx_lib.playable_net import Inputs, MapNet

DIRECTIONS = 64  # of the measures of style, of several hundred
TOLD = 0.1  # share of a direction's variance that settings must foretell for it to count
WIDTH = 128
BATCH, EPOCHS, RATE = 192, 25, 3e-3
BETA = 0.02  # weight of the KL, in nats, against the loss below
WEIGHTS = (10.0, 1.0)  # of the squared error of the settings, and of what is heard of it
EFFECT_WEIGHT = 0.3  # of the cross-entropy of which effect it is
NUDGE = 0.1  # deviation of what is added to a place of UMAP while its decoder learns
SECONDS = 1.37  # of sound, when it learns through an effect
BATCH_END_TO_END, END_TO_END_RATE, STEP = 12, 3e-4, 0.02


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

    _descend(net, [len(target)], loss, np.random.default_rng(0), epochs=EPOCHS)
    net.eval().requires_grad_(False)
    true = torch.from_numpy(changes["valid"].astype(np.float32))
    left = (net(settings["valid"]) - true).square().mean(0)
    explained = 1 - left / true.var(0)
    certainty = torch.where(explained > TOLD, 1 / left, 0.0)
    net.certainty.copy_(certainty / max(1, int((explained > TOLD).sum())))
    return net


def _descend(net: nn.Module, sizes: Sequence[int], loss: Callable, rng: np.random.Generator, *, epochs: int) -> list:
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


def fit_bottleneck(
    heard: Heard, names: Sequence[str], dim: int, *, seed: int, weights: tuple[float, float] = WEIGHTS
) -> tuple[MapNet, dict]:
    """A variational bottleneck: what is heard, to a place, to settings.

    The loss is that of known settings at a place drawn from the encoder's distribution, and `BETA` times the KL of that
    from a standard normal. A dimension that tells nothing about the sound costs more than it brings, and closes.

    Parameters
    ----------
    heard : Heard
    names : sequence of str
        Effects that share the map.
    dim : int
    seed : int
    weights : (float, float)
        Of the squared error of the settings, and of what is heard of it.

    Returns
    -------
    net : MapNet
        In eval mode.
    history : dict of str to array, shape (epochs,)
        epoch, train_loss.

    References
    ----------
    Kingma and Welling: Auto-encoding variational Bayes, 2014; Alemi et al.: Deep variational information bottleneck,
    2017, equation 17.

    Used in `06_playable_latent`.
    """
    net, draws, wanted, features = begun(heard, names, dim, seed)

    def loss(which, batch):
        mean, logvar = net.encode(features[which][batch], draws)
        z = mean + torch.exp(0.5 * logvar) * torch.randn(mean.shape, generator=draws)
        value = _decoding_loss(net, heard, names, z, which, wanted[which][batch], weights)
        return value + BETA * _kl(mean, logvar)

    losses = _descend(net, [len(w) for w in wanted], loss, np.random.default_rng(seed), epochs=EPOCHS)
    return net.eval(), {"epoch": np.arange(1, EPOCHS + 1), "train_loss": np.array(losses)}


def fit_around(heard: Heard, names: Sequence[str], places: dict[str, np.ndarray], *, seed: int) -> tuple[MapNet, dict]:
    """Networks to and from a map that is there already, of the first training references of each effect.

    Parameters
    ----------
    heard, names, seed
        As `fit_bottleneck` takes them.
    places : dict of str to array, shape (n, dim)

    Returns
    -------
    net, history
        As `fit_bottleneck` gives them.

    References
    ----------
    Sainburg, McInnes, Gentner: Parametric UMAP embeddings for representation and semisupervised learning, 2021.

    Used in `06_playable_latent`.
    """
    at = [torch.from_numpy(places[name]).float() for name in names]
    net, draws, wanted, features = begun(heard, names, at[0].shape[1], seed)

    def loss(which, batch):
        mean, _ = net.encode(features[which][batch], draws)
        z = at[which][batch] + NUDGE * torch.randn(mean.shape, generator=draws)
        missed = (mean - at[which][batch]).square().mean()
        return missed + _decoding_loss(net, heard, names, z, which, wanted[which][batch])

    losses = _descend(net, [len(a) for a in at], loss, np.random.default_rng(seed), epochs=EPOCHS)
    return net.eval(), {"epoch": np.arange(1, EPOCHS + 1), "train_loss": np.array(losses)}


def through_effects(
    net: MapNet, heard: Heard, names: Sequence[str], preset: config.Preset, *, steps: int, seed: int
) -> None:
    """Go on training a bottleneck on the sound itself: decoded settings go through the effect (`blackbox.spsa`).

    Parameters
    ----------
    net : MapNet
        Changed in place.
    heard, names, seed
        As `fit_bottleneck` takes them.
    preset : Preset
    steps : int
        Batches of 12 for each effect.

    Used in `06_playable_latent`.
    """
    optimiser = torch.optim.Adam(net.parameters(), lr=END_TO_END_RATE)
    rng, draws = np.random.default_rng([seed, 2]), torch.Generator().manual_seed(seed)
    sounds, samples = heard.material.dry["train"].sounds, round(SECONDS * passages.RATE_HZ)
    for step in range(steps * len(names)):
        which = step % len(names)
        name = names[which]
        fx, refs, wanted = effects.load(name), heard.material.drawn["train"][name], heard.settings["train"][name]
        batch = rng.choice(len(wanted), min(BATCH_END_TO_END, len(wanted)), replace=False)

        def objective(i, fx=fx, refs=refs):
            dry, peak = sounds[refs.passages[i]][:samples], preset.render.peak_dbfs
            target = blackbox.wet(fx, dry, refs.settings[i].astype(np.float64), passages.RATE_HZ, peak_dbfs=peak)
            if audio.is_silent(target):
                return None
            return blackbox.settings_loss(fx, dry, target, passages.RATE_HZ, peak_dbfs=peak)

        found = blackbox.in_threads(objective, batch)
        batch, found = (np.array([i for i, f in zip(batch, found) if f]), [f for f in found if f])
        mean, logvar = net.encode(heard.features["train"][name][batch])
        z = mean + torch.exp(0.5 * logvar) * torch.randn(mean.shape, generator=draws)
        answers = net.decode(z, which)
        sound = blackbox.spsa(
            lambda row, settings, found=found: found[row](settings), answers, step=STEP, directions=1, seed=[seed, step]
        )
        loss = sound.mean() + WEIGHTS[1] * heard.surrogates[name].unlike(answers, wanted[batch]).mean()
        loss = loss + BETA * _kl(mean, logvar)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


def begun(heard: Heard, names: Sequence[str], dim: int, seed: int):
    """A new network, what draws at random for it, and settings and features of the training references."""
    wanted, features = ([of["train"][name] for name in names] for of in (heard.settings, heard.features))
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        net = MapNet(features[0].shape[1], WIDTH, dim, [w.shape[1] for w in wanted])
    return net, torch.Generator().manual_seed(seed), wanted, features


def _decoding_loss(net: MapNet, heard: Heard, names, z: Tensor, which: int, wanted: Tensor, weights=WEIGHTS) -> Tensor:
    """Of settings decoded at places, and of the effect that the places tell, if there are several."""
    answers = net.decode(z, which)
    unlike = heard.surrogates[names[which]].unlike(answers, wanted).mean()
    loss = weights[0] * (answers - wanted).square().mean() + weights[1] * unlike
    if len(names) > 1:
        loss = loss + EFFECT_WEIGHT * F.cross_entropy(net.which(z), torch.full((len(z),), which))
    return loss


def _kl(mean: Tensor, logvar: Tensor) -> Tensor:
    """Of normal distributions from the standard one, in nats, mean over the batch."""
    return 0.5 * (mean.square() + logvar.exp() - 1 - logvar).sum(1).mean()
