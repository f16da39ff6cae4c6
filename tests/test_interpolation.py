"""Paths between latent vectors: what stays, what moves, and what the middle is compared with."""

import dataclasses

import numpy as np
import pytest

from vaefx_lib import effects, interpolation, latent, shards, training

DELAY, OVERDRIVE = effects.load("mda:Delay"), effects.load("mda:Overdrive")


@pytest.fixture(scope="module")
def run(spoken_home):
    return training.load(spoken_home / "runs" / "spoken" / "vae")


@pytest.fixture(scope="module")
def clips(spoken_home):
    return shards.load(spoken_home / "runs" / "spoken" / "data" / "test")


@pytest.fixture
def linear(monkeypatch):
    """A network that gives back what it gets: its latent vector is the spectrogram pair itself."""
    monkeypatch.setattr(latent, "embed", lambda run, x: x.reshape(len(x), -1))
    monkeypatch.setattr(latent, "decode", lambda run, z: z.reshape(len(z), 2, run.preset.stft.num_frames, -1))


# --- pairs ------------------------------------------------------------------------------------------------------------
def test_a_pair_made_on_the_spot_is_the_one_that_was_rendered(run, clips):
    for i, name in enumerate(clips.effect_names):
        made = interpolation.wet_pair(run, clips[i][0], effects.load(name), clips.settings[i])
        stored = run.statistics.standardise(interpolation.spectrogram.magnitude(clips[i], run.preset.stft))
        assert made == pytest.approx(stored, abs=1e-3)


def test_the_level_of_the_source_does_not_matter(run, clips):
    dry = clips[0][0]
    loud, quiet = (interpolation.wet_pair(run, gain * dry, OVERDRIVE, [0.7, 0.3, 0.5]) for gain in (2, 0.25))
    assert loud == pytest.approx(quiet, abs=1e-3)


# --- drift ------------------------------------------------------------------------------------------------------------
def test_a_path_that_stays_has_no_drift():
    assert interpolation.drift(np.ones((5, 2, 3))) == 0


def test_drift_is_the_mean_square_of_the_change_from_the_start():
    path = np.array([[5.0, 5.0], [6.0, 5.0], [7.0, 3.0]])
    assert interpolation.drift(path) == pytest.approx((1 + 0 + 4 + 4) / 4)


def test_between_effects_dry_should_stay_and_wet_move():
    path = np.zeros((3, 2, 4, 5))
    path[1:, 1] = 2
    assert interpolation.drift_between_effects(path) == (0, 4)


def test_between_sources_what_is_common_to_dry_and_wet_is_no_drift_of_the_effect():
    rng = np.random.default_rng(0)
    words = rng.normal(size=(3, 1, 4, 5))
    stays, moves = interpolation.drift_between_sources(words + np.array([0, 3.0]).reshape(1, 2, 1, 1))
    assert stays == pytest.approx(0) and moves > 0.01
    order = rng.permutation(4)  # of frames: a long-term spectrum knows no time
    path = np.concatenate([words, words[:, :, order]], axis=1)
    assert interpolation.drift_between_sources(path)[0] == pytest.approx(0)


def test_the_dry_row_of_the_factorised_network_stays_between_effects_and_that_of_pca_does_not(run, clips, spoken_home):
    pca = latent.training_pca(run)
    found = interpolation.mean_drift(run, pca, clips)
    assert found["effects_dry_drift"] == pytest.approx(0, abs=1e-9)
    assert found["audio_wet_drift"] > 0
    assert found["pca"]["effects_dry_drift"] > 0.001
    assert found["cross_fade"]["effects_dry_drift"] == pytest.approx(0, abs=1e-9)
    assert found["cross_fade"]["audio_wet_drift"] > 0
    assert found["paths"] == len(clips)
    assert interpolation.mean_drift(run, pca, clips) == found


