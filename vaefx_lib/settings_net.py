"""The controller's network: from features of a pair to settings, and to their distribution given what is heard.

Some settings make up for each other: more drive and less level can sound like the opposite. So the distribution is
over all settings of an effect together: that of the first, that of the second given the first, and so on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BINS = 64  # of the distribution over a setting
GIVEN = 128  # units between what is given and the distribution of one setting
NEIGHBOUR = 0.8  # bins: deviation of what the distribution should be, around the true setting
POINT_WEIGHT = 10.0  # of the squared error of the settings, beside the cross-entropy of the distributions
WAVES = (1, 2, 4)  # half periods over the range of a setting, of the sines and cosines that tell its value
CODE = 1 + 2 * len(WAVES)  # numbers that tell the value of one setting


class Posterior(nn.Module):
    """The distribution of an effect's settings, one after the other, each in `BINS` equal parts of [0, 1].

    Parameters
    ----------
    width : int
        Numbers that say what was heard.
    n_params : int

    References
    ----------
    Larochelle and Murray, The neural autoregressive distribution estimator, AISTATS 2011. As the posterior of a
    simulator's parameters: Papamakarios and Murray, Fast epsilon-free inference of simulation models with Bayesian
    conditional density estimation, NeurIPS 2016.
    """

    def __init__(self, width: int, n_params: int):
        super().__init__()
        self.given = nn.ModuleList(nn.Linear(width + CODE * before, GIVEN) for before in range(n_params))
        self.logits = nn.ModuleList(nn.Linear(GIVEN, BINS) for _ in range(n_params))

    def forward(self, heard: Tensor, settings: Tensor) -> Tensor:
        """Logarithms of probabilities of each setting, given those before it, (batch, n_params, BINS).

        `heard` is (batch, width), `settings` (batch, n_params).
        """
        codes = _code(settings)
        return torch.stack([self._next(heard, codes[:, :i].flatten(1)) for i in range(len(self.given))], dim=1)

    def draw(self, heard: Tensor, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Settings drawn from it, (count, n_params), and the probabilities of each by itself, (n_params, BINS).

        `heard` is (width,). The probabilities are means over what was drawn of the others.
        """
        heard, drawn = heard.expand(count, -1), torch.empty(count, 0)
        probabilities = []
        for _ in self.given:
            shares = self._next(heard, _code(drawn).flatten(1)).exp()
            probabilities.append(shares.mean(0))
            bins = torch.multinomial(shares, 1, generator=generator)
            drawn = torch.cat([drawn, (bins + torch.rand(count, 1, generator=generator)) / BINS], dim=1)
        return drawn, torch.stack(probabilities)

    def _next(self, heard: Tensor, before: Tensor) -> Tensor:
        index = before.shape[1] // CODE
        hidden = F.gelu(self.given[index](torch.cat([heard, before], dim=1)))
        return F.log_softmax(self.logits[index](hidden), dim=1)


class SettingsNet(nn.Module):
    """Features to settings and to distributions over them, for several effects.

    Parameters
    ----------
    features : int
        Numbers that describe a pair.
    width : int
        Of the two hidden layers.
    n_params : sequence of int
        For each effect.
    """

    def __init__(self, features: int, width: int, n_params: Sequence[int]):
        super().__init__()
        self.n_params = tuple(n_params)
        self.effect = nn.Embedding(len(self.n_params), width)
        self.first = nn.Linear(features, width)
        self.second = nn.ModuleList(nn.Linear(width, width) for _ in self.n_params)
        self.point = nn.ModuleList(nn.Linear(width, n) for n in self.n_params)
        self.posterior = nn.ModuleList(Posterior(width, n) for n in self.n_params)
        self.leave_out_input, self.leave_out = nn.Dropout(0.4), nn.Dropout(0.3)

    def forward(self, features: Tensor, effect: int) -> tuple[Tensor, Tensor]:
        """Settings in (0, 1), (batch, n_params), and what `posterior` takes as heard, (batch, width)."""
        hidden = self.first(self.leave_out_input(features)) + self.effect.weight[effect]
        hidden = self.leave_out(F.gelu(self.second[effect](self.leave_out(F.gelu(hidden)))))
        return torch.sigmoid(self.point[effect](hidden)), hidden

    def known_loss(self, features: Tensor, effect: int, settings: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The answers, their squared error and the cross-entropy of the distributions where the settings are known."""
        point, heard = self(features, effect)
        centres = (torch.arange(BINS) + 0.5) / BINS
        wanted = torch.softmax(-0.5 * ((settings[..., None] - centres) * BINS / NEIGHBOUR) ** 2, dim=2)
        entropy = -(wanted * self.posterior[effect](heard, settings)).sum(2).mean()
        return point, POINT_WEIGHT * (point - settings).square().mean(), entropy


def _code(settings: Tensor) -> Tensor:
    """Numbers that tell the values of settings finely, (batch, n_params, CODE)."""
    waves = settings[..., None] * math.pi * torch.tensor(WAVES)
    return torch.cat([2 * settings[..., None] - 1, torch.sin(waves), torch.cos(waves)], dim=2)
