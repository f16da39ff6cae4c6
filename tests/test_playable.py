"""A map to play on: every place has settings, every sound a place, and a file is whole or refused."""

import dataclasses
import shutil

import numpy as np
import pytest

from vaefx_lib import (
    blackbox,
    config,
    controller_material,
    effects,
    passages,
    playable,
    playable_surrogate,
    runs,
    store,
)
from vaefx_lib import playable_training as training
from vaefx_lib.playable import METHODS

OVERDRIVE, DELAY = "mda:Overdrive", "mda:Delay"
RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def heard(controlled, controlled_home):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VAEFX_HOME", str(controlled_home))
        run = runs.load(controlled_home / "runs" / "spoken" / "vae")
        material = controller_material.prepare(controlled, run, (OVERDRIVE, DELAY))
        return playable_surrogate.hear(material, (OVERDRIVE, DELAY))


@pytest.fixture(scope="module")
def maps(controlled, heard):
    """Every method's map of Delay in three dimensions, trained for a moment."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "END_TO_END_STEPS", 1)
        made = training.make_alike(controlled, heard, [DELAY], METHODS, 3, seed=0)
    return {method: one for method, (one, _) in made.items()}


@pytest.fixture(scope="module")
def both(controlled, heard):
    """Maps of two effects together, in two dimensions."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "END_TO_END_STEPS", 1)
        methods = [method for method in METHODS if method != "umap_inverse"]
        made = training.make_alike(controlled, heard, [OVERDRIVE, DELAY], methods, 2, seed=0)
    return {method: one for method, (one, _) in made.items()}


# --- from places to settings ------------------------------------------------------------------------------------------
@pytest.mark.parametrize("method", METHODS)
def test_every_place_has_settings_in_range_and_one_place_gives_the_same_as_many(maps, method):
    z = np.concatenate([RNG.uniform(maps[method].low, maps[method].high, (20, 3)), [[1e3, -1e3, 0]]])
    many = maps[method].settings(z, DELAY)
    assert many.shape == (21, 6) and many.dtype == np.float64
    assert (many >= 0).all() and (many <= 1).all()
    for i in (0, 20):
        one = maps[method].settings(z[i], DELAY)
        assert one.shape == (6,)
        np.testing.assert_allclose(one, many[i], atol=1e-6)


@pytest.mark.parametrize("method", ["bottleneck", "pca", "umap_decoder"])
def test_settings_change_continuously(maps, method):
    """Halving a step halves the change, everywhere: nothing is looked up."""
    made = maps[method]
    z = RNG.uniform(made.low, made.high, (50, 3))
    far, near = (np.abs(made.settings(z + step, DELAY) - made.settings(z, DELAY)).max() for step in (2e-2, 2e-3))
    assert 0 < near < 0.2 * far


def test_the_nearest_point_is_one_of_those_that_are_stored(maps):
    made = maps["umap_nearest"]
    found = made.settings(made.places[DELAY] + 1e-6, DELAY)
    np.testing.assert_allclose(found, made.stored[DELAY], atol=1e-7)


@pytest.mark.parametrize("z, message", [(np.zeros(2), r"\(2,\).*\(n, 3\) or \(3,\)"), ([0, np.nan, 0], "finite")])
def test_a_place_that_is_none_is_refused(maps, z, message):
    with pytest.raises(ValueError, match=message):
        maps["bottleneck"].settings(z, DELAY)


def test_an_effect_that_the_map_does_not_know_is_refused(maps):
    sound = np.zeros(30_000, np.float32)
    for ask in (lambda m: m.settings(np.zeros(3), OVERDRIVE), lambda m: m.place(sound, sound, OVERDRIVE)):
        with pytest.raises(ValueError, match="does not know 'mda:Overdrive': it knows mda:Delay"):
            ask(maps["pca"])


# --- from sounds to places --------------------------------------------------------------------------------------------
@pytest.mark.parametrize("method", ["bottleneck", "pca", "umap_nearest"])
def test_a_training_reference_heard_again_lies_where_it_is_stored(maps, heard, method):
    made, refs = maps[method], heard.material.drawn["train"][DELAY]
    sounds = heard.material.dry["train"].sounds
    sound = blackbox.wet(effects.load(DELAY), sounds[refs.passages[0]], refs.settings[0], passages.RATE_HZ)
    place = made.place(sounds[refs.inputs[0]], sound, DELAY)
    assert place.shape == (3,)
    known = made.place_features(heard.features["train"][DELAY][:1].numpy())[0]
    np.testing.assert_allclose(place, known, atol=1e-3)
    if method != "umap_nearest":  # there the network says it, and the store is of UMAP
        np.testing.assert_allclose(place, made.places[DELAY][0], atol=1e-3)


