"""Panels: what is seen and heard follows the sliders, the newest place wins, and errors are one sentence."""

import asyncio
import base64
import html
import json
import re
from datetime import datetime

import numpy as np
import pytest
from test_players import WHOLE, voice_like

from vaefx_lib import (
    audio,
    config,
    effects,
    passages,
    path_panel,
    places,
    play_panel,
    players,
    references,
    rendering,
    runs,
    widgets,
)


@pytest.fixture
def dry():
    sounds = [audio.peak_level(voice_like(seed=i)) for i in range(3)]
    return references.Dry(np.stack(sounds), np.array(["ann", "bob", "cid"]))


@pytest.fixture(autouse=True)
def _with_a_browser(monkeypatch):
    monkeypatch.delenv("VAEFX_HEADLESS", raising=False)


def follower(control, heard, failing=()):
    """A picture and a sound of one number; `heard` gets every sound that is made."""

    def see():
        if control.value in failing:
            raise ValueError(f"there is nothing <at> {control.value}")
        return f"picture of {control.value}".encode(), control.value

    def hear(seen, channel):
        heard.append((seen, channel))
        return f"sound of {seen}, {channel}".encode()

    return widgets.Live([control], see, hear, label="a number")


def test_every_move_is_seen_and_only_the_last_before_a_rest_is_heard():
    control, heard = widgets.slider("x", 0, 1, 0.5, ""), []
    live = follower(control, heard)

    async def drag():
        for value in (0.1, 0.2, 0.3, 0.4):
            control.value = value
            assert live.picture.value == f"picture of {value}".encode()
            await asyncio.sleep(widgets.REST_S / 4)
        assert heard == [(0.5, 1)]  # nothing but what was heard at first
        await asyncio.sleep(2 * widgets.REST_S)
        assert heard == [(0.5, 1), (0.4, 1)]
        control.value = 0.9
        await asyncio.sleep(2 * widgets.REST_S)

    asyncio.run(drag())
    assert heard == [(0.5, 1), (0.4, 1), (0.9, 1)]
    assert live.sound.value == b"sound of 0.9, 1"


def test_nothing_plays_by_itself_before_the_first_move():
    control = widgets.slider("x", 0, 1, 0.5, "")
    live = follower(control, [])
    assert live.sound.value
    assert not live.sound.autoplay
    control.value = 0.6
    assert live.sound.autoplay


def test_the_player_is_told_to_start_with_its_new_sound_and_not_with_the_old_one():
    control, started = widgets.slider("x", 0, 1, 0.5, ""), []
    live = follower(control, [])
    live.sound.observe(lambda change: started.append(live.sound.value), "autoplay")
    control.value = 0.6
    assert started == [live.sound.value] == [b"sound of 0.6, 1"]


def test_several_controls_set_together_are_one_move():
    first, second, seen = widgets.slider("x", 0, 1, 0, ""), widgets.slider("y", 0, 1, 0, ""), []
    see = lambda: (b"", seen.append((first.value, second.value)))  # noqa: E731
    live = widgets.Live([first, second], see, lambda seen, channel: b"", label="")
    with live.together():
        first.value, second.value = 0.25, 0.75
    assert seen == [(0, 0), (0.25, 0.75)]


def test_what_cannot_be_seen_is_told_in_a_sentence_and_no_older_sound_stays():
    control, heard = widgets.slider("x", 0, 1, 0.5, ""), []
    live = follower(control, heard, failing=[0.7])
    control.value = 0.7
    assert html.unescape(re.sub("<[^>]*>", "", live.status.value)) == "there is nothing <at> 0.7"
    assert live.sound.value == widgets.SILENCE
    control.value = 0.8
    assert live.sound.value == b"sound of 0.8, 1"
    assert "nothing" not in live.status.value


# --- the panel of lesson 06 -------------------------------------------------------------------------------------------


