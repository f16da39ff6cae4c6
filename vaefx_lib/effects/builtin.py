"""The effects that come with pedalboard, such as ``pedalboard:Reverb``: `EFFECTS` gives each its controls and ranges.

Names of controls are those of pedalboard's properties. The ranges are ours: as wide as is of use and keeps every
setting stable and finite at rates from 8 to 192 kHz. A clip is rendered by an object of its own, so nothing is left
over from the one before. Where an effect delays the sound, pedalboard takes the delay out again: the output is aligned
with the input and as long.

Some need a word:

- *Convolution* gets an impulse response made here (`impulse_response`), because a file is no setting.
- *MP3Compressor* takes one of `MP3_RATES_HZ`. *GSMFullRateCompressor* takes any rate, resamples to the 8 kHz of the
  codec by itself, and returns the same mono sound on both channels.
- *Limiter* raises everything below its threshold too, and clips at 0 dBFS; *BrickwallLimiter* only limits.
- *PitchShift* makes a steady tone warble: its power is in sidebands some 10 Hz apart, around the right frequency.

Source: pedalboard's documentation, https://spotify.github.io/pedalboard/reference/pedalboard.html, and trials.
"""

from __future__ import annotations

import functools

import numpy as np
import pedalboard

from vaefx_lib.effects.effect import Choice, Effect, Param

MP3_RATES_HZ = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
HIGHEST_CUTOFF = 0.49  # of the sample rate: a filter above half the rate is unstable or undefined
_QUALITIES = tuple(pedalboard.Resample.Quality.__members__)
_FREQUENCIES = {"cutoff_frequency_hz", "cutoff_hz", "centre_frequency_hz"}


def _cutoff(default_hz: float) -> Param:
    return Param("cutoff_frequency_hz", "Hz", 20, 20_000, default_hz, log=True)


def _gain_around(default_hz: float, highest_q: float) -> tuple[Param, ...]:
    """The three filters with a gain; a shelf with a higher q than 2 is hardly one: it rings at its edge."""
    q = Param("q", "", 0.2, highest_q, 0.5**0.5, log=True)
    return _cutoff(default_hz), Param("gain_db", "dB", -24, 24, 12), q


def _sweep(*middle: Param) -> tuple[Param, ...]:
    """Chorus and Phaser: the speed and depth of a slow sine, what is around it, and the mix."""
    rate, depth = Param("rate_hz", "Hz", 0.05, 10, 1, log=True), Param("depth", "", 0, 1, 0.5)
    return rate, depth, *middle, Param("feedback", "", -0.9, 0.9, 0), Param("mix", "", 0, 1, 0.5)  # at 1 it would howl


_RATIO, _RELEASE = Param("ratio", "", 1, 20, 4, log=True), Param("release_ms", "ms", 10, 1_000, 100, log=True)
_ATTACK = Param("attack_ms", "ms", 0.1, 100, 1, log=True)

EFFECTS: dict[str, tuple[Param | Choice, ...]] = {
    "Bitcrush": (Param("bit_depth", "bit", 1, 16, 6),),  # fractions too; 2^bits steps from 0 to 1, as many below 0
    "BrickwallLimiter": (
        Param("ceiling_db", "dB", -30, 0, -12),
        _RELEASE,
        Param("lookahead_ms", "ms", 0.5, 20, 5, log=True),
        Choice("true_peak", ("off", "on"), "off"),
    ),
    "Chorus": _sweep(Param("centre_delay_ms", "ms", 1, 50, 7, log=True)),
    "Clipping": (Param("threshold_db", "dB", -40, 0, -18),),
    "Compressor": (Param("threshold_db", "dB", -60, 0, -24), _RATIO, _ATTACK, _RELEASE),
    "Convolution": (Param("decay_s", "s", 0.05, 3, 0.5, log=True), Param("mix", "", 0, 1, 0.8)),
    "Delay": (
        Param("delay_seconds", "s", 0.005, 2, 0.25, log=True),
        Param("feedback", "", 0, 0.95, 0.3),  # at 1 it would never end, and grow
        Param("mix", "", 0, 1, 0.5),
    ),
    "Distortion": (Param("drive_db", "dB", 0, 50, 25),),
    "GSMFullRateCompressor": (Choice("quality", _QUALITIES, "WindowedSinc8"),),
    "Gain": (Param("gain_db", "dB", -24, 24, 6),),
    "HighShelfFilter": _gain_around(3_000, 2),
    "HighpassFilter": (_cutoff(500),),
    "Invert": (),
    "LadderFilter": (
        Param("cutoff_hz", "Hz", 20, 20_000, 1_000, log=True),
        Param("resonance", "", 0, 1, 0.3),
        Param("drive", "", 1, 10, 1.5, log=True),
        Choice("mode", tuple(pedalboard.LadderFilter.Mode.__members__), "LPF12"),
    ),
    "Limiter": (Param("threshold_db", "dB", -40, 0, -10), _RELEASE),
    "LowShelfFilter": _gain_around(300, 2),
    "LowpassFilter": (_cutoff(1_500),),
    "MP3Compressor": (Param("vbr_quality", "", 0, 9.9, 8),),  # 0 is the best; the encoder refuses 10
    "NoiseGate": (Param("threshold_db", "dB", -80, 0, -40), _RATIO, _ATTACK, _RELEASE),
    "PeakFilter": _gain_around(1_000, 10),
    "Phaser": _sweep(Param("centre_frequency_hz", "Hz", 50, 10_000, 1_300, log=True)),
    "PitchShift": (Param("semitones", "semitones", -12, 12, 4),),
    "Resample": (
        Param("target_sample_rate", "Hz", 1_000, 48_000, 6_000, log=True),
        Choice("quality", _QUALITIES, "WindowedSinc32"),
    ),
    "Reverb": (
        Param("room_size", "", 0, 1, 0.5),
        Param("damping", "", 0, 1, 0.5),
        Param("wet_level", "", 0, 1, 0.33),
        Param("dry_level", "", 0, 1, 0.4),
        Param("width", "", 0, 1, 1),
        Choice(
            "freeze_mode", ("off", "on"), "off"
        ),  # on keeps what sounds and lets nothing in: dry, as it starts empty
    ),
}


