"""Training: what is kept, what is repeatable, what is refused; and the run folder, which needs nothing else."""

import csv
import dataclasses
import json
import pickle
import resource
import shutil
import subprocess
import sys
import zipfile

import conftest
import lightning
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from vaefx_lib import batches, config, runs, shards, spectrogram, store, training, vae


@pytest.fixture(autouse=True)
def one_thread():
    """Two threads give other bits than one; and what another test has left is not used."""
    batches._kept.clear()
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def learnable():
    """Standardised spectrogram pairs that three numbers describe, but for some noise: 64 to learn from, 11 others."""
    rng = np.random.default_rng(0)
    patterns = rng.normal(size=(3, 2, 1, 20)) / np.sqrt(3)  # the same in every frame
    x = np.tensordot(rng.normal(size=(75, 3)), patterns, 1) + 0.1 * rng.normal(size=(75, 2, 17, 20))
    return x[:64].astype(np.float16), x[64:].astype(np.float16)


def changed(preset, **train):
    return dataclasses.replace(preset, train=dataclasses.replace(preset.train, **train))


def valid_mse(model, x):
    """Per channel, from mu, in one batch."""
    x = torch.from_numpy(x).float()
    with torch.no_grad():
        return (model.eval()(x)[0] - x).square().mean((0, 2, 3)).tolist()


# --- fit --------------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def fitted(toy, learnable):
    """Three epochs of eight steps with beta 3."""
    return training.fit(changed(toy, max_epochs=3, beta=3.0), *learnable, progress=False)


def test_history_has_a_row_per_epoch_and_every_term_of_the_loss(fitted, toy):
    _, history, kl = fitted
    assert list(history) == [
        "epoch",
        "train_kl",
        "train_loss",
        "train_reconstruction",
        "valid_mse_dry",
        "valid_mse_wet",
        "active_dimensions",
        "seconds",
    ]
    assert history["epoch"].tolist() == [1, 2, 3]
    assert history["train_loss"] == pytest.approx(history["train_reconstruction"] + 3 * history["train_kl"], rel=1e-5)
    assert kl.shape == (3, toy.vae.latent_dim)
    assert kl.sum(axis=1) == pytest.approx(history["train_kl"], rel=1e-5)
    assert history["active_dimensions"].tolist() == (kl > 0.01).sum(axis=1).tolist()
    assert (np.diff(history["seconds"]) >= 0).all()


def test_reconstruction_in_the_history_is_a_sum_over_one_clip(toy, learnable):
    # so that the network stays as it was built, and its input as it is
    still = changed(toy, max_epochs=1, optimiser="adamw", learning_rate=1e-12, batch_size=32, frequency_warp=0.0)
    model, history, kl = training.fit(still, *learnable, progress=False)
    x = torch.from_numpy(learnable[0]).float()
    with torch.no_grad():
        x_hat, mu, logvar = model.train()(x)
        terms = vae.kl_per_dimension(mu, logvar).numpy()
    assert history["train_reconstruction"][0] == pytest.approx((x_hat - x).square().sum().item() / 64, rel=0.02)
    assert kl[0] == pytest.approx(terms, rel=1e-3)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_loss_falls_in_every_epoch_and_unseen_pairs_are_learned(toy, learnable, seed):
    preset = changed(toy, max_epochs=5, seed=seed, learning_rate=0.03, frequency_warp=0.0)
    _, history, _ = training.fit(preset, *learnable, progress=False)
    assert (np.diff(history["train_loss"]) < 0).all()
    assert history["train_loss"][-1] < 0.85 * history["train_loss"][0]
    unseen = history["valid_mse_dry"] + history["valid_mse_wet"]
    assert unseen[-1] < 0.9 * unseen[0]


