"""Rendered pairs on disk: shards that are whole or absent, a manifest, and the `Dataset` that reads them.

A folder holds `shard-00000.npy`, float32 (pairs, 2, samples); beside it `shard-00000.json` with its rows, sha256 and
fingerprint, written after it, so that a shard with rows is whole; and `manifest.json`, written when all are there.
"""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vaefx_lib import store

MANIFEST = "manifest.json"


@dataclass(frozen=True, eq=False)
class Dataset:
    """Rendered pairs on disk. `dataset[i]` reads pair `i`, float32 of shape (2, samples): dry and wet.

    Attributes
    ----------
    audio : list of memory-mapped arrays, float32, shape (pairs, 2, samples)
        The shards, in order.
    rows : list of dict
        One per pair; see `render_pair`.
    sample_rate_hz : int
    fingerprint : str
        Of everything that the pairs depend on.
    """

    audio: list[np.ndarray]
    rows: list[dict]
    sample_rate_hz: int
    fingerprint: str

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> np.ndarray:
        if not -len(self) <= index < len(self):
            raise IndexError(f"pair {index}: there are {len(self)}")
        number, row = divmod(int(index) % len(self), len(self.audio[0]))
        shard = self.audio[number]
        size = math.prod(shard.shape[1:])
        start = shard.offset + row * size * shard.itemsize  # read, not mapped: a pass over all leaves no pages behind
        return np.fromfile(shard.filename, shard.dtype, size, offset=start).reshape(shard.shape[1:])

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
    missing = [key for key in ("fingerprint", "sample_rate_hz", "rows", "shards") if key not in manifest]
    if missing:
        raise store.DamagedFile(f"{folder / MANIFEST} lacks {', '.join(missing)}: delete it and render again")
    shards = []
    for entry in manifest["shards"]:
        path = folder / entry["file"]
        if not path.is_file():
            raise store.DamagedFile(f"{path} is missing: render again")
        if path.stat().st_size != entry["bytes"]:
            found = path.stat().st_size
            raise store.DamagedFile(f"{path} holds {found} bytes, not {entry['bytes']}: delete it and render again")
        if verify and store.sha256(path) != entry["sha256"]:
            raise store.DamagedFile(f"{path} has changed since it was rendered (sha256): delete it and render again")
        shards.append(np.load(path, mmap_mode="r"))
    return Dataset(shards, manifest["rows"], manifest["sample_rate_hz"], manifest["fingerprint"])


def write(path: Path, pairs: np.ndarray, rows: list[dict], fingerprint: str) -> dict:
    """Write one shard, then its rows, each whole or not at all.

    Parameters
    ----------
    path : path
        Ending in .npy.
    pairs : array, float32, shape (pairs, 2, samples)
    rows : list of dict
        One per pair.
    fingerprint : str
        Of everything that the pairs depend on.

    Returns
    -------
    dict
        fingerprint, sha256, bytes, rows: what was written beside the shard.

    Raises
    ------
    OSError
        If a file cannot be written, no space left included; the message names it.
    """
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, np.lib.format.header_data_from_array_1_0(pairs))
    header, data = header.getvalue(), memoryview(np.ascontiguousarray(pairs)).cast("B")
    digest = hashlib.sha256(header)
    digest.update(data)
    with store.atomic(path) as temporary, open(temporary, "wb", buffering=0) as file:
        for part in (memoryview(header), data):  # not np.save, which hides why a write failed
            while part:
                part = part[file.write(part) :]
    shard = {
        "fingerprint": fingerprint,
        "sha256": digest.hexdigest(),
        "bytes": len(header) + len(data),
        "rows": rows,
    }
    store.write_json(path.with_suffix(".json"), shard)
    return shard


def keep_whole(folder: Path, paths: Iterable[Path], fingerprint: str) -> dict[Path, dict]:
    """Those of the shards `paths` that are whole and of this fingerprint, with what `write` gave for each.

    Everything else that a render may have left in the folder is removed: shards of another fingerprint or without
    rows, files half written by a killed process, a manifest of another fingerprint.
    """
    whole = {}
    for path in paths:
        try:
            shard = store.read_json(path.with_suffix(".json"))
            if shard["fingerprint"] == fingerprint and path.stat().st_size == shard["bytes"]:
                whole[path] = shard
        except (store.DamagedFile, OSError, KeyError, TypeError):
            continue  # not whole
    if (_read_manifest(folder) or {}).get("fingerprint") != fingerprint:
        (folder / MANIFEST).unlink(missing_ok=True)  # first, so that no manifest ever speaks of other shards
    for leftover in (*folder.glob(".shard-*"), *folder.glob(f".{MANIFEST}.*")):
        leftover.unlink(missing_ok=True)
    for path in sorted(folder.glob("shard-*")):  # .json before .npy
        if path.with_suffix(".npy") not in whole:
            path.unlink(missing_ok=True)
    return whole


def finish(folder: Path, shards: dict[Path, dict], about: dict) -> None:
    """Write the manifest of all shards, in the order given; a manifest that says the same is left as it is.

    Parameters
    ----------
    folder : path
    shards : dict of path to what `write` gave
    about : dict
        What else the manifest says. If a manifest of these very shards is there, it stands, whatever `about` says.
    """
    rows = [row for shard in shards.values() for row in shard["rows"]]
    entries = [
        {"file": path.name, "pairs": len(shard["rows"]), "bytes": shard["bytes"], "sha256": shard["sha256"]}
        for path, shard in shards.items()
    ]
    fingerprint = next(iter(shards.values()))["fingerprint"]
    old = _read_manifest(folder) or {}
    if old.get("fingerprint") == fingerprint and old.get("shards") == entries and old.get("rows") == rows:
        return
    redraws = {reason: sum(row["redraws"][reason] for row in rows) for reason in rows[0]["redraws"]}
    content = {"fingerprint": fingerprint, **about, "redraws": redraws, "shards": entries, "rows": rows}
    store.write_json(folder / MANIFEST, content)


def _read_manifest(folder: Path) -> dict | None:
    """The manifest, or None if it is missing or unreadable."""
    try:
        manifest = store.read_json(folder / MANIFEST)
    except store.DamagedFile:
        return None
    return manifest if isinstance(manifest, dict) else None
