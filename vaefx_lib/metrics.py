"""Distances between sounds and between spectrograms, each with its unit and source."""

from __future__ import annotations

import functools

import numpy as np

from vaefx_lib.audio import SILENT_MEAN_SQUARE, check, is_silent

MRSTFT_SAMPLES = 2048  # the longest window of `mrstft`: a shorter clip has no whole frame


def mrstft(y, y_hat) -> float:
    """Multi-resolution STFT distance of a sound from the true one: no unit, 0 is the same, lower is better.

    The mean over three windows (10, 25 and 50 ms at 24 kHz) of *spectral convergence*, the norm of the error of the
    magnitudes divided by that of the true ones, plus the mean absolute error of their natural logarithms. Phase has
    no influence of its own.

    Parameters
    ----------
    y, y_hat : array, shape (samples,)
        The true sound and the other one; at least 2,048 samples.

    Raises
    ------
    AudioError
        If a sound is empty, not finite, or too short.
    ValueError
        If the shapes differ, or `y` is silent (`audio.is_silent`), from which every distance is huge. `y_hat` may be:
        that distance is finite, but its gradient is 0, so that a model which has gone silent would never learn.

    References
    ----------
    Yamamoto, Song, Kim: Parallel WaveGAN, ICASSP 2020; computed by auraloss (Steinmetz and Reiss, 2020) with its
    windows of 600, 1200 and 240 samples in transforms of 1024, 2048 and 512.

    Used in `07_loss_and_phase`.
    """
    import torch  # here: it takes seconds to import, and the other metrics do without

    y, y_hat = _two(y, y_hat, min_samples=MRSTFT_SAMPLES)
    if is_silent(y):
        raise ValueError(
            f"the true sound has a mean square of {np.square(y).mean():.1e}: below {SILENT_MEAN_SQUARE:g} it counts as "
            "silence, from which every distance is huge"
        )
    with torch.inference_mode():
        estimate, target = (torch.from_numpy(x.astype(np.float32))[None, None] for x in (y_hat, y))
        return float(_mrstft()(estimate, target))


def si_sdr_db(reference, estimate) -> float:
    """Scale-invariant signal-to-distortion ratio in dB: infinite is the same up to a gain, higher is better.

    10 log10(|a s|^2 / |a s - e|^2) with the gain a = <e, s> / |s|^2 that brings the reference s nearest to the
    estimate e. It compares waveforms, so a turned phase counts as distortion. No mean is subtracted.

    Parameters
    ----------
    reference, estimate : array, shape (samples,)

    Raises
    ------
    AudioError
        If a sound is empty or not finite.
    ValueError
        If the shapes differ or either is silence, for which there is no ratio.

    References
    ----------
    Le Roux, Wisdom, Erdogan, Hershey: SDR, half-baked or well done? ICASSP 2019, equation 4.

    Used in `07_loss_and_phase`.
    """
    s, e = (x.astype(np.float64) for x in _two(reference, estimate, min_samples=1))
    if not (s.any() and e.any()):
        raise ValueError("a sound is all zeros: there is no ratio of signal to distortion")
    target = (e @ s) / (s @ s) * s
    with np.errstate(divide="ignore"):
        return float(10 * np.log10((target @ target) / np.square(target - e).sum()))


def explained_variance(x, x_hat) -> np.ndarray:
    """Share of each channel's variance that a reconstruction explains: 1 is perfect, 0 is "always the mean".

    1 - sum (x - x_hat)^2 / sum (x - mean)^2, over all clips, frames and bins, with one mean per channel; below 0 it
    is worse than that mean. Known as R2. Scaling or shifting a channel in both arrays changes nothing.

    Parameters
    ----------
    x, x_hat : array, shape (n, channels, frames, bins)

    Returns
    -------
    array, float64, shape (channels,)

    Raises
    ------
    ValueError
        If the shapes differ or are not of this kind, or a channel of `x` is constant.

    Used in `07_loss_and_phase`.
    """
    x, x_hat = np.asarray(x), np.asarray(x_hat)
    if x.ndim != 4 or x.shape != x_hat.shape or not x.size:
        raise ValueError(f"shapes {x.shape} and {x_hat.shape}: both must be the same (n, channels, frames, bins)")
    shares = []
    for true, other in zip(x.swapaxes(0, 1), x_hat.swapaxes(0, 1), strict=True):  # a channel in float64 at a time
        true = true.astype(np.float64)
        variance = np.square(true - true.mean()).sum()
        if not variance:
            raise ValueError(f"channel {len(shares)} is constant: it has no variance to explain")
        shares.append(1 - np.square(true - other).sum() / variance)
    return np.array(shares)


def _two(y, y_hat, *, min_samples: int) -> tuple[np.ndarray, np.ndarray]:
    """Both sounds checked, float32 of shape (samples,) each."""
    if np.shape(y) != np.shape(y_hat) or np.ndim(y) != 1:
        raise ValueError(f"sounds of shapes {np.shape(y)} and {np.shape(y_hat)}: both must be the same (samples,)")
    y, y_hat = (check(x, min_samples=min_samples, name=n)[0] for x, n in ((y, "the true sound"), (y_hat, "the other")))
    return y, y_hat


@functools.cache
def _mrstft():
    import auraloss

    return auraloss.freq.MultiResolutionSTFTLoss()
