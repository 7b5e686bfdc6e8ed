"""Structured logs on stderr, one event per line, and warnings about repeated failures."""

import logging
import os
import sys

import structlog

from overlayd.service import log_lines

_log = structlog.get_logger(__name__)


def configure(level: str) -> None:
    """Log from this level on (debug, info, warning, error)."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *log_lines.processors(sys.stderr, os.environ),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


class Complaint:
    """Logs a repeated failure once, and again for another reason or after a success."""

    def __init__(self, event: str) -> None:
        self._event = event
        self._reason = ""

    def because(self, reason: str, **about: str) -> None:
        """Record a failure, and log it if its reason is new."""
        if reason != self._reason:
            _log.warning(self._event, reason=reason, **about)
        self._reason = reason

    def over(self) -> None:
        """Record a success: the next failure is logged again."""
        self._reason = ""
