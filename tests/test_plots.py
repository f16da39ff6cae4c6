"""Plots show the data they are given at the right place and in colours that everyone can tell apart."""

import itertools

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_rgb, to_rgba
from matplotlib.figure import Figure

from vaefx_lib import config, figures, latent_plots, plots, spectrogram

matplotlib.use("agg")
STFT = config.Stft(num_frames=129, n_fft=1024, hop_length=512, win_length=1024)
EFFECTS = np.array(["mda:Overdrive", "mda:Delay"] * 200)
UNSEEN = np.arange(400) % 5 == 0


@pytest.fixture(autouse=True)
def style():
    with matplotlib.rc_context():
        figures.set_style()
        yield
    plt.close("all")


def noise(*shape, seed=0):
    return np.random.default_rng(seed).random(shape, dtype=np.float32)


PAIR, OTHER = noise(2, 129, 513), noise(2, 129, 513, seed=1)
POINTS = noise(400, 2)
HISTORY = {
    "epoch": np.arange(1, 13),
    "train_loss": np.linspace(9e4, 3e4, 12),
    "valid_mse_dry": np.linspace(0.6, 0.3, 12),
    "valid_mse_wet": np.linspace(0.5, 0.2, 12),
    "train_kl": np.linspace(20, 120, 12),
    "seconds": np.ones(12),
}
COLUMNS = ["$X_1$", r"$\hat X_1$", *(rf"$\alpha={a:.2f}$" for a in np.linspace(0, 1, 8)), r"$\hat X_2$", "$X_2$"]
SCORES = {"accuracy, random": {"VAE": 0.97, "PCA": 0.9, "chance": 0.5}, "silhouette": {"VAE": 0.3, "PCA": -0.05}}
SETTINGS = {
    f"Overdrive setting{i} (100%)": {"VAE": 0.9, "PCA": -0.3, "no model": 0.1, "VAE, all clips": 0.5} for i in range(9)
}
PANELS = {
    "dummy settings": lambda ax: latent_plots.plot_latent(POINTS, EFFECTS, unseen=UNSEEN, ax=ax),
    "random settings": lambda ax: latent_plots.plot_latent(POINTS, EFFECTS, unseen=UNSEEN, ax=ax),
    "feedback": lambda ax: latent_plots.plot_latent_values(POINTS, noise(400), label="%", unseen=UNSEEN, ax=ax),
    "PCA": lambda ax: latent_plots.plot_latent(POINTS, EFFECTS, unseen=UNSEEN, ax=ax, axis_names=("PC 1", "PC 2")),
}
CONFUSION = {"mda:Delay": {"mda:Delay": 0.98, "mda:Overdrive": 0.02}, "mda:Overdrive": {"mda:Overdrive": 1.0}}
DIMENSIONS = {"kl": noise(64), "groups": {"content": slice(48), "effect": slice(48, 64)}}
FIGURES = {
    "waveform": lambda: plots.plot_waveform(noise(24_000), 24_000, title="dry"),
    "spectrogram": lambda: plots.plot_spectrogram(PAIR[0], STFT, title="dry"),
    "pair": lambda: plots.plot_pair(PAIR, STFT, "Delay"),
    "reconstruction": lambda: plots.plot_reconstruction(
        PAIR, OTHER, STFT, mse=(0.25, 0.2), pca_mse=(0.33, 0.3), title="Delay, unseen speaker bm_george"
    ),
    "interpolation": lambda: plots.plot_interpolation(
        np.stack([PAIR] * 12), COLUMNS, STFT, footnote="The dry row changes by 0.043 of what the wet row does. " * 4
    ),
    "latent": lambda: latent_plots.plot_latent(POINTS, EFFECTS, unseen=UNSEEN, title="random settings"),
    "values": lambda: latent_plots.plot_latent_values(
        POINTS, noise(400), label="feedback (%)", unseen=UNSEEN, title="Delay"
    ),
    "latent_space": lambda: latent_plots.plot_latent_space(PANELS),
    "history": lambda: plots.plot_history(HISTORY, pca_mse=(0.33, 0.3)),
    "kl": lambda: plots.plot_kl_per_dimension(noise(64), groups={"content": slice(48), "effect": slice(48, 64)}),
    "settings": lambda: plots.plot_settings(noise(100, 5), list("abcde"), effect="mda:Delay"),
    "confusion": lambda: latent_plots.plot_confusion(CONFUSION, title="VAE"),
    "many effects": lambda: latent_plots.plot_confusion(
        {f"mda:Effect{i}": {f"mda:Effect{j}": float(i == j) for j in range(5)} for i in range(5)}, title="five"
    ),
    "dimensions": lambda: latent_plots.plot_dimensions(
        DIMENSIONS["kl"], noise(64), groups=DIMENSIONS["groups"], label="R2", title="settings"
    ),
    "traversal": lambda: latent_plots.plot_traversal(
        noise(2, 5, 65, 513),
        STFT,
        rows=["Delay\ndimension 112"] * 2,
        columns=["-3", "-1.5", "0", "+1.5", "+3"],
        title="VAE",
    ),
    "readings": lambda: latent_plots.plot_latent_readings(
        SETTINGS, SETTINGS, **DIMENSIONS, alone=noise(64), weights=noise(64), confusion=dict.fromkeys("abc", CONFUSION)
    ),
    "scores": lambda: plots.plot_scores(SCORES, title="Unseen speakers", label="1 is best"),
}


