"""The colour of echoes: how strong they are in each band, whatever is said, and how unlike two of them are."""

import numpy as np
import pytest
import scipy.signal
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from vaefx_lib import blackbox, echo_colour, echo_likeness, echo_profile, effects, passages

RATE_HZ, LAG = passages.RATE_HZ, 9_377
BANDS = len(echo_colour.EDGES_HZ) - 1
DELAY = effects.load("mda:Delay")
SETTINGS = np.array([0.55, 0.1, 0.5, 0.3, 0.6, 0.5])  # left, right, feedback, tone of the feedback, mix, output


def noise(seed=0):
    return np.random.default_rng(seed).standard_normal(passages.SAMPLES).astype(np.float32) / 8


def with_echo(sound, gain, *, lag=LAG, cutoff_hz=None, kind="low"):
    """The sound and its echo, filtered by one pole."""
    echo = np.float32(gain) * np.concatenate([np.zeros(lag, np.float32), sound[:-lag]])
    if cutoff_hz:
        echo = scipy.signal.lfilter(*scipy.signal.butter(1, cutoff_hz, kind, fs=RATE_HZ), echo).astype(np.float32)
    return sound + echo


def colour(sound, *lags):
    return echo_colour.Ear(np.array(lags, int))(echo_profile.whiten(sound))


@pytest.mark.parametrize("gain", [0.5, 0.2, -0.4])
def test_in_noise_every_band_has_the_echo_s_share_of_the_sound(gain):
    """Of y[t] = x[t] + g x[t - L], the regression on y[t - L] has the slope g / (1 + g^2)."""
    found = colour(with_echo(noise(), gain), LAG)
    np.testing.assert_allclose(found, np.full((1, BANDS), gain / (1 + gain**2)), atol=0.04)


def test_where_there_is_no_echo_there_is_next_to_nothing(spoken_passages):
    assert np.abs(colour(noise(), LAG, -LAG, 500)).max() < 0.03
    assert np.abs(colour(spoken_passages[0], LAG, -LAG, 25_000)).max() < 0.1


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("kind", ["low", "high"])
def test_a_filtered_echo_is_weaker_where_the_filter_took_of_it(spoken_passages, which, kind):
    found = colour(with_echo(spoken_passages[which], 0.6, cutoff_hz=1_500, kind=kind), LAG)[0]
    plain = colour(with_echo(spoken_passages[which], 0.6), LAG)[0]
    left, taken = (found / plain)[[1, -1 if kind == "low" else 0]]  # below 1.2 kHz both leave something
    assert left > 0.6 and abs(taken) < 0.2


def test_a_pre_echo_is_found_on_its_own_side(spoken_passages):
    after = with_echo(spoken_passages[0], 0.15)
    before = with_echo(spoken_passages[0][::-1].copy(), 0.15)[::-1].copy()
    for sound, side in ((after, LAG), (before, -LAG)):
        found = colour(sound, side, -side).mean(axis=1)
        assert found[0] > 0.05 and found[0] > 1.2 * found[1]


def test_the_level_has_no_influence_and_without_a_lag_there_is_nothing(spoken_passages):
    sound = with_echo(spoken_passages[0], 0.5)
    np.testing.assert_allclose(colour(sound / 8, LAG, 700), colour(sound, LAG, 700), atol=1e-4)
    assert colour(sound).shape == (0, BANDS) and echo_colour.unlike(colour(sound))(colour(sound)) == 0


def test_the_strongest_echoes_of_a_profile_are_listened_for():
    profile = np.zeros(2 * echo_profile.LONGEST + 1, np.float32)
    assert len(echo_colour.lags(profile)) == 0
    for lag, height in ((-300, 0.2), (4_000, -0.5), (20_000, 0.1)):
        profile[echo_profile.LONGEST + lag] = height
    np.testing.assert_array_equal(echo_colour.lags(profile), [4_000, -300, 20_000])
    profile[echo_profile.LONGEST + 1_000 :: 1_000] = 0.3
    assert len(echo_colour.lags(profile)) == echo_colour.MOST


@given(*(arrays(np.float32, (3, BANDS), elements=st.floats(-1, 1, width=32)) for _ in range(2)))
def test_unlikeness_is_0_for_the_same_1_for_none_2_upside_down_and_the_same_both_ways(one, other):
    there = echo_colour.unlike(one)(other)
    assert echo_colour.unlike(one)(one) == 0 and 0 <= there <= 2 + 1e-6
    assert there == pytest.approx(echo_colour.unlike(other)(one), abs=1e-6)
    if one.any():
        assert [echo_colour.unlike(one)(factor * one) for factor in (0, -1)] == pytest.approx([1, 2])


@pytest.mark.parametrize("param, value", [(2, 0.9), (2, 0.1), (3, 0.02), (3, 0.9), (4, 0.2)])
def test_other_words_through_the_true_settings_are_liker_than_through_others_with_the_same_echoes(
    spoken_passages, param, value
):
    """mda Delay's feedback, its tone and the mix, which move no echo."""
    other = SETTINGS.copy()
    other[param] = value
    reference = blackbox.wet(DELAY, spoken_passages[1], SETTINGS, RATE_HZ)
    wanted = echo_likeness.EchoLikeness([reference])
    true, wrong = (
        wanted.unlike([blackbox.wet(DELAY, spoken_passages[0], given, RATE_HZ)])[1] for given in (SETTINGS, other)
    )
    assert true < 0.8 * wrong
    assert wanted.unlike([reference]) == pytest.approx((0, 0), abs=1e-6)


def test_passages_of_a_reference_are_averaged(spoken_passages):
    wet = [blackbox.wet(DELAY, sound, SETTINGS, RATE_HZ) for sound in spoken_passages[:2]]
    wanted = echo_likeness.EchoLikeness(wet)
    np.testing.assert_allclose(wanted.profile, np.mean([echo_profile.measure(sound) for sound in wet], axis=0))
    assert wanted.unlike(wet) == pytest.approx((0, 0), abs=1e-6)
