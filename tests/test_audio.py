"""Files come back as they were saved, and a bad one is refused in one sentence that names it."""

import errno
import io
import math
import os
import re
import time

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from vaefx_lib import audio, store

RATE = 24_000


def tone(samples=RATE, hz=440.0, rate=RATE, channels=1):
    """0.5 sin, one channel an octave above the other."""
    t = np.arange(samples) / rate
    return np.stack([0.5 * np.sin(2 * np.pi * hz * 2**c * t) for c in range(channels)]).astype(np.float32)


def refusal(call, *args, **options):
    """The message of the AudioError, which is one line."""
    with pytest.raises(audio.AudioError) as caught:
        call(*args, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("channels", [1, 2, 5])
@pytest.mark.parametrize("rate", [8_000, 24_000, 44_100])
def test_wav_comes_back_bit_for_bit(tmp_path, channels, rate):
    saved = 3 * tone(777, channels=channels)  # a float file holds any level
    audio.save(tmp_path / "a.wav", saved, rate)
    loaded, loaded_rate = audio.load(tmp_path / "a.wav")
    assert loaded_rate == rate and loaded.dtype == np.float32 and np.array_equal(loaded, saved)


def test_wav_is_read_alike_by_another_reader(tmp_path):
    audio.save(tmp_path / "a.wav", tone(channels=2), RATE)
    read, rate = soundfile.read(tmp_path / "a.wav", dtype="float32")
    assert rate == RATE and np.array_equal(read.T, tone(channels=2))
    assert soundfile.info(tmp_path / "a.wav").subtype == "FLOAT"


def test_flac_comes_back_within_16_bits(tmp_path):
    audio.save(tmp_path / "a.flac", tone(channels=2), RATE)
    assert np.abs(audio.load(tmp_path / "a.flac")[0] - tone(channels=2)).max() <= 2**-15


def test_the_same_audio_gives_the_same_file_at_another_time(tmp_path):
    for name in ("a.wav", "a.flac"):
        audio.save(tmp_path / name, tone(), RATE)
    time.sleep(1.1)  # a time in a header counts seconds
    for name in ("a.wav", "a.flac"):
        audio.save(tmp_path / "later" / name, tone(), RATE)
        assert (tmp_path / name).read_bytes() == (tmp_path / "later" / name).read_bytes()


def test_one_dimension_is_one_channel(tmp_path):
    audio.save(tmp_path / "a.wav", tone()[0], RATE)
    assert audio.load(tmp_path / "a.wav")[0].shape == (1, RATE)


@pytest.mark.parametrize("suffix", ["ogg", "mp3", "aiff"])
def test_other_formats_load_whole(tmp_path, suffix):
    soundfile.write(tmp_path / f"a.{suffix}", tone(channels=2).T, RATE)
    loaded, rate = audio.load(tmp_path / f"a.{suffix}")
    assert rate == RATE and loaded.shape == (2, RATE)
    assert np.abs(loaded[:, 2000:-2000] - tone(channels=2)[:, 2000:-2000]).max() < 0.05


@pytest.mark.parametrize(("suffix", "subtype"), [("wav", "PCM_16"), ("wav", "FLOAT"), ("flac", None), ("aiff", None)])
@pytest.mark.parametrize("kept", [0.999, 0.5, 0.1])
def test_a_file_that_was_cut_short_is_refused(tmp_path, suffix, subtype, kept):
    path = tmp_path / f"cut.{suffix}"
    rng = np.random.default_rng(0)
    soundfile.write(path, rng.uniform(-0.5, 0.5, (RATE, 2)), RATE, subtype=subtype)
    whole = path.read_bytes()
    assert audio.load(path)[0].shape == (2, RATE)
    path.write_bytes(whole[: int(kept * len(whole))])
    assert refusal(audio.load, path).startswith(f"{path} is ")


@pytest.mark.parametrize("suffix", ["ogg", "mp3"])
@pytest.mark.parametrize("lost", [3, 3_000, 20_000])
def test_a_compressed_file_that_was_cut_short_is_refused(tmp_path, suffix, lost):
    path = tmp_path / f"cut.{suffix}"
    soundfile.write(path, np.random.default_rng(0).uniform(-0.5, 0.5, (10 * RATE, 1)), RATE)
    path.write_bytes(path.read_bytes()[:-lost])
    assert refusal(audio.load, path).startswith(f"{path} is cut short: ")


def test_an_ogg_that_lacks_its_last_page_is_refused(tmp_path):
    soundfile.write(tmp_path / "a.ogg", np.random.default_rng(0).uniform(-0.5, 0.5, (10 * RATE, 1)), RATE)
    whole = (tmp_path / "a.ogg").read_bytes()
    (tmp_path / "a.ogg").write_bytes(whole[: whole.rfind(b"OggS")])
    assert refusal(audio.load, tmp_path / "a.ogg") == f"{tmp_path / 'a.ogg'} is cut short: it lacks its last page"


@pytest.mark.parametrize("place", [0.1, 0.5, 0.99])
def test_an_ogg_with_one_wrong_byte_is_refused(tmp_path, place):
    """The decoder passes over the page that it is in, without a word."""
    path = tmp_path / "a.ogg"
    soundfile.write(path, np.random.default_rng(0).uniform(-0.5, 0.5, (10 * RATE, 1)), RATE)
    data = bytearray(path.read_bytes())
    data[int(place * len(data))] ^= 1
    path.write_bytes(data)
    assert re.match(rf"{path} is damaged: the checksum of its page at byte \d+ is wrong$", refusal(audio.load, path))


def test_bytes_after_the_last_page_of_an_ogg_are_no_harm(tmp_path):
    soundfile.write(tmp_path / "a.ogg", tone()[0], RATE)
    with open(tmp_path / "a.ogg", "ab") as file:
        file.write(b"TAG" + bytes(125))
    assert audio.load(tmp_path / "a.ogg")[0].shape == (1, RATE)


def test_a_wav_whose_outer_size_is_wrong_loads_if_its_sound_is_whole(tmp_path):
    data = bytearray(audio.to_wav_bytes(tone(), RATE))
    data[4:8] = (len(data) + 500).to_bytes(4, "little")
    (tmp_path / "a.wav").write_bytes(data)
    assert audio.load(tmp_path / "a.wav")[0].shape == (1, RATE)


def test_bytes_after_the_sound_are_no_harm(tmp_path):
    """Programs append their own chunks to a wav file."""
    audio.save(tmp_path / "a.wav", tone(), RATE)
    with open(tmp_path / "a.wav", "ab") as file:
        file.write(b"LIST\x04\0\0\0abcd")
    assert np.array_equal(audio.load(tmp_path / "a.wav")[0], tone())


def test_a_wav_written_into_a_pipe_loads(tmp_path):
    """Its header says 0xFFFFFFFF bytes, for the writer did not know."""
    data = bytearray(audio.to_wav_bytes(tone(), RATE))
    data[4:8] = data[40:44] = b"\xff" * 4
    (tmp_path / "a.wav").write_bytes(data)
    assert audio.load(tmp_path / "a.wav")[0].shape == (1, RATE)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty: it holds 0 bytes"),
        (b"To be, or not to be", "is not audio, or is damaged: "),
        (b"RIFF\x24\0\0\0WAVE", "is not audio, or is damaged: "),
        (b"fLaC" + bytes(100), "is not audio, or is damaged: "),
        (bytes(5_000), "is not audio, or is damaged: "),
    ],
)
@pytest.mark.parametrize("suffix", ["wav", "flac", "mp3", "raw", ""])
def test_what_is_not_audio_is_refused(tmp_path, content, reason, suffix):
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(content)
    assert refusal(audio.load, path).startswith(f"{path} {reason}")


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    assert refusal(audio.load, tmp_path / "none.wav") == f"{tmp_path / 'none.wav'} does not exist"
    assert refusal(audio.load, tmp_path) == f"{tmp_path} is a folder, not a file"
    assert refusal(audio.load, str(tmp_path)) == f"{tmp_path} is a folder, not a file"


