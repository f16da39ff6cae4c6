"""What beta weighs: the scale of the loss, the linear VAE it can be held against, and the small trainings."""

import dataclasses

import numpy as np
import pytest
import torch

from vaefx_lib import baselines, config, loss_study, loss_theory, spectrogram, standardisation, study_clips, vae
from vaefx_lib.loss_study import LATENT_DIM, Recipe

STFT = config.Stft(num_frames=9, n_fft=256, hop_length=128, win_length=256)
SHAPE = (2, 9, 8)
VARIANCES = np.concatenate([[400, 150, 60, 20], np.linspace(8, 1, 44)]).astype(np.float32)


def clips_of(variances, *, left_out=30.0, count=600):
    """Gaussian clips with exactly these variances along the components."""
    generator, width = torch.Generator().manual_seed(0), len(variances)
    y = {}
    for subset in study_clips.COUNTS:
        white = torch.randn(count, width, generator=generator, dtype=torch.float64)
        white -= white.mean(dim=0)
        q, _ = torch.linalg.qr(white)  # orthonormal columns of mean 0
        y[subset] = (q * (count * torch.as_tensor(variances).double()).sqrt()).float()
    components = np.linalg.qr(np.random.default_rng(0).standard_normal((np.prod(SHAPE), width)))[0].T
    pca = baselines.Pca(np.zeros(np.prod(SHAPE), np.float32), components.astype(np.float32), SHAPE)
    statistics = standardisation.Statistics((0.5, 0.4), (0.25, 0.2))
    return study_clips.Clips(STFT, statistics, pca, y, dict.fromkeys(y, left_out))


@pytest.fixture(scope="module")
def clips():
    return clips_of(VARIANCES)


def trained(clips, recipe):
    return loss_study.measure(clips, loss_study.train(clips, recipe)[0])


# --- the scale --------------------------------------------------------------------------------------------------------
def test_a_mean_with_beta_has_the_gradients_of_a_sum_with_beta_times_the_number_of_values():
    size, x = 60, torch.randn(8, 60, generator=torch.Generator().manual_seed(1))
    gradients = {}
    for reduction, beta in (("mean", 0.25), ("sum", loss_theory.effective_beta(0.25, "mean", size))):
        torch.manual_seed(2)
        encoder, decoder = torch.nn.Linear(size, 8), torch.nn.Linear(4, size)
        mu, logvar = encoder(x).chunk(2, dim=1)
        x_hat = decoder(vae.reparameterize(mu, logvar, sample=True))
        errors = (x_hat - x).square()
        error = errors.mean() if reduction == "mean" else errors.sum() / len(x)  # the first is what torch's MSE does
        (error + beta * vae.kl_per_dimension(mu, logvar).sum()).backward()
        gradients[reduction] = torch.cat([p.grad.ravel() for p in (*encoder.parameters(), *decoder.parameters())])
    torch.testing.assert_close(size * gradients["mean"], gradients["sum"], rtol=1e-4, atol=1e-5)


def test_a_training_with_a_mean_is_one_with_a_sum_and_another_beta(clips):
    mean, same, other = (
        trained(clips, recipe) for recipe in (Recipe(0.1, "mean"), Recipe(0.1 * clips.size), Recipe(0.1))
    )
    assert float(mean["kl"].sum()) == pytest.approx(float(same["kl"].sum()), rel=1e-3)
    assert mean["test_mse"] == pytest.approx(same["test_mse"], rel=1e-3)
    assert other["kl"].sum() > 1.5 * same["kl"].sum()


def test_the_sum_of_the_reports_size_is_the_factor_that_made_its_kl_vanish():
    assert loss_theory.effective_beta(1, "mean", 2 * 65 * 2049) / 2 == 133_185  # noise of variance beta * D / 2
    assert loss_theory.effective_beta(7, "sum", 2 * 65 * 2049) == 7
    with pytest.raises(ValueError, match="reduction is 'batchmean': it must be one of sum, mean"):
        loss_theory.effective_beta(1, "batchmean", 10)


# --- the linear VAE ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("beta", [2.0, 30.0, 200.0])
def test_the_linear_vae_reaches_the_likelihood_of_probabilistic_pca(clips, beta):
    """Its loss is -2 s2 log p(x) up to a constant (Lucas et al., 2019), and log p needs no VAE to compute."""
    s2, v = beta / 2, clips.eigenvalues.astype(float)
    model = np.full(len(v), s2)
    model[:LATENT_DIM] = np.maximum(v[:LATENT_DIM], s2)
    minus_log_p = 0.5 * (np.log(model) + v / model).sum()  # without the constant
    found = loss_theory.linear_vae(clips, beta, LATENT_DIM)
    posterior = np.minimum(1, s2 / v[:LATENT_DIM])
    drawn = ((v[:LATENT_DIM] - s2).clip(min=0) * posterior).sum()  # what the draw adds to the error
    error = found["train_mse"] * clips.size - clips.left_out["train"] + drawn
    minus_elbo = error / (2 * s2) + found["kl"] + 0.5 * len(v) * np.log(s2)
    assert minus_elbo == pytest.approx(minus_log_p, rel=1e-5)


