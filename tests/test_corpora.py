"""Every corpus loads by name and is divided by speaker; bad files are named and stop nothing."""

import csv
import gzip
import io
import json
import os
import random
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time
import tracemalloc
import zipfile
from pathlib import Path

import joblib
import numpy as np
import pytest
import soundfile
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from vaefx_lib import audio, corpora, corpus_check, corpus_layouts, corpus_split, store
from vaefx_lib.__main__ import main

KNOWN = "known are speech, folder:PATH, vctk[-MIC][:PATH], daps[-CONDITION][:PATH], musdb18[-STEM][:PATH]"


@pytest.fixture(autouse=True)
def corpora_dir(tmp_path_factory, monkeypatch):
    """An empty place for corpora and for the index of what has been read."""
    folder = tmp_path_factory.mktemp("corpora")
    monkeypatch.setenv("VAEFX_CORPORA", str(folder))
    return folder


@pytest.fixture
def settled(monkeypatch):
    """Files count as unchanged at once, though they were written a moment ago."""
    monkeypatch.setattr(corpus_check, "SETTLED_S", -60)


@pytest.fixture
def reads(monkeypatch):
    """Names of the files that are read, in order."""
    names, load = [], audio.load

    def noted(path, **options):
        names.append(Path(path).name)
        return load(path, **options)

    monkeypatch.setattr(audio, "load", noted)
    return names


