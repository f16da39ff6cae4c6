"""Unfinished training on disk: everything that goes on from there, in one file that cannot run code.

Tensors are stored as safetensors; all the rest is JSON in the file's header, with a checksum over both. Lightning's own
checkpoints are pickles, which run what they hold.
"""

from __future__ import annotations

import hashlib
import json
from importlib.metadata import version
from pathlib import Path

import torch
from lightning.fabric.plugins.io.checkpoint_io import CheckpointIO
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.utilities import rank_zero_only
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from vaefx_lib import store


def write(path: str | Path, state, key: str) -> None:
    """Store nested dicts, lists and tuples of tensors, numbers, texts and None, atomically.

    Parameters
    ----------
    path : path
    state : dict
    key : str
        What `key_of` shall give.

    Raises
    ------
    TypeError
        If something else is in `state`; the message names where.
    OSError
        If the file cannot be written, no space left included.
    """
    tensors = {}
    text = json.dumps(_pack(state, "state", tensors))
    data = save(tensors, metadata={"key": key, "state": text, "sha256": _sha256(text, tensors)})
    with store.atomic(path) as temporary:
        temporary.write_bytes(data)


def read(path: str | Path) -> dict:
    """What `write` stored.

    Raises
    ------
    DamagedFile
        If the file is missing, cut short or changed.
    """
    text, tensors, expected = "", {}, None
    try:
        with safe_open(path, framework="pt") as file:
            about = file.metadata() or {}
            text, expected = about.get("state", ""), about.get("sha256")
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except (SafetensorError, OSError) as error:
        raise store.DamagedFile(f"{path} cannot be read ({error}): delete it and train from the start") from error
    if expected != _sha256(text, tensors):
        raise store.DamagedFile(f"{path} has changed since it was written: delete it and train from the start")
    return _unpack(json.loads(text), tensors)


def key_of(path: str | Path) -> str | None:
    """The key that a file was stored under; None if it cannot be read."""
    try:
        with safe_open(path, framework="pt") as file:
            return (file.metadata() or {}).get("key")
    except (SafetensorError, OSError):
        return None


class CheckpointFile(CheckpointIO):
    """Lightning's way to `write` and `read`."""

    def __init__(self, key: str):
        self.key = key

    def save_checkpoint(self, checkpoint, path, storage_options=None) -> None:
        """Called in one process only."""
        write(path, checkpoint, self.key)

    def load_checkpoint(self, path, map_location=None, weights_only=None) -> dict:
        """Tensors are on the CPU; Lightning moves them."""
        return read(path)

    def remove_checkpoint(self, path) -> None:
        """Delete it."""
        Path(path).unlink(missing_ok=True)


class Unfinished(Checkpoint):
    """Stores the training at the end of each epoch, together with the state of torch's generators.

    Parameters
    ----------
    folder : Path
        For `checkpoint.safetensors`.
    fingerprint : str
        Of choices, data and code: training goes on under the same one only, and with the same versions of its tools.
    """

    def __init__(self, folder: Path, fingerprint: str):
        versions = [version(name) for name in ("torch", "lightning")]
        self.path = folder / "checkpoint.safetensors"
        self.key = store.fingerprint(fingerprint, versions, Path(__file__))
        self.generators: dict | None = None

    def can_resume(self) -> bool:
        """Whether there is training to go on with; says in one line why not.

        Raises
        ------
        DamagedFile
            If the checkpoint has changed since it was written.
        """
        if not self.path.is_file():
            say(f"{self.path} does not exist: training from the start")
            return False
        read(self.path)
        if key_of(self.path) != self.key:
            say(f"{self.path} is of other choices, data or code: training from the start")
            return False
        return True

    def on_train_epoch_end(self, trainer, module):
        """Lightning calls checkpoint callbacks after all others, so that these have their state in order."""
        trainer.save_checkpoint(self.path)

    def state_dict(self) -> dict:
        """The generators: of the CPU, and of each accelerator."""
        return {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state_all()}

    def load_state_dict(self, state: dict) -> None:
        """Keep them until training begins; before that, Lightning may draw from them."""
        self.generators = state

    def on_train_start(self, trainer, module):
        """Set them, and remove what a process that was killed had half written."""
        if trainer.is_global_zero:
            for left in self.path.parent.glob(f".{self.path.name}.*"):
                left.unlink()
        if self.generators is not None:
            torch.set_rng_state(self.generators["cpu"])
            if len(self.generators["cuda"]) == torch.cuda.device_count():
                torch.cuda.set_rng_state_all(self.generators["cuda"])


@rank_zero_only
def say(sentence: str) -> None:
    """Print it, in one of all processes."""
    print(sentence, flush=True)


def _pack(value, name: str, tensors: dict):
    """JSON in place of `value`, whose tensors go to `tensors`."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, torch.Tensor):
        tensors[name] = value.detach().cpu().clone(memory_format=torch.contiguous_format)  # safetensors shares nothing
        return {"tensor": name}
    if isinstance(value, dict) and all(isinstance(key, (str, int)) for key in value):
        return {"dict": [[key, _pack(part, f"{name}/{key!r}", tensors)] for key, part in value.items()]}
    if isinstance(value, (list, tuple)):
        kind = "list" if isinstance(value, list) else "tuple"
        return {kind: [_pack(part, f"{name}/{i}", tensors) for i, part in enumerate(value)]}
    raise TypeError(f"{name} is of type {type(value).__name__}: a checkpoint holds tensors, numbers, texts and None")


def _unpack(packed, tensors: dict):
    """The value that `_pack` was given."""
    if not isinstance(packed, dict):
        return packed
    ((kind, content),) = packed.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "dict":
        return {key: _unpack(part, tensors) for key, part in content}
    parts = [_unpack(part, tensors) for part in content]
    return parts if kind == "list" else tuple(parts)


def _sha256(text: str, tensors: dict) -> str:
    digest = hashlib.sha256(text.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
