"""How the critic comes about: groups with truths that are known, and a training that goes on where it was stopped."""

import dataclasses

import numpy as np
import pytest
import torch

from vaefx_lib import (
    blackbox,
    config,
    critic,
    critic_material,
    critic_training,
    effects,
    passages,
    processes,
    references,
    style,
    style_space,
)
from vaefx_lib.stft_distance import mrstft_wide

NAMES = ("mda:Overdrive", "mda:Delay", "pedalboard:Reverb")
ITSELF = np.eye(critic_material.VARIANTS, critic_material.VARIANTS + 1, dtype=bool)


@pytest.fixture(scope="module")
def dry(tiny):
    return references.draw_dry(tiny, "train", 10, seed=1)


@pytest.fixture(scope="module")
def space():
    return critic.load().space


def draw(dry, space, index, *, seed=0, part="train", names=NAMES, settable=2):
    return critic_material.draw(dry, names, settable, space, part, index, seed)


@pytest.fixture(scope="module")
def group(dry, space):
    return draw(dry, space, 4)


def made_up(n, measures=30, seed=0):
    """Groups in which the distance is how far the first measures are from those of the reference."""
    rng = np.random.default_rng(seed)
    inputs = rng.normal(size=(n, 9, measures)).astype(np.float32)
    wanted = inputs[:, :-1] + 0.05 * rng.normal(size=(n, 8, measures)).astype(np.float32)
    away = np.abs(inputs[:, None, :, :4] - inputs[:, :8, None, :4]).mean(-1)
    compared = np.concatenate([away[..., None], np.zeros((*away.shape, 4))], axis=-1).astype(np.float32)
    space = style_space.Space(np.eye(measures, dtype=np.float32), np.ones(style.LONGEST, np.float32))
    return critic_material.Groups(inputs, wanted, compared, away, np.zeros((n, 8), int)), space, np.zeros(measures)


# --- groups -----------------------------------------------------------------------------------------------------------
def test_a_group_depends_on_its_number_the_seed_and_the_part_alone(dry, space, group):
    blackbox.in_threads(lambda i: draw(dry, space, i), [2, 4, 3], workers=2)  # others, meanwhile
    again = draw(dry, space, 4)
    assert group.keys() == again.keys() == {field.name for field in dataclasses.fields(critic_material.Groups)}
    for name, array in group.items():
        assert np.array_equal(array, again[name]), name
    for other in (draw(dry, space, 5), draw(dry, space, 4, seed=1), draw(dry, space, 4, part="valid")):
        assert not np.array_equal(other["distances"], group["distances"])


def test_only_the_truth_itself_is_at_distance_0_from_it(dry, space, group):
    for one in (group, draw(dry, space, 7)):
        assert one["distances"].shape == (8, 9) and one["distances"].dtype == np.float32
        assert (one["distances"][ITSELF] == 0).all()
        same = one["kinds"] == one["kinds"][0]
        assert (one["distances"][~ITSELF] > 0).all() and same[: 1 + critic_material.NEAR + critic_material.FAR].all()


def test_a_group_is_what_one_would_make_by_hand(dry, space, monkeypatch):
    """Nine sounds of one passage, eight of another through the same, and the distances of `mrstft_wide`."""
    made, wet = [], blackbox.wet
    monkeypatch.setattr(
        critic_material.blackbox, "wet", lambda *given: made.append((given, wet(*given))) or made[-1][1]
    )
    group = draw(dry, space, 11)
    rendered = made[-16:]
    for (effect, x, settings, _), (other, y, same, _) in zip(
        *([given for given, _ in rendered[at : at + 8]] for at in (0, 8))
    ):
        assert effect is other and np.array_equal(settings, same) and not np.array_equal(x, y)
        assert (settings >= 0).all() and (settings <= 1).all()
    sounds = [*(sound for _, sound in rendered[:8]), rendered[0][0][1]]
    others = [style.measure(sound) for _, sound in rendered[8:]]
    for truth in (0, 7):
        expected = [mrstft_wide(sounds[truth], sound) for sound in sounds]
        np.testing.assert_allclose(group["distances"][truth], expected, rtol=1e-5)
        np.testing.assert_array_equal(group["references"][truth], others[truth].numbers)
        np.testing.assert_array_equal(group["inputs"][truth], style.measure(sounds[truth]).numbers)
        compared = style_space.total(group["compared"][truth, -1])
        assert compared == pytest.approx(space.distance(others[truth], style.measure(sounds[-1])), rel=1e-5)
    assert [NAMES[kind] for kind in group["kinds"]] == [given[0].name for given, _ in rendered[:8]]


