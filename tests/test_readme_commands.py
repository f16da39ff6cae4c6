"""Every command line of the README is run: here at a tiny size, else by the test that is named below."""

import ast
import dataclasses
import functools
import importlib
import importlib.metadata
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import nbformat
import numpy as np
import pytest
from browsing import small_project
from click.testing import CliRunner
from distributed import LocalCluster
from test_evaluation import speech_folder
from test_fetching import VCTK, Server, sha256, zipped
from test_packed_lessons import executed, project, some_cells
from test_readme import README, ROOT, SCORES

from vaefx_lib import (
    audio,
    config,
    controller,
    controller_calibration,
    controller_stages,
    controller_study,
    critic_material,
    critic_training,
    fetching,
    figures,
    preset_json,
    references,
    store,
    training,
)
from vaefx_lib.__main__ import main

ELSEWHERE = {  # where a command is run that no test of this module runs
    "make": ("tests/test_project.py", "test_make_alone_and_make_help_list_every_target"),
    "make help": ("tests/test_project.py", "test_make_alone_and_make_help_list_every_target"),
    "make figures": ("tests/test_project.py", "test_a_second_make_figures_runs_nothing"),
    "make figures PYTHON=python": ("tests/test_project.py", "own"),
    "make figures PRESET=smoke": (".ci/run", "make figures PRESET=smoke"),
    "make test": (".ci/run", "make test"),
    "make lint": ("tests/test_project.py", "test_lint_refuses_what_it_should"),
    "make lab": ("tests/test_browser.py", "lab"),
    "make app": ("tests/test_browser.py", "voila"),
    "vaefx train pretrained": ("tests/conftest.py", "packed_home"),
    "vaefx effects": ("tests/test_cli.py", "test_effects_are_listed_with_the_parameters_and_choices_that_they_have"),
    "vaefx study-match --music DIR": ("tests/test_cli_match.py", "test_the_study_keeps_every_part_that_is_done"),
    "apt-get install mda-lv2": (".ci/run", "apt-get install"),
}
PLACES = ("DIR", "HOST", "INPUT", "REFERENCE", "OUT.wav", "NAME")  # that stand for something else


def commands_of(text):
    """Command lines of a text in Markdown, those of its indented blocks and those within a sentence."""
    blocks = re.findall(r"^    (\S.*?)(?:\s+#.*)?$", text, flags=re.MULTILINE)
    within = re.findall(r"`((?:make|vaefx|pip|apt-get)(?: [^`]+)?)`", text)
    return {" ".join(line.split()) for line in (*blocks, *within)}


# --- what is run, and by which test -----------------------------------------------------------------------------------
here = set()  # lines that tests of this module say they run
ran = []  # lines that the test at work has run


def runs(*lines):
    """A test that runs these lines of the README; it fails if it ends without having run one of them."""
    here.update(lines)

    def decorate(test):
        @functools.wraps(test)
        def checked(*args, **given):
            ran.clear()
            test(*args, **given)
            assert set(lines) <= set(ran)

        return checked

    return decorate


def vaefx(line, *more, **places):
    """Run a line of the README in this process, with paths for its placeholders and smaller sizes after it."""
    ran.append(line)
    words = [places.get(word.partition(".")[0], word) for word in shlex.split(line)]
    done = CliRunner().invoke(main, [*words[1:], *more])
    assert done.exit_code == 0, done.output + done.stderr
    return done


def make(line, *more, folder=ROOT):
    """Run a line of the README as a process, with the Python of these tests."""
    ran.append(line)
    environment = {n: value for n, value in os.environ.items() if n not in ("MAKEFLAGS", "MAKELEVEL", "PRESET")}
    with tempfile.NamedTemporaryFile() as ready:  # newer than all else: there is nothing to install
        command = [*shlex.split(line), *more, f"PY={sys.executable}", f"READY={ready.name}"]
        given = {"cwd": folder, "env": environment, "capture_output": True, "text": True, "timeout": 900}
        done = subprocess.run(command, **given, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def recipe(line):
    """What a line of the README with `make` would run, as command lines."""
    told = make(line, "--dry-run").replace("\\\n", " ").replace(f"{sys.executable} -m vaefx_lib", "vaefx")
    return [" ".join(text.split()) for text in told.splitlines() if not text.startswith("make")]


def test_every_command_of_the_readme_is_run_by_a_test_and_no_other_is_said_to_be():
    assert commands_of(README) == here | ELSEWHERE.keys()
    assert not here & ELSEWHERE.keys()


@pytest.mark.parametrize("line", ELSEWHERE)
def test_what_is_said_to_run_a_command_is_there_and_has_its_words(line):
    path, name = ELSEWHERE[line]
    text = (ROOT / path).read_text()
    if path == ".ci/run":
        text = re.sub(r"(?m)#.*", "", text)
        assert name in text
    else:
        found = {node.name: node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)}
        text = ast.get_source_segment(text, found[name])
    words = set(line.split()[1:]) - set(PLACES)
    assert all(word in text for word in words), text


