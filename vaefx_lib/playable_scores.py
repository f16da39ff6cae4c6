"""Maps of every method and size, scored and compared: bottleneck or UMAP?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from vaefx_lib import config, corpora, critic, effects, store
from vaefx_lib import playable_training as training
from vaefx_lib.playable import METHODS
from vaefx_lib.playable_learning import Heard, fit_bottleneck
from vaefx_lib.playable_measures import SCORES, Sounds, score, stability

SEEDS, DIMS = (0, 1, 2), (2, 4, 8)
SOURCES = ("playable_scores.py", "playable_measures.py", *training.SOURCES, "stft_distance.py")


def study(
    preset: config.Preset,
    heard: Heard,
    sounds: Sounds,
    *,
    dims: Sequence[int] = DIMS,
    seeds: Sequence[int] = SEEDS,
    methods: Sequence[str] = METHODS,
) -> dict[str, dict[int, dict[str, float]]]:
    """Scores of every method at every number of dimensions for one effect, means over seeds; what was scored is kept.

    Parameters
    ----------
    preset : Preset
    heard : Heard
    sounds : Sounds
        As `draw` gives them.
    dims, seeds : sequence of int
    methods : sequence of str
        Of `playable.METHODS`. "pca" knows no chance: it is made once.

    Returns
    -------
    dict
        method -> dim -> `SCORES` and `stability`.

    Used in `06_playable_latent`.
    """
    found: dict[str, dict[int, dict[str, float]]] = {method: {} for method in methods}
    for dim in dims:

        def compute(dim=dim):
            return _scored(preset, heard, sounds, dim, seeds, methods)

        kept = _kept(preset, heard, sounds, f"scores_{dim}", [dim, list(seeds), list(methods)], compute)
        for name, value in kept.items():
            method, score_name = name.split("/")
            found[method].setdefault(dim, {})[score_name] = float(value)
    return found


def variants(preset: config.Preset, heard: Heard, sounds: Sounds, *, dim: int = 2, seed: int = 0) -> dict[str, float]:
    """Round trips of what a bottleneck might learn from, and of what UMAP might be made of; what was scored is kept.

    Parameters
    ----------
    preset, heard, sounds
        As `study` takes them.
    dim, seed : int

    Returns
    -------
    dict
        "settings", "heard" (by the surrogate) and "both": losses of a bottleneck; "sound": both, and then through the
        effect, as `Playable` has it. "umap_of_settings", "umap_of_mu": with a learned decoder.

    Used in `06_playable_latent`.
    """

    def compute() -> dict[str, np.ndarray]:
        names, found = (sounds.effect,), {}

        def trip(made) -> float:
            return float(sounds.distances(made.settings(sounds.places(made), sounds.effect)).mean())

        weights = {"settings": (10.0, 0.0), "heard": (0.1, 1.0), "both": (10.0, 1.0)}
        for name, pair in weights.items():
            net, _ = fit_bottleneck(heard, names, dim, seed=seed, weights=pair)
            found[name] = trip(training.around_net(preset, heard, names, net, seed=seed))
        found["sound"] = trip(training.make(preset, heard, names, "bottleneck", dim, seed=seed)[0])
        for of in ("settings", "mu"):
            made = training.around_umap(preset, heard, names, ["umap_decoder"], dim, of=of, seed=seed)
            found[f"umap_of_{of}"] = trip(made["umap_decoder"][0])
        return {name: np.array(value) for name, value in found.items()}

    return {n: float(v) for n, v in _kept(preset, heard, sounds, "variants", [dim, seed], compute).items()}


def summary(found: Mapping[str, Mapping], lazy: Mapping[str, Mapping]) -> dict:
    """Scores of several effects, nested as in `metrics.json`.

    Parameters
    ----------
    found : mapping
        Effect -> what `study` gives.
    lazy : mapping
        Effect -> what `baselines` gives.

    Returns
    -------
    dict
        method -> dim -> score, mean over effects, and under the short name of each effect its own; "baselines"
        likewise.
    """

    def merged(rows: dict[str, Mapping[str, float]]) -> dict:
        names = next(iter(rows.values()))
        means = {name: float(np.mean([row[name] for row in rows.values()])) for name in names}
        return means | {effect.split(":")[-1]: dict(row) for effect, row in rows.items()}

    one, one_lazy = next(iter(found.values())), next(iter(lazy.values()))
    table = {
        method: {str(dim): merged({effect: of[method][dim] for effect, of in found.items()}) for dim in by_dim}
        for method, by_dim in one.items()
    }
    return table | {"baselines": {name: merged({effect: of[name] for effect, of in lazy.items()}) for name in one_lazy}}


def verdict(table: Mapping[str, Mapping[str, Mapping[str, float]]]) -> dict[str, dict]:
    """Which method's round trip is nearest at each number of dimensions, and what follows.

    Parameters
    ----------
    table : mapping
        method -> dim -> scores, as `summary` gives them.

    Returns
    -------
    dict
        dim -> `best` (the method), `bottleneck`, `umap` (the best of UMAP's) and `umap_method`: round trips; `beats`:
        names of the UMAP methods whose round trip the bottleneck beats.

    Used in `06_playable_latent`.
    """
    found = {}
    for dim, own in table["bottleneck"].items():
        trips = {method: of[dim]["roundtrip_mrstft"] for method, of in table.items() if method in METHODS}
        umaps = {method: trip for method, trip in trips.items() if method.startswith("umap")}
        nearest = min(umaps, key=umaps.get)
        found[dim] = {
            "best": min(trips, key=trips.get),
            "bottleneck": own["roundtrip_mrstft"],
            "umap": umaps[nearest],
            "umap_method": nearest,
            "beats": [method for method, trip in umaps.items() if own["roundtrip_mrstft"] < trip],
        }
    return found


def _kept(
    preset: config.Preset, heard: Heard, sounds: Sounds, name: str, given: list, compute
) -> dict[str, np.ndarray]:
    """`compute`, or what it gave for the same sounds, maps and code."""
    sources = [Path(__file__).parent / source for source in SOURCES]
    effect, run = sounds.effect, heard.material.run
    about = [run.fingerprint, effect, effects.load(effect).version, preset.name, critic.load().about["sha256"]]
    key = store.fingerprint(given, about, corpora.fingerprint(preset.render.corpus), sounds.refs.numbers, *sources)
    label = effect.split(":")[-1].replace("/", "_")
    return store.cached(config.playable_dir(preset.name) / f"{label}_{name}.safetensors", key, compute)


def _scored(preset, heard, sounds, dim, seeds, methods) -> dict[str, np.ndarray]:
    """method/score -> mean over seeds."""
    rows: dict[str, list[dict]] = {method: [] for method in methods}
    places: dict[str, list[np.ndarray]] = {method: [] for method in methods}
    for seed in seeds:
        wanted = [method for method in methods if method != "pca" or seed == seeds[0]]
        made = training.make_alike(preset, heard, [sounds.effect], wanted, dim, seed=seed)
        for method, (one, _) in made.items():
            scores, at = score(one, heard, sounds, seed=seed)
            rows[method].append(scores)
            places[method].append(at)
    found = {f"{m}/{name}": np.mean([row[name] for row in of]) for m, of in rows.items() for name in SCORES}
    return found | {f"{method}/stability": np.array(stability(at)) for method, at in places.items()}
