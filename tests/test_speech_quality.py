"""PESQ on real speech, and what is said where it cannot be had."""

import os
import sys

import numpy as np
import pytest

from vaefx_lib import audio, corpora
from vaefx_lib.audio import AudioError
from vaefx_lib.speech_quality import has_pesq, pesq

RATE_HZ = 24_000


@pytest.fixture(scope="module")
def speech():
    """A spoken sentence, where the package pesq is there to judge it."""
    if not has_pesq():
        say = pytest.fail if os.environ.get("VAEFX_REQUIRE_ALL") == "1" else pytest.skip
        say("the package pesq is not installed: pip install -e '.[pesq]' brings it, with a C compiler")
    path = corpora.SPEECH_DIR / "af_alloy" / "af_alloy_001.flac"
    return audio.peak_level(audio.load(path, sample_rate_hz=RATE_HZ)[0][0])


def test_speech_is_scored_worse_the_more_noise_is_on_it_between_4_64_and_1(speech):
    noise = np.random.default_rng(0).normal(size=len(speech)).astype(np.float32)
    scores = [pesq(speech, speech + level * noise, RATE_HZ) for level in (0, 1e-4, 1e-3, 1e-2, 0.1)]
    assert scores[0] == pytest.approx(4.644, abs=1e-3)  # the most that the mapping of P.862.2 gives
    assert (np.diff(scores) < 0).all()
    assert 1.0 < scores[-1] < 1.1


def test_a_gain_costs_no_quality_and_a_band_limit_does(speech):
    assert pesq(speech, 0.3 * speech, RATE_HZ) == pytest.approx(4.644, abs=1e-3)
    dull = audio.resample(audio.resample(speech, RATE_HZ, 4_000), 4_000, RATE_HZ)[: len(speech)]
    assert pesq(speech, dull, RATE_HZ) < 4


def test_the_true_sound_is_the_first(speech):
    quiet_half = np.where(np.arange(len(speech)) < len(speech) // 2, speech, 0)
    assert pesq(speech, quiet_half, RATE_HZ) != pytest.approx(pesq(quiet_half, speech, RATE_HZ), abs=0.01)


def test_a_sound_too_short_to_judge_is_refused(speech):
    with pytest.raises(AudioError, match="the true sound has 5999 samples: it must hold at least 6000"):
        pesq(speech[8_000:13_999], speech[8_000:13_999], RATE_HZ)


@pytest.mark.usefixtures("speech")
def test_beats_are_no_speech_and_refused():
    t = np.arange(5 * RATE_HZ) / RATE_HZ
    beats = 0.3 * np.random.default_rng(0).normal(size=len(t)) * (t % 0.5 < 0.05)
    with pytest.raises(ValueError, match="pesq finds nothing like an utterance in the sounds"):
        pesq(beats, np.tanh(5 * beats), RATE_HZ)


def test_where_the_package_is_missing_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "pesq", None)  # what Python itself puts there for "there is none"
    assert not has_pesq()
    sound = 0.1 * np.random.default_rng(0).normal(size=RATE_HZ)
    with pytest.raises(ImportError, match=r"pip install -e '\.\[pesq\]', with a C compiler"):
        pesq(sound, sound, RATE_HZ)
