"""What a map is worth to somebody who plays on it: what comes back, how smoothly, how much can be reached.

All is measured on `playable_sounds`, of speakers whom no network has heard. Of each map: the *round trip* (settings,
sound, place, settings, sound), *smoothness* along lines across it, *coverage* of the sounds that an effect can make,
whether neighbours stay neighbours, whether an axis means something, and how long one decoding takes.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence

import numpy as np
import torch
from scipy.spatial.distance import cdist
from scipy.stats import qmc, spearmanr

from vaefx_lib import audio, blackbox, effects
from vaefx_lib.playable import Playable
from vaefx_lib.playable_sounds import Sounds, rendered
from vaefx_lib.playable_surrogate import Heard
from vaefx_lib.stft_distance import spectra

LINES, STEPS = 3, 10  # across a map, and steps on each
DENSE = 4096  # places among which the nearest to a sound is looked for
NEIGHBOURS = 5
SCORES = (
    *("roundtrip_mrstft", "settings_mae", "smoothness", "worst_jump", "coverage", "trustworthiness", "continuity"),
    *("axis_rank_corr", "decode_ms"),
)


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
        `coverage`: share of sounds to which a place comes within `Sounds.tolerance`, at least. `trustworthiness` and
        `continuity`: of places, against how far apart their settings sound on one passage (`Sounds.apart`).
        `axis_rank_corr`: largest absolute Spearman correlation of an axis with a setting, brightness or depth, mean
        over axes. `decode_ms`: median of single decodings.
    places : array, shape (n, dim)

    Used in `06_playable_latent`.
    """
    refs, effect = sounds.refs, sounds.effect
    places = sounds.places(made)
    back = made.settings(places, effect)
    trips = sounds.distances(back)
    away = cdist(places, places)
    smoothness, worst = _smoothness(made, sounds, seed)
    values = {
        "roundtrip_mrstft": trips.mean(),
        "settings_mae": np.abs(back - refs.settings)[: len(trips)].mean(),
        "smoothness": smoothness,
        "worst_jump": worst,
        "coverage": _coverage(made, heard, sounds, trips),
        "trustworthiness": trustworthiness(sounds.apart, away),
        "continuity": trustworthiness(away, sounds.apart),
        "axis_rank_corr": _axis_rank_corr(places, sounds),
        "decode_ms": _decode_ms(made, places, effect),
    }
    return {name: float(value) for name, value in values.items()}, places


def trustworthiness(true: np.ndarray, shown: np.ndarray) -> float:
    """Whether those who are shown as neighbours are neighbours: 1 if all are, about 0.5 if by chance.

    Each of the `NEIGHBOURS` nearest that are shown costs as many ranks as it is in truth further than that. With the
    two exchanged it is the continuity: whether true neighbours are shown as such.

    Parameters
    ----------
    true, shown : array, shape (n, n)
        Distances.

    References
    ----------
    Venna and Kaski: Neighborhood preservation in nonlinear projection methods, ICANN 2001.

    Used in `06_playable_latent`.
    """
    count, k = len(true), min(NEIGHBOURS, (len(true) - 1) // 2)
    others = ~np.eye(count, dtype=bool)
    ranks = np.where(others, true, -np.inf).argsort(1, kind="stable").argsort(1)  # 0 is oneself
    near = np.where(others, shown, np.inf).argsort(1, kind="stable")[:, :k]
    missed = np.maximum(np.take_along_axis(ranks, near, 1) - k, 0).sum()
    return float(1 - 2 * missed / (count * k * (2 * count - 3 * k - 1)))


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


def _smoothness(made: Playable, sounds: Sounds, seed: int) -> tuple[float, float]:
    """Along lines from a corner of the box between the 5th and the 95th percentile of places to the opposite one."""
    rng, fx = np.random.default_rng(seed), effects.load(sounds.effect)
    low, high = np.percentile(made.places[sounds.effect], (5, 95), axis=0)
    means, worst = [], []
    for line in range(LINES):
        begin = np.where(rng.uniform(size=made.dim) < 0.5, low, high)
        alpha = np.linspace(0, 1, STEPS + 1)[:, None]
        way = made.settings((1 - alpha) * begin + alpha * (low + high - begin), sounds.effect)
        walk = blackbox.in_threads(lambda s, line=line: rendered(fx, sounds.dry[line], s), way)
        seen = blackbox.in_threads(spectra, walk)
        steps = [seen[i].distance(seen[i + 1]) for i in range(STEPS) if not audio.is_silent(walk[i])]
        if steps:  # else all of the line is silent
            means.append(np.mean(steps))
            worst.append(np.max(steps) / max(means[-1], 1e-9))
    return (float(np.mean(means)), float(np.mean(worst))) if means else (0.0, 0.0)


def _coverage(made: Playable, heard: Heard, sounds: Sounds, trips: np.ndarray) -> float:
    """Where the map itself does not bring a sound back near enough, two more places within reach of the sliders are
    tried for it: where the surrogate hears least difference, and where settings are nearest."""
    points = qmc.scale(qmc.Sobol(made.dim, seed=0).random(DENSE), made.low, np.maximum(made.high, made.low + 1e-9))
    settings, true = made.settings(points, sounds.effect), sounds.refs.settings[: len(trips)]
    surrogate = heard.surrogates[sounds.effect]
    with torch.inference_mode():
        weights = surrogate.certainty.sqrt()
        changed, wanted = (surrogate(torch.from_numpy(x).float()) * weights for x in (settings, true))
        alike = torch.cdist(wanted, changed).argmin(1).numpy()
    reached = trips <= sounds.tolerance
    for nearest in (alike, cdist(true, settings).argmin(1)):
        left = np.flatnonzero(~reached)
        reached[left] = sounds.distances(settings[nearest], left) <= sounds.tolerance
    return float(reached.mean())


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
