"""What stands in the weekly report: the student's text, commits, earlier numbers, pictures and sounds.

Everything here is text: Markdown, or HTML that a notebook shows and `report_page` puts into one file.
"""

from __future__ import annotations

import base64
import datetime
import html
import io
import json
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import soundfile
from PIL import Image

from vaefx_lib import audio, config, figures, versions

DONE = "What I've done this week"  # the section that git fills in where a student has left it empty
WEEK = datetime.timedelta(days=7)
QUALITY = 90  # of pictures, from 0 to 100
RECENT = 40  # commits that are listed; the others are counted
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)


def span(day: str, since: str) -> tuple[str, str]:
    """The day of a report and where its week began, with their defaults: today, and seven days before.

    Parameters
    ----------
    day : str
        As ``2026-11-26``, or empty.
    since : str
        A day, a commit, or empty.

    Raises
    ------
    ValueError
        If `day` is no day of the calendar.

    Used in `08_weekly_report`.
    """
    try:
        date = datetime.date.fromisoformat(day) if day else datetime.date.today()
    except ValueError as error:
        raise ValueError(f"day is {day!r}: it must be a day such as 2026-11-26, or empty for today") from error
    return date.isoformat(), since or (date - WEEK).isoformat()


def sections(path: str | Path) -> dict[str, str]:
    """The student's text by its ``##`` headings, without comments; what stands before the first has the name ``""``.

    Parameters
    ----------
    path : path
        A Markdown file; one that is not there has no text.

    Raises
    ------
    ValueError
        If two sections have one heading, or the file is not UTF-8.

    Used in `08_weekly_report`.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8") if path.exists() else ""
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text: {error}") from error
    found: dict[str, list[str]] = {"": []}
    heading, fenced = "", False
    for line in _COMMENT.sub("", text).splitlines():
        fenced ^= line.startswith("```")
        if line.startswith("## ") and not fenced:
            heading = line[3:].strip()
            if heading in found:
                raise ValueError(f"{path} has two sections {heading!r}: join them")
            found[heading] = []
        else:
            found[heading].append(line)
    return {heading: "\n".join(lines).strip() for heading, lines in found.items()}


def done(text: str, since: str, day: str) -> str:
    """The section `DONE` as Markdown: the student's own words, and the commits of the week, folded away behind them.

    Without any words the commits stand in their place. Without a git checkout a sentence says so.

    Parameters
    ----------
    text : str
        Markdown, may be empty.
    since, day : str
        As `versions.commits` takes them.

    Used in `08_weekly_report`.
    """
    try:
        found = versions.commits(since, day)
    except versions.NoCheckout as error:
        return "\n\n".join(filter(None, [text, f"*No commits are listed: {error}.*"]))
    lines = [f"- {_escaped(c.subject)} <small>{c.day}, {c.name}</small>" for c in found[:RECENT]]
    if len(found) > RECENT:
        lines.append(f"- and {len(found) - RECENT} before these")
    count = f"{len(found)} commit{'' if len(found) == 1 else 's'} since {since}"
    if text:
        return f"{text}\n\n<details><summary>{count}</summary>\n\n" + "\n".join(lines) + "\n\n</details>"
    return f"{count}:\n\n" + "\n".join(lines) if found else f"*No commits since {since}.*"


def earlier(preset_name: str, since: str, day: str) -> tuple[dict, str]:
    """The preset's numbers as they were when the week began, and a sentence that says which version this is.

    Returns
    -------
    (dict, str)
        As `figures.metrics` gives them; empty where git has no earlier ones.

    Raises
    ------
    ValueError
        If `since` is neither a day nor a commit, or what git has is not JSON.

    Used in `08_weekly_report`.
    """
    path = config.figures_dir(preset_name) / "metrics.json"
    try:
        found = versions.before(path, since, day)
        changed = versions.uncommitted()
    except versions.NoCheckout as error:
        return {}, f"There is nothing to compare with: {error}."
    if found is None:
        return {}, f"There is nothing to compare with: git has no `metrics.json` of the preset {preset_name}."
    commit, text = found
    try:
        numbers = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path.name} of commit {commit.name} is not JSON: {error}") from error
    said = f"*Before* is commit {commit.name} of {commit.day}."
    if changed:
        said += f" The project differs from the last commit in {changed} file{'' if changed == 1 else 's'}."
    return numbers, said


def pictures(preset_name: str) -> list[str]:
    """Names of the preset's figures in the order of the report: the numbered ones first."""
    return sorted(figures.captions(preset_name), key=lambda name: (not name.startswith("fig"), name))


def picture(preset_name: str, name: str, number: int) -> str:
    """A figure with its number and caption as HTML that holds the picture itself, at a fifth of the size of its PNG.

    Raises
    ------
    ValueError
        If the preset has no such figure.

    Used in `08_weekly_report`.
    """
    known = figures.captions(preset_name)
    if name not in known:
        raise ValueError(f"there is no figure {name!r}: known are {', '.join(known) or 'none'}")
    data = base64.b64encode(_compact(config.figures_dir(preset_name) / f"{name}.png")).decode()
    alternative = html.escape(figures.alternative(known[name]))
    caption = re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(known[name], quote=False))
    return (
        f'<figure><img alt="{alternative}" src="data:image/webp;base64,{data}">'
        f"<figcaption><b>Figure {number}.</b> {caption}</figcaption></figure>"
    )


def player(label: str, sound: np.ndarray, sample_rate_hz: int) -> str:
    """A sound to play as HTML that holds it, 16 bit without loss: half the size of a wav file.

    Parameters
    ----------
    label : str
    sound : array, shape (samples,) or (channels, samples)
        What is beyond [-1, 1] clips.
    sample_rate_hz : int

    Raises
    ------
    AudioError
        If it is empty, not finite, or not of such a shape.

    Used in `08_weekly_report`.
    """
    buffer = io.BytesIO()
    sound = np.clip(audio.check(sound, name=label), -1, 1)
    soundfile.write(buffer, sound.T, sample_rate_hz, format="FLAC", subtype="PCM_16")
    data = base64.b64encode(buffer.getvalue()).decode()
    label = html.escape(label)
    return (
        f'<figure class="sound"><figcaption>{label}</figcaption>'
        f'<audio controls aria-label="{label}" src="data:audio/flac;base64,{data}"></audio></figure>'
    )


def players(sounds: Mapping[str, np.ndarray], sample_rate_hz: int) -> str:
    """Sounds by their labels, beside each other, as `player` shows one."""
    return f'<div class="sounds">{"".join(player(*one, sample_rate_hz) for one in sounds.items())}</div>'


def _compact(path: Path) -> bytes:
    """A PNG as WebP, of a quality at which nobody sees a difference."""
    buffer = io.BytesIO()
    with Image.open(path) as image:
        image.convert("RGB").save(buffer, "WEBP", quality=QUALITY)
    return buffer.getvalue()


def _escaped(text: str) -> str:
    """Text of which Markdown makes nothing else."""
    return re.sub(r"([\\`*_\[\]<>|#$])", r"\\\1", text)
