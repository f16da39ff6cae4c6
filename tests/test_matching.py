"""From two sounds to settings, by a controller that was really trained: what is found, written and refused."""

import dataclasses
import json
import math
import os
import types

import numpy as np
import pytest
import soundfile
from conftest import answering

from vaefx_lib import (
    audio,
    blackbox,
    candidates,
    corpora,
    critic,
    effect_choice,
    effects,
    matching,
    metrics,
    packed,
    passages,
    refining,
    search,
)
from vaefx_lib.effects.mda import delay_samples

RATE_HZ = passages.RATE_HZ
TRUTH = np.array([0.8, 0.6, 0.5])  # of Overdrive


def speech(speaker, seconds):
    utterances = [u for u in corpora.load("speech") if u.speaker == speaker]
    sound = np.concatenate([audio.load(u.path, sample_rate_hz=RATE_HZ)[0][0] for u in utterances])
    return audio.peak_level(np.resize(sound, int(seconds * RATE_HZ)), -6)


@pytest.fixture(scope="module")
def dry():
    return speech("am_liam", 3)


@pytest.fixture(scope="module")
def reference():
    """Another voice through Overdrive at `TRUTH`."""
    return blackbox.wet(effects.load("mda:Overdrive"), speech("af_bella", 3), TRUTH, RATE_HZ)


@pytest.fixture
def folder(tmp_path, dry, reference):
    audio.save(tmp_path / "dry.wav", dry, RATE_HZ)
    audio.save(tmp_path / "ref.flac", reference, RATE_HZ)
    return tmp_path


@pytest.fixture
def knowing(trained_controller):
    """A controller that answers `TRUTH` for Overdrive and expects something of it."""
    return answering(trained_controller, TRUTH, gain=0.5)


@pytest.fixture
def counted(monkeypatch):
    """A second of search is five evaluations on any machine, most of them proposals, and nothing else takes time."""
    refine = refining.refine

    def of_as_many(judge, hear, proposals, dry, *, budget_s=None, **given):
        if budget_s is not None:
            given["evaluations"] = max(2, round(5 * budget_s))
            proposals = proposals[: round(0.7 * given["evaluations"])]
        return refine(judge, hear, proposals, dry, **given)

    monkeypatch.setattr(refining, "refine", of_as_many)
    monkeypatch.setattr(effect_choice, "time", types.SimpleNamespace(monotonic=lambda: 0.0))


def match(dry, reference, controller, **given):
    return matching.match(dry, reference, controller=controller, **({"effect": "mda:Overdrive"} | given))


def match_files(folder, controller, **given):
    paths = {"input_path": folder / "dry.wav", "reference_path": folder / "ref.flac", "out_path": folder / "out.wav"}
    return matching.match_files(**(paths | {"effect": "mda:Overdrive", "controller": controller} | given))


def settings_of(found):
    return [about["setting"] for about in found.settings.values()]


# --- sounds -----------------------------------------------------------------------------------------------------------
def test_a_search_brings_another_voice_near_the_truth(dry, reference, trained_controller, counted):
    """The truth is not there to be heard: what the critic expects, and what comes of it, are compared with it here."""
    found = match(dry, reference, trained_controller, refine_s=16)
    truth = metrics.MrstftTo(audio.peak_level(blackbox.wet(effects.load("mda:Overdrive"), dry, TRUTH, RATE_HZ)))
    assert truth(audio.peak_level(found.audio[0])) < 0.6 * truth(audio.peak_level(dry))
    assert found.apply and found.distance < found.baseline_distance
    task = candidates.Task([dry], RATE_HZ, [reference], RATE_HZ, trained_controller)
    again = task.distance(effects.load("mda:Overdrive"), settings_of(found), RATE_HZ)
    assert again == pytest.approx(found.distance, rel=1e-5) and task.baseline_distance == found.baseline_distance
    muffle = found.settings["muffle"]
    assert muffle["unit"] == "%" and muffle["value"] == pytest.approx(100 * muffle["setting"])
    json.dumps(found.summary(), allow_nan=False)


def quick(dry, reference, controller):
    """What `matching` decides by, without a search."""
    task = candidates.Task([dry], RATE_HZ, [reference], RATE_HZ, controller)
    return task, effect_choice.of_one(task, "mda:Overdrive", 0.0, 0)


