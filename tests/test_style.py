"""Measures of a sound that ignore its words, and the distance that they give: levels, echoes, units, invariants."""

import numpy as np
import pytest

from vaefx_lib import audio, blackbox, critic, effects, references, style, style_space
from vaefx_lib.effects.mda import delay_samples

RATE_HZ = style.RATE_HZ
OVERDRIVE, DELAY = effects.load("mda:Overdrive"), effects.load("mda:Delay")


def noise(n=2 * RATE_HZ, *, seed=0):
    return (0.1 * np.random.default_rng(seed).normal(size=n)).astype(np.float32)


@pytest.fixture(scope="module")
def passages(controlled):
    """Of speakers that the controller has not heard, at the level of rendered pairs."""
    return references.draw_dry(controlled, "test", 8, seed=5).sounds


@pytest.fixture(scope="module")
def space():
    return critic.load().space


def through(effect, passages, settings):
    return [style.measure(blackbox.wet(effect, x, settings, RATE_HZ)) for x in passages]


# --- measures ---------------------------------------------------------------------------------------------------------
def test_a_sound_measures_the_same_at_another_level(passages):
    one = style.measure(passages[0])
    for gain in (2**-9, 4):  # a power of two rounds nothing: not a bit may change
        other = style.measure(np.float32(gain) * passages[0])
        assert np.array_equal(other.numbers, one.numbers) and np.array_equal(other.cepstrum, one.cepstrum)
    other = style.measure(np.float32(0.0123) * passages[0])
    np.testing.assert_allclose(other.numbers, one.numbers, rtol=1e-3, atol=1e-3)


