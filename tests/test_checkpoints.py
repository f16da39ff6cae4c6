"""Going on after a kill: the same weights to the last bit; and training shared out over processes."""

import dataclasses
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
import zipfile
from contextlib import contextmanager

import conftest
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vaefx_lib import batches, checkpoints, config, preset_json, runs, shards, store, training, vae

SHARED_OUT = """
import torch

torch.set_num_threads(1)
from vaefx_lib import preset_json, training

if __name__ == "__main__":
    preset = preset_json.from_json(open("preset.json").read())
    training.train_vae(preset, folder="two", hardware=training.Hardware(devices=2))
"""

# Each line on stdin is a folder: a new process resumes training in it.
BEGIN_AND_BEGIN_AGAIN = """
import os, sys

import torch

torch.set_num_threads(1)
from vaefx_lib import preset_json, training

preset = preset_json.from_json(open("preset.json").read())
for line in sys.stdin:
    pid = os.fork()
    if pid == 0:
        training.train_vae(preset, folder=line.strip(), resume=True)
        os._exit(0)
    print("pid", pid, flush=True)
    os.waitpid(pid, 0)
    print("ended", flush=True)
"""


def changed(preset, **train):
    return dataclasses.replace(preset, train=dataclasses.replace(preset.train, **train))


@pytest.fixture(scope="module")
def preset(toy):
    return changed(toy, max_epochs=4)


@pytest.fixture(scope="module")
def home(preset, tmp_path_factory):
    """A project folder with pairs of `toy` and, in `whole`, a run in one piece."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VAEFX_HOME", str(home))
        for seed, (subset, count) in enumerate({"train": 64, "valid": 11}.items()):
            conftest.write_toy_pairs(config.data_dir("toy", subset), preset, count, seed)
        with one_thread():
            training.train_vae(preset, folder=home / "whole", progress=False)
    return home


@contextmanager
def one_thread():
    """Two give other bits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def here(home, monkeypatch):
    """In the project folder of these tests, and nothing left from another."""
    monkeypatch.setenv("VAEFX_HOME", str(home))
    batches._kept.clear()
    with one_thread():
        yield


def start(home, code):
    (home / "script.py").write_text(code)
    environment = os.environ | {"VAEFX_HOME": str(home), "OMP_NUM_THREADS": "1"}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "script.py"], cwd=home, env=environment, **pipes)


def weights(home, folder):
    return store.sha256(home / folder / "model.safetensors")


# --- resuming ---------------------------------------------------------------------------------------------------------
def test_training_killed_again_and_again_and_resumed_gives_the_bits_of_a_run_in_one_piece(home, preset):
    preset = changed(preset, max_epochs=16)
    (home / "preset.json").write_text(preset_json.to_json(preset))
    whole = training.train_vae(preset, folder=home / "one piece", progress=False)
    seconds = random.Random(0)
    reached = []
    process = start(home, BEGIN_AND_BEGIN_AGAIN)
    for _ in range(3):  # each kill falls somewhere into an epoch, its validation or the writing of its checkpoint
        print("killed", file=process.stdin, flush=True)
        said = []
        while len(said) < 2:  # once the second epoch is done, the first is stored
            line = process.stdout.readline()
            if line.startswith("pid"):
                pid = int(line.split()[1])
            said += [int(n) for n in re.findall(r"^epoch (\d+): ", line)]
        time.sleep(seconds.uniform(0, 0.1))
        os.kill(pid, signal.SIGKILL)
        while process.stdout.readline() != "ended\n":
            pass
        reached.append(said[0])
        assert not (home / "killed" / "manifest.json").exists()
    process.communicate(timeout=30)
    assert 1 == reached[0] < reached[1] < reached[2]
    assert (home / "killed" / "unfinished" / "history.csv").read_text().startswith("epoch,train_kl,train_loss")

    run = training.train_vae(preset, folder=home / "killed", progress=False, resume=True)
    assert weights(home, "killed") == weights(home, "one piece")
    assert all(np.array_equal(run.history[name], whole.history[name]) for name in whole.history if name != "seconds")
    assert np.array_equal(run.kl, whole.kl) and (np.diff(run.history["seconds"]) >= 0).all()
    assert {path.name for path in run.folder.iterdir()} == {path.name for path in whole.folder.iterdir()}


