"""Which recordings of a corpus train, and which are kept to choose and to test by: no speaker is in both."""

from __future__ import annotations

import hashlib

from vaefx_lib import corpus_layouts
from vaefx_lib.corpora import Utterance

UNSEEN_SPEAKERS = ("af_heart", "am_michael", "bf_emma", "bm_george")  # a woman and a man of each accent
VALID_SENTENCES = ("001", "002", "003", "004", "005")  # those that every speaker says
UNSEEN_SHARE = 0.15  # of the speakers of a corpus that has no official division
VALID_SHARE = 1 / 3  # of what its unseen speakers say
MUSDB18_VALID = (  # `validation_tracks` in musdb/configs/mus.yaml of github.com/sigsep/sigsep-mus-db
    "ANiMAL - Rockshow",
    "Actions - One Minute Smile",
    "Alexander Ross - Goodbye Bolero",
    "Clara Berry And Wooldog - Waltz For My Victims",
    "Fergessen - Nos Palpitants",
    "James May - On The Line",
    "Johnny Lokke - Promises & Lies",
    "Leaf - Summerghost",
    "Meaxic - Take A Step",
    "Patrick Talbot - A Reason To Leave",
    "Skelpolu - Human Mistakes",
    "Traffic Experiment - Sirens",
    "Triviul - Angelsaint",
    "Young Griffo - Pennies",
)


def split(utterances: list[Utterance], corpus: str) -> dict[str, list[Utterance]]:
    """Divide a corpus into "train", "valid" and "test": no speaker in "train" is in another part.

    - The embedded speech: 19 speakers train; of 4 others, two women and two men of both accents, sentences 001-005 are
      "valid" and the rest "test".
    - MUSDB18: its own train and test; of train, the 14 official validation tracks are "valid".
    - All others: about 15 % of the speakers of each gender are unseen, at least one. A third of the sentences they say
      are "valid" and the rest "test"; a sentence that several of them say (the same text, or script of DAPS) is in one
      part. It is the names that decide, so every machine divides alike. If there is but one speaker, all is "test".

    Raises
    ------
    ValueError
        For an unknown corpus.

    Used in `01_data_rendering`.
    """
    kind = corpus if corpus == "speech" else corpus_layouts.parse(corpus).kind
    part = {"speech": _part_of_speech, "musdb18": _part_of_musdb18}.get(kind) or _divide(utterances, kind)
    parts = {"train": [], "valid": [], "test": []}
    for utterance in utterances:
        parts[part(utterance)].append(utterance)
    return parts


def _part_of_speech(utterance: Utterance) -> str:
    if utterance.speaker not in UNSEEN_SPEAKERS:
        return "train"
    return "valid" if utterance.utterance_id.endswith(VALID_SENTENCES) else "test"


def _part_of_musdb18(track: Utterance) -> str:
    if track.utterance_id.startswith("test/"):
        return "test"
    return "valid" if track.speaker in MUSDB18_VALID else "train"


def _divide(utterances: list[Utterance], kind: str):
    """The function that tells the part of an utterance, where a corpus has no official division."""
    by_gender: dict[str, set[str]] = {}
    for u in utterances:
        by_gender.setdefault(u.gender, set()).add(u.speaker)
    speakers = sorted(set().union(*by_gender.values()), key=_chance)
    if len(speakers) < 2:
        return lambda u: "test"

    def sentence(u: Utterance) -> str:
        return u.utterance_id.partition("_")[2] if kind == "daps" else u.text or u.utterance_id

    unseen = set()
    for group in by_gender.values():
        unseen |= set(sorted(group, key=_chance)[: round(UNSEEN_SHARE * len(group))])
    while len(said := {sentence(u) for u in utterances if u.speaker in unseen}) < 2 and len(unseen) < len(speakers) - 1:
        unseen.add(next(speaker for speaker in speakers if speaker not in unseen))  # a share of a few may be none
    count = max(1, round(VALID_SHARE * len(said))) if len(said) > 1 else 0
    valid = set(sorted(said, key=_chance)[:count])
    return lambda u: "train" if u.speaker not in unseen else "valid" if sentence(u) in valid else "test"


def _chance(name: str) -> str:
    """A key that sorts names as if at random, alike on every machine."""
    return hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()
