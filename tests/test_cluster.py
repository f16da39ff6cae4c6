"""Rendering on a dask cluster of two real worker processes gives the bytes of rendering here."""

import dataclasses
import os
import signal
import threading
import time

import pytest
from distributed import Client, LocalCluster

from vaefx_lib import rendering


@pytest.fixture(scope="module")
def cluster():
    with LocalCluster(
        n_workers=2, threads_per_worker=2, processes=True, host="127.0.0.1", dashboard_address=None
    ) as cluster:
        yield cluster


@pytest.fixture
def longer(tiny):
    return dataclasses.replace(tiny, render=dataclasses.replace(tiny.render, n_train=400))


def sentences_decoded():
    from vaefx_lib import dry_clips

    return len(dry_clips._sentences)


def contents(folder):
    """All whole files: a killed worker leaves a hidden one, which the next render removes."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if not path.name.startswith(".")}


def test_two_dask_workers_write_the_bytes_of_one_process(cluster, longer, tmp_path):
    here = rendering.render(longer, "train", tmp_path / "here", jobs=1, progress=False)
    there = rendering.render(longer, "train", tmp_path / "there", dask=cluster.scheduler_address, progress=False)
    assert contents(there.folder) == contents(here.folder)
    with Client(cluster.scheduler_address) as client:
        decoded = client.run(sentences_decoded)
    assert len(decoded) == 2 and min(decoded.values()) > 0  # both had a part in it


def test_a_render_goes_on_when_a_dask_worker_is_killed(cluster, longer, tmp_path):
    with Client(cluster.scheduler_address) as client:
        workers = client.run(os.getpid)

        def kill_one():
            while len(list((tmp_path / "there").glob("shard-*.json"))) < 5:
                time.sleep(0.002)
            os.kill(next(iter(workers.values())), signal.SIGKILL)

        thread = threading.Thread(target=kill_one)
        thread.start()
        there = rendering.render(longer, "train", tmp_path / "there", dask=cluster.scheduler_address, progress=False)
        thread.join()
    here = rendering.render(longer, "train", tmp_path / "here", jobs=1, progress=False)
    assert contents(there.folder) == contents(here.folder)


def test_an_address_without_a_scheduler_is_refused_in_one_sentence(tiny, tmp_path):
    with pytest.raises(ValueError, match="^no dask scheduler answers at 'tcp://127.0.0.1:9': "):
        rendering.render(tiny, "train", tmp_path, dask="tcp://127.0.0.1:9", progress=False)
