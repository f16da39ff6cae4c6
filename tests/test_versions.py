"""What git knows: which commits are in a span of days, and what a file was like before them."""

import os
import subprocess

import pytest

from vaefx_lib import versions
from vaefx_lib.versions import NoCheckout

WHO = {
    f"GIT_{role}_{what}": value for role in ("AUTHOR", "COMMITTER") for what, value in (("NAME", "n"), ("EMAIL", "e"))
}


def git(folder, *arguments, at="2026-11-01 12:00:00"):
    dates = {"GIT_AUTHOR_DATE": at, "GIT_COMMITTER_DATE": at}
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments],
        env={**os.environ, **WHO, **dates},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def commit(folder, subject, at, *, track=True, **files):
    for name, text in files.items():
        (folder / f"{name}.json").write_text(text)
    if track:
        git(folder, "add", "-A")
    git(folder, "commit", "--allow-empty", "-m", subject, at=at)
    return git(folder, "rev-parse", "--short", "HEAD")


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A checkout with four commits; `numbers.json` comes with the second and changes with the fourth."""
    monkeypatch.setenv("VAEFX_HOME", str(tmp_path))
    git(tmp_path, "init", "-q")
    commit(tmp_path, "one", "2026-11-01 23:30:00", other="{}")
    commit(tmp_path, "two\n\nIts body.", "2026-11-05 00:10:00", numbers="[2]")
    commit(tmp_path, "three\twith a tab, and `marks`", "2026-11-05 23:50:00")
    commit(tmp_path, "four", "2026-11-09 12:00:00", numbers="[4]")
    return tmp_path


def subjects(since, until):
    return [commit.subject.split()[0] for commit in versions.commits(since, until)]


def test_a_span_of_days_has_both_of_its_days_whole_whatever_the_time_is_now(home):
    assert subjects("2026-11-05", "2026-11-09") == ["four", "three", "two"]
    assert subjects("2026-11-05", "2026-11-05") == ["three", "two"]
    assert subjects("2026-11-06", "2026-11-08") == []
    assert subjects("2026-01-01", "2026-12-31") == ["four", "three", "two", "one"]
    assert subjects("2026-01-01", "2026-10-31") == []


def test_a_commit_is_told_with_its_hash_its_day_and_its_first_line(home):
    first = versions.commits("2026-11-05", "2026-11-05")[0]
    assert first == versions.Commit(
        git(home, "rev-parse", "--short", "HEAD~1"), "2026-11-05", "three\twith a tab, and `marks`"
    )


def test_since_a_commit_leaves_that_commit_out(home):
    git(home, "tag", "last-report", "HEAD~2")
    assert subjects("last-report", "2026-11-30") == subjects("HEAD~2", "2026-11-30") == ["four", "three"]


def test_merges_are_no_work_of_their_own(home):
    git(home, "checkout", "-q", "-b", "side", "HEAD~1")
    commit(home, "side", "2026-11-10 12:00:00", side="{}")
    git(home, "merge", "-q", "-m", "merge", "@{-1}", at="2026-11-10 13:00:00")
    assert subjects("2026-11-09", "2026-11-10") == ["side", "four"]


@pytest.mark.parametrize(
    "since, text, subject",
    [
        ("2026-11-09", "[2]", "three"),  # the last commit of the days before, whoever wrote the file
        ("2026-11-10", "[4]", "four"),
        ("HEAD~2", "[2]", "two"),
        ("2026-11-03", "[2]", "two"),  # there was none yet: its first version
        ("2026-01-01", "[2]", "two"),
    ],
)
def test_before_is_the_version_at_the_start_of_the_span_or_the_first_there_is(home, since, text, subject):
    (home / "numbers.json").write_text("[edited]")
    found, stored = versions.before(home / "numbers.json", since, "2026-11-30")
    assert (stored, found.subject.split()[0]) == (text, subject)


def test_there_is_nothing_before_a_file_that_git_has_not(home):
    (home / "new.json").write_text("[]")
    assert versions.before(home / "new.json", "2026-11-09", "2026-11-30") is None
    assert versions.before(home / "numbers.json", "2026-01-01", "2026-11-02") is None


def test_uncommitted_files_are_counted_and_untracked_ones_are_not(home):
    assert versions.uncommitted() == 0
    (home / "numbers.json").write_text("[edited]")
    (home / "new.json").write_text("[]")
    assert versions.uncommitted() == 1


def test_a_folder_that_is_no_checkout_or_lies_within_another_is_told_apart(home, monkeypatch):
    within = home / "elsewhere"
    within.mkdir()
    for folder in (within, home / "absent"):
        monkeypatch.setenv("VAEFX_HOME", str(folder))
        with pytest.raises(NoCheckout, match=f"{folder.name} is no git checkout"):
            versions.commits("2026-11-05", "2026-11-09")
        with pytest.raises(NoCheckout, match="is no git checkout"):
            versions.uncommitted()


def test_a_machine_without_git_is_told(home, monkeypatch):
    monkeypatch.setenv("PATH", str(home))
    with pytest.raises(NoCheckout, match="git is not installed"):
        versions.commits("2026-11-05", "2026-11-09")


def test_a_checkout_without_any_commit_has_none(tmp_path, monkeypatch):
    monkeypatch.setenv("VAEFX_HOME", str(tmp_path))
    git(tmp_path, "init", "-q")
    assert versions.commits("2026-11-05", "2026-11-09") == []
    assert versions.before(tmp_path / "a.json", "2026-11-05", "2026-11-09") is None
    assert versions.uncommitted() == 0


@pytest.mark.parametrize("since", ["last tuesday", "0123456", "", "--all"])
def test_what_is_neither_a_day_nor_a_commit_is_refused_by_name(home, since):
    with pytest.raises(ValueError, match=f"since is {since!r}: it must be a day such as 2026-11-19, or a commit"):
        versions.commits(since, "2026-11-30")


def test_the_versions_of_a_file_come_newest_first_with_their_commits(home):
    found = [(commit.subject, text) for commit, text in versions.history(home / "numbers.json")]
    assert found == [("four", "[4]"), ("two", "[2]")]
    git(home, "rm", "-q", "numbers.json")
    commit(home, "five", "2026-11-10 12:00:00")
    assert [commit.day for commit, _ in versions.history(home / "numbers.json")] == ["2026-11-09", "2026-11-05"]
    assert list(versions.history(home / "never.json")) == []


def test_where_there_is_no_checkout_a_file_has_no_versions_to_tell_of(tmp_path, monkeypatch):
    monkeypatch.setenv("VAEFX_HOME", str(tmp_path))
    with pytest.raises(NoCheckout):
        next(versions.history(tmp_path / "numbers.json"))
