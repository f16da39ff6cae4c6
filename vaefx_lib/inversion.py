"""From a spectrogram back to sound, with a phase that is guessed or borrowed."""

from __future__ import annotations

import numpy as np

from vaefx_lib.audio import AudioError, check
from vaefx_lib.config import Stft


def griffin_lim(magnitude, stft: Stft, *, iterations: int = 32, seed: int = 0) -> np.ndarray:
    """Sound whose spectrogram is close to `magnitude`, its phase found by iteration from a random one.

    Parameters
    ----------
    magnitude : array, shape (frames, bins)
        |X| ** power; values below 0, which a network may give, count as 0.
    stft : Stft
    iterations : int
        More is closer; 32 is enough to listen to.
    seed : int
        Of the first phase.

    Returns
    -------
    array, float32, shape ((frames - 1) * hop_length,)

    Raises
    ------
    ValueError
        If the shape is not (frames, bins) or a value is not finite.

    References
    ----------
    Perraudin, Balazs, Sondergaard: A fast Griffin-Lim algorithm, WASPAA 2013.
    """
    import librosa  # here, because it takes seconds to import and only inversion needs it

    X = _linear(magnitude, stft)
    y = librosa.griffinlim(
        X.T,
        n_iter=iterations,
        hop_length=stft.hop_length,
        win_length=stft.win_length,
        n_fft=stft.n_fft,
        length=(len(X) - 1) * stft.hop_length,
        random_state=seed,
    )
    return y.astype(np.float32, copy=False)


def with_phase_of(magnitude, audio, stft: Stft) -> np.ndarray:
    """Sound with this spectrogram and the phase of `audio`, for example of the dry clip.

    Parameters
    ----------
    magnitude : array, shape (frames, bins)
        |X| ** power; values below 0 count as 0.
    audio : array, shape (samples,)
        As many samples as the spectrogram's frames stand for.
    stft : Stft

    Returns
    -------
    array, float32, shape (samples,)

    Raises
    ------
    ValueError
        If the shape of `magnitude` is not that of the spectrogram of `audio`, or a value is not finite.
    AudioError
        If `audio` is empty, not finite, shorter than the window or has several channels.
    """
    import librosa

    audio = check(audio, min_samples=stft.win_length)
    if len(audio) != 1:
        raise AudioError(f"audio has {len(audio)} channels: the phase is taken from one")
    X = _linear(magnitude, stft)
    lengths = {"hop_length": stft.hop_length, "win_length": stft.win_length, "n_fft": stft.n_fft}
    phase = np.angle(librosa.stft(audio[0], **lengths))  # (bins, frames)
    if phase.T.shape != X.shape:
        raise ValueError(f"magnitude of shape {X.shape}: the audio's spectrogram has shape {phase.T.shape}")
    y = librosa.istft(X.T * np.exp(1j * phase), length=audio.shape[-1], **lengths)
    return y.astype(np.float32, copy=False)


def _linear(magnitude, stft: Stft) -> np.ndarray:
    """|X|, float32 of shape (frames, bins), from |X| ** power."""
    S = np.asarray(magnitude, np.float32)
    if S.ndim != 2 or len(S) < 2 or S.shape[1] != stft.num_bins:
        raise ValueError(f"magnitude of shape {S.shape}: it must be (at least 2 frames, {stft.num_bins} bins)")
    if not np.isfinite(S).all():
        raise ValueError("magnitude holds NaN or infinity: all values must be finite")
    return np.maximum(S, 0) ** np.float32(1 / stft.power)
