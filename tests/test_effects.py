"""The effects agree with the real plug-ins, with a slow reference written from the formulas, and with physics."""

import math
import os
import pickle
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vaefx_lib import audio, effects
from vaefx_lib.effects import mda

GOLDEN = np.load(Path(__file__).parent / "golden.npz")
OVERDRIVE, DELAY = effects.load("mda:Overdrive"), effects.load("mda:Delay")
BOTH = pytest.mark.parametrize("effect", [OVERDRIVE, DELAY], ids=lambda effect: effect.name)

unit = st.floats(0, 1)
# short delays, so that many echoes fall into a short clip
delay_settings = st.tuples(st.floats(0, 0.12), unit, unit, unit, unit, unit)
rates = st.sampled_from([8_000, 16_000, 24_000, 44_100, 48_000, 192_000])


def noise(seed, *shape):
    return np.random.default_rng(seed).uniform(-0.5, 0.5, shape).astype(np.float32)


def slow_overdrive(x, drive, muffle, output):
    """One channel, from the formulas, in Python numbers."""
    y, v = [], 0.0
    for sample in map(float, x):
        u = (1 - drive) * sample + drive * (sample > 0) * abs(sample) ** 0.5 - drive * (sample < 0) * abs(sample) ** 0.5
        v = v + 10 ** (-1.6 * muffle) * (u - v)
        y.append(10 ** (2 * output - 1) * v)
    return y


def slow_delay(left, right, rate, l_delay, r_delay, feedback, fb_tone, fx_mix, output):
    """Two channels, from the formulas, in Python numbers and with the whole past in a list."""
    f32, size = np.float32, 32766
    step = int(f32(17.9) * f32(r_delay))
    steps = {17: 0.5, 16: 0.6667, 15: 0.75, 14: 0.8333, 13: 1, 12: 1.2, 11: 1.3333, 10: 1.5, 9: 2}
    ratio = f32(steps[step]) if step in steps else f32(4) * f32(r_delay)
    taps = [int(f32(size) * f32(l_delay) * f32(l_delay)), int(f32(size) * f32(l_delay) * f32(l_delay) * ratio)]
    first, second = (4 if tap < 4 else size if tap > size else tap for tap in taps)
    if fb_tone <= 0.5:
        t, low, high = fb_tone, 1 - 2 * fb_tone, 2 * fb_tone
    else:
        t, low, high = fb_tone / 2 - 0.25, -2 * (fb_tone / 2 - 0.25), 1
    a = math.exp(-2 * math.pi * 10 ** (2.2 + 4.5 * t) / rate)
    wet, dry = output * (1 - (1 - fx_mix) ** 2), 2 * output * (1 - fx_mix**2)
    line, f0, y = [], 0.0, [[], []]
    for n, (x_left, x_right) in enumerate(zip(map(float, left), map(float, right))):
        tap_left = line[n - first] if n >= first else 0.0
        tap_right = line[n - second] if n >= second else 0.0
        w = wet * (x_left + x_right) + 0.495 * feedback * (tap_left + tap_right)
        f0 = a * (f0 - w) + w
        line.append(low * f0 + high * w)
        y[0].append(dry * x_left + tap_left)
        y[1].append(dry * x_right + tap_right)
    return y


@pytest.mark.parametrize("key", [key.removesuffix("_params") for key in GOLDEN if key.endswith("_params")])
def test_effect_is_within_5e_6_of_the_real_plug_in(key):
    name, rate, _ = key.split("_")
    wet = effects.load(f"mda:{name}").render(GOLDEN[f"x_{rate}"], GOLDEN[f"{key}_params"], int(rate))
    assert wet.dtype == np.float32 and wet.shape == GOLDEN[f"{key}_y"].shape
    assert np.abs(wet - GOLDEN[f"{key}_y"]).max() <= 5e-6


@settings(max_examples=60, deadline=None)
@given(values=st.tuples(unit, unit, unit), samples=st.integers(1, 300), channels=st.integers(1, 2), rate=rates)
def test_overdrive_is_the_slow_reference(values, samples, channels, rate):
    dry = noise(samples, channels, samples)
    expected = [slow_overdrive(channel, *values) for channel in dry]
    np.testing.assert_allclose(OVERDRIVE.render(dry, values, rate), expected, atol=2e-6, rtol=1e-6)


