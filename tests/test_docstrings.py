"""What is public says what it is: every parameter that is told of exists, none is forgotten, every error is named."""

import ast
import re
from pathlib import Path

import pytest

LIBRARY = Path(__file__).parents[1] / "vaefx_lib"
FILES = sorted(path for path in LIBRARY.rglob("*.py") if path.parent.name != "speech")  # the corpus' own generator
HEADINGS = ("Parameters", "Returns", "Yields", "Raises", "Attributes", "Notes", "References", "Examples")


def public(tree: ast.AST, inside: str = ""):
    """(name, node) of public classes, functions and methods."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield inside + node.name, node
            if isinstance(node, ast.ClassDef):
                yield from public(node, f"{node.name}.")


def section(text: str, heading: str) -> str | None:
    """The lines under a heading of numpydoc."""
    any_heading = "|".join(HEADINGS)
    found = re.search(rf"^{heading}\n-+\n(.*?)(?=^(?:{any_heading})\n-+\n|\Z)", text, re.MULTILINE | re.DOTALL)
    return found and re.sub(r"^Used in .*", "", found[1], flags=re.MULTILINE)


def told(lines: str) -> list[str]:
    heads = [line.split(" :")[0] for line in lines.splitlines() if re.match(r"\S", line)]
    return [name.strip().lstrip("*") for head in heads for name in head.split(",")]


def parameters(node: ast.FunctionDef) -> list[str]:
    arguments = node.args
    named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    named += [argument for argument in (arguments.vararg, arguments.kwarg) if argument]
    return [argument.arg for argument in named if argument.arg not in ("self", "cls")]


def faults(source: str) -> list[str]:
    """What the docstrings of a module leave out."""
    found = []
    for name, node in public(ast.parse(source)):
        text = ast.get_docstring(node)
        if not text:
            found.append(f"{name} has no docstring")
            continue
        if isinstance(node, ast.ClassDef):
            continue
        if (lines := section(text, "Parameters")) and sorted(told(lines)) != sorted(parameters(node)):
            found.append(f"{name} tells of {told(lines)} and has {parameters(node)}")
        calls = [raised.exc for raised in ast.walk(node) if isinstance(raised, ast.Raise)]
        kinds = {ast.unparse(call.func).split(".")[-1] for call in calls if isinstance(call, ast.Call)}
        shown_by_click = {"UsageError"}
        found += [f"{name} does not name {kind}" for kind in sorted(kinds - shown_by_click) if kind not in text]
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(LIBRARY).as_posix())
def test_public_docstrings_name_all_parameters_and_errors(path):
    assert faults(path.read_text(encoding="utf-8")) == []


def test_a_docstring_that_leaves_something_out_is_found():
    source = '''
def bare(): ...
def forgets(a, b):
    """
    Parameters
    ----------
    a : int
    """
def silent(a):
    """Does it."""
    raise ValueError("no")
def whole(a, b):
    """Does it.

    Parameters
    ----------
    a, b : int

    Raises
    ------
    ValueError
        Always.

    Used in `01_data_rendering`.
    """
    raise ValueError("no")
def _private(): ...
'''
    assert faults(source) == [
        "bare has no docstring",
        "forgets tells of ['a'] and has ['a', 'b']",
        "silent does not name ValueError",
    ]
