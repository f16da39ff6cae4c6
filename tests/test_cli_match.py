"""`vaefx match` and `evaluate controller`: answers on stdout, errors as one line, the same answer as the library's."""

import json
import sys
import types

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner
from test_match_scores import Space as MatchSpace
from test_matching import TRUTH, Knowing, Space, speech

import vaefx_lib
from vaefx_lib import audio, blackbox, controller, corpora, effects, figures, match_scores, match_study, matching
from vaefx_lib.__main__ import main


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Two sounds, and no trained controller."""
    monkeypatch.setenv("VAEFX_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    reference = blackbox.wet(effects.load("mda:Overdrive"), speech("af_bella", 2), TRUTH, 24_000)
    audio.save("in.wav", speech("am_liam", 2), 24_000)
    audio.save("ref.wav", reference, 24_000)
    return tmp_path


@pytest.fixture
def trained(folder, monkeypatch):
    """The same with a controller of one answer."""
    monkeypatch.setattr(matching, "tools", lambda preset: (Space(), Knowing()))
    return folder


@pytest.fixture
def untrained(folder, monkeypatch):
    monkeypatch.setattr(matching, "tools", lambda preset: (Space(), None))
    return folder


def vaefx_match(*arguments):
    return CliRunner().invoke(main, ("match", *arguments))


def test_the_settings_are_printed_with_their_units_and_the_sound_is_written(trained):
    done = vaefx_match("in.wav", "ref.wav", "--effect", "mda:Overdrive", "-o", "out.wav")
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert lines[0] == "mda:Overdrive"
    assert [line.split() for line in lines[1:4]] == [["drive", "80", "%"], ["muffle", "60", "%"], ["output", "0", "dB"]]
    assert "distance from the reference: " in lines[4] and "confidence: " in lines[5]
    assert lines[-1] == "out.wav"
    assert done.stderr == ""
    assert soundfile.info("out.wav").frames == soundfile.info("in.wav").frames


def test_json_is_all_that_is_on_stdout(trained):
    done = vaefx_match("in.wav", "ref.wav", "--effect", "mda:Overdrive", "-o", "out.flac", "--json", "--refine", "0.3")
    told = json.loads(done.stdout)
    assert told["out"] == "out.flac"
    assert told["effect"] in dict(told["ranking"])
    assert set(told["settings"]) == set(effects.load(told["effect"]).param_names)
    assert told["distance"] < told["baseline_distance"]
    assert told["apply"] is True and 0 < told["confidence"] < 1


def test_what_is_better_left_dry_is_said_and_written_dry(trained, monkeypatch):
    pessimist = Knowing(expected=lambda baseline, distance: -0.2)
    monkeypatch.setattr(matching, "tools", lambda preset: (Space(), pessimist))
    done = vaefx_match("in.wav", "ref.wav", "-o", "out.wav")
    assert "better left dry" in done.stdout
    np.testing.assert_array_equal(audio.load("out.wav")[0], audio.load("in.wav")[0])


def test_without_a_controller_a_search_finds_settings(untrained):
    done = vaefx_match("in.wav", "ref.wav", "--effect", "mda:Overdrive", "-o", "out.wav", "--refine", "0.5")
    assert done.exit_code == 0, done.output
    assert "confidence" not in done.stdout


def test_the_tools_are_those_of_the_preset(folder, monkeypatch):
    """The trained controller lies in the preset's run folder; without one there is the space alone."""
    loaded = []
    style = types.ModuleType("vaefx_lib.style")
    style.Space = Space
    controller = types.ModuleType("vaefx_lib.controller")
    controller.load = lambda path: loaded.append(path) or Knowing()
    for module in (style, controller):
        monkeypatch.setitem(sys.modules, module.__name__, module)
        monkeypatch.setattr(vaefx_lib, module.__name__.partition(".")[2], module, raising=False)
    done = vaefx_match("in.wav", "ref.wav", "-o", "out.wav", "--preset", "smoke")
    assert done.exit_code == 1 and "no controller is trained" in done.stderr
    home = folder / "runs" / "smoke" / "controller"
    home.mkdir(parents=True)
    (home / "manifest.json").touch()
    assert vaefx_match("in.wav", "ref.wav", "-o", "out.wav", "--preset", "smoke").exit_code == 0
    assert loaded == [home]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("none.wav", "ref.wav", "-o", "out.wav"), "none.wav does not exist"),
        (("in.wav", "in.wav", "-o", "out.wav"), "input and reference are the same file, in.wav"),
        (("in.wav", "ref.wav", "-o", "in.wav"), "input and output are the same file, in.wav"),
        (("in.wav", "ref.wav", "-o", "out.ogg"), "out.ogg has the suffix '.ogg': it must be .wav or .flac"),
        (("in.wav", "ref.wav", "-o", "in.wav/out.wav"), "could not write in.wav/out.wav"),
        (("in.wav", "ref.wav", "-o", "out.wav", "--effect", "mda:Nope"), "unknown effect 'mda:Nope'"),
        (("in.wav", "ref.wav", "-o", "out.wav", "--effect", "vst3:gone.vst3", "--refine", "1"), "gone.vst3"),
        (("in.wav", "ref.wav", "-o", "out.wav", "--refine", "nan"), "the time for the search is nan s"),
        (("in.wav", "ref.wav", "-o", "out.wav"), "no controller is trained: notebook 05_controller_training does that"),
        (("in.wav", "ref.wav", "-o", "out.wav", "--preset", "nope"), "unknown preset 'nope'"),
    ],
)
def test_what_cannot_be_done_is_one_line_on_stderr(untrained, arguments, message):
    done = vaefx_match(*arguments)
    assert done.exit_code == 1
    assert done.stdout == ""
    assert message in done.stderr and done.stderr.count("\n") == 1
    assert not (untrained / "out.wav").exists()


