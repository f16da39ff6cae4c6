"""Representations against sound, filters whose phase is known, shifts in time; and a network that reads them."""

import dataclasses

import numpy as np
import pytest
import torch
from scipy.signal import freqz, lfilter

from vaefx_lib import config, inversion, metrics, phase, shards, spectrogram, training, vae
from vaefx_lib.audio import AudioError
from vaefx_lib.phase import REPRESENTATIONS

STFT = config.Stft(num_frames=33, n_fft=512, hop_length=256, win_length=512)
WITH_PHASE = ["wrapped", "complex", "relative"]
EACH = pytest.mark.parametrize("kind", REPRESENTATIONS.values(), ids=REPRESENTATIONS)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def noise_pair(wet=lambda dry: lfilter([0.2], [1, -0.8], dry), *, samples=STFT.num_samples, seed=0):
    dry = 0.1 * np.random.default_rng(seed).normal(size=samples)
    return np.stack([dry, wet(dry)]).astype(np.float32)


# --- to channels and back ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("name", WITH_PHASE)
def test_without_a_network_the_sound_comes_back(tiny, tiny_train, name, dtype):
    kind = REPRESENTATIONS[name]
    for pair in (tiny_train[0], tiny_train[1]):  # both effects
        S = kind.analyse(pair, tiny.stft)
        assert S.dtype == np.float32 and S.shape == (len(kind.channels), tiny.stft.num_frames, tiny.stft.num_bins)
        back = kind.synthesise(S.astype(dtype), tiny.stft, dry=pair[0])
        assert back.shape == pair.shape and back.dtype == np.float32
        assert min(metrics.si_sdr_db(y, y_hat) for y, y_hat in zip(pair, back, strict=True)) > 50
        assert metrics.si_sdr_db(pair[1], kind.transfer(S.astype(dtype), tiny.stft, dry=pair[0])) > 50


def test_strength_alone_gives_back_dry_and_a_wet_with_the_phase_of_dry(tiny, tiny_train):
    kind, (dry, wet) = REPRESENTATIONS["magnitude"], tiny_train[0]
    S = kind.analyse((dry, wet), tiny.stft)
    np.testing.assert_array_equal(S, spectrogram.magnitude(np.stack([dry, wet]), tiny.stft))
    back = kind.synthesise(S, tiny.stft, dry=dry)
    assert metrics.si_sdr_db(dry, back[0]) > 50
    borrowed = inversion.with_phase_of(S[1], dry, tiny.stft)
    assert metrics.si_sdr_db(borrowed, back[1]) > 40  # they differ where dry is silent
    assert metrics.si_sdr_db(borrowed, kind.transfer(S, tiny.stft, dry=dry)) > 40


@EACH
def test_transfer_hears_only_the_change_from_dry_to_wet(kind):
    pair, other = noise_pair(), noise_pair(wet=lambda dry: dry, seed=1)
    S = kind.analyse(other, STFT)  # another sound, with nothing done to it
    assert metrics.si_sdr_db(pair[0], kind.transfer(S, STFT, dry=pair[0])) > 60
    halved = S.copy()
    halved[[c.startswith("wet") and not c.endswith("angle") for c in kind.channels]] *= 0.5
    assert np.square(kind.transfer(halved, STFT, dry=pair[0])).mean() < 0.5 * np.square(pair[0]).mean()


@EACH
def test_a_clip_with_silence_in_it_gives_finite_channels_and_comes_back(kind):
    pair = noise_pair(wet=lambda dry: np.roll(dry, 3000))
    pair[0, 2000:6000] = 0
    pair[1, :3000] = 0
    S = kind.analyse(pair, STFT)
    assert np.isfinite(S).all()
    back = kind.synthesise(S, STFT, dry=pair[0])
    assert metrics.si_sdr_db(pair[0], back[0]) > 50
    if kind.name != "magnitude":
        assert metrics.si_sdr_db(pair[1], back[1]) > 50


@EACH
def test_pairs_are_shown_in_every_representation_and_as_before_by_default(kind, tiny, tiny_train):
    S = spectrogram.pairs(tiny_train, tiny.stft, indices=[0, 3], representation=kind, dtype=np.float32)
    np.testing.assert_array_equal(S, [kind.analyse(tiny_train[i], tiny.stft) for i in (0, 3)])
    if kind.name == "magnitude":
        assert S.tobytes() == spectrogram.pairs(tiny_train, tiny.stft, indices=[0, 3], dtype=np.float32).tobytes()


