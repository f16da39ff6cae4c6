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
from collections.abc import Mapping, Sequence

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
    image = draw_image(ax, S, stft, limits or (0, scale_end(S)))
    ax.set_title(title)
    if colourbar:
        ax.figure.colorbar(image, ax=ax, label=unit_of(stft), extend="max")
    return image


def plot_pair(pair, stft: Stft, title: str) -> plt.Figure:
    """Dry and wet side by side, pair of shape (2, frames, bins), on one colour scale. Used in notebook 01."""
    fig, axes = plt.subplots(1, 2, figsize=(9, 3.4), sharex=True, sharey=True, layout="constrained")
    for ax, S, channel in zip(axes, pair, CHANNEL_COLOURS):
        image = plot_spectrogram(S, stft, ax=ax, title=channel, limits=(0, scale_end(pair)), colourbar=False)
        ax.label_outer()
    fig.colorbar(image, ax=axes, label=unit_of(stft), extend="max", pad=0.01)
    fig.suptitle(title)
    return fig


def plot_reconstruction(original, reconstruction, stft: Stft, *, mse, pca_mse=None, title: str) -> plt.Figure:
    """Original, reconstruction and error (columns) of a pair, as in Figures 2 and 3. Used in notebooks 02 and 04.

    `original` and `reconstruction` have shape (2, frames, bins) and one colour scale, the errors have another. `mse`
    and `pca_mse` are (dry, wet), of standardised spectrograms, for the titles.
    """
    fig, axes = plt.subplots(2, 3, figsize=(11, 6), sharex=True, sharey=True, layout="constrained")
    errors = np.subtract(reconstruction, original, dtype=np.float32)
    largest, largest_error = scale_end(original), scale_end(np.abs(errors))
    for row, channel, *pictures, error, i in zip(axes, CHANNEL_COLOURS, original, reconstruction, errors, (0, 1)):
        for ax, S in zip(row, pictures):
            shown = draw_image(ax, S, stft, (0, largest))
        shown_error = draw_image(row[2], error, stft, (-largest_error, largest_error), cmap="PuOr")  # white at 0
        pca = f" (PCA {pca_mse[i]:.3f})" if pca_mse is not None else ""
        for ax, text in zip(row, ("original", f"reconstruction\nMSE {mse[i]:.3f}{pca}", "error")):
            ax.set_title(f"{channel}: {text}")
            ax.label_outer()
    fig.colorbar(shown, ax=axes[:, :2], label=unit_of(stft), extend="max", pad=0.01, aspect=40)
    fig.colorbar(shown_error, ax=axes[:, 2], label=f"error of {unit_of(stft)}", extend="both", pad=0.02, aspect=40)
    fig.suptitle(title)
    return fig


def plot_interpolation(columns, labels: Sequence[str], stft: Stft, *, footnote: str, title: str = "") -> plt.Figure:
    """A path through the latent space, dry above wet, as in Figures 4 and 5. Used in notebook 04.

    `columns` are original, reconstruction, the steps, reconstruction, original, array of shape (n_columns, 2, frames,
    bins), all on one colour scale; `labels` are their titles. `footnote` says what was measured along the path.
    """
    fig, axes = plt.subplots(2, len(columns), figsize=(12, 4.2), sharex=True, sharey=True, layout="constrained")
    fig.get_layout_engine().set(w_pad=0.015, h_pad=0.03, wspace=0.01)
    largest = scale_end(columns)
    for (i, j), ax in np.ndenumerate(axes):
        image = draw_image(ax, columns[j][i], stft, (0, largest))
        ax.set(xlabel="", ylabel=f"{('dry', 'wet')[i]}\nfrequency (kHz)", title=labels[j] if i == 0 else "")
        ax.xaxis.get_major_locator().set_params(nbins=3, integer=True)
        ax.label_outer(remove_inner_ticks=True)
    fig.colorbar(image, ax=axes, label=unit_of(stft), extend="max", pad=0.01, aspect=30)
    fig.supxlabel(f"time (s)\n{textwrap.fill(footnote, 140)}", fontsize="medium")
    fig.suptitle(title)
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


def scale_end(S) -> float:
    """The end of the colour scale of spectrograms."""
    return max(float(np.quantile(np.asarray(S, np.float32), WITHIN)), 1e-9)  # never an empty colour scale


def unit_of(stft: Stft) -> str:
    """The unit of a spectrogram, for a colour bar."""
    return rf"$|X|^{{{stft.power:g}}}$"


def draw_image(ax: Axes, S, stft: Stft, limits: tuple[float, float], cmap: str = "magma"):
    """A spectrogram's image on an axes, with units; returns it.

    Frame t is centred on t * hop_length, bin k on k * sample_rate_hz / n_fft; the axes ends at the outer centres."""
    step_s, step_khz = stft.hop_length / stft.sample_rate_hz, stft.sample_rate_hz / stft.n_fft / 1000
    S = np.asarray(S, np.float32)
    end_s, end_khz = (np.array(S.shape) - 1) * (step_s, step_khz)
    extent = (-step_s / 2, end_s + step_s / 2, -step_khz / 2, end_khz + step_khz / 2)
    image = ax.imshow(S.T, origin="lower", aspect="auto", extent=extent, cmap=cmap, vmin=limits[0], vmax=limits[1])
    ax.set(xlim=(0, end_s), ylim=(0, end_khz), xlabel="time (s)", ylabel="frequency (kHz)")
    return image
