import dataclasses
import json

import librosa
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vaefx_lib import config, inversion, spectrogram, standardisation
from vaefx_lib.audio import AudioError
from vaefx_lib.standardisation import Statistics

STFT = config.Stft(num_frames=9, n_fft=1024, hop_length=512, win_length=1024, power=0.3)


def noise(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32) * 0.1


@pytest.mark.parametrize("name", config.PRESETS)
def test_magnitude_agrees_with_librosa_for_every_preset(name):
    stft = config.preset(name).stft
    y = noise(stft.num_samples)
    S = spectrogram.magnitude(y, stft)
    X = librosa.stft(y, n_fft=stft.n_fft, hop_length=stft.hop_length, win_length=stft.win_length)
    assert S.shape == (stft.num_frames, stft.num_bins) and S.dtype == np.float32
    np.testing.assert_allclose(S ** (1 / stft.power), np.abs(X.T), atol=2e-5)


def test_magnitude_agrees_with_a_sum_of_products():
    stft = config.Stft(num_frames=4, n_fft=32, hop_length=16, win_length=24, power=1.0)
    y = noise(stft.num_samples)
    padded = np.concatenate([np.zeros(16), y, np.zeros(16)])
    n = np.arange(32)
    window = np.where((n >= 4) & (n < 28), 0.5 - 0.5 * np.cos(2 * np.pi * (n - 4) / 24), 0)
    for frame, row in enumerate(spectrogram.magnitude(y, stft)):
        piece = padded[frame * 16 : frame * 16 + 32] * window
        slow = [abs(sum(piece * np.exp(-2j * np.pi * k * n / 32))) for k in range(17)]
        np.testing.assert_allclose(row, slow, atol=1e-6)


@settings(max_examples=15, deadline=None)
@given(clips=st.integers(1, 7), samples=st.integers(1024, 9000), seed=st.integers(0, 99))
def test_a_clip_alone_has_the_bits_it_has_in_a_batch(clips, samples, seed):
    y = noise(clips, samples, seed=seed)
    together = spectrogram.magnitude(y, STFT)
    for i in range(clips):
        assert spectrogram.magnitude(y[i], STFT).tobytes() == together[i].tobytes()
    assert spectrogram.magnitude(y[::-1], STFT).tobytes() == together[::-1].tobytes()


def test_leading_dimensions_are_kept():
    y = noise(2, 3, 2048)
    S = spectrogram.magnitude(y, STFT)
    assert S.shape == (2, 3, 5, 513)
    np.testing.assert_array_equal(S[1, 2], spectrogram.magnitude(y[1, 2], STFT))


def test_a_sine_has_its_height_in_its_bin():
    k, amplitude = 40, 0.2
    y = amplitude * np.sin(2 * np.pi * k / STFT.n_fft * np.arange(STFT.num_samples) + 0.3)
    inner = spectrogram.magnitude(y, STFT)[1:-1] ** (1 / STFT.power)
    assert (inner.argmax(axis=1) == k).all()
    np.testing.assert_allclose(inner[:, k], amplitude * STFT.win_length / 4, rtol=1e-4)
    np.testing.assert_allclose(inner[:, k + 1], amplitude * STFT.win_length / 8, rtol=1e-4)  # Hann: half in neighbours


def test_energy_of_all_bins_is_the_energy_of_the_sound():
    stft = config.Stft(num_frames=33, n_fft=1024, hop_length=256, win_length=1024, power=1.0)
    y = noise(stft.num_samples)
    y[:1024] = y[-1024:] = 0  # so that every sample lies in four windows, whose squares add up to 1.5
    squares = spectrogram.magnitude(y, stft).astype(np.float64) ** 2
    both_sides = 2 * squares.sum() - squares[:, [0, -1]].sum()
    np.testing.assert_allclose(both_sides / stft.n_fft, 1.5 * np.sum(y.astype(np.float64) ** 2), rtol=1e-5)


