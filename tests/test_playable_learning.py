"""What maps learn: to hear what counts, to close what says nothing, and from the sound alone."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from vaefx_lib import controller_material, playable_learning, playable_surrogate, runs
from vaefx_lib.playable_learning import fit_around, fit_bottleneck
from vaefx_lib.playable_surrogate import Heard, Surrogate

OVERDRIVE, DELAY = "mda:Overdrive", "mda:Delay"


@pytest.fixture(scope="module")
def heard(controlled, controlled_home):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VAEFX_HOME", str(controlled_home))
        run = runs.load(controlled_home / "runs" / "spoken" / "vae")
        material = controller_material.prepare(controlled, run, (OVERDRIVE, DELAY))
        return playable_surrogate.hear(material, (OVERDRIVE, DELAY))


def hears(*shares):
    """A surrogate that hears each setting as much as is said, in a direction of its own."""
    made = Surrogate(len(shares))
    made.forward = lambda settings: settings * torch.tensor(shares)
    made.certainty = torch.ones(len(shares)) / len(shares)
    return made


def synthetic(*shares, count=600):
    """References of which all settings are told, but not all are heard."""
    settings = torch.rand(count, len(shares), generator=torch.Generator().manual_seed(0))
    told = 4 * (settings - 0.5)
    features = torch.cat([told, 0.1 * torch.randn(count, 4, generator=torch.Generator().manual_seed(1))], 1)
    parts = [
        {part: {"a": x[:400] if part == "train" else x[400:]} for part in ("train", "valid")}
        for x in (features, settings)
    ]
    return Heard(SimpleNamespace(), None, *parts, {"a": hears(*shares)})


def nats(net, heard, name="a"):
    with torch.inference_mode():
        mean, logvar = net.encode(heard.features["valid"][name])
    return 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean(0).numpy()


def test_what_levelling_undoes_is_heard_least(heard):
    """Overdrive's output, against its drive and muffle."""
    low, high = (torch.full((3, 3), 0.5).fill_diagonal_(at) for at in (0.1, 0.9))
    drive, muffle, output = heard.surrogates[OVERDRIVE].unlike(low, high).tolist()
    assert output < 0.3 * min(drive, muffle)
    assert heard.surrogates[OVERDRIVE].unlike(low, low).tolist() == [0, 0, 0]


def test_features_are_of_one_scale_and_the_same_sound_has_not_changed(heard):
    x = torch.cat(list(heard.features["train"].values()))
    assert torch.isfinite(x).all() and x.abs().max() <= 5
    numbers = heard.material.dry_numbers["train"][:3]
    assert np.abs(heard.inputs.change(numbers, numbers)).max() == 0


@pytest.mark.parametrize("shares, active", [((9.0, 0.0, 0.0), 1), ((9.0, 9.0, 0.0), 2)])
def test_a_bottleneck_opens_as_many_dimensions_as_there_is_to_hear(monkeypatch, shares, active):
    monkeypatch.setattr(playable_learning, "EPOCHS", 150)
    data = synthetic(*shares)
    net, history = fit_bottleneck(data, ["a"], 4, seed=0, weights=(0.0, 1.0))
    assert (nats(net, data) > 0.2).sum() == active
    assert history["train_loss"][-1] < 0.5 * history["train_loss"][0]


def test_the_heavier_the_kl_the_less_a_place_tells(monkeypatch):
    monkeypatch.setattr(playable_learning, "EPOCHS", 60)
    data, told = synthetic(9.0, 9.0, 9.0), []
    for beta in (0.0, 0.02, 10.0):
        monkeypatch.setattr(playable_learning, "BETA", beta)
        told.append(nats(fit_bottleneck(data, ["a"], 3, seed=0)[0], data).sum())
    assert told[0] > told[1] > 5 * told[2]


def test_a_seed_alone_decides_whatever_else_is_drawn_at_random(monkeypatch):
    monkeypatch.setattr(playable_learning, "EPOCHS", 3)
    data = synthetic(1.0, 1.0)
    nets = []
    for seed in (0, 0, 1):
        torch.rand(7)
        nets.append(fit_bottleneck(data, ["a"], 2, seed=seed)[0].state_dict())
    one, again, other = nets
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not torch.equal(one["place.weight"], other["place.weight"])


def test_networks_around_a_given_map_learn_the_way_there_and_back(monkeypatch):
    monkeypatch.setattr(playable_learning, "EPOCHS", 120)
    data = synthetic(9.0, 9.0)
    known = data.settings["train"]["a"].numpy()
    turned = (known - 0.5) @ np.array([[0.0, 3.0], [-3.0, 0.0]])
    net, _ = fit_around(data, ["a"], {"a": turned}, seed=0)
    with torch.inference_mode():
        places = net.encode(data.features["train"]["a"])[0].numpy()
        back = net.decode(torch.from_numpy(turned).float(), 0).numpy()
    assert min(np.corrcoef(x, y)[0, 1] for x, y in zip(places.T, turned.T)) > 0.95
    assert np.abs(back - known).mean() < 0.06  # always 0.5 would be 0.25


def test_the_sound_alone_pulls_settings_towards_what_is_heard(heard, controlled, monkeypatch):
    """Two references; nothing but SPSA teaches, and the effect is the real one."""
    monkeypatch.setattr(playable_learning, "WEIGHTS", (0.0, 0.0))
    monkeypatch.setattr(playable_learning, "BETA", 0.0)
    monkeypatch.setattr(playable_learning, "END_TO_END_RATE", 5e-3)
    few = [{p: {OVERDRIVE: of[p][OVERDRIVE][:2]} for p in of} for of in (heard.features, heard.settings)]
    data = Heard(heard.material, heard.inputs, *few, heard.surrogates)
    net, *_ = playable_learning.begun(data, [OVERDRIVE], 2, 0)
    with torch.no_grad():
        net.place.bias[2:] = -9  # hardly any sampling

    def missed():
        with torch.inference_mode():
            found = net.decode(net.encode(data.features["train"][OVERDRIVE])[0], 0)
        return (found - data.settings["train"][OVERDRIVE])[:, :2].abs().mean().item()  # drive and muffle

    before = missed()
    playable_learning.through_effects(net, data, [OVERDRIVE], controlled, steps=60, seed=0)
    assert missed() < 0.6 * before
