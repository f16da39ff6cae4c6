"""The command line: results on stdout, errors as one line, and no traceback for bad input."""

import json
import subprocess
import sys
import types
from typing import NamedTuple

import pytest
from click.testing import CliRunner

import vaefx_lib
from vaefx_lib import config, effects
from vaefx_lib.__main__ import main


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("VAEFX_HOME", str(tmp_path))
    return tmp_path


class Hardware(NamedTuple):
    """As in the library."""

    devices: int
    num_nodes: int
    precision: str


def vaefx(*arguments):
    return CliRunner().invoke(main, arguments)


def put_in_place(monkeypatch, name, **functions):
    """A stand-in for a heavy module that a command imports."""
    module = types.ModuleType(f"vaefx_lib.{name}")
    vars(module).update(functions)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(vaefx_lib, name, module, raising=False)


@pytest.mark.parametrize(
    "arguments",
    [
        ("render", "--preset", "nope"),
        ("train", "vae", "--preset", "nope"),
        ("evaluate", "vae", "--speech", "x", "--preset", "nope"),
    ],
)
def test_an_unknown_preset_is_one_line_and_exit_code_1(home, arguments):
    result = vaefx(*arguments)
    assert result.exit_code == 1
    assert result.stdout == ""
    known = "report, smoke, seven, nine, pretrained, packed, phase, week5, paper"
    assert result.stderr == f"Error: unknown preset 'nope': known are {known}\n"
    assert list(home.iterdir()) == []


@pytest.mark.parametrize(
    "error, line",
    [
        (ValueError("speaker x\nis silent"), "Error: speaker x is silent\n"),
        (OSError(28, "No space left on device", "shard.npy"), "Error: No space left on device: shard.npy\n"),
        (ValueError(), "Error: ValueError\n"),
    ],
)
def test_an_error_of_the_library_is_one_line_and_exit_code_1(home, monkeypatch, error, line):
    def render(*args, **kwargs):
        raise error

    put_in_place(monkeypatch, "rendering", render=render)
    result = vaefx("render", "--preset", "smoke")
    assert result.exit_code == 1
    assert result.stderr == line
    assert vaefx("--traceback", "render").exception is error


def test_a_critic_goes_into_the_run_folder_and_into_the_library_only_if_that_is_asked_for(home, monkeypatch):
    from vaefx_lib import critic

    asked = []

    def train_critic(preset, **given):
        print("groups of train: 100 of 8000")
        asked.append((preset.name, given))
        return types.SimpleNamespace(about={"worth": {"speech": {"rank_correlation": 0.75}}})

    put_in_place(monkeypatch, "critic_training", train_critic=train_critic)
    own = vaefx("train", "critic", "--preset", "nine", "--groups", "50")
    assert own.stdout == f"speech: rank_correlation 0.75\ncritic in {home / 'runs' / 'nine' / 'critic'}\n"
    assert own.stderr == "groups of train: 100 of 8000\n"
    assert vaefx("train", "critic", "--preset", "nine", "--replace").exit_code == 0
    assert asked == [
        ("nine", {"groups": 50, "folder": config.run_dir("nine") / "critic"}),
        ("nine", {"groups": 8000, "folder": critic.FOLDER}),
    ]
    assert vaefx("train", "critic", "--groups", "15").exit_code == 2


def test_a_bug_keeps_its_traceback(home, monkeypatch):
    def render(*args, **kwargs):
        raise IndexError("a bug")

    put_in_place(monkeypatch, "rendering", render=render)
    assert isinstance(vaefx("render").exception, IndexError)


def test_render_asks_for_every_subset_of_the_preset_that_has_pairs(home, monkeypatch):
    asked = []

    class Pairs(list):
        sample_rate_hz = 24_000

    def render(preset, subset, folder, *, jobs, dask):
        asked.append((preset, subset, folder, jobs, dask))
        return Pairs([0, 1])

    put_in_place(monkeypatch, "rendering", render=render)
    result = vaefx("render", "--preset", "smoke", "--jobs", "2", "--dask", "tcp://here:1")
    smoke = config.preset("smoke")
    folders = {subset: config.data_dir("smoke", subset) for subset in config.SUBSETS}
    assert asked == [(smoke, subset, folder, 2, "tcp://here:1") for subset, folder in folders.items()]
    assert [line.split(" at ")[0] for line in result.stdout.splitlines()] == [f"{s}: 2 pairs" for s in config.SUBSETS]


def test_train_uses_the_seed_of_the_preset_unless_another_is_given(home, monkeypatch):
    seeds = []

    def train_vae(preset, *, seed, **_):
        seeds.append((preset.name, seed))

    put_in_place(monkeypatch, "training", train_vae=train_vae, Hardware=Hardware)
    assert vaefx("train", "vae", "--preset", "smoke", "--seed", "7").exit_code == 0
    assert vaefx("train", "vae").exit_code == 0
    assert seeds == [("smoke", 7), ("report", config.preset("report").train.seed)]