# --- half-way ---------------------------------------------------------------------------------------------------------
def test_without_a_network_the_middle_of_the_path_is_the_cross_fade(run, clips, linear):
    found = interpolation.midway_errors(run, clips, OVERDRIVE, "muffle", 0.2, 0.8)
    assert found["latent"] == pytest.approx(found["cross_fade"])
    far, near = [], []
    for i in range(len(clips)):
        pairs = (interpolation.wet_pair(run, clips[i][0], OVERDRIVE, [0.5, muffle, 0.5]) for muffle in (0.2, 0.5, 0.8))
        low, truth, high = (pair[1] for pair in pairs)
        near.append(np.mean(((low + high) / 2 - truth) ** 2))
        far.append((np.mean((low - truth) ** 2) + np.mean((high - truth) ** 2)) / 2)
    assert found["cross_fade"] == pytest.approx(sum(near) / sum(far), rel=1e-4)
    assert found["cross_fade"] < 0.5  # a low-pass that closes evenly


def test_echoes_do_not_move_in_a_cross_fade(run, clips, linear):
    assert interpolation.midway_errors(run, clips, DELAY, "l_delay", 0.2, 0.5)["cross_fade"] > 0.5


# --- transfer ---------------------------------------------------------------------------------------------------------
def test_a_transfer_takes_the_effect_part_and_nothing_else(run):
    own, other = np.zeros((3, 16), np.float32), np.ones((3, 16), np.float32)
    mixed = interpolation.transfer(run, own, other)
    assert mixed.tolist() == [[0] * 8 + [1] * 8] * 3
    assert not own.any()


def test_a_transferred_effect_is_compared_with_the_same_words_through_that_effect(run, clips, monkeypatch):
    monkeypatch.setattr(interpolation, "N_CLIPS", 1)
    j = next(
        j
        for j in range(1, len(clips))
        if clips.effect_names[j] != clips.effect_names[0] and clips.speakers[j] != clips.speakers[0]
    )
    effect, settings = effects.load(clips.effect_names[j]), clips.settings[j]
    truth = interpolation.wet_pair(run, clips[0][0], effect, settings)
    own, other = (
        run.statistics.standardise(interpolation.spectrogram.magnitude(clips[i], run.preset.stft)) for i in (0, j)
    )
    z = latent.embed(run, np.stack([own, other, truth]))
    mixed = np.concatenate([z[0, :8], z[1, 8:]])
    found = interpolation.transfer_errors(run, clips)
    for name, vector in {"transfer": mixed, "rebuilt": z[2], "unchanged": z[0]}.items():
        expected = np.mean((latent.decode(run, vector[None])[0, 1] - truth[1]) ** 2)
        assert found[name] == pytest.approx(expected, rel=1e-3)


def test_a_transfer_needs_another_speaker(run, clips):
    alone = dataclasses.replace(clips)
    vars(alone)["rows"] = [{**row, "speaker": "one"} for row in clips.rows]
    with pytest.raises(ValueError, match="clip 0 of 12: no other clip has both another effect and another speaker"):
        interpolation.transfer_errors(run, alone)


def test_a_network_that_reads_wet_alone_has_no_path_to_measure(run, clips):
    wet_only = dataclasses.replace(run.preset, vae=dataclasses.replace(run.preset.vae, inputs=("wet",)))
    with pytest.raises(ValueError, match="between dry and wet"):
        interpolation.mean_drift(dataclasses.replace(run, preset=wet_only), None, clips)


# --- kept -------------------------------------------------------------------------------------------------------------
def test_what_was_measured_is_kept_until_an_argument_changes(run, clips):
    asked = []

    def measured(run, dataset, effect, name):
        asked.append(name)
        return {"value": len(asked)}

    for name, count in (("drive", 1), ("drive", 1), ("muffle", 2), ("drive", 1)):
        assert interpolation.kept(run, clips, measured, clips, OVERDRIVE, name) == {"value": count}
    assert interpolation.kept(run, clips, measured, clips, DELAY, "drive") == {"value": 3}
    assert asked == ["drive", "muffle", "drive"]
