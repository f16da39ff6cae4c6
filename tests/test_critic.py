"""The critic that comes with the library: that it is whole, that its measures are still those, and what it is worth."""

import json
import shutil

import numpy as np
import pytest

from vaefx_lib import (
    blackbox,
    config,
    critic,
    critic_material,
    critic_training,
    effects,
    match_cases,
    passages,
    references,
    store,
    style,
)

NAMES = ("mda:Overdrive", "mda:Delay", *references.KINDS)  # those that are there on every machine
GROUPS = 6
ITSELF = np.eye(critic_material.VARIANTS, critic_material.VARIANTS + 1, dtype=bool)


@pytest.fixture(scope="module")
def shipped():
    return critic.load()


@pytest.fixture(scope="module")
def dry(tiny):
    """Of speakers from which the critic learned nothing, and by which nothing about it was measured."""
    return references.draw_dry(tiny, "test", 12, seed=3)


@pytest.fixture(scope="module")
def groups(dry, shipped):
    made = [critic_material.draw(dry, NAMES, 2, shipped.space, "valid", i, 5) for i in range(GROUPS)]
    return critic_material.Groups(**{name: np.stack([one[name] for one in made]) for name in made[0]})


@pytest.fixture(scope="module")
def heard(dry):
    """Styles of a reference, of a dry sound of another voice, and of the truth: that sound at the same settings."""
    fx, at = effects.load("mda:Overdrive"), np.array([0.9, 0.6, 0.5])
    one, other = dry.sounds[0], dry.sounds[1]
    wet = [blackbox.wet(fx, sound, at, passages.RATE_HZ) for sound in (other, one)]
    return [style.measure(sound) for sound in (wet[0], one, wet[1])]


@pytest.fixture
def folder(tmp_path):
    """A copy of what comes with the library, that a test may damage."""
    return shutil.copytree(critic.FOLDER, tmp_path / "critic")


# --- files ------------------------------------------------------------------------------------------------------------
def test_a_critic_that_is_loaded_again_or_saved_and_loaded_says_the_same(shipped, heard, folder, tmp_path):
    reference, dry, truth = heard
    critic.save_critic(tmp_path / "again", shipped)
    said = {
        made.judge(reference, dry)(truth) for made in (shipped, critic.load(folder), critic.load(tmp_path / "again"))
    }
    assert len(said) == 1
    assert critic.load() is shipped
    assert sorted(path.name for path in (tmp_path / "again").iterdir()) == [critic.MANIFEST, critic.MODEL]
    assert (tmp_path / "again" / critic.MODEL).read_bytes() == (critic.FOLDER / critic.MODEL).read_bytes()


@pytest.mark.parametrize("name", [critic.MODEL, critic.MANIFEST])
def test_where_there_is_no_critic_it_is_said_how_to_get_one(folder, name):
    (folder / name).unlink()
    with pytest.raises(store.DamagedFile, match="critic holds no critic: `vaefx train critic` makes one$"):
        critic.load(folder)


