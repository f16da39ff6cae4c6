"""Figures, captions and numbers: the same data gives the same bytes, and what did not change is not written again."""

import json
import math
import os
import re
import subprocess
import sys

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vaefx_lib import config, figures, plain_json, plots, results, store

matplotlib.use("agg")


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("VAEFX_HOME", str(tmp_path))
    with matplotlib.rc_context():
        figures.set_style()
        yield tmp_path / "figures"
    plt.close("all")


def save(name="fig1", *, seed=0, caption="What to see.", preset="report"):
    line = plots.plot_waveform(np.random.default_rng(seed).random(100), 24_000, title="Dry")
    return figures.save_figure(line.figure, name, preset, caption=caption)


def make_old(folder):
    """Put every file's time far back."""
    for path in folder.iterdir():
        os.utime(path, (1000, 1000))


def rewritten(folder):
    return sorted(path.name for path in folder.iterdir() if path.stat().st_mtime != 1000)


# --- pictures ---------------------------------------------------------------------------------------------------------
DRAW = """
import numpy as np
from vaefx_lib import config, figures, plots
figures.set_style()
columns = np.random.default_rng(0).random((12, 2, 17, 513))
fig = plots.plot_interpolation(columns, [f"$X_{{{i}}}$" for i in range(12)], config.Stft(), footnote="None.")
figures.save_figure(fig, "fig4", "report", caption="A path.")
"""


def test_two_processes_with_other_matplotlib_settings_write_the_same_bytes(tmp_path):
    own = (
        "font.family: serif\nfont.size: 20\nsavefig.bbox: tight\nsavefig.facecolor: red\nimage.interpolation: bicubic\n"
    )
    running, written = [], []
    for i, settings in enumerate(("", own)):
        home = tmp_path / str(i)
        home.mkdir()
        (home / "matplotlibrc").write_text(settings)
        environment = {
            "VAEFX_HOME": str(home),
            "MATPLOTLIBRC": str(home),
            "PYTHONHASHSEED": str(i),
            "MPLBACKEND": "agg",
        }
        running.append(subprocess.Popen([sys.executable, "-c", DRAW], env=os.environ | environment))
        written.append(home / "figures" / "fig4.png")
    assert [process.wait(timeout=120) for process in running] == [0, 0]
    first, second = (path.read_bytes() for path in written)
    assert first == second
    assert b"Matplotlib" not in first  # a new version alone changes nothing


def test_a_picture_has_150_pixels_an_inch(home):
    data = save().read_bytes()
    assert data.startswith(b"\x89PNG")
    assert [int.from_bytes(data[i : i + 4], "big") for i in (16, 20)] == [7 * 150, 2 * 150]


def test_an_unchanged_figure_and_its_caption_are_left_alone(home):
    save()
    make_old(home)
    save()
    assert rewritten(home) == []
    save(caption="Something else to see.")
    assert rewritten(home) == ["README.md"]
    make_old(home)
    save(caption="Something else to see.", seed=1)
    assert rewritten(home) == ["fig1.png"]


def test_saving_the_same_figure_twice_gives_the_same_bytes(home):
    fig = plots.plot_pair(np.random.default_rng(0).random((2, 9, 513)), config.Stft(), "Delay")
    first = figures.save_figure(fig, "fig1", "report", caption="Once.").read_bytes()
    assert figures.save_figure(fig, "fig1", "report", caption="Once.").read_bytes() == first


def test_figures_of_the_report_and_of_other_presets_stay_apart(home, tmp_path):
    assert save() == home / "fig1.png"
    assert save(preset="smoke") == tmp_path / "runs" / "smoke" / "figures" / "fig1.png"
    assert sorted(path.name for path in home.iterdir()) == ["README.md", "fig1.png"]


@pytest.mark.parametrize(
    "options, message",
    [
        ({"name": "../fig1"}, r"figure name '\.\./fig1' must"),
        ({"name": ""}, "figure name '' must"),
        ({"caption": " \n"}, "figure fig1 needs a caption"),
        ({"preset": "smok"}, "unknown preset 'smok'"),
    ],
)
def test_a_bad_name_caption_or_preset_is_refused_and_nothing_written(home, options, message):
    with pytest.raises(ValueError, match=message):
        save(**options)
    assert not home.exists()


