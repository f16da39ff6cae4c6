"""Linear probes: what a logistic regression can read off vectors, and by which of their dimensions.

Source: Alain and Bengio, Understanding intermediate layers using linear classifier probes (2016).
"""

from __future__ import annotations

import numpy as np


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


def confusion(probe, z, labels) -> dict[str, dict[str, float]]:
    """Which label is taken for which: shares of the clips of each true label (rows), by the label predicted (columns).

    Parameters
    ----------
    probe : what `fit_probe` gave
    z : array, shape (n, d)
    labels : array of str, shape (n,)

    Returns
    -------
    dict
        True label -> predicted label -> share; each row sums to 1. There may be any number of labels.

    Used in `03_latent_clustering`.
    """
    labels, guessed = np.asarray(labels), probe.predict(z)
    known = sorted({*probe.classes_.tolist(), *labels.tolist()})
    return {str(t): {str(p): float(np.mean(guessed[labels == t] == p)) for p in known} for t in np.unique(labels)}


def probe_weights(probe) -> np.ndarray:
    """How much a probe leans on each dimension, shape (d,): its largest weight on the scaled feature, over the labels.

    Used in `03_latent_clustering`.
    """
    return np.abs(probe[-1].coef_).max(axis=0)


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
