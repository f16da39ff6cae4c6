"""The settings to answer with: the least expected distance over what is likely, and a search that only improves it."""

import math
import threading
import time

import numpy as np
import pytest

from vaefx_lib import (
    blackbox,
    candidates,
    critic,
    effects,
    passages,
    references,
    refining,
    style,
)
from vaefx_lib.stft_distance import spectra

RATE_HZ = passages.RATE_HZ
OVERDRIVE = effects.load("mda:Overdrive")
TRUTH = np.array([0.8, 0.3, 0.5])


@pytest.fixture(scope="module")
def sounds(tiny):
    """Of two unseen voices, and of full length."""
    return references.draw_dry(tiny, "test", 2, seed=2).sounds


@pytest.fixture(scope="module")
def dry(sounds):
    return sounds[0][: 2 * RATE_HZ]


@pytest.fixture(scope="module")
def hear(dry):
    return lambda settings: blackbox.wet(OVERDRIVE, dry, settings, RATE_HZ)


@pytest.fixture(scope="module")
def knowing(hear):
    """A judge that knows the truth, and sets what is far from it further off than the critic would."""
    return lambda settings: 2 * distance(hear(TRUTH), hear(settings))


def distance(truth, other):
    return spectra(truth, refining.WINDOWS).distance(spectra(other, refining.WINDOWS))


def spread(n, seed=0):
    return np.random.default_rng(seed).uniform(size=(n, 3))


def refine(judge, hear, proposals, dry, **given):
    return refining.refine(judge, hear, np.asarray(proposals), dry, **({"workers": 1} | given))


# --- the answer -------------------------------------------------------------------------------------------------------
def test_with_a_judge_that_knows_the_truth_the_answer_is_the_truth(dry, hear, knowing):
    proposals = np.insert(spread(30), 17, TRUTH, axis=0)
    found = refine(knowing, hear, proposals, dry)
    np.testing.assert_array_equal(found.settings, TRUTH)
    assert found.expected < 0.2 * found.expected_dry
    assert found.evaluations == 31 and not found.interrupted and found.seconds > 0


@pytest.mark.parametrize("more", [4, 7])
def test_of_two_clusters_as_likely_the_answer_has_the_least_mean_distance(dry, hear, more):
    """Brute force over all pairs; with more in one cluster it lies there, since from there most is near."""
    rng = np.random.default_rng(more)
    clusters = [
        np.clip(at + 0.04 * rng.normal(size=(n, 3)), 0, 1) for at, n in (([0.8, 0.2, 0.5], 5), ([0.1, 0.8, 0.5], more))
    ]
    proposals = rng.permutation(np.concatenate(clusters))
    heard = [hear(settings) for settings in proposals]
    mean = [np.mean([distance(truth, answer) for truth in heard]) for answer in heard]
    found = refine(lambda settings: 0.7, hear, proposals, dry)
    np.testing.assert_array_equal(found.settings, proposals[np.argmin(mean)])
    assert found.expected == pytest.approx(min(mean), rel=1e-6)
    assert found.expected_dry == pytest.approx(np.mean([distance(truth, dry) for truth in heard]), rel=1e-6)
    assert (found.settings[0] > 0.5) == (more < 5)


def test_what_is_expected_is_a_mean_weighed_by_what_the_critic_says(dry, hear):
    """So much more as the temperature counts 1/e, and the answer need not be what it says most of."""
    proposals, said = spread(8, seed=3), np.array([0.5, 0.45, 0.62, 0.9, 0.41, 0.55, 0.5, 0.47])
    weights = np.exp(-said / refining.TEMPERATURE)
    weights /= weights.sum()
    heard = [hear(settings) for settings in proposals]
    expected = weights @ [[distance(truth, answer) for answer in (*heard, dry)] for truth in heard]
    answers = dict(zip(map(bytes, proposals), said))
    found = refine(lambda settings: answers[bytes(settings)], hear, proposals, dry)
    np.testing.assert_array_equal(found.settings, proposals[expected[:-1].argmin()])
    assert (found.expected, found.expected_dry) == pytest.approx((expected[:-1].min(), expected[-1]), rel=1e-6)


