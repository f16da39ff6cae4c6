"""Lessons 04 and 06 and the app in a real browser: every kind of slider moves what is seen and heard."""

import dataclasses
import io
import json
import os
import shutil
import socket
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import soundfile
from browsing import (
    NOTEBOOKS,
    PANEL,
    TOKEN,
    browser,
    content,
    heard,
    key_press_ms,
    lab_options,
    lesson,
    new_page,
    run_lesson,
    saved,
    served,
    settled,
    small_project,
)
from conftest import needed

from vaefx_lib import app, effects, playable, playable_training

PICTURE = ".vaefx-picture"
VOILA_ICONS = "cdn.jsdelivr.net/npm/@fortawesome"  # Voila's page wants icons from there, and does without


@pytest.fixture(scope="module")
def chromium():
    needed("a browser", "chromium", shutil.which("chromium"))
    pytest.importorskip("playwright")
    with browser() as started:
        yield started


@pytest.fixture(scope="module")
def home(controlled, controlled_home, tmp_path_factory):
    """A project whose preset `smoke` is `controlled`, with its trained networks, lesson 04, and the play section of 06.

    All of lesson 06 is run where the figures are made: its study would take the browser minutes.
    """
    home = tmp_path_factory.mktemp("browser_home")
    shutil.copytree(controlled_home, home, dirs_exist_ok=True)
    shutil.copytree(controlled_home / "runs" / "spoken", home / "runs" / "smoke")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VAEFX_HOME", str(home))
        playable_training.train_playable(dataclasses.replace(controlled, name="smoke"))
    (home / "notebooks").mkdir(exist_ok=True)
    lesson(home, "04_interpolation_figures", preset="smoke")
    section = app.excerpt(NOTEBOOKS / "06_playable_latent.ipynb", "smoke")
    (home / "notebooks" / "06_playable_latent.ipynb").write_text(json.dumps(section))
    return home


@pytest.fixture(scope="module")
def environment(home, controlled):
    return small_project(home, dataclasses.replace(controlled, name="smoke"))


@pytest.fixture(scope="module")
def lab(chromium, home, environment):
    with served("lab", environment, lab_options(home)) as (address, _):
        yield address


@pytest.fixture(scope="module")
def voila(lab, environment):
    """The app. It ends after the page, which would say that nobody answers any more."""
    options = f"APP_OPTIONS=--no-browser --port={{port}} --Voila.token={TOKEN}"
    with served("app", environment, options, "PRESET=smoke") as (address, _):
        yield address


@pytest.fixture
def page(chromium, request):
    """A page that has said and thrown no error by the end; a picture of it is kept where $VAEFX_SCREENSHOTS says."""
    page, errors = new_page(chromium)
    yield page
    if folder := os.environ.get("VAEFX_SCREENSHOTS"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=Path(folder) / f"{request.node.originalname}.png")
        for number, panel in enumerate(page.locator(PANEL).all()):
            panel.screenshot(path=Path(folder) / f"{request.node.originalname}_{number}.png")
    page.close()
    assert [error for error in errors if VOILA_ICONS not in error] == []


def is_served_here_alone(address):
    """Whether others cannot reach it, nor those without the token."""
    with socket.socket() as other, pytest.raises(ConnectionRefusedError):
        other.connect(("127.0.0.2", int(address.rpartition(":")[2])))  # an address of this machine, but another one
    with urllib.request.urlopen(address, timeout=30) as answer:
        return "/login" in answer.url


def changed(panel, act):
    """Do something, wait until it is seen and heard, and tell whether (picture, sound) are others."""
    before, since = (content(panel, PICTURE), content(panel, "audio")), heard(panel)
    act()
    settled(panel, since)
    return tuple(old != new for old, new in zip(before, (content(panel, PICTURE), content(panel, "audio"))))


def drag(page, handle, by):
    """Press the mouse on a slider's handle, and move it by some pixels; the button stays down."""
    box = handle.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    for step in range(1, 6):
        page.mouse.move(x + by * step / 5, y)


def sliders_work(page, panel):
    """Each slider, by keyboard and by mouse."""
    panel.locator(".noUi-handle").first.wait_for()
    for handle in panel.locator(".noUi-handle").all():
        handle.scroll_into_view_if_needed()
        took = key_press_ms(panel, handle, "ArrowLeft")
        print(f"from key press to picture {took['picture']:.0f} ms, to sound {took['sound']:.0f} ms")
        assert changed(panel, lambda: page.keyboard.press("ArrowRight")) == (True, True)
        picture, since = content(panel, PICTURE), heard(panel)
        shown = panel.locator(PICTURE)
        before = shown.get_attribute("src")
        drag(page, handle, -25)
        page.wait_for_function(  # while the button is down still
            "([image, old]) => image.src !== old", arg=[shown.element_handle(), before]
        )
        page.mouse.up()
        settled(panel, since)
        assert content(panel, PICTURE) != picture


def plays(panel):
    """The sound starts by itself after a move."""
    panel.page.wait_for_function(
        "audio => audio.currentTime > 0.05 && audio.duration > 0.5 && !audio.error",
        arg=panel.locator("audio").first.element_handle(),
    )


