"""A preset as JSON text and back: a run's folder and what comes with the library keep theirs so."""

from __future__ import annotations

import dataclasses
import json

from vaefx_lib.config import Controller, Preset, Render, Stft, Train, Vae


def to_json(preset: Preset) -> str:
    """A preset as JSON text; `from_json` gives it back."""
    return json.dumps(dataclasses.asdict(preset), indent=2) + "\n"


def from_json(text: str) -> Preset:
    """The `Preset` that `to_json` wrote.

    Raises
    ------
    ValueError
        If the text is not JSON, or its keys are not exactly those that `to_json` writes; the message names them.
    """
    raw = _exact_keys("preset", json.loads(text), Preset)
    parts = {"stft": Stft, "render": Render, "vae": Vae, "train": Train, "controller": Controller}
    made = {}
    for key, cls in parts.items():
        values = _exact_keys(key, raw[key], cls)
        made[key] = cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})
    return Preset(name=raw["name"], **made)


def _exact_keys(name: str, raw, cls: type) -> dict:
    """`raw`, which must be a mapping with the fields of a dataclass as keys: a default would be a silent choice."""
    if not isinstance(raw, dict):
        raise ValueError(f"{name} is {raw!r}: it must be a JSON object")
    known = [field.name for field in dataclasses.fields(cls)]
    unknown, missing = [key for key in raw if key not in known], [key for key in known if key not in raw]
    if unknown:
        raise ValueError(f"unknown keys in {name}: {', '.join(unknown)}; known are {', '.join(known)}")
    if missing:
        raise ValueError(f"{name} lacks {', '.join(missing)}: all of {', '.join(known)} are needed")
    return raw
