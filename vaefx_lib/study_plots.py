"""Draw what the study of phase has measured, in the manner of `plots`. Used in notebook 07."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np

from vaefx_lib import plots
from vaefx_lib.config import Stft

REPRESENTATION_COLOURS = {"magnitude": "#999999", "wrapped": "#CC79A7", "complex": "#E69F00", "relative": "#0072B2"}


def plot_representations(rows: Mapping[str, Mapping[str, np.ndarray]], stft: Stft, *, shares, bars) -> plt.Figure:
    """One pair of clips in every representation, a row each; below, what each is worth. Used in notebook 07.

    Parameters
    ----------
    rows : mapping
        Representation -> channel -> array of shape (frames, bins), as `phase.Representation.analyse` gives it.
    stft : Stft
    shares : mapping
        Representation -> channel -> explained variance, for the titles.
    bars : mapping
        Name of a measure with its unit -> what was heard -> (value, deviation over the seeds); all with the same keys.
    """
    fig = plt.figure(figsize=(12, 12), layout="constrained")
    above, below = fig.subfigures(2, 1, height_ratios=(2.6, 1))
    columns = max(map(len, rows.values()))
    axes = above.subplots(len(rows), columns, sharex=True, sharey=True, squeeze=False)
    largest = max(float(np.quantile(row["wet"], plots.WITHIN)) for row in rows.values() if "wet" in row)
    scales = {}
    for line, (name, channels) in zip(axes, rows.items()):
        for ax in line[len(channels) :]:
            ax.set_axis_off()
        for ax, (channel, S) in zip(line, channels.items()):
            limits, cmap, kind = (0, largest), "magma", f"strength, $|X|^{{{stft.power:g}}}$"
            if channel.endswith("angle"):
                limits, cmap, kind = (-np.pi, np.pi), "twilight", "angle (rad)"  # ends as it begins, as an angle does
            elif channel.endswith(("cos", "sin")):
                limits, cmap, kind = (-largest, largest), "PuOr", "strength times cosine or sine"
            title = f"{channel} ({round(float(shares[name][channel]), 2) + 0:.2f})"  # + 0: no "-0.00"
            image = plots.plot_spectrogram(S, stft, ax=ax, title=title, limits=limits, colourbar=False)
            image.set_cmap(cmap)
            scales[kind] = image
            ax.set(xlabel="time (s)" if name == list(rows)[-1] else "", ylabel="")
        line[0].set_ylabel(f"{name}\nfrequency (kHz)")
    if len(next(iter(rows.values()))) < columns:  # room for the colour scales
        for place, (kind, image) in enumerate(scales.items()):
            above.colorbar(
                image, cax=axes[0, -1].inset_axes((0, 0.8 - 0.4 * place, 1, 0.08)), orientation="horizontal", label=kind
            )
    above.suptitle("What the network sees (and how much of its variance it explains)")
    heard = list(next(iter(bars.values())))
    colours = [REPRESENTATION_COLOURS.get(label.split(",")[0], "black") for label in heard]
    for ax, (measure, table) in zip(below.subplots(1, len(bars), sharey=True, squeeze=False)[0], bars.items()):
        values, deviations = np.transpose([table[label] for label in heard])
        drawn = ax.barh(range(len(heard)), values, xerr=deviations, color=colours, height=0.7)
        ax.bar_label(drawn, fmt="%.1f" if "dB" in measure else "%.2f", padding=3, fontsize=8)
        ax.axvline(0, color="black", lw=0.8)
        ax.set(xlabel=measure, xmargin=0.2, ylim=(len(heard) - 0.5, -0.5))
        ax.set_yticks(range(len(heard)), heard)
    below.suptitle("How the wet sound of unseen speakers comes out")
    return fig


def plot_stability(losses: Mapping[str, np.ndarray], *, window: int = 10) -> plt.Figure:
    """Loss per input value over steps, a line per seed, an axes per representation. Used in notebook 07.

    `losses` has arrays of shape (seeds, steps); each line is a mean over `window` steps.
    """
    fig, axes = plt.subplots(1, len(losses), figsize=(3.2 * len(losses), 3.2), sharey=True, layout="constrained")
    for ax, (name, runs) in zip(np.atleast_1d(axes), losses.items()):
        window = min(window, np.shape(runs)[1])
        for run in runs:
            smooth = np.convolve(run, np.ones(window) / window, mode="valid")
            ax.plot(np.arange(window, len(run) + 1), smooth, lw=1.2, color=REPRESENTATION_COLOURS.get(name))
        ax.axhline(1, ls=":", lw=1, color="black")
        ax.set(xlabel="step", title=name)
    np.atleast_1d(axes)[0].set_ylabel("loss per input value\n(dotted: always the mean)")
    return fig
