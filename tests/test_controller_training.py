"""Training a controller: what is kept, what is never touched, and that the sound alone can teach settings."""

import dataclasses
import shutil
import threading
import time

import numpy as np
import pytest
import torch

from vaefx_lib import (
    blackbox,
    config,
    controller,
    controller_material,
    controller_stages,
    controller_training,
    effects,
    passages,
    runs,
    store,
)
from vaefx_lib.references import References
from vaefx_lib.settings_net import SettingsNet

OVERDRIVE, DELAY = "mda:Overdrive", "mda:Delay"


@pytest.fixture(scope="module")
def run(controlled_home):
    return runs.load(controlled_home / "runs" / "spoken" / "vae")


@pytest.fixture(scope="module")
def material(controlled, controlled_home, run):
    """What the controller of `controlled_home` learned from, as it was kept."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VAEFX_HOME", str(controlled_home))
        return controller_training.prepare(controlled, run, controlled.render.effects)


@pytest.fixture
def home(controlled_home, tmp_path, monkeypatch):
    """A copy of `controlled_home` without its pairs."""
    wanted = shutil.ignore_patterns("data")
    shutil.copytree(controlled_home / "runs" / "spoken", tmp_path / "runs" / "spoken", ignore=wanted)
    monkeypatch.setenv("VAEFX_HOME", str(tmp_path))
    return tmp_path


def features(material, name, part="train"):
    scale, refs = controller_training._scale(material), material.drawn[part][name]
    dry = material.dry_numbers[part][refs.inputs]
    return torch.from_numpy(scale.features(dry, refs.numbers, refs.mu))


def few(material, *, effect=OVERDRIVE, count=2):
    """The material of one effect with as many references as that."""

    def cut(refs):
        return References(effect, *(getattr(refs, name)[:count] for name in controller_material.ARRAYS))

    return dataclasses.replace(material, drawn={part: {effect: cut(of[effect])} for part, of in material.drawn.items()})


# --- what is kept -----------------------------------------------------------------------------------------------------
def test_a_finished_training_is_kept_and_nothing_is_drawn_again(home, controlled, monkeypatch, trained_controller):
    monkeypatch.setattr(controller_training, "prepare", None)
    again = controller_training.train_controller(controlled)
    assert again.about == trained_controller.about
    for one, other in zip(again.net.parameters(), trained_controller.net.parameters(), strict=True):
        assert torch.equal(one, other)


def test_who_asks_while_another_trains_waits_and_takes_what_it_made(home, controlled, monkeypatch, trained_controller):
    monkeypatch.setattr(controller_training, "prepare", None)  # whoever trained here would fail
    folder, begun = config.controller_dir("spoken"), threading.Event()
    made = (folder / "manifest.json").read_bytes()
    (folder / "manifest.json").unlink()

    def train():
        with store.alone(folder.parent / ".controller.lock"):
            begun.set()
            time.sleep(0.3)
            (folder / "manifest.json").write_bytes(made)

    other = threading.Thread(target=train)
    other.start()
    begun.wait()
    assert controller_training.train_controller(controlled).about == trained_controller.about
    other.join()


@pytest.mark.parametrize(
    "change", ["the seed", "a choice", "a damaged file", "no manifest", "a manifest of nonsense", "another effect"]
)
def test_another_seed_or_choice_or_a_damaged_file_trains_again(home, controlled, monkeypatch, change):
    asked = []
    monkeypatch.setattr(controller_training, "prepare", lambda preset, run, names: names)
    monkeypatch.setattr(controller_training, "fit", lambda preset, material, **given: asked.append((material, given)))
    folder, given = config.controller_dir("spoken"), {}
    if change == "the seed":
        given["seed"] = 5
    elif change == "a choice":
        controlled = dataclasses.replace(
            controlled, controller=dataclasses.replace(controlled.controller, max_epochs=5)
        )
    elif change == "another effect":
        given["names"] = [DELAY]
    elif change == "a damaged file":
        (folder / "model.safetensors").write_bytes(b"0")
    elif change == "no manifest":
        (folder / "manifest.json").unlink()
    else:
        (folder / "manifest.json").write_text("{}")
    controller_training.train_controller(controlled, **given)
    ((names, told),) = asked
    assert names == ((DELAY,) if change == "another effect" else (OVERDRIVE, DELAY))
    assert told["seed"] == given.get("seed", controlled.controller.seed)
    assert told["folder"] == folder


def test_what_a_controller_learns_from_is_kept_for_other_seeds_and_longer_trainings(
    controlled, run, material, controlled_home, monkeypatch
):
    monkeypatch.setenv("VAEFX_HOME", str(controlled_home))
    monkeypatch.setattr(controller_material.references, "draw", None)
    longer = dataclasses.replace(controlled.controller, max_epochs=99, width=64, end_to_end_steps=7)
    again = controller_training.prepare(
        dataclasses.replace(controlled, controller=longer), run, controlled.render.effects
    )
    assert np.array_equal(again.drawn["train"][DELAY].numbers, material.drawn["train"][DELAY].numbers)
    with pytest.raises(TypeError):  # more references are drawn
        more = dataclasses.replace(controlled.controller, n_valid=13)
        controller_training.prepare(dataclasses.replace(controlled, controller=more), run, controlled.render.effects)


def test_controllers_of_some_effects_learn_from_the_same_references(
    controlled, run, material, controlled_home, monkeypatch
):
    monkeypatch.setenv("VAEFX_HOME", str(controlled_home))
    monkeypatch.setattr(controller_material.references, "draw", None)
    alone = controller_training.prepare(controlled, run, [DELAY])
    assert list(alone.drawn["train"]) == list(alone.drawn["valid"]) == [DELAY]
    assert np.array_equal(alone.drawn["valid"][DELAY].mu, material.drawn["valid"][DELAY].mu)


def test_without_a_trained_vae_there_is_nothing_to_learn_from(controlled, tmp_path, monkeypatch):
    monkeypatch.setenv("VAEFX_HOME", str(tmp_path))
    with pytest.raises(store.DamagedFile, match="holds no trained VAE"):
        controller_training.train_controller(controlled)


# --- what is learned --------------------------------------------------------------------------------------------------
def test_validation_is_of_speakers_that_training_has_not_heard(material):
    assert not set(material.dry["train"].speakers) & set(material.dry["valid"].speakers)
    for part, count in (("train", 96), ("valid", 12)):
        for refs in material.drawn[part].values():
            assert len(refs.settings) == count
            assert max(refs.inputs.max(), refs.passages.max()) < len(material.dry[part].sounds)


def test_known_settings_are_learned_by_heart_where_there_is_time(material):
    """Of a few references: with many epochs the training loss falls to nearly what it can be at the least."""
    torch.manual_seed(0)
    small = few(material, count=64)
    net = SettingsNet(features(material, OVERDRIVE).shape[1], 64, [3])
    inputs = {part: {OVERDRIVE: features(small, OVERDRIVE, part)} for part in ("train", "valid")}
    history = controller_stages.warm_start(net, small, inputs, epochs=150, rate=5e-3, seed=0)
    assert history["train_loss"][-1] < 0.75 * history["train_loss"][0]
    net.eval()
    with torch.inference_mode():
        answer = net(inputs["train"][OVERDRIVE], 0)[0].numpy()
    true = small.drawn["train"][OVERDRIVE].settings
    for place in (0, 1):  # drive and muffle
        assert np.abs(answer - true)[:, place].mean() < 0.3 * np.abs(true - 0.5)[:, place].mean()
    assert history["settings_mae_middle"][0] == pytest.approx(
        np.abs(small.drawn["valid"][OVERDRIVE].settings - 0.5).mean(), rel=1e-5
    )


def test_tables_say_how_it_went(controlled_home, controlled):
    folder = controlled_home / "runs" / "spoken" / "controller"
    history, heard = (np.genfromtxt(folder / name, delimiter=",", names=True) for name in controller.TABLES)
    assert history["epoch"].tolist() == [1, 2, 3, 4]
    assert history["train_loss"][-1] < history["train_loss"][0]
    assert heard["step"].tolist() == [0, controlled.controller.end_to_end_steps]
    assert (heard["loss_none"] == heard["loss_none"][0]).all() and (heard["loss"] < heard["loss_none"]).all()


def test_the_encoder_stays_as_it_was_trained(controlled_home, trained_controller, run):
    """Weights bit for bit, those that the controller was trained with too, and nothing left out or averaged."""
    fresh = runs.load(controlled_home / "runs" / "spoken" / "vae")
    manifest = store.read_json(fresh.folder / "manifest.json")
    assert store.sha256(fresh.folder / "model.safetensors") == manifest["sha256"]["model.safetensors"]
    for used in (trained_controller.run.model, run.model):
        assert not used.training
        for name, value in fresh.model.state_dict().items():
            assert torch.equal(value, used.state_dict()[name]), name
            assert used.state_dict()[name].grad is None


# --- through the effects ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", [OVERDRIVE, DELAY])
def test_the_loss_is_exactly_0_at_the_true_settings_and_nowhere_near(controlled, material, name):
    refs = material.drawn["valid"][name]
    for loss, true in zip(controller_stages._losses(controlled, material, "valid", name, range(3)), refs.settings):
        assert loss(true.astype(np.float64)) == 0
        assert loss(np.clip(true + np.where(true > 0.5, -0.2, 0.2), 0, 1).astype(np.float64)) > 0.05


def test_the_best_weights_are_kept_those_of_the_warm_start_among_them(controlled, material, monkeypatch):
    """With a step far too large it gets worse, and is put back."""
    small = few(material, count=3)
    torch.manual_seed(1)
    inputs = {part: {OVERDRIVE: features(small, OVERDRIVE, part)} for part in ("train", "valid")}
    net = SettingsNet(inputs["train"][OVERDRIVE].shape[1], 16, [3]).eval()
    heard = {OVERDRIVE: controller_stages._losses(controlled, small, "valid", OVERDRIVE, range(3))}
    before = {name: value.clone() for name, value in net.state_dict().items()}

    def listen():
        return controller_stages._listen(net, [OVERDRIVE], inputs["valid"], heard, small.drawn["valid"])[0]

    start = listen()
    monkeypatch.setattr(controller_stages, "EVERY", 1)
    for rate in (1e-3, 3.0):
        monkeypatch.setattr(controller_stages, "END_TO_END_RATE", rate)
        table = controller_stages.through_effects(net, controlled, small, inputs, steps=3, seed=0)
        assert table["loss"][0] == pytest.approx(start) and len(table["loss"]) == 4
        assert listen() == pytest.approx(table["loss"].min()) and table["loss"].min() <= table["loss"][0]
        net.load_state_dict(before)
    assert table["loss"].max() > start  # the large step did harm


# --- what to expect ---------------------------------------------------------------------------------------------------
def test_the_confidence_comes_from_sounds_that_were_compared_with_the_truth(controlled, material, trained_controller):
    """Each knot is a mean of gains, so no larger than the largest there can be: all of the distance of dry."""
    from vaefx_lib.stft_distance import MrstftTo

    for name in (OVERDRIVE, DELAY):
        refs, sounds = material.drawn["valid"][name], material.dry["valid"].sounds
        most = 0
        for i in range(len(refs.settings)):
            at = refs.settings[i].astype(np.float64)
            target = blackbox.wet(effects.load(name), sounds[refs.inputs[i]], at, passages.RATE_HZ)
            most = max(most, MrstftTo(target)(sounds[refs.inputs[i]]))
        expected, came = trained_controller.calibration[name]
        assert (np.diff(expected) > 0).all() and (np.diff(came) >= 0).all()
        assert came[-1] <= most
    every = trained_controller.calibration["any"]
    assert every[0, 0] == min(trained_controller.calibration[name][0, 0] for name in (OVERDRIVE, DELAY))