def test_without_a_search_the_answer_is_one_of_the_controllers_proposals(dry, reference, trained_controller):
    found = match(dry, reference, trained_controller)
    task, candidate = quick(dry, reference, trained_controller)
    proposals = task.proposals(effects.load("mda:Overdrive"), count=refining.QUICK)
    assert np.abs(proposals - settings_of(found)).max(1).min() == 0
    gain = candidate.refined.expected_dry - candidate.refined.expected
    expected = trained_controller.expected_improvement("mda:Overdrive", gain)
    assert found.confidence == pytest.approx(expected) and found.apply == (expected > 0)
    assert found.ranking == (("mda:Overdrive", found.distance),)


def test_a_search_without_time_gives_an_answer_of_the_controller(dry, reference, knowing):
    found = match(dry, reference, knowing, refine_s=1e-6)
    np.testing.assert_allclose(settings_of(found), TRUTH, atol=1e-6)
    assert found.distance == pytest.approx(match(dry, reference, knowing).distance)


def test_what_is_not_expected_to_help_is_left_dry(dry, reference, trained_controller):
    found = match(dry, reference, answering(trained_controller, TRUTH, gain=-0.1))
    assert not found.apply and found.confidence == pytest.approx(-0.1)
    np.testing.assert_array_equal(found.audio[0], dry)


def test_an_input_unlike_speech_is_left_dry_unless_the_critic_expects_enough_of_the_effect(knowing, monkeypatch):
    t = np.arange(3 * RATE_HZ) / RATE_HZ
    low, high = (sum(np.sin(2 * np.pi * f * k * t) / k for k in range(1, 9)) / 4 for f in (220, 330))
    found = match(low, high, knowing)
    border = found.distance / found.baseline_distance
    assert 0 < border < 1
    for explained, apply in ((border - 0.01, False), (border + 0.01, True)):
        monkeypatch.setattr(candidates, "EXPLAINED", explained)
        found = match(low, high, knowing)
        assert found.apply == apply
        assert found.confidence == pytest.approx(explained * found.baseline_distance - found.distance)
        assert np.array_equal(found.audio[0], low.astype(np.float32)) != apply
    monkeypatch.setattr(candidates, "EXPLAINED", border - 0.01)
    monkeypatch.setattr(critic, "FAMILIAR", math.inf)  # as if it were speech
    assert match(low, high, knowing).confidence > 0


def test_an_input_unlike_speech_is_left_dry_if_the_reference_does_not_show_the_echoes(trained_controller):
    """Whatever the critic expects: chords through Reverb are no chords through Delay, and chords alone neither."""
    t = np.arange(5 * RATE_HZ) / RATE_HZ
    plucked = np.exp(-3 * (t % 0.7))
    low, high = (plucked * sum(np.sin(2 * np.pi * f * k * t) / k for k in range(1, 9)) / 4 for f in (220, 330))
    reverb = effects.load("pedalboard:Reverb")
    for reference in (high, blackbox.wet(reverb, high, reverb.default_settings, RATE_HZ)):
        found = match(low, reference, trained_controller, effect="mda:Delay")
        assert not found.apply and found.confidence <= 0


def test_the_confidence_is_what_trials_make_of_the_gain_that_is_expected(dry, reference, trained_controller):
    """Dry below the border from which on something came of it, and wet above."""
    refined = quick(dry, reference, trained_controller)[1].refined
    gain = refined.expected_dry - refined.expected
    for border, apply in ((gain - 0.01, True), (gain + 0.01, False)):
        line = np.array([[border - 1, border + 1], [-1, 1]])
        careful = dataclasses.replace(
            trained_controller, calibration=dict.fromkeys(trained_controller.calibration, line)
        )
        found = match(dry, reference, careful)
        assert found.apply == apply and found.confidence == pytest.approx(gain - border, abs=1e-3)
        assert np.array_equal(found.audio[0], dry) != apply


def test_the_result_is_the_whole_input_through_the_effect_at_the_inputs_peak(dry, reference, knowing):
    gain = 10 ** (-12 / 20) / np.abs(dry).max()
    for scale in (0.01, 1, 4):  # a float wav may pass 1; what comes out may not
        made = match(scale * dry, reference, knowing).audio
        wet = effects.load("mda:Overdrive").render(gain * dry, TRUTH, RATE_HZ)
        peak = min(1, scale * np.abs(dry).max())
        np.testing.assert_allclose(made, wet / np.abs(wet).max() * peak, atol=1e-5)
        assert np.abs(made).max() <= peak


