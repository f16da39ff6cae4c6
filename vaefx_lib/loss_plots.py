"""Draw what the study of the loss has measured, in the manner of `plots`. Used in notebook 07."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from vaefx_lib import plots
from vaefx_lib.config import Stft

STYLES = {  # colour and marker, so that either is enough
    "sum": ("#56B4E9", "o"),
    "mean": ("#CC79A7", "s"),
    "constant": ("#999999", "o"),
    "warm-up": ("#E69F00", "s"),
    "cyclic": ("#56B4E9", "^"),
}
LINES = ("-", "--", "-.", ":", (0, (3, 1, 1, 1, 1, 1)))


def plot_distances(models: Mapping[str, float], baselines: Mapping[str, float]):
    """Energy distance to real clips, a bar each, models in colour; returns the bars."""
    distances = {**models, **baselines}
    _, ax = plt.subplots(figsize=(7, 0.8 + 0.32 * len(distances)), layout="constrained")
    colours = ["#CC79A7"] * len(models) + ["#999999"] * len(baselines)
    bars = ax.barh(list(distances), list(distances.values()), color=colours)
    ax.bar_label(bars, fmt="%.3f", padding=3)
    ax.set(xlabel="energy distance to real clips", title="Samples", xmargin=0.12)
    ax.invert_yaxis()
    return bars


def plot_kl_curves(curves: Mapping[float, np.ndarray]) -> Axes:
    """KL over the epochs; beta -> nats per dimension, shape (epochs, latent_dim)."""
    _, ax = plt.subplots(figsize=(7.5, 3.6), layout="constrained")
    for (beta, nats), colour, line in zip(curves.items(), ("black", *plots.SERIES_COLOURS), LINES):
        label = rf"$\beta$ = {beta:g}"
        ax.plot(np.arange(1, 1 + len(nats)), nats.sum(axis=1), ls=line, color=colour, lw=2, label=label)
    ax.set(xlabel="epoch", ylabel="KL (nats)", title="KL in training")
    _nats_axis(ax)
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return ax


def plot_spectrum(variances: np.ndarray, betas: Sequence[float], latent_dim: int) -> Axes:
    """Variance of each principal component, and the noise that each beta assumes: what lies below is given up."""
    _, ax = plt.subplots(figsize=(7.5, 3.6), layout="constrained")
    ax.plot(np.arange(1, 1 + len(variances)), variances, color="black", lw=2, label="variance of a component")
    for beta, line in zip(betas, LINES):
        ax.axhline(beta / 2, color="#CC79A7", ls=line, label=rf"$s^2$ of $\beta$ = {beta:g}")
    ax.axvspan(latent_dim, max(latent_dim, len(variances)), color="0.93", label="beyond the latent dimensions")
    ax.set(xscale="log", yscale="log", xlabel="component", ylabel="variance", title="What lies above the line is kept")
    ax.set_xlim(1, len(variances))
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return ax


def plot_loss_scale(
    runs: Mapping[str, Mapping[str, Sequence[float]]],
    theory: Mapping[str, Mapping[str, Sequence[float]]],
    samples: Mapping[str, np.ndarray],
    stft: Stft,
) -> plt.Figure:
    """What beta does with a sum and with a mean of squared errors, and what can be sampled then.

    Parameters
    ----------
    runs, theory : mapping
        "sum" or "mean" -> columns `beta`, `kl` (nats), `active` and `test_mse`; dots for runs, a line for theory.
    samples : mapping
        Title -> spectrogram |X| ** power, shape (frames, bins).
    stft : Stft

    Used in `07_loss_and_phase`.
    """
    fig = plt.figure(figsize=(12, 7), layout="constrained")
    above, below = fig.subfigures(2, 1, height_ratios=(1.1, 1))
    panels = {
        "kl": ("KL (nats)", "What the latent vector says"),
        "active": ("active dimensions", "Dimensions in use"),
        "test_mse": ("mean squared error", "Reconstruction of unseen speakers"),
    }
    for ax, (column, (label, title)) in zip(above.subplots(1, 3), panels.items()):
        for kind, rows in runs.items():
            colour, marker = STYLES[kind]
            ax.plot(theory[kind]["beta"], theory[kind][column], color=colour, label=f"{kind}: linear VAE, exact")
            ax.plot(rows["beta"], rows[column], marker, color=colour, mec="black", label=f"{kind}: trained")
        ax.set(xscale="log", xlabel=r"$\beta$ as written in the code", ylabel=label, title=title)
        if column == "kl":
            _nats_axis(ax)
    keys = above.axes[0].get_legend_handles_labels()
    above.legend(*keys, loc="outside lower center", ncols=len(keys[0]))
    axes = below.subplots(1, len(samples), sharey=True)
    largest = np.quantile(np.stack(list(samples.values())), plots.WITHIN)
    for ax, (title, S) in zip(axes, samples.items()):
        image = plots.plot_spectrogram(S, stft, ax=ax, title=title, limits=(0, largest), colourbar=False)
        ax.label_outer()
    below.colorbar(image, ax=axes, label=f"$|X|^{{{stft.power:g}}}$", extend="max", pad=0.01)
    fig.suptitle("The same beta, two models")
    return fig


def plot_beta_sweep(
    beta: Sequence[float],
    runs: Mapping[str, np.ndarray],
    theory: Mapping[str, Sequence[float]],
    baselines: Mapping[str, Mapping[str, float]],
) -> plt.Figure:
    """Error, KL, spread of the posterior and quality of samples over beta, the plain autoencoder at the left end.

    Parameters
    ----------
    beta : sequence, shape (n,)
        Rising; 0, if it is there, is the plain autoencoder.
    runs : mapping
        `test_mse`, `train_mse`, `kl`, `active`, `sigma`, `prior_distance`, `fitted_distance` and `rebuilt_distance`,
        each of shape (n, seeds): every seed is a dot, the line their mean. NaN is left out.
    theory : mapping
        `beta`, and of the linear VAE `test_mse`, `kl` and `sigma`.
    baselines : mapping
        "error" and "distance" -> name -> value, drawn as level lines.

    Used in `07_loss_and_phase`.
    """
    beta = np.asarray(beta, float)
    smallest = beta[beta > 0].min()
    place = np.where(beta > 0, beta, smallest / 30)
    fig, axes = plt.subplots(2, 2, figsize=(12, 8), sharex=True, layout="constrained")
    (error, nats), (width, quality) = axes

    def draw(ax: Axes, column: str, label: str, style: str) -> None:
        values = np.asarray(runs[column], float)
        colour, marker = STYLES[style]
        ax.plot(place[beta > 0], values.mean(axis=1)[beta > 0], color=colour, lw=1)
        ax.plot(np.repeat(place, values.shape[1]), values.ravel(), marker, ms=5, color=colour, label=label, mec="black")

    draw(error, "test_mse", "VAE, unseen speakers", "mean")
    draw(error, "train_mse", "VAE, training pairs", "sum")
    draw(nats, "kl", "VAE", "mean")
    draw(width, "sigma", "VAE", "mean")
    draw(quality, "prior_distance", "decoded from N(0, 1)", "mean")
    draw(quality, "fitted_distance", "decoded from a fitted Gaussian", "warm-up")
    for ax, column in ((error, "test_mse"), (nats, "kl"), (width, "sigma")):
        ax.plot(theory["beta"], theory[column], color="black", lw=1, label="linear VAE, exact")
    for ax, kind in ((error, "error"), (quality, "distance")):
        for (name, value), line in zip(baselines[kind].items(), LINES[1:]):
            ax.axhline(value, color="black", ls=line, lw=1, label=name)
    error.set(ylabel="mean squared error", title="Reconstruction")
    nats.set(ylabel="KL (nats)", title="What the latent vector says of a clip")
    _nats_axis(nats)
    width.set(yscale="log", ylabel=r"$\sigma$ of the posterior", title="How certain it is (1: knows nothing)")
    quality.set(yscale="log", ylabel="energy distance to real clips", title="Samples from the prior")
    ticks = beta[beta > 0]
    ticks = ticks[np.isclose(np.log10(ticks) % 2, 0)]
    first = [place[beta == 0][0]] if (beta == 0).any() else []
    names = ["plain\nAE"] * len(first) + [rf"$10^{{{round(np.log10(b))}}}$" for b in ticks]
    for ax in axes.flat:
        ax.set_xscale("log")
        ax.set_xticks([*first, *ticks], names)
        ax.minorticks_off()
        ax.set_xlim(place.min() / 3, 3 * place.max())
        ax.legend(loc="lower right" if ax is quality else "best")
    for ax in axes[1]:
        ax.set_xlabel(r"$\beta$ (sum of squared errors + $\beta$ KL)")
    fig.suptitle("From an autoencoder to nothing at all")
    return fig


def plot_schedules(runs: Mapping[str, Sequence[Mapping[str, np.ndarray]]], beta: float, size: int) -> plt.Figure:
    """Beta and KL over the epochs, and where each training ends: its error and its nats. Used in notebook 07.

    `runs` is schedule -> what `loss_study.run` gave for each seed. `size` is the number of values of a clip. A grey
    line joins all ends that are equally good by the loss at this `beta`.
    """
    fig, axes = plt.subplots(1, 3, figsize=(12, 4), layout="constrained")
    weight, nats, ends = axes
    for name, group in runs.items():
        colour, marker = STYLES[name]
        for i, run in enumerate(group):
            epochs = np.arange(1, 1 + len(run["history_beta"]))
            label = name if i == 0 else None
            weight.plot(epochs, run["history_beta"], color=colour, marker=marker, ms=4, label=label)
            nats.plot(epochs, run["history_kl"].sum(axis=1), color=colour, marker=marker, ms=4, label=label)
            ends.plot(
                run["kl"].sum(), run["test_mse_drawn"], marker, ms=8, color=colour, mec="black", label=label, zorder=3
            )
    everyone = [run for group in runs.values() for run in group]
    best = min(run["test_mse_drawn"] + beta * run["kl"].sum() / size for run in everyone)
    reach = np.array([min(run["kl"].sum() for run in everyone), max(run["kl"].sum() for run in everyone)])
    reach += np.array([-0.1, 0.1]) * max(np.ptp(reach), 0.1)
    ends.plot(reach, best - beta * reach / size, color="0.5", lw=1, label="as good as the best")
    weight.set(xlabel="epoch", ylabel=r"$\beta$, mean of the epoch", title="Schedule")
    nats.set(xlabel="epoch", ylabel="KL (nats)", title="KL in training")
    ends.set(xlabel="KL (nats)", ylabel="mean squared error, z drawn", title="The end, unseen speakers")
    for ax in axes[:2]:
        ax.xaxis.get_major_locator().set_params(integer=True)
    for ax in axes:
        ax.legend()
    return fig


def _nats_axis(ax: Axes) -> None:
    """Linear up to one nat, logarithmic above."""
    ax.set_yscale("symlog", linthresh=1)
    ax.set_ylim(bottom=-0.1)
