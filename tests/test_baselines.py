"""PCA against scikit-learn's exact one, and the statistics without a model against a plain loop."""

import dataclasses

import numpy as np
import pytest
from sklearn.decomposition import PCA

from vaefx_lib import baselines

SHAPE = (2, 6, 9)


@pytest.fixture(scope="module")
def x():
    """Sixty spectrograms whose variances fall as those of speech do, around a mean that is not zero."""
    rng = np.random.default_rng(0)
    size = int(np.prod(SHAPE))
    axes, _ = np.linalg.qr(rng.normal(size=(size, size)))
    flat = rng.normal(size=(60, size)) / np.arange(1, size + 1) @ axes + 3 * rng.normal(size=size)
    return flat.astype(np.float32).reshape(-1, *SHAPE)


def error(pca, x):
    return np.square(pca.inverse_transform(pca.transform(x)) - x).mean()


@pytest.mark.parametrize("n_components", [1, 8, 30, 60])
def test_pca_reconstructs_as_well_as_an_exact_one(x, n_components):
    pca = baselines.fit_pca(x, n_components)
    exact = PCA(n_components, svd_solver="full").fit(x.reshape(60, -1))
    flat = exact.inverse_transform(exact.transform(x.reshape(60, -1)))
    assert error(pca, x) == pytest.approx(np.square(flat - x.reshape(60, -1)).mean(), rel=1e-3, abs=1e-10)
    assert pca.inverse_transform(pca.transform(x)).shape == x.shape


def test_pca_finds_the_exact_components_in_their_order(x):
    pca = baselines.fit_pca(x, 8)
    exact = PCA(8, svd_solver="full").fit(x.reshape(60, -1))
    assert np.abs(np.sum(pca.components * exact.components_, axis=1)) == pytest.approx(1, abs=1e-3)  # but for the sign
    assert pca.mean == pytest.approx(x.reshape(60, -1).mean(axis=0), abs=1e-5)
    variances = pca.transform(x).var(axis=0, ddof=1)
    assert variances == pytest.approx(exact.explained_variance_, rel=1e-2)
    assert (np.diff(variances) < 0).all()


@pytest.mark.parametrize("n_components", [1, 8, 60])
def test_components_are_orthonormal(x, n_components):
    components = baselines.fit_pca(x, n_components).components
    assert components.shape == (n_components, 108)
    assert components @ components.T == pytest.approx(np.eye(n_components), abs=1e-5)


def test_more_components_leave_a_smaller_error_even_on_other_spectrograms(x):
    errors = [error(baselines.fit_pca(x[:50], n), x[50:]) for n in (1, 2, 4, 8, 16, 32)]
    assert (np.diff(errors) < 0).all()


def test_pca_is_the_same_block_by_block_in_half_precision_and_from_any_start(x, monkeypatch):
    whole = baselines.fit_pca(x, 8)
    half = baselines.fit_pca(x.astype(np.float16), 8)
    other = baselines.fit_pca(x, 8, seed=1)
    monkeypatch.setattr(baselines, "CLIPS_AT_ONCE", 7)
    blocks = baselines.fit_pca(x, 8)
    assert np.abs(blocks.components - whole.components).max() < 1e-4
    assert blocks.transform(x) == pytest.approx(whole.transform(x), abs=1e-4)
    for pca in (half, other):
        assert error(pca, x) == pytest.approx(error(whole, x), rel=1e-3)


def test_fitting_leaves_its_spectrograms_as_they_were(x):
    before = x.copy()
    baselines.fit_pca(x, 4).transform(x)
    assert np.array_equal(x, before)


@pytest.mark.parametrize("n_components", [61, 0])
def test_more_components_than_spectrograms_are_refused(x, n_components):
    with pytest.raises(ValueError, match=f"n_components is {n_components} with 60 spectrograms.* from 1 to 60"):
        baselines.fit_pca(x, n_components)


def test_a_kept_pca_is_fitted_once_for_its_key_and_size(x, tmp_path):
    fits = []

    def spectrograms():
        fits.append(1)
        return x

    path = tmp_path / "pca.safetensors"
    first = baselines.cached_pca(path, "key", spectrograms, 4)
    again = baselines.cached_pca(path, "key", spectrograms, 4)
    assert len(fits) == 1
    for field in dataclasses.fields(first):
        assert np.array_equal(getattr(first, field.name), getattr(again, field.name)), field.name
    assert again.inverse_transform(again.transform(x)).shape == x.shape
    assert len(baselines.cached_pca(path, "key", spectrograms, 5).components) == 5
    baselines.cached_pca(path, "other", spectrograms, 5)
    assert len(fits) == 3


@pytest.mark.parametrize("bands", [1, 4, 7, 13])
def test_change_statistics_equal_a_plain_loop(bands):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(3, 2, 5, 13)).astype(np.float16)
    found = baselines.change_statistics(x, bands=bands)
    assert found.shape == (3, 2 * bands)
    for pair, row in zip(x.astype(float), found, strict=True):
        for band in range(bands):
            low, high = 13 * band // bands, 13 * (band + 1) // bands
            levels = [np.mean([pair[1, t, k] - pair[0, t, k] for k in range(low, high)]) for t in range(5)]
            assert row[band] == pytest.approx(np.mean(levels), abs=1e-3)
            assert row[bands + band] == pytest.approx(np.std(levels), abs=1e-3)


def test_an_effect_that_changes_nothing_has_no_change_statistics():
    clip = np.random.default_rng(2).normal(size=(1, 1, 5, 70))
    assert not baselines.change_statistics(np.concatenate([clip, clip], axis=1)).any()
    gain = baselines.change_statistics(np.concatenate([clip, clip + 2], axis=1))
    assert gain[0, :64] == pytest.approx(2) and gain[0, 64:] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("bands", [0, 14])
def test_more_bands_than_bins_are_refused(bands):
    with pytest.raises(ValueError, match=f"bands is {bands} with 13 bins"):
        baselines.change_statistics(np.zeros((1, 2, 5, 13)), bands=bands)
