"""Can a network find settings through an effect that it cannot see into? The same settings for everything, learned by
SPSA alone.

The *dummy experiment* of the report, with settings that an untrained network does not give: it answers 0.5, so the
truth is 0.2 for some settings and 0.8 for others. No settings are shown to it, only how far the sound is from the sound
at the true ones. What cannot be heard stays wrong (`output`: all sounds are brought to one level). The times of an echo
it is told: the loss is lower at the true ones alone, a needle that no slope leads to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from vaefx_lib import blackbox, config, controller, effects, passages, references, settings_net, store, style

PAIRS = 12  # of an input and a reference, which is another of the passages
SAMPLES = 32_768  # of each input: 1.4 s
BATCH, DIRECTIONS = 4, 2
STEP = 0.05  # of SPSA, in settings
AIM = 0.05  # an error below it is small: in settings
SWAPPED = (  # settings of Delay at which its two times have changed places: in mono the same sound
    (0.4, 0.5, 0.6, 0.5, 0.6, 0.5),  # the right time is twice the left
    (0.4 * 2**0.5, 0.125, 0.6, 0.5, 0.6, 0.5),  # the left is twice the right
)
RATE = 5e-4  # of Adam; falls to zero. At four times as much settings run into 0 or 1, where there is no slope
SOURCES = ("dummy_study.py", "blackbox.py", "sound_loss.py", "references.py", "style.py", "settings_net.py")


@dataclass(frozen=True)
class Case:
    """What is to be found of an effect."""

    effect: str
    settings: tuple[float, ...]  # the truth
    learned: tuple[str, ...]  # of the parameters; the others are told
    inaudible: tuple[str, ...]  # among those


CASES = (
    Case("mda:Overdrive", (0.2, 0.8, 0.2), ("drive", "muffle", "output"), ("output",)),
    Case("mda:Delay", (0.4, 0.2, 0.8, 0.2, 0.8, 0.2), ("feedback", "fb_tone", "fx_mix", "output"), ("output",)),
)


def dummy_settings(
    preset: config.Preset,
    made: controller.Controller,
    effect: str,
    settings: Sequence[float],
    *,
    learned: Sequence[str] | None = None,
    steps: int = 60,
    seeds: Sequence[int] = (0, 1, 2),
) -> dict[str, np.ndarray]:
    """Errors of a fresh network while it learns one and the same settings for everything, end to end.

    Parameters
    ----------
    preset : Preset
        Of whose training speakers passages are heard.
    made : Controller
        Gives the encoder, the scale of the network's inputs and its width; its weights are not used.
    effect : str
        Any; the controller need not know it.
    settings : sequence of float, (n_params,)
        In [0, 1]; what the network has to find.
    learned : sequence of str, optional
        Which parameters; by default all. The others stand at the truth.
    steps : int
    seeds : sequence of int
        Each of its own weights, order and directions.

    Returns
    -------
    dict of str to array
        step, (steps + 1,); error, (seeds, steps + 1, n_learned): of each setting, mean over the pairs of its magnitude
        before each step; loss, (seeds, steps).

    Raises
    ------
    ValueError
        For an unknown effect or parameter, or settings of another number or outside [0, 1].

    References
    ----------
    Spall: Multivariate stochastic approximation using a simultaneous perturbation gradient approximation, IEEE Trans.
    Automatic Control 37 (1992). Ramírez, Wang, Smaragdis, Bryan: Differentiable signal processing with black-box audio
    effects, ICASSP 2021.

    Used in `05_controller_training`.
    """
    fx, wanted = effects.load(effect), np.asarray(settings, np.float64)
    if wanted.shape != (len(fx.params),) or not ((wanted >= 0) & (wanted <= 1)).all():
        raise ValueError(f"settings of {effect} are {list(settings)}: they must be {len(fx.params)} numbers in [0, 1]")
    learned = fx.param_names if learned is None else learned
    if not learned or not set(learned) <= set(fx.param_names):
        raise ValueError(f"learned is {list(learned)}: it must be some of {', '.join(fx.param_names)}")
    free = np.array([fx.param_names.index(name) for name in learned])
    dry = references.draw_dry(preset, "train", PAIRS, seed=preset.controller.seed)
    features = torch.from_numpy(_features(made, fx, dry, wanted))
    losses = blackbox.in_threads(lambda sound: _loss(fx, sound[:SAMPLES], wanted, free), dry.sounds)
    width = made.net.first.out_features
    found = [_learn(features, losses, wanted[free], width, steps, seed) for seed in seeds]
    errors, heard = (np.stack(rows) for rows in zip(*found))
    return {"step": np.arange(steps + 1), "error": errors, "loss": heard}


def kept(folder: Path, preset: config.Preset, made: controller.Controller, case: Case) -> dict[str, np.ndarray]:
    """`dummy_settings` of a case, or what it gave the last time for the same controller and code, from a folder."""
    sources = [Path(__file__).parent / name for name in SOURCES]
    key = store.fingerprint(made.about["fingerprint"], repr(case), effects.load(case.effect).version, *sources)
    path = folder / f"dummy_{store.file_name(case.effect)}.safetensors"

    def compute() -> dict[str, np.ndarray]:
        return dummy_settings(preset, made, case.effect, case.settings, learned=case.learned)

    return store.cached(path, key, compute)


def summary(case: Case, found: dict[str, np.ndarray]) -> dict:
    """What `metrics.json` keeps: the final `error` of each setting, mean over the seeds, and the `steps` needed.

    After those, every error that can be heard stays below `AIM` at every seed; left out if it does not.
    """
    heard = [name not in case.inaudible for name in case.learned]
    steps = steps_needed(found["error"][..., heard], AIM)
    error = dict(zip(case.learned, found["error"][:, -1].mean(0).tolist()))
    return {"error": error, "seeds": len(found["error"])} | ({} if steps is None else {"steps": steps})


def steps_needed(error: np.ndarray, aim: float) -> int | None:
    """Steps after which every error stays below an aim, at every seed; None if there is no such number.

    `error` is (seeds, steps + 1, n), as `dummy_settings` gives it.
    """
    above = np.flatnonzero((np.asarray(error) >= aim).any(axis=(0, 2)))
    first = int(above[-1]) + 1 if len(above) else 0
    return first if first < error.shape[1] else None


def _features(made: controller.Controller, fx: effects.Effect, dry: references.Dry, wanted: np.ndarray) -> np.ndarray:
    """What the network reads of each input and a reference: another passage at the same settings."""
    rng = np.random.default_rng(0)
    others = [dry.other(rng, i, same_speaker=False) for i in range(len(dry.sounds))]

    def one(i: int):
        given, reference = dry.sounds[i], blackbox.wet(fx, dry.sounds[others[i]], wanted, passages.RATE_HZ)
        numbers = [style.measure(sound).numbers for sound in (given, reference)]
        return *numbers, references.windows(made.run, given, reference)

    of_dry, of_reference, windows = zip(*blackbox.in_threads(one, range(len(dry.sounds))))
    return made.scale.features(of_dry, of_reference, references.embed(made.run, windows))


def _loss(fx: effects.Effect, dry: np.ndarray, wanted: np.ndarray, free: np.ndarray):
    """Of the free settings, while the others stand at the truth."""
    target = blackbox.wet(fx, dry, wanted, passages.RATE_HZ)
    of_all = blackbox.settings_loss(fx, dry, target, passages.RATE_HZ)

    def loss(settings: np.ndarray) -> float:
        whole = wanted.copy()
        whole[free] = settings
        return of_all(whole)

    return loss


def _learn(features: torch.Tensor, losses: list, wanted: np.ndarray, width: int, steps: int, seed: int):
    """Errors (steps + 1, n_learned) and losses (steps,) of one network."""
    torch.manual_seed(seed)
    net = settings_net.SettingsNet(features.shape[1], width, [len(wanted)]).eval()
    optimiser = torch.optim.Adam(net.parameters(), lr=RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, max(1, steps))
    rng, errors, heard = np.random.default_rng(seed), [], []
    for step in range(steps + 1):
        answers = net(features, 0)[0]
        errors.append(np.abs(answers.detach().numpy() - wanted).mean(0))
        if step == steps:
            break
        batch = rng.choice(len(losses), min(BATCH, len(losses)), replace=False)

        def loss_of(row: int, settings: np.ndarray, batch=batch) -> float:
            return losses[batch[row]](settings)

        loss = blackbox.spsa(
            loss_of,
            answers[batch],
            step=STEP,
            directions=DIRECTIONS,
            seed=[seed, step],
        ).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        heard.append(float(loss.detach()))
    return np.array(errors), np.array(heard)
