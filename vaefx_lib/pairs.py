"""One dry/wet pair: a stretch of one speaker's sentences, and the same through an effect at known settings.

Pair `i` of a subset depends on (seed, subset, i) and the corpus alone, whoever renders it and when.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import soxr

from vaefx_lib import audio, config, corpora, effects

MAX_DRAWS = 100  # of one pair, before giving up
MAX_FAILURES = 5  # of an external plug-in on one pair, before giving up
UNCHANGED = 1e-3  # of the peak: wet and dry that nowhere differ by more (-60 dB) are the same sound
LONG_S = 30.0  # of a recording; a longer one is read in part, and its stretches are not joined to others
SENTENCES_BYTES = 256 * 2**20  # decoded sentences that one process keeps

_sentences: dict[tuple, np.ndarray] = {}  # decoded ones; see `_sentence`
_sentences_lock = threading.Lock()


def render_pair(
    preset: config.Preset,
    subset: str,
    index: int,
    utterances: Sequence[corpora.Utterance] | Mapping[str, Sequence[corpora.Utterance]],
    *,
    out: np.ndarray | None = None,
) -> tuple[np.ndarray, dict]:
    """One dry/wet pair and its row.

    Sentences of one speaker are joined in random order and cut at a random place; for training subsets they run at a
    random tape speed. Dry and wet are each brought to `peak_dbfs`, dry before the effect. A dry or wet sound that is
    silent (`audio.is_silent`), a wet one that is not finite, or nowhere differs from dry by more than 0.1 % of the
    peak, is drawn again, clip and settings, and counted. So is a pair whose recording cannot be read or whose effect
    crashed, hung or gave NaN; that is written down as well.

    Parameters
    ----------
    preset : Preset
    subset : str
        One of `config.SUBSETS`; the "dummy" ones have all settings 0.5, the others uniform in [0, 1]. Choices of an
        effect are held.
    index : int
    utterances : sequence of Utterance
        What to draw from; or what `by_speaker` made of them, which saves time where many pairs are rendered.
    out : array, float32, shape of the pair, optional
        Where the pair is written.

    Returns
    -------
    pair : array, float32, shape (2, samples), or (2, 2, samples) where `preset.render.channels` is 2
        Dry and wet, mono or stereo.
    row : dict
        index, subset, speaker, utterances (ids, in order), offset (the clip's first sample in the joined sentences, at
        `sample_rate_hz` and before the speed change), speed, effect, settings, redraws, sample_rate_hz, seed; and
        quarantine, if something failed: the effect and its settings, or the recording, each with the reason.

    Raises
    ------
    ValueError
        For an unknown subset or effect, no utterances, or nothing usable in 100 draws.
    EffectFailed
        If the effect fails 5 times.

    Used in `01_data_rendering`.
    """
    choices, rate = preset.render, preset.stft.sample_rate_hz
    speakers = utterances if isinstance(utterances, Mapping) else by_speaker(utterances)
    if not speakers:
        raise ValueError(f"no utterances for subset {subset!r} of corpus {choices.corpus!r}: at least one is needed")
    effect = effects.load(choices.effects[index % len(choices.effects)])
    rng = np.random.default_rng([choices.seed, subset_number(subset), index])
    fastest = choices.max_speed_change if subset in ("train", "dummy_train") else 0.0
    pair = np.empty((2, choices.channels, preset.stft.num_samples), np.float32)
    if out is not None:
        pair = out.reshape(pair.shape)
    redraws = {"silent": 0, "nonfinite": 0, "unchanged": 0, "failed": 0, "unreadable": 0}
    quarantine = []
    for _ in range(MAX_DRAWS):
        speaker = list(speakers)[rng.integers(len(speakers))]
        speed = float(rng.uniform(1 - fastest, 1 + fastest))
        try:
            clip, ids, offset = draw_clip(rng, speakers[speaker], pair.shape[1:], rate, speed)
        except (audio.AudioError, OSError) as error:
            redraws["unreadable"] += 1
            quarantine.append({"speaker": speaker, "reason": str(error)})
            continue
        count = len(effect.params)
        settings = np.full(count, 0.5) if subset.startswith("dummy") else rng.uniform(size=count)
        row: dict = {"speaker": speaker, "utterances": ids, "offset": offset, "speed": speed}
        row |= {"effect": effect.name, "settings": settings.tolist()}
        try:
            reason = _through(effect, clip, settings, rate, choices.peak_dbfs, pair)
        except effects.EffectFailed as error:
            reason, told = "failed", str(error)
        else:
            told = f"{effect.name} gave NaN or infinity"
        if reason is None:
            row = {"index": index, "subset": subset, **row, "redraws": redraws, "sample_rate_hz": rate}
            row |= {"seed": choices.seed} | ({"quarantine": quarantine} if quarantine else {})
            return (pair if choices.channels > 1 else pair[:, 0]), row
        redraws[reason] += 1
        if reason in ("failed", "nonfinite"):
            quarantine.append({**row, "reason": told})
        if redraws["failed"] == MAX_FAILURES:
            raise effects.EffectFailed(f"pair {index} of {subset!r} was given up after {MAX_FAILURES} failures: {told}")
    counts = ", ".join(f"{n} {reason}" for reason, n in redraws.items() if n)
    told = f" ({quarantine[-1]['reason']})" if quarantine else ""
    raise ValueError(f"{effect.name} gave no usable pair {index} of {subset!r} in {MAX_DRAWS} draws: {counts}{told}")


def by_speaker(utterances: Sequence[corpora.Utterance]) -> dict[str, list[corpora.Utterance]]:
    """Utterances by speaker, speakers in the order of their names."""
    speakers: dict[str, list] = {}
    for utterance in utterances:
        speakers.setdefault(utterance.speaker, []).append(utterance)
    return dict(sorted(speakers.items()))


def subset_number(subset: str) -> int:
    """Position of a subset in `config.SUBSETS`, part of every pair's seed.

    Raises
    ------
    ValueError
        If there is no such subset.
    """
    if subset not in config.SUBSETS:
        raise ValueError(f"unknown subset {subset!r}: known are {', '.join(config.SUBSETS)}")
    return config.SUBSETS.index(subset)


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


def _through(effect, clip: np.ndarray, settings: np.ndarray, rate: int, peak_dbfs: float, pair: np.ndarray):
    """Write the levelled pair (2, channels, samples); None, or why the result is of no use.

    One pass over the samples costs about as much as a twentieth of an effect: hence few of them, and in place.
    """
    dry, wet = pair
    peak = _peak(clip)
    if peak < audio.SILENT_PEAK:
        return "silent"
    np.multiply(clip, np.float32(10 ** (peak_dbfs / 20) / peak), out=dry)
    if audio.is_silent(dry):
        return "silent"
    sound = effect.render(dry, settings, rate)  # (channels_out, samples)
    if len(sound) == 1 or len(dry) == 2:
        wet[:] = sound
    else:
        with np.errstate(over="ignore", invalid="ignore"):  # what comes of it is not finite
            np.add(sound[0], sound[1], out=wet[0])
            wet *= np.float32(0.5)
    peak = _peak(wet)
    if not math.isfinite(peak):
        return "nonfinite"
    if audio.is_silent(wet):
        return "silent"
    wet *= np.float32(10 ** (peak_dbfs / 20) / peak)
    return "unchanged" if _peak(wet - dry) < UNCHANGED * _peak(dry) else None


def _peak(x: np.ndarray) -> float:
    """Largest magnitude; NaN if there is one. Two passes, and no array in between."""
    return float(max(x.max(), -x.min()))


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
