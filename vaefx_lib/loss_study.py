"""What the loss of a VAE weighs against what, seen in dozens of trainings that take a second each. Notebook 07.

The network maps coefficients of `study_clips.Clips` to coefficients. Each training can be held against the exact
solution of the linear VAE.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from vaefx_lib import config, loss_theory, runs, store, study_clips, vae
from vaefx_lib.study_clips import Clips

LATENT_DIM, HIDDEN = 32, 256
EPOCHS, BATCH, LEARNING_RATE = 16, 128, 5e-3
REDUCTIONS = ("sum", "mean")
SCHEDULES = ("constant", "warm-up", "cyclic")
CYCLES = 4


@dataclass(frozen=True)
class Recipe:
    """One training. The loss is error + beta * KL, `reduction` says of what kind the error is."""

    beta: float = 1.0
    reduction: str = "sum"  # of the squared errors over the values of a clip: one of REDUCTIONS
    schedule: str = "constant"  # of beta over the steps: one of SCHEDULES
    sample: bool = True  # False with beta 0 is a plain autoencoder
    seed: int = 0

    def __post_init__(self):
        for name, known in (("reduction", REDUCTIONS), ("schedule", SCHEDULES)):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} is {getattr(self, name)!r}: it must be one of {', '.join(known)}")
        if not 0 <= self.beta < float("inf"):
            raise ValueError(f"beta is {self.beta}: it must be finite and not below 0")


def beta_weight(schedule: str, progress: float) -> float:
    """Share of beta, 0 to 1, at `progress`, 0 to 1, of the training.

    `warm-up` rises over the first half (Bowman et al., 2016), `cyclic` does so in each of four cycles (Fu et al.,
    Cyclical Annealing Schedule, 2019).
    """
    if schedule == "constant":
        return 1.0
    return min(1.0, 2 * (progress * CYCLES % 1 if schedule == "cyclic" else progress))


# --- training ---------------------------------------------------------------------------------------------------------
class Encoder(nn.Module):
    """Coefficients (batch, components) -> mu and logvar, each (batch, LATENT_DIM)."""

    def __init__(self, components: int, scale: float):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(components, HIDDEN), nn.GELU(), nn.Linear(HIDDEN, 2 * LATENT_DIM))
        self.scale = scale

    def forward(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Mu and logvar."""
        mu, logvar = self.layers(y / self.scale).chunk(2, dim=1)
        return mu, logvar


class Decoder(nn.Module):
    """Latent vectors (batch, LATENT_DIM) -> coefficients (batch, components)."""

    def __init__(self, components: int, scale: float):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(LATENT_DIM, HIDDEN), nn.GELU(), nn.Linear(HIDDEN, components))
        self.scale = scale

    def forward(self, z: Tensor) -> Tensor:
        """Coefficients."""
        return self.layers(z) * self.scale


