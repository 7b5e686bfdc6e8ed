"""docs/failures.md: each row names tests that exist, its commands work, and what it says of clocks holds."""

import re
import shlex
from pathlib import Path

import pytest

from tests.support.controllers.lone_controller import controller
from tests.support.controllers.terminal import Terminal
from tests.support.lab.lab import ROOT
from tests.support.pages.guide import blocks
from tests.support.pages.named_tests import missing, named, table_rows

PAGE = (ROOT / "docs/failures.md").read_text()


def test_each_row_names_tests_that_exist(request: pytest.FixtureRequest) -> None:
    rows = table_rows(PAGE)
    assert len(rows) > 50
    assert [row for row in rows if not named(row)] == []
    assert missing(PAGE, request.session) == set()


def test_a_test_that_does_not_exist_is_missing(request: pytest.FixtureRequest) -> None:
    text = "`test_that_nobody_wrote`, `tests/unit/test_absent.py`, `test_upgrade.py`"
    assert missing(text, request.session) == {
        "test_that_nobody_wrote",
        "test_absent.py",
    }


def test_the_administrators_commands_find_what_is_wrong(tmp_path: Path) -> None:
    commands, *_ = blocks("Find out what is wrong", PAGE)
    with controller(tmp_path / "store.db") as running:
        body = {"name": "rack1-07", "address": "192.0.2.7", "instance": "i"}
        assert running.api.put("/v1/hosts/h1", json=body).status_code == 200
        assert running.api.post("/v1/networks", json={"name": "blue", "pools": [{"range": "10.32.0.0/16"}]}).is_success
        said = [Terminal(running.api).type(*shlex.split(line)[1:]) for line in commands.splitlines()]
    assert ["rack1-07" in each for each in said] == [True, True, False]
    assert "10.32.0.0/16" in said[2]


def test_no_agent_asks_the_wall_clock() -> None:
    asked = re.compile(r"\btime\.time\(|datetime\.now\(|CLOCK_REALTIME")
    sources = [path for room in ("agent", "kernel", "dataplane") for path in (ROOT / "overlayd" / room).rglob("*.py")]
    assert [path.name for path in sources if asked.search(path.read_text())] == []
