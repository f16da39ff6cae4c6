"""Hosted plug-ins, on the 17 real ones of Debian's zam-plugins: all load, repeat and stay in a process of their own."""

import json
import math
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pedalboard
import pytest
from conftest import needed

from vaefx_lib import effects
from vaefx_lib.effects import EffectFailed, hosted, plugin_host, sandbox

ZAM = sorted(Path("/usr/lib/vst3").glob("Za*.vst3"))
NAMES = (
    "ZaMaximX2 ZaMultiComp ZaMultiCompX2 ZamAutoSat ZamComp ZamCompX2 ZamDelay ZamDynamicEQ ZamEQ2 ZamGEQ31 ZamGate "
    "ZamGateX2 ZamGrains ZamHeadX2 ZamPhono ZamTube ZamVerb"
).split()
STEREO = {"ZaMaximX2", "ZaMultiCompX2", "ZamCompX2", "ZamGateX2", "ZamHeadX2", "ZamVerb"}
CHOICES = {
    "ZaMultiComp": {**{f"zamcomp_{i}_on": "0" for i in (1, 2, 3)}, **{f"listen_{i}": "0" for i in (1, 2, 3)}},
    "ZamComp": {"sidechain": "0"},
    "ZamCompX2": {"stereo_detection": "0", "sidechain": "0"},
    "ZamDelay": {"invert": "0", "sync_bpm": "0", "divisor": "3"},
    "ZamDynamicEQ": {"sidechain": "0", "low_shelf": "0", "peak": "1", "high_shelf": "0", "boost_cut": "0"},
    "ZamEQ2": {"peaks_on": "0"},
    "ZamGate": {"sidechain": "0", "mode_open_shut": "0"},
    "ZamGateX2": {"sidechain": "0", "mode_open_shut": "0"},
    "ZamGrains": {"freeze": "0"},
    "ZamPhono": {"reproduction_production": "0", "phono_filter_type": "3"},
    "ZamTube": {"tone_stack_model": "1959 Bassman 5F6-A", "insane_boost": "0"},
    "ZamVerb": {"room": "0"},
}
CHOICES["ZaMultiCompX2"] = CHOICES["ZaMultiComp"] | {"detection_max_avg": "1"}
EACH = pytest.mark.parametrize("name", NAMES)


@pytest.fixture
def zam():
    """The real plug-ins."""
    needed("all of the 17 VST3 plug-ins of /usr/lib/vst3/Za*", "zam-plugins", len(ZAM) >= len(NAMES))


needs_zam = pytest.mark.usefixtures("zam")


def load(name):
    return effects.load(f"vst3:{name}.vst3")


def noise(seed, *shape):
    return np.random.default_rng(seed).uniform(-0.5, 0.5, shape).astype(np.float32)


def click(samples):
    sound = np.zeros(samples, np.float32)
    sound[0] = 0.1
    return sound


def at(effect, **natives):
    params = {param.name: param for param in effect.params}
    return {name: float(params[name].to_setting(value)) for name, value in natives.items()}


def gain_db(response, frequency_hz, rate):
    phases = np.exp(-2j * np.pi * frequency_hz / rate * np.arange(response.size))
    return 20 * math.log10(abs(np.sum(10 * response * phases)))


def random_settings(effect, rng, rate):
    """Settings and labels at random, with every frequency below half the rate: above, some plug-ins make NaN."""
    settings = {param.name: rng.uniform() for param in effect.params}
    for param in effect.params:
        if param.unit == "Hz" and param.high > 0.45 * rate:
            settings[param.name] *= param.to_setting(0.45 * rate)
    return settings | {choice.name: choice.labels[rng.integers(len(choice.labels))] for choice in effect.choices}


