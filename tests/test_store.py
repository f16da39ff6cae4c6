"""Stored files: whole or absent whatever interrupts a write, and kept arrays only for what they were computed from."""

import hashlib
import itertools
import stat
import subprocess
import sys
import threading

import numpy as np
import pytest
from safetensors.numpy import load_file

from vaefx_lib import store

FULL_DISK = """
import resource, sys
from pathlib import Path
import numpy as np
from vaefx_lib import store

def atomic(path):
    with store.atomic(path) as temporary:
        temporary.write_bytes(bytes(20_000))

def write_json(path):
    store.write_json(path, list(range(20_000)))

def cached(path):
    store.cached(path, "key", lambda: {"a": np.zeros(20_000)})

resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
for write in (atomic, write_json, cached):
    try:
        write(Path(sys.argv[1], write.__name__))
    except OSError as error:
        print(error)
"""


def test_what_another_process_holds_is_waited_for_and_given_back_by_one_that_is_killed(tmp_path):
    path = tmp_path / "new" / ".lock"
    holds = f"from vaefx_lib import store\nwith store.alone({str(path)!r}):\n    print(flush=True)\n    input()"
    with subprocess.Popen([sys.executable, "-c", holds], stdin=-1, stdout=-1, stderr=subprocess.DEVNULL) as other:
        other.stdout.readline()
        held = threading.Event()

        def hold():
            with store.alone(path):
                held.set()

        waiting = threading.Thread(target=hold)
        waiting.start()
        assert not held.wait(0.3)
        other.kill()
        waiting.join()
    assert held.is_set()


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "new" / "folder" / "a.txt"
    with store.atomic(path) as temporary:
        temporary.write_text("half")
        assert temporary.parent == path.parent  # a rename within one file system
        assert temporary.suffix == path.suffix
        assert not path.exists()
        temporary.write_text("whole")
    assert path.read_text() == "whole"
    assert list(path.parent.iterdir()) == [path]
    assert stat.S_IMODE(path.stat().st_mode) == 0o644  # others may read it, unlike temporary files


@pytest.mark.parametrize("error", [ValueError("no"), OSError(5, "bad disk"), OSError("no"), KeyboardInterrupt()])
@pytest.mark.parametrize("old", [None, "old"])
def test_an_error_leaves_what_was_there_and_nothing_else(tmp_path, error, old):
    path = tmp_path / "a.txt"
    if old:
        path.write_text(old)
    with pytest.raises(type(error)), store.atomic(path) as temporary:
        temporary.write_text("half")
        raise error
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == ([("a.txt", "old")] if old else [])


def test_a_failed_write_names_the_file_that_was_wanted(tmp_path):
    path = tmp_path / "a.txt"
    with pytest.raises(OSError, match=rf"could not write {path}: No space left on device") as caught:
        with store.atomic(path):
            raise OSError(28, "No space left on device")
    assert caught.value.errno == 28


def test_a_full_disk_is_an_os_error_that_names_the_file_and_leaves_nothing(tmp_path):
    done = subprocess.run([sys.executable, "-c", FULL_DISK, tmp_path], capture_output=True, text=True, check=True)
    names = ("atomic", "write_json", "cached")
    assert done.stdout.splitlines() == [
        f"[Errno 27] could not write {tmp_path / name}: File too large" for name in names
    ]
    assert list(tmp_path.iterdir()) == []


def test_json_survives_and_nan_is_not_json(tmp_path):
    path = tmp_path / "a.json"
    value = {"text": "é", "number": 0.1, "list": [1, None, True]}
    store.write_json(path, value)
    assert store.read_json(path) == value
    with pytest.raises(ValueError):
        store.write_json(path, {"number": float("nan")})
    assert store.read_json(path) == value


@pytest.mark.parametrize("content", [None, b"", b'{"a": [1, 2', b"\xff\xfe\x00"])
def test_json_that_is_missing_or_cut_is_a_damaged_file_with_a_name(tmp_path, content):
    path = tmp_path / "a.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(store.DamagedFile, match=str(path)):
        store.read_json(path)


