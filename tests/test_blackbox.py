"""Gradients of a loss of sound: against analytic ones, finite differences, auraloss, and the rendered pairs."""

import itertools
import threading

import auraloss
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st
from threadpoolctl import threadpool_info, threadpool_limits

from vaefx_lib import audio, blackbox, effects, sound_loss

RATE = 24_000
OVERDRIVE, DELAY = effects.load("mda:Overdrive"), effects.load("mda:Delay")


def noise(n=6000, *, seed=0, level=0.1):
    return (level * np.random.default_rng(seed).normal(size=n)).astype(np.float32)


def effect_of(process):
    return effects.Effect("a test", (effects.Param("amount", "", 0, 1, 0.5),), process)


# --- wet --------------------------------------------------------------------------------------------------------------
def test_wet_of_a_rendered_pair_is_its_wet_clip_bit_for_bit(tiny_train):
    assert set(tiny_train.effect_names) == {"mda:Overdrive", "mda:Delay"}
    for (dry, wet), row in zip(tiny_train, tiny_train.rows, strict=True):
        again = blackbox.wet(effects.load(row["effect"]), dry, row["settings"], tiny_train.sample_rate_hz)
        assert again.dtype == np.float32 and np.array_equal(again, wet)


def test_wet_has_the_peak_that_was_asked_for_and_leaves_dry_as_it_was():
    dry = noise()
    kept = dry.copy()
    for effect in (OVERDRIVE, DELAY, effect_of(lambda sound, rate, amount: sound)):
        sound = blackbox.wet(effect, dry, effect.default_settings, RATE, peak_dbfs=-20)
        assert np.abs(sound).max() == pytest.approx(0.1, rel=1e-6)
        assert sound.shape == dry.shape
    assert np.array_equal(dry, kept)


def test_wet_that_is_silent_is_not_lifted():
    nothing = blackbox.wet(DELAY, noise(), {"output": 0}, RATE)
    assert not nothing.any() and nothing.shape == (6000,)
    hum = effect_of(lambda sound, rate, amount: np.full((1, sound.shape[1]), 1e-3, np.float32))
    assert (blackbox.wet(hum, noise(), [0.5], RATE) == np.float32(1e-3)).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, 3e38])  # the last one overflows in the mean of two channels
def test_wet_that_is_not_finite_is_a_failure_of_the_effect(value):
    broken = effect_of(lambda sound, rate, amount: np.full((2, sound.shape[1]), value, np.float32))
    with pytest.raises(effects.EffectFailed, match=r"a test gave NaN or infinity at the settings \[0.5\]"):
        blackbox.wet(broken, noise(), [0.5], RATE)


# --- sound_loss -------------------------------------------------------------------------------------------------------
def reference(target, sound, l1=1.0):
    """By auraloss and torch."""
    mrstft = auraloss.freq.MultiResolutionSTFTLoss()
    with torch.inference_mode():
        distance = mrstft(*(torch.from_numpy(x)[None, None] for x in (sound, target))).item()
    return distance + l1 * float(np.abs(sound - target).mean())


@limits(max_examples=25, deadline=None)
@given(
    n=st.integers(2048, 9000),
    seed=st.integers(0, 99),
    level=st.sampled_from([1e-5, 0.01, 1.0, 1e4]),
    mixed=st.floats(0, 1),
    l1=st.sampled_from([0.0, 1.0, 100.0]),
)
def test_sound_loss_is_that_of_auraloss_plus_the_mean_absolute_error(n, seed, level, mixed, l1):
    target = noise(n, seed=seed)
    sound = (mixed * target + (1 - mixed) * level * noise(n, seed=seed + 100)).astype(np.float32)
    loss = sound_loss.to_target(target, l1=l1)(sound)
    assert loss == pytest.approx(reference(target, sound, l1), rel=1e-4, abs=1e-6)


def test_sound_loss_of_speech_is_that_of_auraloss(tiny_train):
    for dry, wet in list(tiny_train)[:6]:
        assert sound_loss.to_target(wet)(dry) == pytest.approx(reference(np.array(wet), np.array(dry)), rel=1e-4)


