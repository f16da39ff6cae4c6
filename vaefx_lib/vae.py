"""The joint spectrogram VAE: networks and the terms of its loss. Torch and nothing else.

A spectrogram pair `x`, shape (batch, channels, frames, bins), standardised, channels dry and wet, becomes a latent
vector `z` and is rebuilt from it. Two architectures:

- `conv2d`: plain strided convolutions over the stacked channels, as in the Week 5 report and the paper.
- `factorised`: the latent vector has two parts. The *content* part is read from the dry channel alone, a few numbers
  for each stretch of time; the *effect* part is read from both channels and knows no time. Dry is rebuilt from content
  alone, wet from both: p(dry | content) p(wet | content, effect). What an effect does to sound does not depend on
  when it happens, so the decoder applies it as gains over features and as echoes over time.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vaefx_lib.config import Vae

ARCHITECTURES = ("conv2d", "factorised")
NOISE = (
    0.03  # of the mean power of dry: what it may miss at a frequency of change before that says nothing of the effect
)


def reparameterize(mu: Tensor, logvar: Tensor, *, sample: bool) -> Tensor:
    """A draw from N(mu, exp(logvar)) that gradients pass through, or `mu` itself.

    Source: Kingma and Welling, Auto-Encoding Variational Bayes (2014), section 2.4.

    Parameters
    ----------
    mu, logvar : Tensor, shape (batch, latent_dim)
    sample : bool
        True in training; False gives `mu`.
    """
    return mu + torch.randn_like(mu) * torch.exp(0.5 * logvar) if sample else mu


def kl_per_dimension(mu: Tensor, logvar: Tensor) -> Tensor:
    """KL divergence of N(mu, exp(logvar)) from N(0, 1), mean over the batch, in nats, shape (latent_dim,).

    Source: Kingma and Welling (2014), appendix B.
    """
    return 0.5 * (mu**2 + logvar.exp() - 1 - logvar).mean(0)


def reconstruction_error(x: Tensor, x_hat: Tensor) -> Tensor:
    """Sum of squared errors over channels, frames and bins, mean over the batch (a scalar).

    With `beta` = 2 x variance of the error of one bin, this plus beta x KL is the negative ELBO up to a constant.
    """
    return (x_hat - x).square().sum() / len(x)


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

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Reconstruction (shape of `x`), mu and logvar (batch, latent_dim); samples z in training mode only."""
        mu, logvar = self.encode(x)
        return self.decode(reparameterize(mu, logvar, sample=self.training)), mu, logvar


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
            sizes.append(tuple((n + 1) // 2 for n in sizes[-1]))
        maps = (len(vae.inputs), *vae.channels)
        return JointVae(ConvEncoder(maps, sizes[-1], vae.latent_dim), ConvDecoder(maps, sizes, vae.latent_dim))
    if vae.inputs != ("dry", "wet"):
        raise ValueError(f"inputs of the factorised network are {vae.inputs}: they must be ('dry', 'wet')")
    frames = [num_frames]
    for _ in range(3):
        frames.append(frames[-1] // 2)
    content_dim, rest = divmod(vae.latent_dim - vae.effect_dim, max(1, frames[-1]))
    if frames[-1] < 1 or content_dim < 1 or rest or vae.effect_dim < 1:
        raise ValueError(
            f"latent_dim {vae.latent_dim} less effect_dim {vae.effect_dim} (at least 1) must be a positive multiple of "
            f"the {frames[-1]} steps of {num_frames} frames (at least 8 frames)"
        )
    args = (frames, num_bins, vae.width, content_dim, vae.effect_dim)
    return JointVae(FactorisedEncoder(*args), FactorisedDecoder(*args))


# --- conv2d -----------------------------------------------------------------------------------------------------------
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


# --- factorised -------------------------------------------------------------------------------------------------------
class Residual(nn.Module):
    """x + f(x): a convolution over time in each feature, then a two-layer network in each frame. (batch, width, t)"""

    def __init__(self, width: int):
        super().__init__()
        self.branch = nn.Sequential(
            nn.Conv1d(width, width, 5, padding=2, groups=width),
            nn.GroupNorm(1, width),
            nn.Conv1d(width, 2 * width, 1),
            nn.GELU(),
            zero_(nn.Conv1d(2 * width, width, 1)),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Shape in, shape out."""
        return x + self.branch(x)


class Smooth(nn.Module):
    """x + f(x) with a single convolution: half the work of `Residual`, for the longest sequences."""

    def __init__(self, width: int):
        super().__init__()
        self.branch = nn.Sequential(nn.GroupNorm(1, width), nn.GELU(), zero_(nn.Conv1d(width, width, 3, padding=1)))

    def forward(self, x: Tensor) -> Tensor:
        """Shape in, shape out."""
        return x + self.branch(x)


def zero_(layer: nn.Conv1d) -> nn.Conv1d:
    """The layer with weights and bias 0: a residual block that starts as the identity."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


class FactorisedEncoder(nn.Module):
    """Content from dry, effect from dry and wet.

    The effect part sees features pooled over time (mean and deviation, as in x-vectors: Snyder et al., 2018), and how
    wet follows dry at every lag, where an echo shows as a peak.
    """

    def __init__(self, frames: list[int], bins: int, width: int, content_dim: int, effect_dim: int):
        super().__init__()
        self.frame = nn.Conv1d(bins, width, 1)  # the same for both channels
        self.content = nn.Sequential(
            Smooth(width),
            nn.Conv1d(width, width, 4, stride=2, padding=1),
            Residual(width),
            nn.Conv1d(width, 2 * width, 4, stride=2, padding=1),
            Residual(2 * width),
            nn.Conv1d(2 * width, 2 * width, 4, stride=2, padding=1),
            Residual(2 * width),
            nn.Conv1d(2 * width, 2 * content_dim, 1),
        )
        self.change = nn.Sequential(nn.Conv1d(2 * width, width, 4, stride=2, padding=1), nn.GELU(), Residual(width))
        self.norms = nn.ModuleList([nn.LayerNorm(6 * width), nn.LayerNorm(3 * frames[0])])
        self.effect = nn.Sequential(
            nn.Linear(6 * width + 3 * frames[0], 256),
            nn.GELU(),
            nn.Linear(256, 256),
            nn.GELU(),
            nn.Linear(256, 2 * effect_dim),
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mu and logvar, each (batch, latent_dim): content first, then effect."""
        dry, wet = (self.frame(x[:, c].transpose(1, 2)) for c in (0, 1))  # (batch, width, frames)
        content_mu, content_logvar = self.content(dry).chunk(2, dim=1)  # (batch, content_dim, steps)
        both = torch.cat([dry, wet - dry], dim=1)
        parts = [*pool(both), *pool(self.change(both))], echo_response(x)
        seen = torch.cat([norm(torch.cat(part, dim=1)) for norm, part in zip(self.norms, parts, strict=True)], dim=1)
        effect_mu, effect_logvar = self.effect(seen).chunk(2, dim=1)
        mu = torch.cat([content_mu.flatten(1), effect_mu], dim=1)
        return mu, torch.cat([content_logvar.flatten(1), effect_logvar], dim=1)


def pool(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation over time: (batch, width, t) -> two of (batch, width)."""
    return features.mean(2), (features.var(2, correction=0) + 1e-6).sqrt()


def echo_response(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """How wet follows dry, at lags of 0, 1, ... frames, with no word of what is said.

    From the spectrograms in at most 64 bands, as deviations from each band's mean over time. All bands share one
    response, that which turns dry into wet with the least squared error: an echo is a peak at its lag (Wiener
    deconvolution).

    Parameters
    ----------
    x : Tensor, shape (batch, 2, frames, bins)

    Returns
    -------
    response, cross, auto : Tensor, shape (batch, frames)
        The response; the correlation of dry with wet; that of dry with itself. Correlations lie in [-1, 1].
    """
    frames = x.shape[2]
    bands = F.adaptive_avg_pool2d(x, (frames, min(64, x.shape[3])))
    spectra = torch.fft.rfft(bands - bands.mean(2, keepdim=True), n=2 * frames, dim=2)  # zeros behind: no wrapping
    dry, wet = spectra.unbind(1)  # (batch, frequencies of change, bands)
    cross = (dry.conj() * wet).sum(2)
    dry_power, wet_power = (part.abs().square().sum(2) for part in (dry, wet))
    energy, wet_energy = (torch.fft.irfft(power, n=2 * frames)[:, :1] + 1e-6 for power in (dry_power, wet_power))
    ratios = cross / (dry_power + NOISE * energy), cross / (energy * wet_energy).sqrt(), dry_power / energy
    return tuple(torch.fft.irfft(ratio, n=2 * frames)[:, :frames] for ratio in ratios)


class FactorisedDecoder(nn.Module):
    """Dry from content; wet from the same features with the effect's gains and echoes.

    The effect part sets a gain and an offset for each feature (FiLM: Perez et al., 2018), and four echo patterns over
    lags of 0 to frames - 1, which are convolved with 32 features each.
    """

    PATTERNS, ECHOED = 4, 32

    def __init__(self, frames: list[int], bins: int, width: int, content_dim: int, effect_dim: int):
        super().__init__()
        self.content_dim, self.width, self.frames = content_dim, width, frames[0]
        self.content_size = content_dim * frames[-1]

        def double(wide: int, narrow: int, depth: int) -> nn.ConvTranspose1d:
            extra = frames[depth - 1] - 2 * frames[depth]  # the frame that halving rounded off
            return nn.ConvTranspose1d(wide, narrow, 4, stride=2, padding=1, output_padding=extra)

        self.content = nn.Sequential(
            nn.Conv1d(content_dim, 2 * width, 1),
            Residual(2 * width),
            double(2 * width, 2 * width, 3),
            Residual(2 * width),
            double(2 * width, width, 2),
            Residual(width),
            double(width, width, 1),
            Smooth(width),
        )
        self.dry = nn.Conv1d(width, bins, 1)
        self.effect = nn.Sequential(
            nn.Linear(effect_dim, 256), nn.GELU(), nn.Linear(256, 4 * width + self.PATTERNS * self.frames)
        )
        self.to_echo = nn.Conv1d(width, self.PATTERNS * self.ECHOED, 1)
        self.from_echo = nn.Conv1d(self.PATTERNS * self.ECHOED, width, 1)
        self.first, self.second = Residual(width), Smooth(width)
        self.wet = nn.Conv1d(width, bins, 1)

    def forward(self, z: Tensor) -> Tensor:
        """(batch, latent_dim) -> (batch, 2, frames, bins)."""
        h = self.content(z[:, : self.content_size].unflatten(1, (self.content_dim, -1)))  # (batch, width, frames)
        film, patterns = self.effect(z[:, self.content_size :]).split([4 * self.width, self.PATTERNS * self.frames], 1)
        gain1, offset1, gain2, offset2 = film.unsqueeze(2).chunk(4, dim=1)
        patterns = patterns.unflatten(1, (self.PATTERNS, self.frames)).repeat_interleave(self.ECHOED, dim=1) / 8
        wet = self.first(h * (1 + gain1) + offset1 + self.from_echo(convolve(self.to_echo(h), patterns)))
        wet = self.second(wet * (1 + gain2) + offset2)
        return torch.stack([self.dry(h), self.wet(wet)], dim=1).transpose(2, 3)


def convolve(signal: Tensor, kernel: Tensor) -> Tensor:
    """Causal convolution over the last axis, both (batch, features, frames), cut to the signal's length."""
    frames = signal.shape[-1]
    product = torch.fft.rfft(signal.float(), n=2 * frames) * torch.fft.rfft(kernel.float(), n=2 * frames)
    return torch.fft.irfft(product, n=2 * frames)[..., :frames]