def test_only_the_likeliest_samples_count(dry, hear, monkeypatch):
    monkeypatch.setattr(refining, "LIKELY", 3)
    proposals = spread(12, seed=1)
    said = {bytes(settings): value for settings, value in zip(proposals, np.arange(12) % 5)}  # 0 three times
    found = refine(lambda settings: float(said[bytes(settings)]), hear, proposals, dry)
    heard = [hear(settings) for settings in proposals[::5]]
    assert found.expected_dry == pytest.approx(np.mean([distance(truth, dry) for truth in heard]), rel=1e-6)
    assert any(np.array_equal(found.settings, settings) for settings in proposals[::5])


# --- the search -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("seed", range(3))
def test_a_search_never_makes_what_is_expected_worse_and_mostly_better(dry, hear, knowing, seed):
    proposals = spread(12, seed=seed)
    before = refine(knowing, hear, proposals, dry)
    after = refine(knowing, hear, proposals, dry, evaluations=60, seed=seed)
    assert after.expected <= before.expected and after.expected_dry == before.expected_dry
    assert ((after.settings >= 0) & (after.settings <= 1)).all()


def test_a_search_goes_where_no_proposal_was(dry, hear, knowing):
    """What is likely is among the proposals, but the answer need not be."""
    proposals = np.insert(spread(40)[:, :1].repeat(3, axis=1), 1, TRUTH + 0.1, axis=0)
    before, after = (refine(knowing, hear, proposals, dry, evaluations=n) for n in (None, 150))
    assert after.expected < before.expected
    assert np.abs(proposals - after.settings).max(1).min() > 0.01


@pytest.mark.parametrize("evaluations", [1, 5, 12, 13, 20, 55])
def test_no_more_is_tried_than_was_allowed(dry, hear, knowing, evaluations):
    tried = []
    found = refine(
        lambda settings: tried.append(1) or knowing(settings), hear, spread(12), dry, evaluations=evaluations
    )
    assert len(tried) == min(12, math.ceil(refining.TRIED_FIRST * evaluations)) and found.evaluations == evaluations


def test_a_search_ends_in_time_with_far_more_proposals_than_it_has_time_for(dry, hear):
    """Each takes 10 ms, and two seconds are given: six would be needed for the proposals alone."""
    began, told = time.monotonic(), []

    def judge(settings):
        time.sleep(0.01)
        return float(settings[0])

    found = refine(
        judge, hear, spread(600), dry, budget_s=2.0, progress=lambda share, value: told.append((share, value))
    )
    assert 1.5 < time.monotonic() - began < 4
    assert refining.QUICK < found.evaluations < 600
    shares = [share for share, _ in told]
    assert shares == sorted(shares) and 0 < shares[0] and shares[-1] <= 1 + 1e-9
    assert all(np.isfinite(value) for _, value in told)


def test_some_proposals_are_judged_whatever_the_budget(dry, hear, knowing):
    found = refine(knowing, hear, np.concatenate([[TRUTH], spread(50)]), dry, budget_s=1e-6)
    assert refining.QUICK <= found.evaluations <= refining.QUICK + 2 and found.expected < found.expected_dry
    np.testing.assert_array_equal(found.settings, TRUTH)


def test_the_answer_is_the_same_with_one_worker_and_with_two(dry, hear, knowing):
    one, again, two = (
        refine(knowing, hear, spread(30), dry, evaluations=50, seed=4, workers=workers) for workers in (1, 1, 2)
    )
    for other in (again, two):
        np.testing.assert_array_equal(one.settings, other.settings)
        assert (one.expected, one.expected_dry, one.evaluations) == (
            other.expected,
            other.expected_dry,
            other.evaluations,
        )


def test_another_seed_searches_elsewhere(dry, hear):
    one, other = (refine(lambda s: 0.5, hear, spread(12), dry, evaluations=60, seed=seed) for seed in (0, 1))
    assert not np.array_equal(one.settings, other.settings)


# --- what is of no use ------------------------------------------------------------------------------------------------
def test_settings_of_no_use_are_passed_over(dry, hear, knowing):
    """Also by the search: where the first one is above a half, nothing comes out."""

    def judge(settings):
        return np.inf if settings[0] > 0.5 else knowing(settings)

    def heard(settings):
        return None if settings[0] > 0.5 else hear(settings)

    proposals = np.concatenate([[TRUTH], spread(25)])
    with_them = refine(judge, heard, proposals, dry)
    without = refine(judge, heard, proposals[proposals[:, 0] <= 0.5], dry)
    np.testing.assert_array_equal(with_them.settings, without.settings)
    assert (with_them.expected, with_them.expected_dry) == (without.expected, without.expected_dry)
    found = refine(judge, heard, proposals, dry, evaluations=80)
    assert found.settings[0] <= 0.5 and np.isfinite(found.expected)


