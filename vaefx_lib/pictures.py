"""Pictures that follow a slider: matplotlib draws once what stays, and only the pixels that move are set anew."""

from __future__ import annotations

import struct
import zlib

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import ListedColormap

from vaefx_lib import plots
from vaefx_lib.config import Stft

GREYS = 48  # of the 256 colours of a picture: for the letters and lines around the spectrograms
SHADES = 256 - GREYS  # of the colour map
MARK = 7  # pixels: half the size of the mark of a place


class PairPicture:
    """`plots.plot_pair`, drawn once; for another pair only the two spectrograms are.

    Each pixel of a spectrogram has the mean of its bins and its nearest frame, in one of `SHADES` colours.

    Parameters
    ----------
    pair : array, shape (2, frames, bins)
        The first one. The colours stay on its scale, so that pictures can be compared.
    stft : Stft
    title : str

    Used in `04_interpolation_figures` and `06_playable_latent`.
    """

    def __init__(self, pair, stft: Stft, title: str = ""):
        figure = plots.plot_pair(pair, stft, title)
        plt.close(figure)  # or a notebook would show it below the cell
        axes, canvas = figure.axes[:2], FigureCanvasAgg(figure)
        images = [ax.images[0] for ax in axes]
        self.largest = images[0].get_clim()[1]
        for image in images:
            image.set_visible(False)
        canvas.draw()
        rgb = np.asarray(canvas.buffer_rgba())[..., :3]
        shades = mpl.colormaps[images[0].get_cmap().name](np.linspace(0, 1, SHADES))[:, :3]
        self.palette = np.concatenate([np.linspace(0, 1, GREYS)[:, None] * np.ones(3), shades])
        self.palette = np.round(255 * self.palette).astype(np.uint8)
        self.drawn = _nearest(rgb, self.palette)  # (height, width)
        self.windows = [_window(ax, np.shape(pair)[1:], stft, len(rgb)) for ax in axes]

    def png(self, pair) -> bytes:
        """The picture of a pair (2, frames, bins) of the same shape as the first, as a PNG file."""
        picture = self.drawn.copy()
        for S, (pixels, frames, low, high) in zip(pair, self.windows, strict=True):
            sums = np.pad(np.cumsum(S, axis=1, dtype=np.float32), ((0, 0), (1, 0)))  # (frames, bins + 1)
            means = (sums[:, high] - sums[:, low]) / (high - low)  # (frames, rows)
            shade = np.clip(means * (SHADES / self.largest), 0, SHADES - 1).astype(np.uint8) + np.uint8(GREYS)
            picture[pixels] = shade.T[:, frames]
        return to_png(picture, self.palette)


class MapPicture:
    """A map of two dimensions, drawn once; then only the mark of a place moves.

    Parameters
    ----------
    values : array, shape (n, n)
        As `places.map_values` gives them.
    low, high : array, shape (2,)
        Ends of the axes.
    label : str
        What the values are, with their unit.
    names : sequence of str
        Of effects, if the values are their numbers.

    Used in `06_playable_latent`.
    """

    def __init__(self, values, low, high, label: str, names=()):
        self.figure = plot_map(values, low, high, label=label, names=names).axes.figure
        plt.close(self.figure)
        canvas = FigureCanvasAgg(self.figure)
        canvas.draw()
        self.drawn = np.array(canvas.buffer_rgba())[..., :3]  # (height, width, 3)
        self.box = self.figure.axes[0].get_window_extent()
        self.low, self.high = np.asarray(low, float), np.asarray(high, float)

    def png(self, place) -> bytes:
        """The map with a mark at a place, (2,), as a PNG file."""
        picture = self.drawn.copy()
        column, row = self.pixel(place)
        rows, columns = (np.abs(np.arange(n) - at) for n, at in zip(picture.shape, (row, column)))
        away = np.maximum(rows[:, None], columns)
        picture[(away > MARK - 2) & (away <= MARK + 2)] = 255
        picture[(away > MARK - 2) & (away <= MARK)] = 0  # a black square in a white one: seen on every colour
        return to_png(picture)

    def pixel(self, place) -> tuple[int, int]:
        """Column and row of the picture at which a place, (2,), lies."""
        share = (np.asarray(place, float) - self.low) / (self.high - self.low)
        column = self.box.x0 + share[0] * self.box.width
        row = len(self.drawn) - (self.box.y0 + share[1] * self.box.height)
        return round(float(column)), round(float(row))

    def place(self, column: float, row: float) -> np.ndarray:
        """The place, (2,), at a column and row of the picture; what is beside the map is brought to its border."""
        up = len(self.drawn) - row
        share = np.array([(column - self.box.x0) / self.box.width, (up - self.box.y0) / self.box.height])
        return self.low + np.clip(share, 0, 1) * (self.high - self.low)


