"""The profile of echoes: at the very lag, on the right side, and how unlike two of them are."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vaefx_lib import audio, echo_profile, passages, style

RATE_HZ, LONGEST = 24_000, echo_profile.LONGEST


def with_taps(sound, taps):
    """The sum of the sound at these lags, with these gains."""
    wet = np.zeros_like(sound)
    for lag, gain in taps.items():
        wet[lag:] += np.float32(gain) * sound[: len(sound) - lag]
    return wet


def highest(profile, beyond=1_200):
    """The lag of the strongest echo after 50 ms or more, on either side."""
    far = np.where(np.abs(np.arange(-LONGEST, LONGEST + 1)) > beyond, np.abs(profile), 0)
    return int(far.argmax()) - LONGEST


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("lag", [1_500, 9_377, 31_000])
@pytest.mark.parametrize("gain", [0.1, 0.4, -0.3])
def test_an_echo_is_found_at_its_lag_and_with_its_sign(spoken_passages, which, lag, gain):
    profile = echo_profile.measure(with_taps(spoken_passages[which], {0: 1, lag: gain}))
    assert highest(profile) == lag
    assert np.sign(profile[LONGEST + lag]) == np.sign(gain)


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("lag", [2_774, 13_029])
def test_an_echo_is_told_from_a_pre_echo_though_their_magnitude_spectra_are_the_same(spoken_passages, which, lag):
    after, before = (with_taps(spoken_passages[which], taps) for taps in ({0: 1, lag: 0.1}, {0: 0.1, lag: 1}))
    np.testing.assert_allclose(style.measure(after).cepstrum[lag], style.measure(before).cepstrum[lag], atol=0.02)
    assert highest(echo_profile.measure(after)) == lag
    assert highest(echo_profile.measure(before)) == -lag


def test_the_level_has_no_influence(spoken_passages):
    profile = echo_profile.measure(spoken_passages[0])
    np.testing.assert_allclose(echo_profile.measure(spoken_passages[0] / 8), profile, atol=1e-5)
    assert profile.shape == (2 * LONGEST + 1,) and profile.dtype == np.float32 and np.isfinite(profile).all()


def test_noise_has_hardly_an_echo():
    profile = echo_profile.measure(np.random.default_rng(0).standard_normal(passages.SAMPLES).astype(np.float32))
    assert np.count_nonzero(profile) <= 3 and np.abs(profile).max() < 0.01


def test_the_true_echoes_are_liker_than_mirrored_others_or_none(spoken_passages):
    reference, lag = echo_profile.measure(with_taps(spoken_passages[0], {0: 0.15, 9_377: 1})), 9_377
    unlike = echo_profile.unlike(reference)
    taps = {"true": {0: 0.15, lag: 1}, "mirrored": {0: 1, lag: 0.15}, "other": {0: 0.15, lag + 400: 1}, "none": {0: 1}}
    found = {name: unlike(echo_profile.measure(with_taps(spoken_passages[1], each))) for name, each in taps.items()}
    assert found["true"] < min(found["mirrored"], found["other"], found["none"]) - 0.1


@given(st.lists(st.tuples(st.integers(-LONGEST, LONGEST), st.floats(-1, 1)), max_size=6), st.integers(0, 9))
@settings(max_examples=30, deadline=None)
def test_unlikeness_is_0_for_the_same_at_most_1_for_other_echoes_2_upside_down_and_the_same_both_ways(echoes, seed):
    one, other = np.zeros((2, 2 * LONGEST + 1), np.float32)
    for lag, ratio in echoes:
        one[lag + LONGEST] = ratio
    rng = np.random.default_rng(seed)
    other[rng.integers(len(other), size=4)] = rng.uniform(0.1, 1, 4)
    there = echo_profile.unlike(one)(other)
    assert echo_profile.unlike(one)(one) == 0 and 0 <= there <= 1 + 1e-6
    assert there == (pytest.approx(echo_profile.unlike(other)(one), abs=1e-5) if one.any() else 0)
    assert [echo_profile.unlike(other)(factor * other) for factor in (0, -1)] == pytest.approx([1, 2])


def test_several_passages_are_averaged():
    profiles = np.arange(6, dtype=np.float32).reshape(2, 3)
    np.testing.assert_array_equal(echo_profile.mean(list(profiles)), [1.5, 2.5, 3.5])


@pytest.mark.parametrize(
    ("sound", "said"),
    [
        (np.zeros(passages.SAMPLES, np.float32), "all zeros"),
        (np.full(passages.SAMPLES, np.nan, np.float32), "NaN|finite"),
        (np.ones((2, passages.SAMPLES), np.float32), "2 channels"),
    ],
)
def test_bad_input_is_named(sound, said):
    with pytest.raises(audio.AudioError, match=said):
        echo_profile.measure(sound)
