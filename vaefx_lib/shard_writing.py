"""Writing rendered pairs: shards that are whole or absent, and their manifest.

A shard's rows are written after it, so that a shard with rows is whole, and the manifest when all shards are there. It
lists the shards and not their rows, so that nothing about writing a data set grows with its size.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import math
import mmap
import os
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from vaefx_lib import store
from vaefx_lib.shards import MANIFEST, PLAN

PAGE = 4096  # bytes
CHUNK_PAIRS = 8  # are written at once, while the next ones are made
LEFTOVERS = (".shard-*", f".{MANIFEST}.*", f".{PLAN}.*")  # half written by a process that was killed

_local = threading.local()  # see `_buffer`


def write(path: Path, shape: tuple[int, ...], fill: Callable[[np.ndarray, int], dict], fingerprint: str) -> dict:
    """Make and write one shard, then its rows, each whole or not at all.

    The pairs go to disk while the next ones are made, and past the page cache where the system can do that: a data set
    would push whatever else is there out of memory, and copying a pair costs as much as an effect.

    Parameters
    ----------
    path : path
        Ending in .npy.
    shape : tuple of int
        (pairs, 2, samples).
    fill : callable
        ``fill(pair, i)`` writes pair `i` into `pair`, float32 of shape (2, samples), and returns its row.
    fingerprint : str
        Of everything that the pairs depend on.

    Returns
    -------
    dict
        What `finish` needs to know of it: file, pairs, bytes, sha256, rows_sha256, redraws, quarantine.

    Raises
    ------
    OSError
        If a file cannot be written, no space left included; the message names it.
    """
    memory, pairs = _buffer(shape)
    rows, digest, at = [], hashlib.sha256(), 0
    with store.atomic(path) as temporary, _file(temporary, pairs[:CHUNK_PAIRS].nbytes, pairs.nbytes) as file:
        with ThreadPoolExecutor(1) as disk:
            written = []
            for start in range(0, len(pairs), CHUNK_PAIRS):
                chunk = range(start, min(start + CHUNK_PAIRS, len(pairs)))
                rows += [fill(pairs[i], i) for i in chunk]
                end = PAGE + (chunk[-1] + 1) * pairs[0].nbytes
                digest.update(memory[at:end])
                written.append(disk.submit(_write_all, file, memory[at:end]))
                at = end
            for part in written:
                part.result()
    about = {"fingerprint": fingerprint, "bytes": at, "sha256": digest.hexdigest()}
    lines = ",\n".join(json.dumps(row, allow_nan=False) for row in rows)
    text = f'{json.dumps(about)[:-1]}, "rows": [\n{lines}\n]}}\n'  # a line per row: ten times as fast as indented
    with store.atomic(path.with_suffix(".json")) as temporary:
        temporary.write_text(text)
    return _summary(path, about, rows, hashlib.sha256(text.encode()).hexdigest())


def _buffer(shape: tuple[int, ...]) -> tuple[memoryview, np.ndarray]:
    """The bytes of a shard, header included, and the array in them; the same memory for each shard of a thread.

    Fresh memory costs as much as half an effect, and only memory that begins on a page goes past the page cache.
    """
    size = PAGE + 4 * math.prod(shape)
    if len(getattr(_local, "buffer", b"")) < size:
        _local.buffer = mmap.mmap(-1, size)
    pairs = np.frombuffer(_local.buffer, np.float32, math.prod(shape), PAGE).reshape(shape)
    header = np.lib.format.header_data_from_array_1_0(pairs)
    magic = np.lib.format.magic(1, 0) + (PAGE - 10).to_bytes(2, "little")
    _local.buffer[:PAGE] = (
        magic + str(header).encode().ljust(PAGE - 11) + b"\n"
    )  # a whole page, so that all begins on one
    return memoryview(_local.buffer)[:size], pairs


@contextmanager
def _file(path: Path, *parts_bytes: int):
    """A file opened for writing, past the page cache if its parts are whole pages and the file system can."""
    direct = 0 if any(size % PAGE for size in parts_bytes) else getattr(os, "O_DIRECT", 0)
    try:
        file = os.open(path, os.O_WRONLY | direct)
    except OSError:
        file = os.open(path, os.O_WRONLY)
    try:
        yield file
    finally:
        os.close(file)


def _write_all(file: int, data: memoryview) -> None:
    while data:
        try:
            data = data[os.write(file, data) :]
        except OSError as error:
            flags, direct = fcntl.fcntl(file, fcntl.F_GETFL), getattr(os, "O_DIRECT", 0)
            if error.errno != errno.EINVAL or not flags & direct:
                raise
            fcntl.fcntl(
                file, fcntl.F_SETFL, flags & ~direct
            )  # only through the page cache, or less than a page is left


def keep_whole(folder: Path, paths: Iterable[Path], fingerprint: str) -> dict[Path, dict]:
    """Those of the shards `paths` that are whole and of this fingerprint, with what `write` gave for each.

    Everything else that a render may have left in the folder is removed: shards of another fingerprint or without
    rows, files half written by a killed process, a manifest of another fingerprint.
    """
    whole = {}
    for path in paths:
        try:
            rows_path = path.with_suffix(".json")
            shard = store.read_json(rows_path)
            if shard["fingerprint"] == fingerprint and path.stat().st_size == shard["bytes"]:
                whole[path] = _summary(path, shard, shard["rows"], store.sha256(rows_path))
        except (store.DamagedFile, OSError, KeyError, TypeError):
            continue  # not whole
    if (_read_manifest(folder) or {}).get("fingerprint") != fingerprint:
        (folder / MANIFEST).unlink(missing_ok=True)  # first, so that no manifest ever speaks of other shards
    for pattern in LEFTOVERS:
        for leftover in folder.glob(pattern):
            leftover.unlink(missing_ok=True)
    for path in sorted(folder.glob("shard-*")):  # .json before .npy
        if path.with_suffix(".npy") not in whole:
            path.unlink(missing_ok=True)
    return whole


def finish(folder: Path, shards: list[dict], fingerprint: str, about: dict) -> None:
    """Write the manifest of all shards, in the order given; a manifest that says the same is left as it is.

    Parameters
    ----------
    folder : path
    shards : list of what `write` gave
    fingerprint : str
    about : dict
        What else the manifest says. If a manifest of these very shards is there, it stands, whatever `about` says.
    """
    entries = [{key: shard[key] for key in ("file", "pairs", "bytes", "sha256", "rows_sha256")} for shard in shards]
    old = _read_manifest(folder) or {}
    if old.get("fingerprint") == fingerprint and old.get("shards") == entries:
        return
    redraws = {reason: sum(shard["redraws"][reason] for shard in shards) for reason in shards[0]["redraws"]}
    quarantine = [failure for shard in shards for failure in shard["quarantine"]]
    content = {"fingerprint": fingerprint, **about, "redraws": redraws, "quarantine": quarantine, "shards": entries}
    store.write_json(folder / MANIFEST, content)


def _summary(path: Path, about: dict, rows: list[dict], rows_sha256: str) -> dict:
    """What a shard's manifest needs of it."""
    return {
        "file": path.name,
        "pairs": len(rows),
        "bytes": about["bytes"],
        "sha256": about["sha256"],
        "rows_sha256": rows_sha256,
        "redraws": {reason: sum(row["redraws"][reason] for row in rows) for reason in rows[0]["redraws"]},
        "quarantine": [{"pair": row["index"], **failure} for row in rows for failure in row.get("quarantine", ())],
    }


def _read_manifest(folder: Path) -> dict | None:
    """The manifest, or None if it is missing or unreadable."""
    try:
        manifest = store.read_json(folder / MANIFEST)
    except store.DamagedFile:
        return None
    return manifest if isinstance(manifest, dict) else None
