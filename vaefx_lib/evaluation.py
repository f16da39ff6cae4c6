"""Scores of a trained VAE on speakers it never heard, each beside its baselines.

Probes are fitted on training speakers and scored on unseen ones. PCA has as many dimensions as the VAE and the same
training pairs.
"""

from __future__ import annotations

import dataclasses
import sys
import tempfile
from pathlib import Path

import numpy as np

from vaefx_lib import audio, baselines, config, corpora, effects, latent, rendering, shards, spectrogram, training
from vaefx_lib.latent import Embedded

N_PATHS = 64  # interpolations whose drift is averaged
STEPS = 10  # of one: both ends and eight between


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
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if shuffle_seed is not None:
        train_labels = np.random.default_rng(shuffle_seed).permutation(train_labels)
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=3000))
    return float(probe.fit(train_z, train_labels).score(test_z, test_labels))


def settings_r2(train: Embedded, test: Embedded, space: str) -> dict[str, dict[str, float]]:
    """How well a ridge regression reads each setting off an embedding: R2 per effect and parameter.

    1 is perfect, 0 is "always the mean", below 0 is worse than that.

    Parameters
    ----------
    train, test : Embedded
        At random settings.
    space : str
        "vae", "pca" or "no_model".
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


def drift(path: np.ndarray) -> np.ndarray:
    """Mean squared change along a path from where it starts.

    Parameters
    ----------
    path : array, shape (steps, ...)

    Returns
    -------
    float
    """
    return float(np.square(path[1:] - path[0]).mean())


def interpolation_drift(run: training.Run, pca: baselines.Pca, dataset: shards.Dataset) -> dict[str, float]:
    """How far what should stay moves on the way between two latent vectors.

    - `effects_dry_drift`: one source, Delay at one end, Overdrive at the other (the first and last effect of the
      preset), random settings. Mean squared change of the dry row divided by that of the wet row.
    - `audio_wet_drift`: two sources, one effect at the same settings. What should stay is what the effect adds: the
      long-term spectrum of wet minus dry. Its mean squared change, divided by that of the wet row's long-term spectrum.

    Each is a ratio of means over 64 paths; `pca.` has the same of straight lines between PCA scores.

    Parameters
    ----------
    run : Run
    pca : Pca
    dataset : Dataset
        Its dry clips are the sources.
    """
    clips = [dataset[i][0] for i in range(min(N_PATHS, len(dataset)))]
    first, last = (effects.load(name) for name in (run.preset.render.effects[-1], run.preset.render.effects[0]))
    rng = np.random.default_rng(run.preset.render.seed)
    sums = {name: np.zeros((2, 2)) for name in ("vae", "pca")}
    for clip, other in zip(clips, clips[1:] + clips[:1], strict=True):
        settings = {effect.name: rng.uniform(0.2, 0.9, len(effect.params)) for effect in (first, last)}
        ends = [
            wet_pair(run, clip, first, settings[first.name]),
            wet_pair(run, clip, last, settings[last.name]),
            wet_pair(run, other, last, settings[last.name]),
        ]
        x = np.stack(ends)
        for name, z in (("vae", latent.embed(run, x)), ("pca", pca.transform(x))):
            back = (lambda z: latent.decode(run, z)) if name == "vae" else pca.inverse_transform
            swap = back(latent.interpolate(z[0], z[1], STEPS))  # (steps, 2, frames, bins)
            sums[name][0] += drift(swap[:, 0]), drift(swap[:, 1])
            walk = back(latent.interpolate(z[1], z[2], STEPS)).mean(axis=2)  # over time: (steps, 2, bins)
            sums[name][1] += drift(walk[:, 1] - walk[:, 0]), drift(walk[:, 1])
    ratios = {name: (total[:, 0] / total[:, 1]).tolist() for name, total in sums.items()}
    keys = ("effects_dry_drift", "audio_wet_drift")
    return {**dict(zip(keys, ratios["vae"], strict=True)), "pca": dict(zip(keys, ratios["pca"], strict=True))}


def wet_pair(run: training.Run, dry: np.ndarray, effect: effects.Effect, settings) -> np.ndarray:
    """Standardised spectrogram pair (2, frames, bins) of a dry clip (samples,) and the same through an effect."""
    peak_dbfs = run.preset.render.peak_dbfs
    dry = audio.peak_level(dry, peak_dbfs)
    wet = audio.peak_level(audio.to_mono(effect.render(dry, settings, run.preset.stft.sample_rate_hz)), peak_dbfs)
    return run.statistics.standardise(spectrogram.magnitude(np.stack([dry.reshape(-1), wet]), run.preset.stft))


def scores(train: Embedded, test: Embedded, dummy_train: Embedded, dummy_test: Embedded) -> dict:
    """Every number about the latent space and the reconstruction, nested as in `metrics.json`."""
    spaces = ("vae", "pca", "no_model")
    probe = {s: probe_accuracy(getattr(train, s), train.effects, getattr(test, s), test.effects) for s in spaces}
    fixed = {
        s: probe_accuracy(getattr(dummy_train, s), dummy_train.effects, getattr(dummy_test, s), dummy_test.effects)
        for s in spaces
    }
    shuffled = probe_accuracy(train.vae, train.effects, test.vae, test.effects, shuffle_seed=0)
    names, counts = np.unique(test.effects, return_counts=True)
    return {
        "latent": {
            "latent_dim": train.vae.shape[1],
            "probe_accuracy": {**probe, "chance": float(counts.max() / counts.sum()), "shuffled_labels": shuffled},
            "probe_accuracy_dummy": fixed,
            "silhouette": {s: silhouette(getattr(test, s), test.effects) for s in spaces},
            "silhouette_dummy": {s: silhouette(getattr(dummy_test, s), dummy_test.effects) for s in spaces},
            "settings_r2": {s: settings_r2(train, test, s) for s in spaces},
            "effects": len(names),
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
        result = scores(train, test, latent.embed_subset(run, "dummy_train"), dummy_test)
        result["latent"]["n_per_effect"] = len(test.effects) // result["latent"]["effects"]
        result["interpolation"] = interpolation_drift(run, pca, subsets["test"])
    result["speakers"] = sorted({u.speaker for u in utterances})
    return result
