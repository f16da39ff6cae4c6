"""What the networks of maps to play on learn, and from what: what is heard of settings, and then the sound itself.

Settings that cannot be heard must not fill a map of two dimensions. So the loss is not of settings alone. A small
network learns, from known references, how each effect's settings change the measures of style (`Surrogate`). Through
it, what is heard has a gradient. In the end settings go through the effect, and the gradient is SPSA's.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vaefx_lib import audio, blackbox, config, effects, passages
from vaefx_lib.playable_net import MapNet, one_thread
from vaefx_lib.playable_surrogate import EPOCHS, Heard, descend

WIDTH = 128
BETA = 0.02  # weight of the KL, in nats, against the loss below
WEIGHTS = (10.0, 1.0)  # of the squared error of the settings, and of what is heard of it
EFFECT_WEIGHT = 0.3  # of the cross-entropy of which effect it is
NUDGE = 0.1  # deviation of what is added to a place of UMAP while its decoder learns
SECONDS = 1.37  # of sound, when it learns through an effect
BATCH_END_TO_END, END_TO_END_RATE, STEP = 12, 3e-4, 0.02


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

    losses = descend(net, [len(w) for w in wanted], loss, np.random.default_rng(seed), epochs=EPOCHS)
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

    losses = descend(net, [len(a) for a in at], loss, np.random.default_rng(seed), epochs=EPOCHS)
    return net.eval(), {"epoch": np.arange(1, EPOCHS + 1), "train_loss": np.array(losses)}


@one_thread()
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

        def loss_of(row: int, values: np.ndarray, found=found) -> float:
            return found[row](values)

        sound = blackbox.spsa(loss_of, answers, step=STEP, directions=1, seed=[seed, step])
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
