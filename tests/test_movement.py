"""Effects that move by themselves: what they do to noise is found in speech, at the right settings and only there."""

import dataclasses

import numpy as np
import pytest

from vaefx_lib import blackbox, candidates, controller, effects, movement, movement_likeness, movements, passages

RATE_HZ = passages.RATE_HZ
COUNT = 1024


def flanger(audio, sample_rate_hz, *, rate=0.5, delay=0.5, level=0.5):
    """A copy that comes 2 to 10 ms late, now 1.5 ms more and now less, once in 1 to 4 s."""
    dry = np.atleast_2d(audio)
    n = np.arange(dry.shape[1])
    turn = np.sin(2 * np.pi * (0.25 + 0.75 * rate) * n / sample_rate_hz)
    late_s = 0.002 + 0.008 * delay + 0.0015 * turn
    at = np.maximum(0, n - np.rint(late_s * sample_rate_hz).astype(int))
    return (dry + (0.5 + 0.4 * level) * dry[:, at]).astype(np.float32)


FLANGER = effects.Effect(
    "test:Flanger", tuple(effects.Param(name, "", 0, 1, 0.5) for name in ("rate", "delay", "level")), flanger
)


@pytest.fixture(scope="module")
def deviations(spoken_passages):
    return movement.spread(spoken_passages[:6])


@pytest.fixture(scope="module")
def known(deviations):
    return movements.movements(FLANGER, COUNT, deviations, seed=0)


def likeness(sounds, known):
    return movement_likeness.MovementLikeness(sounds, FLANGER, known)


def flanged(sound, settings):
    return blackbox.wet(FLANGER, sound, np.array(settings), RATE_HZ)


def test_settings_on_which_a_movement_depends_are_told_from_those_that_make_it_larger(known):
    assert known.moving.tolist() == [0, 1]
    assert known.settings.shape == (COUNT, 3) and known.at.shape == known.heights.shape == (COUNT, 3, 256)


@pytest.mark.parametrize("name", ["mda:Delay", "mda:Overdrive", "pedalboard:Reverb", "pedalboard:Compressor"])
def test_an_effect_that_does_not_move_by_itself_has_no_movements(deviations, name):
    found = movements.movements(effects.load(name), 100_000, deviations, seed=0)
    assert found.settings.shape == (0, len(effects.load(name).params)) and found.at.shape == (0, 3, 256)


@pytest.mark.parametrize("name", ["pedalboard:Chorus", "pedalboard:Phaser"])
def test_chorus_and_phaser_move_at_their_rate(deviations, name):
    effect = effects.load(name)
    found = movements.movements(effect, 1, deviations, seed=0)
    assert "rate_hz" in {effect.params[k].name for k in found.moving}


@pytest.mark.parametrize("which", [6, 7])
def test_the_movement_is_evident_at_the_true_settings_and_at_no_others(spoken_passages, known, which):
    settings = np.array([0.3, 0.7, 0.5])
    wanted = likeness([flanged(spoken_passages[which], settings)], known)
    others = np.random.default_rng(0).uniform(size=(20, 3))
    others = others[np.abs(others - settings)[:, :2].max(axis=1) > 0.1]
    assert wanted.evidence(settings) > 10 * max(movement_likeness.LEAST, *map(wanted.evidence, others))
    assert wanted.unlike(settings) < 0.3 and min(map(wanted.unlike, others)) > 0.5


@pytest.mark.parametrize("settings", [(0.2, 0.3, 0.5), (0.5, 0.8, 0.9), (0.9, 0.5, 0.7)])
def test_rate_and_delay_are_found_in_speech(spoken_passages, known, settings):
    wanted = likeness([flanged(spoken_passages[7], settings)], known)
    found = wanted.propose(seed=0)
    assert np.abs(found[0, :2] - settings[:2]).max() < 0.02
    np.testing.assert_array_equal(wanted.propose(seed=0), found)
    assert 1 <= len(found) <= 4 and ((found >= 0) & (found <= 1)).all()


def test_in_speech_that_does_not_move_nothing_is_evident(spoken_passages, known):
    delayed = blackbox.wet(effects.load("mda:Delay"), spoken_passages[6], np.full(6, 0.5), RATE_HZ)
    for sound in (spoken_passages[6], spoken_passages[7], delayed):
        wanted = likeness([sound], known)
        assert wanted.propose(seed=0).shape == (0, 3) and wanted.unlike(np.full(3, 0.5)) == 1


def test_of_several_passages_the_one_that_begins_with_the_effect_tells(spoken_passages, known):
    settings = np.array([0.6, 0.4, 0.5])
    wet = flanged(spoken_passages[6], settings)
    both = likeness([spoken_passages[7], wet], known)
    assert both.evidence(settings) == likeness([wet], known).evidence(settings)
    assert np.abs(both.propose(seed=0)[0, :2] - settings[:2]).max() < 0.02


@pytest.mark.parametrize("seconds", [0.2, 0.5, 3.0])
def test_a_short_reference_is_looked_at_as_far_as_it_goes(spoken_passages, known, seconds):
    settings = np.array([0.9, 0.5, 0.5])
    wet = flanged(spoken_passages[6], settings)
    short = likeness([wet[: round(seconds * RATE_HZ)]], known)
    assert 0 <= short.evidence(settings) < likeness([wet], known).evidence(settings)
    assert len(short.propose(seed=0)) <= 4


def test_a_match_moves_as_the_reference_does(spoken_passages, known, trained_controller):
    settings, dry = np.array([0.5, 0.8, 0.9]), spoken_passages[6]
    knowing = dataclasses.replace(trained_controller, movements={FLANGER.name: known})
    found = []
    for of in (knowing, trained_controller):
        task = candidates.Task([dry], RATE_HZ, [flanged(spoken_passages[7], settings)], RATE_HZ, of)
        proposals = task.proposals(FLANGER, count=12)
        found.append(task.refine(FLANGER, proposals, evaluations=40, workers=1).settings)
    assert np.abs(found[0] - settings)[:2].max() < 0.02 < np.abs(found[1] - settings)[:2].max()


def test_movements_are_kept_with_a_controller(tmp_path, known, trained_controller):
    name = trained_controller.effects[0]
    made = dataclasses.replace(known, effect=name)
    made = dataclasses.replace(trained_controller, movements=trained_controller.movements | {name: made})
    tables = {name: {"epoch": np.arange(2)} for name in controller.TABLES}
    controller.save_controller(tmp_path, made, tables, "key")
    loaded = controller.load(tmp_path, made.run).movements
    assert all(not len(loaded[other].settings) for other in made.effects[1:])
    for field in movements.ARRAYS:
        np.testing.assert_array_equal(getattr(loaded[name], field), getattr(known, field))


def test_the_level_has_no_influence(spoken_passages, known):
    settings = np.array([0.5, 0.5, 0.5])
    wet = flanged(spoken_passages[6], settings)
    assert likeness([wet / 8], known).evidence(settings) == pytest.approx(likeness([wet], known).evidence(settings))


def test_bad_input_is_named(known, deviations, spoken_passages):
    with pytest.raises(ValueError, match="count is 0"):
        movements.movements(FLANGER, 0, deviations, seed=0)
    with pytest.raises(ValueError, match="of test:Other, not of test:Flanger"):
        likeness([spoken_passages[6]], dataclasses.replace(known, effect="test:Other"))