def test_the_weights_kept_are_those_with_the_smallest_validation_error(toy):
    rng = np.random.default_rng(1)
    train_x, valid_x = rng.normal(size=(2, 8, 2, 17, 20)).astype(np.float32)  # noise: what is learned does not help
    valid_x = np.concatenate([valid_x, valid_x[:3]])  # a last batch of three
    preset = changed(toy, max_epochs=40, learning_rate=0.1, beta=0.0, frequency_warp=0.0)
    model, history, _ = training.fit(preset, train_x, valid_x, progress=False)
    errors = history["valid_mse_dry"] + history["valid_mse_wet"]
    best = errors.argmin()
    assert best < 39 and errors[-1] > 1.01 * errors[best]
    assert valid_mse(model, valid_x) == pytest.approx(
        [history["valid_mse_dry"][best], history["valid_mse_wet"][best]], rel=1e-5
    )
    assert not model.training and {p.device.type for p in model.parameters()} == {"cpu"}


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(toy, learnable):
    one, again, other = (
        training.fit(changed(toy, seed=seed), *learnable, progress=False)[0].state_dict() for seed in (7, 7, 8)
    )
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert [name for name in one if torch.equal(one[name], other[name])] == []


def test_a_larger_beta_says_less_about_the_input(toy, learnable):
    kl = [
        training.fit(changed(toy, beta=beta, max_epochs=5), *learnable, progress=False)[1]["train_kl"][-1]
        for beta in (0.1, 30.0)
    ]
    assert kl[1] < 0.5 * kl[0]


@pytest.mark.parametrize(
    ("which", "message"),
    [(0, "the loss is nan after [0-7] steps, on pairs 5"), (1, r"the validation errors are \[.*nan.*\], on pairs 5")],
)
def test_training_stops_at_a_number_that_is_none_and_names_the_pair(toy, learnable, which, message):
    data = [x.copy() for x in learnable]
    data[which][5, 1, 3, 4] = np.nan
    with pytest.raises(FloatingPointError, match=message + ": (it|they) must be finite"):
        training.fit(toy, *data, progress=False)


def test_a_loss_that_is_infinite_through_no_single_pair_names_a_handful_of_the_batch(toy, learnable):
    with pytest.raises(FloatingPointError, match=r"on pairs ([a-z]\d+, ){4}[a-z]\d+ and 3 more: it must"):
        names = {"train": lambda pair: f"p{pair}"}
        training.fit(changed(toy, beta=float("inf")), *learnable, progress=False, names=names)


def test_a_run_names_the_speaker_and_the_effect_of_a_pair_that_is_not_finite(home, toy):
    path = home / "runs" / "toy" / "data" / "valid"
    name = training._namer(shards.load(path))
    rows = shards.load(path).rows
    assert [name(i) for i in (0, 7)] == [f"{i} ({rows[i]['speaker']}, {rows[i]['effect']})" for i in (0, 7)]
    assert name(7) == "7 (s1, mda:Delay)"


@pytest.mark.parametrize("name", list(config.PRESETS))
def test_every_preset_builds_and_takes_an_optimiser_step(name):
    count = len(config.preset(name).render.effects)
    preset = changed(config.preset(name), max_epochs=1, batch_size=count, seed=3)
    shape = (count, len(preset.vae.inputs), preset.stft.num_frames, preset.stft.num_bins)
    if name == "week5":
        assert shape[1:] == (2, 65, 2049)
    x = np.random.default_rng(0).normal(size=shape).astype(np.float16)
    model, history, kl = training.fit(preset, x, x[:1], progress=False)
    assert history["train_loss"][0] > 0 and np.isfinite(kl).all() and kl.shape == (1, preset.vae.latent_dim)
    after = model.decoder.state_dict()  # half will do: week5 is large
    lightning.seed_everything(3, verbose=False)
    before = vae.build(preset.vae, *shape[2:]).decoder.state_dict()
    assert all(value.isfinite().all() for value in after.values())
    assert any(not torch.equal(after[name], before[name]) for name in after)


