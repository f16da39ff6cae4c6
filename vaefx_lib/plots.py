"""Draw data that has been computed elsewhere. Nothing here computes science, and nothing is saved.

A function that draws one axes takes `ax` (default: a new figure) and returns what it drew; one that draws several
returns the figure. A spectrogram S is |X| ** power, shape (frames, bins), as `spectrogram.magnitude` gives it; a pair
has shape (2, frames, bins), dry first. Every effect, and dry and wet, have the same colour in every figure, all from
the palette of Okabe and Ito (2008), which can be told apart with any colour vision.
"""

from __future__ import annotations

import itertools
import textwrap
import zlib
from collections.abc import Callable, Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from vaefx_lib.config import Stft

EFFECT_COLOURS = {"mda:Overdrive": "#D55E00", "mda:Delay": "#0072B2"}  # vermillion, blue
OTHER_COLOURS = ("#E69F00", "#56B4E9", "#009E73", "#CC79A7")  # orange, sky blue, bluish green, reddish purple
SERIES_COLOURS = ("#CC79A7", "#999999", "#E69F00", "#56B4E9")  # of what is neither an effect nor dry or wet
CHANNEL_COLOURS = {"dry": "#000000", "wet": "#009E73"}
WITHIN = 0.998  # of all bins lie within the colour scale: a few peaks must not leave all else dark


def effect_colour(name: str) -> str:
    """Colour of an effect; one without a colour in EFFECT_COLOURS gets one of OTHER_COLOURS, always the same."""
    return EFFECT_COLOURS.get(name) or OTHER_COLOURS[zlib.crc32(name.encode()) % len(OTHER_COLOURS)]


def short_name(name: str) -> str:
    """``"Delay"`` for ``"mda:Delay"``."""
    return name.split(":")[-1]


def plot_waveform(audio, sample_rate_hz: float, *, ax: Axes | None = None, title: str = "", colour: str = "black"):
    """A waveform, array of shape (samples,), over time in s; returns the line. Used in notebook 01."""
    ax = ax or new_axes(7, 2)
    (line,) = ax.plot(np.arange(len(audio)) / sample_rate_hz, audio, color=colour, lw=0.5)
    ax.set(xlabel="time (s)", ylabel="amplitude", title=title, xlim=(0, len(audio) / sample_rate_hz))
    return line


def plot_spectrogram(S, stft: Stft, *, ax: Axes | None = None, title: str = "", limits=None, colourbar: bool = True):
    """A spectrogram over s and kHz, its colours from `limits[0]` to `limits[1]`; returns the image. Notebook 01."""
    ax = ax or new_axes(5, 3.2)
    image = _draw(ax, S, stft, limits or (0, _largest(S)))
    ax.set_title(title)
    if colourbar:
        ax.figure.colorbar(image, ax=ax, label=_unit(stft), extend="max")
    return image


def plot_pair(pair, stft: Stft, title: str) -> plt.Figure:
    """Dry and wet side by side, pair of shape (2, frames, bins), on one colour scale. Used in notebook 01."""
    fig, axes = plt.subplots(1, 2, figsize=(9, 3.4), sharex=True, sharey=True, layout="constrained")
    for ax, S, channel in zip(axes, pair, CHANNEL_COLOURS):
        image = plot_spectrogram(S, stft, ax=ax, title=channel, limits=(0, _largest(pair)), colourbar=False)
        ax.label_outer()
    fig.colorbar(image, ax=axes, label=_unit(stft), extend="max", pad=0.01)
    fig.suptitle(title)
    return fig


def plot_reconstruction(original, reconstruction, stft: Stft, *, mse, pca_mse=None, title: str) -> plt.Figure:
    """Original, reconstruction and error (columns) of a pair, as in Figures 2 and 3. Used in notebooks 02 and 04.

    `original` and `reconstruction` have shape (2, frames, bins) and one colour scale, the errors have another. `mse`
    and `pca_mse` are (dry, wet), of standardised spectrograms, for the titles.
    """
    fig, axes = plt.subplots(2, 3, figsize=(11, 6), sharex=True, sharey=True, layout="constrained")
    errors = np.subtract(reconstruction, original, dtype=np.float32)
    largest, largest_error = _largest(original), _largest(np.abs(errors))
    for row, channel, *pictures, error, i in zip(axes, CHANNEL_COLOURS, original, reconstruction, errors, (0, 1)):
        for ax, S in zip(row, pictures):
            shown = _draw(ax, S, stft, (0, largest))
        shown_error = _draw(row[2], error, stft, (-largest_error, largest_error), cmap="PuOr")  # white at 0
        pca = f" (PCA {pca_mse[i]:.3f})" if pca_mse is not None else ""
        for ax, text in zip(row, ("original", f"reconstruction\nMSE {mse[i]:.3f}{pca}", "error")):
            ax.set_title(f"{channel}: {text}")
            ax.label_outer()
    fig.colorbar(shown, ax=axes[:, :2], label=_unit(stft), extend="max", pad=0.01, aspect=40)
    fig.colorbar(shown_error, ax=axes[:, 2], label=f"error of {_unit(stft)}", extend="both", pad=0.02, aspect=40)
    fig.suptitle(title)
    return fig


