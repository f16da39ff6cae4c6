"""Using a trained VAE: embeddings are mu, and what is kept on disk belongs to one run, one PCA and one data set."""

import dataclasses
import shutil

import numpy as np
import pytest
import torch

from vaefx_lib import baselines, latent, projection, shards, spectrogram, training


@pytest.fixture(scope="module")
def run(toy_home):
    return training.load(toy_home / "runs" / "toy" / "vae")


@pytest.fixture(scope="module")
def seventy(toy_home):
    """Seventy: more than `latent.BATCH`."""
    return shards.load(toy_home / "runs" / "toy" / "data" / "test")


@pytest.fixture(scope="module")
def x(run, seventy):
    return spectrogram.pairs(seventy, run.preset.stft, statistics=run.statistics)


@pytest.fixture(scope="module")
def pca(x):
    return baselines.fit_pca(x, 12)


def test_an_embedding_is_mu_of_each_clip_in_order(run, x):
    assert len(x) > latent.BATCH
    z = latent.embed(run, x)
    with torch.no_grad():
        one_by_one = [run.model.encode(torch.from_numpy(clip[None]).float())[0][0].numpy() for clip in x]
    assert z.shape == (70, 12) and z.dtype == np.float32
    assert z == pytest.approx(np.stack(one_by_one), abs=1e-5)
    assert np.array_equal(latent.embed(run, x), z)  # never a sample
    assert np.ptp(z, axis=0).min() > 0  # clips differ in every dimension, so their order shows


def test_decoding_an_embedding_gives_what_the_network_gives_in_eval(run, x):
    rebuilt = latent.decode(run, latent.embed(run, x))
    with torch.no_grad():
        expected = run.model(torch.from_numpy(x).float())[0].numpy()
    assert rebuilt.shape == x.shape and rebuilt.dtype == np.float32
    assert rebuilt == pytest.approx(expected, abs=1e-4)


def test_a_path_is_straight_evenly_spaced_and_holds_both_ends():
    rng = np.random.default_rng(0)
    z_1, z_2 = rng.normal(size=(2, 12)).astype(np.float32)
    path = latent.interpolate(z_1, z_2, 9)
    assert path.shape == (9, 12)
    assert np.array_equal(path[0], z_1) and np.array_equal(path[-1], z_2)
    assert path[4] == pytest.approx((z_1 + z_2) / 2, abs=1e-6)
    assert np.diff(path, axis=0) == pytest.approx(np.tile((z_2 - z_1) / 8, (8, 1)), abs=1e-6)


def test_a_traversal_moves_one_dimension_a_row_and_leaves_the_clip_in_the_middle():
    z, spread = np.arange(4.0), np.array([1.0, 10.0, 0.5, 2.0])
    path = latent.traverse(z, [1, 3], spread, (-2, 0, 1))
    assert path.dtype == np.float32
    assert path.tolist() == [
        [[0, -19, 2, 3], [0, 1, 2, 3], [0, 11, 2, 3]],
        [[0, 1, 2, -1], [0, 1, 2, 3], [0, 1, 2, 5]],
    ]
    assert z.tolist() == [0, 1, 2, 3]


def test_errors_are_the_mean_over_frames_and_bins_of_each_channel():
    x, x_hat = np.zeros((2, 2, 2, 3), np.float16), np.zeros((2, 2, 2, 3), np.float32)
    x_hat[0, 1, 0, 0], x_hat[1, 0] = 3, -2
    assert latent.mse(x, x_hat).tolist() == [[0, 9 / 6], [4, 0]]


def test_embedded_pairs_carry_their_scores_errors_and_labels(run, x, pca, seventy):
    found = latent.embed_dataset(run, pca, seventy)
    assert found.vae == pytest.approx(latent.embed(run, x), abs=1e-5)
    assert found.pca == pytest.approx(pca.transform(x), abs=1e-4)
    assert found.no_model == pytest.approx(baselines.change_statistics(x), abs=1e-5)
    assert found.vae_mse == pytest.approx(latent.mse(x, latent.decode(run, found.vae)), rel=1e-4)
    assert found.pca_mse == pytest.approx(latent.mse(x, pca.inverse_transform(found.pca)), rel=1e-4)
    assert found.effects.tolist() == ["mda:Overdrive", "mda:Delay"] * 35
    assert found.speakers[:4].tolist() == ["s0", "s1", "s2", "s0"]
    assert [list(s) for s in found.settings] == [row["settings"] for row in seventy.rows]


def test_kept_embeddings_are_used_until_something_that_they_depend_on_changes(run, pca, seventy, tmp_path):
    path = tmp_path / "kept.safetensors"

    def keep(run=run, pca=pca, pairs=seventy):
        """Whether the file was written anew."""
        before = path.stat().st_mtime_ns if path.exists() else None
        found = latent.embed_dataset(run, pca, pairs, path=path)
        assert np.array_equal(found.pca, latent.embed_dataset(run, pca, pairs).pca)
        return path.stat().st_mtime_ns != before

    assert keep()
    assert not keep()
    other_run = dataclasses.replace(run, fingerprint="another")
    assert keep(run=other_run)
    assert keep()
    other_weights = dataclasses.replace(run, folder=tmp_path)  # the same choices, trained again elsewhere
    (tmp_path / "model.safetensors").write_bytes((run.folder / "model.safetensors").read_bytes() + b" ")
    assert keep(run=other_weights)
    assert keep()
    assert keep(pca=dataclasses.replace(pca, components=-pca.components))
    assert keep()
    assert keep(pairs=dataclasses.replace(seventy, fingerprint="another"))
    assert not keep(pairs=dataclasses.replace(seventy, fingerprint="another"))


