"""Reading untrusted JSON: what is taken, and that a refusal names the path."""

from collections.abc import Callable
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network

import pytest

from overlayd.model.address import IpNetwork
from overlayd.model.errors import InvalidValue
from overlayd.wire.fields import Fields, Json, parse_cidr

Read = Callable[[Fields], object]


class Colour(StrEnum):
    BLUE = "blue"
    GREEN = "green"


def text(fields: Fields) -> str:
    return fields.text("x")


def number(fields: Fields) -> int:
    return fields.number("x")


def choice(fields: Fields) -> Colour:
    return fields.choice("x", Colour)


def address(fields: Fields) -> IPv4Address:
    return fields.ipv4("x")


def cidr(fields: Fields) -> IpNetwork:
    return fields.cidr("x")


def items(fields: Fields) -> list[Json]:
    return fields.items("x")


def objects(fields: Fields) -> list[Fields]:
    return fields.objects("x")


def nested(fields: Fields) -> Fields:
    return fields.object("x")


@pytest.mark.parametrize(
    ("read", "value", "expected"),
    [
        (text, "", ""),
        (text, "blue", "blue"),
        (number, 0, 0),
        (number, -5, -5),
        (choice, "green", Colour.GREEN),
        (address, "10.32.0.5", IPv4Address("10.32.0.5")),
        (cidr, "10.32.0.0/16", IPv4Network("10.32.0.0/16")),
        (cidr, "10.32.0.5/32", IPv4Network("10.32.0.5/32")),
        (cidr, "0.0.0.0/0", IPv4Network("0.0.0.0/0")),
        (items, [1, None], [1, None]),
        (objects, [], []),
    ],
)
def test_a_field_is_read(read: Read, value: Json, expected: object) -> None:
    assert read(Fields({"x": value, "unknown": [{}]})) == expected


@pytest.mark.parametrize("read", [text, number, choice, address, cidr, items, objects, nested])
@pytest.mark.parametrize("document", [{}, {"x": None}])
def test_a_missing_field_is_named(read: Read, document: Json) -> None:
    with pytest.raises(InvalidValue, match="is required") as caught:
        read(Fields(document, "pools[0]"))
    assert caught.value.field == "pools[0].x"


@pytest.mark.parametrize(
    ("read", "value", "reason"),
    [
        (text, 5, "expected a string"),
        (text, ["a"], "expected a string"),
        (number, "5", "expected an integer"),
        (number, 5.0, "expected an integer"),
        (number, True, "expected an integer"),
        (number, float("nan"), "expected an integer"),
        (choice, "red", "'red' is not one of blue, green"),
        (choice, "BLUE", "is not one of"),
        (choice, 1, "expected a string"),
        (address, "10.32.0", "is not an IPv4 address"),
        (address, "10.32.0.256", "is not an IPv4 address"),
        (address, "10.32.0.05", "is not an IPv4 address"),
        (address, "10.32.0.5/16", "is not an IPv4 address"),
        (address, "10.32.0.5\n", "is not an IPv4 address"),
        (address, "fd00::5", "is not an IPv4 address"),
        (address, 171966469, "expected a string"),
        (cidr, "10.32.0.0", "is not a range"),
        (cidr, "10.32.0.0/", "is not a range"),
        (cidr, "10.32.0.0/33", "is not a range"),
        (cidr, "10.32.0.0/-1", "is not a range"),
        (cidr, "10.32.0.0/16/16", "is not a range"),
        (cidr, "10.32.0.0/255.255.0.0", "is not a range"),
        (cidr, "10.32.0.0/٢", "is not a range"),
        (cidr, "10.32.0.0/" + "9" * 5000, "is not a range"),
        (cidr, "blue/16", "is not a range"),
        (cidr, "fd00::/129", "is not a range"),
        (cidr, "fe80::%eth0/64", "is not a range"),
        (cidr, "10.32.0.5/16", "did you mean 10.32.0.0/16"),
        (items, {}, "expected an array"),
        (items, "ab", "expected an array"),
        (nested, [], "expected an object"),
        (nested, "x", "expected an object"),
    ],
)
def test_a_malformed_field_is_named(read: Read, value: Json, reason: str) -> None:
    with pytest.raises(InvalidValue, match=reason) as caught:
        read(Fields({"x": value}, "puts[3]"))
    assert caught.value.field == "puts[3].x"
    assert len(str(caught.value)) < 200


def test_an_element_is_named_by_its_position() -> None:
    with pytest.raises(InvalidValue, match="expected an object") as caught:
        objects(Fields({"x": [{}, 5]}, "puts"))
    assert caught.value.field == "puts.x[1]"


def test_a_path_leads_through_objects_and_arrays() -> None:
    inner = Fields({"x": [{"x": {"y": 5}}]}).objects("x")[0].object("x")
    with pytest.raises(InvalidValue) as caught:
        inner.text("y")
    assert caught.value.field == "x[0].x.y"


@pytest.mark.parametrize("value", [None, [], 5, "x", True])
def test_a_document_that_is_no_object_is_refused(value: Json) -> None:
    with pytest.raises(InvalidValue, match="expected an object") as caught:
        Fields(value)
    assert caught.value.field is None


def test_errors_of_the_model_get_the_path_of_their_object() -> None:
    def refused(field: str | None) -> Callable[[], None]:
        def make() -> None:
            raise InvalidValue("is wrong", field=field)

        return make

    for path, field, expected in [
        ("puts[0]", "vni", "puts[0].vni"),
        ("", "vni", "vni"),
        ("puts[0]", None, "puts[0]"),
        ("", None, None),
    ]:
        with pytest.raises(InvalidValue, match="is wrong") as caught:
            Fields({}, path).build(refused(field))
        assert caught.value.field == expected


def test_a_null_field_is_like_a_missing_one() -> None:
    fields = Fields({"none": None, "false": False, "zero": 0, "empty": ""})
    assert [fields.has(name) for name in ("none", "false", "zero", "empty", "missing")] == [
        False,
        True,
        True,
        True,
        False,
    ]


def test_a_range_may_stand_alone() -> None:
    assert parse_cidr("10.32.0.0/16", "--range") == IPv4Network("10.32.0.0/16")
    with pytest.raises(InvalidValue) as caught:
        parse_cidr("10.32.0.0", "--range")
    assert caught.value.field == "--range"
