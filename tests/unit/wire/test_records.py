"""Records as JSON: the form on the wire, and that every malformed field is named with its path."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address
from typing import Any

import pytest

from overlayd.model.cluster import Record, RecordKey
from overlayd.model.endpoint import Endpoint, Pod, Workload
from overlayd.model.errors import InvalidValue
from overlayd.model.host import HostState
from overlayd.model.ids import ContainerId, HostId, InterfaceName, MacAddress, NetworkName, ReservationName
from overlayd.model.network import NetworkState, Uplink
from overlayd.model.reservation import Holder, Reservation
from overlayd.wire import records
from overlayd.wire.fields import Fields, Json
from tests.support.controllers import clusters

NETWORK: dict[str, Json] = {
    "kind": "network",
    "name": "blue",
    "vni": 100,
    "topology": "routed",
    "pools": [{"range": "10.32.0.0/16", "block_length": 24}],
    "state": "active",
    "reserved": ["10.32.0.0/28", "10.32.1.1/32"],
    "uplink": "isolated",
    "egress": False,
    "ethertypes": [],
    "gateway_number": 1,
    "made_by": None,
}
HOST: dict[str, Json] = {
    "kind": "host",
    "id": "host-7",
    "number": 7,
    "name": "node-7",
    "address": "192.0.2.7",
    "state": "active",
}
BLOCK: dict[str, Json] = {"kind": "block", "network": "blue", "cidr": "10.32.0.0/24", "host": "host-7"}
ENDPOINT: dict[str, Json] = {
    "kind": "endpoint",
    "network": "blue",
    "container_id": "web",
    "interface": "eth0",
    "host": "host-7",
    "addresses": ["10.32.0.5"],
    "mac": "02:00:0a:20:00:05",
    "sandbox": "/run/netns/web",
}
RESERVATION: dict[str, Json] = {
    "kind": "reservation",
    "network": "blue",
    "name": "db",
    "addresses": ["10.32.0.7", "fd00::7"],
    "mac": "02:00:0a:20:00:07",
    "holder": {"host": "host-7", "container_id": "web", "interface": "eth0"},
    "shared": False,
}
RESERVED = (IPv4Network("10.32.0.0/28"), IPv4Network("10.32.1.1/32"))
RESERVED_ADDRESS = Reservation(
    NetworkName("blue"),
    ReservationName("db"),
    (IPv4Address("10.32.0.7"), IPv6Address("fd00::7")),
    MacAddress("02:00:0a:20:00:07"),
    Holder(HostId("host-7"), ContainerId("web"), InterfaceName("eth0")),
)
FORMS: list[tuple[Record, dict[str, Json]]] = [
    (replace(clusters.network(), reserved=RESERVED, uplink=Uplink.ISOLATED, egress=False), NETWORK),
    (clusters.host(7), HOST),
    (clusters.block(7, "10.32.0.0/24"), BLOCK),
    (clusters.endpoint(7, "web", "10.32.0.5"), ENDPOINT),
    (RESERVED_ADDRESS, RESERVATION),
]
KEYS: list[dict[str, Json]] = [
    {"kind": "network", "key": "blue"},
    {"kind": "host", "key": "host-7"},
    {"kind": "block", "key": ["blue", "10.32.0.0/24"]},
    {"kind": "endpoint", "key": ["blue", "host-7", "web", "eth0"]},
    {"kind": "reservation", "key": ["blue", "db"]},
]


@pytest.mark.parametrize(("record", "form"), FORMS)
def test_a_record_has_this_form(record: Record, form: dict[str, Json]) -> None:
    assert records.encode_tagged(record) == form
    assert {"kind": form["kind"], **records.encode(record)} == form | workload_of(record)
    assert records.decode_tagged(Fields(form)) == record


def workload_of(record: Record) -> dict[str, Json]:
    """Return the fields of a record that only people get, without values."""
    nothing: dict[str, Json] = {"pod": None, "labels": {}, "aliases": [], "runtime": "", "workload": "", "shares": []}
    return nothing if isinstance(record, Endpoint) else {}


WORKLOAD: dict[str, Json] = {
    "pod": {"namespace": "shop", "name": "web-0", "uid": "a1-b2", "infra_container_id": "8f2c"},
    "labels": {"app": "web", "tier": "front"},
    "aliases": ["www"],
    "runtime": "docker",
    "workload": "web-1",
}


def test_an_endpoint_has_what_its_runtime_told_of_it() -> None:
    endpoint = records.decode_endpoint(Fields({**ENDPOINT, **WORKLOAD}))
    assert endpoint.workload == Workload(
        Pod("shop", "web-0", "a1-b2", "8f2c"), (("app", "web"), ("tier", "front")), ("www",), "docker", "web-1"
    )
    assert records.encode(endpoint) == without({**ENDPOINT, **WORKLOAD, "shares": []}, "kind")


def test_a_shared_reservation_says_so_and_an_older_one_is_none() -> None:
    shared = replace(RESERVED_ADDRESS, mac=None, shared=True)
    form: dict[str, Json] = {**RESERVATION, "mac": None, "shared": True}
    assert records.encode_tagged(shared) == form
    assert records.decode_tagged(Fields(form)) == shared
    assert records.decode_tagged(Fields(without(RESERVATION, "shared"))) == RESERVED_ADDRESS


def test_a_segment_has_the_ethertypes_that_pass() -> None:
    form: dict[str, Json] = {**NETWORK, "topology": "switched", "ethertypes": ["0x88b5", "0x88CC"]}
    network = records.decode_network(Fields(form))
    assert network.ethertypes == (0x88B5, 0x88CC)
    assert records.encode(network)["ethertypes"] == ["0x88b5", "0x88cc"]


@pytest.mark.parametrize(
    ("topology", "ethertypes", "field"),
    [
        ("routed", ["0x88b5"], "ethertypes"),
        ("switched", [f"0x88{number:02x}" for number in range(17)], "ethertypes"),
        ("switched", ["0x88b5", "0x88b5"], "ethertypes[1]"),
        *(
            ("switched", [kind], "ethertypes[0]")
            for kind in (
                "0x0800",
                "0x0806",
                "0x86dd",
                "0x8100",
                "0x88a8",
                "0x9100",
                "0x05ff",
                "88b5",
                "0x188b5",
                "",
            )
        ),
    ],
)
def test_ethertypes_that_cannot_pass_are_refused(topology: str, ethertypes: list[Json], field: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        records.decode_network(Fields({**NETWORK, "topology": topology, "ethertypes": ethertypes}, "puts[0]"))
    assert caught.value.field == f"puts[0].{field}"


def test_an_endpoint_has_the_names_of_what_it_shares() -> None:
    form: dict[str, Json] = {**ENDPOINT, **WORKLOAD, "shares": ["vip", "vip6"]}
    endpoint = records.decode_endpoint(Fields(form))
    assert endpoint.shares == ("vip", "vip6")
    assert records.encode(endpoint) == without(form, "kind")
    for wrong, field in ((["vip", ".."], "shares[1]"), ([f"vip{number}" for number in range(17)], "shares")):
        with pytest.raises(InvalidValue) as caught:
            records.decode_endpoint(Fields({**form, "shares": [*wrong]}))
        assert caught.value.field == field
    assert records.encode_tagged(endpoint) == ENDPOINT, "other hosts do not get it"


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"pod": "web-0"}, "pod"),
        ({"pod": {"name": 5}}, "pod.name"),
        ({"pod": {"uid": "x" * 254}}, "pod.uid"),
        ({"pod": {"namespace": "a\x00"}}, "pod.namespace"),
        ({"labels": ["app"]}, "labels"),
        ({"labels": {"app": None}}, "labels.app"),
        ({"labels": {"": "web"}}, "labels"),
        ({"labels": {str(number): "" for number in range(65)}}, "labels"),
        ({"aliases": ["x" * 254]}, "aliases"),
        ({"aliases": ["x"] * 65}, "aliases"),
        ({"aliases": ["x" * 250] * 7}, "aliases"),
        ({"aliases": ["caf\u00e9"]}, "aliases"),
        ({"runtime": 5}, "runtime"),
        ({"runtime": "x" * 254}, "runtime"),
        ({"workload": "a\n"}, "workload"),
    ],
)
def test_a_malformed_workload_is_named_with_its_path(change: dict[str, Json], path: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        records.decode_endpoint(Fields({**ENDPOINT, **change}, "puts[2]"))
    assert caught.value.field == f"puts[2].{path}"


@pytest.mark.parametrize(("record", "form"), FORMS)
def test_unknown_fields_are_ignored(record: Record, form: dict[str, Json]) -> None:
    assert records.decode_tagged(Fields({**form, "colour": {"deep": [1]}})) == record


@pytest.mark.parametrize(("record", "key"), [(form[0], key) for form, key in zip(FORMS, KEYS, strict=True)])
def test_a_key_has_this_form(record: Record, key: dict[str, Json]) -> None:
    assert records.encode_key(RecordKey.of(record)) == key
    assert records.decode_key(Fields(key)) == RecordKey.of(record)


def test_a_network_of_an_earlier_release_has_the_defaults_of_a_new_one() -> None:
    former = without(NETWORK, "state")
    for field in ("reserved", "uplink", "egress", "ethertypes"):
        former = without(former, field)
    assert records.decode_network(Fields(former)) == replace(clusters.network(), uplink=Uplink.AUTO)


def test_a_host_is_read_with_its_state() -> None:
    assert records.decode_host(Fields({**HOST, "state": "draining"})).state is HostState.DRAINING


def test_a_reservation_may_have_neither_mac_nor_holder() -> None:
    form = without(without(RESERVATION, "mac"), "holder")
    assert records.decode_reservation(Fields(form)) == replace(RESERVED_ADDRESS, mac=None, holder=None)


def test_a_malformed_holder_is_named_with_its_path() -> None:
    for field, value in (("host", ".."), ("container_id", "a/b"), ("interface", "a/b")):
        holder: dict[str, Json] = {"host": "host-7", "container_id": "web", "interface": "eth0", field: value}
        with pytest.raises(InvalidValue) as caught:
            records.decode_reservation(Fields({**RESERVATION, "holder": holder}))
        assert caught.value.field == f"holder.{field}"


def test_a_network_without_a_state_is_active() -> None:
    assert records.decode_network(Fields(without(NETWORK, "state"))).state is NetworkState.ACTIVE


def test_the_host_that_had_a_network_made_is_kept() -> None:
    made = records.decode_network(Fields({**NETWORK, "made_by": "host-7"}))
    assert (made.made_by, records.encode(made)["made_by"]) == ("host-7", "host-7")
    assert records.decode_network(Fields(without(NETWORK, "made_by"))).made_by is None


def test_a_host_without_a_state_is_active() -> None:
    assert records.decode_host(Fields(without(HOST, "state"))).state is HostState.ACTIVE


def test_an_endpoint_of_schema_1_is_read() -> None:
    former = {**without(ENDPOINT, "addresses"), "address": "10.32.0.5"}
    assert records.decode_endpoint(Fields(former)) == clusters.endpoint(7, "web", "10.32.0.5")


@pytest.mark.parametrize("addresses", [["10.32.0.5", "10.32.0.6"], ["fd00::5", "10.32.0.5", "fd00::6"]])
def test_two_addresses_of_one_family_are_refused(addresses: list[Json]) -> None:
    with pytest.raises(InvalidValue, match="one of each family") as caught:
        records.decode_endpoint(Fields({**ENDPOINT, "addresses": addresses}))
    assert caught.value.field == "addresses"


def test_a_mac_is_kept_in_the_kernels_spelling() -> None:
    # The observed MAC is in lower case: any other spelling would be a difference for ever.
    shouted = records.decode_endpoint(Fields({**ENDPOINT, "mac": "02:00:0A:20:00:05"}))
    assert shouted == clusters.endpoint(7, "web", "10.32.0.5")


OPTIONAL = {"state", "reserved", "holder", "uplink", "egress", "ethertypes", "gateway_number", "made_by"}
"""Fields that may be null, or missing."""


def malformed() -> Iterator[tuple[dict[str, Json], str, Json]]:
    wrong: list[Json] = [None, {}, [], "", -1, 1.5, True]
    for _, form in FORMS:
        for field in form:
            if field in OPTIONAL or (form is RESERVATION and field == "mac"):
                yield from (
                    (form, field, value)
                    for value in wrong
                    if value is not None
                    and [field, value] not in (["reserved", []], ["ethertypes", []], ["egress", True])
                )
            elif field == "sandbox":
                yield from ((form, field, value) for value in wrong if value != "")
            elif field == "shared":
                yield from ((form, field, value) for value in wrong if value is not True)
            else:
                yield from ((form, field, value) for value in wrong)


@pytest.mark.parametrize(("form", "field", "value"), list(malformed()))
def test_every_malformed_field_is_named_with_its_path(form: dict[str, Json], field: str, value: Json) -> None:
    with pytest.raises(InvalidValue) as caught:
        records.decode_tagged(Fields({**form, field: value}, "puts[2]"))
    assert re.fullmatch(rf"puts\[2\]\.{field}(\.host|\[0\])?", caught.value.field or "")


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"kind": "tunnel"}, "puts[2].kind"),
        ({"pools": [{"block_length": 24}]}, "puts[2].pools[0].range"),
        ({"pools": [{"range": "10.32.0.0/16"}]}, "puts[2].pools[0].block_length"),
        ({"pools": [{"range": "10.32.0.0/16", "block_length": 30}]}, "puts[2].pools[0].block_length"),
        ({"pools": [{"range": "127.0.0.0/16", "block_length": 24}]}, "puts[2].pools[0].range"),
        ({"pools": ["10.32.0.0/16"]}, "puts[2].pools[0]"),
        ({"pools": [{"range": "10.0.0.0/8", "block_length": 24}] * 2}, "puts[2].pools[1].range"),
        ({"pools": []}, "puts[2].pools"),
        ({"reserved": ["10.32.0.0/28", "10.33.0.1"]}, "puts[2].reserved[1]"),
        ({"reserved": ["blue"]}, "puts[2].reserved[0]"),
        ({"state": "sleeping"}, "puts[2].state"),
        ({"topology": "bridged"}, "puts[2].topology"),
        ({"vni": 2**24}, "puts[2].vni"),
    ],
)
def test_a_malformed_network_is_named_with_its_path(change: dict[str, Json], path: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        records.decode_tagged(Fields({**NETWORK, **change}, "puts[2]"))
    assert caught.value.field == path


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ({"kind": "tunnel", "key": "blue"}, "deletes[1].kind"),
        ({"kind": "network"}, "deletes[1].key"),
        ({"kind": "network", "key": "no name"}, "deletes[1].key"),
        ({"kind": "network", "key": ["blue"]}, "deletes[1].key"),
        ({"kind": "host", "key": ""}, "deletes[1].key"),
        ({"kind": "block", "key": "blue"}, "deletes[1].key"),
        ({"kind": "block", "key": ["blue"]}, "deletes[1].key"),
        ({"kind": "block", "key": ["blue", "10.32.0.0/24", "more"]}, "deletes[1].key"),
        ({"kind": "block", "key": ["no name", "10.32.0.0/24"]}, "deletes[1].key.network"),
        ({"kind": "block", "key": ["blue", "10.32.0.5/24"]}, "deletes[1].key.cidr"),
        ({"kind": "endpoint", "key": ["blue", "web", "eth0"]}, "deletes[1].key"),
        ({"kind": "endpoint", "key": [None, "host-7", "web", "eth0"]}, "deletes[1].key.network"),
        ({"kind": "endpoint", "key": ["blue", "..", "web", "eth0"]}, "deletes[1].key.host"),
        ({"kind": "reservation", "key": ["blue", ".."]}, "deletes[1].key.name"),
        ({"kind": "endpoint", "key": ["blue", "host-7", "a/b", "eth0"]}, "deletes[1].key.container_id"),
        ({"kind": "endpoint", "key": ["blue", "host-7", "web", ".."]}, "deletes[1].key.interface"),
    ],
)
def test_a_malformed_key_is_named_with_its_path(key: dict[str, Json], path: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        records.decode_key(Fields(key, "deletes[1]"))
    assert caught.value.field == path


@pytest.mark.parametrize(("record", "form"), FORMS)
def test_the_form_is_plain_json(record: Record, form: dict[str, Json]) -> None:
    assert json.loads(json.dumps(records.encode_tagged(record))) == form


def without(form: dict[str, Any], field: str) -> dict[str, Any]:
    return {name: value for name, value in form.items() if name != field}
