"""Which files a corpus consists of, and who speaks in them: names and folder layouts, without reading a sound."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from vaefx_lib import config

SUFFIXES = (".wav", ".flac", ".ogg", ".mp3")
KNOWN = "speech, folder:PATH, vctk[-MIC][:PATH], daps[-CONDITION][:PATH], musdb18[-STEM][:PATH]"
ROOMS = ("balcony1", "bedroom1", "confroom1", "confroom2", "livingroom1", "office1", "office2")
DEVICES = [f"ipad_{room}" for room in ROOMS] + ["ipadflat_confroom1", "ipadflat_office1"]
DEVICES += [f"iphone_{room}" for room in ("balcony1", "bedroom1", "livingroom1")]
VARIANTS = {  # the first is meant where none is named
    "folder": ("",),
    "vctk": ("mic1", "mic2"),
    "daps": ("clean", "cleanraw", "produced", *DEVICES),
    "musdb18": ("mixture", "vocals", "drums", "bass", "other"),
}
MARKERS = {"vctk": "wav48_silence_trimmed", "daps": "clean", "musdb18": "train"}  # a folder that each of them has


class Name(NamedTuple):
    """A corpus of files by name."""

    kind: str  # one of VARIANTS
    variant: str
    folder: Path


class Found(NamedTuple):
    """A file that should be one recording of one speaker; what is not known is ""."""

    path: Path
    speaker: str
    utterance_id: str
    text: str = ""
    gender: str = ""
    accent: str = ""


def parse(corpus: str) -> Name:
    """The parts of a name such as "folder:PATH", "vctk", "vctk-mic2:PATH", "daps-produced" or "musdb18-vocals".

    Raises
    ------
    ValueError
        For any other text, "speech" included; the message names the known corpora or variants.
    """
    name, colon, path = corpus.partition(":")
    kind, dash, variant = name.partition("-")
    lacks_path = not path and (colon or kind == "folder")
    if kind not in VARIANTS or lacks_path or (dash and kind == "folder"):
        raise ValueError(f"unknown corpus {corpus!r}: known are {KNOWN}")
    variants = VARIANTS[kind]
    if dash and variant not in variants:
        raise ValueError(f"unknown variant {variant!r} of the corpus {kind}: known are {', '.join(variants)}")
    return Name(kind, variant or variants[0], Path(path).expanduser() if path else config.corpora_dir() / kind)


def find(corpus: str) -> tuple[Path, list[Found], dict[Path, str]]:
    """The files of a corpus, which may each prove to be no sound.

    Hidden files are passed over and links to folders followed. Nothing is opened but folders and texts.

    Returns
    -------
    root : Path
        The folder of the corpus.
    found : list of Found
        Sorted by speaker and name; MUSDB18 first by train and test.
    refused : dict of Path to str
        Folders that cannot be looked into, and why.

    Raises
    ------
    ValueError
        For an unknown corpus, or a folder that is missing or has another layout.
    """
    kind, variant, folder = parse(corpus)
    if not folder.is_dir():
        hint = f"; `vaefx corpus fetch {kind}` gets it" if folder == config.corpora_dir() / kind else ""
        raise ValueError(f"the corpus folder {folder} does not exist or is not a folder{hint}")
    root = (folder if kind == "folder" else find_root(kind, folder)).absolute()
    refused: dict[Path, str] = {}
    found = {"folder": _folder, "vctk": _vctk, "daps": _daps, "musdb18": _musdb18}[kind](root, variant, refused)
    return root, found, refused


def find_root(kind: str, folder: Path) -> Path:
    """The folder with the layout of a corpus: `folder` itself, or the only such one in it.

    Raises
    ------
    ValueError
        If there is none, or several.
    """
    marker = MARKERS[kind]
    roots = [path for path in (folder, *sorted(folder.iterdir())) if (path / marker).is_dir()]
    if folder in roots[:1] or len(roots) == 1:
        return roots[0]
    raise ValueError(f"{folder} does not have the layout of {kind}: it must hold one folder {marker}")


def _folder(root: Path, _variant: str, refused: dict[Path, str]) -> list[Found]:
    """Any folder: each of its sub-folders is a speaker, the recordings lie in it at any depth."""
    return [
        Found(path, speaker.name, path.relative_to(root).as_posix())
        for speaker in _folders(root, refused)
        for path in _sounds(speaker, refused, [_identity(root)])
    ]


def _vctk(root: Path, mic: str, refused: dict[Path, str]) -> list[Found]:
    """VCTK 0.92: wav48_silence_trimmed/p225/p225_001_mic1.flac, txt/p225/p225_001.txt and speaker-info.txt.

    p280 has no mic2 and p315 neither mic2 nor texts (see the comments in speaker-info.txt).
    """
    people = {}
    for line in _text(root / "speaker-info.txt").splitlines():
        person, _age, gender, accent, *_region = [*line.split(), "", "", "", ""]
        people[person] = (gender, accent)
    found = []
    for path in _sounds(root / "wav48_silence_trimmed", refused):
        name, _, recorded_by = path.stem.rpartition("_")
        if recorded_by == mic:
            speaker = path.parent.name
            text = _text(root / "txt" / speaker / f"{name}.txt").strip()
            found.append(Found(path, speaker, name, text, *people.get(speaker, ("", ""))))
    return found


def _daps(root: Path, condition: str, refused: dict[Path, str]) -> list[Found]:
    """DAPS: clean/f1_script1_clean.wav, and likewise in the folders of the other recording conditions."""
    found = []
    for path in _sounds(root / condition, refused):
        match = re.fullmatch(rf"(([fm])\d+)_script\d+_{condition}", path.stem)
        if match:
            name = path.stem.removesuffix(f"_{condition}")
            found.append(Found(path, match[1], name, gender=match[2].upper()))
    return found


def _musdb18(root: Path, stem: str, refused: dict[Path, str]) -> list[Found]:
    """MUSDB18-HQ: train|test/ARTIST - TITLE/mixture.wav and the four stems; the "speaker" is the track."""
    return [
        Found(track / f"{stem}.wav", track.name, f"{part}/{track.name}")
        for part in ("train", "test")
        for track in _folders(root / part, refused)
    ]


def _sounds(folder: Path, refused: dict[Path, str], above: Sequence[tuple[int, int] | None] = ()) -> Iterator[Path]:
    """Whatever is named like a sound in a folder and those below it, in order; `above` is where the way led through."""
    above = [*above, _identity(folder)]
    if above[-1] in above[:-1]:
        refused[folder] = "leads back to a folder that it lies in"
        return
    for entry in _entries(folder, refused):
        if entry.name.lower().endswith(SUFFIXES):
            yield Path(entry.path)
        elif _is_folder(entry):
            yield from _sounds(Path(entry.path), refused, above)


def _folders(folder: Path, refused: dict[Path, str]) -> list[Path]:
    return [Path(entry.path) for entry in _entries(folder, refused) if _is_folder(entry)]


def _entries(folder: Path, refused: dict[Path, str]) -> list[os.DirEntry]:
    """What is not hidden in a folder, by name."""
    try:
        with os.scandir(folder) as entries:
            return sorted((e for e in entries if not e.name.startswith(".")), key=lambda entry: entry.name)
    except OSError as error:
        refused[folder] = f"cannot be looked into: {error.strerror}"
        return []


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads back to itself
        return False


def _identity(folder: Path) -> tuple[int, int] | None:
    try:
        about = folder.stat()
    except OSError:
        return None  # `_entries` says why
    return about.st_dev, about.st_ino


def _text(path: Path) -> str:
    """The content of a text file, "" if it cannot be read: a corpus is of use without its texts."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
