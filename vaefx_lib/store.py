"""Files that are whole or absent: atomic writes, checksums, and arrays kept under a fingerprint."""

from __future__ import annotations

import ast
import fcntl
import functools
import hashlib
import json
import math
import mmap
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save


class DamagedFile(ValueError):
    """A stored file is missing, cut short or changed: its sha256 is not the one in its manifest."""


@contextmanager
def atomic(path: str | Path):
    """Give a temporary path beside `path`; rename it into place on success, remove it on any error.

    Raises
    ------
    OSError
        If it cannot be written; the message names `path`.

    Examples
    --------
    >>> with atomic("a.txt") as temporary:  # doctest: +SKIP
    ...     temporary.write_text("whole")
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix)
    os.close(handle)
    os.chmod(name, 0o644)
    try:
        yield Path(name)
        os.replace(name, path)
    except OSError as error:
        if error.strerror:
            raise OSError(error.errno, f"could not write {path}: {error.strerror}") from error
        raise
    finally:
        Path(name).unlink(missing_ok=True)


@contextmanager
def alone(path: str | Path):
    """Wait until no other process holds this file, and hold it: for what must not be made twice at a time.

    Parameters
    ----------
    path : path
        Of an empty file that stays there; its folder is made.
    """
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # given back with the file, even by a process that is killed
        yield


def once(folder: str | Path, key: str, load: Callable, make: Callable):
    """What is in a folder if it was made under this fingerprint, else what is made now: by one process at a time.

    Parameters
    ----------
    folder : path
        Of a trained model; the file that is held lies beside it.
    key : str
        Its fingerprint, as in ``load().about["fingerprint"]``.
    load : callable
        Reads the folder, or raises DamagedFile.
    make : callable
        Trains, fills the folder and gives back the same.
    """
    folder = Path(folder)
    with alone(folder.parent / f".{folder.name}.lock"):
        try:
            found = load()
            if found.about["fingerprint"] == key:
                return found
        except DamagedFile:
            pass  # absent, damaged, or made of something else
        return make()


def scratch(folder: str | Path, shape: tuple[int, ...], dtype) -> np.ndarray:
    """An array of zeros in a file without a name in `folder`: memory that the system can put on disk when it is short.

    It goes with the last reference to it, even if the process is killed.

    Raises
    ------
    OSError
        If there is not enough room; all of it is taken at once, as a mapped file that cannot grow ends the process.
    """
    size = max(1, math.prod(shape)) * np.dtype(dtype).itemsize
    Path(folder).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as file:
        try:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
            else:  # macOS
                for start in range(0, size, 2**24):
                    file.write(bytes(min(2**24, size - start)))
                file.flush()
        except OSError as error:
            raise OSError(error.errno, f"no room for {size / 1e6:,.0f} MB in {folder}: {error.strerror}") from error
        return np.ndarray(shape, dtype, mmap.mmap(file.fileno(), size))


def write_json(path: str | Path, value) -> None:
    """Write `value` as indented JSON, atomically."""
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path: str | Path):
    """Read a JSON file.

    Raises
    ------
    DamagedFile
        If the file is missing or not JSON.
    """
    try:
        return json.loads(Path(path).read_text())
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DamagedFile(f"{path} cannot be read: {error}") from error


def read_manifest(path: Path, keys: Sequence[str], files: Sequence[str], *, absent: str) -> dict:
    """The manifest of a trained network, after a look whether the files beside it are whole.

    Parameters
    ----------
    path : Path
    keys : sequence of str
        What it must tell; `sha256`, of each of the files, is one of them.
    files : sequence of str
        Names of the files.
    absent : str
        What the error says if there is no manifest.

    Raises
    ------
    DamagedFile
        If there is none, it is of another kind, or a file is missing or has changed.
    """
    if not path.is_file():
        raise DamagedFile(absent)
    about = read_json(path)
    if not isinstance(about, dict) or not {*keys} <= about.keys():
        raise DamagedFile(f"{path} lacks some of {', '.join(keys)}: train again")
    for file in (path.with_name(name) for name in files):
        if not file.is_file() or sha256(file) != about["sha256"].get(file.name):
            raise DamagedFile(f"{file} is missing or has changed since it was written: train again")
    return about


def write_arrays(path: str | Path, arrays: Mapping[str, np.ndarray], metadata: dict[str, str] | None = None) -> None:
    """Write named arrays as safetensors, atomically.

    Raises
    ------
    OSError
        If they cannot be written, no space left included.
    """
    data = save({name: np.asarray(array, order="C") for name, array in arrays.items()}, metadata=metadata)
    with atomic(path) as temporary:
        temporary.write_bytes(data)  # not save_file, whose error on a full disk is no OSError


def sha256(path: str | Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_name(name: str) -> str:
    """A name of an effect, or one that holds it, as a part of a file's name."""
    return name.replace(":", "_").replace("/", "_")


def fingerprint(*parts) -> str:
    """SHA-256 over texts, numbers, arrays and the contents of paths: equal parts give an equal fingerprint.

    Of Python sources the code counts, and not what it says of itself: comments, docstrings and layout.
    """
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, Path):
            data = _code(part.read_bytes()) if part.suffix == ".py" else sha256(part).encode()
        elif isinstance(part, np.ndarray):
            data = f"{part.dtype}{part.shape}".encode() + np.ascontiguousarray(part).tobytes()
        else:
            data = json.dumps(part, sort_keys=True).encode()
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()


@functools.cache
def _code(source: bytes) -> bytes:
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree).encode()


def cached(path: str | Path, key: str, compute: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The arrays stored at `path` if they were stored under `key`, else `compute()`, which is then stored.

    A file that cannot be read, has changed since, or was stored under another key, is computed again.
    """
    path = Path(path)
    if path.exists():
        try:
            with safe_open(path, framework="np") as file:
                about = file.metadata() or {}
                if about.get("key") == key:
                    arrays = {name: file.get_tensor(name) for name in file.keys()}
                    if about.get("arrays") == _fingerprint_of_named(arrays):
                        return arrays
                    print(f"{path} has changed since it was written: computing it again")
        except (SafetensorError, OSError) as error:
            print(f"{path} is damaged ({error}): computing it again")
    arrays = {name: np.asarray(array, order="C") for name, array in compute().items()}
    write_arrays(path, arrays, {"key": key, "arrays": _fingerprint_of_named(arrays)})
    return arrays


def _fingerprint_of_named(arrays: dict[str, np.ndarray]) -> str:
    return fingerprint(*(part for name in sorted(arrays) for part in (name, arrays[name])))
