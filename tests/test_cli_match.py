"""`vaefx match` and `evaluate controller`: answers on stdout, errors as one line, the same answer as the library's."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner
from conftest import answering
from test_matching import TRUTH, speech

from vaefx_lib import (
    audio,
    blackbox,
    config,
    controller,
    corpus_split,
    effects,
    figures,
    match_cases,
    match_scores,
    match_study,
)
from vaefx_lib.__main__ import main


@pytest.fixture
def folder(tmp_path, monkeypatch, nothing_packed):
    """Two sounds, and no trained controller."""
    monkeypatch.setenv("VAEFX_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    reference = blackbox.wet(effects.load("mda:Overdrive"), speech("af_bella", 2), TRUTH, 24_000)
    audio.save("in.wav", speech("am_liam", 2), 24_000)
    audio.save("ref.wav", reference, 24_000)
    return tmp_path


@pytest.fixture
def trained(folder, trained_controller, controlled_home):
    """The same with the trained controller of the report, which answers `TRUTH` for Overdrive."""
    shutil.copytree(controlled_home / "runs" / "spoken" / "vae", config.vae_dir("spoken"))
    save(answering(trained_controller, TRUTH, gain=0.25))
    return folder


def save(made, preset="report"):
    tables = {name: {"step": np.arange(2)} for name in controller.TABLES}
    controller.save_controller(config.controller_dir(preset), made, tables, "a key")


def vaefx_match(*arguments):
    return CliRunner().invoke(main, ("match", *arguments))


def test_the_settings_are_printed_with_their_units_and_the_sound_is_written(trained):
    done = vaefx_match("in.wav", "ref.wav", "--effect", "mda:Overdrive", "-o", "out.wav")
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert lines[0] == "mda:Overdrive"
    assert [line.split() for line in lines[1:4]] == [["drive", "80", "%"], ["muffle", "60", "%"], ["output", "0", "dB"]]
    assert lines[4].startswith("expected distance from the truth: ") and ", dry " in lines[4]
    assert lines[5] == "confidence: nearer to the truth than dry by 0.25, to judge from known settings"
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
    assert told["apply"] is True and told["confidence"] == 0.25


def test_auto_tries_all_that_the_controller_knows_and_names_the_next_best(trained):
    done = vaefx_match("in.wav", "ref.wav", "-o", "out.wav")
    lines = done.stdout.splitlines()
    assert lines[0] == "mda:Overdrive" and lines[-2].startswith("next best: mda:Delay, ")


def test_what_is_better_left_dry_is_said_and_written_dry(trained, trained_controller):
    save(answering(trained_controller, TRUTH, gain=-0.2))
    done = vaefx_match("in.wav", "ref.wav", "-o", "out.wav")
    assert "better left dry" in done.stdout
    np.testing.assert_array_equal(audio.load("out.wav")[0], audio.load("in.wav")[0])


def test_a_search_finds_settings_of_an_effect_that_the_controller_does_not_know(trained):
    asked = ("in.wav", "ref.wav", "--effect", "pedalboard:LowpassFilter", "-o", "out.wav")
    done = vaefx_match(*asked, "--refine", "0.5")
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("pedalboard:LowpassFilter\n  cutoff")
    done = vaefx_match(*asked)
    assert done.exit_code == 1 and "give seconds for a search" in done.stderr


def test_the_controller_is_that_of_the_preset(trained, trained_controller):
    asked = ("in.wav", "ref.wav", "--effect", "mda:Overdrive", "-o", "out.wav", "--preset", "smoke")
    done = vaefx_match(*asked)
    assert done.exit_code == 1 and "runs/smoke/controller holds no trained controller" in done.stderr
    save(answering(trained_controller, [0.3, 0.2, 0.5], gain=0.1), "smoke")
    assert vaefx_match(*asked).stdout.splitlines()[1].split() == ["drive", "30", "%"]


def test_a_damaged_controller_is_not_believed(trained):
    path = config.controller_dir("report") / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\0\0")
    done = vaefx_match("in.wav", "ref.wav", "-o", "out.wav")
    assert done.exit_code == 1 and "model.safetensors is missing or has changed since it was written" in done.stderr
    assert not (trained / "out.wav").exists()


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("none.wav", "ref.wav", "-o", "out.wav"), "none.wav does not exist"),
        (("in.wav", "in.wav", "-o", "out.wav"), "input and reference are the same file, in.wav"),
        (("in.wav", "ref.wav", "-o", "in.wav"), "input and output are the same file, in.wav"),
        (("in.wav", "ref.wav", "-o", "out.ogg"), "out.ogg has the suffix '.ogg': it must be .wav or .flac"),
        (("in.wav", "ref.wav", "-o", "in.wav/out.wav"), "could not write in.wav/out.wav"),
        (("in.wav", "ref.wav", "-o", "/proc/out.wav"), "could not write /proc/out.wav"),  # nobody may write there
        (("in.wav", "ref.wav", "-o", "out.wav", "--effect", "mda:Nope"), "unknown effect 'mda:Nope'"),
        (("in.wav", "ref.wav", "-o", "out.wav", "--effect", "vst3:gone.vst3", "--refine", "1"), "gone.vst3"),
        (("in.wav", "ref.wav", "-o", "out.wav", "--effect", "lv2:gone/Gone", "--refine", "1"), "gone"),
        (("in.wav", "ref.wav", "-o", "out.wav", "--refine", "nan"), "the time for the search is nan s"),
        (("in.wav", "ref.wav", "-o", "out.wav", "--preset", "nope"), "unknown preset 'nope'"),
        (("in.wav", "silent.wav", "-o", "out.wav"), "silent.wav is silent"),
        (("silent.wav", "ref.wav", "-o", "out.wav"), "silent.wav is silent"),
        (("in.wav", "nan.wav", "-o", "out.wav"), "nan.wav holds NaN"),
        (("nan.wav", "ref.wav", "-o", "out.wav"), "nan.wav holds NaN"),
        (
            ("in.wav", "short.wav", "-o", "out.wav"),
            "short.wav lasts 4.17e-05 s (samples: 1): at least 0.5 s",
        ),
        (
            ("short.wav", "ref.wav", "-o", "out.wav"),
            "short.wav lasts 4.17e-05 s (samples: 1): at least 0.5 s",
        ),
        (("text.wav", "ref.wav", "-o", "out.wav"), "text.wav"),
    ],
)
def test_what_cannot_be_done_is_one_line_on_stderr(trained, arguments, message):
    for name, sound in {"silent": np.zeros(24_000), "nan": np.full(24_000, np.nan), "short": [0.5]}.items():
        soundfile.write(f"{name}.wav", np.asarray(sound), 24_000, subtype="FLOAT")
    (trained / "text.wav").write_text("not a sound")
    done = vaefx_match(*arguments)
    assert done.exit_code == 1
    assert done.stdout == ""
    assert message in done.stderr and done.stderr.count("\n") == 1
    assert not (trained / "out.wav").exists()


def test_without_a_trained_controller_one_line_says_what_trains_one(folder):
    for more in ((), ("--refine", "1"), ("--effect", "mda:Overdrive")):
        done = vaefx_match("in.wav", "ref.wav", "-o", "out.wav", *more)
        assert done.exit_code == 1 and done.stdout == "" and done.stderr.count("\n") == 1
        assert "holds no trained controller: notebook 05_controller_training trains one" in done.stderr


def test_where_none_is_trained_that_of_the_library_is_taken_and_one_line_says_so(folder, packed_library):
    asked = ("in.wav", "ref.wav", "--effect", "mda:Overdrive", "-o", "out.wav")
    done = vaefx_match(*asked)
    assert done.exit_code == 0, done.output
    assert done.stderr == (
        "no controller of the preset report is trained: taking the one that comes with the library\n"
    )
    assert done.stdout.startswith("mda:Overdrive\n") and done.stdout.endswith("out.wav\n")
    forced = vaefx_match(*asked, "--pretrained")
    assert forced.stdout == done.stdout and forced.stderr == ""
    assert not (folder / "runs").exists()  # nothing is unpacked for it
    done = vaefx_match(*asked, "--preset", "smoke")
    assert done.exit_code == 1 and "runs/smoke/controller holds no trained controller" in done.stderr


def test_that_of_the_library_can_be_asked_for_beside_a_trained_one(trained, packed_library):
    asked = ("in.wav", "ref.wav", "--effect", "mda:Overdrive", "-o", "out.wav")
    assert vaefx_match(*asked).stdout.splitlines()[1].split() == ["drive", "80", "%"]
    done = vaefx_match(*asked, "--pretrained")
    assert done.exit_code == 0 and done.stdout.splitlines()[1].split() != ["drive", "80", "%"]
    done = vaefx_match(*asked, "--pretrained", "--preset", "smoke")
    assert done.exit_code == 2 and "one of --preset and --pretrained is wanted" in done.stderr


def test_a_damaged_controller_is_not_replaced_by_that_of_the_library_nor_the_other_way_round(trained, packed_library):
    path = config.controller_dir("report") / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\0\0")
    packed_path = packed_library / "controller" / "model.safetensors"
    packed_path.write_bytes(packed_path.read_bytes()[:-1] + b"\0\0")
    for more in ((), ("--pretrained",)):
        done = vaefx_match("in.wav", "ref.wav", "-o", "out.wav", *more)
        assert done.exit_code == 1 and "model.safetensors is missing or has changed since it was" in done.stderr


def test_asked_for_a_controller_that_does_not_come_with_the_library_one_line_says_what_makes_one(folder):
    done = vaefx_match("in.wav", "ref.wav", "-o", "out.wav", "--pretrained")
    assert done.exit_code == 1 and done.stderr.count("\n") == 1
    assert "holds no pretrained models" in done.stderr and "`make pretrained`" in done.stderr


@pytest.mark.parametrize("seconds", ["0", "-3"])
def test_a_search_of_no_time_is_refused(folder, seconds):
    done = vaefx_match("in.wav", "ref.wav", "-o", "out.wav", "--refine", seconds)
    assert done.exit_code == 2 and "is not in the range x>0" in done.stderr


# --- evaluate controller ----------------------------------------------------------------------------------------------
@pytest.fixture
def guessing(folder, monkeypatch, trained_controller):
    """The trained controller, but it knows only one of its effects."""
    one = dataclasses.replace(trained_controller, effects=("mda:Overdrive",))
    monkeypatch.setattr(controller, "load", lambda path: one)
    return folder


def evaluate(*arguments):
    return CliRunner().invoke(main, ("evaluate", "controller", "--preset", "smoke", *arguments))


def test_scores_of_a_controller_are_json_nested_as_in_metrics_json(guessing):
    done = evaluate("--speech", "speech", "--n", "1", "--refine-evaluations", "8", "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert set(told["speakers"]) == set(corpus_split.UNSEEN_SPEAKERS)
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
    score, scored = match_scores.score, []

    def until_music(trained, effect, speakers, *, made_by, **given):
        if "a" in speakers and made_by and not scored[2:]:
            scored.append("off")
            raise ValueError("the machine was switched off")
        scored.append(made_by or effect)
        return score(trained, effect, speakers, made_by=made_by, **given)

    monkeypatch.setattr(match_scores, "score", until_music)
    monkeypatch.setattr(match_study, "STUDIED", "smoke")
    monkeypatch.setattr(match_study, "REFINE_EVALUATIONS", 8)
    (guessing / "set" / "a").mkdir(parents=True)
    audio.save("set/a/all.wav", np.random.default_rng(0).uniform(-0.5, 0.5, 12 * 24_000), 24_000)
    asked = ("study-match", "--music", "set", "--cases", "1")
    done = CliRunner().invoke(main, asked)
    assert done.exit_code == 1 and "switched off" in done.stderr
    assert "Delay_to_Delay is left out: the controller does not know mda:Delay" in done.stderr
    kept = figures.metrics("report")["controller"]
    assert kept["nine"]["mda:Overdrive"]["n"] == kept["cross"]["Distortion_to_Overdrive"]["n"] == 1
    assert list(kept["cross"]) == ["Distortion_to_Overdrive"] and "music" not in kept
    assert "refined_gap_closed" in kept["nine"]["mda:Overdrive"]["mrstft_wide"]

    done = CliRunner().invoke(main, asked)
    assert done.exit_code == 0, done.output
    assert "part 3 of 3: Distortion_to_Overdrive, music" in done.stderr and done.stdout.endswith("metrics.json\n")
    options = {option.name: option.default for option in main.commands["study-match"].params}
    assert options["cases"] == match_study.CASES
    again = figures.metrics("report")["controller"]
    rows = match_study.table(again).splitlines()[2:]
    labels = ["mda:Overdrive", "Distortion to Overdrive, speech", "Distortion to Overdrive, music"]
    assert [row.split(" | ")[0].strip("| ") for row in rows] == labels
    assert again["nine"] == kept["nine"] and list(again["music"]["cross"]) == ["Distortion_to_Overdrive"]
    assert "pesq" not in again["music"]["cross"]["Distortion_to_Overdrive"]
    assert scored == [
        "mda:Overdrive",
        "pedalboard:Distortion",
        "off",
        "pedalboard:Distortion",
    ]  # what was done is not tried again


def test_settings_that_are_nearly_right_sound_right_unless_one_is_the_time_of_an_echo():
    speakers = match_cases.unseen("speech", config.preset("report"))
    closed = {name: match_study.nearly(name, speakers, n=6)["gap_closed"] for name in ("mda:Overdrive", "mda:Delay")}
    assert closed["mda:Overdrive"] > 0.9 and closed["mda:Delay"] < 0.5
    exact = match_study.nearly("mda:Delay", speakers, n=2, off=0.0)
    assert exact == {"off": 0.0, "mrstft_wide": 0.0, "gap_closed": 1.0}


def test_there_is_no_table_of_a_study_that_was_not_made():
    assert match_study.table({"mda:Delay": {}}) == ""
