"""VST3 plug-ins (and on macOS Audio Units) as effects, by pedalboard, in the helper process of `sandbox`.

``vst3:PATH`` is a plug-in's file, or its name alone where it is in one of the `FOLDERS` or of $VST3_PATH;
``vst3:PATH#PLUGIN`` is one of several in a file. The plug-in itself is only ever loaded by `plugin_host`.
"""

from __future__ import annotations

import functools
import os
from pathlib import Path

import numpy as np
import pedalboard

from vaefx_lib import store
from vaefx_lib.effects import plugin_host, sandbox
from vaefx_lib.effects.effect import Choice, Effect, Param

_MACOS = "~/Library/Audio/Plug-Ins/{0} /Library/Audio/Plug-Ins/{0}"
FOLDERS = {
    "vst3": ["~/.vst3", "/usr/local/lib/vst3", "/usr/lib/vst3", *_MACOS.format("VST3").split()],
    "au": _MACOS.format("Components").split(),
}
SUFFIXES = {"vst3": ".vst3", "au": ".component"}


def names(prefix: str = "vst3") -> list[str]:
    """File names of the plug-ins in the standard folders; none of them is loaded."""
    return sorted({path.name for path in _installed(prefix)})


def load(name: str) -> Effect:
    """The effect of a name such as ``"vst3:ZamDelay.vst3"``; the plug-in is loaded in the helper process.

    Raises
    ------
    ValueError
        If there is no such file.
    EffectFailed
        If the file holds no plug-in, several, not the named one, or one that makes no sound from sound; or if the
        plug-in crashes.
    """
    prefix, _, rest = name.partition(":")
    if not hasattr(pedalboard, plugin_host.HOSTS[prefix]):
        raise ValueError(f"{name} cannot be used here: Audio Units are for macOS")
    file, _, plugin = rest.partition("#")
    path = _path(name, prefix, file)
    place = {"prefix": prefix, "path": str(path), "plugin": plugin or None}
    about = sandbox.call("plugin_host:describe", place, name=name)
    params = tuple(Param(**param["shown"]) for param in about["params"])
    choices = tuple(Choice(c["name"], tuple(c["labels"]), c["default"]) for c in about["choices"])
    files = [path] if path.is_file() else sorted(found for found in path.rglob("*") if found.is_file())
    process = functools.partial(_process, name, place, about)
    return Effect(name, params, process, choices, store.fingerprint(*files))


def _installed(prefix: str):
    """Every plug-in file or bundle in the standard folders and the folders below them."""
    extra = os.environ.get("VST3_PATH", "").split(os.pathsep) if prefix == "vst3" else []
    for folder in (*filter(None, extra), *FOLDERS[prefix]):
        for place, folders, files in os.walk(Path(folder).expanduser()):
            for found in (*folders, *files):
                if found.endswith(SUFFIXES[prefix]):
                    yield Path(place, found)
            folders[:] = [folder for folder in folders if not folder.endswith(SUFFIXES[prefix])]


def _path(name: str, prefix: str, file: str) -> Path:
    if file != Path(file).name:
        path = Path(file).expanduser().resolve()
        if not path.exists():
            raise ValueError(f"unknown effect {name!r}: there is no file {path}")
        return path
    path = next((path for path in _installed(prefix) if path.name == file), None)
    if path is None:
        known = ", ".join(names(prefix)) or f"none in {', '.join(FOLDERS[prefix])}"
        raise ValueError(f"unknown effect {name!r}: installed are {known}; elsewhere it is {prefix}:PATH")
    return path


def _process(name: str, place: dict, about: dict, audio, sample_rate_hz, /, **settings) -> np.ndarray:
    """`Effect.process` of a plug-in: choices first, as they may change what the rest means."""
    raw = [[choice["index"], choice["raw"][settings[choice["name"]]]] for choice in about["choices"]]
    raw += [[param["index"], settings[param["shown"]["name"]]] for param in about["params"]]
    arguments = place | {"inputs": about["inputs"], "raw": raw, "sample_rate_hz": sample_rate_hz}
    return sandbox.call("plugin_host:run", arguments, audio, name=name)
