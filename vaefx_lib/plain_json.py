"""Nested numbers and texts as a JSON file has them: finite, of 6 significant digits, new ones over old ones."""

from __future__ import annotations

import math
from collections.abc import Mapping


def plain(value, key: str = ""):
    """A value as JSON takes it, numpy's and torch's numbers included; `key` is its dotted name.

    Raises
    ------
    ValueError
        If a number is NaN or infinite, or a value or key is of another kind; the message has its dotted name.
    """
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, Mapping):
        for name in value:
            if not isinstance(name, str):
                raise ValueError(f"key {name!r} in {key or 'scores'} must be a str")
        return {name: plain(item, f"{key}.{name}" if key else name) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, f"{key}[{i}]") for i, item in enumerate(value)]
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{key} must be finite, got {value}")
        return float(f"{value:.6g}")
    if not isinstance(value, str | int):
        raise ValueError(f"{key} must be a number, a str, a list or a dict, got {type(value).__name__}")
    return value


def merged(old, new):
    """`new` over `old`: a mapping is merged with a mapping, anything else is replaced."""
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return new
    return {**old, **{key: merged(old.get(key), value) for key, value in new.items()}}
