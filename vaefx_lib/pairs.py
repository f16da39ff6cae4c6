"""One dry/wet pair: a stretch of one speaker's sentences, and the same through an effect at known settings.

Pair `i` of a subset depends on (seed, subset, i) and the corpus alone, whoever renders it and when.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from vaefx_lib import audio, config, corpora, dry_clips, effects

MAX_DRAWS = 100  # of one pair, before giving up
MAX_FAILURES = 5  # of an external plug-in on one pair, before giving up
UNCHANGED = 1e-3  # of the peak: wet and dry that nowhere differ by more (-60 dB) are the same sound


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
    random tape speed, and are joined from pieces if `preset.render.pieces_s` says how long. Dry and wet are each
    brought to `peak_dbfs`, dry before the effect. A dry or wet sound that is silent (`audio.is_silent`), a wet one that
    is not finite, or nowhere differs from dry by more than 0.1 % of the peak, is drawn again, clip and settings, and
    counted. So is a pair whose recording cannot be read or whose effect crashed, hung or gave NaN; that is written down
    as well.

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
        `sample_rate_hz` and before the speed change), speed, effect, settings, redraws, sample_rate_hz, seed; where
        clips are joined from pieces, these as `dry_clips.draw_pieces` gives them, and of the first of them utterances,
        offset and speed; and quarantine, if something failed: the effect and its settings, or the recording, each with
        the reason.

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
    for_training = subset in ("train", "dummy_train")
    fastest, pieces_s = (choices.max_speed_change, choices.pieces_s) if for_training else (0.0, ())
    pair = np.empty((2, choices.channels, preset.stft.num_samples), np.float32)
    if out is not None:
        pair = out.reshape(pair.shape)
    redraws = {"silent": 0, "nonfinite": 0, "unchanged": 0, "failed": 0, "unreadable": 0}
    quarantine = []
    for _ in range(MAX_DRAWS):
        speaker = list(speakers)[rng.integers(len(speakers))]
        try:
            clip, said = _draw_dry(rng, speakers[speaker], pair.shape[1:], rate, fastest, pieces_s)
        except (audio.AudioError, OSError) as error:
            redraws["unreadable"] += 1
            quarantine.append({"speaker": speaker, "reason": str(error)})
            continue
        count = len(effect.params)
        settings = np.full(count, 0.5) if subset.startswith("dummy") else rng.uniform(size=count)
        row = {"speaker": speaker, **said, "effect": effect.name, "settings": settings.tolist()}
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


def _draw_dry(
    rng: np.random.Generator, utterances: Sequence[corpora.Utterance], shape, rate: int, fastest: float, pieces_s
) -> tuple[np.ndarray, dict]:
    """A clip of one speaker, and what its row says of it."""
    if pieces_s:
        clip, pieces = dry_clips.draw_pieces(rng, utterances, shape, rate, lengths_s=pieces_s, fastest=fastest)
        said = {key: pieces[0][key] for key in ("utterances", "offset", "speed")}
        return clip, said | {"pieces": pieces}
    speed = float(rng.uniform(1 - fastest, 1 + fastest))
    clip, ids, offset = dry_clips.draw_clip(rng, utterances, shape, rate, speed)
    return clip, {"utterances": ids, "offset": offset, "speed": speed}


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
