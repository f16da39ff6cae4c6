"""Why a file is not whole audio: what is asked of it before and after its decoder, which is often silent or obscure."""

from __future__ import annotations

import errno
import os
import re
import stat
import zlib
from pathlib import Path

UNKNOWN_LENGTH = 0xFFFFFFFF  # what a program that writes a wav into a pipe puts for the length
BITS_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
DECODER_MEANS = {  # what libsndfile says -> what is the case
    "Internal error : SF_INFO struct incomplete": "its header states an impossible sample rate",
    "Internal psf_fseek() failed": "it ends before the samples that its header promises",
    "File does not exist or is not a regular file (possibly a pipe?)": "Format not recognised",  # of an mp3
}


class AudioError(ValueError):
    """Audio that cannot be used; the message is one sentence that names it and the reason."""


def first_bytes(path: Path) -> bytes:
    """The first bytes of what must be a file that holds some; a pipe is not opened, for that would wait for ever.

    Raises
    ------
    AudioError
        If it is missing, empty, no file, or may not be read.
    """
    kinds = {stat.S_IFDIR: "folder", stat.S_IFIFO: "pipe", stat.S_IFSOCK: "socket"}
    try:
        about = path.stat()
        if not stat.S_ISREG(about.st_mode):
            raise AudioError(f"{path} is a {kinds.get(stat.S_IFMT(about.st_mode), 'device')}, not a file")
        if about.st_size == 0:
            raise AudioError(f"{path} is empty: it holds 0 bytes")
        with open(path, "rb") as file:
            return file.read(512)
    except FileNotFoundError as error:
        target = f"is a link to {os.readlink(path)}, which does not exist" if path.is_symlink() else "does not exist"
        raise AudioError(f"{path} {target}") from error
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise AudioError(f"{path} is a link that leads back to itself") from error
        raise AudioError(f"{path} cannot be read: {error.strerror}") from error


def of_decoder(error: Exception, head: bytes) -> str:
    """What keeps a file from being decoded, in plain words: the decoder's error, and the file's first bytes."""
    reason = getattr(error, "error_string", "").removeprefix("Error : ").rstrip(".")
    reason = DECODER_MEANS.get(reason, reason) or "its content does not decode to the end"
    return reason + nature(head) if reason.startswith("Format not recognised") else reason


def nature(head: bytes) -> str:
    """What a file that is no audio seems to be, by its first bytes; "" if that is not plain."""
    text = head.lstrip().lower()
    if text.startswith((b"<!doctype html", b"<html")):
        return "; it looks like a web page"
    if head.startswith(b"PK"):
        return "; it looks like a zip archive"
    if not head.strip(b"\0"):
        return "; it begins with nothing but zeros"
    return "; it looks like text" if all(byte >= 32 or byte in b"\t\n\r" for byte in head) else ""


def is_cut_short(log: str) -> bool:
    """Whether a wav or aiff file ends early though the decoder took what there is for the whole.

    It logs the size that the header promises and the one it found.
    """
    found = re.findall(r"^\s*(?:data|SSND|Riff size)\s*: (\d+) \(should be (\d+)\)", log, re.MULTILINE)
    return any(int(size) < int(promised) != UNKNOWN_LENGTH for promised, size in found)


def ogg_fault(path: Path) -> str:
    """What is wrong with the pages of an ogg file, "" if nothing: the decoder passes over a damaged one in silence.

    Source: RFC 3533, section 6. Its checksum takes the bits of a byte in the other order than zlib does.
    """
    data, at, is_last = path.read_bytes(), 0, False
    while data[at : at + 4] == b"OggS":
        segments = data[at + 26] if at + 26 < len(data) else 0
        end = at + 27 + segments + sum(data[at + 27 : at + 27 + segments])
        if end > len(data):
            return "is cut short: its last page is not complete"
        page = data[at : at + 22] + bytes(4) + data[at + 26 : end]
        checksum = zlib.crc32(page.translate(BITS_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
        if checksum.to_bytes(4, "big").translate(BITS_REVERSED) != data[at + 22 : at + 26]:
            return f"is damaged: the checksum of its page at byte {at} is wrong"
        is_last, at = bool(data[at + 5] & 4), end
    if is_last:
        return ""
    return f"is damaged: no page begins at byte {at}" if at < len(data) else "is cut short: it lacks its last page"


def check_whole(path: Path, head: bytes, log: str, *, promised: int, found: int) -> None:
    """Refuse what was decoded if it is not all that there should be.

    Parameters
    ----------
    path : Path
    head : bytes
        Its first ones.
    log : str
        Of the decoder.
    promised, found : int
        Samples, by the header and in fact.

    Raises
    ------
    AudioError
        If there is nothing, or less than promised.
    """
    if promised == 0:
        raise AudioError(f"{path} holds no sound: 0 samples")
    fault = ogg_fault(path) if head.startswith(b"OggS") else ""
    if fault:
        raise AudioError(f"{path} {fault}")
    if found < promised:
        raise AudioError(f"{path} is cut short: its header promises {promised} samples, it holds {found}")
    if is_cut_short(log):
        raise AudioError(f"{path} is cut short: it ends before the {found} samples found in it are complete")
