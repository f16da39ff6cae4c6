"""What the README says is true: its numbers, its links; for its commands see `test_readme_commands`."""

import re
from pathlib import Path

import pytest

from vaefx_lib import config, figures, results

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SCORES = {
    "reconstruction": {c: {"vae_mse": 0.25, "pca_mse": 0.5} for c in ("dry", "wet")},
    "latent": {
        "probe_accuracy": {"vae": 0.99, "pca": 0.9, "no_model": 1.0, "chance": 0.5},
        "probe_accuracy_dummy": {"vae": 1.0, "pca": 1.0, "no_model": 1.0, "chance": 0.5},
        "settings_r2": {s: {"mda:Overdrive": {"drive": 0.75}} for s in ("vae", "pca", "no_model")},
    },
    "interpolation": {"effects_dry_drift": 0.0, "pca": {"effects_dry_drift": 0.125}},
}


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("VAEFX_HOME", str(tmp_path))
    (tmp_path / "figures").mkdir()
    return tmp_path


def test_results_in_the_readme_are_those_of_metrics_json(monkeypatch):
    monkeypatch.setenv("VAEFX_HOME", str(ROOT))
    assert results.table("report") in README


def test_benchmarks_in_the_readme_are_those_of_benchmarks_json(monkeypatch):
    monkeypatch.setenv("VAEFX_HOME", str(ROOT))
    first, last = results.MARKS["benchmarks"]
    assert f"{first}\n\n{results.benchmarks_table(figures.benchmarks())}\n\n{last}" in README


def test_every_local_link_and_picture_of_the_readme_exists():
    links = re.findall(r"\]\(([^)]+)\)", README) + re.findall(r'src="([^"]+)"', README)
    assert len(links) > 10
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_every_preset_of_the_readme_exists_and_none_is_missing():
    assert set(re.findall(r"^\| `(\w+)` \|", README, flags=re.MULTILINE)) == set(config.PRESETS)


def test_results_table_has_each_score_beside_its_baselines(home):
    figures.record("report", SCORES)
    table = results.table("report")
    assert "| reconstruction, dry: mean squared error | 0.250 | 0.500 |  |  |" in table
    assert "| probe accuracy, random settings | 0.990 | 0.900 | 1.000 | 0.500 |" in table
    assert "| R2 of Overdrive drive | 0.750 | 0.750 | 0.750 |  |" in table


def test_what_the_study_found_stands_below_the_table_with_its_spread(home):
    found = {"seeds": 3, "mse_ratio_dry": 0.78, "mse_ratio_dry_std": 0.004, "mse_ratio_wet": 0.79}
    found |= {"mse_ratio_wet_std": 0.003, "probe_error_ratio": 0.05, "probe_error_ratio_std": 0.01}
    figures.record("report", SCORES)
    assert "seeds" not in results.table("report")
    scores = {"vae": 0.99, "pca": 0.9, "no_model": 1, "chance": 1 / 7}
    seven = {f"accuracy_{name}": value for name, value in scores.items()}
    figures.record("report", {"vae": {**found, "seven_effects": seven}})
    table = results.table("report")
    assert "Over 3 seeds the VAE's error is 0.780 ± 0.004 of PCA's on dry and 0.790 ± 0.003 on wet" in table
    assert "errs 0.050 ± 0.010 times as often" in table
    assert "accuracy 0.990 (PCA 0.900, no model 1.000, chance 0.143)" in table


def test_only_the_report_preset_writes_into_the_readme_and_only_between_the_marks(home):
    (home / "README.md").write_text(README)
    figures.record("report", SCORES)
    results.update_readme("smoke")
    assert (home / "README.md").read_text() == README
    results.update_readme("report")
    text = (home / "README.md").read_text()
    assert results.table("report") in text
    assert text.partition("<!-- results")[0] == README.partition("<!-- results")[0]
    assert text.partition("<!-- end of results")[2] == README.partition("<!-- end of results")[2]
    results.update_readme("report")
    assert (home / "README.md").read_text() == text


