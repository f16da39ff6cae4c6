"""Sounds of speakers whom no network has heard, through one effect: what maps to play on are asked about."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from vaefx_lib import (
    audio,
    blackbox,
    config,
    controller,
    controller_material,
    effects,
    passages,
    references,
    store,
    style,
)
from vaefx_lib.playable import Playable
from vaefx_lib.playable_surrogate import Heard
from vaefx_lib.stft_distance import WIDE_WINDOWS, MrstftTo, spectra

SAMPLES = 65_536  # of each sound: 2.7 s
PLACED, PASSAGES = 64, 24  # unseen references of an effect that are placed, of so many dry passages, at most
HEARD = 20  # of these: rendered again
SOURCES = (*controller_material.SOURCES, "playable_sounds.py", "stft_distance.py")  # the code that they depend on
NUDGE = 0.03  # of a slider's way: what a hand is off by


@dataclass(frozen=True, eq=False)
class Sounds:
    """Sounds of unseen speakers through one effect at random settings, and what maps are told of them.

    Attributes
    ----------
    effect : str
    refs : References
        Up to `PLACED` of them, each 5.46 s.
    dry_numbers : array, float32, shape (n, n_measures)
        Of the dry sound of other words that is heard beside each.
    dry : array, float32, shape (n, SAMPLES)
        The louder half of that passage.
    wet : list of array
        The same through the effect.
    truths : list of MrstftTo
        The distance of any sound from each of the first `HEARD` of these.
    brightness_hz, depth : array, shape (n,)
        Mean frequency, and MRSTFT from the dry sound.
    apart : array, shape (n, n)
        MRSTFT between every two settings, heard on one and the same passage.
    tolerance : float
        MRSTFT between two sounds when every setting is off by `NUDGE`, up or down: median.
    """

    effect: str
    refs: references.References
    dry_numbers: np.ndarray
    dry: np.ndarray
    wet: list[np.ndarray]
    truths: list[MrstftTo]
    brightness_hz: np.ndarray
    depth: np.ndarray
    apart: np.ndarray
    tolerance: float

    @property
    def variety(self) -> float:
        """MRSTFT between two random settings: median."""
        return float(np.median(self.apart[np.triu_indices(len(self.apart), 1)]))

    def places(self, made: Playable) -> np.ndarray:
        """Where they lie on a map, each heard beside its dry sound, (n, dim)."""
        return made.place_features(made.inputs.features(self.dry_numbers, self.refs.numbers, self.refs.mu))

    def distances(self, settings: np.ndarray, rows: Iterable[int] | None = None) -> np.ndarray:
        """MRSTFT of the first `HEARD` sounds, or of these rows, from the same passages at other settings.

        Settings have the shape (n, n_params), a row for each sound.
        """
        return _distances(self.effect, self.dry, self.truths, settings, rows)


def draw(preset: config.Preset, heard: Heard, effect: str, *, seed: int = 0) -> Sounds:
    """Sounds of the test speakers of a preset.

    Parameters
    ----------
    preset : Preset
    heard : Heard
    effect : str
    seed : int

    Returns
    -------
    Sounds

    Used in `06_playable_latent`.
    """
    run, choices = heard.material.run, preset.controller
    passages_dry = references.draw_dry(preset, "test", min(PASSAGES, choices.n_passages), seed=seed)
    path = config.playable_dir(preset.name) / f"sounds_{store.file_name(effect)}.safetensors"
    key = controller_material.fingerprint(preset, run, [effect], ["sounds", choices.n_valid, seed], SOURCES)
    found = store.cached(path, key, lambda: _measured(preset, run, passages_dry, effect, seed))
    refs = references.References(effect, *(found[name] for name in controller_material.ARRAYS))
    dry, wet = _passages(preset, passages_dry, refs)
    truths = blackbox.in_threads(MrstftTo, wet[:HEARD])
    told = (found["numbers_dry"], dry, wet, truths, found["brightness_hz"], found["depth"], found["apart"])
    return Sounds(effect, refs, *told, float(found["tolerance"]))


def _measured(preset, run, passages_dry: references.Dry, effect: str, seed: int) -> dict[str, np.ndarray]:
    """All of `Sounds` that takes long."""
    fx, count = effects.load(effect), min(PLACED, preset.controller.n_valid)
    numbers = np.stack([found.numbers for found in blackbox.in_threads(style.measure, list(passages_dry.sounds))])
    refs = references.draw(preset, run, passages_dry, effect, count, seed=seed + 1)
    kept = [i for i, sound in enumerate(_passages(preset, passages_dry, refs)[1]) if not audio.is_silent(sound)]
    of = {name: getattr(refs, name)[kept] for name in controller_material.ARRAYS}
    refs = references.References(effect, *of.values())
    dry, wet = _passages(preset, passages_dry, refs)
    signs = np.random.default_rng(seed).choice([-1, 1], (count, refs.settings.shape[1]))[kept]
    nudged = np.clip(refs.settings + NUDGE * signs, 0, 1)
    return of | {
        "numbers_dry": numbers[refs.inputs],
        "brightness_hz": np.array([brightness_hz(sound) for sound in wet]),
        "depth": np.array(blackbox.in_threads(lambda pair: MrstftTo(pair[0])(pair[1]), list(zip(dry, wet)))),
        "apart": between(blackbox.in_threads(lambda settings: rendered(fx, dry[0], settings), refs.settings)),
        "tolerance": np.median(_distances(effect, dry, blackbox.in_threads(MrstftTo, wet[:HEARD]), nudged)),
    }


def _passages(preset, passages_dry: references.Dry, refs: references.References) -> tuple[np.ndarray, list[np.ndarray]]:
    """The louder half of each reference's passage at one level, (n, SAMPLES), and the same through the effect."""
    fx = effects.load(refs.effect)
    halves = [max(np.split(passages_dry.sounds[i], 2), key=lambda half: np.square(half).sum()) for i in refs.passages]
    dry = np.stack([audio.peak_level(half, preset.render.peak_dbfs) for half in halves])
    return dry, blackbox.in_threads(lambda i: rendered(fx, dry[i], refs.settings[i]), range(len(dry)))