def test_the_level_of_the_input_or_of_the_reference_changes_nothing(dry, reference, trained_controller):
    one = match(dry, reference, trained_controller)
    other = match(0.003 * dry, 0.003 * reference, trained_controller)
    assert other.distance == pytest.approx(one.distance, rel=1e-3)
    np.testing.assert_allclose(settings_of(other), settings_of(one), atol=1e-3)


def test_stereo_stays_stereo_and_mono_stays_mono(dry, trained_controller):
    settings = np.array([0.3, 0.2, 0.3, 0.5, 0.5, 0.5])
    delay = answering(trained_controller, settings, effect="mda:Delay", gain=0.5)
    given = {"effect": "mda:Delay", "controller": delay}
    reference = blackbox.wet(effects.load("mda:Delay"), dry, settings, RATE_HZ)
    assert match(dry, reference, **given).audio.shape == (1, dry.size)
    stereo = match(np.stack([dry, 0.5 * dry]), reference, **given).audio
    assert stereo.shape == (2, dry.size)
    assert not np.allclose(stereo[0], 2 * stereo[1])


@pytest.mark.parametrize("silent_s", [0.0, 3.2])
def test_an_echo_lasts_as_long_at_another_rate_though_its_setting_counts_samples(dry, trained_controller, silent_s):
    """44.1 kHz: the setting that the controller, made for 24 kHz, gives would be an echo of half the time."""
    effect, settings = effects.load("mda:Delay"), np.array([0.4, 0.1, 0.2, 0.5, 0.8, 0.5])
    reference = blackbox.wet(effect, speech("af_bella", 3), settings, RATE_HZ)
    sound = np.concatenate([np.zeros(round(silent_s * 44_100), np.float32), audio.resample(dry, RATE_HZ, 44_100)])
    knowing = answering(trained_controller, settings, effect="mda:Delay")
    given = {"effect": "mda:Delay", "controller": knowing, "sample_rate_hz": 44_100}
    found = match(sound, reference, reference_rate_hz=RATE_HZ, **given)
    used = settings_of(found)
    true_ms = delay_samples(*settings[:2])[0] / RATE_HZ * 1000
    taps_ms = np.array(delay_samples(*used[:2])) / 44.1
    assert np.abs(taps_ms - true_ms).min() < 4
    assert abs(delay_samples(*settings[:2])[0] / 44.1 - true_ms) > 90
    assert found.sample_rate_hz == 44_100 and found.audio.shape == (1, sound.size)


def test_settings_in_seconds_are_not_touched_at_another_rate(dry, trained_controller):
    settings = np.array([0.5, 0.3, 0.5])
    reference = blackbox.wet(effects.load("pedalboard:Delay"), speech("af_bella", 3), settings, RATE_HZ)
    knowing = answering(trained_controller, settings, effect="pedalboard:Delay")
    given = {"effect": "pedalboard:Delay", "controller": knowing, "sample_rate_hz": 48_000}
    found = match(audio.resample(dry, RATE_HZ, 48_000), reference, reference_rate_hz=RATE_HZ, **given)
    np.testing.assert_allclose(settings_of(found), settings, atol=0.01)


def test_auto_ranks_what_the_controller_knows_and_with_a_search_all_that_is_installed(
    dry, reference, knowing, counted, monkeypatch
):
    knowing = answering(knowing, [0.5], effect="pedalboard:Gain", gain=0.5)
    found = match(dry, reference, knowing, effect="auto")
    assert {name for name, _ in found.ranking} == {"mda:Overdrive", "mda:Delay", "pedalboard:Gain"}
    assert [distance for _, distance in found.ranking] == sorted(distance for _, distance in found.ranking)
    assert found.effect == "mda:Overdrive" and found.ranking[0] == (found.effect, found.distance)

    names = ["pedalboard:Gain", "lv2:nowhere/Nope", "vst3:slow.vst3", "mda:Overdrive", "pedalboard:Clipping"]
    monkeypatch.setattr(effects, "available", lambda: names)
    found = match(dry, reference, knowing, effect="auto", refine_s=10)
    assert found.effect == "mda:Overdrive"
    assert {name for name, _ in found.ranking} == {"mda:Delay", *names[0:1], *names[3:]}
    assert list(found.left_out) == ["lv2:nowhere/Nope"]


