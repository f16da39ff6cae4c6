"""Sound in and out, strictly: what is loaded is whole, finite and not silent, or one sentence says why not.

Audio is float32 of shape (channels, samples), or (samples,) where one channel is meant, in about [-1, 1].
"""

from __future__ import annotations

import io
import math
import re
from pathlib import Path

import numpy as np
import soundfile
import soxr
from scipy.io import wavfile

from vaefx_lib import store

SILENT_MEAN_SQUARE = 1e-5  # of a clip: -50 dBFS
SILENT_PEAK = 1e-4  # of a whole file: -80 dBFS, above the noise of 16-bit dither
UNKNOWN_LENGTH = 0xFFFFFFFF  # what a program that writes a wav into a pipe puts for the length


class AudioError(ValueError):
    """Audio that cannot be used; the message is one sentence that names it and the reason."""


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
        If the file is missing, a folder, empty, not audio, cut short, silent, or holds NaN or infinity.

    Used in `01_data_rendering`.
    """
    path = Path(path)
    if not path.exists():
        raise AudioError(f"{path} does not exist")
    if not path.is_file():
        raise AudioError(f"{path} is not a file")
    if path.stat().st_size == 0:
        raise AudioError(f"{path} is empty: it holds 0 bytes")
    try:
        with soundfile.SoundFile(path) as file:
            frames, rate, log = file.frames, file.samplerate, file.extra_info
            if frames > 2**40:
                raise AudioError(f"{path} does not say how many samples it holds")
            audio = np.ascontiguousarray(file.read(dtype="float32", always_2d=True).T)
    except (soundfile.LibsndfileError, TypeError) as error:  # TypeError: a suffix of headerless audio, such as .raw
        reason = (
            getattr(error, "error_string", "").removeprefix("Error : ").rstrip(".")
            or "its content does not decode to the end"
        )
        raise AudioError(f"{path} is not audio, or is damaged: {reason}") from error
    if frames == 0:
        raise AudioError(f"{path} holds no sound: 0 samples")
    if audio.shape[1] < frames:
        raise AudioError(f"{path} is cut short: its header promises {frames} samples, it holds {audio.shape[1]}")
    if _is_cut_short(path, log):
        raise AudioError(f"{path} is cut short: it ends before the {audio.shape[1]} samples found in it are complete")
    check(audio, name=str(path))
    if np.abs(audio).max() < SILENT_PEAK:
        raise AudioError(f"{path} is silent: no sample is above {20 * math.log10(SILENT_PEAK):.0f} dBFS")
    if sample_rate_hz is None:
        return audio, rate
    return resample(audio, rate, sample_rate_hz), sample_rate_hz


def _is_cut_short(path: Path, log: str) -> bool:
    """Whether a file ends early though the decoder took what there is for the whole.

    For wav and aiff the decoder logs the size that the header promises and the one it found; an ogg stream must end
    with a whole page that is marked as the last.
    """
    for promised, found in re.findall(r"^\s*(?:data|SSND|Riff size)\s*: (\d+) \(should be (\d+)\)", log, re.MULTILINE):
        if int(found) < int(promised) != UNKNOWN_LENGTH:
            return True
    with open(path, "rb") as file:
        if file.read(4) != b"OggS":
            return False
        file.seek(max(0, path.stat().st_size - 2**17))  # a page is shorter than 2**16 bytes
        tail = file.read()
    page = tail[tail.rfind(b"OggS") :]
    return len(page) < 27 or not page[5] & 4 or len(page) < 27 + page[26] + sum(page[27 : 27 + page[26]])


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
    return bool(np.mean(np.square(audio, dtype=np.float64)) < SILENT_MEAN_SQUARE)


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
