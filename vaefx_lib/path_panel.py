"""The panel of lesson 04: a slider between two sounds, one line over plain functions of `players`.

Without anybody to move a slider (`widgets.is_headless`) a still picture and a sound, made by the same functions, take
the place of the panel.
"""

from __future__ import annotations

import ipywidgets
import numpy as np

from vaefx_lib import audio, effects, pictures, players, plots, runs, widgets

CLIPS_EACH = 3  # of each speaker, to choose from


def interpolate(
    run: runs.Run, clips, *, start: tuple[int, str], end: tuple[int, str], setting: float = 0.5, alpha: float = 0.5
):
    """A slider between two clips, two effects, or both: the two spectrograms and the wet sound at a place between.

    Both ends can be chosen.

    Parameters
    ----------
    run : Run
    clips : Dataset
        Rendered pairs, whose dry clips are offered, a few of each speaker.
    start, end : (int, str)
        Where it begins: a clip's number in `clips`, and an effect of `run.preset`.
    setting : float in [0, 1]
        Of every parameter of both effects.
    alpha : float in [0, 1]
        0 is `start`, 1 is `end`.

    Returns
    -------
    Widget, or None if it is headless

    Used in `04_interpolation_figures`.
    """
    panel = Panel(run, clips, start, end, setting)
    if not widgets.is_headless():
        return panel.shown(alpha).widget
    S, stft = panel.pair(start, end, alpha), run.preset.stft
    figure = plots.plot_pair(S, stft, f"alpha {alpha:g}")
    widgets.still(figure, sound=panel.sound(S[1], start, end, alpha), rate_hz=stft.sample_rate_hz)
    return None


class Panel:
    """What `interpolate` shows and plays; `shown` makes its controls."""

    def __init__(self, run: runs.Run, clips, start: tuple[int, str], end: tuple[int, str], setting: float):
        self.run, self.clips, self.start, self.end, self.setting = run, clips, start, end, setting
        self.known: dict[tuple[int, str], np.ndarray] = {}

    def pair(self, start: tuple[int, str], end: tuple[int, str], alpha: float) -> np.ndarray:
        """The spectrograms at a place between two ends, (2, frames, bins)."""
        for number, name in (start, end):
            if (number, name) not in self.known:
                dry, effect = self.clips[number][0], effects.load(name)
                self.known[number, name] = players.embedded(self.run, dry, effect, self.setting)
        return players.interpolated(self.run, self.known[start], self.known[end], alpha)

    def sound(self, S, start: tuple[int, str], end: tuple[int, str], alpha: float) -> np.ndarray:
        """The sound of one of them, (samples,)."""
        clip_1, clip_2 = (self.clips[number][0] for number, _ in (start, end))
        return players.between(clip_1, clip_2, S, alpha, self.run.preset.stft)

    def shown(self, alpha: float) -> Panel:
        """With `alpha` to move and both ends to choose; `widget` shows them."""
        clips = voices(self.clips, also=(self.start[0], self.end[0]))
        names = {plots.short_name(name): name for name in self.run.preset.render.effects}
        self.ends = []
        for text, (number, name) in {"from": self.start, "to": self.end}.items():
            clip = widgets.dropdown(f"{text} voice", clips, "a dry clip of a speaker whom the network has not heard")
            effect = widgets.dropdown(f"{text} effect", names, f"the effect on it, all settings {self.setting:g}")
            clip.value, effect.value = number, name
            self.ends.append((clip, effect))
        self.alpha = widgets.slider("alpha", 0, 1, alpha, "place on the line, no unit: 0 is from, 1 is to")
        self.picture = pictures.PairPicture(self.pair(self.start, self.end, 0.0), self.run.preset.stft)
        controls = [self.alpha, *self.ends[0], *self.ends[1]]
        self.live = widgets.Live(controls, self._see, self._hear, label="spectrograms, dry and wet, at this place")
        shown = [self.live.picture, self.live.caption, self.live.channel, self.live.sound, self.live.status]
        self.widget = ipywidgets.VBox([*map(ipywidgets.HBox, self.ends), self.alpha, *shown])
        return self

    def _see(self) -> tuple[bytes, tuple]:
        start, end = ((clip.value, effect.value) for clip, effect in self.ends)
        S = self.pair(start, end, self.alpha.value)
        return self.picture.png(S), (S, start, end, self.alpha.value)

    def _hear(self, seen: tuple, channel: int) -> bytes:
        S, *place = seen
        return audio.to_wav_bytes(self.sound(S[channel], *place), self.run.preset.stft.sample_rate_hz)


def voices(clips, *, also=()) -> dict[str, int]:
    """Some clips of each speaker of a data set, label -> number; and those of the numbers `also`."""
    speakers = np.asarray(clips.speakers)
    first = [np.flatnonzero(speakers == name)[:CLIPS_EACH] for name in np.unique(speakers)]
    numbers = sorted({*map(int, np.concatenate(first)), *also}, key=lambda number: (speakers[number], number))
    return {f"{speakers[number]}, clip {number}": number for number in numbers}
