"""Lessons begin with the models that come with the library: the cells that need them, in a real kernel.

Lesson 05 does so in `test_readme_commands`.
"""

import dataclasses
import json
from pathlib import Path

import pytest
from browsing import small_project
from test_project import ROOT

from vaefx_lib import config, notebooks, packed, runs, store

STARTUP = """
from vaefx_lib import packed
packed.FOLDER = Path({folder!r})
"""


def project(home, preset, library):
    """A project whose kernels take a preset for that of these lessons, and a folder for the library's; IPYTHONDIR."""
    folder = small_project(home, dataclasses.replace(preset, name=config.PACKED))["IPYTHONDIR"]
    startup = Path(folder) / "profile_default" / "startup" / "preset.py"
    startup.write_text(startup.read_text() + STARTUP.format(folder=str(library)))
    return folder


def some_cells(home, name, wanted):
    """Copy a lesson with those of its code cells that have one of these words, and its parameters."""
    lesson = store.read_json(ROOT / "notebooks" / f"{name}.ipynb")

    def kept(cell):
        tagged = "parameters" in cell["metadata"].get("tags", [])
        return cell["cell_type"] == "code" and (tagged or any(word in "".join(cell["source"]) for word in wanted))

    (home / "notebooks" / f"{name}.ipynb").write_text(
        json.dumps(lesson | {"cells": [cell for cell in lesson["cells"] if kept(cell)]})
    )


def executed(home, name):
    """The copy of a lesson that has begun with the library's models, after a look that it has trained nothing."""
    assert runs.load(config.vae_dir(config.PACKED)).fingerprint == packed.vae().fingerprint
    assert not (config.controller_dir(config.PACKED) / "manifest.json").exists()
    assert not list(config.playable_dir(config.PACKED).glob("*/manifest.json"))
    assert not (home / "runs" / "report").exists()
    return home / "runs" / "packed" / "notebooks" / f"{name}.ipynb"


@pytest.fixture
def home(packed_library, controlled, tmp_path, monkeypatch):
    monkeypatch.setenv("VAEFX_HOME", str(tmp_path))
    monkeypatch.setenv("IPYTHONDIR", project(tmp_path, controlled, packed_library))
    return tmp_path


@pytest.mark.parametrize(
    "name, wanted",
    [
        ("04_interpolation_figures", ["import", "run = ", "voices = ", "ends = ", "path = ", "mean_drift"]),
        ("06_playable_latent", ["import", "controller = ", "material = ", "both = ", "two = ", "four = "]),
    ],
)
def test_a_lesson_trains_nothing_and_writes_nothing_of_the_report(home, name, wanted):
    some_cells(home, name, wanted)
    assert notebooks.run(name, parameters={"pretrained": True}) == executed(home, name)
    assert not list(config.figures_dir(config.PACKED).glob("*.png"))
