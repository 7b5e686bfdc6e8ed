"""The tests that a page names, and whether pytest would collect them."""

import ast
import re
from collections.abc import Iterator
from functools import cache

from tests.support.lab import ROOT

_NAMED = re.compile(r"`(?:tests/[\w/]+/)?(test_\w+(?:\.py)?)`")
"""A test, or a file of tests, with or without its directory."""


def table_rows(page: str, *headings: str) -> list[str]:
    """Return the rows of the tables below these headings of a page, or below any, without the tables' own heads."""
    sections = re.split(r"^## ", page, flags=re.MULTILINE)
    chosen = [each for each in sections if not headings or each.partition("\n")[0] in headings]
    assert chosen, headings
    return [
        row
        for section in chosen
        for table in re.findall(r"(?:^\|.*\n)+", section, re.MULTILINE)
        for row in table.splitlines()[2:]
    ]


def named(text: str) -> set[str]:
    """Return the tests and files of tests that a text names."""
    return set(_NAMED.findall(text))


def missing(text: str) -> set[str]:
    """Return which of the tests that a text names pytest would not collect."""
    return named(text) - _collected()


@cache
def _collected() -> frozenset[str]:
    return frozenset(_found())


def _found() -> Iterator[str]:
    for path in (ROOT / "tests").rglob("test_*.py"):
        yield path.name
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                yield node.name