@pytest.mark.parametrize("steps", [*range(1, 12), 19, 20, 21, 200])
def test_the_learning_rate_rises_over_a_tenth_of_any_number_of_steps_and_falls_to_zero(toy, steps):
    chosen = training.LitVae(torch.nn.Linear(1, 1), toy, steps).configure_optimizers()
    optimiser, schedule = chosen["optimizer"], chosen["lr_scheduler"]["scheduler"]
    rates = []
    for _ in range(steps):
        rates.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        schedule.step()
    highest = toy.train.learning_rate
    assert np.argmax([*rates, 0]) <= max(1, 0.1 * steps + 1)
    assert max(rates) <= highest * (1 + 1e-6) and rates[0] < 0.05 * highest
    if steps > 1:  # one more step would stand still
        assert max(rates) > 0.8 * highest > 1e4 * optimiser.param_groups[0]["lr"]


# --- batches ----------------------------------------------------------------------------------------------------------
@settings(max_examples=50, deadline=None)
@given(count=st.integers(1, 60), effects=st.integers(1, 4), per_effect=st.integers(1, 5), seed=st.integers(0, 9))
def test_every_batch_holds_every_effect_equally_often_and_no_pair_comes_twice_in_an_epoch(
    count, effects, per_effect, seed
):
    size = effects * per_effect
    if count < size:
        with pytest.raises(ValueError, match=f"batch_size {size} with {effects} effects and {count} pairs"):
            training.EffectBatches(count, effects, size, seed)
        return
    batches = training.EffectBatches(count, effects, size, seed)
    for number in range(2):
        batches.set_epoch(number)
        epoch = [batch.tolist() for batch in batches]
        assert len(epoch) == len(batches) == count // effects // per_effect >= 1
        for batch in epoch:
            assert np.bincount(np.array(batch) % effects, minlength=effects).tolist() == [per_effect] * effects
        seen = sum(epoch, [])
        assert len(set(seen)) == len(seen) and min(seen) >= 0 and max(seen) < count


def drawn(seed=0, epoch=0, **part):
    batches = training.EffectBatches(40, 2, 8, seed, **part)
    batches.set_epoch(epoch)
    return [batch.tolist() for batch in batches]


def test_the_order_of_batches_follows_from_seed_and_epoch_alone():
    assert drawn() == drawn() and drawn(epoch=3) == drawn(epoch=3)
    seen = [{tuple(batch) for batch in drawn(seed, epoch)} for seed in range(3) for epoch in range(3)]
    assert all(one.isdisjoint(other) for i, one in enumerate(seen) for other in seen[:i])


