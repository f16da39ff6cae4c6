"""A VST3 plug-in or Audio Unit in pedalboard's hands: its controls, and sound through it. In the helper process only.

The plug-in is loaded by `describe`, once, and by `run`, for each clip: some keep sound or settings through a reset, so
that only a fresh instance makes the same bits each time. A setting is the plug-in's own position of a control between 0
and 1, and all controls are set for each clip; half a second of silence lets them arrive.

What becomes of a plug-in's controls, decided by looking at those of the 17 plug-ins of Debian's `zam-plugins`:

| control | becomes |
|---|---|
| continuous, or more than `MOST_STEPS` numbers | `Param`, native if its texts are even steps or ratios, else 0 to 1 |
| a switch, a list of words, up to `MOST_STEPS` numbers | `Choice`, held where the plug-in starts |
| the host's rate and buffer, a program, a bypass, MIDI | nothing: it stays where the plug-in starts |
| one that hosts may not automate, or a gain reduction | nothing if it is a meter: if moving it leaves noise the same |

Some plug-ins make NaN at some settings: ZamEQ2 and ZamDelay at a frequency above half the sample rate, for two.
"""

from __future__ import annotations

import keyword
import math
import re
from typing import Any

import numpy as np
import pedalboard

from vaefx_lib.effects.effect import Param

MOST_STEPS = 16  # a control with more numbers than these is a scale: the 100 grains of ZamGrains, say
MOST_WORDS = 128  # a list of words may be longer, such as the 25 amplifiers of ZamTube
BLOCK = 1_024  # samples: ZamHeadX2 and ZamVerb do nothing to a block whose length is no power of two
LEAD_S = 0.5  # silence before each clip: ZamDelay fades to its settings for some 0.3 s, ZamGate for less
HOSTS = {"vst3": "VST3Plugin", "au": "AudioUnitPlugin"}
_NOT_OURS = re.compile(r"(current_)?(program|preset)|buffer_size.*|sample_rate.*|latency.*|midi_.*|.*bypass.*")
_NUMBER = re.compile(r"([-+]?\d+(?:\.\d*)?(?:e[-+]?\d+)?)\s*(\D*)", re.IGNORECASE)


def run(audio: np.ndarray, *, inputs: list[int], **plugin) -> np.ndarray:
    """The sound (channels, samples) through the plug-in, float32; in the helper process only.

    One channel into a plug-in that takes only two feeds both, and two come out. Two channels into a plug-in that takes
    only one are run one by one.
    """
    if len(audio) not in inputs:
        if len(audio) == 2:
            return np.concatenate([_run(side[None], **plugin) for side in audio])
        audio = np.repeat(audio, 2, axis=0)
    return _run(audio, **plugin)


def describe(*, prefix: str, path: str, plugin: str | None) -> dict:
    """The controls of a plug-in and the numbers of channels that it takes, as JSON holds them.

    Raises
    ------
    ValueError
        If it is an instrument, or takes neither mono nor stereo.
    """
    place: dict = {"prefix": prefix, "path": path, "plugin": plugin}
    _check(**place)
    instance = _instance(**place)
    if not instance.is_effect:
        raise ValueError("it makes no sound from sound: it is an instrument")
    params: list[dict] = []
    choices: list[dict] = []
    for index, control in enumerate(instance._parameters):
        name = _python_name(control.name, control.label)
        if _NOT_OURS.fullmatch(name):
            continue
        if labels := _labels(control):
            default = min(labels, key=lambda label: abs(labels[label] - control.raw_value))
            choices.append({"index": index, "name": name, "labels": list(labels), "default": default, "raw": labels})
        else:
            shown = {"name": name} | _native(control)
            params.append({"index": index, "shown": shown, "meter": not control.is_automatable or "reduction" in name})
    inputs = [channels for channels in (1, 2) if _takes(instance, channels)]
    if not inputs:
        raise ValueError("it takes neither one channel nor two and returns as many")
    params = [param for param in params if not (param.pop("meter") and _is_silent(place, max(inputs), param["index"]))]
    _make_unique([param["shown"] for param in params] + choices)
    return {"params": params, "choices": choices, "inputs": inputs}


def _check(prefix: str, path: str, plugin: str | None) -> None:
    """Raise an error unless the file has this plug-in, or only one."""
    try:
        found = _host(prefix).get_plugin_names_for_file(path)
    except ImportError as error:
        raise ValueError(f"{path} is no plug-in, or lacks a library that it needs") from error
    if plugin is None and len(found) > 1:
        raise ValueError(f"{path} has several plug-ins: add # and one of {', '.join(found)}")
    if plugin is not None and plugin not in found:
        raise ValueError(f"{path} has no plug-in {plugin!r}: it has {', '.join(found)}")


