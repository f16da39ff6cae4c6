"""What is heard and seen of a controller's training, in its folder and in the files that the real loggers wrote."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch
from click.testing import CliRunner
from matplotlib.image import imread
from test_tracking import events, wandb_records

from vaefx_lib import (
    blackbox,
    controller_calibration,
    controller_material,
    controller_media,
    controller_training,
    effects,
    passages,
    references,
    runs,
    thumbnails,
)
from vaefx_lib.__main__ import main

NAMES = ("mda:Overdrive", "mda:Delay")


@pytest.fixture(scope="module")
def home(controlled_home, tmp_path_factory):
    """The VAE of `controlled_home`, and what its controller learned from; no controller."""
    home = tmp_path_factory.mktemp("home")
    for name in ("vae", "controller_data"):
        shutil.copytree(controlled_home / "runs" / "spoken" / name, home / "runs" / "spoken" / name)
    return home


@pytest.fixture(scope="module")
def watched(controlled, home):
    """A controller that is trained with both loggers and three clips, and its folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VAEFX_HOME", str(home))
        patch.setenv("WANDB_MODE", "offline")
        patch.setattr(controller_calibration, "CALIBRATED", 2)  # quick
        made = controller_training.train_controller(controlled, loggers=("wandb", "tensorboard"))
    return SimpleNamespace(made=made, folder=home / "runs" / "spoken" / "controller")


@pytest.fixture(scope="module")
def material(controlled, home):
    run = runs.load(home / "runs" / "spoken" / "vae")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VAEFX_HOME", str(home))
        return controller_material.prepare(controlled, run, NAMES)


def sound(path):
    data, rate = soundfile.read(path, dtype="float32")
    assert rate == passages.RATE_HZ and data.shape == (passages.SAMPLES,)
    return data


def test_clips_lie_beside_the_controller_for_every_validation_of_the_sound(watched):
    steps = runs.read_history(watched.folder / "end_to_end.csv")["step"].astype(int)
    assert steps.tolist() == [0, 2]
    found = sorted(str(path.relative_to(watched.folder / "media")) for path in watched.folder.glob("media/*/*"))
    expected = [f"reference/clip-{i}-{name}.wav" for i in range(3) for name in ("input", "reference", "truth")]
    for step in steps:
        expected += [f"step-{step:03d}/clip-{i}{end}" for i in range(3) for end in ("-prediction.wav", ".png")]
    assert found == sorted(expected)
    assert not (watched.folder / runs.UNFINISHED).exists()


def test_truth_and_reference_are_the_input_and_another_passage_at_the_same_settings(watched, controlled, material):
    for i, number in enumerate(thumbnails.spread(24, 2, 3)):
        refs, row = material.drawn["valid"][NAMES[number % 2]], number // 2
        reference, truth = controller_material.both(controlled, material, "valid", refs.effect, row)
        sounds = material.dry["valid"].sounds[refs.inputs[row]], reference, truth
        for name, expected in zip(("input", "reference", "truth"), sounds, strict=True):
            heard = sound(watched.folder / "media" / "reference" / f"clip-{i}-{name}.wav")
            np.testing.assert_allclose(heard, expected, atol=1e-4)


def test_the_prediction_is_the_input_at_the_settings_that_are_answered_and_the_truth_at_the_true_ones(
    controlled, material, tmp_path
):
    asked = []

    def answer(effect, row):
        asked.append((effect, row))
        true = material.drawn["valid"][effect].settings[row]
        return true if len(asked) < 3 else np.full(len(true), 0.5)

    given = material.run, material.dry["valid"], material.drawn["valid"]
    clips = controller_media.Clips(tmp_path, controlled, *given, 4)
    clips.write(7, answer)
    assert [effect for effect, _ in asked] == [*NAMES, *NAMES] and asked[0][1] != asked[2][1]
    for i, (effect, row) in enumerate(asked):
        prediction = sound(tmp_path / "step-007" / f"clip-{i}-prediction.wav")
        truth = sound(tmp_path / "reference" / f"clip-{i}-truth.wav")
        if i < 2:
            np.testing.assert_array_equal(prediction, truth)
            continue
        fx, dry = effects.load(effect), material.dry["valid"].sounds[material.drawn["valid"][effect].inputs[row]]
        middle = blackbox.wet(fx, dry, np.full(len(fx.params), 0.5), passages.RATE_HZ)
        np.testing.assert_allclose(prediction, middle, atol=1e-4)
        assert np.abs(prediction - truth).max() > 0.01


