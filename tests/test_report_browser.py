"""The page of the weekly report in a real browser: it shows, plays, fits a phone and paper, and fetches nothing."""

import os
import shutil
from pathlib import Path

import pytest
from conftest import needed

SIZES = {"phone": (390, 844), "desktop": (1280, 900)}
ALWAYS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--autoplay-policy=no-user-gesture-required"]

# played to its end would take minutes: each sound is played from shortly before its end, and must get there
PLAY = """async audio => {
  audio.muted = true;
  if (audio.readyState < 1) {
    await new Promise((resolve, reject) => {
      audio.onloadedmetadata = resolve;
      audio.onerror = () => reject(new Error('cannot be decoded'));
      audio.load();
    });
  }
  audio.currentTime = Math.max(0, audio.duration - 0.1);
  const ended = new Promise(resolve => { audio.onended = resolve; });
  await audio.play();
  await ended;
  return audio.duration;
}"""


@pytest.fixture(scope="module")
def browser():
    chromium = shutil.which("chromium")
    needed("a browser", "chromium", chromium)
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=chromium, args=ALWAYS)


@pytest.fixture(scope="module", params=SIZES)
def opened(request, browser, reported_home):
    """The page, opened from disk at the size of a device; and all that the browser said or wanted of others."""
    width, height = SIZES[request.param]
    said, wanted = [], []
    page = browser.new_page(viewport={"width": width, "height": height})
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda sent: wanted.append(sent.url))
    page.goto((reported_home / "runs" / "smoke" / "report.html").as_uri(), wait_until="load")
    yield page, said, wanted
    keep = os.environ.get("VAEFX_SCREENSHOTS")
    if keep:
        page.screenshot(path=str(Path(keep) / f"report_{request.param}.png"), full_page=True)
    page.close()


def test_every_picture_is_there_and_has_words_for_those_who_cannot_see_it(opened):
    page, _, _ = opened
    found = page.eval_on_selector_all("img", "all => all.map(i => [i.complete, i.naturalWidth, i.alt.length])")
    assert len(found) == 2
    assert all(complete and width > 100 and words > 5 for complete, width, words in found)


def test_every_sound_plays_to_its_end(opened):
    page, _, _ = opened
    sounds = page.query_selector_all("audio")
    assert len(sounds) == 2 * 5 + 5 + 2 * 4  # reconstructions, steps of a path, matches
    lengths = [sound.evaluate(PLAY) for sound in sounds]
    assert min(lengths) > 0.5


def test_no_error_is_shown_and_no_request_leaves_the_page(opened):
    page, said, wanted = opened
    assert said == []
    assert [url for url in wanted if not url.startswith(("file:", "data:"))] == []
    assert [url for url in wanted if url.startswith("file:")] == [page.url]


def test_nothing_is_wider_than_the_screen(opened):
    page, _, _ = opened
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    wide = "all => all.filter(e => e.getBoundingClientRect().right > window.innerWidth + 1).map(e => e.tagName)"
    assert page.eval_on_selector_all("main > *, img, audio, table, figure", wide) == []


def test_it_prints_to_a_pdf_of_some_pages_with_its_pictures(opened, tmp_path):
    page, _, _ = opened
    data = page.pdf(path=str(tmp_path / "report.pdf"), format="A4")
    assert data.startswith(b"%PDF")
    assert data.count(b"/Subtype /Image") >= 2
