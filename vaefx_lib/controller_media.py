"""What the training of a controller sounds and looks like: validation pairs, written while it learns end to end."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from vaefx_lib import audio, blackbox, effects, passages, references, runs, store, thumbnails, tracking
from vaefx_lib.config import Preset

KNOWN = ("input", "reference", "truth")  # the sounds that stay the same while the controller learns
ALL = (*KNOWN, "prediction")  # in the order of a picture, from left to right


class Clips:
    """Writes what a controller makes of some validation pairs into a folder, and gives it to the loggers.

    `reference` gets `clip-0-input.wav`, `clip-0-reference.wav` and `clip-0-truth.wav`, the input at the settings of the
    reference; `step-000` and so on get `clip-0-prediction.wav`, the input at the settings that the controller answers,
    and `clip-0.png`, the spectrograms of input, reference, truth and prediction from left to right. 16 bit, 24 kHz.

    Parameters
    ----------
    folder : Path
    preset : Preset
    run : Run
        The VAE: pictures show what it reads.
    dry : Dry
        Validation passages.
    drawn : mapping of str to References
        Of these, as many for each effect.
    count : int
        How many pairs, spread over them, the effects in turn.

    Raises
    ------
    ValueError
        If there are fewer pairs.

    Used in `05_controller_training`.
    """

    def __init__(
        self,
        folder: Path,
        preset: Preset,
        run: runs.Run,
        dry: references.Dry,
        drawn: Mapping[str, references.References],
        count: int,
    ):
        self.folder, self.preset, self.run = folder, preset, run
        refs, total = list(drawn.values()), sum(len(of.settings) for of in drawn.values())
        self.pairs = []  # effect, its row among the references, sounds by name
        for number in thumbnails.spread(total, len(refs), count):
            row, of = number // len(refs), refs[number % len(refs)]
            given = dry.sounds[of.inputs[row]]
            reference, truth = (
                self._wet(of.effect, sound, of.settings[row]) for sound in (dry.sounds[of.passages[row]], given)
            )
            self.pairs.append((of.effect, row, dict(zip(KNOWN, (given, reference, truth)))))
        for i, (_, _, sounds) in enumerate(self.pairs):
            self._write_sounds("reference", i, sounds)

    def write(self, step: int, answer: Callable[[str, int], np.ndarray], loggers: Sequence = ()) -> None:
        """What comes of the settings that are answered at a step of the training.

        Parameters
        ----------
        step : int
        answer : callable
            ``answer(effect, row)`` gives settings, (n_params,), for a pair.
        loggers : sequence of Logger
            That `tracking.opened` made; with step 0 they get all sounds, then the predictions alone.
        """
        name, told, pictures = f"step-{step:03d}", {}, {}
        for i, (effect, row, known) in enumerate(self.pairs):
            sounds = known | {"prediction": self._wet(effect, known["input"], answer(effect, row))}
            self._write_sounds(name, i, {"prediction": sounds["prediction"]})
            image = self._picture(sounds)
            with store.atomic(self.folder / name / f"clip-{i}.png") as temporary:
                temporary.write_bytes(thumbnails.png(image))
            told |= {f"clip-{i}/{of}": sounds[of] for of in (ALL if step == 0 else ["prediction"])}
            pictures[f"clip-{i}/spectrograms"] = image
        for logger in loggers:
            tracking.log_media(logger, step, told, passages.RATE_HZ, pictures)

    def _wet(self, effect: str, dry: np.ndarray, settings) -> np.ndarray:
        """Silence where the effect fails."""
        at, peak_dbfs = np.asarray(settings, np.float64), self.preset.render.peak_dbfs
        try:
            return blackbox.wet(effects.load(effect), dry, at, passages.RATE_HZ, peak_dbfs=peak_dbfs)
        except effects.EffectFailed:
            return np.zeros_like(dry)

    def _picture(self, sounds: Mapping[str, np.ndarray]) -> np.ndarray:
        """A row of spectrograms, uint8 (height, width, 3); windows of the VAE are put together again."""
        pairs = [references.windows(self.run, sounds["input"], sounds[name]) for name in ALL]
        S = [np.concatenate(windows[:, 1]) for windows in pairs]  # (frames, bins) each
        return thumbnails.picture(np.stack(S)[None])

    def _write_sounds(self, name: str, i: int, sounds: Mapping[str, np.ndarray]) -> None:
        for of, sound in sounds.items():
            with store.atomic(self.folder / name / f"clip-{i}-{of}.wav") as temporary:
                temporary.write_bytes(audio.to_wav_bytes(sound, passages.RATE_HZ))