def test_what_is_judged_but_cannot_be_heard_is_passed_over(dry, hear, knowing):
    """Several passages are judged together, and the first of them may be silent."""
    proposals = np.concatenate([[TRUTH], spread(10)])

    def heard(settings):
        return None if np.array_equal(settings, TRUTH) else hear(settings)

    found, without = refine(knowing, heard, proposals, dry), refine(knowing, hear, proposals[1:], dry)
    np.testing.assert_array_equal(found.settings, without.settings)
    assert (found.expected, found.expected_dry) == (without.expected, without.expected_dry)
    assert refine(knowing, lambda settings: None, proposals, dry).expected == np.inf


def test_if_all_are_of_no_use_nothing_is_expected_of_any(dry, hear):
    found = refine(lambda settings: np.inf, lambda settings: None, spread(30), dry, evaluations=60)
    assert found.expected == found.expected_dry == np.inf
    assert found.evaluations == 30 and found.settings.shape == (3,)


# --- Ctrl-C -----------------------------------------------------------------------------------------------------------
def interrupting(function, at):
    """The function, during whose call of this number Ctrl-C is pressed."""
    calls, lock = [], threading.Lock()

    def called(settings):
        with lock:
            calls.append(1)
            if len(calls) == at:
                raise KeyboardInterrupt
        return function(settings)

    return called


def test_interrupted_among_the_proposals_it_answers_with_those_that_were_judged(dry, hear, knowing):
    proposals = np.concatenate([spread(5), [TRUTH], spread(60, seed=1)])
    found = refine(interrupting(knowing, 40), hear, proposals, dry, budget_s=60)
    assert found.interrupted and found.evaluations == refining.QUICK
    np.testing.assert_array_equal(found.settings, TRUTH)


def test_interrupted_before_anything_is_judged_there_is_no_answer(dry, hear, knowing):
    with pytest.raises(KeyboardInterrupt):
        refine(interrupting(knowing, 3), hear, spread(50), dry)


def test_interrupted_in_its_search_it_keeps_the_best(dry, hear, knowing):
    proposals = spread(12)
    before = refine(knowing, hear, proposals, dry)
    found = refine(knowing, interrupting(hear, 12 + 20), proposals, dry, evaluations=500)
    assert found.interrupted and 12 < found.evaluations < 60
    assert found.expected <= before.expected


# --- variations -------------------------------------------------------------------------------------------------------
def test_varied_it_comes_nearer_to_the_truth_than_by_as_many_proposals(dry, hear, knowing):
    """Three settings, of which none of the proposals is near the truth."""
    for seed in range(3):
        proposals = spread(250, seed=seed)
        found, of_proposals = (
            refine(knowing, hear, given, dry, seed=seed, **more)
            for given, more in ((proposals, {"varied": True, "evaluations": 200}), (proposals[:200], {}))
        )
        assert found.evaluations == 200 == of_proposals.evaluations
        assert knowing(found.settings) < 0.5 * knowing(of_proposals.settings)
        assert ((found.settings >= 0) & (found.settings <= 1)).all()


@pytest.mark.parametrize(
    "given, tried", [({"evaluations": 1}, 1), ({"evaluations": 30}, 30), ({"evaluations": 90}, 90)]
)
def test_varied_it_judges_the_first_proposals_and_as_much_as_is_allowed(dry, hear, knowing, given, tried):
    proposals, judged = spread(60), []
    found = refine(
        lambda settings: judged.append(settings) or knowing(settings), hear, proposals, dry, varied=True, **given
    )
    assert len(judged) == tried == found.evaluations
    first = min(tried, 48 if tried == 90 else refining.QUICK)  # half of it, 24 at a time
    np.testing.assert_array_equal(judged[:first], proposals[:first])
    assert not any((settings == proposals).all(1).any() for settings in judged[first:])


