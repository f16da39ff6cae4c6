"""The panel of lesson 06: a place of a playable latent space becomes settings of an effect, and is heard at once."""

from __future__ import annotations

import html
from dataclasses import dataclass

import ipyevents
import ipywidgets
import numpy as np

from vaefx_lib import audio, effects, passages, pictures, places, players, plots, references, spectrogram, widgets
from vaefx_lib.playable import Playable

MAP_SAYS = "as the map says"


@dataclass(frozen=True, eq=False)
class Clip:
    """A dry sound to play on, with all made ready that does not change with the settings.

    Attributes
    ----------
    dry : array, float32, shape (samples,)
        At the level of rendered pairs.
    heard : array, float32, shape (samples,)
        As it is played.
    S : array, float32, shape (frames, bins)
        Of `heard`.
    picture : PairPicture
    """

    dry: np.ndarray
    heard: np.ndarray
    S: np.ndarray
    picture: pictures.PairPicture


def play(playable: Playable, dry: references.Dry, *, place=None):
    """Sliders on a latent space that set an effect, and its sound on any clip; "find similar"; A/B; export.

    A space of two dimensions has a map as well, to be clicked on.

    Parameters
    ----------
    playable : Playable
    dry : Dry
        Passages to play on.
    place : array, shape (dim,), optional
        Where it begins; by default in the middle.

    Returns
    -------
    Widget, or None if it is headless: then a still picture, its sound and the map are shown

    Used in `06_playable_latent`.
    """
    place = (playable.low + playable.high) / 2 if place is None else np.asarray(place, float)
    if not widgets.is_headless():
        return Panel(playable, dry, place).widget
    stft, seen = playable.run.preset.stft, places.at(playable, place, dry.sounds[0])
    settings = ", ".join(f"{name} {row['value']:.3g} {row['unit']}" for name, row in seen.told.items())
    maps = [draw_map(playable, None, "effect", dry.sounds[0]).figure] if playable.dim == 2 else []
    pair = plots.plot_pair(spectrogram.magnitude(seen.sounds, stft), stft, f"{seen.effect.name}: {settings}")
    widgets.still(*maps, pair, sound=seen.sounds[1], rate_hz=passages.RATE_HZ)
    return None


def draw_map(playable: Playable, effect: effects.Effect | None, by: str, dry) -> pictures.MapPicture:
    """The map of a two-dimensional space coloured by one of `places.map_choices`."""
    values, unit = places.map_values(playable, effect, by, dry), places.map_choices(effect)[by]
    names = playable.effects if by == "effect" else ()
    return pictures.MapPicture(values, playable.low, playable.high, f"{by} ({unit})" if unit else by, names)


