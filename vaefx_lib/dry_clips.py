"""Dry sound to put through effects: a stretch of what one speaker says, or pieces of it joined anew.

A speaker of a small corpus says a few dozen sentences. A network that meets them often enough knows them by heart; of
short pieces there are more orders than it can learn.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soxr

from vaefx_lib import audio, corpora

LONG_S = 30.0  # of a recording; a longer one is read in part, and its stretches are not joined to others
FADE_S = 0.01  # in which one piece gives way to the next
SENTENCES_BYTES = 256 * 2**20  # decoded sentences that one process keeps

_sentences: dict[tuple, np.ndarray] = {}  # decoded ones; see `_sentence`
_sentences_lock = threading.Lock()


def draw_clip(
    rng: np.random.Generator, utterances: Sequence[corpora.Utterance], shape: tuple[int, int], rate: int, speed: float
) -> tuple[np.ndarray, list[str], int]:
    """A clip of one speaker's utterances, joined in random order and cut at a random place, at a tape speed.

    Parameters
    ----------
    rng : Generator
    utterances : sequence of Utterance
        Of one speaker.
    shape : (int, int)
        Channels and samples of the clip.
    rate : int
        In Hz.
    speed : float
        1 leaves pitch and tempo as they are.

    Returns
    -------
    clip : array, float32, of `shape`
        At the level of the recording.
    ids : list of str
        Of the utterances, in order.
    offset : int
        The clip's first sample in the joined utterances.
    """
    channels, num_samples = shape
    needed = math.ceil(num_samples * speed) + 8  # a few more, so that rounding never leaves the clip short
    order = rng.permutation(len(utterances))
    first = utterances[order[0]]
    if first.duration_s > LONG_S:  # a song, say: nothing is joined, and no more of it is read
        offset = int(rng.integers(int((first.duration_s - 0.1) * rate) - needed))
        sound = audio.load_stretch(first.path, offset, needed, sample_rate_hz=rate)
        parts = [_to_channels(sound, channels)]
    else:
        sentence = _sentence(first.path, rate, channels)
        offset = int(rng.integers(sentence.shape[1]))
        parts = [sentence[:, offset : offset + needed]]
    ids = [first.utterance_id]
    while sum(part.shape[1] for part in parts) < needed:
        utterance = utterances[order[len(ids) % len(order)]]  # a speaker with little to say repeats it
        parts.append(_sentence(utterance.path, rate, channels))
        ids.append(utterance.utterance_id)
    clip = np.concatenate(parts, axis=1)[:, :needed] if len(parts) > 1 else parts[0]
    if speed != 1:
        clip = np.stack([soxr.resample(channel, rate * speed, rate) for channel in clip])
    return clip[:, :num_samples], ids, offset


def draw_pieces(
    rng: np.random.Generator,
    utterances: Sequence[corpora.Utterance],
    shape: tuple[int, int],
    rate: int,
    *,
    lengths_s: tuple[float, float],
    fastest: float,
) -> tuple[np.ndarray, list[dict]]:
    """A clip of pieces of one speaker's utterances, each from a random place and at a tape speed of its own.

    Parameters
    ----------
    rng, utterances, shape, rate
        As for `draw_clip`.
    lengths_s : (float, float)
        A piece lasts no less and no more.
    fastest : float
        Speeds are within 1 - fastest and 1 + fastest.

    Returns
    -------
    clip : array, float32, of `shape`
        Each piece is faded into the next within `FADE_S`.
    pieces : list of dict
        start (in the clip), utterances, offset (both as `draw_clip` gives them), speed.

    Raises
    ------
    ValueError
        If `lengths_s` are not a range, or of pieces that are nothing but fades.
    """
    if not 2 * FADE_S < lengths_s[0] <= lengths_s[1]:
        raise ValueError(f"pieces_s {lengths_s}: the first must be above {2 * FADE_S:g} and no more than the second")
    clip, pieces, start = np.zeros(shape, np.float32), [], 0
    rise = np.linspace(0, 1, round(FADE_S * rate), dtype=np.float32)
    while start < shape[1]:
        count = round(rng.uniform(*lengths_s) * rate)
        speed = float(rng.uniform(1 - fastest, 1 + fastest))
        piece, ids, offset = draw_clip(rng, utterances, (shape[0], count), rate, speed)
        into = clip[:, start : start + count]  # the last piece is cut short
        both = min(len(rise), into.shape[1]) if start else 0
        into[:, :both] *= 1 - rise[:both]
        into[:, :both] += rise[:both] * piece[:, :both]
        into[:, both:] = piece[:, both : into.shape[1]]
        pieces.append({"start": start, "utterances": ids, "offset": offset, "speed": speed})
        start += count - len(rise)
    return clip, pieces


def _to_channels(sound: np.ndarray, channels: int) -> np.ndarray:
    """Sound (any number of channels, samples) as (channels, samples): one is doubled, others are mixed to one first."""
    if len(sound) != channels and len(sound) > 1:
        sound = audio.to_mono(sound)[None]
    return np.broadcast_to(sound, (channels, sound.shape[1]))


def _sentence(path: Path, rate: int, channels: int) -> np.ndarray:
    """An utterance, float32 (channels, samples), decoded once per process as long as it fits."""
    stat = path.stat()
    key = (path, rate, channels, stat.st_mtime_ns, stat.st_size)
    sentence = _sentences.get(key)
    if sentence is None:
        sentence = _to_channels(audio.load(path, sample_rate_hz=rate)[0], channels)
        with _sentences_lock:  # a cluster's workers render in several threads of one process
            if sum(s.nbytes for s in _sentences.values()) + sentence.nbytes > SENTENCES_BYTES:
                _sentences.clear()
            _sentences[key] = sentence
    return sentence
