"""The two stages of a controller's training: a warm start on known settings, then end to end through the effects.

Through an effect the loss is that of the sound, MRSTFT + L1, and its gradient is SPSA's. The answers then learn from
the sound alone, and their error is only watched; the distributions beside them go on learning known settings, through
the layers that both share.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from vaefx_lib import blackbox, config, controller_material, effects, passages, sound_loss
from vaefx_lib.controller_material import Material
from vaefx_lib.settings_net import SettingsNet

BATCH, BATCH_END_TO_END = 64, 12
END_TO_END_RATE = 2e-4
STEP = 0.02  # of SPSA, in settings
HEARD = 32  # validation pairs of each effect that are rendered
EVERY = 25  # end-to-end steps between two validations


def warm_start(net: SettingsNet, material: Material, features: dict, *, epochs: int, rate: float, seed: int) -> dict:
    """Learn known settings: squared error of the values, cross-entropy of the distributions.

    Returns
    -------
    dict of str to array, shape (epochs,)
        epoch, train_loss, and of the validation pairs: valid_loss, settings_mae, settings_mae_middle (always 0.5).
    """
    names, rng = list(material.drawn["train"]), np.random.default_rng(seed)
    wanted = {part: {n: torch.from_numpy(r.settings) for n, r in of.items()} for part, of in material.drawn.items()}
    counts = {name: max(1, len(wanted["train"][name]) // BATCH) for name in names}
    optimiser = torch.optim.AdamW(net.parameters(), lr=rate, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=epochs * sum(counts.values()))
    rows = []
    for epoch in range(1, epochs + 1):
        net.train()
        order = rng.permutation(np.repeat(np.arange(len(names)), list(counts.values())))
        shuffled = {
            name: iter(np.array_split(rng.permutation(len(wanted["train"][name])), counts[name])) for name in names
        }
        losses = []
        for index in order:
            name = names[index]
            batch = next(shuffled[name])
            known = features["train"][name][batch], int(index), wanted["train"][name][batch]
            loss = sum(net.known_loss(*known)[1:])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            losses.append(float(loss.detach()))
        valid, error = _validated(net, names, features["valid"], wanted["valid"])
        middle = float(np.mean([(w - 0.5).abs().mean() for w in wanted["valid"].values()]))
        rows.append((epoch, np.mean(losses), valid, error, middle))
    columns = ("epoch", "train_loss", "valid_loss", "settings_mae", "settings_mae_middle")
    return {name: np.array(column) for name, column in zip(columns, zip(*rows))}


def through_effects(
    net: SettingsNet,
    preset: config.Preset,
    material: Material,
    features: dict,
    *,
    steps: int,
    seed: int,
    watch: Callable[[int, dict[str, float]], None] | None = None,
) -> dict:
    """Learn from the sound: settings go through the effect, and what comes out is compared with the true sound.

    Effects take turns, `steps` batches of 12 each. The weights that are best on the validation pairs are kept, those of
    the warm start among them. `watch` is called at each validation, with the step and its scores.

    Returns
    -------
    dict of str to array
        step, and of the validation pairs: loss (MRSTFT + L1), loss_none (dry), loss_middle (all settings 0.5),
        settings_mae.
    """
    names, train, valid = list(material.drawn["train"]), material.drawn["train"], material.drawn["valid"]
    wanted = {name: torch.from_numpy(refs.settings) for name, refs in train.items()}
    heard = {
        name: _losses(preset, material, "valid", name, range(min(HEARD, len(valid[name].settings)))) for name in names
    }
    middle = [_heard(heard[n], np.full((len(heard[n]), wanted[n].shape[1]), 0.5)) for n in names]
    none = [_dry_losses(preset, material, n, len(heard[n])) for n in names]
    optimiser = torch.optim.Adam(net.parameters(), lr=END_TO_END_RATE)
    rng = np.random.default_rng([seed, 1])
    net.eval()  # nothing is left out: the loss is that of the answers that will be given
    rows, best = [], (np.inf, None)
    for step in range(steps * len(names) + 1):
        if step % (EVERY * len(names)) == 0 or step == steps * len(names):
            loss, error = _listen(net, names, features["valid"], heard, valid)
            rows.append(
                (step // len(names), loss, np.mean(np.concatenate(none)), np.mean(np.concatenate(middle)), error)
            )
            print(
                f"end to end, step {step // len(names)} of {steps}: loss {loss:.3f}, settings {error:.3f}", flush=True
            )
            if watch:
                watch(step // len(names), {"loss": loss, "settings_mae": error})
            if loss < best[0]:
                best = loss, {name: value.clone() for name, value in net.state_dict().items()}
        if step == steps * len(names):
            break
        index = step % len(names)
        name = names[index]
        batch = rng.choice(len(wanted[name]), min(BATCH_END_TO_END, len(wanted[name])), replace=False)
        objectives = _losses(preset, material, "train", name, batch)
        answers, _, entropy = net.known_loss(features["train"][name][batch], index, wanted[name][batch])

        def loss_of(row: int, settings: np.ndarray, objectives=objectives) -> float:
            return objectives[row](settings)

        sound = blackbox.spsa(
            loss_of,
            answers,
            step=STEP,
            directions=1,
            seed=[seed, step],
        )
        loss = sound.mean() + entropy
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    net.load_state_dict(best[1])
    columns = ("step", "loss", "loss_none", "loss_middle", "settings_mae")
    return {name: np.array(column) for name, column in zip(columns, zip(*rows))}


def _losses(preset, material, part, name, indices) -> list[Callable[[np.ndarray], float]]:
    """The loss of each of some pairs as a function of the settings."""
    fx, sounds, refs = effects.load(name), material.dry[part].sounds, material.drawn[part][name]
    given = {"sample_rate_hz": passages.RATE_HZ, "peak_dbfs": preset.render.peak_dbfs}

    def one(i):
        dry, at = sounds[refs.inputs[i]], refs.settings[i].astype(np.float64)
        return blackbox.settings_loss(fx, dry, blackbox.wet(fx, dry, at, **given), **given)

    return blackbox.in_threads(one, indices)


def _dry_losses(preset, material, name, count) -> list[float]:
    """The loss of the dry input in the first validation pairs."""
    inputs = material.dry["valid"].sounds[material.drawn["valid"][name].inputs[:count]]

    def one(i):
        _, truth = controller_material.both(preset, material, "valid", name, i)
        return sound_loss.to_target(truth)(inputs[i])

    return blackbox.in_threads(one, range(count))


def _heard(losses: list[Callable], settings: np.ndarray) -> list[float]:
    return blackbox.in_threads(lambda i: losses[i](settings[i]), range(len(losses)))


def _listen(net, names, features, heard, refs) -> tuple[float, float]:
    """Mean loss of the sound, and mean error of the settings, on the validation pairs that are rendered."""
    losses, errors = [], []
    for index, name in enumerate(names):
        with torch.inference_mode():
            point = net(features[name][: len(heard[name])], index)[0].double().numpy()
        losses += _heard(heard[name], point)
        errors.append(np.abs(point - refs[name].settings[: len(point)]).mean())
    return float(np.mean(losses)), float(np.mean(errors))


def _validated(net, names, features, wanted) -> tuple[float, float]:
    """Loss and mean error of the settings."""
    net.eval()
    losses, errors = [], []
    with torch.inference_mode():
        for index, name in enumerate(names):
            point, squares, entropy = net.known_loss(features[name], index, wanted[name])
            losses.append(float(squares + entropy))
            errors.append(float((point - wanted[name]).abs().mean()))
    return float(np.mean(losses)), float(np.mean(errors))