def figure_of(drawn):
    while isinstance(drawn, list | tuple) and not hasattr(drawn, "patches"):
        drawn = drawn[0]
    return drawn if isinstance(drawn, Figure) else getattr(drawn, "figure", None) or drawn.patches[0].figure


def texts(fig):
    """Every text outside the legends that is drawn."""
    found = [fig._suptitle, fig._supxlabel, fig._supylabel]
    for ax in fig.axes:
        found += [ax.title, ax._left_title, ax.xaxis.label, ax.yaxis.label]
        for axis in (ax.xaxis, ax.yaxis):
            low, high = sorted(axis.get_view_interval())
            margin = 1e-6 * (high - low)
            shown = zip(axis.get_ticklocs(), axis.get_ticklabels())
            found += [label for place, label in shown if low - margin <= place <= high + margin]
    return [text for text in found if text is not None and text.get_visible() and text.get_text()]


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_names_its_axes_and_nothing_in_it_touches_or_is_cut_off(name):
    fig = figure_of(FIGURES[name]())
    fig.savefig("/dev/null", format="png", dpi=figures.DPI)
    fig.set_dpi(figures.DPI)
    renderer = fig.canvas.get_renderer()
    box, (width, height) = fig.get_tightbbox(renderer), fig.get_size_inches()
    assert box.x0 >= 0
    assert box.y0 >= 0
    assert box.x1 <= width
    assert box.y1 <= height
    boxes = [(text.get_text(), text.get_window_extent(renderer)) for text in texts(fig)]
    assert len(boxes) >= 3
    for (a, box_a), (b, box_b) in itertools.combinations(boxes, 2):
        wide = min(box_a.x1, box_b.x1) - max(box_a.x0, box_b.x0)
        high = min(box_a.y1, box_b.y1) - max(box_a.y0, box_b.y0)
        assert wide < -8 or high < 1, f"{a!r} and {b!r} touch"
    said = " ".join(text for text, _ in boxes)
    for ax in fig.axes:
        named = ax.get_xlabel() or ax.get_ylabel() or (not ax.xaxis.get_ticklabels() and not ax.yaxis.get_ticklabels())
        assert named or fig._supxlabel, said
    assert fig._suptitle is not None or any(ax.get_title() or ax.get_title("left") for ax in fig.axes)


# --- colours ----------------------------------------------------------------------------------------------------------
# What dichromats see of linear RGB: Machado, Oliveira, Fernandes (2009), severity 1
DICHROMACY = {
    "none": np.eye(3),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]]
    ),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
}
XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def linear(colour):
    rgb = np.array(to_rgb(colour))
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def lab(colour, seen=DICHROMACY["none"]):
    """CIE L*a*b* of a colour as someone sees it."""
    f = np.cbrt(np.maximum(XYZ @ np.clip(seen @ linear(colour), 0, 1) / (XYZ @ np.ones(3)), 1e-6))
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("seen", DICHROMACY)
def test_two_effects_never_look_alike(seen):
    colours = [*plots.EFFECT_COLOURS.values(), *plots.OTHER_COLOURS]
    assert len(set(colours)) == len(colours)
    for a, b in itertools.combinations(colours, 2):
        assert np.linalg.norm(lab(a, DICHROMACY[seen]) - lab(b, DICHROMACY[seen])) > 15, f"{a} and {b}"


