"""The effects of pedalboard: every setting is safe at every rate, every clip repeats, and the physics is as named."""

import inspect
import itertools
import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pedalboard
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vaefx_lib import effects
from vaefx_lib.effects import builtin

NAMES = builtin.names()
RATES = (8_000, 11_025, 16_000, 24_000, 44_100, 48_000, 96_000, 192_000)
EACH = pytest.mark.parametrize("name", NAMES)


def load(name):
    return effects.load(f"pedalboard:{name}")


def noise(seed, *shape):
    return np.random.default_rng(seed).uniform(-0.5, 0.5, shape).astype(np.float32)


def tone(frequency_hz, rate, seconds=1.0, amplitude=0.5):
    return (amplitude * np.sin(2 * np.pi * frequency_hz * np.arange(int(seconds * rate)) / rate)).astype(np.float32)


def click(samples, at=0):
    sound = np.zeros(samples, np.float32)
    sound[at] = 1
    return sound


def at(name, **natives):
    """Settings of an effect from native values."""
    params = {param.name: param for param in load(name).params}
    return {key: float(params[key].to_setting(value)) for key, value in natives.items()}


def wet(name, dry, rate=24_000, **natives):
    labels = {key: natives.pop(key) for key in list(natives) if isinstance(natives[key], str)}
    return load(name).render(dry, at(name, **natives) | labels, rate)


def gain_db(response, frequency_hz, rate):
    phases = np.exp(-2j * np.pi * frequency_hz / rate * np.arange(response.size))
    return 20 * math.log10(abs(np.sum(response * phases)))


def level_db(sound):
    return 10 * math.log10(np.mean(np.square(sound, dtype=float)))


def random_jobs(name, seed, rates=RATES):
    """Renders with settings at corners and in between, random labels, and clips of 1 to 9000 samples."""
    effect, rng = load(name), np.random.default_rng(seed)
    corners = list(itertools.product((0.0, 1.0), repeat=len(effect.params)))
    for rate, channels in itertools.product(rates, (1, 2)):
        if name == "MP3Compressor" and rate not in builtin.MP3_RATES_HZ:
            continue
        for values in (corners[rng.integers(len(corners))], corners[-1], rng.uniform(size=len(effect.params))):
            labels = {choice.name: choice.labels[rng.integers(len(choice.labels))] for choice in effect.choices}
            samples = int(rng.choice([1, 2, 3, 500, 9_000]))
            dry = rng.uniform(-1, 1, (channels, samples)).astype(np.float32)
            yield dry, dict(zip(effect.param_names, map(float, values))) | labels, rate


def test_every_effect_of_pedalboard_is_in_the_table():
    containers = {"Chain", "ExternalPlugin", "Mix", "Pedalboard", "Plugin", "PluginContainer"}
    plugins = {
        name
        for name, thing in inspect.getmembers(pedalboard, inspect.isclass)
        if issubclass(thing, pedalboard.Plugin) and not issubclass(thing, pedalboard.ExternalPlugin)
    }
    assert plugins - containers - {"IIRFilter"} == set(builtin.EFFECTS)  # that one refuses to be made: three are of it
    with pytest.raises(RuntimeError, match="not designed to be instantiated"):
        pedalboard.IIRFilter()


@EACH
def test_every_property_of_an_effect_is_a_control_of_the_same_name(name):
    kind, effect = getattr(pedalboard, name), load(name)
    properties = {key for key in dir(kind) if isinstance(inspect.getattr_static(kind, key), property)}
    properties -= {"is_effect", "is_instrument"}
    if name == "Convolution":
        properties = properties - {"impulse_response", "impulse_response_filename"} | {"decay_s"}
    assert {*effect.param_names, *(choice.name for choice in effect.choices)} == properties


def test_effects_are_available_by_name_and_carry_the_version_of_pedalboard():
    assert {f"pedalboard:{name}" for name in NAMES} <= set(effects.available())
    assert load("Reverb").version == f"pedalboard {pedalboard.__version__}"


