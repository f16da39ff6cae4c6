"""A picture and a sound that follow controls in a notebook: the picture at every move, the sound at rest.

Nothing here knows what is shown: `path_panel` and `play_panel` do. Pictures and sounds are replaced in place, without
an Output widget.
"""

from __future__ import annotations

import asyncio
import base64
import html
import os
import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager

import ipywidgets
import matplotlib.pyplot as plt
import numpy as np
from IPython.display import Audio, display

from vaefx_lib import audio, players

SILENCE = audio.to_wav_bytes(np.zeros(2400), 24_000)  # a player without any bytes is an error to a browser
REST_S = 0.08  # without a move: a control rests, and its sound is made


class Live:
    """A picture, a sound and a line of status that follow controls.

    While a control is dragged its every value is seen. A sound is made once the controls have rested for 0.08 s, and
    only for the last of their values: an older one that is still due is dropped.

    Parameters
    ----------
    controls : sequence of Widget
        With a `value`.
    see : callable
        ``see()`` gives (PNG bytes, what was seen) for the controls as they are.
    hear : callable
        ``hear(seen, channel)`` gives the bytes of a WAV file; channel 0 is dry, 1 is wet. May be called again for what
        was seen before.
    label : str
        What the picture shows, in words below it.

    Used in `04_interpolation_figures` and `06_playable_latent`.
    """

    def __init__(self, controls: Sequence, see: Callable, hear: Callable, *, label: str):
        self._see, self._hear, self._held = see, hear, False
        self.moved = False  # as yet: a page that opens is silent
        self.generation = self.heard = 0
        self.seen = None
        self.picture = ipywidgets.Image(format="png", layout={"max_width": "100%"})  # a tooltip would break its view
        self.picture.add_class("vaefx-picture")
        self.caption, self.sound = ipywidgets.HTML(f"<small>{html.escape(label)}</small>"), player()
        self.channel = choice("hear", [("wet", 1), ("dry", 0)], "A/B: the sound through the effect, or without it")
        self.status = ipywidgets.HTML()
        for control in controls:
            control.observe(self._moved, "value")
        self.channel.observe(self._compared, "value")
        self.move()
        self.listen()

    def move(self) -> None:
        """See the controls as they are; the sound is still the old one."""
        self.generation += 1
        begun, self.seen = time.perf_counter(), None
        with self.told():
            self.picture.value, self.seen = self._see()
            self._say(f"picture {self.generation} in {1e3 * (time.perf_counter() - begun):.0f} ms")

    def listen(self) -> None:
        """Hear what is seen; nothing, if that failed."""
        begun = time.perf_counter()
        with self.told():
            sound = SILENCE if self.seen is None else self._hear(self.seen, self.channel.value)
            with self.sound.hold_sync():  # one message: a player told to start alone would start its old sound
                self.sound.value, self.sound.autoplay = sound, self.moved
            self.heard = self.generation
            if self.seen is not None:
                self._say(f"sound {self.heard} in {1e3 * (time.perf_counter() - begun):.0f} ms")

    @contextmanager
    def together(self):
        """Several controls are set in here, and seen as one move."""
        self._held, before = True, self._held
        try:
            yield
        finally:
            self._held = before
        self._moved()

    @contextmanager
    def told(self):
        """What cannot be done in here is told in the line of status, in one sentence."""
        try:
            yield
        except (ValueError, OSError) as error:  # an effect that fails is an OSError
            self._say(f'<b role="alert">{html.escape(str(error))}</b>')

    def _compared(self, change) -> None:
        self.moved = True
        self.generation += 1
        self.listen()

    def _moved(self, change=None) -> None:
        if not self._held:
            self.moved = True
            self.move()
            _later(REST_S, self._rested, self.generation)

    def _rested(self, generation: int) -> None:
        if generation == self.generation:  # else there has been another move since
            self.listen()

    def _say(self, text: str) -> None:
        self.status.value = f'<small data-seen="{self.generation}" data-heard="{self.heard}">{text}</small>'


def is_headless() -> bool:
    """Whether a notebook is run without anybody to move a slider, so that still pictures take their places."""
    return bool(os.environ.get("VAEFX_HEADLESS"))


def still(*figures, sound, rate_hz: int) -> None:
    """What a panel shows, without its controls: figures, and a sound (samples,)."""
    for figure in figures:
        display(figure)
        plt.close(figure)
    display(Audio(sound, rate=rate_hz, normalize=False))


def player() -> ipywidgets.Audio:
    """A player, silent as yet."""
    return ipywidgets.Audio(value=SILENCE, format="wav", autoplay=False, loop=False)


def slider(name: str, low: float, high: float, value: float, tooltip: str, **options) -> ipywidgets.FloatSlider:
    """A slider of 100 steps; it reports every value while it is dragged."""
    step = (high - low) / 100
    about = {"description": name, "tooltip": tooltip, "readout_format": ".2f", "layout": {"width": "28em"}}
    about["style"] = {"description_width": "6em"}
    return ipywidgets.FloatSlider(value=value, min=low, max=high, step=step, continuous_update=True, **about, **options)


def dropdown(name: str, options, tooltip: str) -> ipywidgets.Dropdown:
    """One of several, by a list."""
    return ipywidgets.Dropdown(options=options, description=name, tooltip=tooltip, style={"description_width": "6em"})


def choice(name: str, options, tooltip: str) -> ipywidgets.ToggleButtons:
    """One of a few, by buttons."""
    style = {"description_width": "6em", "button_width": "5em"}
    return ipywidgets.ToggleButtons(options=options, description=name, tooltip=tooltip, style=style)


def upload(name: str, tooltip: str) -> ipywidgets.FileUpload:
    """A button that takes a sound file."""
    return ipywidgets.FileUpload(accept="audio/*", description=name, tooltip=tooltip)


def uploaded(button: ipywidgets.FileUpload) -> tuple[str, np.ndarray]:
    """Name of the file that a button of `upload` was given, and its sound; see `players.own_sound`."""
    file = button.value[-1]
    return file["name"], players.own_sound(file["name"], bytes(file["content"]))


def download(name: str, data: bytes, kind: str, text: str) -> str:
    """A link, as HTML, that saves these bytes as a file."""
    encoded = base64.b64encode(data).decode()
    return f'<a download="{html.escape(name)}" href="data:{kind};base64,{encoded}">{html.escape(text)}</a>'


def _later(delay_s: float, function: Callable, *arguments) -> None:
    """Call in a moment; at once where nothing runs in between, such as outside a notebook."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        function(*arguments)
    else:
        loop.call_later(delay_s, function, *arguments)
