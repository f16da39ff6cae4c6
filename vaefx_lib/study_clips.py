"""Small clips to study losses on: the pairs of a preset in mel bands, as coefficients of principal components.

The components are orthonormal, so a squared error of coefficients is one of spectrograms: what they leave out adds a
constant. A network between coefficients trains in a second. Used in notebook 07.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vaefx_lib import baselines, config, shards, spectrogram, standardisation, store
from vaefx_lib.config import Stft

BANDS, COMPONENTS = 64, 256
COUNTS = {"train": 2_000, "valid": 256, "test": 400}  # pairs, if there are so many


@dataclass(frozen=True, eq=False)
class Clips:
    """Pairs as coefficients of the principal components of the training pairs, about their mean.

    Attributes
    ----------
    stft : Stft
    statistics : Statistics
        Of the training spectrograms in bands.
    pca : Pca
        Its shape is (channels, frames, bands).
    coefficients : dict of str to Tensor, float32, shape (n, components)
        For train, valid and test; the last two are of unseen speakers.
    left_out : dict of str to float
        Squared error of a clip that the components cannot express, mean over the subset.
    """

    stft: Stft
    statistics: standardisation.Statistics
    pca: baselines.Pca
    coefficients: dict[str, Tensor]
    left_out: dict[str, float]

    @property
    def size(self) -> int:
        """Values of one clip, called D in the text."""
        return int(np.prod(self.pca.shape))

    @property
    def eigenvalues(self) -> np.ndarray:
        """Variance of the training pairs along each component, largest first, shape (components,)."""
        return self.coefficients["train"].var(dim=0, correction=0).numpy()

    def mse(self, subset: str, error: float) -> float:
        """Mean squared error per value of a clip, from a sum of squared errors of coefficients."""
        return (error + self.left_out[subset]) / self.size

    def restore(self, coefficients) -> np.ndarray:
        """Spectrogram pairs |X| ** power over bins, (n, 2, frames, bins), of coefficients (n, components)."""
        x = self.pca.inverse_transform(np.asarray(coefficients, np.float32))
        return to_bins(np.maximum(self.statistics.restore(x), 0), self.stft)


def prepare(preset_name: str) -> Clips:
    """The first pairs of a preset's subsets, kept in `runs/<preset>/study`.

    Raises
    ------
    DamagedFile
        If the pairs have not been rendered.
    """
    stft = config.preset(preset_name).stft
    data = {subset: shards.load(config.data_dir(preset_name, subset)) for subset in COUNTS}

    def compute() -> dict[str, np.ndarray]:
        x = {subset: _in_bands(data[subset], stft, count) for subset, count in COUNTS.items()}
        statistics = standardisation.measure(x["train"])
        x = {subset: statistics.standardise(some) for subset, some in x.items()}
        pca = baselines.fit_pca(x["train"], min(COMPONENTS, len(x["train"]) // 2))
        arrays = {"mean": pca.mean, "components": pca.components, "shape": np.array(pca.shape)}
        for subset, some in x.items():
            y = pca.transform(some)
            arrays[subset] = y
            arrays[f"left_out_{subset}"] = np.square(some - pca.inverse_transform(y)).sum(axis=(1, 2, 3)).mean()
        return {**arrays, "channel_mean": np.array(statistics.mean), "channel_std": np.array(statistics.std)}

    sources = [Path(str(module.__file__)) for module in (baselines, spectrogram, standardisation)]
    key = store.fingerprint(dataclasses.asdict(stft), *(d.fingerprint for d in data.values()), *sources, Path(__file__))
    found = store.cached(config.run_dir(preset_name) / "study" / "loss_clips.safetensors", key, compute)
    return Clips(
        stft,
        standardisation.Statistics(tuple(found["channel_mean"].tolist()), tuple(found["channel_std"].tolist())),
        baselines.Pca(found["mean"], found["components"], tuple(int(n) for n in found["shape"])),
        {subset: torch.from_numpy(found[subset]) for subset in COUNTS},
        {subset: float(found[f"left_out_{subset}"]) for subset in COUNTS},
    )


def band_edges(stft: Stft, bands: int) -> np.ndarray:
    """First bin of each of `bands` bands of equal width in mel (O'Shaughnessy, 1987), from 0 Hz to half the rate.

    Raises
    ------
    ValueError
        If there are more bands than bins.
    """
    if not 1 <= bands <= stft.num_bins:
        raise ValueError(f"bands is {bands} with {stft.num_bins} bins: it must be from 1 to {stft.num_bins}")
    mel = np.linspace(0, np.log10(1 + stft.sample_rate_hz / 2 / 700), bands + 1)
    first = np.round((10**mel - 1) * 700 * stft.n_fft / stft.sample_rate_hz).astype(int)[:-1]
    first = np.maximum.accumulate(first - np.arange(bands)) + np.arange(bands)  # at least one bin in each
    return np.minimum(first, stft.num_bins - bands + np.arange(bands))


def to_bands(S, stft: Stft, bands: int = BANDS) -> np.ndarray:
    """Mean of |X| ** power over the bins of each band: (..., bins) -> (..., bands), float32."""
    first = band_edges(stft, bands)
    return np.add.reduceat(np.asarray(S, np.float32), first, axis=-1) / np.diff(np.append(first, stft.num_bins))


def to_bins(B, stft: Stft) -> np.ndarray:
    """Every bin with the value of its band, to draw or to hear: (..., bands) -> (..., bins)."""
    first = band_edges(stft, np.shape(B)[-1])
    return np.repeat(B, np.diff(np.append(first, stft.num_bins)), axis=-1)


def _in_bands(data: shards.Dataset, stft: Stft, count: int) -> np.ndarray:
    """The first `count` pairs in bands, a few hundred at a time."""
    count = min(count, len(data))
    starts = range(0, count, 256)
    parts = (spectrogram.pairs(data, stft, indices=range(i, min(i + 256, count))) for i in starts)
    return np.concatenate([to_bands(part, stft) for part in parts])


# --- how alike two sets of clips are ----------------------------------------------------------------------------------
def energy_distance(a, b) -> float:
    """How unlike two sets of clips are: 0 if, and only if, their distributions are equal, and at most 1.

    (2 E|a - b| - E|a - a'| - E|b - b'|) / 2 E|a - b|. It sees what a comparison of means and covariances, such as the
    Frechet distance, cannot: samples that have both right and are not like the real ones all the same.

    Source: Szekely and Rizzo, Energy statistics (2013), the coefficient of inhomogeneity.

    Parameters
    ----------
    a, b : array or Tensor, shape (n, d)
        At least two in each.

    Raises
    ------
    ValueError
        If a set has fewer.
    """
    if min(len(a), len(b)) < 2:
        raise ValueError(f"sets of {len(a)} and {len(b)} clips: there must be at least 2 in each")
    a, b = (torch.as_tensor(some, dtype=torch.float64) for some in (a, b))
    within = (float(torch.cdist(some, some).sum()) / (len(some) * (len(some) - 1)) for some in (a, b))
    between = 2 * float(torch.cdist(a, b).mean())
    return (between - sum(within)) / between


def baseline_distances(clips: Clips, dimensions: int, *, count: int = 400, seed: int = 0) -> dict[str, float]:
    """Energy distance to the test pairs, in the first components, of what needs no network.

    Parameters
    ----------
    clips : Clips
    dimensions : int
        Components that are compared: the directions in which clips differ most.
    count : int
        Samples in each set.
    seed : int

    Returns
    -------
    dict
        Of other real pairs, with the same and with other voices; of a Gaussian with the variances of the training
        pairs (what PCA would invent); of noise of the same power without any structure; and of the mean alone.
    """
    v = clips.eigenvalues
    noise = np.random.default_rng(seed).standard_normal((count, len(v)))
    sets = {
        "real clips, same voices": clips.coefficients["valid"],
        "real clips, other voices": clips.coefficients["train"][:count],
        "PCA, Gaussian": noise * np.sqrt(v),
        "noise": noise * np.sqrt(v.mean()),
        "always the mean": np.zeros_like(noise),
    }
    test = clips.coefficients["test"][:, :dimensions]
    return {name: energy_distance(some[:, :dimensions], test) for name, some in sets.items()}
