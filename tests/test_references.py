"""What a controller learns from: whose words, which settings, and the same whoever computes it."""

import numpy as np
import pytest

from vaefx_lib import audio, blackbox, corpora, corpus_split, effects, passages, references, runs, spectrogram, style

OVERDRIVE, DELAY = "mda:Overdrive", "mda:Delay"


@pytest.fixture(scope="module")
def run(controlled, spoken_home):
    return runs.load(spoken_home / "runs" / "spoken" / "vae")


@pytest.fixture(scope="module")
def dry(controlled):
    return references.draw_dry(controlled, "train", 24, seed=1)


@pytest.fixture(scope="module")
def drawn(controlled, run, dry):
    return {name: references.draw(controlled, run, dry, name, 12, seed=3) for name in (OVERDRIVE, DELAY)}


# --- dry passages -----------------------------------------------------------------------------------------------------
def test_dry_passages_are_at_the_level_of_rendered_pairs_and_speakers_take_turns(controlled, dry):
    assert dry.sounds.shape == (24, passages.SAMPLES) and dry.sounds.dtype == np.float32
    np.testing.assert_allclose(np.abs(dry.sounds).max(1), 10 ** (controlled.render.peak_dbfs / 20), rtol=1e-5)
    heard = [utterance.speaker for utterance in corpus_split.split(corpora.load("speech"), "speech")["train"]]
    assert list(dry.speakers) == [sorted(set(heard))[i % 19] for i in range(24)]
    assert len(np.unique(dry.sounds, axis=0)) == 24


def test_nobody_is_heard_both_in_training_and_in_validation(controlled, dry):
    others = references.draw_dry(controlled, "valid", 8, seed=1)
    assert set(others.speakers) == set(corpus_split.UNSEEN_SPEAKERS)
    assert not set(others.speakers) & set(dry.speakers)


def test_dry_passages_follow_from_the_seed_and_their_number_alone(controlled, dry):
    again = references.draw_dry(controlled, "train", 5, seed=1)
    assert np.array_equal(again.sounds, dry.sounds[:5])
    assert not np.array_equal(references.draw_dry(controlled, "train", 1, seed=2).sounds, dry.sounds[:1])


def test_the_other_passage_is_another_and_of_the_speaker_that_is_asked_for():
    dry = references.Dry(np.zeros((5, 1), np.float32), np.array(["a", "b", "a", "b", "c"]))
    rng = np.random.default_rng(0)
    for index, same, allowed in ((0, True, {2}), (0, False, {1, 3, 4}), (3, True, {1}), (4, True, {0, 1, 2, 3})):
        assert {dry.other(rng, index, same_speaker=same) for _ in range(60)} == allowed


# --- references -------------------------------------------------------------------------------------------------------
def test_no_reference_says_what_its_input_says_and_half_are_of_the_same_voice(controlled, run, dry, drawn):
    for refs in drawn.values():
        assert (refs.inputs != refs.passages).all()
    same = np.concatenate([dry.speakers[r.inputs] == dry.speakers[r.passages] for r in drawn.values()])
    assert 0.1 < same.mean() < 0.9


@pytest.mark.parametrize("name", [OVERDRIVE, DELAY])
def test_the_settings_give_the_measures_of_the_reference(controlled, run, dry, drawn, name):
    refs, effect = drawn[name], effects.load(name)
    assert refs.effect == name and refs.settings.shape == (12, len(effect.params))
    assert (refs.settings >= 0).all() and (refs.settings <= 1).all()
    for i in range(3):
        sound = blackbox.wet(effect, dry.sounds[refs.passages[i]], refs.settings[i], passages.RATE_HZ)
        # settings are kept in single precision, with which an echo may move by a sample
        np.testing.assert_allclose(style.measure(sound).numbers, refs.numbers[i], atol=0.3)
        other = style.measure(blackbox.wet(effect, dry.sounds[refs.inputs[i]], refs.settings[i], passages.RATE_HZ))
        assert np.abs(other.numbers - refs.numbers[i]).max() > 3


def test_the_embedding_is_that_of_the_input_beside_the_reference(run, dry, drawn):
    refs = drawn[OVERDRIVE]
    assert refs.mu.shape == (12, run.preset.vae.latent_dim) and refs.mu.dtype == np.float32
    for i in (0, 5):
        sounds = dry.sounds[refs.passages[i]], dry.sounds[refs.inputs[i]]
        reference = blackbox.wet(effects.load(OVERDRIVE), sounds[0], refs.settings[i], passages.RATE_HZ)
        alone = references.embed(run, [references.windows(run, sounds[1], reference)])
        np.testing.assert_allclose(alone[0], refs.mu[i], atol=2e-3)


