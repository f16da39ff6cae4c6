"""Principal components and UMAP as arrays: what goes in comes back."""

import numpy as np
import pytest

from vaefx_lib import playable_maps

RNG = np.random.default_rng(0)
SHEET = RNG.uniform(size=(300, 2))


@pytest.fixture(scope="module")
def flat():
    """UMAP of a sheet in three dimensions, which it can lay flat."""
    return playable_maps.fit_umap(np.column_stack([SHEET, SHEET.sum(1) / 2]), 2, seed=1)


def test_principal_components_find_the_plane_and_have_unit_deviation():
    axes = np.linalg.qr(RNG.normal(size=(6, 2)))[0]
    data = RNG.normal(size=(500, 2)) * [5, 2] @ axes.T + 7
    mean, components = playable_maps.principal(data, 2)
    scores = (data - mean) @ components
    np.testing.assert_allclose(scores.std(0), 1, rtol=1e-6)
    np.testing.assert_allclose(scores.mean(0), 0, atol=1e-9)
    back = scores @ np.linalg.pinv(components) + mean
    np.testing.assert_allclose(back, data, atol=1e-8)
    assert abs(np.corrcoef(scores.T)[0, 1]) < 1e-8


def test_a_linear_map_is_found_again_and_the_constant_is_not_held_back():
    z = RNG.normal(size=(200, 3))
    truth = RNG.normal(size=(4, 2)) + [[0], [0], [0], [100]]
    found = playable_maps.ridge(z, np.column_stack([z, np.ones(200)]) @ truth, weight=1e-9)
    np.testing.assert_allclose(found, truth, atol=1e-6)
    heavy = playable_maps.ridge(z, np.column_stack([z, np.ones(200)]) @ truth, weight=1e9)
    np.testing.assert_allclose(heavy[:3], 0, atol=1e-3)
    assert (heavy[3] > 90).all()


def test_the_inverse_of_umap_brings_stored_points_back_to_where_they_were(flat):
    back = flat.inverse(flat.places)
    error = np.abs(back - flat.data).mean()
    assert error < 0.02  # a point drawn at random is 1/3 away
    assert np.abs(RNG.permutation(back) - flat.data).mean() > 0.2


def test_the_inverse_agrees_with_that_of_umap_learn_and_one_place_gives_the_same_as_many(flat):
    import umap

    reducer = umap.UMAP(n_neighbors=15, n_epochs=playable_maps.EPOCHS, random_state=1, n_jobs=1).fit(flat.data)
    ours = playable_maps.Umap(flat.data, reducer.embedding_, reducer._sigmas, reducer._rhos, flat.curve, np.ones(2))
    z = RNG.uniform(*np.percentile(reducer.embedding_, (20, 80), axis=0), size=(60, 2))
    found = ours.inverse(z)
    assert np.abs(reducer.inverse_transform(z) - found).mean() < 0.08  # theirs draws at random; chance is 1/3
    for i in (0, 30):
        np.testing.assert_allclose(ours.inverse(z[i : i + 1])[0], found[i], atol=1e-9)


def test_every_place_has_a_finite_inverse_however_far_away_and_in_any_number_of_dimensions(flat):
    assert np.isfinite(flat.inverse(np.array([[1e6, -1e6], [0, 0]]))).all()
    eight = playable_maps.fit_umap(RNG.uniform(size=(60, 3)), 8, seed=0)
    assert eight.places.shape == (60, 8)
    assert np.isfinite(eight.inverse(RNG.normal(size=(5, 8)))).all()


def test_the_same_seed_gives_the_same_map_and_another_another():
    data = RNG.uniform(size=(80, 3))
    one, again, other = (playable_maps.fit_umap(data, 2, seed=seed).places for seed in (3, 3, 4))
    np.testing.assert_array_equal(one, again)
    assert not np.allclose(one, other)
    np.testing.assert_allclose(one.std(0), 1, rtol=1e-4)