def test_the_linear_vae_is_pca_without_beta_and_the_mean_with_a_large_one(clips):
    none, all_of_it = (loss_theory.linear_vae(clips, beta, LATENT_DIM) for beta in (0, 2.01 * VARIANCES[0]))
    assert none["train_mse"] == pytest.approx((VARIANCES[LATENT_DIM:].sum() + 30) / clips.size, rel=1e-4)
    assert all_of_it["train_mse"] == pytest.approx((VARIANCES.sum() + 30) / clips.size, rel=1e-4)
    assert (all_of_it["kl"], all_of_it["active"], all_of_it["sigma"]) == (0, 0, 1)
    assert [loss_theory.linear_vae(clips, 2 * s2, LATENT_DIM)["active"] for s2 in (300, 100, 40)] == [1, 2, 3]


def test_columns_of_the_theory_are_shifted_by_the_number_of_values(clips):
    beta = np.geomspace(1e-3, 1, 7)
    mean = loss_theory.linear_vaes(clips, beta, LATENT_DIM, reduction="mean")
    total = loss_theory.linear_vaes(clips, beta * clips.size, LATENT_DIM)
    assert np.array_equal(mean["beta"], beta)
    assert np.allclose(mean["kl"], total["kl"])


# --- training ---------------------------------------------------------------------------------------------------------
def test_a_trained_network_comes_near_the_linear_solution_on_gaussian_clips(clips, monkeypatch):
    monkeypatch.setattr(loss_study, "EPOCHS", 120)
    beta = 60.0
    exact, found = loss_theory.linear_vae(clips, beta, LATENT_DIM), trained(clips, Recipe(beta, schedule="warm-up"))
    assert found["train_mse"] == pytest.approx(exact["train_mse"], rel=0.1)
    assert float(found["kl"].sum()) == pytest.approx(exact["kl"], rel=0.25)


def test_beta_above_twice_the_largest_variance_leaves_the_mean_and_nothing_else(clips):
    found = trained(clips, Recipe(3 * float(VARIANCES[0])))
    assert found["kl"].sum() < 0.1
    assert np.std(found["samples"], axis=0).max() < 0.1 * np.sqrt(VARIANCES[0])
    assert found["test_mse"] == pytest.approx((VARIANCES.sum() + 30) / clips.size, rel=0.02)


def test_a_plain_autoencoder_draws_no_noise_and_pays_for_no_nats(clips):
    model, history = loss_study.train(clips, Recipe(0, sample=False))
    assert (history["beta"] == 0).all()
    assert history["mse"][-1] < 0.7 * history["mse"][0]
    with torch.inference_mode():
        mu, logvar = model.encode(clips.coefficients["test"])
    assert mu.std() > 0.1
    assert logvar.abs().max() < 2  # nothing ever moved it much from where it began


def test_a_seed_gives_the_same_numbers_again_and_another_seed_others(clips):
    a, b, other = (trained(clips, Recipe(1.0, seed=seed)) for seed in (0, 0, 1))
    assert all(np.array_equal(a[name], b[name]) for name in a)
    assert not np.array_equal(a["kl"], other["kl"])


def test_schedules_end_at_the_whole_of_beta_and_rise_as_often_as_they_should():
    progress = np.linspace(0, 1, 401)[:-1]
    weight = {s: np.array([loss_study.beta_weight(s, p) for p in progress]) for s in loss_study.SCHEDULES}
    assert (weight["constant"] == 1).all()
    assert [(np.diff(weight[s]) < 0).sum() for s in ("warm-up", "cyclic")] == [0, loss_study.CYCLES - 1]
    assert weight["warm-up"].mean() == pytest.approx(0.75, abs=0.01)  # half a ramp, then 1
    assert weight["cyclic"].mean() == pytest.approx(0.75, abs=0.01)
    assert weight["cyclic"][-1] == weight["warm-up"][-1] == 1


@pytest.mark.parametrize(
    "change, message",
    [
        ({"reduction": "median"}, "reduction is 'median': it must be one of sum, mean"),
        ({"schedule": "slow"}, "schedule is 'slow': it must be one of constant, warm-up, cyclic"),
        ({"beta": -1}, "beta is -1"),
        ({"beta": float("nan")}, "beta is nan"),
    ],
)
def test_a_recipe_that_cannot_be_is_refused_by_name(change, message):
    with pytest.raises(ValueError, match=message):
        Recipe(**change)


def test_a_finished_run_is_read_again_and_another_recipe_or_other_clips_are_not(clips, tmp_path, monkeypatch):
    monkeypatch.setenv("VAEFX_HOME", str(tmp_path))
    monkeypatch.setattr(loss_study, "EPOCHS", 1)
    real, ran = loss_study.train, []
    monkeypatch.setattr(loss_study, "train", lambda *args: ran.append(args) or real(*args))
    first = loss_study.run("smoke", clips, Recipe(1.0))
    again = loss_study.run("smoke", clips, Recipe(1.0))
    assert len(ran) == 1
    assert all(np.array_equal(first[name], again[name]) for name in first)
    loss_study.run("smoke", clips, Recipe(1.0, seed=1))
    loss_study.run("smoke", dataclasses.replace(clips, left_out=dict.fromkeys(clips.left_out, 5.0)), Recipe(1.0))
    assert len(ran) == 3