def _host(prefix: str) -> Any:
    return getattr(pedalboard, HOSTS[prefix])


def _instance(prefix: str, path: str, plugin: str | None):
    """The plug-in in pedalboard's wrapping, which makes a new one of the same settings whenever it plays."""
    host = _host(prefix)
    # At each start pedalboard reads 1001 texts of every control, for attributes that nobody uses here: 0.1 s that are
    # 0.5 ms without, and more than a minute for ZamVerb.
    host.__set_initial_parameter_values__ = lambda self, values: None
    instance = host(path, plugin_name=plugin)
    # It has just played random noise to the plug-in, to see whether a reset silences that. Told that it never does, it
    # makes another one to play a clip, and sets that as the first one was: with noise of its own in it, every tenth
    # ZamTube made other bits. The attribute is set plainly, as the usual way looks for a control of that name.
    object.__setattr__(instance, "_reload_type", pedalboard.ExternalPluginReloadType.PersistsAudioOnReset)
    return instance


def _run(audio, *, prefix, path, plugin, raw, sample_rate_hz) -> np.ndarray:
    instance = _instance(prefix, path, plugin)
    controls = instance._parameters
    for index, value in raw:
        controls[index].raw_value = value
    lead, samples = math.ceil(LEAD_S * sample_rate_hz / BLOCK) * BLOCK, audio.shape[1]
    padded = np.pad(audio, ((0, 0), (lead, -samples % BLOCK)))
    return instance.process(padded, sample_rate_hz, buffer_size=BLOCK)[:, lead : lead + samples]


def _python_name(name: str, unit: str) -> str:
    """A control's name and unit in small letters, as a Python name: ``cutoff_hz``, or ``n_32hz_db``."""
    words = re.sub("[^a-z0-9]+", "_", f"{name} {unit}".lower()).strip("_")
    return words if words.isidentifier() and not keyword.iskeyword(words) else f"n_{words}"


def _make_unique(controls: list[dict]) -> None:
    """Number the names of controls that share one: ``gain``, ``gain_2``."""
    taken = set()
    for control in controls:
        numbered = [control["name"], *(f"{control['name']}_{count}" for count in range(2, len(controls) + 1))]
        control["name"] = next(name for name in numbered if name not in taken)
        taken.add(control["name"])


def _labels(control) -> dict[str, float]:
    """What the plug-in calls the steps of a control, and where they are; empty if the control is a scale."""
    steps = control.num_steps
    if not 2 <= steps <= MOST_WORDS:
        return {}
    labels = {}
    for step in range(steps):
        text = control.get_text_for_raw_value(step / (steps - 1)).strip() or str(step)
        number = _NUMBER.fullmatch(text)
        labels.setdefault(f"{float(number[1]):g} {number[2]}".strip() if number else text, step / (steps - 1))
    words = any(not _NUMBER.fullmatch(label) for label in labels)
    return labels if words or steps <= MOST_STEPS else {}


def _native(control) -> dict:
    """Unit, range and default of a scale: those of the plug-in if its texts at five places are as a `Param` has it."""
    raw = np.linspace(0, 1, 5)
    found: list = [_NUMBER.fullmatch(control.get_text_for_raw_value(value).strip()) for value in raw]
    if all(found) and len({match[2] for match in found}) == 1:
        values = np.array([float(match[1]) for match in found])
        low, high = values[[0, -1]].tolist()
        for log in (False, True):
            param = Param("", control.label.strip() or found[0][2].strip(), low, high, low, log)
            if low < high < math.inf and (low > 0 or not log):
                even = np.log(values / low) / np.log(high / low) if log else (values - low) / (high - low)
                if np.abs(even - raw).max() < 0.01:  # texts are rounded
                    default = min(max(param.to_native(control.raw_value), low), high)
                    return {"unit": param.unit, "low": low, "high": high, "default": default, "log": log}
    return {"unit": "", "low": 0.0, "high": 1.0, "default": control.raw_value, "log": False}


def _takes(instance, channels: int) -> bool:
    try:
        instance.process(np.zeros((channels, 512), np.float32), 44_100)
    except ValueError:  # "does not support 1-channel output"
        return False
    return True


def _is_silent(place: dict, channels: int, index: int) -> bool:
    """Whether a control, moved to either end, changes no sample of a burst of noise."""
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (channels, 8_192)).astype(np.float32)
    raws = ([], [[index, 0.0]], [[index, 1.0]])
    left, *moved = (_run(noise, **place, raw=raw, sample_rate_hz=44_100.0) for raw in raws)
    return all(np.array_equal(left, other) for other in moved)
