"""Distances between sounds and between spectrograms, each with its unit and source."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from vaefx_lib import loudness
from vaefx_lib.speech_quality import pesq
from vaefx_lib.stft_distance import MrstftTo as MrstftTo
from vaefx_lib.stft_distance import both_heard, mrstft, mrstft_wide, refuse_silence, two_sounds

MSD_SAMPLES = 65_536  # the window of `msd`: 2.7 s at 24 kHz


def msd(y, y_hat, sample_rate_hz: int) -> float:
    """Mel-spectral distance of a sound from the true one: no unit, 0 is the same, lower is better.

    On magnitudes in 128 mel bands with one window of 2.7 s (at 24 kHz) after the other: the mean absolute error, which
    grows with the level, plus that of the natural logarithms. So long a window sees tone and hardly time.

    Parameters
    ----------
    y, y_hat : array, shape (samples,)
        The true sound and the other one; at least 65,536 samples.
    sample_rate_hz : int

    Raises
    ------
    AudioError
        If a sound is empty, not finite, or too short.
    ValueError
        If the shapes differ, or `y` is silent. `y_hat` may be.

    References
    ----------
    Steinmetz, Bryan, Reiss: Style transfer of audio effects with differentiable signal processing, JAES 70(9), 2022;
    computed by auraloss with their settings.

    Used in `05_controller_training`.
    """
    import torch

    y, y_hat = two_sounds(y, y_hat, min_samples=MSD_SAMPLES)
    refuse_silence(y)
    with torch.inference_mode():
        estimate, target = (torch.from_numpy(x.copy())[None, None] for x in (y_hat, y))
        return float(_mel_distance(sample_rate_hz)(estimate, target))


def sce_hz(y, y_hat, sample_rate_hz: int) -> float:
    """Spectral centroid error in Hz: how much brighter or darker on the whole; 0 is the same, lower is better.

    The centroid is the mean frequency weighted by magnitude, in windows of 2048 samples 512 apart. Its mean over all
    frames is compared, loud and quiet ones alike; a frame of zeros counts as 0 Hz.

    Parameters
    ----------
    y, y_hat : array, shape (samples,)
    sample_rate_hz : int

    Raises
    ------
    AudioError
        If a sound is empty or not finite.
    ValueError
        If the shapes differ or either is silent.

    References
    ----------
    Steinmetz, Bryan, Reiss, JAES 2022; computed by librosa.

    Used in `05_controller_training`.
    """
    from librosa.feature import spectral_centroid  # here: it takes a second to import

    options = {"sr": sample_rate_hz, "n_fft": 2048, "hop_length": 512}
    true, other = (spectral_centroid(y=x, **options).mean() for x in both_heard(y, y_hat))
    return float(abs(true - other))


def cfe_db(y, y_hat, sample_rate_hz: int) -> float:
    """Crest factor error in dB: how much more squashed or more peaky; 0 is the same, lower is better.

    The crest factor is 20 log10(peak / root mean square): 3.01 dB for a sine, 0 dB for a square wave. The sample rate
    has no influence.

    Parameters
    ----------
    y, y_hat : array, shape (samples,)
    sample_rate_hz : int

    Raises
    ------
    AudioError
        If a sound is empty or not finite.
    ValueError
        If the shapes differ or either is silent.

    References
    ----------
    Steinmetz, Bryan, Reiss, JAES 2022, whose code took natural logarithms: its numbers are 2.303 times these.

    Used in `05_controller_training`.
    """
    peaks_to_rms = [np.abs(x).max() / np.sqrt(np.square(x, dtype=np.float64).mean()) for x in both_heard(y, y_hat)]
    return float(abs(20 * math.log10(peaks_to_rms[0] / peaks_to_rms[1])))


def lufs_error(y, y_hat, sample_rate_hz: int) -> float:
    """Loudness error in LU (1 LU is 1 dB of loudness): 0 is the same, lower is better.

    The difference of the two integrated loudnesses, `loudness.lufs`.

    Parameters
    ----------
    y, y_hat : array, shape (samples,)
        At least 0.4 s.
    sample_rate_hz : int

    Raises
    ------
    AudioError
        If a sound is empty, not finite or too short.
    ValueError
        If the shapes differ, either is silent, or the sample rate is below 16,000 Hz.

    References
    ----------
    ITU-R BS.1770-4, 2015; as a score, Steinmetz, Bryan, Reiss, JAES 2022.

    Used in `05_controller_training`.
    """
    true, other = (loudness.lufs(x, sample_rate_hz) for x in both_heard(y, y_hat))
    return abs(true - other)


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
    s, e = (x.astype(np.float64) for x in two_sounds(reference, estimate))
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


@functools.cache
def _mel_distance(sample_rate_hz: int):
    import auraloss

    whole = {"fft_size": MSD_SAMPLES, "hop_size": MSD_SAMPLES, "win_length": MSD_SAMPLES, "n_mels": 128}
    return auraloss.freq.MelSTFTLoss(sample_rate_hz, **whole, w_sc=0.0, w_log_mag=1.0, w_lin_mag=1.0)


class Score(NamedTuple):
    """A measure of how well a sound matches the true one, for tables over all of `SCORES`."""

    function: Callable[..., float]  # of (y, y_hat, sample_rate_hz)
    unit: str  # "" for a number without one
    lower_is_better: bool = True


SCORES = {  # in the order of a table
    "mrstft_wide": Score(lambda y, y_hat, sample_rate_hz: mrstft_wide(y, y_hat), ""),
    "mrstft": Score(lambda y, y_hat, sample_rate_hz: mrstft(y, y_hat), ""),
    "msd": Score(msd, ""),
    "sce_hz": Score(sce_hz, "Hz"),
    "cfe_db": Score(cfe_db, "dB"),
    "lufs_error": Score(lufs_error, "LU"),
    "pesq": Score(pesq, "MOS", lower_is_better=False),  # speech only, and only if `speech_quality.has_pesq()`
}