def test_an_unknown_effect_is_refused_by_naming_the_known():
    with pytest.raises(
        ValueError, match="^unknown effect 'pedalboard:Chain': pedalboard [0-9.]+ has Bitcrush, .*Reverb$"
    ):
        effects.load("pedalboard:Chain")


@EACH
def test_every_setting_gives_finite_sound_of_the_same_shape_and_the_same_bits_twice(name):
    effect = load(name)
    for dry, values, rate in random_jobs(name, seed=1):
        before = dry.copy()
        once = effect.render(dry, values, rate)
        assert once.shape == dry.shape and once.dtype == np.float32, (values, rate)
        assert np.isfinite(once).all() and np.abs(once).max() < 50, (values, rate)
        assert np.array_equal(once, effect.render(dry, values, rate)), (values, rate)
        assert np.array_equal(dry, before)


@pytest.mark.parametrize("name", ["Chorus", "Delay", "LadderFilter", "PeakFilter", "Phaser", "Reverb"])
@pytest.mark.parametrize("rate", [8_000, 192_000])
def test_loops_and_resonances_do_not_run_away_in_four_seconds(name, rate):
    effect, dry = load(name), noise(2, 1, 4 * rate)
    corners = list(itertools.product((0.0, 1.0), repeat=len(effect.params)))
    for i in np.random.default_rng(0).permutation(len(corners))[:8]:
        peaks = [np.abs(part).max() for part in np.split(effect.render(dry, corners[i], rate)[0], 4)]
        assert max(peaks) < 20 and peaks[3] < 1.5 * peaks[2] + 0.1, corners[i]


@EACH
def test_threads_at_once_give_the_same_bits_as_one_after_the_other(name):
    jobs = list(random_jobs(name, seed=3, rates=(16_000, 44_100)))
    alone = [load(name).render(*job) for job in jobs]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda job: load(name).render(*job), jobs))
    assert all(np.array_equal(a, b) for a, b in zip(alone, together))


@EACH
def test_nothing_is_left_over_from_the_clip_before(name):
    effect, dry = load(name), noise(4, 2, 4_000)
    fresh = effect.render(dry, {}, 24_000)
    effect.render(noise(5, 1, 20_000), [0.9] * len(effect.params), 48_000)
    assert np.array_equal(effect.render(dry, {}, 24_000), fresh)


@EACH
def test_a_default_changes_the_sound(name):
    dry = np.concatenate([noise(6, 1, 6_000), 0.001 * noise(7, 1, 6_000)], axis=1)
    assert np.abs(load(name).render(dry, {}, 24_000) - dry).max() > 0.0005


@EACH
def test_every_parameter_and_every_choice_is_heard(name):
    """At some setting of the others each of them changes the sound, so that none is misspelt or ignored."""
    effect, rng = load(name), np.random.default_rng(8)
    dry = np.concatenate([rng.uniform(-1, 1, (2, 3_000)), rng.uniform(-0.01, 0.01, (2, 3_000))], axis=1).astype("f4")
    ends = {param.name: (0.0, 1.0) for param in effect.params}
    ends |= {choice.name: (choice.labels[0], choice.labels[-1]) for choice in effect.choices}
    for key, (low, high) in ends.items():
        tries = [dict(zip(effect.param_names, rng.uniform(size=len(effect.params)))) for _ in range(8)]
        assert any(
            not np.array_equal(*(effect.render(dry, values | {key: end}, 44_100) for end in (low, high)))
            for values in tries
        ), key


@pytest.mark.parametrize("name", sorted({*NAMES} - {"Chorus", "Convolution", "Delay", "PitchShift", "Reverb"}))
def test_output_is_aligned_with_the_input_unless_an_effect_moves_sound_on_purpose(name):
    """Noise and what became of it are most alike where they coincide, but for the few samples that a filter takes."""
    dry = np.convolve(noise(9, 20_000), np.hanning(9) / 4, "same").astype(np.float32)[None]
    after = load(name).render(dry, {}, 24_000)[0, 5_000:15_000].astype(float)
    likeness = np.correlate(after, dry[0, 4_900:15_100].astype(float), "valid")
    assert abs(int(np.argmax(np.abs(likeness))) - 100) <= 4


