"""Sound in and out, strictly: what is loaded is whole, finite and not silent, or one sentence says why not.

Audio is float32 of shape (channels, samples), or (samples,) where one channel is meant, in about [-1, 1].
"""

from __future__ import annotations

import io
import math
import os
from pathlib import Path

import numpy as np
import soundfile
import soxr
from scipy.io import wavfile

from vaefx_lib import audio_faults, store
from vaefx_lib.audio_faults import AudioError

SILENT_MEAN_SQUARE = 1e-5  # of a clip: -50 dBFS
SILENT_PEAK = 1e-4  # of a whole file: -80 dBFS, above the noise of 16-bit dither
MIN_RATE_HZ = 2_000  # below, no sound above 1 kHz is left
MAX_RATE_HZ = 768_000  # the fastest converters
MAX_CHANNELS = 64  # ambisonics of the seventh order


def load(path: str | Path, *, sample_rate_hz: int | None = None) -> tuple[np.ndarray, int]:
    """Load a sound file (wav, flac, ogg, mp3, ...), all of it or nothing.

    Parameters
    ----------
    path : path
    sample_rate_hz : int, optional
        Resample to this rate; by default the file's own is kept.

    Returns
    -------
    audio : np.ndarray, float32, shape (channels, samples)
    sample_rate_hz : int

    Raises
    ------
    AudioError
        If the file is missing, no file (a folder, a pipe, ...), may not be read, is empty, not audio, cut short,
        silent, does not fit into memory, has a sample rate outside [2000, 768000] Hz or more than 64 channels, or
        holds NaN or infinity.

    Used in `01_data_rendering`.
    """
    path = Path(path)
    head = audio_faults.first_bytes(path)
    name = os.fsencode(path) if os.name == "posix" else path  # soundfile cannot encode a name that is not UTF-8
    try:
        with soundfile.SoundFile(name) as file:
            frames, rate, channels, log = file.frames, file.samplerate, file.channels, file.extra_info
            if not MIN_RATE_HZ <= rate <= MAX_RATE_HZ:
                raise AudioError(
                    f"{path} has a sample rate of {rate} Hz: it must be between {MIN_RATE_HZ} and {MAX_RATE_HZ} Hz"
                )
            if channels > MAX_CHANNELS:
                raise AudioError(f"{path} has {channels} channels: it must have at most {MAX_CHANNELS}")
            if frames > 2**40:
                raise AudioError(f"{path} does not say how many samples it holds")
            audio = np.ascontiguousarray(file.read(dtype="float32", always_2d=True).T)
    except (soundfile.LibsndfileError, TypeError) as error:  # TypeError: a suffix of headerless audio, such as .raw
        raise AudioError(f"{path} is not audio, or is damaged: {audio_faults.of_decoder(error, head)}") from error
    except MemoryError as error:
        raise AudioError(
            f"{path} does not fit into memory: its header promises {frames} samples of {channels} channels"
        ) from error
    audio_faults.check_whole(path, head, log, promised=frames, found=audio.shape[1])
    check(audio, name=str(path))
    if np.abs(audio).max() < SILENT_PEAK:
        raise AudioError(f"{path} is silent: no sample is above {20 * math.log10(SILENT_PEAK):.0f} dBFS")
    if sample_rate_hz is None:
        return audio, rate
    return resample(audio, rate, sample_rate_hz), sample_rate_hz


