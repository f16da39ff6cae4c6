"""Scores of matches: what a case is, what each answer is worth, and that the best is the best."""

import dataclasses
import math

import numpy as np
import pytest
from conftest import answering

from vaefx_lib import (
    audio,
    blackbox,
    candidates,
    config,
    corpora,
    corpus_split,
    dry_clips,
    effects,
    match_answers,
    match_cases,
    match_scores,
    metrics,
    pairs,
    refining,
)
from vaefx_lib.passages import RATE_HZ, SAMPLES

OVERDRIVE = "mda:Overdrive"


@pytest.fixture(scope="module")
def speakers():
    """The unseen speakers of the embedded speech."""
    return match_cases.unseen("speech", config.preset("smoke"))


@pytest.fixture(scope="module")
def case(speakers):
    return match_cases.draw(speakers, OVERDRIVE, index=1, seed=3)


@pytest.fixture
def settled(trained_controller):
    """A controller with one answer to everything, of which it expects something."""
    return answering(trained_controller, (0.9, 0.2, 0.5), gain=1.0)


def score(speakers, controller, **given):
    given = {"n": 2, "seed": 1, "speech": False, "progress": False, "workers": 1} | given
    return match_scores.score(controller, OVERDRIVE, speakers, **given)


def music(folder, seconds, pieces=1):
    """A corpus of noise whose loudness says where it is: one recording for each piece."""
    for piece in range(pieces):
        (folder / f"piece{piece}").mkdir(parents=True)
        t = np.arange(int(seconds * RATE_HZ)) / RATE_HZ
        noise = np.random.default_rng(piece).uniform(-1, 1, t.size)
        audio.save(folder / f"piece{piece}" / "all.wav", (0.1 + 0.8 * t / t[-1]) * noise, RATE_HZ)
    return pairs.by_speaker(corpora.load(f"folder:{folder}"))


# --- cases ------------------------------------------------------------------------------------------------------------
def test_the_target_is_the_input_at_the_settings_of_the_reference(case):
    wet = blackbox.wet(effects.load(OVERDRIVE), case.dry, case.settings, RATE_HZ)
    np.testing.assert_array_equal(wet, case.target)
    for sound in (case.dry, case.reference, case.target):
        assert sound.shape == (SAMPLES,) and sound.dtype == np.float32
        assert np.abs(sound).max() == pytest.approx(10 ** (-12 / 20), rel=1e-5)


def test_a_case_depends_on_its_number_and_the_seed_alone(speakers, case):
    again = match_cases.draw(speakers, OVERDRIVE, index=1, seed=3)
    for name in ("dry", "reference", "settings"):
        np.testing.assert_array_equal(getattr(again, name), getattr(case, name))
    for index, seed in ((2, 3), (1, 4)):
        other = match_cases.draw(speakers, OVERDRIVE, index=index, seed=seed)
        assert not np.array_equal(other.settings, case.settings)
        assert not np.array_equal(other.dry, case.dry)


def test_speakers_are_the_same_in_every_other_case_and_none_was_heard_in_training(speakers):
    assert set(speakers) == set(corpus_split.UNSEEN_SPEAKERS)
    cases = [match_cases.draw(speakers, OVERDRIVE, index=i) for i in range(6)]
    assert [case.same_speaker for case in cases] == [True, False] * 3
    assert len({speaker for case in cases for speaker in case.speakers}) > 2


def test_input_and_reference_share_no_sentence(speakers, monkeypatch):
    drawn, draw_clip = [], dry_clips.draw_clip

    def noted(rng, utterances, *rest):
        texts = {u.utterance_id: u.text for u in utterances}
        clip, ids, offset = draw_clip(rng, utterances, *rest)
        drawn.append({texts[i] for i in ids})
        return clip, ids, offset

    monkeypatch.setattr(dry_clips, "draw_clip", noted)
    for index in range(20):
        drawn.clear()
        match_cases.draw(speakers, OVERDRIVE, index=index)
        assert drawn[-2] and drawn[-1] and not drawn[-2] & drawn[-1]


