"""How soon a slider is seen and heard, into figures/benchmarks.json: `make bench-slider`.

Kernel: from a slider's new value to the bytes of the new picture and of the new sound, as lessons 04 and 06 make them,
on 5.46 s of speech at 24 kHz and on the report's clips of 2.7 s; without the 80 ms for which a control has to rest. The
networks are of the report's sizes and not trained, which takes as long. The reference is to decode the place of the
slider, and in lesson 06 to call the effect, and nothing else: no picture, no levels, no file of sound.

Browser, if there is a chromium: in JupyterLab, from a key press on a slider to the changed bytes of the picture and of
the sound, the rest included.
"""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
import time
from pathlib import Path

import benching
import browsing
import nbformat
import numpy as np
import torch
from conftest import untrained_map

from vaefx_lib import (
    blackbox,
    config,
    effects,
    passages,
    path_panel,
    play_panel,
    playable,
    players,
    references,
    runs,
    spectrogram,
    standardisation,
    vae,
    widgets,
)

MOVES, ROUNDS = 200, 5  # of each slider, in so many rounds


def main() -> None:
    """Measure and record."""
    imported_mb = benching.peak_mb()
    preset = config.preset("report")
    dry = references.draw_dry(preset, "test", 2)
    run = untrained(preset, dry)
    panel = play_panel.Panel(untrained_map(run), dry, np.zeros(2))
    assert dry.sounds.shape[1] == passages.SAMPLES  # 5.46 s
    start, end = (0, "mda:Delay"), (1, "mda:Overdrive")
    path = path_panel.Panel(run, Clips(dry, preset.stft.num_samples), start, end, 0.5).shown(0.5)

    def play(value: float) -> None:
        made, z = panel.playable, np.array([value, panel.axes[1].value])
        effect = effects.load(made.likely_effect(z))
        blackbox.wet(effect, dry.sounds[0], made.settings(z, effect.name), passages.RATE_HZ)

    def go(value: float) -> None:
        players.interpolated(run, path.known[start], path.known[end], value)

    rows, kernel, scores = [], {}, {"browser_ms": {}}
    for name, lesson, slider, live, alone, words in (
        ("kernel_ms", "06", panel.axes[0], panel.live, play, "decoding and the effect alone"),
        ("path_kernel_ms", "04", path.alpha, path.live, go, "decoding alone"),
    ):
        moves, raw = measure(slider, live, alone)
        kernel[name] = benching.medians(moves, ROUNDS)
        scores[name] = {"median": float(np.median(moves)), "p95": float(np.percentile(moves, 95))}
        what = f"a slider of lesson {lesson}, seen and heard"
        rows.append(benching.row(what, "ms", kernel[name], words, benching.medians(raw, ROUNDS)))
    if shutil.which("chromium"):
        for name, presses in in_browser(run).items():
            rest = f", {1000 * widgets.REST_S:.0f} ms of rest included" if name == "sound" else ""
            what, taken = f"lesson 06 in a browser, from a key to the {name}{rest}", benching.medians(presses, ROUNDS)
            rows.append(benching.row(what, "ms", taken, "without a browser", kernel["kernel_ms"]))
            scores["browser_ms"][name] = float(np.median(presses))
    rows.append(benching.memory_row("the sliders", imported_mb))
    benching.keep("slider", rows, seconds=dry.sounds.shape[1] / passages.RATE_HZ, moves=MOVES, **scores)


def measure(slider, live, alone) -> tuple[list[float], list[float]]:
    """Milliseconds of moving a slider, seeing and hearing it, where each time both are new; and of `alone` in turns."""
    moves, raw = [], []
    for i in range(MOVES + 5):
        before = live.picture.value, live.sound.value
        value = slider.min + (slider.max - slider.min) * ((i * 37) % 101) / 101
        begun = time.perf_counter()
        slider.value = value  # outside a notebook nothing is waited for: the sound follows at once
        moved = time.perf_counter()
        alone(slider.value)
        moves.append(1e3 * (moved - begun))
        raw.append(1e3 * (time.perf_counter() - moved))
        assert live.picture.value != before[0] and live.sound.value != before[1]
    return moves[5:], raw[5:]  # the first are slower


def in_browser(run: runs.Run) -> dict[str, list[float]]:
    """Milliseconds from a key press on a slider in JupyterLab to the changed picture and to the changed sound."""
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
    return {name: [each[name] for each in taken[4:]] for name in ("picture", "sound")}


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
    statistics_ = standardisation.measure(np.stack([S, S], axis=1))
    return runs.Run(Path(), preset, model, statistics_, {}, np.zeros((1, preset.vae.latent_dim)), "untrained")


if __name__ == "__main__":
    main()
