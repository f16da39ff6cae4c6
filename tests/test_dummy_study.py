"""The report's dummy experiment: what the sound alone teaches a fresh network, and what it cannot."""

import dataclasses

import numpy as np
import pytest

from vaefx_lib import blackbox, dummy_study, effects, passages, references

OVERDRIVE, DELAY = "mda:Overdrive", "mda:Delay"


@pytest.mark.parametrize("case", dummy_study.CASES, ids=lambda case: case.effect)
def test_the_sound_alone_teaches_settings_that_an_untrained_network_does_not_answer(
    trained_controller, controlled, case
):
    """The report's truth was 0.5, which every untrained network answers. No settings are shown."""
    given = {"learned": case.learned, "seeds": (0,)}
    found = dummy_study.dummy_settings(controlled, trained_controller, case.effect, case.settings, **given)
    steps = len(found["step"]) - 1
    assert found["error"].shape == (1, steps + 1, len(case.learned)) and found["loss"].shape == (1, steps)
    heard = np.array([name not in case.inaudible for name in case.learned])
    first, last = found["error"][0, 0], found["error"][0, -1]
    assert (first > 0.15).all()  # none is known
    assert (last[heard] < dummy_study.AIM).all()
    assert (last[~heard] > 0.1).all()  # the level is gone from what is heard, so nobody can know it
    assert dummy_study.steps_needed(found["error"][..., heard], dummy_study.AIM) <= steps


def test_settings_that_are_told_stand_at_the_truth(controlled, trained_controller):
    """An echo whose times are told is found; with one setting learned, nothing else is asked of the network."""
    found = dummy_study.dummy_settings(
        controlled, trained_controller, DELAY, (0.4, 0.2, 0.8, 0.2, 0.8, 0.2), learned=["fx_mix"], steps=30, seeds=(0,)
    )
    assert found["error"].shape == (1, 31, 1)
    assert found["loss"][0, -5:].mean() < 0.5 * found["loss"][0, :5].mean()
    assert found["error"][0, -1, 0] < found["error"][0, 0, 0] / 2


def test_seeds_differ_and_each_repeats(controlled, trained_controller):
    given = {"steps": 3, "learned": ["drive"]}
    one, two = (
        dummy_study.dummy_settings(controlled, trained_controller, OVERDRIVE, (0.2, 0.8, 0.2), seeds=seeds, **given)
        for seeds in ((0, 1), (1,))
    )
    assert not np.array_equal(one["error"][0], one["error"][1])
    np.testing.assert_array_equal(one["error"][1], two["error"][0])


def test_delays_that_change_places_are_the_same_sound(controlled):
    """So nobody can tell which of the two a reference had."""
    dry, delay = references.draw_dry(controlled, "valid", 1).sounds[0], effects.load(DELAY)
    one, other = (blackbox.wet(delay, dry, np.array(at), passages.RATE_HZ) for at in dummy_study.SWAPPED)
    np.testing.assert_array_equal(one, other)
    assert np.abs(np.subtract(*dummy_study.SWAPPED))[:2].min() > 0.1


def test_what_was_found_is_kept_until_the_case_or_the_controller_changes(
    controlled, trained_controller, tmp_path, monkeypatch
):
    calls = []

    def counted(preset, made, effect, settings, **given):
        calls.append(effect)
        return {"error": np.zeros((1, 2, 3)), "loss": np.zeros((1, 1)), "step": np.arange(2)}

    monkeypatch.setattr(dummy_study, "dummy_settings", counted)
    case = dummy_study.CASES[0]
    for _ in range(2):
        found = dummy_study.kept(tmp_path, controlled, trained_controller, case)
        assert found["error"].shape == (1, 2, 3)
    assert calls == [OVERDRIVE]
    dummy_study.kept(tmp_path, controlled, trained_controller, dataclasses.replace(case, settings=(0.8, 0.2, 0.8)))
    other = dataclasses.replace(trained_controller, about=trained_controller.about | {"fingerprint": "another"})
    dummy_study.kept(tmp_path, controlled, other, case)
    assert len(calls) == 3


@pytest.mark.parametrize(
    ("errors", "expected"),
    [
        ([[0.3, 0.2, 0.04, 0.06, 0.03]], 4),
        ([[0.3, 0.04, 0.04, 0.04, 0.03], [0.3, 0.2, 0.04, 0.04, 0.03]], 2),
        ([[0.3, 0.2, 0.2, 0.2, 0.06]], None),
        ([[0.01, 0.02]], 0),
    ],
)
def test_the_steps_needed_are_those_after_which_no_error_is_above_the_aim_again(errors, expected):
    assert dummy_study.steps_needed(np.array(errors)[..., None], 0.05) == expected


def test_a_study_of_what_is_not_there_is_refused(controlled, trained_controller):
    for effect, settings, learned, message in (
        ("mda:Nope", [0.5], None, "unknown effect 'mda:Nope'"),
        (OVERDRIVE, [0.5, 0.5], None, "they must be 3 numbers"),
        (OVERDRIVE, [0.5, 0.5, 1.2], None, "they must be 3 numbers"),
        (OVERDRIVE, [0.5] * 3, ["gain"], r"learned is \['gain'\]: it must be some of drive, muffle, output"),
        (OVERDRIVE, [0.5] * 3, [], r"learned is \[\]: it must be"),
    ):
        with pytest.raises(ValueError, match=message):
            dummy_study.dummy_settings(controlled, trained_controller, effect, settings, learned=learned)