@pytest.mark.parametrize("world", [2, 4])
def test_processes_share_each_batch_out_without_rest_or_overlap(world):
    shares = [drawn(epoch=1, rank=rank, world=world) for rank in range(world)]
    assert [sum(parts, []) for parts in zip(*shares)] == drawn(epoch=1)
    assert {len(part) for parts in shares for part in parts} == {8 // world}
    valid = [np.concatenate(batches.in_order(11, 8, rank=rank, world=world)) for rank in range(world)]
    assert sorted(np.concatenate(valid)) == list(range(11))


def test_a_batch_that_does_not_go_among_the_devices_is_refused():
    with pytest.raises(ValueError, match="batch_size 8 on 3 devices: it must be a multiple"):
        training.EffectBatches(40, 2, 8, 0, world=3)
    with pytest.raises(ValueError, match="2 validation pairs on 3 devices"):
        batches.in_order(2, 8, world=3)


def test_noise_is_standard_normal_and_other_for_each_step_and_seed():
    draws = np.stack([batches.noise(seed, step, 500, 40).numpy() for seed in (0, 1) for step in (0, 1)])
    assert draws.mean(axis=(1, 2)) == pytest.approx(np.zeros(4), abs=0.03)
    assert draws.std(axis=(1, 2)) == pytest.approx(np.ones(4), abs=0.02)
    correlation = np.corrcoef(draws.reshape(4, -1)) - np.eye(4)
    assert np.abs(correlation).max() < 0.03
    assert torch.equal(batches.noise(0, 1, 500, 40), torch.from_numpy(draws[1]))


@pytest.mark.parametrize(("size", "effects"), [(5, 2), (0, 2), (-2, 2)])
def test_a_batch_that_cannot_hold_all_effects_equally_is_refused(size, effects):
    with pytest.raises(ValueError, match=f"batch_size {size} with {effects} effects.*positive multiple"):
        training.EffectBatches(10, effects, size, 0)


def test_the_network_reads_the_channels_that_it_asks_for(toy):
    x = np.arange(24.0).reshape(2, 2, 2, 3)
    for names, expected in {("dry",): x[:, :1], ("wet",): x[:, 1:], ("dry", "wet"): x}.items():
        preset = dataclasses.replace(toy, vae=dataclasses.replace(toy.vae, inputs=names))
        assert np.array_equal(training.inputs(preset, x), expected)
    for names in (("wet", "dry"), ("phase",), ("dry", "dry"), ()):
        preset = dataclasses.replace(toy, vae=dataclasses.replace(toy.vae, inputs=names))
        with pytest.raises(ValueError, match="vae.inputs is .*: it must be one of .*'dry', 'wet'"):
            training.inputs(preset, x)


def test_training_spectrograms_have_mean_zero_and_deviation_one_in_each_channel(toy, toy_home):
    x, _ = training.training_spectrograms(shards.load(toy_home / "runs" / "toy" / "data" / "train"), toy.stft)
    assert x.astype(float).mean(axis=(0, 2, 3)) == pytest.approx(0, abs=1e-3)
    assert x.astype(float).std(axis=(0, 2, 3)) == pytest.approx(1, abs=1e-3)


def test_training_spectrograms_in_a_mapped_file_are_made_once_for_the_same_data(toy, toy_home, tmp_path):
    data = shards.load(toy_home / "runs" / "toy" / "data" / "train")
    x, statistics = training.training_spectrograms(data, toy.stft, scratch=tmp_path)
    again, same = training.training_spectrograms(data, toy.stft, scratch=tmp_path)
    assert again is x and same is statistics
    with pytest.raises(ValueError, match="read-only"):
        x[0] = 0
    other = dataclasses.replace(data, fingerprint="other pairs")
    assert training.training_spectrograms(other, toy.stft, scratch=tmp_path)[0] is not x
    rougher = dataclasses.replace(toy.stft, power=1.0)
    assert training.training_spectrograms(data, rougher, scratch=tmp_path)[1] != statistics
    assert len(batches._kept) == 1  # earlier ones are let go
    in_memory, _ = training.training_spectrograms(data, toy.stft)
    assert np.array_equal(in_memory, x) and batches._kept == {}


# --- the run folder ---------------------------------------------------------------------------------------------------
@pytest.fixture
def home(toy_home, tmp_path, monkeypatch):
    """A copy of the toy project that a test may change."""
    shutil.copytree(toy_home / "runs", tmp_path / "home" / "runs")
    monkeypatch.setenv("VAEFX_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def folder(home):
    return home / "runs" / "toy" / "vae"


@pytest.fixture
def fits(monkeypatch):
    """A list that grows with each call of `fit`, which does nothing."""
    calls = []

    def fit(preset, train_x, valid_x, **_):
        calls.append(preset)
        torch.manual_seed(len(calls))
        model = vae.build(preset.vae, preset.stft.num_frames, preset.stft.num_bins).eval()
        return model, {"epoch": np.array([1]), "train_loss": np.array([0.1])}, np.ones((1, preset.vae.latent_dim))

    monkeypatch.setattr(training, "fit", fit)
    return calls


def stamps(folder):
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


ELSEWHERE = """
import sys, traceback

class Bare:
    '''A machine without audio libraries. torchmetrics, which Lightning brings, takes librosa where there is one.'''

    def find_spec(self, name, path=None, target=None):
        asked = any("torchmetrics" in frame.filename for frame in traceback.extract_stack())
        if name in ("librosa", "pedalboard") and not asked:
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Bare())
from vaefx_lib import training

print([name for name in ("pedalboard", "numba", "sklearn", "umap", "vaefx_lib.rendering") if name in sys.modules])
import numpy as np, torch

torch.set_num_threads(1)
run = training.load(sys.argv[1])
x = torch.from_numpy(run.statistics.standardise(np.load("x.npy")))
with torch.no_grad():
    x_hat, mu, logvar = run.model(x)
np.savez("out.npz", x_hat=x_hat, mu=mu, logvar=logvar, kl=run.kl, loss=run.history["train_loss"])
"""


@pytest.fixture(scope="module")
def elsewhere(toy_home, tmp_path_factory):
    """The run loaded from another place by another process, in an empty folder: its words and its numbers."""
    here = tmp_path_factory.mktemp("elsewhere")
    shutil.copytree(toy_home / "runs" / "toy" / "vae", here / "moved")
    cwd = here / "empty"
    cwd.mkdir()
    S = np.random.default_rng(0).uniform(0, 2, size=(3, 2, 17, 65)).astype(np.float32)
    np.save(cwd / "x.npy", S)
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, "../moved"],
        cwd=cwd,
        env={"PATH": "/usr/bin:/bin", "HOME": str(here), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    with np.load(cwd / "out.npz") as out:
        return done.stdout, S, dict(out)


def test_a_run_folder_loads_with_nothing_else_and_gives_the_same_numbers(elsewhere, toy_home):
    _, S, out = elsewhere
    run = training.load(toy_home / "runs" / "toy" / "vae")
    with torch.no_grad():
        expected = run.model(torch.from_numpy(run.statistics.standardise(S)))
    for name, value in zip(("x_hat", "mu", "logvar"), expected, strict=True):
        assert np.array_equal(out[name], value.numpy()), name
    assert np.array_equal(out["kl"], run.kl) and np.array_equal(out["loss"], run.history["train_loss"])


def test_training_needs_no_audio_libraries_to_import_or_load(elsewhere):
    said, _, _ = elsewhere
    assert said.splitlines()[-1] == "[]"


def test_what_is_saved_is_what_was_trained(home, toy):
    shutil.rmtree(home / "runs" / "toy" / "vae")
    made = {}

    def fit(*args, **kwargs):
        made["fit"] = original(*args, **kwargs)
        return made["fit"]

    original = training.fit
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "fit", fit)
        run = training.train_vae(toy, seed=5, progress=False)
    model, history, kl = made["fit"]
    assert run.preset == changed(toy, seed=5)
    assert run.folder == home / "runs" / "toy" / "vae" and not run.model.training
    assert run.model.state_dict().keys() == model.state_dict().keys()
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in run.model.state_dict().items())
    assert run.history.keys() == history.keys() and all(np.array_equal(run.history[k], history[k]) for k in history)
    assert run.kl == pytest.approx(kl, rel=1e-5)
    valid = spectrogram.pairs(
        shards.load(config.data_dir("toy", "valid")), toy.stft, statistics=run.statistics, dtype=np.float16
    )
    best = (history["valid_mse_dry"] + history["valid_mse_wet"]).argmin()
    recorded = [history["valid_mse_dry"][best], history["valid_mse_wet"][best]]
    assert valid_mse(run.model, valid) == pytest.approx(recorded, rel=1e-4)
    with open(run.folder / "kl.csv", newline="") as file:
        assert [len(row) for row in csv.reader(file)] == [toy.vae.latent_dim] * toy.train.max_epochs


