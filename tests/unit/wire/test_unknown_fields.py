"""Fields of another version survive a read-modify-write."""

from overlayd.wire.fields import Json
from overlayd.wire.unknown_fields import NOTHING, Unknown

KNOWN: dict[str, Json] = {"name": "blue", "pools": [{"range": "10.0.0.0/16"}, {"range": "fd00::/64"}], "holder": None}


def test_what_is_known_leaves_nothing() -> None:
    assert Unknown.of(KNOWN, KNOWN) is NOTHING
    assert Unknown.of({**KNOWN, "v": 2}, KNOWN, {"v"}) is NOTHING
    assert NOTHING.added_to(KNOWN) == KNOWN


def test_a_field_that_is_not_known_is_kept_and_never_replaces_a_known_one() -> None:
    unknown = Unknown.of({**KNOWN, "colour": {"deep": [1]}}, KNOWN)
    assert unknown.added_to({**KNOWN, "name": "red"}) == {**KNOWN, "name": "red", "colour": {"deep": [1]}}
    assert unknown.added_to({**KNOWN, "colour": "ours now"})["colour"] == "ours now"


def test_a_field_inside_an_object_goes_with_the_object() -> None:
    ours: dict[str, Json] = {"host": "h1"}
    holder: dict[str, Json] = {"host": "h1", "since": 5}
    unknown = Unknown.of({**KNOWN, "holder": holder}, {**KNOWN, "holder": ours})
    moved: dict[str, Json] = {"host": "h2"}
    assert unknown.added_to({**KNOWN, "holder": moved})["holder"] == {"host": "h2", "since": 5}
    assert unknown.added_to(KNOWN) == KNOWN


def test_a_field_of_a_pool_stays_with_its_range() -> None:
    found: list[Json] = [{"range": "10.0.0.0/16", "weight": 3}, {"range": "fd00::/64"}]
    unknown = Unknown.of({**KNOWN, "pools": found}, KNOWN)
    stranger: list[Json] = [{"weight": 1}, "10.0.0.0/16", {"range": "fd00::/64"}]
    assert Unknown.of({**KNOWN, "pools": stranger}, {**KNOWN, "pools": stranger[:2]}) is NOTHING
    nameless: list[Json] = [{"colour": "red"}]
    assert Unknown.of({**KNOWN, "pools": [{"weight": 1}]}, {**KNOWN, "pools": nameless}) is NOTHING
    reordered: list[Json] = [{"range": "fd00::/64"}, {"range": "10.1.0.0/16"}, {"range": "10.0.0.0/16"}]
    assert unknown.added_to({**KNOWN, "pools": reordered})["pools"] == [
        {"range": "fd00::/64"},
        {"range": "10.1.0.0/16"},
        {"range": "10.0.0.0/16", "weight": 3},
    ]
