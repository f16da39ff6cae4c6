"""What a network may see of a pair besides strength: four representations of dry and wet, and the way back to sound.

A complex spectrum X has a strength |X| and a phase. Dry and wet have the spectra D and W; p is `Stft.power`.

- `magnitude`, the default: |D|^p and |W|^p. A sound needs a phase from elsewhere, such as that of the dry clip.
- `wrapped`, as in the Week 5 report: the strengths and the angles of D and W. The angles are noise: near the centre of
  a partial they advance by its frequency in every frame, and they jump at pi.
- `complex`: |X|^p times cosine and sine of the angle, for D and W. Nothing jumps, but any shift in time turns it all.
- `relative`: the strengths, and |W|^p times cosine and sine of the angle from D to W: what the effect does to phase.

Why the relative phase is smooth: for an effect that is nearly a filter, W = H D, it is the phase of H, in every frame
and for every word the same. And the phase of the dry clip, which is at hand wherever a wet sound is wanted, need not go
through the network at all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from vaefx_lib import spectrogram
from vaefx_lib.audio import AudioError, check
from vaefx_lib.config import Stft


@dataclass(frozen=True)
class Representation:
    """One way to show a pair of clips to a network.

    Attributes
    ----------
    name : str
    channels : tuple of str
        Those that describe the dry clip alone have names that begin with "dry".
    needs_dry : bool
        Whether sound can be had with the phase of the dry clip only.
    forward : function
        (D, W, p), spectra of shape (frames, bins), -> an array of shape (frames, bins) per channel.
    inverse : function
        (channels, each of shape (frames, bins), phasors of the dry clip or None) -> strengths |X| ** p of dry and wet,
        and their phasors.
    """

    name: str
    channels: tuple[str, ...]
    needs_dry: bool
    forward: Callable
    inverse: Callable

    def analyse(self, pair, stft: Stft) -> np.ndarray:
        """What the network sees of a pair of clips.

        Parameters
        ----------
        pair : array, shape (2, samples)
            Dry and wet, at least `win_length` samples each.
        stft : Stft

        Returns
        -------
        array, float32, shape (channels, frames, bins)
            Angles are in rad, in (-pi, pi]; all else is |X| ** power, times a cosine or sine where the name says so.

        Raises
        ------
        AudioError
            If the pair does not consist of two clips that are long enough and finite.

        Used in `07_loss_and_phase`.
        """
        pair = check(pair, min_samples=stft.win_length, name="the pair")
        if len(pair) != 2:
            raise AudioError(f"the pair has {len(pair)} clips: it must have 2, dry and wet")
        D, W = spectrogram.spectrum(pair, stft)
        return np.stack(self.forward(D, W, stft.power)).astype(np.float32, copy=False)

    def synthesise(self, S, stft: Stft, *, dry=None) -> np.ndarray:
        """The sound of what `analyse` gave, or a network in its manner.

        Parameters
        ----------
        S : array, shape (channels, frames, bins)
            As `analyse` gives it, not standardised. Strengths below 0 count as 0.
        stft : Stft
        dry : array, shape (samples,), optional
            The dry clip, whose phase is taken if the representation `needs_dry`; else it has no influence.

        Returns
        -------
        array, float32, shape (2, samples)
            Dry and wet.

        Raises
        ------
        ValueError
            If the shape is another, a value is not finite, or `dry` is needed and absent or of another length.

        Used in `07_loss_and_phase`.
        """
        return np.stack([spectrogram.from_spectrum(X, stft) for X in self._spectra(S, stft, dry)])

    def transfer(self, S, stft: Stft, *, dry) -> np.ndarray:
        """The dry clip itself with the change from dry to wet that S tells of: nothing else of S is heard.

        In every bin the strength |X| ** power rises by as much as it does from the dry to the wet of S, and the phase
        turns by as much. So what a network gets wrong in both alike, such as a voice that it blurs, does no harm.

        Parameters
        ----------
        S : array, shape (channels, frames, bins)
            As for `synthesise`.
        stft : Stft
        dry : array, shape (samples,)
            The dry clip.

        Returns
        -------
        array, float32, shape (samples,)
            The wet sound.

        Raises
        ------
        ValueError
            As `synthesise` does.

        Used in `07_loss_and_phase`.
        """
        S, D = self._checked(S, stft, dry)
        (dry_strength, wet_strength), (dry_phasor, wet_phasor) = self.inverse(S, unit(D))
        strength = _strength(D, stft.power) + np.maximum(wet_strength, 0) - np.maximum(dry_strength, 0)
        return spectrogram.from_spectrum(_linear(strength, stft.power) * unit(D) * wet_phasor * dry_phasor.conj(), stft)

    def _spectra(self, S, stft: Stft, dry) -> list[np.ndarray]:
        """Complex spectra of dry and wet."""
        if self.needs_dry and dry is None:
            raise ValueError(f"the representation {self.name} needs the dry clip: its phase makes the sound")
        S, D = self._checked(S, stft, dry if self.needs_dry else None)
        return [_linear(s, stft.power) * u for s, u in zip(*self.inverse(S, None if D is None else unit(D)))]

    def _checked(self, S, stft: Stft, dry) -> tuple[np.ndarray, np.ndarray | None]:
        """S as float32, and the spectrum of the dry clip if there is one."""
        S = np.asarray(S, np.float32)
        if S.ndim != 3 or len(S) != len(self.channels) or S.shape[2] != stft.num_bins:
            raise ValueError(
                f"a spectrogram of shape {S.shape}: {self.name} needs ({len(self.channels)} channels, frames, "
                f"{stft.num_bins} bins)"
            )
        if not np.isfinite(S).all():
            raise ValueError(f"the spectrogram of representation {self.name} holds NaN or infinity: all must be finite")
        if dry is None:
            return S, None
        D = spectrogram.spectrum(np.asarray(dry), stft)
        if D.shape != S.shape[1:]:
            raise ValueError(f"the dry clip gives (frames, bins) {D.shape}: the spectrogram has {S.shape[1:]}")
        return S, D


def unit(X) -> np.ndarray:
    """X / |X|, complex64, and 1 where X is 0: the phase alone."""
    X = np.asarray(X, np.complex64)
    size = np.abs(X)
    return np.where(size > 0, X / np.where(size > 0, size, 1), np.complex64(1))


def of(inputs: tuple[str, ...]) -> Representation:
    """The representation that holds the channels of `config.Vae.inputs`.

    Raises
    ------
    ValueError
        If they are neither all channels of a representation, nor neighbours among those of `magnitude`.
    """
    allowed = [spectrogram.CHANNELS[i:j] for j in (1, 2) for i in range(j)]
    for representation in REPRESENTATIONS.values():
        if inputs == representation.channels or (inputs in allowed and representation.name == "magnitude"):
            return representation
    known = [*allowed, *(r.channels for r in REPRESENTATIONS.values() if r.name != "magnitude")]
    raise ValueError(f"vae.inputs is {inputs}: it must be one of {', '.join(map(str, known))}")


def _strength(X, p: float) -> np.ndarray:
    return np.abs(X) ** np.float32(p)


def _linear(S, p: float) -> np.ndarray:
    return np.maximum(S, 0) ** np.float32(1 / p)


def _magnitude(D, W, p):
    return _strength(D, p), _strength(W, p)


def _from_magnitude(S, dry_phasor):
    return S, (dry_phasor, dry_phasor)


def _wrapped(D, W, p):
    return _strength(D, p), np.angle(D), _strength(W, p), np.angle(W)


def _from_wrapped(S, _dry_phasor):
    return S[::2], np.exp(1j * S[1::2])


def _complex(D, W, p):
    D, W = (_strength(X, p) * unit(X) for X in (D, W))
    return D.real, D.imag, W.real, W.imag


def _from_complex(S, _dry_phasor):
    X = S[::2] + 1j * S[1::2]
    return np.abs(X), unit(X)


def _relative(D, W, p):
    turned = _strength(W, p) * unit(W) * unit(D).conj()
    return _strength(D, p), _strength(W, p), turned.real, turned.imag


def _from_relative(S, dry_phasor):
    return S[:2], (dry_phasor, dry_phasor * unit(S[2] + 1j * S[3]))


REPRESENTATIONS = {
    r.name: r
    for r in (
        Representation("magnitude", spectrogram.CHANNELS, True, _magnitude, _from_magnitude),
        Representation("wrapped", ("dry", "dry_angle", "wet", "wet_angle"), False, _wrapped, _from_wrapped),
        Representation("complex", ("dry_cos", "dry_sin", "wet_cos", "wet_sin"), False, _complex, _from_complex),
        Representation("relative", ("dry", "wet", "wet_turn_cos", "wet_turn_sin"), True, _relative, _from_relative),
    )
}
