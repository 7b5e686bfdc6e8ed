"""A host's statement: its form, and that every malformed field is named with its path."""

from ipaddress import IPv4Address, IPv6Address

import pytest

from overlayd.model.errors import InvalidValue
from overlayd.model.ids import NetworkName, ReservationName, Revision, Vni
from overlayd.model.lineage import Lineage, Statement
from overlayd.model.reservation import Reservation
from overlayd.wire import statement
from overlayd.wire.fields import Fields, Json
from tests.support.controllers import clusters

BLUE = NetworkName("blue")
KNEW = Lineage("0123456789abcdef", "fedcba9876543210")
STATEMENT = Statement(
    KNEW,
    Revision(41),
    ((BLUE, Vni(100)), (NetworkName("green"), Vni(101))),
    (clusters.block(7, "10.32.0.0/24"),),
    ((BLUE, IPv4Address("10.32.9.9")), (BLUE, IPv6Address("fd00::9"))),
    (Reservation(BLUE, ReservationName("db"), (IPv4Address("10.32.0.7"),)),),
)
FORM: dict[str, Json] = {
    "knew": "0123456789abcdef.fedcba9876543210",
    "revision": 41,
    "networks": [{"name": "blue", "vni": 100}, {"name": "green", "vni": 101}],
    "blocks": [{"network": "blue", "cidr": "10.32.0.0/24", "host": "host-7"}],
    "addresses": [{"network": "blue", "address": "10.32.9.9"}, {"network": "blue", "address": "fd00::9"}],
    "reservations": [
        {"network": "blue", "name": "db", "addresses": ["10.32.0.7"], "mac": None, "holder": None, "shared": False}
    ],
}


def test_a_statement_has_this_form() -> None:
    assert statement.encode(STATEMENT) == FORM
    assert statement.decode(Fields(FORM)) == STATEMENT


def test_a_host_that_knew_nothing_says_so() -> None:
    nothing = Statement(None, Revision(0))
    form: dict[str, Json] = {"networks": [], "blocks": [], "addresses": [], "reservations": []}
    assert statement.encode(nothing) == {"knew": None, "revision": 0, **form}
    assert statement.decode(Fields({"revision": 0, **form})) == nothing


def test_the_vni_is_that_of_the_named_network() -> None:
    assert [STATEMENT.vni(NetworkName(name)) for name in ("green", "blue", "red")] == [101, 100, None]


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"knew": "yesterday"}, "knew"),
        ({"revision": None}, "revision"),
        ({"networks": None}, "networks"),
        ({"networks": [{"vni": 100}]}, "networks[0].name"),
        ({"networks": [{"name": "..", "vni": 100}]}, "networks[0].name"),
        ({"networks": [{"name": "blue"}]}, "networks[0].vni"),
        ({"networks": [{"name": "blue", "vni": 0}]}, "networks[0].vni"),
        ({"blocks": None}, "blocks"),
        ({"blocks": [{"network": "blue", "cidr": "10.32.0.0/24"}]}, "blocks[0].host"),
        ({"addresses": None}, "addresses"),
        ({"addresses": [{"address": "10.32.0.7"}]}, "addresses[0].network"),
        ({"addresses": [{"network": "..", "address": "10.32.0.7"}]}, "addresses[0].network"),
        ({"addresses": [{"network": "blue", "address": "10.32.0"}]}, "addresses[0].address"),
        ({"reservations": None}, "reservations"),
        ({"reservations": [{"network": "blue"}]}, "reservations[0].name"),
    ],
)
def test_a_malformed_statement_is_named_with_its_path(change: dict[str, Json], path: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        statement.decode(Fields({**FORM, **change}, "statement"))
    assert caught.value.field == f"statement.{path}"
