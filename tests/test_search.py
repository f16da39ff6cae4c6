"""The search for settings: it finds what is known to be there, stops in time, and repeats."""

import math
import threading
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st

from vaefx_lib import audio, blackbox, corpora, effects, search, sound_loss
from vaefx_lib.effects.mda import delay_samples

RATE_HZ = 24_000


def bowl(settings):
    """Lowest at 0.3, 0.6, ..."""
    return float(np.square(settings - np.resize([0.3, 0.6], len(settings))).sum())


@pytest.fixture(scope="module")
def speech():
    utterances = [u for u in corpora.load("speech") if u.speaker == "am_liam"]
    sound = np.concatenate([audio.load(u.path, sample_rate_hz=RATE_HZ)[0][0] for u in utterances[:4]])
    return audio.peak_level(sound[: 2 * RATE_HZ])


def to_known_target(effect, dry, truth):
    """Distance of the effect at some settings from the same sound at the true ones."""
    loss = sound_loss.to_target(blackbox.wet(effect, dry, truth, RATE_HZ), l1=0)
    return lambda settings: loss(blackbox.wet(effect, dry, settings, RATE_HZ))


@pytest.mark.parametrize("n_params", [1, 2, 6])
def test_the_bottom_of_a_bowl_is_found_closely(n_params):
    found = search.minimise(bowl, [np.ones(n_params)], max_evaluations=100 + 150 * n_params)
    np.testing.assert_allclose(found.settings, np.resize([0.3, 0.6], n_params), atol=0.01)
    assert found.value == bowl(found.settings)


def test_a_lowest_point_in_a_corner_is_found():
    found = search.minimise(lambda s: float(s[0] + 1 - s[1]), [[0.5, 0.5]], max_evaluations=200)
    np.testing.assert_allclose(found.settings, [0, 1], atol=0.01)


def test_a_needle_is_found_where_chance_hardly_hits_it():
    """Off by 0.03 in one of four settings, nothing tells where it is."""

    def needle(s):
        return 1 + bowl(s) - math.exp(-abs(s[2] - 0.77) / 0.01)

    found = [search.minimise(needle, [np.full(4, 0.5)], max_evaluations=500, seed=seed) for seed in range(5)]
    assert sum(abs(f.settings[2] - 0.77) < 0.002 for f in found) >= 4


def test_overdrive_is_found_by_its_sound_alone(speech):
    effect, truth = effects.load("mda:Overdrive"), np.array([0.7, 0.35, 0.5])
    found = search.minimise(to_known_target(effect, speech, truth), [np.full(3, 0.5)], max_evaluations=200)
    np.testing.assert_allclose(found.settings[:2], truth[:2], atol=0.02)  # output is lost at one peak level
    assert found.value < 0.05


@pytest.mark.parametrize("seed, l_delay", [(0, 0.3), (1, 0.45), (2, 0.55)])
def test_a_delay_time_is_found_within_2_ms(speech, seed, l_delay):
    """The other tap is as short as can be, so that left and right cannot be taken for each other."""
    effect, truth = effects.load("mda:Delay"), np.array([l_delay, 0.0, 0.4, 0.5, 0.6, 0.5])
    objective = to_known_target(effect, speech, truth)
    found = search.minimise(objective, [np.full(6, 0.5)], max_evaluations=500, seed=seed)
    true_ms, found_ms = (delay_samples(*s[:2])[0] / RATE_HZ * 1000 for s in (truth, found.settings))
    assert abs(found_ms - true_ms) < 2


def test_a_start_that_cannot_be_bettered_is_returned():
    truth = np.array([0.3, 0.6, 0.3])
    found = search.minimise(bowl, [[0.5, 0.5, 0.5], truth], max_evaluations=60)
    np.testing.assert_array_equal(found.settings, truth)
    assert found.value == 0


@limits(max_examples=25, deadline=None)
@given(
    n_params=st.integers(1, 5),
    most=st.integers(1, 60),
    seed=st.integers(0, 99),
    workers=st.integers(1, 3),
)
def test_the_same_seed_finds_the_same_with_any_number_of_workers(n_params, most, seed, workers):
    tried = []

    def objective(settings):
        tried.append(settings)
        return math.nan if settings[0] > 0.8 else bowl(settings)

    found = search.minimise(objective, [np.full(n_params, 0.5)], max_evaluations=most, seed=seed, workers=workers)
    again = search.minimise(objective, [np.full(n_params, 0.5)], max_evaluations=most, seed=seed)
    assert found.evaluations == again.evaluations == most == len(tried) / 2
    np.testing.assert_array_equal(found.settings, again.settings)
    np.testing.assert_array_equal(found.trace, again.trace)
    assert np.all((np.array(tried) >= 0) & (np.array(tried) <= 1))
    assert np.all(np.diff(found.trace) <= 0) and found.trace[-1] == found.value == bowl(found.settings)


