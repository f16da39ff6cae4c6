"""Music that nobody wrote: passages of random pieces, so that what listens to sounds does not know speech alone.

A *piece* is a key, a tempo, a room and a few instruments. Passages of one piece share these and have other notes, as
passages of one speaker have other words. Nothing is recorded: tones are sums of partials, drums are noise and a falling
sine, the room is an exponentially decaying noise whose treble decays first.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.signal import fftconvolve

SCALES = ((0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10), (0, 2, 3, 5, 7, 9, 10), (0, 2, 4, 7, 9))  # semitones
A4_HZ, A4 = 440.0, 69  # and its number among the notes of MIDI
PARTIALS = 16
INAUDIBLE = 0.003  # of a tone: partials below it are left out
HIGHEST = 0.45  # of the sample rate: partials above it are left out
DB_60 = np.log(1000)  # nepers in 60 dB
BRIGHT = 0.25  # s: by which a room's treble decays away, where all decays slower


@dataclass(frozen=True, eq=False)
class Instrument:
    """How one voice of a piece sounds, and how it plays.

    Attributes
    ----------
    kind : str
        "held" (bowed, blown), "struck" (plucked, hammered) or "drum".
    partials : array, shape (PARTIALS,)
        Amplitudes; power 1 in all.
    stretch : float
        Inharmonicity: partial k of a tone lies at ``k * sqrt(1 + stretch * k**2)`` times its fundamental.
    octave, chord, players : int
        Octaves above the piece's root, tones at a time, and players of each.
    attack_s, decay_s : float
        Rise to full amplitude, and fall to 1/e of it; `decay_s` is infinite for what is held.
    vibrato_hz, vibrato, detuned : float
        Vibrato's rate, and its depth and the spread of players out of tune in semitones.
    beats : float
        From one note to the next.
    breath, level : float
        Noise beside a tone of 1, and root mean square in the piece.
    """

    kind: str
    partials: np.ndarray
    stretch: float
    octave: int
    chord: int
    players: int
    attack_s: float
    decay_s: float
    vibrato_hz: float
    vibrato: float
    detuned: float
    beats: float
    breath: float
    level: float


@dataclass(frozen=True, eq=False)
class Piece:
    """What all passages of a piece share.

    Attributes
    ----------
    root : int
        Lowest note, as MIDI counts them.
    scale : tuple of int
        Semitones above the root.
    beat_s : float
    instruments : tuple of Instrument
    room : array, shape (n,)
        Its impulse response without the direct sound; energy 1.
    direct, noise : float
        Amplitudes of the direct sound beside it, and of noise beside a peak of 1.
    sample_rate_hz : int
    """

    root: int
    scale: tuple[int, ...]
    beat_s: float
    instruments: tuple[Instrument, ...]
    room: np.ndarray
    direct: float
    noise: float
    sample_rate_hz: int


def invent(rng: np.random.Generator, sample_rate_hz: int) -> Piece:
    """A piece.

    Parameters
    ----------
    rng : Generator
    sample_rate_hz : int
    """
    return Piece(
        root=int(rng.integers(48, 60)),
        scale=SCALES[rng.integers(len(SCALES))],
        beat_s=60 / float(rng.uniform(60, 170)),
        instruments=tuple(_instrument(rng) for _ in range(rng.integers(1, 6))),
        room=_room(rng, _between(rng, 0.15, 3.0), sample_rate_hz),
        direct=float(rng.uniform(0.3, 1.5)),
        noise=_between(rng, 3e-5, 2e-3),
        sample_rate_hz=sample_rate_hz,
    )


def play(piece: Piece, rng: np.random.Generator, samples: int) -> np.ndarray:
    """A passage of a piece, float32, shape (samples,); its peak is about 1.

    Parameters
    ----------
    piece : Piece
    rng : Generator
        Of the notes.
    samples : int
    """
    sound = np.zeros(samples)
    for instrument in piece.instruments:
        line = _line(piece, instrument, rng, samples)
        sound += line * instrument.level / max(np.sqrt(np.square(line).mean()), 1e-9)
    sound = piece.direct * sound + fftconvolve(sound, piece.room)[:samples]
    sound /= max(np.abs(sound).max(), 1e-9)
    return (sound + piece.noise * rng.standard_normal(samples)).astype(np.float32)


def _between(rng: np.random.Generator, low: float, high: float) -> float:
    """A number whose logarithm is uniform."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _instrument(rng: np.random.Generator) -> Instrument:
    kind = str(rng.choice(["held", "struck", "drum"], p=[0.45, 0.35, 0.2]))
    numbers = np.arange(1, PARTIALS + 1)
    partials = numbers ** -rng.uniform(0.3, 2.5) * np.exp(rng.normal(0, 0.7, PARTIALS))
    if rng.uniform() < 0.25:  # a stopped pipe, a clarinet
        partials[1::2] *= rng.uniform(0, 0.2)
    return Instrument(
        kind=kind,
        partials=partials / np.sqrt(np.square(partials).sum()),
        stretch=_sometimes(rng, 0.25, 0.01),
        octave=int(rng.integers(-2, 2)),
        chord=int(rng.choice([1, 1, 2, 3, 4])),
        players=int(rng.choice([1, 1, 2, 5])),
        attack_s=_between(rng, 0.003, 0.4 if kind == "held" else 0.02),
        decay_s=np.inf if kind == "held" else _between(rng, 0.08, 2.5),
        vibrato_hz=float(rng.uniform(4, 7)),
        vibrato=_sometimes(rng, 0.5, 0.4),
        detuned=float(rng.uniform(0.02, 0.15)),
        beats=float(rng.choice([0.25, 0.5, 0.5, 1, 1, 2, 4])),
        breath=_sometimes(rng, 0.5, 0.1),
        level=_between(rng, 0.1, 1.0),
    )