def test_commands_are_found_in_blocks_and_in_sentences():
    text = "    make a    # b `make c`\n\nSee `vaefx d --e` and `vaefx_lib`, `make`.\n\n  `make  f`\n"
    assert commands_of(text) == {"make a", "make c", "vaefx d --e", "make", "make f"}


# --- a project of tiny experiments ------------------------------------------------------------------------------------
@pytest.fixture
def presets(controlled, monkeypatch):
    """Every preset has the sizes of `controlled`."""
    for name, real in list(config.PRESETS.items()):
        counts = {"effects": real.render.effects} if name != "nine" else {}
        if name == "seven":
            counts |= {"n_train": 42, "n_valid": 14, "n_test": 28, "n_dummy_train": 28, "n_dummy_test": 28}
        render = dataclasses.replace(controlled.render, **counts)
        train = dataclasses.replace(controlled.train, batch_size=7 if name == "seven" else 8)
        monkeypatch.setitem(
            config.PRESETS, name, dataclasses.replace(controlled, name=name, render=render, train=train)
        )
    for module, name in ((controller_calibration, "CALIBRATED"), (controller_stages, "HEARD")):
        monkeypatch.setattr(module, name, 2)
    monkeypatch.setattr(controller_stages, "BATCH_END_TO_END", 2)
    return config.PRESETS


@pytest.fixture
def home(presets, controlled_home, tmp_path, monkeypatch):
    """A project whose presets report and smoke are rendered and trained, with two sounds in it."""
    monkeypatch.setenv("VAEFX_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "figures").mkdir()
    for name in ("spoken", "report", "smoke"):  # what was trained as `spoken` looks for its own
        shutil.copytree(controlled_home / "runs" / "spoken", tmp_path / "runs" / name)
    for name, seed in (("in", 0), ("ref", 1)):
        audio.save(f"{name}.wav", np.random.default_rng(seed).uniform(-0.5, 0.5, 48_000), 24_000)
    return tmp_path


@pytest.fixture
def empty(presets, tmp_path, monkeypatch):
    """A project in which nothing has been run."""
    monkeypatch.setenv("VAEFX_HOME", str(tmp_path))
    return tmp_path


# --- corpora and rendering --------------------------------------------------------------------------------------------
@runs("vaefx corpus check DIR")
def test_a_corpus_is_checked(tmp_path):
    done = vaefx("vaefx corpus check DIR", DIR=str(speech_folder(tmp_path / "talk", "bf_emma", "am_michael")))
    assert "speakers: 2" in done.stdout and "damaged: 0" in done.stdout


@runs("vaefx corpus fetch vctk")
def test_a_corpus_is_fetched_from_a_server_on_this_machine(tmp_path, monkeypatch):
    monkeypatch.setenv("VAEFX_CORPORA", str(tmp_path))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with Server() as server:
        server.data = zipped(VCTK)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        small = {"url": server.url, "checksum": f"sha256:{sha256(server.data)}", "size_bytes": len(server.data)}
        monkeypatch.setitem(fetching.SOURCES, "vctk", fetching.SOURCES["vctk"]._replace(**small))
        folder = Path(vaefx("vaefx corpus fetch vctk").stdout.splitlines()[-1])
        server.shutdown()
    assert len(list(folder.rglob("*.flac"))) == 12


@runs("vaefx render --preset smoke", "vaefx render --preset report --dask tcp://HOST:8786")
def test_a_dask_scheduler_of_this_machine_renders_the_same_bytes(empty):
    vaefx("vaefx render --preset smoke")
    line = "vaefx render --preset report --dask tcp://HOST:8786"
    cluster = LocalCluster(n_workers=1, threads_per_worker=1, host="127.0.0.1", dashboard_address=None)
    with cluster:
        ran.append(line)
        vaefx(line.replace("tcp://HOST:8786", cluster.scheduler_address))
    one, other = (sorted((empty / "runs" / name / "data").rglob("shard-*.npy")) for name in ("smoke", "report"))
    assert len(one) > len(config.SUBSETS)
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in other]


