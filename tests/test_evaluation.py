"""Scores mean what they say: 1 where all is known, chance or 0 where nothing is, and unseen means unseen."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

from vaefx_lib import corpora, evaluation, interpolation, latent, probes, training
from vaefx_lib.latent import Embedded

EFFECTS = np.array(["mda:Overdrive", "mda:Delay"] * 200)
DELAY = EFFECTS == "mda:Delay"


def embedded(seed, **spaces):
    """400 clips at random settings, with given spaces; a space may be a function of rng and settings (n, 6)."""
    rng = np.random.default_rng(seed)
    full = rng.uniform(size=(400, 6))
    given = {name: make(rng, full) for name, make in spaces.items()}
    arrays = {name: given.get(name, rng.normal(size=(400, 4))) for name in evaluation.SPACES}
    errors = np.tile(np.float32([0.25, 0.5]), (400, 1))
    settings = [row[: 6 if delay else 3] for row, delay in zip(full, DELAY)]
    return Embedded(**arrays, vae_mse=errors, pca_mse=2 * errors, effects=EFFECTS, speakers=EFFECTS, settings=settings)


def separable(rng, full):
    return rng.normal(size=(400, 4)) + np.where(DELAY, 20, -20)[:, None] * [1, 0, 0, 0]


# --- probes -----------------------------------------------------------------------------------------------------------
def test_a_probe_is_always_right_about_what_lies_apart():
    train, test = embedded(0, vae=separable), embedded(1, vae=separable)
    assert probes.probe_accuracy(train.vae, EFFECTS, test.vae, EFFECTS) == 1


def test_a_probe_taught_shuffled_labels_or_noise_is_at_chance():
    rng = np.random.default_rng(0)
    train, test = rng.normal(size=(2, 2000, 4))
    labels = np.tile(EFFECTS, 5)
    shift = np.where(labels == "mda:Delay", 1, -1)[:, None]
    assert probes.probe_accuracy(train, labels, test, labels) == pytest.approx(0.5, abs=0.05)
    shuffled = [
        probes.probe_accuracy(train + shift, labels, test + shift, labels, shuffle_seed=seed) for seed in range(20)
    ]
    assert np.mean(shuffled) == pytest.approx(0.5, abs=0.2)  # one alone may fall to either side
    assert min(shuffled) < 0.5 < max(shuffled)


def test_a_margin_is_negative_exactly_where_the_probe_is_wrong():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(400, 4)) + np.where(DELAY, 0.5, -0.5)[:, None]
    probe = probes.fit_probe(z, EFFECTS)
    margin = probes.margins(probe, z, EFFECTS)
    wrong = probe.predict(z) != EFFECTS
    assert 10 < wrong.sum() < 200
    assert np.array_equal(margin < 0, wrong)
    sign = np.where(probe.classes_[1] == EFFECTS, 1, -1)
    assert margin == pytest.approx(sign * probe.decision_function(z), abs=1e-6)


def test_rows_of_a_confusion_matrix_are_true_and_columns_predicted_for_any_number_of_labels():
    kinds = np.repeat(["a", "b", "c"], 100)
    corners = dict(zip("abc", 20 * np.eye(3)))
    noise = np.random.default_rng(0).normal(size=(300, 3))
    probe = probes.fit_probe(np.stack([corners[kind] for kind in kinds]) + noise, kinds)
    lies_with = np.where(np.arange(300) < 25, "b", kinds)  # a quarter of the a's
    z = np.stack([corners[kind] for kind in lies_with]) + noise
    found = probes.confusion(probe, z, kinds)
    assert found["a"] == {"a": 0.75, "b": 0.25, "c": 0.0}
    assert found["b"] == {"a": 0.0, "b": 1.0, "c": 0.0}
    only_c = probes.confusion(probe, z[kinds == "c"], kinds[kinds == "c"])
    assert only_c == {"c": {"a": 0.0, "b": 0.0, "c": 1.0}}


def test_a_probe_leans_on_the_dimension_that_tells_whatever_its_scale():
    rng = np.random.default_rng(0)
    for labels in (EFFECTS, np.tile(["a", "b", "c", "d"], 100)):
        z = rng.normal(size=(400, 4)) * [1, 1e-3, 1, 1]
        z[:, 1] += 1e-2 * np.unique(labels, return_inverse=True)[1]
        weights = probes.probe_weights(probes.fit_probe(z, labels))
        assert weights.shape == (4,) and weights.argmax() == 1 and weights.min() >= 0


def test_silhouette_is_that_of_rousseeuw():
    z = np.array([[0.0], [1.0], [10.0], [12.0]])
    expected = np.mean([1 - 1 / 11, 1 - 1 / 10, 1 - 2 / 9.5, 1 - 2 / 11.5])
    assert evaluation.silhouette(z, list("aabb")) == pytest.approx(expected)


# --- settings ---------------------------------------------------------------------------------------------------------
def test_a_setting_that_is_linear_in_the_space_is_read_and_one_that_is_absent_is_not():
    def knows_two(rng, full):
        return np.column_stack([3 * full[:, 0] + full[:, 1], full[:, 1] - 7, rng.normal(size=(400, 2))])

    train, test = embedded(0, vae=knows_two), embedded(1, vae=knows_two)
    r2 = evaluation.settings_r2(train, test, "vae")
    assert list(r2["mda:Overdrive"]) == ["drive", "muffle", "output"]
    assert list(r2["mda:Delay"]) == ["l_delay", "r_delay", "feedback", "fb_tone", "fx_mix", "output"]
    assert min(r2["mda:Overdrive"]["drive"], r2["mda:Delay"]["r_delay"]) > 0.99
    assert max(r2["mda:Overdrive"]["output"], r2["mda:Delay"]["fx_mix"]) < 0.05


def test_r2_is_below_zero_for_worse_than_always_the_mean():
    def right(rng, full):
        return full

    def wrong(rng, full):
        return 1 - full

    r2 = evaluation.settings_r2(embedded(0, vae=right), embedded(1, vae=wrong), "vae")
    assert r2["mda:Delay"]["feedback"] == pytest.approx(-3, abs=0.2)  # 1 - (2 s - 1)^2 / (s - 1/2)^2


# --- all together -----------------------------------------------------------------------------------------------------
def test_scores_stand_beside_their_baselines_and_parts_are_scored_alone():
    subsets = [embedded(seed, vae=separable) for seed in range(4)]
    parts = {"content": slice(1, 4), "effect": slice(0, 1)}
    changes = np.tile([1.0, 0.01, 0.0, np.nan, np.nan, np.nan], (400, 1))
    changes[:300, 1] = 0.06
    found = evaluation.scores(*subsets, parts=parts, changes=changes)
    assert found["latent"]["latent_dim"] == 4 and found["latent"]["n_effects"] == 2
    for key in ("probe_accuracy", "probe_accuracy_dummy"):
        probe = found["latent"][key]
        assert probe["vae"] == probe["vae_effect"] == 1
        assert max(probe["vae_content"], probe["pca"], probe["no_model"]) < 0.65
    assert found["latent"]["probe_accuracy"]["chance"] == 0.5
    for key in ("silhouette", "silhouette_dummy"):
        assert found["latent"][key]["vae_effect"] > 0.9 > 0.1 > found["latent"][key]["vae_content"]
    for key in ("settings_r2", "settings_r2_audible", "confusion", "confusion_dummy"):
        assert found["latent"][key].keys() == set(evaluation.SPACES)
    assert found["latent"]["settings_mi"].keys() == {*evaluation.SPACES, "chance"}
    assert found["latent"]["best_dimension"].keys() == {"vae", "pca"}
    shares = found["latent"]["settings_audible_share"]["mda:Overdrive"]
    assert shares == {"drive": 1.0, "muffle": 0.75, "output": 0.0}
    assert found["latent"]["settings_r2_audible"]["pca"]["mda:Overdrive"].keys() == {"drive", "muffle"}
    same = (found["latent"][key]["vae"]["mda:Overdrive"]["drive"] for key in ("settings_r2", "settings_r2_audible"))
    assert len(set(same)) == 1
    assert found["latent"]["confusion"]["vae"]["mda:Delay"] == {"mda:Delay": 1.0, "mda:Overdrive": 0.0}
    expected = {"dry": {"vae_mse": 0.25, "pca_mse": 0.5}, "wet": {"vae_mse": 0.5, "pca_mse": 1.0}}
    assert found["reconstruction"] == expected


def test_dummy_and_random_settings_are_not_mixed_up():
    known, unknown = embedded(0, vae=separable), embedded(1)
    found = evaluation.scores(known, known, unknown, unknown)["latent"]
    assert found["probe_accuracy"]["vae"] == 1 and found["probe_accuracy_dummy"]["vae"] < 0.7
    right = [found[key]["vae"]["mda:Delay"]["mda:Delay"] for key in ("confusion", "confusion_dummy")]
    assert right[0] == 1 and right[1] < 0.7
    assert "settings_r2_audible" not in found  # nobody measured what is audible
    assert found["silhouette"]["vae"] > 0.5 > found["silhouette_dummy"]["vae"]


def test_one_channel_is_the_wet_one():
    one = embedded(0)
    one = dataclasses.replace(one, vae_mse=one.vae_mse[:, 1:], pca_mse=one.pca_mse[:, 1:])
    assert evaluation.reconstruction_scores(one) == {"wet": {"vae_mse": 0.5, "pca_mse": 1.0}}


# --- any folder of speech ---------------------------------------------------------------------------------------------
@pytest.fixture
def home(spoken_home, monkeypatch):
    monkeypatch.setenv("VAEFX_HOME", str(spoken_home))


def speech_folder(folder, *speakers):
    for speaker in speakers:
        (folder / speaker).mkdir(parents=True)
        for path in sorted((corpora.SPEECH_DIR / speaker).glob("*.flac"))[:2]:
            shutil.copy(path, folder / speaker)
    return folder


def test_speakers_of_the_training_set_are_left_out(home, spoken, tmp_path, capsys):
    heard = latent.embed_subset(training.load(evaluation.config.vae_dir("spoken")), "train").speakers[0]
    found = evaluation.evaluate_folder(speech_folder(tmp_path / "mixed", heard, "bf_emma", "am_michael"), spoken)
    assert f"left out, as the model was trained on them: {heard}" in capsys.readouterr().err
    assert found["speakers"] == ["am_michael", "bf_emma"]
    assert found["latent"]["n_per_effect"] == spoken.render.n_test / 2
    assert found["latent"]["settings_audible_share"]["mda:Delay"]["output"] == 0
    assert {"effects_dry_drift", "audio_wet_drift"} < found["interpolation"].keys()
    assert found["interpolation"]["paths"] == min(interpolation.N_PATHS, spoken.render.n_test)
    json.dumps(found, allow_nan=False)
    with pytest.raises(ValueError, match="holds only speakers that the model was trained on"):
        evaluation.evaluate_folder(speech_folder(tmp_path / "heard", heard), spoken)
