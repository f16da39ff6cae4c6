"""Settings that are tried within a budget of time or of number, by several threads, and what each of them gave."""

from __future__ import annotations

import math
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

APART = 0.1  # how far in at least one setting two places must be to count as two


class Spent(Exception):
    """The budget is spent."""


class Tries:
    """Every evaluation of a search, in the order in which it was asked for, and the budget."""

    def __init__(self, objective, budget_s, max_evaluations, workers, progress):
        self.objective, self.progress = objective, progress
        self.budget_s, self.max_evaluations = budget_s or math.inf, max_evaluations or math.inf
        self.pool = ThreadPoolExecutor(workers) if workers > 1 else None
        self.began = time.monotonic()
        self.found: list[tuple[float, np.ndarray]] = []
        self.lowest: tuple[float, np.ndarray] | None = None  # the first of equals
        self._lock, self._begun, self._busy_s, self._done = threading.Lock(), 0, 0.0, 0

    @property
    def share(self) -> float:
        """How much of the budget is spent, in [0, 1]."""
        return min(1.0, max((time.monotonic() - self.began) / self.budget_s, len(self.found) / self.max_evaluations))

    def values(self, points) -> np.ndarray:
        """The objective at each of the points (n, n_params); raises `Spent` if the budget does not last for all."""
        points = np.clip(points, 0, 1)
        left = points[: int(min(len(points), self.max_evaluations - len(self.found)))]
        values = []
        for point, value in zip(left, (self.pool.map if self.pool else map)(self._value, left)):
            if value is None:
                raise Spent
            values.append(value)
            self.found.append((value, point))
            if self.lowest is None or value < self.lowest[0]:
                self.lowest = (value, point)
            if self.progress:
                self.progress(self.share, self.lowest[0])
        if len(left) < len(points):
            raise Spent
        return np.array(values)

    def places(self, count: int) -> list[np.ndarray]:
        """Where the lowest values were found, no two of them nearer to each other than `APART`."""
        chosen: list[np.ndarray] = []
        for _, point in sorted(self.found, key=lambda found: found[0]):
            if all(np.abs(point - other).max() > APART for other in chosen):
                chosen.append(point)
            if len(chosen) == count:
                break
        return chosen

    def close(self) -> None:
        """Wait for the threads; what has not begun is given up."""
        if self.pool:
            self.pool.shutdown(cancel_futures=True)

    def _value(self, point: np.ndarray) -> float | None:
        """The objective, infinite where it is not finite; None if the budget forbids to begin."""
        with self._lock:
            typical_s = self._busy_s / self._done if self._done else 0.0
            late = time.monotonic() - self.began + typical_s > self.budget_s
            if self._begun and late:
                return None
            self._begun += 1
        begun = time.monotonic()
        value = float(self.objective(point.copy()))
        with self._lock:
            self._busy_s, self._done = self._busy_s + time.monotonic() - begun, self._done + 1
        return value if math.isfinite(value) else math.inf


def check_budget(budget_s: float | None, max_evaluations: int | None, workers: int) -> None:
    """Refuse to search without an end.

    Raises
    ------
    ValueError
        If no budget is given, or it or the number of workers is not positive.
    """
    if budget_s is None and max_evaluations is None:
        raise ValueError("a search needs a budget: give budget_s, max_evaluations or both")
    for name, value in {"budget_s": budget_s, "max_evaluations": max_evaluations, "workers": workers}.items():
        if value is not None and not value > 0:
            raise ValueError(f"{name} is {value}: it must be above 0")
