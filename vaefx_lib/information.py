"""Mutual information of latent dimensions and settings, in nats: knowledge of any shape, not of straight lines."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from vaefx_lib import effects
from vaefx_lib.latent import Embedded
from vaefx_lib.readings import Reading, of_effect

SHUFFLES = 5  # over which mutual information by chance is averaged


def mutual_information(values: np.ndarray, settings: np.ndarray) -> float:
    """Mutual information of two numbers over n clips, in nats: two arrays (n,); at least 0.

    Source: Kraskov, Stoegbauer and Grassberger, Estimating mutual information (2004), with 3 neighbours, by
    scikit-learn. It asks for no straight line. Where there is nothing to know the estimate goes to either side of 0 and
    what is below is cut, so that chance is a little above 0. A regression with a normal error and a score of R2 says
    -ln(1 - R2) / 2: 0.8 nats for R2 = 0.8.
    """
    from sklearn.feature_selection import mutual_info_regression

    options = {"n_neighbors": min(3, len(values) - 1), "random_state": 0}
    return float(mutual_info_regression(np.reshape(values, (-1, 1)), settings, **options)[0])


def settings_information(found: Mapping[str, Reading], *, shuffled: bool = False) -> dict[str, dict[str, float]]:
    """What the whole embedding says of each setting, in nats, per effect and parameter.

    That is the mutual information of the setting and the number that the ridge regression reads, on unseen speakers: no
    function of an embedding says more than the embedding, so it is a lower bound.

    Parameters
    ----------
    found : mapping of str to Reading
        From `read_settings`.
    shuffled : bool
        Of settings that belong to other clips instead: chance, the mean over `SHUFFLES` of them.

    Used in `03_latent_clustering`.
    """
    rng, scores = np.random.default_rng(0), {}
    for effect, reading in found.items():
        orders = [rng.permutation(len(reading.rows)) for _ in range(SHUFFLES)] if shuffled else [slice(None)]
        columns = zip(reading.names, reading.guessed.T, reading.asked.T, strict=True)
        scores[effect] = {
            name: float(np.mean([mutual_information(guessed, asked[order]) for order in orders]))
            for name, guessed, asked in columns
        }
    return scores


def best_dimensions(train: Embedded, test: Embedded, space: str) -> dict[str, dict[str, dict[str, float]]]:
    """The one dimension that says most of each setting, and how far it stands above the second best.

    Both are chosen on training speakers (by a histogram) and scored on unseen ones, so that choosing among many
    dimensions makes nothing look better than it is.

    Source: the mutual information gap of Chen et al., Isolating sources of disentanglement in VAEs (2018), in nats. It
    is not divided by the setting's entropy, which for a uniform setting in [0, 1] is 0.

    Returns
    -------
    dict
        Per effect and parameter: `dimension`, `nats` of the best, and `gap`, its nats less those of the second best.

    Used in `03_latent_clustering`.
    """
    scores = {}
    for effect in sorted(set(train.effects)):
        (here, known), (there, asked) = of_effect(train, effect), of_effect(test, effect)
        z, test_z = getattr(train, space)[here], getattr(test, space)[there]
        scores[effect] = {}
        for i, name in enumerate(effects.load(effect).param_names):
            best, second = np.argsort(_binned_information(z, known[:, i]))[::-1][:2]
            nats, other = (mutual_information(test_z[:, d], asked[:, i]) for d in (best, second))
            scores[effect][name] = {"dimension": int(best), "nats": nats, "gap": nats - other}
    return scores


def _binned_information(z: np.ndarray, setting: np.ndarray) -> np.ndarray:
    """Mutual information by bins of equally many clips, in nats, of each column of z: (n, d), (n,) -> (d,).

    Its bias is the same for all columns: good for choosing one, and not as a score.
    """
    bins = max(2, int(np.sqrt(len(z) / 8)))

    def binned(x):
        return x.argsort(axis=0).argsort(axis=0) * bins // len(x)

    codes = binned(z) * bins + binned(setting)[:, None]  # (n, d)
    share = np.stack([np.bincount(code, minlength=bins**2) for code in codes.T]) / len(z)  # (d, bins ** 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.nansum(share * np.log(share * bins**2), axis=1)
