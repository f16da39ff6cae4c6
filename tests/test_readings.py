"""What is read off a space is what was put in: settings by straight lines, settings by bent ones, and nothing."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vaefx_lib import information, readings
from vaefx_lib.latent import Embedded

EFFECTS = np.array(["mda:Overdrive", "mda:Delay"] * 300)
DELAY = EFFECTS == "mda:Delay"


def embedded(seed, make):
    """600 clips at random settings; `make` gives the space "vae" from rng and settings (n, 6)."""
    rng = np.random.default_rng(seed)
    full = rng.uniform(size=(600, 6))
    none = np.zeros((0, 2), np.float32)
    kept = [row[: 6 if delay else 3] for row, delay in zip(full, DELAY)]
    return Embedded(make(rng, full), rng.normal(size=(600, 5)), none, none, none, EFFECTS, EFFECTS, kept)


def four(rng, full):
    """Setting 0 plainly in dimension 1 and, with noise, in 3; setting 1 bent in dimension 2; setting 2 nowhere."""
    plain, noisy = full[:, 0] + 5, full[:, 0] + rng.normal(size=600)
    return np.column_stack([rng.normal(size=600), plain, (full[:, 1] - 0.5) ** 2, noisy, rng.normal(size=600)])


TRAIN, TEST = embedded(0, four), embedded(1, four)


def asked(column, clips=TEST):
    """One setting of the Delay clips."""
    return np.array([clips.settings[i][column] for i in np.flatnonzero(DELAY)])


# --- regression -------------------------------------------------------------------------------------------------------
def test_a_reading_is_of_the_clips_of_its_effect_and_can_be_repeated():
    read = readings.read_settings(TRAIN, TEST, "vae")
    assert list(read) == ["mda:Delay", "mda:Overdrive"]
    delay = read["mda:Delay"]
    assert delay.rows.tolist() == np.flatnonzero(DELAY).tolist()
    assert np.array_equal(delay.asked, np.stack([TEST.settings[i] for i in delay.rows]))
    assert delay.regression.predict(TEST.vae[delay.rows]) == pytest.approx(delay.guessed)
    assert readings.r2(delay)["l_delay"] > 0.97 and readings.r2(delay)["output"] < 0.05


def test_r2_where_audible_counts_those_clips_alone_and_too_few_give_none():
    names = ("a", "b", "c")
    rng = np.random.default_rng(0)
    asked = rng.uniform(size=(100, 3))
    heard = np.zeros((200, 6), bool)
    rows = np.arange(1, 200, 2)
    heard[rows[:40], 0] = heard[rows[:9], 1] = heard[rows, 2] = True
    guessed = np.where(heard[rows, :3], asked, 1 - asked)  # right where audible, and wrong elsewhere
    reading = readings.Reading(names, rows, asked, guessed, None)
    assert readings.r2(reading, heard) == {"a": 1.0, "c": 1.0}
    everywhere = readings.r2(reading)
    assert list(everywhere) == list(names)
    assert everywhere["a"] < 0 and everywhere["b"] < everywhere["a"]
    constant = readings.Reading(names, rows, asked, np.tile(asked[:40].mean(axis=0), (100, 1)), None)
    assert readings.r2(constant, heard)["a"] == pytest.approx(0, abs=1e-12)  # against the mean of those very clips


def test_one_dimension_alone_gives_what_a_straight_line_through_it_gives():
    alone = readings.alone_r2(TRAIN, TEST, "vae")["mda:Delay"]
    assert list(alone) == ["l_delay", "r_delay", "feedback", "fb_tone", "fx_mix", "output"]
    known, wanted = asked(0, TRAIN), asked(0)
    for d in range(5):
        error = np.polyval(np.polyfit(TRAIN.vae[DELAY, d], known, 1), TEST.vae[DELAY, d]) - wanted
        expected = 1 - np.square(error).mean() / wanted.var()
        assert alone["l_delay"][d] == pytest.approx(expected, abs=1e-6)
    assert alone["l_delay"].argmax() == 1 and alone["l_delay"][1] > 0.999
    assert alone["output"].max() < 0.05


def test_a_dead_dimension_says_nothing_and_is_no_error():
    dead = embedded(0, lambda rng, full: np.zeros((600, 3)))
    assert readings.alone_r2(dead, dead, "vae")["mda:Delay"]["fx_mix"] == pytest.approx(0, abs=1e-9)


def test_the_settings_that_change_most_along_a_path_come_first():
    read = readings.read_settings(TRAIN, TEST, "vae")["mda:Delay"]
    path = np.tile(TEST.vae[read.rows[0]], (3, 1))
    path[:, 1] = [5.1, 5.5, 5.9]
    said = readings.along(read, path)
    assert len(said) == 2 and next(iter(said)) == "l_delay"
    assert said["l_delay"] == pytest.approx((0.1, 0.9), abs=0.05)


# --- mutual information -----------------------------------------------------------------------------------------------
@settings(max_examples=10, deadline=None)
@given(st.floats(0.3, 0.95), st.integers(0, 100))
def test_mutual_information_of_two_normal_numbers_is_that_of_their_correlation(rho, seed):
    x, noise = np.random.default_rng(seed).normal(size=(2, 2000))
    y = rho * x + np.sqrt(1 - rho**2) * noise
    assert information.mutual_information(x, y) == pytest.approx(-0.5 * np.log(1 - rho**2), abs=0.12)


def test_mutual_information_sees_bent_relations_and_nothing_where_there_is_nothing():
    x, other = np.random.default_rng(0).uniform(-1, 1, size=(2, 1000))
    assert abs(np.corrcoef(x, x**2)[0, 1]) < 0.1
    assert information.mutual_information(x**2, x) > 2
    assert information.mutual_information(other, x) < 0.1


def test_the_best_dimension_is_found_with_its_gap_and_a_setting_that_is_nowhere_has_none():
    found = information.best_dimensions(TRAIN, TEST, "vae")["mda:Delay"]
    plain, bent, absent = (found[name] for name in ("l_delay", "r_delay", "feedback"))
    assert plain["dimension"] == 1 and bent["dimension"] == 2
    assert plain["nats"] > 2 and bent["nats"] > 1
    second = information.mutual_information(TEST.vae[DELAY, 3], asked(0))
    assert plain["gap"] == pytest.approx(plain["nats"] - second)
    assert max(absent["nats"], absent["gap"]) < 0.15


def test_choosing_among_many_dimensions_of_noise_finds_nothing():
    noise = [embedded(seed, lambda rng, full: rng.normal(size=(600, 200))) for seed in (0, 1)]
    found = information.best_dimensions(*noise, "vae")
    nats = [one["nats"] for params in found.values() for one in params.values()]
    assert np.mean(nats) < 0.05  # the best of 200 on the scored clips themselves would be above


def test_information_of_the_whole_space_is_above_chance_for_what_it_knows_alone():
    read = readings.read_settings(TRAIN, TEST, "vae")
    known, chance = (information.settings_information(read, shuffled=s)["mda:Overdrive"] for s in (False, True))
    assert known["drive"] > 1.5 and chance["drive"] < 0.1
    assert known["output"] < 0.15 and chance["output"] < 0.1


# --- tables and walks -------------------------------------------------------------------------------------------------
def test_a_table_has_a_row_per_setting_the_share_in_its_name_and_gaps_where_nothing_is_known():
    share = {"mda:Delay": {"fx_mix": 0.5, "output": 0.0}}
    columns = {"VAE": {"mda:Delay": {"fx_mix": 0.8}}, "best": {"mda:Delay": {"fx_mix": {"nats": 0.3, "gap": 0.1}}}}
    assert readings.by_setting(columns, share) == {
        "Delay fx_mix (50%)": {"VAE": 0.8, "best": 0.3},
        "Delay output (0%)": {},
    }
    assert list(readings.by_setting(columns)) == ["Delay fx_mix"]


def test_a_walk_moves_the_two_most_telling_dimensions_of_a_clip_by_deviations_of_the_training_clips():
    best = information.best_dimensions(TRAIN, TEST, "vae")
    clips = {"mda:Delay": 7, "mda:Overdrive": 8}
    found = readings.walks(TRAIN, TEST, "vae", best, clips, (-2, 0, 2))
    assert found.keys() == clips.keys()
    for effect, (dimensions, path) in found.items():
        assert sorted(dimensions) == [1, 2] and path.shape == (2, 3, 5)
        assert path[:, 1] == pytest.approx(np.tile(TEST.vae[clips[effect]], (2, 1)), abs=1e-6)
        for d, row in zip(dimensions, path):
            moved = np.zeros(5)
            moved[d] = 2 * TRAIN.vae[:, d].std()
            assert row[2] - row[1] == pytest.approx(moved, abs=1e-5)
            assert row[1] - row[0] == pytest.approx(moved, abs=1e-5)