def test_pitch_shift_by_nothing_is_aligned_and_changes_nothing():
    dry = noise(10, 1, 9_000)
    np.testing.assert_allclose(wet("PitchShift", dry, semitones=0), dry, atol=1e-6)


# ---- physics


@pytest.mark.parametrize(("name", "other_side"), [("LowpassFilter", 20), ("HighpassFilter", 3_900)])
@pytest.mark.parametrize("cutoff_hz", [100, 1_000, 3_000])
@pytest.mark.parametrize("rate", [8_000, 24_000, 44_100])
def test_a_filter_is_3_db_down_at_its_cutoff(name, other_side, cutoff_hz, rate):
    response = wet(name, click(rate), rate, cutoff_frequency_hz=cutoff_hz)[0]
    assert gain_db(response, cutoff_hz, rate) == pytest.approx(-3.01, abs=0.02)
    assert gain_db(response, rate / 2 - 1 if name == "HighpassFilter" else 0, rate) == pytest.approx(0, abs=0.02)
    far = gain_db(response, cutoff_hz * (10 if name == "LowpassFilter" else 0.1), rate)
    assert far < -19.9 or cutoff_hz * 10 > rate / 2  # 6 dB an octave, 20 a decade


def test_a_cutoff_above_half_the_rate_is_held_just_below_it():
    dry, lowest = noise(11, 1, 4_000), load("LowpassFilter").params[0]
    limit = float(lowest.to_setting(builtin.HIGHEST_CUTOFF * 8_000))
    for name in ("LowpassFilter", "HighpassFilter", "PeakFilter", "LowShelfFilter", "HighShelfFilter"):
        held = load(name).render(dry, {"cutoff_frequency_hz": limit}, 8_000)
        np.testing.assert_allclose(load(name).render(dry, {"cutoff_frequency_hz": 1.0}, 8_000), held, atol=1e-6)


@given(gain=st.floats(-24, 24))
@settings(deadline=None, max_examples=30)
def test_gain_is_in_db(gain):
    dry = noise(12, 2, 300)
    np.testing.assert_allclose(wet("Gain", dry, gain_db=gain), dry * 10 ** (gain / 20), rtol=1e-5)


@settings(deadline=None, max_examples=30)
@given(frequency=st.floats(200, 8_000), gain=st.floats(-24, 24), q=st.floats(0.3, 10))
def test_a_peak_filter_has_its_gain_at_its_centre_and_half_of_it_at_the_edges_that_q_gives(frequency, gain, q):
    response = wet("PeakFilter", click(44_100), 44_100, cutoff_frequency_hz=frequency, gain_db=gain, q=q)[0]
    assert gain_db(response, frequency, 44_100) == pytest.approx(gain, abs=0.05)
    assert gain_db(response, 0, 44_100) == pytest.approx(0, abs=0.05)
    warped = math.tan(math.pi * frequency / 44_100)  # of the bilinear transform
    edges = [math.sqrt(1 + 1 / (4 * q * q)) + sign / (2 * q) for sign in (-1, 1)]
    for edge in (math.atan(warped * edge) / math.pi * 44_100 for edge in edges):
        assert gain_db(response, edge, 44_100) == pytest.approx(gain / 2, abs=0.1)


@pytest.mark.parametrize(("name", "full", "none"), [("LowShelfFilter", 0, 21_900), ("HighShelfFilter", 22_049, 5)])
@pytest.mark.parametrize("gain", [-18, 12])
def test_a_shelf_has_its_gain_on_one_side_and_half_of_it_at_the_cutoff(name, full, none, gain):
    response = wet(name, click(44_100), 44_100, cutoff_frequency_hz=1_000, gain_db=gain)[0]
    assert gain_db(response, full, 44_100) == pytest.approx(gain, abs=0.05)
    assert gain_db(response, 1_000, 44_100) == pytest.approx(gain / 2, abs=0.05)
    assert gain_db(response, none, 44_100) == pytest.approx(0, abs=0.05)


