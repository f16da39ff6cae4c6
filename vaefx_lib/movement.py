"""How an effect that moves by itself, as a flanger or a rotary speaker does, changes a sound from moment to moment.

Its short-time cepstra tell: a comb that wanders is a peak that wanders, a tremolo is a level that goes up and down.
What effect and settings add to a cepstrum hardly depends on the sound, so that what they add to noise can be looked for
in the cepstra of any reference: a matched filter, over the few hundred cells where the movement shows
most. It has to begin when the effect does; of a reference that was cut out of a longer sound nothing is found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.fft
import scipy.ndimage
from numpy.lib.stride_tricks import sliding_window_view

from vaefx_lib import passages


@dataclass(frozen=True)
class View:
    """Short-time cepstra of one resolution: samples of a window and of a step, windows averaged, quefrencies."""

    window: int
    step: int
    averaged: int
    first: int
    end: int


VIEWS = View(256, 128, 4, 0, 48), View(1024, 512, 1, 1, 511), View(4096, 1024, 1, 1, 2047)
CELLS = 256  # of each view
FLOOR = 1e-6  # of the highest power of a sound
SILENT = 1e-5  # of the loudest window: what is quieter tells nothing
INDEPENDENT = 0.5  # share of the evidence that counts, since windows overlap
BLUR = np.array([0.5, 1.0, 0.5], np.float32)  # over quefrencies


@dataclass(frozen=True, eq=False)
class Spectra:
    """Logarithmic power spectra of a sound in each view, and which windows are not silent."""

    logs: list[np.ndarray]
    sounding: list[np.ndarray]


def spectra(sound: np.ndarray) -> Spectra:
    """Of a mono sound at 24 kHz, shape (samples,), in as many views as it is long enough for."""
    logs, sounding = [], []
    for view in VIEWS:
        if len(sound) < view.window * 2:
            break
        windows = sliding_window_view(np.asarray(sound, np.float32), view.window)[:: view.step]
        bins = scipy.fft.rfft(windows * np.hanning(view.window).astype(np.float32), axis=1)
        power = np.square(bins.real) + np.square(bins.imag)
        whole = len(power) // view.averaged * view.averaged
        log, loud = np.log(power[:whole] + np.float32(FLOOR) * power.max() + 1e-30), power[:whole].sum(axis=1)
        logs.append(log.reshape(-1, view.averaged, log.shape[1]).mean(axis=1))
        sounding.append((loud > SILENT * power.sum(axis=1).max()).reshape(-1, view.averaged).all(axis=1))
    return Spectra(logs, sounding)


def spread(sounds: Sequence[np.ndarray]) -> np.ndarray:
    """Root mean square of the cepstra of dry sounds around their mean over time, float32, (2604,): of all views."""
    squares = []
    for sound in sounds:
        cells = _cells(spectra(sound))
        squares.append(np.concatenate([np.square(c).sum(0) / np.maximum(1, (c != 0).sum(0)) for c in cells]))
    return np.sqrt(np.mean(squares, axis=0) + 1e-12).astype(np.float32)


def added(wet: Spectra, dry: Spectra, deviations: np.ndarray) -> list[np.ndarray]:
    """What an effect adds to the cepstra of a sound, in deviations of dry ones: (windows, quefrencies), each view."""
    logs = [one - other[: len(one)] for one, other in zip(wet.logs, dry.logs)]
    sounding = [mask[: len(one)] for one, mask in zip(wet.logs, dry.sounding)]
    return _scaled(_cells(Spectra(logs, sounding)), deviations)


def strongest(cells: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Where the largest values stand in each view, and these, int32 and float32, (n_views, 256)."""
    at, heights = (np.zeros((len(VIEWS), CELLS), of) for of in (np.int32, np.float32))
    for i, flat in enumerate(map(np.ravel, cells)):
        largest = np.argpartition(-np.abs(flat), CELLS)[:CELLS] if len(flat) > CELLS else np.arange(len(flat))
        at[i, : len(largest)], heights[i, : len(largest)] = largest, flat[largest]
    return at, heights


class Wanted:
    """The short-time cepstra of a reference, in which movements are looked for.

    Parameters
    ----------
    sound : array, shape (samples,)
        At 24 kHz, as long as a passage or shorter.
    deviations : array, shape (2604,)
        Of dry sounds: `spread`.
    """

    def __init__(self, sound: np.ndarray, deviations: np.ndarray):
        cells = _scaled(_cells(spectra(sound)), deviations)
        blurred = [scipy.ndimage.convolve1d(of_view, BLUR, axis=1, mode="constant") for of_view in cells]
        self._flat, self._blurred = ([_whole(*pair) for pair in zip(VIEWS, some)] for some in (cells, blurred))

    def evidence(self, at, heights, shares: Sequence[float] = (1.0,), *, blurred: bool = False) -> np.ndarray:
        """How much likelier the reference is with each movement, at its best size, than without: nats, (n_shares, n).

        The matched filter of white Gaussian noise, to which the reference's own cepstra come near by their deviations.

        Parameters
        ----------
        at, heights : array, shape (n, n_views, 256)
            As `strongest` gives them.
        shares : sequence of float
            Of a passage, from the beginning, that are looked at.
        blurred : bool
            Whether its cepstra are smoothed over quefrencies, where delays need not agree to a sample.

        References
        ----------
        Turin: An introduction to matched filters, IRE Transactions on Information Theory 6, 1960.
        """
        total = np.zeros((len(shares), len(at)))
        for i, flat in enumerate(self._blurred if blurred else self._flat):
            seen = flat[at[:, i]]
            known = np.where(seen != 0, heights[:, i], np.float32(0))
            for j, share in enumerate(shares):
                heard = known if share == 1 else np.where(at[:, i] < share * len(flat), known, np.float32(0))
                found, norm = np.einsum("ij,ij->i", seen, heard), np.einsum("ij,ij->i", heard, heard)
                total[j] += INDEPENDENT / 2 * np.maximum(0, found) ** 2 / (norm + 1e-9)
        return total


def _cells(of: Spectra) -> list[np.ndarray]:
    """Cepstra less their mean over time; 0 where it is silent."""
    cells = []
    for view, log, sounding in zip(VIEWS, of.logs, of.sounding):
        cepstra = scipy.fft.irfft(log, axis=1)[:, view.first : view.end]
        mean = cepstra[sounding].mean(axis=0) if sounding.any() else 0
        cells.append((cepstra - mean) * sounding[:, None])
    return cells


def _whole(view: View, cells: np.ndarray) -> np.ndarray:
    """Flat, and as many as a whole passage has: 0 after its end."""
    windows = ((passages.SAMPLES - view.window) // view.step + 1) // view.averaged
    flat = np.zeros((windows, view.end - view.first), np.float32)
    flat[: len(cells)] = cells[:windows]
    return flat.ravel()


def _scaled(cells, deviations) -> list[np.ndarray]:
    edges = np.cumsum([view.end - view.first for view in VIEWS])[:-1]
    return [one / deviation for one, deviation in zip(cells, np.split(deviations, edges))]
