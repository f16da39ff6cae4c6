"""What lies between two latent vectors: how far what should stay moves, and how near the truth the middle is.

Errors and changes are mean squares of standardised spectrograms.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from vaefx_lib import audio, baselines, effects, latent, runs, shards, spectrogram, store

SETTINGS = (0.2, 0.9)  # of the effects at both ends: neither inaudible nor extreme
N_PATHS = 32  # interpolations whose drift is averaged
STEPS = 10  # of one: both ends and eight between
N_CLIPS = 32  # over which errors are averaged


def kept(run: runs.Run, dataset: shards.Dataset, measure: Callable[..., dict], *args) -> dict:
    """`measure(run, *args)`, kept in the run folder until the weights, the data, the arguments or this module change.

    Parameters
    ----------
    run : Run
    dataset : Dataset
        What is measured on.
    measure : function
        One of this module, giving a dict that JSON can hold.
    *args
        Its other arguments. `dataset` and `Pca` ones count by the data, effects by their names.
    """
    plain = [getattr(arg, "name", arg) for arg in args if not isinstance(arg, shards.Dataset | baselines.Pca)]
    weights = run.folder / "model.safetensors"
    key = store.fingerprint(weights, dataset.fingerprint, measure.__name__, plain, Path(__file__))
    path = run.folder / "measured" / f"{measure.__name__}-{key[:16]}.json"
    if not path.exists():
        store.write_json(path, measure(run, *args))
    return store.read_json(path)


def wet_pair(run: runs.Run, dry: np.ndarray, effect: effects.Effect, settings) -> np.ndarray:
    """Standardised spectrogram pair (2, frames, bins) of a dry clip (samples,) and the same through an effect.

    Both are levelled as in `rendering.render_pair`, so a rendered clip gives the rendered pair.

    Raises
    ------
    ValueError, AudioError
        For settings or a clip that the effect refuses, or a wet clip that is silent.

    Used in `04_interpolation_figures`.
    """
    peak_dbfs = run.preset.render.peak_dbfs
    dry = audio.peak_level(dry, peak_dbfs)
    wet = audio.peak_level(audio.to_mono(effect.render(dry, settings, run.preset.stft.sample_rate_hz)), peak_dbfs)
    return run.statistics.standardise(spectrogram.magnitude(np.stack([dry.reshape(-1), wet]), run.preset.stft))


def drift(path: np.ndarray) -> float:
    """Mean squared change along a path, array of shape (steps, ...), from where it starts."""
    return float(np.square(path[1:] - path[0]).mean())


def drift_between_effects(path: np.ndarray) -> tuple[float, float]:
    """One source, two effects: the dry row should stay, the wet row should move.

    Parameters
    ----------
    path : array, shape (steps, 2, frames, bins)

    Returns
    -------
    stays, moves : float
        Drift of what should stay and of what should move; the first divided by the second is what is reported.

    Used in `04_interpolation_figures`.
    """
    return drift(path[:, 0]), drift(path[:, 1])


def drift_between_sources(path: np.ndarray) -> tuple[float, float]:
    """Two sources, one effect: what the effect adds should stay, namely the long-term spectrum of wet minus dry.

    Parameters and returns as for `drift_between_effects`; what moves is the long-term spectrum of the wet row.
    """
    spectra = path.mean(axis=2)  # over time: (steps, 2, bins)
    return drift(spectra[:, 1] - spectra[:, 0]), drift(spectra[:, 1])


def mean_drift(run: runs.Run, pca: baselines.Pca, dataset: shards.Dataset) -> dict:
    """How far what should stay moves on the way between two latent vectors.

    - `effects_dry_drift`: one source, Delay at one end, Overdrive at the other (the last and the first effect of the
      preset), random settings; see `drift_between_effects`.
    - `audio_wet_drift`: two sources, one effect at the same settings; see `drift_between_sources`.

    Each is a ratio of means over `paths` paths of `STEPS` points. `pca.` has the same of straight lines between PCA
    scores, `cross_fade.` of those between the original spectrograms: what an effect adds is not quite the same to two
    sources, so not even there is `audio_wet_drift` 0.

    Parameters
    ----------
    run : Run
    pca : Pca
    dataset : Dataset
        Its dry clips are the sources.

    Raises
    ------
    ValueError
        If the network does not read both dry and wet.

    Used in `04_interpolation_figures`.
    """
    _check_channels(run)
    clips = [dataset[i][0] for i in range(min(N_PATHS, len(dataset)))]
    first, last = (effects.load(name) for name in (run.preset.render.effects[-1], run.preset.render.effects[0]))
    rng = np.random.default_rng(run.preset.render.seed)
    spaces = {"vae": (lambda x: latent.embed(run, x), lambda z: latent.decode(run, z))}
    spaces["pca"] = pca.transform, pca.inverse_transform
    spaces["cross_fade"] = (lambda x: x.reshape(len(x), -1)), (lambda z: z.reshape(len(z), *pca.shape))
    sums = {name: np.zeros((2, 2)) for name in spaces}  # (effects or sources, what stays or moves)
    for clip, other in zip(clips, clips[1:] + clips[:1], strict=True):
        settings = {effect.name: rng.uniform(*SETTINGS, len(effect.params)) for effect in (first, last)}
        ends = [(clip, first), (clip, last), (other, last)]
        x = np.stack([wet_pair(run, source, effect, settings[effect.name]) for source, effect in ends])
        for name, (there, back) in spaces.items():
            z = there(x)
            sums[name][0] += drift_between_effects(back(latent.interpolate(z[0], z[1], STEPS)))
            sums[name][1] += drift_between_sources(back(latent.interpolate(z[1], z[2], STEPS)))
    keys = ("effects_dry_drift", "audio_wet_drift")
    ratios = {n: dict(zip(keys, (total[:, 0] / total[:, 1]).tolist(), strict=True)) for n, total in sums.items()}
    return {**ratios.pop("vae"), **ratios, "paths": len(clips)}


def midway_errors(
    run: runs.Run, dataset: shards.Dataset, effect: effects.Effect, name: str, low: float, high: float
) -> dict[str, float]:
    """How near the middle of a path is to the truth, where truth exists: one effect, one setting changed.

    Parameters
    ----------
    run : Run
    dataset : Dataset
        Its first dry clips are the sources.
    effect : Effect
    name : str
        The setting that goes from `low` to `high`; the others have their defaults.
    low, high : float in [0, 1]

    Returns
    -------
    dict
        Mean squared distance from the truth, the pair rendered at the middle setting, of the wet channel, all as the
        network rebuilds it, so that its blur does not count: of `latent`, the middle of the latent path; of
        `cross_fade`, the mean of both ends. Divided by that of the ends themselves, so 1 is "no better than an end".

    Used in `04_interpolation_figures`.
    """
    _check_channels(run)
    sums = np.zeros(3)
    for i in range(min(N_CLIPS, len(dataset))):
        x = np.stack([wet_pair(run, dataset[i][0], effect, {name: v}) for v in (low, (low + high) / 2, high)])
        z = latent.embed(run, x)
        start, truth, end, middle = latent.decode(run, np.vstack([z, (z[:1] + z[2:]) / 2]))[:, 1]
        distances = [float(np.square(guess - truth).mean()) for guess in (middle, (start + end) / 2, start, end)]
        sums += distances[0], distances[1], (distances[2] + distances[3]) / 2
    return {"latent": float(sums[0] / sums[2]), "cross_fade": float(sums[1] / sums[2])}


def transfer(run: runs.Run, z: np.ndarray, effect_from: np.ndarray) -> np.ndarray:
    """Latent vectors with their own content part and another's effect part: two arrays (n, latent_dim) -> the same."""
    mixed, part = np.array(z, np.float32), latent.parts(run)["effect"]
    mixed[:, part] = effect_from[:, part]
    return mixed


