"""Every choice of an experiment as frozen dataclasses, the named presets, and the paths.

This is the only module that knows where files live. A preset is a whole experiment: what is rendered, how it is
turned into spectrograms, which network is trained and how. `preset_json` writes it as JSON and back without loss.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

SUBSETS = ("train", "valid", "test", "dummy_train", "dummy_test")
PACKED = "packed"  # the preset of lessons that begin with the models that come with the library


@dataclass(frozen=True)
class Stft:
    """Short-time Fourier transform of one clip. Lengths are in samples at `sample_rate_hz`."""

    sample_rate_hz: int = 24_000
    num_frames: int = 65  # frames a clip has: with centred windows, 1 + num_samples / hop_length
    n_fft: int = 2048  # 85 ms: the harmonics of a voice stay apart
    hop_length: int = 1024  # 43 ms: half a window, so that a spectrogram can be turned back into sound
    win_length: int = 2048
    power: float = 0.3  # |X| ** power: about the loudness law, brings 90 dB into view

    @property
    def num_bins(self) -> int:
        """Frequencies from 0 Hz to half the sample rate."""
        return self.n_fft // 2 + 1

    @property
    def num_samples(self) -> int:
        """Samples of one clip."""
        return (self.num_frames - 1) * self.hop_length

    @property
    def duration_s(self) -> float:
        """Seconds of one clip."""
        return self.num_samples / self.sample_rate_hz


@dataclass(frozen=True)
class Render:
    """Which dry/wet pairs are rendered. Counts are pairs over all effects; effects take turns."""

    corpus: str = "speech"
    effects: tuple[str, ...] = ("mda:Overdrive", "mda:Delay")
    n_train: int = 5_000  # training speakers, settings uniform in [0, 1]
    n_valid: int = 256  # unseen speakers, the sentences everyone speaks: chooses the checkpoint
    n_test: int = 800  # unseen speakers, their other sentences: every reported number
    n_dummy_train: int = 3_200  # training speakers, all settings 0.5
    n_dummy_test: int = 800  # unseen speakers, all settings 0.5
    channels: int = 1  # of a clip: 1 keeps the mean of the sides, 2 keeps both
    peak_dbfs: float = -12.0  # peak level of the dry and of the wet clip
    max_speed_change: float = 0.15  # training only: tape speed (pitch and tempo together) within +-15 %
    pieces_s: tuple[float, ...] = ()  # training only: shortest and longest piece that clips are joined from, if any
    shard_pairs: int = 64  # pairs in one file
    seed: int = 0


@dataclass(frozen=True)
class Vae:
    """The network. `architecture` names one of `vae.ARCHITECTURES`."""

    architecture: str = "factorised"
    inputs: tuple[str, ...] = ("dry", "wet")  # channels of a spectrogram pair; with phase, of `phase.REPRESENTATIONS`
    latent_dim: int = 128
    effect_dim: int = 24  # factorised only: how many of them describe the effect; the others describe the dry sound
    width: int = 128  # factorised only: features of a frame
    channels: tuple[int, ...] = ()  # conv2d only: feature maps after each halving


@dataclass(frozen=True)
class Train:
    """How the network is trained."""

    beta: float = 1.0  # weight of the KL term, in the units of the ELBO: both terms are sums over one clip
    optimiser: str = "muon"  # one of `training.OPTIMISERS`
    learning_rate: float = 0.015  # the highest: it rises over the first tenth of the steps, and falls to 0 by the last
    batch_size: int = 32
    max_epochs: int = 5
    frequency_warp: float = 0.2  # spectra of a training pair are stretched by up to this, dry and wet alike
    gradient_clip: float = 1.0  # largest norm of the gradient of the loss per input value
    seed: int = 0


@dataclass(frozen=True)
class Controller:
    """The network from a dry sound and a reference to settings: what it learns from, and how. Effects: `Render`'s."""

    n_passages: int = 400  # dry ones of 5.46 s, of training speakers
    n_train: int = 2_000  # references for each effect, settings uniform in [0, 1]
    n_valid: int = 200  # the same of unseen speakers: they choose, and calibrate the confidence
    width: int = 256  # of the two hidden layers
    max_epochs: int = 15  # of learning known settings
    learning_rate: float = 2e-3
    end_to_end_steps: int = 50  # of learning through the effect afterwards, for each effect
    seed: int = 0


@dataclass(frozen=True)
class Preset:
    """A whole experiment under one name."""

    name: str
    stft: Stft = field(default_factory=Stft)
    render: Render = field(default_factory=Render)
    vae: Vae = field(default_factory=Vae)
    train: Train = field(default_factory=Train)
    controller: Controller = field(default_factory=Controller)


