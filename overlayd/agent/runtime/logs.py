"""Structured logs on stderr, one event a line."""

import logging
import os
import sys

import structlog

from overlayd.service import log_lines


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
