"""Small fixtures that several test modules share."""

import dataclasses

import pytest

from vaefx_lib import config, rendering


@pytest.fixture(scope="session")
def tiny():
    """The smoke experiment with a few pairs of 0.68 s."""
    smoke = config.preset("smoke")
    counts = {"n_train": 22, "n_valid": 8, "n_test": 12, "n_dummy_train": 8, "n_dummy_test": 8, "shard_pairs": 4}
    return dataclasses.replace(
        smoke,
        name="tiny",
        stft=dataclasses.replace(smoke.stft, num_frames=33),
        render=dataclasses.replace(smoke.render, **counts),
    )


@pytest.fixture(scope="session")
def tiny_train_dir(tiny, tmp_path_factory):
    """Folder of the rendered training pairs of `tiny`; not to be changed."""
    folder = tmp_path_factory.mktemp("tiny") / "train"
    rendering.render(tiny, "train", folder, jobs=1, progress=False)
    return folder


@pytest.fixture(scope="session")
def tiny_train(tiny_train_dir):
    """The rendered training pairs of `tiny`."""
    return rendering.load(tiny_train_dir)
