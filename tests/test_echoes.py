"""Settings from echoes: the peaks of a response are where they should be, and those of a reference lead back to it."""

import dataclasses

import numpy as np
import pytest

from vaefx_lib import audio, blackbox, echo_peaks, echo_profile, echoes, effects, passages
from vaefx_lib.effects.mda import delay_samples

RATE_HZ = 24_000
COUNT = 1024


def two_taps(audio, sample_rate_hz, *, first=0.5, second=0.5, level=0.5):
    """Echoes after 50 to 550 ms and 600 to 1350 ms."""
    wet = np.array(np.atleast_2d(audio), np.float32)
    for lag, height in ((lag_of(first), 0.8 * level), (lag_of(second, later=True), -0.6 * level)):
        at = round(lag * sample_rate_hz / RATE_HZ)
        wet[:, at:] += np.float32(height) * np.atleast_2d(audio)[:, : wet.shape[1] - at]
    return wet


def lag_of(setting, *, later=False):
    """In samples at 24 kHz."""
    return int(14_400 + 18_000 * setting) if later else int(1_200 + 12_000 * setting)


TWO_TAPS = effects.Effect(
    "test:TwoTaps", tuple(effects.Param(name, "", 0, 1, 0.5) for name in ("first", "second", "level")), two_taps
)


@pytest.fixture(scope="module")
def taps():
    return echoes.fingerprints(TWO_TAPS, COUNT, seed=0)


@pytest.fixture(scope="module")
def delay():
    return echoes.fingerprints(effects.load("mda:Delay"), 2 * COUNT, seed=0)


def profile_of(effect, sound, settings, rate_hz=RATE_HZ):
    wet = blackbox.wet(effect, audio.resample(sound, RATE_HZ, rate_hz), settings, rate_hz)
    return echo_profile.measure(audio.resample(wet, rate_hz, RATE_HZ))


def off_by(proposals, settings, lags):
    """Samples by which the nearest proposal misses the echoes of the settings."""
    wanted = np.sort(lags(settings))
    return min(np.abs(np.sort(lags(row)) - wanted).max() for row in proposals)


def tap_lags(settings):
    return np.array([lag_of(settings[0]), lag_of(settings[1], later=True)])


def test_a_fingerprint_has_the_echoes_at_their_sample_with_their_height_and_sign(taps):
    for settings, lags, heights in zip(taps.settings[:50], taps.lags, taps.heights):
        if 0.05 < settings[2] < 0.8:  # so that both echoes are fainter than what they are of
            at = tap_lags(settings)
            left = np.array([0.8, -0.6]) * settings[2] * (1 - at / passages.SAMPLES)  # a late echo loses its end
            for lag, height in zip(at, left / (1 + np.square(left).sum())):
                found = np.flatnonzero(lags == lag)
                assert heights[found[0]] == pytest.approx(height, rel=0.01)


def test_a_dry_sound_beneath_its_echo_is_a_pre_echo():
    """1 + 8 z^-L is 8 (z^-L + z^0 / 8): the faint one comes first, by L samples."""

    def beneath(audio, sample_rate_hz, *, lag=0.5):
        at, wet = lag_of(lag), np.array(np.atleast_2d(audio), np.float32) / 8
        wet[:, at:] += np.atleast_2d(audio)[:, : wet.shape[1] - at]
        return wet

    found = echoes.fingerprints(
        effects.Effect("test:Beneath", (effects.Param("lag", "", 0, 1, 0.5),), beneath), 64, seed=0
    )
    np.testing.assert_array_equal(found.lags[:, 0], [-lag_of(lag) for lag in found.settings[:, 0]])
    assert (found.heights[:, 0] > 0).all()


@pytest.mark.parametrize("tone", [0.02, 0.3, 0.5, 0.7, 0.98])
def test_a_filtered_echo_stands_where_it_begins_and_has_its_sign(tone):
    """mda Delay's is low-passed or high-passed: of the latter the second sample changes more than the first."""
    settings = np.array([0.7, 0.35, 0.0, tone, 0.6, 0.5])
    lags, heights = echo_peaks.Ear(effects.load("mda:Delay"), RATE_HZ)(settings)
    found = {lag: height for lag, height in zip(lags, heights) if height}
    for lag in delay_samples(*settings[:2]):
        assert found[lag] > 0.02


def test_settings_that_move_echoes_are_told_from_those_that_scale_them(taps, delay):
    assert taps.moving.tolist() == [0, 1]
    assert delay.moving.tolist() == [0, 1]


