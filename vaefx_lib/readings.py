"""What a latent vector says of how an effect was set, and what nobody can know: for speakers that were never heard.

A setting can be out of reach for three reasons. It leaves no trace in any clip, as `output`, which the levelling of the
pairs takes away. It leaves none in *this* clip, as the tone of an echo that is too weak to be heard: `audibility.py`
measures that. Or other settings sound the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vaefx_lib import effects
from vaefx_lib.latent import Embedded, traverse

FEWEST = 10  # clips in which a setting is audible, below which no R2 is stated


@dataclass(frozen=True, eq=False)
class Reading:
    """The settings of one effect, as a ridge regression reads them off the embeddings of unseen speakers.

    Attributes
    ----------
    names : tuple of str
        Parameters of the effect.
    rows : array of int, shape (n,)
        Which clips of the test subset.
    asked, guessed : array, shape (n, n_params)
        The true settings, and those read.
    regression : estimator
        What `predict(z)` reads off any embeddings, (n, d) -> (n, n_params).
    """

    names: tuple[str, ...]
    rows: np.ndarray
    asked: np.ndarray
    guessed: np.ndarray
    regression: Any


def read_settings(train: Embedded, test: Embedded, space: str) -> dict[str, Reading]:
    """Fit a ridge regression per effect on training speakers, and read the settings of unseen ones.

    All settings of an effect share one penalty, chosen by leave-one-out on the training speakers.

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

    found = {}
    for name in sorted(set(train.effects)):
        (here, known), (there, asked) = of_effect(train, name), of_effect(test, name)
        ridge = make_pipeline(StandardScaler(), RidgeCV(np.logspace(-1, 4, 11)))
        guessed = ridge.fit(getattr(train, space)[here], known).predict(getattr(test, space)[there])
        found[name] = Reading(effects.load(name).param_names, there, asked, guessed, ridge)
    return found


def r2(reading: Reading, audible: np.ndarray | None = None) -> dict[str, float]:
    """R2 of each setting: 1 is perfect, 0 is "always the mean", below 0 is worse than that.

    Parameters
    ----------
    reading : Reading
    audible : array of bool, shape (clips of the test subset, at least n_params), optional
        Count only the clips where it is True, and leave out settings with fewer than `FEWEST` of them. The mean is then
        that of those clips.

    Used in `03_latent_clustering`.
    """
    scores = {}
    for i, name in enumerate(reading.names):
        use = np.full(len(reading.rows), True) if audible is None else audible[reading.rows, i]
        if audible is None or use.sum() >= FEWEST:
            asked, guessed = reading.asked[use, i], reading.guessed[use, i]
            scores[name] = float(1 - np.square(guessed - asked).sum() / np.square(asked - asked.mean()).sum())
    return scores


def alone_r2(train: Embedded, test: Embedded, space: str) -> dict[str, dict[str, np.ndarray]]:
    """R2 of each setting as read off a single dimension, of every dimension: effect -> parameter -> array (d,).

    A straight line is fitted on training speakers and scored on unseen ones. Used in `03_latent_clustering`.
    """
    scores = {}
    for effect in sorted(set(train.effects)):
        (here, known), (there, asked) = of_effect(train, effect), of_effect(test, effect)
        z, test_z = getattr(train, space)[here].astype(float), getattr(test, space)[there].astype(float)
        mean, variance = z.mean(axis=0), np.maximum(z.var(axis=0), 1e-12)  # (d,)
        slope = (z - mean).T @ (known - known.mean(axis=0)) / len(z) / variance[:, None]  # (d, n_params)
        guessed = (test_z - mean)[:, :, None] * slope + known.mean(axis=0)  # (n, d, n_params)
        error = np.square(guessed - asked[:, None]).sum(axis=0) / np.square(asked - asked.mean(axis=0)).sum(axis=0)
        scores[effect] = dict(zip(effects.load(effect).param_names, (1 - error).T, strict=True))
    return scores


def by_setting(columns: Mapping[str, Mapping], share: Mapping | None = None) -> dict[str, dict[str, float]]:
    """A table for `plots.plot_scores`, a row per setting, from column -> effect -> parameter -> score.

    A score may be a number, or absent, or what `information.best_dimensions` gives, of which the `nats` are taken.
    `share`, effect -> parameter -> share of the clips in which it is audible, goes into the names of the rows.

    Used in `03_latent_clustering`.
    """
    table = {}
    for effect, params in (share or next(iter(columns.values()))).items():
        for name in params:
            row = f"{effect.split(':')[-1]} {name}" + (f" ({share[effect][name]:.0%})" if share else "")
            scores = {column: found[effect][name] for column, found in columns.items() if name in found[effect]}
            table[row] = {c: value["nats"] if isinstance(value, Mapping) else value for c, value in scores.items()}
    return table


def walks(
    train: Embedded, test: Embedded, space: str, best: Mapping, clips: Mapping[str, int], deviations: Sequence[float]
) -> dict[str, tuple[list[int], np.ndarray]]:
    """For each effect a clip's vector, with each of the two dimensions moved that say most of the effect's settings.

    Parameters
    ----------
    train, test : Embedded
        At random settings. The unit of a move is the standard deviation of the training embeddings.
    space : str
        "vae" or "pca".
    best : mapping
        Of `information.best_dimensions`, for this space.
    clips : mapping of str to int
        Effect -> one of its clips in `test`.
    deviations : sequence of float, length n_steps

    Returns
    -------
    dict
        Effect -> dimensions, and vectors of shape (2, n_steps, d); see `latent.traverse`.

    Used in `03_latent_clustering`.
    """
    spread, found = getattr(train, space).std(axis=0), {}
    for effect, clip in clips.items():
        order = sorted(best[effect].values(), key=lambda one: -one["nats"])
        dimensions = list(dict.fromkeys(one["dimension"] for one in order))[:2]
        found[effect] = (dimensions, traverse(getattr(test, space)[clip], dimensions, spread, deviations))
    return found


def along(reading: Reading, path: np.ndarray, *, count: int = 2) -> dict[str, tuple[float, float]]:
    """The `count` settings that change most from the first to the last vector of a path, as the regression reads them.

    Parameters
    ----------
    reading : Reading
    path : array, shape (steps, d)
    count : int

    Returns
    -------
    dict
        Parameter -> (at the first step, at the last), the largest change first; not limited to [0, 1].

    Used in `03_latent_clustering`.
    """
    first, last = reading.regression.predict(path[[0, -1]])
    order = np.argsort(-np.abs(last - first))[:count]
    return {reading.names[i]: (float(first[i]), float(last[i])) for i in order}


def of_effect(clips: Embedded, effect: str) -> tuple[np.ndarray, np.ndarray]:
    """Rows of one effect, (n,), and their settings, (n, n_params)."""
    rows = np.flatnonzero(clips.effects == effect)
    return rows, np.stack([clips.settings[i] for i in rows])
