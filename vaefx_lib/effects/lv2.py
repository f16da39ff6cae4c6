"""Installed LV2 plug-ins as effects, through the LV2 C interface by ctypes.

``lv2:BUNDLE/NAME`` is the plug-in NAME in the folder `BUNDLE.lv2`; for the 32 mda effects (Debian package `mda-lv2`)
that is ``lv2:mda/Ambience`` and so on. What its ports are is read from its Turtle files (`lv2_turtle.py`); the plug-in
itself is only ever loaded in the helper process of `sandbox`. It is run as one block in a fresh instance, because
`activate` and `deactivate` need not reset it.

Source: the specification at lv2plug.in/ns/lv2core, and the structures of its header `lv2.h`.
"""

from __future__ import annotations

import ctypes
import functools
import os

import numpy as np

from vaefx_lib import store
from vaefx_lib.effects import lv2_turtle, sandbox
from vaefx_lib.effects.effect import Choice, Effect, Param

# mda Delay reads one cell of its line that nobody has written, which clicks. Two samples of silence with the shortest
# delay write it; every other plug-in starts as its instance is made.
PRIMING = {"http://drobilla.net/plugins/mda/Delay": {"l_delay": 0.0, "feedback": 0.0}}


def names(prefix: str = "lv2") -> list[str]:
    """``BUNDLE/NAME`` of all effects found: plug-ins that turn sound into sound and need nothing special of a host."""
    found = {}
    for bundle in lv2_turtle.bundles():
        for name, uri in lv2_turtle.plugins(bundle).items():
            found.setdefault(f"{bundle.stem}/{name}", (bundle, uri))
    return sorted(
        name for name, (bundle, uri) in found.items() if lv2_turtle.unusable(lv2_turtle.describe(bundle, uri)) is None
    )


def load(name: str) -> Effect:
    """The effect of a name such as ``"lv2:mda/Ambience"``; nothing of the plug-in is run.

    A port becomes a `Param` with the port's symbol, unit and range. A toggle, an enumeration and a short list of whole
    numbers become a `Choice`: its positions mean different processing, or none (above 0 a toggle of mda MultiBand
    bypasses it), so that sweeping it would mix several effects into one.

    Raises
    ------
    ValueError
        If there is no such plug-in, or it makes no sound from sound, or needs a host that can do more.
    """
    bundle_name, _, plugin = name.partition(":")[2].partition("/")
    bundle = next((folder for folder in lv2_turtle.bundles() if folder.stem == bundle_name), None)
    if bundle is None:
        known = ", ".join(sorted({folder.stem for folder in lv2_turtle.bundles()})) or "none"
        raise ValueError(f"unknown effect {name!r}: the LV2 bundles on this machine are {known}")
    plugins = lv2_turtle.plugins(bundle)
    if plugin not in plugins:
        raise ValueError(f"unknown effect {name!r}: the plug-ins in {bundle.name} are {', '.join(sorted(plugins))}")
    about = lv2_turtle.describe(bundle, plugins[plugin])
    if (reason := lv2_turtle.unusable(about)) is not None:
        raise ValueError(f"{name} cannot be used as an effect: {reason}")
    params = tuple(Param(p["symbol"], p["unit"], p["low"], p["high"], p["default"], p["log"]) for p in about["params"])
    choices = tuple(Choice(c["symbol"], tuple(c["values"]), c["default"]) for c in about["choices"])
    process = functools.partial(_process, name, about, params)
    return Effect(name, params, process, choices, store.sha256(about["binary"]))


def _process(name: str, about: dict, params: tuple[Param, ...], audio, sample_rate_hz, **settings) -> np.ndarray:
    """`Effect.process` of the plug-in `about`."""
    values = {param.name: param.to_native(settings[param.name]) for param in params}
    values |= {c["symbol"]: c["values"][settings[c["symbol"]]] for c in about["choices"]}
    arguments = {key: about[key] for key in ("bundle", "binary", "uri", "inputs", "outputs", "unused")}
    for key, named in {"controls": values, "priming": PRIMING.get(about["uri"], {})}.items():
        arguments[key] = [[about["index"][symbol], value] for symbol, value in named.items()]
    arguments["sample_rate_hz"] = sample_rate_hz
    return sandbox.call("lv2:run", arguments, audio, name=name)


