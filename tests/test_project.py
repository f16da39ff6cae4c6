"""The house rules: what may import what, what is declared where, and what `make` does when something changes."""

import ast
import graphlib
import itertools
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import bench_figures
import pytest
import yaml
from nbformat.v4 import new_code_cell, new_notebook, new_output, writes

from vaefx_lib import notebook_parameters, results

ROOT = Path(__file__).parents[1]
LIBRARY = ROOT / "vaefx_lib"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LESSONS = sorted((ROOT / "notebooks").glob("*.ipynb"))

# lowest floor first: a module imports from its own floor or a lower one, and never in a circle
FLOORS = [
    ["config", "preset_json", "plain_json", "store", "audio_faults", "audio"],
    ["effects", "corpora", "corpus_split", "corpus_check", "corpus_layouts", "fetching"],
    [
        "shards",
        "shard_writing",
        "dry_clips",
        "pairs",
        "rendering",
        "standardisation",
        "spectrogram",
        "inversion",
        "phase",
    ],
    [
        *("factorised", "vae", "muon", "batches", "runs", "history", "checkpoints", "tracking"),
        *("thumbnails", "media"),
        *("lit_vae", "training", "blackbox", "processes", "sound_loss"),
    ],
    [
        *("baselines", "latent", "projection", "interpolation", "audibility", "readings", "information", "probes"),
        "evaluation",
        *(
            "settings_net",
            "controller",
            "metrics",
            "study_clips",
            "loss_theory",
            "loss_study",
            "phase_scores",
            "phase_study",
            "study",
        ),
        *("stft_distance", "loudness", "speech_quality", "tries", "search", "passages", "players"),
        *("style", "echo_profile", "echo_peaks", "echo_colour", "echo_likeness", "echoes"),
        *("movement", "movements", "movement_likeness"),
        *("references", "dummy_study", "critic"),
        *("style_space", "invented_music", "critic_material", "critic_training"),
        *("proposing", "refining", "translation", "candidates", "effect_choice"),
        *(
            "controller_material",
            "controller_media",
            "controller_stages",
            "controller_calibration",
            "controller_training",
        ),
        *("playable_maps", "playable_net", "playable", "playable_surrogate", "playable_learning"),
        *("playable_training", "packed"),
    ],
    [
        "matching",
        "match_cases",
        "match_answers",
        "match_scores",
        "match_study",
        "controller_study",
        "places",
        *("playable_sounds", "playable_measures", "playable_scores"),
    ],
    [
        *("plots", "latent_plots", "study_plots", "loss_plots", "match_plots", "playable_plots", "figures", "results"),
        *("pictures", "widgets", "path_panel", "play_panel"),
        *("versions", "report", "report_page", "report_scores", "packing_scores", "packing"),
    ],
    ["notebook_parameters", "notebooks", "app"],
    ["cli_options", "cli_train", "cli_scores", "cli_sounds", "__main__"],
]
IMPORT_NAMES = {
    "IPython": "ipython",
    "PIL": "pillow",
    "sklearn": "scikit-learn",
    "umap": "umap-learn",
    "yaml": "pyyaml",
}
CONDA_NAMES = {
    "pytorch": "torch",
    "pysoundfile": "soundfile",
    "soxr-python": "soxr",
    "matplotlib-base": "matplotlib",
    "seaborn-base": "seaborn",
}


