"""A map of a few dimensions, to be played: every place on it has settings, and every sound has its place.

Five methods make such a map. A *bottleneck* is a variational encoder from what is heard to d numbers, and a decoder
from there to settings. Principal components, and three ways back from UMAP, are what it is held against.

A map is a folder: `model.safetensors` (its networks and stored points), `history.csv` (of its training) and
`manifest.json` with what it was made from and the sha256 of both.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file
from scipy.spatial import cKDTree

from vaefx_lib import config, controller, references, runs, store, style
from vaefx_lib.playable_maps import Umap
from vaefx_lib.playable_net import Inputs, MapNet

METHODS = ("bottleneck", "pca", "umap_inverse", "umap_nearest", "umap_decoder")
MODEL, HISTORY, MANIFEST = "model.safetensors", "history.csv", "manifest.json"
ABOUT = ("preset", "vae", "seed", "method", "dim", "effects", "n_params", "width", "fingerprint", "sha256")


@dataclass(frozen=True, eq=False)
class Playable:
    """A map to play on.

    Attributes
    ----------
    method : str
        One of `METHODS`.
    dim : int
    effects : tuple of str
    low, high : array, float64, shape (dim,)
        Range of the sliders: the 1st and 99th percentile of the places of training sounds.
    inputs : Inputs
    net : MapNet
        In eval mode. Of a UMAP its encoder was taught where UMAP puts sounds, since UMAP can place none that it has not
        seen without being fitted anew; of "pca" it is not used.
    places : dict of str to array, shape (n, dim)
        Of each effect some training sounds' places on the map, and
    stored : dict of str to array, shape (n, n_params)
        their settings.
    linear : dict of str to array
        Of "pca": "mean" and "components", and for each effect the ridge regression from places to settings.
    umap : Umap or None
        Of "umap_inverse", fitted on settings.
    run : Run
        The VAE that embeds.
    about : dict
        What the manifest says of its making.
    """

    method: str
    dim: int
    effects: tuple[str, ...]
    low: np.ndarray
    high: np.ndarray
    inputs: Inputs
    net: MapNet
    places: dict[str, np.ndarray]
    stored: dict[str, np.ndarray]
    linear: dict[str, np.ndarray]
    umap: Umap | None
    run: runs.Run
    about: dict

    def settings(self, z, effect: str) -> np.ndarray:
        """Settings at places of the map, whatever is stored near them (but for "umap_nearest").

        Parameters
        ----------
        z : array, shape (n, dim) or (dim,)
            Any numbers, also beyond `low` and `high`.
        effect : str
            One of `effects`.

        Returns
        -------
        array, float64, shape (n, n_params) or (n_params,)
            In [0, 1]. They change continuously with the place; not so those of "umap_nearest", which are the settings
            of one stored sound, and of "umap_inverse", whose neighbours change at once.

        Raises
        ------
        ValueError
            For another effect, or places that are not finite or not of `dim` numbers.

        Used in `06_playable_latent`.
        """
        self._check_effect(effect)
        points = self._checked(z)
        if self.method == "pca":
            found = np.column_stack([points, np.ones(len(points))]) @ self.linear[effect]
        elif self.method == "umap_nearest":
            found = self.stored[effect][cKDTree(self.places[effect]).query(points)[1]]
        elif self.umap is not None:
            found = self.umap.inverse(points)
        else:
            with torch.inference_mode():
                found = self.net.decode(torch.from_numpy(points).float(), self.effects.index(effect)).numpy()
        found = np.clip(np.asarray(found, np.float64), 0, 1)
        return found[0] if np.ndim(z) == 1 else found

    def place(self, dry: np.ndarray, reference: np.ndarray, effect: str | None = None) -> np.ndarray:
        """Where a reference lies on the map, heard beside a dry sound: "find similar".

        Parameters
        ----------
        dry, reference : array, float32, shape (samples,)
            Mono at 24 kHz and at the level of rendered pairs, 0.5 s or more; not of the same length as a rule, nor of
            the same words or voice.
        effect : str, optional
            That which is going to be set: a place has settings of each effect, so it makes no difference.

        Returns
        -------
        array, float64, shape (dim,)

        Raises
        ------
        ValueError
            For an effect that the map does not know; as `style.measure` raises it.

        Used in `06_playable_latent`.
        """
        if effect is not None:
            self._check_effect(effect)
        before, after = (style.measure(sound).numbers[None] for sound in (dry, reference))
        mu = references.embed(self.run, [references.windows(self.run, dry, reference)])
        return self.place_features(self.inputs.features(before, after, mu))[0]

    def place_features(self, features: np.ndarray) -> np.ndarray:
        """Places of sounds that have been heard already, as `Inputs.features` describes them: (n, dim)."""
        if self.method == "pca":
            return (features - self.linear["mean"]) @ self.linear["components"]
        with torch.inference_mode():
            return self.net.encode(torch.from_numpy(features))[0].double().numpy()

    def likely_effect(self, z) -> str:
        """Which effect a place, (dim,), belongs to.

        The network that decodes says so where there is one; else it is the effect of the nearest stored sound.
        """
        point = self._checked(z)[:1]
        if self.method in ("bottleneck", "umap_decoder"):
            with torch.inference_mode():
                return self.effects[int(self.net.which(torch.from_numpy(point).float())[0].argmax())]
        return min(self.effects, key=lambda name: np.square(self.places[name] - point).sum(1).min())

    def _check_effect(self, effect: str) -> None:
        if effect not in self.effects:
            raise ValueError(f"the map does not know {effect!r}: it knows {', '.join(self.effects)}")

    def _checked(self, z) -> np.ndarray:
        points = np.atleast_2d(np.asarray(z, np.float64))
        if points.ndim != 2 or points.shape[1] != self.dim:
            raise ValueError(f"places of shape {np.shape(z)}: they must be (n, {self.dim}) or ({self.dim},)")
        if not np.isfinite(points).all():
            raise ValueError("a place has NaN or infinite numbers: they must be finite")
        return points


def save_playable(folder: str | Path, made: Playable, history: dict[str, np.ndarray], key: str) -> None:
    """Write a map's folder, the manifest last: without it there is no map.

    Parameters
    ----------
    folder : path
    made : Playable
    history : dict of str to array
        Columns of `history.csv`.
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
    groups = {
        "net": {name: value.numpy() for name, value in made.net.state_dict().items()},
        "inputs": vars(made.inputs.scale) | {"components": made.inputs.components},
        "places": made.places,
        "stored": made.stored,
        "linear": made.linear,
        "umap": vars(made.umap) if made.umap else {},
        "range": {"low": made.low, "high": made.high},
    }
    store.write_arrays(folder / MODEL, {f"{group}/{name}": x for group, of in groups.items() for name, x in of.items()})
    runs.write_history(folder / HISTORY, history)
    about = made.about | {
        "method": made.method,
        "dim": made.dim,
        "effects": list(made.effects),
        "n_params": list(made.net.n_params),
        "width": made.net.second.out_features,
        "fingerprint": key,
        "sha256": {name: store.sha256(folder / name) for name in (MODEL, HISTORY)},
    }
    store.write_json(folder / MANIFEST, about)