@pytest.mark.parametrize("seconds", [11, 40])
def test_a_single_recording_gives_two_stretches_that_do_not_overlap(tmp_path, seconds):
    speakers = music(tmp_path, seconds)
    for index in range(4):
        case = match_cases.draw(speakers, "pedalboard:Distortion", index=index)
        assert case.same_speaker
        assert likeness(case.dry, case.target) > 0.5
        assert likeness(case.dry, case.reference) < 0.03


def likeness(a, b):
    """The largest cross-correlation of two sounds at any shift; of noise, the share that they have in common."""
    spectrum = np.fft.rfft(a, 2 * a.size) * np.conj(np.fft.rfft(b, 2 * a.size))
    return np.abs(np.fft.irfft(spectrum)).max() / np.sqrt(np.square(a).sum() * np.square(b).sum())


def test_a_recording_without_room_for_two_passages_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no usable case 0 in 100 draws; .* only recording of piece0 is too short"):
        match_cases.draw(music(tmp_path, 9), OVERDRIVE, index=0)


def test_a_case_in_which_nothing_changes_is_drawn_again(speakers, monkeypatch):
    def unchanged():  # some settings of this one leave a soft sound alone
        cases = [match_cases.draw(speakers, "pedalboard:Compressor", index=index) for index in range(8)]
        return sum(np.abs(case.target - case.dry).max() < 1e-3 * np.abs(case.dry).max() for case in cases)

    assert unchanged() == 0
    monkeypatch.setattr(pairs, "UNCHANGED", 0)
    assert unchanged() > 0


def test_speakers_of_the_training_are_left_out_of_any_corpus(tmp_path, capsys):
    smoke = config.preset("smoke")
    own = dataclasses.replace(smoke, render=dataclasses.replace(smoke.render, corpus=f"folder:{tmp_path / 'own'}"))
    music(tmp_path / "own", 6, pieces=3)
    trained_on = {u.speaker for u in corpus_split.split(corpora.load(own.render.corpus), own.render.corpus)["train"]}
    assert 0 < len(trained_on) < 3
    music(tmp_path / "other", 6, pieces=4)
    assert set(match_cases.unseen(f"folder:{tmp_path / 'other'}", own)) == {f"piece{i}" for i in range(4)} - trained_on
    music(tmp_path / "known", 6)
    (tmp_path / "known" / "piece0").rename(tmp_path / "known" / trained_on.pop())
    with pytest.raises(ValueError, match="holds only speakers of the training"):
        match_cases.unseen(f"folder:{tmp_path / 'known'}", own)


# --- answers ----------------------------------------------------------------------------------------------------------
def answers(case, controller, **given):
    return match_answers.give(controller, OVERDRIVE, case, metrics.MrstftTo(case.target), **given)


def test_with_the_true_settings_every_distance_is_0(speakers, trained_controller):
    true = match_cases.draw(speakers, OVERDRIVE, index=0, seed=1).settings
    scores = score(speakers, answering(trained_controller, true, gain=1.0), n=1)
    found = match_scores.summary(scores)
    for name in ("mrstft_wide", "mrstft", "msd", "sce_hz", "cfe_db", "lufs_error"):
        assert found[name]["oracle"] == 0
        assert found[name]["network"] < 1e-4 * found[name]["none"], name  # it is of 32 bit
        assert found[name]["none"] > 0 and found[name]["random"] > 0 and found[name]["mean"] > 0
        assert found[name]["gap_closed"] == pytest.approx(1 - found[name]["ours"] / found[name]["none"])
    np.testing.assert_allclose(scores.predicted, scores.true, atol=1e-6)
    np.testing.assert_array_equal(scores.true, [true])
    assert all(about["mae"] < 1e-6 < about["mae_mean"] for about in found["settings"].values())


