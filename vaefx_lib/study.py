"""The main claims over several seeds, and with more effects: minutes to hours of training, so no notebook runs it."""

from __future__ import annotations

import numpy as np

from vaefx_lib import audibility, config, effects, evaluation, latent, probes, readings, rendering, shards, training
from vaefx_lib.config import Preset

SEEDS = (0, 1, 2)
HEARD = "measured/audibility.safetensors"  # of a run folder: where lesson 03 keeps it as well


def over_seeds(preset: Preset, seeds: tuple[int, ...] = SEEDS) -> dict:
    """Train the VAE of a preset from several seeds and score each on unseen speakers; PCA has no seed.

    The pairs must be rendered. The first seed's run is that of `train_vae`, the others lie beside it, `vae_seed1` and
    so on; finished runs are kept.

    Parameters
    ----------
    preset : Preset
    seeds : tuple of int

    Returns
    -------
    dict
        Mean over the seeds, and `<name>_std` their standard deviation (of the sample), of:

        - `mse_ratio_<channel>`: mean squared error of the VAE / of PCA, for each channel.
        - `probe_error_ratio`: share of effects that a linear probe gets wrong, from mu / from PCA's scores.
        - `probe_accuracy`; `settings_r2` and, over the clips where a setting can be heard (`audibility`),
          `settings_r2_audible`, each `.vae.<effect>.<param>` with `.pca.` beside it.

        `seeds`: their number; `loss_falls_first_epochs`: in how many of them the training loss falls in each epoch of
        the first five.

    Raises
    ------
    ValueError
        For fewer than two seeds.
    """
    if len(seeds) < 2:
        raise ValueError(f"seeds are {seeds}: at least two are needed for a spread")
    pca, rows, settings, falls = None, [], {}, 0
    for seed in seeds:
        beside = config.vae_dir(preset.name).with_name(f"vae_seed{seed}")
        folder = config.vae_dir(preset.name) if seed == preset.train.seed else beside
        run = training.train_vae(preset, seed=seed, folder=folder, resume=True)
        pca = pca or latent.training_pca(run)
        falls += bool((np.diff(run.history["train_loss"][:5]) < 0).all())
        train, test = _embedded(run, pca, "train", "test")
        clips = shards.load(config.data_dir(preset.name, "test"))
        changes = audibility.measure(run, clips, path=config.vae_dir(preset.name) / HEARD)
        read = {space: readings.read_settings(train, test, space) for space in ("vae", "pca")}
        for name, heard in (("settings_r2", None), ("settings_r2_audible", changes > audibility.AUDIBLE)):
            r2 = {space: {e: readings.r2(r, heard) for e, r in read[space].items()} for space in read}
            settings.setdefault(name, []).append(r2)
        rows.append(_scores(train, test))
    spread = {name: _mean_and_std(found) for name, found in settings.items()}
    return {**_mean_and_std(rows), **spread, "seeds": len(seeds), "loss_falls_first_epochs": falls}


def seven_effects(preset: Preset) -> dict:
    """Effect accuracy of a linear probe at fixed settings, all 0.5, where there are seven effects to tell apart.

    Renders, trains, and probes unseen speakers; what is there already is kept.

    Parameters
    ----------
    preset : Preset
        With those effects.

    Returns
    -------
    dict
        `accuracy_vae`, `accuracy_pca`, `accuracy_no_model` (`baselines.change_statistics`), `accuracy_chance`; the
        same at random settings as `random.`; `mse_ratio_dry`, `mse_ratio_wet`.

    Raises
    ------
    ValueError
        If this machine lacks one of the effects.
    """
    missing = [name for name in preset.render.effects if not _there(name)]
    if missing:
        raise ValueError(f"{', '.join(missing)} cannot be loaded here: install the mda-lv2 plug-ins")
    for subset in config.SUBSETS:
        rendering.render(preset, subset, config.data_dir(preset.name, subset))
    run = training.train_vae(preset, resume=True)
    pca = latent.training_pca(run)
    fixed, drawn = (
        _scores(*_embedded(run, pca, *subsets)) for subsets in (("dummy_train", "dummy_test"), ("train", "test"))
    )
    names = ("vae", "pca", "no_model")
    return {
        **{f"accuracy_{name}": fixed["accuracy"][name] for name in names},
        "accuracy_chance": 1 / len(preset.render.effects),
        "random": {f"accuracy_{name}": drawn["accuracy"][name] for name in names},
        **{f"mse_ratio_{channel}": drawn[f"mse_ratio_{channel}"] for channel in ("dry", "wet")},
    }


def _there(name: str) -> bool:
    try:
        effects.load(name)
    except ValueError:
        return False
    return True


def _embedded(run: training.Run, pca, known: str, asked: str) -> tuple[latent.Embedded, latent.Embedded]:
    """Two subsets, the second with its errors."""
    data = (shards.load(config.data_dir(run.preset.name, subset)) for subset in (known, asked))
    train, test = (latent.embed_dataset(run, pca, part, errors=i == 1) for i, part in enumerate(data))
    return train, test


def _scores(train: latent.Embedded, test: latent.Embedded) -> dict:
    ours, theirs = test.vae_mse.mean(axis=0), test.pca_mse.mean(axis=0)
    accuracy = {
        space: probes.probe_accuracy(getattr(train, space), train.effects, getattr(test, space), test.effects)
        for space in evaluation.SPACES
    }
    scores = {f"mse_ratio_{channel}": float(ours[c] / theirs[c]) for c, channel in enumerate(("dry", "wet"))}
    least = 1 / len(test.effects)  # one clip: a probe that errs nowhere would divide by 0
    ratio = (1 - accuracy["vae"]) / max(1 - accuracy["pca"], least)
    return scores | {"accuracy": accuracy, "probe_accuracy": accuracy["vae"], "probe_error_ratio": ratio}


def _mean_and_std(rows: list[dict]) -> dict:
    """Of nested numbers: mean under the same name, deviation under the name with `_std`."""
    out: dict = {}
    for name, value in rows[0].items():
        values = [row[name] for row in rows]
        if isinstance(value, dict):
            out[name] = _mean_and_std(values)
        else:
            out |= {name: float(np.mean(values)), f"{name}_std": float(np.std(values, ddof=1))}
    return out