# --- training ---------------------------------------------------------------------------------------------------------
@runs("vaefx train vae --preset smoke", "vaefx train vae --preset smoke --resume")
def test_a_vae_is_trained_and_a_finished_training_is_kept(home):
    shutil.rmtree(config.vae_dir("smoke"))
    vaefx("vaefx train vae --preset smoke")
    first = training.load(config.vae_dir("smoke"))
    done = vaefx("vaefx train vae --preset smoke --resume")
    assert done.stdout == f"vae in {config.vae_dir('smoke')}\n"
    assert training.load(config.vae_dir("smoke")).fingerprint == first.fingerprint


WEEK5 = "vaefx train vae --preset week5 --logger wandb --devices 2 --precision bf16-mixed"
SMALLER = """
import sys
import torch

torch.set_num_threads(1)
from vaefx_lib import config, preset_json
from vaefx_lib.__main__ import main

config.PRESETS["week5"] = preset_json.from_json(open("week5.json").read())
if __name__ == "__main__":
    main()
"""


@runs(WEEK5)
def test_two_processors_in_place_of_two_gpus_train_with_a_logger_that_is_offline(toy, toy_home, tmp_path):
    shutil.copytree(toy_home / "runs" / "toy" / "data", tmp_path / "runs" / "week5" / "data")
    (tmp_path / "week5.json").write_text(preset_json.to_json(dataclasses.replace(toy, name="week5")))
    (tmp_path / "vaefx.py").write_text(SMALLER)  # a file, as the second process is started from it as well
    settings = {"VAEFX_HOME": str(tmp_path), "WANDB_MODE": "offline", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "vaefx.py", *shlex.split(WEEK5)[1:]]
    given = {"cwd": tmp_path, "env": os.environ | settings, "capture_output": True, "text": True, "timeout": 900}
    done = subprocess.run(command, **given)
    ran.append(WEEK5)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "runs" / "week5" / "vae"
    assert done.stdout.count(f"vae in {folder}") == 1
    assert training.load(folder).preset.train == toy.train
    assert len(list(folder.glob("wandb/offline-run-*/run-*.wandb"))) == 1


@runs("vaefx train controller --preset smoke --logger tensorboard")
def test_a_controller_is_trained_with_a_logger(home):
    shutil.rmtree(config.controller_dir("smoke"))
    vaefx("vaefx train controller --preset smoke --logger tensorboard")
    folder = config.controller_dir("smoke")
    assert controller.load(folder).effects == config.preset("smoke").render.effects
    assert list(folder.rglob("events.out.tfevents.*"))


@runs("vaefx train critic --preset nine")
def test_a_critic_is_trained(empty, monkeypatch):
    monkeypatch.setattr(references, "KINDS", ("pedalboard:Distortion",))
    monkeypatch.setattr(critic_material, "PIECES", {"train": 2, "valid": 1})
    for name, value in {"VALID": 4, "PASSAGES": 12, "CLASSES": 9, "EPOCHS": 1, "NETS": 1}.items():
        monkeypatch.setattr(critic_training, name, value)
    done = vaefx("vaefx train critic --preset nine", "--groups", "16")
    assert done.stdout.splitlines()[-1] == f"critic in {config.run_dir('nine') / 'critic'}"


# --- studies ----------------------------------------------------------------------------------------------------------
@runs("make study", "vaefx study")
def test_the_study_tells_of_three_seeds_and_of_seven_effects_in_the_readme(home, mda_lv2):
    (home / "README.md").write_text(README)
    figures.record("report", SCORES)
    steps = recipe("make study")
    assert steps == ["vaefx render --preset report", "vaefx study"]
    for step in steps:
        vaefx(step)
    assert "Over 3 seeds the VAE's error is" in (home / "README.md").read_text()
    found = figures.metrics("report")["vae"]
    assert found["seeds"] == 3 and found["seven_effects"]["accuracy_chance"] == pytest.approx(1 / 7, abs=1e-4)


@runs("vaefx study-controller")
def test_the_study_of_controllers_is_recorded(home, monkeypatch):
    monkeypatch.setattr(controller_study, "VARIANTS", {"joint": controller_study.VARIANTS["joint"]})
    monkeypatch.setattr(controller_study.study, "__kwdefaults__", {"seeds": (0, 1), "cases": 1})
    vaefx("vaefx study-controller")
    found = figures.metrics("report")["controller"]["study"]
    assert found["mda:Delay"]["joint"]["mrstft_wide_std"] > 0


