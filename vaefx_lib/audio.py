"""Sound in and out, strictly: what is loaded is whole, finite and not silent, or one sentence says why not.

Audio is float32 of shape (channels, samples), or (samples,) where one channel is meant, in about [-1, 1].
"""

from __future__ import annotations

import numpy as np

SILENT_MEAN_SQUARE = 1e-5  # of a rendered clip: -50 dBFS
SILENT_PEAK = 1e-4  # of a file: -80 dBFS, above the noise of 16-bit dither
SUBTYPES = {".wav": "FLOAT", ".flac": "PCM_16"}  # what `save` writes


class AudioError(ValueError):
    """Audio that cannot be used; the message is one sentence that names it and the reason."""


def check(audio, *, min_samples: int = 1, name: str = "audio") -> np.ndarray:
    """`audio` as float32 of shape (channels, samples); it may share memory with the argument.

    Parameters
    ----------
    audio : array, shape (samples,) or (channels, samples)
    min_samples : int
        The fewest samples allowed.
    name : str
        What the error calls it.

    Raises
    ------
    AudioError
        If it has another shape, is not floating-point, is shorter than `min_samples`, or holds NaN or infinity.
    """
    audio = np.asarray(audio)
    if audio.ndim not in (1, 2):
        raise AudioError(f"{name} has {audio.ndim} dimensions: it must be (samples,) or (channels, samples)")
    if audio.size == 0:
        raise AudioError(f"{name} of shape {audio.shape} is empty: it must hold at least {max(1, min_samples)} samples")
    if not np.issubdtype(audio.dtype, np.floating):
        raise AudioError(f"{name} is of type {audio.dtype}: it must be floating-point numbers in about [-1, 1]")
    if audio.shape[-1] < min_samples:
        raise AudioError(f"{name} has {audio.shape[-1]} samples: it must hold at least {min_samples}")
    with np.errstate(over="ignore"):
        audio = np.atleast_2d(audio.astype(np.float32, copy=False))
    if not np.isfinite(audio).all():
        first = np.argwhere(~np.isfinite(audio))[0, 1]
        raise AudioError(f"{name} holds NaN or infinity, first at sample {first}: all samples must be finite")
    return audio
