"""Audio effects by name: `effects.load("mda:Delay")`.

To add one, write its `Effect` in a file beside `mda.py` and list it in `_KNOWN`.
"""

from vaefx_lib.effects import mda
from vaefx_lib.effects.effect import Effect, Param

__all__ = ["Effect", "Param", "available", "load"]

_KNOWN = {effect.name: effect for effect in mda.EFFECTS}


def available() -> list[str]:
    """Names of all effects that `load` knows."""
    return list(_KNOWN)


def load(name: str) -> Effect:
    """The effect of this name, such as ``"mda:Overdrive"``.

    Raises
    ------
    ValueError
        If there is none; the message names the known ones.
    """
    if name not in _KNOWN:
        raise ValueError(f"unknown effect {name!r}: known are {', '.join(_KNOWN)}")
    return _KNOWN[name]
