"""Rendered pairs on disk: shards, a manifest, and the `Dataset` that reads them; `shard_writing` writes them.

A folder holds `shard-00000.npy`, float32 (pairs, 2, samples); beside it `shard-00000.json` with its rows, sha256 and
fingerprint; and `manifest.json`, which lists the shards and not their rows.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vaefx_lib import store

MANIFEST = "manifest.json"
PLAN = "plan.json"  # what the workers need to know; see `rendering.py`


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
