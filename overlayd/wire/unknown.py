"""Fields of a stored object that this version does not know, kept through a read-modify-write."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from overlayd.wire.fields import Json


@dataclass(frozen=True, slots=True)
class Unknown:
    """What a newer version added to an object: fields of its own, and fields inside those that we know.

    Elements of a list are known by their `range`, as the pools of a network are; what else stands in a list is
    understood whole.
    """

    fields: Mapping[str, Json]
    inside: Mapping[str, "Unknown"]
    elements: Mapping[str, Mapping[str, "Unknown"]]

    @classmethod
    def of(cls, found: Mapping[str, Json], known: Mapping[str, Json], former: Collection[str] = ()) -> "Unknown":
        """Return what an object has beside its known form; `former` are further names that are understood."""
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
        """Return an object in its known form with these fields beside."""
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
"""What nearly every object has."""
