"""Loggers beside `history.csv`: Weights & Biases and TensorBoard, each an extra that need not be installed."""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from vaefx_lib import runs
from vaefx_lib.config import Preset

LOGGERS = ("tensorboard", "wandb")


def check(names: Sequence[str]) -> None:
    """Refuse what cannot be used.

    Raises
    ------
    ValueError
        For an unknown logger, or one whose package is not installed; the message says what to install.
    """
    for name in names:
        if name not in LOGGERS:
            raise ValueError(f"unknown logger {name!r}: known are {', '.join(LOGGERS)}")
        if find_spec(name) is None:
            raise ValueError(f"the logger {name} needs the package {name}: install vaefx with the extra [{name}]")


@contextmanager
def opened(names: Sequence[str], folder: Path, preset: Preset, *, resume: bool):
    """Lightning loggers that write into `folder`, told of the preset, and closed at the end.

    Parameters
    ----------
    names : sequence of str
        Of `LOGGERS`; each counts once.
    folder : Path
        The run folder, which gets a sub-folder `wandb` or `tensorboard`. W&B sends nothing over the network if
        WANDB_MODE is "offline"; `wandb sync` can do that later.
    preset : Preset
    resume : bool
        Go on with the record of the interrupted training.

    Raises
    ------
    ValueError
        If `check` fails, or W&B does.
    """
    check(names)
    identity = _identity(folder / runs.UNFINISHED / "record.txt", resume) if names else ""
    made = [_OPEN[name](folder, preset.name, identity) for name in dict.fromkeys(names)]
    try:
        for logger in made:
            logger.log_hyperparams(dataclasses.asdict(preset))
        yield made
    except BaseException:
        _close(made, failed=True)
        raise
    _close(made, failed=False)


def log_media(logger, step: int, sounds: dict[str, np.ndarray], sample_rate_hz: int, pictures: dict) -> None:
    """Give sounds and pictures to a logger that `opened` made.

    Parameters
    ----------
    logger : Logger
    step : int
        Of the optimiser.
    sounds : dict of str to array, shape (samples,)
    sample_rate_hz : int
    pictures : dict of str to array, uint8, shape (height, width, 3)
    """
    if _is_wandb(logger):
        import wandb

        record = {name: wandb.Audio(sound, sample_rate=sample_rate_hz) for name, sound in sounds.items()}
        record |= {name: wandb.Image(picture) for name, picture in pictures.items()}
        logger.experiment.log(record | {"trainer/global_step": step})
        return
    for name, sound in sounds.items():
        logger.experiment.add_audio(name, sound[None], step, sample_rate=sample_rate_hz)
    for name, picture in pictures.items():
        logger.experiment.add_image(name, picture, step, dataformats="HWC")


def _identity(path: Path, resume: bool) -> str:
    """What the record of this training is called; kept in a file, so that an interrupted one goes on under its name."""
    from lightning.pytorch.utilities import rank_zero_only

    if resume and path.is_file():
        return path.read_text()
    identity = secrets.token_hex(4)
    if rank_zero_only.rank == 0:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(identity)
    return identity


def _tensorboard(folder: Path, name: str, identity: str):
    from lightning.pytorch.loggers import TensorBoardLogger

    return TensorBoardLogger(folder, name="tensorboard", version=identity)


def _wandb(folder: Path, name: str, identity: str):
    import wandb
    from lightning.pytorch.loggers import WandbLogger

    folder.mkdir(parents=True, exist_ok=True)
    logger = WandbLogger(name=name, save_dir=folder, id=identity, project="vaefx", resume="allow")
    try:
        logger.experiment  # noqa: B018, connects
    except wandb.errors.Error as error:
        raise ValueError(f"the logger wandb: {error}; log in with `wandb login`, or set WANDB_MODE=offline") from error
    return logger


_OPEN = {"tensorboard": _tensorboard, "wandb": _wandb}


def _is_wandb(logger) -> bool:
    return type(logger).__name__ == "WandbLogger"


def _close(loggers, *, failed: bool) -> None:
    """W&B would otherwise count the next training in this process as the same."""
    for logger in loggers:
        logger.finalize("failed" if failed else "success")
        if _is_wandb(logger):
            logger.experiment.finish(exit_code=int(failed))