# --- what the channels are --------------------------------------------------------------------------------------------
def turn(S):
    """The angle from dry to wet in rad, and how strong it is."""
    X = S[2] + 1j * S[3]
    return np.angle(X), np.abs(X)


def test_the_relative_phase_of_a_filter_is_its_phase_response_in_every_frame():
    pair = noise_pair(samples=STFT.num_samples)
    S = REPRESENTATIONS["relative"].analyse(pair, STFT)
    X = (S[2] + 1j * S[3])[2:-2, 1:-1]  # away from the edges
    _, response = freqz([0.2], [1, -0.8], worN=STFT.num_bins)
    mean = np.angle(X.sum(axis=0) * np.conj(response[1:-1]))  # 0 if the turns are those of the filter
    assert np.abs(mean).mean() < 0.05
    here = np.angle(X * np.conj(response[1:-1]))
    assert np.median(np.abs(here)) < 0.15
    assert np.abs(np.angle(response)).max() > 0.8  # there is something to see


def test_strength_and_turn_agree():
    S = REPRESENTATIONS["relative"].analyse(noise_pair(), STFT)
    np.testing.assert_allclose(turn(S)[1], S[1], rtol=1e-4)


def test_a_polarity_turns_by_pi_and_a_gain_by_nothing():
    for gain in (-2.0, 0.5):
        angle, strength = turn(REPRESENTATIONS["relative"].analyse(noise_pair(wet=lambda dry, g=gain: g * dry), STFT))
        expected = np.pi if gain < 0 else 0
        assert np.abs(np.abs(angle) - expected).max() < 1e-3
        assert strength.min() > 0


def test_a_shift_in_time_turns_the_complex_channels_and_leaves_the_relative_ones():
    long = noise_pair(samples=STFT.num_samples + 20)
    changes = {}
    for name in ("complex", "relative", "magnitude"):
        one, other = (REPRESENTATIONS[name].analyse(part, STFT) for part in (long[:, :-20], long[:, 20:]))
        last = [S[-1, 2:-2] for S in (one, other)]  # wet_sin, wet_turn_sin and wet
        changes[name] = np.corrcoef(*(x.ravel() for x in last))[0, 1]
    assert abs(changes["complex"]) < 0.1
    assert changes["relative"] > 0.8 and changes["magnitude"] > 0.8


def test_wrapped_angles_of_speech_are_noise(tiny, tiny_train):
    S = spectrogram.pairs(tiny_train, tiny.stft, representation=REPRESENTATIONS["wrapped"], dtype=np.float32)
    angles = S[:, [1, 3], 2:-2, 1:-1].astype(float)
    assert angles.std(axis=(0, 2, 3)) == pytest.approx(np.pi / np.sqrt(3), rel=0.03)  # that of a uniform one
    assert np.histogram(angles, bins=8, range=(-np.pi, np.pi), density=True)[0] * 2 * np.pi == pytest.approx(1, abs=0.1)
    before, after = angles[:, :, :-1].ravel(), angles[:, :, 1:].ravel()
    assert abs(np.corrcoef(before, after)[0, 1]) < 0.05  # nor does a frame say anything of the next
    assert np.corrcoef(S[:, 0, :-1].ravel(), S[:, 0, 1:].ravel())[0, 1] > 0.5  # as it does for the strength


# --- what is refused --------------------------------------------------------------------------------------------------
def test_sounds_and_channels_that_do_not_fit_are_refused():
    pair = noise_pair()
    relative, wrapped = REPRESENTATIONS["relative"], REPRESENTATIONS["wrapped"]
    S = relative.analyse(pair, STFT)
    with pytest.raises(ValueError, match="relative needs the dry clip"):
        relative.synthesise(S, STFT)
    assert wrapped.synthesise(wrapped.analyse(pair, STFT), STFT).shape == pair.shape  # which needs none
    with pytest.raises(ValueError, match=r"shape \(2, 33, 257\): relative needs \(4 channels, frames, 257 bins\)"):
        relative.synthesise(S[:2], STFT, dry=pair[0])
    with pytest.raises(ValueError, match="relative holds NaN"):
        relative.synthesise(S * np.nan, STFT, dry=pair[0])
    with pytest.raises(ValueError, match=r"the dry clip gives \(frames, bins\) \(32, 257\)"):
        relative.transfer(S, STFT, dry=pair[0][:-256])
    with pytest.raises(AudioError, match="the pair has 3 clips"):
        relative.analyse(np.concatenate([pair, pair[:1]]), STFT)