def names(prefix: str = "pedalboard") -> list[str]:
    """Names of the effects that the installed pedalboard has."""
    return [name for name in EFFECTS if hasattr(pedalboard, name)]


def load(name: str) -> Effect:
    """The effect of a name such as ``"pedalboard:Reverb"``.

    Raises
    ------
    ValueError
        If there is none; the message names the known ones.

    Used in `01_data_rendering`.
    """
    short = name.partition(":")[2]
    if short not in names():
        raise ValueError(f"unknown effect {name!r}: pedalboard {pedalboard.__version__} has {', '.join(names())}")
    params = tuple(control for control in EFFECTS[short] if isinstance(control, Param))
    choices = tuple(control for control in EFFECTS[short] if isinstance(control, Choice))
    version = f"pedalboard {pedalboard.__version__}"
    return Effect(name, params, functools.partial(_process, short, params), choices, version)


def impulse_response(decay_s: float, sample_rate_hz: float) -> np.ndarray:
    """What Convolution convolves with: the same noise each time, which falls by 60 dB in `decay_s` and ends there.

    Returns
    -------
    np.ndarray, float32, shape (1 + decay_s * sample_rate_hz,)
        pedalboard scales it to a root of summed squares of 1/8, so that a long one is no louder than a short one.
    """
    time_s = np.arange(1 + int(decay_s * sample_rate_hz)) / sample_rate_hz
    noise = np.random.default_rng(0).standard_normal(time_s.size, np.float32)
    return (noise * 10 ** (-3 * time_s / decay_s)).astype(np.float32)


def _process(name: str, params: tuple[Param, ...], audio, sample_rate_hz, /, **settings) -> np.ndarray:
    """`Effect.process` of pedalboard's class `name`: as many channels and samples as `audio` (channels, samples)."""
    if name == "MP3Compressor" and sample_rate_hz not in MP3_RATES_HZ:
        known = ", ".join(map(str, MP3_RATES_HZ))
        raise ValueError(f"sample_rate_hz is {sample_rate_hz:g}: pedalboard:MP3Compressor takes one of {known}")
    native = {param.name: param.to_native(settings[param.name]) for param in params}
    for frequency in _FREQUENCIES & native.keys():
        native[frequency] = min(native[frequency], HIGHEST_CUTOFF * sample_rate_hz)
    labels = {key: _value(key, label) for key, label in settings.items() if key not in native}
    plugin = _plugin(name, native | labels, sample_rate_hz)
    channels, samples = audio.shape
    # pedalboard takes the shorter side of an array for its channels
    padded = np.pad(audio, ((0, 0), (0, max(0, channels + 1 - samples))))
    return plugin.process(padded, sample_rate_hz)[:, :samples]


def _plugin(name: str, values: dict, sample_rate_hz: float) -> pedalboard.Plugin:
    if name == "Convolution":
        impulse = impulse_response(values["decay_s"], sample_rate_hz)
        return pedalboard.Convolution(impulse, values["mix"], sample_rate_hz)
    return getattr(pedalboard, name)(**values)


def _value(choice: str, label: str):
    """What pedalboard calls a label: a truth value, or a member of an enumeration."""
    if label in ("off", "on"):
        return label == "on"
    enumeration = pedalboard.LadderFilter.Mode if choice == "mode" else pedalboard.Resample.Quality
    return enumeration.__members__[label]
