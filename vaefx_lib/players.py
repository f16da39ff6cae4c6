"""What a slider plays and shows, as plain functions: a place in, sound and spectrograms out.

Everything that is played has one loudness, and its peak a limit: no setting can hurt, and none is taken for better
because it is louder.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from vaefx_lib import (
    audio,
    blackbox,
    effects,
    interpolation,
    inversion,
    latent,
    loudness,
    passages,
    references,
    runs,
)
from vaefx_lib.config import Stft

LOUDNESS_LUFS = -23.0  # of all that is played: EBU R 128
PEAK_DBFS = -3.0  # at most: a sound of few loud moments is left softer


def levelled(sound, sample_rate_hz: int) -> np.ndarray:
    """A copy of a sound at `LOUDNESS_LUFS`, or softer where its peak would pass `PEAK_DBFS`.

    What is silent, or too low to be heard, is not made louder.

    Parameters
    ----------
    sound : array, float32, shape (samples,)
        At least 0.4 s.
    sample_rate_hz : int

    Returns
    -------
    array, float32, shape (samples,)

    Raises
    ------
    AudioError
        As `loudness.lufs` raises it.

    Used in `04_interpolation_figures` and `06_playable_latent`.
    """
    sound = audio.check(sound, name="the sound")[0]
    peak, limit = float(np.abs(sound).max()), 10 ** (PEAK_DBFS / 20)
    gain = min(1.0, limit / max(peak, 1e-9))
    if not audio.is_silent(sound - sound.mean()):
        gain = min(10 ** ((LOUDNESS_LUFS - loudness.lufs(sound, sample_rate_hz)) / 20), limit / peak)
    return sound * np.float32(gain)


def played(effect: effects.Effect, dry, settings) -> np.ndarray:
    """A dry sound through an effect as it is played, at one loudness.

    Parameters
    ----------
    effect : Effect
    dry : array, float32, shape (samples,)
        At 24 kHz and at the level of rendered pairs.
    settings : array, shape (n_params,)
        In [0, 1].

    Returns
    -------
    array, float32, shape (samples,)

    Raises
    ------
    EffectFailed, ValueError
        As `blackbox.wet` raises them.

    Used in `06_playable_latent`.
    """
    return levelled(blackbox.wet(effect, dry, settings, passages.RATE_HZ), passages.RATE_HZ)


def embedded(run: runs.Run, dry, effect: effects.Effect, setting: float) -> np.ndarray:
    """Latent vector (latent_dim,) of a dry clip (samples,) and the same through an effect, all settings the same.

    Used in `04_interpolation_figures`.
    """
    x = interpolation.wet_pair(run, dry, effect, np.full(len(effect.params), setting))
    return latent.embed(run, x[None])[0]


def interpolated(run: runs.Run, z_1, z_2, alpha: float) -> np.ndarray:
    """The spectrogram pair at a place on the straight line between two latent vectors.

    Parameters
    ----------
    run : Run
    z_1, z_2 : array, shape (latent_dim,)
    alpha : float
        0 is `z_1`, 1 is `z_2`.

    Returns
    -------
    array, float32, shape (2, frames, bins)
        Dry and wet, |X| ** power.

    Used in `04_interpolation_figures`.
    """
    z = (1 - alpha) * np.asarray(z_1, np.float32) + alpha * np.asarray(z_2, np.float32)
    return run.statistics.restore(latent.decode(run, z[None])[0])


def between(dry_1, dry_2, S, alpha: float, stft: Stft) -> np.ndarray:
    """The sound of a spectrogram on a path between two clips, as it is played, at one loudness.

    A spectrogram has no phase. It takes that of a cross-fade of both dry clips, which is their own at the ends, moves
    evenly in between, and needs no search, as that of Griffin and Lim would.

    Parameters
    ----------
    dry_1, dry_2 : array, shape (samples,)
        Where the path begins and ends; they may be the same.
    S : array, shape (frames, bins)
    alpha : float
        0 is `dry_1`, 1 is `dry_2`.
    stft : Stft

    Returns
    -------
    array, float32, shape (samples,)

    Used in `04_interpolation_figures`.
    """
    faded = (1 - alpha) * np.asarray(dry_1, np.float32) + alpha * np.asarray(dry_2, np.float32)
    return levelled(inversion.with_phase_of(S, faded, stft), stft.sample_rate_hz)


def own_sound(name: str, data: bytes, *, peak_dbfs: float = -12.0) -> np.ndarray:
    """The loudest passage, of up to 5.46 s, of a sound file in memory: mono, 24 kHz, at the level of rendered pairs.

    Parameters
    ----------
    name : str
        Of the file, for errors.
    data : bytes
        Of any rate, channels and format that `audio.load` reads.
    peak_dbfs : float

    Returns
    -------
    array, float32, shape (samples,)

    Raises
    ------
    AudioError
        If it is not sound, damaged, silent or shorter than 0.5 s; one sentence that names the file.

    Used in `06_playable_latent`.
    """
    with tempfile.TemporaryDirectory(prefix="vaefx-upload-") as folder:
        path = Path(folder) / "upload"
        path.write_bytes(data)
        try:
            found, rate_hz = passages.of_file(path)
        except audio.AudioError as error:
            raise audio.AudioError(str(error).replace(str(path), name)) from error
    loudest = max(found, key=lambda sound: float(np.square(sound).mean()))
    return audio.peak_level(audio.resample(loudest, rate_hz, passages.RATE_HZ), peak_dbfs)


def random_reference(effect: effects.Effect, dry: references.Dry, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A passage through an effect at random settings: the reference (samples,) and the settings (n_params,).

    Used in `06_playable_latent`.
    """
    rng = np.random.default_rng(seed)
    passage = dry.sounds[rng.integers(len(dry.sounds))]
    settings, wet = references.draw_settings(effect, [passage], rng, -12.0)
    return wet, settings
