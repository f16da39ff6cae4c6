"""The networks and the terms of their loss, against formulas, draws, slow references and invariants."""

import dataclasses
import math

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from torch.distributions import Normal, kl_divergence

from vaefx_lib import config, vae
from vaefx_lib.factorised import Double, Halve, Head, Residual, convolve, echo_response, pool

CONV = config.Vae(architecture="conv2d", latent_dim=6, channels=(4, 6))
FACTORISED = config.Vae(latent_dim=11, effect_dim=5, width=8)  # 17 frames: 2 steps of 3
BOTH = pytest.mark.parametrize("choice", [CONV, FACTORISED], ids=["conv2d", "factorised"])
FRAMES, BINS, CONTENT = 17, 21, 6


@pytest.fixture(autouse=True)
def one_thread():
    """Threads would wait for each other longer than they work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(before)


def clips(count, *, seed=1, channels=2, frames=FRAMES, bins=BINS):
    return torch.randn(count, channels, frames, bins, generator=torch.Generator().manual_seed(seed))


def close(one, other, *, rtol, atol):
    np.testing.assert_allclose(one.numpy(), other.numpy(), rtol=rtol, atol=atol)


def shaken(model):
    """Every weight moved a little, so that nothing is zero as it is at the start."""
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.1 * torch.randn_like(weight)
    return model


# --- terms of the loss ------------------------------------------------------------------------------------------------
def test_kl_is_that_of_two_normal_distributions():
    mu, logvar = (torch.randn(7, 4, dtype=torch.float64) * scale for scale in (2, 1.5))
    expected = kl_divergence(Normal(mu, (0.5 * logvar).exp()), Normal(0.0, 1.0)).mean(0)
    close(vae.kl_per_dimension(mu, logvar), expected, rtol=1e-9, atol=1e-9)


def test_kl_is_the_mean_log_ratio_of_the_two_densities_over_draws():
    mu, logvar = torch.tensor([[0.7, -1.5, 0.0]]), torch.tensor([[-1.0, 0.5, 0.0]])
    posterior = Normal(mu, (0.5 * logvar).exp())
    z = posterior.sample((200_000,))
    ratios = (posterior.log_prob(z) - Normal(0.0, 1.0).log_prob(z))[:, 0]
    error = 5 * ratios.std(0) / math.sqrt(len(z))
    assert (vae.kl_per_dimension(mu, logvar) - ratios.mean(0)).abs().le(error + 1e-6).all()


def test_a_posterior_that_is_the_prior_costs_nothing_and_any_other_something():
    zero = torch.zeros(3, 2)
    assert vae.kl_per_dimension(zero, zero).tolist() == [0, 0]
    assert vae.kl_per_dimension(zero, zero + 0.1).min() > 0
    assert vae.kl_per_dimension(zero + 0.1, zero).min() > 0


def test_draws_have_the_mean_and_variance_that_were_asked_for():
    mu, logvar = torch.tensor([1.0, -2.0, 0.0]), torch.tensor([0.0, 1.0, -3.0])
    draws = vae.reparameterize(mu.expand(200_000, 3), logvar.expand(200_000, 3), sample=True)
    sd = (0.5 * logvar).exp()
    assert ((draws.mean(0) - mu).abs() < 5 * sd / math.sqrt(len(draws))).all()
    assert ((draws.var(0) / sd**2 - 1).abs() < 5 * math.sqrt(2 / len(draws))).all()
    assert np.corrcoef(draws.T.numpy())[np.triu_indices(3, 1)] == pytest.approx(0, abs=0.02)  # independent
    assert abs(np.corrcoef(draws[:-1, 0], draws[1:, 0])[0, 1]) < 0.02  # of each other, too


def test_gradients_pass_through_a_draw_to_mu_and_logvar():
    mu, logvar = torch.zeros(50_000, requires_grad=True), torch.full((50_000,), -1.0, requires_grad=True)
    vae.reparameterize(mu, logvar, sample=True).square().mean().backward()  # d E[z^2] = 2 mu dmu + sd^2 dlogvar
    assert mu.grad.sum().item() == pytest.approx(0, abs=0.02)
    assert logvar.grad.sum().item() == pytest.approx(math.exp(-1), rel=0.05)
    assert mu.grad.abs().min() > 0 and logvar.grad.abs().min() > 0


def test_a_draw_with_given_noise_is_mu_plus_that_many_deviations():
    mu, logvar, noise = torch.randn(3, 4, 5).unbind()
    draw = vae.reparameterize(mu, logvar, sample=True, noise=noise)
    assert torch.allclose((draw - mu) / logvar.exp().sqrt(), noise, atol=1e-5)


def test_without_sampling_a_draw_is_mu_itself():
    mu = torch.randn(4, 3)
    assert torch.equal(vae.reparameterize(mu, torch.ones(4, 3), sample=False), mu)


def test_reconstruction_error_is_the_sum_over_a_clip_and_the_mean_over_clips():
    x = torch.zeros(2, 2, 2, 3)
    x_hat = torch.zeros(2, 2, 2, 3)
    x_hat[0, 0, 0, 0], x_hat[0, 1, 1, 2], x_hat[1, 0, 1, 1] = 3.0, -1.0, 2.0
    assert vae.reconstruction_error(x, x_hat).item() == (9 + 1 + 4) / 2
    assert vae.reconstruction_error(x_hat, x).item() == 7
    assert vae.reconstruction_error(x + 5, x_hat + 5).item() == 7


@BOTH
def test_terms_of_the_loss_do_not_depend_on_how_often_the_batch_repeats_its_clips(choice):
    model = shaken(vae.build(choice, FRAMES, BINS)).eval()

    def terms(x):
        x_hat, mu, logvar = model(x)
        return torch.stack([vae.reconstruction_error(x, x_hat), *vae.kl_per_dimension(mu, logvar)])

    with torch.no_grad():
        once, thrice = terms(clips(3)), terms(clips(3).repeat(3, 1, 1, 1))
    close(once, thrice, rtol=1e-5, atol=1e-6)
    assert once.min() > 0


# --- both architectures -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "name", ["smoke", "report", "seven", "phase", "paper"]
)  # week5, of 127 million weights, takes a step elsewhere
def test_a_preset_gives_back_the_shape_it_reads_and_a_gaussian_per_latent_dimension(name):
    preset = config.preset(name)
    model = vae.build(preset.vae, preset.stft.num_frames, preset.stft.num_bins)
    x = clips(1, channels=len(preset.vae.inputs), frames=preset.stft.num_frames, bins=preset.stft.num_bins)
    with torch.no_grad():
        x_hat, mu, logvar = model(x)
    assert x_hat.shape == x.shape
    assert mu.shape == logvar.shape == (1, preset.vae.latent_dim)


def test_week5_has_the_weights_of_the_published_network():
    preset = config.preset("week5")
    with torch.device("meta"):  # sizes without memory
        model = vae.build(preset.vae, preset.stft.num_frames, preset.stft.num_bins)
    assert sum(weight.numel() for weight in model.parameters()) == pytest.approx(127e6, rel=0.01)
    assert isinstance(model.encoder[0], torch.nn.Conv2d) and model.encoder[0].in_channels == 2


@settings(max_examples=12, deadline=None)
@given(frames=st.integers(8, 40), bins=st.integers(1, 40), batch=st.integers(1, 3), depth=st.integers(0, 4))
def test_odd_and_even_sizes_come_back_as_they_were(frames, bins, batch, depth):
    factorised = dataclasses.replace(FACTORISED, latent_dim=2 * (frames // 8) + 3, effect_dim=3)
    for choice in (factorised, dataclasses.replace(CONV, channels=(3, 4, 5, 6)[:depth])):
        x = clips(batch, frames=frames, bins=bins)
        with torch.no_grad():
            x_hat, mu, _ = vae.build(choice, frames, bins)(x)
        assert x_hat.shape == x.shape
        assert mu.shape == (batch, choice.latent_dim)


@BOTH
def test_every_weight_gets_a_finite_gradient_and_matters(choice):
    x = clips(4)
    for model in (vae.build(choice, FRAMES, BINS), shaken(vae.build(choice, FRAMES, BINS))):
        x_hat, mu, logvar = model.train()(x)
        (vae.reconstruction_error(x, x_hat) + vae.kl_per_dimension(mu, logvar).sum()).backward()
        gradients = {name: weight.grad for name, weight in model.named_parameters()}
        assert [name for name, grad in gradients.items() if grad is None or not grad.isfinite().all()] == []
    assert [name for name, grad in gradients.items() if not grad.any()] == []  # of the shaken one


@BOTH
def test_gradients_are_finite_for_a_clip_that_never_changes(choice):
    x = torch.zeros(2, 2, FRAMES, BINS, requires_grad=True)
    model = vae.build(choice, FRAMES, BINS)
    x_hat, mu, logvar = model(x)
    (x_hat.square().sum() + vae.kl_per_dimension(mu, logvar).sum()).backward()
    assert x.grad.isfinite().all() and all(weight.grad.isfinite().all() for weight in model.parameters())


@BOTH
@pytest.mark.parametrize("training", [False, True])
def test_an_embedding_ignores_batch_mates(choice, training):
    model = shaken(vae.build(choice, FRAMES, BINS)).train(training)
    clip, loud = clips(1), 100 * clips(4, seed=2)
    with torch.no_grad():
        alone, company = model.encode(clip), model.encode(torch.cat([clip, loud]))
    for one, many in zip(alone, company, strict=True):
        close(many[:1], one, rtol=1e-5, atol=1e-5)


@BOTH
def test_the_network_samples_in_training_and_decodes_mu_in_eval(choice):
    model, x = shaken(vae.build(choice, FRAMES, BINS)), clips(2)
    with torch.no_grad():
        one, mu, _ = model.eval()(x)
        assert torch.equal(one, model.decode(mu)) and torch.equal(one, model(x)[0])
        assert torch.equal(model.encode(x)[0], mu)
        assert not torch.equal(model.train()(x)[0], one)
        assert not torch.equal(model(x)[0], model(x)[0])


def test_a_wild_log_variance_stays_finite():
    model = vae.build(CONV, FRAMES, BINS)
    with torch.no_grad():
        model.encoder[-1].weight *= 1e6
        _, logvar = model.encode(clips(2))
    assert logvar.abs().max() == 10
    assert vae.kl_per_dimension(torch.zeros_like(logvar), logvar).isfinite().all()


@pytest.mark.parametrize(
    ("changes", "frames", "bins", "message"),
    [
        ({"architecture": "transformer"}, 17, 21, r"unknown architecture 'transformer': known are conv2d, factorised"),
        ({"latent_dim": 12}, 17, 21, r"latent_dim 12 less effect_dim 5 .* multiple of the 2 steps of 17 frames"),
        ({"latent_dim": 5}, 17, 21, r"latent_dim 5 less effect_dim 5"),
        ({"effect_dim": 0, "latent_dim": 6}, 17, 21, r"effect_dim 0 \(at least 1\)"),
        ({}, 7, 21, r"0 steps of 7 frames \(at least 8 frames\)"),
        ({"inputs": ("wet",)}, 17, 21, r"inputs of the factorised network are \('wet',\)"),
        ({"inputs": ("wet", "dry")}, 17, 21, r"inputs of the factorised network are \('wet', 'dry'\)"),
        ({"architecture": "conv2d", "latent_dim": 0}, 17, 21, r"latent_dim 0"),
        ({"architecture": "conv2d", "inputs": ()}, 17, 21, r"inputs \(\)"),
        ({"architecture": "conv2d"}, 0, 21, r"0 frames"),
        ({}, 17, 0, r"0 bins"),
    ],
)
def test_sizes_that_do_not_fit_are_refused_in_one_sentence(changes, frames, bins, message):
    with pytest.raises(ValueError, match=message) as caught:
        vae.build(dataclasses.replace(FACTORISED, **changes), frames, bins)
    assert "\n" not in str(caught.value)


# --- factorised -------------------------------------------------------------------------------------------------------
@pytest.fixture
def factorised():
    return shaken(vae.build(FACTORISED, FRAMES, BINS)).eval()


@torch.no_grad()
def test_content_is_read_from_dry_alone_and_the_effect_from_both(factorised):
    x, other = clips(3), clips(3, seed=2)
    other_wet, other_dry = torch.stack([x[:, 0], other[:, 1]], 1), torch.stack([other[:, 0], x[:, 1]], 1)
    for base, wet, dry in zip(*map(factorised.encode, (x, other_wet, other_dry)), strict=True):  # mu, then logvar
        assert torch.equal(base[:, :CONTENT], wet[:, :CONTENT])
        assert (base[:, CONTENT:] != wet[:, CONTENT:]).all()
        assert (base != dry).all()


@torch.no_grad()
def test_dry_is_rebuilt_from_content_alone_and_wet_from_both(factorised):
    z, other = torch.randn(3, 11), torch.randn(3, 11)
    other_effect = torch.cat([z[:, :CONTENT], other[:, CONTENT:]], 1)
    other_content = torch.cat([other[:, :CONTENT], z[:, CONTENT:]], 1)
    base, effect, content = map(factorised.decode, (z, other_effect, other_content))
    assert torch.equal(base[:, 0], effect[:, 0])
    assert (base[:, 1] != effect[:, 1]).all()
    assert (base[:, 0] != content[:, 0]).any() and (base[:, 1] != content[:, 1]).any()


def test_a_residual_block_starts_as_the_identity_and_can_leave_it():
    x, block = torch.randn(2, 9, 6), Residual(6)
    assert torch.equal(block(x), x)
    assert not torch.allclose(shaken(block)(x), x, atol=1e-3)


@pytest.mark.parametrize("frames", [2, 3, 8, 9])
@torch.no_grad()
def test_double_is_the_transpose_of_halve(frames):
    halve, double = Halve(frames, 3, 5), Double(frames, 5, 3)
    halve.linear.bias.zero_()
    double.linear.bias.zero_()
    double.linear.weight.copy_(halve.linear.weight.T)
    x, y = torch.randn(2, frames, 3), torch.randn(2, frames // 2, 5)
    close((halve(x) * y).sum(), (x * double(y)).sum(), rtol=1e-4, atol=1e-4)  # <A x, y> = <x, A' y>


@torch.no_grad()
def test_a_head_can_move_a_comb_and_its_envelope_apart():
    head = Head(4, 6)
    for layer in (head.sum, head.gain, head.comb):
        layer.weight.zero_()
        layer.bias.zero_()
    head.gain.weight[:, :2], head.comb.weight[:, 2:] = torch.randn(6, 2), torch.randn(6, 2)
    envelopes, combs = head.gain.weight[:, :2].T, head.comb.weight[:, 2:].T
    for i in range(2):
        for j in range(2):
            features = torch.zeros(1, 1, 4)
            features[0, 0, i] = features[0, 0, 2 + j] = 1
            close(head(features)[0, 0], envelopes[i] * combs[j], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("lag", [0, 1, 5, 30])
def test_a_delayed_copy_shows_as_a_peak_at_its_lag_and_of_its_height(lag):
    dry = clips(3, channels=1, frames=80)
    wet = torch.cat([torch.zeros(3, 1, lag, dry.shape[3]), 0.5 * dry[:, :, : 80 - lag] + 2], 2)
    wet[:, :, :lag] += 2  # the start of a delayed copy is something else: take its level out of the way
    response, cross, auto = echo_response(torch.cat([dry, wet], 1))
    assert response.shape == cross.shape == auto.shape == (3, 80)
    assert auto.argmax(1).tolist() == [0] * 3
    assert auto[:, 0] == pytest.approx(1, abs=1e-4)
    assert response.argmax(1).tolist() == cross.argmax(1).tolist() == [lag] * 3
    share = (80 - lag) / 80  # of dry whose copy the clip still holds
    assert response.amax(1) == pytest.approx(0.5 * share, rel=0.15)  # less for the noise that is allowed for


def test_two_echoes_of_one_sound_show_as_two_peaks():
    dry = clips(1, channels=1, frames=80)
    wet = dry.clone()
    for lag, gain in ((9, 0.6), (21, 0.4)):
        wet[:, :, lag:] += gain * dry[:, :, : 80 - lag]
    response, _, _ = echo_response(torch.cat([dry, wet], 1))
    assert sorted(response[0].topk(3).indices.tolist()) == [0, 9, 21]


def test_correlations_over_lags_equal_direct_sums_and_lie_between_minus_one_and_one():
    x = clips(2) + torch.linspace(0, 3, FRAMES)[:, None]
    _, cross, auto = echo_response(x)
    for pair, crossed, autod in zip(x.double(), cross, auto, strict=True):
        bands = torch.nn.functional.adaptive_avg_pool2d(pair, (FRAMES, min(64, pair.shape[2]))).numpy()
        dry, wet = (S - S.mean(axis=0) for S in bands)  # (frames, bands)
        for lag in range(FRAMES):
            size = np.linalg.norm(dry) * np.linalg.norm(wet)
            assert crossed[lag].item() == pytest.approx((dry[: FRAMES - lag] * wet[lag:]).sum() / size, abs=1e-4)
            own = (dry[: FRAMES - lag] * dry[lag:]).sum() / (dry * dry).sum()
            assert autod[lag].item() == pytest.approx(own, abs=1e-4)
    assert max(cross.abs().max(), auto.abs().max()) <= 1 + 1e-4


@pytest.mark.parametrize("frames", [1, 2, 9, 16])
def test_convolve_equals_a_direct_sum_and_never_wraps_round(frames):
    signal, kernel = torch.randn(2, 3, frames), torch.randn(2, 3, frames)
    expected = torch.zeros(2, 3, frames)
    for t in range(frames):
        for lag in range(t + 1):
            expected[..., t] += kernel[..., lag] * signal[..., t - lag]
    close(convolve(signal, kernel), expected, rtol=1e-4, atol=1e-5)


def test_pooled_features_are_mean_and_deviation_over_time():
    features = torch.randn(2, 50, 3) * 4 + 1
    mean, deviation = pool(features)
    assert mean.numpy() == pytest.approx(features.numpy().mean(1), abs=1e-5)
    assert deviation.numpy() == pytest.approx(features.numpy().std(1), rel=1e-4)
