"""The models that come with the library: made small they say the same, and what is damaged or absent is said."""

import dataclasses
import json

import numpy as np
import pytest

from vaefx_lib import (
    config,
    controller,
    critic,
    figures,
    latent,
    packed,
    packing,
    packing_scores,
    playable,
    preset_json,
    runs,
    spectrogram,
    store,
    versions,
)


@pytest.fixture
def home(packed_home, packed_library, tmp_path, monkeypatch):
    """An empty project, beside a library with small models."""
    monkeypatch.setenv("VAEFX_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def trained(packed_home, monkeypatch):
    """The project in which they were trained."""
    monkeypatch.setenv("VAEFX_HOME", str(packed_home))
    return packed_home


@pytest.fixture
def small(controlled):
    return dataclasses.replace(controlled, name="pretrained")


# --- what they say ----------------------------------------------------------------------------------------------------
def test_a_vae_with_weights_of_16_bits_rebuilds_as_well_as_it_was_trained_to(trained, home):
    made, loaded = runs.load(trained / "runs" / "pretrained" / "vae"), packed.vae()
    x = np.random.default_rng(0).normal(size=(4, 2, 33, 513)).astype(np.float32)
    for value, own in zip(loaded.model.state_dict().values(), made.model.state_dict().values(), strict=True):
        assert str(value.dtype) == "torch.float32" and (value - own).abs().max() <= 2**-11 * own.abs().max()
    rebuilt, before = (latent.decode(run, latent.embed(run, x)) for run in (loaded, made))
    assert latent.mse(x, rebuilt).mean() == pytest.approx(latent.mse(x, before).mean(), rel=1e-3)
    assert loaded.statistics.to_dict() == made.statistics.to_dict() and loaded.preset == made.preset
    assert loaded.fingerprint != made.fingerprint  # what was measured with one is not taken for the other's


def test_a_small_controller_answers_as_the_one_that_was_trained(trained, home, spoken_passages):
    folder = trained / "runs" / "pretrained"
    made = controller.load(folder / "controller", runs.load(folder / "vae"))
    loaded = packed.controller()
    assert loaded.effects == made.effects and loaded.calibration.keys() == made.calibration.keys()
    dry, reference = spoken_passages[:2]
    for name in made.effects:
        ours, own = (one.predict(dry, reference, name) for one in (loaded, made))
        np.testing.assert_allclose(ours, own, atol=2e-3)
        ours, own = (one.proposals(dry, reference, name, count=9, seed=0) for one in (loaded, made))
        near = slice(1, 6)  # the settings of similar references
        assert len({*map(bytes, ours[near])} & {*map(bytes, own[near])}) >= 4
        known = loaded.echoes[name]
        np.testing.assert_array_equal(known.lags, made.echoes[name].lags[: packing.ECHOES])
        np.testing.assert_allclose(known.heights, made.echoes[name].heights[: packing.ECHOES], rtol=1e-3, atol=1e-6)
        assert known.heights.dtype == made.echoes[name].heights.dtype


def test_a_small_map_places_sounds_and_sets_effects_as_before(trained, home, small, spoken_passages):
    run = runs.load(trained / "runs" / "pretrained" / "vae")
    for dim in packing_scores.DIMS:
        folder = trained / "runs" / "pretrained" / "playable" / f"all_bottleneck_{dim}"
        made, loaded = playable.load(folder, run), packed.playable_map(dim)
        place = loaded.place(*spoken_passages[:2])
        np.testing.assert_allclose(place, made.place(*spoken_passages[:2]), atol=2e-2)
        for name in made.effects:
            np.testing.assert_allclose(loaded.settings(place, name), made.settings(place, name), atol=2e-3)
    with pytest.raises(ValueError, match="no pretrained map of 3 dimensions: known are 2, 4"):
        packed.playable_map(3)


def test_measures_of_references_stay_near_in_a_tenth_of_the_room():
    rng = np.random.default_rng(0)
    heard = rng.normal(size=(300, 20)) @ rng.normal(size=(20, 400)) + 5
    whitened = (heard + 0.01 * rng.normal(size=heard.shape)).astype(np.float16)
    parts = packed.small("fx", whitened, 24)
    assert sum(part.nbytes for name, part in parts.items() if "basis" not in name) < whitened.nbytes / 10
    again = packed.restored("fx", parts)
    assert again.dtype == np.float16 and again.shape == whitened.shape
    assert np.abs(again.astype(float) - whitened).max() < 0.02 * np.ptp(whitened)
    few = packed.small("fx", whitened[:5], 24)["fx/whitened"]
    assert few.shape == (5, 24)


# --- files ------------------------------------------------------------------------------------------------------------
def test_the_manifest_tells_what_made_the_models_and_the_size_and_sum_of_every_file(home, small):
    about = packed.manifest()
    there = {path.relative_to(packed.FOLDER).as_posix() for path in packed.FOLDER.rglob("*") if path.is_file()}
    assert there == about["files"].keys() | {packed.MANIFEST}
    for name, known in about["files"].items():
        path = packed.FOLDER / name
        assert known == {"bytes": path.stat().st_size, "sha256": store.sha256(path)}
    assert preset_json.from_json(json.dumps(about["preset"])) == small
    assert about["commit"] == "none" and "torch" in about["versions"]  # where they were made is no checkout


def test_a_file_that_is_missing_or_has_changed_is_named_by_whatever_needs_it(home):
    for name in packed.manifest()["files"]:
        path = packed.FOLDER / name
        whole = path.read_bytes()
        path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        for load in (packed.vae, packed.controller, lambda: packed.playable_map(2), packed.begin):
            with pytest.raises(store.DamagedFile, match=rf"{path.name} is missing or has changed since it was packed"):
                load()
        path.write_bytes(whole)
    path.unlink()
    with pytest.raises(store.DamagedFile, match=f"{path.name} is missing"):
        packed.vae()
    assert not config.vae_dir(config.PACKED).exists()


def test_a_controller_is_of_no_use_with_another_critic_than_that_which_measured_its_references(home, monkeypatch):
    other = dataclasses.replace(critic.load(), about={"sha256": "another"})
    monkeypatch.setattr(critic, "load", lambda: other)
    with pytest.raises(store.DamagedFile, match="was made with another critic: `make pretrained`"):
        packed.controller()


@pytest.mark.parametrize("text", ["[]", "{}", "torn"])
def test_a_manifest_that_says_nothing_is_refused(home, text):
    (packed.FOLDER / packed.MANIFEST).write_text(text)
    with pytest.raises(store.DamagedFile, match=packed.MANIFEST):
        packed.controller()


def test_a_library_without_models_says_what_makes_some(nothing_packed):
    assert not packed.available()
    for load in (packed.manifest, packed.vae, packed.controller, packed.begin):
        with pytest.raises(store.DamagedFile, match="holds no pretrained models: .*`make figures`.*`make pretrained`"):
            load()


def test_a_lesson_begins_in_a_run_folder_of_its_own_which_is_left_alone_when_it_is_there(home):
    preset = packed.begin()
    folder = config.vae_dir(config.PACKED)
    assert preset.name == config.PACKED and folder.is_relative_to(home / "runs" / "packed")
    assert preset.stft == config.preset("report").stft and preset.controller == config.preset("report").controller
    run = runs.load(folder)
    assert run.fingerprint == packed.vae().fingerprint
    kept = (folder / "model.safetensors").stat().st_mtime_ns
    packed.begin()
    assert (folder / "model.safetensors").stat().st_mtime_ns == kept
    (folder / "model.safetensors").write_bytes(b"damaged")
    packed.begin()
    assert runs.load(folder).fingerprint == run.fingerprint
    assert not (home / "runs" / "report").exists()


# --- packing ----------------------------------------------------------------------------------------------------------
def test_the_command_tells_what_the_models_are_worth_and_where_they_are(packed_home):
    lines = (packed_home / "said.txt").read_text().splitlines()
    assert [line.split(":")[0] for line in lines[:3]] == ["reconstruction dry", "reconstruction wet", "controller mda"]
    assert lines[-1].endswith(f"MB in {packed_home / 'runs' / 'pretrained' / 'packed'}")
    assert float(lines[-1].split()[0]) < 3


def test_more_than_the_limit_is_refused_and_what_was_there_stays(trained, small, packed_library, monkeypatch):
    before = packed.manifest()
    monkeypatch.setattr(packing, "LIMIT_BYTES", 4_000_000)
    with pytest.raises(ValueError, match=r"have [\d.]+ MB, critic included: they must have no more than 4$"):
        packing.pack(small, packed.FOLDER, commit="another")
    assert packed.manifest() == before
    assert not list(packed.FOLDER.glob(".packing*"))
    size = sum(known["bytes"] for known in before["files"].values())
    critics = sum((critic.FOLDER / name).stat().st_size for name in (critic.MODEL, critic.MANIFEST))
    assert 4_000_000 < size + critics < 15_000_000


def test_what_is_packed_takes_the_place_of_what_was_there(trained, small, packed_library, monkeypatch):
    (packed.FOLDER / "map_9").mkdir()
    (packed.FOLDER / "critic.json").write_text("{}")
    for name in ("measure", "measure_few"):
        monkeypatch.setattr(packing_scores, name, lambda *_: {})
    packing.pack(small, packed.FOLDER, commit="another")
    assert packed.manifest()["commit"] == "another"
    assert not (packed.FOLDER / "map_9").exists() and (packed.FOLDER / "critic.json").exists()
    assert packed.controller().effects == small.render.effects


def test_few_numbers_are_the_same_when_they_are_made_again(home, small, monkeypatch):
    monkeypatch.setattr(packing_scores, "FEW_CASES", 1)
    found, recorded = packing_scores.measure_few(small, packed.FOLDER), packed.manifest()["few"]
    assert flat(found) == pytest.approx(flat(recorded), rel=1e-4)
    assert len(flat(found)) == 2 + 2 + 2


def test_the_reports_numbers_stand_beside_those_of_the_packed_models(home, capsys):
    means = {"none": 2.0, "ours": 0.5, "gap_closed": 0.75, "network": 1.0}
    errors = {channel: {"vae_mse": 0.25, "pca_mse": 0.5} for channel in spectrogram.CHANNELS}
    scores = {"mda:Delay": {"mrstft_wide": means, "n": 24}, "nine": {}, "dummy": {}}
    figures.record("report", {"reconstruction": {**errors, "share": 1}, "controller": scores})
    found = packing_scores.measure_report()
    assert found == {
        "reconstruction": errors,
        "controller": {"mda:Delay": {"none": 2.0, "ours": 0.5, "gap_closed": 0.75, "n": 24}},
    }
    assert "the report's maps are not compared" in capsys.readouterr().out
    lines = packing_scores.compared(packed.manifest() | {"report": found})
    assert [line for line in lines if "report" in line] == [lines[0], lines[1], lines[3]]
    assert lines[3].startswith("controller mda:Delay: ") and lines[3].endswith(", the report's 0.500")


def test_the_reports_maps_are_heard_where_they_are(trained, small, monkeypatch):
    monkeypatch.setitem(config.PRESETS, "report", small)  # its maps lie where those of `pretrained` do
    monkeypatch.setattr(figures, "metrics", lambda name: {})
    monkeypatch.setattr(packing_scores, "DIMS", (2,))
    (trips,) = packing_scores.measure_report()["playable"].values()
    assert trips == pytest.approx(packed.manifest(trained / "library")["metrics"]["playable"]["2"], rel=0.05)


def test_a_commit_with_other_files_than_those_in_git_is_called_dirty(tmp_path, monkeypatch):
    from test_versions import commit, git

    monkeypatch.setenv("VAEFX_HOME", str(tmp_path))
    assert versions.head(besides="models") == "none"
    git(tmp_path, "init", "-q")
    (tmp_path / "models").mkdir()
    for name in ("models/weights", "code"):
        (tmp_path / name).write_text("1")
    commit(tmp_path, "one", "2026-11-01 12:00:00")
    name = git(tmp_path, "rev-parse", "HEAD")
    (tmp_path / "models" / "weights").write_text("2")
    assert versions.head(besides="models") == name
    (tmp_path / "code").write_text("2")
    assert versions.head(besides="models") == f"{name}-dirty"


def flat(found, prefix=""):
    rows = {}
    for name, value in found.items():
        rows |= flat(value, f"{prefix}{name}/") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return rows
