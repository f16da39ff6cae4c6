"""Plots of maps show the numbers they are given, and can be read."""

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_hex
from test_plots import figure_of, texts

from vaefx_lib import figures, playable_plots, plots

matplotlib.use("agg")
RNG = np.random.default_rng(0)
TABLE = {
    method: {str(d): dict.fromkeys(playable_plots.PANELS, 0.1 * i + 1 / d) for d in (2, 4, 8)}
    for i, method in enumerate(playable_plots.METHODS)
}
TABLE["baselines"] = {name: {"roundtrip_mrstft": 1.0 + i} for i, name in enumerate(playable_plots.BASELINES)}
PLACES = {"bottleneck": RNG.normal(size=(60, 2)), "UMAP": RNG.normal(size=(60, 2))}
COLOURS = {
    "effect": ["mda:Overdrive"] * 30 + ["mda:Delay"] * 30,
    "Delay fx_mix": np.append(np.full(30, np.nan), np.linspace(0, 1, 30)),
    "brightness (kHz)": np.linspace(0.5, 4, 60),
}
FIGURES = {
    "comparison": lambda: playable_plots.plot_comparison(TABLE, title="Maps of Overdrive and of Delay"),
    "maps": lambda: playable_plots.plot_maps(PLACES, COLOURS, behind={n: 2 * p for n, p in PLACES.items()}),
}


@pytest.fixture(autouse=True)
def style():
    with matplotlib.rc_context():
        figures.set_style()
        yield
    plt.close("all")


@pytest.mark.parametrize("name", FIGURES)
def test_nothing_in_a_figure_touches_or_is_cut_off(name, tmp_path):
    fig = figure_of(FIGURES[name]())
    fig.savefig(tmp_path / "figure.png", dpi=figures.DPI)
    fig.set_dpi(figures.DPI)
    renderer = fig.canvas.get_renderer()
    box, (width, height) = fig.get_tightbbox(renderer), fig.get_size_inches()
    assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height
    boxes = [(text.get_text(), text.get_window_extent(renderer)) for text in texts(fig)]
    boxes += [("legend", legend.get_window_extent(renderer)) for legend in fig.legends]
    for i, (a, box_a) in enumerate(boxes):
        for b, box_b in boxes[i + 1 :]:
            wide = min(box_a.x1, box_b.x1) - max(box_a.x0, box_b.x0)
            high = min(box_a.y1, box_b.y1) - max(box_a.y0, box_b.y0)
            assert wide < -8 or high < 1, f"{a!r} and {b!r} touch"


def test_every_score_of_every_method_is_a_point_over_its_dimensions():
    fig = FIGURES["comparison"]()
    for ax, score in zip(fig.axes, playable_plots.PANELS):
        for line, method in zip(ax.lines, playable_plots.METHODS):
            np.testing.assert_allclose(line.get_ydata(), [row[score] for row in TABLE[method].values()])
    levels = {line.get_label(): line.get_ydata()[0] for line in fig.axes[0].lines[len(playable_plots.METHODS) :]}
    assert levels == {"dry sound": 1, "all settings 0.5": 2, "random settings": 3, "controller": 4}
    assert [text.get_text() for text in fig.axes[0].get_xticklabels()] == ["2", "4", "8"]


def test_methods_differ_in_marker_and_in_colour():
    for part in (1, 2):
        assert len({look[part] for look in playable_plots.METHODS.values()}) == len(playable_plots.METHODS)


def test_sounds_lie_at_their_places_in_the_colour_of_their_effect_or_number():
    fig = playable_plots.plot_maps(PLACES, COLOURS)
    first, second = fig.axes[0], fig.axes[1]
    for dots, effect, places in zip(
        first.collections, ("mda:Overdrive", "mda:Delay"), np.split(PLACES["bottleneck"], 2)
    ):
        np.testing.assert_allclose(dots.get_offsets(), places)
        assert to_hex(dots.get_facecolor()[0]).upper() == plots.effect_colour(effect)
    assert [ax.get_title() for ax in fig.axes[:6]] == [*COLOURS, "", "", ""]
    (dots,) = second.collections
    assert np.ma.getmaskarray(dots.get_array()).sum() == 30  # grey
    np.testing.assert_allclose(sorted(dots.get_offsets()[-30:, 0]), sorted(PLACES["bottleneck"][30:, 0]))
