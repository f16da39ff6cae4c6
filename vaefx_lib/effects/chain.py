"""Effects one after the other as one effect: ``chain:[mda:Overdrive, pedalboard:Reverb]``."""

from __future__ import annotations

import functools
from dataclasses import replace

import numpy as np

from vaefx_lib import effects
from vaefx_lib.effects.effect import Effect


def names(prefix: str = "chain") -> list[str]:
    """None: a chain is made from any other effects."""
    return []


def load(name: str) -> Effect:
    """The chain of a name such as ``"chain:[mda:Overdrive, pedalboard:Reverb]"``, first effect first.

    Its controls are those of its members, prefixed with the member's short name, and with a number where two members
    share it: ``Overdrive_drive``, ``Reverb_room_size``; ``Delay1_feedback``, ``Delay2_feedback``.

    Raises
    ------
    ValueError
        If the name is not of this form, a chain has no member, or a member is unknown.
    EffectFailed
        If an external plug-in cannot be loaded.
    """
    text = name.partition(":")[2].strip()
    members = _members(text[1:-1]) if text.startswith("[") and text.endswith("]") else []
    if not members:
        raise ValueError(f"unknown effect {name!r}: a chain is written chain:[NAME, NAME, ...]")
    loaded = [effects.load(member) for member in members]
    prefixes = _prefixes(loaded)
    return Effect(
        f"chain:[{', '.join(member.name for member in loaded)}]",
        tuple(replace(p, name=f"{prefix}_{p.name}") for prefix, e in zip(prefixes, loaded) for p in e.params),
        functools.partial(_process, tuple(loaded), prefixes),
        tuple(replace(c, name=f"{prefix}_{c.name}") for prefix, e in zip(prefixes, loaded) for c in e.choices),
        " ".join(e.version for e in loaded).strip(),
    )


def _process(members, prefixes, audio, sample_rate_hz, **settings) -> np.ndarray:
    for prefix, member in zip(prefixes, members):
        own = {control.name: settings[f"{prefix}_{control.name}"] for control in (*member.params, *member.choices)}
        audio = member.process(audio, sample_rate_hz, **own)
    return audio


def _members(text: str) -> list[str]:
    """The names in a list, split at the commas that are in no bracket."""
    depth, parts = 0, [""]
    for letter in text:
        depth += (letter in "[(") - (letter in "])")
        if letter == "," and not depth:
            parts.append("")
        else:
            parts[-1] += letter
    stripped = [part.strip() for part in parts]
    return stripped if all(stripped) else []


def _prefixes(members) -> list[str]:
    """A short name for each member that is a word of its own, such as ``Delay``, or ``Delay2`` for the second one."""
    short = [_short(member.name) for member in members]
    return [name if short.count(name) == 1 else f"{name}{short[: i + 1].count(name)}" for i, name in enumerate(short)]


def _short(name: str) -> str:
    if name.startswith("chain:"):
        return "chain"
    last = name.partition(":")[2].partition("(")[0].replace("#", "/").rstrip("/").rpartition("/")[2]
    return "".join(letter if letter.isalnum() else "_" for letter in last.removesuffix(".vst3"))
