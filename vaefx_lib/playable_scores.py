"""Maps of every method and size, scored and compared: bottleneck or UMAP?"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import joblib
import numpy as np

from vaefx_lib import config, controller_material, store
from vaefx_lib import playable_training as training
from vaefx_lib.playable import METHODS, Playable
from vaefx_lib.playable_learning import fit_bottleneck
from vaefx_lib.playable_measures import SCORES, score, stability
from vaefx_lib.playable_sounds import Sounds
from vaefx_lib.playable_surrogate import Heard

SEEDS, DIMS = (0, 1, 2), (2, 4, 8)
LOSSES = {"settings": (10.0, 0.0), "heard": (0.1, 1.0), "both": (10.0, 1.0)}  # weights of a bottleneck's
IDLE_S = 10  # after which a worker ends
SOURCES = ("playable_scores.py", "playable_measures.py", "playable_sounds.py", *training.SOURCES, "stft_distance.py")


def study(
    preset: config.Preset,
    heard: Heard,
    sounds: Mapping[str, Sounds],
    *,
    dims: Sequence[int] = DIMS,
    seeds: Sequence[int] = SEEDS,
    methods: Sequence[str] = METHODS,
) -> dict[str, dict[str, dict]]:
    """Scores of every method at every number of dimensions, each effect by itself; what was scored is kept.

    Parameters
    ----------
    preset : Preset
    heard : Heard
    sounds : mapping
        Effect -> what `playable_sounds.draw` gives.
    dims, seeds : sequence of int
    methods : sequence of str
        Of `playable.METHODS`. "pca" knows no chance: it is made once.

    Returns
    -------
    dict
        effect -> method -> dim, as text -> `playable_measures.SCORES`, means over seeds; `roundtrip_std`, the deviation
        over seeds; and `stability`. Also effect -> "variants" -> label -> round trip with the fewest dimensions and the
        first seed: of bottlenecks that learn "settings", what is "heard" (by the surrogate) or "both"; of those methods
        that are asked for, "sound", the bottleneck that learns both and then through the effect, "umap_of_mu" with a
        learned decoder, and "umap_of_settings" with another.

    Used in `06_playable_latent`.
    """
    names, run = list(sounds), heard.material.run
    choices = [dataclasses.asdict(preset.controller), list(dims), list(seeds), list(methods)]
    about = controller_material.fingerprint(preset, run, names, choices, SOURCES)
    key = store.fingerprint(about, *(sounds[name].refs.numbers for name in names))

    def compute() -> dict[str, np.ndarray]:
        tasks = [(name, dim) for dim in dims for name in names]
        options = {"n_jobs": min(joblib.cpu_count(), len(tasks)), "idle_worker_timeout": IDLE_S}
        with joblib.parallel_config("loky", inner_max_num_threads=1):
            ask = joblib.delayed(_scored)
            rows = joblib.Parallel(**options)(
                ask(preset, heard, sounds[name], dim, seeds, methods, dim == dims[0]) for name, dim in tasks
            )
        return {f"{name}|{way}": np.array(value) for (name, _), row in zip(tasks, rows) for way, value in row.items()}

    found: dict[str, dict[str, dict]] = {}
    for label, value in store.cached(config.playable_dir(preset.name) / "scores.safetensors", key, compute).items():
        *way, last = label.split("|")
        inside: dict = found
        for step in way:
            inside = inside.setdefault(step, {})
        inside[last] = float(value)
    return found


def summary(found: Mapping[str, Mapping], lazy: Mapping[str, Mapping]) -> dict:
    """Scores of several effects, nested as in `metrics.json`.

    Parameters
    ----------
    found : mapping
        Effect -> what `study` gives.
    lazy : mapping
        Effect -> what `playable_sounds.baselines` gives.

    Returns
    -------
    dict
        method -> dim -> score, mean over effects, and under the short name of each effect its own; "variants" and
        "baselines" likewise.

    Used in `06_playable_latent`.
    """

    def merged(rows: dict[str, Mapping[str, float]]) -> dict:
        names = next(iter(rows.values()))
        means = {name: float(np.mean([row[name] for row in rows.values()])) for name in names}
        return means | {effect.split(":")[-1]: dict(row) for effect, row in rows.items()}

    one, one_lazy = next(iter(found.values())), next(iter(lazy.values()))
    table: dict = {
        method: {dim: merged({effect: of[method][dim] for effect, of in found.items()}) for dim in by_dim}
        for method, by_dim in one.items()
        if method in METHODS
    }
    if "variants" in one:
        table["variants"] = merged({effect: of["variants"] for effect, of in found.items()})
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
        trips = {method: table[method][dim]["roundtrip_mrstft"] for method in METHODS if method in table}
        umaps = {method: trip for method, trip in trips.items() if method.startswith("umap")}
        nearest = min(umaps, key=lambda method: umaps[method])
        found[dim] = {
            "best": min(trips, key=lambda method: trips[method]),
            "bottleneck": own["roundtrip_mrstft"],
            "umap": umaps[nearest],
            "umap_method": nearest,
            "beats": [method for method, trip in umaps.items() if own["roundtrip_mrstft"] < trip],
        }
    return found


def _scored(preset, heard: Heard, sounds: Sounds, dim: int, seeds, methods, with_variants: bool) -> dict[str, float]:
    """method|dim|score, mean over seeds, and variants|label, of the first seed."""
    rows: dict[str, list[dict]] = {method: [] for method in methods}
    places: dict[str, list[np.ndarray]] = {method: [] for method in methods}
    variants: dict[str, Playable] = {}
    for seed in seeds:
        wanted = [method for method in methods if method != "pca" or seed == seeds[0]]
        made = {
            m: one
            for m, (one, _) in training.make_alike(preset, heard, [sounds.effect], wanted, dim, seed=seed).items()
        }
        for method, one in made.items():
            scores, at = score(one, heard, sounds, seed=seed)
            rows[method].append(scores)
            places[method].append(at)
        if with_variants and seed == seeds[0]:
            variants = _variants(preset, heard, sounds.effect, dim, seed, made)
    found = {
        f"{m}|{dim}|{name}": float(np.mean([row[name] for row in of])) for m, of in rows.items() for name in SCORES
    }
    for method, of in rows.items():
        found[f"{method}|{dim}|roundtrip_std"] = float(np.std([row["roundtrip_mrstft"] for row in of]))
        found[f"{method}|{dim}|stability"] = stability(places[method])
    back = {label: one.settings(sounds.places(one), sounds.effect) for label, one in variants.items()}
    return found | {f"variants|{label}": float(sounds.distances(way).mean()) for label, way in back.items()}


def _variants(preset, heard: Heard, effect: str, dim: int, seed: int, made: Mapping[str, Playable]) -> dict:
    """What else a bottleneck might learn, and of what else UMAP might be made, beside what is there of these."""
    found = {}
    for label, weights in LOSSES.items():
        net, _ = fit_bottleneck(heard, (effect,), dim, seed=seed, weights=weights)
        found[label] = training.around_net(preset, heard, (effect,), net, seed=seed)
    there = {"sound": "bottleneck", "umap_of_mu": "umap_decoder", "umap_of_settings": "umap_inverse"}
    found |= {label: made[method] for label, method in there.items() if method in made}
    if "umap_of_settings" in found:  # the networks around it are there, as some have to place sounds on it
        found["umap_of_settings"] = dataclasses.replace(found["umap_of_settings"], method="umap_decoder", umap=None)
    return found
