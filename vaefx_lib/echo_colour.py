"""Which colour echoes have: how strong each is in every band of frequency.

Of an echo that is filtered, and returns the weaker the more often it comes, `echo_profile` shows little but the place.
Here the places are given, and the echoes there are measured in bands: what a filter took of them, and how much is left
of their own echoes.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy.fft

from vaefx_lib import echo_peaks, passages
from vaefx_lib.echo_profile import LEAST, LENGTH, LONGEST, Whitened

MOST = 12  # echoes that are measured
BLOCKS = 2_048  # of 80 samples: of what echoes are measured on, beside which the level is smooth
EDGES_HZ = np.array([80, 500, 1_200, 2_400, 4_000, 6_500, 11_500])  # of the bands


def lags(profile: np.ndarray) -> np.ndarray:
    """Where the strongest echoes of a profile are, in samples, the strongest first: at most 12, and maybe none.

    Parameters
    ----------
    profile : array, shape (68001,)
        As `echo_profile.measure` gives it.
    """
    at = echo_peaks.strongest(profile, MOST)
    return at[profile[at] != 0] - LONGEST


class Ear:
    """The colour of echoes at some lags, as a function of a whitened sound.

    Parameters
    ----------
    lags : array of int, shape (n,)
        In samples at 24 kHz, from -34000 to 34000 but not 0; negative for pre-echoes.
    """

    def __init__(self, lags: np.ndarray):
        self.lags = np.asarray(lags, int)
        self.edges = np.rint(EDGES_HZ * LENGTH / passages.RATE_HZ).astype(int)  # bins of the cross-spectrum
        turn = 2j * np.pi / LENGTH * np.arange(self.edges[0], self.edges[-1])  # of a sample's delay, in each bin
        self.waves = np.exp(turn * self.lags[:, None]).astype(np.complex64)  # (n, bins)

    def __call__(self, sound: Whitened) -> np.ndarray:
        """How strong the echo at each lag is in each band, beside what it is an echo of: float32, (n, 6).

        Samples weigh as in `echo_profile.measure`.
        """
        blocks = np.arange(BLOCKS)
        level = np.add.reduceat(np.pad(sound.weights, (0, LENGTH - len(sound.weights))), blocks * LENGTH // BLOCKS)
        later = np.rint(self.lags * BLOCKS / LENGTH).astype(int)
        weights = level[(blocks + later[:, None]) % BLOCKS] * (BLOCKS / LENGTH)  # (n, BLOCKS)
        found = np.zeros((len(self.lags), len(EDGES_HZ) - 1), np.float32)
        for band, (low, high) in enumerate(zip(self.edges, self.edges[1:])):
            own, waves = sound.spectrum[low:high], self.waves[:, low - self.edges[0] : high - self.edges[0]]
            explained = (waves @ (sound.weighted[low:high] * np.conj(own))).real
            envelope = scipy.fft.ifft(own, scipy.fft.next_fast_len(len(own)))
            power = np.square(envelope.real) + np.square(envelope.imag)
            power = np.add.reduceat(power, blocks * len(power) // BLOCKS) * len(power)
            found[:, band] = explained / (weights @ power + LEAST * power.sum() * sound.weights.mean())
        return found


def unlike(wanted: np.ndarray) -> Callable[[np.ndarray], float]:
    """How unlike the echoes of another sound are, as a function of what an `Ear` says of it.

    0 for the same, 1 for none, 2 for the same upside down; always 0 if there are no lags.
    """

    def compare(other: np.ndarray) -> float:
        most = np.maximum(np.abs(wanted), np.abs(other)).sum()
        return float(np.abs(wanted - other).sum() / most) if most else 0.0

    return compare
