"""Maps of latent vectors to look at: from many dimensions to two. Those to play on are `playable_maps`."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np

from vaefx_lib import store


def project(points: np.ndarray, *, method: str = "umap", seed: int = 0, path: str | Path | None = None) -> np.ndarray:
    """A map of latent vectors in two dimensions.

    Parameters
    ----------
    points : array, shape (n, d)
    method : str
        "umap" (McInnes et al., 2018; 15 neighbours, minimum distance 0.1) or "pca".
    seed : int
    path : path, optional
        Keep the map here, and take it from here if the points are the same.

    Returns
    -------
    array, float32, shape (n, 2)

    Raises
    ------
    ValueError
        For another method.

    Used in `03_latent_clustering`.
    """
    if method not in ("umap", "pca"):
        raise ValueError(f"unknown projection {method!r}: known are umap, pca")

    def compute() -> dict[str, np.ndarray]:
        if method == "pca":
            from sklearn.decomposition import PCA

            flat = PCA(2, random_state=seed).fit_transform(points)
        else:
            flat = _umap(points, seed)
        return {"map": np.asarray(flat, np.float32)}

    key = store.fingerprint(method, seed, np.asarray(points))
    return (store.cached(path, key, compute) if path else compute())["map"]


def _umap(points: np.ndarray, seed: int) -> np.ndarray:
    """UMAP from exact neighbours. Left to itself it would call a Python function for every pair of points."""
    import umap
    from sklearn.neighbors import NearestNeighbors

    count = min(15, len(points) - 1)
    distances, indices = NearestNeighbors(n_neighbors=count - 1, algorithm="brute").fit(points).kneighbors()
    indices = np.column_stack([np.arange(len(points)), indices])  # each point is its own first neighbour
    distances = np.column_stack([np.zeros(len(points)), distances]).astype(np.float32)
    options = {"n_neighbors": count, "min_dist": 0.1, "random_state": seed, "n_jobs": 1}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*knn_search_index.*")  # it could not place further points
        reducer = umap.UMAP(precomputed_knn=(indices, distances), force_approximation_algorithm=True, **options)
        return reducer.fit_transform(points)
