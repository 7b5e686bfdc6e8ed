"""docs/failures.md: each row names tests that exist, and what it says of clocks holds in the code."""

import re

from tests.support.lab import ROOT
from tests.support.named_tests import missing, named, table_rows

PAGE = (ROOT / "docs/failures.md").read_text()


def test_each_row_names_tests_that_exist() -> None:
    rows = table_rows(PAGE)
    assert len(rows) > 50
    assert [row for row in rows if not named(row)] == []
    assert missing(PAGE) == set()


def test_a_test_that_does_not_exist_is_missing() -> None:
    assert missing("`test_that_nobody_wrote`, `tests/unit/test_absent.py`, `test_upgrade.py`") == {
        "test_that_nobody_wrote",
        "test_absent.py",
    }


def test_no_agent_asks_the_wall_clock() -> None:
    asked = re.compile(r"\btime\.time\(|datetime\.now\(|CLOCK_REALTIME")
    sources = [path for room in ("agent", "kernel", "dataplane") for path in (ROOT / "overlayd" / room).rglob("*.py")]
    assert [path.name for path in sources if asked.search(path.read_text())] == []
