"""Maps of points that somebody else draws: UMAP with its way back, and principal components."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

NEIGHBOURS, NEAREST_DISTANCE = 15, 0.1  # UMAP's own defaults
EPOCHS = 200
STEPS, RATE = 30, 0.1  # of the descent that ends an inversion


@dataclass(frozen=True, eq=False)
class Umap:
    """A fitted UMAP as arrays: no pickle, and no object that recompiles itself.

    Attributes
    ----------
    data : array, float32, shape (n, features)
        What was mapped.
    places : array, float32, shape (n, d)
        Where it lies; each axis has unit deviation.
    sigmas, rhos : array, float32, shape (n,)
        Width of each point's neighbourhood in the data, and distance of the nearest.
    curve : array, shape (2,)
        a and b of the membership ``1 / (1 + a distance ** (2 b))`` on the map, and
    scale : array, float32, shape (d,)
        by what its axes were divided.
    """

    data: np.ndarray
    places: np.ndarray
    sigmas: np.ndarray
    rhos: np.ndarray
    curve: np.ndarray
    scale: np.ndarray

    def inverse(self, z: np.ndarray) -> np.ndarray:
        """Data of places, (n, d) -> (n, features): UMAP's `inverse_transform`, for every d and in milliseconds.

        As there, a point begins at the mean of its neighbours on the map, weighted by membership, and is then moved
        until its memberships in the data are those on the map (cross-entropy of fuzzy sets). Two things differ. The
        neighbours are the nearest ones, and not those that a breadth-first walk over a Delaunay triangulation meets:
        the triangulation has some 30 simplices a point at d = 4 and 87,000 at d = 8, and is made anew in every call.
        And all neighbours pull in each step, where UMAP draws them at random, so that a place always gives the same.

        References
        ----------
        McInnes, Healy, Melville: UMAP, arXiv:1802.03426, 2018; umap-learn, `UMAP.inverse_transform`.

        Used in `06_playable_latent`.
        """
        count = min(len(self.data), max(self.data.shape[1], self.places.shape[1] + 1))
        away, near = cKDTree(self.places * self.scale).query(np.asarray(z, np.float64) * self.scale, count)
        a, b = self.curve
        members = 1 / (1 + a * away ** (2 * b))
        known, sigmas, rhos = self.data[near].astype(np.float64), self.sigmas[near] + 1e-6, self.rhos[near]
        weights = members / members.sum(1, keepdims=True)
        points = (weights[..., None] * known).sum(1)
        for step in range(STEPS):
            differences = points[:, None] - known
            distances = np.sqrt(np.square(differences).sum(2)) + 1e-9
            have = np.exp(-np.maximum(distances - rhos, 1e-6) / sigmas)
            push = (1 - members) * have / (1 - have + 1e-3)
            slope = np.clip(members - push, -4, 4) / distances  # of minus the cross-entropy, in units of sigma
            points -= (
                RATE * (1 - step / STEPS) * sigmas.mean(1, keepdims=True) * (slope[..., None] * differences).mean(1)
            )
        return points


def fit_umap(data: np.ndarray, dim: int, *, seed: int) -> Umap:
    """UMAP of some points, from exact neighbours.

    Parameters
    ----------
    data : array, shape (n, features)
        At least 4 points.
    dim : int
    seed : int
        Of the layout.

    Returns
    -------
    Umap

    Used in `06_playable_latent`.
    """
    import umap  # here: it takes seconds to import
    from sklearn.neighbors import NearestNeighbors

    data = np.asarray(data, np.float32)
    count = min(NEIGHBOURS, len(data) - 1)
    distances, indices = NearestNeighbors(n_neighbors=count - 1, algorithm="brute").fit(data).kneighbors()
    indices = np.column_stack([np.arange(len(data)), indices])  # each point is its own first neighbour
    distances = np.column_stack([np.zeros(len(data)), distances]).astype(np.float32)
    options = {"n_neighbors": count, "min_dist": NEAREST_DISTANCE, "n_epochs": EPOCHS, "random_state": seed}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*knn_search_index.*")  # it could not place further points
        reducer = umap.UMAP(
            n_components=dim,
            precomputed_knn=(indices, distances),
            force_approximation_algorithm=True,
            n_jobs=1,
            **options,
        )
        places = reducer.fit_transform(data)
    scale = places.std(0)
    places = (places - places.mean(0)) / scale
    curve = np.array([reducer._a, reducer._b])
    return Umap(data, places, reducer._sigmas, reducer._rhos, curve, scale)


def principal(data: np.ndarray, dim: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean (features,) and the `dim` largest principal components (features, dim), at which scores have unit deviation.

    Each component's largest entry is positive. Used in `06_playable_latent`.
    """
    mean = data.mean(0)
    values, vectors = np.linalg.eigh(np.cov(data - mean, rowvar=False, bias=True))
    values, vectors = values[::-1][:dim], vectors[:, ::-1][:, :dim]
    vectors = vectors * np.sign(vectors[np.abs(vectors).argmax(0), np.arange(dim)])
    return mean, vectors / np.sqrt(np.maximum(values, 1e-6 * values[0]))


def ridge(z: np.ndarray, settings: np.ndarray, *, weight: float = 1.0) -> np.ndarray:
    """Linear map from places (n, d) to settings (n, n_params): (d + 1, n_params), the constant last."""
    z = np.column_stack([z, np.ones(len(z))]).astype(np.float64)
    penalty = weight * np.eye(z.shape[1])
    penalty[-1, -1] = 0
    return np.linalg.solve(z.T @ z + penalty, z.T @ settings)
