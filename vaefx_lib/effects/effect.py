"""What an effect is: a name, named parameters with units, and a function that turns dry sound into wet sound."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vaefx_lib import audio as audio_io


@dataclass(frozen=True)
class Param:
    """One control of an effect. A *setting* is its position in [0, 1]; a *native* value has the unit shown to people.

    Attributes
    ----------
    name : str
    unit : str
        Of `low`, `high` and `default`, such as ``"dB"`` or ``"%"``.
    low, high : float
        Native values at the settings 0 and 1.
    default : float
        Native value used where no setting is given.
    """

    name: str
    unit: str
    low: float
    high: float
    default: float

    def to_native(self, setting):
        """Native value (in `unit`) of a setting in [0, 1]; a number or an array."""
        return self.low * (1 - setting) + self.high * setting  # exact at both ends

    def to_setting(self, native):
        """Setting in [0, 1] of a native value (in `unit`); a number or an array.

        Raises
        ------
        ValueError
            If a value is outside [low, high] or not a number.
        """
        if not np.all((np.asarray(native) >= self.low) & (np.asarray(native) <= self.high)):
            raise ValueError(f"{self.name} is {native} {self.unit}: it must be in [{self.low:g}, {self.high:g}]")
        return (native - self.low) / (self.high - self.low)


@dataclass(frozen=True)
class Effect:
    """An audio effect with its controls.

    Attributes
    ----------
    name : str
        Such as ``"mda:Delay"``.
    params : tuple of Param
        In the order of a settings array.
    process : callable
        ``process(audio, sample_rate_hz, **settings)``: float32 (channels, samples) to float32 (channels_out, samples),
        one keyword per parameter, each in [0, 1]. It starts from silence and leaves its argument as it was.

    Examples
    --------
    >>> from vaefx_lib import effects
    >>> effect = effects.load("mda:Overdrive")
    >>> effect.param_names
    ('drive', 'muffle', 'output')
    >>> effect.render([0.25, 0.25], {"drive": 1.0, "muffle": 0.0}, 24_000)
    array([[0.5, 0.5]], dtype=float32)

    Used in `01_data_rendering`.
    """

    name: str
    params: tuple[Param, ...]
    process: Callable[..., np.ndarray]

    @property
    def param_names(self) -> tuple[str, ...]:
        """Names of the parameters, in the order of a settings array."""
        return tuple(param.name for param in self.params)

    @property
    def default_settings(self) -> np.ndarray:
        """Every parameter's default as a setting in [0, 1], shape (n_params,)."""
        return np.array([param.to_setting(param.default) for param in self.params])

    def render(self, audio, settings, sample_rate_hz: float) -> np.ndarray:
        """The wet sound. The same arguments always give the same bits, in any thread.

        Parameters
        ----------
        audio : array, shape (samples,) or (channels, samples)
            Dry sound of 1 or 2 channels, of 1 sample or more. It is not modified.
        settings : array, shape (n_params,), or mapping of name to number
            Each in [0, 1]; names missing from a mapping take their default.
        sample_rate_hz : float

        Returns
        -------
        np.ndarray, float32, shape (channels_out, samples)

        Raises
        ------
        ValueError
            For an unknown name, a wrong number of settings, a setting outside [0, 1] or NaN, a bad sample rate.
        audio.AudioError
            For audio that is empty, non-finite, or not 1 or 2 channels.
        """
        dry = audio_io.check(audio)
        if len(dry) > 2:
            raise audio_io.AudioError(
                f"{self.name} takes 1 or 2 channels, got {len(dry)}: audio has the shape (channels, samples)"
            )
        if not (_is_number(sample_rate_hz) and 0 < sample_rate_hz < math.inf):
            raise ValueError(f"sample_rate_hz is {sample_rate_hz!r}: it must be a positive number")
        return self.process(dry, float(sample_rate_hz), **self._named(settings))

    def _named(self, settings) -> dict[str, float]:
        """Every setting by name, checked."""
        if isinstance(settings, Mapping):
            for name in settings:
                if name not in self.param_names:
                    raise ValueError(f"{self.name} has no parameter {name!r}: known are {', '.join(self.param_names)}")
            named = dict(zip(self.param_names, self.default_settings)) | dict(settings)
        else:
            values = settings.tolist() if hasattr(settings, "tolist") else settings
            if not isinstance(values, Sequence) or isinstance(values, str) or len(values) != len(self.params):
                count = len(values) if isinstance(values, Sequence) and not isinstance(values, str) else repr(values)
                expected = f"{len(self.params)} settings ({', '.join(self.param_names)})"
                raise ValueError(f"{self.name} takes {expected}, got {count}")
            named = dict(zip(self.param_names, values))
        for name, value in named.items():
            value = value.item() if isinstance(value, np.generic) else value
            if not (_is_number(value) and 0 <= value <= 1):
                raise ValueError(f"the setting {name} of {self.name} is {value!r}: it must be a number in [0, 1]")
        return {name: float(value) for name, value in named.items()}


def _is_number(value) -> bool:
    """Whether `value` is one real number: a float, an int, or an array of one number without a shape."""
    return np.ndim(value) == 0 and isinstance(np.asarray(value).item(), (int, float))
