"""The two tables of numbers in the project's README: of results, from `metrics.json`, and of `benchmarks.json`."""

from __future__ import annotations

import statistics
from collections.abc import Mapping

from vaefx_lib import config, figures

RESULTS = ("reconstruction", "latent", "interpolation")  # the parts of `metrics.json` in `table`

BENCHMARKS = ("figures", "render", "train", "controller", "slider")  # the parts of `benchmarks.json`, in order
MARKS = {  # lines of the README between which a table goes
    "results": ("<!-- results: written by notebook 04 from figures/metrics.json -->", "<!-- end of results -->"),
    "benchmarks": (
        "<!-- benchmarks: written by make bench from figures/benchmarks.json -->",
        "<!-- end of benchmarks -->",
    ),
}

MAPS = {  # methods of lesson 06, in words
    "bottleneck": "a bottleneck",
    "pca": "PCA",
    "umap_decoder": "UMAP with a learned decoder",
    "umap_inverse": "UMAP inverted",
    "umap_nearest": "the nearest point on UMAP",
}


def table(preset_name: str) -> str:
    """The numbers of `metrics.json` that answer the main questions, beside their baselines, as a Markdown table.

    Raises
    ------
    KeyError
        If a notebook has not recorded its part yet.
    """
    numbers = figures.metrics(preset_name)
    rebuilt, latent, path = (numbers[part] for part in RESULTS)
    rows = [
        (f"reconstruction, {channel}: mean squared error", {s: rebuilt[channel][f"{s}_mse"] for s in ("vae", "pca")})
        for channel in ("dry", "wet")
    ]
    rows += [
        ("probe accuracy, random settings", latent["probe_accuracy"]),
        ("probe accuracy, all settings 0.5", latent["probe_accuracy_dummy"]),
        ("drift of dry between effects", {"vae": path["effects_dry_drift"], "pca": path["pca"]["effects_dry_drift"]}),
    ]
    r2 = latent["settings_r2"]
    for effect, params in r2["vae"].items():
        for name in params:
            spaces = ("vae", "pca", "no_model")
            rows.append((f"R2 of {effect.split(':')[-1]} {name}", {s: r2[s][effect][name] for s in spaces}))
    lines = ["| unseen speakers | VAE | PCA | no model | chance |", "|---|---|---|---|---|"]
    for label, scores in rows:
        cells = (f"{scores[s]:.3f}" if s in scores else "" for s in ("vae", "pca", "no_model", "chance"))
        lines.append(f"| {label} | {' | '.join(cells)} |")
    return "\n".join([*lines, *_study(numbers.get("vae", {})), *_maps(numbers.get("playable", {}))])


def _study(found: dict) -> list[str]:
    """What `vaefx study` has found, as lines after the table."""
    lines = []
    if "seeds" in found:
        spread = {name: f"{found[name]:.3f} ± {found[f'{name}_std']:.3f}" for name in found if f"{name}_std" in found}
        lines += [
            "",
            f"Over {found['seeds']} seeds the VAE's error is {spread['mse_ratio_dry']} of PCA's on dry and "
            f"{spread['mse_ratio_wet']} on wet, and its probe errs {spread['probe_error_ratio']} times as often.",
        ]
    if "seven_effects" in found:
        seven = {name: f"{value:.3f}" for name, value in found["seven_effects"].items() if name.startswith("accuracy")}
        lines += [
            "",
            "With seven effects of mda at fixed settings, a probe names the effect of unseen speakers with accuracy "
            f"{seven['accuracy_vae']} (PCA {seven['accuracy_pca']}, no model {seven['accuracy_no_model']}, chance "
            f"{seven['accuracy_chance']}).",
        ]
    return lines


def _maps(found: dict) -> list[str]:
    """Which map to play on, as a line after the table: what lesson 06 has found."""
    trips = {
        method: statistics.mean(row["roundtrip_mrstft"] for row in of.values())
        for method, of in found.items()
        if method in MAPS
    }
    if len(trips) < len(MAPS):
        return []
    best = min(trips, key=lambda method: trips[method])
    lazy = {answer: row["roundtrip_mrstft"] for answer, row in found["baselines"].items()}
    others = ", ".join(f"{MAPS[method]} {trip:.2f}" for method, trip in trips.items() if method != best)
    return [
        "",
        f"UMAP or one more bottleneck, for a map of 2 to 8 dimensions to play on? Take {MAPS[best]}: from a sound to "
        f"its place and back to a sound, it is {trips[best]:.2f} away (MRSTFT; {others}; the controller without a map "
        f"{lazy['controller']:.2f}, all settings 0.5 {lazy['mean']:.2f}, the dry sound {lazy['none']:.2f}, random "
        f"settings {lazy['random']:.2f}).",
    ]


