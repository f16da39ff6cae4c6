"""The real mda plug-ins, hosted: all of them repeat, and two of them are what this library computes natively."""

import os
import subprocess
import sys

import numpy as np
import pytest

from vaefx_lib import audio, corpora, effects
from vaefx_lib.effects import lv2, lv2_turtle, sandbox

NAMES = (
    "Ambience Bandisto BeatBox Combo DeEss Degrade Delay Detune Dither DubDelay Dynamics Image Leslie Limiter "
    "Loudness MultiBand Overdrive RePsycho RezFilter RingMod RoundPan Shepard Splitter Stereo SubSynth TalkBox "
    "TestTone ThruZero Tracker Transient VocInput Vocoder"
).split()
CHOICES = {
    "Bandisto": {"listen": "Out", "mode": "Bipolar"},
    "BeatBox": {"record": "None"},
    "Combo": {"model": "Large stack (side mic, scooped mids)", "stereo": "off"},
    "Dither": {"dither": "Truncation"},
    "Image": {"mode": "Stereo image adjustment"},
    "Leslie": {"mode": "Slow"},
    "Limiter": {"knee": "Hard"},
    "MultiBand": {"listen": "Output", "process": "off"},
    "RePsycho": {"quality": "Low"},
    "Shepard": {"mode": "Tones only"},
    "Splitter": {"mode": "Normal", "freq_sw": "Low", "level_sw": "All"},
    "SubSynth": {"type": "Distort"},
    "TestTone": {"mode": "MIDI #"},
    "Tracker": {"mode": "Sine oscillator"},
    "VocInput": {"tracking": "Constant pitch"},
    "Vocoder": {"mod_in": "Left", "quality": "off"},
}
pytestmark = pytest.mark.usefixtures("mda_lv2")


@pytest.fixture(scope="module")
def sentence():
    """A sentence at a peak of -12 dBFS, float32 (1, 30000)."""
    path = corpora.load("speech")[0].path
    return audio.peak_level(audio.load(path)[0])[:, 5_000:35_000]


def speech_or_noise(rng, sentence):
    loud = rng.uniform(-0.9, 0.9, (rng.integers(1, 3), 12_000)).astype(np.float32)
    return sentence * np.float32(rng.uniform(0.2, 3)) if rng.integers(2) else loud


def test_all_32_effects_of_mda_are_found_and_its_instruments_are_not():
    assert [name for name in lv2.names() if name.startswith("mda/")] == [f"mda/{name}" for name in NAMES]
    assert {f"lv2:mda/{name}" for name in NAMES} <= set(effects.available())


@pytest.mark.parametrize("rate", [24_000, 44_100])
@pytest.mark.parametrize("name", ["Overdrive", "Delay"])
def test_native_effects_are_the_real_ones_at_200_random_settings(name, rate, sentence):
    native, real = effects.load(f"mda:{name}"), effects.load(f"lv2:mda/{name}")
    assert native.param_names == real.param_names
    rng, worst = np.random.default_rng(rate), 0.0
    for _ in range(200):
        dry, settings = speech_or_noise(rng, sentence), rng.uniform(size=len(native.params))
        wet = real.render(dry, settings, rate)[: 2 if name == "Delay" else len(dry)]
        worst = max(worst, float(np.abs(native.render(dry, settings, rate) - wet).max()))
    assert worst <= 5e-6


RENDER_ALL = """
import hashlib, sys
import numpy as np
from vaefx_lib import effects
names, rng = sys.argv[1:], np.random.default_rng(0)
dry = np.random.default_rng(1).uniform(-0.3, 0.3, (1, 9000)).astype(np.float32)
for name in names:
    effect = effects.load(f"lv2:mda/{name}")
    wet = np.stack([effect.render(dry, rng.uniform(size=len(effect.params)), rate) for rate in (24000, 44100, 24000)])
    print(name, hashlib.sha256(wet.tobytes()).hexdigest())
"""


def render_all(names, **environment):
    command = [sys.executable, "-c", RENDER_ALL, *names]
    result = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment}, timeout=300)
    assert result.returncode == 0, result.stderr
    return dict(line.split() for line in result.stdout.splitlines())


def test_all_32_repeat_bit_for_bit_in_another_process_and_on_other_leftovers_in_memory():
    first = render_all(NAMES)
    assert len(set(first.values())) == 32
    assert render_all(NAMES) == first
    assert render_all(NAMES, MALLOC_PERTURB_="85") == first  # malloc then hands out memory filled with a pattern


@pytest.mark.parametrize("name", NAMES)
def test_nothing_leaks_from_one_clip_into_the_next(name, sentence):
    effect, rng = effects.load(f"lv2:mda/{name}"), np.random.default_rng(2)
    for _ in range(3):
        settings = rng.uniform(size=len(effect.params))
        fresh = effect.render(sentence, settings, 24_000)
        effect.render(rng.uniform(-1, 1, (2, 40_000)), rng.uniform(size=len(effect.params)), 44_100)
        assert np.array_equal(effect.render(sentence, settings, 24_000), fresh, equal_nan=True)