class Panel:
    """The controls of `play`, and what they do; `widget` shows them."""

    def __init__(self, playable: Playable, dry: references.Dry, place: np.ndarray):
        self.playable, self.dry, self.stft = playable, dry, playable.run.preset.stft
        passages_of = enumerate(zip(dry.speakers, dry.sounds, strict=True))
        self.sounds = {f"{speaker}, passage {i + 1}": sound for i, (speaker, sound) in passages_of}
        self.clips, self.maps, self.map, self.drawn = {}, {}, None, 0
        self._make_controls(place)
        self._colour()
        controls, label = [*self.axes, self.effect, self.clip], "spectrograms of dry and wet, as they are played"
        self.live = widgets.Live(controls, self._see, self._hear, label=label)
        self._connect()
        self.widget = self._laid_out()

    def _make_controls(self, place: np.ndarray) -> None:
        known, ends = self.playable.effects, zip(self.playable.low, self.playable.high, place, strict=True)
        several = [(MAP_SAYS, MAP_SAYS)] if len(known) > 1 else []
        self.effect = widgets.dropdown(
            "effect", [*several, *((plots.short_name(name), name) for name in known)], "which effect is set"
        )
        self.clip = widgets.dropdown("clip", list(self.sounds), "the dry sound that is played")
        self.axes = [
            widgets.slider(f"axis {i + 1}", low, high, value, f"coordinate {i + 1} of the latent place, no unit")
            for i, (low, high, value) in enumerate(ends)
        ]
        self.colour = widgets.dropdown("colour", self._choices(), "what the colours of the map tell")
        self.pad = ipywidgets.Image(format="png")
        self.pad.add_class("vaefx-map")
        self.table, self.links, self.found = (ipywidgets.HTML() for _ in range(3))
        self.own = widgets.upload(
            "own file", "a sound file of your own to play on, up to 100 MB; of a long one the loudest 5.46 s"
        )
        self.similar = widgets.upload("find similar", "a sound file: the sliders move to the place most like it")
        self.draw = ipywidgets.Button(
            description="a random reference",
            tooltip="a passage at random settings: do the sliders find them?",
            layout={"width": "max-content"},
        )
        self.reference = widgets.player()

    def _connect(self) -> None:
        mouse = ["mousedown", "mousemove"]
        self.clicks = ipyevents.Event(source=self.pad, watched_events=mouse, prevent_default_action=True, wait=30)
        self.clicks.on_dom_event(self._pointed)
        self.effect.observe(self._recolour, "value")
        self.colour.observe(self._recolour, "value")
        self.own.observe(self._upload, "value")
        self.similar.observe(self._upload_reference, "value")
        self.draw.on_click(self._draw_reference)

    def _laid_out(self) -> ipywidgets.VBox:
        heard = [self.live.channel, self.live.sound, self.live.status, self.links]
        where = ipywidgets.VBox([*self.axes, self.table, *heard])
        if self.playable.dim == 2:
            words = ipywidgets.HTML("<small>map of the latent space: click or drag, the square is the place</small>")
            where = ipywidgets.HBox([ipywidgets.VBox([self.colour, self.pad, words]), where])
        chosen = ipywidgets.HBox([self.effect, self.clip, self.own])
        similar = ipywidgets.HBox([self.similar, self.draw, self.reference])
        return ipywidgets.VBox([chosen, where, self.live.picture, self.live.caption, similar, self.found])

    # --- what a move does ---

    def _effect(self) -> str | None:
        return None if self.effect.value == MAP_SAYS else self.effect.value

    def _see(self) -> tuple[bytes, places.Place]:
        clip, z = self._clip(), np.array([axis.value for axis in self.axes])
        seen = places.at(self.playable, z, clip.dry, effect=self._effect(), heard=clip.heard)
        self.table.value = settings_table(seen)
        self._mark()
        return clip.picture.png([clip.S, spectrogram.magnitude(seen.sounds[1], self.stft)]), seen

    def _hear(self, seen: places.Place, channel: int) -> bytes:
        dry, wet = (audio.to_wav_bytes(sound, passages.RATE_HZ) for sound in seen.sounds)
        told = places.exported(self.playable, seen, self.clip.value).encode()
        links = [
            widgets.download("settings.json", told, "application/json", "settings as JSON"),
            widgets.download("wet.wav", wet, "audio/wav", "sound as WAV"),
        ]
        self.links.value = f"save: {' · '.join(links)}"
        return wet if channel else dry

    def _clip(self) -> Clip:
        name = self.clip.value
        if name not in self.clips:
            heard = players.levelled(self.sounds[name], passages.RATE_HZ)
            S = spectrogram.magnitude(heard, self.stft)
            self.clips[name] = Clip(self.sounds[name], heard, S, pictures.PairPicture([S, S], self.stft))
        return self.clips[name]

    # --- the map ---

    def _choices(self) -> list[str]:
        return list(places.map_choices(effects.load(self._effect()) if self._effect() else None))

    def _recolour(self, change) -> None:
        with self.live.told():
            if change.owner is self.effect:
                self.colour.options = self._choices()
            self._colour()
            self._mark()

    def _colour(self) -> None:
        key = self._effect(), self.colour.value
        if self.playable.dim == 2 and key not in self.maps:
            effect = effects.load(key[0]) if key[0] else None
            self.maps[key] = draw_map(self.playable, effect, key[1], self.dry.sounds[0])
        self.map = self.maps.get(key)

    def _mark(self) -> None:
        if self.map is not None:
            self.pad.value = self.map.png([axis.value for axis in self.axes])

    def _pointed(self, event: dict) -> None:
        """A click on the map, or a drag over it."""
        if self.map is not None and event["buttons"] == 1:
            scale = self.map.drawn.shape[1] / event["boundingRectWidth"]  # the browser may show it larger or smaller
            self._go(self.map.place(event["relativeX"] * scale, event["relativeY"] * scale))

    def _go(self, z) -> None:
        """Move all sliders at once."""
        with self.live.together():
            for axis, value in zip(self.axes, z, strict=True):
                axis.value = value

    # --- files and references ---

    def _upload(self, change) -> None:
        """A file of one's own becomes one more clip to play on."""
        with self.live.told():
            name, sound = widgets.uploaded(self.own)
            with self.live.together():
                self.sounds[name] = sound
                self.clips.pop(name, None)
                self.clip.options = list(self.sounds)
                self.clip.value = name

    def _upload_reference(self, change) -> None:
        with self.live.told():
            name, sound = widgets.uploaded(self.similar)
            self._find(sound, name)

    def _draw_reference(self, button) -> None:
        """A passage through an effect at random settings, which are told afterwards."""
        with self.live.told():
            self.drawn += 1
            name = self._effect() or self.playable.effects[self.drawn % len(self.playable.effects)]
            effect = effects.load(name)
            sound, settings = players.random_reference(effect, self.dry, self.drawn)
            values = (f"{n} {row['value']:.3g} {row['unit']}" for n, row in places.told(effect, settings).items())
            self._find(sound, f"{plots.short_name(name)} at {', '.join(values)}")

    def _find(self, sound: np.ndarray, text: str) -> None:
        """Move the sliders to the place of a reference, and offer it beside."""
        z = self.playable.place(self._clip().dry, sound, self._effect())
        inside = np.clip(z, self.playable.low, self.playable.high)
        self.reference.value = audio.to_wav_bytes(players.levelled(sound, passages.RATE_HZ), passages.RATE_HZ)
        beyond = "" if np.array_equal(z, inside) else "; it lies beyond the ends of the sliders"
        self.found.value = f"reference: {html.escape(text)}{beyond}"
        self._go(inside)


def settings_table(seen: places.Place) -> str:
    """The settings of a place as an HTML table: name, value with its unit, setting."""
    rows = "".join(
        f'<tr><td>{html.escape(name)}</td><td data-setting="{row["setting"]!r}">'
        f"{row['value']:.3g} {html.escape(row['unit'])}</td><td>{row['setting']:.3f}</td></tr>"
        for name, row in seen.told.items()
    )
    head = "<tr><th>setting</th><th>value</th><th>of its range, 0 to 1</th></tr>"
    return f"<table><caption>{html.escape(seen.effect.name)}</caption>{head}{rows}</table>"
