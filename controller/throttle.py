"""A warning that strangers can cause, said often enough to be noticed and not as often as they cause it."""

import logging

INTERVAL = 60.0
"""Seconds between two lines of the log about one kind of event."""


class Throttle:
    """Counts events of one kind, and tells when the next line about them is due."""

    def __init__(self) -> None:
        self._count = 0
        self._due = float("-inf")

    def count(self, now: float) -> int:
        """Count an event at this monotonic time in seconds; return how many to report now, 0 when no report is due."""
        self._count += 1
        if now < self._due:
            return 0
        count, self._count, self._due = self._count, 0, now + INTERVAL
        return count


class SeldomFilter(logging.Filter):
    """Lets each warning of a library through once an interval: strangers cause them by malformed requests."""

    def __init__(self) -> None:
        super().__init__()
        self._throttles: dict[str, Throttle] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a line is logged. The format is looked at, not what is filled in: so there are few of them."""
        if record.levelno != logging.WARNING:
            return True
        return self._throttles.setdefault(str(record.msg), Throttle()).count(record.created) > 0
