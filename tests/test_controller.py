"""A trained controller: what it answers, that it stays the same, and that nothing damaged is believed."""

import dataclasses
import json
import pickle
import shutil

import numpy as np
import pytest
import torch
from conftest import answering

from vaefx_lib import blackbox, config, controller, effects, passages, references, settings_net, store

OVERDRIVE, DELAY = "mda:Overdrive", "mda:Delay"


@pytest.fixture(scope="module")
def pair(controlled):
    """A dry sound, and another through Overdrive; of other lengths."""
    dry = references.draw_dry(controlled, "test", 2, seed=9).sounds
    return dry[0, :50_000], blackbox.wet(effects.load(OVERDRIVE), dry[1], [0.8, 0.3, 0.5], passages.RATE_HZ)


@pytest.fixture
def folder(controlled_home, tmp_path, monkeypatch):
    """A copy of the trained controller that a test may damage, in a home of its own."""
    shutil.copytree(controlled_home / "runs" / "spoken", tmp_path / "runs" / "spoken", ignore=_data)
    monkeypatch.setenv("VAEFX_HOME", str(tmp_path))
    return config.controller_dir("spoken")


def _data(_, names):
    return [name for name in names if name in ("data", "controller_data")]


# --- answers ----------------------------------------------------------------------------------------------------------
def test_answers_are_settings_and_probabilities_of_each_effect(trained_controller, pair):
    assert trained_controller.effects == (OVERDRIVE, DELAY)
    for effect, n_params in ((OVERDRIVE, 3), (DELAY, 6)):
        settings = trained_controller.predict(*pair, effect)
        assert settings.shape == (n_params,) and settings.dtype == np.float64
        assert (settings > 0).all() and (settings < 1).all()
        shares = trained_controller.distribution(*pair, effect)
        assert shares.shape == (n_params, settings_net.BINS) and (shares >= 0).all()
        np.testing.assert_allclose(shares.sum(1), 1, atol=1e-5)


def test_the_answer_depends_on_the_input_and_on_the_reference(trained_controller, pair):
    dry, reference = pair
    asked = ((dry, reference), (dry, dry), (reference, reference))
    answers = [trained_controller.predict(*sounds, OVERDRIVE) for sounds in asked]
    assert len({tuple(answer) for answer in answers}) == 3
    assert np.array_equal(trained_controller.predict(dry, reference, OVERDRIVE), answers[0])


def test_half_a_second_is_enough_for_an_answer(trained_controller, pair):
    short = int(passages.SHORTEST_S * passages.RATE_HZ)
    assert np.isfinite(trained_controller.predict(pair[0][-short:], pair[1], DELAY)).all()
    assert np.isfinite(trained_controller.predict(pair[0], pair[1][-short:], DELAY)).all()
    with pytest.raises(ValueError, match="samples"):
        trained_controller.predict(pair[0][1 - short :], pair[1], DELAY)


def test_unknown_effects_are_refused_by_the_names_of_the_known_ones(trained_controller, pair):
    message = "does not know 'mda:Leslie': it knows mda:Overdrive, mda:Delay"
    for ask in (trained_controller.predict, trained_controller.distribution):
        with pytest.raises(ValueError, match=message):
            ask(*pair, "mda:Leslie")
    with pytest.raises(ValueError, match=message):
        trained_controller.proposals(*pair, "mda:Leslie", count=3, seed=0)


@pytest.mark.parametrize("count", [1, 2, 3, 40, 300])  # 300: more than there are references in the library
def test_proposals_are_as_many_as_asked_for_and_begin_with_the_answer(trained_controller, pair, count):
    found = trained_controller.proposals(*pair, DELAY, count=count, seed=1)
    assert found.shape == (count, 6)
    assert (found >= 0).all() and (found <= 1).all()
    np.testing.assert_array_equal(found[0], trained_controller.predict(*pair, DELAY))
    assert np.array_equal(trained_controller.proposals(*pair, DELAY, count=count, seed=1), found)
    if count == 40:
        assert not np.array_equal(trained_controller.proposals(*pair, DELAY, count=count, seed=2), found)
        assert len(np.unique(found, axis=0)) == count


def test_a_reference_that_the_library_holds_is_proposed(trained_controller, controlled, controlled_home, monkeypatch):
    """Its own settings come first after the answer: the nearest in the library is itself."""
    from vaefx_lib import controller_training

    monkeypatch.setenv("VAEFX_HOME", str(controlled_home))
    material = controller_training.prepare(controlled, trained_controller.run, trained_controller.effects)
    refs, dry = material.drawn["train"][DELAY], material.dry["train"].sounds
    for i in (0, 50):
        sound = blackbox.wet(effects.load(DELAY), dry[refs.passages[i]], refs.settings[i], passages.RATE_HZ)
        found = trained_controller.proposals(dry[refs.inputs[i]], sound, DELAY, count=2, seed=0)
        np.testing.assert_array_equal(found[1], refs.settings[i])