def transfer_errors(run: runs.Run, dataset: shards.Dataset) -> dict[str, float]:
    """How well the effect of one clip can be put on another speaker's words by moving the effect part alone.

    Parameters
    ----------
    run : Run
    dataset : Dataset
        Clip `i` keeps its words and gets the effect of the next clip by another speaker with another effect.

    Returns
    -------
    dict
        Mean squared error of the wet channel against the same clip rendered through that effect at those settings:
        `transfer`; `rebuilt`, the true result through the network, the best to hope for; `unchanged`, the clip with
        its old effect as the network rebuilds it.

    Raises
    ------
    ValueError
        If a clip has no other with both another effect and another speaker.

    Used in `04_interpolation_figures`.
    """
    _check_channels(run)
    names, speakers, errors = dataset.effect_names, dataset.speakers, []
    for i in range(min(N_CLIPS, len(dataset))):
        others = np.flatnonzero((names != names[i]) & (speakers != speakers[i]))
        if not len(others):
            raise ValueError(f"clip {i} of {len(dataset)}: no other clip has both another effect and another speaker")
        j = others[np.searchsorted(others, i) % len(others)]
        x = np.stack(
            [
                wet_pair(run, dataset[source][0], effects.load(names[treated]), dataset.settings[treated])
                for source, treated in ((i, i), (j, j), (i, j))
            ]
        )
        z = latent.embed(run, x)
        unchanged, rebuilt, mixed = latent.decode(run, np.vstack([z[[0, 2]], transfer(run, z[:1], z[1:2])]))[:, 1]
        guesses = {"transfer": mixed, "rebuilt": rebuilt, "unchanged": unchanged}
        errors.append({key: np.square(guess - x[2, 1]).mean() for key, guess in guesses.items()})
    return {key: float(np.mean([error[key] for error in errors])) for key in errors[0]}


def _check_channels(run: runs.Run) -> None:
    if tuple(run.preset.vae.inputs) != spectrogram.CHANNELS:
        raise ValueError(f"the network reads {run.preset.vae.inputs}: paths are measured between dry and wet")
