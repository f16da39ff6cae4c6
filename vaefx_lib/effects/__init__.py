"""Audio effects by name, whatever they are made of: `effects.load("mda:Delay")`.

| name | what it is |
|---|---|
| ``mda:Overdrive``, ``mda:Delay`` | compiled loops of this library (`mda.py`) |
| ``lv2:BUNDLE/NAME`` | an installed LV2 plug-in (`lv2.py`); ``mda:NAME`` is ``lv2:mda/NAME`` where no loop exists |
| ``pedalboard:NAME`` | one that comes with pedalboard (`builtin.py`) |
| ``vst3:PATH``, ``vst3:PATH#PLUGIN`` | a VST3 plug-in (`hosted.py`); on macOS also ``au:PATH`` |
| ``chain:[NAME, NAME, ...]`` | one after the other (`chain.py`) |
| ``NAME(choice=label, ...)`` | any of them with some of its choices held elsewhere than at their defaults |

A backend is a module with `names()` (what this machine has, without the prefix) and `load(name)`. To add an effect,
write its `Effect` in a file beside `mda.py` and list the file in `_BACKENDS`.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import re

from vaefx_lib.effects.effect import Choice, Effect, EffectFailed, Param

__all__ = ["Choice", "Effect", "EffectFailed", "Param", "available", "describe", "load"]

# prefix -> module, imported when the first effect of it is asked for
_BACKENDS = {"mda": "mda", "lv2": "lv2", "pedalboard": "builtin", "vst3": "hosted", "au": "hosted", "chain": "chain"}
_HELD = re.compile(r"(?P<effect>.+?)\((?P<held>\w+ *=.*)\)")  # labels may hold brackets and commas of their own


def available() -> list[str]:
    """Names of all effects that are found on this machine; a chain of any of them can be loaded too."""
    return [f"{prefix}:{name}" for prefix in _BACKENDS for name in _backend(prefix).names(prefix)]


@functools.cache
def load(name: str) -> Effect:
    """The effect of this name, such as ``"mda:Overdrive"``.

    Raises
    ------
    ValueError
        If there is none, and the message names the known ones; for an unknown choice or label.
    EffectFailed
        If an external plug-in cannot be loaded.
    """
    prefix, _, rest = str(name).partition(":")
    if prefix not in _BACKENDS or not rest:
        known = "mda:NAME, lv2:BUNDLE/NAME, pedalboard:NAME, vst3:PATH and chain:[NAME, ...]"
        raise ValueError(f"unknown effect {name!r}: known are {known}; `vaefx effects` lists what is installed")
    if prefix != "chain" and (held := _HELD.fullmatch(rest)):
        pairs = (part.partition("=") for part in re.split(r", *(?=\w+ *=)", held["held"]))
        return load(f"{prefix}:{held['effect']}").holding(**{key.strip(): label.strip() for key, _, label in pairs})
    return _backend(prefix).load(name)


def describe(name: str) -> dict:
    """The controls of an effect as JSON holds them: params and choices; or error, if it cannot be loaded.

    Raises
    ------
    ValueError
        If there is no such effect.
    """
    try:
        effect = load(name)
    except EffectFailed as error:
        return {"error": str(error)}
    return {key: [dataclasses.asdict(control) for control in getattr(effect, key)] for key in ("params", "choices")}


def _backend(prefix: str):
    return importlib.import_module(f"vaefx_lib.effects.{_BACKENDS[prefix]}")