def test_overdrive_and_delay_differ_in_print_and_stand_out_on_paper():
    overdrive, delay = (lab(plots.effect_colour(name))[0] for name in ("mda:Overdrive", "mda:Delay"))
    assert abs(overdrive - delay) > 5
    for name in ("mda:Overdrive", "mda:Delay"):
        assert 1.05 / (XYZ[1] @ linear(plots.effect_colour(name)) + 0.05) > 3  # contrast with white, WCAG


def test_an_effect_keeps_its_colour():
    assert plots.effect_colour("mda:Overdrive") == "#D55E00"
    assert plots.effect_colour("mda:Delay") == "#0072B2"
    assert plots.effect_colour("mda:Ambience") == "#009E73"
    assert {plots.effect_colour(f"other:{i}") for i in range(100)} == set(plots.OTHER_COLOURS)


# --- spectrograms -----------------------------------------------------------------------------------------------------
def test_a_beep_is_drawn_at_its_time_and_its_frequency():
    time_s = np.arange(STFT.num_samples) / STFT.sample_rate_hz
    beep = np.sin(2 * np.pi * 3000 * time_s) * np.exp(-(((time_s - 0.9) / 0.02) ** 2))
    fig, ax = plt.subplots(figsize=(12, 8))
    image = plots.plot_spectrogram(spectrogram.magnitude(beep, STFT), STFT, ax=ax, colourbar=False)
    fig.canvas.draw()
    brightness = np.asarray(fig.canvas.buffer_rgba())[::-1, :, :3].sum(axis=2).astype(float)  # row 0 at the bottom
    x0, y0, x1, y1 = np.ceil(ax.bbox.extents).astype(int) + (2, 2, -3, -3)
    inside = brightness[y0:y1, x0:x1]
    row, column = (where.mean() for where in np.nonzero(inside == inside.max()))
    at_s, at_khz = ax.transData.inverted().transform((column + x0, row + y0))
    assert at_s == pytest.approx(0.9, abs=0.03)
    assert at_khz == pytest.approx(3.0, abs=0.05)
    assert image.cmap.name == "magma"
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("time (s)", "frequency (kHz)")


def test_the_axes_of_a_spectrogram_end_at_its_last_frame_and_at_half_the_rate():
    image = plots.plot_spectrogram(PAIR[0], STFT)
    assert image.axes.get_xlim() == pytest.approx((0, STFT.duration_s))
    assert image.axes.get_ylim() == pytest.approx((0, 12))
    left, right, bottom, top = image.get_extent()
    assert (right - left) / 129 == pytest.approx(STFT.hop_length / STFT.sample_rate_hz)
    assert (top - bottom) / 513 == pytest.approx(24 / 1024)
    assert np.array_equal(image.get_array(), PAIR[0].T)


@pytest.mark.parametrize("name, count", [("pair", 2), ("interpolation", 24)])
def test_spectrograms_side_by_side_share_a_colour_scale(name, count):
    images = [ax.images[0] for ax in figure_of(FIGURES[name]()).axes if ax.images]
    assert len(images) == count
    assert len({image.get_clim() for image in images}) == 1


def test_a_reconstruction_is_compared_on_one_scale_and_its_error_is_white_at_zero():
    fig = plots.plot_reconstruction(PAIR, OTHER, STFT, mse=(0.2534, 0.2), pca_mse=(0.335, 0.3), title="Delay")
    images = [ax.images[0] for ax in fig.axes if ax.images]
    expected = [PAIR[0], OTHER[0], OTHER[0] - PAIR[0], PAIR[1], OTHER[1], OTHER[1] - PAIR[1]]
    for image, S in zip(images, expected, strict=True):
        assert np.array_equal(image.get_array(), S.T)
    assert len({images[i].get_clim() for i in (0, 1, 3, 4)}) == 1
    assert images[2].get_clim() == images[5].get_clim()
    assert sum(images[2].get_clim()) == 0
    assert np.ptp(images[2].to_rgba(0.0)[:3]) < 0.02
    assert lab(images[2].to_rgba(0.0)[:3])[0] > 95
    assert "MSE 0.253 (PCA 0.335)" in images[1].axes.get_title()
    assert "PCA" not in plots.plot_reconstruction(PAIR, OTHER, STFT, mse=(1, 1), title="").axes[1].get_title()


def test_silence_and_half_precision_can_be_drawn():
    silence = np.zeros((2, 129, 513), np.float16)
    plots.plot_reconstruction(silence, silence, STFT, mse=(0, 0), title="silence").canvas.draw()


