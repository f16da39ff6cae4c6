"""Settings that may have made a reference: a controller's, those of the right echoes, and variations of the best."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vaefx_lib import blackbox, echo_profile, echoes, effects, passages, proposing, references
from vaefx_lib.effects.mda import delay_samples

RATE_HZ = passages.RATE_HZ
OVERDRIVE, DELAY = effects.load("mda:Overdrive"), effects.load("mda:Delay")
TRUTH = np.array([0.8, 0.3, 0.5])


@pytest.fixture(scope="module")
def sounds(tiny):
    """Of two unseen voices, and of full length."""
    return references.draw_dry(tiny, "test", 2, seed=2).sounds


def spread(n, seed=0):
    return np.random.default_rng(seed).uniform(size=(n, 3))


def test_the_answers_of_the_controller_come_first_one_for_each_look(trained_controller, sounds):
    looks = [(sounds[0], blackbox.wet(OVERDRIVE, sound, TRUTH, RATE_HZ)) for sound in sounds]
    found = proposing.propose(trained_controller, OVERDRIVE, looks, count=20, seed=1)
    assert found.shape == (20, 3) and ((found >= 0) & (found <= 1)).all()
    for row, look in zip(found, looks):
        np.testing.assert_array_equal(row, trained_controller.predict(*look, OVERDRIVE.name))
    np.testing.assert_array_equal(proposing.propose(trained_controller, OVERDRIVE, looks, count=20, seed=1), found)
    assert not np.array_equal(proposing.propose(trained_controller, OVERDRIVE, looks, count=20, seed=2), found)


def test_of_an_effect_that_the_controller_does_not_know_proposals_fill_the_range(trained_controller):
    fx = effects.load("pedalboard:Distortion")
    found = proposing.propose(trained_controller, fx, [], count=64, seed=0)
    np.testing.assert_array_equal(found[0], fx.default_settings)
    even = np.sort(found[2:, 0])  # a Sobol sequence: one in each of 64 equal parts
    assert len(even) == 64 and (np.floor(64 * even) == np.arange(64)).all()


def test_the_echoes_of_the_reference_are_among_the_proposals_and_with_the_other_settings(trained_controller, sounds):
    settings = np.array([0.55, 0.1, 0.3, 0.5, 0.9, 0.5])
    profile = echo_profile.measure(blackbox.wet(DELAY, sounds[1], settings, RATE_HZ))
    begin, known = np.random.default_rng(0).uniform(size=(24, 6)), trained_controller.echoes[DELAY.name]
    placed = echoes.propose(DELAY, profile, known, seed=3)
    found = proposing.with_found(begin, placed, known.moving, seed=3)
    assert len(found) == len(begin) + (1 + len(begin) // 2) * len(placed)
    np.testing.assert_array_equal(found[0], begin[0])
    kept = found[1 + len(placed) :]
    in_turn = kept[: 2 * (len(begin) - 1)].reshape(-1, 2, 6)  # one with the echoes, one without
    np.testing.assert_array_equal(in_turn[:, 1], begin[1:])
    assert all((row[known.moving] == placed[:, known.moving]).all(axis=1).any() for row in in_turn[:, 0])
    samples = delay_samples(*settings[:2])[0]
    near = [abs(tap - samples) for row in found[1:4] for tap in delay_samples(*row[:2])]
    assert min(near) <= 3
    assert len(np.unique(found[:, 4])) > 3  # the mix is tried with more than one value
    np.testing.assert_array_equal(proposing.with_found(begin, placed, known.moving, seed=3), found)


def test_an_effect_without_echoes_is_proposed_nothing_more(trained_controller, sounds):
    known, begin = trained_controller.echoes[OVERDRIVE.name], spread(4)
    placed = echoes.propose(OVERDRIVE, echo_profile.measure(sounds[0]), known, seed=0)
    assert proposing.with_found(begin, placed, known.moving) is begin


# --- variations -------------------------------------------------------------------------------------------------------
@given(n=st.integers(1, 20), n_params=st.integers(1, 7), count=st.integers(1, 9), seed=st.integers(0, 99))
def test_variations_are_settings_each_another_than_those_it_came_from(n, n_params, count, seed):
    rng = np.random.default_rng(seed)
    settings, values = rng.uniform(size=(n, n_params)), rng.choice([0.5, 1.0, np.inf], size=n)
    before = settings.copy()
    varied = proposing.vary(settings, values, count, np.random.default_rng(seed))
    assert varied.shape == (count, n_params) and ((varied >= 0) & (varied <= 1)).all()
    np.testing.assert_array_equal(settings, before)
    np.testing.assert_array_equal(proposing.vary(settings, values, count, np.random.default_rng(seed)), varied)


def test_only_the_best_are_varied_the_first_most_often_and_a_few_settings_at_a_time():
    """Each has settings of its own, so that a variation tells where it came from."""
    settings = np.linspace(0.05, 0.95, 30)[:, None].repeat(8, axis=1)
    values = np.random.default_rng(0).permutation(30)
    varied = proposing.vary(settings, values, 2_000, np.random.default_rng(1))
    kept = varied[:, :, None] == settings[:, 0]  # (variation, setting, origin)
    origins = kept.any(1)
    used = np.flatnonzero(origins.any(0))
    assert set(used) == set(np.argsort(values)[: proposing.BEST])
    counts = origins[:, np.argsort(values)[: proposing.BEST]].sum(0)
    assert counts[0] == counts.max() and counts[0] > 2 * counts[3]
    moved = 8 - kept.any(2).sum(1)
    assert moved.min() == 1 and moved.max() == proposing.MOVED
    crossed = (origins.sum(1) > 1).mean()
    assert 0.5 * proposing.CROSSED < crossed < proposing.CROSSED


def test_steps_are_of_every_size():
    varied = proposing.vary(np.full((1, 4), 0.5), np.zeros(1), 4_000, np.random.default_rng(2))
    steps = np.abs(varied - 0.5)[varied != 0.5]
    for size in (1e-3, 1e-2, 1e-1):  # as many between 0.5 and 2 times each
        assert 0.08 < ((steps > size / 2) & (steps < size * 2)).mean() < 0.35
