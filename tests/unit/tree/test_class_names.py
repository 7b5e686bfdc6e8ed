"""One class name means one thing in the whole tree; the exceptions stand here with their reason."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PACKAGES = ("overlayd", "controller", "cni")

SAME_IDEA = {
    "Role": "the role of a token, as the controller checks it and as `overlayctl token create` asks for it",
}


def sources() -> Iterator[Path]:
    for package in PACKAGES:
        yield from (path for path in sorted((ROOT / package).rglob("*.py")) if not path.stem.endswith("_pb2"))


def places_by_class_name() -> dict[str, list[str]]:
    places = defaultdict[str, list[str]](list)
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(f"{path.relative_to(ROOT)}:{node.lineno}")
    return places


def test_a_class_name_stands_once() -> None:
    repeated = {name: found for name, found in places_by_class_name().items() if len(found) > 1}
    assert {name: found for name, found in repeated.items() if name not in SAME_IDEA} == {}


@pytest.mark.parametrize("name", SAME_IDEA)
def test_an_exception_is_needed(name: str) -> None:
    assert len(places_by_class_name()[name]) > 1