def plot_interpolation(columns, labels: Sequence[str], stft: Stft, *, footnote: str, title: str = "") -> plt.Figure:
    """A path through the latent space, dry above wet, as in Figures 4 and 5. Used in notebook 04.

    `columns` are original, reconstruction, the steps, reconstruction, original, array of shape (n_columns, 2, frames,
    bins), all on one colour scale; `labels` are their titles. `footnote` says what was measured along the path.
    """
    fig, axes = plt.subplots(2, len(columns), figsize=(12, 4.2), sharex=True, sharey=True, layout="constrained")
    fig.get_layout_engine().set(w_pad=0.015, h_pad=0.03, wspace=0.01)
    largest = _largest(columns)
    for (i, j), ax in np.ndenumerate(axes):
        image = _draw(ax, columns[j][i], stft, (0, largest))
        ax.set(xlabel="", ylabel=f"{('dry', 'wet')[i]}\nfrequency (kHz)", title=labels[j] if i == 0 else "")
        ax.xaxis.get_major_locator().set_params(nbins=3, integer=True)
        ax.label_outer(remove_inner_ticks=True)
    fig.colorbar(image, ax=axes, label=_unit(stft), extend="max", pad=0.01, aspect=30)
    fig.supxlabel(f"time (s)\n{textwrap.fill(footnote, 140)}", fontsize="medium")
    fig.suptitle(title)
    return fig


def plot_latent(points, labels, *, unseen, ax: Axes | None = None, title: str = "", axis_names=("UMAP 1", "UMAP 2")):
    """Points of a plane in the colours of their effects; returns the dots of training and of unseen speakers.

    `points` has shape (n, 2), `labels` are n names of effects; clips that are `unseen`, n booleans, get a larger dot
    with a dark edge. Used in notebook 03.
    """
    ax = ax or new_axes(5, 4.5)
    drawn = _dots(ax, points, [effect_colour(name) for name in labels], unseen, title, axis_names)
    names = sorted(set(labels))
    keys = [plt.Line2D([], [], ls="", marker="o", ms=5, mew=0, color=effect_colour(name)) for name in names]
    keys += [plt.Line2D([], [], ls="", marker="o", ms=5, mew=0.8, mec="black", mfc="white")] * bool(np.any(unseen))
    ax.legend(keys, [*map(short_name, names), "unseen speaker"][: len(keys)], loc="best", framealpha=0.9)
    return drawn


def plot_latent_values(points, values, *, label: str, unseen, ax: Axes | None = None, title: str = ""):
    """Points as in `plot_latent`, coloured by n values; those with a NaN are grey. `label` names value and unit."""
    ax = ax or new_axes(5.5, 4.5)
    drawn = _dots(ax, points, np.asarray(values, float), unseen, title)
    for dots in drawn:
        dots.set(cmap=plt.get_cmap("viridis").with_extremes(bad="0.85"), clim=(np.nanmin(values), np.nanmax(values)))
    ax.figure.colorbar(drawn[1], ax=ax, label=label)  # the dots that are not transparent
    return drawn


def plot_latent_space(panels: Mapping[str, Callable[[Axes], object]]) -> plt.Figure:
    """Figure 1: panels (a), (b), ... in three columns; title -> function that draws on an axes. Used in notebook 03."""
    fig, axes = grid(len(panels), 3, 3.8, 3.6)
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


