"""A real browser on JupyterLab and on the app: servers as `make` starts them, and what a page shows and plays."""

import base64
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from vaefx_lib import config, preset_json

ROOT = Path(__file__).parents[1]
NOTEBOOKS = ROOT / "notebooks"
TOKEN = "a-token-of-the-tests"
FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--autoplay-policy=no-user-gesture-required"),
)
PANEL = ".jp-OutputArea-output:has(.widget-image)"  # the same in JupyterLab and in Voila
# bytes behind the picture or the sound of a panel, as text to compare
CONTENT = """async element => {
  const data = new Uint8Array(await (await fetch(element.src)).arrayBuffer());
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', data));
  return data.length + ':' + [...digest.slice(0, 8)].join('.');
}"""
# from the next key press to the next change of the picture and of the sound, in ms
STOPWATCH = """panel => {
  const seen = {};
  window.stopwatch = new Promise(resolve => {
    document.addEventListener('keydown', () => {
      const begun = performance.now();
      for (const [name, selector] of [['picture', 'img.widget-image'], ['sound', 'audio']]) {
        const element = panel.querySelector(selector);
        const watcher = new MutationObserver(() => {
          seen[name] = performance.now() - begun;
          watcher.disconnect();
          if (Object.keys(seen).length === 2) resolve(seen);
        });
        watcher.observe(element, {attributes: true, attributeFilter: ['src']});
      }
    }, {once: true, capture: true});
  });
}"""

# whether the notebook of this path is the one that commands are for, and its kernel waits for them
READY_TO_RUN = """path => {
  const shown = window.jupyterapp?.shell.currentWidget;
  const session = shown?.context?.path === path && shown.context.isReady && shown.context.sessionContext;
  const kernel = session && session.isReady && session.session?.kernel;
  return kernel && kernel.connectionStatus === 'connected' && kernel.status === 'idle';
}"""
# the numbers of code cells that were not run, or ended with an error
UNFINISHED = """() => window.jupyterapp.shell.currentWidget.content.widgets.flatMap((cell, number) => {
  const model = cell.model.toJSON();
  const wrong = model.cell_type === 'code' && model.source.length > 0 &&
    (model.execution_count === null || model.outputs.some(output => output.output_type === 'error'));
  return wrong ? [number] : [];
})"""


def small_project(home: Path, preset: config.Preset) -> dict[str, str]:
    """Make a folder with runs in it a project whose kernels know this preset; the environment for its servers."""
    (home / "notebooks").mkdir(exist_ok=True)
    (home / "vaefx_lib").mkdir(exist_ok=True)  # so that it is taken for a project
    shutil.copy(ROOT / "README.md", home)
    shutil.copytree(ROOT / "figures", home / "figures", dirs_exist_ok=True)
    startup = home / "ipython" / "profile_default" / "startup"
    startup.mkdir(parents=True, exist_ok=True)
    (home / "preset.json").write_text(preset_json.to_json(preset))
    (startup / "preset.py").write_text(
        "from pathlib import Path\nfrom vaefx_lib import config, preset_json\n"
        f"config.PRESETS[{preset.name!r}] = preset_json.from_json(Path({str(home / 'preset.json')!r}).read_text())\n"
    )
    settings = home / "lab" / "@jupyterlab" / "notebook-extension"
    settings.mkdir(parents=True, exist_ok=True)
    all_cells = {"autoStartDefaultKernel": True, "windowingMode": "none"}  # also those that are not in view
    (settings / "tracker.jupyterlab-settings").write_text(json.dumps(all_cells))
    own = {"JUPYTERLAB_SETTINGS_DIR": "lab", "JUPYTER_CONFIG_DIR": "jupyter", "IPYTHONDIR": "ipython"}
    own |= {"JUPYTERLAB_WORKSPACES_DIR": "workspaces", "JUPYTER_RUNTIME_DIR": "runtime", "VAEFX_HOME": ""}
    kept = {name: value for name, value in os.environ.items() if name not in ("VAEFX_HEADLESS", "MAKEFLAGS")}
    return kept | {name: str(home / folder) for name, folder in own.items()}


