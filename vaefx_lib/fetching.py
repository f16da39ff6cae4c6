"""Download a public corpus: resumed where it broke off, checked before it is unpacked, in place whole or not at all."""

from __future__ import annotations

import functools
import os
import shutil
import sys
import tarfile
import time
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

from vaefx_lib import config, corpus_layouts

CHUNK_BYTES = 2**16
TIMEOUT_S = 60  # without a byte
WAIT_S = 1.0  # after a broken connection
TELL_EVERY_S = 10.0


class Source(NamedTuple):
    """Where a corpus comes from."""

    title: str
    url: str
    checksum: str  # algorithm:hexadecimal
    size_bytes: int  # of the archive
    licence: str


SOURCES = {
    # sha256: torchaudio, src/torchaudio/datasets/vctk.py; the size is that of the archive on datashare.ed.ac.uk
    "vctk": Source(
        "VCTK 0.92",
        "https://datashare.ed.ac.uk/bitstream/handle/10283/3443/VCTK-Corpus-0.92.zip",
        "sha256:f96258be9fdc2cbff6559541aae7ea4f59df3fcaf5cf963aae5ca647357e359c",
        11_747_302_977,
        "CC BY 4.0",
    ),
    # md5: check_daps_dataset in the code of NORESQA-MOS (Meta Platforms)
    "daps": Source(
        "DAPS",
        "https://zenodo.org/records/4660670/files/daps.tar.gz?download=1",
        "md5:303c130b7ce2e02b59c7ca5cd595a89c",
        16_055_782_487,
        "CC BY-NC 4.0",
    ),
    # sha256: torchaudio, src/torchaudio/datasets/musdb_hq.py
    "musdb18": Source(
        "MUSDB18-HQ",
        "https://zenodo.org/records/3338373/files/musdb18hq.zip?download=1",
        "sha256:baac80d0483c61d74b2e5f3be75fa557eec52898339e6aa45c1fa48833c5d21d",
        22_656_664_047,
        "academic use only, many tracks CC BY-NC-SA 4.0: see sigsep.github.io/datasets/musdb.html",
    ),
}


def fetch(name: str, *, url: str | None = None, sha256: str | None = None) -> Path:
    """Download, check and unpack a corpus into `config.corpora_dir()`; one that is there is left alone.

    What it is, its size and licence go to stderr first, then the progress. An interrupted download goes on where it
    broke off, also in a later call. The archive is removed in the end.

    Parameters
    ----------
    name : str
        "vctk", "daps" or "musdb18".
    url : str, optional
        A mirror of the archive, which must have the same checksum.
    sha256 : str, optional
        The checksum of another archive of the same layout, hexadecimal.

    Returns
    -------
    Path
        The folder of the corpus.

    Raises
    ------
    ValueError
        For another name, a wrong checksum, or an archive that is damaged, unsafe or of another layout.
    OSError
        If the download fails, or nothing can be written.
    """
    import pooch

    if name not in SOURCES:
        raise ValueError(f"unknown corpus {name!r}: known are {', '.join(SOURCES)}")
    source, target = SOURCES[name], config.corpora_dir() / name
    if target.exists():
        corpus_layouts.find_root(name, target)
        _say(f"{source.title} is already in {target}")
        return target
    _say(f"{source.title}: {source.size_bytes / 1e9:.1f} GB to download, and room for more than twice that is needed")
    _say(f"licence: {source.licence}")
    checksum = f"sha256:{sha256}" if sha256 else source.checksum
    folder, file_name = config.corpora_dir() / "downloads", f"{name}-{checksum.partition(':')[2][:12]}"
    archive = pooch.retrieve(
        url or source.url,
        known_hash=checksum,
        fname=file_name,
        path=folder,
        downloader=functools.partial(_download, part=folder / f"{file_name}.part"),
    )
    unpack(Path(archive), target, name)
    os.remove(archive)
    return target


def unpack(archive: Path, target: Path, kind: str) -> None:
    """Unpack a zip or tar archive of a corpus to a folder that comes into being whole.

    Raises
    ------
    ValueError
        If the archive is damaged, holds a link or a path that leads out of it, or has not the layout of `kind`.
    """
    _say(f"unpacking {archive}")
    temporary = target.with_name(f".{target.name}.unpacking")
    shutil.rmtree(temporary, ignore_errors=True)  # what a killed call left
    try:
        for member, content in _members(archive):
            path = temporary / _inside(member)
            path.parent.mkdir(parents=True, exist_ok=True)
            with content, open(path, "wb") as file:
                shutil.copyfileobj(content, file, CHUNK_BYTES)
        corpus_layouts.find_root(kind, temporary).rename(target)
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError) as error:
        raise ValueError(f"{archive} is damaged: {error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _members(archive: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """The files in an archive, one after the other: name and content. Neither links nor rights are taken from it."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as opened:
            yield from ((info.filename, opened.open(info)) for info in opened.infolist() if not info.is_dir())
        return
    with tarfile.open(archive, "r|*") as opened:  # as a stream: a list of members would need a second pass
        for info in opened:
            if content := opened.extractfile(info) if info.isfile() else None:
                yield info.name, content
            elif not info.isdir():
                raise ValueError(f"{archive} holds {info.name}, which is no file: an archive of sounds has no links")


def _inside(member: str) -> PurePosixPath:
    path = PurePosixPath(member.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise ValueError(f"the archive holds {member!r}: all its paths must lead to places within its folder")
    return path


def _download(url: str, output_file: str, _pooch, *, part: Path) -> None:
    """What pooch calls to fetch a file: it grows as `part`, which outlives a broken connection and a killed process."""
    import requests

    while True:
        before = _size(part)
        try:
            _append(url, part)
            break
        except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
            if _size(part) <= before:
                raise OSError(f"{url} gives nothing more, {_size(part):,} bytes of it are kept: {error}") from error
            _say(f"the connection broke after {_size(part):,} bytes; going on")
            time.sleep(WAIT_S)
    os.replace(part, output_file)


def _append(url: str, part: Path) -> None:
    """Ask a server for what is not yet in `part`; one that cannot send a part of a file sends it anew."""
    import requests

    have = _size(part)
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT_S) as response:
        found = response.headers.get("Content-Range", "")
        if response.status_code == 416 and have:  # there is nothing after what we have, or what we have is too long
            if found != f"bytes */{have}":
                part.unlink()
                _append(url, part)
            return
        response.raise_for_status()
        resumed = response.status_code == 206 and found.startswith(f"bytes {have}-")
        have = have if resumed else 0
        length = response.headers.get("Content-Length")
        total = have + int(length) if length else None
        with open(part, "ab" if resumed else "wb") as file:
            for chunk in _shown(response.iter_content(CHUNK_BYTES), have, total):
                file.write(chunk)


def _shown(chunks: Iterable[bytes], have: int, total: int | None) -> Iterator[bytes]:
    """Pass bytes on and show how many there are: as a bar in a terminal, else as a line now and then."""
    if sys.stderr.isatty():
        from tqdm import tqdm

        with tqdm(total=total, initial=have, unit="B", unit_scale=True, file=sys.stderr) as bar:
            for chunk in chunks:
                yield chunk
                bar.update(len(chunk))
        return
    told = time.monotonic()
    for chunk in chunks:
        yield chunk
        have += len(chunk)
        if have == total or time.monotonic() - told > TELL_EVERY_S:
            told = time.monotonic()
            _say(f"{have / 1e6:,.1f} MB" + (f" of {total / 1e6:,.1f} MB, {have / total:.0%}" if total else ""))


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
