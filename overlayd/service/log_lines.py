"""The lines of a daemon's log: text for the journal, coloured text for a terminal, JSON for everything else."""

import json
import os
import re
from collections.abc import Mapping
from typing import TextIO

import structlog
from structlog.typing import EventDict, Processor

_PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}
"""The priorities of syslog(3), which prefix a line as sd-daemon(3) describes."""

_PLAIN = re.compile(r"[\w.:/@+-]+")
_KNOWN = ("level", "timestamp")
"""The fields that the journal records itself."""


def processors(stream: TextIO, environment: Mapping[str, str]) -> list[Processor]:
    """Return the structlog processor that renders an event with level and time as a line for this stream."""
    if is_journal(stream, environment):
        return [structlog.processors.format_exc_info, journal_line]
    if stream.isatty():
        return [structlog.dev.ConsoleRenderer()]
    return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]


def is_journal(stream: TextIO, environment: Mapping[str, str]) -> bool:
    """Return whether a stream leads to systemd's journal (systemd.exec(5), JOURNAL_STREAM)."""
    stream_id = environment.get("JOURNAL_STREAM")
    if not stream_id:
        return False
    status = os.fstat(stream.fileno())
    return stream_id == f"{status.st_dev}:{status.st_ino}"


def journal_line(_logger: object, _method: str, event: EventDict) -> str:
    """Return an event as one line: its priority as the journal reads it, its text, then its fields."""
    text = str(event.pop("event")).replace("\n", "\\n")
    priority = _PRIORITIES[event.get("level", "info")]
    fields = (f"{name}={_spelled(value)}" for name, value in event.items() if name not in _KNOWN)
    return " ".join((f"<{priority}>{text}", *fields))


def _spelled(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
    return text if _PLAIN.fullmatch(text) or not isinstance(value, str) else json.dumps(text, ensure_ascii=False)
