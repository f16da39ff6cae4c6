"""The joint spectrogram VAE: networks and the terms of its loss. Torch and nothing else.

A spectrogram pair `x`, shape (batch, channels, frames, bins), standardised, channels dry and wet, becomes a latent
vector `z` and is rebuilt from it. Two architectures:

- `conv2d`: plain strided convolutions over the stacked channels, as in the Week 5 report and the paper.
- `factorised`: a content part read from dry alone and an effect part, in `factorised.py`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vaefx_lib.config import Vae
from vaefx_lib.factorised import FactorisedDecoder, FactorisedEncoder

ARCHITECTURES = ("conv2d", "factorised")


def reparameterize(mu: Tensor, logvar: Tensor, *, sample: bool, noise: Tensor | None = None) -> Tensor:
    """A draw from N(mu, exp(logvar)) that gradients pass through, or `mu` itself.

    Source: Kingma and Welling, Auto-Encoding Variational Bayes (2014), section 2.4.

    Parameters
    ----------
    mu, logvar : Tensor, shape (batch, latent_dim)
    sample : bool
        True in training; False gives `mu`.
    noise : Tensor, shape (batch, latent_dim), optional
        Standard normal; drawn anew by default.
    """
    if not sample:
        return mu
    return mu + (torch.randn_like(mu) if noise is None else noise) * torch.exp(0.5 * logvar)


def kl_per_dimension(mu: Tensor, logvar: Tensor) -> Tensor:
    """KL divergence of N(mu, exp(logvar)) from N(0, 1), mean over the batch, in nats, shape (latent_dim,).

    Source: Kingma and Welling (2014), appendix B.
    """
    return 0.5 * (mu**2 + logvar.exp() - 1 - logvar).mean(0)


def reconstruction_error(x: Tensor, x_hat: Tensor) -> Tensor:
    """Sum of squared errors over channels, frames and bins, mean over the batch (a scalar).

    With `beta` = 2 x variance of the error of one bin, this plus beta x KL is the negative ELBO up to a constant.
    """
    return F.mse_loss(x_hat, x, reduction="sum") / len(x)


class JointVae(nn.Module):
    """An encoder and a decoder with a Gaussian latent vector between them.

    Parameters
    ----------
    encoder : Module
        (batch, channels, frames, bins) -> mu and logvar, each (batch, latent_dim).
    decoder : Module
        (batch, latent_dim) -> (batch, channels, frames, bins).
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module):
        super().__init__()
        self.encoder, self.decoder = encoder, decoder

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of the posterior, each (batch, latent_dim)."""
        mu, logvar = self.encoder(x)
        return mu, logvar.clamp(-10, 10)

    def decode(self, z: Tensor) -> Tensor:
        """The spectrogram pair of a latent vector, (batch, channels, frames, bins)."""
        return self.decoder(z)

    def forward(self, x: Tensor, noise: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Reconstruction (shape of `x`), mu and logvar (batch, latent_dim); samples z in training mode only."""
        mu, logvar = self.encode(x)
        return self.decode(reparameterize(mu, logvar, sample=self.training, noise=noise)), mu, logvar


def build(vae: Vae, num_frames: int, num_bins: int) -> JointVae:
    """The network of a configuration, with fresh random weights.

    Raises
    ------
    ValueError
        For an unknown architecture, or sizes that do not fit it.
    """
    if vae.architecture not in ARCHITECTURES:
        raise ValueError(f"unknown architecture {vae.architecture!r}: known are {', '.join(ARCHITECTURES)}")
    if min(vae.latent_dim, num_frames, num_bins, len(vae.inputs)) < 1:
        raise ValueError(
            f"latent_dim {vae.latent_dim}, inputs {vae.inputs}, {num_frames} frames and {num_bins} bins: "
            "there must be at least one of each"
        )
    if vae.architecture == "conv2d":
        sizes = [(num_frames, num_bins)]
        for _ in vae.channels:
            frames, bins = sizes[-1]
            sizes.append(((frames + 1) // 2, (bins + 1) // 2))
        maps = (len(vae.inputs), *vae.channels)
        return JointVae(ConvEncoder(maps, sizes[-1], vae.latent_dim), ConvDecoder(maps, sizes, vae.latent_dim))
    is_dry = [name.startswith("dry") for name in vae.inputs]
    dry, wet = sum(is_dry), len(is_dry) - sum(is_dry)
    if not 1 <= dry <= wet or not all(is_dry[:dry]):
        raise ValueError(
            f"inputs of the factorised network are {vae.inputs}: they must be ('dry', 'wet'), or first those whose "
            "names begin with 'dry' and then as many others or more"
        )
    frames = [num_frames]
    for _ in range(3):
        frames.append(frames[-1] // 2)
    content_dim, rest = divmod(vae.latent_dim - vae.effect_dim, max(1, frames[-1]))
    if frames[-1] < 1 or content_dim < 1 or rest or vae.effect_dim < 1:
        raise ValueError(
            f"latent_dim {vae.latent_dim} less effect_dim {vae.effect_dim} (at least 1) must be a positive multiple of "
            f"the {frames[-1]} steps of {num_frames} frames (at least 8 frames)"
        )
    args = (frames, num_bins, (dry, wet), vae.width, content_dim, vae.effect_dim)
    return JointVae(FactorisedEncoder(*args), FactorisedDecoder(*args))


class ConvEncoder(nn.Sequential):
    """Convolutions that halve frames and bins, then one linear layer to mu and logvar."""

    def __init__(self, maps: tuple[int, ...], size: tuple[int, int], latent_dim: int):
        layers = []
        for low, high in zip(maps[:-1], maps[1:], strict=True):
            layers += [nn.Conv2d(low, high, 3, stride=2, padding=1), nn.GroupNorm(1, high), nn.ReLU()]
        super().__init__(*layers, nn.Flatten(), nn.Linear(maps[-1] * size[0] * size[1], 2 * latent_dim))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mu and logvar, each (batch, latent_dim)."""
        mu, logvar = super().forward(x).chunk(2, dim=1)
        return mu, logvar


class ConvDecoder(nn.Sequential):
    """The encoder's mirror image."""

    def __init__(self, maps: tuple[int, ...], sizes: list[tuple[int, int]], latent_dim: int):
        frames, bins = sizes[-1]
        layers = [nn.Linear(latent_dim, maps[-1] * frames * bins), nn.Unflatten(1, (maps[-1], frames, bins))]
        for depth in range(len(maps) - 1, 0, -1):
            small, large = sizes[depth], sizes[depth - 1]
            extra = tuple(b - (2 * a - 1) for a, b in zip(small, large, strict=True))  # what the halving rounded off
            layers += [nn.GroupNorm(1, maps[depth]), nn.ReLU()]
            layers += [nn.ConvTranspose2d(maps[depth], maps[depth - 1], 3, stride=2, padding=1, output_padding=extra)]
        super().__init__(*layers)