def baselines(sounds: Sounds, trained: controller.Controller, *, seed: int = 0) -> dict[str, dict[str, float]]:
    """What lazy answers score, and the controller without a bottleneck: round trip and error of the settings.

    Returns
    -------
    dict of str to dict of str to float
        "none" (the dry sound), "random" and "mean" (settings), "controller", "oracle" (the true settings) ->
        `roundtrip_mrstft` and, but for "none", `settings_mae`.

    Used in `06_playable_latent`.
    """
    count, refs = len(sounds.truths), sounds.refs
    true = refs.settings[:count].astype(np.float64)
    features = torch.from_numpy(trained.scale.features(sounds.dry_numbers, refs.numbers, refs.mu)[:count])
    with torch.inference_mode():
        answers = trained.net(features, trained.effects.index(sounds.effect))[0].double().numpy()
    tried = {"random": np.random.default_rng(seed).uniform(size=true.shape), "mean": np.full(true.shape, 0.5)}
    tried |= {"controller": answers, "oracle": true}
    found = {
        name: {
            "roundtrip_mrstft": float(sounds.distances(settings).mean()),
            "settings_mae": float(np.abs(settings - true).mean()),
        }
        for name, settings in tried.items()
    }
    return {"none": {"roundtrip_mrstft": float(sounds.depth[:count].mean())}} | found


def between(sounds: Sequence[np.ndarray]) -> np.ndarray:
    """`mrstft_wide` between every two sounds of one length, mean of both directions: float64, (n, n)."""
    total = np.zeros((len(sounds), len(sounds)))
    for window in WIDE_WINDOWS:
        found = [spectra(sound, (window,)) for sound in sounds]
        flat, logs = (np.stack([getattr(s, name)[0].ravel() for s in found]) for name in ("magnitudes", "logarithms"))
        products = (flat @ flat.T).astype(np.float64)
        power = np.maximum(np.diag(products), 1e-12)
        total += np.sqrt(np.maximum(power[:, None] + power - 2 * products, 0) / power[:, None])
        total += torch.cdist(*[torch.from_numpy(logs)] * 2, p=1).numpy() / logs.shape[1]
    return (total + total.T) / (2 * len(WIDE_WINDOWS))


def rendered(fx: effects.Effect, dry: np.ndarray, settings) -> np.ndarray:
    """A passage through an effect."""
    return blackbox.wet(fx, dry, np.asarray(settings, np.float64), passages.RATE_HZ)


def brightness_hz(sound: np.ndarray) -> float:
    """Mean frequency, weighted by magnitude."""
    magnitudes = np.abs(np.fft.rfft(sound))
    return float(magnitudes @ np.fft.rfftfreq(len(sound), 1 / passages.RATE_HZ) / magnitudes.sum())


def _distances(effect: str, dry, truths: Sequence[MrstftTo], settings: np.ndarray, rows=None) -> np.ndarray:
    fx = effects.load(effect)
    rows = range(min(len(truths), len(settings))) if rows is None else rows
    return np.array(blackbox.in_threads(lambda i: truths[i](rendered(fx, dry[i], settings[i])), rows))