def test_a_search_that_is_interrupted_still_gives_its_best(dry, reference, trained_controller, monkeypatch):
    judged, calls = candidates.Task._judged, []

    def impatient(*given):
        said = judged(*given)
        calls.append(said)
        if len(calls) >= 30:
            raise KeyboardInterrupt
        return said

    monkeypatch.setattr(candidates.Task, "_judged", impatient)
    found = match(dry, reference, trained_controller, refine_s=60)
    nearest = min(abs(distance - found.distance) for distance, *_ in calls)
    assert found.interrupted and nearest < 1e-5  # rounding: one thread multiplies while it searches, two at the end


@pytest.mark.parametrize(
    "given, message",
    [
        ({"effect": "mda:Nope"}, "unknown effect 'mda:Nope'"),
        ({"effect": "pedalboard:Gain"}, "does not know pedalboard:Gain, only mda:Overdrive, mda:Delay: give seconds"),
        ({"effect": "lv2:nowhere/Nope", "refine_s": 1}, "nowhere"),
        ({"refine_s": -1}, "the time for the search is -1 s"),
        ({"refine_s": math.nan}, "the time for the search is nan s"),
        ({"sound": np.zeros(RATE_HZ, np.float32)}, "the input is silent"),
        ({"reference": np.zeros(RATE_HZ, np.float32)}, "the reference is silent"),
        ({"sound": np.full(RATE_HZ, np.nan, np.float32)}, "the input holds NaN"),
        ({"sound": np.ones(1, np.float32)}, r"the input lasts 4.17e-05 s \(samples: 1\): at least 0.5 s"),
        ({"sound": np.eye(1, 2 * RATE_HZ)[0]}, "the input is silent but for single peaks"),
        ({"sound": np.array([[1.0], [-1]]) * np.sin(np.arange(RATE_HZ))}, "its channels cancel"),
        ({"sound": np.ones((3, RATE_HZ), np.float32)}, "the input has 3 channels: effects take 1 or 2"),
    ],
)
def test_what_cannot_be_matched_is_refused_in_a_sentence(dry, reference, trained_controller, given, message):
    given = {"sound": dry, "reference": reference} | given
    with pytest.raises(ValueError, match=message):
        match(given.pop("sound"), given.pop("reference"), trained_controller, **given)


def test_without_a_trained_controller_it_is_said_what_trains_one(dry, reference, tmp_path, monkeypatch, nothing_packed):
    monkeypatch.setenv("VAEFX_HOME", str(tmp_path))
    for effect in ("mda:Overdrive", "auto"):
        with pytest.raises(ValueError, match="no trained controller: notebook 05_controller_training trains one"):
            match(dry, reference, None, effect=effect, refine_s=1)


def test_without_a_trained_controller_that_of_the_library_answers(
    dry, reference, tmp_path, monkeypatch, packed_library
):
    monkeypatch.setenv("VAEFX_HOME", str(tmp_path))
    found = matching.match(dry, reference, effect="mda:Overdrive")
    given = matching.match(dry, reference, effect="mda:Overdrive", controller=packed.controller())
    assert found.settings == given.settings and found.confidence == given.confidence


# --- files ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("rate, channels, suffix", [(24_000, 1, "wav"), (44_100, 2, "flac"), (8_000, 1, "wav")])
def test_the_file_that_comes_out_has_the_rate_the_channels_and_the_length_of_the_input(
    folder, dry, knowing, rate, channels, suffix
):
    sound = np.stack([audio.resample(dry, RATE_HZ, rate)] * channels)
    audio.save(folder / "dry.wav", sound, rate)
    found = match_files(folder, knowing, out_path=folder / "new" / f"out.{suffix}")
    written, written_hz = audio.load(folder / "new" / f"out.{suffix}")
    assert written_hz == found.sample_rate_hz == rate
    assert written.shape == sound.shape
    np.testing.assert_allclose(written, found.audio, atol=2**-15)
    assert [path.name for path in (folder / "new").iterdir()] == [f"out.{suffix}"]