def test_links_are_followed_if_they_lead_to_a_file(tmp_path):
    audio.save(tmp_path / "a.wav", tone(), RATE)
    (tmp_path / "link.wav").symlink_to("a.wav")
    assert np.array_equal(audio.load(tmp_path / "link.wav")[0], tone())
    (tmp_path / "a.wav").unlink()
    message = refusal(audio.load, tmp_path / "link.wav")
    assert message == f"{tmp_path / 'link.wav'} is a link to a.wav, which does not exist"
    (tmp_path / "a.wav").symlink_to("link.wav")
    assert refusal(audio.load, tmp_path / "a.wav") == f"{tmp_path / 'a.wav'} is a link that leads back to itself"


def test_a_pipe_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "a.wav")  # to open it would wait for someone who writes
    assert refusal(audio.load, tmp_path / "a.wav") == f"{tmp_path / 'a.wav'} is a pipe, not a file"


def wav_with(offset, value):
    """A whole wav file but for a number of 4 bytes in its header."""
    data = bytearray(audio.to_wav_bytes(tone(), RATE))
    data[offset : offset + 4] = value.to_bytes(4, "little")
    return data


@pytest.mark.parametrize("rate", [1, 1_999, 768_001, 2_000_000_000])
def test_a_rate_at_which_there_is_no_sound_is_refused(tmp_path, rate):
    (tmp_path / "a.wav").write_bytes(wav_with(24, rate))
    message = f"{tmp_path / 'a.wav'} has a sample rate of {rate} Hz: it must be between 2000 and 768000 Hz"
    assert refusal(audio.load, tmp_path / "a.wav") == message


