"""What a place of a playable latent space gives: an effect, its settings, its sound, and a map of many places."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from vaefx_lib import blackbox, effects, passages, players
from vaefx_lib.playable import Playable

MAP_STEPS = 24  # places of a map along each axis
MAP_SAMPLES = 24_576  # 1.02 s of a dry sound, which the brightness of a map is that of


@dataclass(frozen=True, eq=False)
class Place:
    """A place, and what it gives.

    Attributes
    ----------
    z : array, float64, shape (dim,)
    effect : Effect
    settings : array, float64, shape (n_params,)
    sounds : array, float32, shape (2, samples)
        Dry and wet, as they are played.
    """

    z: np.ndarray
    effect: effects.Effect
    settings: np.ndarray
    sounds: np.ndarray

    @property
    def told(self) -> dict[str, dict]:
        """The settings as people read them."""
        return told(self.effect, self.settings)


def at(playable: Playable, z, dry, *, effect: str | None = None, heard=None) -> Place:
    """What a place gives.

    Parameters
    ----------
    playable : Playable
    z : array, shape (dim,)
    dry : array, float32, shape (samples,)
        At 24 kHz and at the level of rendered pairs.
    effect : str, optional
        One of `playable.effects`; by default the one that the place belongs to.
    heard : array, float32, shape (samples,), optional
        The dry sound as it is played, if it has been made before.

    Returns
    -------
    Place

    Raises
    ------
    EffectFailed, ValueError
        As `players.played` and `Playable.settings` raise them.

    Used in `06_playable_latent`.
    """
    fx = effects.load(effect or playable.likely_effect(z))
    settings = playable.settings(z, fx.name)
    heard = players.levelled(dry, passages.RATE_HZ) if heard is None else heard
    return Place(np.asarray(z, float), fx, settings, np.stack([heard, players.played(fx, dry, settings)]))


def told(effect: effects.Effect, settings) -> dict[str, dict]:
    """Settings as people read them: name -> ``setting`` in [0, 1], ``value`` and its ``unit``.

    Used in `06_playable_latent`.
    """
    return {
        param.name: {"setting": float(setting), "value": float(param.to_native(setting)), "unit": param.unit}
        for param, setting in zip(effect.params, settings, strict=True)
    }


def exported(playable: Playable, place: Place, clip: str) -> str:
    """A place as JSON: the effect, its settings as `told` has them, the coordinates, the map and the clip."""
    about = {"effect": place.effect.name, "settings": place.told, "clip": clip, "place": place.z.tolist()}
    return json.dumps(about | {"map": {"method": playable.method, "dim": playable.dim}}, indent=2) + "\n"


def map_choices(effect: effects.Effect | None) -> Mapping[str, str]:
    """What a map can be coloured by, name -> unit: the settings of the effect, or the effect, and the brightness."""
    if effect is None:
        return {"effect": "", "brightness": "Hz"}
    return {param.name: param.unit for param in effect.params} | {"brightness": "Hz"}


def map_values(
    playable: Playable, effect: effects.Effect | None, by: str, dry, *, steps: int = MAP_STEPS
) -> np.ndarray:
    """What each place of a two-dimensional latent space gives.

    Parameters
    ----------
    playable : Playable
        With ``dim`` 2.
    effect : Effect, optional
        By default the one to which each place belongs.
    by : str
        One of `map_choices`: "effect" gives numbers of `playable.effects`, a setting its native value, "brightness" the
        spectral centroid in Hz of the dry sound through the effect.
    dry : array, float32, shape (samples,)
    steps : int

    Returns
    -------
    array, float64, shape (steps, steps)
        The first axis is the second coordinate, from `low` to `high` as in a picture with its origin below; NaN where
        the effect fails.

    Raises
    ------
    ValueError
        For another `by`.

    Used in `06_playable_latent`.
    """
    if by not in (known := map_choices(effect)):
        raise ValueError(f"a map cannot be coloured by {by!r}: known are {', '.join(known)}")
    across, up = (np.linspace(low, high, steps) for low, high in zip(playable.low, playable.high, strict=True))
    z = np.stack(np.meshgrid(across, up), axis=2).reshape(-1, 2)
    names = [effect.name] * len(z) if effect else [playable.likely_effect(place) for place in z]
    if by == "effect":
        values = [playable.effects.index(name) for name in names]
    elif by == "brightness":
        settings = {name: playable.settings(z, name) for name in set(names)}
        excerpt = loudest_part(dry, MAP_SAMPLES)
        values = blackbox.in_threads(
            lambda i: brightness_of(effects.load(names[i]), excerpt, settings[names[i]][i]), range(len(z))
        )
    elif effect is not None:  # else there are no names of settings to choose
        index = effect.param_names.index(by)
        values = effect.params[index].to_native(playable.settings(z, effect.name)[:, index])
    return np.reshape(np.asarray(values, float), (steps, steps))


def brightness_of(effect: effects.Effect, dry, settings) -> float:
    """Spectral centroid in Hz of a dry sound through an effect; NaN where the effect fails or gives silence."""
    try:
        wet = blackbox.wet(effect, dry, settings, passages.RATE_HZ)
    except effects.EffectFailed:
        return float("nan")
    return brightness_hz(wet)


def brightness_hz(sound) -> float:
    """Spectral centroid of a whole sound at 24 kHz: mean frequency weighted by magnitude; NaN of silence."""
    X = np.abs(np.fft.rfft(sound))
    hz = np.fft.rfftfreq(len(sound), 1 / passages.RATE_HZ)
    return float(X @ hz / X.sum()) if X.sum() > 0 else float("nan")


def loudest_part(sound, samples: int) -> np.ndarray:
    """The stretch of so many samples that has the most power; all of a shorter sound."""
    power = np.concatenate([[0.0], np.cumsum(np.square(sound, dtype=float))])
    if len(sound) <= samples:
        return np.asarray(sound)
    start = int(np.argmax(power[samples:] - power[:-samples]))
    return np.asarray(sound[start : start + samples])
