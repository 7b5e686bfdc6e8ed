"""pyproject.toml lists what the programs import and nothing else; docs/decisions says why."""

import ast
import re
import sys
import tomllib

from tests.support.lab.lab import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
OURS = {"cni", "controller", "overlayd"}

_DISTRIBUTIONS = {"google": "protobuf", "grpc": "grpcio", "prometheus_client": "prometheus-client"}
"""Names of packages on the index, where they differ from what is imported."""

_BROUGHT = {"starlette"}
"""What comes with a dependency, as a part of its face: starlette of fastapi."""

_WITHOUT_IMPORT = {
    "httptools",  # uvicorn loads it by its name
    "pyroute2",  # overlayd/kernel/netlink/encoder.py loads parts of it by their names
}


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[^\w-]", requirement)[0] for requirement in requirements}


def imported() -> set[str]:
    """Return the packages that the programs import, by their names on the index, without those of Python and ours."""
    found = set[str]()
    for room in OURS:
        for path in (ROOT / room).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_bytes())):
                if isinstance(node, ast.Import):
                    found |= {alias.name.partition(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                    found.add(node.module.partition(".")[0])
    return {_DISTRIBUTIONS.get(name, name) for name in found - OURS - sys.stdlib_module_names}


def test_the_dependencies_are_what_the_programs_import() -> None:
    assert names(PROJECT["dependencies"]) - _WITHOUT_IMPORT == imported() - _BROUGHT - _WITHOUT_IMPORT


def test_what_tests_alone_need_is_not_installed_with_the_programs() -> None:
    pinned = set(re.findall(r"^([\w-]+)==", (ROOT / "requirements.lock").read_text(), re.MULTILINE))
    assert names(PROJECT["dependencies"]) <= pinned
    assert {"netaddr", "scapy"} <= names(PROJECT["optional-dependencies"]["dev"])
    assert {"netaddr", "scapy"} & pinned == set()


def test_releases_that_the_decisions_state_are_those_of_the_lock_file() -> None:
    pinned = dict(re.findall(r"^([\w-]+)==([\w.]+)", (ROOT / "requirements-dev.lock").read_text(), re.MULTILINE))
    pages = [page.read_text() for page in (ROOT / "docs/decisions").glob("*.md")]
    tables = [part.partition("\n\n")[0] for page in pages for part in page.split("\n| package | release")[1:]]
    rows = [row for table in tables for row in re.findall(r"^\| ([\w-]+)\b[^|]*\| ([\d.]+) \|", table, re.MULTILINE)]
    assert len(rows) >= 8
    assert {name: version for name, version in rows if pinned.get(name) != version} == {}
