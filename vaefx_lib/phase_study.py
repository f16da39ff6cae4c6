"""The representations of `phase` compared: the same small network, budget and clips for each, three seeds.

How well a network describes the channels of voices that it never heard is one question, how the sound comes out is
another: see `phase_scores`. Used in notebook 07.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from joblib import Parallel, cpu_count, delayed

from vaefx_lib import (
    audio,
    baselines,
    batches,
    config,
    factorised,
    inversion,
    metrics,
    muon,
    phase,
    phase_scores,
    shards,
    spectrogram,
    standardisation,
    store,
    vae,
)
from vaefx_lib.config import Stft
from vaefx_lib.phase import REPRESENTATIONS, Representation

STFT = Stft(sample_rate_hz=12_000, num_frames=49, n_fft=512, hop_length=256, win_length=512)  # the first 1.02 s
SEEDS = (0, 1, 2)
UNCHANGED_DB = 40.0  # SI-SDR of the dry clip above which nothing is heard of the effect


@dataclass(frozen=True)
class Budget:
    """What each representation gets."""

    train_pairs: int = 640
    test_pairs: int = 200  # of unseen speakers, for the explained variance
    heard: int = 40  # of these, for the sound
    epochs: int = 3
    batch_size: int = 16
    learning_rate: float = 0.02  # the highest, in one cycle
    width: int = 48
    content_dim: int = 48  # a multiple of the 6 steps of STFT's frames
    effect_dim: int = 16


BUDGETS = {"smoke": Budget(train_pairs=64, test_pairs=32, heard=6, epochs=1, width=16, content_dim=12, effect_dim=4)}


@dataclass(frozen=True, eq=False)
class Clips:
    """Pairs in memory, float32 of shape (n, 2, samples), in the manner of `shards.Dataset`."""

    audio: np.ndarray
    sample_rate_hz: int = STFT.sample_rate_hz

    def __len__(self) -> int:
        return len(self.audio)

    def __getitem__(self, index: int) -> np.ndarray:
        return self.audio[index]


def compare(preset_name: str, *, jobs: int | None = None) -> dict[str, dict[str, np.ndarray]]:
    """All representations trained and heard on a preset's pairs; kept in `runs/<preset>/study`.

    Parameters
    ----------
    preset_name : str
    jobs : int, optional
        Processes; as many as there are processors by default.

    Returns
    -------
    dict
        Per representation: `loss` (seeds, steps), per input value; `ev` (seeds, channels) and `pca_ev` (channels,),
        explained variance on unseen speakers; `std` (channels,) of the training channels; and for each reading
        ("rebuilt", "transfer") `mrstft_`, `sisdr_` (seeds, clips), the same after `pca_` (clips,), and `sound_`
        (examples, samples), of the first seed. `magnitude` also has the reading "griffin_lim". Under "dry" (change
        nothing) and "dry_phase" (the true strength with the dry phase) are `mrstft`, `sisdr` (clips,); under "clips"
        the `index` of the clips heard in the test pairs, and `audio` (examples, 2, samples), one of each effect: that
        with the median score of "dry_phase".

    Raises
    ------
    DamagedFile
        If the pairs have not been rendered.
    FloatingPointError
        If a loss is not finite.
    """
    preset, budget = config.preset(preset_name), BUDGETS.get(preset_name, Budget())
    data = {subset: shards.load(config.data_dir(preset_name, subset)) for subset in ("train", "test")}
    effects = len(preset.render.effects)

    def compute() -> dict[str, np.ndarray]:
        train, test = (_clips(data[s], n) for s, n in (("train", budget.train_pairs), ("test", budget.test_pairs)))
        heard = _audible(test, budget.heard, effects)
        found = phase_scores.baselines(test.audio[heard], STFT)
        example = [_middle(found["dry_phase.sisdr"], effect, effects) for effect in range(effects)]
        found |= {"clips.index": heard, "clips.audio": test.audio[heard[example]]}
        workers = Parallel(n_jobs=min(jobs or cpu_count(), len(REPRESENTATIONS)))
        tasks = (delayed(study)(name, train, test, heard, example, effects, budget) for name in REPRESENTATIONS)
        for name, arrays in zip(REPRESENTATIONS, workers(tasks)):
            found |= {f"{name}.{key}": array for key, array in arrays.items()}
        return found

    modules = (audio, baselines, batches, factorised, inversion, metrics, muon, phase, phase_scores, spectrogram)
    modules += (standardisation, vae)
    choices = [dataclasses.asdict(part) for part in (STFT, budget)]
    sources = [Path(str(module.__file__)) for module in modules]
    key = store.fingerprint(choices, effects, *(d.fingerprint for d in data.values()), *sources, Path(__file__))
    found = store.cached(config.run_dir(preset_name) / "study" / "phase.safetensors", key, compute)
    nested = {}
    for name, array in found.items():
        group, key = name.split(".")
        nested.setdefault(group, {})[key] = array
    return nested


def study(name: str, train: Clips, test: Clips, heard, example, effects: int, budget: Budget) -> dict[str, np.ndarray]:
    """One representation: PCA, and a training for each seed; see `compare` for what comes back."""
    kind = REPRESENTATIONS[name]
    x = spectrogram.pairs(train, STFT, representation=kind)
    statistics = standardisation.measure(x)
    x = statistics.standardise(x)
    t = spectrogram.pairs(test, STFT, representation=kind, statistics=statistics, dtype=np.float32)
    pca = baselines.fit_pca(x, min(budget.content_dim + budget.effect_dim, len(x)))
    rebuilt = pca.inverse_transform(pca.transform(t))
    scores, _ = phase_scores.hear(kind, statistics.restore(rebuilt[heard]), test.audio[heard], STFT)
    found = {f"pca_{key}": values for key, values in scores.items()}
    found |= {"pca_ev": metrics.explained_variance(t, rebuilt), "std": np.array(statistics.std)}
    seeds = []
    for seed in SEEDS:
        model, loss = train_network(x, kind, budget, effects=effects, seed=seed)
        with torch.inference_mode():
            rebuilt = np.concatenate([model(part)[0].numpy() for part in torch.from_numpy(t).split(64)])
        scores, sounds = phase_scores.hear(kind, statistics.restore(rebuilt[heard]), test.audio[heard], STFT)
        seeds.append({"loss": loss, "ev": metrics.explained_variance(t, rebuilt), **scores})
        if seed == SEEDS[0]:
            found |= {f"sound_{reading}": np.stack(some)[example] for reading, some in sounds.items()}
    return found | {key: np.stack([one[key] for one in seeds]) for key in seeds[0]}


def train_network(
    x: np.ndarray, kind: Representation, budget: Budget, *, effects: int, seed: int
) -> tuple[vae.JointVae, np.ndarray]:
    """A factorised VAE, trained with beta 1 on one thread, and its loss per input value at each step.

    Parameters
    ----------
    x : array, float32, shape (n, channels, frames, bins)
        Standardised; pair `i` has effect `i % effects`.
    kind : Representation
    budget : Budget
    effects : int
    seed : int

    Raises
    ------
    FloatingPointError
        If the loss is not finite.
    """
    size: dict = {"latent_dim": budget.content_dim + budget.effect_dim, "effect_dim": budget.effect_dim}
    choice = config.Vae(inputs=kind.channels, width=budget.width, **size)
    order = batches.EffectBatches(len(x), effects, budget.batch_size, seed)
    threads, losses = torch.get_num_threads(), []
    torch.set_num_threads(1)  # small tensors: threads would wait for each other; and the bits repeat
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = vae.build(choice, *x.shape[2:])
            optimiser = muon.Muon(model.parameters(), budget.learning_rate)
            schedule = torch.optim.lr_scheduler.OneCycleLR(
                optimiser, budget.learning_rate, budget.epochs * len(order) + 1, pct_start=0.1, cycle_momentum=False
            )
            for epoch in range(budget.epochs):
                order.set_epoch(epoch)
                for rows in order:
                    batch = torch.from_numpy(x[rows])
                    x_hat, mu, logvar = model(batch)
                    kl = vae.kl_per_dimension(mu, logvar).sum()
                    loss = (vae.reconstruction_error(batch, x_hat) + kl) / batch[0].numel()
                    losses.append(loss.item())
                    if not np.isfinite(losses[-1]):
                        raise FloatingPointError(f"the loss of {kind.name} is {losses[-1]} after {len(losses)} steps")
                    optimiser.zero_grad()
                    loss.backward()
                    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                    optimiser.step()
                    schedule.step()
    finally:
        torch.set_num_threads(threads)
    return model.eval(), np.array(losses)


def _clips(data: shards.Dataset, count: int) -> Clips:
    """The beginnings of the first pairs, where no echo of an earlier word is heard, at the study's rate."""
    rate, seconds = data.sample_rate_hz, STFT.duration_s
    long = round(seconds * rate)

    def clip(i: int) -> np.ndarray:
        pair = data[i]
        pair = pair.mean(axis=1) if pair.ndim == 3 else pair
        return audio.resample(pair[:, :long], rate, STFT.sample_rate_hz)[:, : STFT.num_samples]

    return Clips(np.stack([clip(i) for i in range(min(count, len(data)))]))


def _middle(scores: np.ndarray, effect: int, effects: int) -> int:
    """The clip whose score is the median of its effect; effects take turns."""
    order = np.argsort(scores[effect::effects], kind="stable")
    return int(effect + effects * order[len(order) // 2])


def _audible(clips: Clips, count: int, effects: int) -> np.ndarray:
    """Numbers of the first clips that are not silent and that the effect has changed: of each effect as many, in turns.

    Raises
    ------
    ValueError
        If an effect has none.
    """
    rows = [[] for _ in range(effects)]
    for i, (dry, wet) in enumerate(clips.audio):
        if not (audio.is_silent(dry) or audio.is_silent(wet)) and metrics.si_sdr_db(wet, dry) < UNCHANGED_DB:
            rows[i % effects].append(i)
    each = min(count // effects, *map(len, rows))
    if not each:
        raise ValueError(
            f"{[len(some) for some in rows]} audible clips of the {effects} effects: each needs at least one"
        )
    return np.array([some[:each] for some in rows]).T.ravel()