def test_the_more_a_match_was_expected_to_bring_the_more_it_is_believed_to(trained_controller):
    for effect in (OVERDRIVE, DELAY, "pedalboard:Reverb"):  # of one that it does not know, what holds for all
        believed = [trained_controller.expected_improvement(effect, gain) for gain in np.linspace(-1, 9, 50)]
        assert np.isfinite(believed).all()
        assert (np.diff(believed) >= -1e-12).all()
    lines = trained_controller.calibration
    assert lines.keys() == {OVERDRIVE, DELAY, "any"}
    for effect, line in ((OVERDRIVE, lines[OVERDRIVE]), ("pedalboard:Reverb", lines["any"])):
        for gain, came in line.T:
            assert trained_controller.expected_improvement(effect, gain) == came


def test_a_controller_may_answer_the_same_to_everything(trained_controller, pair):
    """Other tests rely on this one."""
    settings = np.array([0.8, 0.6, 0.5])
    for effect in (OVERDRIVE, "pedalboard:Delay"):
        fixed = answering(trained_controller, settings, effect=effect, gain=0.3)
        np.testing.assert_allclose(fixed.predict(*pair, effect), settings, atol=1e-6)
        np.testing.assert_array_equal(fixed.predict(*pair, DELAY), trained_controller.predict(*pair, DELAY))
        assert fixed.expected_improvement(effect, 5) == 0.3


# --- files ------------------------------------------------------------------------------------------------------------
def test_a_saved_and_loaded_controller_answers_the_same(folder, trained_controller, pair, tmp_path):
    tables = {name: {"a": np.arange(3), "b": np.ones(3)} for name in controller.TABLES}
    controller.save_controller(tmp_path / "again", trained_controller, tables, "a key")
    for again in (controller.load(folder), controller.load(tmp_path / "again", trained_controller.run)):
        assert not again.net.training
        for effect in (OVERDRIVE, DELAY):
            for ask in ("predict", "distribution"):
                one, other = (getattr(made, ask)(*pair, effect) for made in (trained_controller, again))
                assert np.array_equal(one, other)
            one, other = (made.proposals(*pair, effect, count=9, seed=4) for made in (trained_controller, again))
            assert np.array_equal(one, other)
            assert again.expected_improvement(effect, 0.7) == trained_controller.expected_improvement(effect, 0.7)
    assert not list((tmp_path / "again").glob(".*"))  # nothing is left half written
    about = json.loads((tmp_path / "again" / "manifest.json").read_text())
    assert about["fingerprint"] == "a key"
    assert set(about["sha256"]) == {p.name for p in (tmp_path / "again").iterdir()} - {"manifest.json"}


def test_no_file_is_a_pickle(folder, monkeypatch):
    for module in (pickle, torch):
        monkeypatch.setattr(module, "load", None)
    monkeypatch.setattr(pickle, "Unpickler", None)
    controller.load(folder)
    assert {path.suffix for path in folder.iterdir() if path.is_file()} == {".safetensors", ".csv", ".json"}


@pytest.mark.parametrize("name", ["model.safetensors", "scale.safetensors", "library.safetensors", "history.csv"])
@pytest.mark.parametrize("damage", ["a byte", "half", "gone"])
def test_a_damaged_file_is_named(folder, name, damage):
    path = folder / name
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data if damage == "a byte" else data[: len(data) // 2])
    if damage == "gone":
        path.unlink()
    with pytest.raises(store.DamagedFile, match=rf"{name} is missing or has changed since it was written: train again"):
        controller.load(folder)


@pytest.mark.parametrize("text, message", [("{", "cannot be read"), ("[]", "lacks some of"), ('{"vae": 1}', "lacks")])
def test_a_damaged_manifest_is_named(folder, text, message):
    (folder / "manifest.json").write_text(text)
    with pytest.raises(store.DamagedFile, match=f"manifest.json .*{message}|manifest.json {message}"):
        controller.load(folder)


def test_a_controller_of_another_version_is_refused(folder):
    about = json.loads((folder / "manifest.json").read_text())
    for changed in ({"width": about["width"] + 1}, {"effects": [OVERDRIVE, "mda:Leslie"]}, {"n_params": [3, 5]}):
        store.write_json(folder / "manifest.json", about | changed)
        with pytest.raises(store.DamagedFile, match="is of another version"):
            controller.load(folder)


def test_a_controller_of_another_vae_is_refused(folder, trained_controller):
    other = dataclasses.replace(trained_controller.run, fingerprint="another")
    with pytest.raises(store.DamagedFile, match="was trained with another VAE: train it again"):
        controller.load(folder, other)
    (config.vae_dir("spoken") / "manifest.json").unlink()
    with pytest.raises(store.DamagedFile, match="holds no trained VAE"):
        controller.load(folder)


def test_where_there_is_no_controller_it_is_said_how_to_get_one(tmp_path):
    with pytest.raises(store.DamagedFile, match="no trained controller: notebook 05_controller_training trains one"):
        controller.load(tmp_path)


def test_a_controller_that_is_half_written_is_none(folder, trained_controller, monkeypatch):
    def full(path, temporary=None):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(controller.runs, "write_history", full)
    tables = {name: {"a": np.arange(3)} for name in controller.TABLES}
    with pytest.raises(OSError, match="No space left"):
        controller.save_controller(folder, trained_controller, tables, "a key")
    with pytest.raises(store.DamagedFile, match="holds no trained controller"):
        controller.load(folder)
