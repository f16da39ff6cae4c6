"""What an effect is: a name, named controls with units, and a function that turns dry sound into wet sound.

A control is a `Param`, which can be swept, or a `Choice`, such as a switch, which is held unless asked for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from vaefx_lib import audio as audio_io


class EffectFailed(ChildProcessError):
    """An effect crashed, hung, ended its process or cannot be loaded; the message names it and says how."""


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
    log : bool
        Whether equal steps of the setting are equal ratios, as for a frequency in Hz; then `low` is above 0.
    """

    name: str
    unit: str
    low: float
    high: float
    default: float
    log: bool = False

    def to_native(self, setting):
        """Native value (in `unit`) of a setting in [0, 1]; a number or an array."""
        if self.log:
            return self.low ** (1 - setting) * self.high**setting
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
        if self.log:
            return np.log(np.divide(native, self.low)) / np.log(self.high / self.low)
        return (native - self.low) / (self.high - self.low)


@dataclass(frozen=True)
class Choice:
    """A control with a few named positions, such as a switch or a list. It is held at `default` unless asked for."""

    name: str
    labels: tuple[str, ...]
    default: str


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
        one keyword per parameter, each in [0, 1], and one per choice, each a label. It starts from silence and leaves
        its argument as it was.
    choices : tuple of Choice
        Not part of a settings array.
    version : str
        Of what is not this library's own code: sha256 of a plug-in's files, or the version of a package.

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
    process: Callable[..., np.ndarray] = field(compare=False)  # a partial function is not equal to its pickled copy
    choices: tuple[Choice, ...] = ()
    version: str = ""

    @property
    def param_names(self) -> tuple[str, ...]:
        """Names of the parameters, in the order of a settings array."""
        return tuple(param.name for param in self.params)

    @property
    def default_settings(self) -> np.ndarray:
        """Every parameter's default as a setting in [0, 1], shape (n_params,)."""
        return np.array([param.to_setting(param.default) for param in self.params])

    def holding(self, **labels: str) -> Effect:
        """The same effect with some of its choices held elsewhere, as its name then says: ``mda:Leslie(mode=Fast)``.

        Raises
        ------
        ValueError
            For an unknown choice or label; the message names the known ones.
        """
        for name, label in labels.items():
            self._check_label(name, label)
        held = tuple(replace(c, default=labels.get(c.name, c.default)) for c in self.choices)
        told = ", ".join(f"{name}={label}" for name, label in labels.items())
        return replace(self, name=f"{self.name}({told})" if told else self.name, choices=held)

    def render(self, audio, settings, sample_rate_hz: float) -> np.ndarray:
        """The wet sound. The same arguments always give the same bits, in any thread.

        Parameters
        ----------
        audio : array, shape (samples,) or (channels, samples)
            Dry sound of 1 or 2 channels, of 1 sample or more. It is not modified.
        settings : array, shape (n_params,), or mapping of name to number or label
            Each number in [0, 1]; names missing from a mapping take their default, as all choices do with an array.
        sample_rate_hz : float

        Returns
        -------
        np.ndarray, float32, shape (channels_out, samples)

        Raises
        ------
        ValueError
            For an unknown name or label, a wrong number of settings, a setting outside [0, 1] or NaN, a bad rate.
        audio.AudioError
            For audio that is empty, non-finite, or not 1 or 2 channels.
        EffectFailed
            If an external plug-in crashes, ends its process or takes too long.
        """
        dry = audio_io.check(audio)
        if len(dry) > 2:
            raise audio_io.AudioError(
                f"{self.name} takes 1 or 2 channels, got {len(dry)}: audio has the shape (channels, samples)"
            )
        if not (_is_number(sample_rate_hz) and 0 < sample_rate_hz < math.inf):
            raise ValueError(f"sample_rate_hz is {sample_rate_hz!r}: it must be a positive number")
        return self.process(dry, float(sample_rate_hz), **self._named(settings))

    def _named(self, settings) -> dict[str, float | str]:
        """Every setting and label by name, checked."""
        labels = {choice.name: choice.default for choice in self.choices}
        if isinstance(settings, Mapping):
            known = (*self.param_names, *labels)
            for name in settings:
                if name not in known:
                    raise ValueError(f"{self.name} has no parameter {name!r}: known are {', '.join(known)}")
            labels |= {name: label for name, label in settings.items() if name in labels}
            settings = {name: value for name, value in settings.items() if name not in labels}
            named = dict(zip(self.param_names, self.default_settings)) | settings
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
        for name, label in labels.items():
            self._check_label(name, label)
        return {name: float(value) for name, value in named.items()} | labels

    def _check_label(self, name: str, label) -> None:
        known = {choice.name: choice.labels for choice in self.choices}
        if name not in known:
            raise ValueError(f"{self.name} has no choice {name!r}: known are {', '.join(known) or 'none'}")
        if label not in known[name]:
            allowed = ", ".join(known[name])
            raise ValueError(f"the choice {name} of {self.name} is {label!r}: it must be one of {allowed}")


def _is_number(value) -> bool:
    """Whether `value` is one real number: a float, an int, or an array of one number without a shape."""
    return np.ndim(value) == 0 and isinstance(np.asarray(value).item(), (int, float))