def choose(panel, label, option):
    panel.locator(f'.widget-dropdown:has(label:text-is("{label}")) select').select_option(option)


def choose_another(panel, label):
    """The last option of a list, or the first if it has the last already."""
    options = panel.locator(f'.widget-dropdown:has(label:text-is("{label}")) select')
    last = options.evaluate("list => list.selectedIndex < list.length - 1 ? list.length - 1 : 0")
    options.select_option(index=last)


def press(panel, text):
    panel.locator(f'button:text-is("{text}")').click()


def test_make_lab_opens_the_list_of_lessons_for_those_on_this_machine_who_have_the_token(lab, page):
    assert is_served_here_alone(lab)
    page.goto(f"{lab}/?token={TOKEN}")
    page.wait_for_selector('.jp-RenderedMarkdown a:text("04 Interpolation figures")')


def test_lesson_04_walks_between_two_effects_and_between_two_voices(lab, page):
    run_lesson(page, lab, "04_interpolation_figures")
    panels = page.locator(PANEL)
    assert panels.count() == 2
    for panel in panels.all():
        sliders_work(page, panel)
        plays(panel)
        a_and_b_are_compared(panel)
        for label in ("from effect", "to voice"):
            assert changed(panel, lambda panel=panel, label=label: choose_another(panel, label)) == (True, True)


def a_and_b_are_compared(panel):
    wet = content(panel, "audio")
    assert changed(panel, lambda: press(panel, "dry")) == (False, True)
    assert changed(panel, lambda: press(panel, "wet")) == (False, True)
    assert content(panel, "audio") == wet


def can_be_played_with(page, panel, home):
    """What a panel of lesson 06 promises."""
    sliders_work(page, panel)
    plays(panel)
    a_and_b_are_compared(panel)
    shown = panel.locator("caption").inner_text()  # by the map's own choice: the other one first
    for effect in sorted(("Delay", "Overdrive"), key=lambda name: name in shown):
        assert changed(panel, lambda effect=effect: choose(panel, "effect", effect))[1]
        shows_the_decoders_settings(panel, home)
    a_click_on_the_map_moves_both_sliders(page, panel)
    shows_the_decoders_settings(panel, home)
    a_file_of_ones_own_is_played(page, panel)
    places = readouts(panel)
    changed(panel, lambda: press(panel, "a random reference"))
    assert readouts(panel) != places
    assert "reference: " in panel.inner_text()


def shows_the_decoders_settings(panel, home):
    told = json.loads(saved(panel, "settings.json"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VAEFX_HOME", str(home))
        name = f"{told['map']['method']}_{told['map']['dim']}"
        (folder,) = (home / "runs" / "smoke" / "playable").glob(f"all_{name}")
        decoded = playable.load(folder).settings(np.array(told["place"]), told["effect"])
    shown = [float(cell.get_attribute("data-setting")) for cell in panel.locator("[data-setting]").all()]
    assert shown == pytest.approx(decoded, abs=1e-12)
    for param, setting in zip(effects.load(told["effect"]).params, decoded, strict=True):
        assert f"{param.to_native(setting):.3g} {param.unit}" in panel.inner_text()
    assert told["effect"] in panel.locator("caption").inner_text()


def readouts(panel):
    return panel.locator(".widget-readout").all_text_contents()


def a_click_on_the_map_moves_both_sliders(page, panel):
    the_map, places = panel.locator(".vaefx-map"), readouts(panel)
    box = the_map.bounding_box()
    assert changed(panel, lambda: page.mouse.click(box["x"] + 0.3 * box["width"], box["y"] + 0.3 * box["height"])) == (
        True,
        True,
    )
    assert all(old != new for old, new in zip(places, readouts(panel)))


def a_file_of_ones_own_is_played(page, panel):
    """Also one that is larger than a server takes in one message if it is not told to."""
    rate_hz = 48_000
    sound = 0.1 * np.random.default_rng(0).normal(size=(60 * rate_hz, 2))
    data = io.BytesIO()
    soundfile.write(data, sound, rate_hz, format="WAV")
    assert data.tell() > 11e6

    def give(name, content):
        with page.expect_file_chooser() as chooser:
            panel.locator('button:has-text("own file")').click()
        chooser.value.set_files({"name": name, "mimeType": "audio/wav", "buffer": content})

    assert changed(panel, lambda: give("mine.wav", data.getvalue())) == (True, True)
    give("text.wav", b"not a sound")
    panel.locator('[role="alert"]:text("text.wav")').wait_for()


def test_lesson_06_can_be_played(lab, page, home):
    run_lesson(page, lab, "06_playable_latent")
    panel = page.locator(f"{PANEL}:has(.vaefx-map)").first
    can_be_played_with(page, panel, home)


def test_the_app_can_be_played_by_those_on_this_machine_who_have_the_token(voila, page, home):
    assert is_served_here_alone(voila)
    page.goto(f"{voila}/?token={TOKEN}")
    panel = page.locator(f"{PANEL}:has(.vaefx-map)").first
    panel.wait_for()
    can_be_played_with(page, panel, home)
