"""Draw maps to play on, and what they are worth, in the manner of `plots`. Used in notebook 06."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from vaefx_lib import plots

METHODS = {  # label, colour and marker, so that either is enough
    "bottleneck": ("bottleneck", "#D55E00", "o"),
    "pca": ("PCA", "#000000", "s"),
    "umap_decoder": ("UMAP, learned decoder", "#0072B2", "^"),
    "umap_inverse": ("UMAP, inverse", "#009E73", "v"),
    "umap_nearest": ("UMAP, nearest point", "#CC79A7", "D"),
}
BASELINES = {  # label and line
    "none": ("dry sound", "--"),
    "mean": ("all settings 0.5", ":"),
    "random": ("random settings", (0, (1, 3))),
    "controller": ("controller", "-."),
}
PANELS = {  # in the order of the axes
    "roundtrip_mrstft": "round trip (MRSTFT)",
    "settings_mae": "error of a setting",
    "coverage": "coverage",
    "smoothness": "smoothness (MRSTFT of a step)",
    "worst_jump": "worst jump / mean step",
    "trustworthiness": "trustworthiness",
    "continuity": "continuity",
    "axis_rank_corr": "rank correlation of an axis",
    "stability": "stability between seeds (CKA)",
}
GREY = "0.85"


def plot_comparison(table: Mapping[str, Mapping[str, Mapping[str, float]]], *, title: str = "") -> plt.Figure:
    """Every score over the number of dimensions, an axes each, a line per method. Used in notebook 06.

    Parameters
    ----------
    table : mapping
        method -> dim -> score -> value, with "baselines" -> name -> score, as `playable_scores.summary` gives it.
    title : str
    """
    fig, axes = plots.grid(len(PANELS), 3, 4, 2.9)
    for ax, (score, label) in zip(axes, PANELS.items()):
        for method, (name, colour, marker) in METHODS.items():
            if method in table:
                values = {int(dim): row[score] for dim, row in table[method].items()}
                kept = {"color": colour, "marker": marker, "ms": 6, "lw": 1.5, "label": name}
                ax.plot(range(len(values)), list(values.values()), **kept)
        for name, (said, line) in BASELINES.items():
            value = table.get("baselines", {}).get(name, {}).get(score)
            if value is not None:
                ax.axhline(value, color="black", lw=1, ls=line, label=said)
        dims = list(next(iter(table.values())))
        ax.set_xticks(range(len(dims)), dims)
        ax.set(xlabel="dimensions", title=label, xmargin=0.1)
        if score not in ("worst_jump", "trustworthiness", "continuity"):
            ax.set_ylim(bottom=0)
    handles, labels = axes[0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside lower center", ncols=4)
    fig.suptitle(title)
    return fig


def plot_maps(
    maps: Mapping[str, np.ndarray], colours: Mapping[str, Sequence], *, behind: Mapping[str, np.ndarray] | None = None
) -> plt.Figure:
    """The same sounds on several maps of two dimensions, a row each, coloured in several ways. Used in notebook 06.

    Parameters
    ----------
    maps : mapping
        Title -> places, shape (n, 2).
    colours : mapping
        Title -> n names of effects, or n numbers; those with a NaN are grey.
    behind : mapping, optional
        Title of a map -> other places, shape (m, 2), as a faint cloud.
    """
    size = (3.3 * len(colours), 3.1 * len(maps))
    fig, axes = plt.subplots(len(maps), len(colours), figsize=size, squeeze=False, layout="constrained")
    for row, (title, places) in zip(axes, maps.items()):
        for ax, values in zip(row, colours.values()):
            if behind:
                ax.scatter(*np.asarray(behind[title]).T, s=2, color="0.9", lw=0)
            _coloured(ax, np.asarray(places), values)
            ax.set(xticks=[], yticks=[])
        row[0].set_ylabel(title)
    for ax, label in zip(axes[0], colours):
        ax.set_title(label)
    return fig


def _coloured(ax: Axes, places: np.ndarray, values: Sequence) -> None:
    """Dots in the colours of effects, with a legend, or of numbers, with a colour bar."""
    if isinstance(values[0], str):
        for name in dict.fromkeys(values):
            at = places[np.asarray(values) == name]
            ax.scatter(*at.T, s=14, color=plots.effect_colour(name), lw=0, label=plots.short_name(name))
        ax.legend(loc="best", framealpha=0.9)
        return
    values = np.asarray(values, float)
    order = np.argsort(np.isfinite(values), kind="stable")  # grey ones below
    cmap = plt.get_cmap("viridis").with_extremes(bad=GREY)
    dots = ax.scatter(*places[order].T, s=14, c=values[order], cmap=cmap, plotnonfinite=True, lw=0)
    ax.figure.colorbar(dots, ax=ax, pad=0.02)
