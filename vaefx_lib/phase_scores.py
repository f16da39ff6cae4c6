"""How the representations of `phase` sound after a network, as numbers beside their baselines.

Sound is made in two ways: *rebuilt*, where all but the dry phase comes out of the network, and *transfer*, where the
change that the network rebuilt is made to the dry clip itself (`Representation.transfer`). Used in notebook 07.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from vaefx_lib import inversion, metrics
from vaefx_lib.config import Stft
from vaefx_lib.phase import REPRESENTATIONS, Representation


def baselines(pairs: np.ndarray, stft: Stft) -> dict[str, np.ndarray]:
    """Scores of the dry clip, and of the true strength with its phase; pairs of shape (clips, 2, samples)."""
    strength = REPRESENTATIONS["magnitude"]
    borrowed = [strength.transfer(strength.analyse(pair, stft), stft, dry=pair[0]) for pair in pairs]
    return _scores("dry.{}", pairs, pairs[:, 0]) | _scores("dry_phase.{}", pairs, borrowed)


def hear(kind: Representation, S: np.ndarray, pairs: np.ndarray, stft: Stft) -> tuple[dict, dict]:
    """Scores and sounds of rebuilt channels, not standardised, (clips, channels, frames, bins), in every reading.

    Parameters
    ----------
    kind : Representation
    S : array, shape (clips, channels, frames, bins)
    pairs : array, shape (clips, 2, samples)
        Dry and true wet.
    stft : Stft

    Returns
    -------
    scores : dict of str to array, shape (clips,)
        `mrstft_` and `sisdr_` (dB), each with "rebuilt", "transfer" and, for `magnitude`, "griffin_lim".
    sounds : dict of str to list of array, shape (samples,)
        By reading.
    """
    sounds = {
        "rebuilt": [kind.synthesise(s, stft, dry=pair[0])[1] for s, pair in zip(S, pairs)],
        "transfer": [kind.transfer(s, stft, dry=pair[0]) for s, pair in zip(S, pairs)],
    }
    if kind.name == "magnitude":
        sounds["griffin_lim"] = [inversion.griffin_lim(s[1], stft) for s in S]
    scores = {}
    for reading, some in sounds.items():
        scores |= _scores(f"{{}}_{reading}", pairs, some)
    return scores, sounds


def _scores(name: str, pairs: np.ndarray, sounds) -> dict[str, np.ndarray]:
    wet = pairs[:, 1]
    return {
        name.format("mrstft"): np.array([metrics.mrstft(y, y_hat) for y, y_hat in zip(wet, sounds)]),
        name.format("sisdr"): np.array([metrics.si_sdr_db(y, y_hat) for y, y_hat in zip(wet, sounds)]),
    }


def summary(found: Mapping[str, Mapping[str, np.ndarray]]) -> dict[str, dict]:
    """The numbers of `compare`, as they go into `metrics.json` under `phase`.

    Sound distances are medians over clips; a value and its `_std` are mean and deviation over the seeds.

    Returns
    -------
    dict
        Per representation `ev` and `pca_ev` (channel -> share), `ev_std`, `loss_fall` (the mean of the last tenth of
        the steps divided by that of the first ten, mean over seeds), `loss_spread` (deviation of that last tenth over
        the seeds), `mrstft`, `sisdr` (in dB) of rebuilt sound, and those of the other readings and of PCA. Under
        "dry" and "dry_phase" the baselines, under "winner" the best representation by the SI-SDR of `transfer`.
    """
    table: dict = {}
    for name, kind in REPRESENTATIONS.items():
        here: Mapping = found[name]
        row: dict = {}
        last = here["loss"][:, -max(1, here["loss"].shape[1] // 10) :].mean(axis=1)
        row |= {"loss_fall": float((last / here["loss"][:, :10].mean(axis=1)).mean()), "loss_spread": float(last.std())}
        for key, values in (("ev", here["ev"].mean(axis=0)), ("ev_std", here["ev"].std(axis=0))):
            row[key] = dict(zip(kind.channels, values.tolist(), strict=True))
        row["pca_ev"] = dict(zip(kind.channels, here["pca_ev"].tolist(), strict=True))
        for key in [key for key in here if key.startswith(("mrstft_", "sisdr_"))]:
            medians = np.median(here[key], axis=1)
            short = key.removesuffix("_rebuilt")
            row |= {short: float(medians.mean()), f"{short}_std": float(medians.std())}
        for key in [key for key in here if key.startswith(("pca_mrstft_", "pca_sisdr_"))]:
            row[key.removesuffix("_rebuilt")] = float(np.median(here[key]))
        table[name] = row
    for name in ("dry", "dry_phase"):
        table[name] = {key: float(np.median(values)) for key, values in found[name].items()}
    table["winner"] = max(REPRESENTATIONS, key=lambda name: table[name]["sisdr_transfer"])
    return table


def by_effect(found: Mapping[str, Mapping[str, np.ndarray]], effect_names, key: str) -> dict[str, dict[str, float]]:
    """Medians over the clips of each effect: effect -> what was heard -> value.

    Parameters
    ----------
    found : what `compare` gave
    effect_names : array of str, shape (n,)
        Of the test pairs.
    key : str
        "mrstft_transfer", "sisdr_rebuilt" and so on.
    """
    effects = np.asarray(effect_names)[found["clips"]["index"]]
    measure = key.split("_")[0]
    heard = {name: found[name][measure][None] for name in ("dry", "dry_phase")}
    heard |= {name: found[name][key] for name in REPRESENTATIONS}
    return {
        effect: {name: float(np.median(v[:, effects == effect], axis=1).mean()) for name, v in heard.items()}
        for effect in sorted(set(effects.tolist()))
    }


def bars(table: Mapping[str, Mapping]) -> dict[str, dict[str, tuple[float, float]]]:
    """What `summary` gave, for a picture: measure with its unit -> what was heard -> (value, deviation over seeds)."""
    found = {}
    for reading, suffix in (("rebuilt", ""), ("transfer", "_transfer")):
        for key, unit in (("sisdr", "SI-SDR (dB)"), ("mrstft", "MRSTFT")):
            row = {
                label: (table[n][key], 0.0) for n, label in (("dry", "dry, as it is"), ("dry_phase", "true strength"))
            }
            for name in REPRESENTATIONS:
                row[name] = table[name][f"{key}{suffix}"], table[name][f"{key}{suffix}_std"]
            row["relative, PCA"] = table["relative"][f"pca_{key}{suffix}"], 0.0
            found[f"{reading}: {unit}"] = row
    return found
