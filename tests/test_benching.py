"""What the benchmarks share: repeats and their spread, a ratio that may be a bound, and where a part is kept."""

import dataclasses
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import bench_figures
import bench_train
import benching
import numpy as np
import pytest
import torch
from test_versions import commit, git

from vaefx_lib import config, figures, results

TESTS = Path(__file__).parent


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A project whose README has a place for the table."""
    monkeypatch.setenv("VAEFX_HOME", str(tmp_path))
    (tmp_path / "README.md").write_text("\n".join(results.MARKS["benchmarks"]))
    return tmp_path


def test_repeats_are_told_by_their_median_least_and_most():
    assert benching.spread([3, 1.5, 2]) == {"median": 2.0, "low": 1.5, "high": 3.0, "repeats": 3}
    assert benching.spread((4.0, 1.0)) == {"median": 2.5, "low": 1.0, "high": 4.0, "repeats": 2}
    assert benching.spread([7]) == {"median": 7.0, "low": 7.0, "high": 7.0, "repeats": 1}


def test_rounds_are_stretches_of_time_and_one_slow_value_in_each_does_not_count():
    values = [1, 1, 90, 2, 2, 90, 3, 3, 90]
    assert benching.medians(values, 3) == [1.0, 2.0, 3.0]
    assert benching.medians([5.0, 6.0], 2) == [5.0, 6.0]


def test_a_row_has_the_ratio_of_both_medians():
    row = benching.row("a step", "ms", [1, 2, 9], "as usual", [4, 3, 400])
    assert row["ratio"] == 0.5
    assert row["measured"] == {"median": 2.0, "low": 1.0, "high": 9.0, "repeats": 3}
    assert row["reference"] == {
        "median": 4.0,
        "low": 3.0,
        "high": 400.0,
        "repeats": 3,
        "what": "as usual",
        "reached": True,
    }


BLOCK = """
import json
import benching
import numpy as np
imported_mb = benching.peak_mb()
block = np.ones(40_000_000)
del block
print(json.dumps(benching.memory_row("a block", imported_mb)))
"""


def test_a_row_of_memory_tells_of_a_block_that_was_given_back_beside_what_was_there_before():
    # as `make` starts it: a child of these large tests would begin with their peak
    command = ["sh", "-c", '"$0" -c "$1"; exit $?', sys.executable, BLOCK]
    done = subprocess.run(command, cwd=TESTS, capture_output=True, text=True, check=True)
    row = json.loads(done.stdout)
    more_mb = row["measured"]["median"] - row["reference"]["median"]
    assert 310 < more_mb < 330  # of 320
    assert row["unit"] == "MB" and row["ratio"] > 1


def test_a_benchmark_keeps_its_part_in_place_of_the_old_and_the_readme_shows_it(home, capsys):
    figures.record_benchmarks({"train": {"old": 1}, "render": {"kept": 2}})
    benching.keep("train", [benching.row("a step", "ms", [1, 2, 9], "as usual", [4], reached=False)], seeds=3)
    found = figures.benchmarks()
    assert found["render"] == {"kept": 2}
    assert found["train"].keys() == {"rows", "machine", "seeds"}
    (line,) = [line for line in (home / "README.md").read_text().splitlines() if "a step" in line]
    assert line == "| a step | 2 ms (1 to 9) | as usual: > 4 ms | < 0.5 |"
    assert line in capsys.readouterr().out


# --- the scripts ------------------------------------------------------------------------------------------------------
def recorded(home, at, **seconds):
    """A commit whose benchmarks say so of `make figures`."""
    (home / "figures").mkdir(exist_ok=True)
    (home / "figures" / "benchmarks.json").write_text(json.dumps({"figures": seconds} | {"of": at}))
    return commit(home, "numbers", at)


def test_a_cold_run_stands_beside_the_last_commit_with_another_time(home):
    git(home, "init", "-q")
    recorded(home, "2026-11-01 12:00:00", cold_s=1500)
    name = recorded(home, "2026-11-02 12:00:00", cold_s=1400)
    recorded(home, "2026-11-03 12:00:00")  # not measured
    recorded(home, "2026-11-04 12:00:00", cold_s=1100)
    found, seconds = bench_figures.earlier(1100)
    assert (found.name, seconds) == (name, 1400)


def test_a_cold_run_has_no_reference_where_there_is_no_history(home, capsys):
    assert bench_figures.earlier(1100) is None
    assert "no reference" in capsys.readouterr().out


def test_the_benchmark_of_figures_puts_three_rows_into_the_readme(home, monkeypatch):
    git(home, "init", "-q")
    name = recorded(home, "2026-11-02 12:00:00", cold_s=50)
    monkeypatch.setattr(bench_figures, "warm", lambda *given: ([0.25, 0.25], [0.125, 0.125], [2.5, 2.5]))
    with pytest.raises(SystemExit, match="run `make clean`, then it"):
        bench_figures.main()
    (home / "runs/report/notebooks").mkdir(parents=True)
    (home / "runs/report/notebooks/.cold_s").write_text("25\n")
    bench_figures.main()
    lines = (home / "README.md").read_text().splitlines()
    warm = "| `make figures`, nothing out of date | 0.25 s (0.25 to 0.25) | `make help`: 0.125 s (0.125 to 0.125) | 2 |"
    assert warm in lines
    assert "| `make figures` after an edit of a plot | 2.5 s (2.5 to 2.5) | cold: 25 s | 0.1 |" in lines
    assert f"| `make figures`, cold | 25 s | at commit {name}: 50 s | 0.5 |" in lines


@pytest.fixture
def learners(spoken, monkeypatch):
    """Both networks at a tiny size, and their data."""
    x = np.random.default_rng(0).normal(size=(16, 2, spoken.stft.num_frames, spoken.stft.num_bins)).astype(np.float16)
    return spoken, x, torch.from_numpy(x[:8]).float()


def test_training_is_timed_until_the_target_and_else_until_the_limit(learners, monkeypatch):
    preset, x, valid = learners
    monkeypatch.setattr(bench_train, "TARGET", 50.0)
    found = bench_train.time_to_quality(preset, x, valid, seed=0, limit_s=60)
    assert found["reached"] and found["steps"] == 1 and found["mse"] <= 50
    monkeypatch.setattr(bench_train, "TARGET", 0.0)
    found = bench_train.time_to_quality(preset, x, valid, seed=0, limit_s=0.3)
    assert not found["reached"] and found["seconds"] >= 0.3 and found["mse"] > 0
    assert found["examples_per_s"] == pytest.approx(found["steps"] * preset.train.batch_size / found["seconds"])


def test_a_network_that_does_not_come_to_the_target_in_time_bounds_the_ratio(home, spoken, spoken_home, monkeypatch):
    shutil.copytree(spoken_home / "runs" / "spoken", home / "runs" / "report")
    monkeypatch.setitem(config.PRESETS, "report", dataclasses.replace(spoken, name="report"))
    monkeypatch.setattr(bench_train, "LIMIT_S", 0.5)
    quality, sizes = bench_train.unseen_mse, []  # the first network that is looked at is ours

    def good_of_ours(model, x):
        sizes.append(sum(weight.numel() for weight in model.parameters()))
        return 0.1 if sizes[-1] == sizes[0] else quality(model, x)

    monkeypatch.setattr(bench_train, "unseen_mse", good_of_ours)
    monkeypatch.setattr(bench_train, "TARGET", 0.2)
    bench_train.main()
    kept = figures.benchmarks()["train"]
    assert [one["reached"] for one in kept["ours"]] == [True] * 3
    assert [one["reached"] for one in kept["week5"]] == [False]
    assert kept["time_ratio_to_quality"] == kept["rows"][0]["ratio"]
    lines = (home / "README.md").read_text().splitlines()
    assert any(
        re.search(r"an error of 0.2 \| .* \| the report's own network: > [\d.]+ s \| < ", line) for line in lines
    )
    assert any(line.startswith("| peak memory of training | ") for line in lines)
