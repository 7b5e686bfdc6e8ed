import os
from pathlib import Path

import pytest
import structlog

from overlayd.service import log_lines


def line(level: str = "info", **event: object) -> str:
    return log_lines.journal_line(None, level, {"level": level, "timestamp": "2026-01-02T03:04:05Z", **event})


def test_a_line_of_the_journal_is_the_event_and_its_fields_without_what_the_journal_has() -> None:
    assert line(event="agent is up", name="host1", revision=7) == "<6>agent is up name=host1 revision=7"


@pytest.mark.parametrize(("level", "priority"), [("debug", 7), ("warning", 4), ("error", 3), ("critical", 2)])
def test_the_prefix_is_the_priority(level: str, priority: int) -> None:
    assert line(level, event="x") == f"<{priority}>x"


@pytest.mark.parametrize(
    ("value", "spelled"),
    [
        ("https://10.0.0.1:7471", "https://10.0.0.1:7471"),
        ("two words", '"two words"'),
        ("", '""'),
        ("a\nb", '"a\\nb"'),
        (["a", 1], '["a", 1]'),
        (None, "null"),
        (Path("/run"), '"/run"'),
    ],
)
def test_a_value_is_quoted_where_it_would_be_taken_for_more_than_one(value: object, spelled: str) -> None:
    assert line(event="x", value=value) == f"<6>x value={spelled}"


def test_an_event_of_several_lines_stays_one() -> None:
    assert (
        line(event="first\nsecond", exception="Traceback:\n  there")
        == '<6>first\\nsecond exception="Traceback:\\n  there"'
    )


def test_the_journal_is_known_by_its_stream_and_everything_else_gets_json() -> None:
    with Path("/dev/null").open("w") as stream:
        status = os.fstat(stream.fileno())
        environment = {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}
        assert log_lines.is_journal(stream, environment)
        assert not log_lines.is_journal(stream, {})
        assert not log_lines.is_journal(stream, {"JOURNAL_STREAM": "1:1"})  # of a process that started this one
        *_, last = log_lines.processors(stream, {})
    assert isinstance(last, structlog.processors.JSONRenderer)
