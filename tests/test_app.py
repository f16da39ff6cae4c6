"""The app is made of the cells of lesson 06 that are for it, and says what to run where there is nothing to play on."""

import json

import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, writes

from vaefx_lib import app, config, packed, store


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A project with a lesson 06 of five cells."""
    monkeypatch.setenv("VAEFX_HOME", str(tmp_path))
    (tmp_path / "notebooks").mkdir()
    cells = [
        new_markdown_cell("# A long story"),
        new_code_cell('preset: str = "report"\nseed: int = 0', metadata={"tags": ["parameters"]}),
        new_code_cell("train_for_minutes()"),
        new_markdown_cell("## Play it", metadata={"tags": ["app"]}),
        new_code_cell("play(preset, seed)", metadata={"tags": ["app"]}),
    ]
    (tmp_path / "notebooks" / f"{app.LESSON}.ipynb").write_text(writes(new_notebook(cells=cells)))
    return tmp_path


def test_the_app_runs_nothing_but_parameters_the_preset_and_the_cells_that_are_for_it(home):
    path = home / "notebooks" / f"{app.LESSON}.ipynb"
    told = []
    names = {"play": lambda *given: told.append(given)}
    for cell in app.excerpt(path, "smoke")["cells"]:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), names)
    assert told == [("smoke", 0)]
    assert ["Play it" in "".join(cell["source"]) for cell in app.excerpt(path, "smoke")["cells"]].count(True) == 1


def test_a_lesson_without_cells_for_the_app_is_refused(home):
    path = home / "notebooks" / f"{app.LESSON}.ipynb"
    lesson = json.loads(path.read_text())
    for cell in lesson["cells"][3:]:
        cell["metadata"]["tags"] = []
    path.write_text(json.dumps(lesson))
    with pytest.raises(ValueError, match="has no cell tagged 'app'"):
        app.excerpt(path, "smoke")


def test_without_anything_trained_the_app_says_what_to_run(home, nothing_packed):
    for name in ("smoke", "report"):
        with pytest.raises(ValueError, match=f"holds no playable map: run `make figures PRESET={name}` first"):
            app.serve(name)
    with pytest.raises(ValueError, match="holds no pretrained models"):
        app.serve("smoke", pretrained=True)
    folder = config.playable_dir("smoke") / "all_bottleneck_2"
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text("{}")
    path = app.write("smoke")
    assert path.is_relative_to(home / "runs" / "smoke")
    assert "play(preset, seed)" in path.read_text()
    with pytest.raises(ValueError, match="unknown preset 'smok'"):
        app.serve("smok")


def test_where_nothing_is_trained_the_app_plays_on_what_comes_with_the_library_and_says_so(
    home, packed_library, capsys
):
    path = app.write("report")
    assert "no map of the preset report is trained" in capsys.readouterr().err
    assert given(path) == "preset = 'report'\npretrained = True"
    with pytest.raises(ValueError, match="holds no playable map: run `make figures PRESET=smoke` first"):
        app.write("smoke")
    folder = config.playable_dir("report") / "all_bottleneck_2"
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text("{}")
    assert given(app.write("report")) == "preset = 'report'"
    assert given(app.write("report", pretrained=True)).endswith("pretrained = True")
    assert capsys.readouterr().err == ""
    (packed.FOLDER / "vae" / "kl.csv").unlink()
    with pytest.raises(store.DamagedFile, match="kl.csv is missing"):
        app.write("report", pretrained=True)


def given(path):
    (source,) = (cell["source"] for cell in store.read_json(path)["cells"] if cell["id"] == "given")
    return source
