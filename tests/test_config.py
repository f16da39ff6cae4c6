"""Configurations: presets survive JSON, wrong keys are refused by name, and one module knows the paths."""

import dataclasses
import json
from pathlib import Path

import pytest

from vaefx_lib import config, preset_json

PRESETS = list(config.PRESETS)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_survives_json_with_its_types(name):
    preset = config.preset(name)
    again = preset_json.from_json(preset_json.to_json(preset))
    assert again == preset
    assert hash(again) == hash(preset)  # tuples came back as tuples: lists have no hash
    assert again.name == name


def test_every_field_of_a_config_is_written_and_read():
    changed = config.Preset(
        "changed",
        stft=config.Stft(8_000, 9, 64, 32, 64, 1.0),
        render=config.Render("folder:x", ("mda:Delay",), 1, 2, 3, 4, 5, 2, -6.0, 0.7, (0.3, 0.4), 8, 9),
        vae=config.Vae("conv2d", ("wet",), 1, 2, 3, (4, 5)),
        train=config.Train(0.1, "adamw", 0.2, 3, 6, 0.4, 0.5, 7),
        controller=config.Controller(1, 2, 3, 4, 5, 0.6, 7, 8),
    )
    plain = config.Preset("plain")
    for part in ("stft", "render", "vae", "train", "controller"):
        for field in dataclasses.fields(getattr(changed, part)):
            assert getattr(getattr(changed, part), field.name) != getattr(getattr(plain, part), field.name), field.name
    assert preset_json.from_json(preset_json.to_json(changed)) == changed


@pytest.mark.parametrize("part", ["stft", "render", "vae", "train", "controller", None])
def test_unknown_and_missing_keys_are_refused_by_name(part):
    raw = json.loads(preset_json.to_json(config.preset("report")))
    inner = raw if part is None else raw[part]
    last = list(inner)[-1]
    inner["beat"] = 2
    with pytest.raises(ValueError, match=rf"unknown keys in {part or 'preset'}: beat; known are .*{last}"):
        preset_json.from_json(json.dumps(raw))
    del inner["beat"], inner[last]
    with pytest.raises(ValueError, match=f"{part or 'preset'} lacks {last}"):
        preset_json.from_json(json.dumps(raw))


@pytest.mark.parametrize("text", ["", '{"name": "rep', "[]", "3", "null"])
def test_text_that_is_no_preset_is_a_value_error(text):
    with pytest.raises(ValueError):
        preset_json.from_json(text)


def test_an_unknown_preset_names_the_known_ones():
    with pytest.raises(
        ValueError, match="'week6'.*report, smoke, seven, nine, pretrained, packed, phase, week5, paper"
    ):
        config.preset("week6")


def test_a_preset_has_its_key_as_its_name_and_cannot_be_changed():
    assert [config.preset(name).name for name in PRESETS] == PRESETS
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.preset("report").train.beta = 0


@pytest.mark.parametrize(
    ("name", "channels", "frames", "bins", "samples"),
    [("week5", 2, 65, 2049, 131_072), ("paper", 1, 129, 2049, 131_072)],
)
def test_published_presets_have_the_published_input(name, channels, frames, bins, samples):
    preset = config.preset(name)
    assert (len(preset.vae.inputs), preset.stft.num_frames, preset.stft.num_bins) == (channels, frames, bins)
    assert preset.stft.num_samples == samples
    assert preset.stft.duration_s == pytest.approx(samples / 24_000)


def test_published_presets_are_trained_as_published():
    week5, paper = config.preset("week5"), config.preset("paper")
    assert week5.vae.channels == (8, 16, 32, 32) and week5.vae.latent_dim == 2048 and paper.vae.latent_dim == 128
    assert (week5.stft.n_fft, week5.stft.hop_length) == (4096, 2048)
    assert (paper.stft.hop_length, paper.stft.win_length) == (1024, 2048)
    assert (week5.train.beta, week5.train.learning_rate, week5.train.batch_size) == (1e-4, 3e-4, 8)
    assert (paper.train.learning_rate, paper.train.batch_size) == (5e-4, 12)
    for preset in (week5, paper):
        assert (preset.train.optimiser, preset.train.frequency_warp) == ("adamw", 0)
        assert (preset.render.n_train, preset.render.n_valid, preset.train.max_epochs) == (5_000, 500, 300)


def test_the_project_folder_can_be_set(monkeypatch, tmp_path):
    monkeypatch.setenv("VAEFX_HOME", str(tmp_path / "elsewhere"))
    assert config.project_dir() == tmp_path / "elsewhere"
    assert config.run_dir("smoke") == tmp_path / "elsewhere" / "runs" / "smoke"


def test_the_project_folder_is_the_nearest_checkout_above_or_else_the_current_folder(monkeypatch, tmp_path):
    monkeypatch.delenv("VAEFX_HOME", raising=False)
    lesson = tmp_path / "checkout" / "notebooks"
    lesson.mkdir(parents=True)
    (tmp_path / "checkout" / "vaefx_lib").mkdir()
    monkeypatch.chdir(lesson)
    assert config.project_dir() == tmp_path / "checkout"
    (tmp_path / "plain" / "notebooks").mkdir(parents=True)  # notebooks alone are no checkout
    (tmp_path / "plain" / "here").mkdir()
    monkeypatch.chdir(tmp_path / "plain" / "here")
    assert config.project_dir() == Path.cwd() == tmp_path / "plain" / "here"


def test_only_the_reports_figures_leave_the_run_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("VAEFX_HOME", str(tmp_path))
    assert config.figures_dir("report") == tmp_path / "figures"
    for name in set(PRESETS) - {"report"}:
        assert config.figures_dir(name) == config.run_dir(name) / "figures"


def test_what_a_preset_produces_lies_in_its_run_folder_each_in_its_own_place(monkeypatch, tmp_path):
    monkeypatch.setenv("VAEFX_HOME", str(tmp_path))
    folders = [config.vae_dir("smoke"), *(config.data_dir("smoke", subset) for subset in config.SUBSETS)]
    assert len(set(folders)) == 6
    assert all(config.run_dir("smoke") in folder.parents for folder in folders)
    assert not set(folders) & {config.data_dir("report", subset) for subset in config.SUBSETS}
