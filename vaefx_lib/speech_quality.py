"""Quality of speech beside the original, as a panel of listeners would score it: PESQ."""

from __future__ import annotations

import importlib.util
import math

from vaefx_lib import audio
from vaefx_lib.stft_distance import both_heard

PESQ_RATE_HZ = 16_000  # of the wideband version


def has_pesq() -> bool:
    """Whether the package that `pesq` needs is installed."""
    return importlib.util.find_spec("pesq") is not None


def pesq(y, y_hat, sample_rate_hz: int) -> float:
    """Perceptual evaluation of speech quality, wideband, as a mean opinion score: 1.0 to 4.64, higher is better.

    What a panel would say of the other sound as a transmission of the true one. Both are resampled to 16 kHz and
    brought to one level, so that a gain counts nothing. It is made for speech: of music it gives an error, or a number
    that means nothing.

    Parameters
    ----------
    y, y_hat : array, shape (samples,)
        At least 0.25 s.
    sample_rate_hz : int

    Raises
    ------
    AudioError
        If a sound is empty, not finite or too short.
    ImportError
        If the package pesq is missing.
    ValueError
        If the shapes differ, either is silent, or nothing in them is like an utterance.

    References
    ----------
    ITU-T P.862.2, 2007; computed by the package pesq from the code of the standard.

    Used in `05_controller_training`.
    """
    pair = both_heard(y, y_hat, min_samples=math.ceil(sample_rate_hz / 4))
    if not has_pesq():
        raise ImportError("the score pesq needs the package pesq: pip install -e '.[pesq]', with a C compiler")
    from pesq import NoUtterancesError
    from pesq import pesq as measure

    try:
        return float(measure(PESQ_RATE_HZ, *(audio.resample(x, sample_rate_hz, PESQ_RATE_HZ) for x in pair), "wb"))
    except NoUtterancesError as error:
        raise ValueError("pesq finds nothing like an utterance in the sounds: it is made for speech") from error
