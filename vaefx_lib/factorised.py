"""The factorised network of the joint VAE: what is said is kept apart from what an effect does to it.

The latent vector has two parts. The *content* part is read from the dry channel alone, a few numbers for each stretch
of time; the *effect* part is read from both channels and knows no time. Dry is rebuilt from content alone, wet from
both: p(dry | content) p(wet | content, effect). What an effect does to sound does not depend on when it happens, so the
decoder applies it as gains over features and as echoes over time. With more channels than two, those whose names begin
with "dry" are dry and all others are wet.

Features are the last axis, so that most layers are one matrix product over all frames of all clips.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NOISE = 0.03  # of the mean power of dry: what it may miss at a frequency before its change tells nothing of the effect


class Residual(nn.Module):
    """x + f(x): a convolution over time in each feature, then a two-layer network in each frame. Starts as f = 0.

    Source: the block of ConvNeXt (Liu et al., A ConvNet for the 2020s, 2022), in one dimension.
    """

    def __init__(self, width: int):
        super().__init__()
        self.over_time = nn.Conv1d(width, width, 5, padding=2, groups=width)
        self.norm = nn.LayerNorm(width)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        nn.init.zeros_(self.down.weight)
        nn.init.zeros_(self.down.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, frames, width), shape in, shape out."""
        seen = self.over_time(x.transpose(1, 2)).transpose(1, 2)
        return x + self.down(F.gelu(self.up(self.norm(seen))))


