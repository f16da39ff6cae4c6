"""Work in several processes gives what it gives in one."""

import os

import numpy as np
import pytest
import torch

from vaefx_lib import processes


def test_processes_give_the_same_bits_in_the_order_of_the_items():
    matrix = np.random.default_rng(0).normal(size=(300, 300)).astype(np.float32)

    def product(seed):
        made = torch.from_numpy(matrix) @ torch.from_numpy(matrix[seed:].T.copy())
        return os.getpid(), torch.get_num_threads(), made.numpy()

    told: list[int] = []
    one, two = (processes.each(product, range(5), workers=workers, tell=told.append) for workers in (1, 2))
    assert {pid for pid, _, _ in one} == {os.getpid()} and os.getpid() not in {pid for pid, _, _ in two}
    assert {threads for _, threads, _ in one + two} == {1}
    assert all(np.array_equal(a, b) for (*_, a), (*_, b) in zip(one, two, strict=True))
    assert told == [*range(1, 6)] * 2
    assert processes.each(product, []) == []


def test_an_error_in_a_process_is_raised_as_it_is():
    def fail(number):
        raise ValueError(f"{number} is not a case")

    with pytest.raises(ValueError, match="is not a case"):
        processes.each(fail, range(2), workers=2)
