"""Distances against slow references, constructed cases, other implementations and invariants."""

import auraloss
import librosa
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import r2_score

from vaefx_lib import loudness, metrics, speech_quality
from vaefx_lib.audio import AudioError

RATE_HZ = 24_000


def noise(n=6000, *, seed=0, level=0.1):
    return (level * np.random.default_rng(seed).normal(size=n)).astype(np.float32)


# --- mrstft -----------------------------------------------------------------------------------------------------------
def slow_mrstft(y, y_hat):
    """The definition, one frame at a time in float64."""
    total = 0.0
    for n_fft, hop, win in ((1024, 120, 600), (2048, 240, 1200), (512, 50, 240)):
        window = np.zeros(n_fft)
        left = (n_fft - win) // 2
        window[left : left + win] = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(win) / win)
        spectra = []
        for sound in (y, y_hat):
            padded = np.pad(sound.astype(np.float64), n_fft // 2, mode="reflect")
            starts = range(0, len(padded) - n_fft + 1, hop)
            power = np.array([np.abs(np.fft.rfft(window * padded[i : i + n_fft])) ** 2 for i in starts])
            spectra.append(np.sqrt(np.maximum(power, 1e-8)))
        true, other = spectra
        total += np.linalg.norm(true - other) / np.linalg.norm(true) + np.abs(np.log(true / other)).mean()
    return total / 3


def test_mrstft_is_its_definition_and_tells_the_true_sound_from_the_other():
    y, y_hat = noise(), 0.3 * noise(seed=1) + 0.1 * noise()
    assert metrics.mrstft(y, y_hat) == pytest.approx(slow_mrstft(y, y_hat), rel=1e-4)
    assert metrics.mrstft(y_hat, y) == pytest.approx(slow_mrstft(y_hat, y), rel=1e-4)
    assert metrics.mrstft(y, y_hat) != pytest.approx(metrics.mrstft(y_hat, y), rel=0.01)


def test_mrstft_of_a_sound_from_itself_is_zero_and_grows_with_what_is_added():
    y = noise()
    distances = [metrics.mrstft(y, y + level * noise(seed=1)) for level in (0, 0.01, 0.1, 1.0)]
    assert distances[0] == 0
    assert (np.diff(distances) > 0).all()


def test_mrstft_does_not_hear_a_polarity():
    assert metrics.mrstft(noise(), -noise()) == pytest.approx(0, abs=1e-6)


def test_mrstft_from_silence_is_refused_and_to_silence_is_finite():
    quiet = np.zeros(6000, np.float32)
    for silence in (quiet, 1e-4 * noise()):
        with pytest.raises(ValueError, match="the true sound has a mean square of .* below 1e-05"):
            metrics.mrstft(silence, noise())
    assert 1 < metrics.mrstft(noise(), quiet) < 20


@pytest.mark.parametrize("metric", [metrics.mrstft, metrics.si_sdr_db])
def test_sounds_that_cannot_be_compared_are_refused(metric):
    with pytest.raises(ValueError, match=r"shapes \(6000,\) and \(5999,\)"):
        metric(noise(), noise(5999))
    with pytest.raises(ValueError, match=r"must be the same \(samples,\)"):
        metric(noise()[None], noise()[None])
    broken = noise()
    broken[7] = np.nan
    with pytest.raises(AudioError, match="the other holds NaN or infinity, first at sample 7"):
        metric(noise(), broken)


def test_mrstft_of_a_clip_without_a_whole_window_is_refused():
    with pytest.raises(AudioError, match="the true sound has 2047 samples: it must hold at least 2048"):
        metrics.mrstft(noise(2047), noise(2047))
    assert metrics.mrstft(noise(2048), noise(2048, seed=1)) > 0


# --- mrstft_wide ------------------------------------------------------------------------------------------------------
def passages(n=70_000):
    """A sound with a silent stretch and another with some of it: all that an STFT distance has to deal with."""
    y, y_hat = noise(n), 0.3 * noise(n, seed=1) + 0.5 * noise(n)
    y[:10_000] = 0
    y_hat[30_000:32_000] = 0
    return y, y_hat


def test_mrstft_wide_is_that_of_auraloss_in_both_directions():
    sizes = [32, 128, 512, 2048, 8192, 32768]
    theirs = auraloss.freq.MultiResolutionSTFTLoss(sizes, [size // 2 for size in sizes], sizes)
    for n in (32_768, 70_000):
        y, y_hat = passages(n)
        for true, other in ((y, y_hat), (y_hat, y)):
            with torch.inference_mode():
                expected = theirs(*(torch.from_numpy(x)[None, None] for x in (other, true))).item()
            assert metrics.mrstft_wide(true, other) == pytest.approx(expected, rel=1e-4)


def test_mrstft_wide_of_a_sound_from_itself_is_exactly_zero_and_grows_with_what_is_added():
    y, _ = passages()
    distances = [metrics.mrstft_wide(y, y + level * noise(len(y), seed=1)) for level in (0, 0.01, 0.1, 1.0)]
    assert distances[0] == 0
    assert (np.diff(distances) > 0).all()
    assert metrics.mrstft_wide(y, -y) == pytest.approx(0, abs=1e-6)


def test_mrstft_wide_hears_no_common_level_but_msd_does():
    y, y_hat = noise(70_000), noise(70_000, seed=1)
    assert metrics.mrstft_wide(4 * y, 4 * y_hat) == pytest.approx(metrics.mrstft_wide(y, y_hat), rel=1e-3)
    assert metrics.msd(4 * y, 4 * y_hat, RATE_HZ) > 1.1 * metrics.msd(y, y_hat, RATE_HZ)


def test_a_true_sound_analysed_once_gives_the_same_distances_again_and_again():
    y, y_hat = passages()
    distance = metrics.MrstftTo(y)
    before = y_hat.copy()
    assert distance(y_hat) == distance(y_hat) == metrics.mrstft_wide(y, y_hat)
    assert distance(y) == 0
    assert (y_hat == before).all()
    with pytest.raises(ValueError, match=r"shapes \(70000,\) and \(69999,\)"):
        distance(y_hat[1:])


def test_mrstft_wide_of_a_clip_without_a_whole_window_is_refused():
    with pytest.raises(AudioError, match="the true sound has 32767 samples: it must hold at least 32768"):
        metrics.mrstft_wide(noise(32_767), noise(32_767))


# --- msd, sce_hz, cfe_db, lufs_error ----------------------------------------------------------------------------------
def test_msd_is_its_definition():
    y, y_hat = passages(100_000)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(65_536) / 65_536)
    bands = librosa.filters.mel(sr=RATE_HZ, n_fft=65_536, n_mels=128)
    mels = []
    for sound in (y, y_hat):
        padded = np.pad(sound.astype(np.float64), 32_768, mode="reflect")
        frames = np.array([padded[i : i + 65_536] for i in range(0, len(padded) - 65_535, 65_536)])
        power = np.abs(np.fft.rfft(window * frames)) ** 2
        mels.append(bands @ np.sqrt(np.maximum(power, 1e-8)).T)
    expected = np.abs(mels[0] - mels[1]).mean() + np.abs(np.log(mels[0] / mels[1])).mean()
    assert metrics.msd(y, y_hat, RATE_HZ) == pytest.approx(expected, rel=1e-3)


def tones(levels, seconds=3):
    """Sines on bins of the centroid's transform, {bin: amplitude}, so that no energy leaks to one side."""
    t = np.arange(seconds * RATE_HZ) / RATE_HZ
    return sum(a * np.sin(2 * np.pi * k * RATE_HZ / 2048 * t) for k, a in levels.items())


def test_the_spectral_centroid_is_the_mean_frequency_weighted_by_magnitude():
    low, mixed = tones({100: 0.2}), tones({100: 0.1, 300: 0.3})  # the mean of the second is bin 250
    assert metrics.sce_hz(low, mixed, RATE_HZ) == pytest.approx(150 * RATE_HZ / 2048, rel=0.01)
    assert metrics.sce_hz(mixed, low, RATE_HZ) == pytest.approx(150 * RATE_HZ / 2048, rel=0.01)
    assert metrics.sce_hz(low, 0.3 * low, RATE_HZ) == pytest.approx(0, abs=0.1)


def test_the_centroid_error_is_that_of_the_means_over_windows_of_2048_samples_512_apart():
    def slow(y):
        padded = np.pad(y.astype(np.float64), 1024)
        window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(2048) / 2048)
        frames = np.array([padded[i : i + 2048] for i in range(0, len(padded) - 2047, 512)])
        magnitudes = np.abs(np.fft.rfft(window * frames))
        totals = magnitudes.sum(axis=1)
        weighted = magnitudes @ (np.arange(1025) * RATE_HZ / 2048)
        return np.divide(weighted, totals, out=np.zeros_like(totals), where=totals > 0).mean()

    y, y_hat = passages()
    assert metrics.sce_hz(y, y_hat, RATE_HZ) == pytest.approx(abs(slow(y) - slow(y_hat)), rel=1e-3)


def test_the_crest_factor_of_a_sine_is_3_dB_above_that_of_a_square_wave():
    t = np.arange(RATE_HZ) / RATE_HZ
    sine, square = 0.5 * np.sin(2 * np.pi * 60 * t), np.where(t * 120 % 2 < 1, 0.2, -0.2)
    assert metrics.cfe_db(sine, square, RATE_HZ) == pytest.approx(3.0103, abs=1e-3)
    assert metrics.cfe_db(sine, 0.1 * sine, RATE_HZ) == pytest.approx(0, abs=1e-5)


def test_the_crest_factor_of_a_pulse_train_is_that_of_its_duty():
    pulses = np.zeros(RATE_HZ)
    pulses[::100] = 1.0
    assert metrics.cfe_db(np.where(pulses > 0, 1.0, -1.0), pulses, RATE_HZ) == pytest.approx(20.0, abs=1e-4)


@settings(max_examples=10, deadline=None)
@given(gain_db=st.floats(-20, 20))
def test_a_gain_in_dB_is_a_loudness_error_in_LU(gain_db):
    y = noise(RATE_HZ)
    assert metrics.lufs_error(y, y * 10 ** (gain_db / 20), RATE_HZ) == pytest.approx(abs(gain_db), abs=1e-3)


def test_the_loudness_error_is_the_difference_of_two_loudnesses_whichever_is_the_louder():
    y, y_hat = passages()
    expected = abs(loudness.lufs(y, RATE_HZ) - loudness.lufs(y_hat, RATE_HZ))
    assert expected > 1
    assert metrics.lufs_error(y, y_hat, RATE_HZ) == metrics.lufs_error(y_hat, y, RATE_HZ) == pytest.approx(expected)


# --- all of them ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", metrics.SCORES)
def test_every_score_is_best_for_the_same_sound_and_worse_for_another(name):
    if name == "pesq" and not speech_quality.has_pesq():
        pytest.skip("test_speech_quality says what is missing")
    score = metrics.SCORES[name]
    y, y_hat = passages()
    y_hat = np.tanh(3 * y_hat)
    best, other = (score.function(y, x, RATE_HZ) for x in (y, y_hat))
    assert best < other if score.lower_is_better else best > other
    assert best == (pytest.approx(4.644, abs=1e-3) if name == "pesq" else 0)
    assert score.unit.lower() in ("", "lu", "mos") or name.endswith(f"_{score.unit.lower()}")


@pytest.mark.parametrize("name", metrics.SCORES)
def test_every_score_refuses_sounds_that_cannot_be_compared(name):
    score, y = metrics.SCORES[name].function, noise(70_000)
    with pytest.raises(ValueError, match=r"shapes \(70000,\) and \(69999,\)"):
        score(y, y[1:], RATE_HZ)
    with pytest.raises(ValueError, match=r"must be the same \(samples,\)"):
        score(y[None], y[None], RATE_HZ)
    with pytest.raises(AudioError, match="the other holds NaN or infinity, first at sample 7"):
        score(y, np.where(np.arange(70_000) == 7, np.nan, y), RATE_HZ)
    with pytest.raises(ValueError, match="the true sound has a mean square of .* counts as silence"):
        score(1e-4 * y, y, RATE_HZ)


@pytest.mark.parametrize("name", metrics.SCORES)
def test_a_score_of_silence_is_large_or_refused(name):
    score, y = metrics.SCORES[name].function, noise(70_000)
    if name in ("mrstft", "mrstft_wide", "msd"):
        assert 1 < score(y, 0 * y, RATE_HZ) < 100
    else:
        with pytest.raises(ValueError, match="the other has a mean square of 0.0e"):
            score(y, 0 * y, RATE_HZ)


# --- si_sdr_db --------------------------------------------------------------------------------------------------------
@settings(max_examples=30, deadline=None)
@given(ratio_db=st.floats(-30, 60), gain=st.sampled_from([-3.0, 0.01, 1.0, 20.0]), seed=st.integers(0, 9))
def test_si_sdr_is_the_ratio_that_was_mixed_whatever_the_gain(ratio_db, gain, seed):
    rng = np.random.default_rng(seed)
    s, other = rng.normal(size=(2, 500))
    other -= (other @ s) / (s @ s) * s  # orthogonal, so that all of it is distortion
    other *= np.linalg.norm(s) / np.linalg.norm(other) * 10 ** (-ratio_db / 20)
    assert metrics.si_sdr_db(s, gain * (s + other)) == pytest.approx(ratio_db, abs=0.01)


def test_si_sdr_is_that_of_auraloss():
    y, y_hat = (x - x.mean() for x in (noise(), noise() + 0.5 * noise(seed=1)))
    with torch.no_grad():
        expected = -auraloss.time.SISDRLoss()(*(torch.from_numpy(x)[None, None] for x in (y_hat, y))).item()
    assert metrics.si_sdr_db(y, y_hat) == pytest.approx(expected, abs=0.01)


def test_si_sdr_of_a_sound_from_itself_is_infinite_and_from_silence_refused():
    assert metrics.si_sdr_db(noise(), noise()) == np.inf
    for pair in ((noise(), np.zeros(6000)), (np.zeros(6000), noise())):
        with pytest.raises(ValueError, match="all zeros"):
            metrics.si_sdr_db(*pair)


# --- explained_variance -----------------------------------------------------------------------------------------------
def test_explained_variance_is_r2_of_each_channel():
    rng = np.random.default_rng(0)
    x = rng.normal(2, 3, size=(5, 3, 4, 6))
    x_hat = x + rng.normal(size=x.shape) * np.array([0.1, 1.0, 9.0])[:, None, None]
    shares = metrics.explained_variance(x, x_hat)
    assert shares == pytest.approx([r2_score(x[:, c].ravel(), x_hat[:, c].ravel()) for c in range(3)])
    assert metrics.explained_variance(5 * x - 1, 5 * x_hat - 1) == pytest.approx(shares)
    assert shares[0] > 0.9 and shares[2] < 0


def test_perfect_explains_all_and_the_mean_nothing():
    x = np.random.default_rng(0).normal(7, 1, size=(3, 2, 5, 4)).astype(np.float16)
    assert metrics.explained_variance(x, x).tolist() == [1, 1]
    mean = np.broadcast_to(x.astype(float).mean(axis=(0, 2, 3), keepdims=True), x.shape)
    assert metrics.explained_variance(x, mean) == pytest.approx([0, 0], abs=1e-12)


def test_arrays_without_a_variance_to_explain_are_refused():
    x = np.random.default_rng(0).normal(size=(3, 2, 5, 4))
    with pytest.raises(ValueError, match="must be the same"):
        metrics.explained_variance(x, x[:2])
    with pytest.raises(ValueError, match="must be the same"):
        metrics.explained_variance(x[0], x[0])
    x[:, 1] = 3
    with pytest.raises(ValueError, match="channel 1 is constant"):
        metrics.explained_variance(x, x)
