"""Rendered pairs on disk: shards that are whole or absent, a manifest, and the `Dataset` that reads them.

A folder holds `shard-00000.npy`, float32 (pairs, 2, samples); beside it `shard-00000.json` with its rows, sha256 and
fingerprint, written after it, so that a shard with rows is whole; and `manifest.json`, written when all are there. The
manifest lists the shards and not their rows, so that nothing about writing a data set grows with its size.
"""

from __future__ import annotations

import errno
import fcntl
import functools
import hashlib
import json
import math
import mmap
import os
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vaefx_lib import store

MANIFEST = "manifest.json"
PLAN = "plan.json"  # what the workers need to know; see `rendering.py`
PAGE = 4096  # bytes
CHUNK_PAIRS = 8  # are written at once, while the next ones are made
LEFTOVERS = (".shard-*", f".{MANIFEST}.*", f".{PLAN}.*")  # half written by a process that was killed

_local = threading.local()  # see `_buffer`


@dataclass(frozen=True, eq=False)
class Dataset:
    """Rendered pairs on disk. `dataset[i]` reads pair `i`, float32 of shape (2, samples): dry and wet.

    Attributes
    ----------
    folder : Path
    shards : list of dict
        What the manifest says of each shard: file, pairs, bytes, sha256 of it and of its rows.
    sample_rate_hz : int
    fingerprint : str
        Of everything that the pairs depend on.
    quarantine : list of dict
        What failed while they were rendered, each with its reason: recordings that could not be read, and draws on
        which an effect crashed, hung or gave NaN.
    """

    folder: Path
    shards: list[dict]
    sample_rate_hz: int
    fingerprint: str
    quarantine: list[dict]

    def __len__(self) -> int:
        return sum(shard["pairs"] for shard in self.shards)

    def __getitem__(self, index: int) -> np.ndarray:
        if not -len(self) <= index < len(self):
            raise IndexError(f"pair {index}: there are {len(self)}")
        number, row = divmod(int(index) % len(self), self.shards[0]["pairs"])
        shard = self.audio[number]
        size = math.prod(shard.shape[1:])
        start = shard.offset + row * size * shard.itemsize  # read, not mapped: a pass over all leaves no pages behind
        return np.fromfile(shard.filename, shard.dtype, size, offset=start).reshape(shard.shape[1:])

    @functools.cached_property
    def audio(self) -> list[np.ndarray]:
        """The shards in order, memory-mapped, each float32 of shape (pairs, 2, samples)."""
        return [np.load(self.folder / shard["file"], mmap_mode="r") for shard in self.shards]

    @functools.cached_property
    def rows(self) -> list[dict]:
        """One per pair; see `pairs.render_pair`. Read at the first use.

        Raises
        ------
        DamagedFile
            If a file of rows has changed since it was written.
        """
        rows = []
        for shard in self.shards:
            path = (self.folder / shard["file"]).with_suffix(".json")
            if not path.is_file() or store.sha256(path) != shard["rows_sha256"]:
                raise store.DamagedFile(f"{path} is missing or has changed since it was written: render again")
            rows += store.read_json(path)["rows"]
        return rows

    @property
    def effect_names(self) -> np.ndarray:
        """Name of each pair's effect, shape (n,)."""
        return np.array([row["effect"] for row in self.rows])

    @property
    def speakers(self) -> np.ndarray:
        """Speaker of each pair, shape (n,)."""
        return np.array([row["speaker"] for row in self.rows])

    @property
    def settings(self) -> list[np.ndarray]:
        """Settings of each pair in [0, 1], in the order of its effect's parameters."""
        return [np.array(row["settings"]) for row in self.rows]


def load(folder: str | Path, *, verify: bool = False) -> Dataset:
    """The pairs that `render` wrote into a folder, memory-mapped.

    Parameters
    ----------
    folder : path
    verify : bool
        Read every shard and compare its sha256; otherwise only sizes are compared.

    Raises
    ------
    DamagedFile
        If the manifest or a shard is missing, cut short or changed; the message names it.
    """
    folder = Path(folder)
    if not (folder / MANIFEST).is_file():
        raise store.DamagedFile(f"{folder} holds no finished pairs ({MANIFEST} is missing): render them first")
    manifest = store.read_json(folder / MANIFEST)
    missing = [key for key in ("fingerprint", "sample_rate_hz", "quarantine", "shards") if key not in manifest]
    if missing:
        raise store.DamagedFile(f"{folder / MANIFEST} lacks {', '.join(missing)}: delete it and render again")
    for entry in manifest["shards"]:
        path = folder / entry["file"]
        if not path.is_file():
            raise store.DamagedFile(f"{path} is missing: render again")
        if path.stat().st_size != entry["bytes"]:
            found = path.stat().st_size
            raise store.DamagedFile(f"{path} holds {found} bytes, not {entry['bytes']}: delete it and render again")
        if verify and store.sha256(path) != entry["sha256"]:
            raise store.DamagedFile(f"{path} has changed since it was rendered (sha256): delete it and render again")
    kept = (manifest[key] for key in ("shards", "sample_rate_hz", "fingerprint", "quarantine"))
    return Dataset(folder, *kept)


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