def test_settings_near_the_first_are_near_and_not_the_same():
    fxs = {name: effects.load(name) for name in NAMES}
    away, first = [], []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        found = critic_material._variants(rng, NAMES, fxs, np.array([0.4, 0.4, 0.2]))
        assert len(found) == critic_material.VARIANTS
        own = [settings for name, settings in found[:6] if name == found[0][0]]
        assert len(own) == 6
        away.append([np.abs(settings - own[0]).max() for settings in own[1:]])
        first.append(found[0][0])
    near, far = np.split(np.array(away), [critic_material.NEAR], axis=1)
    assert (near > 0).mean() > 0.95 and np.median(near) < 0.5 * np.median(far)
    assert 0.3 < np.mean([name == NAMES[0] for name in first]) < 0.5


def test_effects_that_are_to_be_set_are_drawn_more_often(dry, space, monkeypatch):
    asked = []

    def noted(rng, names, fxs, weights):
        asked.append(weights)
        raise RuntimeError

    monkeypatch.setattr(critic_material, "_variants", noted)
    with pytest.raises(RuntimeError):
        draw(dry, space, 0, settable=1)
    np.testing.assert_allclose(asked[0], np.array([2, 1, 1]) / 4)


def test_a_group_that_cannot_be_heard_is_refused_by_its_number(dry, space, monkeypatch):
    silent = np.zeros(passages.SAMPLES, np.float32)
    monkeypatch.setattr(critic_material.blackbox, "wet", lambda *given: silent)
    with pytest.raises(ValueError, match="group 3 was silent in 100 draws"):
        draw(dry, space, 3)


# --- learning ---------------------------------------------------------------------------------------------------------
def test_the_loss_falls_below_that_of_the_best_constant(monkeypatch):
    monkeypatch.setattr(critic_training, "EPOCHS", 30)
    groups, space, centre = made_up(64)
    unseen = made_up(32, seed=1)[0]

    def error(net, of):
        data = critic_training._tensors(of, space, centre)
        with torch.inference_mode():
            return np.abs(
                critic_training._told(net.eval(), data, torch.arange(len(of.inputs))).numpy() - of.distances
            ).mean()

    torch.manual_seed(0)
    before = critic.CriticNet(len(centre))
    after = critic_training.fit(groups, space, centre, seed=0)
    for of in (groups, unseen):
        constant = np.abs(of.distances - np.median(groups.distances)).mean()
        assert error(after, of) < 0.5 * constant < error(before, of)
    assert not after.training
    for value in after.state_dict().values():  # as it is saved
        assert torch.equal(value, value.half().float())


def test_the_same_seed_learns_the_same_and_another_one_does_not(monkeypatch):
    monkeypatch.setattr(critic_training, "EPOCHS", 1)
    groups, space, centre = made_up(20)
    one, again, other = (critic_training.fit(groups, space, centre, seed=seed).last.weight for seed in (0, 0, 1))
    assert torch.equal(one, again) and not torch.equal(one, other)