@limits(max_examples=20, deadline=None)
@given(n=st.integers(2048, 9000), seed=st.integers(0, 99))
def test_sound_loss_is_exactly_zero_for_the_target_alone(n, seed):
    target = noise(n, seed=seed)
    loss = sound_loss.to_target(target)
    assert loss(target.copy()) == 0
    other = target.copy()
    other[n // 2] += 1e-4
    assert loss(other) > 0


def test_sound_loss_of_silence_is_finite_and_worse_than_that_of_any_clip(tiny_train):
    wet = [pair[1] for pair in tiny_train]
    loss = sound_loss.to_target(wet[0])
    of_silence = loss(np.zeros_like(wet[0]))
    assert max(map(loss, wet)) < of_silence < 20
    assert loss(np.full_like(wet[0], np.nan)) != of_silence  # NaN is not taken for silence


def test_sound_loss_gives_the_same_bits_in_many_threads():
    sounds = [noise(seed=seed) for seed in range(40)]
    loss = sound_loss.to_target(sounds[0])
    assert blackbox.in_threads(loss, sounds, workers=4) == list(map(loss, sounds))


@pytest.mark.parametrize("workers", [1, 2])
def test_while_threads_work_matrix_products_have_none_of_their_own(workers):
    def products(_=None):
        return [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]

    with threadpool_limits(2, user_api="blas"):
        assert {count for found in blackbox.in_threads(products, range(4), workers=workers) for count in found} == {1}
        assert set(products()) == {2}


def test_sounds_that_sound_loss_cannot_compare_are_refused():
    with pytest.raises(ValueError, match="the target is silent"):
        sound_loss.to_target(noise(level=1e-3))
    with pytest.raises(audio.AudioError, match="the target has 2047 samples: it must hold at least 2048"):
        sound_loss.to_target(noise(2047))
    with pytest.raises(ValueError, match=r"the target has the shape \(1, 6000\): it must be \(samples,\)"):
        sound_loss.to_target(noise()[None])
    with pytest.raises(ValueError, match=r"the sound has the shape \(5999,\): it must be that of the target \(6000,\)"):
        sound_loss.to_target(noise())(noise(5999))


# --- settings_loss ----------------------------------------------------------------------------------------------------
def test_true_settings_have_a_loss_of_exactly_zero_and_others_do_not(tiny_train):
    for (dry, wet), row in zip(list(tiny_train)[:4], tiny_train.rows):
        loss = blackbox.settings_loss(effects.load(row["effect"]), dry, wet, tiny_train.sample_rate_hz)
        assert loss(np.array(row["settings"])) == 0
        assert loss(0.9 * np.array(row["settings"])) > 0.01


def test_settings_at_which_an_effect_fails_count_as_silence():
    def process(sound, rate, amount):
        if amount > 0.8:
            raise effects.EffectFailed("it crashed")
        return sound * np.float32(np.nan if amount > 0.5 else 1)

    dry = noise()
    loss = blackbox.settings_loss(effect_of(process), dry, dry, RATE)
    of_silence = sound_loss.to_target(dry)(np.zeros_like(dry))
    assert loss(np.array([0.9])) == loss(np.array([0.6])) == of_silence
    assert loss(np.array([0.1])) < of_silence
    with pytest.raises(ValueError, match="must be a number in"):  # a wrong call is not a bad candidate
        loss(np.array([1.1]))


# --- spsa -------------------------------------------------------------------------------------------------------------
def tensor(*rows):
    return torch.tensor(rows, dtype=torch.float64, requires_grad=True)


def gradient_of(objective, settings, **options):
    """The gradient that `spsa` gives, float64 (batch, n_params)."""
    settings = settings.detach().clone().requires_grad_()
    loss = blackbox.spsa(objective, settings, **({"step": 0.1, "directions": 4, "seed": 0, "workers": 1} | options))
    return torch.autograd.grad(loss.sum(), settings)[0].numpy()


def quadratic(n, *, seed=0):
    """A loss with curvature in all directions, and its gradient."""
    rng = np.random.default_rng(seed)
    A, b = rng.normal(size=(n, n)), rng.normal(size=n)
    return (lambda row, s: float(s @ A @ s + b @ s)), (lambda s: (A + A.T) @ s + b)


@limits(max_examples=40, deadline=None)
@given(n=st.integers(1, 9), seed=st.integers(0, 99), step=st.floats(0.01, 0.1), repeats=st.integers(1, 3))
def test_a_whole_set_of_directions_gives_the_gradient_of_a_quadratic(n, seed, step, repeats):
    objective, slope = quadratic(n, seed=seed)
    settings = torch.from_numpy(np.random.default_rng(seed).uniform(0.1, 0.9, (2, n)))
    directions = repeats * next(m for m in (1, 2, 4, 8, 16) if m >= n)
    found = gradient_of(objective, settings, step=step, directions=directions, seed=seed)
    assert found == pytest.approx(np.stack([slope(s) for s in settings.numpy()]), abs=1e-9)


@pytest.mark.parametrize("directions", [1, 3])
def test_few_directions_give_it_in_the_mean(directions):
    objective, slope = quadratic(3)
    settings = tensor([0.4, 0.5, 0.3])
    found = [gradient_of(objective, settings, directions=directions, seed=seed)[0] for seed in range(1000)]
    error = np.std(found, axis=0) / np.sqrt(len(found))
    assert (error > 0.01).all()  # a single estimate is noise
    assert (np.abs(np.mean(found, axis=0) - slope(settings.detach().numpy()[0])) < 4 * error).all()


def test_every_sign_pattern_is_as_likely_as_another():
    signs = []

    def objective(row, settings):
        signs.append(tuple(np.sign(settings - 0.5)))
        return 0.0

    for seed in range(1600):
        blackbox.spsa(objective, tensor([0.5] * 3), step=0.1, directions=1, seed=seed, workers=1)
    counts = [signs[::2].count(pattern) for pattern in itertools.product([-1, 1], repeat=3)]
    assert sum(counts) == 1600 and min(counts) > 150 and max(counts) < 250


@limits(max_examples=40, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=3, max_size=3), st.floats(0.001, 0.5), st.integers(0, 99))
def test_at_the_border_it_is_the_gradient_in_the_middle_of_the_points(where, step, seed):
    objective, slope = quadratic(3)
    seen = []

    def watched(row, settings):
        seen.append(settings)
        return objective(row, settings)

    found = gradient_of(watched, tensor(where), step=step, seed=seed)[0]
    assert np.min(seen) >= 0 and np.max(seen) <= 1
    low, high = np.clip(np.array(where) - step, 0, 1), np.clip(np.array(where) + step, 0, 1)
    assert np.min(seen, axis=0) == pytest.approx(low) and np.max(seen, axis=0) == pytest.approx(high)
    assert found == pytest.approx(slope((low + high) / 2), abs=1e-6)