def test_sha256_is_the_standard_one(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert (
        store.sha256(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )  # FIPS 180-2
    big = np.random.default_rng(0).bytes(300_000)
    (tmp_path / "big").write_bytes(big)
    assert store.sha256(tmp_path / "big") == hashlib.sha256(big).hexdigest()


def test_fingerprints_of_different_things_differ(tmp_path):
    (tmp_path / "a").write_text("a")
    (tmp_path / "b").write_text("b")
    things = [
        (),
        ("ab", "c"),
        ("a", "bc"),
        ("abc",),
        (1,),
        ("1",),
        (1.5,),
        ([1, 2],),
        (1, 2),
        (12,),
        (None,),
        ({"a": 1, "b": 2},),
        ({"a": 2, "b": 1},),
        (np.zeros(4),),
        (np.zeros(4, np.float32),),
        (np.zeros(8, np.float32),),  # as many bytes as four of float64
        (np.zeros((2, 2)),),
        (np.zeros((4, 1)),),
        (np.ones(4),),
        (np.zeros(4, np.int64),),  # the same bytes as zeros of float64
        (tmp_path / "a",),
        (tmp_path / "b",),
        (str(tmp_path / "a"),),
    ]
    marks = [store.fingerprint(*thing) for thing in things]
    same = [(a, b) for (a, x), (b, y) in itertools.combinations(zip(things, marks, strict=True), 2) if x == y]
    assert same == []


def test_of_a_source_file_the_code_counts_and_not_what_it_says_of_itself(tmp_path):
    code = tmp_path / "code.py"
    texts = [
        'def f(x):\n    """Twice."""\n    return 2 * x\n',
        '"""A module."""\n\n\ndef f(x):\n    """Two times."""  # a comment\n\n    return 2*x\n',
        "def f(x):\n    return 2 * x\n",
        'def f(x):\n    """Twice."""\n    return 3 * x\n',
        'def f(x):\n    "Twice."\n',
        "def f(x):\n    pass\n",
    ]
    marks = []
    for text in texts:
        code.write_text(text)
        marks.append(store.fingerprint(code))
    assert marks[0] == marks[1] == marks[2] != marks[3]
    assert marks[4] == marks[5]


def test_fingerprints_of_equal_things_are_equal(tmp_path):
    a = np.arange(12.0).reshape(3, 4)
    assert store.fingerprint(a) == store.fingerprint(a.copy()) == store.fingerprint(np.asfortranarray(a))
    assert store.fingerprint(a.T) == store.fingerprint(np.ascontiguousarray(a.T)) != store.fingerprint(a)
    assert store.fingerprint({"a": 1, "b": 2}) == store.fingerprint({"b": 2, "a": 1})
    (tmp_path / "a").write_text("same")
    (tmp_path / "b").write_text("same")  # of a path its content counts, so a project may be moved
    assert store.fingerprint(tmp_path / "a") == store.fingerprint(tmp_path / "b")


@pytest.fixture
def counted():
    """A computation that counts its calls in `counted.calls`."""

    def compute():
        compute.calls += 1
        rng = np.random.default_rng(0)
        return {
            "b": np.float32(3.0),  # no axis at all
            "a": rng.normal(size=(6, 8)).T,  # not contiguous
            "c": np.arange(5),
        }

    compute.calls = 0
    return compute


def same(one, other):
    def exact(array):
        return array.dtype, array.shape, array.tolist()

    return {name: exact(array) for name, array in one.items()} == {name: exact(array) for name, array in other.items()}


def test_kept_arrays_are_computed_once_and_come_back_as_they_were(tmp_path, counted):
    path = tmp_path / "folder" / "a.safetensors"
    first = store.cached(path, "key", counted)
    written = path.stat().st_mtime_ns
    assert same(store.cached(path, "key", counted), first)
    assert same(first, counted())
    assert counted.calls == 2  # the second by the line above
    assert path.stat().st_mtime_ns == written


def test_kept_arrays_of_another_key_are_computed_again(tmp_path, counted):
    path = tmp_path / "a.safetensors"
    store.cached(path, "key", counted)
    store.cached(path, "other", counted)
    assert counted.calls == 2
    store.cached(path, "other", counted)
    assert counted.calls == 2


@pytest.mark.parametrize("damage", ["empty", "cut", "garbage", "first byte", "last byte", "middle byte"])
def test_damaged_kept_arrays_are_computed_again_and_repaired(tmp_path, counted, damage, capsys):
    path = tmp_path / "a.safetensors"
    whole = store.cached(path, "key", counted)
    data = bytearray(path.read_bytes())
    for name, place in {"first byte": 0, "last byte": -1, "middle byte": -200}.items():
        if damage == name:
            data[place] ^= 1
    path.write_bytes({"empty": b"", "cut": data[:-8], "garbage": b"no" * 50}.get(damage, data))
    assert same(store.cached(path, "key", counted), whole)
    assert counted.calls == 2
    assert str(path) in capsys.readouterr().out  # it says why it takes so long
    store.cached(path, "key", counted)
    assert counted.calls == 2


def test_written_arrays_come_back_whatever_their_layout_and_dimension(tmp_path):
    arrays = {"turned": np.arange(6.0).reshape(2, 3).T, "number": np.array(3.5), "none": np.zeros((0, 4), np.float16)}
    store.write_arrays(tmp_path / "new" / "a.safetensors", arrays)
    read = load_file(tmp_path / "new" / "a.safetensors")
    assert read.keys() == arrays.keys()
    for name, array in arrays.items():
        assert (read[name].shape, read[name].dtype) == (array.shape, array.dtype)
        assert np.array_equal(read[name], array)


def test_a_manifest_is_believed_only_beside_whole_files(tmp_path):
    file, path = tmp_path / "model.bin", tmp_path / "manifest.json"
    file.write_bytes(b"weights")

    def read():
        return store.read_manifest(path, ("seed", "sha256"), ["model.bin"], absent="nothing is trained")

    with pytest.raises(store.DamagedFile, match="^nothing is trained$"):
        read()
    for content in ([], {"seed": 1}):
        store.write_json(path, content)
        with pytest.raises(store.DamagedFile, match="manifest.json lacks some of seed, sha256: train again"):
            read()
    about = {"seed": 1, "sha256": {"model.bin": store.sha256(file)}}
    store.write_json(path, about)
    assert read() == about
    for damage in (lambda: file.write_bytes(b"weighty"), file.unlink):
        damage()
        with pytest.raises(store.DamagedFile, match="model.bin is missing or has changed since it was written"):
            read()


def test_a_failed_computation_keeps_nothing(tmp_path):
    def fail():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        store.cached(tmp_path / "a.safetensors", "key", fail)
    assert list(tmp_path.iterdir()) == []


# --- scratch ----------------------------------------------------------------------------------------------------------
def test_a_scratch_array_is_zeros_that_can_be_written_and_leaves_no_file(tmp_path):
    x = store.scratch(tmp_path / "new", (3, 4, 5), np.float16)
    assert x.shape == (3, 4, 5) and x.dtype == np.float16 and not x.any()
    x[1] = 2.5
    assert x.sum() == 50 and x.flags.writeable
    assert list((tmp_path / "new").iterdir()) == []


def test_a_scratch_array_counts_as_file_and_not_as_memory_of_the_process(tmp_path):
    code = (
        "import sys, numpy as np; from vaefx_lib import store\n"
        "def anonymous():\n"
        "    return next(int(l.split()[1]) for l in open('/proc/self/status') if l.startswith('RssAnon'))\n"
        "before = anonymous(); x = store.scratch(sys.argv[1], (200_000_000,), np.uint8); x[:] = 1\n"
        "print(anonymous() - before)"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 20_000  # kB, of 200,000


def test_a_scratch_array_without_room_is_an_error_and_no_killed_process(tmp_path):
    code = (
        "import resource, sys, numpy as np; from vaefx_lib import store\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))\n"
        "try: store.scratch(sys.argv[1], (20_000,), np.uint8)\n"
        "except OSError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True)
    assert "no room for 0 MB in" in done.stdout and "File too large" in done.stdout
