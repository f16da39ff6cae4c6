"""The embedded speech is whole and split by speaker; any folder of speakers loads as a corpus."""

import csv
import shutil
import subprocess
import sys

import numpy as np
import pytest
import soundfile

from vaefx_lib import audio, corpora, store


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
    parts = corpora.split(speech, "speech")
    assert list(parts) == ["train", "valid", "test"]
    assert sorted(u.path for part in parts.values() for u in part) == sorted(u.path for u in speech)
    speakers = {name: {u.speaker for u in part} for name, part in parts.items()}
    assert len(speakers["train"]) == 19
    assert speakers["valid"] == speakers["test"] == {"af_heart", "am_michael", "bf_emma", "bm_george"}
    assert not speakers["train"] & speakers["test"]


def test_unseen_speakers_are_a_woman_and_a_man_of_each_accent(speech):
    unseen = {(u.gender, u.accent) for u in corpora.split(speech, "speech")["test"]}
    assert unseen == {("F", "us"), ("M", "us"), ("F", "gb"), ("M", "gb")}


def test_valid_and_test_share_no_sentence(speech):
    parts = corpora.split(speech, "speech")
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


def test_a_folder_is_all_test(folder):
    name = f"folder:{folder}"
    found = corpora.load(name)
    assert corpora.split(found, name) == {"train": [], "valid": [], "test": found}


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


@pytest.mark.parametrize("name", ["vctk", "", "folder:", "folder", "Speech"])
def test_an_unknown_corpus_is_refused_by_naming_the_known(name):
    with pytest.raises(ValueError, match=f"^unknown corpus {name!r}: known are speech, folder:PATH$"):
        corpora.load(name)


def test_split_of_an_unknown_corpus_is_refused(speech):
    with pytest.raises(ValueError, match="^unknown corpus 'vctk': known are speech, folder:PATH$"):
        corpora.split(speech, "vctk")


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


def test_a_file_in_a_folder_that_is_not_audio_is_refused_by_name(folder):
    (folder / "bob" / "bad.wav").write_text("no sound")
    with pytest.raises(audio.AudioError, match=f"^{folder / 'bob' / 'bad.wav'} is not audio: "):
        corpora.load(f"folder:{folder}")


def test_the_generator_finds_no_fault_in_its_files(tmp_path):
    """It checks lengths, levels, texts and checksums; from any folder, with nothing but soundfile and numpy."""
    command = [sys.executable, "-B", str(corpora.SPEECH_DIR / "synthesise.py"), "--check", "0"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "294 files checked, 0 faults\n")
