"""The weekly report: it says what the student, git and metrics.json say, and the page needs nothing but itself."""

import base64
import io
import json
import re
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
import soundfile
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image
from test_versions import commit, git

from vaefx_lib import figures, plots, report, report_page, report_scores

matplotlib.use("agg")
ROOT = Path(__file__).parents[1]
DAY = "2026-11-20"


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A project folder that is no checkout."""
    monkeypatch.setenv("VAEFX_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def checkout(home):
    git(home, "init", "-q")
    return home


# --- words ------------------------------------------------------------------------------------------------------------


def test_an_empty_day_is_today_and_a_week_has_seven_days():
    day, since = report.span("2026-03-03", "")
    assert (day, since) == ("2026-03-03", "2026-02-24")
    assert report.span(DAY, "v1") == (DAY, "v1")
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", report.span("", "v1")[0])


@pytest.mark.parametrize("day", ["yesterday", "2026-02-30", "20.11.2026"])
def test_a_day_that_is_none_is_refused(day):
    with pytest.raises(ValueError, match=f"day is {day!r}: it must be a day such as"):
        report.span(day, "")


def test_sections_are_the_students_words_without_comments(tmp_path):
    path = tmp_path / "weekly_report.md"
    path.write_text(
        "# Report\nKim\n<!-- ## Not one\nnor this -->\n## Questions\n\nWhy?\n\n### Details\nso\n"
        "## Plan <!-- of what? -->\n<!-- nothing -->\n## Code\n```\n## a comment\n```\n"
    )
    assert report.sections(path) == {
        "": "# Report\nKim",
        "Questions": "Why?\n\n### Details\nso",
        "Plan": "",
        "Code": "```\n## a comment\n```",
    }


def test_a_missing_text_has_no_sections_and_a_doubled_one_is_refused(tmp_path):
    assert report.sections(tmp_path / "none.md") == {"": ""}
    (tmp_path / "two.md").write_text("## Plan\n## Plan\n")
    with pytest.raises(ValueError, match="two.md has two sections 'Plan'"):
        report.sections(tmp_path / "two.md")
    (tmp_path / "latin.md").write_bytes("für".encode("latin-1"))
    with pytest.raises(ValueError, match="latin.md is not UTF-8"):
        report.sections(tmp_path / "latin.md")


def test_the_text_that_comes_with_the_project_has_the_sections_of_the_week_5_report():
    found = report.sections(ROOT / "notebooks" / "weekly_report.md")
    assert list(found)[1:] == [report.DONE, "Questions", "Plan for next week", "Current state of project"]


def test_commits_stand_in_for_words_and_behind_them(checkout):
    commit(checkout, "Before", "2026-11-01 12:00:00")
    name = commit(checkout, "Fix <b> and `x_1` in *the* loss", "2026-11-15 12:00:00")
    alone = report.done("", "2026-11-13", DAY)
    assert alone.startswith("1 commit since 2026-11-13:")
    assert rf"Fix \<b\> and \`x\_1\` in \*the\* loss <small>2026-11-15, {name}</small>" in alone
    assert "Before" not in alone
    told = report.done("I fixed the loss.", "2026-11-13", DAY)
    assert told.startswith("I fixed the loss.\n\n<details><summary>1 commit since 2026-11-13</summary>")
    assert name in told
    assert report.done("", "2026-11-16", DAY) == "*No commits since 2026-11-16.*"


def test_of_many_commits_the_latest_are_listed_and_the_others_counted(checkout):
    for i in range(report.RECENT + 2):
        commit(checkout, f"step {i}", "2026-11-15 12:00:00")
    told = report.done("", "2026-11-13", DAY)
    assert told.count("\n- ") == report.RECENT + 1
    assert told.endswith("- and 2 before these")
    assert f"step {report.RECENT + 1} " in told and "step 1 " not in told


def test_without_a_checkout_the_report_says_so_in_a_sentence(home):
    assert re.fullmatch(r"\*No commits are listed: .* is no git checkout\.\*", report.done("", "2026-11-13", DAY))
    assert report.done("Words.", "2026-11-13", DAY).startswith("Words.\n\n*No commits are listed")
    figures.record("report", {"a": 1})
    numbers, said = report.earlier("report", "2026-11-13", DAY)
    assert numbers == {}
    assert said.startswith("There is nothing to compare with: ") and "no git checkout" in said


# --- numbers ----------------------------------------------------------------------------------------------------------


def test_earlier_numbers_are_those_that_git_had_then(checkout):
    figures.record("report", {"reconstruction": {"dry": {"vae_mse": 0.5}}})
    name = commit(checkout, "numbers", "2026-11-01 12:00:00")
    figures.record("report", {"reconstruction": {"dry": {"vae_mse": 0.4}}})
    commit(checkout, "better", "2026-11-15 12:00:00")
    figures.record("report", {"reconstruction": {"dry": {"vae_mse": 0.3}}})
    numbers, said = report.earlier("report", "2026-11-13", DAY)
    assert numbers == {"reconstruction": {"dry": {"vae_mse": 0.5}}}
    assert f"commit {name} of 2026-11-01" in said
    assert "differs from the last commit in 1 file." in said
    assert report.earlier("report", "HEAD", DAY)[0] == {"reconstruction": {"dry": {"vae_mse": 0.4}}}
    assert "git has no `metrics.json` of the preset smoke" in report.earlier("smoke", "2026-11-13", DAY)[1]
    (checkout / "figures" / "metrics.json").write_text("{")
    commit(checkout, "torn", "2026-11-16 12:00:00")
    with pytest.raises(ValueError, match="metrics.json of commit .* is not JSON"):
        report.earlier("report", "HEAD", DAY)


NOW = {
    "reconstruction": {"dry": {"vae_mse": 0.25, "pca_mse": 0.5}, "wet": {"vae_mse": 0.6, "pca_mse": 0.5}},
    "latent": {"probe_accuracy": {"vae": 0.95, "pca": 0.9, "no_model": 0.97, "chance": 0.5}},
    "controller": {
        "mda:Delay": {
            "mrstft_wide": {"ours": 1.0, "none": 1.2, "random": 1.4, "mean": 1.6, "oracle": 0, "refined": 0.5}
        }
    },
    "timing": {"01_s": 3.0},
    "training": {"seconds": 9.0, "parameters": 7},
}
THEN = {
    "reconstruction": {"dry": {"vae_mse": 0.3}, "wet": {"vae_mse": 0.6001}},
    "latent": {"probe_accuracy": {"vae": 0.9}, "gone": 1},
    "controller": {"mda:Delay": {"mrstft_wide": {"ours": 0.9}}},
    "timing": {"01_s": 1.0},
    "training": {"seconds": 1.0, "parameters": 7},
}


def rows(numbers, before):
    lines = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in report_scores.table(numbers, before).splitlines()
    ]
    assert len({len(line) for line in lines}) == 1
    return {line[0]: line[1:] for line in lines}


def test_a_score_stands_beside_its_baselines_and_its_former_self():
    table = rows(NOW, THEN)
    assert table["reconstruction, dry: squared error"] == ["**0.25**", "0.3", "\u22120.05, better", "PCA 0.5"]
    assert table["reconstruction, wet: squared error"] == ["0.6", "0.6", "none", "PCA 0.5"]
    match = table["match of Delay: MRSTFT from the truth"]
    assert match == ["**1**", "0.9", "+0.1, worse", "dry 1.2, random 1.4, middle 1.6, best 0"]
    assert table["match of Delay: MRSTFT from the truth, with a search"][1:3] == ["", "new"]


def test_more_is_better_where_it_is_and_bold_only_what_beats_every_baseline():
    label = "effect named, random settings: accuracy"
    assert rows(NOW, THEN)[label] == ["0.95", "0.9", "+0.05, better", "PCA 0.9, no model 0.97, chance 0.5"]
    NOW_BETTER = {"latent": {"probe_accuracy": {**NOW["latent"]["probe_accuracy"], "vae": 0.98}}}
    assert rows(NOW_BETTER, THEN)[label][0] == "**0.98**"
    alone = {"latent": {"probe_accuracy": {"vae": 1.0}}}
    assert rows(alone, THEN)[label] == ["1", "0.9", "+0.1, better", ""]


def test_a_playable_space_stands_beside_those_of_other_methods_with_as_many_dimensions():
    found = {"bottleneck": {"2": 0.5, "4": 0.4}, "umap": {"2": 0.7}, "baselines": {"random": 1.0}}
    found = {
        m: {d: {"roundtrip_mrstft": e} if m != "baselines" else e for d, e in of.items()} for m, of in found.items()
    }
    table = rows({"playable": found}, {})
    assert table["settings through 2 dimensions and back: MRSTFT"] == ["**0.5**", "umap 0.7"]
    assert table["settings through 4 dimensions and back: MRSTFT"] == ["0.4", ""]


def test_what_was_not_measured_has_no_row_and_without_earlier_numbers_there_is_no_column_for_them():
    table = rows({"reconstruction": {"dry": NOW["reconstruction"]["dry"]}}, {})
    assert list(table) == ["unseen speakers", "---", "reconstruction, dry: squared error"]
    assert table["unseen speakers"] == ["now", "beside it"]
    assert "Nothing has been measured yet" in report_scores.table({"timing": {"01_s": 3.0}}, THEN)


def test_every_row_of_the_table_is_among_the_recorded_numbers_of_the_project():
    numbers = json.loads((ROOT / "figures" / "metrics.json").read_text())
    found = report_scores.scores(numbers)
    assert len(found) >= 10
    for row in found:
        for key in (row.ours, *row.beside.values(), *row.limits.values()):
            assert report_scores._at(numbers, key) is not None, key


def test_changes_are_counted_without_wall_times():
    assert report_scores.changes(NOW, THEN) == "Recorded numbers: 15. Changed: 3, new: 10, gone: 1."
    assert report_scores.changes(NOW, {}) == "Recorded numbers: 15."
    assert report_scores.changes(NOW, NOW) == "Recorded numbers: 15. Changed: 0, new: 0, gone: 0."


# --- pictures and sounds ----------------------------------------------------------------------------------------------


def test_a_picture_is_the_file_itself_with_its_caption_and_words_for_those_who_cannot_see_it(home):
    for name in ("a_map", "fig2_second", "fig1_first"):
        line = plots.plot_waveform(np.arange(9.0), 24_000)
        caption = f'The "first" <sentence> of {name}. And `output`.'
        path = figures.save_figure(line.figure, name, "report", caption=caption)
    plt.close("all")
    assert report.pictures("report") == ["fig1_first", "fig2_second", "a_map"]
    html = report.picture("report", "fig1_first", 1)
    found = re.search(r'<img alt="([^"]*)" src="data:image/webp;base64,([^"]*)">', html)
    drawn, sent = (
        np.asarray(Image.open(file).convert("RGB"), float) for file in (path, io.BytesIO(base64.b64decode(found[2])))
    )
    assert drawn.shape == sent.shape and np.abs(drawn - sent).mean() < 1
    assert found[1] == "The &quot;first&quot; &lt;sentence&gt; of fig1_first."
    assert "<b>Figure 1.</b>" in html and "And <code>output</code>." in html and "&lt;sentence&gt;" in html
    with pytest.raises(ValueError, match="there is no figure 'fig9': known are a_map, fig1_first, fig2_second"):
        report.picture("report", "fig9", 1)


@pytest.mark.parametrize("shape", [(24_000,), (2, 24_000)])
def test_a_sound_in_the_page_is_that_sound_to_16_bits_at_less_than_its_size(shape):
    rng = np.random.default_rng(0)
    sound = np.cumsum(rng.normal(size=shape), axis=-1)
    sound = (sound / np.abs(sound).max()).astype(np.float32)
    html = report.player('"dry" & <wet>', sound, 24_000)
    data = base64.b64decode(re.search(r'src="data:audio/flac;base64,([^"]*)"', html)[1])
    heard, rate = soundfile.read(io.BytesIO(data))
    assert rate == 24_000
    np.testing.assert_allclose(heard.T.reshape(shape), sound, atol=1 / 32767)
    assert len(data) < 0.8 * 2 * sound.size
    assert html.count("&quot;dry&quot; &amp; &lt;wet&gt;") == 2 and 'aria-label="' in html
    assert html == report.player('"dry" & <wet>', sound, 24_000)


def test_a_sound_that_is_too_loud_clips_and_does_not_wrap_around():
    html = report.player("loud", np.array([0.5, 1.7, -3.0], np.float32), 8_000)
    data = base64.b64decode(re.search(r"base64,([^\"]*)", html)[1])
    np.testing.assert_allclose(soundfile.read(io.BytesIO(data))[0], [0.5, 1, -1], atol=1e-4)


# --- the page ---------------------------------------------------------------------------------------------------------


def executed(path, *cells):
    nbformat.write(new_notebook(cells=list(cells)), path)
    return path


def shown(kind, data, source="secret = 1", tags=()):
    output = new_output("display_data", data={kind: data})
    return new_code_cell(source, outputs=[output], metadata={"tags": list(tags)})


def test_a_page_has_outputs_and_prose_and_no_code_no_lesson_no_script(tmp_path):
    notebook = executed(
        tmp_path / "a.ipynb",
        new_markdown_cell("Only for students", metadata={"tags": ["lesson"]}),
        new_code_cell("injected = 1", metadata={"tags": ["injected-parameters"]}),
        new_markdown_cell("## A heading"),
        shown("text/markdown", "Words with **weight**\n\n| a | b |\n|---|---|\n| 1 | 2 |"),
        shown("text/html", "<figure>raw</figure>"),
    )
    page = report_page.write(notebook, tmp_path / "a.html", title="Week <5>").read_text()
    for here in (">A heading", "<strong>weight</strong>", "<td>1</td>", "<figure>raw</figure>", "Week &lt;5&gt;"):
        assert here in page, here
    for gone in ("Only for students", "secret", "injected", "<script", "http:", "https:", "Week <5>"):
        assert gone not in page, gone
    assert page.startswith("<!DOCTYPE html>") and 'name="viewport"' in page and "@media print" in page
    assert "default-src 'none'" in page


def test_the_same_notebook_gives_the_same_page_and_a_page_too_large_is_not_written(tmp_path, monkeypatch):
    notebook = executed(tmp_path / "a.ipynb", shown("text/html", "x" * 1000))
    first, second = (report_page.write(notebook, tmp_path / name, title="a").read_bytes() for name in ("1", "2"))
    assert first == second
    monkeypatch.setattr(report_page, "MOST_BYTES", len(first) - 1)
    with pytest.raises(ValueError, match="the page would have 0.0 MB: it may have"):
        report_page.write(notebook, tmp_path / "3", title="a")
    assert not (tmp_path / "3").exists()


def test_make_report_tells_of_the_week_from_what_is_there_and_changes_nothing_else(reported_home):
    page = (reported_home / "runs" / "smoke" / "report.html").read_text()
    words = [
        ">Report of Kim",
        "2026-11-20, preset smoke",
        "1 commit since 2026-11-10",
        "An error of 0.25",
        "Is <em>that</em>",
    ]
    words += [
        "<strong>0.25</strong>",
        "\u22120.25, better",
        "PCA 0.4",
        "Recorded numbers: 2. Changed: 1, new: 0, gone: 0.",
    ]
    words += ["Figure 1.</b> The figure fig1_first.", "Figure 2.</b> The figure other.", "<strong>Overdrive</strong>"]
    for word in words:
        assert word in page, word
    assert "Plan for next week" not in page  # a section without words
    assert re.search(r"\d\d:\d\d:\d\d", re.sub('base64,[^"]*', "", page)) is None  # no time of day
    assert git(reported_home, "status", "--porcelain", "--untracked-files=no") == ""


def test_every_sound_of_the_page_is_whole_and_no_two_are_the_same(reported_home):
    page = (reported_home / "runs" / "smoke" / "report.html").read_text()
    sounds = {}
    found = re.findall(r'<audio aria-label="([^"]*)"[^>]*src="data:audio/flac;base64,([^"]*)"', page)
    for i, (label, data) in enumerate(found):
        sounds[label, i], rate = soundfile.read(io.BytesIO(base64.b64decode(data)))
        assert rate == 24_000
    labels = [label for label, _ in sounds]
    assert labels.count("rebuilt by the VAE") == labels.count("rebuilt by PCA") == labels.count("reference") == 2
    assert all(0.05 < np.abs(sound).max() <= 1 for sound in sounds.values())
    distinct = {sound.tobytes() for (label, _), sound in sounds.items() if not label.startswith("matched")}
    assert len(distinct) >= len([label for label in labels if not label.startswith("matched")]) - 1
