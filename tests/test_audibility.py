"""A setting is audible where moving it changes the wet sound, and nowhere else."""

import dataclasses

import numpy as np
import pytest

from vaefx_lib import (
    audibility,
    audio,
    effects,
    interpolation,
    shard_writing,
    shards,
    spectrogram,
    standardisation,
    training,
)

DELAY, OVERDRIVE = effects.load("mda:Delay"), effects.load("mda:Overdrive")


@pytest.fixture(scope="module")
def run(spoken_home):
    return training.load(spoken_home / "runs" / "spoken" / "vae")


@pytest.fixture(scope="module")
def spoken_test(spoken_home):
    return shards.load(spoken_home / "runs" / "spoken" / "data" / "test")


def render(folder, run, clips):
    """A data set of noise bursts through effects at given settings: list of (effect, settings)."""
    rng, rows, pairs = np.random.default_rng(0), [], []
    envelope = np.exp(-np.arange(run.preset.stft.num_samples) / 2000)
    for effect, settings in clips:
        dry = audio.peak_level((rng.normal(size=envelope.size) * envelope).astype(np.float32))
        pairs.append([dry, audibility.render_wet(dry, effect, settings, run)])
        rows.append({"effect": effect.name, "speaker": "s", "settings": list(settings), "redraws": {"silent": 0}})

    def fill(pair, i):
        pair[:] = pairs[i]
        return rows[i]

    shard = shard_writing.write(folder / "shard-00000.npy", np.shape(pairs), fill, str(rows))
    shard_writing.finish(folder, [shard], str(rows), {"sample_rate_hz": run.preset.stft.sample_rate_hz})
    return shards.load(folder)


def named(effect, changes):
    return dict(zip(effect.param_names, changes))


def test_a_clip_rendered_again_at_its_own_settings_is_the_rendered_clip(run, spoken_test):
    for i, row in enumerate(spoken_test.rows):
        dry, wet = spoken_test[i]
        again = audibility.render_wet(dry, effects.load(row["effect"]), row["settings"], run)
        assert again == pytest.approx(wet, abs=1e-6)


def test_a_gain_is_never_audible_as_the_pairs_are_brought_to_one_level(run, spoken_test):
    changes = audibility.measure(run, spoken_test)
    assert changes.shape == (len(spoken_test), 6)
    for i, row in enumerate(spoken_test.rows):
        effect = effects.load(row["effect"])
        count = len(effect.params)
        assert np.isfinite(changes[i, :count]).all() and np.isnan(changes[i, count:]).all()
        assert named(effect, changes[i])["output"] < 1e-6
    assert np.nanmax(changes) > audibility.AUDIBLE


def test_a_change_is_that_of_the_wet_spectrogram_in_variances_of_the_training_set(run, spoken_test):
    changes = audibility.measure(run, spoken_test)
    i = spoken_test.effect_names.tolist().index("mda:Overdrive")
    settings = spoken_test.settings[i]
    moved = settings.copy()
    moved[1] = settings[1] + 0.5 if settings[1] <= 0.5 else settings[1] - 0.5
    S, other = (interpolation.wet_pair(run, spoken_test[i][0], OVERDRIVE, s)[1] for s in (settings, moved))
    assert changes[i, 1] == pytest.approx(np.square(other - S).mean(), rel=1e-4)


def test_what_is_not_mixed_in_or_not_fed_back_cannot_be_heard(run, tmp_path):
    dry_only = {"l_delay": 0.3, "r_delay": 0.3, "feedback": 0.7, "fb_tone": 0.2, "fx_mix": 0.0, "output": 0.5}
    loud_echo = dry_only | {"fx_mix": 0.7}
    tiny_echo = dry_only | {"fx_mix": 0.01}
    clips = [(DELAY, list(settings.values())) for settings in (dry_only, tiny_echo, loud_echo)]
    none, tiny, loud = (named(DELAY, c) for c in audibility.measure(run, render(tmp_path, run, clips)))
    for name in ("l_delay", "r_delay", "feedback", "fb_tone"):
        assert none[name] < 1e-9, name
        assert none[name] <= tiny[name] < loud[name], name
    assert min(none["fx_mix"], loud["l_delay"]) > audibility.AUDIBLE


def test_two_settings_of_r_delay_with_one_ratio_are_one_sound(run, spoken_test):
    dry = spoken_test[0][0]
    for one, other in ((0.25, 0.75), (0.125, 1.0)):
        sounds = [audibility.render_wet(dry, DELAY, {"r_delay": value}, run) for value in (one, other)]
        assert np.array_equal(*sounds)
    assert not np.array_equal(sounds[0], audibility.render_wet(dry, DELAY, {"r_delay": 0.5}, run))


def test_silence_counts_as_zeros(run, tmp_path):
    late_echo = [1.0, 0.25, 0.5, 0.5, 0.5, 0.5]  # it comes after the clip: with nothing but the echo there is nothing
    dataset = render(tmp_path, run, [(DELAY, late_echo)])
    changes = named(DELAY, audibility.measure(run, dataset)[0])
    S = spectrogram.magnitude(dataset[0][1], run.preset.stft)
    assert changes["fx_mix"] == pytest.approx(np.square(S).mean() / run.statistics.std[1] ** 2, rel=1e-5)
    assert changes["feedback"] < 1e-9


@pytest.mark.parametrize("mood", [0.33, 0.47])
def test_where_a_plug_in_gives_nan_or_crashes_nothing_is_known(run, unruly_lv2, tmp_path, monkeypatch, mood):
    monkeypatch.setenv("LV2_PATH", str(unruly_lv2))
    effect = effects.load("lv2:unruly/unruly")
    changes = audibility.measure(run, render(tmp_path, run, [(effect, [mood, 0.2])]))  # moved to mood + 0.5
    assert np.isnan(changes[0, 0]) and changes[0, 1] > 0


def test_stereo_is_heard_as_the_network_sees_it_the_mean_of_both_sides(run):
    rng = np.random.default_rng(0)
    dry = rng.normal(size=(2, 9000)).astype(np.float32)
    wet = audibility.render_wet(dry, DELAY, DELAY.default_settings, run)
    assert wet.shape == dry.shape and np.abs(wet).max() == pytest.approx(10 ** (-12 / 20), rel=1e-5)
    assert not np.allclose(wet[0], wet[1])


def test_what_was_measured_is_kept_until_the_data_or_the_unit_change(run, spoken_test, tmp_path):
    path = tmp_path / "kept.safetensors"

    def anew(run=run, data=spoken_test):
        before = path.stat().st_mtime_ns if path.exists() else None
        changes = audibility.measure(run, data, path=path)
        assert np.array_equal(changes, audibility.measure(run, data), equal_nan=True)
        return path.stat().st_mtime_ns != before

    assert anew()
    assert not anew()
    assert anew(data=dataclasses.replace(spoken_test, fingerprint="another"))
    twice = standardisation.Statistics(run.statistics.mean, tuple(2 * s for s in run.statistics.std))
    assert anew(run=dataclasses.replace(run, statistics=twice))
