"""Pictures that follow a slider are what matplotlib would draw anew, and places on them are where they should be."""

import io

import matplotlib.image
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from vaefx_lib import config, pictures, plots

STFT = config.preset("smoke").stft


def pixels(png):
    return matplotlib.image.imread(io.BytesIO(png))[..., :3]


def pair(seed):
    return np.random.default_rng(seed).uniform(0, 4, (2, 65, STFT.num_bins)).astype(np.float32)


def hills(shift):
    """Smooth spectrograms: how pixels share bins and frames makes no difference."""
    t, f = np.meshgrid(np.arange(65) / 65, np.arange(STFT.num_bins) / STFT.num_bins, indexing="ij")
    S = [2 + np.sin(2 * np.pi * (2 * t + shift)) * np.cos(2 * np.pi * (f + i * shift)) for i in (1, 2)]
    return np.array(S, np.float32)


def whole_drawing(first, second):
    """What matplotlib draws of the second pair on the colour scale of the first, (height, width, 3) in [0, 1]."""
    figure = plots.plot_pair(first, STFT, "a title")
    for ax, S in zip(figure.axes[:2], second):
        ax.images[0].set_data(S.T)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    plt.close(figure)
    return np.asarray(canvas.buffer_rgba())[..., :3] / 255


def test_a_picture_is_what_a_whole_new_drawing_of_the_pair_would_be_but_for_the_shades_of_its_colours():
    first, second = hills(0.0), hills(0.3)
    quick, whole = pixels(pictures.PairPicture(first, STFT, "a title").png(second)), whole_drawing(first, second)
    assert quick.shape == whole.shape
    apart = np.abs(quick - whole).max(axis=2)
    assert apart.mean() < 0.01
    assert (apart > 0.1).mean() < 0.02
    assert np.abs(quick - whole_drawing(first, first)).max(axis=2).mean() > 0.05  # so it would tell them apart


def test_a_bright_bin_is_at_its_time_and_frequency():
    dark = np.full((2, 65, STFT.num_bins), 0.1, np.float32)
    loud = dark.copy()
    loud[1, 20:23, 100:108] = 4.0
    first = pair(0)  # of a scale that reaches as far
    picture = pictures.PairPicture(first, STFT, "a title")
    middles = []
    for pictures_of in (lambda S: pixels(picture.png(S)), lambda S: whole_drawing(first, S)):
        changed = np.argwhere(np.abs(pictures_of(loud) - pictures_of(dark)).max(axis=2) > 0.3)
        assert len(changed) > 20
        middles.append(changed.mean(axis=0))
    assert middles[0] == pytest.approx(middles[1], abs=1.0)


def test_only_the_images_change_and_going_back_gives_the_same_bytes():
    picture = pictures.PairPicture(pair(0), STFT)
    there, elsewhere, back = (picture.png(pair(seed)) for seed in (0, 1, 0))
    assert there == back != elsewhere
    changed = (pixels(there) != pixels(elsewhere)).any(axis=2)
    inside = np.zeros_like(changed)
    for window, *_ in picture.windows:
        inside[window] = True
    assert changed[inside].mean() > 0.5
    assert 0.4 < inside.mean() < 0.9
    assert not changed[~inside].any()


def test_no_figure_is_left_for_a_notebook_to_show():
    before = plt.get_fignums()
    pictures.PairPicture(pair(0), STFT)
    pictures.MapPicture(np.eye(4), [0, 0], [1, 1], "x")
    assert plt.get_fignums() == before


def test_a_place_and_its_pixel_are_each_others_inverse_and_the_mark_is_there():
    low, high = [-3.0, 10.0], [2.0, 30.0]
    picture = pictures.MapPicture(np.zeros((4, 4)), low, high, "drive (%)")
    plain = picture.drawn / 255
    for z in ([-3.0, 10.0], [2.0, 30.0], [0.5, 12.0]):
        column, row = picture.pixel(z)
        assert picture.place(column, row) == pytest.approx(z, abs=0.1)
        changed = np.argwhere((np.abs(pixels(picture.png(z)) - plain) > 0.01).any(axis=2))
        assert len(changed)
        assert changed.mean(axis=0) == pytest.approx([row, column], abs=3)
    left, right = picture.pixel([-3.0, 20.0])[0], picture.pixel([2.0, 20.0])[0]
    low_row, high_row = picture.pixel([0, 10.0])[1], picture.pixel([0, 30.0])[1]
    assert left < right
    assert low_row > high_row  # rows are counted from the top
    assert picture.place(-50, 1e6).tolist() == [-3.0, 10.0]  # beside the map: its border


def test_a_map_has_its_origin_below_on_the_left_and_effects_have_their_colours():
    values = np.array([[0, 1], [1, 1]])
    names = ("mda:Overdrive", "mda:Delay")
    picture = pictures.MapPicture(values, [0, 0], [1, 1], "effect", names)
    colours = [picture.drawn[row, column] / 255 for column, row in (picture.pixel(z) for z in ([0.2, 0.2], [0.8, 0.8]))]
    expected = [plt.matplotlib.colors.to_rgb(plots.effect_colour(name)) for name in names]
    assert np.allclose(colours, expected, atol=0.01)


@pytest.mark.parametrize("palette", [None, np.arange(768, dtype=np.uint8).reshape(256, 3)])
def test_a_png_file_is_read_back_to_the_same_pixels(palette):
    picture = np.random.default_rng(0).integers(0, 256, (7, 11) if palette is not None else (7, 11, 3), np.uint8)
    read = np.round(255 * pixels(pictures.to_png(picture, palette))).astype(int)
    assert np.array_equal(read, picture if palette is None else palette[picture])
