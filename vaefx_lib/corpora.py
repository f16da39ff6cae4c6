"""Where dry sound comes from: the embedded speech, or any folder with one sub-folder per speaker.

A corpus is named by a text: ``"speech"`` or ``"folder:PATH"``.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import soundfile

from vaefx_lib import audio, store

SPEECH_DIR = Path(__file__).parent / "speech"
UNSEEN_SPEAKERS = ("af_heart", "am_michael", "bf_emma", "bm_george")  # a woman and a man of each accent
VALID_SENTENCES = ("001", "002", "003", "004", "005")  # those that every speaker says
SUFFIXES = (".wav", ".flac", ".ogg", ".mp3")


@dataclass(frozen=True)
class Utterance:
    """One recording of one speaker; a text that is not known is ""."""

    path: Path
    speaker: str
    utterance_id: str  # unique within its corpus
    text: str
    duration_s: float
    sample_rate_hz: int
    gender: str  # F or M
    accent: str  # us or gb


def load(corpus: str) -> list[Utterance]:
    """All recordings of a corpus, sorted by speaker and name.

    Parameters
    ----------
    corpus : str
        ``"speech"``: the embedded corpus, 23 synthetic voices (see `speech/README.md`). ``"folder:PATH"``: the wav,
        flac, ogg and mp3 files in the sub-folders of PATH, at any depth; each sub-folder is a speaker.

    Raises
    ------
    ValueError
        For another name, or a folder that is missing or has no sound in sub-folders.
    audio.AudioError
        For a file in the folder that is not audio.

    Used in `01_data_rendering`.
    """
    if corpus == "speech":
        return _load_speech()
    kind, _, folder = corpus.partition(":")
    if kind != "folder" or not folder:
        raise ValueError(f"unknown corpus {corpus!r}: known are speech, folder:PATH")
    return _load_folder(Path(folder).expanduser())


def split(utterances: list[Utterance], corpus: str) -> dict[str, list[Utterance]]:
    """Divide a corpus by speaker into "train", "valid" and "test".

    The embedded speech: 19 speakers train; of 4 others, two women and two men of both accents, sentences 001-005 are
    "valid" and the rest "test". A folder is all "test".

    Raises
    ------
    ValueError
        For an unknown corpus.
    """
    if corpus.startswith("folder:"):
        return {"train": [], "valid": [], "test": list(utterances)}
    if corpus != "speech":
        raise ValueError(f"unknown corpus {corpus!r}: known are speech, folder:PATH")
    parts = {"train": [], "valid": [], "test": []}
    for utterance in utterances:
        if utterance.speaker not in UNSEEN_SPEAKERS:
            parts["train"].append(utterance)
        elif utterance.utterance_id.endswith(VALID_SENTENCES):
            parts["valid"].append(utterance)
        else:
            parts["test"].append(utterance)
    return parts


def fingerprint(corpus: str | list[Utterance]) -> str:
    """SHA-256 that changes when a recording is added, removed, renamed or altered; not when a folder is moved.

    For the embedded speech it is taken from the sha256 column of its `metadata.csv`, for all others from the files.
    """
    if corpus == "speech":
        return store.fingerprint("speech", SPEECH_DIR / "metadata.csv")
    utterances = load(corpus) if isinstance(corpus, str) else corpus
    return store.fingerprint([(u.speaker, u.utterance_id, store.sha256(u.path)) for u in utterances])


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
            gender=row["gender"],
            accent=row["accent"],
        )
        for row in rows
    ]


def _load_folder(folder: Path) -> list[Utterance]:
    if not folder.is_dir():
        raise ValueError(f"the corpus folder {folder} does not exist or is not a folder")
    utterances = []
    for path in sorted(folder.glob("*/**/*")):
        parts = path.relative_to(folder).parts
        if path.suffix.lower() not in SUFFIXES or not path.is_file() or any(part.startswith(".") for part in parts):
            continue
        try:
            info = soundfile.info(path)
        except soundfile.LibsndfileError as error:
            raise audio.AudioError(f"{path} is not audio: {error.error_string.rstrip('.')}") from error
        name = path.relative_to(folder).as_posix()
        utterances.append(Utterance(path, parts[0], name, "", info.duration, info.samplerate, "", ""))
    if not utterances:
        raise ValueError(
            f"the corpus folder {folder} holds no sound: it must have one sub-folder per speaker with files of the "
            f"types {', '.join(SUFFIXES)}"
        )
    return utterances
