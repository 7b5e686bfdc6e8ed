"""What a line of a daemon's log looks like: text for the journal, colours for a terminal, JSON for everything else."""

import json
import os
import re
from collections.abc import Mapping
from typing import TextIO

import structlog
from structlog.typing import EventDict, Processor

_PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}
"""As syslog(3) has them, for sd-daemon(3)'s prefix of a line."""

_PLAIN = re.compile(r"[\w.:/@+-]+")
_KNOWN = ("level", "timestamp")
"""What the journal has anyway."""


def processors(stream: TextIO, environment: Mapping[str, str]) -> list[Processor]:
    """Return what makes a line for this stream of an event with a level and a time."""
    if is_journal(stream, environment):
        return [structlog.processors.format_exc_info, journal_line]
    if stream.isatty():
        return [structlog.dev.ConsoleRenderer()]
    return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]


def is_journal(stream: TextIO, environment: Mapping[str, str]) -> bool:
    """Tell whether a stream leads to systemd's journal (systemd.exec(5), JOURNAL_STREAM)."""
    told = environment.get("JOURNAL_STREAM")
    if not told:
        return False
    status = os.fstat(stream.fileno())
    return told == f"{status.st_dev}:{status.st_ino}"


def journal_line(_logger: object, _method: str, event: EventDict) -> str:
    """Return an event as one line, its fields behind its text; the journal takes the prefix for its priority."""
    text = str(event.pop("event")).replace("\n", "\\n")
    priority = _PRIORITIES[event.get("level", "info")]
    fields = (f"{name}={_spelled(value)}" for name, value in event.items() if name not in _KNOWN)
    return " ".join((f"<{priority}>{text}", *fields))


def _spelled(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
    return text if _PLAIN.fullmatch(text) or not isinstance(value, str) else json.dumps(text, ensure_ascii=False)
