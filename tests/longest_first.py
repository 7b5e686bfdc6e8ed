"""The order of the files of tests: the longest come first, so that no processor is idle while the last one goes on.

xdist hands out whole files in the order in which they are collected. How long each one takes is recorded in
`file_seconds.txt` by `make times`.
"""

from collections import defaultdict
from pathlib import Path

import pytest

RECORD = Path(__file__).with_name("file_seconds.txt")
_TESTS = Path(__file__).parent
_SHORTEST = 1.0
"""Seconds: files that take less have no line, and come last, in the order of their names."""


def sort(items: list[pytest.Item]) -> None:
    """Put the tests of long files first; the order within a file stays."""
    recorded = _read()
    items.sort(key=lambda item: -recorded.get(str(item.path.relative_to(_TESTS)), 0.0))


def _read() -> dict[str, float]:
    lines = RECORD.read_text().splitlines()
    return {name: float(seconds) for seconds, name in map(str.split, lines)}


class Recorder:
    """A pytest plugin that writes the record at the end of a run; files that did not run keep their lines."""

    def __init__(self) -> None:
        self._seconds = defaultdict[str, float](float)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._seconds[report.nodeid.partition("::")[0].removeprefix("tests/")] += report.duration

    def pytest_sessionfinish(self) -> None:
        known = {name: seconds for name, seconds in _read().items() if (_TESTS / name).exists()}
        merged = {name: seconds for name, seconds in (known | self._seconds).items() if seconds >= _SHORTEST}
        ranked = sorted(merged.items(), key=lambda pair: (-round(pair[1]), pair[0]))
        RECORD.write_text("".join(f"{seconds:.0f} {name}\n" for name, seconds in ranked))