@pytest.mark.parametrize("rate", [2_000, 768_000])
def test_the_outermost_rates_load(tmp_path, rate):
    (tmp_path / "a.wav").write_bytes(wav_with(24, rate))
    assert audio.load(tmp_path / "a.wav")[1] == rate


@pytest.mark.parametrize("rate", [0, 2**32 - 1])
def test_an_impossible_rate_is_refused(tmp_path, rate):
    (tmp_path / "a.wav").write_bytes(wav_with(24, rate))
    assert refusal(audio.load, tmp_path / "a.wav").endswith(" its header states an impossible sample rate")


def test_more_than_64_channels_are_refused(tmp_path):
    sound = np.tile(tone(100)[0], (65, 1))
    audio.save(tmp_path / "64.wav", sound[:64], RATE)
    audio.save(tmp_path / "65.wav", sound, RATE)
    assert audio.load(tmp_path / "64.wav")[0].shape == (64, 100)
    assert refusal(audio.load, tmp_path / "65.wav") == f"{tmp_path / '65.wav'} has 65 channels: it must have at most 64"


def test_a_header_that_promises_more_than_fits_into_memory_is_refused(tmp_path):
    audio.save(tmp_path / "a.flac", tone(), RATE)
    data = bytearray((tmp_path / "a.flac").read_bytes())
    data[21] |= 0x0F
    data[22:26] = b"\xff" * 4  # with the above, 2**36 - 1 samples
    (tmp_path / "a.flac").write_bytes(data)
    message = f"{tmp_path / 'a.flac'} does not fit into memory: its header promises 68719476735 samples of 1 channels"
    assert refusal(audio.load, tmp_path / "a.flac") == message


@pytest.mark.parametrize(
    ("content", "nature"),
    [
        (b"<!DOCTYPE html><html>404 Not Found</html>", "a web page"),
        (b"  <HTML><head>", "a web page"),
        (b"PK\x03\x04 and so on", "a zip archive"),
        (b"version https://git-lfs.github.com/spec/v1\n", "text"),
    ],
)
def test_a_refusal_says_what_a_file_looks_like(tmp_path, content, nature):
    (tmp_path / "a.flac").write_bytes(content)
    assert refusal(audio.load, tmp_path / "a.flac").endswith(f": Format not recognised; it looks like {nature}")


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
def test_whatever_bytes_are_wrong_a_file_loads_or_is_refused(tmp_path, suffix):
    path, rng = tmp_path / f"a.{suffix}", np.random.default_rng(0)
    soundfile.write(path, rng.uniform(-0.5, 0.5, (5_000, 2)), RATE)
    whole, refused = path.read_bytes(), 0
    for _ in range(60):
        data = bytearray(whole)
        for place in rng.integers(0, rng.choice([60, len(data)]), 3):
            data[place] = rng.integers(256)
        path.write_bytes(data)
        try:
            audio.load(path)
        except audio.AudioError as error:
            assert str(error).startswith(f"{path} ") and "\n" not in str(error)
            refused += 1
    assert refused > 0


