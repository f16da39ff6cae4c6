"""The figures of the study of the loss show its numbers where they belong, and nothing of them is cut off."""

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure

from vaefx_lib import config, figures, loss_plots

matplotlib.use("agg")
STFT = config.Stft(num_frames=65, n_fft=256, hop_length=128, win_length=256)
BETAS = (0, 1e-4, 1e-2, 1, 10, 100, 1000)
GRID = np.geomspace(1e-6, 1e4, 30)
NAMES = ("test_mse", "train_mse", "kl", "active", "sigma", "prior_distance", "fitted_distance")


def columns(n, *seeds):
    values = {name: np.random.default_rng(i).uniform(0.05, 0.9, (n, *seeds)) for i, name in enumerate(NAMES)}
    values["kl"] = np.random.default_rng(8).uniform(0, 200, (n, *seeds))
    return values


def run(seed, beta):
    rng = np.random.default_rng(seed)
    return {
        "history_beta": np.full(16, beta),
        "history_kl": rng.uniform(0, 0.3, (16, 32)),
        "kl": rng.uniform(0, 0.3, 32),
        "test_mse_drawn": np.array(rng.uniform(0.4, 0.6)),
    }


RUNS = {name: [run(3 * i + k, 100.0) for k in range(3)] for i, name in enumerate(("constant", "warm-up", "cyclic"))}
SWEEP = columns(len(BETAS), 3)
SWEEP["kl"][0] = SWEEP["sigma"][0] = np.nan  # a plain autoencoder has no posterior
SCALE = {kind: {"beta": np.geomspace(1e-6, 1, 5), **columns(5)} for kind in ("sum", "mean")}
THEORY = {kind: {"beta": GRID, **columns(30)} for kind in ("sum", "mean")}
SAMPLES = {f"mean, beta {i}": np.random.default_rng(i).random((65, 129)) for i in range(5)}
LEVELS = {"error": {"PCA": 0.3, "mean": 0.65}, "distance": {"real": 0.02, "noise": 0.3}}
FIGURES = {
    "scale": lambda: loss_plots.plot_loss_scale(SCALE, THEORY, SAMPLES, STFT),
    "sweep": lambda: loss_plots.plot_beta_sweep(BETAS, SWEEP, {"beta": GRID, **columns(30)}, LEVELS),
    "schedules": lambda: loss_plots.plot_schedules(RUNS, 100, 8320),
    "distances": lambda: loss_plots.plot_distances({"autoencoder": 0.1}, {"real": 0.01, "always the mean": 0.3}),
    "kl": lambda: loss_plots.plot_kl_curves({b: np.random.default_rng(0).random((16, 32)) * 5 for b in (1e-4, 1, 10)}),
    "spectrum": lambda: loss_plots.plot_spectrum(np.geomspace(240, 2, 256), (1, 10, 100, 1000), 32),
}


@pytest.fixture(autouse=True)
def style():
    with matplotlib.rc_context():
        figures.set_style()
        yield
    plt.close("all")


def draw(name):
    drawn = FIGURES[name]()
    fig = drawn if isinstance(drawn, Figure) else (getattr(drawn, "figure", None) or drawn.patches[0].figure)
    fig.savefig("/dev/null", format="png", dpi=figures.DPI)
    return fig


@pytest.mark.parametrize("name", FIGURES)
def test_every_axes_is_named_and_nothing_is_cut_off(name):
    fig = draw(name)
    fig.set_dpi(figures.DPI)
    box, (width, height) = fig.get_tightbbox(fig.canvas.get_renderer()), fig.get_size_inches()
    assert min(box.x0, box.y0) >= 0
    assert (box.x1 <= width, box.y1 <= height) == (True, True)
    for ax in fig.axes:
        assert ax.get_xlabel() or ax.get_ylabel() or ax.get_title()


def test_a_plain_autoencoder_stands_apart_to_the_left_of_every_beta():
    fig = draw("sweep")
    error = fig.axes[0]
    (dots,) = [line for line in error.lines if line.get_label() == "VAE, unseen speakers"]
    places = np.unique(dots.get_xdata())
    assert len(places) == len(BETAS)
    assert places[1:].tolist() == list(BETAS[1:])
    assert places[0] < BETAS[1] / 10
    assert [label.get_text() for label in fig.axes[2].get_xticklabels()][0] == "plain\nAE"
    assert np.allclose(np.sort(dots.get_ydata()), np.sort(SWEEP["test_mse"].ravel()))


def test_sum_and_mean_differ_in_more_than_colour():
    axes = draw("scale").axes
    dots = {line.get_label(): line.get_marker() for line in axes[0].lines if line.get_label().endswith("trained")}
    assert len(set(dots.values())) == len(dots) == 2


def test_samples_of_different_losses_share_a_colour_scale():
    images = [ax.images[0] for ax in draw("scale").axes if ax.images]
    assert len(images) == len(SAMPLES)
    assert len({image.get_clim() for image in images}) == 1


def test_the_line_of_equal_loss_passes_through_the_best_end_and_below_all_others():
    ends = draw("schedules").axes[2]
    (line,) = [line for line in ends.lines if line.get_label() == "as good as the best"]
    slope, offset = np.polyfit(line.get_xdata(), line.get_ydata(), 1)
    assert slope == pytest.approx(-100 / 8320)
    above = [float(r["test_mse_drawn"] - (slope * r["kl"].sum() + offset)) for group in RUNS.values() for r in group]
    assert min(above) == pytest.approx(0, abs=1e-9)


def test_noise_of_a_beta_is_drawn_at_half_of_it():
    ax = loss_plots.plot_spectrum(np.geomspace(240, 2, 256), (10,), 32)
    (line,) = [line for line in ax.lines if "10" in line.get_label()]
    assert set(line.get_ydata()) == {5}