@settings(max_examples=60, deadline=None)
@given(values=delay_settings, samples=st.integers(1, 1_500), channels=st.integers(1, 2), rate=rates)
def test_delay_is_the_slow_reference(values, samples, channels, rate):
    dry = noise(samples, channels, samples)
    expected = slow_delay(dry[0], dry[-1], rate, *values)
    np.testing.assert_allclose(DELAY.render(dry, values, rate), expected, atol=2e-6, rtol=1e-6)


@pytest.mark.parametrize("l_delay", [0.5, 0.999, 1.0])
@pytest.mark.parametrize("r_delay", [0.0, 0.45, 0.52, 1.0])
def test_delay_is_the_slow_reference_where_the_delay_line_wraps(l_delay, r_delay):
    dry, values = noise(1, 2, 70_000), (l_delay, r_delay, 0.9, 0.3, 0.6, 0.5)
    np.testing.assert_allclose(DELAY.render(dry, values, 24_000), slow_delay(*dry, 24_000, *values), atol=3e-6)


@given(l_delay=unit, r_delay=unit)
def test_delays_are_between_4_and_32766_samples(l_delay, r_delay):
    left, right = mda.delay_samples(l_delay, r_delay)
    assert 4 <= left <= 32_766 and 4 <= right <= 32_766
    assert abs(left - max(4, 32_766 * l_delay**2)) <= 1
    assert abs(right - min(max(4, 32_766 * l_delay**2 * mda.delay_ratio(r_delay)), 32_766)) <= 1.01


def test_delays_are_computed_in_float32_as_the_plug_in_does():
    grid = np.linspace(0, 1, 20_001)
    differs = [v for v in grid if mda.delay_samples(v, 0.75)[0] != max(4, int(32_766 * v * v))]
    assert 0 < len(differs) < 200
    for v in differs:
        assert mda.delay_samples(v, 0.75)[0] == int(np.float32(32_766) * np.float32(v) * np.float32(v))


@pytest.mark.parametrize(
    ("r_delay", "ratio"), [(0, 0), (0.25, 1), (0.5, 2), (0.51, 2), (0.57, 1.5), (0.75, 1), (0.9, 2 / 3), (1, 0.5)]
)
def test_right_delay_follows_the_left_by_a_musical_ratio(r_delay, ratio):
    assert mda.delay_ratio(r_delay) == pytest.approx(ratio, abs=1e-3)


@given(values=delay_settings)
def test_a_click_comes_back_from_delay_after_exactly_the_two_delays(values):
    l_delay, r_delay, _, _, _, output = values
    values = (l_delay, r_delay, 0, 0.5, 1, max(output, 0.1))  # nothing dry, no feedback, flat tone
    click = np.zeros(9_000, np.float32)
    click[10] = 1
    wet = DELAY.render(click, values, 24_000)
    for channel, delay in zip(wet, mda.delay_samples(l_delay, r_delay)):
        assert np.flatnonzero(channel).tolist() == [10 + delay]
        assert channel[10 + delay] == pytest.approx(2 * max(output, 0.1), rel=1e-6)


@settings(deadline=None)
@given(values=delay_settings, rate=rates, gains=st.tuples(st.floats(-2, 2), st.floats(-2, 2)))
def test_delay_is_linear(values, rate, gains):
    one, two = noise(1, 2, 800), noise(2, 2, 800)
    mixed = DELAY.render(gains[0] * one + gains[1] * two, values, rate)
    parts = gains[0] * DELAY.render(one, values, rate) + gains[1] * DELAY.render(two, values, rate)
    np.testing.assert_allclose(mixed, parts, atol=2e-5)


def test_overdrive_is_not_linear():
    dry = noise(1, 1, 800)
    assert np.abs(OVERDRIVE.render(0.5 * dry, {}, 24_000) - 0.5 * OVERDRIVE.render(dry, {}, 24_000)).max() > 0.01


@BOTH
@settings(max_examples=50, deadline=None)
@given(data=st.data(), shift=st.integers(1, 40_000))
def test_effect_is_time_invariant(effect, data, shift):
    values = data.draw(st.tuples(*[unit] * len(effect.params)))
    dry = noise(3, 2, 500)
    later = effect.render(np.pad(dry, ((0, 0), (shift, 0))), values, 24_000)
    assert np.array_equal(later[:, shift:], effect.render(dry, values, 24_000))
    assert not later[:, :shift].any()


