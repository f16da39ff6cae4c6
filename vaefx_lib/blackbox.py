"""Gradients through an effect that has none: render it, measure the sound, and difference the measurements (SPSA).

Nothing is known of an effect but what it does to a sound. What is differentiated is the *loss itself* as a function of
the settings, at two points a finite step apart, and never the waveform: moved by one sample, an echo is another
waveform but hardly another sound, so a derivative of samples with respect to a delay time is noise.
"""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import scipy.linalg
import torch
from threadpoolctl import ThreadpoolController
from torch import Tensor

from vaefx_lib import audio, effects, sound_loss

KEPT_BYTES = 31 * 2**20  # of an array that glibc will keep when it is freed


def wet(
    effect: effects.Effect, dry: np.ndarray, settings, sample_rate_hz: float, *, peak_dbfs: float = -12.0
) -> np.ndarray:
    """Dry sound through an effect, mean over its channels, at one peak level: how predictions and targets are made.

    It is the rule by which pairs are rendered: with the dry clip and the settings of a rendered pair, the result is
    its wet clip, bit for bit. Silence (`audio.is_silent`) stays as it is, at its own level.

    Parameters
    ----------
    effect : Effect
    dry : array, float32, shape (samples,)
        Already at its level.
    settings : array, shape (n_params,), or mapping
        As `Effect.render` takes them.
    sample_rate_hz : float
    peak_dbfs : float

    Returns
    -------
    np.ndarray, float32, shape (samples,)

    Raises
    ------
    EffectFailed
        If the effect fails, or gives NaN or infinity. Both say that *these settings* are of no use, and a search or a
        training step can go on with them as the worst there are; a ValueError says that the call is wrong.
    ValueError
        As `Effect.render` raises it.

    Used in `05_controller_training`.
    """
    sound = effect.render(dry, settings, sample_rate_hz)  # (channels, samples)
    if len(sound) == 1:
        mono = sound[0].copy()
    else:
        with np.errstate(over="ignore", invalid="ignore"):  # what comes of it is not finite
            mono = sound[0] + sound[1]
            mono *= np.float32(0.5)
    peak = float(max(mono.max(), -mono.min()))
    if not math.isfinite(peak):
        raise effects.EffectFailed(f"{effect.name} gave NaN or infinity at the settings {settings}")
    if not audio.is_silent(mono):
        mono *= np.float32(10 ** (peak_dbfs / 20) / peak)
    return mono


def settings_loss(
    effect: effects.Effect, dry: np.ndarray, target: np.ndarray, sample_rate_hz: float, *, peak_dbfs: float = -12.0
) -> Callable[[np.ndarray], float]:
    """How far dry sound through an effect is from a target, as a function of the settings: an objective for `spsa`.

    Parameters
    ----------
    effect, dry, sample_rate_hz, peak_dbfs
        As `wet` takes them.
    target : array, shape (samples,)
        Made by `wet`, or at its level.

    Returns
    -------
    callable
        From settings (n_params,) in [0, 1] to the loss of `sound_loss.to_target`: 0 at the true settings. Settings at
        which the effect fails count as if it had given silence, which is far from every target and finite.

    Raises
    ------
    ValueError
        As `sound_loss.to_target` raises it.

    Used in `05_controller_training`.
    """
    distance = sound_loss.to_target(target)

    def loss(settings: np.ndarray) -> float:
        try:
            sound = wet(effect, dry, settings, sample_rate_hz, peak_dbfs=peak_dbfs)
        except effects.EffectFailed:
            sound = np.zeros_like(target)
        return distance(sound)

    return loss


