"""Scores of maps: a perfect map is perfect, a dead one is dead, and equal maps are equal however they are turned."""

import dataclasses

import numpy as np
import pytest
from sklearn import manifold

from vaefx_lib import (
    controller_material,
    playable_measures,
    playable_scores,
    playable_sounds,
    playable_surrogate,
    runs,
    stft_distance,
)
from vaefx_lib import playable_training as training
from vaefx_lib.playable_measures import stability

OVERDRIVE = "mda:Overdrive"
RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def heard(controlled, controlled_home):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VAEFX_HOME", str(controlled_home))
        run = runs.load(controlled_home / "runs" / "spoken" / "vae")
        return playable_surrogate.hear(controller_material.prepare(controlled, run, [OVERDRIVE]), [OVERDRIVE])


@pytest.fixture(scope="module")
def sounds(controlled, heard):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(playable_sounds, "PASSAGES", 8)
        return playable_sounds.draw(controlled, heard, OVERDRIVE)


@pytest.fixture(scope="module")
def small():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(playable_measures, "LINES", 2)
        yield


@pytest.fixture(scope="module")
def perfect(controlled, heard):
    """Three dimensions that *are* the settings."""
    made, _ = training.make(controlled, heard, [OVERDRIVE], "pca", 3, seed=0)
    identity = np.vstack([np.eye(3), np.zeros(3)])
    places = {OVERDRIVE: heard.settings["train"][OVERDRIVE].double().numpy()}
    return dataclasses.replace(
        made, linear=made.linear | {OVERDRIVE: identity}, places=places, low=np.zeros(3), high=np.ones(3)
    )


@pytest.fixture(scope="module")
def dead(perfect):
    """Every place has the same settings."""
    return dataclasses.replace(
        perfect, linear=perfect.linear | {OVERDRIVE: np.vstack([np.zeros((3, 3)), [0.1, 0.9, 0.5]])}
    )


def test_the_true_settings_come_back_as_the_same_sound_and_others_do_not(sounds):
    true = sounds.refs.settings.astype(float)
    assert sounds.distances(true[:4]).tolist() == [0, 0, 0, 0]
    assert (sounds.distances(1 - true[:4]) > 0.1).all()


def test_lazy_answers_stand_between_nothing_and_the_truth(sounds, trained_controller, small):
    found = playable_sounds.baselines(sounds, trained_controller)
    assert found["oracle"] == {"roundtrip_mrstft": 0, "settings_mae": 0}
    assert all(row["roundtrip_mrstft"] > 0.1 for name, row in found.items() if name != "oracle")
    assert "settings_mae" not in found["none"]


def test_a_map_of_all_settings_covers_all_sounds_and_a_dead_one_hardly_any(perfect, dead, heard, sounds):
    lost = np.full(len(sounds.truths), np.inf)  # as if no sound had come back
    full, none = (playable_measures._coverage(made, heard, sounds, lost) for made in (perfect, dead))
    assert full > 0.8
    assert none < 0.4
    assert playable_measures._coverage(dead, heard, sounds, 0 * lost.clip(max=0)) == 1  # what comes back is covered


def test_what_is_near_enough_lies_between_the_same_sound_and_any_other(sounds):
    """Less than what one setting of Overdrive makes when it is moved from end to end."""
    assert 0 < sounds.tolerance < 0.5 * sounds.variety
    assert sounds.variety == np.median(sounds.apart[~np.eye(len(sounds.apart), dtype=bool)])


def test_all_distances_at_once_are_those_of_each_pair():
    tones = [np.sin(np.cumsum(RNG.uniform(0, 0.3, 40_000))).astype(np.float32) * RNG.uniform(0.1, 1) for _ in range(4)]
    found = playable_sounds.between(tones)
    pairs = [[stft_distance.mrstft_wide(y, y_hat) for y_hat in tones] for y in tones]
    np.testing.assert_allclose(found, (np.array(pairs) + np.transpose(pairs)) / 2, rtol=1e-4, atol=1e-5)


def test_trustworthiness_is_that_of_scikit_learn_and_with_the_two_exchanged_it_is_continuity():
    x, y = RNG.normal(size=(30, 4)), RNG.normal(size=(30, 2))
    from_x, from_y = (np.linalg.norm(a[:, None] - a, axis=2) for a in (x, y))
    assert playable_measures.trustworthiness(from_x, from_y) == pytest.approx(manifold.trustworthiness(x, y))
    assert playable_measures.trustworthiness(from_y, from_x) == pytest.approx(manifold.trustworthiness(y, x))
    assert playable_measures.trustworthiness(from_x, from_x) == 1


