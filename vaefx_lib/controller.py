"""From a dry sound and a reference to the settings of an effect: a small network on what a frozen encoder says.

The network (`settings_net`) reads the VAE's embedding of (dry, reference) and the long-term measures of both. It gives
one value for each setting, and a distribution over all together: a flat one says that a setting cannot be told from the
sound. One network serves all effects; all layers but the first are the effect's own.

A trained controller is a folder: `model.safetensors`, `scale.safetensors` (of the network's inputs, and what a match is
worth), `library.safetensors` (references at known settings, echoes and movements), `history.csv`, `end_to_end.csv`, and
`manifest.json` with what it was made from and the sha256 of all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file

from vaefx_lib import config, critic, echo_peaks, effects, movements, references, runs, store, style
from vaefx_lib.settings_net import SettingsNet

FARTHEST = 5.0  # deviations: inputs of the network beyond are cut off
SAMPLED = 0.4  # of the proposals: drawn from the distribution; the others are settings of similar references
DRAWN = 256  # from the distribution, where that of each setting by itself is asked for
MODEL, SCALE, LIBRARY, MANIFEST = "model.safetensors", "scale.safetensors", "library.safetensors", "manifest.json"
TABLES = ("history.csv", "end_to_end.csv")
ABOUT = ("preset", "vae", "seed", "effects", "n_params", "width", "fingerprint", "sha256")  # keys of the manifest


@dataclass(frozen=True, eq=False)
class Scale:
    """Mean and deviation of the measures and of mu, which bring the network's inputs to one scale."""

    numbers_mean: np.ndarray
    numbers_std: np.ndarray
    mu_mean: np.ndarray
    mu_std: np.ndarray

    def features(self, dry_numbers, reference_numbers, mu) -> np.ndarray:
        """Inputs of the network, float32, (n, 2 * n_measures + latent_dim)."""
        dry, wet = ((np.asarray(x) - self.numbers_mean) / self.numbers_std for x in (dry_numbers, reference_numbers))
        parts = [wet, wet - dry, (np.asarray(mu) - self.mu_mean) / self.mu_std]
        return np.clip(np.concatenate(parts, axis=-1), -FARTHEST, FARTHEST).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Controller:
    """A trained controller.

    Attributes
    ----------
    effects : tuple of str
        Those that it knows.
    net : SettingsNet
        In eval mode.
    scale : Scale
    library : dict of str to (array, array)
        For each effect measures of references, whitened by the critic's space, float16 (n, n_measures), and their
        settings (n, n_params).
    echoes : dict of str to echo_peaks.Fingerprints
        For each effect, empty ones if it makes no echoes.
    movements : dict of str to movements.Movements
        For each effect, empty ones if it does not move by itself.
    calibration : dict of str to array, shape (2, knots)
        For each effect, and under "any" for all together: how much nearer to the truth a match was expected to bring
        the sound (`Refined.expected_dry - Refined.expected`), and how much nearer it did, in MRSTFT, never falling.
    run : Run
        The VAE that embeds.
    about : dict
        What the manifest says of its making.
    """

    effects: tuple[str, ...]
    net: SettingsNet
    scale: Scale
    library: dict[str, tuple[np.ndarray, np.ndarray]]
    echoes: dict[str, echo_peaks.Fingerprints]
    movements: dict[str, movements.Movements]
    calibration: dict[str, np.ndarray]
    run: runs.Run
    about: dict

    def predict(self, dry: np.ndarray, reference: np.ndarray, effect: str) -> np.ndarray:
        """Settings at which the dry sound would be most like the reference, as far as one look can tell.

        Parameters
        ----------
        dry, reference : array, float32, shape (samples,)
            Mono at 24 kHz and at the level of rendered pairs, 0.5 s or more; not of the same length as a rule.
        effect : str
            One of `effects`.

        Returns
        -------
        array, float64, shape (n_params,)

        Raises
        ------
        ValueError
            For an effect that it does not know; as `style.measure` raises it.
        """
        return self._asked(dry, reference, effect)[0]

    def distribution(self, dry: np.ndarray, reference: np.ndarray, effect: str) -> np.ndarray:
        """Probabilities of each setting in `BINS` equal parts of [0, 1], float64, (n_params, BINS); as `predict`."""
        return self._drawn(self._asked(dry, reference, effect)[1], effect, DRAWN, 0)[1]

    def proposals(self, dry: np.ndarray, reference: np.ndarray, effect: str, *, count: int, seed: int) -> np.ndarray:
        """Settings where a search may begin, (count, n_params): the answer, draws, and those of similar references."""
        point, heard, numbers = self._asked(dry, reference, effect)
        whitened, settings = self.library[effect]
        away = np.square(whitened.astype(np.float32) - numbers @ critic.load().space.whitening).sum(1)
        near = settings[np.argsort(away, kind="stable")[: count - 1 - round(SAMPLED * (count - 1))]]
        drawn = self._drawn(heard, effect, count - 1 - len(near), seed)[0]
        return np.concatenate([point[None], near, drawn])

    def expected_improvement(self, effect: str, gain: float) -> float:
        """How much smaller the MRSTFT from the unknown true sound becomes by a match, to judge from validation.

        `gain` is how much smaller it was expected to become over the settings that are likely. 0 or less means that the
        sound should be left dry. Of an effect that it does not know, it says what holds for all that it knows.
        """
        expected, came = self.calibration.get(effect, self.calibration["any"])
        return float(np.interp(gain, expected, came))

    def _asked(self, dry, reference, effect) -> tuple[np.ndarray, torch.Tensor, np.ndarray]:
        """Settings, what is heard (width,), and the measures of the reference."""
        if effect not in self.effects:
            raise ValueError(f"the controller does not know {effect!r}: it knows {', '.join(self.effects)}")
        numbers = [style.measure(sound).numbers for sound in (dry, reference)]
        mu = references.embed(self.run, [references.windows(self.run, dry, reference)])
        features = torch.from_numpy(self.scale.features(numbers[0], numbers[1], mu[0])[None])
        with torch.inference_mode():
            point, heard = self.net(features, self.effects.index(effect))
        return point[0].double().numpy(), heard[0], numbers[1]

    def _drawn(self, heard: torch.Tensor, effect: str, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Settings, and the probabilities of each, as `Posterior.draw` gives them."""
        with torch.inference_mode():
            posterior = self.net.posterior[self.effects.index(effect)]
            drawn, shares = posterior.draw(heard, count, torch.Generator().manual_seed(seed))
        return drawn.double().numpy(), shares.double().numpy()


def save_controller(folder: str | Path, controller: Controller, tables: dict[str, dict], key: str) -> None:
    """Write a controller's folder, the manifest last: without it there is no controller.

    Parameters
    ----------
    folder : path
    controller : Controller
    tables : dict of str to dict of str to array
        Columns of `TABLES`.
    key : str
        Fingerprint of all that it depends on.

    Raises
    ------
    OSError
        If a file cannot be written.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MANIFEST).unlink(missing_ok=True)
    scale = controller.scale
    arrays = {
        MODEL: {name: value.numpy() for name, value in controller.net.state_dict().items()},
        SCALE: {
            **{name: np.asarray(getattr(scale, name)) for name in Scale.__dataclass_fields__},
            **{f"calibration/{name}": knots for name, knots in controller.calibration.items()},
        },
        LIBRARY: {
            f"{effect}/{name}": part
            for effect, parts in controller.library.items()
            for name, part in zip(("whitened", "settings"), parts)
        }
        | {
            f"{effect}/{kind}_{name}": getattr(known, name)
            for kind, of, fields in (
                ("echo", controller.echoes, echo_peaks.ARRAYS),
                ("movement", controller.movements, movements.ARRAYS),
            )
            for effect, known in of.items()
            for name in fields
        },
    }
    for name, named in arrays.items():
        store.write_arrays(folder / name, named)
    for name in TABLES:
        runs.write_history(folder / name, tables[name])
    about = controller.about | {
        "effects": list(controller.effects),
        "n_params": list(controller.net.n_params),
        "width": controller.net.first.out_features,
        "fingerprint": key,
        "sha256": {name: store.sha256(folder / name) for name in (MODEL, SCALE, LIBRARY, *TABLES)},
    }
    store.write_json(folder / MANIFEST, about)