def test_references_follow_from_the_seed_and_their_number_on_any_number_of_threads(
    controlled, run, dry, drawn, monkeypatch
):
    threads = blackbox.in_threads
    for workers in (1, 2):
        monkeypatch.setattr(
            blackbox, "in_threads", lambda work, items, workers=workers: threads(work, items, workers=workers)
        )
        again = references.draw(controlled, run, dry, OVERDRIVE, 5, seed=3)
        for name in ("inputs", "passages", "settings", "numbers"):
            assert np.array_equal(getattr(again, name), getattr(drawn[OVERDRIVE], name)[:5]), name
        np.testing.assert_allclose(again.mu, drawn[OVERDRIVE].mu[:5], atol=1e-5)  # in another batch
    other = references.draw(controlled, run, dry, OVERDRIVE, 2, seed=4)
    assert not np.array_equal(other.settings, drawn[OVERDRIVE].settings[:2])


def test_settings_at_which_nothing_is_heard_are_drawn_again(dry):
    def process(sound, rate, amount):
        if amount < 0.3:
            raise effects.EffectFailed("it has crashed")
        return sound * np.float32(amount > 0.6)

    picky = effects.Effect("a test", (effects.Param("amount", "", 0, 1, 0.5),), process)
    for seed in range(12):
        settings, *sounds = references.draw_settings(picky, dry.sounds[:2], np.random.default_rng(seed), -12)
        assert settings[0] > 0.6 and not any(audio.is_silent(sound) for sound in sounds)

    mute = effects.Effect("a mute test", picky.params, lambda sound, rate, amount: 0 * sound)
    with pytest.raises(ValueError, match="a mute test gave nothing that can be heard in 100 draws of its settings"):
        references.draw_settings(mute, dry.sounds[:1, :5000], np.random.default_rng(0), -12)


# --- embedding --------------------------------------------------------------------------------------------------------
def test_windows_are_standardised_spectrograms_of_stretches_side_by_side(run, dry):
    stft = run.preset.stft
    one, other = dry.sounds[0], dry.sounds[1, :50_000]
    found = references.windows(run, one, other)
    assert found.shape == (50_000 // stft.num_samples, 2, stft.num_frames, stft.num_bins)
    stretch = slice(stft.num_samples, 2 * stft.num_samples)
    S = np.stack([spectrogram.magnitude(x[None, stretch], stft)[0] for x in (one, other)])
    np.testing.assert_allclose(found[1], run.statistics.standardise(S[None])[0], atol=1e-5)


@pytest.mark.parametrize("lengths", [(12_000, 131_072), (131_072, 12_000), (12_000, 13_000)])
def test_a_sound_shorter_than_a_window_is_repeated(run, dry, lengths):
    one, other = (dry.sounds[i, :n] for i, n in enumerate(lengths))
    found = references.windows(run, one, other)
    whole = [np.resize(x, run.preset.stft.num_samples) if len(x) < 16_384 else x[:16_384] for x in (one, other)]
    assert found.shape[0] == 1
    np.testing.assert_array_equal(found, references.windows(run, *whole))


def test_an_embedding_does_not_depend_on_its_batch_mates(run, dry):
    clips = [references.windows(run, dry.sounds[i], dry.sounds[i + 1, : 20_000 * (1 + i)]) for i in range(5)]
    assert len({len(clip) for clip in clips}) > 2
    together = references.embed(run, clips)
    for i, clip in enumerate(clips):
        np.testing.assert_allclose(references.embed(run, [clip])[0], together[i], atol=1e-5)
    louder = references.embed(run, [clips[0], 50 * clips[1]])
    np.testing.assert_allclose(louder[0], together[0], atol=1e-5)


def test_embedding_leaves_the_encoder_as_it_is(run, dry):
    before = {name: value.clone() for name, value in run.model.state_dict().items()}
    references.embed(run, [references.windows(run, *dry.sounds[:2])] * 3)
    assert not run.model.training
    assert all(value.equal(before[name]) for name, value in run.model.state_dict().items())


# --- classes ----------------------------------------------------------------------------------------------------------
def test_members_of_a_class_went_through_one_effect_at_one_setting(controlled, dry):
    names = [OVERDRIVE, "pedalboard:LowpassFilter"]
    found = references.classes(controlled, dry, names, 6, members=3, seed=2)
    assert found.shape[:2] == (6, 3) and found.dtype == np.float32
    within = found.std(1).mean()
    assert within < found.mean(1).std(0).mean() * 3**0.5 and within > 0
    again = references.classes(controlled, dry, names, 2, members=3, seed=2)
    assert np.array_equal(again, found[:2])


def test_every_kind_that_teaches_the_distance_can_be_loaded():
    assert len(set(references.KINDS)) == len(references.KINDS) > 10
    for name in references.KINDS:
        assert effects.load(name).params