def test_half_a_second_is_enough(folder, dry, knowing):
    audio.save(folder / "dry.wav", dry[: RATE_HZ // 2 + 5000][-RATE_HZ // 2 :], RATE_HZ)
    assert match_files(folder, knowing).audio.shape == (1, RATE_HZ // 2)


def test_of_a_long_sound_loud_passages_from_all_over_it_are_measured(tmp_path):
    rng = np.random.default_rng(0)
    seconds = 90
    sound = (1e-3 * rng.normal(size=(2, seconds * 8_000))).astype(np.float32)
    for start, level in ((5, 0.1), (40, 0.2), (70, 0.15)):
        sound[:, start * 8_000 : (start + 7) * 8_000] *= level / 1e-3
    audio.save(tmp_path / "long.flac", np.clip(sound, -1, 1), 8_000)
    found, rate = passages.of_file(tmp_path / "long.flac")
    assert rate == RATE_HZ
    np.testing.assert_allclose([np.std(p) * 2**0.5 for p in found], [0.1, 0.2, 0.15], rtol=0.1)
    assert [p.size for p in found] == [passages.SAMPLES] * 3
    same = passages.of_sound(sound, 8_000)
    for part, whole in zip(found, same, strict=True):
        np.testing.assert_allclose(
            part[100:-100], audio.resample(whole, 8_000, RATE_HZ)[: part.size][100:-100], atol=0.02
        )


def test_a_long_reference_does_not_have_to_fit_into_memory(folder, knowing, monkeypatch):
    sound = np.tile(soundfile.read(folder / "ref.flac", dtype="float32")[0], 25)
    audio.save(folder / "ref.flac", sound, RATE_HZ)
    short = match_files(folder, knowing)
    loaded = []
    monkeypatch.setattr(
        audio, "load", lambda path, load=audio.load, **given: loaded.append(path) or load(path, **given)
    )
    assert match_files(folder, knowing).distance == short.distance
    assert loaded == [folder / "dry.wav"]


def test_a_damaged_long_reference_is_refused(folder, knowing):
    sound = 0.1 * np.sin(np.arange(70 * RATE_HZ, dtype=np.float32))
    sound[-5000] = np.nan
    soundfile.write(folder / "nan.wav", sound, RATE_HZ, subtype="FLOAT")
    with pytest.raises(ValueError, match="nan.wav holds NaN"):
        match_files(folder, knowing, reference_path=folder / "nan.wav")


def test_no_two_of_the_three_files_may_be_the_same(folder, knowing):
    os.symlink(folder / "dry.wav", folder / "link.wav")
    os.link(folder / "ref.flac", folder / "hard.flac")
    before = (folder / "dry.wav").read_bytes()
    for given, words in (
        ({"reference_path": folder / "dry.wav"}, "input and reference"),
        ({"reference_path": folder / "link.wav"}, "input and reference"),
        ({"out_path": folder / "dry.wav"}, "input and output"),
        ({"out_path": folder / "link.wav"}, "input and output"),
        ({"out_path": folder / "hard.flac"}, "reference and output"),
        ({"out_path": folder / ".." / folder.name / "dry.wav"}, "input and output"),
    ):
        with pytest.raises(ValueError, match=f"{words} are the same file"):
            match_files(folder, knowing, **given)
    assert (folder / "dry.wav").read_bytes() == before


def test_an_output_that_cannot_be_written_is_is_told_before_the_work_begins(folder, knowing, monkeypatch):
    monkeypatch.setattr(search, "minimise", None)
    (folder / "file").touch()
    for out, error, message in (
        (folder / "file" / "out.wav", OSError, "could not write"),
        (folder / "out.mp3", ValueError, "suffix '.mp3': it must be .wav or .flac"),
        (folder, ValueError, "suffix"),
    ):
        with pytest.raises(error, match=message):
            match_files(folder, knowing, out_path=out)
    (folder / "out.wav").mkdir()
    with pytest.raises(ValueError, match="is a folder"):
        match_files(folder, knowing)


def test_a_missing_file_is_named_and_nothing_is_written(folder, knowing):
    for given in ({"input_path": folder / "none.wav"}, {"reference_path": folder / "none.wav"}):
        with pytest.raises(audio.AudioError, match=r"none\.wav does not exist"):
            match_files(folder, knowing, **given)
    assert not (folder / "out.wav").exists()
