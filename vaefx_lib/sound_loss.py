"""A loss of sound that is quick to compute, in many threads, and has no gradient: `blackbox` needs none."""

from __future__ import annotations

import math
from collections.abc import Callable

import numba
import numpy as np
import scipy.fft

from vaefx_lib import audio

RESOLUTIONS = ((1024, 120, 600), (2048, 240, 1200), (512, 50, 240))  # n_fft, hop_length, win_length; as auraloss's
LEAST_POWER = np.float32(1e-8)  # of a bin of a spectrum: what is below counts as this, so that its logarithm is finite
SHORTEST = 2048  # samples: the longest transform
BLOCK = 2**15  # samples of frames that are transformed at once: they stay in the cache


def to_target(target: np.ndarray, *, l1: float = 1.0) -> Callable[[np.ndarray], float]:
    """Multi-resolution STFT distance from a target plus the mean absolute error of the samples, for many predictions.

    The spectra of the target are computed once. The distance is `metrics.mrstft`, without its gradient and without
    torch, in a tenth of the time and little memory; phase counts in the mean absolute error alone.

    Parameters
    ----------
    target : array, shape (samples,)
        At least 2,048 samples.
    l1 : float
        Weight of the mean absolute error.

    Returns
    -------
    callable
        From a sound, shape (samples,), to the loss: exactly 0 for the target, large and finite for silence.

    Raises
    ------
    AudioError
        If the target is empty, not finite or too short.
    ValueError
        If it is silent, from which every distance is huge; from the callable, if a sound has another shape.

    References
    ----------
    Yamamoto, Song, Kim: Parallel WaveGAN, ICASSP 2020, equations 3 to 6; windows as in auraloss (Steinmetz and Reiss,
    2020).

    Used in `05_controller_training`.
    """
    if np.ndim(target) != 1:
        raise ValueError(f"the target has the shape {np.shape(target)}: it must be (samples,)")
    target = audio.check(target, min_samples=SHORTEST, name="the target")[0]
    if audio.is_silent(target):
        raise ValueError("the target is silent: from silence every distance is huge")
    spectra = [magnitudes(target, *resolution) for resolution in RESOLUTIONS]
    norms = [float(np.einsum("ij,ij->i", true, true).sum(dtype=np.float64)) for true in spectra]

    def loss(sound: np.ndarray) -> float:
        if np.shape(sound) != target.shape:
            raise ValueError(f"the sound has the shape {np.shape(sound)}: it must be that of the target {target.shape}")
        sound = np.asarray(sound, np.float32)
        total = 0.0
        for resolution, true, norm in zip(RESOLUTIONS, spectra, norms, strict=True):
            squares = logarithms = 0.0
            for start, count, z in _transformed(sound, *resolution):
                ratios = np.empty((count, true.shape[1] // 4 + 1), np.float32)
                squares += _compare(z, LEAST_POWER, true[start : start + count], ratios)
                logarithms += float(np.log(ratios, out=ratios).sum())
            total += math.sqrt(squares / norm) + logarithms / true.size
        return total / len(RESOLUTIONS) + l1 * float(np.abs(sound - target).mean())

    return loss


def compiled(**options) -> Callable:
    """A decorator: compiled at the first call, without the GIL; kept on disk where that can be written."""

    def decorate(loop: Callable) -> Callable:
        try:
            return numba.njit(cache=True, nogil=True, **options)(loop)
        except RuntimeError:
            return numba.njit(nogil=True, **options)(loop)

    return decorate


@compiled()
def _pack(padded, first, hop_length, window, out):
    """Two neighbouring windowed frames as real and imaginary parts of each row of `out`, float32 (rows, 2 * n_fft)."""
    for row in range(out.shape[0]):
        one = padded[first + 2 * row * hop_length :]
        two, both = one[hop_length:], out[row]
        for n in range(window.size):
            both[2 * n] = window[n] * one[n]
            both[2 * n + 1] = window[n] * two[n]
        both[2 * window.size :] = 0


@compiled()
def _unpack(z, least_power, first, second):
    """Magnitudes (bins,) of the two real frames of which `z`, float32 (2 * n_fft,), is the transform."""
    n = np.uint64(z.size)  # unsigned: an index that may be below 0 cannot be computed eight at once
    first[0] = math.sqrt(max(z[0] * z[0], least_power))
    second[0] = math.sqrt(max(z[1] * z[1], least_power))
    for k in range(np.uint64(1), np.uint64(first.size)):
        twice = k + k
        a, b, c, d = z[twice], z[twice + np.uint64(1)], z[n - twice], z[n - twice + np.uint64(1)]
        real, imaginary = a + c, b - d
        first[k] = math.sqrt(max(np.float32(0.25) * (real * real + imaginary * imaginary), least_power))
        real, imaginary = b + d, a - c
        second[k] = math.sqrt(max(np.float32(0.25) * (real * real + imaginary * imaginary), least_power))


@compiled()
def _magnitudes(z, least_power, out):
    """Magnitudes of all frames in `z`, float32 (rows, 2 * n_fft), into `out`, float32 (frames, bins)."""
    spare = np.empty(out.shape[1], np.float32)  # where an odd number of frames leaves one over
    for row in range(z.shape[0]):
        second = out[2 * row + 1] if 2 * row + 1 < out.shape[0] else spare
        _unpack(z[row], least_power, out[2 * row], second)


@compiled(fastmath={"reassoc", "nsz"}, error_model="numpy")  # sums in any order and no look at divisors: eight at once
def _compare(z, least_power, true, ratios):
    """Sum of squared differences from `true`, float32 (frames, bins), of the magnitudes of the frames in `z`.

    Into `ratios`, float32 (frames, bins // 4 + 1), go products of four max/min, so that four bins share a logarithm.
    """
    bins = true.shape[1]  # a multiple of four, plus one
    quarter, total = bins // 4, 0.0
    both = np.empty((2, bins), np.float32)
    for row in range(z.shape[0]):
        _unpack(z[row], least_power, both[0], both[1])
        for half in range(min(2, true.shape[0] - 2 * row)):
            a, b, out = true[2 * row + half], both[half], ratios[2 * row + half]
            a0, a1, a2, a3 = a[:quarter], a[quarter : 2 * quarter], a[2 * quarter : 3 * quarter], a[3 * quarter :]
            b0, b1, b2, b3 = b[:quarter], b[quarter : 2 * quarter], b[2 * quarter : 3 * quarter], b[3 * quarter :]
            last = a3[quarter] - b3[quarter]
            squares = last * last
            out[quarter] = max(a3[quarter], b3[quarter]) / min(a3[quarter], b3[quarter])
            for k in range(quarter):
                d0, d1, d2, d3 = a0[k] - b0[k], a1[k] - b1[k], a2[k] - b2[k], a3[k] - b3[k]
                squares += d0 * d0 + d1 * d1 + d2 * d2 + d3 * d3
                above = max(a0[k], b0[k]) * max(a1[k], b1[k]) * max(a2[k], b2[k]) * max(a3[k], b3[k])
                out[k] = above / (min(a0[k], b0[k]) * min(a1[k], b1[k]) * min(a2[k], b2[k]) * min(a3[k], b3[k]))
            total += squares
    return total


def _transformed(sound: np.ndarray, n_fft: int, hop_length: int, win_length: int):
    """Frames of a sound, transformed: the first one's number, how many, and float32 (rows, 2 * n_fft), two in a row.

    Frames are those of `torch.stft`, but the window stands at the beginning of its frame and not in the middle, which
    turns the phase alone. The last array is overwritten when the next one is asked for.
    """
    window = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(win_length) / win_length)).astype(np.float32)
    half, spare = win_length // 2, np.zeros(hop_length, np.float32)  # room for one frame too many
    padded = np.concatenate([sound[half:0:-1], sound, sound[-2 : -half - 2 : -1], spare])  # reflected at both ends
    frames = 1 + len(sound) // hop_length
    buffer = np.empty((BLOCK // n_fft, n_fft), np.complex64)
    for start in range(0, frames, 2 * len(buffer)):
        count = min(2 * len(buffer), frames - start)
        part = buffer[: (count + 1) // 2]
        _pack(padded, start * hop_length, hop_length, window, part.view(np.float32))
        yield start, count, scipy.fft.fft(part, overwrite_x=True).view(np.float32)


def magnitudes(sound: np.ndarray, n_fft: int, hop_length: int, win_length: int) -> np.ndarray:
    """Magnitudes of a sound, float32 (samples,), framed as by `torch.stft`: float32 (frames, bins), none below 1e-4."""
    out = np.empty((1 + len(sound) // hop_length, n_fft // 2 + 1), np.float32)
    for start, count, z in _transformed(sound, n_fft, hop_length, win_length):
        _magnitudes(z, LEAST_POWER, out[start : start + count])
    return out