def plot_history(history: Mapping[str, Sequence[float]], *, pca_mse=None) -> plt.Figure:
    """What there is of loss, MSE and KL over epochs, an axes each. Used in notebook 02.

    `history` has `epoch` and other columns, drawn if "loss" or "reconstruction", "mse", or "kl" is in their names.
    `pca_mse`, (dry, wet), adds dashed lines.
    """
    kinds = {"loss": ("loss", "reconstruction"), "MSE (standardised)": ("mse",), "KL (nats)": ("kl",)}
    found = {label: [n for n in history if any(part in n for part in parts)] for label, parts in kinds.items()}
    found = {label: names for label, names in found.items() if names}
    fig, axes = grid(len(found), len(found), 4, 3.4)
    for ax, (label, names) in zip(axes, found.items()):
        for name, colour in zip(names, itertools.cycle(SERIES_COLOURS)):
            colour = CHANNEL_COLOURS.get(name.split("_")[-1], colour)
            ax.plot(history["epoch"], history[name], "o-", ms=3, color=colour, label=name.replace("_", " "))
        if "MSE" in label and pca_mse is not None:
            for (channel, colour), value in zip(CHANNEL_COLOURS.items(), pca_mse):
                ax.axhline(value, ls="--", lw=1, color=colour, label=f"PCA {channel}")
        ax.set(xlabel="epoch", ylabel=label, title=f"{label.split(' (')[0]} per epoch")
        ax.xaxis.get_major_locator().set_params(integer=True)
        ax.legend()
    return fig


def plot_kl_per_dimension(kl, *, ax: Axes | None = None, groups: Mapping[str, slice] | None = None):
    """KL in nats, shape (latent_dim,), largest first in each of `groups` (name -> slice of dimensions); notebook 02."""
    ax = ax or new_axes(7, 3)
    drawn = []
    for (name, part), colour in zip((groups or {"": slice(None)}).items(), itertools.cycle(SERIES_COLOURS)):
        values = np.sort(np.asarray(kl)[part])[::-1]
        drawn.append(ax.bar(np.arange(len(kl))[part], values, width=0.9, color=colour, label=name))
    ax.set(xlabel="latent dimension, sorted", ylabel="KL (nats)", title="KL per dimension", xlim=(-1, len(kl)))
    if groups:
        ax.legend()
    return drawn


def plot_settings(settings, names: Sequence[str], *, effect: str = "") -> plt.Figure:
    """A histogram of each setting, array of shape (n, n_params) in [0, 1]. Used in notebook 01."""
    fig, axes = grid(len(names), min(len(names), 3), 2.6, 2, sharex=True, sharey=True)
    for ax, name, values in zip(axes, names, np.asarray(settings).T):
        ax.hist(values, bins=np.linspace(0, 1, 21), color=effect_colour(effect))
        ax.set(xlabel=name, xlim=(0, 1), xticks=(0, 0.5, 1))
    fig.supylabel("clips")
    fig.suptitle(f"{short_name(effect)} settings".strip())
    return fig


def plot_scores(table: Mapping[str, Mapping[str, float]], *, ax: Axes | None = None, title: str = "", label="score"):
    """Groups of bars, table of row -> column -> score: a model beside its baselines; returns the bars.

    A column may be absent from a row. `label` names the score and its unit. Used in notebooks 02 and 03.
    """
    columns = list(dict.fromkeys(column for row in table.values() for column in row))
    ax = ax or new_axes(7, 1 + len(table) * (0.2 + 0.2 * len(columns)))
    height, drawn = 0.8 / len(columns), []
    for i, (column, colour) in enumerate(zip(columns, itertools.cycle(SERIES_COLOURS))):
        there = {y: row[column] for y, row in enumerate(table.values()) if column in row}
        places = np.array(list(there)) + (i - (len(columns) - 1) / 2) * height
        drawn.append(ax.barh(places, there.values(), height, color=colour, label=column))
        ax.bar_label(drawn[-1], fmt="%.2f", padding=3, fontsize=8)
    ax.set_yticks(range(len(table)), table)
    ax.set(xlabel=label, title=title, xmargin=0.12, ylim=(len(table) - 0.5, -0.5))
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return drawn


def plot_confusion(table: Mapping[str, Mapping[str, float]], *, ax: Axes | None = None, title: str = ""):
    """A confusion matrix, true label -> predicted label -> share of the true one's clips; returns the image.

    Rows are true, columns predicted; each row sums to 1. Used in notebook 03.
    """
    ax = ax or new_axes(3.4, 3)
    columns = list(dict.fromkeys(label for row in table.values() for label in row))
    shares = np.array([[row.get(label, 0.0) for label in columns] for row in table.values()])
    image = ax.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (i, j), share in np.ndenumerate(shares):
        ax.text(j, i, f"{share:.3f}", ha="center", va="center", color="white" if share > 0.5 else "black")
    ax.set_xticks(range(len(columns)), map(short_name, columns), rotation=0 if len(columns) < 3 else 90)
    ax.set_yticks(range(len(shares)), map(short_name, table), rotation=90 if len(columns) < 3 else 0, va="center")
    ax.set(title=title, xlabel="predicted", ylabel="true")
    return image


