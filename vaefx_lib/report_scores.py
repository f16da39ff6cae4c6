"""The table of the weekly report: what answers the main questions, how it changed, and what it has to beat."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

TOLERANCE = 5e-4  # a relative change below it is none

Keys = tuple[str, ...]  # of `metrics.json`, from the outside in


@dataclass(frozen=True)
class Score:
    """A line of the table of scores: where a number stands in `metrics.json`, and what it has to beat.

    Attributes
    ----------
    label : str
    ours : tuple of str
        Keys, from the outside in.
    beside : dict of str to tuple of str
        Baselines: what is as easy to have.
    limits : dict of str to tuple of str
        What nobody can beat.
    more : bool
        Whether more is better.
    """

    label: str
    ours: Keys
    beside: Mapping[str, Keys] = field(default_factory=dict)
    limits: Mapping[str, Keys] = field(default_factory=dict)
    more: bool = False


def scores(numbers: Mapping) -> list[Score]:
    """The lines of the table: which effects, dimensions and phase there are is told by the numbers."""
    own: Keys
    rows = []
    for channel in ("dry", "wet"):
        own = ("reconstruction", channel)
        rows.append(Score(f"reconstruction, {channel}: squared error", (*own, "vae_mse"), {"PCA": (*own, "pca_mse")}))
    names = {"PCA": "pca", "no model": "no_model", "chance": "chance"}
    for label, key in (("random settings", "probe_accuracy"), ("all settings 0.5", "probe_accuracy_dummy")):
        beside = {name: ("latent", key, of) for name, of in names.items()}
        rows.append(Score(f"effect named, {label}: accuracy", ("latent", key, "vae"), beside, more=True))
    path = "interpolation"
    rows += [
        Score("dry between effects: drift", (path, "effects_dry_drift"), {"PCA": (path, "pca", "effects_dry_drift")}),
        Score(
            "effect part moved alone: squared error",
            (path, "transfer", "transfer"),
            {"left as it was": (path, "transfer", "unchanged")},
            {"rebuilt truth": (path, "transfer", "rebuilt")},
        ),
    ]
    for effect, found in numbers.get("controller", {}).items():
        if "mrstft_wide" not in found:
            continue
        own = ("controller", effect, "mrstft_wide")
        lazy = {"dry": (*own, "none"), "random": (*own, "random"), "middle": (*own, "mean")}
        label = f"match of {effect.split(':')[-1]}: MRSTFT from the truth"
        rows.append(Score(label, (*own, "ours"), lazy, {"best": (*own, "oracle")}))
        rows.append(Score(f"{label}, with a search", (*own, "refined"), lazy, {"best": (*own, "oracle")}))
    playable = numbers.get("playable", {})
    for dim in playable.get("bottleneck", {}):
        methods = [method for method, dims in playable.items() if isinstance(dims, dict) and dim in dims]
        at = {method: ("playable", method, dim, "roundtrip_mrstft") for method in methods}
        label = f"settings through {dim} dimensions and back: MRSTFT"
        rows.append(Score(label, at.pop("bottleneck"), {method: at[method] for method in sorted(at)}))
    winner = numbers.get("phase", {}).get("winner")
    if winner:
        beside = {"dry": ("phase", "dry", "sisdr"), "PCA": ("phase", winner, "pca_sisdr_transfer")}
        rows.append(
            Score(f"wet from dry, {winner} phase: SI-SDR in dB", ("phase", winner, "sisdr_transfer"), beside, more=True)
        )
    return rows


def table(numbers: Mapping, before: Mapping) -> str:
    """Scores, how they changed, and their baselines, as a Markdown table; bold is what beats every baseline.

    Parameters
    ----------
    numbers, before : dict
        As `figures.metrics` gives them; `before` may lack any of them.

    Used in `08_weekly_report`.
    """
    then_too = ("before", "change") if before else ()
    columns = ("unseen speakers", "now", *then_too, "beside it")
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for row in scores(numbers):
        now, then = _at(numbers, row.ours), _at(before, row.ours)
        if now is None:
            continue
        beside, limits = _all_at(numbers, row.beside), _all_at(numbers, row.limits)
        wins = bool(beside) and all(now > value if row.more else now < value for value in beside.values())
        told = ", ".join(f"{name} {_short(value)}" for name, value in {**beside, **limits}.items())
        shown = f"**{_short(now)}**" if wins else _short(now)
        moved = (_short(then), _change(now, then, row.more)) if then_too else ()
        lines.append(f"| {' | '.join([row.label, shown, *moved, told])} |")
    return "\n".join(lines) if len(lines) > 2 else "*Nothing has been measured yet: `make figures` does it.*"


def changes(numbers: Mapping, before: Mapping) -> str:
    """How many of all the recorded numbers are others than before, wall times left out: a sentence.

    Used in `08_weekly_report`.
    """
    now, then = _flat(numbers), _flat(before)
    said = f"Recorded numbers: {len(now)}."
    if not then:
        return said
    both = now.keys() & then.keys()
    changed = sum(not _same(now[key], then[key]) for key in both)
    return f"{said} Changed: {changed}, new: {len(now.keys() - both)}, gone: {len(then.keys() - both)}."


def _at(numbers: Mapping, key: Keys) -> float | None:
    """The number at the end of some keys; None where there is none."""
    found: object = numbers
    for name in key:
        found = found.get(name) if isinstance(found, Mapping) else None
    return float(found) if isinstance(found, int | float) else None


def _all_at(numbers: Mapping, keys: Mapping[str, Keys]) -> dict[str, float]:
    """The numbers of those names that have one."""
    return {name: value for name, key in keys.items() if (value := _at(numbers, key)) is not None}


def _flat(numbers: Mapping, prefix: Keys = ()) -> dict[Keys, float]:
    """Nested numbers by their keys, without lists, texts and wall times."""
    found: dict[Keys, float] = {}
    for name, value in numbers.items():
        if isinstance(value, Mapping):
            found |= _flat(value, (*prefix, name)) if name != "timing" else {}
        elif isinstance(value, int | float) and name != "seconds":
            found[*prefix, name] = float(value)
    return found


def _same(now: float, then: float) -> bool:
    return math.isclose(now, then, rel_tol=TOLERANCE, abs_tol=1e-9)


def _short(value: float | None) -> str:
    return "" if value is None else "0" if abs(value) < 1e-9 else f"{value:.3g}"


def _change(now: float, then: float | None, more: bool) -> str:
    if then is None:
        return "new"
    if _same(now, then):
        return "none"
    return f"{now - then:+.2g}, {'better' if (now > then) == more else 'worse'}".replace("-", "\N{MINUS SIGN}")
