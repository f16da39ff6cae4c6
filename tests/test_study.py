"""Claims over seeds and with more effects: means, spreads, and what is refused."""

import dataclasses
import shutil

import numpy as np
import pytest

from vaefx_lib import config, latent, study, training


def test_means_and_spreads_are_those_of_the_sample():
    found = study._mean_and_std([{"a": 1.0, "b": {"c": 2.0}}, {"a": 4.0, "b": {"c": 2.0}}])
    assert found == {"a": 2.5, "a_std": pytest.approx(np.std([1, 4], ddof=1)), "b": {"c": 2.0, "c_std": 0.0}}


def test_one_seed_has_no_spread(spoken):
    with pytest.raises(ValueError, match=r"seeds are \(0,\): at least two"):
        study.over_seeds(spoken, (0,))


def test_ratios_are_means_over_seeds_against_the_same_pca(spoken, spoken_home, tmp_path, monkeypatch):
    shutil.copytree(spoken_home / "runs", tmp_path / "runs")
    monkeypatch.setenv("VAEFX_HOME", str(tmp_path))
    found = study.over_seeds(spoken, (0, 1))
    runs = [training.load(config.vae_dir("spoken").with_name(name)) for name in ("vae", "vae_seed1")]
    assert [run.preset.train.seed for run in runs] == [0, 1]
    tests = [latent.embed_subset(run, "test") for run in runs]
    for c, channel in enumerate(("dry", "wet")):
        ratios = [test.vae_mse[:, c].mean() / tests[0].pca_mse[:, c].mean() for test in tests]
        assert ratios[0] != ratios[1]
        assert found[f"mse_ratio_{channel}"] == pytest.approx(np.mean(ratios), rel=1e-4)
        assert found[f"mse_ratio_{channel}_std"] == pytest.approx(np.std(ratios, ddof=1), rel=1e-2)
    assert found["seeds"] == 2 and 0 <= found["probe_accuracy"] <= 1


def test_an_absent_effect_is_named_and_nothing_is_rendered(spoken, tmp_path, monkeypatch):
    monkeypatch.setenv("VAEFX_HOME", str(tmp_path))
    render = dataclasses.replace(spoken.render, effects=("mda:Delay", "lv2:mda/NoSuchEffect"))
    with pytest.raises(ValueError, match="lv2:mda/NoSuchEffect cannot be loaded here: install the mda-lv2"):
        study.seven_effects(dataclasses.replace(spoken, render=render))
    assert not any(tmp_path.iterdir())


def test_effects_are_told_apart_beside_pca_and_no_model(spoken, tmp_path, monkeypatch):
    monkeypatch.setenv("VAEFX_HOME", str(tmp_path))
    few = dataclasses.replace(spoken, name="few", render=dataclasses.replace(spoken.render, n_train=40))
    found = study.seven_effects(few)
    assert found["accuracy_chance"] == 0.5
    for space in ("vae", "pca", "no_model"):
        assert 0 <= found[f"accuracy_{space}"] <= 1
        assert 0 <= found["random"][f"accuracy_{space}"] <= 1
    assert found["mse_ratio_wet"] > 0