@BOTH
@settings(max_examples=50, deadline=None)
@given(data=st.data(), samples=st.integers(1, 600), kept=st.floats(0, 1))
def test_effect_is_causal_and_keeps_the_length(effect, data, samples, kept):
    values = data.draw(st.tuples(*[unit] * len(effect.params)))
    dry, kept = noise(4, 2, samples), 1 + int(kept * (samples - 1))
    wet = effect.render(dry, values, 24_000)
    assert wet.shape == (2, samples)
    assert np.array_equal(effect.render(dry[:, :kept], values, 24_000), wet[:, :kept])


@settings(deadline=None)
@given(values=st.tuples(unit, unit, unit))
def test_overdrive_channels_do_not_touch_each_other(values):
    left, right = noise(5, 400), noise(6, 400)
    both = OVERDRIVE.render(np.stack([left, right]), values, 24_000)
    assert np.array_equal(both[:1], OVERDRIVE.render(left, values, 24_000))
    assert np.array_equal(both[1:], OVERDRIVE.render(right, values, 24_000))


@settings(deadline=None)
@given(values=st.tuples(unit, unit, unit))
def test_overdrive_is_odd(values):
    dry = noise(7, 400)
    assert np.array_equal(OVERDRIVE.render(-dry, values, 24_000), -OVERDRIVE.render(dry, values, 24_000))


@settings(deadline=None)
@given(values=delay_settings)
def test_delay_of_mono_is_delay_of_the_same_sound_on_both_channels(values):
    dry = noise(8, 900)
    assert np.array_equal(DELAY.render(dry, values, 24_000), DELAY.render(np.stack([dry, dry]), values, 24_000))


def test_channel_counts_are_the_documented_ones():
    mono, stereo = noise(1, 50), noise(1, 2, 50)
    assert OVERDRIVE.render(mono, {}, 24_000).shape == (1, 50)
    assert OVERDRIVE.render(stereo, {}, 24_000).shape == (2, 50)
    assert DELAY.render(mono, {}, 24_000).shape == DELAY.render(stereo, {}, 24_000).shape == (2, 50)


@BOTH
@pytest.mark.parametrize("layout", ["float32", "float64", "fortran", "strided", "read-only", "list"])
def test_effect_takes_any_array_and_never_changes_it(effect, layout):
    base = noise(9, 2, 300)
    dry = {
        "float32": base.copy(),
        "float64": base.astype(np.float64),
        "fortran": np.asfortranarray(base),
        "strided": np.repeat(base, 2, axis=1)[:, ::2],
        "read-only": np.frombuffer(base.tobytes(), np.float32).reshape(2, 300),
        "list": base.tolist(),
    }[layout]
    values = np.full(len(effect.params), 0.7)
    wet = effect.render(dry, values, 24_000)
    assert np.array_equal(wet, effect.render(base, [0.7] * len(effect.params), 24_000))
    assert np.array_equal(dry, base) and np.all(values == 0.7)
    assert not np.shares_memory(wet, dry)


@BOTH
def test_nothing_leaks_from_one_call_into_the_next(effect):
    dry, values = noise(10, 2, 3_000), [0.3] * len(effect.params)
    fresh = effect.render(dry, values, 24_000)
    effect.render(100 * noise(11, 2, 40_000), [0.9] * len(effect.params), 24_000)
    assert np.array_equal(effect.render(dry, values, 24_000), fresh)


@BOTH
def test_threads_give_the_same_bits_as_one_after_the_other(effect):
    rng = np.random.default_rng(0)
    jobs = [(noise(i, 1 + i % 2, 5_000 + i), rng.uniform(size=len(effect.params))) for i in range(24)]
    alone = [effect.render(dry, values, 24_000) for dry, values in jobs]
    with ThreadPoolExecutor(6) as pool:
        together = list(pool.map(lambda job: effect.render(*job, 24_000), jobs))
    assert all(np.array_equal(a, b) for a, b in zip(alone, together))


@settings(max_examples=30, deadline=None)
@given(values=delay_settings)
def test_delay_loop_is_stable_at_every_setting(values):
    """One round of the loop has a gain of at most 0.99 feedback at any frequency: a geometric series bounds the sum."""
    dry = np.sign(noise(12, 2, 60_000))
    direct, into_line = mda.delay_gains(values[4], values[5])
    fed = np.linalg.norm(into_line * dry.sum(axis=0)) / (1 - 0.99 * values[2])
    for channel, x in zip(DELAY.render(dry, values, 24_000), dry):
        assert np.linalg.norm(channel) <= (direct * np.linalg.norm(x) + fed) * 1.0001