def test_a_full_disk_leaves_the_old_picture_whole(home, monkeypatch):
    before = save().read_bytes()

    def full(self, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(OSError, match="could not write .*fig1.png: No space left"):
        save(seed=1)
    assert (home / "fig1.png").read_bytes() == before
    assert sorted(path.name for path in home.iterdir()) == ["README.md", "fig1.png"]


# --- captions ---------------------------------------------------------------------------------------------------------
def test_captions_of_other_figures_survive_and_stand_in_order(home):
    save("fig2", caption="The second.")
    save("fig1", caption="The first.")
    save("fig2", caption="The second, changed.")
    assert figures.captions("report") == {"fig1": "The first.", "fig2": "The second, changed."}
    text = (home / "README.md").read_text()
    assert re.findall("^## (.*)", text, re.MULTILINE) == ["fig1", "fig2"]
    assert "![The first.](fig1.png)\n\nThe first.\n" in text
    assert text.startswith("# Figures of the preset `report`\n")


@pytest.mark.parametrize(
    "caption",
    [
        "## fig2",
        "![a](fig2.png) and [b](c)",
        "Two\n\n## fig2\n\n![x](fig2.png)\n\nparagraphs",
        r"With $\hat X_1$, `code`, *stress* and a ] bracket. More: é – \u2028 end",
    ],
)
def test_no_caption_is_taken_for_another_or_lost(home, caption):
    save("fig1", caption=caption)
    save("fig3", caption="Other.")
    assert figures.captions("report") == {"fig1": " ".join(caption.split()), "fig3": "Other."}


def test_a_figure_that_is_gone_leaves_the_captions(home):
    save("fig1")
    save("fig2").unlink()
    save("fig3")
    assert list(figures.captions("report")) == ["fig1", "fig3"]
    assert "fig2" not in (home / "README.md").read_text()


# --- numbers ----------------------------------------------------------------------------------------------------------
def test_scores_are_merged_sorted_and_rounded_to_six_digits(home):
    assert figures.metrics("report") == {}
    figures.record("report", {"latent": {"silhouette": {"vae": 1 / 3, "pca": 1e-9 / 3}}, "b": 1})
    figures.record("report", {"latent": {"n": np.int64(4000), "silhouette": {"vae": np.float32(0.1)}}, "a": True})
    expected = {"a": True, "b": 1, "latent": {"n": 4000, "silhouette": {"pca": 3.33333e-10, "vae": 0.1}}}
    assert figures.metrics("report") == expected
    assert (home / "metrics.json").read_text() == json.dumps(expected, indent=2) + "\n"


def test_numbers_of_numpy_and_torch_and_lists_of_them_are_taken(home):
    figures.record("smoke", {"x": [np.float64(0.5), torch.tensor(0.25)], "y": torch.arange(2), "z": "text"})
    assert figures.metrics("smoke") == {"x": [0.5, 0.25], "y": [0, 1], "z": "text"}
    assert not home.exists()


@pytest.mark.parametrize(
    "value, message",
    [
        (math.nan, "a.b must be finite, got nan"),
        (np.float32("-inf"), "a.b must be finite, got -inf"),
        ([1.0, torch.tensor(math.inf)], r"a.b\[1\] must be finite, got inf"),
        (None, "a.b must be a number, .* got NoneType"),
        ({3: 1.0}, "key 3 in a.b must be a str"),
    ],
)
def test_what_is_no_finite_number_is_refused_by_its_key_and_nothing_written(home, value, message):
    figures.record("report", {"a": {"b": 1.0}})
    before = (home / "metrics.json").read_bytes()
    with pytest.raises(ValueError, match=message):
        figures.record("report", {"a": {"a": 2.0, "b": value}})
    assert (home / "metrics.json").read_bytes() == before


def test_numbers_that_are_the_same_leave_the_file_alone(home):
    figures.record("report", {"a": 0.1234567})
    make_old(home)
    figures.record("report", {"a": 0.12345674})
    assert rewritten(home) == []
    figures.record("report", {"a": 0.2})
    assert rewritten(home) == ["metrics.json"]


def test_damaged_numbers_are_not_overwritten(home):
    home.mkdir()
    (home / "metrics.json").write_text('{"a": 1')
    with pytest.raises(store.DamagedFile, match=r"metrics\.json cannot be read"):
        figures.record("report", {"b": 1})
    assert (home / "metrics.json").read_text() == '{"a": 1'


def test_a_benchmark_replaces_all_that_it_measured_before_and_leaves_the_others(home):
    assert figures.benchmarks() == {}
    figures.record_benchmarks({"render": {"ms": {"slow": 2.0, "gone": 1.0}}, "train": {"s": 3}})
    figures.record_benchmarks({"render": {"ms": {"slow": 1 / 3}}})
    assert figures.benchmarks() == {"render": {"ms": {"slow": 0.333333}}, "train": {"s": 3}}
    with pytest.raises(ValueError, match="render.ms must be finite, got nan"):
        figures.record_benchmarks({"render": {"ms": math.nan}})
    assert figures.benchmarks()["render"] == {"ms": {"slow": 0.333333}}


RACE = """
import sys, time
from pathlib import Path
from matplotlib.figure import Figure
from vaefx_lib import config, figures
own, other = sys.argv[1:]
fig = Figure((0.1, 0.1))
(config.project_dir() / own).touch()
while not (config.project_dir() / other).exists():
    time.sleep(0.001)
for i in range(40):
    figures.record("report", {own: {str(i): i}, "both": {f"{own}{i}": 1}})
    figures.record_benchmarks({own: {str(j): j for j in range(i + 1)}})
    figures.save_figure(fig, f"{own}{i}", "report", caption=f"Of {own}.")
"""


def test_two_processes_that_write_at_once_lose_no_number_and_no_caption(tmp_path):
    environment = os.environ | {"VAEFX_HOME": str(tmp_path), "MPLBACKEND": "agg"}
    pairs = (("a", "b"), ("b", "a"))
    racing = [subprocess.Popen([sys.executable, "-c", RACE, *names], env=environment) for names in pairs]
    assert [process.wait(timeout=120) for process in racing] == [0, 0]
    numbers, benchmarks = (store.read_json(tmp_path / "figures" / f"{n}.json") for n in ("metrics", "benchmarks"))
    everything = {str(i): i for i in range(40)}
    assert {own: numbers[own] for own in "ab"} == benchmarks == {"a": everything, "b": everything}
    assert len(numbers["both"]) == 80
    found = re.findall(r"^## (\w+)$", (tmp_path / "figures" / "README.md").read_text(), re.MULTILINE)
    assert found == sorted(f"{own}{i}" for own in "ab" for i in range(40))


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_rounding_moves_a_number_by_less_than_a_millionth_and_only_once(x):
    once = plain_json.plain(x, "x")
    assert once == pytest.approx(x, rel=5.1e-6, abs=1e-320)
    assert plain_json.plain(once, "x") == once


def test_recording_a_number_does_not_load_matplotlib():
    code = "import sys, vaefx_lib.figures, vaefx_lib.notebooks; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_readme_takes_the_map_whose_round_trip_is_shortest_whichever_it_is():
    row = {str(dim): {"roundtrip_mrstft": 1.0} for dim in (2, 4)}
    found = dict.fromkeys(results.MAPS, row) | {
        "pca": {"2": {"roundtrip_mrstft": 0.25}, "4": {"roundtrip_mrstft": 0.75}}
    }
    found["baselines"] = {name: {"roundtrip_mrstft": 2.0} for name in ("none", "random", "mean", "controller")}
    (line,) = filter(None, results._maps(found))
    assert line.count("2.00") == 4
    assert "Take PCA: " in line and "0.50 away" in line and "a bottleneck 1.00" in line
    assert results._maps({"pca": row}) == []  # lesson 06 has not been run