@settings(deadline=None, max_examples=30)
@given(delay=st.floats(0.006, 0.3), feedback=st.floats(0, 0.95), mix=st.floats(0, 1))
def test_a_click_comes_back_from_delay_after_its_time_at_its_mix_and_again_by_its_feedback(delay, feedback, mix):
    echoes = wet("Delay", click(24_000), delay_seconds=delay, feedback=feedback, mix=mix)[0]
    times = np.flatnonzero(np.abs(echoes) > 1e-6)
    step = delay * 24_000
    assert echoes[0] == pytest.approx(1 - mix, abs=1e-6)
    counts = np.round(times / step)
    assert np.all(np.abs(times - counts * step) < counts + 1)  # rounded down to a sample each time
    if mix > 1e-3:
        first = times[times > 0][0]
        assert step - 1.01 <= first <= step + 0.01
        assert echoes[first] == pytest.approx(mix, rel=1e-5)
        assert echoes[2 * first] == pytest.approx(mix * feedback, abs=1e-5)


@pytest.mark.parametrize("ratio", [1, 2, 4, 10, 20])
@pytest.mark.parametrize("threshold", [-40, -20])
def test_a_compressor_divides_what_is_above_its_threshold_by_its_ratio(ratio, threshold):
    """Of a square wave, whose peak is its level at any time."""
    amplitude = 0.5
    dry = np.sign(tone(200.3, 24_000, 2)) * np.float32(amplitude)
    after = wet("Compressor", dry, threshold_db=threshold, ratio=ratio, attack_ms=0.1, release_ms=1_000)[0, -5_000:]
    excess = 20 * math.log10(amplitude) - threshold
    assert 20 * math.log10(np.abs(after).max()) - threshold == pytest.approx(excess / ratio, abs=0.1)


def test_a_compressor_leaves_alone_what_is_below_its_threshold():
    dry = tone(200, 24_000, 0.5, amplitude=0.01)
    np.testing.assert_allclose(wet("Compressor", dry, threshold_db=-20, ratio=20)[0], dry, atol=1e-6)


@pytest.mark.parametrize("ratio", [2, 10])
def test_a_noise_gate_multiplies_what_is_below_its_threshold_by_its_ratio(ratio):
    dry = np.sign(tone(200.3, 24_000, 2)) * np.float32(0.01)  # -40 dB
    quiet = wet("NoiseGate", dry, threshold_db=-35, ratio=ratio, attack_ms=1, release_ms=10)[0, -5_000:]
    loud = wet("NoiseGate", dry, threshold_db=-50, ratio=ratio, attack_ms=1, release_ms=10)[0, -5_000:]
    assert 20 * math.log10(np.abs(quiet).max()) == pytest.approx(-35 - 5 * ratio, abs=0.3)
    np.testing.assert_allclose(loud, dry[-5_000:], atol=1e-4)


@settings(deadline=None, max_examples=30)
@given(ceiling=st.floats(-30, 0), lookahead=st.floats(0.5, 20), release=st.floats(10, 1_000), seed=st.integers(0, 99))
def test_a_brickwall_limiter_never_goes_above_its_ceiling(ceiling, lookahead, release, seed):
    dry = 4 * noise(seed, 2, 5_000)
    after = wet("BrickwallLimiter", dry, ceiling_db=ceiling, lookahead_ms=lookahead, release_ms=release)
    assert np.abs(after).max() <= 10 ** (ceiling / 20) * 1.00001


def test_a_brickwall_limiter_leaves_alone_what_is_below_its_ceiling():
    dry = noise(13, 2, 5_000)
    assert np.array_equal(wet("BrickwallLimiter", dry, ceiling_db=-3), dry)


