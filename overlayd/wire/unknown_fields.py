"""Preserves the fields of a stored object that this release does not know when it changes the object."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from overlayd.wire.fields import Json


@dataclass(frozen=True, slots=True)
class Unknown:
    """The fields that a newer release added to an object: its own `fields`, and those of objects and lists in it.

    Elements of lists are matched by their field `range`, as the pools of a network have it. Nothing is preserved in
    other elements.
    """

    fields: Mapping[str, Json]
    inside: Mapping[str, "Unknown"]
    elements: Mapping[str, Mapping[str, "Unknown"]]

    @classmethod
    def of(cls, found: Mapping[str, Json], known: Mapping[str, Json], former: Collection[str] = ()) -> "Unknown":
        """Return the fields of `found` that are neither in `known` nor in `former`, the names of earlier releases."""
        inside, elements = {}, {}
        for name, ours in known.items():
            theirs = found.get(name)
            if isinstance(ours, dict) and isinstance(theirs, dict):
                inside[name] = cls.of(theirs, ours)
            elif isinstance(ours, list) and isinstance(theirs, list):
                elements[name] = cls._of_elements(theirs, ours)
        fields = {name: value for name, value in found.items() if name not in known and name not in former}
        kept = cls(
            fields,
            {name: unknown for name, unknown in inside.items() if unknown is not NOTHING},
            {name: unknown for name, unknown in elements.items() if unknown},
        )
        return kept if kept.fields or kept.inside or kept.elements else NOTHING

    def added_to(self, known: Mapping[str, Json]) -> dict[str, Json]:
        """Return an object in its known form with these fields added."""
        whole = {**self.fields, **known}
        for name, unknown in self.inside.items():
            value = whole.get(name)
            if isinstance(value, dict):
                whole[name] = unknown.added_to(value)
        for name, by_identity in self.elements.items():
            value = whole.get(name)
            if isinstance(value, list):
                whole[name] = [_added_to_element(element, by_identity) for element in value]
        return whole

    @classmethod
    def _of_elements(cls, found: list[Json], known: list[Json]) -> dict[str, "Unknown"]:
        ours = {
            identity: element for element in known if (identity := _identity(element)) and isinstance(element, dict)
        }
        kept = {}
        for element in found:
            identity = _identity(element)
            if identity in ours and isinstance(element, dict):
                unknown = cls.of(element, ours[identity])
                if unknown is not NOTHING:
                    kept[identity] = unknown
        return kept


def _identity(element: Json) -> str:
    return str(element.get("range", "")) if isinstance(element, dict) else ""


def _added_to_element(element: Json, by_identity: Mapping[str, Unknown]) -> Json:
    unknown = by_identity.get(_identity(element))
    return unknown.added_to(element) if unknown and isinstance(element, dict) else element


NOTHING = Unknown({}, {}, {})
"""No unknown field, as in nearly every object."""
