"""Small fixtures that several test modules share."""

import dataclasses
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from vaefx_lib import config, rendering, shard_writing

SHIPPED = Path(__file__).parents[1] / "vaefx_lib" / "pretrained" / "manifest.json"
collect_ignore = [] if SHIPPED.is_file() else ["test_pretrained.py"]


@pytest.fixture(scope="session", autouse=True)
def _corpora_elsewhere(tmp_path_factory):
    """What is kept about the corpora of tests stays out of the project."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VAEFX_CORPORA", str(tmp_path_factory.mktemp("corpora")))
        yield


@pytest.fixture(scope="session")
def tiny():
    """The smoke experiment with a few pairs of 0.68 s."""
    smoke = config.preset("smoke")
    counts = {"n_train": 22, "n_valid": 8, "n_test": 12, "n_dummy_train": 8, "n_dummy_test": 8, "shard_pairs": 4}
    return dataclasses.replace(
        smoke,
        name="tiny",
        stft=dataclasses.replace(smoke.stft, num_frames=33),
        render=dataclasses.replace(smoke.render, **counts),
    )


@pytest.fixture(scope="session")
def tiny_train_dir(tiny, tmp_path_factory):
    """Folder of the rendered training pairs of `tiny`; not to be changed."""
    folder = tmp_path_factory.mktemp("tiny") / "train"
    rendering.render(tiny, "train", folder, jobs=1, progress=False)
    return folder


@pytest.fixture(scope="session")
def tiny_train(tiny_train_dir):
    """The rendered training pairs of `tiny`."""
    return rendering.load(tiny_train_dir)


@pytest.fixture(scope="session")
def toy():
    """An experiment on clips of 43 ms, which trains in a moment."""
    smoke = config.preset("smoke")
    return dataclasses.replace(
        smoke,
        name="toy",
        stft=config.Stft(num_frames=17, n_fft=128, hop_length=64, win_length=128),
        vae=dataclasses.replace(smoke.vae, latent_dim=12, effect_dim=4, width=8),
        train=dataclasses.replace(smoke.train, max_epochs=2, batch_size=8),
    )


@pytest.fixture(scope="session")
def toy_home(toy, tmp_path_factory):
    """A project folder with synthetic pairs of `toy` and its trained VAE; not to be changed."""
    from vaefx_lib import training  # here, because it takes seconds to import

    home = tmp_path_factory.mktemp("toy_home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VAEFX_HOME", str(home))
        for seed, (subset, count) in enumerate({"train": 32, "valid": 10, "test": 70}.items()):
            write_toy_pairs(config.data_dir("toy", subset), toy, count, seed)
        training.train_vae(toy, progress=False)
    return home


@pytest.fixture(scope="session")
def spoken(tiny):
    """An experiment on 0.68 s of real speech through the real effects, trained for a moment."""
    return dataclasses.replace(
        tiny,
        name="spoken",
        render=dataclasses.replace(tiny.render, n_train=40),
        vae=dataclasses.replace(tiny.vae, latent_dim=16, effect_dim=8, width=16),
        train=dataclasses.replace(tiny.train, max_epochs=1, batch_size=8),
    )


@pytest.fixture(scope="session")
def spoken_home(spoken, tmp_path_factory):
    """A project folder with the rendered pairs of `spoken` and its trained VAE; not to be changed."""
    from vaefx_lib import training

    home = tmp_path_factory.mktemp("spoken_home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VAEFX_HOME", str(home))
        for subset in config.SUBSETS:
            rendering.render(spoken, subset, config.data_dir("spoken", subset), jobs=1, progress=False)
        training.train_vae(spoken, progress=False)
    return home


@pytest.fixture(scope="session")
def spoken_passages():
    """A passage of 5.46 s each of eight speakers; not to be changed."""
    from vaefx_lib import audio, corpora, passages

    found = {}
    for utterance in corpora.load("speech"):
        sound = found.get(utterance.speaker, np.zeros(0, np.float32))
        if (sound.size or len(found) < 8) and len(sound) < passages.SAMPLES:
            found[utterance.speaker] = np.append(
                sound, audio.load(utterance.path, sample_rate_hz=passages.RATE_HZ)[0][0]
            )
    return [audio.peak_level(sound[: passages.SAMPLES]) for sound in found.values()]


@pytest.fixture(scope="session")
def controlled(spoken):
    """`spoken` with a controller that is trained for a moment."""
    sizes = {"n_passages": 16, "n_train": 96, "n_valid": 12, "width": 32}
    choices = config.Controller(**sizes, max_epochs=4, end_to_end_steps=2)
    return dataclasses.replace(spoken, controller=choices)


@pytest.fixture(scope="session")
def controlled_home(controlled, spoken_home, tmp_path_factory):
    """A project folder with the VAE of `spoken` and the trained controller of `controlled`; not to be changed."""
    from vaefx_lib import controller_calibration, controller_training

    home = tmp_path_factory.mktemp("controlled_home")
    shutil.copytree(spoken_home, home, dirs_exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VAEFX_HOME", str(home))
        patch.setattr(controller_calibration, "CALIBRATED", 3)  # quick
        controller_training.train_controller(controlled)
    return home


@pytest.fixture(scope="session")
def trained_controller(controlled, controlled_home):
    """The controller in `controlled_home`: of Overdrive and Delay, and not a good one; not to be changed."""
    from vaefx_lib import controller

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VAEFX_HOME", str(controlled_home))
        return controller.load(config.controller_dir(controlled.name))


@pytest.fixture(scope="session")
def reported_home(controlled_home, tmp_path_factory):
    """A checkout whose preset `smoke` is what was trained for `controlled`, with two figures and its weekly report."""
    import matplotlib.pyplot as plt
    from click.testing import CliRunner
    from test_versions import commit, git

    from vaefx_lib import figures, plots
    from vaefx_lib.__main__ import main

    home = tmp_path_factory.mktemp("reported_home")
    shutil.copytree(controlled_home / "runs" / "spoken", home / "runs" / "smoke")
    (home / "notebooks").mkdir()
    shutil.copy(Path(__file__).parents[1] / "notebooks" / "08_weekly_report.ipynb", home / "notebooks")
    git(home, "init", "-q")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VAEFX_HOME", str(home))
        for step, name in enumerate(("fig1_first", "other"), start=1):
            line = plots.plot_waveform(np.sin(step * np.arange(400.0)), 24_000)
            figures.save_figure(line.figure, name, "smoke", caption=f"The figure {name}. With more to say.")
        plt.close("all")
        for error, day in ((0.5, "2026-11-01"), (0.25, "2026-11-18")):
            figures.record("smoke", {"reconstruction": {"dry": {"vae_mse": error, "pca_mse": 0.4}}})
            git(home, "add", "-f", "runs/smoke/figures/metrics.json")
            commit(home, f"An error of {error}", f"{day} 12:00:00", track=False)
        words = "# Report of Kim\n\n## What I've done this week\n\n## Questions\n\nIs *that* all?\n"
        (home / "notebooks" / "weekly_report.md").write_text(words)
        done = CliRunner().invoke(main, ["report", "--preset", "smoke", "--since", "2026-11-10", "--day", "2026-11-20"])
    assert done.exit_code == 0, done.output
    return home


def answering(trained, settings, *, effect="mda:Overdrive", gain=None):
    """A controller that gives these settings for an effect, whatever it is asked, and proposes hardly anything else.

    With `gain`, it expects that much of every match. An effect that it did not know it knows from then on.
    """
    import torch

    from vaefx_lib import controller, echo_peaks, effects, settings_net

    names = tuple(dict.fromkeys((*trained.effects, effect)))
    width = trained.net.first.out_features
    net = settings_net.SettingsNet(trained.net.first.in_features, width, controller.n_params(names)).eval()
    state = trained.net.state_dict()
    known = state.pop("effect.weight")
    net.load_state_dict(state, strict=False)
    with torch.no_grad():
        net.effect.weight[: len(known)] = known
        last = net.point[names.index(effect)]
        last.weight.zero_()
        last.bias.copy_(torch.logit(torch.tensor(settings, dtype=torch.float32)))
        bins = np.minimum(np.array(settings) * settings_net.BINS, settings_net.BINS - 1).astype(int)
        for logits, drawn in zip(net.posterior[names.index(effect)].logits, bins, strict=True):
            logits.weight.zero_()
            logits.bias.fill_(-50.0)
            logits.bias[drawn] = 0.0
    library, echoes = dict(trained.library), dict(trained.echoes)
    same = np.array([settings] * 400, np.float32)
    library[effect] = np.zeros((len(same), len(trained.scale.numbers_mean)), np.float16), same
    if effect not in trained.effects:
        echoes[effect] = echo_peaks.fingerprints(effects.load(effect), 1, seed=0)
    calibration = trained.calibration
    if gain is not None:
        calibration = {name: np.array([[0.0, 1.0], [gain, gain]]) for name in (*names, "any")}
    known = {"library": library, "echoes": echoes, "calibration": calibration}
    return dataclasses.replace(trained, effects=names, net=net, **known)


def needed(what, package, found):
    """Skip a test that needs something which this machine lacks; fail it where everything has to be there."""
    if not found:
        say = pytest.fail if os.environ.get("VAEFX_REQUIRE_ALL") == "1" else pytest.skip
        say(f"{what} is not installed: Debian's package {package} brings it")


@pytest.fixture(scope="session")
def mda_lv2():
    """The folder of the real mda plug-ins."""
    folder = Path("/usr/lib/lv2/mda.lv2")
    needed("the bundle mda.lv2", "mda-lv2", folder.is_dir())
    return folder


@pytest.fixture(scope="session")
def unruly_lv2(tmp_path_factory):
    """A folder with `unruly.lv2`, a real plug-in that behaves, or crashes, hangs and so on, by its control `mood`."""
    needed("a C compiler", "gcc", shutil.which("gcc"))
    source = Path(__file__).parent / "unruly"
    bundle = tmp_path_factory.mktemp("lv2") / "unruly.lv2"
    bundle.mkdir()
    for name in ("manifest.ttl", "unruly.ttl"):
        shutil.copy(source / name, bundle)
    command = ["gcc", "-shared", "-fPIC", "-O1", "-o", bundle / "unruly.so", source / "unruly.c"]
    subprocess.run(command, check=True)
    return bundle.parent


def write_toy_pairs(folder, preset, count, seed):
    """Tones and their clipped (even) or delayed (odd) versions, as rendered pairs."""
    rng = np.random.default_rng(seed)
    t = np.arange(preset.stft.num_samples)
    pairs, rows = [], []
    for i in range(count):
        onset, pitch, setting = rng.uniform(0, t.size / 2), rng.uniform(0.02, 1.5), rng.uniform()
        dry = np.sin(pitch * t) * np.exp(-np.maximum(t - onset, 0) / 200) * (t > onset) + 0.01 * rng.normal(size=t.size)
        wet = np.roll(dry, int(100 + 400 * setting)) if i % 2 else np.clip(dry, -0.6 * setting - 0.05, 0.05)
        pairs.append([dry, wet])
        row = {
            "effect": preset.render.effects[i % 2],
            "speaker": f"s{i % 3}",
            "settings": [setting] * (2 + 4 * (i % 2)),
        }
        rows.append({**row, "redraws": {"silent": 0}})
    path = folder / "shard-00000.npy"
    fingerprint = f"toy pairs of seed {seed}"

    def fill(pair, i):
        pair[:] = pairs[i]
        return rows[i]

    shard = shard_writing.write(path, np.shape(pairs), fill, fingerprint)
    shard_writing.finish(folder, [shard], fingerprint, {"sample_rate_hz": preset.stft.sample_rate_hz})


def untrained_map(run, *, width=32):
    """A playable latent space of the run's effects in two dimensions, whose networks are as they were drawn."""
    import torch

    from vaefx_lib import controller, playable, playable_net, style

    names, latent_dim = run.preset.render.effects, run.preset.vae.latent_dim
    measures = len(style.measure(np.ones(24_000, np.float32)).numbers)
    components = np.random.default_rng(0).normal(size=(measures, 8)).astype(np.float32) / measures
    scale = controller.Scale(np.zeros(measures), np.ones(measures), np.zeros(latent_dim), np.ones(latent_dim))
    torch.manual_seed(0)
    net = playable_net.MapNet(16 + latent_dim, width, 2, controller.n_params(names)).eval()
    with torch.no_grad():
        for layer in (*net.settings, net.first, net.which[0], net.which[2]):
            layer.weight.mul_(6)  # so that places differ
    ends, inputs = (np.array([-2.0, -1.0]), np.array([2.0, 1.5])), playable_net.Inputs(scale, components)
    about = {"preset": run.preset.name, "vae": run.fingerprint, "seed": 0}
    places = {name: np.zeros((1, 2)) for name in names}
    return playable.Playable("bottleneck", 2, names, *ends, inputs, net, places, places, {}, None, run, about)