class Halve(nn.Module):
    """Two frames to one, by a linear layer. If `frames` is odd, it sees three, and each third one twice."""

    def __init__(self, frames: int, narrow: int, wide: int):
        super().__init__()
        self.size = 2 + frames % 2
        self.linear = nn.Linear(self.size * narrow, wide)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, frames, narrow) -> (batch, frames // 2, wide)."""
        return self.linear(x.unfold(1, self.size, 2).transpose(2, 3).flatten(2))


class Double(nn.Module):
    """One frame to two, the mirror image of `Halve`: if `frames` is odd, to three, of which neighbours share one."""

    def __init__(self, frames: int, wide: int, narrow: int):
        super().__init__()
        self.size = 2 + frames % 2
        self.linear = nn.Linear(wide, self.size * narrow)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, frames // 2, wide) -> (batch, frames, narrow)."""
        own = self.linear(x).unflatten(2, (self.size, -1))  # (batch, frames // 2, size, narrow)
        out = own[:, :, :2].flatten(1, 2)
        if self.size == 2:
            return out
        shared = F.pad(own[:, :, 2:], (0, 0, 1, 0)).flatten(1, 2)  # each third one, one frame early
        return F.pad(out, (0, 0, 0, 1)) + F.pad(shared, (0, 0, 1, 0))


class Head(nn.Module):
    """Features of a frame to its spectrum: a + gain x comb, each linear in the features.

    A voice is harmonics under an envelope. The product lets one part of the features say where the harmonics are and
    another how strong the sound is there; a single linear layer needs a direction for each pair of the two.
    """

    def __init__(self, width: int, values: int):
        super().__init__()
        self.sum, self.gain, self.comb = (nn.Linear(width, values) for _ in range(3))
        nn.init.zeros_(self.gain.weight)
        nn.init.zeros_(self.gain.bias)

    def forward(self, features: Tensor) -> Tensor:
        """(batch, frames, width) -> (batch, frames, values)."""
        return torch.addcmul(self.sum(features), self.gain(features), self.comb(features))


class FactorisedEncoder(nn.Module):
    """Content from dry, effect from dry and wet.

    The effect part sees features pooled over time (mean and deviation, as in x-vectors: Snyder et al., 2018), and how
    wet follows dry at every lag, where an echo shows as a peak. `channels` are the numbers of dry and of wet ones.
    """

    def __init__(
        self, frames: list[int], bins: int, channels: tuple[int, int], width: int, content_dim: int, effect_dim: int
    ):
        super().__init__()
        self.dry, more = channels[0], channels[1] - channels[0]  # dry channels, and wet ones that dry has not
        self.frame = nn.Linear(self.dry * bins, width)  # the same for dry and wet
        self.more = nn.Linear(more * bins, width) if more else None
        self.content = nn.Sequential(
            Residual(width),
            Halve(frames[0], width, width),
            Residual(width),
            Halve(frames[1], width, 2 * width),
            Residual(2 * width),
            Halve(frames[2], 2 * width, 2 * width),
            Residual(2 * width),
            nn.Linear(2 * width, 2 * content_dim),
        )
        self.change = nn.Sequential(
            nn.Linear(2 * width, width), Residual(width), Halve(frames[0], width, width), Residual(width)
        )
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
        dry, wet = (self.frame(_frames(x[:, c : c + self.dry])) for c in (0, self.dry))  # (batch, frames, width)
        if self.more is not None:
            wet = wet + self.more(_frames(x[:, 2 * self.dry :]))
        content_mu, content_logvar = self.content(dry).chunk(2, dim=2)  # (batch, steps, content_dim)
        both = torch.cat([dry, wet - dry], dim=2)
        parts = [*pool(both), *pool(self.change(both))], echo_response(x[:, :: self.dry][:, :2])  # of each the first
        seen = torch.cat([norm(torch.cat(part, dim=1)) for norm, part in zip(self.norms, parts, strict=True)], dim=1)
        effect_mu, effect_logvar = self.effect(seen).chunk(2, dim=1)
        mu = torch.cat([content_mu.flatten(1), effect_mu], dim=1)
        return mu, torch.cat([content_logvar.flatten(1), effect_logvar], dim=1)


def _frames(x: Tensor) -> Tensor:
    """(batch, channels, frames, bins) -> (batch, frames, channels * bins)."""
    return x.transpose(1, 2).flatten(2)


def pool(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation over time: (batch, frames, width) -> two of (batch, width)."""
    return features.mean(1), (features.var(1, correction=0) + 1e-6).sqrt()


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
    lags of 0 to frames - 1, which are convolved with 32 features each. `channels` as in `FactorisedEncoder`.
    """

    PATTERNS, ECHOED = 4, 32

    def __init__(
        self, frames: list[int], bins: int, channels: tuple[int, int], width: int, content_dim: int, effect_dim: int
    ):
        super().__init__()
        self.content_dim, self.width, self.frames, self.channels = content_dim, width, frames[0], channels
        self.content_size = content_dim * frames[-1]
        self.content = nn.Sequential(
            nn.Linear(content_dim, 2 * width),
            Residual(2 * width),
            Double(frames[2], 2 * width, 2 * width),
            Residual(2 * width),
            Double(frames[1], 2 * width, width),
            Residual(width),
            Double(frames[0], width, width),
            Residual(width),
        )
        self.effect = nn.Sequential(
            nn.Linear(effect_dim, 256),
            nn.GELU(),
            nn.Linear(256, 256),
            nn.GELU(),
            nn.Linear(256, 4 * width + self.PATTERNS * self.frames),
        )
        self.to_echo = nn.Linear(width, self.PATTERNS * self.ECHOED)
        self.from_echo = nn.Linear(self.PATTERNS * self.ECHOED, width)
        self.first, self.second = Residual(width), Residual(width)
        self.dry, self.wet = (Head(width, count * bins) for count in channels)

    def forward(self, z: Tensor) -> Tensor:
        """(batch, latent_dim) -> (batch, channels, frames, bins)."""
        h = self.content(z[:, : self.content_size].unflatten(1, (-1, self.content_dim)))  # (batch, frames, width)
        film, patterns = self.effect(z[:, self.content_size :]).split([4 * self.width, self.PATTERNS * self.frames], 1)
        gain1, offset1, gain2, offset2 = film.unsqueeze(1).chunk(4, dim=2)
        patterns = patterns.unflatten(1, (self.PATTERNS, self.frames)).repeat_interleave(self.ECHOED, dim=1) / 8
        echoes = convolve(self.to_echo(h).transpose(1, 2), patterns).transpose(1, 2)
        wet = self.first(h * (1 + gain1) + offset1 + self.from_echo(echoes))
        wet = self.second(wet * (1 + gain2) + offset2)
        sides = zip((self.dry(h), self.wet(wet)), self.channels, strict=True)
        return torch.cat([side.unflatten(2, (count, -1)).transpose(1, 2) for side, count in sides], dim=1)


def convolve(signal: Tensor, kernel: Tensor) -> Tensor:
    """Causal convolution over the last axis, both (batch, features, frames), cut to the signal's length."""
    frames = signal.shape[-1]
    product = torch.fft.rfft(signal.float(), n=2 * frames) * torch.fft.rfft(kernel.float(), n=2 * frames)
    return torch.fft.irfft(product, n=2 * frames)[..., :frames]
