"""Audio to the network's input: compressed magnitude spectrograms. The way back is `inversion`.

A spectrogram is |X| ** power of a short-time Fourier transform with a fixed Hann window, shape (frames, bins): row t
is centred on sample t * hop_length, column k on k * sample_rate_hz / n_fft Hz. Nothing here is trainable and nothing
depends on the batch; `standardisation` brings each channel to mean 0 and deviation 1.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import scipy.fft

from vaefx_lib import store
from vaefx_lib.audio import AudioError, check
from vaefx_lib.config import Stft
from vaefx_lib.standardisation import Statistics

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
