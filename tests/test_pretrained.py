"""The models that come with the library: whole, as good as is recorded of them, and better than the report's.

Where none come with it (`conftest`), there is nothing to test.
"""

import json

import numpy as np
import pytest
from test_packed import flat

from vaefx_lib import config, figures, packed, packing, packing_scores, preset_json, spectrogram


def test_what_comes_with_the_library_is_whole_and_no_larger_than_it_may_be():
    about = packed.manifest()
    assert sum(path.stat().st_size for path in packed.FOLDER.rglob("*") if path.is_file()) <= packing.LIMIT_BYTES
    assert preset_json.from_json(json.dumps(about["preset"])).vae == config.preset("report").vae
    assert len(about["commit"]) == 40


def test_what_comes_with_the_library_has_the_worth_that_is_recorded_of_it():
    about = packed.manifest()
    preset = preset_json.from_json(json.dumps(about["preset"]))
    assert flat(packing_scores.measure_few(preset, packed.FOLDER)) == pytest.approx(flat(about["few"]), rel=0.02)
    assert packed.controller().effects == preset.render.effects


def test_what_comes_with_the_library_is_better_than_what_the_report_trains(monkeypatch):
    monkeypatch.setenv("VAEFX_HOME", str(packed.FOLDER.parents[1]))
    found, report = packed.manifest()["metrics"], figures.metrics("report")
    for channel in spectrogram.CHANNELS:
        assert found["reconstruction"][channel]["vae_mse"] < report["reconstruction"][channel]["vae_mse"]
    ours = [of["ours"] for of in found["controller"].values()]
    theirs = [report["controller"][name]["mrstft_wide"]["ours"] for name in found["controller"]]
    assert np.mean(ours) < np.mean(theirs)
