"""One step of training the joint VAE, as Lightning wants it: the loss, the optimiser, and who is to blame."""

from __future__ import annotations

from typing import Any

import lightning as L
import torch

from vaefx_lib import batches, muon, vae
from vaefx_lib.config import Preset

NAMED = 5  # so many pairs of a batch are named when a loss is not finite


class LitVae(L.LightningModule):
    """What one step of training is. The loss is minimised per input value, which keeps gradients of order one; what
    is logged are the terms of the ELBO: sums over one clip, mean over the batch.
    """

    def __init__(self, model: vae.JointVae, preset: Preset, steps: int, names: dict | None = None):
        super().__init__()
        self.model, self.preset, self.steps = model, preset, steps
        self.names = names or {"train": str, "valid": str}
        self.kl_sum: Any = 0.0  # a tensor from the first batch on, and likewise
        self.valid_sum: Any = 0.0
        self.kl_count = self.valid_count = 0

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], _index: int) -> torch.Tensor:
        """The loss of one batch: x, (batch, channels, frames, bins), and the numbers of its pairs.

        Raises
        ------
        FloatingPointError
            If it is not finite; the message names the pairs.
        """
        x, pairs = batch
        x = self.warped(x)
        x_hat, mu, logvar = self.model(x, self.noise(len(x)).to(x))
        reconstruction = vae.reconstruction_error(x, x_hat)
        kl = vae.kl_per_dimension(mu.float(), logvar.float())
        loss = reconstruction + self.preset.train.beta * kl.sum()
        if not torch.isfinite(loss):
            what = f"the loss is {loss.item()} after {self.global_step} steps, on pairs "
            raise FloatingPointError(what + self.whose("train", pairs, x_hat - x) + ": it must be finite")
        terms = {"train_loss": loss, "train_reconstruction": reconstruction, "train_kl": kl.sum()}
        self.log_dict(terms, on_step=False, on_epoch=True, batch_size=len(x), sync_dist=True)
        self.kl_sum, self.kl_count = self.kl_sum + kl.detach(), self.kl_count + 1
        return loss / x[0].numel()

    def validation_step(self, batch: tuple[torch.Tensor, torch.Tensor], _index: int) -> None:
        """Mean squared error of each channel, from mu; FloatingPointError if it is not finite."""
        x, pairs = batch
        x_hat, _, _ = self.model(x)
        mse = (x_hat - x).square().mean(dim=(0, 2, 3))
        if not torch.isfinite(mse).all():
            what = f"the validation errors are {mse.tolist()}, on pairs "
            raise FloatingPointError(what + self.whose("valid", pairs, x_hat - x) + ": they must be finite")
        self.valid_sum, self.valid_count = self.valid_sum + mse * len(x), self.valid_count + len(x)

    def on_validation_epoch_end(self) -> None:
        """The mean over all pairs, of which processes may have had unequal numbers."""
        count = torch.full_like(self.valid_sum[:1], self.valid_count)
        *sums, count = self.trainer.strategy.reduce(torch.cat([self.valid_sum, count]), reduce_op="sum")
        self.valid_sum, self.valid_count = 0.0, 0
        names = [f"valid_mse_{name}" for name in self.preset.vae.inputs]
        self.log_dict({n: total / count for n, total in zip(names, sums, strict=True)}, sync_dist=True)

    def configure_optimizers(self) -> dict:
        """Muon or AdamW, learning rate in one cycle (Smith and Topin, Super-Convergence, 2018)."""
        rate = self.preset.train.learning_rate
        if self.preset.train.optimiser == "muon":
            optimiser = muon.Muon(self.parameters(), rate)
        else:
            optimiser = torch.optim.AdamW(self.parameters(), rate, betas=(0.9, 0.98), weight_decay=0.01)
        total = self.steps + 1
        rising = max(0.1, 2 / total)  # at least one step: a rise of none divides by zero
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimiser, rate, total_steps=total, pct_start=rising, cycle_momentum=False
        )
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def warped(self, x: torch.Tensor) -> torch.Tensor:
        """The rows of this process, stretched along frequency."""
        train, rank, world = self.preset.train, self.trainer.global_rank, self.trainer.world_size
        if not train.frequency_warp:
            return x
        count = len(x) * world
        factors = batches.warp_factors(train.seed, self.global_step, count, train.frequency_warp)
        return batches.warp(x, factors[batches.share(count, rank, world)])

    def noise(self, rows: int) -> torch.Tensor:
        """The rows of the noise of this step that belong to this process, (rows, latent_dim)."""
        rank, world = self.trainer.global_rank, self.trainer.world_size
        all_rows = batches.noise(self.preset.train.seed, self.global_step, rows * world, self.preset.vae.latent_dim)
        return all_rows[batches.share(rows * world, rank, world)]

    def whose(self, subset: str, pairs: torch.Tensor, error: torch.Tensor) -> str:
        """The first pairs whose own error is not finite, or the first of all."""
        own = ~torch.isfinite(error.flatten(1).square().sum(1))
        numbers = pairs[own].tolist() if own.any() else pairs.tolist()
        named = ", ".join(self.names[subset](number) for number in numbers[:NAMED])
        return named + (f" and {len(numbers) - NAMED} more" if len(numbers) > NAMED else "")