def write(path, *, samples=2_400, rate=24_000, seed=0):
    """Noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.1 * np.random.default_rng(seed).normal(size=samples), rate)


@pytest.fixture(scope="module")
def speech():
    return corpora.load("speech")


@pytest.fixture
def folder(tmp_path):
    """Two speakers, three files of three formats at two depths, and things to be passed over."""
    sound = 0.1 * np.random.default_rng(0).normal(size=2_400)
    for name, rate in (("ann/b.wav", 24_000), ("ann/deep/a.flac", 16_000), ("bob/c.OGG", 8_000)):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(tmp_path / name, sound, rate, format=name[-3:].upper().replace("LAC", "FLAC"))
    (tmp_path / "ann" / "notes.txt").write_text("no sound")
    (tmp_path / "ann" / "._b.wav").write_text("what a Mac leaves on a stick")
    (tmp_path / "empty").mkdir()
    shutil.copy(tmp_path / "ann" / "b.wav", tmp_path / "no_speaker.wav")
    return tmp_path


def test_speech_is_every_file_of_its_folder_with_its_checksum(speech):
    with open(corpora.SPEECH_DIR / "metadata.csv", newline="", encoding="utf-8") as file:
        checksums = {row["path"]: row["sha256"] for row in csv.DictReader(file)}
    found = {path.relative_to(corpora.SPEECH_DIR).as_posix(): path for path in corpora.SPEECH_DIR.rglob("*.flac")}
    assert {name: store.sha256(path) for name, path in found.items()} == checksums
    assert sorted(u.path for u in speech) == sorted(found.values())


def test_speech_loads_sorted_with_true_facts(speech):
    assert [u.utterance_id for u in speech] == sorted({u.utterance_id for u in speech})
    assert len(speech) == 294 and len({u.speaker for u in speech}) == 23
    for utterance in speech:
        info = soundfile.info(utterance.path)
        assert info.samplerate == utterance.sample_rate_hz == 24_000 and info.channels == 1
        assert info.duration == pytest.approx(utterance.duration_s, abs=1e-4)
        assert utterance.speaker == utterance.path.parent.name
        assert (utterance.gender, utterance.accent) == (
            utterance.speaker[1].upper(),
            {"a": "us", "b": "gb"}[utterance.speaker[0]],
        )


def test_every_sentence_of_speech_is_sound(speech):
    for utterance in speech[::7]:
        loaded, _ = audio.load(utterance.path)
        assert not audio.is_silent(loaded)


def test_texts_are_the_lines_of_the_sentence_file(speech):
    lines = (corpora.SPEECH_DIR / "sentences.txt").read_text(encoding="utf-8").splitlines()
    assert all(u.text == lines[int(u.utterance_id[-3:]) - 1] for u in speech)


def test_split_puts_every_utterance_in_one_part_and_no_unseen_speaker_in_train(speech):
    parts = corpus_split.split(speech, "speech")
    assert list(parts) == ["train", "valid", "test"]
    assert sorted(u.path for part in parts.values() for u in part) == sorted(u.path for u in speech)
    speakers = {name: {u.speaker for u in part} for name, part in parts.items()}
    assert len(speakers["train"]) == 19
    assert speakers["valid"] == speakers["test"] == {"af_heart", "am_michael", "bf_emma", "bm_george"}
    assert not speakers["train"] & speakers["test"]


def test_unseen_speakers_are_a_woman_and_a_man_of_each_accent(speech):
    unseen = {(u.gender, u.accent) for u in corpus_split.split(speech, "speech")["test"]}
    assert unseen == {("F", "us"), ("M", "us"), ("F", "gb"), ("M", "gb")}


def test_valid_and_test_share_no_sentence(speech):
    parts = corpus_split.split(speech, "speech")
    assert {u.utterance_id[-3:] for u in parts["valid"]} == {"001", "002", "003", "004", "005"}
    assert not {u.text for u in parts["valid"]} & {u.text for u in parts["test"]}
    assert len(parts["valid"]) == 20


def test_a_folder_is_a_corpus_with_one_speaker_per_sub_folder(folder):
    found = corpora.load(f"folder:{folder}")
    rows = [(u.speaker, u.utterance_id, u.sample_rate_hz) for u in found]
    assert rows == [
        ("ann", "ann/b.wav", 24_000),
        ("ann", "ann/deep/a.flac", 16_000),
        ("bob", "bob/c.OGG", 8_000),
    ]
    assert [u.duration_s for u in found] == pytest.approx([0.1, 0.15, 0.3], abs=1e-3)
    assert all(u.path.is_file() and (u.text, u.gender, u.accent) == ("", "", "") for u in found)


def test_the_embedded_speech_also_loads_as_a_folder(speech):
    found = corpora.load(f"folder:{corpora.SPEECH_DIR}")
    assert [(u.speaker, u.path) for u in found] == [(u.speaker, u.path) for u in speech]


def test_fingerprint_stays_when_a_folder_moves_and_changes_with_its_files(folder, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "corpus"
    shutil.copytree(folder, elsewhere)
    before = corpora.fingerprint(f"folder:{folder}")
    assert corpora.fingerprint(f"folder:{elsewhere}") == before
    assert corpora.fingerprint(corpora.load(f"folder:{folder}")) == before
    (elsewhere / "ann" / "b.wav").rename(elsewhere / "ann" / "z.wav")
    assert corpora.fingerprint(f"folder:{elsewhere}") != before
    soundfile.write(folder / "ann" / "b.wav", np.full(2_400, 0.1), 24_000)
    assert corpora.fingerprint(f"folder:{folder}") != before


def test_fingerprint_of_speech_is_that_of_its_metadata(speech, tmp_path, monkeypatch):
    before = corpora.fingerprint("speech")
    assert before == corpora.fingerprint("speech")
    text = (corpora.SPEECH_DIR / "metadata.csv").read_text(encoding="utf-8")
    (tmp_path / "metadata.csv").write_text(text.replace("0", "1", 1), encoding="utf-8")
    monkeypatch.setattr(corpora, "SPEECH_DIR", tmp_path)
    assert corpora.fingerprint("speech") != before


@pytest.mark.parametrize("name", ["nus", "", "folder:", "folder", "folder-a:b", "vctk:", "Speech", "speech:x"])
def test_an_unknown_corpus_is_refused_by_naming_the_known(name):
    for call in (corpora.load, corpora.check):
        with pytest.raises(ValueError) as caught:
            call(name)
        assert str(caught.value) == f"unknown corpus {name!r}: {KNOWN}"


def test_an_unknown_variant_is_refused_by_naming_the_known():
    with pytest.raises(ValueError, match="^unknown variant 'mic3' of the corpus vctk: known are mic1, mic2$"):
        corpora.load("vctk-mic3:x")


def test_split_of_an_unknown_corpus_is_refused(speech):
    with pytest.raises(ValueError) as caught:
        corpus_split.split(speech, "nus")
    assert str(caught.value) == f"unknown corpus 'nus': {KNOWN}"


def test_a_missing_folder_is_refused(tmp_path):
    missing = tmp_path / "none"
    with pytest.raises(ValueError, match=f"^the corpus folder {missing} does not exist or is not a folder$"):
        corpora.load(f"folder:{missing}")


def test_a_folder_without_speakers_is_refused(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(9), 24_000)
    with pytest.raises(
        ValueError, match=f"^the corpus folder {tmp_path} holds no sound: .* one sub-folder per speaker"
    ):
        corpora.load(f"folder:{tmp_path}")


def test_a_folder_of_nothing_but_damage_is_refused_with_the_first_reason(tmp_path):
    for name in ("b.wav", "a.wav"):
        (tmp_path / "ann").mkdir(exist_ok=True)
        (tmp_path / "ann" / name).touch()
    name = f"folder:{tmp_path}"
    with pytest.raises(ValueError) as caught:
        corpora.load(name)
    assert str(caught.value) == (
        f"all 2 files of {name!r} are damaged, the first is ann/a.wav: is empty: it holds 0 bytes"
    )
    assert corpora.check(name).utterances == []


def test_names_of_any_kind_and_links_to_folders_are_followed(tmp_path):
    names = ["Zoë Ünal/a b.WAV", "ann/ü 東京.flac", "ann/x/y/z.Wav", "bob's/1;2 'q' $HOME.wav"]
    for name in names:
        write(tmp_path / "corpus" / name)
    write(tmp_path / "elsewhere" / "c.wav")
    (tmp_path / "corpus" / "cy").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "corpus" / "ann" / "deep").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "corpus" / "ann" / ".hidden").mkdir()
    shutil.copy(tmp_path / "elsewhere" / "c.wav", tmp_path / "corpus" / "ann" / ".hidden" / "c.wav")
    checked = corpora.check(f"folder:{tmp_path / 'corpus'}")
    assert {u.utterance_id for u in checked.utterances} == {*names, "cy/c.wav", "ann/deep/c.wav"}
    assert {u.speaker for u in checked.utterances} == {"Zoë Ünal", "ann", "bob's", "cy"}
    assert checked.damaged == {}


def test_a_link_to_a_folder_above_is_named_and_not_followed_for_ever(tmp_path):
    write(tmp_path / "ann" / "a.wav")
    (tmp_path / "ann" / "up").symlink_to(tmp_path)
    checked = corpora.check(f"folder:{tmp_path}")
    assert [u.utterance_id for u in checked.utterances] == ["ann/a.wav"]
    assert checked.damaged == {"ann/up": "leads back to a folder that it lies in"}


# ---- damaged files


def encoded(file_format="WAV", *, samples=24_000, subtype=None, sound=None):
    buffer = io.BytesIO()
    sound = 0.1 * np.random.default_rng(1).normal(size=samples) if sound is None else sound
    soundfile.write(buffer, sound, 24_000, format=file_format, subtype=subtype)
    return buffer.getvalue()


def pcm_wav(*, rate=24_000, channels=1, bits=16, code=1, samples=2_000, promised=None):
    """A wav file of 16-bit noise under any header."""
    data = np.random.default_rng(2).integers(-9_999, 9_999, samples).astype("<i2").tobytes()
    frame = channels * bits // 8
    form = struct.pack("<HHIIHH", code, channels, rate, rate * frame % 2**32, frame % 2**16, bits)
    size = len(data) if promised is None else promised
    return (
        b"RIFF" + struct.pack("<I", 36 + size) + b"WAVEfmt \x10\0\0\0" + form + b"data" + struct.pack("<I", size) + data
    )


def zip_bytes():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("a.txt", "no sound")
    return buffer.getvalue()


def changed(data, place, new):
    return data[:place] + new + data[place + len(new) :]


def open_socket(path):
    with socket.socket(socket.AF_UNIX) as opened:
        opened.bind(str(path))


def locked(path):
    write(path)
    path.chmod(0)


NOISE = np.random.default_rng(3).integers(0, 256, 20_000, dtype=np.uint8).tobytes()
FLAC = encoded("FLAC")
NO_FORMAT = "is not audio, or is damaged: Format not recognised"
BAD = {  # name -> what to write or how to make it, and the reason that must be given
    "empty.wav": (b"", "is empty: it holds 0 bytes"),
    "cut.wav": (encoded()[:-1_000], "is cut short: it ends before the 23500 samples found in it are complete"),
    "cut.flac": (FLAC[:-1_000], "is not audio, or is damaged: flac decoder lost sync"),
    "cut.ogg": (encoded("OGG")[:-1_000], "is cut short: its last page is not complete"),
    "cut.mp3": (encoded("MP3")[:-1_000], "is cut short: its header promises 24000 samples, it holds "),
    "head.wav": (encoded()[:44], "holds no sound: 0 samples"),
    "head.flac": (FLAC[:42], "is not audio, or is damaged: it ends before the samples that its header promises"),
    "head.ogg": (encoded("OGG")[:3_900], ""),
    "half a head.wav": (encoded()[:30], "is not audio, or is damaged: "),
    "promise.wav": (pcm_wav(promised=2**31 - 1), "is cut short: it ends before the 2000 samples found in it"),
    "promise.flac": (changed(FLAC, 22, b"\xff" * 4), "is not audio, or is damaged: it ends before the samples that"),
    "text.wav": (b"To be, or not to be\n", f"{NO_FORMAT}; it looks like text"),
    "page.wav": (b"<!DOCTYPE html><html>404</html>", f"{NO_FORMAT}; it looks like a web page"),
    "zip.flac": (zip_bytes(), f"{NO_FORMAT}; it looks like a zip archive"),
    "gzip.flac": (gzip.compress(encoded()), NO_FORMAT),
    "film.mp3": (b"\0\0\0\x20ftypmp42" + NOISE, NO_FORMAT),
    "headerless.wav": (NOISE, NO_FORMAT),
    "zeros.wav": (bytes(5_000), f"{NO_FORMAT}; it begins with nothing but zeros"),
    "garbage.mp3": (NOISE, NO_FORMAT),
    "garbage inside.flac": (changed(FLAC, len(FLAC) // 2, NOISE[:200]), "is not audio, or is damaged: "),
    "garbage inside.ogg": (
        changed(encoded("OGG"), 6_000, NOISE[:200]),
        "is damaged: the checksum of its page at byte ",
    ),
    "no samples.wav": (encoded(samples=0), "holds no sound: 0 samples"),
    "no length.flac": (changed(FLAC, 22, bytes(4)), "does not say how many samples it holds"),
    "nan.wav": (encoded(subtype="FLOAT", sound=np.array([0.1, np.nan])), "holds NaN or infinity, first at sample 1"),
    "infinity.wav": (encoded(subtype="FLOAT", sound=np.array([np.inf])), "holds NaN or infinity, first at sample 0"),
    "too large.wav": (encoded(subtype="DOUBLE", sound=np.array([1e300])), "holds NaN or infinity, first at sample 0"),
    "silent.wav": (encoded(sound=np.zeros(999)), "is silent: no sample is above -80 dBFS"),
    "0 Hz.wav": (pcm_wav(rate=0), "is not audio, or is damaged: its header states an impossible sample rate"),
    "1 Hz.wav": (pcm_wav(rate=1), "has a sample rate of 1 Hz: it must be between 2000 and 768000 Hz"),
    "2 GHz.wav": (pcm_wav(rate=2_000_000_000), "has a sample rate of 2000000000 Hz: it must be between 2000"),
    "0 channels.wav": (pcm_wav(channels=0), "is not audio, or is damaged: Channel count is zero"),
    "1000 channels.wav": (pcm_wav(channels=1_000), "has 1000 channels: it must have at most 64"),
    "65535 channels.wav": (pcm_wav(channels=65_535), "is not audio, or is damaged: Too many channels specified"),
    "0 bits.wav": (pcm_wav(bits=0), "is not audio, or is damaged: File contains data in an unimplemented format"),
    "unknown code.wav": (pcm_wav(code=0x1234), "is not audio, or is damaged: "),
    "locked.wav": (locked, "cannot be read: Permission denied"),
    "folder.wav": (Path.mkdir, "is a folder, not a file"),
    "broken link.wav": (lambda path: path.symlink_to("gone"), "is a link to gone, which does not exist"),
    "link loop.wav": (lambda path: path.symlink_to(path), "is a link that leads back to itself"),
    "pipe.wav": (os.mkfifo, "is a pipe, not a file"),
    "socket.wav": (open_socket, "is a socket, not a file"),
    "device.wav": (lambda path: path.symlink_to(os.devnull), "is a device, not a file"),
}
GOOD = ["ann/a.wav", "ann/deep/b.flac", "bob/c.ogg", "bob/d.mp3", "bob/é e.WAV"]

# Root may read everything, so the check is done as someone who is not; what it imports later is imported first.
AS_NOBODY = """
import json, os, sys
from pathlib import Path
from vaefx_lib import corpora
root, ready = sys.argv[1:]
corpora.check(f"folder:{ready}")
if os.geteuid() == 0:
    os.setegid(65534)
    os.seteuid(65534)