def lab_options(home: Path) -> str:
    """For `make lab` on a project of the tests."""
    return (
        "LAB_OPTIONS=--no-browser --allow-root --ServerApp.port={port} --LabApp.expose_app_in_browser=True "
        f"--IdentityProvider.token={TOKEN} --ServerApp.root_dir={home}"
    )


def lesson(home: Path, name: str, **parameters) -> None:
    """Copy a lesson into a project, with other values for some of its parameters."""
    text = json.loads((NOTEBOOKS / f"{name}.ipynb").read_text())
    (cell,) = (c for c in text["cells"] if "parameters" in c["metadata"].get("tags", []))
    lines = "".join(cell["source"])
    for parameter, value in parameters.items():
        lines, count = re.subn(rf"^({parameter}: \w+ = )[^#\n]+", rf"\g<1>{value!r}  ", lines, flags=re.MULTILINE)
        assert count == 1, parameter
    cell["source"] = lines
    (home / "notebooks" / f"{name}.ipynb").write_text(json.dumps(text))


@contextlib.contextmanager
def served(target: str, environment: dict[str, str], *options: str):
    """`make lab` or `make app` on a free port: its address and its log; everything that it started ends with it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    home = Path(environment["VAEFX_HOME"])
    ready, log = home / "ready", home / f"{target}.log"
    ready.touch()
    command = ["make", target, f"READY={ready}", f"PY={sys.executable}", *(text.format(port=port) for text in options)]
    with open(log, "w") as out:
        started = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        for _ in range(600):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            assert started.poll() is None, log.read_text()
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}", log
    finally:
        os.killpg(started.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            started.wait(10)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(started.pid, signal.SIGKILL)


@contextlib.contextmanager
def browser():
    """Debian's chromium."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=list(FLAGS))
        yield chromium
        chromium.close()


def new_page(chromium, timeout_s: float = 60):
    """A page, and the list of errors that it will say or throw."""
    page = chromium.new_page(viewport={"width": 1400, "height": 1100})
    page.set_default_timeout(1000 * timeout_s)
    errors = []
    page.on("console", lambda said: said.type == "error" and errors.append(f"{said.text} {said.location['url']}"))
    page.on("pageerror", lambda thrown: errors.append(str(thrown)))
    return page, errors


def run_lesson(page, address: str, name: str, timeout_s: float = 600) -> None:
    """Open a lesson in JupyterLab, alone there, and run all its cells to the end.

    In a workspace of its own: in the default one JupyterLab opens again what was open last, and "all cells" may mean
    that one's.
    """
    page.goto(f"{address}/lab/workspaces/{name}/tree/notebooks/{name}.ipynb?token={TOKEN}&reset")
    page.wait_for_function(READY_TO_RUN, arg=f"notebooks/{name}.ipynb")
    page.evaluate(
        "() => { window.jupyterapp.commands.execute('notebook:run-all-cells').then(() => window.ran = true) }"
    )
    page.wait_for_function("() => window.ran", timeout=1000 * timeout_s)
    unfinished = page.evaluate(UNFINISHED)
    assert unfinished == [], f"{name}: cells that did not run to their end: {unfinished}"


def heard(panel) -> int:
    """Number of the move whose sound is there."""
    return int(panel.locator("[data-heard]").get_attribute("data-heard"))


def settled(panel, since: int) -> None:
    """Wait until a move after number `since` is seen and heard."""
    panel.page.wait_for_function(
        "([node, since]) => { const said = node.querySelector('[data-heard]'); return said && "
        "said.dataset.heard === said.dataset.seen && Number(said.dataset.heard) > since }",
        arg=[panel.element_handle(), since],
    )


def content(panel, selector: str) -> str:
    """What identifies the bytes of a panel's picture or sound."""
    return panel.locator(selector).first.evaluate(CONTENT)


def key_press_ms(panel, handle, key: str) -> dict[str, float]:
    """From a key press on a slider to the changed picture and sound."""
    since = heard(panel)
    handle.focus()
    panel.element_handle().evaluate(STOPWATCH)
    panel.page.keyboard.press(key)
    took = panel.page.evaluate("() => window.stopwatch")
    settled(panel, since)  # or the next move would be taken for this one's
    return took


def saved(panel, name: str) -> bytes:
    """What a download link of a panel would save."""
    address = panel.locator(f'a[download="{name}"]').get_attribute("href")
    return base64.b64decode(address.partition(",")[2])