def test_zero_samples_are_refused(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros((0, 1)), RATE)
    assert refusal(audio.load, tmp_path / "a.wav") == f"{tmp_path / 'a.wav'} holds no sound: 0 samples"


@pytest.mark.parametrize("noise", [0, 1 / 32_768])
def test_a_silent_file_is_refused(tmp_path, noise):
    soundfile.write(tmp_path / "a.wav", noise * np.sign(np.random.default_rng(0).normal(size=1_000)), RATE)
    assert refusal(audio.load, tmp_path / "a.wav") == f"{tmp_path / 'a.wav'} is silent: no sample is above -80 dBFS"


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_file_with_non_finite_samples_is_refused(tmp_path, bad):
    sound = tone(500)[0]
    sound[123] = bad
    soundfile.write(tmp_path / "a.wav", sound, RATE, subtype="FLOAT")
    message = refusal(audio.load, tmp_path / "a.wav")
    assert message == f"{tmp_path / 'a.wav'} holds NaN or infinity, first at sample 123: all samples must be finite"


def test_load_resamples_when_asked(tmp_path):
    audio.save(tmp_path / "a.wav", tone(44_100, rate=44_100, channels=2), 44_100)
    loaded, rate = audio.load(tmp_path / "a.wav", sample_rate_hz=24_000)
    assert rate == 24_000 and loaded.shape == (2, 24_000)
    assert np.abs(loaded - tone(channels=2))[:, 500:-500].max() < 1e-3


# ---- saving


def test_an_unknown_suffix_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"a\.mp3 has the suffix '\.mp3': it must be \.wav or \.flac$"):
        audio.save(tmp_path / "a.mp3", tone(), RATE)
    assert not list(tmp_path.iterdir())


def test_clipping_is_refused_in_a_file_that_cannot_hold_it(tmp_path):
    message = refusal(audio.save, tmp_path / "a.flac", 4 * tone(), RATE)
    assert message == f"{tmp_path / 'a.flac'} would clip: the peak is 2, a .flac holds at most 1 (a .wav any level)"


@pytest.mark.parametrize("rate", [0, -24_000, 0.5, math.nan, math.inf])
def test_a_bad_rate_is_refused(tmp_path, rate):
    for call in (
        lambda: audio.save(tmp_path / "a.wav", tone(), rate),
        lambda: audio.resample(tone(), RATE, rate),
        lambda: audio.resample(tone(), rate, RATE),
    ):
        assert refusal(call) == f"the sample rate is {rate!r} Hz: it must be a positive whole number"


