"""Plots of controllers and matches show the numbers they are given, and can be read."""

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_hex
from test_plots import figure_of, texts

from vaefx_lib import figures, match_plots, plots

matplotlib.use("agg")
RNG = np.random.default_rng(0)
TRUE = RNG.uniform(size=(200, 6))
PREDICTED = np.clip(TRUE + RNG.normal(size=TRUE.shape) * np.linspace(0.05, 0.6, 6), 0, 1)
NAMES = ["l_delay", "r_delay", "feedback", "fb_tone", "fx_mix", "output"]
ROW = {"none": 2.0, "random": 2.6, "mean": 2.2, "ours": 1.0, "refined": 0.6, "oracle": 0.0}
TABLE = {
    name: {answer: value * scale for answer, value in ROW.items()} | {"gap_closed": 0.5, "refined_gap_closed": 0.7}
    for scale, name in zip(np.linspace(0.6, 1.6, 13), [*"ABCDEFGHI", *(f"Distortion for {x}" for x in "1234")])
}
HISTORY = {
    "epoch": np.arange(1, 16),
    "train_loss": np.geomspace(4, 2, 15),
    "valid_loss": np.geomspace(4, 3, 15),
    "settings_mae": np.geomspace(0.25, 0.15, 15),
    "settings_mae_middle": np.full(15, 0.25),
}
END_TO_END = {
    "step": np.arange(0, 151, 10),
    "loss": np.geomspace(1.2, 0.9, 16),
    "loss_none": np.full(16, 2.0),
    "loss_middle": np.full(16, 1.8),
    "settings_mae": np.geomspace(0.16, 0.15, 16),
}
DUMMY = {
    "mda:Overdrive": (["drive", "muffle", "output"], ["output"], np.full((3, 61, 3), 0.3)),
    "mda:Delay": (NAMES[2:], ["output"], np.geomspace(0.3, 0.01, 61)[:, None] * RNG.uniform(0.8, 1, (3, 1, 4))),
}
BELIEFS = RNG.dirichlet(np.ones(64), 6)
FIGURES = {
    "scatter": lambda: match_plots.plot_settings_scatter(TRUE, PREDICTED, NAMES, effect="mda:Delay"),
    "scatter, grey": lambda: match_plots.plot_settings_scatter(
        TRUE, PREDICTED, NAMES, effect="mda:Delay", audible=TRUE[:, ::-1] > 0.3
    ),
    "gap": lambda: match_plots.plot_gap(TABLE, title="Unseen speakers"),
    "gap, one": lambda: match_plots.plot_gap({"Overdrive": ROW | {"gap_closed": 0.5}}, title="Unseen speakers"),
    "training": lambda: match_plots.plot_controller_training(HISTORY, END_TO_END),
    "dummy": lambda: match_plots.plot_dummy(DUMMY, aim=0.05),
    "distributions": lambda: match_plots.plot_distributions(
        BELIEFS, TRUE[0], NAMES, effect="mda:Delay", predicted=PREDICTED[0]
    ),
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
    shown = texts(fig) + [text for ax in fig.axes for text in ax.texts]
    boxes = [(text.get_text(), text.get_window_extent(renderer)) for text in shown]
    legends = [*fig.legends, *(ax.get_legend() for ax in fig.axes if ax.get_legend())]
    boxes += [("legend", legend.get_window_extent(renderer)) for legend in legends]
    for i, (a, box_a) in enumerate(boxes):
        for b, box_b in boxes[i + 1 :]:
            wide = min(box_a.x1, box_b.x1) - max(box_a.x0, box_b.x0)
            high = min(box_a.y1, box_b.y1) - max(box_a.y0, box_b.y0)
            assert wide < -8 or high < 1, f"{a!r} and {b!r} touch"
    assert fig._suptitle is not None or any(ax.get_title() for ax in fig.axes)


def test_a_setting_is_drawn_at_its_true_and_predicted_value_with_its_r2():
    true = np.array([[0.1], [0.5], [0.9]])
    fig = match_plots.plot_settings_scatter(true, true[::-1], ["drive"], effect="mda:Overdrive")
    (ax,) = fig.axes
    np.testing.assert_allclose(ax.collections[1].get_offsets(), np.hstack([true, true[::-1]]))
    assert to_hex(ax.collections[1].get_facecolor()[0]).upper() == plots.effect_colour("mda:Overdrive")
    assert ax.get_title() == "drive: R2 -3.00"  # 1 - (0.64 + 0 + 0.64) / (0.16 + 0 + 0.16)


def test_what_cannot_be_heard_is_grey_and_has_no_say_in_r2():
    true = np.array([[0.1, 0.1], [0.9, 0.9], [0.5, 0.5]])
    predicted = np.array([[0.1, 0.5], [0.9, 0.5], [0.0, 0.5]])
    audible = np.array([[True, False], [True, False], [False, False]])
    fig = match_plots.plot_settings_scatter(true, predicted, ["drive", "output"], audible=audible)
    assert [ax.get_title() for ax in fig.axes] == ["drive: R2 1.00", "output: never heard"]
    grey = fig.axes[0].collections[0]
    np.testing.assert_allclose(grey.get_offsets(), [[0.5, 0.0]])
    assert "grey: cannot be heard" in fig._supxlabel.get_text()


def test_every_answer_is_a_dot_at_its_distance_in_the_row_of_its_effect():
    drawn = match_plots.plot_gap(TABLE)
    assert len(drawn) == len(ROW)
    for dots, answer in zip(drawn, ("none", "random", "mean", "ours", "refined", "oracle")):
        assert dots.get_label() == match_plots.ANSWERS[answer][0]
        np.testing.assert_allclose(dots.get_offsets(), [(row[answer], y) for y, row in enumerate(TABLE.values())])
    said = [text.get_text() for text in drawn[0].axes.texts]
    assert said.count("50 % | 70 %") == len(TABLE)


def test_answers_that_were_not_tried_are_not_drawn():
    row = {"none": 2.0, "ours": 1.0, "oracle": 0.0, "gap_closed": 0.5}
    ax = plt.subplots()[1]
    drawn = match_plots.plot_gap({"Overdrive": row}, ax=ax)
    assert [dots.get_label() for dots in drawn] == ["dry input", "controller and critic", "best there is"]
    assert all(dots.axes is ax for dots in drawn)
    assert [text.get_text() for text in ax.texts] == ["50 %", "gap closed"]


def test_answers_differ_in_marker_and_colour():
    for part in (1, 2):
        assert len({look[part] for look in match_plots.ANSWERS.values()}) == len(match_plots.ANSWERS)


def test_the_training_is_drawn_beside_what_it_has_to_beat():
    fig = match_plots.plot_controller_training(HISTORY, END_TO_END)
    heard = fig.axes[1]
    levels = {line.get_label(): line.get_ydata()[0] for line in heard.lines[1:]}
    assert levels == {"dry input": 2.0, "all settings 0.5": 1.8, "best there is": 0.0}
    np.testing.assert_array_equal(heard.lines[0].get_ydata(), END_TO_END["loss"])
    np.testing.assert_array_equal(fig.axes[2].lines[0].get_ydata(), HISTORY["settings_mae"])


def test_errors_are_drawn_as_the_mean_over_the_seeds_and_what_cannot_be_heard_is_dashed():
    fig = match_plots.plot_dummy(DUMMY, aim=0.05)
    errors = DUMMY["mda:Delay"][2]
    tone, output, aim = fig.axes[1].lines[1], fig.axes[1].lines[3], fig.axes[1].lines[4]
    np.testing.assert_allclose(tone.get_ydata(), errors[:, :, 1].mean(0))
    assert tone.get_label() == "fb_tone" and tone.get_linestyle() == "-"
    assert output.get_label() == "output (inaudible)" and output.get_linestyle() == "--"
    assert set(aim.get_ydata()) == {0.05}
    band = fig.axes[1].collections[1].get_paths()[0].vertices
    assert band[:, 1].max() == pytest.approx(errors[:, :, 1].max())
    assert band[:, 1].min() == pytest.approx(errors[:, :, 1].min())


def test_a_flat_belief_lies_on_the_line_of_knowing_nothing():
    fig = match_plots.plot_distributions(np.full((1, 64), 1 / 64), [0.3], ["drive"])
    (ax,) = fig.axes
    np.testing.assert_allclose(ax.patches[0].get_data().values, 1)
    assert ax.lines[0].get_ydata()[0] == 1
    assert ax.lines[1].get_xdata()[0] == 0.3