def test_the_value_is_the_mean_of_the_losses_seen_and_the_centre_is_not_rendered():
    seen = []
    lock = threading.Lock()

    def objective(row, settings):
        loss = float(np.square(settings).sum() + row)
        with lock:
            seen.append((row, loss, settings))
        return loss

    settings = tensor([0.5, 0.2], [0.3, 0.9])
    loss = blackbox.spsa(objective, settings, step=0.05, directions=3, seed=0, workers=2)
    assert len(seen) == 2 * 3 * 2
    assert loss.tolist() == pytest.approx([np.mean([value for r, value, _ in seen if r == row]) for row in (0, 1)])
    assert all(np.abs(s - settings[row].detach().numpy()) == pytest.approx([0.05, 0.05]) for row, _, s in seen)


@pytest.mark.parametrize(("batch", "directions"), [(1, 1), (3, 5)])
def test_an_effect_is_called_twice_for_each_direction_and_row(batch, directions):
    calls = itertools.count()

    def counted(*args, **settings):
        next(calls)
        return OVERDRIVE.process(*args, **settings)

    effect = effects.Effect("counted", OVERDRIVE.params, counted)
    loss = blackbox.settings_loss(effect, noise(), noise(seed=1), RATE)
    settings = torch.full((batch, 3), 0.5, requires_grad=True)
    found = blackbox.spsa(lambda row, s: loss(s), settings, step=0.1, directions=directions, seed=0)
    found.mean().backward()
    assert next(calls) == 2 * directions * batch
    assert found.shape == (batch,) and found.dtype == settings.grad.dtype == torch.float32


def test_one_row_of_one_setting_has_its_central_difference():
    loss = blackbox.settings_loss(effect_of(lambda x, rate, amount: np.tanh(9 * amount * x)), noise(), noise(), RATE)
    found = gradient_of(lambda row, s: loss(s), tensor([0.5]), step=0.1, directions=1)
    assert found == pytest.approx((loss(np.array([0.6])) - loss(np.array([0.4]))) / 0.2)
    assert np.abs(found) > 0.1


def test_the_seed_alone_decides_whatever_the_number_of_threads():
    losses = [blackbox.settings_loss(effect, noise(), noise(seed=1), RATE) for effect in (OVERDRIVE, DELAY)]
    settings, mask = torch.full((2, 6), 0.4), torch.ones(2, 6, dtype=torch.bool)
    mask[0, 3:] = False
    one, two, again, other = (
        gradient_of(lambda row, s: losses[row](s), settings, mask=mask, seed=seed, workers=workers)
        for seed, workers in ((1, 1), (1, 2), (1, 2), (2, 2))
    )
    assert np.array_equal(one, two) and np.array_equal(two, again)
    assert not np.array_equal(one, other)


def test_settings_outside_the_mask_are_not_seen_and_have_no_gradient():
    objective, slope = quadratic(3)
    mask = torch.tensor([[True, True, True, False, False], [True, False, True, False, True]])
    settings = torch.full((2, 5), 0.3, dtype=torch.float64)
    settings[0, 3:] = 0.9
    found = gradient_of(objective, settings, mask=mask)  # an objective of three settings: others would not fit
    for row in (0, 1):
        assert found[row][mask[row]] == pytest.approx(slope(np.full(3, 0.3)), abs=1e-9)
    assert (found[~mask.numpy()] == 0).all()


