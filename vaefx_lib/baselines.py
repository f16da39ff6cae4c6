"""What a model has to beat: principal components of the same spectrograms, and plain statistics without a model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vaefx_lib import store

CLIPS_AT_ONCE = 256  # converted to float32 at a time: the whole training set would not fit
ITERATIONS = 3  # of the subspace: on speech the error is then within 0.1 % of the exact one


@dataclass(frozen=True, eq=False)
class Pca:
    """Principal components of standardised spectrograms, all channels together.

    Attributes
    ----------
    mean : array, float32, shape (size,)
        size = channels * frames * bins.
    components : array, float32, shape (n_components, size)
        Orthonormal rows, the largest variance first.
    shape : tuple of int
        (channels, frames, bins).
    """

    mean: np.ndarray
    components: np.ndarray
    shape: tuple[int, ...]

    def transform(self, x: np.ndarray) -> np.ndarray:
        """Scores of spectrograms (n, channels, frames, bins), shape (n, n_components)."""
        return np.concatenate([(block - self.mean) @ self.components.T for _, block in _blocks(x)])

    def inverse_transform(self, z: np.ndarray) -> np.ndarray:
        """Spectrograms (n, channels, frames, bins) of scores (n, n_components)."""
        return (z @ self.components + self.mean).reshape(-1, *self.shape)


def fit_pca(x: np.ndarray, n_components: int, *, seed: int = 0) -> Pca:
    """Principal components of spectrograms, without a float32 copy of them all.

    Randomised subspace iteration: Halko, Martinsson and Tropp, Finding Structure with Randomness (2011), section 4.5.
    scikit-learn's does the same, but wants all data as one float32 array.

    Parameters
    ----------
    x : array, float16 or float32, shape (n, channels, frames, bins)
        Standardised.
    n_components : int
        At most n.
    seed : int

    Raises
    ------
    ValueError
        If there are fewer spectrograms than components.
    """
    if not 1 <= n_components <= len(x):
        raise ValueError(f"n_components is {n_components} with {len(x)} spectrograms: it must be from 1 to {len(x)}")
    size = int(np.prod(x.shape[1:]))
    mean = sum(block.sum(axis=0, dtype=np.float64) for _, block in _blocks(x)) / len(x)
    mean = mean.astype(np.float32)
    width = min(n_components + 10, len(x), size)
    basis = np.random.default_rng(seed).standard_normal((size, width), dtype=np.float32)
    for _ in range(ITERATIONS):  # each multiplies by the covariance: one pass over the data
        image = np.zeros_like(basis)
        for _, block in _blocks(x):
            block -= mean
            image += block.T @ (block @ basis)
        basis, _ = np.linalg.qr(image)
    scores = np.concatenate([(block - mean) @ basis for _, block in _blocks(x)])
    _, _, rotation = np.linalg.svd(scores, full_matrices=False)
    return Pca(mean, np.ascontiguousarray((basis @ rotation[:n_components].T).T), x.shape[1:])


def cached_pca(path: Path, key: str, spectrograms, n_components: int) -> Pca:
    """The PCA stored at `path` under `key`, else that of `spectrograms()`, which is then stored."""

    def compute():
        pca = fit_pca(spectrograms(), n_components)
        return {"mean": pca.mean, "components": pca.components, "shape": np.array(pca.shape)}

    stored = store.cached(path, store.fingerprint(key, n_components, Path(__file__)), compute)
    return Pca(stored["mean"], stored["components"], tuple(int(n) for n in stored["shape"]))


def change_statistics(x: np.ndarray, *, bands: int = 64) -> np.ndarray:
    """Mean and deviation over time of wet minus dry in `bands` bands of equal width: no model at all.

    Parameters
    ----------
    x : array, shape (n, 2, frames, bins)
        Standardised.
    bands : int

    Returns
    -------
    array, float32, shape (n, 2 * bands)

    Raises
    ------
    ValueError
        If there are more bands than bins.
    """
    if not 1 <= bands <= x.shape[-1]:
        raise ValueError(f"bands is {bands} with {x.shape[-1]} bins: it must be from 1 to {x.shape[-1]}")
    out = []
    for pair in x:
        change = pair[1].astype(np.float32) - pair[0].astype(np.float32)
        edges = np.linspace(0, change.shape[1], bands + 1).astype(int)[:-1]
        banded = np.add.reduceat(change, edges, axis=1) / np.diff(np.append(edges, change.shape[1]))
        out.append(np.concatenate([banded.mean(axis=0), banded.std(axis=0)]))
    return np.stack(out)


def _blocks(x: np.ndarray):
    for start in range(0, len(x), CLIPS_AT_ONCE):
        rows = slice(start, start + CLIPS_AT_ONCE)
        yield rows, x[rows].astype(np.float32).reshape(len(x[rows]), -1)