def _sometimes(rng: np.random.Generator, share: float, most: float) -> float:
    """0, or in this share of the draws anything up to `most`."""
    return float(rng.uniform(0, most)) if rng.uniform() < share else 0.0


def _room(rng: np.random.Generator, rt60_s: float, rate_hz: int) -> np.ndarray:
    """A room's answer to an impulse, which falls by 60 dB in `rt60_s`."""
    n = int(min(rt60_s, 2.5) * rate_hz)
    t, noise = np.arange(n) / rate_hz, rng.standard_normal(n)
    spectrum, corner_hz = np.fft.rfft(noise), rng.uniform(1500, 8000)
    dull = np.fft.irfft(spectrum / (1 + (np.fft.rfftfreq(n, 1 / rate_hz) / corner_hz) ** 2), n)
    room = np.exp(-DB_60 * t / rt60_s) * (dull + (noise - dull) * np.exp(-t / BRIGHT))
    return room / np.sqrt(np.square(room).sum())


def _line(piece: Piece, instrument: Instrument, rng: np.random.Generator, samples: int) -> np.ndarray:
    """What one instrument plays: a walk along the scale, with rests, in time but for some milliseconds."""
    rate_hz, line = piece.sample_rate_hz, np.zeros(samples)
    step_s, degree = instrument.beats * piece.beat_s, int(rng.integers(0, 7))
    for start_s in np.arange(-rng.uniform(0, step_s), samples / rate_hz, step_s):
        degree = int(np.clip(degree + rng.integers(-3, 4), -3, 10))
        length_s = step_s * rng.uniform(0.7, 1.3) if instrument.kind == "held" else 5 * instrument.decay_s
        begin = max(0, round((start_s + rng.normal(0, 0.005)) * rate_hz))
        count, strength = min(samples - begin, round(length_s * rate_hz)), rng.uniform(0.5, 1)
        if count < 1 or rng.uniform() < 0.2:
            continue
        t = np.arange(count) / rate_hz
        shape = np.minimum(1, t / instrument.attack_s) * np.minimum(1, (count / rate_hz - t) / 0.03)
        if instrument.kind == "drum":
            note = _hit(instrument, rng, t, rate_hz)
        else:
            note = sum(_tone(instrument, rng, hz, t, rate_hz) for hz in _chord_hz(piece, instrument, degree))
        line[begin : begin + count] += strength * shape * np.exp(-t / instrument.decay_s) * note
    return line


def _chord_hz(piece: Piece, instrument: Instrument, degree: int) -> list[float]:
    """Fundamentals of every second degree of the scale from this one up."""
    found = []
    for place in range(degree, degree + 2 * instrument.chord, 2):
        octaves, within = divmod(place, len(piece.scale))
        note = piece.root + 12 * (instrument.octave + octaves) + piece.scale[within]
        found.append(A4_HZ * 2 ** ((note - A4) / 12))
    return found


def _tone(instrument: Instrument, rng: np.random.Generator, hz: float, t: np.ndarray, rate_hz: int) -> np.ndarray:
    """A tone by all players, with the upper partials of what is struck falling faster."""
    tone = instrument.breath * rng.standard_normal(len(t))
    for _ in range(instrument.players):
        off = instrument.detuned * rng.normal() if instrument.players > 1 else 0.0
        bend = off + instrument.vibrato * np.sin(2 * np.pi * (instrument.vibrato_hz * t + rng.uniform()))
        phase = 2 * np.pi * np.cumsum(hz * 2 ** (bend / 12)) / rate_hz
        for k, amplitude in enumerate(instrument.partials, start=1):
            ratio = k * np.sqrt(1 + instrument.stretch * k**2)
            if amplitude > INAUDIBLE and hz * ratio < HIGHEST * rate_hz:
                fall = np.exp(-t * (k - 1) / (4 * instrument.decay_s))
                tone += amplitude * fall * np.sin(ratio * phase + rng.uniform(0, 2 * np.pi))
    return tone


def _hit(instrument: Instrument, rng: np.random.Generator, t: np.ndarray, rate_hz: int) -> np.ndarray:
    """A drum: a skin whose pitch falls, and noise; the first partial's amplitude says how much of it."""
    hz = 50 + 60 * 2.0**instrument.octave * np.exp(-t / 0.05)
    skin = np.sin(2 * np.pi * np.cumsum(hz) / rate_hz) * np.exp(-t / 0.15)
    return skin + instrument.partials[0] * np.exp(-t / 0.05) * rng.standard_normal(len(t))