def test_silence_gives_zeros():
    assert not spectrogram.magnitude(np.zeros(4096, np.float32), STFT).any()


@pytest.mark.parametrize(
    ("y", "reason"),
    [
        (noise(1023), "1023 samples"),
        (noise(3, 1, 1023), "1023 samples"),
        (noise(0), "empty"),
        (noise(2, 2, 0), "3 dimensions|empty"),
        (np.full(2048, np.nan, np.float32), "NaN"),
        (np.where(np.arange(2048) == 7, np.inf, 0), "sample 7"),
    ],
)
def test_unusable_audio_is_refused(y, reason):
    with pytest.raises(AudioError, match=reason):
        spectrogram.magnitude(y, STFT)


def test_statistics_are_those_of_all_values_however_they_are_batched():
    S = (np.random.default_rng(1).gamma(2.0, size=(7, 2, 5, 6)) * [[[[1]], [[30]]]]).astype(np.float32)
    for batches in (S, [S], [S[:3], S[3:4], S[4:]], iter(S)):
        measured = standardisation.measure(batches)
        np.testing.assert_allclose(measured.mean, S.mean(axis=(0, 2, 3), dtype=np.float64), rtol=1e-12)
        np.testing.assert_allclose(measured.std, S.std(axis=(0, 2, 3), dtype=np.float64), rtol=1e-12)


def test_statistics_are_exact_far_from_zero():
    S = np.random.default_rng(2).standard_normal((4, 1, 8, 8)) + 1e6
    np.testing.assert_allclose(standardisation.measure(S).std, S.std(), rtol=1e-8)


