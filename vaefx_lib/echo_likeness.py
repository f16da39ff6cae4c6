"""How unlike the echoes of two sounds are, of which the first are references: in lag and side, and in colour."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vaefx_lib import echo_colour, echo_profile


class EchoLikeness:
    """The echoes of references, with which those of other sounds are compared.

    Parameters
    ----------
    references : sequence of array, shape (samples,) each
        At 24 kHz. Several are passages of one reference.

    Attributes
    ----------
    profile : array, float32, shape (68001,)
        Mean of their `echo_profile.measure`.
    """

    def __init__(self, references: Sequence[np.ndarray]):
        white = [echo_profile.whiten(sound) for sound in references]
        self.profile = echo_profile.mean([echo_profile.profile(sound) for sound in white])
        self._ear = echo_colour.Ear(echo_colour.lags(self.profile))
        self._in_lag = echo_profile.unlike(self.profile)
        self._in_colour = echo_colour.unlike(echo_profile.mean([self._ear(sound) for sound in white]))

    def unlike(self, heard: Sequence[np.ndarray]) -> tuple[float, float]:
        """How unlike the echoes of other passages are in lag and side, and in colour: 0 for the same, 1 for none.

        Both are 0 if the references have no echoes.
        """
        white = [echo_profile.whiten(sound) for sound in heard]
        in_lag = self._in_lag(echo_profile.mean([echo_profile.profile(sound) for sound in white]))
        return in_lag, self._in_colour(echo_profile.mean([self._ear(sound) for sound in white]))
