import contextlib
import dataclasses
import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import soxr
from test_corpora import BAD, GOOD, write

from vaefx_lib import (
    audio,
    config,
    corpora,
    corpus_split,
    dry_clips,
    effects,
    preset_json,
    rendering,
    shard_writing,
    shards,
    store,
)

PEAK = 10 ** (-12 / 20)
SPEECH = corpus_split.split(corpora.load("speech"), "speech")


def with_render(preset, **changes):
    return dataclasses.replace(preset, render=dataclasses.replace(preset.render, **changes))


def contents(folder):
    """Every file of a folder, hidden ones included, and its bytes."""
    return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}


def run_python(code, *arguments):
    """Run code in a process of its own, which may be limited or killed."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=Path(__file__).parents[1])


@pytest.fixture(scope="module")
def tiny_file(tiny, tmp_path_factory):
    path = tmp_path_factory.mktemp("preset") / "tiny.json"
    path.write_text(preset_json.to_json(tiny))
    return path


@pytest.fixture
def sines(tmp_path):
    """A corpus of four short sentences each of two speakers: 300 Hz and 900 Hz."""
    for speaker, hz in (("low", 300), ("high", 900)):
        (tmp_path / "sines" / speaker).mkdir(parents=True)
        for sentence in range(4):
            y = 0.5 * np.sin(2 * np.pi * hz / 24_000 * np.arange(2400 * (1 + sentence)))
            soundfile.write(tmp_path / "sines" / speaker / f"{sentence}.wav", y, 24_000)
    return corpora.load(f"folder:{tmp_path / 'sines'}")


@pytest.fixture
def use_effect(monkeypatch):
    """Make `effects.load` give an effect whose `process(audio, x)` is given."""

    def use(process):
        params = (effects.Param("x", "", 0.0, 1.0, 0.5),)
        effect = effects.Effect("test:Effect", params, lambda audio, sample_rate_hz, x: process(audio, np.float32(x)))
        monkeypatch.setattr(effects, "load", lambda name: effect)

    return use


def test_two_processes_write_the_bytes_of_one(tiny, tiny_train_dir, tmp_path):
    rendering.render(tiny, "train", tmp_path, jobs=2, progress=False)
    assert contents(tmp_path) == contents(tiny_train_dir)


def test_deleted_and_cut_shards_are_rendered_again_and_the_others_kept(tiny, tiny_train_dir, tmp_path):
    rendering.render(tiny, "train", tmp_path, jobs=1, progress=False)
    (tmp_path / "shard-00001.npy").unlink()
    (tmp_path / "shard-00002.json").unlink()
    with open(tmp_path / "shard-00003.npy", "r+b") as file:
        file.truncate(1000)
    kept = (tmp_path / "shard-00000.npy").stat()
    rendering.render(tiny, "train", tmp_path, jobs=1, progress=False)
    assert contents(tmp_path) == contents(tiny_train_dir)
    assert (tmp_path / "shard-00000.npy").stat().st_ino == kept.st_ino


def test_nothing_is_written_when_all_is_there(tiny, tmp_path):
    rendering.render(tiny, "valid", tmp_path, jobs=1, progress=False)
    before = {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in tmp_path.iterdir()}
    rendering.render(tiny, "valid", tmp_path, jobs=1, progress=False)
    assert before == {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in tmp_path.iterdir()}


KILLED_AT_EACH_RENAME = """
import os, signal, sys
from pathlib import Path
from vaefx_lib import preset_json, rendering

preset = preset_json.from_json(Path(sys.argv[1]).read_text())
rename = os.replace
for last in (1, 2, 5, 13):  # of 13: shard and rows of 6 shards, and the manifest
    if os.fork() == 0:
        left = last
        def replace(source, target):
            global left
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            rename(source, target)
        os.replace = replace
        rendering.render(preset, "train", Path(sys.argv[2]) / str(last), jobs=1, progress=False)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.wait()[1]))