@pytest.mark.parametrize("muffle", [0.2, 0.5, 0.8, 1.0])
@pytest.mark.parametrize("rate", [24_000, 44_100])
def test_overdrive_is_3_db_down_at_its_cutoff(muffle, rate):
    click = np.zeros(rate, np.float32)
    click[0] = 1
    response = OVERDRIVE.render(click, {"drive": 0, "muffle": muffle, "output": 0.5}, rate)[0].astype(float)
    cutoff = mda.muffle_cutoff_hz(muffle, rate)
    gain = np.abs(np.sum(response * np.exp(-2j * np.pi * cutoff / rate * np.arange(rate))))
    assert 20 * np.log10(gain) == pytest.approx(-3.01, abs=0.01)
    assert np.sum(response) == pytest.approx(1, abs=1e-4)  # 0 dB at 0 Hz


def test_open_overdrive_has_no_cutoff():
    assert mda.muffle_cutoff_hz(0, 24_000) == math.inf == mda.muffle_cutoff_hz(0.01, 24_000)


@pytest.mark.parametrize("fb_tone", [0.1, 0.4, 0.5, 0.6, 1.0])
def test_tone_control_has_the_gains_of_its_filter_at_both_ends_of_the_spectrum(fb_tone):
    low, high, a = mda.delay_tone(fb_tone, 24_000)
    click = np.zeros(20_000, np.float32)
    click[0] = 1
    settings_of = {"l_delay": 0, "r_delay": 0, "feedback": 0, "fb_tone": fb_tone, "fx_mix": 1, "output": 0.5}
    response = DELAY.render(click, settings_of, 24_000)[0].astype(float)
    assert response.sum() == pytest.approx(low + high, abs=1e-4)  # 0 Hz
    nyquist = abs(np.sum(response * (-1.0) ** np.arange(20_000)))
    assert nyquist == pytest.approx(abs(low * (1 - a) / (1 + a) + high), abs=1e-4)
    assert (low + high < 1) == (fb_tone > 0.5)


def test_output_of_overdrive_spans_minus_20_to_plus_20_db():
    dry = noise(13, 500)
    for setting in (0, 0.25, 0.5, 1):
        wet = OVERDRIVE.render(dry, {"drive": 0, "muffle": 0, "output": setting}, 24_000)[0]
        gain_db = 10 * np.log10(np.sum(np.square(wet)) / np.sum(np.square(dry)))
        assert gain_db == pytest.approx(OVERDRIVE.params[2].to_native(setting), abs=1e-4)


def test_some_settings_change_nothing():
    dry = noise(14, 2, 500)
    np.testing.assert_allclose(OVERDRIVE.render(dry, [0, 0, 0.5], 24_000), dry, atol=1e-7)
    assert np.array_equal(DELAY.render(dry, {"fx_mix": 0, "output": 0.5}, 24_000), dry)


@BOTH
def test_defaults_are_the_middle_of_every_control(effect):
    assert effect.default_settings.tolist() == [0.5] * len(effect.params)
    dry = noise(15, 400)
    assert np.array_equal(effect.render(dry, {}, 24_000), effect.render(dry, [0.5] * len(effect.params), 24_000))
    name = effect.param_names[1]
    expected = [0.5, 0.9, *[0.5] * (len(effect.params) - 2)]
    assert np.array_equal(effect.render(dry, {name: 0.9}, 24_000), effect.render(dry, expected, 24_000))


@given(low=st.floats(-1e3, 1e3), span=st.floats(1, 1e3), setting=unit)
def test_settings_and_native_values_are_each_others_inverse(low, span, setting):
    param = effects.Param("x", "dB", low, low + span, low)
    assert (param.to_native(0), param.to_native(1)) == (param.low, param.high)
    native = min(max(param.to_native(setting), param.low), param.high)
    assert native == pytest.approx(param.to_native(setting), abs=1e-9)
    assert param.to_setting(native) == pytest.approx(setting, abs=1e-9)


def test_native_values_convert_as_arrays():
    drive = OVERDRIVE.params[0]
    np.testing.assert_allclose(drive.to_setting(drive.to_native(np.linspace(0, 1, 5))), np.linspace(0, 1, 5))