class Stop(Exception):
    """In place of a kill."""


@pytest.fixture
def interrupted(home, preset, monkeypatch, tmp_path):
    """A run folder with the checkpoint of two epochs."""
    interrupt(preset, tmp_path, monkeypatch)
    return tmp_path


def interrupt(preset, folder, monkeypatch, *, after=2):
    def on_train_epoch_start(self, trainer, module):
        if trainer.current_epoch == after:
            raise Stop

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints.Unfinished, "on_train_epoch_start", on_train_epoch_start)
        with pytest.raises(Stop):
            training.train_vae(preset, folder=folder, progress=False)


def test_random_numbers_that_a_network_draws_itself_go_on_as_well(home, preset, tmp_path, monkeypatch):
    class Dropping(vae.JointVae):
        def encode(self, x):
            return super().encode(torch.nn.functional.dropout(x, 0.3, self.training))

    plain = vae.build
    monkeypatch.setattr(vae, "build", lambda *args: Dropping(*vars(plain(*args))["_modules"].values()))
    whole = training.train_vae(preset, folder=tmp_path / "whole", progress=False)
    interrupt(preset, tmp_path / "cut", monkeypatch)
    torch.manual_seed(99)
    resumed = training.train_vae(preset, folder=tmp_path / "cut", progress=False, resume=True)
    assert weights(tmp_path, "cut") == weights(tmp_path, "whole") != weights(home, "whole")
    assert np.array_equal(resumed.history["train_loss"], whole.history["train_loss"])


