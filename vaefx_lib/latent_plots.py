"""Draw the latent space: maps of it, what can be read from it, and what its dimensions do. Used in notebook 03.

As in `plots`, a function that draws one axes takes `ax` and returns what it drew; one that draws several returns the
figure.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from vaefx_lib import plots
from vaefx_lib.config import Stft


def plot_latent(points, labels, *, unseen, ax: Axes | None = None, title: str = "", axis_names=("UMAP 1", "UMAP 2")):
    """Points of a plane in the colours of their effects; returns the dots of training and of unseen speakers.

    `points` has shape (n, 2), `labels` are n names of effects; clips that are `unseen`, n booleans, get a larger dot
    with a dark edge. Used in notebook 03.
    """
    ax = ax or plots.new_axes(5, 4.5)
    drawn = _dots(ax, points, [plots.effect_colour(name) for name in labels], unseen, title, axis_names)
    names = sorted(set(labels))
    keys = [plt.Line2D([], [], ls="", marker="o", ms=5, mew=0, color=plots.effect_colour(name)) for name in names]
    keys += [plt.Line2D([], [], ls="", marker="o", ms=5, mew=0.8, mec="black", mfc="white")] * bool(np.any(unseen))
    ax.legend(keys, [*map(plots.short_name, names), "unseen speaker"][: len(keys)], loc="best", framealpha=0.9)
    return drawn


def plot_latent_values(points, values, *, label: str, unseen, ax: Axes | None = None, title: str = ""):
    """Points as in `plot_latent`, coloured by n values; those with a NaN are grey. `label` names value and unit."""
    ax = ax or plots.new_axes(5.5, 4.5)
    drawn = _dots(ax, points, np.asarray(values, float), unseen, title)
    for dots in drawn:
        dots.set(cmap=plt.get_cmap("viridis").with_extremes(bad="0.85"), clim=(np.nanmin(values), np.nanmax(values)))
    ax.figure.colorbar(drawn[1], ax=ax, label=label)  # the dots that are not transparent
    return drawn


def plot_latent_space(panels: Mapping[str, Callable[[Axes], object]]) -> plt.Figure:
    """Figure 1: panels (a), (b), ... in three columns; title -> function that draws on an axes. Used in notebook 03."""
    fig, axes = plots.grid(len(panels), 3, 3.8, 3.6)
    keys = {}
    for ax, letter, (title, draw) in zip(axes, "abcdefgh", panels.items()):
        draw(ax)
        ax.set_title(f"({letter}) {title}", loc="left")
        if legend := ax.get_legend():  # one for all panels: in each it would lie on the dots
            keys |= {text.get_text(): key for text, key in zip(legend.get_texts(), legend.legend_handles)}
            legend.remove()
    if keys:
        fig.legend(keys.values(), keys, loc="outside lower center", ncols=len(keys))
    return fig


def plot_confusion(table: Mapping[str, Mapping[str, float]], *, ax: Axes | None = None, title: str = ""):
    """A confusion matrix, true label -> predicted label -> share of the true one's clips; returns the image.

    Rows are true, columns predicted; each row sums to 1. Used in notebook 03.
    """
    ax = ax or plots.new_axes(3.4, 3)
    columns = list(dict.fromkeys(label for row in table.values() for label in row))
    shares = np.array([[row.get(label, 0.0) for label in columns] for row in table.values()])
    image = ax.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (i, j), share in np.ndenumerate(shares):
        ax.text(j, i, f"{share:.3f}", ha="center", va="center", color="white" if share > 0.5 else "black")
    ax.set_xticks(range(len(columns)), map(plots.short_name, columns), rotation=0 if len(columns) < 3 else 90)
    ax.set_yticks(range(len(shares)), map(plots.short_name, table), rotation=90 if len(columns) < 3 else 0, va="center")
    ax.set(title=title, xlabel="predicted", ylabel="true")
    return image


def plot_dimensions(kl, values, *, groups: Mapping[str, slice], label: str, ax: Axes | None = None, title: str = ""):
    """What each latent dimension costs, `kl` in nats, against what it says, `values`, both (latent_dim,); notebook 03.

    `groups` are parts of the latent vector, name -> slice, in the colours of `plot_kl_per_dimension`.
    """
    ax = ax or plots.new_axes(4.5, 3.4)
    kl, values, drawn = np.asarray(kl), np.asarray(values), []
    for (name, part), colour in zip(groups.items(), itertools.cycle(plots.SERIES_COLOURS)):
        drawn.append(ax.scatter(kl[part], values[part], s=18, color=colour, alpha=0.8, lw=0, label=name))
    ax.set(xlabel="KL of the dimension (nats)", ylabel=label, title=title)
    ax.legend()
    return drawn


def plot_traversal(S, stft: Stft, *, rows: Sequence[str], columns: Sequence[str], title: str = "") -> plt.Figure:
    """Spectrograms, shape (n_rows, n_columns, frames, bins), while one latent dimension a row moves; notebook 03."""
    S = np.asarray(S, np.float32)
    size = (1.9 * len(columns) + 1, 1.45 * len(rows) + 0.8)
    fig, axes = plt.subplots(
        len(rows), len(columns), figsize=size, sharex=True, sharey=True, layout="constrained", squeeze=False
    )
    largest = plots.scale_end(S)
    for (i, j), ax in np.ndenumerate(axes):
        image = plots.draw_image(ax, S[i, j], stft, (0, largest))
        ax.set(xlabel="", ylabel=rows[i], title=columns[j] if i == 0 else "")
        ax.label_outer(remove_inner_ticks=True)
    fig.colorbar(image, ax=axes, label=plots.unit_of(stft), extend="max", pad=0.01, aspect=40)
    fig.supxlabel("time (s); frequency upwards, in kHz", fontsize="medium")
    fig.suptitle(title)
    return fig


def plot_latent_readings(audible, told, *, kl, alone, weights, groups, confusion) -> plt.Figure:
    """What can be read from the latent space, in panels (a) to (g). Used in notebook 03.

    `audible` (R2) and `told` (nats) are tables for `plot_scores`. `kl`, `alone` (R2 of the setting read best off a
    dimension) and `weights`, all (latent_dim,), and `groups` are for `plot_dimensions`. `confusion` is name -> table
    for `plot_confusion`.
    """
    panels: dict[str, Callable] = {
        "R2 where it is audible": lambda ax: plots.plot_scores(audible, ax=ax, label="R2 of the setting"),
        "mutual information": lambda ax: plots.plot_scores(told, ax=ax, label="nats"),
        "settings": lambda ax: plot_dimensions(kl, alone, groups=groups, label="R2 of the best setting", ax=ax),
        "effect": lambda ax: plot_dimensions(kl, weights, groups=groups, label="weight in the probe", ax=ax),
    }
    for name, table in confusion.items():
        panels[name] = lambda ax, table=table: plot_confusion(table, ax=ax)
    fig = plt.figure(figsize=(12, 11), layout="constrained")
    above, below = fig.subfigures(2, 1, height_ratios=(8, 3))
    axes = [*above.subplots(1, 2), *below.subplots(1, len(panels) - 2)]
    for ax, letter, (title, draw) in zip(axes, "abcdefgh", panels.items()):
        draw(ax)
        ax.set_title(f"({letter}) {title}", loc="left")
    for ax in axes[:2]:
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.08), ncols=2)  # beside the bars it would take their room
    axes[2].get_legend().remove()  # it would hide a dot, and is that of (d)
    axes[1].tick_params(labelleft=False)  # the rows are those of (a)
    return fig


def _dots(ax: Axes, points, colours, unseen, title: str, axis_names=("UMAP 1", "UMAP 2")):
    """Small dots for training speakers; larger ones with a dark edge, above, for unseen speakers."""
    points, colours, unseen = np.asarray(points), np.asarray(colours), np.asarray(unseen, bool)
    styles = (~unseen, {"s": 6, "alpha": 0.6, "lw": 0}), (unseen, {"s": 11, "lw": 0.5, "edgecolors": "k"})
    drawn = [ax.scatter(*points[m].T, c=colours[m], plotnonfinite=True, **style) for m, style in styles]
    ax.set(title=title, xlabel=axis_names[0], ylabel=axis_names[1], xticks=[], yticks=[])  # its scale has no meaning
    return drawn