def test_effects_load_by_name_and_survive_pickling():
    assert effects.available()[:2] == ["mda:Overdrive", "mda:Delay"]
    for name in ("mda:Overdrive", "mda:Delay", "pedalboard:Reverb", "chain:[mda:Overdrive, mda:Delay]"):
        effect = effects.load(name)
        assert effect.name == name and pickle.loads(pickle.dumps(effect)) == effect


@given(low=st.floats(1e-3, 1e3), ratio=st.floats(1.5, 1e3), setting=unit)
def test_a_logarithmic_parameter_has_equal_ratios_for_equal_steps(low, ratio, setting):
    param = effects.Param("x", "Hz", low, low * ratio, low, log=True)
    assert (param.to_native(0), param.to_native(1)) == (param.low, param.high)
    assert param.to_native(setting) == pytest.approx(low * ratio**setting, rel=1e-9)
    native = min(max(param.to_native(setting), param.low), param.high)
    assert param.to_setting(native) == pytest.approx(setting, abs=1e-9)


# ---- choices: held unless asked for


def switched(audio, sample_rate_hz, *, gain, sign, rate):
    return audio * np.float32(gain * {"plus": 1, "minus": -1}[sign] * float(rate.removesuffix(" x (double, or so)")))


SIGNED = effects.Effect(
    "test:Sign",
    (effects.Param("gain", "", 0, 1, 1),),
    switched,
    (
        effects.Choice("sign", ("plus", "minus"), "plus"),
        effects.Choice("rate", ("1", "2 x (double, or so)"), "1"),
    ),
)


def test_a_choice_is_held_at_its_default_and_is_no_part_of_a_settings_array():
    dry = noise(16, 1, 50)
    assert SIGNED.default_settings.tolist() == [1.0] and SIGNED.param_names == ("gain",)
    assert np.array_equal(SIGNED.render(dry, [0.5], 24_000), dry / 2)
    assert np.array_equal(SIGNED.render(dry, {}, 24_000), dry)


def test_a_choice_can_be_asked_for_in_a_call_or_held_elsewhere_by_name():
    dry = noise(16, 1, 50)
    assert np.array_equal(SIGNED.render(dry, {"sign": "minus", "gain": 0.5}, 24_000), -dry / 2)
    minus = SIGNED.holding(sign="minus", rate="2 x (double, or so)")
    assert minus.name == "test:Sign(sign=minus, rate=2 x (double, or so))"
    assert np.array_equal(minus.render(dry, [1], 24_000), -2 * dry)
    assert np.array_equal(SIGNED.render(dry, [1], 24_000), dry)


def test_a_held_choice_stands_in_the_name_of_an_effect(monkeypatch):
    monkeypatch.setattr(mda, "_NATIVE", {"mda:Sign": replace(SIGNED, name="mda:Sign")})
    name = "mda:Sign(sign=minus, rate=2 x (double, or so))"
    assert effects.load(name).name == name
    assert [choice.default for choice in effects.load(name).choices] == ["minus", "2 x (double, or so)"]
    chain = effects.load(f"chain:[{name}, mda:Sign(sign=minus)]")
    assert chain.name == f"chain:[{name}, mda:Sign(sign=minus)]"
    assert [choice.default for choice in chain.choices] == ["minus", "2 x (double, or so)", "minus", "1"]


def test_unknown_choices_and_labels_are_refused_by_naming_the_known():
    with pytest.raises(ValueError, match="^the choice sign of test:Sign is 'up': it must be one of plus, minus$"):
        SIGNED.render(noise(1, 9), {"sign": "up"}, 24_000)
    with pytest.raises(ValueError, match="^test:Sign has no choice 'gain': known are sign, rate$"):
        SIGNED.holding(gain="1")
    with pytest.raises(ValueError, match="^mda:Delay has no choice 'mode': known are none$"):
        effects.load("mda:Delay(mode=1)")


# ---- chains


def test_a_chain_is_its_members_one_after_the_other():
    chain = effects.load("chain:[mda:Overdrive,mda:Delay]")
    assert chain.name == "chain:[mda:Overdrive, mda:Delay]"
    assert chain.param_names == (
        *(f"Overdrive_{name}" for name in OVERDRIVE.param_names),
        *(f"Delay_{name}" for name in DELAY.param_names),
    )
    values = np.random.default_rng(0).uniform(size=9)
    for channels in (1, 2):
        dry = noise(17, channels, 3_000)
        expected = DELAY.render(OVERDRIVE.render(dry, values[:3], 44_100), values[3:], 44_100)
        assert np.array_equal(chain.render(dry, values, 44_100), expected)


