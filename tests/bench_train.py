"""Speed of training, into figures/benchmarks.json: `make bench-train`, ten minutes, nothing else running.

Two networks learn from the same spectrograms in the same process: the report preset's, as it is trained there, and the
Week 5 report's own, as it was trained there (Adam, 3e-4, batches of 8) but on the report preset's input and at as many
latent dimensions. What counts is the time until unseen speakers are rebuilt with a mean squared error of `TARGET`.
"""

from __future__ import annotations

import dataclasses
import math
import os
import platform
import resource
import time

import numpy as np
import torch

from vaefx_lib import batches, config, figures, muon, rendering, spectrogram, vae

TARGET = 0.40  # variances, mean of dry and wet; PCA with 128 dimensions has 0.29
LIMIT_S = 300  # of the training of one network
EVERY = 20  # steps between looks at unseen speakers, which do not count as time


def main() -> None:
    """Measure and record."""
    ours = config.preset("report")
    data = {s: rendering.render(ours, s, config.data_dir("report", s)) for s in ("train", "valid")}
    train_x, statistics = batches.training_spectrograms(data["train"], ours.stft, scratch=config.run_dir("report"))
    valid_x = torch.from_numpy(spectrogram.pairs(data["valid"], ours.stft, statistics=statistics)).float()[:128]
    week5 = config.preset("week5")
    theirs = dataclasses.replace(
        ours, vae=dataclasses.replace(week5.vae, latent_dim=ours.vae.latent_dim), train=week5.train
    )
    results = {name: time_to_quality(preset, train_x, valid_x) for name, preset in (("ours", ours), ("week5", theirs))}
    ratio = results["ours"]["seconds"] / results["week5"]["seconds"]
    figures.record_benchmarks(
        {
            "train": {
                "examples_per_s": results["ours"]["examples_per_s"],
                "time_ratio_to_quality": ratio,
                "target_mse": TARGET,
                **results,
                "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
                "machine": {
                    "kind": platform.machine(),
                    "processors": len(os.sched_getaffinity(0)),
                    "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU",
                },
            }
        }
    )
    print(f"time to a mean squared error of {TARGET}: ours / week5 = {ratio:.3f}")


def time_to_quality(preset: config.Preset, train_x: np.ndarray, valid_x: torch.Tensor) -> dict:
    """Seconds of training until the mean squared error on unseen speakers is `TARGET`, or `LIMIT_S`."""
    torch.manual_seed(0)
    train = preset.train
    model = vae.build(preset.vae, preset.stft.num_frames, preset.stft.num_bins)
    if train.optimiser == "muon":
        optimiser = muon.Muon(model.parameters(), train.learning_rate)
    else:
        optimiser = torch.optim.Adam(model.parameters(), train.learning_rate)
    spent, steps, mse = 0.0, 0, math.inf
    sampler = batches.EffectBatches(len(train_x), len(preset.render.effects), train.batch_size, seed=0)
    while True:
        for x, _ in batches.loader(train_x, sampler):
            begun = time.perf_counter()
            x = batches.warp(x, batches.warp_factors(0, steps, len(x), train.frequency_warp))
            x_hat, mu, logvar = model(x)
            loss = vae.reconstruction_error(x, x_hat) + train.beta * vae.kl_per_dimension(mu, logvar).sum()
            optimiser.zero_grad()
            (loss / x[0].numel()).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), train.gradient_clip)
            optimiser.step()
            spent, steps = spent + time.perf_counter() - begun, steps + 1
            if steps % EVERY and spent < LIMIT_S:
                continue
            mse = unseen_mse(model, valid_x)
            if steps % (EVERY * 10) == 0 or mse <= TARGET:
                print(f"{preset.vae.architecture}: {steps} steps, {spent:.0f} s, {mse:.3f}", flush=True)
            if mse <= TARGET or spent >= LIMIT_S:
                return {
                    "seconds": spent,
                    "reached": mse <= TARGET,
                    "mse": mse,
                    "steps": steps,
                    "examples_per_s": steps * train.batch_size / spent,
                    "weights": sum(weight.numel() for weight in model.parameters()),
                }
        sampler.set_epoch(sampler.epoch + 1)


@torch.inference_mode()
def unseen_mse(model: vae.JointVae, x: torch.Tensor) -> float:
    """Of the reconstruction from mu."""
    model.eval()
    errors = [(model(part)[0] - part).square().mean().item() for part in x.split(32)]
    model.train()
    return float(np.mean(errors))


if __name__ == "__main__":
    main()
