"""The notebook runner: what it accepts, what it leaves behind, and that a failure is never taken for a success."""

import json
import os
import subprocess
import sys
import tempfile

import nbformat
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from vaefx_lib import config, figures, notebook_parameters, notebooks, results, store

KERNELSPEC = {"name": "python3", "display_name": "Python 3", "language": "python"}
PARAMETERS = 'preset: str = "report"  # experiment\nseed: int = 0\nbeta: float = 1.0\nquick: bool = False'


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("VAEFX_HOME", str(tmp_path))
    (tmp_path / "notebooks").mkdir()
    return tmp_path


def write(home, name, *sources, parameters=(PARAMETERS,)):
    tagged = [new_code_cell(source, metadata={"tags": ["parameters"]}) for source in parameters]
    cells = [new_markdown_cell("# A lesson"), *tagged, *map(new_code_cell, sources)]
    path = home / "notebooks" / f"{name}.ipynb"
    nbformat.write(new_notebook(cells=cells, metadata={"kernelspec": KERNELSPEC}), path)
    return path


def left_behind(home):
    return sorted(path.name for path in (home / "runs" / "smoke" / "notebooks").glob("*"))


def test_a_lesson_draws_each_figure_once(home):
    counts = """
import matplotlib.figure
from vaefx_lib import figures
figures.set_style()
draw, drawn = matplotlib.figure.Figure.draw, []
matplotlib.figure.Figure.draw = lambda fig, renderer: (drawn.append(fig), draw(fig, renderer))
"""
    shows = "import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.ylabel('far left');"
    saves = "figures.save_figure(plt.figure(), 'empty', preset, caption='Nothing.');"
    write(home, "01_drawn", counts, shows, "print(len(drawn))", saves, "print(len(drawn))")
    cells = nbformat.read(notebooks.run("01", preset="smoke"), as_version=4).cells
    said = [out.text.strip() for cell in cells for out in cell.get("outputs", []) if out.output_type == "stream"]
    assert said == ["1", "2"]
    pictures = [
        out.data["image/png"] for cell in cells for out in cell.get("outputs", []) if "image/png" in out.get("data", {})
    ]
    assert len(pictures) == 2


@pytest.mark.parametrize("transport", ["ipc", "tcp"])
def test_a_kernel_is_given_no_port_that_another_may_take_before_it(home, monkeypatch, transport):
    if transport == "tcp":  # only where the folder's name is too long for sockets
        (home / ("long" * 20)).mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(home / ("long" * 20)))
    write(home, "01_connected", "from ipykernel.kernelapp import IPKernelApp\nprint(IPKernelApp.instance().transport)")
    cells = nbformat.read(notebooks.run("01", preset="smoke"), as_version=4).cells
    (said,) = [out.text for cell in cells for out in cell.get("outputs", []) if out.output_type == "stream"]
    assert said.strip() == transport


def test_a_good_notebook_runs_here_with_the_given_parameters_and_leaves_its_copy_and_its_time(home, monkeypatch):
    # a kernel of the same name, installed by the user, must not be taken for ours
    foreign = home / "data" / "kernels" / "python3"
    foreign.mkdir(parents=True)
    (foreign / "kernel.json").write_text(
        json.dumps({"argv": ["/bin/false"], "display_name": "x", "language": "python"})
    )
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(home / "data"))
    monkeypatch.setenv("JUPYTER_PREFER_ENV_PATH", "0")
    monkeypatch.setenv("MPLBACKEND", "agg")
    before = dict(os.environ)
    says = "import json, os, sys\njson.dump([sys.executable, os.getcwd(), preset, seed, beta, quick, dict(os.environ)]"
    write(home, "01_good", f"{says}, open('said.json', 'w'))")
    metrics = config.figures_dir("smoke") / "metrics.json"
    store.write_json(metrics, {"timing": {"00_other_s": 1.5}, "latent": {"latent_dim": 16}})

    path = notebooks.run("01", preset="smoke", parameters={"seed": "3", "beta": 2, "quick": "true"})

    executable, folder, *values, environment = json.loads((home / "said.json").read_text())
    assert executable == sys.executable
    assert os.path.samefile(folder, home)
    assert values == ["smoke", 3, 2.0, True]
    assert environment["VAEFX_HEADLESS"] == "1"
    assert environment["MPLBACKEND"].endswith("inline")  # so that pictures are in the notebook
    assert dict(os.environ) == before
    assert path == home / "runs" / "smoke" / "notebooks" / "01_good.ipynb"
    assert left_behind(home) == ["01_good.ipynb"]
    stored = store.read_json(metrics)
    assert stored["latent"] == {"latent_dim": 16}
    assert list(stored) == ["latent", "timing"]
    assert stored["timing"]["00_other_s"] == 1.5
    assert 0 < stored["timing"]["01_good_s"] < 120