def test_a_readme_without_its_marks_is_refused_not_rewritten(home):
    (home / "README.md").write_text("no marks")
    figures.record("report", SCORES)
    with pytest.raises(ValueError, match="marks"):
        results.update_readme("report")
    assert (home / "README.md").read_text() == "no marks"


# --- benchmarks -------------------------------------------------------------------------------------------------------
MACHINE = {"system": "Linux", "kind": "x86_64", "processors": 2, "device": "CPU"}


def measured(median, low, high, repeats=3, **more):
    return {"median": median, "low": low, "high": high, "repeats": repeats, **more}


def part(*rows, **machine):
    return {"rows": list(rows), "machine": MACHINE | machine}


STEP = {
    "what": "a step",
    "unit": "ms",
    "measured": measured(305.55, 300.0, 1312.6),
    "reference": measured(1924.2, 1900.0, 2000.0, what="as usual", reached=True),
    "ratio": 0.15879,
}


def test_a_benchmark_stands_beside_its_reference_with_spread_unit_and_ratio():
    assert results.benchmarks_table({"controller": part(STEP)}).splitlines() == [
        "| what | measured | reference | measured / reference |",
        "|---|---|---|---|",
        "| a step | 306 ms (300 to 1,313) | as usual: 1,924 ms (1,900 to 2,000) | 0.159 |",
        "",
        "Measured with Linux on x86_64, 2 processors, CPU.",
    ]


def test_a_reference_that_was_given_up_bounds_the_ratio_from_above():
    reference = measured(120.4, 120.4, 120.4, repeats=1, what="the other", reached=False)
    row = STEP | {"unit": "s", "measured": measured(9.5, 9.5, 9.5, repeats=1), "reference": reference, "ratio": 0.0789}
    assert "| a step | 9.5 s | the other: > 120 s | < 0.0789 |" in results.benchmarks_table({"train": part(row)})


def test_a_benchmark_without_a_reference_leaves_the_cells_empty():
    row = {name: STEP[name] for name in ("what", "unit", "measured")}
    assert "| a step | 306 ms (300 to 1,313) |  |  |" in results.benchmarks_table({"train": part(row)})


def test_benchmarks_come_in_the_order_in_which_they_run_and_each_machine_is_named():
    found = {name: part({**STEP, "what": name}) for name in sorted(results.BENCHMARKS)}
    found["train"]["machine"] = MACHINE | {"device": "a GPU"}
    lines = results.benchmarks_table(found).splitlines()
    assert tuple(line.split(" | ")[0].removeprefix("| ") for line in lines[2:-2]) == results.BENCHMARKS
    assert lines[-1] == (
        "Measured with figures, render, controller, slider: Linux on x86_64, 2 processors, CPU; "
        "train: Linux on x86_64, 2 processors, a GPU."
    )


def test_before_anything_has_been_measured_the_readme_says_what_does_it():
    assert results.benchmarks_table({}) == results.benchmarks_table({"train": {"seconds": 22.0}})
    assert "`make bench`" in results.benchmarks_table({})


def test_results_and_benchmarks_have_their_own_places_in_the_readme(home):
    (home / "README.md").write_text(README)
    figures.record_benchmarks({"controller": part(STEP)})
    results.update_benchmarks()
    text = (home / "README.md").read_text()
    table = results.benchmarks_table(figures.benchmarks())
    first, last = results.MARKS["benchmarks"]
    assert text == f"{README.partition(first)[0]}{first}\n\n{table}\n\n{last}{README.partition(last)[2]}"
    figures.record("report", SCORES)
    results.update_readme("report")
    assert table in (home / "README.md").read_text() and results.table("report") in (home / "README.md").read_text()
    (home / "README.md").write_text(README.replace(last, ""))
    with pytest.raises(ValueError, match="lost the marks between which the benchmarks go: restore <!-- benchmarks"):
        results.update_benchmarks()