def test_given_limits_are_the_ends_of_the_scale():
    assert plots.plot_spectrogram(PAIR[0], STFT, limits=(0.25, 2.0)).get_clim() == (0.25, 2.0)


# --- points -----------------------------------------------------------------------------------------------------------
def test_each_point_has_the_colour_of_its_effect_and_unseen_speakers_an_edge():
    trained, unseen = latent_plots.plot_latent(POINTS, EFFECTS, unseen=UNSEEN)
    for dots, mask in ((trained, ~UNSEEN), (unseen, UNSEEN)):
        assert np.array_equal(dots.get_offsets(), POINTS[mask])
        expected = [to_rgba(plots.effect_colour(name))[:3] for name in EFFECTS[mask]]
        assert np.allclose(dots.get_facecolors()[:, :3], expected)
    assert unseen.get_sizes()[0] > trained.get_sizes()[0]
    assert trained.get_linewidths()[0] == 0
    assert to_rgba("black") in map(tuple, unseen.get_edgecolors())
    legend = [text.get_text() for text in trained.axes.get_legend().get_texts()]
    assert legend == ["Delay", "Overdrive", "unseen speaker"]


def test_the_legend_lists_unseen_speakers_only_if_there_are_any():
    drawn = latent_plots.plot_latent(POINTS, EFFECTS, unseen=np.zeros(400, bool))
    assert [text.get_text() for text in drawn[0].axes.get_legend().get_texts()] == ["Delay", "Overdrive"]


def test_points_without_a_value_are_grey_and_the_scale_spans_the_others():
    values = np.where(EFFECTS == "mda:Delay", np.linspace(20, 80, 400), np.nan)
    drawn = latent_plots.plot_latent_values(POINTS, values, label="feedback (%)", unseen=UNSEEN)
    drawn[0].figure.canvas.draw()
    for dots, mask in zip(drawn, (~UNSEEN, UNSEEN)):
        grey = np.ptp(dots.get_facecolors()[:, :3], axis=1) == 0
        assert np.array_equal(grey, np.isnan(values[mask]))
        assert dots.get_clim() == (np.nanmin(values), np.nanmax(values))
    assert drawn[0].figure.axes[-1].get_ylabel() == "feedback (%)"


def test_the_panels_of_figure_1_are_lettered_in_order():
    titles = [ax.get_title("left") for ax in latent_plots.plot_latent_space(PANELS).axes if ax.get_title("left")]
    assert titles == ["(a) dummy settings", "(b) random settings", "(c) feedback", "(d) PCA"]


def test_panels_share_one_legend_outside_of_them():
    fig = latent_plots.plot_latent_space(PANELS)
    assert [ax for ax in fig.axes if ax.get_legend()] == []
    (legend,) = fig.legends
    assert [text.get_text() for text in legend.get_texts()] == ["Delay", "Overdrive", "unseen speaker"]


# --- curves and bars --------------------------------------------------------------------------------------------------
def test_a_history_shows_what_there_is_against_pca():
    loss, mse, kl = plots.plot_history(HISTORY, pca_mse=(0.33, 0.31)).axes
    assert [len(ax.lines) for ax in (loss, mse, kl)] == [1, 4, 1]
    assert np.array_equal(mse.lines[1].get_ydata(), HISTORY["valid_mse_wet"])
    for curve, dashed, value in zip(mse.lines[:2], mse.lines[2:], (0.33, 0.31)):
        assert set(dashed.get_ydata()) == {value}
        assert dashed.get_linestyle() == "--"
        assert dashed.get_color() == curve.get_color()
    assert len(plots.plot_history({"epoch": [1, 2], "train_kl": [3.0, 4.0]}).axes) == 1


def test_kl_is_sorted_within_each_group_and_dead_dimensions_show():
    kl = np.array([0.0, 3.0, 1.0, 2.0, 5.0])
    content, effect = plots.plot_kl_per_dimension(kl, groups={"content": slice(0, 3), "effect": slice(3, 5)})
    assert [bar.get_height() for bar in content] == [3, 1, 0]
    assert [bar.get_height() for bar in effect] == [5, 2]
    assert [round(bar.get_center()[0]) for bar in (*content, *effect)] == [0, 1, 2, 3, 4]
    (bars,) = plots.plot_kl_per_dimension(kl)
    assert [bar.get_height() for bar in bars] == [5, 3, 2, 1, 0]


