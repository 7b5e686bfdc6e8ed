"""Metrics of transactions: their outcomes and durations."""

import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, float("inf"))
"""Upper bounds in seconds."""


@dataclass(slots=True)
class Timed:
    """A transaction that is being timed; its outcome is `unavailable` until it is set."""

    outcome: str = "unavailable"


class TransactionMeter:
    """Counts transactions."""

    def __init__(self) -> None:
        self.outcomes = Counter({"committed": 0, "conflict": 0, "unavailable": 0})
        self.seconds = 0.0
        self._buckets = [0] * len(BUCKETS)

    @contextmanager
    def timing(self) -> Iterator["Timed"]:
        """Time the transaction inside, and count it by the outcome that it is given."""
        timed, started = Timed(), time.perf_counter()
        try:
            yield timed
        finally:
            self._note(timed.outcome, time.perf_counter() - started)

    def _note(self, outcome: str, seconds: float) -> None:
        self.outcomes[outcome] += 1
        self.seconds += seconds
        self._buckets[bisect_left(BUCKETS, seconds)] += 1

    def cumulative(self) -> Iterator[tuple[str, int]]:
        """Yield each bound, as Prometheus writes it, with the number of transactions that took no longer."""
        number = 0
        for bound, found in zip(BUCKETS, self._buckets, strict=True):
            number += found
            yield "+Inf" if bound == float("inf") else str(bound), number