def load(folder: str | Path, run: runs.Run | None = None) -> Playable:
    """The map in a folder, checked against its manifest.

    Parameters
    ----------
    folder : path
    run : Run, optional
        The VAE that it was trained with; loaded from its own folder by default.

    Raises
    ------
    DamagedFile
        If there is none, a file is missing or has changed, or the VAE is not that which it was trained with.

    Used in `06_playable_latent`.
    """
    folder = Path(folder)
    absent = f"{folder} holds no playable map: notebook 06_playable_latent trains one"
    about = store.read_manifest(folder / MANIFEST, ABOUT, (MODEL, HISTORY), absent=absent)
    run = run or runs.load(config.vae_dir(about["preset"]))
    if run.fingerprint != about["vae"]:
        raise store.DamagedFile(f"the map in {folder} was made with another VAE: train it again")
    try:
        groups: dict[str, dict[str, np.ndarray]] = {}
        for name, array in load_file(folder / MODEL).items():
            group, _, rest = name.partition("/")
            groups.setdefault(group, {})[rest] = array
        components = groups["inputs"].pop("components")
        inputs = Inputs(controller.Scale(**groups["inputs"]), components)
        features = 2 * components.shape[1] + len(inputs.scale.mu_mean)
        net = MapNet(features, about["width"], about["dim"], about["n_params"])
        net.load_state_dict({name: torch.from_numpy(value) for name, value in groups["net"].items()})
        umap = Umap(**groups["umap"]) if "umap" in groups else None
        places, stored, ends = groups["places"], groups["stored"], groups["range"]
    except (SafetensorError, KeyError, TypeError, RuntimeError) as error:
        raise store.DamagedFile(f"the map in {folder} is of another version ({error}): train again") from error
    head = about["method"], about["dim"], tuple(about["effects"]), ends["low"], ends["high"]
    return Playable(*head, inputs, net.eval(), places, stored, groups.get("linear", {}), umap, run, about)
