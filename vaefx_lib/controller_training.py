"""Training a controller: a warm start on known settings, end to end through the effects, then what to expect of it.

The encoder is frozen: what it says of each (dry, reference) is computed once. Through an effect the loss is that of the
sound, MRSTFT + L1, and its gradient is SPSA's. The answers then learn from the sound alone, and their error is only
watched; the distributions beside them go on learning known settings, through the layers that both share.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vaefx_lib import (
    blackbox,
    config,
    corpora,
    echo_peaks,
    effects,
    passages,
    references,
    runs,
    sound_loss,
    store,
    style,
)
from vaefx_lib.controller import BINS, Controller, Scale, SettingsNet, load, n_params, save_controller
from vaefx_lib.stft_distance import MrstftTo

BATCH, BATCH_END_TO_END = 64, 12
NEIGHBOUR = 0.8  # bins: deviation of what the distribution should be, around the true setting
POINT_WEIGHT = 10.0  # of the squared error of the settings, beside the cross-entropy of the distributions
END_TO_END_RATE = 2e-4
STEP = 0.02  # of SPSA, in settings
HEARD = 32  # validation pairs of each effect that are rendered
EVERY = 25  # end-to-end steps between two validations
CALIBRATED = 64  # validation pairs of each effect from which the confidence comes
TRIED = 8  # proposals for each of them
FINGERPRINTS = 4  # impulse responses of an effect for each of its references
ARRAYS = ("inputs", "passages", "settings", "numbers", "mu")  # of `references.References`
DATA_SOURCES = ("style.py", "passages.py", "references.py", "blackbox.py")
SOURCES = (*DATA_SOURCES, "controller.py", "controller_training.py", "sound_loss.py", "stft_distance.py")


@dataclass(frozen=True, eq=False)
class Material:
    """All that controllers of some effects learn from."""

    run: runs.Run
    dry: dict[str, references.Dry]  # "train" and "valid"
    space: style.Space
    drawn: dict[str, dict[str, references.References]]  # subset, effect
    dry_numbers: dict[str, np.ndarray]  # subset: measures of the dry passages


def train_controller(
    preset: config.Preset, *, names: Sequence[str] | None = None, seed: int | None = None, folder: Path | None = None
) -> Controller:
    """The controller of a preset, trained unless a finished one of the same choices is there.

    Parameters
    ----------
    preset : Preset
    names : sequence of str, optional
        Effects; those of the preset by default. One controller knows all of them.
    seed : int, optional
        Of weights and order, in place of the preset's; the data stay.
    folder : Path, optional
        In place of `config.controller_dir`.

    Returns
    -------
    Controller

    Raises
    ------
    DamagedFile
        If there is no trained VAE.

    Used in `05_controller_training`.
    """
    names = tuple(names or preset.render.effects)
    seed = preset.controller.seed if seed is None else seed
    folder = Path(folder or config.controller_dir(preset.name))
    run = runs.load(config.vae_dir(preset.name))
    key = _fingerprint(preset, run, names, [dataclasses.asdict(preset.controller), seed])
    try:
        made = load(folder, run)
        if made.about["fingerprint"] == key:
            return made
    except store.DamagedFile:
        pass  # absent, damaged, or of another VAE: train
    material = prepare(preset, run, names)
    return fit(preset, material, seed=seed, folder=folder, key=key)


def prepare(preset: config.Preset, run: runs.Run, names: Sequence[str]) -> Material:
    """Dry passages, the space of style, and references of each effect; what was made before is kept."""
    choices = preset.controller
    folder = config.controller_dir(preset.name).with_name("controller_data")
    counts = {"train": choices.n_passages, "valid": max(8, choices.n_passages // 4)}
    dry = {part: references.draw_dry(preset, part, count, seed=choices.seed) for part, count in counts.items()}

    def cached(name: str, compute, *more, of: Sequence[str] = ()):
        key = _fingerprint(preset, run, of, [name, choices.n_passages, choices.seed, *more], DATA_SOURCES)
        return store.cached(folder / f"{name.replace(':', '_').replace('/', '_')}.safetensors", key, compute)

    def measure_dry():
        styles = {part: blackbox.in_threads(style.measure, list(dry[part].sounds)) for part in dry}
        numbers = {part: np.stack([s.numbers for s in styles[part]]) for part in styles}
        return numbers | {"cepstra": np.stack([s.cepstrum for s in styles["train"]][:100])}

    def fit_space():
        kinds = tuple(dict.fromkeys((*names, *references.KINDS)))
        drawn = references.classes(preset, dry["train"], kinds, choices.n_classes, seed=choices.seed)
        space = style.fit(drawn, measured["cepstra"])
        return {name: getattr(space, name) for name in style.Space.__dataclass_fields__}

    measured = cached("dry", measure_dry)
    space = style.Space(**cached("space", fit_space, choices.n_classes, of=names))
    drawn: dict[str, dict] = {"train": {}, "valid": {}}
    for part, count in {"train": choices.n_train, "valid": choices.n_valid}.items():
        for name in names:

            def draw(name=name, part=part, count=count):
                made = references.draw(preset, run, dry[part], name, count, seed=choices.seed)
                return {field: getattr(made, field) for field in ARRAYS}

            print(f"references of {name}: {count} for {part}", flush=True)
            drawn[part][name] = references.References(name, **cached(f"{name} {part}", draw, count, of=[name]))
    return Material(run, dry, space, drawn, {part: measured[part] for part in dry})


def fit(preset: config.Preset, material: Material, *, seed: int, folder: Path, key: str = "") -> Controller:
    """Train on prepared material, and save.

    Returns
    -------
    Controller
    """
    choices, names = preset.controller, tuple(material.drawn["train"])
    torch.manual_seed(seed)
    scale = _scale(material)
    sizes = n_params(names)
    features = {part: {n: _features(material, scale, part, n) for n in names} for part in material.drawn}
    net = SettingsNet(features["train"][names[0]].shape[1], choices.width, sizes)
    history = warm_start(net, material, features, epochs=choices.max_epochs, rate=choices.learning_rate, seed=seed)
    end_to_end = through_effects(net, preset, material, features, steps=choices.end_to_end_steps, seed=seed)
    library = {
        name: ((refs.numbers @ material.space.whitening).astype(np.float16), refs.settings)
        for name, refs in material.drawn["train"].items()
    }
    echoes = {
        name: echo_peaks.fingerprints(effects.load(name), FINGERPRINTS * choices.n_train, seed=choices.seed)
        for name in names
    }
    about = {"preset": preset.name, "vae": material.run.fingerprint, "seed": seed}
    made = Controller(names, net.eval(), scale, material.space, library, echoes, {}, material.run, about)
    made = dataclasses.replace(made, calibration=calibrate(made, preset, material))
    save_controller(folder, made, {"history.csv": history, "end_to_end.csv": end_to_end}, key)
    return load(folder, material.run)


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
            loss = _known_loss(net(features["train"][name][batch], int(index)), wanted["train"][name][batch])
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
    net: SettingsNet, preset: config.Preset, material: Material, features: dict, *, steps: int, seed: int
) -> dict:
    """Learn from the sound: settings go through the effect, and what comes out is compared with the true sound.

    Effects take turns, `steps` batches of 12 each. The weights that are best on the validation pairs are kept, those of
    the warm start among them.

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
    none = [
        [loss.of_sound(material.dry["valid"].sounds[i]) for loss, i in zip(heard[n], valid[n].inputs)] for n in names
    ]
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
            if loss < best[0]:
                best = loss, {name: value.clone() for name, value in net.state_dict().items()}
        if step == steps * len(names):
            break
        index = step % len(names)
        name = names[index]
        batch = rng.choice(len(wanted[name]), min(BATCH_END_TO_END, len(wanted[name])), replace=False)
        objectives = _losses(preset, material, "train", name, batch)
        answers = net(features["train"][name][batch], index)
        sound = blackbox.spsa(
            lambda row, settings, objectives=objectives: objectives[row](settings),
            answers[0],
            step=STEP,
            directions=1,
            seed=[seed, step],
        )
        loss = sound.mean() + _known_loss((answers[0].detach(), answers[1]), wanted[name][batch])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    net.load_state_dict(best[1])
    columns = ("step", "loss", "loss_none", "loss_middle", "settings_mae")
    return {name: np.array(column) for name, column in zip(columns, zip(*rows))}


