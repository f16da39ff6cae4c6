"""What a match is tried on: a dry passage, a reference of other words through an effect, and what should come of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vaefx_lib import audio, blackbox, config, corpora, corpus_split, dry_clips, effects, pairs, passages

TRIES = 100  # of one case, before giving up


@dataclass(frozen=True, eq=False)
class Case:
    """An input, a reference, and the sound that a perfect match would give.

    Attributes
    ----------
    dry : array, float32, shape (131072,)
        The input: 5.46 s at 24 kHz.
    reference : array, float32, shape (131072,)
        Another passage through the effect.
    target : array, float32, shape (131072,)
        The input through the effect at the same settings.
    settings : array, float64, shape (n_params,)
        Of the effect that made the reference.
    speakers : (str, str)
        Of the input and of the reference.
    """

    dry: np.ndarray
    reference: np.ndarray
    target: np.ndarray
    settings: np.ndarray
    speakers: tuple[str, str]

    @property
    def same_speaker(self) -> bool:
        """Whether input and reference have one speaker, or are of one piece of music."""
        return self.speakers[0] == self.speakers[1]


def draw(
    speakers: Mapping[str, Sequence[corpora.Utterance]],
    made_by: str,
    *,
    index: int,
    seed: int = 0,
    peak_dbfs: float = -12.0,
) -> Case:
    """One case; it depends on its number, the seed and the recordings alone.

    Input and reference are of the same speaker where the number is even, of two where it is odd and there are two. They
    share no recording; only of a speaker with a single one they are two stretches that do not overlap. No sentence is
    in both if it can be avoided. All sounds have one peak level. A case with a sound that is silent, not finite, or
    that the effect leaves as it was, is drawn again, as is one whose recording cannot be read.

    Parameters
    ----------
    speakers : mapping of str to sequence of Utterance
        As `pairs.by_speaker` gives them.
    made_by : str
        The effect; its settings are uniform in [0, 1].
    index, seed : int
    peak_dbfs : float

    Raises
    ------
    ValueError
        For an unknown effect, no speakers, or nothing usable in 100 draws.

    Used in `05_controller_training`.
    """
    if not speakers:
        raise ValueError("there are no recordings to match: at least one speaker is needed")
    effect = effects.load(made_by)
    rng = np.random.default_rng([seed, index])
    names = list(speakers)
    same = index % 2 == 0 or len(names) == 1
    why = ""
    for _ in range(TRIES):
        first = names[rng.integers(len(names))]
        others = [first] if same else [name for name in names if name != first]
        second = others[rng.integers(len(others))]
        settings = rng.uniform(size=len(effect.params))
        try:
            dry, other = _two_passages(rng, speakers[first], speakers[second], peak_dbfs)
            target, reference = (_through(effect, sound, settings, peak_dbfs) for sound in (dry, other))
        except (audio.AudioError, OSError) as error:  # EffectFailed is an OSError
            why = str(error)
            continue
        return Case(dry, reference, target, settings, (first, second))
    raise ValueError(f"{made_by} gave no usable case {index} in {TRIES} draws; the last was refused since {why}")


def unseen(corpus: str, preset: config.Preset) -> dict[str, list[corpora.Utterance]]:
    """Recordings by speaker, none of whom a preset was trained on.

    Of the preset's own corpus these are its "test" part; of another all but speakers of the same name.

    Raises
    ------
    ValueError
        If there is no such corpus, or nobody is left.
    """
    own = corpus_split.split(corpora.load(preset.render.corpus), preset.render.corpus)
    if corpus == preset.render.corpus:
        return pairs.by_speaker(own["test"])
    known = {utterance.speaker for utterance in own["train"]}
    left = [utterance for utterance in corpora.load(corpus) if utterance.speaker not in known]
    if not left:
        raise ValueError(f"{corpus} holds only speakers of the training: at least one other is needed")
    return pairs.by_speaker(left)


def _two_passages(rng: np.random.Generator, first, second, peak_dbfs: float) -> list[np.ndarray]:
    """Of two speakers' recordings, or of one's: dry, levelled, and with nothing in common."""
    if first is second and len(first) == 1 and first[0].duration_s <= dry_clips.LONG_S:
        if first[0].duration_s * passages.RATE_HZ < 2 * passages.SAMPLES:
            raise audio.AudioError(f"the only recording of {first[0].speaker} is too short for two passages")
        both, _, _ = _draw_clip(rng, first, 2 * passages.SAMPLES)  # goes on at the start where the recording ends
        clip, other = both[:, : passages.SAMPLES], both[:, passages.SAMPLES :]
    else:
        clip, ids, offset = _draw_clip(rng, first)
        texts = {utterance.text for utterance in first if utterance.utterance_id in ids} - {""}
        others = [u for u in second if first is not second or u.utterance_id not in ids] or second
        others = [u for u in others if u.text not in texts] or others
        other, other_ids, other_offset = _draw_clip(rng, others)
        if first is second and set(ids) & set(other_ids):
            within = len(ids) == len(other_ids) == 1 and abs(offset - other_offset) >= passages.SAMPLES
            if not within:
                raise audio.AudioError("the two passages overlap")
    sounds = [audio.peak_level(x[0], peak_dbfs) for x in (clip, other)]
    if any(audio.is_silent(sound) for sound in sounds):
        raise audio.AudioError("a passage is silent")
    return sounds


def _draw_clip(rng: np.random.Generator, utterances: Sequence[corpora.Utterance], samples: int = passages.SAMPLES):
    return dry_clips.draw_clip(rng, utterances, (1, samples), passages.RATE_HZ, 1.0)


def _through(effect: effects.Effect, dry: np.ndarray, settings: np.ndarray, peak_dbfs: float) -> np.ndarray:
    """Wet sound, if it is of use."""
    wet = blackbox.wet(effect, dry, settings, passages.RATE_HZ, peak_dbfs=peak_dbfs)
    if audio.is_silent(wet):
        raise audio.AudioError(f"{effect.name} gave silence")
    if np.abs(wet - dry).max() < pairs.UNCHANGED * np.abs(dry).max():
        raise audio.AudioError(f"{effect.name} left the sound as it was")
    return wet
