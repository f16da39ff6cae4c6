"""Loudness against the standard's own numbers and the signals that meters are approved with."""

import math

import numpy as np
import pytest

from vaefx_lib.audio import AudioError
from vaefx_lib.loudness import k_weighting, lufs

ONE_OF_TWO_LU = 10 * math.log10(2)  # what a sound in one channel reads below the same in two


def sines(*levels, rate=24_000, frequency_hz=1000):
    """Stretches of a sine, each of (peak in dBFS, seconds)."""
    amplitude = np.concatenate([np.full(round(seconds * rate), 10 ** (dbfs / 20)) for dbfs, seconds in levels])
    return (amplitude * np.sin(2 * np.pi * frequency_hz * np.arange(len(amplitude)) / rate)).astype(np.float32)


def test_the_filters_at_48_khz_are_those_of_the_standard():
    (shelf, shelf_poles), (passed, passed_poles) = k_weighting(48_000)
    assert shelf == pytest.approx([1.53512485958697, -2.69169618940638, 1.19839281085285], abs=1e-9)
    assert shelf_poles == pytest.approx([1, -1.69065929318241, 0.73248077421585], abs=1e-9)
    assert passed == pytest.approx([1, -2, 1], abs=1e-9)
    assert passed_poles == pytest.approx([1, -1.99004745483398, 0.99007225036621], abs=1e-9)


@pytest.mark.parametrize("rate", [24_000, 44_100, 48_000, 96_000])
def test_a_full_scale_sine_of_997_hz_reads_3_01_below_zero_at_any_rate(rate):
    assert lufs(sines((0, 5), rate=rate, frequency_hz=997), rate) == pytest.approx(-3.01, abs=0.02)
    assert lufs(sines((-20, 5), rate=rate, frequency_hz=997), rate) == pytest.approx(-23.01, abs=0.02)


@pytest.mark.parametrize(
    "levels",
    [
        [(-23, 20)],
        [(-36, 10), (-23, 60), (-36, 10)],
        [(-72, 10), (-36, 10), (-23, 60), (-36, 10), (-72, 10)],
        [(-26, 20), (-20, 20.1), (-26, 20)],
    ],
)
def test_the_signals_that_meters_are_approved_with_read_23_below_zero(levels):
    """EBU Tech 3341, test signals 1, 3, 4 and 5: in stereo they read -23 LUFS within 0.1."""
    assert lufs(sines(*levels), 24_000) + ONE_OF_TWO_LU == pytest.approx(-23, abs=0.1)


def test_treble_counts_more_and_rumble_less():
    middle, treble, rumble = (lufs(sines((-20, 2), frequency_hz=f), 24_000) for f in (500, 6_000, 20))
    assert treble - middle == pytest.approx(4, abs=0.2)
    assert rumble - middle < -10


def test_what_is_left_after_the_last_whole_block_counts_nothing():
    y = (0.1 * np.random.default_rng(0).normal(size=24_000)).astype(np.float32)
    assert lufs(y[: 24_000 - 1], 24_000) == lufs(y[: 24_000 - 2_400], 24_000)
    assert lufs(y, 24_000) != lufs(y[: 24_000 - 2_400], 24_000)


def test_a_sound_without_loudness_is_refused():
    with pytest.raises(ValueError, match="no 0.4 s of the sound reach -70 LUFS"):
        lufs(np.zeros(24_000, np.float32), 24_000)
    with pytest.raises(AudioError, match="the sound has 9599 samples: it must hold at least 9600"):
        lufs(sines((-20, 1))[:9_599], 24_000)
    with pytest.raises(AudioError, match=r"shape \(2, 24000\): it must be one channel"):
        lufs(np.stack([sines((-20, 1))] * 2), 24_000)
    with pytest.raises(ValueError, match="the sample rate is 8000 Hz: loudness is defined from 16000 Hz on"):
        lufs(sines((-20, 1)), 8_000)