def test_sliders_reach_nearly_all_training_places(maps, both):
    for made in (*maps.values(), *both.values()):
        places = np.concatenate(list(made.places.values()))
        inside = ((places >= made.low) & (places <= made.high)).mean(0)
        assert (inside > 0.9).all() and (made.low < made.high).all()


def test_a_map_of_two_effects_tells_which_a_place_belongs_to(both):
    for method in ("pca", "umap_nearest"):
        made = both[method]
        for effect in (OVERDRIVE, DELAY):
            told = [made.likely_effect(z) for z in made.places[effect][:20]]
            assert told.count(effect) >= 19  # that of the stored sound there
            assert made.settings(made.places[effect], effect).shape[1] == len(effects.load(effect).params)
    assert {both["bottleneck"].likely_effect(z) for z in RNG.normal(size=(200, 2))} <= {OVERDRIVE, DELAY}


def test_settings_of_two_effects_cannot_be_inverted_together(controlled, heard):
    with pytest.raises(ValueError, match="no space in common"):
        training.make(controlled, heard, [OVERDRIVE, DELAY], "umap_inverse", 2, seed=0)
    with pytest.raises(ValueError, match="unknown method 'tsne': known are bottleneck"):
        training.make(controlled, heard, [DELAY], "tsne", 2, seed=0)
    with pytest.raises(ValueError, match="dim is 0"):
        training.make(controlled, heard, [DELAY], "pca", 0, seed=0)


# --- files ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("method", METHODS)
def test_a_saved_and_loaded_map_is_the_same(maps, tmp_path, method):
    made = maps[method]
    playable.save_playable(tmp_path / "map", made, {"epoch": np.arange(2), "train_loss": np.ones(2)}, "a key")
    again = playable.load(tmp_path / "map", made.run)
    z = RNG.uniform(made.low, made.high, (5, 3))
    np.testing.assert_array_equal(again.settings(z, DELAY), made.settings(z, DELAY))
    features = RNG.normal(size=(4, made.net.heard_first.in_features)).astype(np.float32)
    np.testing.assert_array_equal(again.place_features(features), made.place_features(features))
    assert again.likely_effect(z[0]) == made.likely_effect(z[0])
    assert (again.method, again.dim, again.effects) == (method, 3, (DELAY,))
    np.testing.assert_array_equal(np.stack([again.low, again.high]), np.stack([made.low, made.high]))
    assert not list((tmp_path / "map").glob(".*"))


@pytest.mark.parametrize("harm", ["nothing", "byte", "gone", "manifest", "other"])
def test_a_folder_that_is_not_whole_is_refused_with_what_to_do(maps, tmp_path, harm):
    folder, made = tmp_path / "map", maps["pca"]
    message = {"nothing": "06_playable_latent trains one", "other": "another VAE"}.get(harm, "train again")
    run = made.run
    if harm != "nothing":
        playable.save_playable(folder, made, {"epoch": np.arange(2), "train_loss": np.ones(2)}, "a key")
    if harm == "byte":
        data = bytearray((folder / "model.safetensors").read_bytes())
        data[-3] ^= 1
        (folder / "model.safetensors").write_bytes(data)
    elif harm == "gone":
        (folder / "history.csv").unlink()
    elif harm == "manifest":
        store.write_json(folder / "manifest.json", {"method": "pca"})
    elif harm == "other":
        run = dataclasses.replace(run, fingerprint="of another")
    with pytest.raises(store.DamagedFile, match=message):
        playable.load(folder, run)


def test_a_finished_map_is_kept_and_another_choice_is_made_anew(controlled, controlled_home, tmp_path, monkeypatch):
    wanted = shutil.ignore_patterns("data")
    shutil.copytree(controlled_home / "runs" / "spoken", tmp_path / "runs" / "spoken", ignore=wanted)
    monkeypatch.setenv("VAEFX_HOME", str(tmp_path))
    first = training.train_playable(controlled, effects=[DELAY], method="pca")
    folder = config.playable_dir("spoken") / "Delay_pca_2"
    written = (folder / "model.safetensors").stat().st_mtime_ns
    again = training.train_playable(controlled, effects=[DELAY], method="pca")
    assert (folder / "model.safetensors").stat().st_mtime_ns == written
    np.testing.assert_array_equal(first.linear[DELAY], again.linear[DELAY])
    assert training.train_playable(controlled, effects=[DELAY], method="pca", dim=4).dim == 4
    assert sorted(path.name for path in folder.parent.iterdir() if path.is_dir()) == ["Delay_pca_2", "Delay_pca_4"]
    assert training.folder_of(controlled, None, "pca", 2).name == "all_pca_2"
