"""Small pictures of spectrograms, and which pairs of a set they are of: what is kept of a training while it goes on."""

from __future__ import annotations

import io

import numpy as np

SIDE = 256  # pixels of a spectrogram
DEVIATIONS = (-2.0, 3.0)  # of the training spectrograms: from black to white


def spread(total: int, effects: int, count: int) -> list[int]:
    """Numbers of `count` pairs, spread over `total` of them, number `i` of effect `i % effects`.

    Raises
    ------
    ValueError
        If there are fewer pairs.
    """
    if not 1 <= count <= total:
        raise ValueError(f"clips is {count} with {total} validation pairs: it must be from 1 to {total}")
    groups = -(-total // effects)
    numbers = [i * groups // count * effects + i % effects for i in range(count)]
    return numbers if len(set(numbers)) == count and max(numbers) < total else list(range(count))


def picture(S: np.ndarray) -> np.ndarray:
    """Standardised spectrograms (rows, columns, frames, bins) beside each other, uint8, (height, width, 3).

    Time goes right, frequency up, each about `SIDE` pixels; neighbouring bins are averaged.
    """
    from matplotlib import colormaps  # here, because a machine that only trains does without

    low, high = DEVIATIONS
    frames, bins = S.shape[2:]
    wide, together = max(1, SIDE // frames), max(1, bins // SIDE)
    S = S[..., : bins // together * together].reshape(*S.shape[:3], -1, together).mean(-1).repeat(wide, axis=2)
    S = np.pad(S, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=high)  # a frame around each
    image = np.concatenate([np.concatenate([part.T[::-1] for part in row], axis=1) for row in S])
    return colormaps["magma"](np.clip((image - low) / (high - low), 0, 1), bytes=True)[..., :3].copy()


def png(image: np.ndarray) -> bytes:
    """A PNG file in memory; the same image gives the same bytes."""
    from matplotlib.image import imsave

    buffer = io.BytesIO()
    imsave(buffer, image, format="png", metadata={"Software": None})
    return buffer.getvalue()