def test_a_sweep_has_a_row_for_each_recipe_and_a_summary_leaves_out_what_has_no_number(clips, tmp_path, monkeypatch):
    monkeypatch.setenv("VAEFX_HOME", str(tmp_path))
    monkeypatch.setattr(loss_study, "EPOCHS", 2)
    recipes = [Recipe(0, sample=False), Recipe(1.0), Recipe(1.0, seed=1)]
    columns = loss_study.sweep("smoke", clips, recipes)
    assert columns["beta"].tolist() == [0, 1, 1]
    assert np.isnan(columns["kl"]).tolist() == [True, False, False]
    expected = columns["test_mse_drawn"][1] + columns["kl"][1] / clips.size
    assert columns["objective"][1] == pytest.approx(expected)
    both = loss_study.summary(columns, [1, 2])
    assert both["kl"]["mean"] == pytest.approx(columns["kl"][1:].mean())
    assert both["kl"]["std"] == pytest.approx(columns["kl"][1:].std(ddof=1))
    assert "kl" not in loss_study.summary(columns, [0])


# --- clips and their distance -----------------------------------------------------------------------------------------
def test_an_error_of_coefficients_is_one_of_spectrograms_but_for_what_is_left_out(spoken, spoken_home, monkeypatch):
    monkeypatch.setenv("VAEFX_HOME", str(spoken_home))
    monkeypatch.setitem(config.PRESETS, "spoken", spoken)
    small = study_clips.prepare("spoken")
    y, pca = small.coefficients["test"].numpy(), small.pca
    data = spectrogram.pairs(study_clips.shards.load(config.data_dir("spoken", "test")), small.stft)
    x = small.statistics.standardise(study_clips.to_bands(data, small.stft))
    guess = y + np.random.default_rng(0).standard_normal(y.shape).astype(np.float32)
    direct = np.square(pca.inverse_transform(guess) - x).mean()
    assert small.mse("test", float(np.square(guess - y).sum(axis=1).mean())) == pytest.approx(direct, rel=1e-3)
    assert small.size == 2 * small.stft.num_frames * study_clips.BANDS
    assert small.restore(y[:2]).shape == (2, 2, small.stft.num_frames, small.stft.num_bins)
    stamp = (spoken_home / "runs/spoken/study/loss_clips.safetensors").stat().st_mtime_ns
    assert torch.equal(study_clips.prepare("spoken").coefficients["train"], small.coefficients["train"])
    assert (spoken_home / "runs/spoken/study/loss_clips.safetensors").stat().st_mtime_ns == stamp


@pytest.mark.parametrize("n_fft", [256, 1024, 2048])
def test_bands_share_out_every_bin_in_order_and_give_back_what_is_constant_in_them(n_fft):
    stft = dataclasses.replace(STFT, n_fft=n_fft, win_length=n_fft)
    first = study_clips.band_edges(stft, 64)
    widths = np.diff(np.append(first, stft.num_bins))
    assert first[0] == 0
    assert widths.min() >= 1
    assert widths[-1] == widths.max()  # mel bands widen
    B = np.random.default_rng(0).random((3, 64), dtype=np.float32)
    assert np.allclose(study_clips.to_bands(study_clips.to_bins(B, stft), stft), B, rtol=1e-5)


def test_more_bands_than_bins_are_refused():
    with pytest.raises(ValueError, match="bands is 130 with 129 bins"):
        study_clips.band_edges(STFT, 130)


def test_energy_distance_is_that_of_its_definition_and_sees_more_than_mean_and_covariance():
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((30, 3)), rng.standard_normal((20, 3)) + 1
    between = np.mean([np.linalg.norm(u - v) for u in a for v in b])
    within = [
        np.mean([np.linalg.norm(s[i] - s[j]) for i in range(len(s)) for j in range(len(s)) if i != j]) for s in (a, b)
    ]
    expected = (2 * between - sum(within)) / (2 * between)
    assert study_clips.energy_distance(a, b) == pytest.approx(expected, rel=1e-6)
    normal, more = rng.standard_normal((2, 1500, 1))
    coin = np.sign(rng.standard_normal((1500, 1)))  # mean 0 and variance 1 as well
    assert abs(study_clips.energy_distance(normal, more)) < 0.005
    assert study_clips.energy_distance(normal, coin) > 0.05
    assert study_clips.energy_distance(np.zeros((5, 2)), np.ones((5, 2))) == 1


def test_a_distance_needs_two_clips_in_each_set():
    with pytest.raises(ValueError, match="sets of 1 and 3 clips"):
        study_clips.energy_distance(np.zeros((1, 2)), np.zeros((3, 2)))


def test_baselines_are_ordered_as_they_must_be(clips):
    found = study_clips.baseline_distances(clips, LATENT_DIM)
    assert found["real clips, same voices"] < found["noise"] < found["always the mean"]
    assert abs(found["PCA, Gaussian"]) < 0.01  # these clips are Gaussian