def test_other_seeds_try_other_points():
    one, other = (search.minimise(bowl, [[0.9, 0.9]], max_evaluations=40, seed=seed) for seed in (0, 1))
    assert not np.array_equal(one.trace, other.trace)


@pytest.mark.parametrize("workers", [1, 3])
def test_it_stops_in_time_and_says_how_long_it_took(workers):
    def slow(settings):
        time.sleep(0.05)
        return bowl(settings)

    began = time.monotonic()
    found = search.minimise(slow, [[0.5, 0.5]], budget_s=0.5, workers=workers)
    wall_s = time.monotonic() - began
    assert 0.3 < found.seconds <= wall_s < 0.9
    assert 5 <= found.evaluations <= 10 * workers


def test_a_budget_of_nearly_nothing_still_tries_the_first_start():
    found = search.minimise(bowl, [[0.1, 0.2], [0.3, 0.6]], budget_s=1e-9)
    assert found.evaluations == 1
    np.testing.assert_array_equal(found.settings, [0.1, 0.2])


def test_settings_without_a_finite_value_are_the_worst():
    found = search.minimise(lambda s: math.nan if s[0] < 0.9 else -math.inf, [[0.5]], max_evaluations=50)
    assert found.value == math.inf and found.evaluations == 50
    found = search.minimise(lambda s: math.nan if s[0] < 0.6 else float(s[0]), [[0.5]], max_evaluations=150)
    assert 0.6 <= found.settings[0] < 0.62


def test_an_effect_without_parameters_is_tried_once():
    found = search.minimise(lambda s: 2.0, [[]], max_evaluations=50)
    assert (found.settings.shape, found.value, found.evaluations) == ((0,), 2.0, 1)


@pytest.mark.parametrize("workers", [1, 2])
def test_ctrl_c_gives_what_was_found_until_then(workers):
    count = iter(range(10**6))

    def objective(settings):
        if next(count) == 20:
            raise KeyboardInterrupt
        return bowl(settings)

    found = search.minimise(objective, [[0.9, 0.9]], max_evaluations=500, workers=workers)
    assert found.interrupted and 1 <= found.evaluations <= 22
    assert found.value == bowl(found.settings) <= bowl(np.array([0.9, 0.9]))


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_of_the_objective_surfaces_and_no_thread_is_left(workers):
    def objective(settings):
        raise ZeroDivisionError("a bug")

    before = threading.active_count()
    with pytest.raises(ZeroDivisionError):
        search.minimise(objective, [[0.5]], max_evaluations=50, workers=workers)
    assert threading.active_count() == before


def test_progress_is_told_after_each_evaluation():
    told = []
    found = search.minimise(bowl, [[0.9]], max_evaluations=40, progress=lambda *both: told.append(both))
    shares, values = np.array(told).T
    np.testing.assert_allclose(shares, np.arange(1, 41) / 40)
    np.testing.assert_array_equal(values, found.trace)


@pytest.mark.parametrize(
    "starts, budget, message",
    [
        ([], {"max_evaluations": 5}, "at least one row of settings"),
        ([0.5], {"max_evaluations": 5}, "at least one row of settings"),
        ([[0.5], [1.5]], {"max_evaluations": 5}, r"a start is \[1.5\]: settings are in \[0, 1\]"),
        ([[math.nan]], {"max_evaluations": 5}, r"a start is \[nan\]"),
        ([[0.5]], {}, "needs a budget"),
        ([[0.5]], {"budget_s": 0}, "budget_s is 0: it must be above 0"),
        ([[0.5]], {"budget_s": math.nan}, "budget_s is nan"),
        ([[0.5]], {"max_evaluations": -1}, "max_evaluations is -1"),
        ([[0.5]], {"max_evaluations": 5, "workers": 0}, "workers is 0"),
    ],
)
def test_what_cannot_be_searched_is_refused(starts, budget, message):
    with pytest.raises(ValueError, match=message):
        search.minimise(bowl, starts, **budget)
