"""Audio to the network's input: compressed magnitude spectrograms, and fixed statistics. The way back is `inversion`.

A spectrogram is |X| ** power of a short-time Fourier transform with a fixed Hann window, shape (frames, bins): row t
is centred on sample t * hop_length, column k on k * sample_rate_hz / n_fft Hz. Nothing here is trainable and nothing
depends on the batch. `Statistics`, measured once on the training set, bring each channel to mean 0 and deviation 1.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import scipy.fft

from vaefx_lib import store
from vaefx_lib.audio import AudioError, check
from vaefx_lib.config import Stft

CHANNELS = ("dry", "wet")
FRAMES_AT_ONCE = 16  # so few stay in the cache, and need no fresh memory from the system


def magnitude(audio, stft: Stft) -> np.ndarray:
    """Compressed magnitude spectrogram |X| ** power of each clip.

    Centred frames, zeros beyond both ends, periodic Hann window, no scaling: a sine of amplitude a in the middle of a
    bin gives |X| = a * win_length / 4. Each clip is transformed by itself, so its numbers never depend on the others.

    Parameters
    ----------
    audio : array, shape (..., samples)
        At least `win_length` samples in each clip.
    stft : Stft

    Returns
    -------
    array, float32, shape (..., frames, bins)
        frames = 1 + samples // hop_length, bins = n_fft / 2 + 1.

    Raises
    ------
    AudioError
        If the audio is empty, not finite, or shorter than the window.

    Notes
    -----
    Used in notebook 01. Threads over clips are an order of magnitude faster than one transform of a small batch.
    """
    audio = np.asarray(audio)
    flat = audio.reshape(-1, audio.shape[-1]) if audio.ndim > 2 and audio.size else audio
    flat = check(flat, min_samples=stft.win_length)
    out = np.empty((len(flat), 1 + flat.shape[-1] // stft.hop_length, stft.num_bins), np.float32)
    _each(lambda i: _magnitude(flat[i], stft, out[i]), len(flat))
    return out.reshape(*audio.shape[:-1], *out.shape[1:])


def spectrum(audio, stft: Stft) -> np.ndarray:
    """Complex short-time spectrum of each clip, of which `magnitude` is the absolute value to the power of `power`.

    Parameters
    ----------
    audio : array, shape (samples,) or (clips, samples)
        At least `win_length` samples in each clip.
    stft : Stft

    Returns
    -------
    array, complex64, shape (..., frames, bins)

    Raises
    ------
    AudioError
        If the audio is empty, not finite, or shorter than the window.

    Notes
    -----
    Used by `phase`.
    """
    clips = check(audio, min_samples=stft.win_length)
    X = np.stack([np.concatenate([block for _, block in _blocks(clip, stft)]) for clip in clips])
    return X if np.ndim(audio) == 2 else X[0]


def from_spectrum(X, stft: Stft) -> np.ndarray:
    """The sound of a complex spectrum (frames, bins), float32 of shape ((frames - 1) * hop_length,).

    It undoes `spectrum`; of an X that no sound has, it is the sound whose spectrum is nearest in the least squares.

    Source: Griffin and Lim, Signal estimation from modified short-time Fourier transform (1984).
    """
    import librosa

    lengths = {"hop_length": stft.hop_length, "win_length": stft.win_length, "n_fft": stft.n_fft}
    y = librosa.istft(np.asarray(X).T, length=(len(X) - 1) * stft.hop_length, **lengths)
    return y.astype(np.float32, copy=False)


@dataclass(frozen=True)
class Statistics:
    """Mean and standard deviation over all clips, frames and bins of the training set, one each per channel."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def standardise(self, S) -> np.ndarray:
        """(S - mean) / std as float32; `S` has shape (..., channels, frames, bins)."""
        mean, std = self._per_channel(S)
        return (np.asarray(S, np.float32) - mean) / std

    def restore(self, S) -> np.ndarray:
        """S * std + mean as float32, which undoes `standardise`; `S` has shape (..., channels, frames, bins)."""
        mean, std = self._per_channel(S)
        return np.asarray(S, np.float32) * std + mean

    def to_dict(self) -> dict:
        """For JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, raw: dict) -> Statistics:
        """What `to_dict` gave."""
        return cls(tuple(raw["mean"]), tuple(raw["std"]))

    def _per_channel(self, S):
        shape = np.shape(S)
        if len(shape) < 3 or shape[-3] != len(self.mean):
            raise ValueError(f"spectrograms of shape {shape}: must be (..., {len(self.mean)} channels, frames, bins)")
        return (np.array(v, np.float32)[:, None, None] for v in (self.mean, self.std))


def measure(batches: Iterable) -> Statistics:
    """Mean and standard deviation of each channel over all batches, in one pass in float64.

    Parameters
    ----------
    batches : iterable of arrays, shape (n, channels, frames, bins) or (channels, frames, bins)
        So one array of shape (n, channels, frames, bins) will do as well.

    Raises
    ------
    ValueError
        If there is nothing to measure, a value is not finite, or all values of a channel are the same.
    """
    count, mean, squares = 0, 0.0, 0.0  # squares: sum of squared deviations from the mean, per channel
    for batch in batches:
        for S in batch if np.ndim(batch) == 4 else [batch]:
            x = np.asarray(S).astype(np.float64).reshape(len(S), -1)  # (channels, frames * bins)
            here = x.mean(axis=1)
            x -= here[:, None]
            step, total = here - mean, count + x.shape[1]
            mean = mean + step * x.shape[1] / total  # Chan, Golub and LeVeque, "Updating formulae", 1979
            squares = squares + np.einsum("cn,cn->c", x, x) + step**2 * count * x.shape[1] / total
            count = total
    if not count:
        raise ValueError("no spectrograms to measure: at least one is needed")
    std = np.asarray(np.sqrt(squares / count))
    if not (np.isfinite(std).all() and std.all()):
        raise ValueError(f"the standard deviation of the channels is {std.tolist()}: it must be finite and above 0")
    return Statistics(tuple(np.asarray(mean).tolist()), tuple(std.tolist()))


def pairs(
    dataset,
    stft: Stft,
    *,
    indices: Sequence[int] | None = None,
    statistics: Statistics | None = None,
    dtype=np.float16,
    scratch: str | Path | None = None,
    representation=None,
) -> np.ndarray:
    """Spectrograms of dry/wet pairs in one array, filled in place by all processors.

    Parameters
    ----------
    dataset : rendering.Dataset
        `dataset[i]` is one pair, shape (2, samples), or (2, channels, samples), of which the mean over the channels is
        taken; `dataset.sample_rate_hz` must be that of `stft`.
    stft : Stft
    indices : sequence of int, optional
        Which pairs; all by default.
    statistics : Statistics, optional
        Standardise with these; as they are by default.
    dtype : numpy type
        float16 halves the memory; its error is 0.05 % of each value.
    scratch : path, optional
        A folder with room for the array, which then need not fit into memory (`store.scratch`).
    representation : phase.Representation, optional
        Other channels than the strengths of dry and wet.

    Returns
    -------
    array of `dtype`, shape (n, 2, frames, bins), or (n, channels of the representation, frames, bins)

    Raises
    ------
    ValueError
        If the sample rates differ.
    AudioError
        If a pair does not have the length that `stft` asks for, or is not finite.
    OSError
        If there is no room in `scratch`.
    """
    if dataset.sample_rate_hz != stft.sample_rate_hz:
        raise ValueError(
            f"the pairs are at {dataset.sample_rate_hz} Hz: the spectrogram needs {stft.sample_rate_hz} Hz"
        )
    indices = range(len(dataset)) if indices is None else indices
    channels = CHANNELS if representation is None else representation.channels
    shape = (len(indices), len(channels), stft.num_frames, stft.num_bins)
    out = np.empty(shape, dtype) if scratch is None else store.scratch(scratch, shape, dtype)

    def fill(row: int) -> None:
        pair = dataset[indices[row]]
        pair = pair.mean(axis=1) if pair.ndim == 3 else pair
        pair = check(pair, min_samples=stft.win_length, name=f"pair {indices[row]}")
        if pair.shape != (len(CHANNELS), stft.num_samples):
            raise AudioError(
                f"pair {indices[row]} has shape {pair.shape}: it must be ({len(CHANNELS)}, {stft.num_samples})"
            )
        if representation is None:
            S = np.empty(out.shape[1:], np.float32)
            for clip, frames in zip(pair, S, strict=True):
                _magnitude(clip, stft, frames)
        else:
            S = representation.analyse(pair, stft)
        out[row] = S if statistics is None else statistics.standardise(S)

    _each(fill, len(indices))
    return out


def _magnitude(clip: np.ndarray, stft: Stft, out: np.ndarray) -> None:
    """Write the spectrogram of one checked clip, shape (samples,), into `out`, shape (frames, bins)."""
    for start, X in _blocks(clip, stft):
        part = out[start : start + len(X)]
        np.power(np.abs(X, out=part), np.float32(stft.power), out=part)


def _blocks(clip: np.ndarray, stft: Stft):
    """Complex spectra of some frames of one checked clip at a time: the first frame's number, and (frames, bins)."""
    padded, window = np.pad(clip, stft.n_fft // 2), _window(stft)
    frames = np.lib.stride_tricks.sliding_window_view(padded, stft.n_fft)[:: stft.hop_length]  # (frames, n_fft)
    for start in range(0, len(frames), FRAMES_AT_ONCE):
        yield start, scipy.fft.rfft(frames[start : start + FRAMES_AT_ONCE] * window, overwrite_x=True)


def _window(stft: Stft) -> np.ndarray:
    """The periodic Hann window in the middle of `n_fft` samples, float32."""
    window = np.zeros(stft.n_fft, np.float32)
    left = (stft.n_fft - stft.win_length) // 2
    window[left : left + stft.win_length] = np.hanning(stft.win_length + 1)[:-1]
    return window


def _each(work, count: int) -> None:
    """Call `work(0)` ... `work(count - 1)` on as many threads as processors; the first error is raised."""
    threads = min(count, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    if threads <= 1:
        for i in range(count):
            work(i)
        return
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(work, range(count)):
            pass
