"""The README's recipes work: an effect, a corpus, a preset, a figure and a notebook go into a copy of the project."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

ROOT = Path(__file__).parents[1]
TREMOLO = '''"""A tremolo."""

import functools

import numpy as np

from vaefx_lib.effects.effect import Effect, Param


def tremolo(audio, sample_rate_hz, *, depth):
    """Loudness that comes and goes five times a second, by `depth` percent."""
    sway = 0.5 - 0.5 * np.cos(2 * np.pi * 5 * np.arange(audio.shape[1]) / sample_rate_hz)
    return (audio * (1 - depth / 100 * sway)).astype(np.float32)


def names(prefix="mine"):
    return ["Tremolo"]


@functools.cache
def load(name):
    if name != "mine:Tremolo":
        raise ValueError(f"unknown effect {name!r}: there is mine:Tremolo")
    return Effect(name, (Param("depth", "%", 0, 100, 50),), tremolo)
'''
LAYOUT = '''

def _radio(root: Path, _variant: str, refused: dict[Path, str]) -> list[Found]:
    """Radio: shows/HOST-NUMBER.wav."""
    return [Found(path, path.stem.partition("-")[0], path.stem) for path in _sounds(root / "shows", refused)]
'''
PLOT = '''

def plot_peaks(audio, *, ax: Axes | None = None):
    """The largest values of some sounds, as bars."""
    ax = ax or new_axes(4, 3)
    ax.set(xlabel="sound", ylabel="peak")
    return ax.bar(range(len(audio)), [abs(sound).max() for sound in audio])
'''
CELLS = [
    'preset: str = "report"  # which experiment\nseed: int = 0  # of nothing',
    "from vaefx_lib import config, corpora, audio, effects, figures, plots",
    'fx = effects.load("mine:Tremolo")\ndry = audio.load(corpora.load("speech")[0].path)[0]',
    "sounds = [dry, *(fx.render(dry, [depth], 24_000) for depth in (0.5, 1))]\nprint(config.preset(preset).name)",
    "bars = plots.plot_peaks(sounds)",
    'figures.save_figure(bars[0].figure, "peaks", preset, caption="Peaks of three sounds.");',
]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A copy of what is in the repository, but for its notebooks."""
    tree = tmp_path_factory.mktemp("project")
    shutil.copytree(ROOT / "vaefx_lib", tree / "vaefx_lib", ignore=shutil.ignore_patterns("__pycache__", "speech"))
    (tree / "vaefx_lib/speech").symlink_to(ROOT / "vaefx_lib/speech")
    for name in ("README.md", "Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tree)
    (tree / "notebooks").mkdir()
    (tree / "vaefx_lib/effects/tremolo.py").write_text(TREMOLO)
    append(tree / "vaefx_lib/corpus_layouts.py", LAYOUT)
    append(tree / "vaefx_lib/plots.py", PLOT)
    replace(tree / "vaefx_lib/effects/__init__.py", '_BACKENDS = {"mda"', '_BACKENDS = {"mine": "tremolo", "mda"')
    replace(tree / "vaefx_lib/corpus_layouts.py", '    "folder": ("",),', '    "folder": ("",),\n    "radio": ("",),')
    replace(tree / "vaefx_lib/corpus_layouts.py", 'MARKERS = {"vctk"', 'MARKERS = {"radio": "shows", "vctk"')
    replace(tree / "vaefx_lib/corpus_layouts.py", '{"folder": _folder,', '{"folder": _folder, "radio": _radio,')
    replace(tree / "vaefx_lib/config.py", "PRESETS = {", f"PRESETS = {{\n{preset_of(tree)}")
    return tree


def preset_of(tree) -> str:
    return f"""    "mine": Preset(
        "mine",
        stft=Stft(num_frames=65, n_fft=1024, hop_length=512, win_length=1024),
        render=Render(
            effects=("mine:Tremolo", "mda:Overdrive"), corpus="radio:{tree}/corpus",
            n_train=8, n_valid=4, n_test=4, n_dummy_train=4, n_dummy_test=4, shard_pairs=4,
        ),
    ),
"""


def append(path, text):
    path.write_text(path.read_text() + text)


def replace(path, old, new):
    text = path.read_text()
    assert text.count(old) == 1, old
    path.write_text(text.replace(old, new))


def run(tree, *command, **environment):
    environment = {**os.environ, "PYTHONPATH": str(tree), "VAEFX_HOME": str(tree), **environment}
    done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def vaefx(tree, *arguments):
    return run(tree, sys.executable, "-m", "vaefx_lib", *arguments)


@pytest.fixture(scope="module")
def recordings(project):
    """Twelve shows of four hosts, with sounds of their own."""
    rng = np.random.default_rng(0)
    (project / "corpus/shows").mkdir(parents=True)
    for host in ("ada", "bob", "cleo", "dan"):
        for number in range(3):
            sound = 0.1 * rng.normal(size=5 * 24_000).astype(np.float32)
            soundfile.write(project / f"corpus/shows/{host}-{number}.wav", sound, 24_000)
    return project


def test_an_effect_is_listed_with_its_parameters_and_units(project):
    described = json.loads(vaefx(project, "effects", "mine:Tremolo", "--json"))["mine:Tremolo"]
    assert [(p["name"], p["unit"], p["high"]) for p in described["params"]] == [("depth", "%", 100)]


def test_a_corpus_of_another_layout_is_checked_by_its_name(recordings):
    found = json.loads(vaefx(recordings, "corpus", "check", f"radio:{recordings}/corpus", "--json"))
    assert found["speakers"] == 4 and found["utterances"] == 12 and not found["damaged"]


def test_a_preset_renders_the_added_effect_from_the_added_corpus_and_parts_its_speakers(recordings):
    vaefx(recordings, "render", "--preset", "mine")
    parts = {}
    for part in ("train", "test"):
        shards = (recordings / f"runs/mine/data/{part}").glob("shard-*.json")
        rows = [row for shard in shards for row in json.loads(shard.read_text())["rows"]]
        assert {row["effect"] for row in rows} == {"mine:Tremolo", "mda:Overdrive"}
        parts[part] = {row["speaker"] for row in rows}
    assert parts["train"] and parts["test"] and not parts["train"] & parts["test"]


def test_a_notebook_that_make_was_told_of_draws_the_added_figure(project):
    cells = [
        {"cell_type": "code", "execution_count": None, "id": str(i), "metadata": {}, "outputs": [], "source": source}
        for i, source in enumerate(CELLS)
    ]
    cells[0]["metadata"] = {"tags": ["parameters"]}
    kernel = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    lesson = {"cells": cells, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}
    (project / "notebooks/09_peaks.ipynb").write_text(json.dumps(lesson))
    makefile = (project / "Makefile").read_text().splitlines()
    (line,) = [i for i, text in enumerate(makefile) if text.startswith("NOTEBOOKS := ")]
    makefile[line] = "NOTEBOOKS := 09_peaks"
    (project / "Makefile").write_text("\n".join(makefile) + "\n")
    (project / "ready").touch()
    told = run(project, "make", "figures", "PRESET=mine", f"PY={sys.executable}", "READY=ready", MAKEFLAGS="")
    assert "figures of the preset mine are up to date" in told
    figures = project / "runs/mine/figures"
    assert (figures / "peaks.png").read_bytes().startswith(b"\x89PNG")
    assert "Peaks of three sounds." in (figures / "README.md").read_text()