def test_train_passes_on_how_to_train(home, monkeypatch):
    asked = []
    put_in_place(monkeypatch, "training", train_vae=lambda preset, **given: asked.append(given), Hardware=Hardware)
    line = "--resume --logger wandb --logger tensorboard --devices 2 --num-nodes 3 --precision bf16-mixed"
    assert vaefx("train", "vae", *line.split()).exit_code == 0
    assert vaefx("train", "vae", "--clips", "1").exit_code == 0
    one, other = ({k: v for k, v in given.items() if k != "seed"} for given in asked)
    hardware = (2, 3, "bf16-mixed")
    assert one == {"resume": True, "loggers": ("wandb", "tensorboard"), "clips": 3, "hardware": hardware}
    assert other == {"resume": False, "loggers": (), "clips": 1, "hardware": (1, 1, "32-true")}


def test_a_loss_that_is_not_finite_is_one_line_and_exit_code_1(home, monkeypatch):
    def train_vae(*args, **kwargs):
        raise FloatingPointError("the loss is nan after 3 steps, on pairs 12 (anna, mda:Delay): it must be finite")

    put_in_place(monkeypatch, "training", train_vae=train_vae, Hardware=Hardware)
    result = vaefx("train", "vae")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: the loss is nan after 3 steps, on pairs 12 (anna, mda:Delay)")


def test_evaluate_prints_json_and_nothing_else_on_stdout(home, monkeypatch):
    def evaluate_folder(folder, preset):
        print("embedding ...")
        return {"probe_accuracy": {"vae": 0.97, "pca": 0.9}, "latent_dim": preset.vae.latent_dim}

    put_in_place(monkeypatch, "evaluation", evaluate_folder=evaluate_folder)
    result = vaefx("evaluate", "vae", "--speech", "talk", "--preset", "smoke", "--json")
    assert json.loads(result.stdout) == {"latent_dim": 32, "probe_accuracy": {"pca": 0.9, "vae": 0.97}}
    assert "embedding" in result.stderr
    plain = vaefx("evaluate", "vae", "--speech", "talk", "--preset", "smoke")
    assert plain.stdout.splitlines() == ["latent_dim 32", "probe_accuracy.pca 0.9", "probe_accuracy.vae 0.97"]


def test_effects_are_listed_with_the_parameters_and_choices_that_they_have():
    table = json.loads(vaefx("effects", "--json").stdout)
    assert list(table) == effects.available()
    assert {"mda:Delay", "pedalboard:LadderFilter"} <= set(table)
    for name, about in table.items():
        effect = effects.load(name)
        assert [param["name"] for param in about["params"]] == list(effect.param_names)
        assert [choice["name"] for choice in about["choices"]] == [choice.name for choice in effect.choices]
    plain = vaefx("effects").stdout
    assert all(name in plain for name in table)


def test_effects_named_are_listed_alone_and_a_chain_can_be_named():
    chain = "chain:[mda:Overdrive, pedalboard:LadderFilter]"
    lines = vaefx("effects", "mda:Overdrive", chain).stdout.splitlines()
    assert lines[:2] == ["mda:Overdrive", f"  {'drive':<20} 0 to 100 %, default 50"]
    assert chain in lines and f"  {'Overdrive_output':<20} -20 to 20 dB, default 0" in lines
    assert any("LadderFilter_mode" in line and "held at" in line for line in lines)
    assert vaefx("effects", "mda:Nope").exit_code == 1


def test_an_effect_that_cannot_be_loaded_is_listed_with_the_reason(monkeypatch):
    def load(name):
        raise effects.EffectFailed(f"{name} crashed")

    monkeypatch.setattr(effects, "load", load)
    assert vaefx("effects", "mda:Delay").stdout == "mda:Delay: mda:Delay crashed\n"
    assert json.loads(vaefx("effects", "mda:Delay", "--json").stdout) == {"mda:Delay": {"error": "mda:Delay crashed"}}


def test_the_module_is_the_command_and_help_loads_nothing_heavy():
    code = (
        "import runpy, sys; sys.argv = ['vaefx', '--help']\n"
        "try: runpy.run_module('vaefx_lib', run_name='__main__')\n"
        "finally: print(sorted({'torch', 'librosa', 'numba', 'papermill', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert "Usage: vaefx" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


def test_an_unknown_notebook_ends_a_real_process_with_one_line_and_exit_code_1(home):
    command = [sys.executable, "-m", "vaefx_lib", "notebook", "99_none", "--preset", "smoke"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == "Error: '99_none' names 0 notebooks, not one: known are none\n"