def test_nothing_in_a_run_folder_can_run_code(toy_home):
    files = sorted((toy_home / "runs" / "toy" / "vae").iterdir())
    assert [f.name for f in files] == ["config.json", "history.csv", "kl.csv", "manifest.json", "model.safetensors"]
    for path in files:
        assert not zipfile.is_zipfile(path)  # as torch.save writes
        with pytest.raises((pickle.UnpicklingError, EOFError, ValueError, KeyError, IndexError)):
            pickle.loads(path.read_bytes())
    json.loads(files[0].read_text())
    json.loads(files[3].read_text())
    assert load_file(files[4])


@pytest.mark.parametrize("name", [*runs.FILES, "manifest.json"])
@pytest.mark.parametrize("damage", ["missing", "cut", "flipped"])
def test_damage_to_any_file_is_noticed_and_named(folder, name, damage):
    path = folder / name
    data = bytearray(path.read_bytes())
    data[-40] ^= 1
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(data if damage == "flipped" else data[: len(data) // 2])
    with pytest.raises(store.DamagedFile, match=name) as caught:
        training.load(folder)
    assert str(folder) in str(caught.value)


def test_changed_statistics_are_noticed(folder):
    text = (folder / "manifest.json").read_text()
    manifest = json.loads(text)
    manifest["statistics"]["mean"][0] += 1
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(store.DamagedFile, match="manifest.json has changed"):
        training.load(folder)
    (folder / "manifest.json").write_text(text)
    training.load(folder)


@pytest.mark.parametrize("manifest", ["[]", "{}", '{"sha256": {}}', "null"])
def test_a_manifest_that_lacks_everything_is_a_damaged_file(folder, manifest):
    (folder / "manifest.json").write_text(manifest)
    with pytest.raises(store.DamagedFile, match="manifest.json"):
        training.load(folder)


def test_a_finished_run_is_kept_to_the_last_byte(folder, toy, fits):
    before = stamps(folder)
    run = training.train_vae(toy, progress=False)
    assert fits == [] and stamps(folder) == before
    assert run.fingerprint == training.load(folder).fingerprint


def test_other_choices_train_again_and_where_files_lie_does_not_matter(folder, toy, fits, monkeypatch):
    preset = changed(toy, beta=2.0)
    training.train_vae(preset, progress=False)
    assert len(fits) == 1
    training.train_vae(preset, progress=False)
    assert len(fits) == 1
    training.train_vae(preset, seed=1, progress=False)
    assert len(fits) == 2 and fits[-1] == changed(preset, seed=1)
    training.train_vae(preset, progress=False)
    assert len(fits) == 3
    training.train_vae(dataclasses.replace(preset, vae=dataclasses.replace(preset.vae, width=9)), progress=False)
    assert len(fits) == 4
    training.train_vae(preset, folder=folder.parent / "second", progress=False)
    assert len(fits) == 5
    shutil.copytree(folder.parents[2], folder.parents[2].with_name("moved"))
    monkeypatch.setenv("VAEFX_HOME", str(folder.parents[2].with_name("moved")))
    training.train_vae(preset, folder=folder.parent / "second", progress=False)
    assert len(fits) == 5


@pytest.mark.parametrize("subset", ["train", "valid"])
def test_other_data_train_again(folder, toy, fits, subset):
    data = config.data_dir("toy", subset)
    conftest.write_toy_pairs(data, toy, 32, seed=9)
    training.train_vae(toy, progress=False)
    assert len(fits) == 1


@pytest.mark.parametrize("damage", ["flipped", "other keys", "no such architecture"])
def test_a_run_that_is_damaged_or_of_another_version_is_trained_again(folder, toy, fits, damage):
    if damage == "flipped":
        data = bytearray((folder / "model.safetensors").read_bytes())
        data[-5] ^= 1
        (folder / "model.safetensors").write_bytes(data)
    else:  # with the right checksums, as an older or newer version would have written it
        raw = json.loads((folder / "config.json").read_text())
        raw["vae"]["architecture" if damage == "no such architecture" else "heads"] = "transformer"
        (folder / "config.json").write_text(json.dumps(raw))
        manifest = json.loads((folder / "manifest.json").read_text())
        manifest["sha256"]["config.json"] = store.sha256(folder / "config.json")
        del manifest["self"]
        manifest["self"] = store.fingerprint(manifest)
        (folder / "manifest.json").write_text(json.dumps(manifest))
        with pytest.raises(store.DamagedFile, match="config.json is of another version .*(heads|transformer)"):
            training.load(folder)
    training.train_vae(toy, progress=False)
    assert len(fits) == 1
    training.load(folder)


@pytest.mark.parametrize("after", range(5))
def test_an_interrupted_save_leaves_no_run_that_loads(folder, toy, fits, monkeypatch, after):
    whole, begun = store.atomic, []

    def atomic(path):
        if len(begun) == after:
            raise KeyboardInterrupt
        begun.append(path)
        return whole(path)

    monkeypatch.setattr(store, "atomic", atomic)
    preset = changed(toy, beta=2.0)
    with pytest.raises(KeyboardInterrupt):
        training.train_vae(preset, progress=False)
    assert len(begun) == after
    with pytest.raises(store.DamagedFile, match="holds no trained VAE"):
        training.load(folder)
    monkeypatch.setattr(store, "atomic", whole)
    assert training.train_vae(preset, progress=False).preset == preset


@pytest.mark.parametrize(
    ("room_for_spectrograms", "told"),
    [(True, "could not write .*model.safetensors"), (False, "no room for 0 MB in .*vae")],
)
def test_a_full_disk_is_told_and_leaves_no_half_run(folder, toy, fits, monkeypatch, room_for_spectrograms, told):
    if room_for_spectrograms:
        monkeypatch.setattr(store, "scratch", lambda folder, shape, dtype: np.zeros(shape, dtype))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, hard))
    try:
        with pytest.raises(OSError, match=told):
            training.train_vae(changed(toy, beta=2.0), progress=False)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    if room_for_spectrograms:
        with pytest.raises(store.DamagedFile):
            training.load(folder)
    else:
        assert training.load(folder).preset == toy  # the run before still stands
    assert [path.name for path in folder.iterdir() if path.name.startswith(".")] == []


