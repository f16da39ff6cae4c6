"""What a match is worth: from validation pairs, how much nearer to the truth it brings a sound."""

from __future__ import annotations

import numpy as np

from vaefx_lib import blackbox, candidates, config, controller_material, effects, passages, processes, refining
from vaefx_lib.controller import Controller
from vaefx_lib.controller_material import Material
from vaefx_lib.stft_distance import MrstftTo

CALIBRATED = 24  # validation pairs of each effect


def calibrate(made: Controller, preset: config.Preset, material: Material) -> dict[str, np.ndarray]:
    """What quick matches brought, against what was expected of them.

    Returns
    -------
    dict of str to array, shape (2, knots)
        See `Controller.calibration`.

    References
    ----------
    Isotonic regression: Zadrozny and Elkan, Transforming classifier scores into accurate multiclass probability
    estimates, KDD 2002.
    """
    from sklearn.isotonic import IsotonicRegression

    drawn, sounds = material.drawn["valid"], material.dry["valid"].sounds

    def one(pair) -> tuple[float, float]:
        name, i, dry, reference, target = pair
        fx = effects.load(name)
        task = candidates.Task([dry], passages.RATE_HZ, [reference], passages.RATE_HZ, made)
        found = task.refine(fx, task.proposals(fx, count=refining.QUICK, seed=i), workers=1).refined
        sound, from_target = blackbox.wet(fx, dry, found.settings, passages.RATE_HZ), MrstftTo(target)
        return found.expected_dry - found.expected, from_target(dry) - from_target(sound)

    pairs = [
        (name, i, sounds[refs.inputs[i]], *controller_material.both(preset, material, "valid", name, i))
        for name, refs in drawn.items()
        for i in range(min(CALIBRATED, len(refs.settings)))
    ]
    rows: dict[str, list[tuple[float, float]]] = {name: [] for name in drawn}
    for pair, row in zip(pairs, processes.each(one, pairs)):
        rows[pair[0]].append(row)
    rows["any"] = [row for found in rows.values() for row in found]
    lines = {name: IsotonicRegression(increasing=True).fit(*zip(*found)) for name, found in rows.items()}
    return {name: np.stack([line.X_thresholds_, line.y_thresholds_]) for name, line in lines.items()}
