"""Distances against slow references, constructed cases, other implementations and invariants."""

import auraloss
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import r2_score

from vaefx_lib import metrics
from vaefx_lib.audio import AudioError


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