def benchmarks_table(found: Mapping[str, Mapping]) -> str:
    """How fast and how large everything is, each beside its reference, as a Markdown table.

    Parameters
    ----------
    found : mapping
        As in `benchmarks.json`: part -> ``rows`` and the ``machine`` that they were measured on. A row has ``what`` was
        measured in which ``unit``, ``measured`` (``median``, ``low`` and ``high`` of ``repeats``) and maybe a
        ``reference``: ``what`` it is, the same numbers, and whether it was ``reached`` or given up. ``ratio`` is that
        of both medians.

    Returns
    -------
    str

    Notes
    -----
    Used by `make bench`.
    """
    parts = [name for name in BENCHMARKS if found.get(name, {}).get("rows")]
    if not parts:
        return "`make bench` writes a table here; it has not been run yet."
    lines = ["| what | measured | reference | measured / reference |", "|---|---|---|---|"]
    lines += [_benchmark(row) for name in parts for row in found[name]["rows"]]
    machines: dict[str, list[str]] = {}
    for name in parts:
        machine = found[name]["machine"]
        told = f"{machine['system']} on {machine['kind']}, {machine['processors']} processors, {machine['device']}"
        machines.setdefault(told, []).append(name)
    told = "; ".join(f"{', '.join(names)}: {told}" for told, names in machines.items())
    return "\n".join([*lines, "", f"Measured with {told if len(machines) > 1 else next(iter(machines))}."])


def _benchmark(row: Mapping) -> str:
    """One line of `benchmarks_table`."""
    reference = row.get("reference")
    if not reference:
        return f"| {row['what']} | {_amount(row['measured'], row['unit'])} |  |  |"
    given_up = not reference["reached"]  # it would have taken longer than that
    amount = f"> {_digits(reference['low'])} {row['unit']}" if given_up else _amount(reference, row["unit"])
    ratio = f"{'< ' if given_up else ''}{_digits(row['ratio'])}"
    return f"| {row['what']} | {_amount(row['measured'], row['unit'])} | {reference['what']}: {amount} | {ratio} |"


def _amount(of: Mapping, unit: str) -> str:
    """A median with its unit, and between what the repeats were, if there were any."""
    between = f" ({_digits(of['low'])} to {_digits(of['high'])})" if of["repeats"] > 1 else ""
    return f"{_digits(of['median'])} {unit}{between}"


def _digits(x: float) -> str:
    """A number with three digits, or all before the point."""
    return f"{x:,.0f}" if abs(x) >= 100 else f"{x:.3g}"


def update_readme(preset_name: str) -> None:
    """Write `table` into the project's README, between its two marks; only for the `report` preset.

    Used in notebook 04, and by the notebook runner after each lesson: any of them may have recorded other numbers.

    Raises
    ------
    KeyError
        If a notebook has not recorded its part yet.
    ValueError
        If the README has lost its marks.
    """
    if preset_name == "report":
        with figures.alone(preset_name):
            _write_between("results", table(preset_name))


def update_benchmarks() -> None:
    """Write `benchmarks_table` into the project's README, between its two marks.

    Raises
    ------
    ValueError
        If the README has lost its marks.

    Notes
    -----
    Used by `make bench`.
    """
    with figures.alone("report"):
        _write_between("benchmarks", benchmarks_table(figures.benchmarks()))


def _write_between(name: str, text: str) -> None:
    """Put a text between two of `MARKS` in the README, in place of what is there."""
    path = config.project_dir() / "README.md"
    first, last = MARKS[name]
    before, mark, rest = path.read_text(encoding="utf-8").partition(f"{first}\n")
    _, end, after = rest.partition(last)
    if not (mark and end):
        raise ValueError(f"{path} has lost the marks between which the {name} go: restore {first} and {last}")
    figures.write_if_changed(path, f"{before}{mark}\n{text}\n\n{end}{after}".encode())
