"""What a controller learns from: dry passages, and references: other passages through effects at known settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vaefx_lib import (
    audio,
    blackbox,
    config,
    corpora,
    corpus_split,
    dry_clips,
    effects,
    pairs,
    passages,
    runs,
    spectrogram,
    style,
)

TRIES = 100  # of one reference, before giving up
SAME_VOICE = 0.5  # share of the references whose speaker is that of the input
# always installed: with the effects that are to be set, they show the distance of style what changes and what does not
KINDS = tuple(
    f"pedalboard:{name}"
    for name in (
        *("Distortion", "Clipping", "Bitcrush", "Compressor", "Delay", "Reverb", "Chorus", "Phaser", "LowShelfFilter"),
        *("HighShelfFilter", "PeakFilter", "LowpassFilter", "HighpassFilter", "LadderFilter"),
    )
)


@dataclass(frozen=True, eq=False)
class Dry:
    """Dry passages of 5.46 s at 24 kHz, each at the peak level of rendered pairs.

    Attributes
    ----------
    sounds : array, float32, shape (n, 131072)
    speakers : array of str, shape (n,)
    """

    sounds: np.ndarray
    speakers: np.ndarray

    def other(self, rng: np.random.Generator, index: int, *, same_speaker: bool) -> int:
        """Another passage, of the same speaker or of another; of any if there is none such."""
        others = np.flatnonzero((self.speakers == self.speakers[index]) == same_speaker)
        others = others[others != index]
        if not len(others):
            others = np.delete(np.arange(len(self.speakers)), index)
        return int(rng.choice(others))


@dataclass(frozen=True, eq=False)
class References:
    """Passages through one effect at random settings, and for each a dry input of other words.

    Attributes
    ----------
    effect : str
    inputs, passages : array of int, shape (n,)
        Which dry passage is the input, and which went through the effect.
    settings : array, float32, shape (n, n_params)
    numbers : array, float32, shape (n, n_measures)
        `style.Style.numbers` of the reference.
    mu : array, float32, shape (n, latent_dim)
        Embedding of (input, reference).
    """

    effect: str
    inputs: np.ndarray
    passages: np.ndarray
    settings: np.ndarray
    numbers: np.ndarray
    mu: np.ndarray


def draw_dry(preset: config.Preset, part: str, count: int, *, seed: int = 0) -> Dry:
    """Dry passages of the speakers of one part of the preset's corpus, speakers in turn.

    Parameters
    ----------
    preset : Preset
    part : str
        One of `corpus_split.split`: "train", whose passages run at a random tape speed, "valid" or "test".
    count : int
    seed : int

    Raises
    ------
    ValueError
        If a speaker gave no passage that can be heard.

    Used in `05_controller_training`.
    """
    choices = preset.render
    speakers = pairs.by_speaker(corpus_split.split(corpora.load(choices.corpus), choices.corpus)[part])
    names, fastest = list(speakers), choices.max_speed_change if part == "train" else 0.0
    sounds = np.empty((count, passages.SAMPLES), np.float32)
    for i in range(count):
        rng = np.random.default_rng([seed, pairs.subset_number(part), i])
        for _ in range(TRIES):
            speed = float(rng.uniform(1 - fastest, 1 + fastest))
            clip, _, _ = dry_clips.draw_clip(
                rng, speakers[names[i % len(names)]], sounds[:1].shape, passages.RATE_HZ, speed
            )
            if np.abs(clip).max() > 1e-4:
                sounds[i] = audio.peak_level(clip[0], choices.peak_dbfs)
                if not audio.is_silent(sounds[i]):
                    break
        else:
            raise ValueError(f"{names[i % len(names)]} gave no passage that can be heard in {TRIES} draws")
    return Dry(sounds, np.array([names[i % len(names)] for i in range(count)]))


def draw_settings(effect: effects.Effect, dry, rng: np.random.Generator, peak_dbfs: float) -> list[np.ndarray]:
    """Settings uniform in [0, 1] at which all of some passages can be heard, and then each of them wet.

    Parameters
    ----------
    effect : Effect
    dry : array, shape (n, samples)
    rng : Generator
    peak_dbfs : float

    Raises
    ------
    ValueError
        If there were none in 100 draws.
    """
    for _ in range(TRIES):
        settings = rng.uniform(size=len(effect.params))
        try:
            sounds = [blackbox.wet(effect, x, settings, passages.RATE_HZ, peak_dbfs=peak_dbfs) for x in dry]
        except effects.EffectFailed:
            continue
        if not any(audio.is_silent(sound) for sound in sounds):
            return [settings, *sounds]
    raise ValueError(f"{effect.name} gave nothing that can be heard in {TRIES} draws of its settings")


def draw(preset: config.Preset, run: runs.Run, dry: Dry, effect: str, count: int, *, seed: int) -> References:
    """References of one effect, made and measured by all processors.

    Parameters
    ----------
    preset : Preset
    run : Run
        The trained VAE that embeds (input, reference).
    dry : Dry
    effect : str
    count : int
    seed : int

    Used in `05_controller_training`.
    """
    fx = effects.load(effect)

    def one(index: int):
        rng = np.random.default_rng([seed, index])
        passage = int(rng.integers(len(dry.sounds)))
        given = dry.other(rng, passage, same_speaker=rng.uniform() < SAME_VOICE)
        settings, sound, _ = draw_settings(fx, dry.sounds[[passage, given]], rng, preset.render.peak_dbfs)
        return given, passage, settings, style.measure(sound).numbers, sound

    rows, mu, known = [], [], {}
    for start in range(0, count, 64):  # so many spectrograms at once
        made = blackbox.in_threads(one, range(start, min(start + 64, count)))
        rows += [row[:4] for row in made]
        inputs = [row[0] for row in made]
        new = [i for i in dict.fromkeys(inputs) if i not in known]
        S = _magnitudes(run, [*dry.sounds[new], *(row[4] for row in made)])
        known |= dict(zip(new, S))
        both = (np.stack([known[i], wet], axis=1) for i, wet in zip(inputs, S[len(new) :]))
        mu.append(embed(run, [run.statistics.standardise(x) for x in both]))
    given, passage, settings, numbers = (np.array(column) for column in zip(*rows))
    return References(effect, given, passage, settings.astype(np.float32), numbers, np.concatenate(mu))


def windows(run: runs.Run, dry: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Spectrograms of a dry sound and a reference as the VAE reads them: float32, (windows, 2, frames, bins).

    As many windows as both sounds fill; a sound that is shorter than one is repeated.
    """
    stft = run.preset.stft
    count = max(1, min(len(dry), len(reference)) // stft.num_samples)
    cut = [
        np.resize(sound, max(len(sound), stft.num_samples))[: count * stft.num_samples] for sound in (dry, reference)
    ]
    S = [spectrogram.magnitude(sound.reshape(count, -1), stft) for sound in cut]
    return run.statistics.standardise(np.stack(S, axis=1))


def _magnitudes(run: runs.Run, sounds: Sequence[np.ndarray]) -> np.ndarray:
    """Spectrograms of passages, cut as `windows` does, before they are standardised: (n, windows, frames, bins)."""
    stft = run.preset.stft
    count = max(1, passages.SAMPLES // stft.num_samples)
    cut = [np.resize(x, max(len(x), stft.num_samples))[: count * stft.num_samples].reshape(count, -1) for x in sounds]
    return spectrogram.magnitude(np.stack(cut), stft)


def embed(run: runs.Run, clips: Sequence[np.ndarray]) -> np.ndarray:
    """Embedding of each (dry, reference): mu, mean over its windows, float32, (n, latent_dim)."""
    import torch

    model = run.model.eval()
    with torch.inference_mode():
        mu, _ = model.encode(torch.from_numpy(np.concatenate(clips)))
    ends = np.cumsum([len(clip) for clip in clips])[:-1]
    return np.stack([part.mean(0) for part in np.split(mu.numpy(), ends)])


def classes(
    preset: config.Preset, dry: Dry, names: Sequence[str], count: int, *, members: int = 4, seed: int = 0
) -> np.ndarray:
    """Measures of passages through effects at random settings, the same for each few passages: for `style_space.fit`.

    Parameters
    ----------
    preset : Preset
    dry : Dry
    names : sequence of str
        Effects, in turn.
    count : int
        Classes.
    members : int
        Passages in each.
    seed : int

    Returns
    -------
    array, float32, shape (count, members, n_measures)

    Used in `05_controller_training`.
    """
    fxs = [effects.load(name) for name in names]

    def one(index: int):
        rng = np.random.default_rng([seed, index])
        chosen = rng.choice(len(dry.sounds), members, replace=False)
        _, *sounds = draw_settings(fxs[index % len(fxs)], dry.sounds[chosen], rng, preset.render.peak_dbfs)
        return np.stack([style.measure(sound).numbers for sound in sounds])

    return np.stack(blackbox.in_threads(one, range(count)))