@pytest.mark.parametrize("damage", ["a byte", "half", "nothing left"])
def test_damaged_weights_are_not_believed(folder, damage):
    path = folder / critic.MODEL
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes({"a byte": data, "half": data[: len(data) // 2], "nothing left": b""}[damage])
    with pytest.raises(store.DamagedFile, match=f"{critic.MODEL} has changed since it was written: restore it"):
        critic.load(folder)


@pytest.mark.parametrize("text, message", [("{", "cannot be read"), ("[]", "has changed"), ("{}", "has changed")])
def test_a_damaged_manifest_is_not_believed(folder, text, message):
    (folder / critic.MANIFEST).write_text(text)
    with pytest.raises(store.DamagedFile, match=message):
        critic.load(folder)


@pytest.mark.parametrize("change", ["more networks", "fewer measures", "no count", "not safetensors"])
def test_a_critic_of_another_version_is_refused_in_a_sentence(folder, change):
    from safetensors.numpy import load_file, save_file

    about, path = json.loads((folder / critic.MANIFEST).read_text()), folder / critic.MODEL
    if change == "more networks":
        about["nets"] += 1
    elif change == "no count":
        del about["nets"]
    elif change == "fewer measures":
        arrays = load_file(path)
        save_file(arrays | {"centre": arrays["centre"][1:].copy()}, path)
    else:
        path.write_bytes(b"something else")
    store.write_json(folder / critic.MANIFEST, about | {"sha256": store.sha256(path)})
    with pytest.raises(store.DamagedFile, match="is of another version .*: `vaefx train critic`$"):
        critic.load(folder)


# --- what it says -----------------------------------------------------------------------------------------------------
def test_measures_are_what_they_were_when_the_shipped_critic_learned(shipped):
    """If not, `style.py` has changed, and the critic has to be trained again: `vaefx train critic --replace`."""
    probe = critic_training.probe()
    assert probe.shape == shipped.centre.shape
    np.testing.assert_allclose(probe, shipped.about["probe"], atol=0.03)


def test_an_expected_distance_is_no_less_than_0_and_depends_on_all_three_sounds(shipped, heard):
    reference, dry, truth = heard
    said = {
        shipped.judge(*given)(one)[0]
        for given, one in (
            ((reference, dry), truth),
            ((reference, dry), dry),
            ((reference, truth), truth),
            ((dry, dry), truth),
        )
    }
    assert len(said) == 4 and min(said) >= 0 and np.isfinite(list(said)).all()


def test_no_style_is_changed_by_being_judged(shipped, heard):
    before = [(one.numbers.copy(), one.cepstrum.copy()) for one in heard]
    shipped.judge(*heard[:2])(heard[2])
    for one, (numbers, cepstrum) in zip(heard, before):
        assert np.array_equal(one.numbers, numbers) and np.array_equal(one.cepstrum, cepstrum)


def test_a_sound_is_judged_the_same_alone_and_by_several_threads(shipped, heard, dry):
    judge = shipped.judge(*heard[:2])
    several = [style.measure(sound) for sound in dry.sounds] + [heard[2]]
    alone = blackbox.in_threads(judge, several, workers=1)
    assert blackbox.in_threads(judge, several * 4, workers=3) == alone * 4


def test_one_sound_is_judged_as_many_are_in_training(shipped, heard, dry):
    """`judge`, and the training's way over whole groups, are two ways to one number."""
    delay = effects.load("mda:Delay")
    echoing = [blackbox.wet(delay, x, [0.5, 0.2, 0.4, 0.5, 0.9, 0.5], passages.RATE_HZ) for x in dry.sounds[:8]]
    inputs, wanted = [*heard, *map(style.measure, dry.sounds[2:8])], [style.measure(sound) for sound in echoing]
    compared = np.array([[shipped.space.compare(one)(other) for other in inputs] for one in wanted])
    assert compared[..., 1].max() > 0.5  # with clear echoes
    numbers = [np.stack([one.numbers for one in styles])[None] for styles in (inputs, wanted)]
    many = expected(shipped, critic_material.Groups(*numbers, compared[None], np.zeros((1, 8, 9)), np.zeros((1, 8))))
    for one, row in zip(wanted, many[0]):
        judge = shipped.judge(one, inputs[-1])
        np.testing.assert_allclose([judge(other)[0] for other in inputs], row, rtol=1e-3)


def test_echoes_are_as_unlike_as_they_miss_those_of_the_reference_if_it_has_clear_ones(shipped, heard, dry):
    delay = effects.load("mda:Delay")
    near, far = ([left, 0.5, 0.4, 0.5, 0.9, 0.5] for left in (0.5, 0.8))
    first, second, third = (
        style.measure(blackbox.wet(delay, sound, at, passages.RATE_HZ))
        for sound, at in ((dry.sounds[0], near), (dry.sounds[1], near), (dry.sounds[1], far))
    )
    alike, unlike = (shipped.judge(first, heard[1])(other)[1] for other in (second, third))
    assert 0 <= alike < unlike - 0.1 and unlike <= 1
    assert shipped.judge(style.measure(dry.sounds[0]), heard[1])(third)[1] == 0


# --- what it is worth -------------------------------------------------------------------------------------------------
def test_of_voices_never_heard_it_knows_better_than_the_distance_of_style_what_is_near_the_truth(shipped, groups):
    found = critic_training.worth(shipped, groups)
    assert found["rank_correlation"] > found["style_rank_correlation"] + 0.02
    assert found["best"] <= found["chosen"] < found["style_chosen"] * 1.02
    assert found["chosen"] < found["dry"]
    for recorded in shipped.about["worth"].values():
        assert (
            recorded["rank_correlation"] > recorded["style_rank_correlation"] and recorded["chosen"] < recorded["dry"]
        )


def test_the_truth_is_expected_to_be_nearer_than_the_dry_sound(shipped, groups):
    said = expected(shipped, groups)
    assert said[:, ITSELF].mean() < 0.8 * said[..., -1].mean()


def test_what_it_expects_is_of_the_size_of_the_distance_itself(shipped, groups):
    said, true = expected(shipped, groups), groups.distances
    assert np.abs(said - true).mean() < 0.75 * np.abs(np.median(true) - true).mean()
    assert said.mean() == pytest.approx(true.mean(), rel=0.25)


def expected(made, groups):
    import torch

    data = critic_training._tensors(groups, made.space, made.centre)
    with torch.inference_mode():
        rows = torch.arange(len(groups.inputs))
        return torch.stack([critic_training._told(net, data, rows) for net in made.nets]).mean(0).numpy()


def test_speech_of_every_voice_never_heard_is_familiar_and_chords_and_noise_are_not(shipped):
    speakers = match_cases.unseen("speech", config.preset("report"))
    for name, utterances in speakers.items():
        case = match_cases.draw({name: utterances}, "mda:Overdrive", index=0)
        assert shipped.is_familiar(style.measure(case.dry)), name
    rng, t = np.random.default_rng(0), np.arange(passages.SAMPLES) / passages.RATE_HZ
    chord = sum(np.sin(2 * np.pi * f * k * t) / k for f in (220, 277.2, 329.6) for k in range(1, 9))
    for sound in (chord, rng.normal(size=len(t))):
        assert not shipped.is_familiar(style.measure(sound.astype(np.float32)))
