"""Scores of maps: a perfect map is perfect, a dead one is dead, and equal maps are equal however they are turned."""

import dataclasses

import numpy as np
import pytest

from vaefx_lib import controller_material, playable_learning, playable_measures, playable_scores, runs
from vaefx_lib import playable_training as training
from vaefx_lib.playable_measures import stability

OVERDRIVE = "mda:Overdrive"
RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def heard(controlled, controlled_home):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VAEFX_HOME", str(controlled_home))
        run = runs.load(controlled_home / "runs" / "spoken" / "vae")
        return playable_learning.hear(controller_material.prepare(controlled, run, [OVERDRIVE]), [OVERDRIVE])


@pytest.fixture(scope="module")
def sounds(controlled, heard):
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"PLACED": 16, "PASSAGES": 8}.items():
            patch.setattr(playable_measures, name, value)
        return playable_measures.draw(controlled, heard, OVERDRIVE)


@pytest.fixture(scope="module")
def small():
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"HEARD": 6, "REACHED": 14, "LINES": 2, "NEIGHBOURS": 3}.items():
            patch.setattr(playable_measures, name, value)
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
    found = playable_measures.baselines(sounds, trained_controller)
    assert found["oracle"] == {"roundtrip_mrstft": 0, "settings_mae": 0}
    assert all(row["roundtrip_mrstft"] > 0.1 for name, row in found.items() if name != "oracle")
    assert "settings_mae" not in found["none"]


def test_a_map_of_all_settings_covers_all_sounds_and_a_dead_one_hardly_any(perfect, dead, heard, sounds, small):
    full, none = (playable_measures._coverage(made, heard, sounds) for made in (perfect, dead))
    assert full > 0.8
    assert none < 0.4


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
    assert playable_measures._brightness_hz(tone) == pytest.approx(3000, rel=1e-3)


def test_maps_that_are_turned_and_scaled_are_the_same_and_unrelated_ones_are_not():
    one = RNG.normal(size=(80, 2))
    turned = 7 * one @ np.linalg.qr(RNG.normal(size=(2, 2)))[0] + 3
    assert stability([one, turned, -one]) == pytest.approx(1)
    assert stability([one, RNG.normal(size=(80, 2))]) < 0.2
    assert stability([one]) == 1


def test_the_study_is_kept_and_means_are_over_seeds(controlled, heard, sounds, small, tmp_path, monkeypatch):
    monkeypatch.setenv("VAEFX_HOME", str(tmp_path))
    asked = {"dims": [2], "seeds": [0, 1], "methods": ["pca", "umap_nearest"]}
    found = playable_scores.study(controlled, heard, sounds, **asked)
    assert set(found) == {"pca", "umap_nearest"}
    assert set(found["pca"][2]) == {*playable_measures.SCORES, "stability"}
    assert found["pca"][2]["stability"] == 1
    assert 0 <= found["umap_nearest"][2]["stability"] <= 1
    monkeypatch.setattr(training, "make_alike", None)
    assert playable_scores.study(controlled, heard, sounds, **asked) == found


def row(trip):
    return {"roundtrip_mrstft": trip}


def test_means_over_effects_and_the_verdict_follow_from_the_numbers():
    trips = {"bottleneck": (1.0, 2.0), "umap_inverse": (2.0, 3.0), "umap_nearest": (0.5, 1.0)}
    found = {e: {m: {2: row(t[i])} for m, t in trips.items()} for i, e in enumerate(("mda:Overdrive", "mda:Delay"))}
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
