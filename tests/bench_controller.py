"""Speed of a training step through black-box effects, into figures/benchmarks.json: `make bench-controller`.

One step: a batch of 12 dry clips of 5.46 s and what mda Overdrive and mda Delay, taking turns, made of them; a network
of three layers reads settings from embeddings of both sounds; the effect renders them; the loss is the multi-resolution
STFT distance to the target plus L1; Adam moves the weights. Two ways, in turns in the same process:

- ours: the encoder is frozen, so embeddings are made once per pair; `blackbox.spsa` differences the loss itself, two
  renders per example, and measures it without torch.
- the reference, as usually written: the encoder runs in each step; one example after the other is rendered five times
  (once forward, and twice each for the gradients of settings and of sound, the latter unused); the waveform is taken
  for linear in the settings; the loss is auraloss's with its gradient.

Spectrograms are there before either begins.
"""

from __future__ import annotations

import dataclasses
import statistics
import time

import auraloss
import benching
import numpy as np
import torch
from torch import Tensor, nn

from vaefx_lib import blackbox, config, corpora, corpus_split, effects, pairs, spectrogram, vae

ROUNDS, SECONDS = 5, 6.0  # of each way, and of each in each
BATCH = 12
PAIRS = 24  # that are drawn from
STEP = 0.02  # of the settings
N_PARAMS = 6  # of Delay; Overdrive has 3


@dataclasses.dataclass(frozen=True)
class Task:
    """What both ways learn from: arrays of one row per pair."""

    dry: np.ndarray  # float32 (pairs, samples)
    target: np.ndarray  # float32 (pairs, samples)
    effects: list[effects.Effect]
    mask: Tensor  # bool (pairs, N_PARAMS)
    x: Tensor  # (pairs, 2 sounds x 2 windows, channels, frames, bins)
    embedding: Tensor  # (pairs, 2 * latent_dim)
    encoder: vae.JointVae
    rate: int


class Linearised(torch.autograd.Function):
    """Wet sound of one example, with a gradient from four more renders."""

    @staticmethod
    def forward(ctx, dry, settings, effect, rate, rng):
        ctx.save_for_backward(dry, settings)
        ctx.about = effect, rate, rng
        return torch.from_numpy(blackbox.wet(effect, dry.numpy(), settings.numpy(), rate))

    @staticmethod
    def backward(ctx, grad):
        (dry, settings), (effect, rate, rng) = ctx.saved_tensors, ctx.about
        dry, settings, grad = dry.numpy(), settings.numpy(), grad.numpy()

        def slope(signs, up, down):
            change = blackbox.wet(effect, *up, rate) - blackbox.wet(effect, *down, rate)
            return torch.from_numpy((grad @ change / (2 * STEP) * signs).astype(np.float32))

        signs = rng.choice([-1, 1], settings.size)
        up, down = (np.clip(settings + sign * STEP * signs, 0, 1) for sign in (1, -1))
        of_settings = slope(signs, (dry, up), (dry, down))
        signs = rng.choice(np.float32([-1, 1]), dry.size)
        up, down = (dry + np.float32(sign * STEP) * signs for sign in (1, -1))
        return slope(signs, (up, settings), (down, settings)), of_settings, None, None, None


def main() -> None:
    """Measure and record."""
    imported_mb = benching.peak_mb()
    task = make_task()
    ways = {"ours": our_step(task), "reference": reference_step(task)}
    for number in range(3):  # the first compiles
        ways["ours"](number)
    memory = benching.memory_row("a controller's training steps", imported_mb)  # before there is any of the other way
    ways["reference"](0)
    rounds, renders = {name: [] for name in ways}, []  # medians of the parts of a step in ms; ms
    for _ in range(ROUNDS):
        for name, step in ways.items():
            begun, steps = time.perf_counter(), []
            while not steps or time.perf_counter() - begun < SECONDS:
                seconds = step(1000 * len(renders) + len(steps))
                steps.append({part: 1e3 * taken for part, taken in seconds.items()})
            rounds[name].append(medians(steps))
        renders.append(1e3 * renders_alone(task))
    ms = {name: medians(of) for name, of in rounds.items()}
    ours, reference = ([part["step"] for part in rounds[name]] for name in ways)
    what = f"a training step of a controller, {BATCH} clips of 5.46 s"
    rows = [
        benching.row(what, "ms", ours, "plain SPSA", reference),
        benching.row(what, "ms", ours, "its effect calls alone", renders),
        memory,
    ]
    benching.keep(
        "controller",
        rows,
        steps_per_s=1e3 / ms["ours"]["step"],
        reference_steps_per_s=1e3 / ms["reference"]["step"],
        speedup=ms["reference"]["step"] / ms["ours"]["step"],
        speedup_without_encoder=(ms["reference"]["step"] - ms["reference"]["encoder"]) / ms["ours"]["step"],
        share_of_renders_alone=statistics.median(renders) / ms["ours"]["step"],
        ms=ms,
    )