def test_what_is_not_expected_to_help_is_scored_as_the_dry_input(case, trained_controller):
    hopeless = answers(case, answering(trained_controller, case.settings, gain=-0.1))
    assert hopeless.left_dry == {"ours": True}
    assert hopeless.sounds["ours"] is hopeless.sounds["none"] is case.dry
    hopeful = answers(case, answering(trained_controller, case.settings, gain=1.0))
    assert hopeful.left_dry == {"ours": False}
    assert hopeful.sounds["ours"] is hopeful.sounds["ours_forced"]
    np.testing.assert_allclose(hopeful.sounds["network"], case.target, atol=1e-5)
    np.testing.assert_array_equal(hopeless.sounds["ours_forced"], hopeful.sounds["ours_forced"])


def test_the_confidence_is_that_of_the_gain_that_is_expected_over_the_likely_settings(case, settled):
    task, fx = candidates.Task([case.dry], RATE_HZ, [case.reference], RATE_HZ, settled), effects.load(OVERDRIVE)
    found = task.refine(fx, task.proposals(fx, count=refining.QUICK)).refined
    gain = found.expected_dry - found.expected
    for border, left_dry in ((gain + 1e-3, True), (gain - 1e-3, False)):
        line = np.array([[border - 1, border + 1], [-1, 1]])  # from the border on it is worth something
        careful = dataclasses.replace(settled, calibration=dict.fromkeys(settled.calibration, line))
        assert answers(case, careful).left_dry == {"ours": left_dry}


def test_a_search_is_nearer_to_the_truth_than_a_wrong_answer_of_the_network(case, trained_controller):
    wrong = np.where(case.settings > 0.5, 0.1, 0.9)
    made = answering(trained_controller, wrong, gain=1.0)
    made = dataclasses.replace(made, library=trained_controller.library)  # it still proposes others
    given = answers(case, made, refine_evaluations=60)
    network, refined = (metrics.mrstft_wide(case.target, given.sounds[name]) for name in ("network", "refined"))
    assert refined < 0.7 * network
    assert given.refine_s > 0 and given.left_dry["refined"] is False


def test_the_oracle_of_another_effect_is_no_worse_than_any_other_answer(speakers, settled):
    scores = score(speakers, settled, made_by="pedalboard:Distortion", refine_evaluations=20, oracle_evaluations=40)
    values = scores.values["mrstft_wide"]
    for answer in ("none", "mean", "network", "ours", "ours_forced", "refined"):
        assert (values["oracle"] <= values[answer]).all(), answer
    assert (values["oracle"] > 0).all() and scores.true is None
    assert "settings" not in match_scores.summary(scores)


def test_where_the_effect_can_only_harm_the_oracle_is_the_dry_input(case, settled):
    quiet = dataclasses.replace(case, target=case.dry)
    given = match_answers.give(settled, OVERDRIVE, quiet, metrics.MrstftTo(case.dry), oracle_evaluations=1)
    assert given.sounds["oracle"] is case.dry


# --- scores -----------------------------------------------------------------------------------------------------------
def test_scores_do_not_depend_on_the_number_of_processes(speakers, settled):
    one, two = (score(speakers, settled, n=3, workers=w, refine_evaluations=8) for w in (1, 2))
    for name, by_answer in one.values.items():
        for answer, values in by_answer.items():
            np.testing.assert_array_equal(values, two.values[name][answer])
    np.testing.assert_array_equal(one.true, two.true)


def test_progress_is_told_on_stderr(speakers, settled, capsys):
    score(speakers, settled, n=1, progress=True)
    told = capsys.readouterr()
    assert told.out == "" and told.err.startswith("mda:Overdrive: 1 of 1 cases after ")


@pytest.mark.parametrize(
    "given, message",
    [
        ({"n": 0}, "n is 0: it must be 1 or more"),
        ({"refine_evaluations": -1}, "refine_evaluations is -1: it must be 0 or more"),
        ({"oracle_evaluations": 0}, "oracle_evaluations is 0: it must be 1 or more"),
        ({"made_by": "mda:Nope"}, "unknown effect 'mda:Nope'"),
    ],
)
def test_what_cannot_be_scored_is_refused(speakers, settled, given, message):
    with pytest.raises(ValueError, match=message):
        score(speakers, settled, **given)


