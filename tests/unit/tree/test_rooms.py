"""A room has at most a dozen files and says what it is for; larger rooms stand here with their reason."""

import ast
from pathlib import Path

import pytest

from tests.support.lab.lab import ROOT

FILES_MAX = 12
"""Without `__init__.py`."""

LARGER = {
    "bench": "one file for each benchmark; what they share stands in rooms",
    "controller/api/routes": "one file for each kind of object",
}


def rooms() -> dict[str, list[Path]]:
    """Return the files of every room that has any."""
    folders: dict[str, list[Path]] = {}
    for package in ("bench", "cni", "controller", "overlayd", "tests"):
        for path in sorted((ROOT / package).rglob("*.py")):
            files = folders.setdefault(str(path.parent.relative_to(ROOT)), [])
            if path.name != "__init__.py" and not path.stem.endswith("_pb2"):
                files.append(path)
    return folders


ROOMS = rooms()


@pytest.mark.parametrize("room", [room for room in ROOMS if room not in LARGER])
def test_a_room_has_at_most_a_dozen_files(room: str) -> None:
    assert len(ROOMS[room]) <= FILES_MAX, [path.name for path in ROOMS[room]]


@pytest.mark.parametrize("room", LARGER)
def test_a_larger_room_needs_its_exception(room: str) -> None:
    assert len(ROOMS[room]) > FILES_MAX


@pytest.mark.parametrize("room", [room for room in ROOMS if not room.startswith("tests")])
def test_a_room_says_in_a_paragraph_what_it_is_for(room: str) -> None:
    said = ast.get_docstring(ast.parse((ROOT / room / "__init__.py").read_text()))
    assert said
    assert len(said.splitlines()) > 1, said
