"""The play section of lesson 06 as an app in the browser, on this machine only.

Voila runs a whole notebook before it shows anything. So it is given a copy that has nothing but the parameters and the
cells tagged `app`: it is there in seconds.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from vaefx_lib import config, notebook_parameters, notebooks, packed, store

LESSON = "06_playable_latent"
UPLOAD_BYTES = 150_000_000  # in one message; a file of 100 MB takes a third more than itself on its way


def excerpt(path: str | Path, preset_name: str, *, pretrained: bool = False) -> dict:
    """A notebook's parameters, with this preset, and those of its cells that are tagged `app`.

    Parameters
    ----------
    path : path
    preset_name : str
    pretrained : bool
        Whether it shall play on the map that comes with the library.

    Returns
    -------
    dict
        A notebook as JSON holds it.

    Raises
    ------
    ValueError
        If no cell has the tag, or the parameters are not as `notebook_parameters.declared` wants them.
    """
    notebook_parameters.declared(path)
    lesson = store.read_json(path)
    cells = [cell for cell in lesson["cells"] if {"app", "parameters"} & set(cell["metadata"].get("tags", []))]
    at = next(i for i, cell in enumerate(cells) if "parameters" in cell["metadata"]["tags"])
    if len(cells) == 1:
        raise ValueError(f"{Path(path).name} has no cell tagged 'app'")
    given = {"cell_type": "code", "id": "given", "metadata": {}, "outputs": [], "execution_count": None}
    given["source"] = f"preset = {preset_name!r}" + ("\npretrained = True" if pretrained else "")
    return lesson | {"cells": [*cells[: at + 1], given, *cells[at + 1 :]]}


def write(preset_name: str, *, pretrained: bool = False) -> Path:
    """The excerpt of lesson 06 as a file in the run folder.

    Parameters
    ----------
    preset_name : str
        Of `report`, where it has no map, the one that comes with the library takes its place; that is said on stderr.
    pretrained : bool
        To play on that one, whatever is trained.

    Raises
    ------
    ValueError
        If there is nothing to play on; the message says what to run.
    """
    folder = config.playable_dir(config.preset(preset_name).name)
    if pretrained:
        packed.manifest()
    elif not any(folder.glob("*/manifest.json")):
        if preset_name != "report" or not packed.available():
            raise ValueError(f"{folder} holds no playable map: run `make figures PRESET={preset_name}` first")
        pretrained = True
        print("no map of the preset report is trained: playing on the one that comes with the library", file=sys.stderr)
    path = config.run_dir(preset_name) / "app" / f"{LESSON}.ipynb"
    with store.atomic(path) as temporary:
        temporary.write_text(json.dumps(excerpt(notebooks.find(LESSON), preset_name, pretrained=pretrained)))
    return path


def serve(preset_name: str, options: tuple[str, ...] = (), *, pretrained: bool = False) -> None:
    """Become Voila's server of the app: on 127.0.0.1, with a token, which stands in the address that it prints.

    Parameters
    ----------
    preset_name : str
    options : sequence of str
        More of Voila's, such as ``--no-browser`` and ``--port=8866``.
    pretrained : bool
        As `write` takes it.

    Raises
    ------
    ValueError
        As `write` does.
    """
    path = write(preset_name, pretrained=pretrained)
    os.environ["VAEFX_HOME"] = str(config.project_dir().absolute())
    os.environ.setdefault("JUPYTER_PREFER_ENV_PATH", "1")  # the kernel of this very Python
    settings = f"--Voila.tornado_settings={{'websocket_max_message_size': {UPLOAD_BYTES}}}"
    command = [sys.executable, "-m", "voila", str(path), "--Voila.ip=127.0.0.1", "--Voila.auto_token=True", settings]
    os.execv(sys.executable, [*command, *options])