"""


def test_a_render_killed_before_any_rename_goes_on_to_the_same_bytes(tiny, tiny_file, tiny_train_dir, tmp_path):
    result = run_python(KILLED_AT_EACH_RENAME, tiny_file, tmp_path)
    assert result.stdout.split() == ["-9"] * 4, result.stderr
    for last in (1, 2, 5, 13):
        folder = tmp_path / str(last)
        names = [path.name for path in folder.iterdir()]
        assert len(names) == last and sum(name.startswith(".") for name in names) == 1  # the one being written
        with pytest.raises(store.DamagedFile, match="manifest.json is missing"):
            rendering.load(folder)
        rendering.render(tiny, "train", folder, jobs=1, progress=False)
        assert contents(folder) == contents(tiny_train_dir)


def test_a_render_by_two_processes_killed_from_outside_goes_on_to_the_same_bytes(tiny, tmp_path):
    longer = with_render(tiny, n_train=200)
    whole = tmp_path / "whole"
    rendering.render(longer, "train", whole, jobs=1, progress=False)
    longer_file = tmp_path / "longer.json"
    longer_file.write_text(preset_json.to_json(longer))
    code = (
        "import sys; from pathlib import Path; from vaefx_lib import preset_json, rendering;"
        "rendering.render(preset_json.from_json(Path(sys.argv[1]).read_text()), 'train', sys.argv[2], jobs=2)"
    )
    folder = tmp_path / "killed"
    process = subprocess.Popen(
        [sys.executable, "-c", code, longer_file, folder], cwd=Path(__file__).parents[1], stderr=subprocess.DEVNULL
    )
    while process.poll() is None and len(list(folder.glob("shard-*.json"))) < 3:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL and not (folder / "manifest.json").exists()
    rendering.render(longer, "train", folder, jobs=1, progress=False)
    left = {name: content for name, content in contents(folder).items() if not name.startswith(".")}
    assert left == contents(whole)  # a worker may be ending still, with a file that nobody takes for whole


KILLED_AT_RANDOM = """
import os, random, signal, sys, time
from pathlib import Path
from vaefx_lib import preset_json, rendering

preset = preset_json.from_json(Path(sys.argv[1]).read_text())
rendering.render(preset, "train", Path(sys.argv[2]) / "whole", jobs=1, progress=False)
moments = random.Random(0)
for _ in range(20):
    child = os.fork()
    if child == 0:
        rendering.render(preset, "train", Path(sys.argv[2]) / "killed", jobs=1, progress=False)
        os._exit(0)
    time.sleep(moments.uniform(0, 0.3))
    os.kill(child, signal.SIGKILL)
    ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(ended, len(list((Path(sys.argv[2]) / "killed").glob("shard-*.json"))))
"""


def test_a_render_killed_at_20_random_moments_goes_on_to_the_same_bytes(tiny, tmp_path):
    longer = with_render(tiny, n_train=2_000, shard_pairs=10)
    (tmp_path / "longer.json").write_text(preset_json.to_json(longer))
    result = run_python(KILLED_AT_RANDOM, tmp_path / "longer.json", tmp_path)
    ended, shards_then = zip(*(line.split() for line in result.stdout.splitlines()))
    assert ended == ("-9",) * 20, result.stderr
    assert len(set(shards_then)) > 5  # it was killed at different stages of the work
    rendering.render(longer, "train", tmp_path / "killed", jobs=1, progress=False)
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


@contextlib.contextmanager
def workers_killed(folder, times):
    """Kill a worker process of a render each time it has written another shard."""
    killed, stop = [], threading.Event()

    def watch():
        seen = 0
        while len(killed) < times and not stop.wait(0.001):
            shards_now = len(list(folder.glob("shard-*.json")))
            if shards_now > seen and (workers := worker_processes()):
                seen = shards_now
                with contextlib.suppress(ProcessLookupError):
                    os.kill(workers[0], signal.SIGKILL)
                    killed.append(workers[0])

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield killed
    finally:
        stop.set()
        thread.join()


def worker_processes():
    """Process numbers of the workers of this process."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == os.getpid() and "popen_loky" in (folder / "cmdline").read_text():
                found.append(int(folder.name))
    return found


def test_a_killed_worker_is_replaced(tiny, tmp_path, capfd):
    longer = with_render(tiny, n_train=400)
    whole = rendering.render(longer, "train", tmp_path / "whole", jobs=1, progress=False)
    with workers_killed(tmp_path / "lost", times=1) as killed:
        lost = rendering.render(longer, "train", tmp_path / "lost", jobs=2, progress=False)
    assert len(killed) == 1 and "a process was killed; going on" in capfd.readouterr().err
    assert contents(lost.folder) == contents(whole.folder)