def test_a_picture_has_input_reference_truth_and_prediction_from_left_to_right(controlled, material, tmp_path):
    given = material.run, material.dry["valid"], material.drawn["valid"]
    clips = controller_media.Clips(tmp_path, controlled, *given, 1)
    clips.write(0, lambda effect, row: material.drawn["valid"][effect].settings[row])
    image = np.round(255 * imread(tmp_path / "step-000" / "clip-0.png")[..., :3])
    parts = np.split(image, 4, axis=1)
    sounds = [sound(tmp_path / "reference" / f"clip-0-{name}.wav") for name in ("input", "reference", "truth")]
    for part, heard in zip(parts, [*sounds, sounds[-1]], strict=True):
        S = np.concatenate(references.windows(material.run, sounds[0], heard)[:, 1])
        assert np.abs(part - thumbnails.picture(S[None, None])).mean() < 1  # the file is of 16 bit
    assert np.array_equal(parts[2], parts[3]) and not np.array_equal(parts[0], parts[1])


def test_wandb_holds_scores_sounds_and_pictures_offline(watched):
    folder, records = wandb_records(watched)
    rows = [
        {item.nested_key[0] if item.nested_key else item.key: json.loads(item.value_json) for item in r.history.item}
        for r in records
        if r.WhichOneof("record_type") == "history"
    ]
    heard, warm = (runs.read_history(watched.folder / name) for name in ("end_to_end.csv", "history.csv"))
    for name in ("loss", "settings_mae"):
        assert [row[name] for row in rows if name in row] == pytest.approx(heard[name])
    assert [row["warm_start/valid_loss"] for row in rows if "warm_start/valid_loss" in row] == pytest.approx(
        warm["valid_loss"]
    )
    for i in range(3):
        kept = folder / "files" / "media"
        for name, count in (("input", 1), ("reference", 1), ("truth", 1), ("prediction", 2)):
            sounds = list((kept / "audio" / f"clip-{i}").glob(f"{name}_*.wav"))
            assert len(sounds) == count, name
            assert {soundfile.info(path).frames for path in sounds} == {passages.SAMPLES}
        assert len(list((kept / "images" / f"clip-{i}").glob("*.png"))) == 2


def test_tensorboard_holds_the_same(watched):
    found = events(watched)
    heard = runs.read_history(watched.folder / "end_to_end.csv")
    assert [event.value for event in found.Scalars("loss")] == pytest.approx(heard["loss"])
    assert [event.step for event in found.Audio("clip-0/prediction")] == heard["step"].tolist()
    assert len(found.Images("clip-2/spectrograms")) == 2


def test_watching_leaves_the_controller_as_it_is(watched, trained_controller):
    for one, other in zip(watched.made.net.parameters(), trained_controller.net.parameters(), strict=True):
        assert torch.equal(one, other)
    assert watched.made.about["fingerprint"] == trained_controller.about["fingerprint"]


def test_another_training_leaves_no_clips_of_the_one_before(watched, controlled, home, material, tmp_path, monkeypatch):
    monkeypatch.setenv("VAEFX_HOME", str(home))
    monkeypatch.setattr(controller_calibration, "CALIBRATED", 2)  # quick
    folder = tmp_path / "controller"
    shutil.copytree(watched.folder, folder)
    controller_training.train_controller(controlled, names=NAMES[:1], folder=folder, clips=0)
    assert not (folder / "media").exists()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"clips": 25}, "clips is 25 with 24 validation pairs: it must be from 1 to 24"),
        ({"loggers": ["mlflow"]}, "unknown logger 'mlflow': known are tensorboard, wandb"),
        ({"inputs": ["words"]}, r"inputs are \['words'\]: they must be some of measures, embedding"),
        ({"inputs": []}, r"inputs are \[\]: they must be"),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_is_trained(
    controlled, home, tmp_path, monkeypatch, given, message
):
    monkeypatch.setenv("VAEFX_HOME", str(home))
    monkeypatch.setattr(controller_training.controller_stages, "warm_start", None)
    with pytest.raises(ValueError, match=message):
        controller_training.train_controller(controlled, folder=tmp_path / "none", **given)
    assert not list(tmp_path.rglob("manifest.json"))


def test_the_command_passes_on_how_to_train(monkeypatch, home):
    asked = []
    monkeypatch.setenv("VAEFX_HOME", str(home))
    monkeypatch.setattr(controller_training, "train_controller", lambda preset, **given: asked.append((preset, given)))
    for line in ("", "--preset smoke --seed 3 --logger wandb --clips 0"):
        done = CliRunner().invoke(main, ["train", "controller", *line.split()])
        assert done.exit_code == 0 and "controller in" in done.output, done.output
    (one, default), (other, given) = asked
    assert (one.name, default) == ("report", {"seed": None, "loggers": (), "clips": 3})
    assert (other.name, given) == ("smoke", {"seed": 3, "loggers": ("wandb",), "clips": 0})