def test_measures_are_finite_and_as_many_for_any_length_and_any_sound():
    sounds = (
        *(noise(n) for n in (RATE_HZ // 2, 33_333, 10 * RATE_HZ)),
        np.sin(np.arange(RATE_HZ, dtype=np.float32)),
        np.eye(1, RATE_HZ, 7000, dtype=np.float32)[0],
        np.ones(RATE_HZ, np.float32),
        noise() * (np.arange(2 * RATE_HZ) < 30_000),  # then nothing
    )
    found = [style.measure(sound) for sound in sounds]
    assert {(s.numbers.shape, s.cepstrum.shape) for s in found} == {(found[0].numbers.shape, (style.LONGEST,))}
    for s in found:
        assert np.isfinite(s.numbers).all() and np.isfinite(s.cepstrum).all()
        assert s.numbers.dtype == s.cepstrum.dtype == np.float32


def test_sound_in_another_order_measures_nearly_the_same_and_distorted_sound_does_not(passages, space):
    """Long-term: what comes first makes no difference."""
    for x in passages[1:]:
        distance = space.target(style.measure(x))
        turned = distance(style.measure(np.roll(x, len(x) // 2)))
        assert 1.5 * turned < distance(style.measure(blackbox.wet(OVERDRIVE, x, [0.7, 0.3, 0.5], RATE_HZ)))


@pytest.mark.parametrize("lag", [500, 2400, 9000, 20_000])
@pytest.mark.parametrize("gain", [0.6, -0.6])
def test_an_echo_is_the_peak_of_the_cepstrum_at_its_lag(passages, lag, gain):
    """log |1 + g exp(-j w d)| = g cos(w d) - g^2 / 2 cos(2 w d) ...: g at the lag d of the cepstrum of the power."""
    dry = passages[0]
    wet = dry.copy()
    wet[lag:] += np.float32(gain) * dry[:-lag]
    change = style.measure(wet).cepstrum - style.measure(dry).cepstrum
    change[: style_space.FIRST] = 0
    assert np.argmax(np.abs(change)) == lag
    assert change[lag] == pytest.approx(gain, rel=0.25)


def test_an_echo_raises_the_measures_of_its_own_range_of_lags(passages):
    lag, edges = 7000, style.LAGS
    dry = passages[1]
    wet = dry.copy()
    wet[lag:] += np.float32(0.7) * dry[:-lag]
    highest, lowest = np.split(
        (style.measure(wet).numbers - style.measure(dry).numbers)[-2 * len(edges) :], 2
    )  # the last of the measures
    place = np.searchsorted(edges, lag, side="right") - 1
    assert np.argmax(highest) == place and highest[place] > 10 * np.median(np.abs(highest))
    assert lowest[place] < highest[place] / 5


@pytest.mark.parametrize(
    "sound, message",
    [
        (noise(RATE_HZ // 2 - 1), "samples"),
        (np.zeros(RATE_HZ, np.float32), "the sound is all zeros"),
        (np.stack([noise(), noise()]), "the sound has 2 channels: style is measured on one"),
        (np.full(RATE_HZ, np.nan, np.float32), "NaN"),
        (np.full(RATE_HZ, np.inf, np.float32), "infinity"),
    ],
)
def test_what_has_no_style_is_refused(sound, message):
    with pytest.raises(audio.AudioError, match=message):
        style.measure(sound)


# --- distance ---------------------------------------------------------------------------------------------------------
def test_a_sound_is_at_distance_0_from_itself_and_from_nothing_else(passages, space):
    found = through(DELAY, passages, [0.4, 0.3, 0.5, 0.5, 0.9, 0.5])
    for i, one in enumerate(found):
        assert space.distance(one, one) == 0
        assert min(space.distance(one, other) for j, other in enumerate(found) if j != i) > 0.1


@pytest.mark.parametrize("settings", [[0.7, 0.3, 0.5], [0.2, 0.8, 0.5]])
def test_other_words_of_one_style_are_nearer_than_other_words_of_another(passages, space, settings):
    found, dry = through(OVERDRIVE, passages, settings), [style.measure(x) for x in passages]
    pairs = [(i, j) for i in range(len(found)) for j in range(len(found)) if i != j]
    same = [space.distance(found[i], found[j]) for i, j in pairs]
    other = [space.distance(found[i], dry[j]) for i, j in pairs]
    assert np.mean(np.array(other) > same) > 0.9  # pair by pair, of the same words


def test_speech_that_repeats_itself_is_not_taken_for_an_echo(passages, space):
    """The embedded speech does so, at lags of whole frames of its synthesiser; no effect moves these."""

    def without_echoes(s):
        return style.Style(s.numbers, np.zeros_like(s.cepstrum))

    dry = [style.measure(x) for x in passages]
    echoing = through(DELAY, passages, [0.6, 0.3, 0.5, 0.5, 0.9, 0.5])
    for found, is_echo in ((dry, False), (echoing, True)):
        whole = [space.distance(found[i - 1], found[i]) for i in range(len(found))]
        rest = [space.distance(without_echoes(found[i - 1]), without_echoes(found[i])) for i in range(len(found))]
        assert (np.median(np.array(whole) - rest) > 0.05) == is_echo
        norms = [np.linalg.norm(space.echoes(s.cepstrum)) for s in found]
        assert (np.median(norms) > 2 * style_space.REPETITION) == is_echo


def test_an_echo_at_another_time_is_another_style_though_the_bands_are_alike(passages, space):
    settings = {"l_delay": 0.6, "r_delay": 0.1, "feedback": 0.5, "fb_tone": 0.5, "fx_mix": 1.0, "output": 0.5}
    later = settings | {"l_delay": 0.75}
    assert delay_samples(0.6, 0.1)[0] < delay_samples(0.75, 0.1)[0]
    as_wanted, elsewhere = through(DELAY, passages, settings), through(DELAY, passages, later)
    for i, wanted in enumerate(as_wanted):
        j = (i + 1) % len(as_wanted)
        assert space.distance(wanted, as_wanted[j]) < space.distance(wanted, elsewhere[j])


def test_the_distance_as_a_function_is_the_distance(passages, space):
    wanted, other = through(DELAY, passages[:2], [0.5, 0.5, 0.5, 0.5, 0.5, 0.5])
    assert space.target(wanted)(other) == space.distance(wanted, other) > 0
    kept = other.cepstrum.copy()
    space.target(wanted)(other)
    assert np.array_equal(other.cepstrum, kept)
    parts = space.compare(wanted)(other)
    assert parts.shape == (5,) and parts.dtype == np.float32
    assert style_space.total(parts) == space.distance(wanted, other)
    np.testing.assert_array_equal(style_space.total(np.stack([parts, 0 * parts])), [style_space.total(parts), 0])


def test_the_parts_of_the_distance_are_shares_but_for_the_first(passages, space):
    """How clear the echoes are and how unlike: 0 to 1, all the same to itself, and coarser where more may be missed."""
    dry = [style.measure(x) for x in passages[:3]]
    echoing = through(DELAY, passages[:3], [0.6, 0.3, 0.5, 0.5, 0.9, 0.5])
    for wanted, clear in ((echoing[0], True), (dry[0], False)):
        itself, *others = (space.compare(wanted)(one) for one in (wanted, *dry[1:], *echoing[1:]))
        np.testing.assert_allclose(itself[[0, 2, 3, 4]], 0, atol=1e-6)
        for parts in others:
            assert parts[0] > 0 and (parts[1] > 0.5) == clear
            assert ((parts[1:] >= 0) & (parts[1:] <= 1.5)).all()


def test_the_style_of_several_passages_is_nearer_to_the_next_one_than_that_of_a_single_one(passages, space):
    found = through(OVERDRIVE, passages, [0.6, 0.4, 0.5])
    several = [space.distance(style.mean(found[:i] + found[i + 1 :]), found[i]) for i in range(len(found))]
    single = [space.distance(found[i - 1], found[i]) for i in range(len(found))]
    assert np.mean(several) < np.mean(single)


# --- fit --------------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def drawn():
    """Many classes of few measures, with a within-class covariance that is known."""
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(6, 6)) * 10.0 ** np.arange(-2, 4)
    classes = rng.normal(size=(3000, 1, 6)) * 50 + rng.normal(size=(3000, 4, 6)) @ mixing
    return classes, mixing, rng.normal(size=(40, style.LONGEST)).astype(np.float32)


def test_whitened_measures_differ_within_a_class_by_1_and_independently(drawn):
    classes, mixing, cepstra = drawn
    space = style_space.fit(classes, cepstra)
    np.testing.assert_allclose(space.whitening.T @ (mixing.T @ mixing) @ space.whitening, np.eye(6), atol=0.1)
    one, other = (style.Style(x, np.zeros(style.LONGEST, np.float32)) for x in classes[:2000, :2].swapaxes(0, 1))
    flat = [
        space.distance(style.Style(a, one.cepstrum), style.Style(b, one.cepstrum))
        for a, b in zip(one.numbers, other.numbers)
    ]
    assert np.mean(flat) == pytest.approx(1, abs=0.05)


def test_what_separates_the_classes_does_not_count(drawn):
    classes, _, cepstra = drawn
    far = classes + 1e4 * np.random.default_rng(1).normal(size=(len(classes), 1, 6))
    np.testing.assert_allclose(
        *(np.abs(style_space.fit(given, cepstra).whitening) for given in (far, classes)), rtol=0.02, atol=1e-4
    )


def test_a_measure_that_never_changes_and_fewer_passages_than_measures_do_no_harm(drawn):
    _, _, cepstra = drawn
    classes = np.random.default_rng(2).normal(size=(3, 2, 40))
    classes[..., 7] = 3
    assert np.isfinite(style_space.fit(classes, cepstra).whitening).all()


def test_the_deviation_of_the_cepstrum_is_measured_at_each_lag(drawn):
    classes, _, cepstra = drawn
    shape = np.linspace(3, 0.5, style.LONGEST, dtype=np.float32)
    np.testing.assert_allclose(style_space.fit(classes, cepstra * shape).echo_deviation, shape, rtol=0.1)


@pytest.mark.parametrize(
    "classes, cepstra",
    [
        ((3, 1, 5), (4, style.LONGEST)),
        ((3, 5), (4, style.LONGEST)),
        ((3, 2, 5), (style.LONGEST,)),
        ((3, 2, 5), (4, 9)),
    ],
)
def test_arrays_of_another_shape_are_refused(classes, cepstra):
    with pytest.raises(ValueError, match="at least 2 members"):
        style_space.fit(np.zeros(classes), np.zeros(cepstra))
