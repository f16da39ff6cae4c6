"""Why a file is not whole audio, where its decoder does not say so, or not in plain words."""

from __future__ import annotations

import re
import zlib
from pathlib import Path

UNKNOWN_LENGTH = 0xFFFFFFFF  # what a program that writes a wav into a pipe puts for the length
BITS_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
DECODER_MEANS = {  # what libsndfile says -> what is the case
    "Internal error : SF_INFO struct incomplete": "its header states an impossible sample rate",
    "Internal psf_fseek() failed": "it ends before the samples that its header promises",
    "File does not exist or is not a regular file (possibly a pipe?)": "Format not recognised",  # of an mp3
}


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
