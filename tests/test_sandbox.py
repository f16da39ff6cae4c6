"""A real plug-in that crashes, hangs, ends its process, gives NaN or prints costs its own clip and nothing else."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from vaefx_lib import corpora, corpus_split, effects, rendering
from vaefx_lib.effects import lv2, sandbox

SPEECH = corpus_split.split(corpora.load("speech"), "speech")
MOODS = {"segfault": 0.97, "hang": 0.92, "exit": 0.87, "nan": 0.82, "abort": 0.77}
LAST_WORDS = '("{"value": "what a plug-in prints is no answer"}")'
REASONS = {
    "segfault": f"lv2:unruly/unruly crashed: its process was ended by SIGSEGV {LAST_WORDS}",
    "hang": f"lv2:unruly/unruly took longer than 1 s and was stopped {LAST_WORDS}",
    "exit": f"lv2:unruly/unruly ended its process with exit code 3 {LAST_WORDS}",
    "nan": "lv2:unruly/unruly gave NaN or infinity",
    "abort": f"lv2:unruly/unruly crashed: its process was ended by SIGABRT {LAST_WORDS}",
}


@pytest.fixture
def unruly(unruly_lv2, monkeypatch):
    """The effect, with a second to answer in."""
    monkeypatch.setenv("LV2_PATH", str(unruly_lv2))
    monkeypatch.setenv("VAEFX_PLUGIN_TIME_LIMIT_S", "1")
    monkeypatch.setattr(sandbox, "_local", type(sandbox._local)())
    return lv2.load("lv2:unruly/unruly")


def test_a_plug_in_is_described_by_its_ports(unruly):
    assert lv2.names() == ["unruly/unruly"]
    mood, gain = unruly.params
    assert (mood.name, mood.low, mood.high, mood.default, mood.log) == ("mood", 0, 1, 0, False)
    assert (gain.name, gain.unit, gain.low, gain.high, gain.default, gain.log) == ("gain", "coef", 2, 200, 20, True)
    assert unruly.default_settings == pytest.approx([0, 0.5])


def test_a_well_behaved_plug_in_is_heard_whatever_it_prints_and_writes_into_its_input(unruly, capfd):
    dry = np.random.default_rng(0).uniform(-1, 1, (2, 500)).astype(np.float32)
    before = dry.copy()
    np.testing.assert_allclose(unruly.render(dry, [0, 0.5], 24_000), np.tanh(20 * dry), atol=1e-6)
    assert np.array_equal(dry, before)
    assert capfd.readouterr() == ("", "")


def test_what_a_plug_in_prints_at_every_clip_does_not_pile_up(unruly, monkeypatch):
    monkeypatch.setattr(sandbox, "OUTPUT_BYTES", 1_000)
    for _ in range(200):
        unruly.render(np.ones((1, 10), np.float32), [0, 0], 24_000)
    assert 0 < os.fstat(sandbox._local.helper.output.fileno()).st_size < 2_000


@pytest.mark.parametrize("mood", ["segfault", "hang", "exit", "abort"])
def test_a_failure_is_told_and_the_next_clip_is_rendered(unruly, mood):
    dry = np.ones((1, 100), np.float32)
    good = unruly.render(dry, [0, 0.1], 24_000)
    with pytest.raises(effects.EffectFailed) as caught:
        unruly.render(dry, [MOODS[mood], 0.1], 24_000)
    assert str(caught.value) == REASONS[mood]
    assert np.array_equal(unruly.render(dry, [0, 0.1], 24_000), good)


def test_nan_comes_back_as_nan(unruly):
    assert np.isnan(unruly.render(np.ones((1, 100)), [MOODS["nan"], 0.1], 24_000)).all()


def test_a_plug_in_that_refuses_to_start_says_so(unruly):
    with pytest.raises(
        effects.EffectFailed, match="^lv2:unruly/unruly failed: the plug-in refused to start at 1000 Hz$"
    ):
        unruly.render(np.ones((1, 100)), [0, 0], 1_000)


def test_one_process_serves_many_clips_of_any_length(unruly):
    pids = set()
    for samples in (1, 100_000, 50, 1_000_000, 3):
        dry = np.full((2, samples), 0.01, np.float32)
        np.testing.assert_allclose(unruly.render(dry, [0, 0], 24_000), np.tanh(2 * dry), atol=1e-6)
        pids.add(sandbox._local.helper.process.pid)
    assert len(pids) == 1


HANG = """
import numpy as np
from vaefx_lib import effects
from vaefx_lib.effects import sandbox
effect, dry = effects.load("lv2:unruly/unruly"), np.ones((1, 9), np.float32)
effect.render(dry, [0, 0], 24000)
print(sandbox._local.helper.process.pid, flush=True)
effect.render(dry, [0.92, 0], 24000)
"""


def test_an_idle_and_a_hung_helper_end_after_their_main_process_was_killed(unruly_lv2):
    environment = {**os.environ, "LV2_PATH": str(unruly_lv2), "VAEFX_PLUGIN_TIME_LIMIT_S": "0.5"}
    for code in (HANG, HANG.rpartition("effect.render")[0] + "import time; time.sleep(60)"):
        main = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment)
        helper = int(main.stdout.readline())
        main.send_signal(signal.SIGKILL)
        main.wait()
        deadline = time.monotonic() + 15  # a hung one has its limit and ten seconds more
        while time.monotonic() < deadline and is_running(helper):
            time.sleep(0.1)
        assert not is_running(helper)


def is_running(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_batch_goes_on_past_a_plug_in_that_fails_and_names_every_failure(unruly, tiny, tmp_path, jobs):
    effects_used = ("mda:Overdrive", "lv2:unruly/unruly")
    preset = dataclasses.replace(tiny, render=dataclasses.replace(tiny.render, effects=effects_used, n_train=44))
    out = tmp_path / f"{jobs}"
    data = rendering.render(preset, "train", out, jobs=jobs, progress=False)
    assert len(data) == 44 and all(np.isfinite(pair).all() for pair in data)
    assert {failure["reason"] for failure in data.quarantine} == set(REASONS.values())
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["quarantine"] == data.quarantine
    assert manifest["redraws"]["failed"] + manifest["redraws"]["nonfinite"] == len(data.quarantine)
    for failure in data.quarantine:
        kind = next(kind for kind, reason in REASONS.items() if reason == failure["reason"])
        assert MOODS[kind] - 0.03 <= failure["settings"][0] < MOODS[kind] + 0.04
        assert failure["effect"] == "lv2:unruly/unruly" and failure["pair"] % 2 == 1
    kept = [row["settings"][0] for row in data.rows if row["effect"] == "lv2:unruly/unruly"]
    assert len(kept) == 22 and max(kept) < 0.75


def test_an_effect_that_always_fails_is_given_up_by_name(unruly, tiny, monkeypatch):
    preset = dataclasses.replace(tiny, render=dataclasses.replace(tiny.render, effects=("lv2:unruly/unruly",)))
    monkeypatch.setattr(effects, "load", lambda name: dataclasses.replace(unruly, process=always_exits(unruly)))
    with pytest.raises(
        effects.EffectFailed, match="^pair 4 of 'test' was given up after 5 failures: lv2:unruly/unruly e"
    ):
        rendering.render_pair(preset, "test", 4, SPEECH["test"])


def always_exits(effect):
    def process(audio, sample_rate_hz, **settings):
        return effect.process(audio, sample_rate_hz, **{**settings, "mood": MOODS["exit"]})

    return process
