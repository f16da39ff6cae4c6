"""Can a network find settings through an effect that it cannot see into? The same settings for everything, learned by
SPSA alone.

The *dummy experiment* of the report, with settings that an untrained network does not give: it answers 0.5, so the
truth is 0.2 for some settings and 0.8 for others. No settings are shown to it, only how far the sound is from the sound
at the true ones. What cannot be heard stays wrong (`output`: all sounds are brought to one level), and so do the times
of an echo: the loss is lower at the true ones alone, and everywhere else it is best to have no echo at all.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from vaefx_lib import blackbox, controller, controller_training, effects, passages

PAIRS = 12  # whose sounds are heard
SAMPLES = 32_768  # of each: 1.4 s
BATCH, DIRECTIONS = 4, 2
STEP = 0.05  # of SPSA, in settings
RATE = 2e-3  # of Adam; falls to zero


def dummy_settings(
    made: controller.Controller,
    material: controller_training.Material,
    effect: str,
    settings: Sequence[float],
    *,
    steps: int = 60,
    seeds: Sequence[int] = (0, 1, 2),
) -> dict[str, np.ndarray]:
    """Errors of a fresh network while it learns one and the same settings for everything, end to end.

    Parameters
    ----------
    made : Controller
        Gives the scale of the network's inputs and its width; its weights are not used.
    material : controller_training.Material
        Its training passages are heard.
    effect : str
        One that `material` has.
    settings : sequence of float, (n_params,)
        In [0, 1]; what the network has to find.
    steps : int
    seeds : sequence of int
        Each of its own weights, order and directions.

    Returns
    -------
    dict of str to array
        step, (steps + 1,); error, (seeds, steps + 1, n_params): of each setting, mean over the pairs of its magnitude
        before each step; loss, (seeds, steps).

    Raises
    ------
    ValueError
        For an effect that the material lacks, or settings of another number or outside [0, 1].

    References
    ----------
    Spall: Multivariate stochastic approximation using a simultaneous perturbation gradient approximation, IEEE Trans.
    Automatic Control 37 (1992). Ramírez, Wang, Smaragdis, Bryan: Differentiable signal processing with black-box audio
    effects, ICASSP 2021.

    Used in `05_controller_training`.
    """
    if effect not in material.drawn["train"]:
        raise ValueError(f"there are no references of {effect}, only of {', '.join(material.drawn['train'])}")
    fx, wanted = effects.load(effect), np.asarray(settings, np.float64)
    if wanted.shape != (len(fx.params),) or not ((wanted >= 0) & (wanted <= 1)).all():
        raise ValueError(f"settings of {effect} are {list(settings)}: they must be {len(fx.params)} numbers in [0, 1]")
    refs, dry = material.drawn["train"][effect], material.dry["train"].sounds
    features = made.scale.features(
        material.dry_numbers["train"][refs.inputs[:PAIRS]], refs.numbers[:PAIRS], refs.mu[:PAIRS]
    )
    losses = blackbox.in_threads(lambda i: _loss(fx, dry[i, :SAMPLES], wanted), refs.inputs[:PAIRS])
    width = made.net.second.out_features
    found = [_learn(torch.from_numpy(features), losses, wanted, width, steps, seed) for seed in seeds]
    errors, heard = (np.stack(rows) for rows in zip(*found))
    return {"step": np.arange(steps + 1), "error": errors, "loss": heard}


def _loss(fx: effects.Effect, dry: np.ndarray, wanted: np.ndarray):
    target = blackbox.wet(fx, dry, wanted, passages.RATE_HZ)
    return blackbox.settings_loss(fx, dry, target, passages.RATE_HZ)


def _learn(features: torch.Tensor, losses: list, wanted: np.ndarray, width: int, steps: int, seed: int):
    """Errors (steps + 1, n_params) and losses (steps,) of one network."""
    torch.manual_seed(seed)
    net = controller.SettingsNet(features.shape[1], width, [len(wanted)]).eval()
    optimiser = torch.optim.Adam(net.parameters(), lr=RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, max(1, steps))
    rng, errors, heard = np.random.default_rng(seed), [], []
    for step in range(steps + 1):
        answers = net(features, 0)[0]
        errors.append(np.abs(answers.detach().numpy() - wanted).mean(0))
        if step == steps:
            break
        batch = rng.choice(len(losses), min(BATCH, len(losses)), replace=False)
        loss = blackbox.spsa(
            lambda row, settings, batch=batch: losses[batch[row]](settings),
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
