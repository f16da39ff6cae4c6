"""What a slider plays: one loudness, no damage to the ears, files of any kind, and what a place of a map gives."""

import io
import json

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from vaefx_lib import (
    audio,
    blackbox,
    config,
    effects,
    interpolation,
    latent,
    loudness,
    passages,
    places,
    players,
    references,
    runs,
    spectrogram,
)

RATE = passages.RATE_HZ


def voice_like(samples=RATE, seed=0, level=0.1):
    """Noise of changing loudness."""
    rng = np.random.default_rng(seed)
    envelope = 0.2 + np.sin(np.arange(samples) / 3000) ** 2
    return (level * rng.normal(size=samples) * envelope).astype(np.float32)


def peak_db(sound):
    return 20 * np.log10(np.abs(sound).max())


@given(st.lists(st.floats(0, 1), min_size=9, max_size=9), st.floats(1e-2, 0.9))
@settings(max_examples=25, deadline=None)
def test_whatever_the_settings_all_is_played_at_one_loudness_or_softer_and_never_above_the_peak(values, level):
    dry = audio.peak_level(voice_like(level=level))
    for name, these in (("mda:Overdrive", values[:3]), ("mda:Delay", values[3:])):
        heard = players.played(effects.load(name), dry, these)
        assert heard.shape == dry.shape
        assert peak_db(np.abs(heard) + 1e-12) <= players.PEAK_DBFS + 1e-3
        if not audio.is_silent(heard):
            found = loudness.lufs(heard, RATE)
            assert found <= players.LOUDNESS_LUFS + 0.01
            assert found > players.LOUDNESS_LUFS - 0.01 or peak_db(heard) > players.PEAK_DBFS - 1e-3


@pytest.mark.parametrize(
    "sound",
    [np.zeros(RATE), np.full(RATE, 0.9), 1e-4 * np.ones(RATE), np.eye(1, RATE, 5)[0] * 0.99],
    ids=["silence", "a constant", "a weak constant", "one click"],
)
def test_what_has_no_loudness_is_not_made_louder(sound):
    heard = players.levelled(sound.astype(np.float32), RATE)
    assert np.isfinite(heard).all()
    assert np.abs(heard).max() <= min(np.abs(sound).max(), 10 ** (players.PEAK_DBFS / 20)) + 1e-6


def test_what_is_played_is_the_effects_sound_but_for_one_factor():
    dry, effect = audio.peak_level(voice_like()), effects.load("mda:Overdrive")
    heard, wet = players.played(effect, dry, [0.8, 0.4, 0.5]), blackbox.wet(effect, dry, [0.8, 0.4, 0.5], RATE)
    assert np.allclose(heard, wet * (np.abs(heard).max() / np.abs(wet).max()), atol=1e-6)


def test_a_path_begins_and_ends_with_the_reconstructions_and_its_middle_is_that_of_the_latent_vectors(
    spoken, spoken_home, monkeypatch
):
    monkeypatch.setenv("VAEFX_HOME", str(spoken_home))
    run = runs.load(config.vae_dir(spoken.name))
    dry = voice_like(spoken.stft.num_samples)
    fx = [effects.load(name) for name in spoken.render.effects]
    z = [players.embedded(run, dry, effect, 0.5) for effect in fx]
    for effect, alpha, end in zip(fx, (0.0, 1.0), z, strict=True):
        x = interpolation.wet_pair(run, dry, effect, np.full(len(effect.params), 0.5))
        assert np.array_equal(end, latent.embed(run, x[None])[0])
        rebuilt = run.statistics.restore(latent.decode(run, end[None])[0])
        assert np.allclose(players.interpolated(run, *z, alpha), rebuilt, atol=1e-6)
    middle = run.statistics.restore(latent.decode(run, (z[0] + z[1])[None] / 2)[0])
    S = players.interpolated(run, *z, 0.5)
    assert np.allclose(S, middle, atol=1e-5)


def test_the_sound_on_a_path_keeps_the_phase_of_the_clip_at_either_end_and_its_own_spectrogram():
    stft = config.preset("smoke").stft
    clips = [audio.peak_level(voice_like(stft.num_samples, seed=seed)) for seed in (0, 1)]
    for clip, alpha in zip(clips, (0.0, 1.0)):
        heard = players.between(*clips, spectrogram.magnitude(clip, stft), alpha, stft)
        assert np.allclose(heard, players.levelled(clip, stft.sample_rate_hz), atol=1e-3)
    middle = players.between(*clips, spectrogram.magnitude(clips[0], stft), 0.5, stft)
    assert middle.shape == clips[0].shape
    assert loudness.lufs(middle, stft.sample_rate_hz) == pytest.approx(players.LOUDNESS_LUFS, abs=0.01)
    assert np.corrcoef(middle, clips[0])[0, 1] > 0.3