def plot_dimensions(kl, values, *, groups: Mapping[str, slice], label: str, ax: Axes | None = None, title: str = ""):
    """What each latent dimension costs, `kl` in nats, against what it says, `values`, both (latent_dim,); notebook 03.

    `groups` are parts of the latent vector, name -> slice, in the colours of `plot_kl_per_dimension`.
    """
    ax = ax or new_axes(4.5, 3.4)
    kl, values, drawn = np.asarray(kl), np.asarray(values), []
    for (name, part), colour in zip(groups.items(), itertools.cycle(SERIES_COLOURS)):
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
    largest = _largest(S)
    for (i, j), ax in np.ndenumerate(axes):
        image = _draw(ax, S[i, j], stft, (0, largest))
        ax.set(xlabel="", ylabel=rows[i], title=columns[j] if i == 0 else "")
        ax.label_outer(remove_inner_ticks=True)
    fig.colorbar(image, ax=axes, label=_unit(stft), extend="max", pad=0.01, aspect=40)
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
        "R2 where it is audible": lambda ax: plot_scores(audible, ax=ax, label="R2 of the setting"),
        "mutual information": lambda ax: plot_scores(told, ax=ax, label="nats"),
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
    axes[1].tick_params(labelleft=False)  # the rows are those of (a)
    return fig


def new_axes(width_in: float, height_in: float) -> Axes:
    """The axes of a new figure of this size."""
    return plt.subplots(figsize=(width_in, height_in), layout="constrained")[1]


def grid(count: int, columns: int, width_in: float, height_in: float, **shared) -> tuple[plt.Figure, list[Axes]]:
    """A figure with `count` axes of the given size, row by row."""
    rows = -(-count // columns)
    fig = plt.figure(figsize=(width_in * columns, height_in * rows), layout="constrained")
    axes = fig.subplots(rows, columns, squeeze=False, **shared).ravel()
    for ax in axes[count:]:
        ax.remove()
    return fig, list(axes[:count])


def _largest(S) -> float:
    return max(float(np.quantile(np.asarray(S, np.float32), WITHIN)), 1e-9)  # never an empty colour scale


def _unit(stft: Stft) -> str:
    return rf"$|X|^{{{stft.power:g}}}$"


def _draw(ax: Axes, S, stft: Stft, limits: tuple[float, float], cmap: str = "magma"):
    """Frame t is centred on t * hop_length, bin k on k * sample_rate_hz / n_fft; the axes ends at the outer centres."""
    step_s, step_khz = stft.hop_length / stft.sample_rate_hz, stft.sample_rate_hz / stft.n_fft / 1000
    S = np.asarray(S, np.float32)
    end_s, end_khz = (np.array(S.shape) - 1) * (step_s, step_khz)
    extent = (-step_s / 2, end_s + step_s / 2, -step_khz / 2, end_khz + step_khz / 2)
    image = ax.imshow(S.T, origin="lower", aspect="auto", extent=extent, cmap=cmap, vmin=limits[0], vmax=limits[1])
    ax.set(xlim=(0, end_s), ylim=(0, end_khz), xlabel="time (s)", ylabel="frequency (kHz)")
    return image


def _dots(ax: Axes, points, colours, unseen, title: str, axis_names=("UMAP 1", "UMAP 2")):
    """Small dots for training speakers; larger ones with a dark edge, above, for unseen speakers."""
    points, colours, unseen = np.asarray(points), np.asarray(colours), np.asarray(unseen, bool)
    styles = (~unseen, {"s": 6, "alpha": 0.6, "lw": 0}), (unseen, {"s": 11, "lw": 0.5, "edgecolors": "k"})
    drawn = [ax.scatter(*points[m].T, c=colours[m], plotnonfinite=True, **style) for m, style in styles]
    ax.set(title=title, xlabel=axis_names[0], ylabel=axis_names[1], xticks=[], yticks=[])  # its scale has no meaning
    return drawn
