"""Where dry sound comes from: the embedded speech, VCTK, DAPS, MUSDB18, or any folder of speakers.

A corpus is named by a text:

- ``speech``: the embedded corpus, 23 synthetic voices (see `speech/README.md`)
- ``folder:PATH``: the wav, flac, ogg and mp3 files in the sub-folders of PATH, at any depth, one sub-folder per speaker
- ``vctk[:PATH]``: VCTK 0.92, first microphone; ``vctk-mic2[:PATH]``: the second
- ``daps[:PATH]``: DAPS, clean studio recordings; ``daps-produced``, ``daps-ipad_office1`` and so on: other conditions
- ``musdb18[:PATH]``: MUSDB18-HQ, mixtures; ``musdb18-vocals``, ``-drums``, ``-bass``, ``-other``: the stems

Without a PATH, a corpus is looked for where `vaefx corpus fetch` puts it (`config.corpora_dir`).
"""

from __future__ import annotations

import csv
import os
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from vaefx_lib import config, corpus_check, corpus_layouts, store

SPEECH_DIR = Path(__file__).parent / "speech"


@dataclass(frozen=True)
class Utterance:
    """One recording of one speaker; a text, gender or accent that is not known is ""."""

    path: Path
    speaker: str
    utterance_id: str  # unique within its corpus
    text: str
    duration_s: float
    sample_rate_hz: int
    channels: int
    gender: str  # F or M
    accent: str  # us or gb in the embedded speech, such as "Scottish" in VCTK


@dataclass(frozen=True)
class Checked:
    """A corpus whose every file has been read."""

    utterances: list[Utterance]  # those of use, sorted by speaker and name
    damaged: dict[str, str]  # the others: path below the folder of the corpus -> why


def load(corpus: str) -> list[Utterance]:
    """All recordings of a corpus that are of use, sorted by speaker and name.

    Files other than the embedded speech are read from begin to end, once for as long as they stay unchanged. Damaged
    ones are left out, which is said on stderr; `check` names them.

    Parameters
    ----------
    corpus : str
        See the top of this module.

    Raises
    ------
    ValueError
        For another name, a folder that is missing or has another layout, or one without a recording of use.

    Used in `01_data_rendering`.
    """
    if corpus == "speech":
        return _load_speech()
    checked = check(corpus)
    if not checked.utterances:
        name, reason = next(iter(checked.damaged.items()))
        raise ValueError(f"all {len(checked.damaged)} files of {corpus!r} are damaged, the first is {name}: {reason}")
    if checked.damaged:
        print(
            f"damaged files left out of {corpus!r}: {len(checked.damaged)}; `vaefx corpus check '{corpus}'` names them",
            file=sys.stderr,
        )
    return checked.utterances


def check(corpus: str) -> Checked:
    """Read every file of a corpus as strictly as `audio.load` does; damaged ones are named and stop nothing.

    The verdicts are kept in `config.corpora_dir()` (see `corpus_check.read`): an unchanged file is read once.

    Raises
    ------
    ValueError
        For an unknown name, a folder that is missing or has another layout, or one in which nothing is named like a
        sound.
    """
    if corpus == "speech":
        root, refused = SPEECH_DIR, {}
        found = [
            corpus_layouts.Found(u.path, u.speaker, u.utterance_id, u.text, u.gender, u.accent) for u in load(corpus)
        ]
    else:
        root, found, refused = corpus_layouts.find(corpus)
    if not found and not refused:
        raise ValueError(
            f"the corpus folder {root} holds no sound: it must have one sub-folder per speaker with files of the "
            f"types {', '.join(corpus_layouts.SUFFIXES)}"
        )
    key = store.fingerprint(corpus.partition(":")[0], os.fsencode(root.resolve()).hex())
    verdicts = corpus_check.read([f.path for f in found], config.corpora_dir() / "index" / f"{key[:16]}.json")
    utterances = []
    for f in found:
        verdict = verdicts[f.path]
        if verdict.damaged:
            refused[f.path] = verdict.damaged
            continue
        facts = verdict.duration_s, verdict.sample_rate_hz, verdict.channels
        utterances.append(Utterance(f.path, f.speaker, f.utterance_id, f.text, *facts, f.gender, f.accent))
    damaged = {_printable(path.relative_to(root).as_posix()): _printable(why) for path, why in refused.items()}
    return Checked(utterances, dict(sorted(damaged.items())))


def named(text: str) -> str:
    """The name of a corpus given by its name or as the path of a folder of speakers; a name goes before a folder."""
    if text == "speech":
        return text
    try:
        corpus_layouts.parse(text)
    except ValueError:
        if Path(text).is_dir():
            return f"folder:{text}"
        raise
    return text


def summary(checked: Checked) -> dict:
    """What a corpus holds: hours, utterances, speakers, how many of each sample rate and channel count, and damage."""
    utterances = checked.utterances
    return {
        "hours": sum(u.duration_s for u in utterances) / 3600,
        "utterances": len(utterances),
        "speakers": len({u.speaker for u in utterances}),
        "sample_rates_hz": {str(k): n for k, n in sorted(Counter(u.sample_rate_hz for u in utterances).items())},
        "channels": {str(k): n for k, n in sorted(Counter(u.channels for u in utterances).items())},
        "damaged": checked.damaged,
    }


def fingerprint(corpus: str | list[Utterance]) -> str:
    """SHA-256 that changes when a recording is added, removed, renamed or altered; not when a folder is moved.

    For the embedded speech it is taken from its `metadata.csv`, for all others from the files as they are now; those
    that `load` has read and that have not changed since are not read again.
    """
    if corpus == "speech":
        return store.fingerprint("speech", SPEECH_DIR / "metadata.csv")
    utterances = load(corpus) if isinstance(corpus, str) else corpus
    return store.fingerprint([(u.speaker, u.utterance_id, corpus_check.sha256(u.path)) for u in utterances])


def _load_speech() -> list[Utterance]:
    with open(SPEECH_DIR / "metadata.csv", newline="", encoding="utf-8") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: row["path"])
    return [
        Utterance(
            path=SPEECH_DIR / row["path"],
            speaker=row["speaker"],
            utterance_id=Path(row["path"]).stem,
            text=row["text"],
            duration_s=float(row["duration_s"]),
            sample_rate_hz=24_000,
            channels=1,
            gender=row["gender"],
            accent=row["accent"],
        )
        for row in rows
    ]


def _printable(text: str) -> str:
    """`text` with the bytes of a file name that are not UTF-8 as escapes."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