def test_whichever_lesson_ends_last_the_readme_states_the_recorded_numbers(home):
    scores = {"vae": 0.5, "pca": 0.75, "no_model": 0.25, "chance": 0.5}
    latent = {"probe_accuracy": scores, "probe_accuracy_dummy": scores}
    latent["settings_r2"] = {space: {"mda:Overdrive": {"drive": 0.5}} for space in ("vae", "pca", "no_model")}
    error = {"vae_mse": 0.25, "pca_mse": 0.5}
    figures.record("report", {"reconstruction": {"dry": error, "wet": error}, "latent": latent})
    (home / "README.md").write_text("\n".join(results.MARKS["results"]))
    write(home, "01_first", "")
    notebooks.run("01", preset="report")
    assert "probe" not in (home / "README.md").read_text()  # the numbers of another lesson are missing still

    figures.record("report", {"interpolation": {"effects_dry_drift": 0.0, "pca": {"effects_dry_drift": 0.125}}})
    changed = 'from vaefx_lib import figures\nfigures.record(preset, {"latent": {"probe_accuracy": {"vae": 0.9375}}})'
    write(home, "03_latent", changed)
    notebooks.run("03", preset="report")
    assert "| probe accuracy, random settings | 0.938 |" in (home / "README.md").read_text()


