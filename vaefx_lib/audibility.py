"""Whether a setting can be heard in a clip, by measurement: the clip is rendered again with that one setting moved."""

from __future__ import annotations

import dataclasses
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from vaefx_lib import audio, effects, runs, shards, spectrogram, store

MOVE = 0.5  # of a setting, up or down, whichever stays in [0, 1]: as far for every value, and never down to 0
AUDIBLE = 0.05  # mean squared change of the wet channel, in variances of the training set, above which it is audible


def measure(run: runs.Run, dataset: shards.Dataset, *, path: str | Path | None = None) -> np.ndarray:
    """How much each setting of each clip can be heard: the clip is rendered again with that one setting moved.

    Parameters
    ----------
    run : Run
        Its statistics give the unit.
    dataset : Dataset
        At random settings.
    path : path, optional
        Keep the result here, and take it from here if nothing that it depends on has changed.

    Returns
    -------
    array, float64, shape (n, most parameters of an effect)
        Mean squared change of the wet spectrogram in variances of the training set, when a setting is moved by `MOVE`.
        Both clips are levelled as in `pairs.render_pair`; a moved one that is silent counts as zeros. NaN where an
        effect has no such parameter, and where it failed.

    Used in `03_latent_clustering`.
    """
    stft, wet = run.preset.stft, spectrogram.CHANNELS.index("wet")
    most = max(len(settings) for settings in dataset.settings)

    def changes(i: int) -> np.ndarray:
        (dry, before), row, found = dataset[i], dataset.rows[i], np.full(most, np.nan)
        effect, settings = effects.load(row["effect"]), np.array(row["settings"])
        S = spectrogram.magnitude(_middle(before), stft)
        for j, value in enumerate(settings):
            moved = settings.copy()
            moved[j] = value + MOVE if value <= MOVE else value - MOVE
            try:
                after = render_wet(dry, effect, moved, run)
            except (effects.EffectFailed, audio.AudioError):  # AudioError: it gave NaN
                continue
            found[j] = np.square(spectrogram.magnitude(_middle(after), stft) - S).mean()
        return found / run.statistics.std[wet] ** 2

    def compute() -> dict[str, np.ndarray]:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            return {"change": np.stack(list(pool.map(changes, range(len(dataset)))))}

    about = [dataset.fingerprint, dataclasses.asdict(stft), run.statistics.to_dict(), run.preset.render.peak_dbfs]
    key = store.fingerprint(*about, Path(spectrogram.__file__), Path(__file__))
    return (store.cached(path, key, compute) if path else compute())["change"]


def render_wet(dry: np.ndarray, effect: effects.Effect, settings, run: runs.Run) -> np.ndarray:
    """Dry, (samples,) or (channels, samples), through an effect, in its shape, levelled as the pairs are.

    With the settings of a rendered clip this is its wet sound again. Silence stays silence.

    Raises
    ------
    EffectFailed, AudioError
        If the effect fails or gives NaN.
    """
    sound = effect.render(dry, settings, run.preset.stft.sample_rate_hz)  # (channels_out, samples)
    sound = audio.to_mono(sound) if dry.ndim == 1 else np.broadcast_to(audio.check(sound), dry.shape)
    silent = np.abs(sound).max() < 1e-6
    return np.zeros_like(dry) if silent else audio.peak_level(sound, run.preset.render.peak_dbfs)


def _middle(sound: np.ndarray) -> np.ndarray:
    """What the network sees of a sound, (samples,) or (channels, samples): the mean over its channels."""
    return sound.mean(axis=0) if sound.ndim == 2 else sound