def test_the_order_of_a_chain_matters():
    values, dry = [0.8, 0.2, 0.5, 0.1, 0.5, 0.5, 0.5, 0.7, 0.5], noise(18, 1, 3_000)
    one = effects.load("chain:[mda:Overdrive, mda:Delay]").render(dry, values, 24_000)
    other = effects.load("chain:[mda:Delay, mda:Overdrive]").render(dry, values[3:] + values[:3], 24_000)
    assert np.abs(one - other).max() > 0.01


def test_a_chain_of_one_is_that_effect_and_a_chain_may_hold_a_chain():
    dry, values = noise(19, 1, 2_000), [0.3] * 6
    assert np.array_equal(
        effects.load("chain:[mda:Delay]").render(dry, values, 24_000), DELAY.render(dry, values, 24_000)
    )
    nested = effects.load("chain:[mda:Overdrive, chain:[mda:Delay, mda:Overdrive]]")
    flat = effects.load("chain:[mda:Overdrive, mda:Delay, mda:Overdrive]")
    assert np.array_equal(nested.render(dry, [0.4] * 12, 24_000), flat.render(dry, [0.4] * 12, 24_000))
    assert len(set(flat.param_names)) == len(set(nested.param_names)) == 12


@pytest.mark.parametrize("name", ["chain:", "chain:[]", "chain:mda:Delay", "chain:[mda:Delay,]", "chain:[,]"])
def test_a_chain_without_members_is_refused(name):
    with pytest.raises(ValueError, match=r"^unknown effect 'chain:.*'"):
        effects.load(name)


def test_a_chain_with_an_unknown_member_names_it():
    with pytest.raises(ValueError, match="^unknown effect 'mda:Nope': known are mda:Overdrive, mda:Delay"):
        effects.load("chain:[mda:Delay, mda:Nope]")


# ---- bad input: one sentence that names the thing, its value and what is allowed


@pytest.mark.parametrize("name", ["Delay", "", None, "mda:", "vst2:x"])
def test_an_effect_of_no_known_kind_is_refused_by_naming_the_kinds(name):
    with pytest.raises(ValueError, match=f"^unknown effect {name!r}: known are mda:NAME, lv2:BUNDLE/NAME, pedalboard"):
        effects.load(name)


def test_an_unknown_effect_is_refused_by_naming_the_known():
    with pytest.raises(ValueError, match="^unknown effect 'mda:Chorus': known are mda:Overdrive, mda:Delay"):
        effects.load("mda:Chorus")


@pytest.mark.parametrize("value", [-0.01, 1.01, math.nan, math.inf, -math.inf, "0.5", None, [0.5], np.float32(1.5)])
@pytest.mark.parametrize("kind", ["mapping", "list"])
def test_a_setting_that_is_no_number_in_0_to_1_is_refused(value, kind):
    given_settings = {"muffle": value} if kind == "mapping" else [0.5, value, 0.5]
    shown = repr(value.item() if isinstance(value, np.generic) else value)
    with pytest.raises(ValueError) as caught:
        OVERDRIVE.render(noise(1, 9), given_settings, 24_000)
    message = f"the setting muffle of mda:Overdrive is {shown}: it must be a number in [0, 1]"
    assert str(caught.value) == message


def test_an_array_with_a_bad_setting_is_refused():
    with pytest.raises(ValueError, match=r"^the setting output of mda:Overdrive is nan: .* in \[0, 1\]$"):
        OVERDRIVE.render(noise(1, 9), np.array([0, 1, np.nan]), 24_000)


def test_unknown_parameter_is_refused_by_naming_the_known():
    with pytest.raises(ValueError, match="^mda:Overdrive has no parameter 'gain': known are drive, muffle, output$"):
        OVERDRIVE.render(noise(1, 9), {"gain": 0.5}, 24_000)


