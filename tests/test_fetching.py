"""A corpus that is fetched is whole, true and in its place, or not there; what was sent once is not sent again."""

import hashlib
import http.server
import io
import tarfile
import threading
import zipfile

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from vaefx_lib import corpora, fetching
from vaefx_lib.__main__ import main


def recording(seed, rate=48_000):
    buffer = io.BytesIO()
    soundfile.write(buffer, np.random.default_rng(seed).uniform(-0.5, 0.5, 20_000), rate, format="FLAC")
    return buffer.getvalue()


VCTK = {"speaker-info.txt": b"ID  AGE  GENDER  ACCENTS  REGION\np225  23  F    English    Southern  England\n"}
for _number in range(12):
    VCTK[f"wav48_silence_trimmed/p225/p225_{_number:03}_mic1.flac"] = recording(_number)
    VCTK[f"txt/p225/p225_{_number:03}.txt"] = b"Please call Stella."


def zipped(files):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def tarred(files, *links):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for name, target in links:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            archive.addfile(info)
    return buffer.getvalue()


def sha256(data):
    return hashlib.sha256(data).hexdigest()


class Server(http.server.ThreadingHTTPServer):
    """Serves one file; what was asked for and how many bytes of it were sent are noted."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.data, self.ranges, self.breaks_after = b"", True, []  # bytes after which the next connections break
        self.asked, self.sent = [], []
        self.url = f"http://127.0.0.1:{self.server_address[1]}/corpus.zip"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        data, asked = self.server.data, self.headers.get("Range")
        self.server.asked.append(asked)
        if data is None:
            self.send_error(404)
            return
        begin = int(asked.removeprefix("bytes=").rstrip("-")) if asked and self.server.ranges else 0
        if begin and begin >= len(data):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(data)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if begin else 200)
        if begin:
            self.send_header("Content-Range", f"bytes {begin}-{len(data) - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(data) - begin))
        self.end_headers()
        rest = data[begin:]
        if self.server.breaks_after:
            rest = rest[: self.server.breaks_after.pop(0)]
        self.server.sent.append(len(rest))
        self.wfile.write(rest)
        self.close_connection = True

    def log_message(self, *args):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(fetching, "WAIT_S", 0)
    with Server() as running:
        running.data = zipped(VCTK)
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running
        running.shutdown()


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("VAEFX_CORPORA", str(tmp_path / "corpora"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return tmp_path / "corpora"


def fetch(server):
    return fetching.fetch("vctk", url=server.url, sha256=sha256(server.data))


def files_in(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_fetched_corpus_is_every_file_of_its_archive_and_loads_by_name(server, home, capsys):
    assert fetch(server) == home / "vctk"
    assert files_in(home / "vctk") == VCTK
    assert sorted(path.name for path in home.iterdir()) == ["downloads", "vctk"]
    assert list((home / "downloads").iterdir()) == []  # the archive has done its work
    found = corpora.load("vctk")
    assert len(found) == 12 and found[0].gender == "F" and found[0].text == "Please call Stella."


def test_size_and_licence_are_told_before_and_progress_while_it_is_fetched(server, capsys):
    fetch(server)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "VCTK 0.92: 11.7 GB to download, and room for more than twice that is needed"
    assert lines[1] == "licence: CC BY 4.0"
    size = f"{len(server.data) / 1e6:,.1f} MB"
    assert f"{size} of {size}, 100%" in lines


def test_a_second_fetch_does_nothing(server, home, capsys):
    fetch(server)
    dated = (home / "vctk").stat().st_mtime_ns
    assert fetch(server) == home / "vctk"
    assert len(server.asked) == 1 and (home / "vctk").stat().st_mtime_ns == dated
    assert capsys.readouterr().err.splitlines()[-1] == f"VCTK 0.92 is already in {home / 'vctk'}"


def test_a_broken_connection_goes_on_where_it_broke(server, home, capsys):
    half = len(server.data) // 2
    server.breaks_after = [half]
    fetch(server)
    assert files_in(home / "vctk") == VCTK
    have = int(server.asked[1].removeprefix("bytes=").rstrip("-"))
    assert server.asked == [None, f"bytes={have}-"]
    assert half - fetching.CHUNK_BYTES <= have <= half  # of a chunk that broke off nothing is kept
    assert server.sent == [half, len(server.data) - have]
    assert f"the connection broke after {have:,} bytes; going on" in capsys.readouterr().err


def test_a_later_fetch_asks_for_the_rest_only(server, home):
    half = len(server.data) // 2
    server.breaks_after = [half, 0]  # the second time nothing comes
    with pytest.raises(OSError, match=rf"^{server.url} gives nothing more, [\d,]+ bytes of it are kept: "):
        fetch(server)
    assert not (home / "vctk").exists()
    (part,) = (home / "downloads").iterdir()
    have = part.stat().st_size
    assert 0 < have <= half and part.suffix == ".part"
    assert part.read_bytes() == server.data[:have]
    fetch(server)
    assert server.asked[-1] == f"bytes={have}-" and server.sent[-1] == len(server.data) - have
    assert files_in(home / "vctk") == VCTK


def test_a_server_that_cannot_send_a_part_sends_the_whole_again(server, home):
    server.breaks_after, server.ranges = [len(server.data) // 2], False
    fetch(server)
    assert server.sent == [len(server.data) // 2, len(server.data)]
    assert files_in(home / "vctk") == VCTK


def test_a_server_that_breaks_off_at_the_same_place_every_time_is_given_up(server, home):
    server.breaks_after, server.ranges = [100_000] * 50, False
    with pytest.raises(OSError, match="gives nothing more"):
        fetch(server)
    assert len(server.asked) == 2


def test_a_part_that_is_already_whole_is_not_sent_again(server, home):
    part = home / "downloads" / f"vctk-{sha256(server.data)[:12]}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(server.data)
    fetch(server)
    assert server.asked == [f"bytes={len(server.data)}-"] and server.sent == []
    assert files_in(home / "vctk") == VCTK


def test_a_part_that_is_too_long_is_fetched_anew(server, home):
    part = home / "downloads" / f"vctk-{sha256(server.data)[:12]}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(server.data + b"more")
    fetch(server)
    assert server.asked == [f"bytes={len(server.data) + 4}-", None]
    assert files_in(home / "vctk") == VCTK


def test_a_wrong_checksum_is_refused_and_nothing_is_left(server, home):
    with pytest.raises(ValueError, match="(?i)hash of downloaded file .* does not match the known hash"):
        fetching.fetch("vctk", url=server.url)  # that of the true VCTK
    assert files_in(home) == {}
    assert [path.name for path in home.iterdir()] == ["downloads"]
    with pytest.raises(ValueError, match="does not exist"):
        corpora.load("vctk")


def test_a_part_of_something_else_does_not_spoil_the_corpus(server, home):
    part = home / "downloads" / f"vctk-{sha256(server.data)[:12]}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"x" * 1_000)
    with pytest.raises(ValueError, match="does not match"):
        fetch(server)
    assert files_in(home) == {}
    fetch(server)
    assert files_in(home / "vctk") == VCTK


def test_daps_in_a_tar_with_a_folder_of_its_own(server, home):
    files = {f"daps/clean/f{n}_script1_clean.wav": recording(n) for n in range(1, 3)}
    server.data = tarred(files | {"daps/clean/._f1_script1_clean.wav": b"what a Mac leaves"})
    assert fetching.fetch("daps", url=server.url, sha256=sha256(server.data)) == home / "daps"
    assert [u.utterance_id for u in corpora.load("daps")] == ["f1_script1", "f2_script1"]


def test_musdb18_in_a_zip(server, home):
    server.data = zipped({f"{part}/A - B/mixture.wav": recording(1, 44_100) for part in ("train", "test")})
    fetching.fetch("musdb18", url=server.url, sha256=sha256(server.data))
    assert [u.utterance_id for u in corpora.load("musdb18")] == ["train/A - B", "test/A - B"]


@pytest.mark.parametrize(
    "data",
    [
        zipped(VCTK | {"../outside.txt": b"x"}),
        zipped(VCTK | {"/outside.txt": b"x"}),
        zipped(VCTK | {"txt/../../outside.txt": b"x"}),
        tarred(VCTK | {"../outside.txt": b"x"}),
        tarred({"/outside.txt": b"x"} | VCTK),
        tarred(VCTK, ("txt/link", "../../../outside")),
        tarred({}, ("wav48_silence_trimmed", "/")),
    ],
)
def test_an_archive_that_leads_out_of_its_folder_is_refused(tmp_path, home, data):
    (tmp_path / "archive").write_bytes(data)
    home.mkdir()
    with pytest.raises(ValueError, match="all its paths must lead to places within its folder|is no file: an archive"):
        fetching.unpack(tmp_path / "archive", home / "vctk", "vctk")
    assert list(home.iterdir()) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["archive", "corpora"]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (zipped({"readme.txt": b"x"}), "does not have the layout of vctk"),
        (b"no archive", "is damaged"),
        (tarred(VCTK)[:-2_000], "is damaged"),
        (zipped(VCTK).replace(VCTK["speaker-info.txt"], VCTK["speaker-info.txt"].upper()), "is damaged: Bad CRC-32"),
    ],
)
def test_an_archive_that_is_no_corpus_leaves_nothing(tmp_path, home, data, reason):
    (tmp_path / "archive").write_bytes(data)
    home.mkdir()
    with pytest.raises(ValueError, match=reason):
        fetching.unpack(tmp_path / "archive", home / "vctk", "vctk")
    assert list(home.iterdir()) == []


def test_what_a_killed_unpacking_left_is_no_corpus_and_goes_with_the_next(server, home):
    (home / ".vctk.unpacking" / "wav48_silence_trimmed").mkdir(parents=True)
    with pytest.raises(ValueError, match="does not exist"):
        corpora.load("vctk")
    fetch(server)
    assert sorted(path.name for path in home.iterdir()) == ["downloads", "vctk"]


def test_a_disk_that_is_full_while_unpacking_keeps_the_archive(server, home, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(fetching.shutil, "copyfileobj", full)
        with pytest.raises(OSError, match="No space left"):
            fetch(server)
    assert [path.name for path in home.iterdir()] == ["downloads"]
    fetch(server)
    assert len(server.asked) == 1 and files_in(home / "vctk") == VCTK


def test_the_known_sources_are_what_their_publishers_state():
    for source in fetching.SOURCES.values():
        algorithm, _, digest = source.checksum.partition(":")
        assert len(digest) == {"sha256": 64, "md5": 32}[algorithm] and set(digest) <= set("0123456789abcdef")
        assert source.url.startswith("https://") and source.size_bytes > 1e10 and source.licence


# ---- the command


def vaefx(*arguments):
    return CliRunner().invoke(main, arguments)


def test_the_command_fetches_and_prints_the_folder(server, home):
    result = vaefx("corpus", "fetch", "vctk", "--url", server.url, "--sha256", sha256(server.data))
    assert result.exit_code == 0 and result.stdout == f"{home / 'vctk'}\n"
    assert vaefx("corpus", "check", "vctk").stdout.startswith("vctk: 0.00 hours\n  speakers: 1\n  files: 12\n")


def test_an_unknown_corpus_is_one_line(home):
    result = vaefx("corpus", "fetch", "nus")
    assert result.exit_code == 1 and result.stdout == ""
    assert result.stderr == "Error: unknown corpus 'nus': known are vctk, daps, musdb18\n"


def test_a_server_that_has_no_such_file_is_one_line(server, home):
    server.data = None
    result = vaefx("corpus", "fetch", "vctk", "--url", server.url)
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1].startswith(f"Error: 404 Client Error: Not Found for url: {server.url}")
    assert not (home / "vctk").exists()