def test_what_a_critic_is_worth_is_told_of_hand_made_groups():
    """A critic whose networks all say the same chooses as if by chance; the distance of style is here the truth."""
    groups, space, centre = made_up(6)
    net = critic.CriticNet(len(centre)).eval()
    found = critic_training.worth(critic.Critic(space, centre, (net,), {}), groups)
    assert found["style_rank_correlation"] == 1 and found["style_chosen"] == found["best"]
    assert found["dry"] == pytest.approx(groups.distances[..., -1].mean(), abs=1e-4)
    assert found["rank_correlation"] < 1 and found["chosen"] >= found["best"] > 0  # 0 is the truth itself


# --- the whole --------------------------------------------------------------------------------------------------------
@pytest.fixture
def small(tiny, tmp_path, monkeypatch):
    """Sizes with which all of it takes seconds."""
    monkeypatch.setenv("VAEFX_HOME", str(tmp_path))
    monkeypatch.setattr(references, "KINDS", ("pedalboard:Distortion",))
    for name, value in {"VALID": 4, "PASSAGES": 12, "CLASSES": 9, "EPOCHS": 2, "NETS": 2}.items():
        monkeypatch.setattr(critic_training, name, value)
    for name, value in {"CHUNK": 4, "PIECES": {"train": 3, "valid": 2}, "PLAYED": 2}.items():
        monkeypatch.setattr(critic_material, name, value)
    return tiny


def test_a_training_that_was_stopped_goes_on_from_the_groups_that_are_kept(small, tmp_path, monkeypatch):
    drawn, draw_one = [], critic_material.draw

    def noted(dry, names, settable, space, part, index, seed):
        if (part, index) == ("train", 6) and not (tmp_path / "go").exists():
            raise KeyboardInterrupt
        drawn.append((part, index))
        return draw_one(dry, names, settable, space, part, index, seed)

    monkeypatch.setattr(critic_training, "BATCH", 8)
    monkeypatch.setattr(critic_material, "draw", noted)
    monkeypatch.setattr(processes, "each", lambda function, items: [function(item) for item in items])
    with pytest.raises(KeyboardInterrupt):
        critic_training.train_critic(small, groups=8, folder=tmp_path / "critic")
    assert drawn[:4] == [("train", i) for i in range(4)] and not (tmp_path / "critic").exists()
    drawn.clear()
    (tmp_path / "go").touch()
    made = critic_training.train_critic(small, groups=8, folder=tmp_path / "critic")
    assert drawn == [("train", i) for i in range(4, 8)] + [("valid", i) for i in range(4)]

    assert made is critic.load(tmp_path / "critic") and len(made.nets) == 2
    assert made.about["groups"] == 8 and list(made.about["effects"]) == [
        *small.render.effects,
        "pedalboard:Distortion",
    ]
    assert made.about["probe"] == critic_training.probe().tolist()
    assert list(made.about["worth"]) == ["speech", "invented music"]
    for worth in made.about["worth"].values():
        assert {"rank_correlation", "chosen", "style_rank_correlation", "dry", "best"} <= worth.keys()
    kept = config.run_dir(small.name) / "critic_data"
    assert {path.name for path in kept.iterdir()} == {
        "space.safetensors",
        "valid_0.safetensors",
        "music_train.safetensors",
        "music_valid.safetensors",
        *(f"train_{start}.safetensors" for start in (0, 4)),
    }
    drawn.clear()
    again = critic_training.train_critic(small, groups=8, folder=tmp_path / "again")
    assert not drawn
    for one, other in zip(made.nets, again.nets, strict=True):
        for name, value in one.state_dict().items():
            assert torch.equal(value, other.state_dict()[name]), name
    assert not (tmp_path / "critic" / critic.MODEL).samefile(critic.FOLDER / critic.MODEL)


def test_fewer_groups_than_a_batch_are_refused(small, tmp_path):
    with pytest.raises(ValueError, match="groups is 15: it must be 16 or more"):
        critic_training.train_critic(small, groups=15, folder=tmp_path)