def test_a_subset_is_embedded_once_beside_its_run_with_the_pca_of_the_training_pairs(toy_home, tmp_path):
    shutil.copytree(toy_home / "runs", tmp_path / "runs")
    run = training.load(tmp_path / "runs" / "toy" / "vae")
    found = latent.embed_subset(run, "test")
    files = {name: run.folder / name for name in ("pca.safetensors", "embedded/test.safetensors")}
    written = {name: path.stat().st_mtime_ns for name, path in files.items()}
    again = latent.embed_subset(training.load(run.folder), "test")
    assert {name: path.stat().st_mtime_ns for name, path in files.items()} == written
    for name in ("vae", "pca", "no_model", "vae_mse", "pca_mse"):
        assert np.array_equal(getattr(again, name), getattr(found, name)), name

    train = shards.load(tmp_path / "runs" / "toy" / "data" / "train")
    train_x, statistics = training.training_spectrograms(train, run.preset.stft)
    assert statistics == run.statistics
    exact = baselines.fit_pca(train_x, run.preset.vae.latent_dim)
    assert latent.training_pca(run).components == pytest.approx(exact.components, abs=1e-5)
    assert found.pca.shape == found.vae.shape == (70, 12)


def test_a_flat_map_keeps_what_varies_most():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(40, 5)) * [0.1, 3, 0.1, 9, 0.1]
    flat = projection.project(points, method="pca")
    assert flat.shape == (40, 2) and flat.dtype == np.float32
    assert abs(np.corrcoef(flat[:, 0], points[:, 3])[0, 1]) > 0.99
    assert abs(np.corrcoef(flat[:, 1], points[:, 1])[0, 1]) > 0.95


def test_a_kept_map_is_drawn_again_for_other_points_or_another_seed(tmp_path):
    rng, path = np.random.default_rng(0), tmp_path / "map.safetensors"
    points = rng.normal(size=(30, 4))

    def keep(points, **options):
        before = path.stat().st_mtime_ns if path.exists() else None
        flat = projection.project(points, method="pca", path=path, **options)
        assert np.array_equal(flat, projection.project(points, method="pca", **options))
        return path.stat().st_mtime_ns != before

    assert keep(points)
    assert not keep(points)
    assert keep(points, seed=1)
    assert keep(points + [1, 0, 0, 0])
    assert keep(points[:-1])


def test_an_unknown_map_names_the_known_ones():
    with pytest.raises(ValueError, match="'tsne': known are umap, pca"):
        projection.project(np.zeros((3, 3)), method="tsne")


def test_parts_are_content_then_effect_and_the_same_where_nothing_divides_them(run):
    z = np.arange(12)
    parts = latent.parts(run)
    assert z[parts["content"]].tolist() == list(range(8)) and z[parts["effect"]].tolist() == [8, 9, 10, 11]
    plain = dataclasses.replace(run.preset.vae, architecture="conv2d")
    undivided = dataclasses.replace(run, preset=dataclasses.replace(run.preset, vae=plain))
    assert [len(z[part]) for part in latent.parts(undivided).values()] == [12, 12]


def test_a_map_has_equally_many_clips_of_each_effect_and_all_unseen_ones_that_fit(run, pca, seventy):
    found = latent.embed_dataset(run, pca, seventy)
    ten = dataclasses.replace(
        found,
        settings=found.settings[:10],
        **{name: getattr(found, name)[:10] for name in ("vae", "pca", "no_model", "effects", "speakers")},
    )
    both, unseen = latent.together(found, ten, 12)
    assert np.unique(both.effects, return_counts=True)[1].tolist() == [12, 12]
    assert unseen.tolist() == [False] * 14 + [True] * 10
    assert np.array_equal(both.vae, np.concatenate([found.vae[:14], found.vae[:10]]))
    assert [list(s) for s in both.settings] == [list(found.settings[i]) for i in [*range(14), *range(10)]]
    assert latent.together(found, ten, 3)[1].all()
    with pytest.raises(ValueError, match="mda:Delay has 40 clips: per_effect is 41"):
        latent.together(found, ten, 41)


def test_the_nearest_other_vector_is_the_one_that_a_slow_search_finds():
    z = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    slow = [min((j for j in range(50) if j != i), key=lambda j: np.linalg.norm(z[i] - z[j])) for i in range(50)]
    assert latent.nearest(z).tolist() == slow


def test_umap_keeps_neighbours_together_and_repeats():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(120, 12)).astype(np.float32)
    points[:60, 0] += 30
    flat = projection.project(points)
    assert flat.shape == (120, 2) and flat.dtype == np.float32
    assert np.array_equal(latent.nearest(flat) < 60, np.arange(120) < 60)
    assert np.array_equal(projection.project(points), flat)