def test_a_dead_map_is_perfectly_smooth_and_a_stored_one_goes_by_leaps(perfect, dead, heard, sounds, small):
    assert playable_measures._smoothness(dead, sounds, 0)[0] == 0
    even, worst = playable_measures._smoothness(perfect, sounds, 0)
    nearest = dataclasses.replace(
        perfect,
        method="umap_nearest",
        stored={OVERDRIVE: perfect.places[OVERDRIVE][:8]},
        places={OVERDRIVE: perfect.places[OVERDRIVE][:8]},
    )
    _, leaps = playable_measures._smoothness(nearest, sounds, 0)
    assert even > 0
    assert leaps > worst >= 1


def test_axes_that_are_settings_correlate_fully_and_one_that_stands_still_not_at_all(sounds):
    settings = sounds.refs.settings
    assert playable_measures._axis_rank_corr(np.exp(settings), sounds) == pytest.approx(1)
    still = np.column_stack([settings[:, 0], np.ones(len(settings))])
    assert playable_measures._axis_rank_corr(still, sounds) == pytest.approx(0.5)


def test_a_whole_score_has_every_number_and_finite(perfect, heard, sounds, small):
    values, places = playable_measures.score(perfect, heard, sounds)
    assert tuple(values) == playable_measures.SCORES
    assert np.isfinite(list(values.values())).all()
    assert places.shape == (len(sounds.wet), 3)
    assert 0 <= values["trustworthiness"] <= 1 and values["decode_ms"] > 0


def test_brightness_is_the_frequency_of_a_tone():
    tone = np.sin(2 * np.pi * 3000 * np.arange(24_000) / 24_000)
    assert playable_sounds.brightness_hz(tone) == pytest.approx(3000, rel=1e-3)


def test_maps_that_are_turned_and_scaled_are_the_same_and_unrelated_ones_are_not():
    one = RNG.normal(size=(80, 2))
    turned = 7 * one @ np.linalg.qr(RNG.normal(size=(2, 2)))[0] + 3
    assert stability([one, turned, -one]) == pytest.approx(1)
    assert stability([one, RNG.normal(size=(80, 2))]) < 0.2
    assert stability([one]) == 1


def test_the_study_is_kept_and_means_are_over_seeds(controlled, heard, sounds, tmp_path, monkeypatch, small):
    """One task needs no second process."""
    monkeypatch.setenv("VAEFX_HOME", str(tmp_path))
    monkeypatch.setattr(training, "END_TO_END_STEPS", 1)
    asked = {"dims": [2], "seeds": [0, 1], "methods": ["pca", "umap_nearest"]}
    found = playable_scores.study(controlled, heard, {OVERDRIVE: sounds}, **asked)[OVERDRIVE]
    assert set(found) == {"pca", "umap_nearest", "variants"}
    assert set(found["pca"]["2"]) == {*playable_measures.SCORES, "stability", "roundtrip_std"}
    assert (found["pca"]["2"]["stability"], found["pca"]["2"]["roundtrip_std"]) == (1, 0)
    assert 0 <= found["umap_nearest"]["2"]["stability"] < 1
    assert found["umap_nearest"]["2"]["roundtrip_std"] > 0
    assert set(found["variants"]) == set(playable_scores.LOSSES)
    monkeypatch.setattr(playable_scores, "_scored", None)
    assert playable_scores.study(controlled, heard, {OVERDRIVE: sounds}, **asked) == {OVERDRIVE: found}


def test_what_else_might_be_learned_or_mapped_is_tried_beside_the_methods(controlled, heard):
    made = dict.fromkeys(("bottleneck", "umap_decoder"))
    made["umap_inverse"], _ = training.make(controlled, heard, [OVERDRIVE], "umap_inverse", 2, seed=0)
    found = playable_scores._variants(controlled, heard, OVERDRIVE, 2, 0, made)
    assert set(found) == {*playable_scores.LOSSES, "sound", "umap_of_mu", "umap_of_settings"}
    place = np.array([[0.3, -0.2]])
    decoded, inverted = (one.settings(place, OVERDRIVE) for one in (found["umap_of_settings"], made["umap_inverse"]))
    assert not np.allclose(decoded, inverted)


def row(trip):
    return {"roundtrip_mrstft": trip}


def test_means_over_effects_and_the_verdict_follow_from_the_numbers():
    trips = {"bottleneck": (1.0, 2.0), "umap_inverse": (2.0, 3.0), "umap_nearest": (0.5, 1.0)}
    found = {e: {m: {"2": row(t[i])} for m, t in trips.items()} for i, e in enumerate(("mda:Overdrive", "mda:Delay"))}
    table = playable_scores.summary(found, {e: {"none": row(4.0)} for e in found})
    assert table["bottleneck"]["2"] == {"roundtrip_mrstft": 1.5, "Overdrive": row(1.0), "Delay": row(2.0)}
    assert table["baselines"]["none"]["roundtrip_mrstft"] == 4
    assert playable_scores.verdict(table) == {
        "2": {
            "best": "umap_nearest",
            "bottleneck": 1.5,
            "umap": 0.75,
            "umap_method": "umap_nearest",
            "beats": ["umap_inverse"],
        }
    }
