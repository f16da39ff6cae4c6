"""How far apart two sounds are in style: a distance that ignores what is said, and who says it.

`Space` learns from passages of many speakers how much each measure of `style`, and each combination of them, differs
where only the words and the voice do, and counts a difference between two sounds in those units.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import uniform_filter1d

from vaefx_lib.style import LONGEST, Style, smooth

WIDTHS = (1, 17, 129)  # samples over which two echoes may miss each other and still be alike
CLEAR = 4.5  # deviations by which an echo stands out of the speech
FIRST = 240  # samples (10 ms): below, the pitch of a voice is taken for an echo
ECHO_WEIGHT = 5.0  # of the echoes' unlikeness, against that of all else
REPETITION = 40.0  # norm of what stands out of dry speech at the most: synthesised speech repeats itself exactly


@dataclass(frozen=True, eq=False)
class Space:
    """How much measures differ between passages of one style.

    Attributes
    ----------
    whitening : array, float32, shape (n_measures, n_measures)
        ``numbers @ whitening`` differ between two passages of one style by sqrt(2) in each column, and independently.
    echo_deviation : array, float32, shape (34000,)
        Of the cepstrum of a sound without echoes, at each lag.
    """

    whitening: np.ndarray
    echo_deviation: np.ndarray

    def echoes(self, cepstrum: np.ndarray) -> np.ndarray:
        """What stands out of the cepstrum, in its deviations, 0 elsewhere: float32, (34000,)."""
        deviations = cepstrum / self.echo_deviation
        deviations[:FIRST] = 0
        return np.sign(deviations) * np.maximum(np.abs(deviations) - np.float32(CLEAR), 0)

    def distance(self, wanted: Style, other: Style) -> float:
        """How far one style is from another: 0 for the same sound, and without a unit.

        The mean square of the whitened differences, plus how unlike the clear echoes are. 1 is what two passages of one
        style differ by if their voices are those that the space was fitted on; voices never heard are 2.6 to 3 apart.

        References
        ----------
        Hatch, Kajarekar, Stolcke: Within-class covariance normalization for SVM-based speaker recognition,
        Interspeech 2006. Bogert, Healy, Tukey: The quefrency alanysis of time series for echoes, 1963.
        """
        return self.target(wanted)(other)

    def target(self, wanted: Style) -> Callable[[Style], float]:
        """`distance` from one style, as a function of the other: quicker where it is called often."""
        compare = self.compare(wanted)
        return lambda other: float(total(compare(other)))

    def compare(self, wanted: Style) -> Callable[[Style], np.ndarray]:
        """The parts of the distance from one style, as a function of the other: float32, (5,).

        Mean square of the whitened differences, how clear the echoes of the wanted style are (0 to 1), and how unlike
        the other's (0 to 1) if they may miss each other by 0, 8 and 64 samples.
        """
        aim = wanted.numbers @ self.whitening
        clear = [smooth(self.echoes(wanted.cepstrum), width) for width in WIDTHS]
        energies = [float(c @ c) for c in clear]
        clarity = float(np.clip(np.sqrt(energies[0]) / REPETITION - 1, 0, 1))

        def parts(other: Style) -> np.ndarray:
            whitened = other.numbers @ self.whitening - aim
            found = self.echoes(other.cepstrum)
            unlike = []
            for width, c, energy in zip(WIDTHS, clear, energies):
                f = smooth(found, width)
                unlike.append(1 - float(c @ f) / max(energy, float(f @ f), 1e-9))
            return np.array([float(whitened @ whitened) / (2 * len(aim)), clarity, *unlike], np.float32)

        return parts


def total(parts: np.ndarray) -> np.ndarray:
    """The distance of style from its parts (..., 5), as `Space.compare` gives them."""
    return parts[..., 0] + ECHO_WEIGHT * parts[..., 1] * parts[..., 2:].sum(-1)


def fit(classes: np.ndarray, dry_cepstra: np.ndarray) -> Space:
    """The space in which passages of the same style are at unit distance.

    Parameters
    ----------
    classes : array, shape (n, members, n_measures)
        `Style.numbers` of two or more passages, of different words and voices, through one effect at one setting each.
    dry_cepstra : array, shape (m, 34000)
        `Style.cepstrum` of sounds without echoes.

    Returns
    -------
    Space

    Raises
    ------
    ValueError
        If an array has another shape.

    References
    ----------
    Ledoit and Wolf: A well-conditioned estimator for large-dimensional covariance matrices, 2004.

    Used in `05_controller_training`.
    """
    classes, dry_cepstra = np.asarray(classes, np.float64), np.asarray(dry_cepstra)
    if classes.ndim != 3 or classes.shape[1] < 2 or dry_cepstra.ndim != 2 or dry_cepstra.shape[1:] != (LONGEST,):
        raise ValueError(
            f"classes of shape {classes.shape} and cepstra of shape {dry_cepstra.shape}: they must be (n, at least 2 "
            f"members, n_measures) and (m, {LONGEST})"
        )
    from sklearn.covariance import ledoit_wolf

    members = classes.shape[1]
    residuals = (classes - classes.mean(1, keepdims=True)).reshape(-1, classes.shape[2])
    residuals *= np.sqrt(members / (members - 1))
    deviation = np.sqrt(np.square(residuals).mean(0)) + 1e-6
    covariance, _ = ledoit_wolf(residuals / deviation, assume_centered=True)
    values, vectors = np.linalg.eigh(covariance)
    whitening = vectors / np.sqrt(values) / deviation[:, None]
    echo_deviation = np.sqrt(uniform_filter1d(np.square(dry_cepstra).mean(0), 201)) + 1e-9
    return Space(whitening.astype(np.float32), echo_deviation.astype(np.float32))
