"""The names of schemas in the OpenAPI document: clients make code of them, so they outlast the names of classes."""

from typing import Any

_PUBLIC = {"PastObjectAnswer": "PastObject", "ProblemDocument": "Problem"}
"""The schema of each class whose name in the document is another one; all others are named for their class."""

_PREFIX = "#/components/schemas/"


def document(schema: dict[str, Any]) -> None:
    """Give every schema of an OpenAPI document its public name, also where it is referred to."""
    schemas = schema["components"]["schemas"]
    schema["components"]["schemas"] = {_PUBLIC.get(name, name): each for name, each in schemas.items()}
    for name, public in _PUBLIC.items():
        schemas[name]["title"] = public
    _rename_references(schema)


def _rename_references(part: object) -> None:
    if isinstance(part, dict):
        if isinstance(reference := part.get("$ref"), str):
            name = reference.removeprefix(_PREFIX)
            part["$ref"] = _PREFIX + _PUBLIC.get(name, name)
        for inner in part.values():
            _rename_references(inner)
    elif isinstance(part, list):
        for inner in part:
            _rename_references(inner)