SEVEN = (  # effects of mda
    *("mda:Overdrive", "mda:Delay", "lv2:mda/Ambience", "lv2:mda/RingMod", "lv2:mda/Combo"),
    *("lv2:mda/Dynamics", "lv2:mda/MultiBand"),
)
NINE = (*SEVEN, "lv2:mda/ThruZero", "lv2:mda/Leslie")
PRESETS = {
    "report": Preset("report"),
    "smoke": Preset(
        "smoke",
        stft=Stft(num_frames=65, n_fft=1024, hop_length=512, win_length=1024),
        render=Render(n_train=256, n_valid=32, n_test=64, n_dummy_train=96, n_dummy_test=64, shard_pairs=32),
        vae=Vae(latent_dim=32, effect_dim=8, width=64),
        train=Train(max_epochs=5, batch_size=16),
        controller=Controller(n_passages=40, n_train=200, n_valid=40, width=64, max_epochs=10, end_to_end_steps=10),
    ),
    "seven": Preset(
        "seven",
        render=Render(effects=SEVEN, n_train=4_998, n_valid=252, n_test=700, n_dummy_train=2_800, n_dummy_test=700),
        vae=Vae(effect_dim=32),
        train=Train(batch_size=28),
    ),
    "nine": Preset(
        "nine",
        render=Render(effects=NINE, n_train=4_995, n_valid=252, n_test=702, n_dummy_train=0, n_dummy_test=0),
        vae=Vae(effect_dim=32),
        train=Train(batch_size=27),
        controller=Controller(end_to_end_steps=30),
    ),
    "pretrained": Preset(
        "pretrained",
        render=Render(n_train=10_000, max_speed_change=0.2, pieces_s=(0.25, 0.9)),
        train=Train(max_epochs=8, frequency_warp=0.25),
        controller=Controller(n_passages=1_000, n_train=6_000, end_to_end_steps=100),
    ),
    PACKED: Preset(PACKED, render=Render(n_train=1_000)),  # for PCA alone: the VAE is there
    "phase": Preset("phase", vae=Vae(inputs=("dry", "wet", "wet_turn_cos", "wet_turn_sin"))),  # `phase`: relative
    "week5": Preset(
        "week5",
        stft=Stft(num_frames=65, n_fft=4096, hop_length=2048, win_length=4096),
        render=Render(n_valid=500),
        vae=Vae(architecture="conv2d", latent_dim=2048, channels=(8, 16, 32, 32)),
        train=Train(1e-4, "adamw", learning_rate=3e-4, batch_size=8, max_epochs=300, frequency_warp=0.0),
    ),
    "paper": Preset(
        "paper",
        stft=Stft(num_frames=129, n_fft=4096, hop_length=1024, win_length=2048),
        render=Render(n_valid=500),
        vae=Vae(architecture="conv2d", inputs=("wet",), latent_dim=128, channels=(8, 16, 32, 32)),
        train=Train(1e-4, "adamw", learning_rate=5e-4, batch_size=12, max_epochs=300, frequency_warp=0.0),
    ),
}


def preset(name: str) -> Preset:
    """The preset of this name.

    Raises
    ------
    ValueError
        If there is none; the message names the known ones.
    """
    if name not in PRESETS:
        raise ValueError(f"unknown preset {name!r}: known are {', '.join(PRESETS)}")
    return PRESETS[name]


def project_dir() -> Path:
    """The folder that holds `runs/` and `figures/`: $VAEFX_HOME, else the nearest folder above here with a
    `notebooks` folder, else the current folder."""
    if os.environ.get("VAEFX_HOME"):
        return Path(os.environ["VAEFX_HOME"])
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "notebooks").is_dir() and (folder / "vaefx_lib").is_dir():
            return folder
    return here


def run_dir(preset_name: str) -> Path:
    """Where everything that a preset produces goes: `runs/<preset>`."""
    return project_dir() / "runs" / preset_name


def data_dir(preset_name: str, subset: str) -> Path:
    """Where the pairs of one subset go."""
    return run_dir(preset_name) / "data" / subset


def vae_dir(preset_name: str) -> Path:
    """Where the trained VAE goes."""
    return run_dir(preset_name) / "vae"


def controller_dir(preset_name: str) -> Path:
    """Where the trained controller goes."""
    return run_dir(preset_name) / "controller"


def playable_dir(preset_name: str) -> Path:
    """Where the maps to play on go, a folder each."""
    return run_dir(preset_name) / "playable"


def figures_dir(preset_name: str) -> Path:
    """Where figures and `metrics.json` go: `figures/` for the report, inside the run folder for the others."""
    return project_dir() / "figures" if preset_name == "report" else run_dir(preset_name) / "figures"


def corpora_dir() -> Path:
    """Where `vaefx corpus fetch` puts corpora: $VAEFX_CORPORA, else `runs/corpora`."""
    return Path(os.environ.get("VAEFX_CORPORA") or project_dir() / "runs" / "corpora")
