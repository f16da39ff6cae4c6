"""Using a trained VAE: embeddings (mu, never a sample), decoding and interpolation; `projection` draws maps of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from vaefx_lib import baselines, batches, phase, runs, shards, spectrogram, standardisation, store

BATCH = 64


@dataclass(frozen=True, eq=False)
class Embedded:
    """A subset of pairs as seen by the VAE and by PCA.

    Attributes
    ----------
    vae, pca : array, float32, shape (n, latent_dim)
        mu, and the PCA scores.
    no_model : array, float32, shape (n, features)
        `baselines.change_statistics`.
    vae_mse, pca_mse : array, float32, shape (n, channels)
        Reconstruction error of each channel of each pair, in variances of the training set; empty, (0, channels), for
        training subsets, which nobody scores.
    effects, speakers : array of str, shape (n,)
    settings : list of array
        In [0, 1], in the order of each effect's parameters.
    """

    vae: np.ndarray
    pca: np.ndarray
    no_model: np.ndarray
    vae_mse: np.ndarray
    pca_mse: np.ndarray
    effects: np.ndarray
    speakers: np.ndarray
    settings: list[np.ndarray]


def embed(run: runs.Run, x: np.ndarray) -> np.ndarray:
    """Mean of the posterior of each pair.

    Parameters
    ----------
    run : Run
    x : array, shape (n, channels, frames, bins)
        Standardised with `run.statistics`; the channels of `run.preset.vae.inputs`.

    Returns
    -------
    array, float32, shape (n, latent_dim)
    """
    with torch.inference_mode():
        parts = [run.model.encode(torch.from_numpy(x[i : i + BATCH]).float())[0] for i in range(0, len(x), BATCH)]
    return torch.cat(parts).numpy()


def decode(run: runs.Run, z: np.ndarray) -> np.ndarray:
    """Standardised spectrogram pairs of latent vectors: (n, latent_dim) -> (n, channels, frames, bins)."""
    z = torch.from_numpy(np.asarray(z, np.float32))
    with torch.inference_mode():
        parts = [run.model.decode(z[i : i + BATCH]) for i in range(0, len(z), BATCH)]
    return torch.cat(parts).numpy()


def interpolate(z_1: np.ndarray, z_2: np.ndarray, steps: int) -> np.ndarray:
    """Points on the straight line from `z_1` to `z_2`, both ends included, shape (steps, latent_dim)."""
    alpha = np.linspace(0, 1, steps, dtype=np.float32)[:, None]
    return (1 - alpha) * z_1 + alpha * z_2


def training_pca(run: runs.Run) -> baselines.Pca:
    """PCA with as many components as the VAE has dimensions, of the same training pairs; stored with the run."""
    data, kind = shards.load(run.folder.parent / "data" / "train"), phase.of(run.preset.vae.inputs)

    def spectrograms() -> np.ndarray:
        x, _ = batches.training_spectrograms(data, run.preset.stft, representation=kind, scratch=run.folder)
        return batches.inputs(run.preset, x)

    key = store.fingerprint(data.fingerprint, run.statistics.to_dict(), list(run.preset.vae.inputs))
    return baselines.cached_pca(run.folder / "pca.safetensors", key, spectrograms, run.preset.vae.latent_dim)


def embed_dataset(
    run: runs.Run,
    pca: baselines.Pca,
    dataset: shards.Dataset,
    *,
    errors: bool = True,
    path: str | Path | None = None,
) -> Embedded:
    """Embeddings, baselines and errors of all pairs of a data set, a few hundred at a time.

    Parameters
    ----------
    run : Run
    pca : Pca
    dataset : Dataset
    errors : bool
        Decode as well, and measure the reconstruction errors: twice the work.
    path : path, optional
        Keep the result here, and take it from here if nothing that it depends on has changed.

    Returns
    -------
    Embedded
    """
    kind = phase.of(run.preset.vae.inputs)
    options: dict = {"statistics": run.statistics, "representation": kind}

    def compute() -> dict[str, np.ndarray]:
        parts = []
        for start in range(0, len(dataset), 256):
            indices = range(start, min(start + 256, len(dataset)))
            pair = spectrogram.pairs(dataset, run.preset.stft, indices=indices, **options)
            x = batches.inputs(run.preset, pair)
            mu, scores = embed(run, x), pca.transform(x)
            none = np.zeros((0, x.shape[1]), np.float32)
            parts.append(
                {
                    "vae": mu,
                    "pca": scores,
                    "no_model": baselines.change_statistics(pair),
                    "vae_mse": mse(x, decode(run, mu)) if errors else none,
                    "pca_mse": mse(x, pca.inverse_transform(scores)) if errors else none,
                }
            )
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    sources = [Path(str(module.__file__)) for module in (baselines, spectrogram, standardisation)]
    own = [run.folder / "model.safetensors", pca.mean, pca.components]  # trained again, they may differ in a few bits
    key = store.fingerprint(run.fingerprint, *own, dataset.fingerprint, errors, *sources, Path(__file__))
    arrays = store.cached(path, key, compute) if path else compute()
    return Embedded(effects=dataset.effect_names, speakers=dataset.speakers, settings=dataset.settings, **arrays)


def embed_subset(run: runs.Run, subset: str) -> Embedded:
    """The pairs of one of `config.SUBSETS`, as rendered beside the run; kept in the run folder."""
    dataset = shards.load(run.folder.parent / "data" / subset)
    path = run.folder / "embedded" / f"{subset}.safetensors"
    return embed_dataset(run, training_pca(run), dataset, errors="train" not in subset, path=path)


def parts(run: runs.Run) -> dict[str, slice]:
    """Which dimensions of the latent vector describe the content, and which the effect.

    A network that does not divide them gives all for both. Used in notebooks 03 and 04.
    """
    if run.preset.vae.architecture != "factorised":
        return {"content": slice(None), "effect": slice(None)}
    first = run.preset.vae.latent_dim - run.preset.vae.effect_dim
    return {"content": slice(0, first), "effect": slice(first, None)}


def together(train: Embedded, test: Embedded, per_effect: int) -> tuple[Embedded, np.ndarray]:
    """Equally many clips of each effect for one map: all of `test`, filled up with the first of `train`.

    Parameters
    ----------
    train, test : Embedded
        Of training and of unseen speakers.
    per_effect : int

    Returns
    -------
    Embedded
        Without reconstruction errors.
    unseen : array of bool, shape (n,)
        True for those from `test`.

    Raises
    ------
    ValueError
        If an effect has fewer clips.

    Used in `03_latent_clustering`.
    """
    kept = {"train": [], "test": []}
    for name in sorted({*train.effects, *test.effects}):
        old, new = np.flatnonzero(train.effects == name), np.flatnonzero(test.effects == name)[:per_effect]
        if len(old) + len(new) < per_effect:
            raise ValueError(f"{name} has {len(old) + len(new)} clips: per_effect is {per_effect}")
        kept["train"].extend(old[: per_effect - len(new)])
        kept["test"].extend(new)
    sources = [(e, np.sort(rows).astype(int)) for e, rows in zip((train, test), kept.values(), strict=True)]
    fields = ("vae", "pca", "no_model", "effects", "speakers")
    arrays = {field: np.concatenate([getattr(e, field)[rows] for e, rows in sources]) for field in fields}
    none = np.zeros((0, 2), np.float32)
    settings = [e.settings[i] for e, rows in sources for i in rows]
    unseen = np.repeat([False, True], [len(rows) for _, rows in sources])
    return Embedded(vae_mse=none, pca_mse=none, settings=settings, **arrays), unseen


def traverse(z: np.ndarray, dimensions, spread: np.ndarray, deviations) -> np.ndarray:
    """Copies of one latent vector in which one dimension at a time is moved.

    Parameters
    ----------
    z : array, shape (latent_dim,)
        Such as the embedding of a clip.
    dimensions : sequence of int, length n_rows
    spread : array, shape (latent_dim,)
        The unit of a move in each dimension: the standard deviation of the training embeddings.
    deviations : sequence of float, length n_columns
        How far to go, in units of `spread`; 0 is `z` itself.

    Returns
    -------
    array, float32, shape (n_rows, n_columns, latent_dim)

    Used in `03_latent_clustering`.
    """
    path = np.tile(np.asarray(z, np.float32), (len(dimensions), len(deviations), 1))
    for row, dimension in zip(path, dimensions, strict=True):
        row[:, dimension] += np.asarray(deviations) * spread[dimension]
    return path


def nearest(z: np.ndarray) -> np.ndarray:
    """Index of the nearest other vector (Euclidean) of each: (n, d) -> (n,). Used in `03_latent_clustering`."""
    squares = np.square(z).sum(axis=1)
    distances = squares[:, None] + squares - 2 * z @ z.T
    np.fill_diagonal(distances, np.inf)
    return distances.argmin(axis=1)


def mse(x: np.ndarray, x_hat: np.ndarray) -> np.ndarray:
    """Mean squared error over frames and bins: two arrays (n, channels, frames, bins) -> (n, channels)."""
    return np.square(x_hat - x.astype(np.float32)).mean(axis=(2, 3))