def test_no_space_left_names_the_file_and_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "a.wav"
    audio.save(path, tone(), RATE)
    before = path.read_bytes()

    def full(self, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(type(path), "write_bytes", full)
    with pytest.raises(OSError, match="a.wav: No space left on device"):
        audio.save(path, 0.1 * tone(), RATE)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_wav_bytes_are_a_wav_that_clips_at_1():
    read, rate = soundfile.read(io.BytesIO(audio.to_wav_bytes(4 * tone(channels=2), RATE)), dtype="float32")
    assert rate == RATE
    assert np.abs(read.T - np.clip(4 * tone(channels=2), -1, 1)).max() <= 2**-15


# ---- check and the small functions


def test_check_gives_float32_channels_by_samples():
    for given_audio in (tone(9), tone(9)[0], tone(9).astype(np.float64), tone(9).tolist()):
        checked = audio.check(given_audio)
        assert checked.shape == (1, 9) and checked.dtype == np.float32
        assert np.array_equal(checked, tone(9))


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (0.5, "the dry clip has 0 dimensions: it must be (samples,) or (channels, samples)"),
        (np.zeros((1, 2, 3)), "the dry clip has 3 dimensions: it must be (samples,) or (channels, samples)"),
        ([], "the dry clip of shape (0,) is empty: it must hold at least 4 samples"),
        (np.zeros(3), "the dry clip has 3 samples: it must hold at least 4"),
        (np.zeros((9, 3)), "the dry clip has 3 samples: it must hold at least 4"),
        (np.zeros(9, int), "the dry clip is of type int64: it must be floating-point numbers in about [-1, 1]"),
        (
            np.zeros(9, complex),
            "the dry clip is of type complex128: it must be floating-point numbers in about [-1, 1]",
        ),
        (np.full(9, 1e300), "the dry clip holds NaN or infinity, first at sample 0: all samples must be finite"),
        (
            np.array([[0, 0, 0, np.nan], [0, 0, np.inf, 0]]),
            "the dry clip holds NaN or infinity, first at sample 2: all samples must be finite",
        ),
    ],
)
def test_check_refuses_in_one_sentence(bad, reason):
    assert refusal(audio.check, bad, min_samples=4, name="the dry clip") == reason


def test_to_mono_is_the_mean_of_the_channels():
    assert np.allclose(audio.to_mono(tone(50, channels=2)), tone(50, channels=2).mean(axis=0))
    assert np.array_equal(audio.to_mono(tone(50)[0]), tone(50)[0])


@settings(max_examples=30, deadline=None)
@given(
    rates=st.tuples(*[st.sampled_from([8_000, 16_000, 22_050, 24_000, 44_100, 48_000])] * 2),
    samples=st.integers(2_000, 6_000),
    channels=st.integers(1, 2),
)
def test_resampled_tone_is_the_tone_at_the_other_rate(rates, samples, channels):
    orig_hz, target_hz = rates
    dry = tone(samples, rate=orig_hz, channels=channels)
    kept = dry.copy()
    resampled = audio.resample(dry, orig_hz, target_hz)
    assert np.array_equal(dry, kept)
    assert abs(resampled.shape[1] - samples * target_hz / orig_hz) <= 1
    expected = tone(resampled.shape[1], rate=target_hz, channels=channels)
    edge = resampled.shape[1] // 5
    assert np.abs(resampled - expected)[:, edge:-edge].max() < 5e-3


def test_resample_keeps_the_shape_it_was_given():
    assert audio.resample(tone()[0], RATE, 12_000).shape == (12_000,)
    assert audio.resample(tone(), RATE, 12_000).shape == (1, 12_000)
    assert np.array_equal(audio.resample(tone(), RATE, RATE), tone())


def test_silence_ends_at_minus_50_dbfs():
    assert audio.is_silent(np.zeros(100)) and audio.is_silent(np.full((2, 100), 3.1e-3))
    assert not audio.is_silent(np.full((2, 100), 3.2e-3))


@given(
    gain=st.floats(1e-4, 1e3),
    peak_dbfs=st.floats(-40, 6),
    shape=st.sampled_from([(50,), (1, 50), (2, 50)]),
)
def test_peak_level_sets_the_largest_sample_and_nothing_else(gain, peak_dbfs, shape):
    dry = (gain * np.random.default_rng(0).uniform(-1, 1, shape)).astype(np.float32)
    kept = dry.copy()
    levelled = audio.peak_level(dry, peak_dbfs)
    assert levelled.shape == shape and levelled.dtype == np.float32 and np.array_equal(dry, kept)
    assert 20 * np.log10(np.abs(levelled).max()) == pytest.approx(peak_dbfs, abs=1e-4)
    np.testing.assert_allclose(levelled / np.abs(levelled).max(), dry / np.abs(dry).max(), rtol=1e-5)


def test_silence_cannot_be_given_a_level():
    assert refusal(audio.peak_level, np.zeros(9)) == (
        "audio with a peak of 0 is silent: it must pass 1e-06 to be given a level"
    )


def test_an_audio_error_is_a_value_error_but_no_damaged_file():
    assert issubclass(audio.AudioError, ValueError) and not issubclass(audio.AudioError, store.DamagedFile)