def test_a_lesson_is_started_without_building_a_grammar_that_takes_seconds_and_is_not_used():
    code = """
import sys
from vaefx_lib import notebooks
papermill = notebooks._papermill()
assert papermill.execute_notebook and "jsonschema" in sys.modules
assert "rfc3987_syntax" not in sys.modules and "lark" not in sys.modules  # nor marked as absent for others
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    "source, reason",
    [
        ("print('line before')\nraise KeyError('no such speaker')", "KeyError: 'no such speaker'"),
        ("import os, time\nprint('line before', flush=True)\ntime.sleep(1)\nos.kill(os.getpid(), 9)", "kernel died"),
        ("import time\nprint('line before')\ntime.sleep(60)", "longer than 4 s"),
    ],
    ids=["a cell raises", "the kernel is killed", "time is up"],
)
def test_a_notebook_that_fails_leaves_no_good_copy_and_shows_the_failing_cell(home, capsys, source, reason):
    write(home, "02_bad", source)
    good = home / "runs" / "smoke" / "notebooks" / "02_bad.ipynb"
    good.parent.mkdir(parents=True)
    good.write_text("of an earlier run")
    with pytest.raises(notebooks.NotebookFailed, match=reason):
        notebooks.run("02_bad", preset="smoke", timeout_s=4 if "sleep" in source else 60)
    assert left_behind(home) == ["02_bad.failed.ipynb"]
    shown = capsys.readouterr().err
    assert source.splitlines()[-1] in shown
    assert "\nline before\n" in shown
    assert "\x1b[" not in shown
    assert not (config.figures_dir("smoke") / "metrics.json").exists()


@pytest.mark.parametrize(
    "given_parameters, message",
    [
        ({"sede": 1}, r"01_lesson has no parameter 'sede': known are preset, seed, beta, quick"),
        ({"seed": "1.5"}, "parameter seed must be of type int, got '1.5'"),
        ({"seed": True}, "parameter seed must be of type int, got True"),
        ({"beta": "much"}, "parameter beta must be of type float, got 'much'"),
        ({"quick": "1"}, "parameter quick must be of type bool, got '1'"),
        ({"preset": "report"}, "preset is given twice"),
    ],
)
def test_an_unknown_or_mistyped_parameter_is_refused_before_anything_runs(home, given_parameters, message):
    write(home, "01_lesson")
    with pytest.raises(ValueError, match=message):
        notebooks.run("01", preset="smoke", parameters=given_parameters)
    assert not (home / "runs").exists()


def test_a_lesson_that_begins_with_the_pretrained_models_leaves_the_presets_copy_and_numbers_alone(home):
    also = PARAMETERS + "\npretrained: bool = False"
    write(home, "01_lesson", "assert pretrained and preset == 'report'", parameters=(also,))
    kept = home / "runs" / "report" / "notebooks" / "01_lesson.ipynb"
    kept.parent.mkdir(parents=True)
    kept.write_text("of the report")
    path = notebooks.run("01", parameters={"pretrained": "true"})
    assert path == home / "runs" / "packed" / "notebooks" / "01_lesson.ipynb"
    assert kept.read_text() == "of the report"
    assert "01_lesson_s" in figures.metrics("packed")["timing"] and not (home / "figures").exists()
    with pytest.raises(ValueError, match="pretrained is true, and the preset 'smoke': it makes no difference"):
        notebooks.run("01", preset="smoke", parameters={"pretrained": True})


def test_an_unknown_preset_or_notebook_is_refused_by_name(home):
    write(home, "01_lesson")
    write(home, "01_other")
    with pytest.raises(ValueError, match="unknown preset 'smok'"):
        notebooks.run("01_lesson", preset="smok")
    with pytest.raises(ValueError, match="'07' names 0 notebooks, not one: known are 01_lesson, 01_other"):
        notebooks.run("07")
    with pytest.raises(ValueError, match="'01' names 2 notebooks"):
        notebooks.run("01")
    with pytest.raises(ValueError, match="no notebook .*gone.ipynb"):
        notebooks.run(home / "gone.ipynb")


def test_a_notebook_is_found_by_number_by_name_and_by_path(home):
    path = write(home, "01_lesson")
    assert notebooks.find("01") == notebooks.find("01_lesson") == notebooks.find(path) == path


@pytest.mark.parametrize(
    "parameters, message",
    [
        ((), "has 0 cells tagged 'parameters'"),
        ((PARAMETERS, PARAMETERS), "has 2 cells tagged 'parameters'"),
        (('preset = "report"',), "must be written as 'name: kind = value'"),
        (("seed: int = 1 + a",), "must be a plain value"),
        (("seed: int = 0.5",), "seed must be of type int, got 0.5"),
        (("seed: list = []",), "seed is annotated 'list': known are str, int, float, bool"),
    ],
)
def test_a_parameters_cell_that_papermill_would_misread_is_refused(home, parameters, message):
    with pytest.raises(ValueError, match=message):
        notebook_parameters.declared(write(home, "01_lesson", parameters=parameters))


def test_what_is_not_a_notebook_is_refused_by_name(tmp_path):
    path = tmp_path / "torn.ipynb"
    path.write_text('{"cells": [')
    with pytest.raises(ValueError, match="torn.ipynb cannot be read as a notebook"):
        notebook_parameters.declared(path)


@given(st.one_of(st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.booleans()))
def test_a_value_written_as_text_is_parsed_back_to_itself(value):
    kind = type(value).__name__
    parsed = notebook_parameters.convert("x", kind, repr(value))
    assert type(parsed) is type(value)
    assert parsed == value


def test_text_for_a_str_parameter_is_never_parsed():
    assert [notebook_parameters.convert("x", "str", text) for text in ("7", "True", " a'b", "")] == [
        "7",
        "True",
        " a'b",
        "",
    ]


def test_a_quick_run_from_caches_does_not_replace_the_time_of_a_cold_one(tmp_path, monkeypatch):
    monkeypatch.setenv("VAEFX_HOME", str(tmp_path))
    for seconds in (3.0, 90.04, 12.0):
        notebooks.record_timing("smoke", "01_data_rendering", seconds)
    monkeypatch.setenv("VAEFX_SIDE_BY_SIDE", "1")  # slower, as another ran beside it
    notebooks.record_timing("smoke", "01_data_rendering", 100.0)
    assert figures.metrics("smoke")["timing"] == {"01_data_rendering_s": 90.0}
