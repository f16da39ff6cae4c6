"""Loggers and media, read back from the files that the real packages wrote."""

import dataclasses
import io
import json
import os
import re
import shutil
import struct
import subprocess
import sys

import conftest
import numpy as np
import pytest
import soundfile
from matplotlib.image import imread
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from wandb.proto import wandb_internal_pb2

from vaefx_lib import batches, config, media, phase, shards, spectrogram, thumbnails, tracking, training


@pytest.fixture(scope="module")
def tracked(toy, tmp_path_factory):
    """A run of two epochs with both loggers and three clips."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VAEFX_HOME", str(home))
        patch.setenv("WANDB_MODE", "offline")
        for seed, (subset, count) in enumerate({"train": 32, "valid": 10}.items()):
            conftest.write_toy_pairs(config.data_dir("toy", subset), toy, count, seed)
        batches._kept.clear()
        return training.train_vae(toy, progress=False, loggers=("wandb", "tensorboard", "wandb"), clips=3)


@pytest.fixture
def valid(tracked):
    return shards.load(tracked.folder.parent / "data" / "valid")


def wandb_records(run):
    """The folder of the one W&B run in a run folder, and all its records.

    The file is a LevelDB log: blocks of 32 KiB, and before each piece of a record its checksum, length and kind (whole,
    first, middle or last).
    """
    (path,) = run.folder.glob("wandb/offline-run-*/run-*.wandb")
    data, at, pieces, records = path.read_bytes(), 7, b"", []
    assert data[:4] == b":W&B"
    while at < len(data):
        if 32768 - at % 32768 < 7:  # too little for a header: zeros up to the next block
            at += 32768 - at % 32768
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + 7])
        pieces += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):
            records.append(wandb_internal_pb2.Record.FromString(pieces))
            pieces = b""
    return path.parent, records


def events(run):
    (folder,) = (run.folder / "tensorboard").iterdir()
    return EventAccumulator(str(folder), size_guidance={"audio": 0, "images": 0, "scalars": 0}).Reload()


SCORES = ("train_loss", "train_reconstruction", "train_kl", "valid_mse_dry", "valid_mse_wet")


# --- Weights & Biases -------------------------------------------------------------------------------------------------
def test_wandb_holds_the_history_and_the_preset_offline(tracked):
    _, records = wandb_records(tracked)
    rows = [
        {item.nested_key[0] if item.nested_key else item.key: json.loads(item.value_json) for item in r.history.item}
        for r in records
        if r.WhichOneof("record_type") == "history"
    ]
    for name in SCORES:
        assert [row[name] for row in rows if name in row] == pytest.approx(tracked.history[name]), name
    (run,) = [r.run for r in records if r.WhichOneof("record_type") == "run"]
    told = {item.key: json.loads(item.value_json) for item in run.config.update}
    for record in records:
        if record.WhichOneof("record_type") == "config":
            told |= {item.key: json.loads(item.value_json) for item in record.config.update}
    assert "toy" in (told.get("name"), run.display_name) and run.project == "vaefx"
    assert "beta" in json.dumps(told)


def test_wandb_holds_sounds_and_pictures_of_each_epoch(tracked):
    folder, _ = wandb_records(tracked)
    for i in range(3):
        for name in ("dry", "wet"):
            sounds = sorted((folder / "files" / "media" / "audio" / f"clip-{i}").glob(f"{name}_*.wav"))
            assert len(sounds) == 2
            assert {soundfile.info(path).frames for path in sounds} == {tracked.preset.stft.num_samples}
        assert len(list((folder / "files" / "media" / "images" / f"clip-{i}").glob("*.png"))) == 2


# --- TensorBoard ------------------------------------------------------------------------------------------------------
def test_tensorboard_holds_the_history(tracked):
    found = events(tracked)
    for name in SCORES:
        assert [event.value for event in found.Scalars(name)] == pytest.approx(tracked.history[name]), name


def test_tensorboard_holds_sounds_and_pictures_of_each_epoch(tracked):
    found, stft = events(tracked), tracked.preset.stft
    for i in range(3):
        for name in ("dry", "wet"):
            heard = found.Audio(f"clip-{i}/{name}")
            assert [event.sample_rate for event in heard] == [stft.sample_rate_hz] * 2
            sound, _ = soundfile.read(io.BytesIO(heard[1].encoded_audio_string))
            kept, _ = soundfile.read(tracked.folder / "media" / "epoch-002" / f"clip-{i}-{name}.wav")
            assert sound == pytest.approx(kept, abs=2e-4)
        shown = found.Images(f"clip-{i}/spectrograms")
        picture = imread(tracked.folder / "media" / "epoch-002" / f"clip-{i}.png")
        assert [(event.height, event.width) for event in shown] == [picture.shape[:2]] * 2


# --- which loggers ----------------------------------------------------------------------------------------------------
def test_a_logger_whose_package_is_missing_says_what_to_install(tracked, monkeypatch, tmp_path):
    monkeypatch.setattr(tracking, "find_spec", lambda name: None)
    preset = dataclasses.replace(tracked.preset, train=dataclasses.replace(tracked.preset.train, beta=2.0))
    monkeypatch.setenv("VAEFX_HOME", str(tracked.folder.parents[2]))
    for name in tracking.LOGGERS:
        with pytest.raises(ValueError, match=rf"needs the package {name}: install vaefx with the extra \[{name}\]"):
            training.train_vae(preset, folder=tmp_path / "run", loggers=(name,))
    assert not (tmp_path / "run").exists()


def test_an_unknown_logger_is_refused(tmp_path):
    with pytest.raises(ValueError, match="unknown logger 'mlflow': known are tensorboard, wandb"):
        tracking.check(["mlflow"])


WITHOUT_LOGIN = """
from pathlib import Path
from vaefx_lib import config, tracking