def plot_map(values, low, high, *, label: str, names=(), ax=None):
    """A map of two latent dimensions coloured by what each place gives, array (n, n); returns the image.

    `low` and `high`, (2,) each, are the ends of the axes; `label` names the values and their unit. If they are numbers
    of `names`, effects, each has the colour that it has everywhere. Used in notebook 06.
    """
    ax = ax or plt.subplots(figsize=(4.6, 3.8), layout="constrained")[1]
    values = np.asarray(values, float)
    options = {"origin": "lower", "aspect": "auto", "extent": (low[0], high[0], low[1], high[1])}
    if names:
        colours = ListedColormap([plots.effect_colour(name) for name in names])
        image = ax.imshow(values, cmap=colours, vmin=-0.5, vmax=len(names) - 0.5, interpolation="nearest", **options)
        bar = ax.figure.colorbar(image, ax=ax, ticks=range(len(names)), label=label)
        bar.ax.set_yticklabels([plots.short_name(name) for name in names])
    else:
        image = ax.imshow(values, cmap="viridis", interpolation="bilinear", **options)
        ax.figure.colorbar(image, ax=ax, label=label)
    ax.set(xlabel="axis 1", ylabel="axis 2")
    return image


def to_png(pixels: np.ndarray, palette: np.ndarray | None = None) -> bytes:
    """A PNG file, made quickly rather than small.

    Parameters
    ----------
    pixels : array, uint8, shape (height, width, 3), or (height, width) with a palette
    palette : array, uint8, shape (up to 256, 3), optional

    References
    ----------
    W3C: Portable Network Graphics (PNG) Specification, second edition (2003), sections 5 and 11.
    """
    height, width = pixels.shape[:2]
    rows = np.zeros((height, 1 + pixels[0].size), np.uint8)  # each begins with the number of its filter: 0, none
    rows[:, 1:] = pixels.reshape(height, -1)
    kind = 2 if palette is None else 3
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0))]
    chunks += [] if palette is None else [(b"PLTE", palette.tobytes())]
    chunks += [(b"IDAT", zlib.compress(rows.tobytes(), 1)), (b"IEND", b"")]
    parts = [
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def _nearest(rgb: np.ndarray, palette: np.ndarray) -> np.ndarray:
    """Number of the nearest colour of a palette for each pixel: uint8 (height, width, 3) -> (height, width)."""
    colours, which = np.unique(rgb.reshape(-1, 3), axis=0, return_inverse=True)
    away = np.square(colours[:, None].astype(int) - palette.astype(int)).sum(axis=2)
    return away.argmin(axis=1).astype(np.uint8)[which].reshape(rgb.shape[:2])


def _window(ax, shape: tuple[int, int], stft: Stft, height: int):
    """The pixels within an axes (rows, columns), their frames, and the bins from `low` to below `high` of each row."""
    box = ax.get_window_extent()
    left, right = int(np.ceil(box.x0 + 0.6)), int(np.floor(box.x1 - 0.6))  # the spines lie on the border
    bottom, top = int(np.ceil(box.y0 + 0.6)), int(np.floor(box.y1 - 0.6))
    (_, end_s), (_, end_khz) = ax.get_xlim(), ax.get_ylim()
    seconds = (np.arange(left, right) + 0.5 - box.x0) / box.width * end_s
    frames = np.clip(np.round(seconds * stft.sample_rate_hz / stft.hop_length).astype(int), 0, shape[0] - 1)
    khz = (np.arange(top, bottom - 1, -1) - box.y0) / box.height * end_khz  # borders of rows, from the top
    bins = np.clip(np.round(khz * 1000 * stft.n_fft / stft.sample_rate_hz).astype(int), 0, shape[1] - 1)
    low, high = bins[1:], np.maximum(bins[:-1], bins[1:] + 1)
    return np.s_[height - top : height - bottom, left:right], frames, low, high