def test_every_setting_is_counted_once():
    fig = plots.plot_settings(np.linspace([0, 0.5], [1, 0.5], 50), ["drive", "muffle"], effect="mda:Overdrive")
    counts = [[bar.get_height() for bar in ax.patches] for ax in fig.axes]
    assert [sum(c) for c in counts] == [50, 50]
    assert max(counts[1]) == 50
    assert {bar.get_facecolor() for ax in fig.axes for bar in ax.patches} == {to_rgba("#D55E00")}


def test_scores_stand_beside_their_baselines_and_a_missing_one_leaves_a_gap():
    drawn = plots.plot_scores(SCORES)
    assert [[bar.get_width() for bar in bars] for bars in drawn] == [[0.97, 0.3], [0.9, -0.05], [0.5]]
    ax = drawn[0][0].axes
    assert [label.get_text() for label in ax.get_yticklabels()] == list(SCORES)
    for bars in drawn:
        for row, bar in enumerate(bars):
            assert abs(bar.get_y() + bar.get_height() / 2 - row) < 0.4
    low, high = ax.get_xlim()
    assert low < -0.05
    assert high > 0.97


def test_a_confusion_matrix_has_true_rows_predicted_columns_and_its_shares_in_writing():
    image = latent_plots.plot_confusion({"x:A": {"x:A": 0.75, "x:B": 0.25}, "x:B": {"x:B": 1.0}})
    ax = image.axes
    assert image.get_array().tolist() == [[0.75, 0.25], [0, 1]]
    assert image.get_clim() == (0, 1)
    written = {text.get_position(): text.get_text() for text in ax.texts}
    assert written == {(0, 0): "0.750", (1, 0): "0.250", (0, 1): "0.000", (1, 1): "1.000"}
    for axis, label in ((ax.xaxis, "predicted"), (ax.yaxis, "true")):
        assert axis.get_label_text() == label
        assert [tick.get_text() for tick in axis.get_ticklabels()] == ["A", "B"]


def test_dimensions_are_drawn_at_their_cost_and_at_what_they_say():
    values = noise(64, seed=2)
    content, effect = latent_plots.plot_dimensions(**DIMENSIONS, values=values, label="R2")
    for dots, part in ((content, slice(48)), (effect, slice(48, 64))):
        assert np.array_equal(dots.get_offsets(), np.column_stack([DIMENSIONS["kl"][part], values[part]]))
    assert content.axes.get_xlabel() == "KL of the dimension (nats)"


def test_a_traversal_has_a_row_for_each_dimension_on_one_colour_scale():
    S = noise(2, 3, 65, 513)
    fig = latent_plots.plot_traversal(S, STFT, rows=["a", "b"], columns=["-3", "0", "+3"])
    images = [ax.images[0] for ax in fig.axes if ax.images]
    assert [np.array_equal(image.get_array(), S[i // 3, i % 3].T) for i, image in enumerate(images)] == [True] * 6
    assert len({image.get_clim() for image in images}) == 1
    assert [ax.get_title() for ax in fig.axes[:3]] == ["-3", "0", "+3"]


def test_the_panels_of_the_readings_are_lettered_and_share_their_rows():
    fig = FIGURES["readings"]()
    titles = [ax.get_title("left") for ax in fig.axes]
    assert [title[:3] for title in titles] == [f"({letter})" for letter in "abcdefg"]
    first, second = fig.axes[:2]
    assert first.get_ylim() == second.get_ylim()
    assert [label.get_text() for label in first.get_yticklabels()] == list(SETTINGS)


def test_a_plot_on_given_axes_makes_no_figure_and_changes_no_data():
    _, ax = plt.subplots()
    S, points = PAIR[0].copy(), POINTS.copy()
    plots.plot_spectrogram(S, STFT, ax=ax)
    latent_plots.plot_latent(points, EFFECTS, unseen=UNSEEN, ax=ax)
    plots.plot_kl_per_dimension(S[0], ax=ax)
    plots.plot_scores(SCORES, ax=ax)
    latent_plots.plot_confusion(CONFUSION, ax=ax)
    latent_plots.plot_dimensions(**DIMENSIONS, values=S[0][:64], label="R2", ax=ax)
    assert len(plt.get_fignums()) == 1
    assert np.array_equal(S, PAIR[0])
    assert np.array_equal(points, POINTS)