def test_a_checkpoint_after_the_last_epoch_only_has_to_be_written_out(home, preset, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(runs, "save_run", lambda *args: (_ for _ in ()).throw(Stop()))
        with pytest.raises(Stop):
            training.train_vae(preset, folder=tmp_path, progress=False)
    begun = []
    monkeypatch.setattr(training.LitVae, "training_step", lambda *args: begun.append(args))
    training.train_vae(preset, folder=tmp_path, progress=False, resume=True)
    assert begun == [] and weights(tmp_path, ".") == weights(home, "whole")


def test_without_being_asked_to_nothing_is_resumed(home, interrupted, preset, capsys):
    training.train_vae(preset, folder=interrupted)
    assert capsys.readouterr().out.count("epoch 1: ") == 1
    assert weights(interrupted, ".") == weights(home, "whole")
    assert not (interrupted / "unfinished").exists()


@pytest.mark.parametrize("other", ["choices", "data", "code", "versions"])
def test_a_checkpoint_of_other_choices_data_or_code_is_not_resumed_and_one_line_says_so(
    interrupted, preset, other, monkeypatch, capsys
):
    data = [shards.load(config.data_dir("toy", subset)) for subset in ("train", "valid")]
    if other == "choices":
        preset = changed(preset, beta=2.0)
    elif other == "data":
        data[0] = dataclasses.replace(data[0], fingerprint="others")
    elif other == "code":
        monkeypatch.setattr(runs, "SOURCES", runs.SOURCES[1:])
    else:
        monkeypatch.setattr(checkpoints, "version", lambda name: "0.0")
    key = runs.fingerprint(preset, "32-true", *data)
    assert not checkpoints.Unfinished(interrupted / "unfinished", key).can_resume()
    (line,) = capsys.readouterr().out.splitlines()
    assert line.endswith("checkpoint.safetensors is of other choices, data or code: training from the start")


def test_resuming_what_is_not_there_starts_and_says_so(home, preset, tmp_path, capsys):
    short = changed(preset, max_epochs=1)
    training.train_vae(short, folder=tmp_path, resume=True)
    first, second = capsys.readouterr().out.splitlines()
    assert first.endswith("checkpoint.safetensors does not exist: training from the start")
    assert second.startswith("epoch 1: ")
    training.train_vae(short, folder=tmp_path, resume=True)  # whole: kept, without a word
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("damage", ["cut", "empty", "weights", "words"])
def test_a_damaged_checkpoint_is_refused_in_one_sentence(interrupted, preset, damage):
    path = interrupted / "unfinished" / "checkpoint.safetensors"
    data = bytearray(path.read_bytes())
    if damage in ("cut", "empty"):
        del data[len(data) // 2 if damage == "cut" else 0 :]
    elif damage == "weights":
        data[-1000] ^= 1
    else:
        at = data.index(b"global_step")
        data[at : at + 11] = b"globel_step"
    path.write_bytes(data)
    with pytest.raises(store.DamagedFile, match=r"checkpoint.safetensors (cannot be read|has changed).*: delete it"):
        training.train_vae(preset, folder=interrupted, progress=False, resume=True)


def test_a_checkpoint_cannot_run_code(interrupted):
    path = interrupted / "unfinished" / "checkpoint.safetensors"
    assert not zipfile.is_zipfile(path)  # as torch.save writes
    state = checkpoints.read(path)
    assert {"state_dict", "optimizer_states", "lr_schedulers", "callbacks", "loops"} <= state.keys()
    size = int.from_bytes(path.read_bytes()[:8], "little")
    assert json.loads(path.read_bytes()[8 : 8 + size])["__metadata__"].keys() == {"key", "state", "sha256"}


def test_what_a_killed_process_had_half_written_is_removed(interrupted, preset):
    left = interrupted / "unfinished" / ".checkpoint.safetensors.x1.safetensors", interrupted / ".kl.csv.x2.csv"
    for path in left:
        path.write_bytes(b"half")
    short = training.train_vae(preset, folder=interrupted, progress=False, resume=True)
    assert [path.exists() for path in left] == [False, False] and len(short.kl) == 4


tensors = [torch.arange(6).reshape(2, 3), torch.tensor(0.1), torch.zeros(0), torch.ones(2, dtype=torch.bfloat16)]
plain = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)
leaves = plain | st.sampled_from(tensors)
states = st.recursive(
    leaves,
    lambda part: (
        st.lists(part, max_size=3)
        | st.tuples(part, part)
        | st.dictionaries(st.text(max_size=3) | st.integers(), part, max_size=3)
    ),
    max_leaves=8,
)


def same(one, other):
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return type(one) is type(other) and len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and one == other


@settings(max_examples=30, deadline=None)
@given(state=states)
def test_any_state_comes_back_as_it_was(state, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "any.safetensors"
    checkpoints.write(path, {"state": state}, "key")
    assert same(checkpoints.read(path), {"state": state}) and checkpoints.key_of(path) == "key"


def test_what_a_checkpoint_cannot_hold_is_named(tmp_path):
    with pytest.raises(TypeError, match="state/'a'/1 is of type set: a checkpoint holds"):
        checkpoints.write(tmp_path / "x", {"a": [0, {1}]}, "key")
    assert list(tmp_path.iterdir()) == []


# --- several processes ------------------------------------------------------------------------------------------------
def test_two_processes_have_the_losses_of_one_and_only_one_writes(home, preset):
    (home / "preset.json").write_text(preset_json.to_json(preset))
    process = start(home, SHARED_OUT)
    out = process.communicate(timeout=240)[0]
    assert process.returncode == 0
    epochs = range(1, preset.train.max_epochs + 1)
    assert [out.count(f"epoch {n}: ") for n in epochs] == [1 for _ in epochs]
    two, one = (training.load(home / name) for name in ("two", "whole"))
    for name in ("train_loss", "train_reconstruction", "train_kl", "valid_mse_dry", "valid_mse_wet"):
        assert two.history[name] == pytest.approx(one.history[name], rel=1e-4), name
    assert two.kl == pytest.approx(one.kl, rel=1e-3, abs=1e-6)
    assert two.fingerprint == one.fingerprint


def test_lower_precision_is_another_run_with_nearly_the_same_losses(home, preset, tmp_path):
    hardware = training.Hardware(precision="bf16-mixed")
    run = training.train_vae(preset, folder=tmp_path, progress=False, hardware=hardware)
    whole = training.load(home / "whole")
    assert run.fingerprint != whole.fingerprint
    assert {value.dtype for value in run.model.state_dict().values()} == {torch.float32}
    assert not np.array_equal(run.history["train_loss"], whole.history["train_loss"])
    assert run.history["train_loss"] == pytest.approx(whole.history["train_loss"], rel=0.01)