def train(clips: Clips, recipe: Recipe) -> tuple[vae.JointVae, dict[str, np.ndarray]]:
    """All of a training: what the network sees, the loss, the steps, and what is noted of each epoch.

    Returns
    -------
    model : JointVae
        In eval mode.
    history : dict
        `beta` and `mse`, shape (epochs,), and `kl` in nats, shape (epochs, LATENT_DIM): means over the epoch's steps.
    """
    torch.manual_seed(recipe.seed)
    y = clips.coefficients["train"]
    components, scale = y.shape[1], float(y.std())
    model = vae.JointVae(Encoder(components, scale), Decoder(components, scale))
    size = min(BATCH, len(y))
    steps = EPOCHS * (len(y) // size)
    optimiser = torch.optim.AdamW(model.parameters(), LEARNING_RATE, fused=True)
    rate = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, LEARNING_RATE, total_steps=steps + 1, pct_start=0.1, cycle_momentum=False
    )
    step, rows = 0, []
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(y))[: len(y) // size * size].reshape(-1, size):
            mu, logvar = model.encode(y[batch])
            y_hat = model.decode(vae.reparameterize(mu, logvar, sample=recipe.sample))
            error = vae.reconstruction_error(y[batch], y_hat)
            kl = vae.kl_per_dimension(mu, logvar)
            beta = recipe.beta * beta_weight(recipe.schedule, step / steps)
            loss = (error / clips.size if recipe.reduction == "mean" else error) + beta * kl.sum()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            rate.step()
            step += 1
            rows.append(torch.cat([torch.tensor([beta, error.detach()]), kl.detach()]))
    table = torch.stack(rows).reshape(EPOCHS, -1, 2 + LATENT_DIM).mean(dim=1).numpy()
    return model.eval(), {
        "beta": table[:, 0],
        "mse": (table[:, 1] + clips.left_out["train"]) / clips.size,
        "kl": table[:, 2:],
    }


@torch.inference_mode()
def measure(clips: Clips, model: vae.JointVae, *, count: int = 400, seed: int = 0) -> dict[str, np.ndarray]:
    """How a trained network rebuilds unseen speakers, what it says of them, and what it invents.

    Parameters
    ----------
    clips : Clips
    model : JointVae
    count : int
        Samples that are drawn.
    seed : int
        Of the samples: the same latent vectors for every model.

    Returns
    -------
    dict
        `train_mse`, `test_mse` (from mu) and `test_mse_drawn` (from a draw); of the test pairs, each of shape
        (LATENT_DIM,), `kl` in nats, `sigma` (mean of the posterior's deviation) and `mu_std`; `samples`, coefficients
        (count, components) decoded from N(0, 1); and the energy distances to the test pairs, in the first LATENT_DIM
        components: `prior_distance` of those samples, `fitted_distance` of samples decoded from a Gaussian that was
        fitted to the mu of the training pairs (Ghosh et al., From Variational to Deterministic Autoencoders, 2020),
        `rebuilt_distance` of the rebuilt test pairs themselves.
    """
    torch.manual_seed(seed)
    z = torch.randn(count, LATENT_DIM)
    posterior = {subset: model.encode(clips.coefficients[subset]) for subset in ("train", "test")}
    values, vectors = torch.linalg.eigh(torch.cov(posterior["train"][0].T))
    fitted = posterior["train"][0].mean(dim=0) + z @ (vectors * values.clamp(min=0).sqrt()).T

    def mse(subset: str, *, sample: bool) -> float:
        y_hat = model.decode(vae.reparameterize(*posterior[subset], sample=sample))
        return clips.mse(subset, float(vae.reconstruction_error(clips.coefficients[subset], y_hat)))

    mu, logvar = posterior["test"]
    sets = {"prior": model.decode(z), "fitted": model.decode(fitted), "rebuilt": model.decode(mu)}
    real = clips.coefficients["test"][:, :LATENT_DIM]
    return {
        "train_mse": mse("train", sample=False),
        "test_mse": mse("test", sample=False),
        "test_mse_drawn": mse("test", sample=True),
        "kl": vae.kl_per_dimension(mu, logvar).numpy(),
        "sigma": (0.5 * logvar).exp().mean(dim=0).numpy(),
        "mu_std": mu.std(dim=0).numpy(),
        "samples": sets["prior"].numpy(),
        **{f"{name}_distance": study_clips.energy_distance(some[:, :LATENT_DIM], real) for name, some in sets.items()},
    }


def run(preset_name: str, clips: Clips, recipe: Recipe) -> dict[str, np.ndarray]:
    """`train` and `measure`, kept in `runs/<preset>/study`; names of the history begin with `history_`."""

    def compute() -> dict[str, np.ndarray]:
        model, history = train(clips, recipe)
        return {**measure(clips, model), **{f"history_{name}": values for name, values in history.items()}}

    sources = [Path(str(module.__file__)) for module in (vae, study_clips)]
    y = [some.numpy() for some in clips.coefficients.values()]
    key = store.fingerprint(dataclasses.asdict(recipe), *y, list(clips.left_out.values()), *sources, Path(__file__))
    kind = recipe.schedule if recipe.sample else "autoencoder"
    name = f"loss_{recipe.reduction}_{recipe.beta:g}_{kind}_{recipe.seed}.safetensors"
    return store.cached(config.run_dir(preset_name) / "study" / name, key, compute)


def sweep(preset_name: str, clips: Clips, recipes: Sequence[Recipe]) -> dict[str, np.ndarray]:
    """The numbers of many runs, each column of shape (recipes,).

    Returns
    -------
    dict
        `beta`, all scalars of `measure`, `kl` in nats in all, `active` dimensions and the mean `sigma`; the last three
        are NaN for a plain autoencoder, which has no posterior. `objective` is the loss per value of a test pair, with
        the beta that it had in the end.
    """
    rows = []
    for recipe in recipes:
        one = run(preset_name, clips, recipe)
        row = {name: float(value) for name, value in one.items() if value.ndim == 0}
        nats = one["kl"]
        posterior = (nats.sum(), (nats > runs.ACTIVE_NATS).sum(), one["sigma"].mean())
        row |= zip(("kl", "active", "sigma"), posterior if recipe.sample else (np.nan,) * 3, strict=True)
        beta = loss_theory.effective_beta(recipe.beta, recipe.reduction, clips.size)
        rows.append({"beta": recipe.beta, "objective": row["test_mse_drawn"] + beta * row["kl"] / clips.size, **row})
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def summary(columns: dict[str, np.ndarray], rows: slice | Sequence[int] = slice(None)) -> dict[str, dict[str, float]]:
    """Mean and deviation over seeds of some rows of what `sweep` gave, for `figures.record`; without what is NaN."""
    chosen = {name: values[rows] for name, values in columns.items() if name != "beta"}
    chosen = {name: values for name, values in chosen.items() if np.isfinite(values).all()}
    return {
        name: {"mean": float(v.mean()), "std": float(v.std(ddof=1)) if v.size > 1 else 0.0}
        for name, v in chosen.items()
    }
