"""How far from the truth a sound is, judged without the truth: a network on long-term measures.

The truth is what a dry sound would be through the settings that made a reference; only the reference is there to be
heard, and it has other words. From what the measures of the reference, of the dry sound and of a candidate have to say,
the critic tells which MRSTFT to expect between the candidate and the truth. It has learned that from sounds whose truth
is known, speech and invented music through many effects, and serves any effect.

It comes with the library, in `vaefx_lib/pretrained`; `vaefx train critic` made it, and makes it again.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.numpy import load_file
from torch import Tensor, nn

from vaefx_lib import store, style, style_space

FOLDER = Path(__file__).parent / "pretrained"
MODEL, MANIFEST = "critic.safetensors", "critic.json"
SQUASH = 6.0  # deviations: beyond, a difference of measures counts hardly more
FEATURES, WIDTH = 96, 192  # learned from the measures; of the two hidden layers
LIKENESS = 9  # numbers that compare two styles as `style_space.Space` does
FAMILIAR = 2.35  # deviations: speech of unseen speakers is 1.5 to 2.3 away, most orchestral music further
SMALLEST = 0.05  # distance of style, below which its logarithm does not go


class CriticNet(nn.Module):
    """Whitened measures of a reference, a candidate and a dry sound to the expected MRSTFT of the candidate."""

    def __init__(self, n_measures: int):
        super().__init__()
        self.features = nn.Linear(n_measures, FEATURES, bias=False)
        self.first, self.second = nn.Linear(4 * FEATURES + LIKENESS, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.last = nn.Linear(WIDTH, 1)
        self.leave_out = nn.Dropout(0.3)

    def embed(self, whitened: Tensor) -> Tensor:
        """Features of whitened measures, (..., n_measures) to (..., FEATURES)."""
        return 1.5 * self.features(self.leave_out(torch.tanh(whitened / SQUASH)))

    def forward(self, reference: Tensor, candidate: Tensor, dry: Tensor, likeness: Tensor) -> Tensor:
        """Features (..., FEATURES) of the three sounds and likeness (..., LIKENESS) to an expected distance (...)."""
        missing, wanted, done = reference - candidate, reference - dry, candidate - dry
        along = missing * done / (1 + missing.abs() + done.abs())
        inputs = torch.cat([missing.abs(), wanted.abs(), done.abs(), along, likeness], dim=-1)
        hidden = self.leave_out(F.gelu(self.first(inputs)))
        hidden = self.leave_out(F.gelu(self.second(hidden)))
        return F.softplus(self.last(hidden)[..., 0] + 0.5)


@dataclass(frozen=True, eq=False)
class Critic:
    """A trained critic.

    Attributes
    ----------
    space : style_space.Space
        In which measures are compared.
    centre : array, float32, shape (n_measures,)
        Measures of a sound in the middle of those that it learned from.
    nets : tuple of CriticNet
        In eval mode, each trained from another start; what they say is averaged.
    about : dict
        What it was made from, and what it was measured to be worth: `critic_training.train_critic`.
    """

    space: style_space.Space
    centre: np.ndarray
    nets: tuple[CriticNet, ...]
    about: dict

    def judge(self, reference: style.Style, dry: style.Style) -> Callable[[style.Style], tuple[float, float]]:
        """Expected distance from the truth, for a reference and a dry sound of other words.

        Parameters
        ----------
        reference, dry : Style

        Returns
        -------
        callable
            From the style of the dry sound through any effect, or of itself, to the MRSTFT (`mrstft_wide`) expected
            between it and the dry sound through what made the reference; no unit, lower is better. And how unlike the
            reference's its echoes are, 0 to 1; 0 too if the reference has no clear ones.

        Used in `05_controller_training`.
        """
        compare = self.space.compare(reference)
        from_dry = compare(dry)
        with torch.inference_mode():
            given = [(net, net.embed(self._whitened(reference)), net.embed(self._whitened(dry))) for net in self.nets]

        def judged(candidate: style.Style) -> tuple[float, float]:
            compared = compare(candidate)
            with torch.inference_mode():
                measures, alike = self._whitened(candidate), torch.from_numpy(likeness(compared, from_dry))
                told = [net(wanted, net.embed(measures), none, alike) for net, wanted, none in given]
            return float(torch.stack(told).mean()), float(compared[1] * compared[2:].mean())

        return judged

    def is_familiar(self, dry: style.Style) -> bool:
        """Whether a dry sound is like speech, of which controllers know how much to believe the critic.

        If so, its measures are no more than `FAMILIAR` deviations from the middle, root mean square.

        Used in `05_controller_training`.
        """
        return float(self._whitened(dry).square().mean().sqrt()) <= FAMILIAR

    def _whitened(self, one: style.Style) -> Tensor:
        """Measures as the networks read them."""
        return torch.from_numpy(((one.numbers - self.centre) @ self.space.whitening).astype(np.float32))


def likeness(compared, compared_dry) -> np.ndarray:
    """`LIKENESS` numbers from those of `Space.compare`, (..., 5), for a candidate and for the dry sound."""
    compared, compared_dry = np.asarray(compared), np.asarray(compared_dry)
    echoes = compared[..., 1:]  # how clear the reference's are, and how unlike the candidate's at three widths
    distances = [np.log(style_space.total(found) + SMALLEST)[..., None] for found in (compared, compared_dry)]
    return np.concatenate([echoes, echoes[..., :1] * echoes[..., 1:], *distances], axis=-1).astype(np.float32)


def save_critic(folder: str | Path, critic: Critic) -> None:
    """Write a critic: the weights, and a manifest with their sha256.

    Raises
    ------
    OSError
        If a file cannot be written.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {"centre": critic.centre, "echo_deviation": critic.space.echo_deviation}
    arrays["whitening"] = critic.space.whitening.astype(np.float16)
    for i, net in enumerate(critic.nets):
        arrays |= {f"net{i}.{name}": value.numpy().astype(np.float16) for name, value in net.state_dict().items()}
    store.write_arrays(folder / MODEL, arrays)
    about = critic.about | {"nets": len(critic.nets), "sha256": store.sha256(folder / MODEL)}
    store.write_json(folder / MANIFEST, about)


@functools.cache
def load(folder: Path = FOLDER) -> Critic:
    """The critic in a folder; that of the library by default.

    Raises
    ------
    DamagedFile
        If there is none, or it has changed since it was written.

    Used in `05_controller_training`.
    """
    manifest, model = folder / MANIFEST, folder / MODEL
    if not manifest.is_file() or not model.is_file():
        raise store.DamagedFile(f"{folder} holds no critic: `vaefx train critic` makes one")
    about = store.read_json(manifest)
    if not isinstance(about, dict) or store.sha256(model) != about.get("sha256"):
        raise store.DamagedFile(f"{model} has changed since it was written: restore it, or `vaefx train critic`")
    try:
        arrays = {name: array.astype(np.float32) for name, array in load_file(model).items()}
        space = style_space.Space(arrays["whitening"], arrays["echo_deviation"])
        nets = [CriticNet(len(arrays["centre"])).eval() for _ in range(about["nets"])]
        for i, net in enumerate(nets):
            own = {name.partition(".")[2]: v for name, v in arrays.items() if name.startswith(f"net{i}.")}
            net.load_state_dict({name: torch.from_numpy(value) for name, value in own.items()})
    except (SafetensorError, KeyError, RuntimeError) as error:
        why = " ".join(str(error).split())  # of torch it has several lines
        raise store.DamagedFile(f"{model} is of another version ({why}): `vaefx train critic`") from error
    return Critic(space, arrays["centre"], tuple(nets), about)