def in_a_new_process(render):
    """What `render()` gives in a thread of its own, and so in a helper process of its own."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(render).result()


# ---- finding and describing


@needs_zam
def test_installed_plug_ins_are_found_by_file_name_without_loading_them(monkeypatch):
    monkeypatch.setattr(sandbox, "call", None)
    assert set(hosted.names("vst3")) >= {f"{name}.vst3" for name in NAMES}
    assert {f"vst3:{name}.vst3" for name in NAMES} <= set(effects.available())


@needs_zam
def test_folders_of_vst3_path_come_first_and_folders_in_folders_count(tmp_path, monkeypatch):
    (tmp_path / "maker").mkdir()
    (tmp_path / "maker" / "ZamGate.vst3").symlink_to("/usr/lib/vst3/ZamGate.vst3")
    monkeypatch.setenv("VST3_PATH", f"/nowhere{os.pathsep}{tmp_path}")
    assert hosted.names().count("ZamGate.vst3") == 1
    effect = hosted.load("vst3:ZamGate.vst3")
    assert effect.process.args[1]["path"] == str(tmp_path / "maker" / "ZamGate.vst3")
    assert effect.params == load("ZamGate").params and effect.version == load("ZamGate").version


@needs_zam
def test_a_plug_in_is_described_once(monkeypatch):
    asked = []
    real = sandbox.call
    monkeypatch.setattr(sandbox, "call", lambda *args, **more: asked.append(args[0]) or real(*args, **more))
    effects.load.cache_clear()
    effect = load("ZamPhono")
    assert load("ZamPhono") is effect and asked == ["plugin_host:describe"]
    effect.render(noise(1, 9), {}, 24_000)
    assert asked == ["plugin_host:describe", "plugin_host:run"]


@EACH
@needs_zam
def test_every_plug_in_describes_itself(name):
    effect = load(name)
    assert effect.name == f"vst3:{name}.vst3" and len(effect.version) == 64
    names = [*effect.param_names, *(choice.name for choice in effect.choices)]
    assert len(set(names)) == len(names) and all(word.isidentifier() and word == word.lower() for word in names)
    for param in effect.params:
        assert -math.inf < param.low < param.high < math.inf and param.low <= param.default <= param.high
        assert all(0 <= setting <= 1 for setting in effect.default_settings)
        assert not param.unit or param.name.endswith(param.unit.lower().strip("%"))
    assert {choice.name: choice.default for choice in effect.choices} == CHOICES.get(name, {})
    assert all(len(choice.labels) > 1 and choice.default in choice.labels for choice in effect.choices)


@EACH
@needs_zam
def test_no_junk_and_no_meter_is_a_control(name):
    names = [*load(name).param_names, *(choice.name for choice in load(name).choices)]
    junk = ("buffer_size", "sample_rate", "latency", "program", "reduction", "output_level", "position", "delaytime")
    meters = ("output_low_db", "output_left_db", "control_gain_db")
    assert not [name for name in names if any(word in name for word in junk) or name in meters]


@needs_zam
def test_controls_that_no_host_may_automate_stay_if_they_are_heard():
    assert load("ZamHeadX2").param_names == ("azimuth", "elevation", "width")


@needs_zam
def test_ranges_and_units_are_those_of_the_plug_in():
    time, *_ = load("ZamDelay").params
    assert (time.name, time.unit, time.low, time.high, time.log) == ("time_ms", "ms", 1, 8_000, False)
    assert time.default == pytest.approx(160, abs=0.01)
    wet = {param.name: param for param in load("ZamVerb").params}["wet_dry"]
    assert (wet.unit, wet.low, wet.high, wet.default) == ("%", 0, 100, 50)
    assert load("ZamGEQ31").param_names[1:3] == ("n_32hz_db", "n_40hz_db")  # "32Hz" is no name in Python


@needs_zam
def test_a_hundred_grains_are_a_scale_and_25_amplifiers_are_a_list():
    grains = {param.name: param for param in load("ZamGrains").params}["grains"]
    assert (grains.low, grains.high) == (1, 100)
    amplifiers = load("ZamTube").choices[0].labels
    assert len(amplifiers) == 25 and {"JTM 45", "Roland Cube 60"} <= set(amplifiers)
    assert load("ZamDelay").choices[2].labels == ("1", "2", "3", "4", "5")


# ---- rendering


@EACH
@pytest.mark.parametrize("rate", [24_000, 44_100])
@needs_zam
def test_every_plug_in_renders_mono_and_stereo_finite_as_long_and_the_same_in_another_process(name, rate):
    effect, rng = load(name), np.random.default_rng(rate)
    clips = [noise(channels, channels, 20_000) for channels in (1, 2)] * (1 if name == "ZamVerb" else 3)  # it is slow
    jobs = [(dry, random_settings(effect, rng, rate), rate) for dry in clips] + [(noise(3, 1, 1), {}, rate)]
    copies = [dry.copy() for dry, *_ in jobs]
    wets = [effect.render(*job) for job in jobs]
    for (dry, *_), wet, copy in zip(jobs, wets, copies):
        assert wet.shape == (2 if name in STEREO else len(dry), dry.shape[1]) and wet.dtype == np.float32
        assert np.isfinite(wet).all() and np.array_equal(dry, copy)
    again = in_a_new_process(lambda: [effect.render(*job) for job in reversed(jobs)])
    assert all(np.array_equal(*pair) for pair in zip(wets, reversed(again)))


@EACH
@needs_zam
def test_nothing_is_left_over_from_the_clip_before(name):
    effect, rng, dry = load(name), np.random.default_rng(4), noise(4, 2, 8_000)
    fresh = in_a_new_process(lambda: effect.render(dry, {}, 24_000))
    effect.render(np.ones((1, 30_000), np.float32), random_settings(effect, rng, 44_100), 44_100)
    assert np.array_equal(effect.render(dry, {}, 24_000), fresh)


@needs_zam
def test_tube_repeats_although_pedalboard_plays_random_noise_to_every_new_plug_in():
    """With the noise still in it, one of ten made other bits."""
    effect, dry = load("ZamTube"), noise(5, 1, 500)
    wets = [effect.render(dry, {"tube_drive": 0.7}, 24_000).tobytes() for _ in range(60)]
    assert len(set(wets)) == 1


@EACH
@needs_zam
def test_choices_are_held_at_their_defaults(name):
    effect, dry, rng = load(name), noise(6, 1, 4_000), np.random.default_rng(6)
    values = [random_settings(effect, rng, 44_100)[param] for param in effect.param_names]
    named = dict(zip(effect.param_names, values)) | CHOICES.get(name, {})
    assert np.array_equal(effect.render(dry, values, 44_100), effect.render(dry, named, 44_100))


@needs_zam
def test_choices_are_heard_when_they_are_asked_for():
    for name, label in (("ZamPhono", {"phono_filter_type": "0"}), ("ZamTube", {"tone_stack_model": "JTM 45"})):
        effect, dry = load(name), noise(7, 1, 4_000)
        assert not np.array_equal(effect.render(dry, label, 24_000), effect.render(dry, {}, 24_000))
    held, dry = effects.load("vst3:ZamPhono.vst3(phono_filter_type=0)"), noise(7, 1, 4_000)
    assert np.array_equal(
        held.render(dry, [], 24_000), load("ZamPhono").render(dry, {"phono_filter_type": "0"}, 24_000)
    )


@needs_zam
def test_one_channel_feeds_both_inputs_of_a_stereo_plug_in_and_two_go_through_a_mono_one_by_one():
    dry = noise(8, 2, 3_000)
    for name in ("ZaMaximX2", "ZamHeadX2"):
        one, two = (load(name).render(sound, [0.4] * 3, 24_000) for sound in (dry[:1], dry[[0, 0]]))
        assert np.array_equal(one, two)
    both = load("ZamComp").render(dry, {"threshold_db": 0.3}, 24_000)
    for side in (0, 1):
        assert np.array_equal(both[[side]], load("ZamComp").render(dry[side], {"threshold_db": 0.3}, 24_000))


DIRECT = """
import json, sys
import numpy as np, pedalboard
path, rate, raw = sys.argv[1], float(sys.argv[2]), json.loads(sys.argv[3])
plugin = pedalboard.load_plugin(path)
for name, value in raw.items():
    plugin.parameters[name].raw_value = value