class _Descriptor(ctypes.Structure):
    """LV2_Descriptor of lv2.h."""


_HANDLE, _NUMBER = ctypes.c_void_p, ctypes.c_uint32
_Descriptor._fields_ = [
    ("uri", ctypes.c_char_p),
    ("instantiate", ctypes.CFUNCTYPE(_HANDLE, ctypes.POINTER(_Descriptor), ctypes.c_double, ctypes.c_char_p, _HANDLE)),
    ("connect_port", ctypes.CFUNCTYPE(None, _HANDLE, _NUMBER, _HANDLE)),
    ("activate", ctypes.CFUNCTYPE(None, _HANDLE)),
    ("run", ctypes.CFUNCTYPE(None, _HANDLE, _NUMBER)),
    ("deactivate", ctypes.CFUNCTYPE(None, _HANDLE)),
    ("cleanup", ctypes.CFUNCTYPE(None, _HANDLE)),
    ("extension_data", ctypes.CFUNCTYPE(_HANDLE, ctypes.c_char_p)),
]


def run(audio: np.ndarray, *, inputs: list[int], outputs: list[int], **plugin) -> np.ndarray:
    """The sound (channels, samples) through the plug-in, float32 (channels_out, samples); in the helper process only.

    One channel feeds all inputs. Two channels into a plug-in with one input are run one by one.
    """
    if len(audio) == 2 and len(inputs) == 1:
        sides = [_run(audio[i : i + 1], inputs, outputs, **plugin) for i in range(2)]
        return np.stack([side[min(i, len(outputs) - 1)] for i, side in enumerate(sides)])
    return _run(audio, inputs, outputs, **plugin)[:2]


def _run(audio, inputs, outputs, *, bundle, binary, uri, unused, controls, priming, sample_rate_hz) -> np.ndarray:
    descriptor = _descriptor(binary, uri)
    ctypes.CDLL(None).srand(1)  # for those that draw noise
    features = (ctypes.c_void_p * 1)()  # a list that is empty: it ends at its first null
    instance = descriptor.instantiate(ctypes.byref(descriptor), sample_rate_hz, os.fsencode(bundle), features)
    if not instance:
        raise ValueError(f"the plug-in refused to start at {sample_rate_hz:g} Hz")
    values = {index: np.array([value], np.float32) for index, value in controls} | {
        index: np.zeros(1, np.float32) for index in unused
    }
    for index, value in values.items():
        descriptor.connect_port(instance, index, value.ctypes.data)

    def play(sound: np.ndarray) -> np.ndarray:
        wet = np.zeros((len(outputs), sound.shape[1]), np.float32)
        channels = [np.array(sound[i % len(sound)]) for i in range(len(inputs))]  # copies: some write into their input
        for index, channel in (*zip(inputs, channels), *zip(outputs, wet)):
            descriptor.connect_port(instance, index, channel.ctypes.data)
        descriptor.run(instance, sound.shape[1])
        return wet

    try:
        if descriptor.activate:
            descriptor.activate(instance)
        if priming:
            wanted = {index: values[index].copy() for index, _ in priming}
            for index, value in priming:
                values[index][0] = value
            play(np.zeros((1, 2), np.float32))
            for index, value in wanted.items():
                values[index][:] = value
        wet = play(audio)
        if descriptor.deactivate:
            descriptor.deactivate(instance)
    finally:
        descriptor.cleanup(instance)
    return wet


@functools.cache
def _descriptor(binary: str, uri: str) -> _Descriptor:
    library = ctypes.CDLL(binary)
    library.lv2_descriptor.restype, library.lv2_descriptor.argtypes = ctypes.POINTER(_Descriptor), [_NUMBER]
    index = 0
    while found := library.lv2_descriptor(index):
        if found.contents.uri.decode() == uri:
            return found.contents
        index += 1
    raise ValueError(f"{binary} has no plug-in {uri}")