def file_of(sound, rate_hz, **options):
    buffer = io.BytesIO()
    soundfile.write(buffer, sound, rate_hz, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("rate_hz", [8_000, 24_000, 44_100, 96_000])
@pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG", "MP3"])
def test_an_uploaded_file_of_any_rate_and_format_becomes_mono_at_the_right_pitch_and_level(rate_hz, kind):
    if kind == "MP3" and rate_hz == 96_000:
        pytest.skip("MP3 has no such rate")
    t = np.arange(2 * rate_hz) / rate_hz
    tone = 0.3 * np.sin(2 * np.pi * 440 * t)
    sound = players.own_sound("tone", file_of(np.stack([tone, 0.5 * tone], axis=1), rate_hz, format=kind))
    assert sound.dtype == np.float32
    assert sound.ndim == 1
    assert len(sound) == pytest.approx(2 * RATE, rel=0.06)
    assert peak_db(sound) == pytest.approx(-12, abs=0.01)
    assert np.abs(np.fft.rfft(sound)).argmax() * RATE / len(sound) == pytest.approx(440, abs=1)


def test_of_a_long_file_the_loudest_passage_is_taken():
    sound = np.concatenate([voice_like(20 * RATE, level=0.02), voice_like(10 * RATE, seed=1, level=0.2)])
    taken = players.own_sound("long.wav", file_of(sound, RATE, format="WAV", subtype="FLOAT"))
    assert len(taken) == passages.SAMPLES
    at = np.abs(np.correlate(sound[::8], taken[1000:3000:8], "valid")).argmax() * 8
    assert at >= 20 * RATE


WHOLE = file_of(voice_like(), RATE, format="WAV")


@pytest.mark.parametrize(
    "data, reason",
    [
        (b"", "is empty"),
        (b"not a sound at all, but some text", "it looks like text"),
        (WHOLE[: len(WHOLE) // 2], "is cut short"),
        (file_of(np.zeros(RATE), RATE, format="WAV"), "is silent"),
        (file_of(voice_like(RATE // 4), RATE, format="WAV"), "at least 0.5 s are needed"),
    ],
    ids=["empty", "text", "half a file", "silence", "too short"],
)
def test_an_upload_that_cannot_be_used_is_refused_in_a_sentence_that_names_the_file_alone(data, reason):
    with pytest.raises(audio.AudioError, match=reason) as caught:
        players.own_sound("my song.wav", data)
    assert str(caught.value).startswith("my song.wav ")
    assert "upload" not in str(caught.value)


def test_a_random_reference_is_a_passage_at_the_settings_that_are_told():
    dry = references.Dry(np.stack([audio.peak_level(voice_like(seed=i)) for i in range(3)]), np.array(["a", "b", "c"]))
    effect = effects.load("mda:Delay")
    reference, found = players.random_reference(effect, dry, 4)
    assert any(np.array_equal(reference, blackbox.wet(effect, sound, found, RATE)) for sound in dry.sounds)
    assert not np.array_equal(found, players.random_reference(effect, dry, 5)[1])


# --- places of a map --------------------------------------------------------------------------------------------------


def test_a_place_gives_the_settings_of_the_decoder_and_their_sound(small_map):
    dry = audio.peak_level(voice_like())
    for effect in (None, *small_map.effects):
        place = places.at(small_map, [0.3, -0.4], dry, effect=effect)
        assert place.effect.name == (effect or small_map.likely_effect([0.3, -0.4]))
        assert np.array_equal(place.settings, small_map.settings([0.3, -0.4], place.effect.name))
        assert np.array_equal(place.sounds[0], players.levelled(dry, RATE))
        assert np.array_equal(place.sounds[1], players.played(place.effect, dry, place.settings))


def test_exported_settings_give_the_same_sound_and_their_values_have_the_units_of_the_effect(small_map):
    dry = audio.peak_level(voice_like())
    place = places.at(small_map, [1.0, 0.5], dry, effect="mda:Delay")
    told = json.loads(places.exported(small_map, place, "a, passage 1"))
    effect = effects.load(told["effect"])
    again = players.played(effect, dry, {name: row["setting"] for name, row in told["settings"].items()})
    assert np.array_equal(again, place.sounds[1])
    for param in effect.params:
        row = told["settings"][param.name]
        assert row["unit"] == param.unit
        assert param.to_setting(row["value"]) == pytest.approx(row["setting"], abs=1e-9)
    assert np.array_equal(small_map.settings(told["place"], told["effect"]), place.settings)


def test_a_map_tells_of_each_place_what_the_place_gives(small_map):
    dry, effect = audio.peak_level(voice_like()), effects.load("mda:Overdrive")
    steps = 5
    across, up = (np.linspace(low, high, steps) for low, high in zip(small_map.low, small_map.high))
    for row, column in ((0, 4), (3, 1)):
        z = [across[column], up[row]]
        place = places.at(small_map, z, dry, effect=effect.name)
        drive = places.map_values(small_map, effect, "drive", dry, steps=steps)[row, column]
        assert drive == pytest.approx(place.told["drive"]["value"])
        bright = places.map_values(small_map, effect, "brightness", dry, steps=steps)[row, column]
        assert bright == pytest.approx(places.brightness_hz(place.sounds[1]), rel=1e-3)
        owner = places.map_values(small_map, None, "effect", dry, steps=steps)[row, column]
        assert small_map.effects[int(owner)] == small_map.likely_effect(z)
    with pytest.raises(ValueError, match="by 'feedback': known are drive, muffle, output, brightness"):
        places.map_values(small_map, effect, "feedback", dry)


def test_brightness_is_the_frequency_of_a_tone_and_unknown_of_silence():
    t = np.arange(RATE) / RATE
    assert places.brightness_hz(np.sin(2 * np.pi * 1500 * t)) == pytest.approx(1500, rel=0.01)
    assert np.isnan(places.brightness_hz(np.zeros(RATE)))
