"""Glossary, citation and changelog are true: what they point to is there."""

import json
import re
from pathlib import Path

import pytest
import yaml
from test_project import PROJECT

from vaefx_lib.__main__ import main

ROOT = Path(__file__).parents[1]
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
CHANGELOG = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
WORDS = ("dry", "wet", "setting", "mu", "logvar", "KL", "ELBO", "MRSTFT", "SPSA", "beta", "PCA", "UMAP", "probe")


def prose(number):
    """All that is written in a lesson but for the glossary."""
    (path,) = (ROOT / "notebooks").glob(f"{number}_*.ipynb")
    cells = ["".join(cell["source"]) for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]]
    return "\n".join(cell for cell in cells if not cell.startswith("## Words"))


def glossary():
    """Word -> (meaning, number of its lesson)."""
    (path,) = (ROOT / "notebooks").glob("01_*.ipynb")
    last = "".join(json.loads(path.read_text(encoding="utf-8"))["cells"][-1]["source"])
    found = re.findall(r"^\| (.+?) \| (.+) \| (\d\d) \|$", last, re.MULTILINE)
    assert len(found) == last.count("\n|") - 2  # every line of the table but its head is understood
    assert found == sorted(found, key=lambda row: row[0].lower())
    return {word: about for words, *about in found for word in words.split(", ")}


def test_every_word_of_the_glossary_is_used_in_the_lesson_that_it_points_to():
    found = glossary()
    assert found.keys() >= set(WORDS)
    for word, (meaning, number) in found.items():
        assert re.search(rf"\b{re.escape(word)}", prose(number), re.IGNORECASE), f"{word} is not in lesson {number}"
        assert len(meaning) > 20, word


def test_the_citation_has_what_its_format_requires_and_the_version_of_the_package():
    assert CITATION["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} <= CITATION.keys()
    assert CITATION["version"] == PROJECT["project"]["version"]
    assert CITATION["license"] == PROJECT["project"]["license"]


@pytest.mark.parametrize("work", CITATION["references"], ids=lambda work: work["title"][:20])
def test_a_cited_work_can_be_found_and_names_the_modules_built_on_it(work):
    assert {"type", "title", "authors"} <= work.keys()
    assert all("name" in author or {"family-names", "given-names"} <= author.keys() for author in work["authors"])
    where = {"doi", "url", "identifiers", "conference"} & work.keys()
    assert where or work["type"] == "software"
    assert re.fullmatch(r"10\.\d{4,}/\S+", work.get("doi", "10.1234/x"))
    named = re.findall(r"[\w/]+\.py", work["notes"])
    assert named
    assert [name for name in named if not (ROOT / "vaefx_lib" / name).is_file()] == []


def test_the_changelog_names_only_commands_and_targets_that_exist():
    targets = re.search(r"^\.PHONY: (.*)", (ROOT / "Makefile").read_text(), re.MULTILINE).group(1).split()
    named = re.findall(r"`make ([\w-]+)", CHANGELOG)
    assert named and set(named) <= set(targets)
    commands = re.findall(r"`vaefx ([\w-]+)", CHANGELOG)
    assert commands and set(commands) <= main.commands.keys()


def test_the_newest_entry_of_the_changelog_is_of_this_version_or_unreleased():
    headings = re.findall(r"^## \[(.+?)\]", CHANGELOG, re.MULTILINE)
    assert headings[0] in ("Unreleased", PROJECT["project"]["version"])
    assert set(re.findall(r"^### (\w+)", CHANGELOG, re.MULTILINE)) <= {
        *("Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"),
    }