def test_workers_killed_again_and_again_end_in_an_error(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(rendering, "MAX_LOST_WORKERS", 1)
    longer = with_render(tiny, n_train=4000)
    with (
        workers_killed(tmp_path / "lost", times=9),
        pytest.raises(ChildProcessError, match="'train' lost 2 processes: they were killed"),
    ):
        rendering.render(longer, "train", tmp_path / "lost", jobs=2, progress=False)


NO_SPACE = """
import resource, sys
from pathlib import Path
from vaefx_lib import corpora, corpus_split, preset_json, rendering

preset = preset_json.from_json(Path(sys.argv[1]).read_text())
speech = corpus_split.split(corpora.load("speech"), "speech")["train"]
for index in range(2):
    rendering.render_pair(preset, "train", index, speech)  # compiled code is written before the limit is set
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
for jobs in (1, 2):
    try:
        rendering.render(preset, "train", Path(sys.argv[2]) / str(jobs), jobs=jobs, progress=False)
    except OSError as error:
        print(error)
"""


def test_a_file_that_cannot_be_written_is_named_and_nothing_is_taken_for_whole(
    tiny, tiny_file, tiny_train_dir, tmp_path
):
    result = run_python(NO_SPACE, tiny_file, tmp_path)
    lines = result.stdout.splitlines()
    assert len(lines) == 2, result.stderr
    for jobs, line in zip("12", lines, strict=True):
        assert "could not write" in line and f"{jobs}/shard-0000" in line and "File too large" in line
        assert [name for name in contents(tmp_path / jobs) if not name.startswith(".")] == ["plan.json"]
    rendering.render(tiny, "train", tmp_path / "1", jobs=1, progress=False)
    assert contents(tmp_path / "1") == contents(tiny_train_dir)


def test_a_file_system_that_writes_only_through_the_page_cache_gives_the_same_bytes(
    tiny, tiny_train_dir, tmp_path, monkeypatch
):
    real, refused = os.write, []

    def write(file, data):
        if fcntl.fcntl(file, fcntl.F_GETFL) & os.O_DIRECT:
            refused.append(file)
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return real(file, data)

    monkeypatch.setattr(os, "write", write)
    rendering.render(tiny, "train", tmp_path / "out", jobs=1, progress=False)
    assert len(refused) > 0 and contents(tmp_path / "out") == contents(tiny_train_dir)


def test_a_pair_that_is_no_whole_number_of_pages_is_written_all_the_same(tiny, tmp_path):
    odd = dataclasses.replace(tiny, stft=dataclasses.replace(tiny.stft, hop_length=509))
    data = rendering.render(odd, "train", tmp_path / "out", jobs=1, progress=False)
    assert data[0].shape == (2, 32 * 509)
    assert np.array_equal(data[21], rendering.render_pair(odd, "train", 21, SPEECH["train"])[0])


def test_a_changed_shard_is_named(tiny, tmp_path):
    rendering.render(tiny, "valid", tmp_path, jobs=1, progress=False)
    path = tmp_path / "shard-00001.npy"
    data = bytearray(path.read_bytes())
    data[-100] ^= 1
    path.write_bytes(data)
    rendering.load(tmp_path)
    with pytest.raises(store.DamagedFile, match="shard-00001.npy has changed"):
        rendering.load(tmp_path, verify=True)
    path.write_bytes(data[:-1])
    with pytest.raises(store.DamagedFile, match=f"shard-00001.npy holds {len(data) - 1} bytes, not {len(data)}"):
        rendering.load(tmp_path)
    path.unlink()
    with pytest.raises(store.DamagedFile, match="shard-00001.npy is missing"):
        rendering.load(tmp_path)


def test_a_damaged_manifest_is_named_and_written_again(tiny, tmp_path):
    rendering.render(tiny, "valid", tmp_path, jobs=1, progress=False)
    whole = contents(tmp_path)
    for damaged, reason in ((b"{", "cannot be read"), (b"{}", "lacks fingerprint"), (b"[]", "lacks fingerprint")):
        (tmp_path / "manifest.json").write_bytes(damaged)
        with pytest.raises(store.DamagedFile, match=f"manifest.json {reason}"):
            rendering.load(tmp_path)
        rendering.render(tiny, "valid", tmp_path, jobs=1, progress=False)
        assert contents(tmp_path) == whole


def test_a_changed_choice_is_rendered_anew_and_old_shards_go(tiny, tmp_path):
    rendering.render(tiny, "valid", tmp_path / "a", jobs=1, progress=False)
    for change in ({"seed": 1}, {"n_valid": 3}, {"peak_dbfs": -6.0}, {"effects": ("mda:Delay",)}):
        preset = with_render(tiny, **change)
        rendering.render(preset, "valid", tmp_path / "a", jobs=1, progress=False)
        fresh = tmp_path / str(change)
        rendering.render(preset, "valid", fresh, jobs=1, progress=False)
        assert contents(tmp_path / "a") == contents(fresh)


def test_an_old_manifest_never_speaks_of_new_shards(tiny, tmp_path, monkeypatch):
    rendering.render(tiny, "valid", tmp_path, jobs=1, progress=False)

    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(shard_writing, "finish", interrupt)  # all shards are new, and have the sizes of the old ones
    with pytest.raises(KeyboardInterrupt):
        rendering.render(with_render(tiny, seed=1), "valid", tmp_path, jobs=1, progress=False)
    with pytest.raises(store.DamagedFile, match="manifest.json is missing"):
        rendering.load(tmp_path)


def test_changed_speech_is_rendered_anew(tiny, sines, tmp_path):
    one = rendering.render(tiny, "valid", tmp_path / "out", speech=sines, jobs=1, progress=False)
    soundfile.write(sines[0].path, np.random.default_rng(0).uniform(-0.5, 0.5, 9600), 24_000)
    changed = corpora.load(f"folder:{tmp_path / 'sines'}")
    other = rendering.render(tiny, "valid", tmp_path / "out", speech=changed, jobs=1, progress=False)
    assert one.fingerprint != other.fingerprint


def test_a_pair_depends_on_seed_and_index_alone(tiny, tiny_train):
    backwards = [rendering.render_pair(tiny, "train", i, SPEECH["train"]) for i in reversed(range(len(tiny_train)))]
    for (pair, row), i in zip(backwards, reversed(range(len(tiny_train))), strict=True):
        assert pair.tobytes() == tiny_train[i].tobytes() and row == tiny_train.rows[i]
    other = with_render(tiny, n_train=1, shard_pairs=1, n_test=3)
    assert rendering.render_pair(other, "train", 5, SPEECH["train"])[0].tobytes() == tiny_train[5].tobytes()
    for preset, subset in ((with_render(tiny, seed=1), "train"), (tiny, "dummy_train")):
        assert rendering.render_pair(preset, subset, 5, SPEECH["train"])[1]["offset"] != tiny_train.rows[5]["offset"]


def test_wet_is_the_effect_of_dry_at_the_settings_of_its_row(tiny_train):
    for pair, row in zip(tiny_train, tiny_train.rows, strict=True):
        wet = effects.load(row["effect"]).render(pair[0], row["settings"], 24_000).mean(axis=0)
        np.testing.assert_allclose(pair[1], wet * PEAK / np.abs(wet).max(), atol=1e-7)


def test_dry_is_the_stretch_of_speech_that_its_row_names(tiny):
    by_id = {u.utterance_id: u for u in SPEECH["test"]}
    for index in range(6):
        pair, row = rendering.render_pair(tiny, "test", index, SPEECH["test"])
        joined = np.concatenate([audio.load(by_id[name].path)[0][0] for name in row["utterances"]])
        stretch = joined[row["offset"] : row["offset"] + tiny.stft.num_samples]
        np.testing.assert_allclose(pair[0], stretch * PEAK / np.abs(stretch).max(), atol=1e-7)
        assert row["speed"] == 1


def test_tape_speed_moves_the_pitch_of_training_clips_only(tiny, sines):
    high = [u for u in sines if u.speaker == "high"]
    one_sine = [dataclasses.replace(high[3], speaker="high")] * 8
    speeds = []
    for index in range(10):
        for subset in ("train", "valid"):
            pair, row = rendering.render_pair(tiny, subset, index, one_sine)
            spectrum = np.abs(np.fft.rfft(pair[0] * np.hanning(len(pair[0])), 2**18))
            assert spectrum.argmax() * 24_000 / 2**18 == pytest.approx(900 * row["speed"], rel=0.005)
            assert row["speed"] == 1 or subset == "train"
        assert 0.85 <= rendering.render_pair(tiny, "train", index, one_sine)[1]["speed"] <= 1.15
        speeds.append(rendering.render_pair(tiny, "train", index, one_sine)[1]["speed"])
    assert max(speeds) - min(speeds) > 0.1


def test_training_clips_of_pieces_are_what_their_rows_say_and_others_are_as_spoken(tiny):
    by_id = {u.utterance_id: u for u in SPEECH["train"]}
    preset = with_render(tiny, pieces_s=(0.3, 0.6))
    for index in range(6):
        pair, row = rendering.render_pair(preset, "train", index, SPEECH["train"])
        starts = [piece["start"] for piece in row["pieces"]] + [len(pair[0])]
        lengths = np.diff(starts) / 24_000
        assert len(lengths) > 1 and np.all(lengths <= 0.6) and np.all(lengths[:-1] >= 0.3 - dry_clips.FADE_S - 1e-4)
        levels = []
        for piece, end in zip(row["pieces"], starts[1:]):
            if end - piece["start"] < 2_000:  # the end of the clip has cut it
                continue
            joined = np.concatenate([audio.load(by_id[name].path)[0][0] for name in piece["utterances"]])
            heard = pair[0][piece["start"] + 300 : end - 300]  # what no other piece is faded into
            spoken = soxr.resample(joined[piece["offset"] :][:24_000], 24_000 * piece["speed"], 24_000)
            spoken = spoken[300 : 300 + len(heard)]
            assert np.corrcoef(heard, spoken)[0, 1] > 0.99 or np.abs(spoken).max() < 1e-3
            levels.append(np.linalg.norm(heard) / np.linalg.norm(spoken))
        assert {row["speaker"]} == {by_id[name].speaker for piece in row["pieces"] for name in piece["utterances"]}
        np.testing.assert_allclose(levels, levels[0], rtol=0.05)
    plain, row = rendering.render_pair(tiny, "test", 0, SPEECH["test"])
    same, same_row = rendering.render_pair(preset, "test", 0, SPEECH["test"])
    assert plain.tobytes() == same.tobytes() and row == same_row and "pieces" not in row


def test_a_steady_tone_in_pieces_has_no_gap_and_no_bump_and_each_piece_a_speed_of_its_own(sines):
    low = [u for u in sines if u.speaker == "low"]
    rng = np.random.default_rng(0)
    clip, pieces = dry_clips.draw_pieces(rng, low, (1, 48_000), 24_000, lengths_s=(0.1, 0.3), fastest=0.1)
    loudness = np.sqrt(np.square(clip[0].reshape(-1, 800)).mean(axis=1))  # of 33 ms: tones out of phase cancel for less
    assert len(pieces) > 6 and 0.5 < loudness.min() / np.median(loudness) and loudness.max() / np.median(loudness) < 1.1
    assert len({piece["speed"] for piece in pieces}) == len(pieces)


@pytest.mark.parametrize("pieces_s", [(0.01, 0.5), (0.5, 0.3)])
def test_pieces_of_an_impossible_length_are_refused(tiny, sines, pieces_s):
    with pytest.raises(ValueError, match=r"pieces_s \(.*\): the first must be above 0.02 and no more than the second"):
        rendering.render_pair(with_render(tiny, pieces_s=pieces_s), "train", 0, sines)


def test_clips_longer_than_a_sentence_join_sentences_of_one_speaker(tiny, sines):
    heard = set()
    for index in range(10):
        pair, row = rendering.render_pair(tiny, "valid", index, sines)
        spectrum = np.abs(np.fft.rfft(pair[0])) ** 2
        hz = np.fft.rfftfreq(len(pair[0]), 1 / 24_000)
        low, high = (spectrum[np.abs(hz - f) < 60].sum() / spectrum.sum() for f in (300, 900))
        assert max(low, high) > 0.9 and (low > high) == (row["speaker"] == "low")
        assert len(row["utterances"]) > 1 and all(name.startswith(row["speaker"]) for name in row["utterances"])
        assert len(set(row["utterances"][:4])) == min(4, len(row["utterances"]))  # none twice before all were heard
        heard.add(row["speaker"])
    assert heard == {"low", "high"}


def test_a_speaker_with_one_short_sentence_repeats_it(tiny, sines):
    _, row = rendering.render_pair(tiny, "valid", 0, [u for u in sines if u.utterance_id == "low/0.wav"])
    assert set(row["utterances"]) == {"low/0.wav"} and len(row["utterances"]) > 2


def test_a_corpus_at_another_rate_keeps_its_pitch(tiny, tmp_path):
    (tmp_path / "a").mkdir()
    y = 0.5 * np.sin(2 * np.pi * 1000 / 44_100 * np.arange(88_200))
    soundfile.write(tmp_path / "a" / "stereo.wav", np.stack([y, y], axis=1), 44_100)
    pair, _ = rendering.render_pair(tiny, "valid", 0, corpora.load(f"folder:{tmp_path}"))
    spectrum = np.abs(np.fft.rfft(pair[0][:24_000], 24_000))
    assert spectrum.argmax() == pytest.approx(1000, abs=2)


@pytest.mark.parametrize("subset", config.SUBSETS)
def test_speakers_of_a_subset_are_seen_or_unseen_never_both(tiny, subset, tmp_path):
    dataset = rendering.render(tiny, subset, tmp_path, jobs=1, progress=False)
    unseen = {u.speaker for u in SPEECH["valid"]}
    assert len(unseen) == 4 and len(dataset) == getattr(tiny.render, f"n_{subset}")
    if subset in ("train", "dummy_train"):
        assert not unseen & set(dataset.speakers)
    else:
        assert set(dataset.speakers) <= unseen
        numbers = {name.rsplit("_", 1)[1] for row in dataset.rows for name in row["utterances"]}
        assert all((number <= "005") == (subset == "valid") for number in numbers)
    assert dataset.effect_names.tolist() == [tiny.render.effects[i % 2] for i in range(len(dataset))]


def test_dry_and_wet_peak_at_minus_12_dbfs(tiny_train):
    for pair in tiny_train:
        np.testing.assert_allclose(np.abs(pair).max(axis=1), PEAK, rtol=1e-6)


def test_dummy_settings_are_all_one_half_and_others_fill_the_range(tiny):
    dummy = [rendering.render_pair(tiny, "dummy_test", i, SPEECH["test"])[1]["settings"] for i in range(4)]
    assert dummy == [[0.5] * 3, [0.5] * 6] * 2
    drawn = np.concatenate([rendering.render_pair(tiny, "train", i, SPEECH["train"])[1]["settings"] for i in range(60)])
    assert drawn.min() < 0.05 and drawn.max() > 0.95 and abs(drawn.mean() - 0.5) < 0.06 and len(set(drawn)) == 270


@pytest.mark.parametrize(
    ("reason", "result"),
    [
        ("silent", lambda y: y * 0),
        ("silent", lambda y: y * np.float32(0.01)),
        ("nonfinite", lambda y: y * np.float32(np.nan)),
        ("nonfinite", lambda y: np.where(np.arange(y.shape[1]) == 9, np.float32(np.inf), y)),
        ("unchanged", lambda y: y.copy()),
        ("unchanged", lambda y: y * np.float32(0.5)),
        ("unchanged", lambda y: np.stack([y[0], y[0] + np.float32(1e-4)])),
    ],
)
def test_useless_results_are_drawn_again_and_counted(tiny, tmp_path, use_effect, reason, result):
    preset = with_render(tiny, effects=("test:Effect",), n_train=10)
    use_effect(lambda y, x: np.tanh(9 * y) * (x + 1))
    plain = rendering.render(preset, "train", tmp_path / "plain", jobs=1, progress=False)
    use_effect(lambda y, x: result(y) if x < 0.4 else np.tanh(9 * y) * (x + 1))
    dataset = rendering.render(preset, "train", tmp_path / "redrawn", jobs=1, progress=False)
    assert min(s[0] for s in dataset.settings) >= 0.4 > min(s[0] for s in plain.settings)
    for i, row in enumerate(dataset.rows):
        assert (row["redraws"][reason] > plain.rows[i]["redraws"][reason]) == (plain.settings[i][0] < 0.4)
        assert plain.settings[i][0] < 0.4 or dataset[i].tobytes() == plain[i].tobytes()
        assert np.isfinite(dataset[i]).all() and not audio.is_silent(dataset[i][1])
        assert np.abs(dataset[i][1] - dataset[i][0]).max() > 0.01
    totals = json.loads((tmp_path / "redrawn" / "manifest.json").read_text())["redraws"]
    assert totals == {key: sum(row["redraws"][key] for row in dataset.rows) for key in totals}


def test_pauses_are_drawn_again(tiny, tmp_path):
    (tmp_path / "a").mkdir()
    y = np.zeros(96_000)
    y[:12_000] = 0.5 * np.sin(np.arange(12_000) / 9)
    soundfile.write(tmp_path / "a" / "pause.wav", y, 24_000)
    speech = corpora.load(f"folder:{tmp_path}")
    made = [rendering.render_pair(tiny, "valid", i, speech) for i in range(8)]
    assert sum(row["redraws"]["silent"] for _, row in made) > 0
    assert not any(audio.is_silent(channel) for pair, _ in made for channel in pair)


def test_an_effect_that_gives_nothing_is_given_up_by_name(tiny, use_effect):
    use_effect(lambda y, x: y * 0)
    with pytest.raises(ValueError, match="test:Effect gave no usable pair 3 of 'dummy_test' in 100 draws: 100 silent"):
        rendering.render_pair(tiny, "dummy_test", 3, SPEECH["test"])


def test_unusable_requests_are_refused(tiny, tmp_path):
    with pytest.raises(ValueError, match="unknown subset 'tset': known are train, valid"):
        rendering.render(tiny, "tset", tmp_path)
    with pytest.raises(ValueError, match="unknown effect 'mda:Nope'"):
        rendering.render(with_render(tiny, effects=("mda:Nope",)), "test", tmp_path, jobs=1)
    with pytest.raises(ValueError, match="n_test of preset 'tiny' is 0"):
        rendering.render(with_render(tiny, n_test=0), "test", tmp_path)
    with pytest.raises(ValueError, match="no utterances for subset 'train'"):
        rendering.render(tiny, "train", tmp_path, speech=[], jobs=1)
    with pytest.raises(store.DamagedFile, match="no finished pairs"):
        rendering.load(tmp_path)


def test_a_damaged_utterance_is_named(tiny, sines, tmp_path):
    for utterance in sines:
        utterance.path.write_bytes(utterance.path.read_bytes()[:-1000])
    with pytest.raises(ValueError, match=r"100 unreadable \(.*sines/.*\.wav is cut short"):
        rendering.render(tiny, "test", tmp_path / "out", speech=sines, jobs=1)


def test_a_damaged_utterance_costs_its_draws_and_is_named(tiny, sines, tmp_path):
    bad = sines[1].path
    bad.write_bytes(bad.read_bytes()[:-1000])
    data = rendering.render(with_render(tiny, n_test=40), "test", tmp_path / "out", speech=sines, jobs=1)
    assert len(data) == 40 and all(sines[1].utterance_id not in row["utterances"] for row in data.rows)
    assert len(data.quarantine) == sum(row["redraws"]["unreadable"] for row in data.rows) > 0
    assert {failure["speaker"] for failure in data.quarantine} == {sines[1].speaker}
    assert all(f"{bad} is cut short" in failure["reason"] for failure in data.quarantine)


def test_among_41_kinds_of_bad_files_every_good_one_is_rendered_and_each_bad_one_listed(tiny, tmp_path):
    for number, name in enumerate(GOOD):
        write(tmp_path / name, seed=number)
    unreadable = {name: content for name, (content, _) in BAD.items() if name != "locked.wav"}  # root may read that one
    for number, (name, content) in enumerate(unreadable.items()):
        path = tmp_path / ("ann", "bob")[number % 2] / name
        content(path) if callable(content) else path.write_bytes(content)
    rendered, listed = set(), []
    for subset in ("train", "valid", "test"):
        preset = with_render(tiny, corpus=f"folder:{tmp_path}", **{f"n_{subset}": 12})
        data = rendering.render(preset, subset, tmp_path / "out" / subset, jobs=1, progress=False)
        assert len(data) == 12 and data.quarantine == []
        rendered |= {name for row in data.rows for name in row["utterances"]}
        listed.append(json.loads((data.folder / "manifest.json").read_text())["damaged_recordings"])
    assert rendered == set(GOOD)
    assert sorted(name.split("/")[1] for name in listed[0]) == sorted(unreadable) and len(unreadable) == 41
    assert listed[0] == listed[1] == listed[2] and all(listed[0].values())


def test_a_stereo_render_keeps_both_sides(tiny, tmp_path):
    t = np.arange(24_000) / 24_000
    (tmp_path / "in" / "a").mkdir(parents=True)
    sides = np.stack([np.sin(2 * np.pi * 300 * t), 0.5 * np.sin(2 * np.pi * 900 * t)], axis=1)
    soundfile.write(tmp_path / "in" / "a" / "x.wav", 0.5 * sides, 24_000)
    preset = with_render(tiny, channels=2, n_test=6)
    speech = corpora.load(f"folder:{tmp_path / 'in'}")
    data = rendering.render(preset, "test", tmp_path / "out", speech=speech, jobs=1, progress=False)
    for pair, row in zip(data, data.rows, strict=True):
        assert pair.shape == (2, 2, tiny.stft.num_samples)
        wet = effects.load(row["effect"]).render(pair[0], row["settings"], 24_000)
        np.testing.assert_allclose(pair[1], audio.peak_level(wet), atol=1e-6)
        assert [np.argmax(np.abs(np.fft.rfft(side))) / side.size * 24_000 for side in pair[0]] == pytest.approx(
            [300, 900], abs=3
        )
    mono = rendering.render(with_render(preset, channels=1), "test", tmp_path / "mono", speech=speech, jobs=1)
    assert mono[0].shape == (2, tiny.stft.num_samples)


def test_of_a_long_recording_only_the_clip_is_read(tiny, tmp_path, monkeypatch):
    (tmp_path / "long" / "song").mkdir(parents=True)
    t = np.arange(40 * 44_100) / 44_100
    sweep = 0.5 * np.sin(2 * np.pi * (200 + 50 * t) * t)  # instantaneous frequency 200 + 100 t: a clip tells its place
    soundfile.write(tmp_path / "long" / "song" / "sweep.flac", sweep, 44_100)
    speech = corpora.load(f"folder:{tmp_path / 'long'}")
    monkeypatch.setattr(audio, "load", None)
    for index in range(6):
        (dry, _), row = rendering.render_pair(tiny, "test", index, speech)
        middle_s = (row["offset"] + dry.size / 2) / 24_000
        power = np.square(np.abs(np.fft.rfft(dry)))
        hz = np.sum(power * np.fft.rfftfreq(dry.size, 1 / 24_000)) / power.sum()
        assert hz == pytest.approx(200 + 100 * middle_s, abs=15)
        assert row["utterances"] == ["song/sweep.flac"]


def test_a_stretch_is_that_part_of_the_whole(tmp_path):
    rng = np.random.default_rng(0)
    soundfile.write(tmp_path / "x.wav", rng.uniform(-0.5, 0.5, (3 * 44_100, 2)), 44_100)
    whole = audio.load(tmp_path / "x.wav", sample_rate_hz=24_000)[0]
    for start, samples in ((0, 100), (1, 24_000), (30_000, 20_000), (71_000, 1_000)):
        stretch = audio.load_stretch(tmp_path / "x.wav", start, samples, sample_rate_hz=24_000)
        assert stretch.shape == (2, samples)
        assert np.abs(stretch - whole[:, start : start + samples]).max() < 1e-4
    with pytest.raises(audio.AudioError, match="x.wav is cut short: it ends before sample 72500 at 24000 Hz"):
        audio.load_stretch(tmp_path / "x.wav", 72_000, 500, sample_rate_hz=24_000)


def test_a_render_at_another_rate_says_so_and_renders_at_it(tiny, sines, tmp_path):
    preset = dataclasses.replace(tiny, stft=dataclasses.replace(tiny.stft, sample_rate_hz=44_100))
    data = rendering.render(preset, "test", tmp_path / "out", speech=sines, jobs=1, progress=False)
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["sample_rate_hz"] == data.sample_rate_hz == 44_100 == data.rows[0]["sample_rate_hz"]
    for pair, row in zip(data, data.rows, strict=True):
        wet = audio.to_mono(effects.load(row["effect"]).render(pair[0], row["settings"], 44_100))
        np.testing.assert_allclose(pair[1], audio.peak_level(wet), atol=1e-6)


def test_a_dataset_reads_like_a_list(tiny_train):
    assert len(list(tiny_train)) == len(tiny_train) == 22
    together = np.concatenate(tiny_train.audio)
    for i in (0, 3, 4, 21, -1, np.int64(-22)):
        np.testing.assert_array_equal(tiny_train[i], together[i])
    for i in (22, -23):
        with pytest.raises(IndexError, match=f"pair {i}: there are 22"):
            tiny_train[i]
    assert all(isinstance(shard, np.memmap) and shard.dtype == np.float32 for shard in tiny_train.audio)
    assert [len(s) for s in tiny_train.settings] == [3, 6] * 11


def test_shards_load_with_numpy_alone_and_match_their_sha256(tiny_train_dir, tiny_train):
    manifest = json.loads((tiny_train_dir / "manifest.json").read_text())
    for number, entry in enumerate(manifest["shards"]):
        assert store.sha256(tiny_train_dir / entry["file"]) == entry["sha256"]
        np.testing.assert_array_equal(np.load(tiny_train_dir / entry["file"]), tiny_train.audio[number])
        rows_path = (tiny_train_dir / entry["file"]).with_suffix(".json")
        assert store.sha256(rows_path) == entry["rows_sha256"]
        assert len(json.loads(rows_path.read_text())["rows"]) == entry["pairs"]
    assert {"numpy", "numba", "soxr", "soundfile"} <= set(manifest["versions"])
    assert sum(entry["pairs"] for entry in manifest["shards"]) == 22 and "rows" not in manifest
    assert shards.MANIFEST == "manifest.json"


def test_progress_without_a_terminal_is_plain_lines(capsys, monkeypatch):
    ticks = iter(range(0, 1000, 3))
    monkeypatch.setenv("VAEFX_HEADLESS", "1")  # other tests start kernels
    clock = SimpleNamespace(monotonic=lambda: next(ticks), sleep=time.sleep)  # not for the threads of other modules
    monkeypatch.setattr(rendering, "time", clock)
    results = [{"file": str(i), "pairs": 500} for i in range(4)]
    assert list(rendering._follow(iter(results), "train", 3000, 1000, True)) == results
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["train: 2,000 of 3,000 pairs after 6 s", "train: 3,000 of 3,000 pairs after 12 s"]
    assert list(rendering._follow(iter(results), "train", 3000, 1000, False)) == results
    assert capsys.readouterr().err == ""