def test_training_without_pairs_says_what_to_do(tmp_path, monkeypatch, toy):
    monkeypatch.setenv("VAEFX_HOME", str(tmp_path))
    with pytest.raises(store.DamagedFile, match="train holds no finished pairs .* render them first"):
        training.train_vae(toy, progress=False)
    assert not (tmp_path / "runs").exists()


# --- frequency warp ---------------------------------------------------------------------------------------------------
def test_a_warp_by_one_changes_nothing_and_warps_leave_time_and_batch_mates_alone():
    x = torch.randn(3, 2, 5, 40)
    assert torch.equal(batches.warp(x, np.ones(3)), x)
    warped = batches.warp(x, np.array([1.1, 0.9, 1.0]))
    for i, factor in enumerate((1.1, 0.9, 1.0)):
        assert torch.equal(warped[i : i + 1], batches.warp(x[i : i + 1], np.array([factor])))
    frames = batches.warp(x[:1, :, 2:3], np.array([1.1]))
    assert torch.equal(warped[:1, :, 2:3], frames)


@pytest.mark.parametrize("factor", [0.8, 0.95, 1.2])
def test_a_warped_peak_moves_to_its_bin_over_the_factor(factor):
    bins = torch.arange(200.0)
    x = torch.exp(-0.5 * ((bins - 96) / 4) ** 2).expand(1, 1, 1, -1)
    assert batches.warp(x, np.array([factor]))[0, 0, 0].argmax().item() == pytest.approx(96 / factor, abs=1)