try:
    with tracking.opened(["wandb"], Path("run"), config.preset("smoke"), resume=False):
        print("opened")
except ValueError as error:
    print(error)
"""


def test_wandb_without_a_login_says_what_to_do(tmp_path):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    environment |= {"HOME": str(tmp_path), "NETRC": str(tmp_path / "netrc")}
    command = [sys.executable, "-c", WITHOUT_LOGIN]
    pipes = {"stdin": subprocess.DEVNULL, "capture_output": True, "text": True, "timeout": 120, "check": True}
    out = subprocess.run(command, cwd=tmp_path, env=environment, **pipes).stdout
    assert re.search("^the logger wandb: .*; log in with `wandb login`, or set WANDB_MODE=offline$", out, re.MULTILINE)
    assert "opened" not in out


def test_training_that_goes_on_keeps_the_name_of_its_record_and_a_new_one_gets_another(toy, tmp_path):
    names = []
    for resume in (False, True, False):
        with tracking.opened(["tensorboard"], tmp_path, toy, resume=resume) as (logger,):
            names.append(logger.log_dir)
    assert names[0] == names[1] != names[2]


# --- sounds and pictures ----------------------------------------------------------------------------------------------
def test_the_reference_is_the_pair_and_the_last_epoch_is_what_the_network_gives(tracked, valid):
    stft, run = tracked.preset.stft, tracked
    numbers = thumbnails.spread(10, 2, 3)
    x = spectrogram.pairs(valid, stft, statistics=run.statistics, indices=numbers)
    clips = media.Clips(run.folder / "none", valid, spectrogram.pairs(valid, stft, statistics=run.statistics),
                        run.statistics, run.preset, 3)  # fmt: skip
    rebuilt = clips.reconstruct(run.model, "cpu")
    assert rebuilt.shape == x.shape and not np.allclose(rebuilt, x, atol=0.1)
    for i, number in enumerate(numbers):
        sounds = phase.of(("dry", "wet")).synthesise(run.statistics.restore(rebuilt[i]), stft, dry=valid[number][0])
        for name, pair, sound in zip(("dry", "wet"), valid[number], sounds, strict=True):
            reference, rate = soundfile.read(run.folder / "media" / "reference" / f"clip-{i}-{name}.wav")
            assert rate == stft.sample_rate_hz and reference == pytest.approx(np.clip(pair, -1, 1), abs=1e-4)
            heard, _ = soundfile.read(run.folder / "media" / "epoch-002" / f"clip-{i}-{name}.wav")
            assert heard == pytest.approx(np.clip(sound, -1, 1), abs=1e-3)


def test_a_network_that_gives_back_its_input_gives_back_the_sound_of_dry(toy, valid, tracked, tmp_path):
    class Mirror:
        device = "cpu"

        @staticmethod
        def model(x):
            return x, None, None

    x = spectrogram.pairs(valid, toy.stft, statistics=tracked.statistics, dtype=np.float32)
    clips = media.Clips(tmp_path, valid, x, tracked.statistics, toy, 1)
    trainer = type("Trainer", (), {"is_global_zero": True, "current_epoch": 0, "loggers": [], "ckpt_path": None})
    clips.on_fit_start(trainer, Mirror)
    clips.on_validation_epoch_end(trainer, Mirror)
    dry, again = (soundfile.read(tmp_path / name / "clip-0-dry.wav")[0] for name in ("reference", "epoch-001"))
    assert np.square(again - dry).sum() < 1e-3 * np.square(dry).sum()


def test_another_training_leaves_no_clips_of_the_one_before(tracked, tmp_path, monkeypatch):
    shutil.copytree(tracked.folder.parents[1], tmp_path / "runs")
    monkeypatch.setenv("VAEFX_HOME", str(tmp_path))
    short = dataclasses.replace(tracked.preset, train=dataclasses.replace(tracked.preset.train, max_epochs=1))
    run = training.train_vae(short, progress=False, clips=1)
    assert sorted(path.name for path in (run.folder / "media").iterdir()) == ["epoch-001", "reference"]
    assert sorted(path.name for path in (run.folder / "media" / "epoch-001").iterdir()) == [
        "clip-0-dry.wav",
        "clip-0-wet.wav",
        "clip-0.png",
    ]


def test_tracking_and_clips_leave_the_weights_as_they_are(tracked, toy, monkeypatch, tmp_path):
    monkeypatch.setenv("VAEFX_HOME", str(tracked.folder.parents[2]))
    run = training.train_vae(toy, progress=False, folder=tmp_path)
    assert np.array_equal(run.history["train_loss"], tracked.history["train_loss"])
    assert all((value == tracked.model.state_dict()[name]).all() for name, value in run.model.state_dict().items())


@pytest.mark.parametrize(("total", "effects", "count"), [(256, 2, 3), (10, 2, 3), (11, 2, 11), (5, 3, 4), (1, 1, 1)])
def test_clips_are_different_pairs_and_as_a_rule_their_effects_take_turns(total, effects, count):
    numbers = thumbnails.spread(total, effects, count)
    assert len(set(numbers)) == len(numbers) == count and 0 <= min(numbers) <= max(numbers) < total
    if total >= 2 * count:
        assert [number % effects for number in numbers] == [i % effects for i in range(count)]


@pytest.mark.parametrize("count", [0, 11])
def test_more_clips_than_pairs_are_refused(count):
    with pytest.raises(ValueError, match=f"clips is {count} with 10 validation pairs: it must be from 1 to 10"):
        thumbnails.spread(10, 2, count)


def test_a_picture_has_time_to_the_right_and_frequency_up():
    S = np.full((2, 1, 8, 1024), -2.0)
    S[0, 0, -1, :128] = 3  # the last frame, low
    image = thumbnails.picture(S).astype(int).sum(axis=2)
    y, x = np.unravel_index(image[:258][2:-2, 10:-10].argmax(), (254, image.shape[1] - 20))
    assert x > 0.8 * image.shape[1] and y > 200
    assert image[300:500, 20:-20].max() == image[300:500, 20:-20].min()
    shown = thumbnails.picture(S)
    assert np.array_equal(imread(io.BytesIO(thumbnails.png(shown)))[..., :3] * 255, shown)
