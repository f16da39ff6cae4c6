"""The comparison of representations: what it gives, that it repeats, and that it finds a phase that is there."""

import json

import conftest
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
from scipy.signal import lfilter

from vaefx_lib import baselines, config, metrics, phase_scores, phase_study, standardisation, study_plots
from vaefx_lib.phase import REPRESENTATIONS
from vaefx_lib.phase_study import STFT, Budget, Clips

matplotlib.use("agg")
SMALL = Budget(train_pairs=16, test_pairs=8, heard=4, epochs=1, batch_size=8, width=8, content_dim=6, effect_dim=4)


def filtered(count, seed):
    """Noise, and the same through a one-pole low-pass: open for even numbers, any for odd ones."""
    rng = np.random.default_rng(seed)
    dry = 0.1 * rng.normal(size=(count, STFT.num_samples))
    poles = np.where(np.arange(count) % 2, rng.uniform(0.5, 0.95, count), 0.3)
    return Clips(np.stack([dry, [lfilter([1 - a], [1, -a], y) for a, y in zip(poles, dry)]], axis=1).astype(np.float32))


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """Of synthetic pairs."""
    preset = config.preset("smoke")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VAEFX_HOME", str(tmp_path_factory.mktemp("study")))
        patch.setattr(phase_study, "BUDGETS", {"smoke": SMALL})
        for seed, subset in enumerate(("train", "test")):
            conftest.write_toy_pairs(config.data_dir("smoke", subset), preset, 24, seed)
        first = phase_study.compare("smoke", jobs=1)
        patch.setattr(phase_study, "study", None)  # whoever calls it fails
        again = phase_study.compare("smoke")
    for group, arrays in first.items():
        for name, array in arrays.items():
            np.testing.assert_array_equal(array, again[group][name])
    return first


def test_every_representation_has_finite_losses_and_scores_for_each_seed(found):
    for name, kind in REPRESENTATIONS.items():
        here = found[name]
        assert here["loss"].shape == (3, 2) and np.isfinite(here["loss"]).all()
        assert len(np.unique(here["loss"][:, 0])) == 3  # seeds differ
        assert here["ev"].shape == (3, len(kind.channels)) and here["pca_ev"].shape == here["std"].shape
        for reading in ("rebuilt", "transfer"):
            assert here[f"mrstft_{reading}"].shape == here[f"sisdr_{reading}"].shape == (3, 4)
            assert here[f"sound_{reading}"].shape == (2, STFT.num_samples)
    assert ("mrstft_griffin_lim" in found["relative"]) is False and "mrstft_griffin_lim" in found["magnitude"]


def test_the_clips_heard_are_of_each_effect_in_turns(found):
    assert (found["clips"]["index"] % 2).tolist() == [0, 1, 0, 1]
    assert found["clips"]["audio"].shape == (2, 2, STFT.num_samples)


def test_silent_and_unchanged_clips_are_not_heard():
    clips = filtered(8, 0)
    clips.audio[0, 1] *= 1e-3
    clips.audio[3, 1] = 0.5 * clips.audio[3, 0]
    assert phase_study._audible(clips, 4, 2).tolist() == [2, 1, 4, 5]
    clips.audio[1::2, 1] = clips.audio[1::2, 0]
    with pytest.raises(ValueError, match=r"\[3, 0\] audible clips of the 2 effects"):
        phase_study._audible(clips, 4, 2)


def test_a_filter_is_transferred_best_by_the_relative_phase():
    train, test, scores = filtered(32, 0), filtered(4, 1), {}
    for name, kind in REPRESENTATIONS.items():  # principal components will do in place of a network
        S = [kind.analyse(pair, STFT) for pair in train.audio]
        statistics = standardisation.measure(S)
        pca = baselines.fit_pca(statistics.standardise(S), 8)
        x = statistics.standardise([kind.analyse(pair, STFT) for pair in test.audio])
        rebuilt = statistics.restore(pca.inverse_transform(pca.transform(x)))
        sounds = [kind.transfer(s, STFT, dry=pair[0]) for s, pair in zip(rebuilt, test.audio)]
        scores[name] = np.median([metrics.si_sdr_db(pair[1], sound) for pair, sound in zip(test.audio, sounds)])
    assert scores["relative"] > max(value for name, value in scores.items() if name != "relative") + 3


def test_training_repeats_with_its_seed_and_stops_at_a_number_that_is_none():
    kind = REPRESENTATIONS["relative"]
    x = np.random.default_rng(0).normal(size=(16, 4, 49, 33)).astype(np.float32)
    one, same, other = (phase_study.train_network(x, kind, SMALL, effects=2, seed=s)[1] for s in (0, 0, 1))
    assert one.tolist() == same.tolist() != other.tolist()
    x[3, 1, 2, 2] = np.nan
    with pytest.raises(FloatingPointError, match="the loss of relative is nan after"):
        phase_study.train_network(x, kind, SMALL, effects=2, seed=0)


def test_the_summary_is_the_median_over_clips_and_names_the_winner(found):
    table = phase_scores.summary(found)
    json.dumps(table, allow_nan=False)
    medians = np.median(found["relative"]["sisdr_transfer"], axis=1)
    assert table["relative"]["sisdr_transfer"] == pytest.approx(medians.mean())
    assert table["relative"]["sisdr_transfer_std"] == pytest.approx(medians.std())
    assert table["relative"]["sisdr"] == pytest.approx(np.median(found["relative"]["sisdr_rebuilt"], axis=1).mean())
    assert list(table["wrapped"]["ev"]) == list(REPRESENTATIONS["wrapped"].channels)
    best = max(table[name]["sisdr_transfer"] for name in REPRESENTATIONS)
    assert table[table["winner"]]["sisdr_transfer"] == best


def test_scores_by_effect_are_those_of_its_clips(found):
    table = phase_scores.by_effect(found, ["a", "b"] * 12, "sisdr_transfer")
    assert list(table) == ["a", "b"]
    assert table["a"]["dry"] == pytest.approx(np.median(found["dry"]["sisdr"][::2]))
    assert table["b"]["wrapped"] == pytest.approx(np.median(found["wrapped"]["sisdr_transfer"][:, 1::2], axis=1).mean())


def test_the_pictures_show_every_channel_and_every_seed(found):
    pair = found["clips"]["audio"][0]
    rows = {n: dict(zip(k.channels, k.analyse(pair, STFT))) for n, k in REPRESENTATIONS.items()}
    table = phase_scores.summary(found)
    shares = {name: table[name]["ev"] for name in REPRESENTATIONS}
    fig = study_plots.plot_representations(rows, STFT, shares=shares, bars=phase_scores.bars(table))
    titles = {ax.get_title().split(" (")[0] for ax in fig.axes if ax.images}
    assert titles == {channel for kind in REPRESENTATIONS.values() for channel in kind.channels}
    lengths = [bar.get_width() for ax in fig.axes for bar in ax.patches]
    assert any(length == pytest.approx(table["relative"]["sisdr_transfer"]) for length in lengths)
    lines = study_plots.plot_stability({n: found[n]["loss"] for n in REPRESENTATIONS}, window=1).axes[3].lines
    np.testing.assert_allclose([line.get_ydata() for line in lines[:3]], found["relative"]["loss"])
    plt.close("all")
