"""Draw what controllers learn and what their matches are worth, in the manner of `plots`. Used in notebook 05."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from vaefx_lib import plots

ANSWERS = {  # in the order of the legend: what it is called, marker, colour
    "none": ("dry input", "o", "white"),
    "random": ("random settings", "X", "#999999"),
    "mean": ("all settings 0.5", "s", "#56B4E9"),
    "network": ("network's first answer", "v", "#0072B2"),
    "ours": ("controller and critic", "D", "#E69F00"),
    "refined": ("controller, more renders", "^", "#D55E00"),
    "oracle": ("best there is", "*", "#009E73"),
}
INAUDIBLE = "0.75"
BASELINES = {"none": ("dry input", "--"), "mean": ("all settings 0.5", ":"), "oracle": ("best there is", "-.")}


def plot_settings_scatter(true, predicted, names: Sequence[str], *, audible=None, effect: str = "") -> plt.Figure:
    """Settings that a controller predicts against the true ones, an axes per parameter. Used in notebook 05.

    Parameters
    ----------
    true, predicted : array, shape (n, n_params)
        In [0, 1].
    names : sequence of str
    audible : array of bool, shape (n, n_params), optional
        Where the setting can be heard; the others are grey and do not count for R2.
    effect : str
    """
    true, predicted = np.asarray(true), np.asarray(predicted)
    heard = np.ones(true.shape, bool) if audible is None else np.asarray(audible, bool)
    fig, axes = _grid(len(names), 2.9, sharey=True)
    for ax, name, x, y, shown in zip(axes, names, true.T, predicted.T, heard.T):
        ax.plot((0, 1), (0, 1), color="black", lw=0.8)
        ax.axhline(0.5, color="black", lw=0.8, ls=":")
        ax.scatter(x[~shown], y[~shown], s=9, color=INAUDIBLE, lw=0)
        ax.scatter(x[shown], y[shown], s=11, color=plots.effect_colour(effect), alpha=0.7, lw=0)
        ax.set(title=f"{name}: {_r2(x[shown], y[shown])}", xlim=(0, 1), ylim=(0, 1), aspect="equal")
        ax.set(xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))
    grey = "" if audible is None else "; grey: cannot be heard"
    fig.supxlabel(f"true setting{grey}", fontsize="medium")
    fig.supylabel("predicted setting", fontsize="medium")
    fig.suptitle(f"{plots.short_name(effect)}: settings told from another passage".removeprefix(": "))
    return fig


def plot_gap(table: Mapping[str, Mapping[str, float]], *, ax: Axes | None = None, title: str = ""):
    """Distance of each answer from the true sound, a row per effect, with the gap closed beside; returns the dots.

    `table` is label -> answer -> MRSTFT, for the answers of `match_answers.Answers` that are there, with `gap_closed`
    and `refined_gap_closed` as `match_scores.summary` gives them. Used in notebook 05.
    """
    ax = ax or plots.new_axes(8, 1.5 + 0.42 * len(table))
    drawn = []
    for y, row in enumerate(table.values()):
        ax.plot((row["none"], row["oracle"]), (y, y), color="0.8", lw=5, solid_capstyle="butt", zorder=1)
        closed = [f"{100 * row[key]:.0f} %" for key in ("gap_closed", "refined_gap_closed") if key in row]
        ax.text(1.02, y, " | ".join(closed), transform=ax.get_yaxis_transform(), va="center")
    for answer, (label, marker, colour) in ANSWERS.items():
        there = {y: row[answer] for y, row in enumerate(table.values()) if answer in row}
        if there:
            size = 110 if marker == "*" else 55
            kept = {"marker": marker, "s": size, "color": colour, "edgecolors": "black", "lw": 0.7, "label": label}
            drawn.append(ax.scatter(list(there.values()), list(there), zorder=3, clip_on=False, **kept))
    ax.set_yticks(range(len(table)), table)
    ax.set(xlabel="MRSTFT from the true sound", title=title, ylim=(len(table) - 0.5, -0.5))
    ax.set_xlim(left=0)
    refined = " | more renders" if any("refined_gap_closed" in row for row in table.values()) else ""
    ax.text(1.02, 1.01, f"gap closed{refined}", transform=ax.transAxes, va="bottom", fontsize="small")
    ax.figure.legend(handles=drawn, loc="outside lower center", ncols=3)
    return drawn


def plot_controller_training(history: Mapping[str, Sequence], end_to_end: Mapping[str, Sequence]) -> plt.Figure:
    """The two stages of a controller's training, loss above and error of the settings below. Used in notebook 05.

    Parameters
    ----------
    history : mapping
        Columns `epoch`, `train_loss`, `valid_loss`, `settings_mae` and `settings_mae_middle`.
    end_to_end : mapping
        Columns `step`, `loss`, `loss_none`, `loss_middle` and `settings_mae`, of validation.
    """
    fig, axes = plt.subplots(2, 2, figsize=(9.5, 6), sharex="col", layout="constrained")
    (known, heard), (known_error, heard_error) = axes
    ours, other = ANSWERS["ours"][2], ANSWERS["mean"][2]
    known.plot(history["epoch"], history["train_loss"], "s-", ms=3, color=other, label="training")
    known.plot(history["epoch"], history["valid_loss"], "o-", ms=3, color=ours, label="validation")
    known.set(ylabel="loss", title="Learning known settings")
    heard.plot(end_to_end["step"], end_to_end["loss"], "o-", ms=3, color=ours, label="controller")
    lines = {"none": end_to_end["loss_none"], "mean": end_to_end["loss_middle"], "oracle": [0.0]}
    for answer, values in lines.items():
        label, line = BASELINES[answer]
        heard.axhline(values[-1], color="black", ls=line, lw=1.2, label=label)
    heard.set(ylabel="MRSTFT + L1, validation", title="Learning through the effects")
    middle = history["settings_mae_middle"][-1]
    for ax, table, x in ((known_error, history, "epoch"), (heard_error, end_to_end, "step")):
        ax.plot(table[x], table["settings_mae"], "o-", ms=3, color=ours, label="controller")
        ax.axhline(middle, color="black", ls=BASELINES["mean"][1], lw=1.2, label=BASELINES["mean"][0])
        ax.set(ylim=(0, 1.15 * middle), xlabel=x if x == "epoch" else "step of each effect")
        ax.set_ylabel("error of a setting, mean")
    for ax in axes.flat:
        ax.xaxis.get_major_locator().set_params(integer=True)
        ax.legend()
    return fig


def plot_dummy(found: Mapping[str, tuple[Sequence[str], Sequence[str], np.ndarray]], *, aim: float) -> plt.Figure:
    """Errors of settings while a fresh network learns them from the sound alone, an axes per effect. Notebook 05.

    `found` is effect -> (names of the settings, those of them that cannot be heard, errors of shape (seeds, steps + 1,
    n)). A line is the mean over the seeds, a band goes from the least to the largest; `aim` is dotted.
    """
    fig, axes = plots.grid(len(found), len(found), 4.6, 3.6, sharey=True)
    for ax, (effect, (names, inaudible, errors)) in zip(axes, found.items()):
        steps = np.arange(np.shape(errors)[1])
        for name, colour, of in zip(names, itertools.cycle(plots.OTHER_COLOURS), np.moveaxis(errors, 2, 0)):
            unheard = name in inaudible
            look = {"color": "0.5", "ls": "--"} if unheard else {"color": colour}
            ax.plot(steps, of.mean(0), label=f"{name} (inaudible)" if unheard else name, **look)
            ax.fill_between(steps, of.min(0), of.max(0), color=look["color"], alpha=0.2, lw=0)
        ax.axhline(aim, color="black", lw=0.8, ls=":", label=f"{aim:g}")
        ax.set(title=plots.short_name(effect), xlabel="step", xlim=(0, steps[-1]), ylim=(0, 0.6))
        ax.legend(loc="upper right", ncols=2)
    axes[0].set_ylabel("error of a setting, mean")
    return fig


def plot_distributions(distribution, true, names: Sequence[str], *, effect: str = "", predicted=None) -> plt.Figure:
    """What a controller believes of each setting: where it is flat, the setting cannot be told. Used in notebook 05.

    Parameters
    ----------
    distribution : array, shape (n_params, bins)
        Probabilities over equal parts of [0, 1], each row summing to 1.
    true : array, shape (n_params,), or None
        Where they are known.
    names : sequence of str
    effect : str
    predicted : array, shape (n_params,), optional
        The controller's one answer.
    """
    distribution = np.asarray(distribution)
    fig, axes = _grid(len(names), 2.2)
    edges = np.linspace(0, 1, distribution.shape[1] + 1)
    for i, (ax, name) in enumerate(zip(axes, names)):
        ax.stairs(distribution[i] * distribution.shape[1], edges, fill=True, color=plots.effect_colour(effect))
        ax.axhline(1, color="black", lw=0.8, ls=":")
        if true is not None:
            ax.axvline(true[i], color="black", lw=1.5)
        if predicted is not None:
            ax.axvline(predicted[i], color="black", lw=1.2, ls="--")
        ax.set(title=name, xlim=(0, 1), xticks=(0, 0.5, 1), ylim=(0, max(2.0, ax.get_ylim()[1])))
    lines = ["line: true"] * (true is not None) + ["dashed: predicted"] * (predicted is not None)
    fig.supxlabel("; ".join(["setting", *lines, "dotted: nothing is known"]), fontsize="medium")
    fig.supylabel("probability density", fontsize="medium")
    fig.suptitle(f"{plots.short_name(effect)}: what the network believes".removeprefix(": "))
    return fig


def _grid(count: int, height_in: float, **shared) -> tuple[plt.Figure, list[Axes]]:
    """An axes for each parameter, the lowest of each column with its ticks."""
    columns = count if count <= 4 else 3 if count <= 6 else 4
    fig, axes = plots.grid(count, columns, 2.7, height_in, sharex=True, **shared)
    for ax in axes[-columns:]:
        ax.tick_params(labelbottom=True)
    return fig, axes


def _r2(true: np.ndarray, predicted: np.ndarray) -> str:
    variance = np.square(true - true.mean()).sum() if true.size else 0
    return f"R2 {1 - np.square(predicted - true).sum() / variance:.2f}" if variance else "never heard"
