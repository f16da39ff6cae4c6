"""The study of controllers: what is compared, and that each reads what it should."""

import dataclasses
import shutil

import numpy as np
import pytest
from click.testing import CliRunner

from vaefx_lib import (
    blackbox,
    config,
    controller,
    controller_calibration,
    controller_stages,
    controller_study,
    controller_training,
    effects,
    figures,
    match_cases,
    metrics,
    passages,
)
from vaefx_lib.__main__ import main

OVERDRIVE, DELAY = "mda:Overdrive", "mda:Delay"


@pytest.fixture(scope="module")
def home(controlled_home, tmp_path_factory):
    """A copy of `controlled_home` without its pairs."""
    home = tmp_path_factory.mktemp("home")
    shutil.copytree(controlled_home / "runs", home / "runs", ignore=shutil.ignore_patterns("data"))
    return home


@pytest.fixture(scope="module")
def found(controlled, home):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VAEFX_HOME", str(home))
        patch.setattr(controller_study, "VARIANTS", {n: controller_study.VARIANTS[n] for n in ("joint", "each")})
        for module, name in ((controller_calibration, "CALIBRATED"), (controller_stages, "HEARD")):
            patch.setattr(module, name, 2)  # quick
        patch.setattr(controller_stages, "BATCH_END_TO_END", 2)
        return controller_study.study(controlled, seeds=(0, 1), cases=1)


def test_every_variant_is_scored_over_the_seeds_beside_lazy_answers(found):
    assert found["seeds"] == 2 and found["cases"] == 1
    for effect in (OVERDRIVE, DELAY):
        for label in ("joint", "each"):
            row = found[effect][label]
            assert row.keys() == {"settings_mae", "settings_mae_std", "mrstft_wide", "mrstft_wide_std"}
            assert 0 < row["settings_mae"] < 1 and row["mrstft_wide"] > 0 and row["mrstft_wide_std"] > 0
        assert found[effect]["none"].keys() == {"mrstft_wide"}
        assert found[effect]["mean"].keys() == {"mrstft_wide", "settings_mae"}


def test_numbers_are_those_of_the_controllers_that_are_kept(found, controlled, home, monkeypatch):
    monkeypatch.setenv("VAEFX_HOME", str(home))
    case = match_cases.draw(match_cases.unseen("speech", controlled), DELAY, index=0)
    distances, errors = [], []
    for seed in (0, 1):
        made = controller.load(home / "runs" / "spoken" / "controller_study" / f"each_mda_Delay_seed{seed}")
        assert made.effects == (DELAY,)
        settings = made.predict(case.dry, case.reference, DELAY)
        sound = blackbox.wet(effects.load(DELAY), case.dry, settings, passages.RATE_HZ)
        distances.append(metrics.mrstft_wide(case.target, sound))
        errors.append(np.abs(settings - case.settings).mean())
    row = found[DELAY]["each"]
    assert row["mrstft_wide"] == pytest.approx(np.mean(distances))
    assert row["mrstft_wide_std"] == pytest.approx(np.std(distances, ddof=1))
    assert row["settings_mae"] == pytest.approx(np.mean(errors))
    assert found[DELAY]["none"]["mrstft_wide"] == pytest.approx(metrics.mrstft_wide(case.target, case.dry))
    assert found[DELAY]["mean"]["settings_mae"] == pytest.approx(np.abs(0.5 - case.settings).mean())


def test_the_table_has_a_row_for_each_effect_and_answer(found):
    full = found | {
        e: found[e] | dict.fromkeys(("measures", "embedding"), found[e]["joint"]) for e in (OVERDRIVE, DELAY)
    }
    head, _, *rows = controller_study.table(full).splitlines()
    assert len(rows) == 2 * len(controller_study.LABELS) and {row.count("|") for row in [head, *rows]} == {5}
    (none,) = [row for row in rows if DELAY in row and "dry input" in row]
    assert f"| {found[DELAY]['none']['mrstft_wide']:.3f} |" in none and "±" not in none
    (joint,) = [row for row in rows if OVERDRIVE in row and "for all effects" in row]
    assert f"{found[OVERDRIVE]['joint']['settings_mae']:.3f} ± " in joint


def test_the_joint_one_of_the_presets_seed_is_the_controller_that_is_there(
    found, home, trained_controller, monkeypatch
):
    monkeypatch.setenv("VAEFX_HOME", str(home))
    kept = sorted(path.name for path in (home / "runs" / "spoken" / "controller_study").iterdir())
    assert "joint_seed1" in kept and "joint_seed0" not in kept
    about = controller.load(home / "runs" / "spoken" / "controller").about
    assert about == trained_controller.about


def test_what_a_controller_is_not_to_read_has_no_say(controlled, home, tmp_path, monkeypatch):
    monkeypatch.setenv("VAEFX_HOME", str(home))
    monkeypatch.setattr(controller_calibration, "CALIBRATED", 2)  # quick
    sizes = dataclasses.replace(controlled.controller, max_epochs=1, end_to_end_steps=0)
    short = dataclasses.replace(controlled, controller=sizes)
    rng = np.random.default_rng(0)
    for inputs in (("measures",), ("embedding",)):
        made = controller_training.train_controller(short, names=[OVERDRIVE], folder=tmp_path, inputs=inputs)
        made = controller.load(tmp_path)  # as it was written
        measures, latent = len(made.scale.numbers_mean), len(made.scale.mu_mean)
        one, other = rng.normal(size=(2, 3, measures)).astype(np.float32), rng.normal(size=(2, 3, latent))
        same = [made.scale.features(one[0], one[1], other[k]) for k in (0, 1)]
        assert np.array_equal(*same) == (inputs == ("measures",))
        same = [made.scale.features(one[k], one[1 - k], other[0]) for k in (0, 1)]
        assert np.array_equal(*same) == (inputs == ("embedding",))
        assert (made.scale.features(one[0], one[1], other[0]) != 0).any()


def test_a_spread_needs_two_seeds(controlled):
    with pytest.raises(ValueError, match=r"seeds are \[0\]: at least two"):
        controller_study.study(controlled, seeds=[0])


def test_the_command_records_the_study_for_the_lesson(monkeypatch, tmp_path):
    monkeypatch.setenv("VAEFX_HOME", str(tmp_path))
    (tmp_path / "figures").mkdir()
    monkeypatch.setattr(controller_study, "study", lambda preset: {"mda:Delay": {"none": {"mrstft_wide": 1.5}}})
    done = CliRunner().invoke(main, ["study-controller"])
    assert done.exit_code == 0, done.output
    assert done.stdout.strip() == str(config.figures_dir("report") / "metrics.json")
    assert figures.metrics("report")["controller"]["study"] == {"mda:Delay": {"none": {"mrstft_wide": 1.5}}}