def make_task() -> Task:
    """Pairs of 5.46 s of the included speech, and what a VAE of the report's sizes makes of their windows."""
    report = config.preset("report")
    long = dataclasses.replace(report, stft=dataclasses.replace(report.stft, num_frames=129))
    speakers = pairs.by_speaker(corpus_split.split(corpora.load("speech"), "speech")["train"])
    rendered = [pairs.render_pair(long, "train", i, speakers) for i in range(PAIRS)]
    dry, target = np.stack([pair for pair, _ in rendered], axis=1)
    used = [effects.load(row["effect"]) for _, row in rendered]
    mask = torch.tensor([[i < len(effect.params) for i in range(N_PARAMS)] for effect in used])
    windows = np.stack([dry, target], axis=1).reshape(PAIRS, 4, -1)  # two windows of each sound
    S = np.stack([[spectrogram.magnitude(w, report.stft) for w in pair] for pair in windows])
    x = torch.from_numpy((S - S.mean()) / S.std())[:, :, None].expand(-1, -1, 2, -1, -1)
    torch.manual_seed(0)
    encoder = vae.build(report.vae, report.stft.num_frames, report.stft.num_bins).eval()
    task = Task(dry, target, used, mask, x, torch.empty(0), encoder, report.stft.sample_rate_hz)
    return dataclasses.replace(task, embedding=embed(task, np.arange(PAIRS)))


@torch.no_grad()
def embed(task: Task, batch: np.ndarray) -> Tensor:
    """Both sounds' mean over their windows of mu, side by side: (batch, 2 * latent_dim)."""
    mu, _ = task.encoder.encode(task.x[batch].flatten(0, 1))
    return mu.reshape(len(batch), 2, 2, -1).mean(2).flatten(1)


def new_network(task: Task) -> tuple[nn.Module, torch.optim.Optimizer]:
    """From embeddings to settings."""
    torch.manual_seed(0)
    width = task.embedding.shape[1]
    layers = nn.Linear(width, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, N_PARAMS), nn.Sigmoid()
    network = nn.Sequential(*layers)
    return network, torch.optim.Adam(network.parameters(), 1e-3)


def draw(number: int) -> np.ndarray:
    """Half of a batch from either effect: they take turns among the pairs."""
    rng = np.random.default_rng(number)
    return np.concatenate([2 * rng.choice(PAIRS // 2, BATCH // 2, replace=False) + effect for effect in (0, 1)])


def our_step(task: Task):
    """A function that makes step `number` and tells the seconds of its parts."""
    network, optimiser = new_network(task)

    def loss_of(i):
        return blackbox.settings_loss(task.effects[i], task.dry[i], task.target[i], task.rate)

    def step(number: int) -> dict[str, float]:
        begun, batch = time.perf_counter(), draw(number)
        losses = blackbox.in_threads(loss_of, batch)
        analysed = time.perf_counter()
        settings = network(task.embedding[batch])
        about = {"step": STEP, "directions": 1, "seed": number, "mask": task.mask[batch]}
        loss = blackbox.spsa(lambda row, s: losses[row](s), settings, **about).mean()
        measured = time.perf_counter()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        ended = time.perf_counter()
        return {"targets": analysed - begun, "spsa": measured - analysed, "step": ended - begun}

    return step


def reference_step(task: Task):
    """The same in the other way."""
    network, optimiser = new_network(task)
    mrstft = auraloss.freq.MultiResolutionSTFTLoss()
    rng = np.random.default_rng(0)

    def step(number: int) -> dict[str, float]:
        begun, batch = time.perf_counter(), draw(number)
        embedding = embed(task, batch)
        embedded = time.perf_counter()
        settings = network(embedding)
        sounds = []
        for i, row in zip(batch, settings, strict=True):
            dry = torch.from_numpy(task.dry[i]).requires_grad_()  # though nothing uses that gradient
            sounds.append(Linearised.apply(dry, row[task.mask[i]], task.effects[i], task.rate, rng))
        y_hat, y = torch.stack(sounds)[:, None], torch.from_numpy(task.target[batch])[:, None]
        loss = mrstft(y_hat, y) + nn.functional.l1_loss(y_hat, y)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        return {"encoder": embedded - begun, "step": time.perf_counter() - begun}

    return step


def renders_alone(task: Task) -> float:
    """Seconds that the renders of one of our steps take, if nothing is done with them: no step can be quicker."""
    batch = np.repeat(draw(0), 2)
    begun = time.perf_counter()
    blackbox.in_threads(
        lambda i: task.effects[i].render(task.dry[i], task.effects[i].default_settings, task.rate), batch
    )
    return time.perf_counter() - begun


def medians(steps: list[dict[str, float]]) -> dict[str, float]:
    """Median of each part."""
    return {part: statistics.median(step[part] for step in steps) for part in steps[0]}


if __name__ == "__main__":
    main()