@pytest.mark.parametrize("name", NAMES)
def test_mono_and_stereo_of_any_length_give_stereo_of_that_length(name):
    effect = effects.load(f"lv2:mda/{name}")
    for channels, samples in ((1, 1), (2, 7), (1, 3_000), (2, 3_000)):
        dry = np.random.default_rng(3).uniform(-0.3, 0.3, (channels, samples)).astype(np.float32)
        before = dry.copy()
        wet = effect.render(dry, {}, 48_000)
        assert wet.shape == (2, samples) and wet.dtype == np.float32 and np.isfinite(wet).all()
        assert np.array_equal(dry, before)


def test_switches_and_lists_are_held_at_the_defaults_of_the_plug_in():
    for name in NAMES:
        effect = effects.load(f"lv2:mda/{name}")
        assert {choice.name: choice.default for choice in effect.choices} == CHOICES.get(name, {}), name
        assert not {choice.name for choice in effect.choices} & set(effect.param_names)


def test_a_switch_does_what_it_says_when_asked_for(sentence):
    multiband = effects.load("lv2:mda/MultiBand")
    settings = multiband.default_settings
    asked = multiband.render(sentence, dict(zip(multiband.param_names, settings)) | {"listen": "Low"}, 24_000)
    assert np.array_equal(effects.load("lv2:mda/MultiBand(listen=Low)").render(sentence, settings, 24_000), asked)
    power = [np.abs(np.fft.rfft(wet[0]))[3_000:].max() for wet in (asked, multiband.render(sentence, settings, 24_000))]
    assert power[0] < power[1] / 10  # the low band alone holds little above 2.4 kHz


def test_mda_names_lead_to_the_real_plug_in_where_no_native_one_exists(sentence):
    ambience = effects.load("mda:Ambience")
    assert ambience.name == "mda:Ambience"
    real = effects.load("lv2:mda/Ambience")
    assert np.array_equal(ambience.render(sentence, {}, 24_000), real.render(sentence, {}, 24_000))
    assert effects.load("mda:Delay") is not effects.load("lv2:mda/Delay")
    assert effects.load("mda:Delay").process.__name__ == "delay"  # native


def test_a_chain_of_native_and_real_members_is_one_after_the_other(sentence):
    chain = effects.load("chain:[mda:Overdrive, lv2:mda/Leslie(mode=Fast), mda:Delay]")
    overdrive, delay = effects.load("mda:Overdrive"), effects.load("mda:Delay")
    leslie = effects.load("lv2:mda/Leslie(mode=Fast)")
    settings = np.random.default_rng(4).uniform(size=len(chain.params))
    middle = leslie.render(overdrive.render(sentence, settings[:3], 24_000), settings[3:-6], 24_000)
    assert np.array_equal(chain.render(sentence, settings, 24_000), delay.render(middle, settings[-6:], 24_000))
    assert [choice.name for choice in chain.choices] == ["Leslie_mode"] and chain.choices[0].default == "Fast"


def test_the_version_of_a_plug_in_is_that_of_its_file():
    assert effects.load("mda:Ambience").version == effects.load("lv2:mda/Ambience").version
    assert len({effects.load(f"lv2:mda/{name}").version for name in NAMES}) == 32


def test_unknown_bundles_and_plug_ins_are_refused_by_naming_the_known():
    with pytest.raises(
        ValueError, match=r"^unknown effect 'lv2:nope/Delay': the LV2 bundles on this machine are .*mda"
    ):
        effects.load("lv2:nope/Delay")
    with pytest.raises(ValueError, match=r"^unknown effect 'lv2:mda/Nope': the plug-ins in mda.lv2 are Ambience, Band"):
        effects.load("lv2:mda/Nope")
    with pytest.raises(
        ValueError, match=r"^unknown effect 'mda:Nope': known are mda:Overdrive, mda:Delay, mda:Ambience"
    ):
        effects.load("mda:Nope")


def test_an_instrument_is_refused_by_saying_why():
    with pytest.raises(ValueError, match=r"^lv2:mda/DX10 cannot be used as an effect: it requires .*urid#map"):
        effects.load("lv2:mda/DX10")


def test_a_bundle_that_lost_its_library_is_refused_by_name(tmp_path, monkeypatch, mda_lv2, sentence):
    (tmp_path / "lost.lv2").mkdir()
    for file in ("manifest.ttl", "Ambience.ttl"):
        (tmp_path / "lost.lv2" / file).write_bytes((mda_lv2 / file).read_bytes())
    monkeypatch.setenv("LV2_PATH", str(tmp_path))
    with pytest.raises(ValueError, match=r"^lv2:lost/Ambience cannot be used as an effect: .*Ambience.so is missing"):
        lv2.load("lv2:lost/Ambience")


def test_lv2_path_says_where_bundles_are(tmp_path, monkeypatch):
    monkeypatch.setenv("LV2_PATH", str(tmp_path))
    assert lv2_turtle.bundles() == [] and lv2.names() == []
    assert sandbox.TIME_LIMIT_S > 0
