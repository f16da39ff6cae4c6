"""What a loss amounts to without training: the scale of beta, the exact solution of the linear VAE. Notebook 07."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vaefx_lib import runs
from vaefx_lib.study_clips import Clips


def effective_beta(beta: float, reduction: str, size: int) -> float:
    """The beta that does the same with a sum of squared errors: with their mean over `size` values, beta * size.

    mean + beta * KL = (sum + beta * size * KL) / size, and a factor before the whole loss moves no minimum. The noise
    that is implied has a variance of half of this.

    Raises
    ------
    ValueError
        If the reduction is another.
    """
    if reduction not in ("sum", "mean"):
        raise ValueError(f"reduction is {reduction!r}: it must be one of sum, mean")
    return beta * size if reduction == "mean" else beta


def linear_vae(clips: Clips, beta: float, latent_dim: int) -> dict[str, float]:
    """What the best *linear* VAE does at this beta, without training: probabilistic principal components.

    With noise of variance s2 = beta / 2, a component of variance v > s2 gets a latent dimension with posterior
    variance s2 / v and ln(v / s2) / 2 nats, and is rebuilt shrunk by 1 - s2 / v. One with v <= s2 gets none.

    Parameters
    ----------
    clips : Clips
    beta : float
        With a sum of squared errors.
    latent_dim : int

    Returns
    -------
    dict
        `kl` in nats, `active` dimensions, `sigma` (mean over the latent dimensions), `train_mse` and `test_mse`. With
        beta 0 these are the errors of PCA with `latent_dim` components, and `kl` is infinite.

    Source: Tipping and Bishop, Probabilistic Principal Component Analysis (1999); Lucas et al., Don't Blame the ELBO!
    (2019), section 4.
    """
    v = clips.eigenvalues
    variance = np.ones(len(v))  # of the posterior
    variance[:latent_dim] = np.minimum(1, beta / 2 / v[:latent_dim])
    with np.errstate(divide="ignore"):
        nats = -0.5 * np.log(variance)
    second = {subset: clips.coefficients[subset].square().mean(dim=0).numpy() for subset in ("train", "test")}
    return {
        "kl": float(nats.sum()),
        "active": int((nats > runs.ACTIVE_NATS).sum()),
        "sigma": float(np.sqrt(variance[:latent_dim]).mean()),
        **{f"{name}_mse": clips.mse(name, float((squares * variance**2).sum())) for name, squares in second.items()},
    }


def linear_vaes(
    clips: Clips, beta: Sequence[float], latent_dim: int, *, reduction: str = "sum"
) -> dict[str, np.ndarray]:
    """`linear_vae` at each beta, as columns to draw; with the reduction "mean", of the beta that this amounts to."""
    rows = [linear_vae(clips, effective_beta(b, reduction, clips.size), latent_dim) for b in beta]
    return {"beta": np.asarray(beta), **{name: np.array([row[name] for row in rows]) for name in rows[0]}}