@pytest.fixture(scope="session")
def small_map(spoken, spoken_home):
    """`untrained_map` of the VAE of `spoken`."""
    from vaefx_lib import runs

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VAEFX_HOME", str(spoken_home))
        return untrained_map(runs.load(config.vae_dir(spoken.name)))


@pytest.fixture(scope="session")
def packed_home(controlled, controlled_home, tmp_path_factory):
    """A project in which the models that come with the library were made, at the size of `controlled`.

    They are in `library`, which may stand for the library's own folder. Not to be changed.
    """
    from click.testing import CliRunner

    from vaefx_lib import controller_calibration, controller_stages, packing_scores
    from vaefx_lib.__main__ import main

    home = tmp_path_factory.mktemp("packed_home")
    for name in ("vae", "data"):
        shutil.copytree(controlled_home / "runs" / "spoken" / name, home / "runs" / "pretrained" / name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VAEFX_HOME", str(home))
        for module, name in (
            (controller_calibration, "CALIBRATED"),
            (packing_scores, "CASES"),
            (packing_scores, "FEW_CASES"),
        ):
            patch.setattr(module, name, 1)
        patch.setattr(controller_stages, "HEARD", 2)
        patch.setitem(config.PRESETS, "pretrained", dataclasses.replace(controlled, name="pretrained"))
        done = CliRunner().invoke(main, ["train", "pretrained"])
    assert done.exit_code == 0, done.output
    shutil.copytree(home / "runs" / "pretrained" / "packed", home / "library")
    (home / "said.txt").write_text(done.stdout)
    return home


@pytest.fixture
def packed_library(packed_home, tmp_path, monkeypatch):
    """The models of `packed_home` in the place of those that come with the library; they may be damaged."""
    from vaefx_lib import packed

    monkeypatch.setattr(packed, "FOLDER", shutil.copytree(packed_home / "library", tmp_path / "library"))
    return packed.FOLDER


@pytest.fixture
def nothing_packed(tmp_path, monkeypatch):
    """A library that has come without models."""
    from vaefx_lib import packed

    monkeypatch.setattr(packed, "FOLDER", tmp_path / "nothing")
