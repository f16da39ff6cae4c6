"""The controller's network: distributions over the settings of an effect together."""

import numpy as np
import pytest
import torch

from vaefx_lib import settings_net
from vaefx_lib.settings_net import BINS, Posterior, SettingsNet


@pytest.fixture
def posterior():
    torch.manual_seed(0)
    return Posterior(5, 3).eval()


def test_each_distribution_is_one_and_depends_on_what_is_heard_and_on_the_settings_before_alone(posterior):
    heard, settings = torch.randn(4, 5), torch.rand(4, 3)
    logs = posterior(heard, settings)
    assert logs.shape == (4, 3, BINS)
    torch.testing.assert_close(logs.exp().sum(2), torch.ones(4, 3))
    for changed in range(3):
        other = settings.clone()
        other[:, changed] = 1 - other[:, changed]
        moved = (posterior(heard, other) - logs).abs().amax(dim=(0, 2)) > 1e-6
        assert moved.tolist() == [i > changed for i in range(3)]
    assert ((posterior(heard + 1, settings) - logs).abs().amax(dim=(0, 2)) > 1e-6).all()


def test_draws_are_as_frequent_as_the_distribution_says():
    torch.manual_seed(0)
    posterior = Posterior(2, 2).eval()
    with torch.no_grad():
        for logits in posterior.logits:
            logits.weight.zero_()
            logits.bias.fill_(0.0)
        posterior.logits[0].bias.fill_(-50.0)
        posterior.logits[0].bias[[3, 40]] = torch.log(torch.tensor([0.25, 0.75]))
        drawn, shares = posterior.draw(torch.zeros(2), 4000, torch.Generator().manual_seed(0))
    drawn = drawn.numpy()
    assert set(np.unique((drawn[:, 0] * BINS).astype(int))) == {3, 40}
    assert (drawn[:, 0] > 0.5).mean() == pytest.approx(0.75, abs=0.03)
    assert drawn[:, 1].std() == pytest.approx(12**-0.5, abs=0.01)
    np.testing.assert_allclose(shares[0, [3, 40]], [0.25, 0.75], atol=1e-6)
    np.testing.assert_allclose(shares[1], 1 / BINS, atol=1e-6)


def test_it_learns_that_two_settings_make_up_for_each_other():
    """Both are anywhere in [0, 1], but they sum to 1: independent distributions would miss the sum by 0.3."""
    torch.manual_seed(0)
    net = SettingsNet(1, 16, [2])
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-2)
    generator = torch.Generator().manual_seed(1)
    for _ in range(300):
        first = torch.rand(64, 1, generator=generator)
        _, squares, entropy = net.known_loss(torch.ones(64, 1), 0, torch.cat([first, 1 - first], dim=1))
        optimiser.zero_grad()
        (squares + entropy).backward()
        optimiser.step()
    with torch.no_grad():
        point, heard = net.eval()(torch.ones(1, 1), 0)
        drawn, shares = net.posterior[0].draw(heard[0], 500, generator)
    assert (drawn.sum(1) - 1).abs().mean() < 0.08
    assert drawn[:, 0].std() > 0.2 and shares.max() < 0.1
    assert (point - 0.5).abs().max() < 0.1  # the one answer can only be the mean


def test_the_loss_is_the_squared_error_and_the_cross_entropy_with_the_bins_around_the_truth():
    net = SettingsNet(2, 4, [1, 3]).eval()
    with torch.no_grad():
        for logits in net.posterior[1].logits:
            logits.weight.zero_()
            logits.bias.zero_()
        features, wanted = torch.randn(6, 2), torch.rand(6, 3)
        point, squares, entropy = net.known_loss(features, 1, wanted)
    assert float(entropy) == pytest.approx(np.log(BINS), rel=1e-5)  # of flat distributions
    expected = settings_net.POINT_WEIGHT * np.square(point.numpy() - wanted.numpy()).mean()
    assert float(squares) == pytest.approx(expected, rel=1e-5)
