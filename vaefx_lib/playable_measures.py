"""What a map is worth to somebody who plays on it: what comes back, how smoothly, how much can be reached.

All is measured on speakers whom no network has heard. Of each map: the *round trip* (settings, sound, place, settings,
sound), *smoothness* along lines across it, *coverage* of the sounds that an effect can make, whether neighbours stay
neighbours, whether an axis means something, and how long one decoding takes.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.stats import qmc, spearmanr

from vaefx_lib import (
    audio,
    blackbox,
    config,
    controller,
    controller_material,
    critic,
    effects,
    passages,
    references,
    style,
)
from vaefx_lib.playable import Playable
from vaefx_lib.playable_learning import Heard
from vaefx_lib.stft_distance import MrstftTo

SAMPLES = 65_536  # of each sound: 2.7 s
PLACED, PASSAGES = 80, 40  # unseen references of an effect that are placed, of so many dry passages
HEARD, REACHED = 24, 12  # of these: rendered again, and looked for on the map
LINES, STEPS = 4, 10  # across a map, and steps on each
DENSE = 4096  # places among which the nearest to a sound is looked for
ALIKE = 0.05  # distance of style: about what moving every setting of Overdrive by 0.03 makes; other words make 1
NEIGHBOURS = 5
SCORES = (
    *("roundtrip_mrstft", "settings_mae", "smoothness", "worst_jump", "coverage", "trustworthiness", "continuity"),
    *("axis_rank_corr", "decode_ms"),
)


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
    brightness_hz, depth : array, shape (n,)
        Mean frequency, and MRSTFT from the dry sound.
    """

    effect: str
    refs: references.References
    dry_numbers: np.ndarray
    dry: np.ndarray
    wet: list[np.ndarray]
    brightness_hz: np.ndarray
    depth: np.ndarray

    def places(self, made: Playable) -> np.ndarray:
        """Where they lie on a map, each heard beside its dry sound, (n, dim)."""
        return made.place_features(made.inputs.features(self.dry_numbers, self.refs.numbers, self.refs.mu))

    def distances(self, settings: np.ndarray) -> np.ndarray:
        """MRSTFT of the first `HEARD` sounds from the same passages at other settings, shape (n, n_params)."""
        fx = effects.load(self.effect)

        def one(i):
            return MrstftTo(self.wet[i])(_wet(fx, self.dry[i], settings[i]))

        return np.array(blackbox.in_threads(one, range(min(HEARD, len(settings)))))


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
    fx, run = effects.load(effect), heard.material.run
    dry = references.draw_dry(preset, "test", PASSAGES, seed=seed)
    numbers = np.stack([found.numbers for found in blackbox.in_threads(style.measure, list(dry.sounds))])
    refs = references.draw(preset, run, dry, effect, PLACED, seed=seed + 1)
    halves = [max(np.split(dry.sounds[i], 2), key=lambda half: np.square(half).sum()) for i in refs.passages]
    short = np.stack([audio.peak_level(half, preset.render.peak_dbfs) for half in halves])
    wet = blackbox.in_threads(lambda i: _wet(fx, short[i], refs.settings[i]), range(PLACED))
    kept = [i for i, sound in enumerate(wet) if not audio.is_silent(sound)]
    refs = references.References(effect, *(getattr(refs, name)[kept] for name in controller_material.ARRAYS))
    short, wet = short[kept], [wet[i] for i in kept]
    brightness = np.array([_brightness_hz(sound) for sound in wet])
    depth = np.array(blackbox.in_threads(lambda pair: MrstftTo(pair[0])(pair[1]), list(zip(short, wet))))
    return Sounds(effect, refs, numbers[refs.inputs], short, wet, brightness, depth)


def baselines(sounds: Sounds, trained: controller.Controller, *, seed: int = 0) -> dict[str, dict[str, float]]:
    """What lazy answers score, and the controller without a bottleneck: round trip and error of the settings.

    Returns
    -------
    dict of str to dict of str to float
        "none" (the dry sound), "random" and "mean" (settings), "controller", "oracle" (the true settings) ->
        `roundtrip_mrstft` and, but for "none", `settings_mae`.

    Used in `06_playable_latent`.
    """
    true, refs = sounds.refs.settings[:HEARD].astype(np.float64), sounds.refs
    features = torch.from_numpy(trained.scale.features(sounds.dry_numbers, refs.numbers, refs.mu)[:HEARD])
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
    return {"none": {"roundtrip_mrstft": float(sounds.depth[:HEARD].mean())}} | found