def test_a_ramp_is_warped_exactly_and_held_above_the_highest_bin():
    ramp = torch.arange(50.0).expand(1, 1, 1, -1)
    expected = np.minimum(np.arange(50) * 1.25, 49)
    assert batches.warp(ramp, np.array([1.25]))[0, 0, 0].numpy() == pytest.approx(expected, abs=1e-4)


def test_factors_follow_from_seed_and_step_and_stay_within_bounds():
    factors = batches.warp_factors(3, 7, 1000, 0.2)
    assert np.array_equal(factors, batches.warp_factors(3, 7, 1000, 0.2))
    assert not np.array_equal(factors, batches.warp_factors(3, 8, 1000, 0.2))
    assert 0.8 <= factors.min() < 0.82 and 1.18 < factors.max() <= 1.2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"optimiser": "sgd"}, "unknown optimiser 'sgd': known are muon, adamw"),
        ({"frequency_warp": 1.0}, "frequency_warp is 1.0: it must be from 0 to below 1"),
        ({"frequency_warp": -0.1}, "frequency_warp is -0.1"),
    ],
)
def test_unusable_choices_of_training_are_refused(toy, change, message):
    x = np.zeros((8, 2, 17, 65), np.float16)
    with pytest.raises(ValueError, match=message):
        training.fit(dataclasses.replace(toy, train=dataclasses.replace(toy.train, **change)), x, x)
