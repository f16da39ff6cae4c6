"""Training the critic on groups of sounds whose truth is known, as `critic_material` draws them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn

from vaefx_lib import config, critic, critic_material, effects, passages, references, store, style, style_space
from vaefx_lib.critic_material import KINDS, VARIANTS, Groups

PASSAGES, CLASSES = 400, 600  # of training speakers; effects at some settings that teach the distance of style
VALID = 300  # groups of unseen speakers and pieces, which choose nothing: what the critic is worth comes from them
EPOCHS, BATCH, RATE, NETS = 6, 16, 2e-3, 3
SOURCES = ("critic_training.py", "critic_material.py", "style.py", "style_space.py", "passages.py", "references.py")
SOURCES += ("blackbox.py", "stft_distance.py", "invented_music.py")


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
        music = critic_material.invented(part, preset.render.peak_dbfs, folder=kept, key=key, seed=seed)
        drawn[part] = critic_material.draw_all(
            (dry[part], music), names, len(preset.render.effects), space, part, count, folder=kept, key=key, seed=seed
        )
    centre = drawn["train"].inputs.mean((0, 1))
    nets = tuple(fit(drawn["train"], space, centre, seed=start) for start in range(NETS))
    about = {"groups": groups, "seed": seed, "effects": versions, "probe": probe().tolist()}
    made = critic.Critic(space, centre, nets, about)
    about["worth"] = {kind: worth(made, _every_second(drawn["valid"], i)) for i, kind in enumerate(KINDS)}
    critic.save_critic(folder, made)
    critic.load.cache_clear()
    return critic.load(Path(folder))


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


def _every_second(groups: Groups, first: int) -> Groups:
    return Groups(**{name: array[first::2] for name, array in vars(groups).items()})


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