def test_a_representation_is_found_by_the_channels_a_network_reads():
    for kind in REPRESENTATIONS.values():
        assert phase.of(kind.channels) is kind
    for inputs in (("dry",), ("wet",)):
        assert phase.of(inputs).name == "magnitude"
    for inputs in ((), ("wet", "dry"), ("dry", "wet", "wet_angle"), ("dry_cos", "dry_sin")):
        with pytest.raises(ValueError, match="vae.inputs is .*'wet_turn_cos', 'wet_turn_sin'"):
            phase.of(inputs)


# --- a network that reads them ----------------------------------------------------------------------------------------
def network(name, *, frames=17, bins=21):
    torch.manual_seed(0)
    choice = config.Vae(inputs=REPRESENTATIONS[name].channels, latent_dim=11, effect_dim=5, width=8)
    model = vae.build(choice, frames, bins)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.1 * torch.randn_like(weight)
    return model.eval(), torch.randn(3, len(choice.inputs), frames, bins)


@EACH
def test_dry_channels_are_rebuilt_from_dry_channels_alone_and_wet_ones_from_all(kind):
    model, x = network(kind.name)
    dry = [c.startswith("dry") for c in kind.channels]
    with torch.no_grad():
        before = model(x)[0]
        for channel, is_dry in enumerate(dry):
            changed = x.clone()
            changed[:, channel] += torch.randn_like(changed[:, channel])
            moved = (model(changed)[0] - before).abs().amax(dim=(0, 2, 3)) > 1e-6
            assert moved.tolist() == [is_dry or not other for other in dry]


@EACH
def test_every_weight_of_a_network_with_phase_gets_a_gradient(kind):
    model, x = network(kind.name)
    x_hat, mu, logvar = model.train()(x)
    assert x_hat.shape == x.shape
    (vae.reconstruction_error(x, x_hat) + vae.kl_per_dimension(mu, logvar).sum()).backward()
    assert [n for n, w in model.named_parameters() if w.grad is None or not w.grad.any()] == []


@pytest.mark.parametrize("architecture", ["conv2d", "factorised"])
@pytest.mark.parametrize("name", WITH_PHASE)
def test_a_run_with_phase_is_trained_stored_and_loaded(toy, toy_home, tmp_path, monkeypatch, name, architecture):
    monkeypatch.setenv("VAEFX_HOME", str(toy_home))
    kind = REPRESENTATIONS[name]
    choice = dataclasses.replace(toy.vae, architecture=architecture, inputs=kind.channels, channels=(4,))
    preset = dataclasses.replace(toy, vae=choice, train=dataclasses.replace(toy.train, max_epochs=1))
    run = training.train_vae(preset, folder=tmp_path / "vae", progress=False)
    assert len(run.statistics.mean) == 4
    assert [f"valid_mse_{c}" for c in kind.channels if f"valid_mse_{c}" not in run.history] == []
    again = training.load(tmp_path / "vae")
    data = shards.load(config.data_dir("toy", "test"))
    S = spectrogram.pairs(data, toy.stft, indices=range(3), statistics=run.statistics, representation=kind)
    x = torch.from_numpy(training.inputs(preset, S)).float()
    with torch.no_grad():
        assert torch.equal(again.model(x)[0], run.model(x)[0])
        rebuilt = run.statistics.restore(again.model(x)[0].numpy())
    for pair, channels in zip([data[i] for i in range(3)], rebuilt, strict=True):
        assert np.isfinite(kind.synthesise(channels, toy.stft, dry=pair[0])).all()


def test_spectrograms_of_another_representation_are_not_taken(toy):
    preset = dataclasses.replace(toy, vae=dataclasses.replace(toy.vae, inputs=REPRESENTATIONS["relative"].channels))
    with pytest.raises(ValueError, match="spectrograms of 2 channels: vae.inputs .*wet_turn_cos"):
        training.inputs(preset, np.zeros((1, 2, 17, 65)))