def load_stretch(path: str | Path, start: int, samples: int, *, sample_rate_hz: int) -> np.ndarray:
    """A stretch of a long recording, and no more of the file is read; `load` is what tells whether all of it is whole.

    Parameters
    ----------
    path : path
    start, samples : int
        Its first sample and how many it has, counted at `sample_rate_hz`.
    sample_rate_hz : int
        Resample to this rate.

    Returns
    -------
    np.ndarray, float32, shape (channels, samples)

    Raises
    ------
    AudioError
        If the stretch cannot be read, ends early, or holds NaN or infinity.
    """
    name = os.fsencode(path) if os.name == "posix" else path
    try:
        with soundfile.SoundFile(name) as file:
            rate, margin = file.samplerate, file.samplerate // 10  # the resampler's filter settles in the margins
            step = rate // math.gcd(rate, sample_rate_hz)  # so many samples of the file are a whole number of ours
            first = max(0, start * rate // sample_rate_hz - margin) // step * step
            file.seek(first)
            frames = samples * rate // sample_rate_hz + 2 * margin + step
            audio = check(file.read(frames, dtype="float32", always_2d=True).T, name=str(path))
    except (soundfile.LibsndfileError, TypeError) as error:
        raise AudioError(f"{path} cannot be read from sample {start} at {sample_rate_hz} Hz on: {error}") from error
    skipped = start - first * sample_rate_hz // rate
    audio = resample(audio, rate, sample_rate_hz)[:, skipped : skipped + samples]
    if audio.shape[1] < samples:
        raise AudioError(f"{path} is cut short: it ends before sample {start + samples} at {sample_rate_hz} Hz")
    return audio


def save(path: str | Path, audio, sample_rate_hz: int) -> None:
    """Save as 32-bit float (.wav) or 16-bit (.flac), whole or not at all; the same audio gives the same bytes.

    Parameters
    ----------
    path : path
        Ending in .wav or .flac.
    audio : array, shape (samples,) or (channels, samples)
    sample_rate_hz : int

    Raises
    ------
    ValueError
        For another suffix.
    AudioError
        For audio that `check` refuses, or that would clip in a 16-bit file.
    OSError
        If the file cannot be written, no space left included.
    """
    path, audio, rate = Path(path), check(audio), _rate(sample_rate_hz)
    if path.suffix.lower() == ".wav":
        buffer = io.BytesIO()
        wavfile.write(buffer, rate, audio.T)  # soundfile would put the time of day into a float wav
        encoded = buffer.getvalue()
    elif path.suffix.lower() == ".flac":
        peak = np.abs(audio).max()
        if peak > 1:
            raise AudioError(f"{path} would clip: the peak is {peak:.3g}, a .flac holds at most 1 (a .wav any level)")
        encoded = _encode(audio, rate, "FLAC")
    else:
        raise ValueError(f"{path} has the suffix {path.suffix!r}: it must be .wav or .flac")
    with store.atomic(path) as temporary:
        temporary.write_bytes(encoded)


def to_wav_bytes(audio, sample_rate_hz: int) -> bytes:
    """A 16-bit wav file in memory, for a player in a notebook; what is beyond [-1, 1] clips."""
    return _encode(check(audio), _rate(sample_rate_hz), "WAV")


def _encode(audio: np.ndarray, rate: int, file_format: str) -> bytes:
    buffer = io.BytesIO()
    try:
        soundfile.write(buffer, audio.T, rate, format=file_format, subtype="PCM_16")
    except soundfile.LibsndfileError as error:
        raise AudioError(
            f"audio of {len(audio)} channels at {rate} Hz cannot be written as {file_format}: {error.error_string}"
        ) from error
    return buffer.getvalue()


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
    finite = np.isfinite(audio)
    if not finite.all():
        first = int(np.argmin(finite.all(axis=0)))
        raise AudioError(f"{name} holds NaN or infinity, first at sample {first}: all samples must be finite")
    return audio


def to_mono(audio) -> np.ndarray:
    """Mean over the channels, float32, shape (samples,)."""
    return check(audio).mean(axis=0)


def resample(audio, orig_hz: int, target_hz: int) -> np.ndarray:
    """Audio at another rate (soxr, high quality), in the shape it came: (samples,) or (channels, samples).

    Raises
    ------
    AudioError
        For audio that `check` refuses, or a rate that is not a positive whole number.
    """
    orig_hz, target_hz = _rate(orig_hz), _rate(target_hz)
    resampled = check(audio)
    if orig_hz != target_hz:
        resampled = np.ascontiguousarray(soxr.resample(resampled.T, orig_hz, target_hz).T)
    return resampled[0] if np.ndim(audio) == 1 else resampled


def _rate(sample_rate_hz) -> int:
    if not (np.isreal(sample_rate_hz) and 0 < sample_rate_hz < math.inf and int(sample_rate_hz) == sample_rate_hz):
        raise AudioError(f"the sample rate is {sample_rate_hz!r} Hz: it must be a positive whole number")
    return int(sample_rate_hz)


def is_silent(audio) -> bool:
    """Whether the mean square is below 1e-5 (-50 dBFS)."""
    flat = np.reshape(audio, -1)
    return bool(np.einsum("i,i->", flat, flat) < SILENT_MEAN_SQUARE * flat.size)  # one pass, the same bits every time


def peak_level(audio, peak_dbfs: float = -12.0) -> np.ndarray:
    """A copy scaled so that the largest |sample| of all channels is `peak_dbfs`; float32, in the shape it came.

    Raises
    ------
    AudioError
        For audio that `check` refuses, or that is silent: no level can be given to it.
    """
    checked = check(audio)
    peak = float(np.abs(checked).max())
    if peak < 1e-6:
        raise AudioError(f"audio with a peak of {peak:.3g} is silent: it must pass 1e-06 to be given a level")
    levelled = checked * np.float32(10 ** (peak_dbfs / 20) / peak)
    return levelled[0] if np.ndim(audio) == 1 else levelled