@pytest.mark.parametrize("seconds", ["0", "-3"])
def test_a_search_of_no_time_is_refused(untrained, seconds):
    done = vaefx_match("in.wav", "ref.wav", "-o", "out.wav", "--refine", seconds)
    assert done.exit_code == 2 and "is not in the range x>0" in done.stderr


# --- evaluate controller ----------------------------------------------------------------------------------------------
class Guessing(Knowing):
    """One that also says where a search may begin."""

    space = MatchSpace()

    def proposals(self, dry, reference, effect, *, count, seed):
        return np.random.default_rng(seed).uniform(size=(count, len(self.settings)))


@pytest.fixture
def guessing(folder, monkeypatch):
    monkeypatch.setattr(controller, "load", lambda path: Guessing())
    return folder


def evaluate(*arguments):
    return CliRunner().invoke(main, ("evaluate", "controller", "--preset", "smoke", *arguments))


def test_scores_of_a_controller_are_json_nested_as_in_metrics_json(guessing):
    done = evaluate("--speech", "speech", "--n", "1", "--refine-evaluations", "8", "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert set(told["speakers"]) == set(corpora.UNSEEN_SPEAKERS)
    found = told["controller"]["mda:Overdrive"]
    assert found["mrstft_wide"]["oracle"] == 0 < found["mrstft_wide"]["none"]
    assert found["mrstft_wide"].keys() >= {"ours", "refined", "random", "mean", "gap_closed", "refined_gap_closed"}
    assert found["n"] == 1 and set(found["settings"]) == {"drive", "muffle", "output"}
    assert "1 of 1 cases" in done.stderr
    figures.record("smoke", {"controller": told["controller"]})


def test_a_folder_of_music_has_no_pesq_and_references_can_be_made_by_another_effect(guessing):
    rng = np.random.default_rng(0)
    for piece in ("a", "b"):
        (guessing / "set" / piece).mkdir(parents=True)
        audio.save(f"set/{piece}/all.wav", rng.uniform(-0.5, 0.5, (2, 12 * 24_000)), 24_000)
    asked = ("--music", "set", "--made-by", "pedalboard:LowpassFilter", "--effects", "mda:Overdrive", "--n", "1")
    done = evaluate(*asked)
    assert done.exit_code == 0, done.output
    lines = dict(line.rsplit(" ", 1) for line in done.stdout.splitlines() if "speakers" not in line)
    place = "controller.cross.pedalboard:LowpassFilter -> mda:Overdrive"
    assert 0 < float(lines[f"{place}.mrstft_wide.oracle"]) < float(lines[f"{place}.mrstft_wide.none"])
    assert "pesq" not in done.stdout and "settings" not in done.stdout


@pytest.mark.parametrize(
    "arguments, message, code",
    [
        ((), "one of --speech and --music is needed", 2),
        (("--speech", "speech", "--music", "set"), "and not both", 2),
        (("--speech", "speech", "--effects", ","), "--effects is ',': it must be names", 2),
        (("--speech", "speech", "--n", "0"), "--n", 2),
        (("--speech", "speech", "--effects", "mda:Leslie"), "does not know 'mda:Leslie': it knows mda:Overdrive", 1),
        (("--speech", "nowhere"), "unknown corpus 'nowhere'", 1),
        (("--speech", "speech", "--made-by", "mda:Nope"), "unknown effect 'mda:Nope'", 1),
    ],
)
def test_what_cannot_be_evaluated_is_said(guessing, arguments, message, code):
    done = evaluate(*arguments)
    assert done.exit_code == code
    assert done.stdout == "" and message in done.stderr


def test_without_a_trained_controller_there_is_nothing_to_evaluate(folder):
    done = evaluate("--speech", "speech")
    assert done.exit_code == 1 and "holds no trained controller" in done.stderr


def test_effects_are_a_list_with_commas_and_a_chain_is_one(guessing, monkeypatch):
    asked = []
    monkeypatch.setattr(match_study, "evaluate", lambda *args, **given: asked.append(given["effects"]) or {})
    evaluate("--speech", "speech", "--effects", "mda:Delay, chain:[mda:Overdrive, mda:Delay]")
    assert asked == [["mda:Delay", "chain:[mda:Overdrive, mda:Delay]"]]


def test_the_study_keeps_every_part_that_is_done(guessing, monkeypatch):
    score = match_scores.score

    def small(trained, effect, speakers, *, made_by, **given):
        if "a" in speakers and made_by:
            raise ValueError("the machine was switched off")
        return score(trained, effect, speakers, made_by=made_by, **given | {"n": 1, "refine_evaluations": 0})

    monkeypatch.setattr(match_scores, "score", small)
    monkeypatch.setattr(match_study, "STUDIED", "smoke")
    (guessing / "set" / "a").mkdir(parents=True)
    audio.save("set/a/all.wav", np.random.default_rng(0).uniform(-0.5, 0.5, 12 * 24_000), 24_000)
    done = CliRunner().invoke(main, ("study-match", "--music", "set"))
    assert done.exit_code == 1 and "switched off" in done.stderr
    assert "Delay_to_Delay is left out: the controller does not know mda:Delay" in done.stderr
    kept = figures.metrics("report")["controller"]
    assert kept["nine"]["mda:Overdrive"]["n"] == kept["music"]["mda:Overdrive"]["n"] == 1
    assert "pesq" not in kept["music"]["mda:Overdrive"]
    assert list(kept["cross"]) == ["Distortion_to_Overdrive"] and "cross" not in kept["music"]