def test_an_effect_that_the_controller_does_not_know_is_refused(speakers, settled):
    with pytest.raises(ValueError, match="does not know 'mda:Ambience': it knows mda:Overdrive, mda:Delay"):
        match_scores.score(settled, "mda:Ambience", speakers, n=1)
    with pytest.raises(ValueError, match="at least one speaker"):
        match_scores.score(settled, OVERDRIVE, {}, n=1)


def made(values, true=None, predicted=None, same=(True, False, True, False), left=(True, False, False, False)):
    return match_scores.Scores(
        OVERDRIVE,
        OVERDRIVE if true is not None else "pedalboard:Distortion",
        {name: {answer: np.array(v, float) for answer, v in table.items()} for name, table in values.items()},
        {"ours": np.array(left)},
        np.array(same),
        true,
        np.zeros((4, 3)) if predicted is None else predicted,
        np.zeros(4),
    )


TABLE = {
    "none": [4, 2, 4, 2],
    "random": [6, 6, 6, 6],
    "mean": [5, 5, 5, 5],
    "ours": [4, 1, 2, 1],
    "oracle": [1, 1, 1, 1],
}


def test_the_gap_is_closed_by_the_means_and_for_each_kind_of_case():
    found = match_scores.summary(made({"mrstft_wide": TABLE}))
    assert found["mrstft_wide"]["none"] == 3 and found["mrstft_wide"]["oracle"] == 1
    assert found["mrstft_wide"]["gap_closed"] == pytest.approx((3 - 2) / (3 - 1))
    assert found["mrstft_wide"]["same_speaker"]["gap_closed"] == pytest.approx((4 - 3) / (4 - 1))
    assert found["mrstft_wide"]["other_speaker"]["gap_closed"] == pytest.approx(1)
    assert found["left_dry"] == 0.25 and found["n"] == 4


def test_a_case_that_a_metric_refuses_for_one_answer_counts_for_none():
    table = TABLE | {"random": [math.nan, 6, 6, 6]}
    found = match_scores.summary(
        made({"mrstft_wide": TABLE, "cfe_db": table, "sce_hz": table | {"mean": [math.nan] * 4}})
    )
    assert found["cfe_db"]["none"] == pytest.approx(8 / 3)
    assert "sce_hz" not in found


def test_the_gap_of_a_score_that_should_be_high_is_closed_by_higher_ones():
    better = {"none": [1] * 4, "random": [1] * 4, "mean": [1] * 4, "ours": [3] * 4, "oracle": [4.5] * 4}
    found = match_scores.summary(made({"mrstft_wide": TABLE, "pesq": better, "msd": better}))
    assert found["pesq"]["gap_closed"] == pytest.approx(2 / 3.5)
    assert "gap_closed" not in found["msd"]  # its oracle is worse than no effect


def test_errors_of_settings_are_those_of_hand_made_ones():
    true = np.array([[0.1, 0.5, 0.2], [0.3, 0.5, 0.4], [0.5, 0.5, 0.6], [0.7, 0.5, 0.8]])
    found = match_scores.summary(made({"mrstft_wide": TABLE}, true, true + [0.1, 0.0, 0.0]))["settings"]
    assert found["drive"]["mae"] == pytest.approx(0.1)
    assert found["drive"]["mae_mean"] == pytest.approx((0.4 + 0.2 + 0 + 0.2) / 4)
    assert found["drive"]["r2"] == pytest.approx(1 - 4 * 0.01 / (0.09 + 0.01 + 0.01 + 0.09))
    assert "r2" not in found["muffle"]  # it was never moved
    assert found["output"] == {"mae": 0.0, "mae_mean": pytest.approx(0.2), "r2": 1.0}
