"""What a lesson notebook declares that it takes, and what it is given."""

from __future__ import annotations

import ast
import json
from pathlib import Path

KINDS = {"str": str, "int": int, "float": float, "bool": bool}  # what a parameter can be annotated with


def declared(path: str | Path) -> dict[str, tuple[str, object]]:
    """Name -> (annotation, default) of the parameters that a notebook declares.

    They stand in the one cell tagged ``parameters``, each as ``name: kind = literal``. A value computed there would
    stay as it was when a parameter it is computed from is changed, so there are only literals.

    Raises
    ------
    ValueError
        If the notebook cannot be read, or its parameters cell is missing, doubled, or holds anything else.
    """
    name = Path(path).name
    try:
        cells = json.loads(Path(path).read_text(encoding="utf-8"))["cells"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} cannot be read as a notebook: {error!r}") from error
    tagged = [cell for cell in cells if "parameters" in cell.get("metadata", {}).get("tags", [])]
    if len(tagged) != 1:
        raise ValueError(f"{name} has {len(tagged)} cells tagged 'parameters': it must have one")
    found = {}
    for statement in ast.parse("".join(tagged[0]["source"])).body:
        source = ast.unparse(statement)
        if not (isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name) and statement.value):
            raise ValueError(f"{name}: {source!r} in the parameters cell must be written as 'name: kind = value'")
        try:
            default = ast.literal_eval(statement.value)
        except ValueError as error:
            raise ValueError(f"{name}: {source!r} in the parameters cell must be a plain value") from error
        kind = ast.unparse(statement.annotation)
        found[statement.target.id] = (kind, convert(statement.target.id, kind, default))
    return found


def convert(name: str, kind: str, value):
    """`value` as the annotated kind; text, as it comes from a command line, is parsed.

    Raises
    ------
    ValueError
        If `kind` is not one of `KINDS`, or the value is not of that kind. An int is taken for a float, nothing else.
    """
    if kind not in KINDS:
        raise ValueError(f"parameter {name} is annotated {kind!r}: known are {', '.join(KINDS)}")
    parsed = value
    if isinstance(value, str) and kind != "str":
        try:
            parsed = ast.literal_eval(value.strip().capitalize() if kind == "bool" else value.strip())
        except (ValueError, SyntaxError) as error:
            raise ValueError(f"parameter {name} must be of type {kind}, got {value!r}") from error
    if kind == "float" and type(parsed) is int:
        parsed = float(parsed)
    if type(parsed) is not KINDS[kind]:
        raise ValueError(f"parameter {name} must be of type {kind}, got {value!r}")
    return parsed


def checked(source: Path, preset: str, given: dict[str, object]) -> dict[str, object]:
    """The preset and the given parameters, in the types that the notebook declares for them.

    Raises
    ------
    ValueError
        If one is unknown or not of its type, or the preset is given twice.
    """
    if given.get("preset", preset) != preset:
        raise ValueError(f"the preset is given twice, as {preset!r} and as parameter {given['preset']!r}")
    known = declared(source)
    values = {**given, "preset": preset}
    for name in values:
        if name not in known:
            raise ValueError(f"{source.stem} has no parameter {name!r}: known are {', '.join(known) or 'none'}")
    return {name: convert(name, known[name][0], value) for name, value in values.items()}
