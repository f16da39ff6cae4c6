"""Muon: its steps are orthogonal, it descends where plain steps crawl, and it comes back as it was."""

import copy

import pytest
import torch
from torch import nn

from vaefx_lib import muon


@pytest.mark.parametrize("shape", [(5, 5), (40, 12), (12, 40)])
def test_orthogonalising_keeps_the_directions_and_evens_out_the_lengths(shape):
    torch.manual_seed(0)
    u, _, vt = torch.linalg.svd(torch.randn(shape), full_matrices=False)
    lengths = torch.logspace(0, -1.5, min(shape))
    out = muon.orthogonalise(u * lengths @ vt)
    found = torch.diagonal(u.T @ out @ vt.T)  # in the directions of the matrix
    assert ((found > 0.6) & (found < 1.3)).all()
    assert (u.T @ out @ vt.T - torch.diag(found)).abs().max() < 1e-3  # and in no others


def test_the_scale_of_a_gradient_does_not_matter():
    g = torch.randn(7, 4)
    assert torch.allclose(muon.orthogonalise(g), muon.orthogonalise(1000 * g), atol=1e-4)
    assert torch.equal(muon.orthogonalise(torch.zeros(7, 4)), torch.zeros(7, 4))


def loss_after(make, steps=60):
    """Of a linear map learnt from inputs most of whose directions are rare."""
    torch.manual_seed(0)
    layer, wanted = nn.Linear(24, 24, bias=False), torch.randn(24, 24) / 24**0.5
    x = torch.randn(400, 24) * torch.logspace(0, -2, 24)
    optimiser = make(layer.parameters())
    for _ in range(steps):
        optimiser.zero_grad()
        (layer(x) - x @ wanted.T).square().mean().backward()
        optimiser.step()
    return (layer.weight - wanted).square().mean().item()


def test_rare_directions_are_learnt_sooner_than_by_plain_steps():
    muons = min(loss_after(lambda p, lr=lr: muon.Muon(p, lr)) for lr in (0.02, 0.05, 0.1))
    plain = min(loss_after(lambda p, lr=lr: torch.optim.SGD(p, lr, momentum=0.95)) for lr in (0.1, 1.0, 10.0))
    assert muons < 0.7 * plain


def test_vectors_and_kernels_are_stepped_as_by_adamw_without_decay():
    torch.manual_seed(0)
    own = [nn.Parameter(torch.randn(5)), nn.Parameter(torch.randn(3, 1, 5))]
    other = copy.deepcopy(own)
    optimisers = (
        muon.Muon(own, 0.5, vector_lr=1e-3),
        torch.optim.AdamW(other, 1e-3, betas=(0.9, 0.98), weight_decay=0),
    )
    for _ in range(5):
        for weights, optimiser in zip((own, other), optimisers, strict=True):
            sum((w**3).sum() for w in weights).backward()
            optimiser.step()
            optimiser.zero_grad()
    for mine, theirs in zip(own, other, strict=True):
        assert torch.allclose(mine, theirs, atol=1e-6)


def test_a_schedule_moves_matrices_and_vectors_alike():
    weights = [nn.Parameter(torch.ones(4, 4)), nn.Parameter(torch.ones(4))]
    optimiser = muon.Muon(weights, 0.1, weight_decay=0)
    optimiser.param_groups[0]["lr"] = 0.05
    for w in weights:
        w.grad = torch.ones_like(w)
    optimiser.step()
    assert weights[1].detach() == pytest.approx(1 - 0.5e-3, rel=1e-4)
    step = torch.linalg.matrix_norm(1 - weights[0].detach(), 2).item()
    assert 0.6 * 0.05 < step < 1.3 * 0.05


def test_it_goes_on_from_its_state_with_the_same_bits():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5), nn.Conv1d(1, 1, 3, padding=1))
    x = torch.randn(8, 1, 6)

    def steps(model, optimiser, count):
        for _ in range(count):
            optimiser.zero_grad()
            model(x).square().mean().backward()
            optimiser.step()

    optimiser = muon.Muon(model.parameters(), 0.02)
    steps(model, optimiser, 3)
    again = copy.deepcopy(model)
    resumed = muon.Muon(again.parameters(), 0.02)
    resumed.load_state_dict(copy.deepcopy(optimiser.state_dict()))
    steps(model, optimiser, 3)
    steps(again, resumed, 3)
    for one, other in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)