def test_varied_it_ends_in_time(dry, hear):
    """With fewer proposals than it has time for, which takes it to its variations."""
    began, told = time.monotonic(), []

    def judge(settings):
        time.sleep(0.01)
        return float(settings[0])

    progress = lambda share, value: told.append((share, value))  # noqa: E731
    found = refine(judge, hear, spread(5), dry, varied=True, budget_s=2.0, progress=progress)
    assert 1.5 < time.monotonic() - began < 4 and found.evaluations > 50
    shares, values = zip(*told)
    assert list(shares) == sorted(shares) and shares[-1] <= 1 + 1e-9
    assert found.settings[0] < 0.01 and min(values) <= min(row[0] for row in spread(5))


@pytest.mark.parametrize("explains", [True, False])
def test_variations_are_left_out_if_the_best_of_all_does_not_explain_the_reference(dry, hear, knowing, explains):
    proposals, asked = spread(250), []
    told = lambda settings: asked.append(settings) or explains  # noqa: E731
    found = refine(knowing, hear, proposals, dry, varied=True, evaluations=200, explains=told)
    judged = [knowing(row) for row in proposals]
    assert found.evaluations == 200 and len(asked) == 1 and knowing(asked[0]) < min(judged)
    assert (knowing(found.settings) < min(judged)) == explains
    assert (proposals == found.settings).all(axis=1).any() != explains


def test_without_a_budget_the_proposals_are_judged_and_none_is_varied(dry, hear, knowing):
    found, of_proposals = (refine(knowing, hear, spread(40), dry, varied=varied) for varied in (True, False))
    np.testing.assert_array_equal(found.settings, of_proposals.settings)
    assert found.evaluations == of_proposals.evaluations == 40


def test_varied_it_finds_the_same_again_and_with_two_workers(dry, hear, knowing):
    one, again, two, other = (
        refine(knowing, hear, spread(40), dry, varied=True, evaluations=80, workers=workers, seed=seed).settings
        for workers, seed in ((1, 0), (1, 0), (2, 0), (1, 1))
    )
    np.testing.assert_array_equal(one, again)
    np.testing.assert_array_equal(one, two)
    assert not np.array_equal(one, other)


# --- a task -----------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def task(trained_controller, sounds):
    reference = blackbox.wet(OVERDRIVE, sounds[1], TRUTH, RATE_HZ)
    return candidates.Task([sounds[0]], RATE_HZ, [reference], RATE_HZ, trained_controller)


def test_the_distance_of_a_task_is_what_the_critic_says_of_the_sound(task, sounds, trained_controller):
    reference = blackbox.wet(OVERDRIVE, sounds[1], TRUTH, RATE_HZ)
    judge = critic.load().judge(style.measure(reference), style.measure(sounds[0]))
    wet = blackbox.wet(OVERDRIVE, sounds[0], TRUTH, RATE_HZ)
    assert task.distance(OVERDRIVE, TRUTH, RATE_HZ) == pytest.approx(judge(style.measure(wet))[0], rel=1e-3)
    assert task.baseline_distance == pytest.approx(judge(style.measure(sounds[0]))[0], rel=1e-3)


def test_a_candidate_is_expected_to_be_nearer_than_dry_and_is_judged_as_its_sound(task):
    proposals = np.concatenate([[TRUTH], spread(20)])
    found = task.refine(OVERDRIVE, proposals, evaluations=40, seed=0, workers=1)
    assert found.effect is OVERDRIVE and found.refined.evaluations == 40
    assert found.distance == task.distance(OVERDRIVE, found.settings, RATE_HZ) < task.baseline_distance
    np.testing.assert_array_equal(found.settings, found.refined.settings)  # at 24 kHz nothing is translated
    assert found.refined.expected < found.refined.expected_dry


class Stub:
    """An effect that gives nothing, or only fails."""

    name, params = "stub", OVERDRIVE.params

    def __init__(self, error=None):
        self.error = error

    def render(self, sound, settings, sample_rate):
        if self.error:
            raise self.error
        return np.zeros((1, len(sound)), np.float32)


def test_an_effect_that_is_silent_everywhere_is_infinitely_far(task):
    found = task.refine(Stub(), spread(3), workers=1)
    assert found.distance == found.refined.expected == np.inf


def test_an_effect_that_fails_everywhere_is_said_to_have_failed(task):
    with pytest.raises(effects.EffectFailed, match="it gave up"):
        task.refine(Stub(effects.EffectFailed("it gave up")), spread(3), workers=1)