# --- scores and matches -----------------------------------------------------------------------------------------------
@runs("vaefx evaluate vae --preset smoke --speech DIR --json", "vaefx evaluate vae --speech DIR --json")
def test_a_vae_is_scored_on_a_folder_of_speech(home):
    folder = str(speech_folder(home / "talk", "bf_emma", "am_michael"))
    for line in ("vaefx evaluate vae --preset smoke --speech DIR --json", "vaefx evaluate vae --speech DIR --json"):
        assert json.loads(vaefx(line, DIR=folder).stdout)["speakers"] == ["am_michael", "bf_emma"]


@runs(
    "vaefx evaluate controller",
    "vaefx evaluate controller --speech speech --effects mda:Delay --n 50 --refine-evaluations 300",
    "vaefx evaluate controller --music DIR --effects mda:Overdrive --made-by pedalboard:Distortion --json",
)
def test_a_controller_is_scored_on_speech_and_on_music(home):
    for piece in ("a", "b"):
        sound = np.random.default_rng(ord(piece)).uniform(-0.5, 0.5, 12 * 24_000)
        (home / "set" / piece).mkdir(parents=True)
        audio.save(f"set/{piece}/all.wav", sound, 24_000)
    line = "vaefx evaluate controller --speech speech --effects mda:Delay --n 50 --refine-evaluations 300"
    done = vaefx(line, "--n", "1", "--refine-evaluations", "8", "--json")
    assert list(json.loads(done.stdout)["controller"]) == ["mda:Delay"]
    line = "vaefx evaluate controller --music DIR --effects mda:Overdrive --made-by pedalboard:Distortion --json"
    done = vaefx(line, "--n", "1", DIR="set")
    assert list(json.loads(done.stdout)["controller"]["cross"]) == ["pedalboard:Distortion -> mda:Overdrive"]
    done = vaefx("vaefx evaluate controller", "--speech", "speech", "--n", "1")
    assert all(f"controller.{effect}.n 1\n" in done.stdout for effect in ("mda:Delay", "mda:Overdrive"))


@runs(
    "vaefx match INPUT REFERENCE --effect NAME -o OUT.wav",
    "vaefx match INPUT REFERENCE --effect mda:Overdrive -o OUT.wav --refine 10",
)
def test_a_recording_is_matched(home):
    files = {"INPUT": "in.wav", "REFERENCE": "ref.wav", "OUT": "out.wav"}
    done = vaefx("vaefx match INPUT REFERENCE --effect NAME -o OUT.wav", NAME="mda:Delay", **files)
    assert done.stdout.startswith("mda:Delay\n") and done.stdout.endswith("out.wav\n")
    line = "vaefx match INPUT REFERENCE --effect mda:Overdrive -o OUT.wav --refine 10"
    assert vaefx(line, "--refine", "0.3", **files).stdout.startswith("mda:Overdrive\n")
    assert (home / "out.wav").is_file()


@runs("make setup", ".venv/bin/vaefx match INPUT REFERENCE --effect mda:Overdrive -o OUT.wav")
def test_right_after_the_set_up_a_recording_is_matched(home, packed_library):
    shutil.rmtree(home / "runs")
    assert recipe("make setup") == []  # beyond what every target needs
    line = ".venv/bin/vaefx match INPUT REFERENCE --effect mda:Overdrive -o OUT.wav"
    done = vaefx(line, INPUT="in.wav", REFERENCE="ref.wav", OUT="out.wav")
    assert done.stdout.startswith("mda:Overdrive\n") and "comes with the library" in done.stderr
    assert (home / "out.wav").is_file()


@runs("make pretrained")
def test_the_models_that_come_with_the_library_are_made_by_one_command():
    assert recipe("make pretrained") == ["vaefx train pretrained --replace"]  # which `packed_home` does at a small size


