"""What is kept of each epoch of training: its numbers, and the best weights so far."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import lightning as L
import numpy as np
import torch

from vaefx_lib import runs
from vaefx_lib.runs import ACTIVE_NATS


class History(L.Callback):
    """Keeps a row per epoch and the best weights, and prints how it goes where there is no bar."""

    def __init__(self, progress: bool, path: Path | None = None):
        self.rows, self.kl = [], []
        self.best_weights: dict | None = None
        self.best = float("inf")
        self.progress, self.begun, self.told = progress, time.monotonic(), time.monotonic()
        self.path = path  # of a CSV file that grows with each epoch

    def columns(self) -> dict[str, np.ndarray]:
        """The rows so far as columns."""
        return {name: np.array([row[name] for row in self.rows]) for name in self.rows[0]}

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        """A line every ten seconds."""
        if self.progress and trainer.progress_bar_callback is None and time.monotonic() - self.told > 10:
            self.told = time.monotonic()
            seconds = self.told - self.begun
            print(f"step {trainer.global_step} of {module.steps} after {seconds:.0f} s", file=sys.stderr, flush=True)

    def on_train_epoch_end(self, trainer, module):
        """The epoch's row; Lightning has validated before this."""
        now = {name: float(value) for name, value in trainer.callback_metrics.items()}
        kl = trainer.strategy.reduce(module.kl_sum / module.kl_count, reduce_op="mean").cpu()
        module.kl_sum, module.kl_count = 0.0, 0
        self.kl.append(kl.numpy())
        row = {"epoch": trainer.current_epoch + 1, **{name: now[name] for name in sorted(now)}}
        row["active_dimensions"] = int((kl > ACTIVE_NATS).sum())
        row["seconds"] = round(time.monotonic() - self.begun, 1)
        self.rows.append(row)
        error = sum(value for name, value in now.items() if name.startswith("valid_mse_"))
        if error < self.best:
            self.best = error
            self.best_weights = {k: v.detach().cpu().clone() for k, v in module.model.state_dict().items()}
        if self.path and trainer.is_global_zero:
            runs.write_history(self.path, self.columns())
        if self.progress:
            scores = ", ".join(f"{name} {value:.4g}" for name, value in row.items() if name != "epoch")
            print(f"epoch {row['epoch']}: {scores}", flush=True)

    def state_dict(self) -> dict:
        """For a checkpoint."""
        kl = [torch.from_numpy(row) for row in self.kl]
        seconds = time.monotonic() - self.begun
        return {"rows": self.rows, "kl": kl, "best": self.best, "best_weights": self.best_weights, "seconds": seconds}

    def load_state_dict(self, state: dict) -> None:
        """Go on from a checkpoint."""
        self.rows, self.kl = state["rows"], [row.numpy() for row in state["kl"]]
        self.best, self.best_weights = state["best"], state["best_weights"]
        self.begun = time.monotonic() - state["seconds"]