def score(made: Playable, heard: Heard, sounds: Sounds, *, seed: int = 0) -> tuple[dict[str, float], np.ndarray]:
    """All `SCORES` of a map for one effect.

    Parameters
    ----------
    made : Playable
    heard : Heard
        Its surrogate proposes places near to a sound; what counts is then measured.
    sounds : Sounds
    seed : int
        Of the lines.

    Returns
    -------
    scores : dict of str to float
        `roundtrip_mrstft`: see `Sounds.distances`. `settings_mae`. `smoothness`: mean MRSTFT of one step of a tenth of
        the way across. `worst_jump`: the largest step of a line divided by its mean, mean over lines; 1 is even.
        `coverage`: share of sounds that a place comes nearer to than `ALIKE`, at least. `trustworthiness` and
        `continuity`: of places against whitened measures. `axis_rank_corr`: largest absolute Spearman correlation of an
        axis with a setting, brightness or depth, mean over axes. `decode_ms`: median of single decodings.
    places : array, shape (n, dim)

    References
    ----------
    Venna and Kaski: Neighborhood preservation in nonlinear projection methods, ICANN 2001.

    Used in `06_playable_latent`.
    """
    from sklearn.manifold import trustworthiness

    refs, effect = sounds.refs, sounds.effect
    places = sounds.places(made)
    back = made.settings(places, effect)
    whitened = refs.numbers @ critic.load().space.whitening
    smoothness, worst = _smoothness(made, sounds, seed)
    values = {
        "roundtrip_mrstft": sounds.distances(back).mean(),
        "settings_mae": np.abs(back - refs.settings)[:HEARD].mean(),
        "smoothness": smoothness,
        "worst_jump": worst,
        "coverage": _coverage(made, heard, sounds),
        "trustworthiness": trustworthiness(whitened, places, n_neighbors=NEIGHBOURS),
        "continuity": trustworthiness(places, whitened, n_neighbors=NEIGHBOURS),
        "axis_rank_corr": _axis_rank_corr(places, sounds),
        "decode_ms": _decode_ms(made, places, effect),
    }
    return {name: float(value) for name, value in values.items()}, places


def stability(places: Sequence[np.ndarray]) -> float:
    """How alike maps of several seeds are, whatever their rotation and scale: linear CKA, mean over pairs; 1 is equal.

    Parameters
    ----------
    places : sequence of array, shape (n, dim)
        Of the same sounds.

    References
    ----------
    Kornblith, Norouzi, Lee, Hinton: Similarity of neural network representations revisited, ICML 2019.

    Used in `06_playable_latent`.
    """
    centred = [x - x.mean(0) for x in places]
    values = [
        np.square(a.T @ b).sum() / (np.linalg.norm(a.T @ a) * np.linalg.norm(b.T @ b))
        for a, b in itertools.combinations(centred, 2)
    ]
    return float(np.mean(values)) if values else 1.0


def _wet(fx, dry, settings) -> np.ndarray:
    return blackbox.wet(fx, dry, np.asarray(settings, np.float64), passages.RATE_HZ)


def _brightness_hz(sound: np.ndarray) -> float:
    """Mean frequency, weighted by magnitude."""
    magnitudes = np.abs(np.fft.rfft(sound))
    return float(magnitudes @ np.fft.rfftfreq(len(sound), 1 / passages.RATE_HZ) / magnitudes.sum())


def _smoothness(made: Playable, sounds: Sounds, seed: int) -> tuple[float, float]:
    """Along lines from a corner of the box between the 5th and the 95th percentile of places to the opposite one."""
    rng, fx = np.random.default_rng(seed), effects.load(sounds.effect)
    low, high = np.percentile(made.places[sounds.effect], (5, 95), axis=0)
    means, worst = [], []
    for line in range(LINES):
        begin = np.where(rng.uniform(size=made.dim) < 0.5, low, high)
        alpha = np.linspace(0, 1, STEPS + 1)[:, None]
        way = made.settings((1 - alpha) * begin + alpha * (low + high - begin), sounds.effect)
        heard = blackbox.in_threads(lambda s, line=line: _wet(fx, sounds.dry[line], s), way)
        pairs = [(a, b) for a, b in itertools.pairwise(heard) if not audio.is_silent(a)]
        if pairs:  # else all of the line is silent
            steps = blackbox.in_threads(lambda pair: MrstftTo(pair[0])(pair[1]), pairs)
            means.append(np.mean(steps))
            worst.append(np.max(steps) / max(means[-1], 1e-9))
    return (float(np.mean(means)), float(np.mean(worst))) if means else (0.0, 0.0)


def _coverage(made: Playable, heard: Heard, sounds: Sounds) -> float:
    """Two places are tried for each sound: of the nearest settings, and where the surrogate hears least difference."""
    points = qmc.scale(qmc.Sobol(made.dim, seed=0).random(DENSE), made.low, np.maximum(made.high, made.low + 1e-9))
    settings, true = made.settings(points, sounds.effect), sounds.refs.settings[:REACHED]
    surrogate, fx, space = heard.surrogates[sounds.effect], effects.load(sounds.effect), critic.load().space
    with torch.inference_mode():
        unlike = [surrogate.unlike(torch.from_numpy(settings).float(), torch.from_numpy(one)).numpy() for one in true]
    away = np.square(settings - true[:, None]).sum(2)

    def reached(i):
        distance = space.target(style.measure(sounds.wet[i]))
        found = [_wet(fx, sounds.dry[i], settings[which[i].argmin()]) for which in (unlike, away)]
        return any(sound.any() and distance(style.measure(sound)) < ALIKE for sound in found)

    return float(np.mean(blackbox.in_threads(reached, range(len(true)))))


def _axis_rank_corr(places: np.ndarray, sounds: Sounds) -> float:
    """Mean over axes that move at all; an axis that stands still means nothing."""
    told = np.column_stack([sounds.refs.settings, sounds.brightness_hz, sounds.depth])
    best = [
        np.nanmax([abs(spearmanr(axis, column).statistic) for column in told.T]) if np.ptp(axis) > 0 else 0.0
        for axis in places.T
    ]
    return float(np.mean(best))


def _decode_ms(made: Playable, places: np.ndarray, effect: str) -> float:
    taken = []
    for z in places[:20]:
        began = time.perf_counter()
        made.settings(z, effect)
        taken.append(time.perf_counter() - began)
    return 1000 * float(np.median(taken))