def linked(panel, name):
    """The bytes behind a download link."""
    data = re.search(rf'download="{re.escape(name)}" href="data:[\w/]+;base64,([^"]+)"', panel.links.value).group(1)
    return base64.b64decode(data)


def displayed(panel):
    return [float(text) for text in re.findall(r'data-setting="([^"]+)"', panel.table.value)]


def test_the_displayed_settings_are_the_decoders_and_the_sound_is_the_effects_with_them(small_map, dry):
    panel = play_panel.Panel(small_map, dry, np.zeros(2))
    for z in ([0.4, -0.8], [-1.6, 1.2]):
        panel._go(z)
        for name in small_map.effects:
            panel.effect.value = name
            settings = small_map.settings(z, name)
            assert displayed(panel) == settings.tolist()
            for param, setting in zip(effects.load(name).params, settings):
                assert f"{param.to_native(setting):.3g} {html.escape(param.unit)}<" in panel.table.value
            heard = players.played(effects.load(name), dry.sounds[0], settings)
            assert panel.live.sound.value == audio.to_wav_bytes(heard, passages.RATE_HZ)
            assert json.loads(linked(panel, "settings.json"))["effect"] == name
            assert linked(panel, "wet.wav") == panel.live.sound.value
        panel.effect.value = play_panel.MAP_SAYS
        assert small_map.likely_effect(z) in panel.table.value


def test_each_axis_moves_picture_sound_and_map(small_map, dry):
    panel = play_panel.Panel(small_map, dry, np.zeros(2))
    for axis in panel.axes:
        before = panel.live.picture.value, panel.live.sound.value, panel.pad.value
        axis.value = axis.max
        after = panel.live.picture.value, panel.live.sound.value, panel.pad.value
        assert all(old != new for old, new in zip(before, after))


def test_a_against_b_is_dry_against_wet_of_the_same_clip(small_map, dry):
    panel = play_panel.Panel(small_map, dry, np.zeros(2))
    panel.clip.value = "bob, passage 2"
    wet, picture = panel.live.sound.value, panel.live.picture.value
    panel.live.channel.value = 0
    heard = players.levelled(dry.sounds[1], passages.RATE_HZ)
    assert panel.live.sound.value == audio.to_wav_bytes(heard, passages.RATE_HZ)
    assert panel.live.picture.value == picture
    assert linked(panel, "wet.wav") == wet
    panel.live.channel.value = 1
    assert panel.live.sound.value == wet


def test_the_sliders_move_to_where_the_map_hears_a_reference(small_map, dry):
    panel = play_panel.Panel(small_map, dry, np.zeros(2))
    panel.similar.value = [file("voice.wav", WHOLE)]
    z = small_map.place(dry.sounds[0], players.own_sound("voice.wav", WHOLE))
    inside = np.clip(z, small_map.low, small_map.high)
    assert [axis.value for axis in panel.axes] == inside.tolist()
    assert "voice.wav" in panel.found.value
    assert ("beyond" in panel.found.value) == (not np.array_equal(z, inside))
    assert panel.reference.value != widgets.SILENCE
    panel.draw.click()
    assert "Delay at l_delay" in panel.found.value


def file(name, data):
    return {
        "name": name,
        "type": "audio/wav",
        "size": len(data),
        "last_modified": datetime.now(),
        "content": memoryview(data),
    }


