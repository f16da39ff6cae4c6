"""Scores of a trained VAE on speakers it never heard, each beside its baselines.

Probes are fitted on training speakers and scored on unseen ones. PCA has as many dimensions as the VAE and the same
training pairs.
"""

from __future__ import annotations

import dataclasses
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from vaefx_lib import config, corpora, effects, interpolation, latent, rendering, spectrogram, training
from vaefx_lib.latent import Embedded

SPACES = ("vae", "pca", "no_model")  # of an `Embedded`


def fit_probe(z, labels):
    """A logistic regression that reads labels off vectors, (n, d) -> (n,): scikit-learn's, with scaled features."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=3000)).fit(z, labels)


def probe_accuracy(train_z, train_labels, test_z, test_labels, *, shuffle_seed: int | None = None) -> float:
    """Share of test labels that a logistic regression gets right.

    Parameters
    ----------
    train_z, test_z : array, shape (n, d)
    train_labels, test_labels : array of str, shape (n,)
    shuffle_seed : int, optional
        Shuffle the training labels with this seed: an honest probe falls to chance.

    Returns
    -------
    float in [0, 1]

    Used in `03_latent_clustering`.
    """
    if shuffle_seed is not None:
        train_labels = np.random.default_rng(shuffle_seed).permutation(train_labels)
    return float(fit_probe(train_z, train_labels).score(test_z, test_labels))


def margins(probe, z, labels) -> np.ndarray:
    """Log-odds of each vector's own label against the likeliest other one, shape (n,): below 0 the probe is wrong.

    Parameters
    ----------
    probe : what `fit_probe` gave
    z : array, shape (n, d)
    labels : array of str, shape (n,)

    Used in `03_latent_clustering`.
    """
    known = probe.predict_log_proba(z)  # (n, labels)
    own = probe.classes_ == np.asarray(labels)[:, None]
    return known[own] - np.where(own, -np.inf, known).max(axis=1)


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
    from sklearn.linear_model import RidgeCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    scores = {}
    for name in sorted(set(train.effects)):
        here, there = np.flatnonzero(train.effects == name), np.flatnonzero(test.effects == name)
        known, asked = (np.stack([e.settings[i] for i in rows]) for e, rows in ((train, here), (test, there)))
        ridge = make_pipeline(StandardScaler(), RidgeCV(np.logspace(-1, 4, 11)))
        guessed = ridge.fit(getattr(train, space)[here], known).predict(getattr(test, space)[there])
        r2 = 1 - np.square(guessed - asked).sum(axis=0) / np.square(asked - asked.mean(axis=0)).sum(axis=0)
        scores[name] = dict(zip(effects.load(name).param_names, r2.tolist(), strict=True))
    return scores


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
) -> dict:
    """Every number about the latent space and the reconstruction, nested as in `metrics.json`.

    Parameters
    ----------
    train, test, dummy_train, dummy_test : Embedded
        The subsets of these names, or others like them.
    parts : mapping of str to slice, optional
        Parts of the VAE's latent vector (`latent.parts`) to be probed on their own, as "vae_content" and so on.

    Returns
    -------
    dict
        `latent`: latent_dim, n_effects, and per space ("vae", "pca", "no_model") the probe accuracy at random and at
        dummy settings, silhouette likewise, and R2 of the settings. `reconstruction`: see `reconstruction_scores`.

    Used in `03_latent_clustering`.
    """
    subsets = (train, test, dummy_train, dummy_test)
    spaces = {name: [getattr(e, name) for e in subsets] for name in SPACES}
    for name, part in (parts or {}).items():
        spaces[f"vae_{name}"] = [e.vae[:, part] for e in subsets]
    probe, fixed = {}, {}
    for name, (z, test_z, dummy_z, dummy_test_z) in spaces.items():
        probe[name] = probe_accuracy(z, train.effects, test_z, test.effects)
        fixed[name] = probe_accuracy(dummy_z, dummy_train.effects, dummy_test_z, dummy_test.effects)
    for accuracy, labels in ((probe, test.effects), (fixed, dummy_test.effects)):
        _, counts = np.unique(labels, return_counts=True)
        accuracy["chance"] = float(counts.max() / counts.sum())
    probe["shuffled_labels"] = probe_accuracy(train.vae, train.effects, test.vae, test.effects, shuffle_seed=0)
    return {
        "latent": {
            "latent_dim": train.vae.shape[1],
            "n_effects": len(counts),
            "probe_accuracy": probe,
            "probe_accuracy_dummy": fixed,
            "silhouette": {name: silhouette(z[1], test.effects) for name, z in spaces.items()},
            "silhouette_dummy": {name: silhouette(z[3], dummy_test.effects) for name, z in spaces.items()},
            "settings_r2": {name: settings_r2(train, test, name) for name in SPACES},
        },
        "reconstruction": reconstruction_scores(test),
    }


def reconstruction_scores(test: Embedded) -> dict:
    """Mean squared error of each channel, in variances of the training set: 1 is the error of "always the mean"."""
    channels = spectrogram.CHANNELS if test.vae_mse.shape[1] == 2 else ("wet",)
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
    run = training.load(config.vae_dir(preset.name))
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
        result = scores(train, test, dummy_train, dummy_test, parts=latent.parts(run))
        result["latent"]["n_per_effect"] = len(test.effects) // result["latent"]["n_effects"]
        if run.preset.vae.inputs == spectrogram.CHANNELS:
            result["interpolation"] = interpolation.mean_drift(run, pca, subsets["test"])
    result["speakers"] = sorted({u.speaker for u in utterances})
    return result