def imports(path, *, at_import_only=False):
    """Dotted names that a source file imports, those inside functions too unless they are left out."""
    found = set()
    waiting = list(ast.parse(path.read_text()).body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
        elif not (at_import_only and isinstance(node, ast.FunctionDef)):
            waiting += ast.iter_child_nodes(node)
    return found


def modules():
    """Module name -> its source files; `effects` is one module."""
    found = {}
    for path in sorted([*LIBRARY.glob("*.py"), *LIBRARY.glob("effects/*.py")]):
        name = "effects" if path.parent.name == "effects" else path.stem
        if name != "__init__":
            found.setdefault(name, []).append(path)
    return found


def graph(**options):
    """Module name -> names of the modules that it imports."""
    known = modules()
    return {
        name: {
            dotted.split(".")[1]
            for path in paths
            for dotted in imports(path, **options)
            if dotted.startswith("vaefx_lib.") and dotted.split(".")[1] in known.keys() - {name}
        }
        for name, paths in known.items()
    }


def distributions(requirements):
    """Distribution name -> version range, from lines such as ``torch>=2.6``."""
    return dict(re.fullmatch(r"([\w-]+) ?(\S*)", line).groups() for line in requirements)


DEPENDENCIES = distributions(PROJECT["project"]["dependencies"])
EXTRAS = {name: distributions(lines) for name, lines in PROJECT["project"]["optional-dependencies"].items()}
TEST_DEPENDENCIES = EXTRAS["test"]  # `make` installs these: those of every other extra are among them, but for
COMPILED = EXTRAS["pesq"]  # which CI installs by itself, so that nobody needs a compiler


def test_imports_lead_down_the_floors_and_never_in_a_circle():
    floor = {name: number for number, names in enumerate(FLOORS) for name in names}
    edges = graph()
    assert edges["notebooks"] >= {"config", "figures"}  # the graph sees something
    assert edges.keys() <= floor.keys(), "put the new module on one of FLOORS"
    upwards = [f"{name} -> {other}" for name, used in edges.items() for other in used if floor[other] > floor[name]]
    assert upwards == []
    list(graphlib.TopologicalSorter(edges).static_order())  # raises CycleError


def test_no_module_is_longer_than_250_lines():
    long = {path.name: len(path.read_text().splitlines()) for path in (ROOT / "vaefx_lib").rglob("*.py")}
    assert len(long) > 100 and {name: lines for name, lines in long.items() if lines > 250} == {}


@pytest.mark.parametrize("name", ["vae", "training"])
def test_models_train_on_a_machine_without_audio_libraries(name):
    edges = graph(at_import_only=True)
    reached, waiting = set(), [name]
    while waiting:
        module = waiting.pop()
        reached.add(module)
        waiting += edges[module] - reached
    used = {dotted.split(".")[0] for path in modules()[name] for dotted in imports(path)}
    loaded = {d.split(".")[0] for m in reached for path in modules()[m] for d in imports(path, at_import_only=True)}
    assert "torch" in loaded
    assert not (used | loaded) & {"librosa", "pedalboard"}


def test_everything_imported_is_declared():
    own = {"vaefx_lib", *(path.stem for path in (ROOT / "tests").glob("*.py")), *sys.stdlib_module_names}
    optional = {name: wanted for extra, group in EXTRAS.items() if extra != "test" for name, wanted in group.items()}
    assert optional.items() - COMPILED.items() <= TEST_DEPENDENCIES.items()
    tested = DEPENDENCIES | TEST_DEPENDENCIES
    for folder, declared in ((LIBRARY, DEPENDENCIES | optional), (ROOT / "tests", tested)):
        for path in sorted([*folder.glob("*.py"), *folder.glob("effects/*.py")]):
            used = {dotted.split(".")[0] for dotted in imports(path)} - own
            missing = {IMPORT_NAMES.get(name, name) for name in used} - declared.keys()
            assert not missing, f"{path.name} imports {missing}"


def test_every_declared_package_is_pinned_to_a_version_in_its_range():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    assert (DEPENDENCIES | TEST_DEPENDENCIES | COMPILED).keys() <= pins.keys()
    assert pins["torch"].count(".") == 2
    for name, wanted in (DEPENDENCIES | TEST_DEPENDENCIES).items():
        numbers = [tuple(map(int, text.split("."))) for text in re.findall(r">=([\d.]+)", wanted)]
        assert tuple(map(int, pins[name].split("."))) >= numbers[0], name


def test_conda_and_pip_users_get_the_same_packages():
    listed = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    (from_pip,) = (entry["pip"] for entry in listed if isinstance(entry, dict))
    assert from_pip.pop() == "-e ."
    conda = distributions(line for line in listed if isinstance(line, str))
    assert conda.pop("python").startswith(PROJECT["project"]["requires-python"])
    conda.pop("pip")
    together = {CONDA_NAMES.get(name, name): wanted for name, wanted in conda.items()} | distributions(from_pip)
    assert together == DEPENDENCIES | TEST_DEPENDENCIES


def tracked():
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    return [ROOT / name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_no_tracked_text_names_a_path_of_some_machine():
    for path in tracked():
        data = path.read_bytes()
        if b"\0" not in data[:8000]:
            found = re.search(r"(?<![\w.$}])/(?:home|root|Users|work|opt|mnt|tmp)/\w|\b[C-Z]:\\\\\w", data.decode())
            assert not found, f"{path.name} has {found.group()!r}"


def test_an_installed_package_has_every_file_of_the_library():
    packed = set()
    for package in PROJECT["tool"]["setuptools"]["packages"]:
        packed |= set((ROOT / package.replace(".", "/")).glob("*.py"))
    for pattern in PROJECT["tool"]["setuptools"]["package-data"]["vaefx_lib"]:
        packed |= set(LIBRARY.glob(pattern))
    left_out = {path for path in tracked() if path.is_relative_to(LIBRARY)} - packed
    assert left_out == set()


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_a_lesson_declares_its_parameters_and_its_kernel(path):
    declared = notebook_parameters.declared(path)
    assert declared["preset"] == ("str", "report")
    assert declared["seed"] == ("int", 0)
    assert len(declared) <= 5
    lesson = json.loads(path.read_text())
    assert lesson["metadata"]["kernelspec"]["name"] == "python3"
    (cell,) = [c for c in lesson["cells"] if "parameters" in c["metadata"].get("tags", [])]
    assert all("#" in line for line in "".join(cell["source"]).strip().splitlines()), "a comment for each parameter"


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_a_lesson_goes_in_short_steps_and_leaves_the_logic_to_the_library(path):
    cells = ["".join(c["source"]) for c in json.loads(path.read_text())["cells"] if c["cell_type"] == "code"]
    lines = [len(cell.splitlines()) for cell in cells]
    assert 15 <= len(cells) <= 40
    assert statistics.median(lines) <= 4
    assert max(lines) <= 25
    for cell in cells:
        assert not re.search(r"import \*|sys\.path|^\s*[!%]\s*pip", cell, re.MULTILINE), cell


# --- make -------------------------------------------------------------------------------------------------------------
ALL = [
    *("01_data_rendering", "02_vae_training", "03_latent_clustering", "04_interpolation_figures"),
    *("05_controller_training", "06_playable_latent", "07_loss_and_phase"),
]

# Takes the place of `python -m vaefx_lib`: it notes which notebook is run and keeps what has not changed, as the
# library does. The renders depend on rendering.py alone, the model on the renders and vae.py.
STAND_IN = """
set -e
name=$(basename "$2" .ipynb); run=runs/$4
mkdir -p $run/notebooks $run/vae
echo $name >> ran.txt
echo $name >> spans.txt
rm -f $run/notebooks/$name.ipynb
test ! -e slow || case $name in 05*) sleep 0.6;; *) sleep 0.2;; esac
echo "$name says so, threads ${OMP_WAIT_POLICY:-spin}"
test ! -e broken || { echo "$name is broken" >&2; exit 3; }
keep() { mkdir -p $(dirname $2); cmp -s $1 $2 || cp $1 $2; }
case $name in
01*) for s in train valid test dummy_train dummy_test; do keep vaefx_lib/rendering.py $run/data/$s/manifest.json; done;;
02*) cat $run/data/train/manifest.json vaefx_lib/vae.py > new; keep new $run/vae/manifest.json;;
esac
echo done > $run/notebooks/$name.ipynb
echo /$name >> spans.txt
"""


@pytest.fixture
def tree(tmp_path):
    """A small copy of the project's files, after a first `make figures` a while ago."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    names = [f"notebooks/{name}.ipynb" for name in ALL] + ["constraints.txt", "pyproject.toml", "ready"]
    names += [f"vaefx_lib/{n}.py" for n in ("config", "rendering", "vae", "plots", "report", "notebooks", "__main__")]
    names += ["vaefx_lib/cli_train.py", "vaefx_lib/effects/mda.py", "vaefx_lib/speech/metadata.csv"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"{name}\n")
    (tmp_path / "stand_in.sh").write_text(STAND_IN)
    assert figures(tmp_path) == ALL
    past = time.time() - 1000
    for path in sorted(tmp_path.rglob("*"), key=lambda path: path.stat().st_mtime_ns):
        past += 0.01  # the order is kept
        os.utime(path, (past, past))
    return tmp_path


def make(folder, *arguments, ready=("READY=ready",)):
    inherited = ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "PRESET", "VAEFX_HOME", "PYTHON", "TIMEOUT_S")
    environment = {name: value for name, value in os.environ.items() if name not in inherited}
    command = ["make", *ready, *arguments]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=180, check=False
    )


def figures(folder, *options, preset="report", succeeds=True):
    """Names of the notebooks that `make figures` ran, in the order of the lessons."""
    log = folder / "ran.txt"
    log.write_text("")
    (folder / "spans.txt").write_text("")
    done = make(folder, "figures", "VAEFX=sh stand_in.sh", f"PRESET={preset}", *options)
    assert (done.returncode == 0) == succeeds, done.stdout + done.stderr
    return sorted(log.read_text().split())


def at_a_time(folder):
    """How many notebooks the last `make figures` had running at most."""
    return max(itertools.accumulate(-1 if step.startswith("/") else 1 for step in spans(folder)))


def spans(folder):
    """Beginnings ("name") and ends ("/name") of notebooks in the last `make figures`."""
    return (folder / "spans.txt").read_text().split()


def edit(path):
    path.write_text(path.read_text() + "edited\n")


def test_a_second_make_figures_runs_nothing(tree):
    assert figures(tree) == []


@pytest.mark.parametrize(
    "changed, run",
    [
        ("vaefx_lib/plots.py", ALL),
        ("vaefx_lib/speech/metadata.csv", ALL),
        ("constraints.txt", ALL),
        ("vaefx_lib/effects/mda.py", ALL),
        ("vaefx_lib/notebooks.py", []),
        ("vaefx_lib/__main__.py", []),
        ("vaefx_lib/cli_train.py", []),
        ("vaefx_lib/report.py", []),
        ("notebooks/01_data_rendering.ipynb", ALL[:1]),  # the renders stayed the same
        ("notebooks/02_vae_training.ipynb", ALL[1:2]),  # the model stayed the same
        ("notebooks/03_latent_clustering.ipynb", ALL[2:3]),
        ("notebooks/04_interpolation_figures.ipynb", ALL[3:4]),
        ("notebooks/05_controller_training.ipynb", ALL[4:5]),
        ("notebooks/06_playable_latent.ipynb", ALL[5:6]),
        ("notebooks/07_loss_and_phase.ipynb", ALL[6:]),
    ],
)
def test_an_edit_runs_the_notebooks_that_depend_on_it_once(tree, changed, run):
    edit(tree / changed)
    assert figures(tree) == run
    assert figures(tree) == []


def test_a_plot_edit_leaves_renders_and_model_alone(tree):
    manifests = [*tree.glob("runs/report/data/*/manifest.json"), tree / "runs/report/vae/manifest.json"]
    assert len(manifests) == 6
    before = [path.stat().st_mtime_ns for path in manifests]
    edit(tree / "vaefx_lib/plots.py")
    figures(tree)
    assert [path.stat().st_mtime_ns for path in manifests] == before


def test_another_model_reaches_the_figures(tree):
    (tree / "runs/report/vae/manifest.json").write_text("trained again by hand")
    assert figures(tree) == ALL[2:6]  # the study of losses trains its own


def test_other_renders_reach_the_model_and_the_figures(tree):
    for path in tree.glob("runs/report/data/*/manifest.json"):
        path.write_text("rendered again by hand")
    assert figures(tree) == ALL[1:]


@pytest.mark.parametrize("lost, again", [("data/valid", ALL[0]), ("vae", ALL[1])])
def test_a_lost_result_is_made_again_by_its_notebook(tree, lost, again):
    (tree / "runs/report" / lost / "manifest.json").unlink()
    assert again in figures(tree)
    assert figures(tree) == []


def test_a_failing_notebook_fails_make_and_is_run_again(tree):
    edit(tree / "notebooks/02_vae_training.ipynb")
    (tree / "broken").touch()
    assert figures(tree, succeeds=False) == ALL[1:2]
    assert figures(tree, succeeds=False) == ALL[1:2]
    (tree / "broken").unlink()
    assert figures(tree) == ALL[1:2]


WEIGHTY = ["vaefx_lib/config.py", "vaefx_lib/effects/mda.py", "constraints.txt", "notebooks/02_vae_training.ipynb"]


def renders_and_trains_alone(folder):
    """Whether the last `make figures` rendered, then trained, then ran the others, two at a time: 05, 07, then 06."""
    steps = spans(folder)
    first = [step for name in ALL[:2] for step in (name, f"/{name}")]
    begun = [step for step in steps if not step.startswith("/")]
    return (
        steps[:4] == first
        and at_a_time(folder) == 2
        and sorted(begun[2:4]) == sorted([ALL[4], ALL[6]])
        and steps.index(f"/{ALL[6]}") < steps.index(ALL[5])
        and begun[4] == ALL[5]
    )


def test_lessons_run_three_at_a_time_after_a_plot_edit_and_two_after_rendering_and_training(tree):
    (tree / "slow").touch()
    edit(tree / "vaefx_lib/plots.py")
    assert figures(tree) == ALL
    assert at_a_time(tree) == 3
    for changed in WEIGHTY:
        edit(tree / "vaefx_lib/plots.py")
        edit(tree / changed)
        assert figures(tree) == ALL
        assert renders_and_trains_alone(tree), changed


@pytest.mark.parametrize("lost", ["data/valid/manifest.json", "vae/manifest.json", "notebooks/.settled"])
def test_lessons_wait_for_each_other_if_something_is_lost_or_was_never_made(tree, lost):
    (tree / "slow").touch()
    (tree / "runs/report" / lost).unlink()
    edit(tree / "vaefx_lib/plots.py")
    assert figures(tree) == ALL
    assert renders_and_trains_alone(tree)


def test_renders_that_are_all_lost_are_made_again_once(tree):
    for path in tree.glob("runs/report/data/*/manifest.json"):
        path.unlink()
    assert figures(tree).count(ALL[0]) == 1


def test_lessons_wait_for_each_other_after_a_training_by_hand(tree):
    (tree / "slow").touch()
    (tree / "runs/report/vae/manifest.json").write_text("trained again by hand")
    edit(tree / "vaefx_lib/plots.py")
    assert figures(tree) == ALL
    assert renders_and_trains_alone(tree)


def test_training_alone_lets_its_threads_spin_and_lessons_beside_each_other_do_not(tree):
    shutil.rmtree(tree / "runs")
    lines = make(tree, "figures", "VAEFX=sh stand_in.sh").stdout.splitlines()
    threads = {name: line.split()[-1] for line in lines for name in ALL if line.startswith(f"{name} says so")}
    assert threads == dict.fromkeys(ALL[:2], "spin") | dict.fromkeys(ALL[2:], "passive")


def test_the_seconds_of_a_cold_run_are_kept_and_those_of_others_are_not(tree):
    kept = tree / "runs/report/notebooks/.cold_s"
    assert int(kept.read_text()) < 60  # of the stand-in
    kept.write_text("1517\n")
    edit(tree / "constraints.txt")
    assert figures(tree) == ALL
    assert kept.read_text() == "1517\n"


def test_a_lesson_that_fails_beside_another_fails_make_tells_why_and_the_next_try_is_as_quick(tree):
    (tree / "slow").touch()
    edit(tree / "vaefx_lib/plots.py")
    (tree / "broken").touch()
    done = make(tree, "figures", "VAEFX=sh stand_in.sh")
    assert done.returncode != 0
    assert "is broken" in done.stderr
    assert "up to date" not in done.stdout
    (tree / "broken").unlink()
    assert figures(tree) == ALL
    assert at_a_time(tree) > 1
    assert figures(tree) == []


def test_only_make_figures_alone_works_side_by_side(tree):
    edit(tree / "vaefx_lib/plots.py")
    done = make(tree, "--dry-run", "figures")
    assert "notebooks side by side" in done.stdout
    for goals in (["help"], ["bench-train"], ["figures", "test"]):
        assert "notebooks side by side" not in make(tree, "--dry-run", *goals).stdout, goals


def test_what_lessons_print_is_not_mixed_up(tree):
    if "output-sync" not in subprocess.run(["make", "-h"], capture_output=True, text=True, check=True).stdout:
        pytest.skip("this make is older than 4.0")
    (tree / "slow").touch()
    edit(tree / "vaefx_lib/plots.py")
    lines = make(tree, "figures", "VAEFX=sh stand_in.sh").stdout.splitlines()
    for name in ALL:
        (at,) = (i for i, line in enumerate(lines) if line == f"{name} says so, threads passive")
        assert f"notebooks/{name}.ipynb" in lines[at - 1]  # its own command


# Takes the place of the `python` of someone's own environment: what pip is asked is noted, lessons are the stand-in's.
OWN_PYTHON = """#!/bin/sh
case "$*" in
*sys.prefix*) echo prefix;;
"-m pip"*) echo "$@" >> asked.txt;;
"-m vaefx_lib"*) shift 2; exec sh stand_in.sh "$@";;
*) exec '{real}' "$@";;
esac
"""


@pytest.fixture
def own(tree, monkeypatch):
    """Runs every lesson of `tree` in an environment of one's own, the `python` on the path; what pip is asked."""
    (tree / "pyproject.toml").write_text(
        '[project]\ndependencies = ["click>=8.1"]\n[project.optional-dependencies]\ntest = ["pytest>=8.3"]\n'
    )
    for name in ("bin", "prefix"):
        (tree / name).mkdir()
    (tree / "bin" / "python").write_text(OWN_PYTHON.format(real=sys.executable))
    (tree / "bin" / "python").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tree / 'bin'}:{os.environ['PATH']}")

    def run():
        (tree / "ran.txt").write_text("")
        (tree / "asked.txt").write_text("")
        edit(tree / "vaefx_lib/plots.py")
        done = make(tree, "figures", "PYTHON=python", ready=())
        assert done.returncode == 0, done.stdout + done.stderr
        assert sorted((tree / "ran.txt").read_text().split()) == ALL
        return (tree / "asked.txt").read_text().splitlines()

    return run