def test_a_network_before_it_gets_the_gradient_by_the_chain_rule():
    objective, slope = quadratic(3)
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(5, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3), torch.nn.Sigmoid())
    network.double()
    weights, x = tuple(network.parameters()), torch.randn(4, 5, dtype=torch.float64)
    importance = torch.tensor([1.0, 2.0, 0.0, -1.0], dtype=torch.float64)
    found = blackbox.spsa(objective, network(x), step=0.02, directions=4, seed=0)
    settings = network(x)
    true = torch.from_numpy(np.stack([slope(s) for s in settings.detach().numpy()]))
    expected = torch.autograd.grad((settings * true * importance[:, None]).sum(), weights)
    for a, b in zip(torch.autograd.grad((found * importance).sum(), weights), expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("workers", [1, 2])
def test_what_goes_wrong_in_a_thread_is_told_and_the_next_call_works(workers):
    def objective(row, settings):
        if row == 1:
            raise effects.EffectFailed("the plug-in crashed")
        return 0.0

    options = {"step": 0.1, "directions": 2, "seed": 0, "workers": workers}
    with pytest.raises(effects.EffectFailed, match="the plug-in crashed"):
        blackbox.spsa(objective, tensor([0.5], [0.5], [0.5]), **options)
    assert blackbox.spsa(objective, tensor([0.5]), **options).tolist() == [0]
    with pytest.raises(ValueError, match=r"the loss of row 1 is nan at the settings \[0\.\d+\]: it must be finite"):
        blackbox.spsa(lambda row, s: [0.0, np.nan][row], tensor([0.5], [0.5]), **options)


def test_arguments_that_make_no_sense_are_refused():
    options = {"step": 0.1, "directions": 1, "seed": 0}

    def refused(settings=((0.5, 0.5),), **changed):
        return blackbox.spsa(lambda row, s: 0.0, torch.tensor(settings), **(options | changed))

    with pytest.raises(ValueError, match=r"setting 1 of row 0 is 1.5: it must be in \[0, 1\]"):
        refused(((0.5, 1.5),))
    with pytest.raises(ValueError, match="setting 0 of row 1 is nan"):
        refused(((0.5,), (float("nan"),)))
    with pytest.raises(ValueError, match=r"settings have the shape \(2,\): it must be \(batch, n_params\)"):
        refused((0.5, 0.5))
    for step in (0, -0.1, 0.6, float("nan")):
        with pytest.raises(ValueError, match=rf"step is {step}: it must be in \(0, 0.5\]"):
            refused(step=step)
    with pytest.raises(ValueError, match="directions is 0 and workers None: each must be at least 1"):
        refused(directions=0)
    with pytest.raises(ValueError, match=r"the mask is bool \(1, 1\): it must be bool \(1, 2\)"):
        refused(mask=torch.ones(1, 1, dtype=torch.bool))


# --- on real effects and real speech ----------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["mda:Overdrive", "mda:Delay"])
def test_many_directions_agree_with_central_differences(tiny_train, name):
    effect, step = effects.load(name), 0.02
    dry, wet = tiny_train[list(tiny_train.effect_names).index(name)]
    loss = blackbox.settings_loss(effect, dry, wet, tiny_train.sample_rate_hz)
    n = len(effect.params)
    for centre in np.random.default_rng(0).uniform(0.25, 0.75, (2, n)):
        expected = [(loss(centre + step * unit) - loss(centre - step * unit)) / (2 * step) for unit in np.eye(n)]
        options = {"step": step, "directions": 256, "seed": 0, "workers": 2}
        found = gradient_of(lambda row, s: loss(s), torch.from_numpy(centre[None]), **options)[0]
        cosine = found @ expected / np.linalg.norm(found) / np.linalg.norm(expected)
        assert cosine >= 0.95, f"{cosine} at {centre}: {found}, not {expected}"


def test_steps_of_adam_bring_overdrive_to_the_true_settings(tiny_train):
    dry = tiny_train[0][0]
    truth = np.array([0.7, 0.3, 0.5])  # the last one, output, is levelled away
    loss = blackbox.settings_loss(OVERDRIVE, dry, blackbox.wet(OVERDRIVE, dry, truth, RATE), RATE)
    logits = torch.zeros(1, 3, requires_grad=True)
    optimiser = torch.optim.Adam([logits], lr=0.2)
    for step in range(40):
        optimiser.zero_grad()
        settings = torch.sigmoid(logits)
        blackbox.spsa(lambda row, s: loss(s), settings, step=0.02, directions=2, seed=step).sum().backward()
        optimiser.step()
    found = torch.sigmoid(logits).detach().numpy()[0]
    assert np.abs(found - truth)[:2].max() < 0.05
    assert loss(found.astype(float)) < 0.25 * loss(np.full(3, 0.5))