@settings(deadline=None, max_examples=20)
@given(threshold=st.floats(-40, 0), gain=st.floats(0.1, 10))
def test_a_limiter_clips_at_full_scale_and_raises_what_is_quiet(threshold, gain):
    assert np.abs(wet("Limiter", noise(14, 1, 5_000) * np.float32(gain), threshold_db=threshold)).max() <= 1
    quiet = 1e-4 * noise(15, 1, 5_000)
    assert level_db(wet("Limiter", quiet, threshold_db=threshold)) >= level_db(quiet) - 0.01


@pytest.mark.parametrize("bits", [1, 2, 4, 7])
def test_a_bitcrusher_leaves_2_to_the_bits_steps_up_to_full_scale(bits):
    ramp = np.linspace(-1, 1, 20_001, dtype=np.float32)
    after = wet("Bitcrush", ramp, bit_depth=bits)[0]
    assert np.unique(after).size == 2 * 2**bits + 1  # as many below 0, and 0 itself
    np.testing.assert_allclose(after, np.round(ramp * 2**bits) / 2**bits, atol=1e-6)


@pytest.mark.parametrize(("semitones", "ratio"), [(12, 2), (-12, 0.5), (7, 2 ** (7 / 12))])
@pytest.mark.parametrize("rate", [24_000, 44_100])
def test_pitch_shift_by_an_octave_doubles_the_frequency(semitones, ratio, rate):
    """The mean frequency, as the tone warbles by some 10 Hz: its power is in sidebands."""
    after = wet("PitchShift", tone(1_000, rate, 2), rate, semitones=semitones)[0, rate // 2 : 3 * rate // 2]
    power = np.abs(np.fft.rfft(after * np.hanning(rate))) ** 2  # bins of 1 Hz
    assert np.sum(power * np.arange(power.size)) / np.sum(power) == pytest.approx(1_000 * ratio, rel=0.015)
    assert level_db(after) == pytest.approx(level_db(tone(440, rate)), abs=1.5)


@settings(deadline=None, max_examples=30)
@given(drive=st.floats(0, 50))
def test_distortion_is_the_hyperbolic_tangent_of_the_driven_sound(drive):
    dry = noise(16, 2, 500)
    np.testing.assert_allclose(wet("Distortion", dry, drive_db=drive), np.tanh(dry * 10 ** (drive / 20)), atol=1e-5)


@settings(deadline=None, max_examples=30)
@given(threshold=st.floats(-40, 0))
def test_clipping_clips_at_its_threshold(threshold):
    dry, limit = noise(17, 2, 500), 10 ** (threshold / 20)
    np.testing.assert_allclose(wet("Clipping", dry, threshold_db=threshold), np.clip(dry, -limit, limit), atol=1e-6)


def test_invert_turns_the_sign():
    dry = noise(18, 2, 500)
    assert np.array_equal(load("Invert").render(dry, [], 24_000), -dry)


@pytest.mark.parametrize("rate", [8_000, 44_100])
@pytest.mark.parametrize("decay", [0.1, 1.0])
def test_convolution_answers_a_click_with_its_impulse_response_which_falls_by_60_db(rate, decay):
    samples = int(rate * decay)
    answer = wet("Convolution", click(2 * samples), rate, decay_s=decay, mix=1)[0].astype(float)
    impulse = builtin.impulse_response(decay, rate)
    scaled = impulse / np.linalg.norm(impulse) / 8
    np.testing.assert_allclose(answer[: scaled.size], scaled, atol=1e-5)
    assert np.abs(answer[scaled.size + 1 :]).max() < 1e-6
    start, end = level_db(impulse[: samples // 20]), level_db(impulse[-samples // 20 :])
    assert start - end == pytest.approx(60 * 0.95, abs=3)


def test_convolution_mixes_the_dry_sound_in():
    dry = noise(19, 1, 5_000)
    np.testing.assert_allclose(wet("Convolution", dry, mix=0), dry, atol=1e-6)
    both = [wet("Convolution", dry, mix=mix) for mix in (0, 0.5, 1)]
    np.testing.assert_allclose(both[1], (both[0] + both[2]) / 2, atol=0.002)


def test_resample_removes_what_is_above_half_its_rate():
    sound = tone(500, 24_000) + tone(5_000, 24_000)
    after = wet("Resample", sound, target_sample_rate=4_000)[0, 2_000:-2_000]
    spectrum = 20 * np.log10(np.abs(np.fft.rfft(after * np.hanning(after.size))) + 1e-9)
    hz = np.fft.rfftfreq(after.size, 1 / 24_000)
    loudest = {centre: spectrum[np.abs(hz - centre) < 20].max() for centre in (500, 5_000)}
    assert loudest[500] - loudest[5_000] > 40


def test_a_ladder_filter_does_what_its_mode_says():
    low, high = tone(100, 24_000), tone(6_000, 24_000)

    def loss_db(sound, mode):
        after = wet("LadderFilter", sound, cutoff_hz=800, resonance=0, drive=1, mode=mode)
        return level_db(sound[6_000:]) - level_db(after[0, 6_000:])

    assert loss_db(low, "LPF12") < 3 and loss_db(high, "LPF12") > 20
    assert loss_db(high, "HPF12") < 3 and loss_db(low, "HPF12") > 20
    assert loss_db(high, "LPF24") > loss_db(high, "LPF12") + 15


@pytest.mark.parametrize("name", ["Chorus", "Phaser"])
def test_a_modulation_without_mix_is_the_dry_sound(name):
    dry = noise(20, 2, 5_000)
    np.testing.assert_allclose(wet(name, dry, mix=0), dry, atol=1e-6)


def test_reverb_goes_on_after_the_sound_longer_in_a_larger_room():
    burst = np.pad(noise(21, 2, 2_000), ((0, 0), (0, 48_000)))

    def tail_db(room_size):
        return level_db(wet("Reverb", burst, room_size=room_size, wet_level=1, damping=0)[:, 24_000:])

    assert tail_db(1) > tail_db(0.5) + 6 > tail_db(0.1) + 12


def test_frozen_reverb_is_dry():
    dry = noise(22, 2, 3_000)
    once = wet("Reverb", dry, dry_level=0.5, freeze_mode="on")
    np.testing.assert_allclose(once / dry, np.full_like(dry, (once / dry)[0, 0]), rtol=1e-3)


# ---- codecs


def test_mp3_takes_its_nine_rates_and_refuses_any_other_before_it_renders():
    dry, effect = noise(23, 2, 2_000), load("MP3Compressor")
    for rate in builtin.MP3_RATES_HZ:
        assert effect.render(dry, {}, rate).shape == dry.shape
    for rate in (7_999, 24_000.5, 96_000, 192_000):
        with pytest.raises(ValueError, match=rf"^sample_rate_hz is {rate}: .* takes one of 8000, 11025, .*, 48000$"):
            effect.render(dry, {}, rate)


def test_mp3_is_the_worse_the_higher_its_quality_number_is():
    dry = np.convolve(noise(24, 20_000), [0.5, 0.5], "same")
    errors = [level_db(wet("MP3Compressor", dry, 44_100, vbr_quality=quality)[0] - dry) for quality in (0, 5, 9.9)]
    assert errors == sorted(errors) and errors[2] > errors[0] + 6


def test_gsm_is_mono_at_8_khz_whatever_comes_in():
    dry = noise(25, 2, 24_000)
    after = load("GSMFullRateCompressor").render(dry, {}, 24_000)
    assert np.array_equal(after[0], after[1])
    np.testing.assert_array_equal(after[:1], load("GSMFullRateCompressor").render(dry.mean(0), {}, 24_000))
    spectrum = np.abs(np.fft.rfft(after[0]))  # bins of 1 Hz
    assert np.sum(spectrum[5_000:] ** 2) < 0.05 * np.sum(spectrum[:4_000] ** 2)