def test_an_environment_that_has_everything_is_left_as_it_is(own):
    assert own() == ["-m pip install --no-deps -e ."]
    assert own() == []  # nothing but the lessons


def test_an_environment_that_lacks_something_gets_it(own, tree):
    text = (tree / "pyproject.toml").read_text()
    for lacking in ("click>=99", "no-such-package>=1"):
        (tree / "pyproject.toml").write_text(text.replace("click>=8.1", lacking))
        assert own() == ["-m pip install -c constraints.txt -e .[test]"]


def test_presets_live_side_by_side(tree):
    assert figures(tree, preset="smoke") == ALL
    assert figures(tree, preset="report") == []
    assert figures(tree, preset="smoke") == []


# --- make bench -------------------------------------------------------------------------------------------------------
def timed(tree, monkeypatch, **repeats):
    """`make figures` of the small copy as its benchmark times it, and which lessons that ran."""
    for name, count in repeats.items():
        monkeypatch.setattr(bench_figures, name, count)
    (tree / "ran.txt").write_text("")
    found = bench_figures.warm(tree, "VAEFX=sh stand_in.sh", "READY=ready")
    return found, sorted((tree / "ran.txt").read_text().split())


def test_figures_are_timed_with_nothing_to_do_and_after_an_edit_and_all_is_as_before(tree, monkeypatch):
    plots = tree / "vaefx_lib/plots.py"
    before = plots.stat().st_mtime_ns
    (idle, nothing, edited), ran = timed(tree, monkeypatch, IDLE=3, EDITED=2)
    assert [len(seconds) for seconds in (idle, nothing, edited)] == [3, 3, 2]
    assert ran == sorted(2 * ALL)
    assert plots.stat().st_mtime_ns == before
    assert figures(tree) == []


