"""Training maps to play on: a variational bottleneck, and what it is held against."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from vaefx_lib import config, controller_material, latent, playable_maps, runs, store
from vaefx_lib.playable import METHODS, Playable, load, save_playable
from vaefx_lib.playable_learning import begun, fit_around, fit_bottleneck, through_effects
from vaefx_lib.playable_net import MapNet
from vaefx_lib.playable_surrogate import DIRECTIONS, Heard, hear

MAPPED = 1000  # references of each effect that are stored, and of which UMAP makes its map
END_TO_END_STEPS = 10  # of a bottleneck, for each effect; no more than its preset's controller has
SOURCES = (  # the code that a map depends on
    *controller_material.SOURCES,
    *("controller.py", "sound_loss.py"),
    *("playable.py", "playable_net.py", "playable_maps.py", "playable_surrogate.py", "playable_learning.py"),
    "playable_training.py",
)


def make(
    preset: config.Preset, heard: Heard, names: Sequence[str], method: str, dim: int, *, seed: int
) -> tuple[Playable, dict]:
    """A map of some effects by one of `playable.METHODS`, and the history of its training.

    Parameters
    ----------
    preset : Preset
    heard : Heard
        Of these effects, at least.
    names : sequence of str
    method : str
    dim : int
        2 to 8 for something that can be played.
    seed : int

    Returns
    -------
    made : Playable
    history : dict of str to array

    Raises
    ------
    ValueError
        For another method, fewer dimensions than 1, or "umap_inverse" of several effects, whose settings have no space
        in common.

    Used in `06_playable_latent`.
    """
    return next(iter(make_alike(preset, heard, names, [method], dim, seed=seed).values()))


def make_alike(
    preset: config.Preset, heard: Heard, names: Sequence[str], methods: Sequence[str], dim: int, *, seed: int
) -> dict[str, tuple[Playable, dict]]:
    """As `make` for several methods. "umap_nearest" and "umap_decoder" share one UMAP, of mu, and one training.

    That of "umap_inverse" is of settings: what comes of an inversion is what was mapped.

    Raises
    ------
    ValueError
        As `make`.
    """
    names = tuple(names)
    for method in methods:
        if method not in METHODS:
            raise ValueError(f"unknown method {method!r}: known are {', '.join(METHODS)}")
        if method == "umap_inverse" and len(names) > 1:
            raise ValueError(f"umap_inverse inverts settings, and those of {', '.join(names)} have no space in common")
    if dim < 1:
        raise ValueError(f"dim is {dim}: it must be at least 1")
    made = {}
    if "bottleneck" in methods:
        made["bottleneck"] = _bottleneck(preset, heard, names, dim, seed)
    if "pca" in methods:
        made["pca"] = _pca(preset, heard, names, dim, seed)
    if "umap_inverse" in methods:
        made |= around_umap(preset, heard, names, ["umap_inverse"], dim, of="settings", seed=seed)
    if of_mu := [method for method in methods if method in ("umap_nearest", "umap_decoder")]:
        made |= around_umap(preset, heard, names, of_mu, dim, of="mu", seed=seed)
    return made


def train_playable(
    preset: config.Preset,
    *,
    effects: Sequence[str] | None = None,
    method: str = "bottleneck",
    dim: int = 2,
    seed: int = 0,
    folder: Path | None = None,
    heard: Heard | None = None,
) -> Playable:
    """A map to play on, made unless a finished one of the same choices is there.

    Parameters
    ----------
    preset : Preset
    effects : sequence of str, optional
        Those that share the map; all of the preset by default.
    method : str
        One of `playable.METHODS`.
    dim : int
    seed : int
    folder : Path, optional
        By default one of its own in `config.playable_dir`.
    heard : Heard, optional
        What `hear` gives for these effects, if it is there already.

    Returns
    -------
    Playable

    Raises
    ------
    DamagedFile
        If there is no trained VAE.
    ValueError
        As `make`.

    Used in `06_playable_latent`.
    """
    names = tuple(effects or preset.render.effects)
    folder = Path(folder or folder_of(preset, effects, method, dim))
    run = runs.load(config.vae_dir(preset.name))
    key = controller_material.fingerprint(
        preset, run, names, [dataclasses.asdict(preset.controller), method, dim, seed], SOURCES
    )

    def train() -> Playable:
        sounds = heard or hear(controller_material.prepare(preset, run, names), names)
        made, history = make(preset, sounds, names, method, dim, seed=seed)
        save_playable(folder, made, history, key)
        return load(folder, run)

    return store.once(folder, key, lambda: load(folder, run), train)


def folder_of(preset: config.Preset, effects: Sequence[str] | None, method: str, dim: int) -> Path:
    """Where `train_playable` puts a map: ``<effects, or all>_<method>_<dim>`` in `config.playable_dir`."""
    names = [] if effects is None or set(effects) == set(preset.render.effects) else [n.split(":")[-1] for n in effects]
    return config.playable_dir(preset.name) / f"{'+'.join(names) or 'all'}_{method}_{dim}".replace("/", "_")


def around_net(preset: config.Preset, heard: Heard, names: Sequence[str], net: MapNet, *, seed: int) -> Playable:
    """The map that a bottleneck has learned. Used in `06_playable_latent`."""
    with torch.inference_mode():
        places = {name: net.encode(heard.features["train"][name])[0].double().numpy() for name in names}
    return _finished("bottleneck", preset, heard, tuple(names), net, places, seed)


def around_umap(
    preset: config.Preset,
    heard: Heard,
    names: Sequence[str],
    methods: Sequence[str],
    dim: int,
    *,
    of: str,
    seed: int,
) -> dict[str, tuple[Playable, dict]]:
    """Maps of several methods around one UMAP, with one training.

    Parameters
    ----------
    preset, heard, names, methods, dim, seed
        As `make_alike` takes them.
    of : str
        "settings", which several effects do not have in common, or "mu": that part of it which describes the effect.

    Used in `06_playable_latent`.
    """
    if of == "settings":
        data = [heard.settings["train"][name][:MAPPED].numpy() for name in names]
    else:
        mu = [heard.features["train"][name][:MAPPED, 2 * DIRECTIONS :].numpy() for name in names]
        data = [part[:, latent.parts(heard.material.run)["effect"]] for part in mu]
    fitted = playable_maps.fit_umap(np.concatenate(data), dim, seed=seed)
    places = np.split(fitted.places.astype(np.float64), np.cumsum([len(part) for part in data])[:-1])
    places = dict(zip(names, places))
    net, history = fit_around(heard, names, places, seed=seed)
    made = _finished("umap_decoder", preset, heard, tuple(names), net, places, seed)
    known = {"umap_inverse": fitted}
    return {m: (dataclasses.replace(made, method=m, umap=known.get(m)), history) for m in methods}


def _bottleneck(preset, heard, names, dim, seed):
    net, history = fit_bottleneck(heard, names, dim, seed=seed)
    steps = min(END_TO_END_STEPS, preset.controller.end_to_end_steps)
    through_effects(net, heard, names, preset, steps=steps, seed=seed)
    return around_net(preset, heard, names, net, seed=seed), history


def _pca(preset, heard, names, dim, seed):
    features = {name: heard.features["train"][name].double().numpy() for name in names}
    mean, components = playable_maps.principal(np.concatenate(list(features.values())), dim)
    places = {name: (features[name] - mean) @ components for name in names}
    linear = {n: playable_maps.ridge(places[n], heard.settings["train"][n].double().numpy()) for n in names}
    net, *_ = begun(heard, names, dim, seed)
    made = _finished("pca", preset, heard, names, net.eval(), places, seed)
    return dataclasses.replace(made, linear=linear | {"mean": mean, "components": components}), _nothing()


def _finished(method, preset, heard, names, net, places, seed) -> Playable:
    low, high = np.percentile(np.concatenate(list(places.values())), (1, 99), axis=0)
    places = {name: np.ascontiguousarray(at[:MAPPED]) for name, at in places.items()}
    stored = {name: heard.settings["train"][name][:MAPPED].double().numpy() for name in names}
    run = heard.material.run
    about = {"preset": preset.name, "vae": run.fingerprint, "seed": seed}
    return Playable(method, len(low), names, low, high, heard.inputs, net, places, stored, {}, None, run, about)


def _nothing() -> dict[str, np.ndarray]:
    return {"epoch": np.zeros(1, int), "train_loss": np.zeros(1)}