@pytest.mark.parametrize("settings", [(0.31, 0.62, 0.9), (0.83, 0.14, 0.7), (0.05, 0.95, 0.5)])
@pytest.mark.parametrize("seconds", [5.46, 2.0])
def test_two_echoes_in_speech_are_found_to_the_sample(spoken_passages, taps, settings, seconds):
    profile = profile_of(TWO_TAPS, spoken_passages[7][: int(seconds * RATE_HZ)], settings)
    proposals = echoes.propose(TWO_TAPS, profile, taps, seed=0)
    assert off_by(proposals[:1], settings, tap_lags) <= 1


def test_both_delays_of_mda_delay_are_found_in_most_passages(spoken_passages, delay):
    effect, rng, hits = effects.load("mda:Delay"), np.random.default_rng(3), 0
    for i in range(6):
        settings = rng.uniform(size=6)
        settings[[0, 1, 4]] = rng.uniform([0.2, 0.15, 0.2], 1)  # both after 20 ms or more, and to be heard
        profile = profile_of(effect, spoken_passages[6 + i % 2], settings)
        proposals = echoes.propose(effect, profile, delay, seed=i)
        hits += off_by(proposals, settings, lambda s: np.array(delay_samples(s[0], s[1]))) <= 3
    assert hits >= 4


def test_an_effect_that_counts_samples_is_set_for_the_rate_it_runs_at(spoken_passages):
    effect, settings = effects.load("mda:Delay"), np.array([0.6, 0.72, 0.3, 0.5, 0.6, 0.5])
    known = echoes.fingerprints(effect, COUNT // 2, seed=0, sample_rate_hz=44_100)
    profile = profile_of(effect, spoken_passages[6], settings, 44_100)
    proposals = echoes.propose(effect, profile, known, seed=0)
    assert off_by(proposals, settings, lambda s: np.array(delay_samples(s[0], s[1]))) <= 6


def test_the_delay_of_pedalboard_is_found(spoken_passages):
    effect = effects.load("pedalboard:Delay")
    known = echoes.fingerprints(effect, 512, seed=0)
    settings = [effect.params[0].to_setting(0.4), 0.3, 0.5]
    proposals = echoes.propose(effect, profile_of(effect, spoken_passages[6], settings), known, seed=0)
    assert known.moving.tolist() == [0]
    assert effect.params[0].to_native(proposals[0][0]) == pytest.approx(0.4, abs=2 / RATE_HZ)


@pytest.mark.parametrize("name", ["mda:Overdrive", "pedalboard:LowpassFilter"])
def test_an_effect_without_echoes_has_no_fingerprints_and_no_proposals(spoken_passages, name):
    effect = effects.load(name)
    known = echoes.fingerprints(effect, 100_000, seed=0)
    assert known.settings.shape == (0, len(effect.params)) and known.lags.shape == (0, 16)
    profile = echo_profile.measure(spoken_passages[6])
    assert echoes.propose(effect, profile, known, seed=0).shape == (0, len(effect.params))


def test_an_effect_that_moves_its_echoes_itself_has_no_fingerprints():
    chorus = effects.load("pedalboard:Chorus")
    known, heard = echoes.fingerprints(chorus, 64, seed=0), echo_peaks.Ear(chorus, RATE_HZ)(chorus.default_settings)
    assert np.abs(heard[1]).max() > 10 * echo_peaks.FAINT  # it has echoes, at any one time
    assert known.settings.shape == (0, len(chorus.params)) and not len(known.moving)


def test_proposals_repeat_and_are_settings_with_echoes_of_their_own(spoken_passages, taps):
    profile = profile_of(TWO_TAPS, spoken_passages[7], (0.4, 0.4, 0.8))
    first, second = (echoes.propose(TWO_TAPS, profile, taps, seed=1, count=3) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert 1 <= len(first) <= 3 and ((first >= 0) & (first <= 1)).all()
    assert len({tuple(tap_lags(row) // 12) for row in first}) == len(first)


def test_bad_input_is_named(taps):
    flat = np.ones(2 * echo_profile.LONGEST + 1, np.float32)
    with pytest.raises(ValueError, match=r"count is 0"):
        echoes.fingerprints(TWO_TAPS, 0, seed=0)
    with pytest.raises(ValueError, match=r"fingerprints are of test:TwoTaps, not of mda:Delay"):
        echoes.propose(effects.load("mda:Delay"), flat, taps, seed=0)
    with pytest.raises(ValueError, match=r"profile has the shape \(5,\)"):
        echoes.propose(TWO_TAPS, flat[:5], taps, seed=0)
    with pytest.raises(ValueError, match=r"count is -1"):
        echoes.propose(TWO_TAPS, flat, taps, seed=0, count=-1)
    with pytest.raises(dataclasses.FrozenInstanceError):
        taps.effect = ""