@pytest.mark.parametrize("changed", ["vaefx_lib/vae.py", "vaefx_lib/plots.py"])
def test_figures_that_are_out_of_date_are_not_timed_and_nothing_is_run(tree, monkeypatch, changed):
    edit(tree / changed)
    with pytest.raises(SystemExit, match="run `make figures` first"):
        timed(tree, monkeypatch)
    assert (tree / "ran.txt").read_text() == ""


def test_a_lesson_that_fails_while_it_is_timed_is_told_and_the_time_of_plots_is_set_back(tree, monkeypatch):
    plots = tree / "vaefx_lib/plots.py"
    before = plots.stat().st_mtime_ns
    (tree / "broken").touch()
    with pytest.raises(SystemExit, match="is broken"):
        timed(tree, monkeypatch)
    assert plots.stat().st_mtime_ns == before


def test_make_bench_runs_every_benchmark_in_the_order_of_the_table_and_each_has_its_target():
    scripts = {path.stem.removeprefix("bench_") for path in (ROOT / "tests").glob("bench_*.py")}
    assert scripts == set(results.BENCHMARKS)
    (parts,) = re.findall(r"^bench: (.*?) ##", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    assert parts.split() == [f"bench-{name}" for name in results.BENCHMARKS]
    told = make(ROOT, "--dry-run", "-j4", "bench", "PY=python", f"READY={ROOT / 'README.md'}", ready=()).stdout
    assert re.findall(r"^python tests/bench_(\w+)\.py$", told, flags=re.MULTILINE) == list(results.BENCHMARKS)


@pytest.mark.parametrize("words", [(), ("help",)])
def test_make_alone_and_make_help_list_every_target(words):
    listed = make(ROOT, *words).stdout
    phony = re.search(r"^\.PHONY: (.*)", (ROOT / "Makefile").read_text(), re.MULTILINE).group(1)
    assert re.findall(r"^  ([\w-]+) ", listed, re.MULTILINE) == phony.split()


def lint(folder):
    return make(folder, "lint", f"PY={sys.executable}").returncode


def test_lint_refuses_what_it_should(tmp_path):
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    for name in ("ready", "vaefx_lib/speech/metadata.csv", "vaefx_lib/a.py", "tests/test_a.py", "notebooks/01.ipynb"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    source, lesson = tmp_path / "vaefx_lib" / "a.py", tmp_path / "notebooks" / "01.ipynb"
    clean = '"""A module."""\n'
    source.write_text(clean)
    (tmp_path / "tests" / "test_a.py").write_text("")
    (tmp_path / "ready").touch()
    assert lint(tmp_path) == 0  # without any notebook

    kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    metadata = {"kernelspec": kernelspec}
    stripped = writes(new_notebook(cells=[new_code_cell("1 + 1", id="0")], metadata=metadata)) + "\n"
    lesson.write_text(stripped)
    assert lint(tmp_path) == 0  # a kernelspec is not taken for output

    printed = new_code_cell("1 + 1", id="0", outputs=[new_output("stream", name="stdout", text="2")])
    lesson.write_text(writes(new_notebook(cells=[printed], metadata=metadata)) + "\n")
    assert lint(tmp_path) != 0
    lesson.write_text(stripped)

    for bad in ("import os\n", "x = {  'a':1 }\n", "def undocumented():\n    return 1\n", 'x: int = ""\n'):
        source.write_text(clean + "\n" + bad)
        assert lint(tmp_path) != 0, bad
