"""Every file of a corpus, read strictly; the verdicts are kept, so that an unchanged file is not read again."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import joblib
import soundfile

from vaefx_lib import audio, audio_faults, store

SETTLED_S = 2.0  # a file changed more recently may change again without a trace: clocks of file systems are coarse
SAVE_EVERY_S = 30.0
TELL_EVERY_S = 5.0

_checksums: dict[Path, tuple[list[int], str]] = {}  # stamp and SHA-256 of what this process has read or looked up


@dataclass(frozen=True)
class Verdict:
    """What came of reading a file: `damaged` says why it is of no use, or is "" and the rest is known."""

    damaged: str = ""
    duration_s: float = 0.0
    sample_rate_hz: int = 0
    channels: int = 0
    sha256: str = ""


def read(paths: Sequence[Path], index: Path) -> dict[Path, Verdict]:
    """Read files from begin to end with `audio.load`, in threads; a bad one never stops the others.

    Parameters
    ----------
    paths : sequence of Path
    index : Path
        A JSON file with the verdicts of earlier calls, updated here. One counts as long as the file has the same size
        and times and was read by the same code. If the index cannot be written, that is said on stderr.

    Returns
    -------
    dict of Path to Verdict
        In the order of `paths`.
    """
    known, kept, verdicts, waiting, done = _load(index), {}, {}, [], []
    for path in paths:
        row = known.get(str(path))
        if row and row[:3] == _stamp(path):
            kept[str(path)] = row
            verdicts[path] = Verdict(*row[3:])
        else:
            waiting.append(path)

    def noted(path: Path) -> tuple[Path, list[int] | None, Verdict]:
        found = _read(path)
        done.append(found)  # if all breaks off, what has been read but not been taken yet is kept too
        return found

    def settled() -> dict[str, list]:
        rows = {str(path): [*stamp, *dataclasses.astuple(verdict)] for path, stamp, verdict in list(done) if stamp}
        return kept | rows

    begun = told = saved = time.monotonic()
    readers = joblib.Parallel(joblib.cpu_count(), prefer="threads", batch_size=1, return_as="generator_unordered")
    try:
        for path, _, verdict in readers(joblib.delayed(noted)(path) for path in waiting):
            verdicts[path] = verdict
            now = time.monotonic()
            if now - told > TELL_EVERY_S:
                told = now
                print(
                    f"{len(verdicts):,} of {len(paths):,} files read after {now - begun:.0f} s",
                    file=sys.stderr,
                    flush=True,
                )
            if now - saved > SAVE_EVERY_S:
                saved = now
                _save(index, settled())
    finally:
        kept = settled()
        if waiting or len(kept) < len(known):
            _save(index, kept)
    for path, verdict in verdicts.items():
        if verdict.sha256 and str(path) in kept:
            _checksums[path] = (kept[str(path)][:3], verdict.sha256)
    return {path: verdicts[path] for path in paths}


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file as it is now; if `read` knows it and it has not changed, it is not read again."""
    stamp, checksum = _checksums.get(path, (None, ""))
    return checksum if stamp and stamp == _stamp(path) else store.sha256(path)


def _read(path: Path) -> tuple[Path, list[int] | None, Verdict]:
    """A file's verdict and the stamp under which it may be kept, None if it may not."""
    began, stamp = time.time(), _stamp(path)
    try:
        sound, rate = audio.load(path)
        verdict = Verdict("", sound.shape[1] / rate, rate, sound.shape[0], store.sha256(path))
    except OSError as error:  # it went away or was locked between the two readings
        return path, None, Verdict(f"cannot be read: {error.strerror}")
    except audio.AudioError as error:
        verdict = Verdict(str(error).removeprefix(f"{path} "))
        if isinstance(error.__cause__, OSError):  # who may read a file is no property of it
            stamp = None
    settled = stamp and max(stamp[1:]) < (began - SETTLED_S) * 1e9
    return path, stamp if settled else None, verdict


def _stamp(path: Path) -> list[int] | None:
    """Size in bytes, and times of the last change of content and of anything in ns; None if there is nothing."""
    try:
        about = os.stat(path)
    except OSError:
        return None
    return [about.st_size, about.st_mtime_ns, about.st_ctime_ns]


@functools.cache
def _rules() -> str:
    """Fingerprint of the code that judges: verdicts of other code do not count."""
    code = [Path(audio.__file__), Path(audio_faults.__file__), Path(__file__)]
    return store.fingerprint(*code, soundfile.__version__, soundfile.__libsndfile_version__)


def _load(index: Path) -> dict[str, list]:
    if not os.path.exists(index):  # unlike Path.exists, it takes a folder that may not be entered
        return {}
    try:
        stored = store.read_json(index)
    except store.DamagedFile as error:
        print(f"every file is read again: {error}", file=sys.stderr)
        return {}
    return stored["files"] if stored["rules"] == _rules() else {}


def _save(index: Path, files: dict[str, list]) -> None:
    if not files and not os.path.exists(index):
        return
    try:
        with store.atomic(index) as temporary:  # without the indentation of store.write_json: it may be large
            temporary.write_text(json.dumps({"rules": _rules(), "files": files}, separators=(",", ":")))
    except OSError as error:
        print(f"the verdicts on the files are not kept: {error}", file=sys.stderr)