# --- lessons and the report -------------------------------------------------------------------------------------------
@runs("vaefx notebook 03_latent_clustering --preset smoke")
def test_a_lesson_is_run_here_as_far_as_its_maps_and_where_figures_are_made_to_its_end(home, monkeypatch):
    monkeypatch.setenv("IPYTHONDIR", small_project(home, config.preset("smoke"))["IPYTHONDIR"])  # tells it the sizes
    source = store.read_json(ROOT / "notebooks" / "03_latent_clustering.ipynb")
    at = next(i for i, cell in enumerate(source["cells"]) if "".join(cell["source"]).startswith("## 2. Maps"))
    (home / "notebooks" / "03_latent_clustering.ipynb").write_text(json.dumps(source | {"cells": source["cells"][:at]}))
    done = vaefx("vaefx notebook 03_latent_clustering --preset smoke")
    assert done.stdout == f"{home / 'runs' / 'smoke' / 'notebooks' / '03_latent_clustering.ipynb'}\n"
    steps = recipe("make figures PRESET=smoke")  # of which nothing is there in this home
    command = "vaefx notebook notebooks/03_latent_clustering.ipynb --preset smoke --timeout-s 7200"
    assert f"OMP_WAIT_POLICY=passive {command}" in steps


@runs("vaefx notebook 05_controller_training -p pretrained true")
def test_a_lesson_begins_with_the_models_that_come_with_the_library(packed_library, controlled, tmp_path, monkeypatch):
    monkeypatch.setenv("VAEFX_HOME", str(tmp_path))
    monkeypatch.setenv("IPYTHONDIR", project(tmp_path, controlled, packed_library))
    name = "05_controller_training"
    some_cells(tmp_path, name, ["import", "chosen = ", "echo = ", "controller = ", '"controller_training",\n', "media"])
    done = vaefx("vaefx notebook 05_controller_training -p pretrained true")
    assert done.stdout == f"{executed(tmp_path, name)}\n"
    assert [path.name for path in config.figures_dir(config.PACKED).glob("*.png")] == ["controller_training.png"]


@runs("make report", "make report SINCE=2026-11-19", "vaefx report --preset smoke --since 2026-11-19")
def test_the_weekly_report_is_a_page(reported_home, tmp_path, monkeypatch):
    shutil.copytree(reported_home, tmp_path, dirs_exist_ok=True)
    monkeypatch.setenv("VAEFX_HOME", str(tmp_path))
    page = tmp_path / "runs" / "smoke" / "report.html"
    page.unlink()
    make("make report", "PRESET=smoke", "DAY=2026-11-20")
    assert "Weekly report, 2026-11-20" in page.read_text()
    page.unlink()
    vaefx("vaefx report --preset smoke --since 2026-11-19", "--day", "2026-11-21")
    assert "Weekly report, 2026-11-21" in page.read_text()
    assert recipe("make report SINCE=2026-11-19") == ["vaefx report --preset report --since '2026-11-19' --day ''"]


# --- make -------------------------------------------------------------------------------------------------------------


@runs("make format")
def test_make_format_puts_the_style_right_and_strips_notebooks(tmp_path):
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    for name in ("vaefx_lib", "tests", "notebooks"):
        (tmp_path / name).mkdir()
    source, lesson = tmp_path / "vaefx_lib" / "a.py", tmp_path / "notebooks" / "01.ipynb"
    source.write_text('"""A module."""\n\nx = {  "a":1 }\n')
    cell = nbformat.v4.new_code_cell("1 + 1", id="0", execution_count=7)
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), lesson)
    make("make format", folder=tmp_path)
    assert source.read_text() == '"""A module."""\n\nx = {"a": 1}\n'
    assert '"execution_count": null' in lesson.read_text()


BENCHMARKS = [line for line in sorted(commands_of(README)) if line.startswith("make bench")]


@runs(*BENCHMARKS)
def test_benchmarks_which_want_minutes_and_a_quiet_machine_are_scripts_that_load():
    for line in BENCHMARKS:
        steps = [shlex.split(step) for step in recipe(line)]
        assert steps
        for python, script in steps:
            module = importlib.import_module(Path(script).stem)
            assert python == sys.executable and Path(module.__file__) == ROOT / script and callable(module.main)


# --- extras -----------------------------------------------------------------------------------------------------------
@runs("pip install -e '.[wandb]'")
def test_what_an_extra_of_the_readme_installs_is_what_its_tests_run_with():
    line = "pip install -e '.[wandb]'"
    ran.append(line)
    (extra,) = re.findall(r"\[(\w+)\]", line)
    brought = [text for text in importlib.metadata.requires("vaefx") if f'extra == "{extra}"' in text.replace("'", '"')]
    assert brought
    for text in brought:
        assert importlib.metadata.version(re.match(r"[\w.-]+", text).group())