def spsa(
    objective: Callable[[int, np.ndarray], float],
    settings: Tensor,
    *,
    step: float,
    directions: int,
    seed: int | Sequence[int],
    mask: Tensor | None = None,
    workers: int | None = None,
) -> Tensor:
    """The loss of settings, with a gradient that two evaluations per direction give, however many settings there are.

    Each direction moves all settings of a row at once by `step`, each up or down at random, and back the other way. A
    point outside [0, 1] is brought to the border; the difference is divided by what each setting really moved, so the
    estimate is right there too, for the middle of the two points. Directions of one row are columns of a randomly
    signed Hadamard matrix: each by itself is as random as Spall's, and together they cancel what settings add to each
    other's estimates (with 4 directions for 3 settings, all of it).

    Parameters
    ----------
    objective : callable
        ``objective(row, settings)`` gives the loss, a finite number, for settings of row `row` of the batch: float64
        (n_params,), those outside the mask left out. It is called ``2 * directions`` times per row, in several
        threads.
    settings : Tensor, shape (batch, n_params)
        In [0, 1], those outside the mask too.
    step : float
        In (0, 0.5]. A small one follows the loss closely; a large one sees over its ripples.
    directions : int
        More of them average the noise away.
    seed : int
        Draws the directions; the result does not depend on `workers`. It has to change from step to step.
    mask : Tensor of bool, shape (batch, n_params), optional
        Which settings a row's effect has; all by default. The others have the gradient 0.
    workers : int, optional
        Threads; by default as many as there are processors. With 1, the calling thread does all.

    Returns
    -------
    Tensor, shape (batch,)
        Mean of the losses seen, so that none is spent on the centre; its gradient is the estimate.

    Raises
    ------
    ValueError
        For arguments that are not as above, or a loss that is not finite. What the objective raises is passed on.

    References
    ----------
    Spall: Multivariate stochastic approximation using a simultaneous perturbation gradient approximation, IEEE Trans.
    Automatic Control 37 (1992), equation 2.2.

    Used in `05_controller_training`.
    """
    centre, mask = _checked(settings, step, directions, mask, workers)
    up, down = np.repeat(centre[:, None], directions, 1), np.repeat(centre[:, None], directions, 1)
    rng = np.random.default_rng(seed)
    for row, has in enumerate(mask):
        moved = step * _directions(rng, directions, int(has.sum()))
        up[row][:, has] = np.clip(centre[row, has] + moved, 0, 1)
        down[row][:, has] = np.clip(centre[row, has] - moved, 0, 1)
    points = np.stack([up, down], axis=2)  # (batch, directions, 2, n_params)

    def measure(index: tuple[int, ...]) -> float:
        return float(objective(index[0], points[index][mask[index[0]]]))

    losses = np.reshape(in_threads(measure, np.ndindex(points.shape[:3]), workers=workers), points.shape[:3])
    if not np.isfinite(losses).all():
        at = tuple(np.argwhere(~np.isfinite(losses))[0])
        raise ValueError(f"the loss of row {at[0]} is {losses[at]} at the settings {points[at]}: it must be finite")
    distance = np.where(mask[:, None], up - down, np.inf)
    gradient = ((losses[..., 0] - losses[..., 1])[..., None] / distance).mean(1)  # (batch, n_params)
    value, slope = (torch.from_numpy(x).to(settings) for x in (losses.mean((1, 2)), gradient))
    return value + (slope * (settings - settings.detach())).sum(1)  # a sum of zeros, whose gradient is the slope


def in_threads(function: Callable, items: Iterable, *, workers: int | None = None) -> list:
    """``[function(item) for item in items]``, made by several threads: effects and losses leave Python to others.

    The threads are kept for the next call, since the process of a plug-in belongs to a thread. The first error, in the
    order of the items, is raised. `workers` is by default the number of processors; with 1 the calling thread does all.
    Matrix products are made by the thread that asks for them: a second one would spin between them in others' way.
    """
    if workers is None:
        workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with _libraries().limit(limits=1, user_api="blas"):
        if workers == 1:
            return [function(item) for item in items]
        return list(_pool(workers, os.getpid()).map(function, items))


@functools.cache
def _libraries() -> ThreadpoolController:
    """The libraries whose threads can be limited; and from now on freed memory is kept for the next array.

    glibc gives arrays from 128 kB on back to the system, which has to clear them again for the next one. But once one
    of up to 32 MB was freed, it keeps all that are smaller.
    """
    np.empty(KEPT_BYTES, np.uint8)  # freed at once, and never touched
    return ThreadpoolController()


@functools.cache
def _pool(workers: int, owner: int) -> ThreadPoolExecutor:
    """Threads; `owner` tells the process apart, since a fork has none of them."""
    return ThreadPoolExecutor(workers, thread_name_prefix="blackbox")


def _checked(settings, step, directions, mask, workers) -> tuple[np.ndarray, np.ndarray]:
    """Settings and mask as arrays, (batch, n_params) each."""
    centre = settings.detach().cpu().double().numpy()
    if centre.ndim != 2 or not centre.size:
        raise ValueError(f"settings have the shape {centre.shape}: it must be (batch, n_params)")
    has = np.ones(centre.shape, bool) if mask is None else mask.cpu().numpy()
    if has.dtype != bool or has.shape != centre.shape:
        raise ValueError(f"the mask is {has.dtype} {has.shape}: it must be bool {centre.shape}, as the settings")
    inside = (centre >= 0) & (centre <= 1)
    if not inside.all():
        row, column = np.argwhere(~inside)[0]
        raise ValueError(f"setting {column} of row {row} is {centre[row, column]}: it must be in [0, 1]")
    if not 0 < step <= 0.5:
        raise ValueError(f"step is {step}: it must be in (0, 0.5]")
    if directions < 1 or (workers is not None and workers < 1):
        raise ValueError(f"directions is {directions} and workers {workers}: each must be at least 1")
    return centre, has


def _directions(rng: np.random.Generator, count: int, n_params: int) -> np.ndarray:
    """Signs, float64 (count, n_params): rows of Hadamard matrices in random order, each column at a random sign."""
    order = 1 << max(n_params - 1, 0).bit_length()  # the power of two from n_params on
    blocks = []
    for _ in range(-(-count // order)):
        rows, columns = rng.permutation(order), rng.permutation(order)[:n_params]
        blocks.append(scipy.linalg.hadamard(order, float)[np.ix_(rows, columns)] * rng.choice([-1, 1], n_params))
    return np.concatenate(blocks)[:count]
