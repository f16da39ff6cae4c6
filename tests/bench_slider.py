"""How soon a slider is seen and heard, into figures/benchmarks.json: `make bench-slider`.

Kernel: from a slider's new value to the bytes of the new picture and of the new sound, as lessons 04 and 06 make them,
on 5.46 s of speech at 24 kHz and on the report's clips of 2.7 s; without the 80 ms for which a control has to rest. The
networks are of the report's sizes and not trained, which takes as long.

Browser, if there is a chromium: in JupyterLab, from a key press on a slider to the changed bytes of the picture and of
the sound, the rest included.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import platform
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import browsing
import nbformat
import numpy as np
import torch
from conftest import untrained_map

from vaefx_lib import (
    config,
    figures,
    passages,
    path_panel,
    play_panel,
    playable,
    references,
    runs,
    spectrogram,
    vae,
)


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--moves", type=int, default=200, help="of each slider")
    options = parser.parse_args()
    preset = config.preset("report")
    dry = references.draw_dry(preset, "test", 2)
    run = untrained(preset, dry)
    panel = play_panel.Panel(untrained_map(run), dry, np.zeros(2))
    assert dry.sounds.shape[1] == passages.SAMPLES  # 5.46 s
    kernel = measure(panel.axes[0], panel.live, options.moves)
    clips = Clips(dry, preset.stft.num_samples)
    path = path_panel.Panel(run, clips, (0, "mda:Delay"), (1, "mda:Overdrive"), 0.5).shown(0.5)
    scores = {
        "kernel_ms": kernel,
        "path_kernel_ms": measure(path.alpha, path.live, options.moves),
        "browser_ms": in_browser(run) if shutil.which("chromium") else {},
        "seconds": dry.sounds.shape[1] / passages.RATE_HZ,
        "moves": options.moves,
        "machine": {"kind": platform.machine(), "processors": len(os.sched_getaffinity(0)), "device": "CPU"},
    }
    figures.record_benchmarks({"slider": scores})
    print(scores)


def measure(slider, live, moves: int) -> dict[str, float]:
    """Median and 95th percentile in ms of moving a slider, seeing and hearing it; each time, both are new."""
    taken = []
    for i in range(moves + 5):
        before = live.picture.value, live.sound.value
        value = slider.min + (slider.max - slider.min) * ((i * 37) % 101) / 101
        begun = time.perf_counter()
        slider.value = value  # outside a notebook nothing is waited for: the sound follows at once
        taken.append(1e3 * (time.perf_counter() - begun))
        assert live.picture.value != before[0] and live.sound.value != before[1]
    return {"median": statistics.median(taken[5:]), "p95": float(np.percentile(taken[5:], 95))}


def in_browser(run: runs.Run) -> dict[str, float]:
    """Medians in ms from a key press on a slider in JupyterLab to the changed picture and to the changed sound."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        environment = browsing.small_project(home, run.preset)
        vae_dir, a_map = home / "runs" / "report" / "vae", home / "runs" / "report" / "playable" / "all_bottleneck_2"
        runs.save_run(
            vae_dir, run.preset, run.model, run.statistics, {"epoch": np.arange(1.0)}, run.kl, run.fingerprint
        )
        playable.save_playable(a_map, untrained_map(run, width=128), {"epoch": np.arange(1.0)}, "untrained")
        cells = [
            nbformat.v4.new_code_cell("from vaefx_lib import config, play_panel, playable, references"),
            nbformat.v4.new_code_cell(
                'dry = references.draw_dry(config.preset("report"), "test", 1)\n'
                f"play_panel.play(playable.load({str(a_map)!r}), dry)"
            ),
        ]
        kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
        nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), home / "notebooks" / "play.ipynb")
        with browsing.served("lab", environment, browsing.lab_options(home)) as (address, _):
            with browsing.browser() as chromium:
                page, _ = browsing.new_page(chromium)
                browsing.run_lesson(page, address, "play")
                panel = page.locator(browsing.PANEL).first
                handle = panel.locator(".noUi-handle").first
                taken = []
                for key in ["ArrowRight", "ArrowLeft"] * 15:
                    taken.append(browsing.key_press_ms(panel, handle, key))
                    page.wait_for_timeout(300)
    return {name: statistics.median(each[name] for each in taken[4:]) for name in ("picture", "sound")}


@dataclasses.dataclass(frozen=True, eq=False)
class Clips:
    """Passages, cut, in place of rendered pairs."""

    dry: references.Dry
    samples: int

    @property
    def speakers(self) -> np.ndarray:
        """One for each clip."""
        return self.dry.speakers

    def __getitem__(self, number: int) -> np.ndarray:
        return self.dry.sounds[number][None, : self.samples]


def untrained(preset: config.Preset, dry: references.Dry) -> runs.Run:
    """A network of the preset, as it is drawn."""
    torch.manual_seed(0)
    model = vae.build(preset.vae, preset.stft.num_frames, preset.stft.num_bins).eval()
    S = spectrogram.magnitude(dry.sounds, preset.stft)
    statistics_ = spectrogram.measure(np.stack([S, S], axis=1))
    return runs.Run(Path(), preset, model, statistics_, {}, np.zeros((1, preset.vae.latent_dim)), "untrained")


if __name__ == "__main__":
    main()
