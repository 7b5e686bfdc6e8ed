"""The pages name files, rooms and headings that exist; docs/architecture.md has every room, in the order of imports."""

import re
import tomllib
from functools import cache
from pathlib import Path

import pytest

from tests.support.lab.lab import ROOT

PAGES = [
    ROOT / "README.md",
    *(path for room in ("docs", "bench", "vagrant", "tests") for path in (ROOT / room).rglob("*.md")),
]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())

_PATH = re.compile(r"(?<![\w./~-])(?:bench|cni|controller|docs|overlayd|packaging|tests|vagrant)/[\w./-]*\w")
_SOURCE = re.compile(r"(?<![\w./-])[\w./-]*\w\.(?:py|c|md|proto)\b")
_LINK = re.compile(r"\]\((?!\w+://)([^)#\s]*)(?:#([^)\s]*))?\)")
_NO_PATHS = {"cni/blue", "overlayd/cut-off", "overlayd/ips", "overlayd/mac", "overlayd/reservation"}
"""A network of Nomad, a question of debconf, and annotations of pods."""

_OUTPUT = {"bench/NAME", "cni/launcher", "tests/unit/test_absent.py"}


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


@cache
def sources() -> frozenset[str]:
    """Return the path of each file of the tree, as text that begins with a slash."""
    hidden = {"build", "dist", "__pycache__"}
    paths = (path.relative_to(ROOT) for path in ROOT.rglob("*") if path.is_file())
    return frozenset(f"/{path}" for path in paths if not any(p in hidden or p.startswith(".") for p in path.parts))


@cache
def headings(page: Path) -> frozenset[str]:
    """Return the anchors of a page, as code hosts make them of its headings."""
    lines = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return frozenset(re.sub(r"[^\w\- ]", "", line.lower()).replace(" ", "-") for line in lines)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_path_that_is_named_exists(page: Path) -> None:
    text = page.read_text()
    missing = {path for path in _PATH.findall(text) if not (ROOT / path).exists()} - _NO_PATHS - _OUTPUT
    missing |= {each for each in _SOURCE.findall(text) if not any(path.endswith(f"/{each}") for path in sources())}
    assert missing == {each for each in missing if (page.parent / each).exists()}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_leads_to_a_page_and_a_heading(page: Path) -> None:
    for target, anchor in _LINK.findall(page.read_text()):
        there = (page.parent / target).resolve() if target else page
        assert there.exists(), target
        if anchor:
            assert anchor in headings(there), f"{target}#{anchor}"


@pytest.mark.parametrize("page", PAGES[1:], ids=name_of)
def test_a_page_of_the_documentation_is_linked_from_another(page: Path) -> None:
    if page.is_relative_to(ROOT / "docs"):
        linked = {(each.parent / target).resolve() for each in PAGES for target, _ in _LINK.findall(each.read_text())}
        assert page in linked


def rooms_of_the_page() -> list[str]:
    """Return the packages in the first column of the tables of docs/architecture.md, in its order."""
    text = (ROOT / "docs/architecture.md").read_text()
    return [path.rstrip("/").replace("/", ".") for path in re.findall(r"^\| `([a-z_/]+/?)` \|", text, re.MULTILINE)]


def test_the_architecture_has_every_room_and_no_other() -> None:
    assert sorted(rooms_of_the_page()) == sorted(PROJECT["tool"]["setuptools"]["packages"])


@pytest.mark.parametrize("container", ["overlayd", "overlayd.agent", "overlayd.kernel", "controller", "controller.api"])
def test_rooms_stand_above_those_that_they_may_import(container: str) -> None:
    (layers,) = (
        contract["layers"]
        for contract in PROJECT["tool"]["importlinter"]["contracts"]
        if contract.get("containers") == [container]
    )
    floors = {f"{container}.{name}": at for at, layer in enumerate(layers) for name in re.findall(r"\w+", layer)}
    shown = [floors[room] for room in rooms_of_the_page() if room in floors]
    assert shown == sorted(shown)


@pytest.mark.parametrize("page", [page for page in PAGES if "docs" in page.parts or page.parent == ROOT], ids=name_of)
def test_a_page_names_who_acts(page: Path) -> None:
    prose = re.sub(r"^ *```.*?^ *```|`[^`]*`", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    assert (
        re.findall(r"\b(?:anew|nobody|somebody|told|whoever|whom|what of it|those of which)\b", prose, re.IGNORECASE)
        == []
    )
