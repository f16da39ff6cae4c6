"""Work in several processes: for what keeps Python busy itself, so that threads would wait for each other."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import joblib
import torch

from vaefx_lib import blackbox

IDLE_S = 60  # after which a process without work ends


def each(
    function: Callable, items: Iterable, *, workers: int | None = None, tell: Callable[[int], None] | None = None
) -> list:
    """``[function(item) for item in items]``, made by several processes; each has one thread.

    Parameters
    ----------
    function : callable
        It is sent to the processes with all that it refers to, large arrays only once.
    items : iterable
    workers : int, optional
        Processes; by default as many as there are processors. With 1, or one item, the calling process does all. The
        results are the same, bit for bit.
    tell : callable, optional
        ``tell(done)`` after each item.

    Raises
    ------
    Exception
        What the function raises, as soon as it does.

    Used in `05_controller_training`.
    """
    items = list(items)
    jobs = min(workers or joblib.cpu_count(), max(1, len(items)))
    results = {}
    with joblib.parallel_config("loky", inner_max_num_threads=1):
        parallel = joblib.Parallel(jobs, batch_size=1, return_as="generator_unordered", idle_worker_timeout=IDLE_S)
        for index, result in parallel(joblib.delayed(_alone)(function, *numbered) for numbered in enumerate(items)):
            results[index] = result
            if tell:
                tell(len(results))
    return [results[index] for index in range(len(items))]


def _alone(function: Callable, index: int, item) -> tuple:
    """The number and the result of an item, made by one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return index, blackbox.in_threads(function, [item], workers=1)[0]
    finally:
        torch.set_num_threads(threads)