@pytest.mark.parametrize(
    ("values", "got"), [([], "0"), ([0.5] * 7, "7"), (np.zeros((1, 6)), "1"), (0.5, "0.5"), (None, "None")]
)
def test_a_wrong_number_of_settings_is_refused(values, got):
    with pytest.raises(ValueError) as caught:
        DELAY.render(noise(1, 9), values, 24_000)
    names = "l_delay, r_delay, feedback, fb_tone, fx_mix, output"
    assert str(caught.value) == f"mda:Delay takes 6 settings ({names}), got {got}"


@BOTH
@pytest.mark.parametrize(
    ("dry", "reason"),
    [
        (np.zeros(0), "is empty"),
        (np.zeros((2, 0)), "is empty"),
        (np.zeros((3, 9)), "takes 1 or 2 channels, got 3"),
        (np.zeros((9, 2)), "takes 1 or 2 channels, got 9"),
        (np.zeros((1, 2, 9)), "has 3 dimensions"),
        (np.array([0, np.nan]), "NaN or infinity, first at sample 1"),
        (np.array([[0.0, 0], [np.inf, 0]]), "NaN or infinity, first at sample 0"),
        (np.zeros(9, np.int16), "type int16"),
    ],
)
def test_bad_audio_is_refused(effect, dry, reason):
    with pytest.raises(audio.AudioError, match=reason) as caught:
        effect.render(dry, {}, 24_000)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("rate", [0, -1, math.nan, math.inf, None, "24000"])
def test_a_bad_sample_rate_is_refused(rate):
    with pytest.raises(ValueError, match=f"^sample_rate_hz is {rate!r}: it must be a positive number$"):
        DELAY.render(noise(1, 9), {}, rate)


@pytest.mark.parametrize("native", [-20.1, 21, math.nan, [0.0, 30.0]])
def test_a_native_value_outside_the_range_is_refused(native):
    with pytest.raises(ValueError, match=r"^output is .* dB: it must be in \[-20, 20\]$"):
        OVERDRIVE.params[2].to_setting(native)


# ---- the cache of compiled code


@pytest.mark.parametrize(
    ("effect", "values"),
    [(OVERDRIVE, [0.5, 1, 0.5]), (OVERDRIVE, [1, 0.9, 0]), (DELAY, [0, 0, 0.2, 0.2, 0.5, 0.5]), (DELAY, [0.02] * 6)],
)
def test_a_long_silent_tail_ends_in_zeros_and_never_in_denormal_numbers(effect, values):
    """Denormal numbers in a decaying loop would make it some times slower, on most processors."""
    tail = np.zeros(480_000, np.float32)
    tail[:500] = 0.5
    wet = np.abs(effect.render(tail, values, 24_000))
    assert wet[wet > 0].min() > 1e-32 and not wet[:, -1].any()


RENDER_ONE = """
import numpy as np
from vaefx_lib import effects
dry = np.random.default_rng(0).uniform(-1, 1, 2000)
print(effects.load("mda:Delay").render(dry, {}, 24000).tobytes().hex()[-64:])
"""


def test_compiled_code_is_shared_by_processes_that_start_at_once_on_a_read_only_package(tmp_path):
    """The package's folder cannot hold the cache: numba then uses the user's; three processes race to fill it."""
    package = tmp_path / "vaefx_lib"
    source = Path(effects.__file__).parent.parent
    shutil.copytree(source, package, ignore=shutil.ignore_patterns("__pycache__", "speech"))
    (package / "effects" / "__pycache__").write_text("a file where the cache folder would be")
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path / "cache"), "HOME": str(tmp_path)}
    environment.pop("NUMBA_CACHE_DIR", None)
    command = [sys.executable, "-B", "-c", RENDER_ONE]
    starts = [
        subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(3)
    ]
    outputs = {start.communicate(timeout=60)[0] for start in starts}
    assert all(start.returncode == 0 for start in starts) and len(outputs) == 1
    dry = np.random.default_rng(0).uniform(-1, 1, 2000)
    here = DELAY.render(dry, {}, 24_000).tobytes().hex()[-64:]
    assert outputs == {f"{here}\n"}
    assert list((tmp_path / "cache").rglob("*.nbi"))


def test_effects_work_where_no_cache_can_be_written(monkeypatch):
    real = mda.numba.njit

    def nowhere(**options):
        if options.get("cache"):
            raise RuntimeError("cannot cache function: no locator available")
        return real(**options)

    monkeypatch.setattr(mda.numba, "njit", nowhere)
    assert mda._compiled(lambda x: x + 1)(1) == 2