def calibrate(made: Controller, preset: config.Preset, material: Material) -> dict[str, np.ndarray]:
    """What a match is worth, from validation: distance after by distance before -> reduction of the wide MRSTFT.

    The plain answer of the network, the best of a few proposals and one of them at random are rendered and compared
    with the truth.

    Returns
    -------
    dict of str to array, shape (2, knots)
        See `Controller.calibration`.
    """
    from sklearn.isotonic import IsotonicRegression

    rows: dict[str, list[tuple[float, float]]] = {}
    for name, refs in material.drawn["valid"].items():
        fx, sounds = effects.load(name), material.dry["valid"].sounds

        def one(i, fx=fx, sounds=sounds, refs=refs, name=name):
            dry, reference, target = sounds[refs.inputs[i]], *_both(fx, sounds, refs, i, preset)
            from_target, distance = MrstftTo(target), made.space.target(style.measure(reference))
            before, none = distance(style.measure(dry)), from_target(dry)
            found = []
            for settings in made.proposals(dry, reference, name, count=TRIED + 1, seed=int(i)):
                try:
                    sound = blackbox.wet(fx, dry, settings, passages.RATE_HZ, peak_dbfs=preset.render.peak_dbfs)
                    found.append((distance(style.measure(sound)) / max(before, 1e-9), none - from_target(sound)))
                except (effects.EffectFailed, ValueError):  # silence, say
                    found.append((1.0, 0.0))
            return found[0], min(found), found[-1]

        tried = blackbox.in_threads(one, range(min(CALIBRATED, len(refs.settings))))
        rows[name] = [row for found in tried for row in found]
    rows["any"] = [row for found in rows.values() for row in found]
    lines = {name: IsotonicRegression(increasing=False).fit(*zip(*found)) for name, found in rows.items()}
    return {name: np.stack([line.X_thresholds_, line.y_thresholds_]) for name, line in lines.items()}