dry = np.pad(np.load(sys.argv[4]), ((0, 0), (24_576, 0)))
np.save(sys.argv[4], plugin.process(dry, rate, buffer_size=1024)[:, 24_576:])
"""


@needs_zam
@pytest.mark.parametrize("name", ["ZamComp", "ZaMultiComp", "ZamGEQ31"])
def test_a_setting_is_a_raw_value_and_the_result_what_pedalboard_gives(name, tmp_path):
    effect, dry = load(name), noise(9, 1, 10 * 1_024)
    settings = random_settings(effect, np.random.default_rng(9), 44_100)
    raw = {key.removeprefix("n_"): float(value) for key, value in settings.items()}
    np.save(tmp_path / "sound.npy", dry)
    command = [sys.executable, "-c", DIRECT, f"/usr/lib/vst3/{name}.vst3", "44100", json.dumps(raw)]
    subprocess.run([*command, tmp_path / "sound.npy"], check=True, stderr=subprocess.DEVNULL)
    assert np.array_equal(effect.render(dry, settings, 44_100), np.load(tmp_path / "sound.npy"))


@needs_zam
def test_a_plug_in_is_never_loaded_in_this_process():
    load("ZamGate").render(noise(10, 100), {}, 24_000)
    assert "ZamGate" not in Path("/proc/self/maps").read_text()


# ---- physics


@needs_zam
@pytest.mark.parametrize("rate", [24_000, 44_100])
@pytest.mark.parametrize("time_ms", [20, 100, 500])
def test_a_click_comes_back_from_the_delay_after_its_time_and_again_by_its_feedback(rate, time_ms):
    effect = load("ZamDelay")
    natives = {"time_ms": time_ms, "dry_wet": 1, "lpf_hz": 0.45 * rate, "feedback": 0.5}
    echoes = effect.render(click(2 * rate), at(effect, **natives), rate)[0].astype(float)
    delay, first = round(time_ms * rate / 1_000), echoes[: round(0.003 * rate)]
    for count in (1, 2):
        around = echoes[count * delay - 5 : count * delay + first.size]
        assert np.argmax(np.abs(around)) == pytest.approx(5, abs=2 + count)
        assert np.abs(around).max() > 0.01
    assert np.abs(echoes[first.size : delay - 5]).max() < 0.002  # silence, up to the first echo


@needs_zam
@pytest.mark.parametrize("rate", [24_000, 44_100])
@pytest.mark.parametrize(("band", "native"), [(100, 6), (999, 12), (999, -12), (3_986, 3)])
def test_an_equaliser_has_the_gain_of_a_band_in_that_band_and_no_other(rate, band, native):
    effect = load("ZamGEQ31")
    response = effect.render(click(rate), at(effect, **{f"n_{band}hz_db": native}), rate)[0].astype(float)
    assert gain_db(response, band, rate) == pytest.approx(native, abs=0.1)
    assert gain_db(response, 2 * band, rate) == pytest.approx(0, abs=0.1)


@needs_zam
@pytest.mark.parametrize(("frequency", "native"), [(500, 12), (2_000, -20)])
def test_a_peak_has_its_gain_at_its_frequency(frequency, native):
    effect = load("ZamEQ2")
    settings = at(effect, frequency_1_hz=frequency, boost_cut_1_db=native, master_gain_db=6)
    response = effect.render(click(44_100), settings, 44_100)[0].astype(float)
    assert gain_db(response, frequency, 44_100) == pytest.approx(native + 6, abs=0.05)
    assert gain_db(response, 50, 44_100) == pytest.approx(6, abs=0.05)


@needs_zam
def test_a_limiter_keeps_its_ceiling_and_its_latency_is_taken_out():
    effect, dry = load("ZaMaximX2"), 2 * noise(11, 2, 20_000)
    wet = effect.render(dry, at(effect, output_ceiling_db=-6, threshold_db=-6), 44_100)
    assert np.abs(wet).max() <= 10 ** (-6 / 20) * 1.001
    quiet = 0.01 * dry
    assert np.abs(effect.render(quiet, {}, 44_100) - quiet).max() < 1e-6


@needs_zam
@pytest.mark.parametrize(("name", "settings"), [("ZamHeadX2", {"azimuth": 0.5}), ("ZamVerb", {})])
@pytest.mark.parametrize("samples", [300, 9_000])
def test_a_plug_in_that_convolves_does_so_in_a_clip_of_any_length(name, settings, samples):
    """Given a block whose length is no power of two, it returns the dry sound, or the end of a clip dry."""
    effect, sound = load(name), noise(12, 2, 12_000)
    whole = effect.render(sound, settings, 24_000)
    part = effect.render(sound[:, :samples], settings, 24_000)
    np.testing.assert_allclose(part, whole[:, :samples], atol=1e-5)
    assert np.abs(part - sound[:, :samples])[:, -50:].max() > 0.01


@needs_zam
@pytest.mark.parametrize("name", ["ZamDelay", "ZamGate", "ZamGateX2", "ZamEQ2"])
def test_a_plug_in_has_arrived_at_its_settings_when_the_clip_starts(name):
    """More silence before it changes nothing: without any, the delay would fade from its default time."""
    effect, dry, rng = load(name), noise(13, 2, 12_000), np.random.default_rng(13)
    for _ in range(4):
        settings = random_settings(effect, rng, 24_000)
        later = effect.render(np.pad(dry, ((0, 0), (20 * plugin_host.BLOCK, 0))), settings, 24_000)
        assert np.array_equal(effect.render(dry, settings, 24_000), later[:, 20 * plugin_host.BLOCK :])


# ---- bad input: one sentence


@needs_zam
def test_an_unknown_file_is_refused_by_naming_the_installed():
    with pytest.raises(ValueError, match=r"^unknown effect 'vst3:No\.vst3': installed are ZaM.*, ZamVerb\.vst3.*PATH$"):
        effects.load("vst3:No.vst3")


def test_a_missing_path_is_refused(tmp_path):
    with pytest.raises(ValueError, match=rf"^unknown effect '.*': there is no file {tmp_path}/No\.vst3$"):
        effects.load(f"vst3:{tmp_path}/No.vst3")


def test_where_nothing_is_installed_the_message_says_where_it_was_looked_for(tmp_path, monkeypatch):
    monkeypatch.setattr(hosted, "FOLDERS", {"vst3": (str(tmp_path),)})
    monkeypatch.delenv("VST3_PATH", raising=False)
    with pytest.raises(ValueError, match=f"installed are none in {tmp_path}; elsewhere it is vst3:PATH$"):
        effects.load("vst3:No.vst3")


@pytest.mark.parametrize("kind", ["text", "empty folder"])
def test_a_file_that_is_no_plug_in_fails_in_one_sentence(tmp_path, kind):
    path = tmp_path / "Fake.vst3"
    path.write_text("not a plug-in") if kind == "text" else path.mkdir()
    with pytest.raises(EffectFailed) as caught:
        effects.load(f"vst3:{path}")
    assert str(caught.value) == f"vst3:{path} failed: {path} is no plug-in, or lacks a library that it needs"


@needs_zam
def test_an_unknown_plug_in_in_a_file_fails_by_naming_those_in_it():
    assert effects.load("vst3:ZamDelay.vst3#ZamDelay").params == load("ZamDelay").params
    with pytest.raises(EffectFailed, match=r"failed: \S+ZamDelay.vst3 has no plug-in 'Echo': it has ZamDelay$"):
        effects.load("vst3:ZamDelay.vst3#Echo")


@pytest.mark.skipif(hasattr(pedalboard, "AudioUnitPlugin"), reason="this is macOS")
def test_audio_units_are_refused_where_there_are_none():
    assert hosted.names("au") == []
    with pytest.raises(ValueError, match="^au:AUDelay.component cannot be used here: Audio Units are for macOS$"):
        effects.load("au:AUDelay.component")


# ---- plug-ins that no package brings, by a stand-in for pedalboard's class


class Stand:
    """What `plugin_host` uses of pedalboard.VST3Plugin."""

    found, is_effect, channels = ("One",), True, (1,)
    _reload_type, _parameters = None, ()

    def __init__(self, path, plugin_name=None):
        pass

    @classmethod
    def get_plugin_names_for_file(cls, path):
        return list(cls.found)

    def reset(self):
        pass

    def process(self, sound, rate, **more):
        if len(sound) not in self.channels:
            raise ValueError(f"does not support {len(sound)}-channel output")
        return sound


@pytest.mark.parametrize(
    ("traits", "plugin", "message"),
    [
        ({"found": ("One", "Two")}, None, r"^/x has several plug-ins: add # and one of One, Two$"),
        ({"found": ("One", "Two")}, "Six", r"^/x has no plug-in 'Six': it has One, Two$"),
        ({"is_effect": False}, None, r"^it makes no sound from sound: it is an instrument$"),
        ({"channels": (6,)}, None, r"^it takes neither one channel nor two and returns as many$"),
    ],
)
def test_a_plug_in_that_is_no_effect_says_why(monkeypatch, traits, plugin, message):
    monkeypatch.setattr(pedalboard, "VST3Plugin", type("Stand", (Stand,), traits))
    with pytest.raises(ValueError, match=message):
        plugin_host.describe(prefix="vst3", path="/x", plugin=plugin)


def control(texts, *, steps=0x7FFFFFFF, raw=0.0, name="Tone", label="", automatable=True):
    """A control whose text at a position is given by a function or a list."""
    text = texts if callable(texts) else lambda at: texts[round(at * (len(texts) - 1))]
    more = {"name": name, "label": label, "is_automatable": automatable}
    return SimpleNamespace(num_steps=steps, raw_value=raw, get_text_for_raw_value=text, **more)


@pytest.mark.parametrize(
    ("text", "label", "expected"),
    [
        (lambda at: f"{-60 + 60 * at:.1f} dB", "", ("dB", -60, 0, -45, False)),
        (lambda at: f"{20 * 1000**at:.0f}", "Hz", ("Hz", 20, 20_000, 20 * 1000**0.25, True)),
        (lambda at: f"{10 * at**3:.2f}", "s", ("", 0, 1, 0.25, False)),  # neither even steps nor even ratios
        (lambda at: f"{1 - at:.2f}", "", ("", 0, 1, 0.25, False)),  # falls
        (lambda at: "-inf dB" if at == 0 else f"{-60 + 60 * at:.1f} dB", "dB", ("", 0, 1, 0.25, False)),
        (lambda at: f"{500 * at:.0f} Hz" if at < 0.9 else "0.5 kHz", "", ("", 0, 1, 0.25, False)),
        (lambda at: "7", "", ("", 0, 1, 0.25, False)),
        (lambda at: "", "", ("", 0, 1, 0.25, False)),
    ],
)
def test_a_native_range_is_stated_only_if_the_texts_bear_it_out(text, label, expected):
    native = plugin_host._native(control(text, label=label, raw=0.25))
    assert tuple(native.values()) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["Off", "On"], {"Off": 0, "On": 1}),
        (["0.000000", "1.000000"], {"0": 0, "1": 1}),
        (["1/4", "1/8", "1/16"], {"1/4": 0, "1/8": 0.5, "1/16": 1}),
        (["12 dB", "24 dB"], {"12 dB": 0, "24 dB": 1}),
        (["same", "same", "other"], {"same": 0, "other": 1}),
        (["", ""], {"0": 0, "1": 1}),
        ([str(i) for i in range(16)], {str(i): i / 15 for i in range(16)}),
        ([str(i) for i in range(17)], {}),
        ([f"preset {'abcdefghijklmnopqrst'[i]}" for i in range(20)], ...),
    ],
)
def test_steps_become_labels_unless_they_are_a_long_row_of_numbers(texts, expected):
    labels = plugin_host._labels(control(texts, steps=len(texts)))
    assert list(labels) == texts if expected is ... else labels == expected


def test_a_control_without_steps_is_a_scale():
    assert plugin_host._labels(control(lambda at: "On" if at > 0.5 else "Off")) == {}


def test_names_are_python_names_and_each_is_there_once(monkeypatch):
    scale, switch = {"texts": lambda at: f"{at:.3f}"}, {"texts": ["off", "on"], "steps": 2}
    parameters = [
        control(**scale, name="Boost/Cut 1", label="dB"),
        control(**scale, name="Gain"),
        control(**switch, name="gain"),
        control(**scale, name="32Hz", label="dB"),
        control(**scale, name="in"),
        control(**scale, name="Gain Reduction", label="dB"),
        *(control(**switch, name=name) for name in ("Bypass", "Current Program", "MIDI CC 0|64", "Program")),
        *(control(**scale, name=name) for name in ("Buffer Size", "Sample Rate", "MIDI CC 1|7")),
        control(**scale, name="Meter", automatable=False),
    ]
    monkeypatch.setattr(pedalboard, "VST3Plugin", type("Stand", (Stand,), {"_parameters": parameters}))
    about = plugin_host.describe(prefix="vst3", path="/x", plugin=None)
    assert [param["shown"]["name"] for param in about["params"]] == ["boost_cut_1_db", "gain", "n_32hz_db", "n_in"]
    assert [(choice["name"], choice["labels"]) for choice in about["choices"]] == [("gain_2", ["off", "on"])]
    assert json.loads(json.dumps(about)) == about
