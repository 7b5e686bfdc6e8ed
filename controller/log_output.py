"""Where the log of a controller goes."""

import logging
import os
import sys

import structlog

from controller.throttle import SeldomFilter
from overlayd.service import log_lines


def configure() -> None:
    """Write one event a line to standard error: the controller's from INFO on, the libraries' from WARNING on."""
    lines = log_lines.processors(sys.stderr, os.environ)
    stamps: list[structlog.types.Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso"),
    ]
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=stamps,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *lines],
    )
    handler = logging.StreamHandler()
    handler.setFormatter(formatter)
    logging.basicConfig(handlers=[handler], level=logging.WARNING)
    # A request that a stop cancels is no error: `InterruptedRequests` answers it and logs which one it was.
    logging.getLogger("uvicorn.error").addFilter(lambda record: not str(record.msg).startswith("Cancel "))
    logging.getLogger("uvicorn.error").addFilter(SeldomFilter())
    structlog.configure(
        processors=[*stamps, *lines],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