def load(folder: str | Path, run: runs.Run | None = None) -> Controller:
    """The controller in a folder, checked against its manifest.

    Parameters
    ----------
    folder : path
    run : Run, optional
        The VAE that it was trained with; loaded from its own folder by default.

    Raises
    ------
    DamagedFile
        If there is none, a file is missing or has changed, or the VAE is not that which it was trained with.

    Used in `05_controller_training`.
    """
    folder = Path(folder)
    absent = f"{folder} holds no trained controller: notebook 05_controller_training trains one"
    about = store.read_manifest(folder / MANIFEST, ABOUT, (MODEL, SCALE, LIBRARY, *TABLES), absent=absent)
    run = run or runs.load(config.vae_dir(about["preset"]))
    if run.fingerprint != about["vae"]:
        raise store.DamagedFile(f"the controller in {folder} was trained with another VAE: train it again")
    try:
        arrays, parts = load_file(folder / SCALE), load_file(folder / LIBRARY)
        names = tuple(about["effects"])
        scale = Scale(*(arrays[name] for name in Scale.__dataclass_fields__))
        net = SettingsNet(2 * len(scale.numbers_mean) + len(scale.mu_mean), about["width"], about["n_params"])
        net.load_state_dict({name: torch.from_numpy(value) for name, value in load_file(folder / MODEL).items()})
        calibration = {name: arrays[f"calibration/{name}"] for name in (*names, "any")}
        echoes = {n: echo_peaks.Fingerprints(n, **_of(n, parts, "echo", echo_peaks.ARRAYS)) for n in names}
        moves = {n: movements.Movements(n, **_of(n, parts, "movement", movements.ARRAYS)) for n in names}
        library = {name: (parts[f"{name}/whitened"], parts[f"{name}/settings"]) for name in names}
    except (SafetensorError, KeyError, RuntimeError) as error:
        why = " ".join(str(error).split())  # of torch it has several lines
        raise store.DamagedFile(f"the controller in {folder} is of another version ({why}): train again") from error
    return Controller(names, net.eval(), scale, library, echoes, moves, calibration, run, about)


def n_params(names: Sequence[str]) -> list[int]:
    """Number of settings of each effect."""
    return [len(effects.load(name).params) for name in names]


def _of(effect: str, parts: dict[str, np.ndarray], kind: str, fields: Sequence[str]) -> dict[str, Any]:
    return {field: parts[f"{effect}/{kind}_{field}"] for field in fields}