checked = corpora.check(f"folder:{root}")
json.dump({"good": [u.utterance_id for u in checked.utterances], "damaged": checked.damaged}, sys.stdout)
"""


def check_as_nobody(home):
    for number in range(8):  # written anew, so that they are read and not looked up
        write(home / "ready" / "ann" / f"{number}.wav")
    command = [sys.executable, "-c", AS_NOBODY, str(home / "corpus"), str(home / "ready")]
    environment = os.environ | {"VAEFX_CORPORA": str(home / "index")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def spoilt():
    """What a check says of five good files and one of each kind of bad ones, before and after one is unlocked."""
    with tempfile.TemporaryDirectory(prefix="vaefx") as home:  # not in pytest's, which only its owner may enter
        home = Path(home)
        for name in ("index", "index/index"):
            (home / name).mkdir()
            (home / name).chmod(0o777)
        home.chmod(0o755)
        for number, name in enumerate(GOOD):
            write(home / "corpus" / name, seed=number)
        for number, (name, (content, _)) in enumerate(BAD.items()):
            path = home / "corpus" / GOOD[number % 2 * 2].split("/")[0] / name
            content(path) if callable(content) else path.write_bytes(content)
        time.sleep(corpus_check.SETTLED_S + 0.1)  # so that verdicts are kept
        before = check_as_nobody(home)
        kept = [json.loads(path.read_text())["files"] for path in (home / "index" / "index").iterdir()]
        for path in (home / "corpus").glob("*/locked.wav"):
            path.chmod(0o644)
        yield {"before": before, "after": check_as_nobody(home), "kept": max(kept, key=len)}


def test_every_good_file_among_the_bad_ones_is_loaded(spoilt):
    assert spoilt["before"]["good"] == GOOD


def test_every_bad_file_is_listed_once(spoilt):
    assert len(BAD) >= 40
    assert sorted(name.split("/")[1] for name in spoilt["before"]["damaged"]) == sorted(BAD)


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_named_with_its_reason(spoilt, name):
    (reason,) = (why for path, why in spoilt["before"]["damaged"].items() if path.endswith(f"/{name}"))
    assert reason.startswith(BAD[name][1])
    assert "\n" not in reason


def test_a_file_that_was_locked_is_read_once_it_may_be(spoilt):
    assert sorted(spoilt["after"]["good"]) == sorted([*GOOD, "bob/locked.wav"])
    assert len(spoilt["after"]["damaged"]) == len(BAD) - 1


def test_verdicts_are_kept_but_for_files_that_may_not_be_read(spoilt):
    names = {Path(path).name for path in spoilt["kept"]}
    assert names >= {Path(name).name for name in GOOD} | {"cut.wav", "silent.wav", "garbage.mp3"}
    assert not names & {"locked.wav", "broken link.wav"}


def test_load_leaves_damaged_files_out_and_says_so(folder, capsys):
    (folder / "bob" / "bad.wav").write_text("no sound")
    name = f"folder:{folder}"
    assert [u.utterance_id for u in corpora.load(name)] == ["ann/b.wav", "ann/deep/a.flac", "bob/c.OGG"]
    assert capsys.readouterr().err == (
        f"damaged files left out of {name!r}: 1; `vaefx corpus check '{name}'` names them\n"
    )


def test_a_name_that_is_not_utf8_is_loaded_or_named(tmp_path):
    (tmp_path / "ann").mkdir()
    good, bad = (os.path.join(os.fsencode(tmp_path), b"ann", name) for name in (b"\xe9.wav", b"\xfc.wav"))
    Path(os.fsdecode(good)).write_bytes(encoded())
    Path(os.fsdecode(bad)).touch()
    checked = corpora.check(f"folder:{tmp_path}")
    assert len(checked.utterances) == 1
    assert checked.damaged == {"ann/\\xfc.wav": "is empty: it holds 0 bytes"}
    assert corpora.fingerprint(checked.utterances) != corpora.fingerprint([])


# ---- the index


def test_an_unchanged_file_is_read_once(folder, reads, settled):
    (folder / "bob" / "bad.wav").write_text("no sound")
    first = corpora.check(f"folder:{folder}")
    assert sorted(reads) == ["a.flac", "b.wav", "bad.wav", "c.OGG"]
    assert corpora.check(f"folder:{folder}") == first
    assert corpora.fingerprint(f"folder:{folder}") == corpora.fingerprint(first.utterances)
    assert len(reads) == 4


def test_a_corpus_is_the_same_by_its_relative_path(folder, reads, settled, monkeypatch):
    first = corpora.check(f"folder:{folder}")
    monkeypatch.chdir(folder.parent)
    assert corpora.check(f"folder:{folder.name}") == first
    assert len(reads) == 3


def test_what_has_changed_is_read_again_and_nothing_else(folder, reads, settled):
    corpora.check(f"folder:{folder}")
    del reads[:]
    write(folder / "ann" / "b.wav", seed=5)  # as long as before
    write(folder / "cy" / "new.wav")
    (folder / "bob" / "c.OGG").unlink()
    second = corpora.check(f"folder:{folder}")
    assert sorted(reads) == ["b.wav", "new.wav"]
    assert [u.utterance_id for u in second.utterances] == ["ann/b.wav", "ann/deep/a.flac", "cy/new.wav"]


def test_a_file_with_its_old_size_and_date_but_other_content_is_read_again(folder, settled):
    path = folder / "ann" / "b.wav"
    before, dated = corpora.fingerprint(f"folder:{folder}"), path.stat()
    write(path, seed=5)
    os.utime(path, ns=(dated.st_atime_ns, dated.st_mtime_ns))
    assert path.stat().st_size == dated.st_size and path.stat().st_mtime_ns == dated.st_mtime_ns
    assert corpora.fingerprint(f"folder:{folder}") != before


def test_a_fingerprint_reads_no_file_again_but_those_that_have_changed(folder, monkeypatch, settled):
    found, hashed, sha256 = corpora.load(f"folder:{folder}"), [], store.sha256

    def noted(path):
        hashed.append(path.name)
        return sha256(path)

    monkeypatch.setattr(store, "sha256", noted)
    before = corpora.fingerprint(found)
    assert corpora.fingerprint(f"folder:{folder}") == before
    assert hashed == []
    write(folder / "ann" / "b.wav", seed=5)
    assert corpora.fingerprint(found) != before
    assert hashed == ["b.wav"]


def test_a_file_of_this_moment_is_read_again(folder, reads, corpora_dir):
    corpora.check(f"folder:{folder}")
    corpora.check(f"folder:{folder}")
    assert len(reads) == 6
    assert list(corpora_dir.iterdir()) == []  # there is nothing to keep


def test_a_check_that_breaks_off_keeps_what_it_has_read(tmp_path, monkeypatch, reads, settled):
    for number in range(40):
        write(tmp_path / "ann" / f"{number:02}.wav", samples=300)
    load = audio.load

    def breaks_off(path):
        if path.name == "35.wav":
            raise RuntimeError("as if someone had pressed Ctrl-C")
        return load(path)

    with monkeypatch.context() as patch:
        patch.setattr(audio, "load", breaks_off)
        patch.setattr(joblib, "cpu_count", lambda: 2)
        with pytest.raises(RuntimeError):
            corpora.check(f"folder:{tmp_path}")
    read = len(reads)
    assert read > 20
    assert len(corpora.check(f"folder:{tmp_path}").utterances) == 40
    assert len(reads) < 40 + 5  # the file that broke it off, and those that were being read beside it


@pytest.mark.parametrize("content", ["", "{", '{"rules": "other", "files": {"x": [1]}}'])
def test_an_index_that_is_damaged_or_of_other_code_does_not_count(folder, reads, settled, corpora_dir, content):
    first = corpora.check(f"folder:{folder}")
    (index,) = (corpora_dir / "index").iterdir()
    index.write_text(content)
    assert corpora.check(f"folder:{folder}") == first
    assert len(reads) == 6
    corpora.check(f"folder:{folder}")
    assert len(reads) == 6


def test_without_a_place_for_the_index_the_corpus_loads_all_the_same(folder, tmp_path, monkeypatch, settled, capsys):
    (tmp_path / "file").touch()
    monkeypatch.setenv("VAEFX_CORPORA", str(tmp_path / "file"))
    assert len(corpora.load(f"folder:{folder}")) == 3
    assert capsys.readouterr().err.startswith("the verdicts on the files are not kept: ")


def test_a_check_holds_few_files_in_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(joblib, "cpu_count", lambda: 2)
    write(tmp_path / "ann" / "00.wav", samples=500_000)  # 2 MB as float32
    for number in range(1, 40):
        os.link(tmp_path / "ann" / "00.wav", tmp_path / "ann" / f"{number:02}.wav")
    tracemalloc.start()
    try:
        assert len(corpora.load(f"folder:{tmp_path}")) == 40
        assert tracemalloc.get_traced_memory()[1] < 40e6  # all together would be 80 MB
    finally:
        tracemalloc.stop()


# ---- public corpora, by their layout


@pytest.fixture
def vctk(tmp_path):
    """Two speakers with all they need, p280 without mic2, p315 without mic2 and texts, and p362 with gaps."""
    rows = ["ID  AGE  GENDER  ACCENTS  REGION COMMENTS ", "p225  23  F    English    Southern  England"]
    rows += ["p226  22  M    English    Surrey", "p280  25  F    Unknown    France (mic2 files unavailable)"]
    rows += ["p315  18  M    American   New England (Text and mic2 files unavailable)"]
    rows += ["p362  29  F    American", "s5  26  M", ""]
    (tmp_path / "speaker-info.txt").write_text("\n".join(rows))
    for speaker in ("p225", "p226", "p280", "p315", "p362", "s5"):
        for number in ("001", "002"):
            if speaker != "p315":
                (tmp_path / "txt" / speaker).mkdir(parents=True, exist_ok=True)
                (tmp_path / "txt" / speaker / f"{speaker}_{number}.txt").write_text(f"Sentence {number}.\n")
            for mic in ("mic1", "mic2"):
                if mic == "mic1" or speaker not in ("p280", "p315") and (speaker, number) != ("p362", "002"):
                    name = f"{speaker}_{number}_{mic}.flac"
                    write(tmp_path / "wav48_silence_trimmed" / speaker / name, rate=48_000, seed=int(mic[-1]))
    (tmp_path / "wav48_silence_trimmed" / "log.txt").write_text("no sound")
    return tmp_path


def test_vctk_loads_its_first_microphone_with_text_gender_and_accent(vctk):
    found = corpora.load(f"vctk:{vctk}")
    assert len(found) == 12
    rows = {u.utterance_id: (u.speaker, u.text, u.gender, u.accent, u.path.name) for u in found}
    assert rows["p226_002"] == ("p226", "Sentence 002.", "M", "English", "p226_002_mic1.flac")
    assert rows["p280_001"] == ("p280", "Sentence 001.", "F", "Unknown", "p280_001_mic1.flac")
    assert rows["p315_001"] == ("p315", "", "M", "American", "p315_001_mic1.flac")
    assert rows["s5_001"] == ("s5", "Sentence 001.", "M", "", "s5_001_mic1.flac")
    assert {(u.sample_rate_hz, u.channels, u.duration_s) for u in found} == {(48_000, 1, 0.05)}
    assert corpora.load(f"vctk-mic1:{vctk}") == found


def test_vctk_mic2_passes_over_those_who_have_none(vctk):
    found = corpora.check(f"vctk-mic2:{vctk}")
    assert [u.utterance_id for u in found.utterances] == [
        "p225_001",
        "p225_002",
        "p226_001",
        "p226_002",
        "p362_001",
        "s5_001",
        "s5_002",
    ]
    assert found.damaged == {}
    assert all(u.path.stem.endswith("_mic2") for u in found.utterances)
    assert corpora.fingerprint(found.utterances) != corpora.fingerprint(f"vctk:{vctk}")


def test_vctk_without_its_lists_still_loads(vctk):
    (vctk / "speaker-info.txt").unlink()
    shutil.rmtree(vctk / "txt")
    found = corpora.load(f"vctk:{vctk}")
    assert len(found) == 12 and {(u.text, u.gender, u.accent) for u in found} == {("", "", "")}


def test_a_corpus_lies_where_fetch_puts_it_or_one_folder_deeper(vctk, corpora_dir):
    with pytest.raises(
        ValueError, match=r"/vctk does not exist or is not a folder; `vaefx corpus fetch vctk` gets it$"
    ):
        corpora.load("vctk")
    shutil.copytree(vctk, corpora_dir / "vctk" / "VCTK-Corpus-0.92")
    assert len(corpora.load("vctk")) == 12 and len(corpora.load("vctk-mic2")) == 7


@pytest.mark.parametrize(
    ("kind", "marker"), [("vctk", "wav48_silence_trimmed"), ("daps-produced", "clean"), ("musdb18", "train")]
)
def test_a_folder_of_another_layout_is_refused(tmp_path, kind, marker):
    with pytest.raises(ValueError) as caught:
        corpora.load(f"{kind}:{tmp_path}")
    kind = kind.partition("-")[0]
    assert str(caught.value) == f"{tmp_path} does not have the layout of {kind}: it must hold one folder {marker}"


def test_daps_loads_clean_recordings_and_other_conditions_by_name(tmp_path):
    for condition in ("clean", "produced", "ipad_office1"):
        for speaker in ("f1", "f10", "m2"):
            for script in range(1, 6):
                write(tmp_path / "daps" / condition / f"{speaker}_script{script}_{condition}.wav", rate=44_100)
    (tmp_path / "daps" / "clean" / "._f1_script1_clean.wav").write_text("what a Mac leaves")
    found = corpora.load(f"daps:{tmp_path}")
    assert len(found) == 15
    assert {(u.speaker, u.gender) for u in found} == {("f1", "F"), ("f10", "F"), ("m2", "M")}
    assert found[0].utterance_id.startswith("f1")
    assert {u.path.parent.name for u in found} == {"clean"}
    other = corpora.load(f"daps-ipad_office1:{tmp_path / 'daps'}")
    assert [u.utterance_id for u in other] == [u.utterance_id for u in found]
    assert {u.path.parent.name for u in other} == {"ipad_office1"}
    assert corpora.check(f"daps:{tmp_path}").damaged == {}


def test_daps_has_the_fifteen_conditions_of_its_paper():
    assert len(corpus_layouts.VARIANTS["daps"]) == len(set(corpus_layouts.VARIANTS["daps"])) == 15


@pytest.fixture
def musdb18(tmp_path):
    tracks = ["train/Some Band - A Song", "train/Meaxic - Take A Step", "train/ANiMAL - Rockshow", "test/X - Y's (Z)"]
    for track in tracks:
        for stem in ("mixture", "vocals", "drums", "bass", "other"):
            sound = 0.1 * np.random.default_rng(0).normal(size=(441, 2))
            (tmp_path / track).mkdir(parents=True, exist_ok=True)
            soundfile.write(tmp_path / track / f"{stem}.wav", sound, 44_100)
    return tmp_path


def test_musdb18_loads_mixtures_and_stems_by_name(musdb18):
    found = corpora.load(f"musdb18:{musdb18}")
    assert [(u.speaker, u.utterance_id, u.path.name, u.channels) for u in found] == [
        ("ANiMAL - Rockshow", "train/ANiMAL - Rockshow", "mixture.wav", 2),
        ("Meaxic - Take A Step", "train/Meaxic - Take A Step", "mixture.wav", 2),
        ("Some Band - A Song", "train/Some Band - A Song", "mixture.wav", 2),
        ("X - Y's (Z)", "test/X - Y's (Z)", "mixture.wav", 2),
    ]
    (musdb18 / "train" / "Some Band - A Song" / "vocals.wav").unlink()
    vocals = corpora.check(f"musdb18-vocals:{musdb18}")
    assert [u.path.name for u in vocals.utterances] == ["vocals.wav"] * 3
    assert vocals.damaged == {"train/Some Band - A Song/vocals.wav": "does not exist"}


def test_musdb18_is_divided_as_its_authors_do(musdb18):
    parts = corpus_split.split(corpora.load(f"musdb18-bass:{musdb18}"), "musdb18-bass")
    assert {name: [u.speaker for u in part] for name, part in parts.items()} == {
        "train": ["Some Band - A Song"],
        "valid": ["ANiMAL - Rockshow", "Meaxic - Take A Step"],
        "test": ["X - Y's (Z)"],
    }
    assert len(set(corpus_split.MUSDB18_VALID)) == 14


# ---- dividing by speaker


def said(speaker, number, *, text="", gender=""):
    path = Path(speaker) / f"{number}.wav"
    return corpora.Utterance(path, speaker, f"{speaker}/{number}.wav", text, 1.0, 24_000, 1, gender, "")


def divided(utterances, corpus="folder:x"):
    return {name: {u.utterance_id for u in part} for name, part in corpus_split.split(utterances, corpus).items()}


@given(counts=st.lists(st.integers(1, 6), min_size=1, max_size=30), seed=st.integers(0, 99))
def test_no_speaker_of_train_is_heard_elsewhere_and_order_does_not_matter(counts, seed):
    utterances = [said(f"speaker {i} of {seed}", n) for i, count in enumerate(counts) for n in range(count)]
    parts = corpus_split.split(utterances, "folder:x")
    assert sorted(u.utterance_id for part in parts.values() for u in part) == sorted(u.utterance_id for u in utterances)
    heard = {name: {u.speaker for u in part} for name, part in parts.items()}
    assert not heard["train"] & (heard["valid"] | heard["test"])
    assert parts["test"]
    if len(counts) > 1:
        assert parts["train"]
    if len(counts) > 2:
        assert parts["valid"]
    shuffled = random.Random(seed).sample(utterances, len(utterances))
    assert divided(shuffled) == {name: {u.utterance_id for u in part} for name, part in parts.items()}


def test_a_division_is_the_same_on_every_machine():
    parts = divided([said(speaker, n) for speaker in ("ann", "bob", "cy", "dee") for n in (1, 2, 3)])
    assert parts["valid"] == {"cy/1.wav"} and parts["test"] == {"cy/2.wav", "cy/3.wav"}


def test_about_one_speaker_in_seven_is_unseen_women_and_men_alike():
    utterances = [said(f"{g}{i}", n, gender=g) for g in "FM" for i in range(20) for n in range(9)]
    parts = corpus_split.split(utterances, "vctk:x")
    unseen = {u.speaker for u in parts["test"]}
    assert sorted(name[0] for name in unseen) == ["F"] * 3 + ["M"] * 3
    assert len(parts["valid"]) == len(unseen) * 3


def test_a_sentence_that_several_say_is_in_valid_or_in_test():
    utterances = [said(f"p{i}", n, text=f"Sentence {n}.") for i in range(20) for n in range(9)]
    parts = corpus_split.split(utterances, "vctk")
    texts = {name: {u.text for u in part} for name, part in parts.items()}
    assert len(texts["valid"]) == 3 and len(texts["test"]) == 6 and not texts["valid"] & texts["test"]


def test_a_script_of_daps_is_in_valid_or_in_test():
    utterances = [
        corpora.Utterance(Path("x"), f"{g}{i}", f"{g}{i}_script{n}", "", 1.0, 44_100, 1, g.upper(), "")
        for g in "fm"
        for i in range(1, 11)
        for n in range(1, 6)
    ]
    parts = divided(utterances, "daps-produced")
    scripts = {name: {name.partition("_")[2] for name in part} for name, part in parts.items()}
    assert len(scripts["valid"]) == 2 and len(scripts["test"]) == 3 and not scripts["valid"] & scripts["test"]


def test_a_single_speaker_is_all_test():
    assert divided([said("ann", 1), said("ann", 2)]) == {
        "train": set(),
        "valid": set(),
        "test": {"ann/1.wav", "ann/2.wav"},
    }


# ---- the command


def vaefx(*arguments):
    return CliRunner().invoke(main, arguments)


def test_check_tells_what_a_folder_holds_and_what_is_damaged(folder):
    (folder / "bob" / "bad.wav").write_text("To be, or not to be")
    result = vaefx("corpus", "check", str(folder))
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        f"folder:{folder}: 0.00 hours",
        "  speakers: 2",
        "  files: 3",
        "  sample rates in Hz: 8000 (files: 1), 16000 (files: 1), 24000 (files: 1)",
        "  channels: 1 (files: 3)",
        "  damaged: 1",
        f"    bob/bad.wav {NO_FORMAT}; it looks like text",
    ]


def test_check_prints_json_and_ends_with_0_if_nothing_is_damaged(musdb18):
    result = vaefx("corpus", "check", "--json", f"musdb18-drums:{musdb18}")
    assert result.exit_code == 0
    assert json.loads(result.stdout) == {
        "corpus": f"musdb18-drums:{musdb18}",
        "hours": pytest.approx(4 * 441 / 44_100 / 3600),
        "utterances": 4,
        "speakers": 4,
        "sample_rates_hz": {"44100": 4},
        "channels": {"2": 4},
        "damaged": {},
    }


def test_check_of_the_embedded_speech_reads_it(reads):
    result = vaefx("corpus", "check", "speech", "--json")
    assert result.exit_code == 0 and json.loads(result.stdout)["utterances"] == len(reads) == 294


def test_check_of_nothing_known_is_one_line(tmp_path):
    result = vaefx("corpus", "check", str(tmp_path / "none"))
    assert result.exit_code == 1 and result.stdout == ""
    assert result.stderr == f"Error: unknown corpus '{tmp_path / 'none'}': {KNOWN}\n"


def test_a_large_corpus_is_listed_in_a_moment(tmp_path):
    for speaker in range(40):
        sounds, texts = (tmp_path / part / f"p{speaker:03}" for part in ("wav48_silence_trimmed", "txt"))
        sounds.mkdir(parents=True)
        texts.mkdir(parents=True)
        for number in range(50):
            (sounds / f"p{speaker:03}_{number:03}_mic1.flac").touch()
            (sounds / f"p{speaker:03}_{number:03}_mic2.flac").touch()
            (texts / f"p{speaker:03}_{number:03}.txt").touch()
    begun = time.monotonic()
    _, found, _ = corpus_layouts.find(f"vctk:{tmp_path}")
    assert len(found) == 2_000
    assert time.monotonic() - begun < 3  # 0.1 s on two cores; VCTK has 22 times as many


def test_the_generator_finds_no_fault_in_its_files(tmp_path):
    """It checks lengths, levels, texts and checksums; from any folder, with nothing but soundfile and numpy."""
    command = [sys.executable, "-B", str(corpora.SPEECH_DIR / "synthesise.py"), "--check", "0"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "294 files checked, 0 faults\n")
