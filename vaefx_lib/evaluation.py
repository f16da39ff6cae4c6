"""Scores of a trained VAE on speakers it never heard, each beside its baselines.

Probes (`probes`) are fitted on training speakers and scored on unseen ones. PCA has as many dimensions as the VAE and
the same training pairs.
"""

from __future__ import annotations

import dataclasses
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from vaefx_lib import (
    audibility,
    config,
    corpora,
    information,
    interpolation,
    latent,
    phase,
    probes,
    readings,
    rendering,
    runs,
    spectrogram,
)
from vaefx_lib.latent import Embedded

SPACES = ("vae", "pca", "no_model")  # of an `Embedded`


def settings_r2(train: Embedded, test: Embedded, space: str) -> dict[str, dict[str, float]]:
    """How well a ridge regression reads each setting off an embedding: R2 per effect and parameter.

    1 is perfect, 0 is "always the mean", below 0 is worse than that.

    Parameters
    ----------
    train, test : Embedded
        At random settings.
    space : str
        "vae", "pca" or "no_model".

    Used in `03_latent_clustering`.
    """
    return {effect: readings.r2(reading) for effect, reading in readings.read_settings(train, test, space).items()}


def silhouette(z, labels) -> float:
    """Mean silhouette of the labels in a space, in [-1, 1]: how much nearer one's own kind is than the other.

    Source: Rousseeuw (1987), by scikit-learn.
    """
    from sklearn.metrics import silhouette_score

    return float(silhouette_score(z, labels))


def scores(
    train: Embedded,
    test: Embedded,
    dummy_train: Embedded,
    dummy_test: Embedded,
    *,
    parts: Mapping[str, slice] | None = None,
    changes: np.ndarray | None = None,
) -> dict:
    """Every number about the latent space and the reconstruction, nested as in `metrics.json`.

    Parameters
    ----------
    train, test, dummy_train, dummy_test : Embedded
        The subsets of these names, or others like them.
    parts : mapping of str to slice, optional
        Parts of the VAE's latent vector (`latent.parts`) to be probed on their own, as "vae_content" and so on.
    changes : array, shape (clips of `test`, most parameters of an effect), optional
        From `audibility.measure`: how much each setting of each clip can be heard.

    Returns
    -------
    dict
        `latent`: latent_dim, n_effects, and per space ("vae", "pca", "no_model") the probe accuracy at random and at
        dummy settings, the confusion matrix and silhouette likewise, and of the settings R2, mutual information and, of
        "vae" and "pca", the best single dimension; with `changes`, the share of clips in which each setting is audible
        and R2 on those alone. `reconstruction`: see `reconstruction_scores`.

    Used in `03_latent_clustering`.
    """
    subsets = (train, test, dummy_train, dummy_test)
    spaces = {name: [getattr(e, name) for e in subsets] for name in SPACES}
    for name, part in (parts or {}).items():
        spaces[f"vae_{name}"] = [e.vae[:, part] for e in subsets]
    probe, fixed, mistakes = {}, {}, {"confusion": {}, "confusion_dummy": {}}
    kinds = (probe, "confusion", train, test, 0), (fixed, "confusion_dummy", dummy_train, dummy_test, 2)
    for accuracy, key, known, asked, first in kinds:
        for name, z in spaces.items():
            fitted = probes.fit_probe(z[first], known.effects)
            accuracy[name] = float(fitted.score(z[first + 1], asked.effects))
            if name in SPACES:
                mistakes[key][name] = probes.confusion(fitted, z[first + 1], asked.effects)
        _, counts = np.unique(asked.effects, return_counts=True)
        accuracy["chance"] = float(counts.max() / counts.sum())
    probe["shuffled_labels"] = probes.probe_accuracy(train.vae, train.effects, test.vae, test.effects, shuffle_seed=0)
    return {
        "latent": {
            "latent_dim": train.vae.shape[1],
            "n_effects": len(counts),
            "probe_accuracy": probe,
            "probe_accuracy_dummy": fixed,
            **mistakes,
            "silhouette": {name: silhouette(z[1], test.effects) for name, z in spaces.items()},
            "silhouette_dummy": {name: silhouette(z[3], dummy_test.effects) for name, z in spaces.items()},
            **settings_scores(train, test, changes),
        },
        "reconstruction": reconstruction_scores(test),
    }