def test_standardised_channels_have_mean_0_and_deviation_1_and_come_back():
    S = np.random.default_rng(3).gamma(2.0, size=(6, 2, 5, 7)).astype(np.float32) * [[[[1.0]], [[9.0]]]]
    statistics = standardisation.measure(S)
    kept = S.copy()
    standardised = statistics.standardise(S)
    assert standardised.dtype == np.float32
    np.testing.assert_allclose(standardised.mean(axis=(0, 2, 3)), 0, atol=1e-6)
    np.testing.assert_allclose(standardised.std(axis=(0, 2, 3)), 1, atol=1e-6)
    np.testing.assert_allclose(statistics.restore(standardised), S, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(statistics.standardise(S[2]), standardised[2])
    np.testing.assert_array_equal(S, kept)


def test_statistics_survive_json():
    statistics = Statistics((0.1, 1 / 3), (2.0, 1e-7))
    assert Statistics.from_dict(json.loads(json.dumps(statistics.to_dict()))) == statistics


def test_statistics_of_nothing_or_of_a_constant_are_refused():
    with pytest.raises(ValueError, match="at least one"):
        standardisation.measure([])
    with pytest.raises(ValueError, match="above 0"):
        standardisation.measure(np.ones((3, 2, 4, 4)))
    with pytest.raises(ValueError, match="2 channels"):
        Statistics((0.0, 0.0), (1.0, 1.0)).standardise(np.zeros((1, 4, 4)))


def test_pairs_are_the_spectrograms_of_dry_and_wet(tiny, tiny_train):
    S = spectrogram.pairs(tiny_train, tiny.stft)
    assert S.shape == (len(tiny_train), 2, tiny.stft.num_frames, tiny.stft.num_bins) and S.dtype == np.float16
    for i in (0, len(S) - 1):
        np.testing.assert_array_equal(S[i], spectrogram.magnitude(tiny_train[i], tiny.stft).astype(np.float16))


def test_chosen_pairs_keep_their_bits(tiny, tiny_train):
    everything = spectrogram.pairs(tiny_train, tiny.stft, dtype=np.float32)
    some = spectrogram.pairs(tiny_train, tiny.stft, indices=[5, 2, 5], dtype=np.float32)
    assert some.tobytes() == everything[[5, 2, 5]].tobytes()


def test_pairs_can_be_standardised(tiny, tiny_train):
    plain = spectrogram.pairs(tiny_train, tiny.stft, dtype=np.float32)
    statistics = standardisation.measure(plain)
    standardised = spectrogram.pairs(tiny_train, tiny.stft, statistics=statistics, dtype=np.float32)
    np.testing.assert_array_equal(standardised, statistics.standardise(plain))


def test_pairs_of_another_rate_or_length_are_refused(tiny, tiny_train):
    with pytest.raises(ValueError, match="24000 Hz.*16000 Hz"):
        spectrogram.pairs(tiny_train, dataclasses.replace(tiny.stft, sample_rate_hz=16_000))
    with pytest.raises(AudioError, match="pair 0 has shape"):
        spectrogram.pairs(tiny_train, dataclasses.replace(tiny.stft, num_frames=20), indices=[0])


@pytest.mark.parametrize("name", config.PRESETS)
def test_a_spectrogram_with_its_own_phase_is_the_sound(name):
    stft = config.preset(name).stft
    y = noise(stft.num_samples)
    back = inversion.with_phase_of(spectrogram.magnitude(y, stft), y, stft)
    assert back.shape == y.shape and back.dtype == np.float32
    assert 10 * np.log10(np.sum(y**2) / np.sum((y - back) ** 2)) > 60


def test_half_precision_costs_little_sound(tiny, tiny_train):
    y = tiny_train[0][0]
    S = spectrogram.pairs(tiny_train, tiny.stft, indices=[0])[0, 0]
    back = inversion.with_phase_of(S, y, tiny.stft)
    assert 10 * np.log10(np.sum(y**2) / np.sum((y - back) ** 2)) > 50


def convergence(y, S, stft):
    """Distance of the linear magnitudes of `y` from those of `S`, relative to the latter."""
    X = S ** (1 / stft.power)
    return np.linalg.norm(spectrogram.magnitude(y, stft) ** (1 / stft.power) - X) / np.linalg.norm(X)


def test_griffin_lim_finds_speech_of_nearly_this_spectrogram(tiny, tiny_train):
    S = spectrogram.magnitude(tiny_train[1][1], tiny.stft)
    first = inversion.griffin_lim(S, tiny.stft, iterations=1, seed=3)
    y = inversion.griffin_lim(S, tiny.stft, seed=3)
    assert y.shape == (tiny.stft.num_samples,) and y.dtype == np.float32
    assert convergence(y, S, tiny.stft) < 0.25 < convergence(first, S, tiny.stft)


def test_griffin_lim_repeats_for_a_seed():
    S = spectrogram.magnitude(noise(STFT.num_samples), STFT)
    one, same, other = (inversion.griffin_lim(S, STFT, iterations=2, seed=seed) for seed in (0, 0, 1))
    assert one.tobytes() == same.tobytes() != other.tobytes()


def test_values_below_zero_count_as_zero_when_inverted():
    y = noise(STFT.num_samples)
    S = spectrogram.magnitude(y, STFT)
    S[:, 100:] = 0
    negative = np.where(S == 0, np.float32(-0.3), S)
    np.testing.assert_array_equal(inversion.with_phase_of(negative, y, STFT), inversion.with_phase_of(S, y, STFT))


def test_wrong_shapes_are_refused_when_inverted():
    y = noise(STFT.num_samples)
    S = spectrogram.magnitude(y, STFT)
    with pytest.raises(ValueError, match="513 bins"):
        inversion.griffin_lim(S.T, STFT)
    with pytest.raises(ValueError, match="NaN"):
        inversion.griffin_lim(S * np.nan, STFT)
    with pytest.raises(ValueError, match="audio's spectrogram has shape"):
        inversion.with_phase_of(S[:-1], y, STFT)
    with pytest.raises(AudioError, match="2 channels"):
        inversion.with_phase_of(S, np.stack([y, y]), STFT)
