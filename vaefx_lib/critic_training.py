"""Training the critic: sounds whose truth is known, through many effects at settings near each other and far apart.

A *group* has one dry passage and another one of other words, both through the same eight effects and settings. Each of
the eight is the truth for all others and for the dry passage, with the other words' wet passage as the reference. Every
second group is of speech, the others of invented music: what learned from speech alone knows little of recorded music.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn

from vaefx_lib import (
    audio,
    blackbox,
    config,
    critic,
    effects,
    invented_music,
    passages,
    processes,
    references,
    store,
    style,
    style_space,
)
from vaefx_lib.stft_distance import spectra

VARIANTS, NEAR, FAR = 8, 3, 2  # of a group; of the first one's effect at settings near it, and anywhere; others' rest
SETTABLE = 2.0  # how much more often an effect that is to be set is drawn than another
CLOSEST, FARTHEST = 0.02, 0.5  # deviations from the first one's settings of those near it
PASSAGES, CLASSES = 400, 600  # of training speakers; effects at some settings that teach the distance of style
KINDS = "speech", "invented music"  # of dry sounds; every second group is of the one, every second of the other
PIECES, PLAYED = {"train": 140, "valid": 25}, 4  # of invented music, and passages of each
VALID = 300  # groups of unseen speakers and pieces, which choose nothing: what the critic is worth comes from them
CHUNK = 100  # groups in one file
EPOCHS, BATCH, RATE, NETS = 6, 16, 2e-3, 3
SOURCES = ("critic_training.py", "style.py", "style_space.py", "passages.py", "references.py", "blackbox.py")
SOURCES += ("stft_distance.py", "invented_music.py")


@dataclasses.dataclass(frozen=True, eq=False)
class Groups:
    """Groups as the critic learns from them, `n` of them; `VARIANTS` wet sounds each, and the dry one as the last.

    Attributes
    ----------
    inputs : array, float32, shape (n, 9, n_measures)
        Measures of the input through each effect, and dry.
    references : array, float32, shape (n, 8, n_measures)
        Of the other passage through each.
    compared : array, float32, shape (n, 8, 9, 5)
        `style_space.Space.compare` of each reference with each input.
    distances : array, float32, shape (n, 8, 9)
        MRSTFT of each input from each truth.
    kinds : array of int, shape (n, 8)
        Which effect.
    """

    inputs: np.ndarray
    references: np.ndarray
    compared: np.ndarray
    distances: np.ndarray
    kinds: np.ndarray


def train_critic(preset: config.Preset, *, groups: int, folder: str | Path = critic.FOLDER, seed: int = 77):
    """Draw groups, train, measure on unseen speakers and pieces, and save: half an hour for 8,000 groups on two cores.

    The effects are those of the preset and pedalboard's. Groups are kept, so that an interrupted call goes on.

    Parameters
    ----------
    preset : Preset
        Its corpus and effects.
    groups : int
    folder : path
        Where it goes.
    seed : int

    Returns
    -------
    Critic

    Raises
    ------
    ValueError
        If an effect is not installed, or there are fewer groups than a batch has.
    """
    if groups < BATCH:
        raise ValueError(f"groups is {groups}: it must be {BATCH} or more")
    names = tuple(dict.fromkeys((*preset.render.effects, *references.KINDS)))
    kept = config.run_dir(preset.name) / "critic_data"
    counts = {"train": groups, "valid": VALID}
    dry = {"train": references.draw_dry(preset, "train", PASSAGES), "valid": references.draw_dry(preset, "valid", 100)}
    versions = {name: effects.load(name).version for name in names}
    made_from = [versions, preset.render.corpus, preset.render.peak_dbfs, preset.render.max_speed_change, seed]
    key = store.fingerprint(made_from, *(Path(__file__).parent / name for name in SOURCES))

    def fit_space() -> dict[str, np.ndarray]:
        drawn = references.classes(preset, dry["train"], names, CLASSES)
        cepstra = np.stack([style.measure(sound).cepstrum for sound in dry["train"].sounds[:100]])
        return dataclasses.asdict(style_space.fit(drawn, cepstra))

    space = style_space.Space(**store.cached(kept / "space.safetensors", key, fit_space))
    space = dataclasses.replace(space, whitening=space.whitening.astype(np.float16).astype(np.float32))  # as saved
    drawn = {}
    for part, count in counts.items():
        music = _invented(part, preset.render.peak_dbfs, kept, key, seed)
        kinds = (dry[part], music)
        drawn[part] = _draw_all(kinds, names, len(preset.render.effects), space, part, count, kept, key, seed)
    centre = drawn["train"].inputs.mean((0, 1))
    nets = tuple(fit(drawn["train"], space, centre, seed=start) for start in range(NETS))
    about = {"groups": groups, "seed": seed, "effects": versions, "probe": probe().tolist()}
    made = critic.Critic(space, centre, nets, about)
    about["worth"] = {kind: worth(made, _every_second(drawn["valid"], i)) for i, kind in enumerate(KINDS)}
    critic.save_critic(folder, made)
    critic.load.cache_clear()
    return critic.load(Path(folder))


def draw(
    dry: references.Dry, names: Sequence[str], settable: int, space: style_space.Space, part: str, index: int, seed: int
) -> dict[str, np.ndarray]:
    """One group: the fields of `Groups` without their first axis. It depends on its number and the seed alone.

    The first `settable` names are drawn `SETTABLE` times as often as the others.

    Raises
    ------
    ValueError
        If nothing was heard in `references.TRIES` draws.
    """
    fxs = {name: effects.load(name) for name in names}
    weights = np.where(np.arange(len(names)) < settable, SETTABLE, 1.0)
    weights /= weights.sum()
    rng = np.random.default_rng([seed, ("train", "valid").index(part), index])
    for _ in range(references.TRIES):
        x = int(rng.integers(len(dry.sounds)))
        y = dry.other(rng, x, same_speaker=rng.uniform() < references.SAME_VOICE)
        variants = _variants(rng, names, fxs, weights)
        try:
            wet = [
                [blackbox.wet(fxs[name], dry.sounds[at], s, passages.RATE_HZ) for name, s in variants] for at in (x, y)
            ]
        except effects.EffectFailed:
            continue
        if not any(audio.is_silent(sound) for sounds in wet for sound in sounds):
            break
    else:
        raise ValueError(f"group {index} was silent in {references.TRIES} draws")
    sounds = [*wet[0], dry.sounds[x]]
    inputs, others = [style.measure(sound) for sound in sounds], [style.measure(sound) for sound in wet[1]]
    analysed = [spectra(sound) for sound in sounds]
    compare = [space.compare(other) for other in others]
    return {
        "inputs": np.stack([one.numbers for one in inputs]),
        "references": np.stack([one.numbers for one in others]),
        "compared": np.array([[with_(one) for one in inputs] for with_ in compare]),
        "distances": np.array([[truth.distance(one) for one in analysed] for truth in analysed[:-1]], np.float32),
        "kinds": np.array([names.index(name) for name, _ in variants]),
    }


def fit(groups: Groups, space: style_space.Space, centre: np.ndarray, *, seed: int) -> critic.CriticNet:
    """One network, trained on groups; its weights are rounded as they are saved."""
    torch.manual_seed(seed)
    data = _tensors(groups, space, centre)
    net, batches = critic.CriticNet(len(centre)), len(groups.inputs) // BATCH
    optimiser = torch.optim.AdamW(net.parameters(), lr=RATE, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=EPOCHS * batches)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(groups.inputs))[: batches * BATCH].split(BATCH):
            told, wanted = _told(net, data, rows), data["distances"][rows]
            # roots: a small distance is worth being right about
            loss = (torch.sqrt(told + 0.05) - torch.sqrt(wanted + 0.05)).square().mean()
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimiser.step()
            schedule.step()
    return net.half().float().eval()


def worth(made: critic.Critic, groups: Groups) -> dict[str, float]:
    """What a critic is worth on groups that it has not learned from.

    Returns
    -------
    dict
        `rank_correlation`: Spearman's, of what is expected of the nine sounds with how far they are from a truth, mean
        over all truths; `chosen`: MRSTFT of that sound, of all but the truth itself, of which most is expected. Both
        also for the distance of style (`style_...`). `dry`, `best`: of the dry sound, and of the best of the others.
    """
    data = _tensors(groups, made.space, made.centre)
    with torch.inference_mode():
        rows = torch.arange(len(groups.inputs)).split(50)
        told = torch.stack([torch.cat([_told(net, data, row) for row in rows]) for net in made.nets]).mean(0).numpy()
    truth, itself = groups.distances, np.eye(VARIANTS, VARIANTS + 1, dtype=bool)
    found = {"dry": truth[..., -1].mean(), "best": np.where(itself, np.inf, truth).min(-1).mean()}
    for name, expected in {"": told, "style_": style_space.total(groups.compared)}.items():
        chosen = np.where(itself, np.inf, expected).argmin(-1)
        found[f"{name}chosen"] = np.take_along_axis(truth, chosen[..., None], -1).mean()
        pairs = zip(expected.reshape(-1, VARIANTS + 1), truth.reshape(-1, VARIANTS + 1))
        found[f"{name}rank_correlation"] = np.mean([spearmanr(*pair).statistic for pair in pairs])
    return {name: round(float(value), 4) for name, value in found.items()}


def probe() -> np.ndarray:
    """Measures of a sound that never changes: a critic is of use only while they are what they were."""
    rng, t = np.random.default_rng(0), np.arange(48_000) / passages.RATE_HZ
    sweep = np.sin(2 * np.pi * (100 * t + 400 * t**2)) * (1 + np.sin(2 * np.pi * 3 * t))
    return style.measure((0.1 * sweep + 0.01 * rng.standard_normal(len(t))).astype(np.float32)).numbers.round(2)


def _variants(rng: np.random.Generator, names: Sequence[str], fxs, weights) -> list[tuple[str, np.ndarray]]:
    """Effects and settings of one group."""
    first = names[rng.choice(len(names), p=weights)]
    at = rng.uniform(size=len(fxs[first].params))
    found = [(first, at)]
    for _ in range(NEAR):
        deviation = np.exp(rng.uniform(np.log(CLOSEST), np.log(FARTHEST)))
        moved = rng.uniform(size=len(at)) < rng.choice([0.3, 1.0])
        if not moved.any():
            moved[rng.integers(len(at))] = True
        found.append((first, np.clip(at + moved * deviation * rng.standard_normal(len(at)), 0, 1)))
    found += [(first, rng.uniform(size=len(at))) for _ in range(FAR)]
    while len(found) < VARIANTS:
        other = names[rng.choice(len(names), p=weights)]
        found.append((other, rng.uniform(size=len(fxs[other].params))))
    return found


def _invented(part: str, peak_dbfs: float, folder: Path, key: str, seed: int) -> references.Dry:
    """Passages of invented music, a piece in place of a speaker."""
    numbered = [(piece, passage) for piece in range(PIECES[part]) for passage in range(PLAYED)]

    def one(which: tuple[int, int]) -> np.ndarray:
        own = [seed, ("train", "valid").index(part), which[0]]
        piece = invented_music.invent(np.random.default_rng(own), passages.RATE_HZ)
        for rng in np.random.default_rng([*own, which[1]]).spawn(references.TRIES):
            sound = audio.peak_level(invented_music.play(piece, rng, passages.SAMPLES), peak_dbfs)
            if not audio.is_silent(sound):
                return sound
        raise ValueError(f"invented piece {which[0]} was silent in {references.TRIES} draws")

    def compute() -> dict[str, np.ndarray]:
        return {"sounds": np.stack(processes.each(one, numbered))}

    sounds = store.cached(folder / f"music_{part}.safetensors", key, compute)["sounds"]
    return references.Dry(sounds, np.array([f"piece {piece}" for piece, _ in numbered]))


def _every_second(groups: Groups, first: int) -> Groups:
    return Groups(**{name: array[first::2] for name, array in vars(groups).items()})


def _draw_all(kinds, names, settable, space, part, count, folder, key, seed) -> Groups:
    """All groups of a part, of each kind of dry sounds in turn, by all processors, in files of `CHUNK`."""
    chunks = []
    for start in range(0, count, CHUNK):
        rows = range(start, min(start + CHUNK, count))

        def compute(rows=rows) -> dict[str, np.ndarray]:
            made = processes.each(lambda i: draw(kinds[i % len(kinds)], names, settable, space, part, i, seed), rows)
            return {name: np.stack([one[name] for one in made]) for name in made[0]}

        chunks.append(store.cached(folder / f"{part}_{start}.safetensors", f"{key} {rows}", compute))
        print(f"groups of {part}: {rows.stop} of {count}", flush=True)
    return Groups(**{name: np.concatenate([chunk[name] for chunk in chunks]) for name in chunks[0]})


def _tensors(groups: Groups, space: style_space.Space, centre: np.ndarray) -> dict[str, Tensor]:
    whitened = {name: (getattr(groups, name) - centre) @ space.whitening for name in ("inputs", "references")}
    alike = critic.likeness(groups.compared, groups.compared[:, :, -1:].repeat(VARIANTS + 1, 2))
    arrays = whitened | {"likeness": alike, "distances": groups.distances}
    return {name: torch.from_numpy(np.asarray(array, np.float32)) for name, array in arrays.items()}


def _told(net: critic.CriticNet, data: dict[str, Tensor], rows: Tensor) -> Tensor:
    """What is expected of each input for each reference, (rows, 8, 9)."""
    reference = net.embed(data["references"][rows])[:, :, None]
    candidate = net.embed(data["inputs"][rows])[:, None]
    reference, candidate = torch.broadcast_tensors(reference, candidate)
    return net(reference, candidate, candidate[:, :, -1:].expand_as(candidate), data["likeness"][rows])
