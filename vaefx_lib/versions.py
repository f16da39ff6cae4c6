"""What git knows of the project: its commits in a span of days, and what a file was like before them."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vaefx_lib import config

_DAY = re.compile(r"\d{4}-\d\d-\d\d")


class NoCheckout(ValueError):
    """The project folder is no git checkout, or git is not there; the message says which."""


@dataclass(frozen=True)
class Commit:
    """One commit.

    Attributes
    ----------
    name : str
        The short form of its hash.
    day : str
        When it was committed, as ``2026-11-19``.
    subject : str
        The first line of its message.
    """

    name: str
    day: str
    subject: str


def commits(since: str, until: str) -> list[Commit]:
    """The commits of a span, the newest first, merges left out.

    Parameters
    ----------
    since : str
        A day, as ``2026-11-19``, or a commit: its hash, a tag, or what else git takes for one. That day is in the
        span, that commit is not.
    until : str
        A day, which is in the span.

    Raises
    ------
    NoCheckout
        If there is no git to ask.
    ValueError
        If `since` is neither a day nor a commit.

    Used in `08_weekly_report`.
    """
    start, end = _span(since, until)
    return _log("--no-merges", f"{start}..{end}" if start else end) if end else []


def before(path: str | Path, since: str, until: str) -> tuple[Commit, str] | None:
    """What a file was like when the span began, or when it first came into being in it; None if git has it not.

    Parameters
    ----------
    path : path
        Inside the project folder.
    since, until : str
        As `commits` takes them.

    Returns
    -------
    (Commit, str) or None
        The commit whose version this is, and the text.

    Raises
    ------
    NoCheckout, ValueError
        As `commits`.

    Used in `08_weekly_report`.
    """
    start, end = _span(since, until)
    inside = _inside(path)
    if start and (text := _ask("show", f"{start}:{inside}", fails="")):
        return _log("-1", start)[0], text
    first = _log("--diff-filter=A", end, "--", inside) if end else []
    return (first[-1], _ask("show", f"{first[-1].name}:{inside}")) if first else None


def history(path: str | Path) -> Iterator[tuple[Commit, str]]:
    """The versions of a file, the newest first.

    Parameters
    ----------
    path : path
        Inside the project folder.

    Yields
    ------
    (Commit, str)
        A commit that changed it, and its text then.

    Raises
    ------
    NoCheckout
        If there is no git to ask.

    Notes
    -----
    Used by `make bench-figures`.
    """
    _check_checkout()
    inside = _inside(path)
    for commit in _log("--diff-filter=AM", "--", inside):
        yield commit, _ask("show", f"{commit.name}:{inside}")


def uncommitted() -> int:
    """Number of tracked files that differ from the last commit.

    Raises
    ------
    NoCheckout
        If there is no git to ask.
    """
    _check_checkout()
    return len(_ask("diff", "--name-only", "HEAD", fails="").splitlines())


def head(*, besides: str) -> str:
    """The hash of the last commit, with "-dirty" behind it if a tracked file differs; "none" where no git can be asked.

    Parameters
    ----------
    besides : str
        A folder of the project whose files may differ.
    """
    try:
        _check_checkout()
        changed = _ask("diff", "--name-only", "HEAD", "--", ".", f":(exclude){besides}")
        return _ask("rev-parse", "HEAD") + ("-dirty" if changed else "")
    except NoCheckout:
        return "none"


def _span(since: str, until: str) -> tuple[str, str]:
    """Hashes of the last commit before the span and of the last one in it; empty where there is none."""
    _check_checkout()
    end = _last_before(f"{until} 23:59:59")
    if _DAY.fullmatch(since):
        return _last_before(f"{since} 00:00:00"), end
    start = _ask("rev-parse", "--verify", "--quiet", "--end-of-options", f"{since}^{{commit}}", fails="")
    if not start:
        raise ValueError(f"since is {since!r}: it must be a day such as 2026-11-19, or a commit that git knows")
    return start, end


def _inside(path: str | Path) -> str:
    """A path as git takes it, from the project folder."""
    return "./" + Path(path).absolute().relative_to(config.project_dir().absolute()).as_posix()


def _last_before(moment: str) -> str:
    return _ask("rev-list", "-1", f"--before={moment}", "HEAD", fails="")


def _log(*arguments: str) -> list[Commit]:
    lines = _ask("-c", "log.showSignature=false", "log", "--format=%h%x09%cs%x09%s", *arguments).splitlines()
    return [Commit(*line.split("\t", 2)) for line in lines]


def _check_checkout() -> None:
    """A folder inside some other checkout is none: that one's commits are not the project's."""
    home = config.project_dir()
    top = _ask("rev-parse", "--show-toplevel", fails="")
    if not top or not home.exists() or not Path(top).samefile(home):
        raise NoCheckout(f"{home.name or home} is no git checkout")


def _ask(*arguments: str, fails: str | None = None) -> str:
    """What git answers, without the end of its last line; `fails` if it refuses, or its own words as an error."""
    try:
        command = ["git", "-C", str(config.project_dir()), *arguments]
        done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", check=False)
    except FileNotFoundError as error:
        raise NoCheckout("git is not installed") from error
    if done.returncode == 0:
        return done.stdout.rstrip("\n")
    if fails is None:
        raise NoCheckout(f"git {arguments[0]} failed: {done.stderr.strip()}")
    return fails