def settings_scores(train: Embedded, test: Embedded, changes: np.ndarray | None = None) -> dict:
    """The part of `scores` that is about the settings; its arguments are as there."""
    read = {space: readings.read_settings(train, test, space) for space in SPACES}
    found: dict = {"settings_r2": {space: {e: readings.r2(r) for e, r in read[space].items()} for space in SPACES}}
    found["settings_mi"] = {space: information.settings_information(read[space]) for space in SPACES}
    found["settings_mi"]["chance"] = information.settings_information(read["vae"], shuffled=True)
    found["best_dimension"] = {space: information.best_dimensions(train, test, space) for space in ("vae", "pca")}
    if changes is not None:
        heard = changes > audibility.AUDIBLE
        found["settings_audible_share"] = {
            effect: {name: float(heard[r.rows, i].mean()) for i, name in enumerate(r.names)}
            for effect, r in read["vae"].items()
        }
        found["settings_r2_audible"] = {s: {e: readings.r2(r, heard) for e, r in read[s].items()} for s in SPACES}
    return found


def reconstruction_scores(test: Embedded) -> dict:
    """Mean squared error of each channel, in variances of the training set: 1 is the error of "always the mean"."""
    known = [("wet",), spectrogram.CHANNELS, phase.REPRESENTATIONS["relative"].channels]
    channels = next(names for names in known if len(names) == test.vae_mse.shape[1])
    return {
        channel: {"vae_mse": float(test.vae_mse[:, c].mean()), "pca_mse": float(test.pca_mse[:, c].mean())}
        for c, channel in enumerate(channels)
    }


def evaluate_folder(folder: str | Path, preset: config.Preset) -> dict:
    """The numbers of `metrics.json` for any folder of speech, with the preset's last trained VAE.

    Every speaker is unseen: those that the VAE was trained on are left out by name.

    Parameters
    ----------
    folder : path
        One sub-folder per speaker.
    preset : Preset
        Its run folder must hold a trained VAE, and its data folder the training pairs.

    Raises
    ------
    ValueError
        If no speaker is left.
    DamagedFile
        If there is no trained VAE or no training pairs.
    """
    run = runs.load(config.vae_dir(preset.name))
    utterances = corpora.load(f"folder:{folder}")
    train = latent.embed_subset(run, "train")
    known = sorted({u.speaker for u in utterances} & set(train.speakers))
    if known:
        print(f"left out, as the model was trained on them: {', '.join(known)}", file=sys.stderr)
    utterances = [u for u in utterances if u.speaker not in known]
    if not utterances:
        raise ValueError(f"{folder} holds only speakers that the model was trained on: at least one other is needed")
    pca = latent.training_pca(run)
    run_preset = dataclasses.replace(run.preset, name=preset.name)
    with tempfile.TemporaryDirectory() as temporary:
        subsets = {
            name: rendering.render(run_preset, name, Path(temporary) / name, speech=utterances)
            for name in ("test", "dummy_test")
        }
        test, dummy_test = (latent.embed_dataset(run, pca, dataset) for dataset in subsets.values())
        dummy_train = latent.embed_subset(run, "dummy_train")
        changes = audibility.measure(run, subsets["test"])
        result = scores(train, test, dummy_train, dummy_test, parts=latent.parts(run), changes=changes)
        result["latent"]["n_per_effect"] = len(test.effects) // result["latent"]["n_effects"]
        if run.preset.vae.inputs == spectrogram.CHANNELS:
            result["interpolation"] = interpolation.mean_drift(run, pca, subsets["test"])
    result["speakers"] = sorted({u.speaker for u in utterances})
    return result