class _Loss:
    """`blackbox.settings_loss`, and the same for a sound."""

    def __init__(self, fx, dry, target, peak_dbfs):
        self.of_settings = blackbox.settings_loss(fx, dry, target, passages.RATE_HZ, peak_dbfs=peak_dbfs)
        self.of_sound = sound_loss.to_target(target)

    def __call__(self, settings) -> float:
        return self.of_settings(settings)


def _both(fx, sounds, refs, i, preset) -> tuple[np.ndarray, np.ndarray]:
    """The reference and the target of pair i."""
    at = refs.settings[i].astype(np.float64)
    return tuple(
        blackbox.wet(fx, sounds[which], at, passages.RATE_HZ, peak_dbfs=preset.render.peak_dbfs)
        for which in (refs.passages[i], refs.inputs[i])
    )


def _losses(preset, material, part, name, indices) -> list[_Loss]:
    """The loss of each of some pairs as a function of the settings."""
    fx, sounds, refs = effects.load(name), material.dry[part].sounds, material.drawn[part][name]

    def one(i):
        _, target = _both(fx, sounds, refs, i, preset)
        return _Loss(fx, sounds[refs.inputs[i]], target, preset.render.peak_dbfs)

    return blackbox.in_threads(one, indices)


def _heard(losses: list[_Loss], settings: np.ndarray) -> list[float]:
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


def _known_loss(answers: tuple[Tensor, Tensor], wanted: Tensor) -> Tensor:
    """Of values and distributions, when the settings are known."""
    centres = (torch.arange(BINS) + 0.5) / BINS
    target = torch.softmax(-0.5 * ((wanted[..., None] - centres) * BINS / NEIGHBOUR) ** 2, dim=2)
    point, logs = answers
    return -(target * logs).sum(2).mean() + POINT_WEIGHT * (point - wanted).square().mean()


def _validated(net, names, features, wanted) -> tuple[float, float]:
    """Loss and mean error of the settings."""
    net.eval()
    losses, errors = [], []
    with torch.inference_mode():
        for index, name in enumerate(names):
            answers = net(features[name], index)
            losses.append(float(_known_loss(answers, wanted[name])))
            errors.append(float((answers[0] - wanted[name]).abs().mean()))
    return float(np.mean(losses)), float(np.mean(errors))


def _scale(material: Material) -> Scale:
    drawn = list(material.drawn["train"].values())
    numbers, mu = np.concatenate([r.numbers for r in drawn]), np.concatenate([r.mu for r in drawn])
    return Scale(numbers.mean(0), numbers.std(0) + 1e-3, mu.mean(0), mu.std(0) + 1e-3)


def _features(material: Material, scale: Scale, part: str, name: str) -> Tensor:
    refs = material.drawn[part][name]
    return torch.from_numpy(scale.features(material.dry_numbers[part][refs.inputs], refs.numbers, refs.mu))


def _fingerprint(
    preset: config.Preset, run: runs.Run, names: Sequence[str], choices, sources: Sequence[str] = SOURCES
) -> str:
    """Of all that a controller, or what it learns from, depends on."""
    versions = {name: effects.load(name).version for name in names}
    render = [preset.render.corpus, preset.render.peak_dbfs, preset.render.max_speed_change]
    files = [Path(__file__).parent / name for name in sources]
    corpus = corpora.fingerprint(preset.render.corpus)
    return store.fingerprint(choices, render, preset.name, versions, run.fingerprint, corpus, *files)
