"""Muon: momentum whose matrices are made orthogonal before each step. Torch and nothing else.

A gradient matrix is dominated by a few directions, and so is the step of plain momentum or Adam. Muon gives all its
directions the same length, so the rare ones (the pitch of a voice, the feedback of an echo) are learnt from the first
epoch on. Torch's own `torch.optim.Muon` computes in bfloat16, which processors without it emulate: on such a one a
single 256 x 512 matrix takes 0.4 s. This one stays in float32.
"""

from __future__ import annotations

import torch
from torch import Tensor

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of Jordan's quintic: steep at 0, and near 1 for what has come near 1
ITERATIONS = 5


def orthogonalise(matrix: Tensor) -> Tensor:
    """U V' of the singular value decomposition U S V', approximately: singular values end between 0.7 and 1.2.

    Newton-Schulz iteration, matrix products only.

    Source: Jordan et al., Muon: An optimizer for hidden layers in neural networks (2024).

    Parameters
    ----------
    matrix : Tensor, shape (rows, columns)
    """
    a, b, c = COEFFICIENTS
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / (x.norm() + 1e-7)
    for _ in range(ITERATIONS):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if tall else x


class Muon(torch.optim.Optimizer):
    """Muon for matrices, AdamW for vectors and for everything with more than two axes.

    Parameters
    ----------
    params : iterable of Parameter
    lr : float
        Step of the matrices: largest singular value of a change, times sqrt(rows / columns) if that is above 1.
    vector_lr : float
        Step of all others, as AdamW takes it. A schedule of `lr` moves both alike.
    momentum : float
        Nesterov's, of the matrices.
    betas : pair of float
        Of AdamW.
    weight_decay : float
        Of the matrices, in units of the step (Loshchilov and Hutter, 2019).
    """

    def __init__(self, params, lr: float, *, vector_lr=1e-3, momentum=0.95, betas=(0.9, 0.98), weight_decay=0.01):
        super().__init__(params, {"lr": lr, "ratio": vector_lr / lr, "momentum": momentum, "betas": betas})
        for group in self.param_groups:
            group["weight_decay"] = weight_decay

    @torch.no_grad()
    def step(self, closure=None):
        """One step of all parameters that have a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    (self._matrix if parameter.ndim == 2 else self._vector)(parameter, group)
        return loss

    def _matrix(self, parameter: Tensor, group: dict) -> None:
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        mean = state["momentum"].lerp_(parameter.grad, 1 - group["momentum"])
        rows, columns = parameter.shape
        step = group["lr"] * max(1, rows / columns) ** 0.5
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        parameter.add_(orthogonalise(parameter.grad.lerp(mean, group["momentum"])), alpha=-step)

    def _vector(self, parameter: Tensor, group: dict) -> None:
        state, (beta1, beta2) = self.state[parameter], group["betas"]
        if not state:
            state["step"] = torch.zeros(())
            state["mean"], state["square"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
        state["step"] += 1
        count = state["step"].item()
        mean = state["mean"].lerp_(parameter.grad, 1 - beta1) / (1 - beta1**count)
        square = state["square"].lerp_(parameter.grad.square(), 1 - beta2) / (1 - beta2**count)
        parameter.addcdiv_(mean, square.sqrt().add_(1e-8), value=-group["lr"] * group["ratio"])
