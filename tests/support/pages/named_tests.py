"""The tests that a page names, and whether pytest collects them."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.lab.lab import ROOT

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


def missing(text: str, session: pytest.Session) -> set[str]:
    """Return which of the tests that a text names pytest does not collect; `session` has collected some already."""
    present = {path.name for path in (ROOT / "tests").rglob("test_*.py")}
    known = {item.originalname for item in session.items if isinstance(item, pytest.Function)}
    left = named(text) - present - known
    return left - _collected(left)


def _collected(names: set[str]) -> set[str]:
    """Return the tests that pytest collects from the files in which functions have these names."""
    files = [path for path in (ROOT / "tests").rglob("test_*.py") if names & _functions(path)]
    if not files:
        return set()
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *map(str, files)]
    shown = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    return set(re.findall(r"::(test_\w+)", shown))


def _functions(path: Path) -> set[str]:
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in ast.parse(path.read_bytes()).body if isinstance(node, functions)}