def test_an_uploaded_file_is_one_more_clip_and_a_damaged_one_is_told_of(small_map, dry):
    panel = play_panel.Panel(small_map, dry, np.zeros(2))
    panel.own.value = [file("mine.wav", WHOLE)]
    assert panel.clip.value == "mine.wav"
    assert np.array_equal(panel._clip().dry, players.own_sound("mine.wav", WHOLE))
    before = panel.live.sound.value
    panel.own.value = [file("<b>half.wav", WHOLE[: len(WHOLE) // 2])]
    assert "&lt;b&gt;half.wav is cut short" in panel.live.status.value
    assert panel.clip.value == "mine.wav"
    assert panel.live.sound.value == before


def test_a_map_can_be_coloured_by_what_the_chosen_effect_has(small_map, dry):
    panel = play_panel.Panel(small_map, dry, np.zeros(2))
    assert panel.colour.options == ("effect", "brightness")
    panel.effect.value = "mda:Delay"
    assert panel.colour.options == (*effects.load("mda:Delay").param_names, "brightness")
    before = panel.pad.value
    panel.colour.value = "fx_mix"
    assert panel.pad.value != before


# --- the panel of lesson 04 -------------------------------------------------------------------------------------------


@pytest.fixture
def spoken_run(spoken, spoken_home, monkeypatch):
    monkeypatch.setenv("VAEFX_HOME", str(spoken_home))
    return runs.load(config.vae_dir(spoken.name)), rendering.load(config.data_dir(spoken.name, "test"))


def of_kind(widget, kind):
    """All widgets of a kind in a panel."""
    children = getattr(widget, "children", ())
    return [found for child in children for found in of_kind(child, kind)] + [widget] * isinstance(widget, kind)


def test_a_path_can_be_walked_between_any_two_voices_and_effects(spoken_run):
    run, clips = spoken_run
    start, end = (0, "mda:Delay"), (0, "mda:Overdrive")
    panel = path_panel.interpolate(run, clips, start=start, end=end)
    (alpha,) = of_kind(panel, widgets.ipywidgets.FloatSlider)
    (picture,), (sound,) = of_kind(panel, widgets.ipywidgets.Image), of_kind(panel, widgets.ipywidgets.Audio)
    seen = {(picture.value, sound.value)}
    alpha.value = 1.0
    S = players.interpolated(run, embedded(run, clips, start), embedded(run, clips, end), 1.0)
    heard = players.between(clips[0][0], clips[0][0], S[1], 1.0, run.preset.stft)
    assert sound.value == audio.to_wav_bytes(heard, run.preset.stft.sample_rate_hz)
    seen.add((picture.value, sound.value))
    dropdowns = of_kind(panel, widgets.ipywidgets.Dropdown)
    assert {clips.speakers[number] for number in dropdowns[0].options.values()} == {*clips.speakers}
    for other in dropdowns[2:]:  # of the end at which we are
        other.value = next(value for value in other.options.values() if value != other.value)
        seen.add((picture.value, sound.value))
    assert len({picture for picture, _ in seen}) == len({sound for _, sound in seen}) == 4


def embedded(run, clips, end):
    return players.embedded(run, clips[end[0]][0], effects.load(end[1]), 0.5)


# --- without a browser ------------------------------------------------------------------------------------------------


def test_without_a_browser_no_widget_is_made_and_the_same_functions_draw_a_picture(
    spoken_run, small_map, dry, monkeypatch
):
    monkeypatch.setenv("VAEFX_HEADLESS", "1")
    shown = []
    monkeypatch.setattr(widgets, "display", shown.append)

    def refuse(widget):
        raise AssertionError("a widget was made")

    monkeypatch.setattr(widgets.ipywidgets.Widget, "open", refuse)
    run, clips = spoken_run
    start, end = (0, "mda:Delay"), (1, "mda:Delay")
    assert path_panel.interpolate(run, clips, start=start, end=end, alpha=0.25) is None
    figure, sound = shown
    S = players.interpolated(run, embedded(run, clips, start), embedded(run, clips, end), 0.25)
    assert np.allclose([ax.images[0].get_array().T for ax in figure.axes[:2]], S, atol=1e-5)
    assert sound.data[:4] == b"RIFF"
    shown.clear()
    assert play_panel.play(small_map, dry) is None
    a_map, figure, sound = shown
    place = places.at(small_map, (small_map.low + small_map.high) / 2, dry.sounds[0])
    assert place.effect.name in figure.get_suptitle()
    assert f"{next(iter(place.told.values()))['value']:.3g}" in figure.get_suptitle()
