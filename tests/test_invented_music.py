"""Invented music: that it is repeatable, in tune and in its room, and that passages of a piece belong together."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vaefx_lib import invented_music

RATE_HZ, SAMPLES = 24_000, 36_000


def piece(seed):
    return invented_music.invent(np.random.default_rng(seed), RATE_HZ)


def play(made, seed=0, samples=SAMPLES):
    return invented_music.play(made, np.random.default_rng(seed), samples)


@pytest.fixture
def flute():
    """A piece for one player who holds pure tones of a quarter of a second, out of doors."""
    made = piece(0)
    plain = {"vibrato": 0.0, "stretch": 0.0, "breath": 0.0, "chord": 1, "players": 1, "octave": 1, "attack_s": 0.01}
    one = dataclasses.replace(made.instruments[0], kind="held", decay_s=np.inf, beats=1.0, **plain)
    one = dataclasses.replace(one, partials=np.eye(1, invented_music.PARTIALS)[0])
    return dataclasses.replace(made, instruments=(one,), noise=0.0, beat_s=0.25, room=np.zeros(1), direct=1.0)


@given(st.integers(0, 2**32))
@settings(max_examples=12, deadline=None)
def test_every_passage_is_whole_and_has_a_peak_of_about_1(seed):
    sound = play(piece(seed), seed, 12_000)
    assert sound.dtype == np.float32 and sound.shape == (12_000,) and np.isfinite(sound).all()
    assert np.abs(sound).max() < 1.05


def test_the_same_seeds_give_the_same_bits_and_others_other_notes():
    first, again, others = play(piece(3), 1), play(piece(3), 1), play(piece(3), 2)
    assert np.array_equal(first, again)
    assert np.abs(first - others).max() > 0.1


def test_tones_are_those_of_the_scale_of_the_piece(flute):
    sound = play(flute, samples=5 * RATE_HZ)
    scale = {(flute.root + 12 + step) % 12 for step in flute.scale}
    heard = set()
    for window in sound.reshape(-1, RATE_HZ // 8):
        spectrum = np.abs(np.fft.rfft(window * np.hanning(len(window)), 16 * len(window)))
        if spectrum.max() > 50:  # a tone, which changes in few of these windows
            note = 69 + 12 * np.log2(spectrum.argmax() / len(spectrum) * RATE_HZ / 2 / 440)
            if abs(note - round(note)) < 0.1:
                heard.add(round(note) % 12)
    assert len(heard) >= 4 and len(heard - scale) == 0


def test_partials_of_a_stiff_string_are_sharp(flute):
    (one,) = flute.instruments
    stiff = dataclasses.replace(one, partials=np.eye(invented_music.PARTIALS)[3], stretch=0.01)  # the fourth alone
    t = np.arange(RATE_HZ) / RATE_HZ
    tone = invented_music._tone(stiff, np.random.default_rng(0), 200.0, t, RATE_HZ)
    assert np.abs(np.fft.rfft(tone)).argmax() == pytest.approx(800 * np.sqrt(1.16), abs=1)


@pytest.mark.parametrize("rt60_s", [0.3, 1.5])
def test_a_room_falls_by_60_db_in_its_reverberation_time(rt60_s):
    room = invented_music._room(np.random.default_rng(0), rt60_s, RATE_HZ)
    left = 10 * np.log10(np.cumsum(np.square(room)[::-1])[::-1])  # Schroeder's integral
    early, late = (round(share * rt60_s * RATE_HZ) for share in (0.25, 0.75))
    assert left[early] - left[late] == pytest.approx(30, abs=3)
    assert np.square(room).sum() == pytest.approx(1)


def test_the_direct_sound_and_the_room_are_added(flute):
    click = np.zeros(1000)
    click[500] = 0.5  # an echo of half the amplitude
    echoing = play(dataclasses.replace(flute, room=click))
    dry = play(flute)
    wanted = dry.astype(float)
    wanted[500:] += 0.5 * dry[:-500]
    np.testing.assert_allclose(echoing, wanted / np.abs(wanted).max(), atol=1e-4)


def test_passages_of_one_piece_sound_more_alike_than_those_of_two():
    def balance(sound):  # dB in octaves
        power = np.square(np.abs(np.fft.rfft(sound)))
        edges = np.geomspace(60, RATE_HZ / 2, 9) / RATE_HZ * len(sound)
        return 10 * np.log10([power[int(a) : int(b)].sum() + 1e-9 for a, b in zip(edges, edges[1:])])

    found = np.array([[balance(play(piece(seed), notes)) for notes in range(2)] for seed in range(6)])
    within = np.abs(found[:, 0] - found[:, 1]).mean()
    between = np.abs(found[:, None, 0] - found[None, :, 1]).mean()
    assert within < 0.6 * between
