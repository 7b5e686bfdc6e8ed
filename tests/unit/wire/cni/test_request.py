"""CNI requests: what is taken, and the code and the name in each refusal."""

import json
from ipaddress import IPv4Address, IPv6Address

import pytest

from overlayd.model import ids
from overlayd.wire.cni import requests as cni
from overlayd.wire.cni import version as cni_version
from overlayd.wire.cni.error import CniError, Code
from overlayd.wire.cni.requests import Command, GcRequest, Request, StatusRequest
from overlayd.wire.cni.result import NOTHING_BEFORE, KnownInterface
from overlayd.wire.fields import Json

ENVIRONMENT = {
    "CNI_COMMAND": "ADD",
    "CNI_CONTAINERID": "c1",
    "CNI_NETNS": "/run/netns/c1",
    "CNI_IFNAME": "eth0",
    "CNI_PATH": "/opt/cni/bin",
}
CONFIG: dict[str, Json] = {"cniVersion": "1.0.0", "name": "blue", "type": "overlayd"}
PREVIOUS: dict[str, Json] = {"cniVersion": "1.0.0", "ips": [{"address": "10.32.0.5/16"}]}


def environment(command: str = "ADD", **changes: str | None) -> dict[str, str]:
    changed = {**ENVIRONMENT, "CNI_COMMAND": command, **changes}
    return {name: value for name, value in changed.items() if value is not None}


def config(**changes: Json) -> bytes:
    return json.dumps({**CONFIG, **changes}).encode()


def request(variables: dict[str, str], stdin: bytes) -> Request:
    found = cni.parse(variables, stdin)
    assert isinstance(found, Request)
    return found


def refused(variables: dict[str, str], stdin: bytes) -> CniError:
    with pytest.raises(CniError) as caught:
        cni.parse(variables, stdin)
    return caught.value


def test_an_add_is_read() -> None:
    assert cni.parse(environment(), config()) == Request(
        command=Command.ADD,
        version="1.0.0",
        conf=ids.network_name("blue"),
        network=ids.network_name("blue"),
        container_id=ids.container_id("c1"),
        interface=ids.interface_name("eth0"),
        sandbox="/run/netns/c1",
    )


def test_the_network_may_have_another_name_than_the_configuration() -> None:
    asked = request(environment(), config(name="podman-1", network="blue"))
    assert (asked.conf, asked.network) == ("podman-1", "blue")
    assert asked.field("name") == "network"
    assert request(environment(), config()).field("name") == "name"


def test_a_field_of_the_model_has_the_name_of_what_asked_for_it() -> None:
    given = request(
        environment(CNI_ARGS="MAC=02:00:00:00:00:01;RESERVATION=web"), config(args={"cni": {"ips": ["10.32.0.5"]}})
    )
    assert given.field("address") == "args.cni.ips"
    assert given.field("mac") == "CNI_ARGS.MAC"
    assert given.field("reservation") == "CNI_ARGS.RESERVATION"
    runtime = request(environment(), config(runtimeConfig={"mac": "02:00:00:00:00:01"}))
    assert runtime.field("mac") == "runtimeConfig.mac"
    assert runtime.field("address") == "address", "nothing asked for one"


@pytest.mark.parametrize("version", cni_version.SUPPORTED)
def test_every_supported_version_is_taken(version: str) -> None:
    assert cni.parse(environment(), config(cniVersion=version)).version == version


@pytest.mark.parametrize("version", ["0.0.9", "0.3.2", "1.2.0", "2.0.0", "", "one"])
def test_any_other_version_is_refused_with_those_that_are_supported(version: str) -> None:
    error = refused(environment(), config(cniVersion=version))
    assert error.code is Code.INCOMPATIBLE_VERSION
    assert repr(version) in error.msg
    assert error.details == "supported versions: 0.1.0, 0.2.0, 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0"


def test_a_config_without_a_version_means_0_1_0() -> None:
    assert cni.parse(environment(), config(cniVersion=None)).version == "0.1.0"


@pytest.mark.parametrize(
    ("command", "missing", "message"),
    [
        (None, [], "required variable CNI_COMMAND is missing"),
        ("", [], "required variable CNI_COMMAND is missing"),
        ("ADD", ["CNI_NETNS"], "required variable CNI_NETNS is missing for ADD"),
        ("CHECK", ["CNI_PATH"], "required variable CNI_PATH is missing for CHECK"),
        ("GC", ["CNI_PATH"], "required variable CNI_PATH is missing for GC"),
        ("DEL", ["CNI_IFNAME"], "required variable CNI_IFNAME is missing for DEL"),
        (
            "ADD",
            ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"],
            "required variables CNI_CONTAINERID, CNI_NETNS, CNI_IFNAME, CNI_PATH are missing for ADD",
        ),
        (
            "DEL",
            ["CNI_IFNAME", "CNI_PATH"],
            "required variables CNI_IFNAME, CNI_PATH are missing for DEL",
        ),
        (
            "DEL",
            ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"],
            "required variables CNI_CONTAINERID, CNI_IFNAME, CNI_PATH are missing for DEL",
        ),
    ],
)
@pytest.mark.parametrize("nothing", [None, ""])
def test_every_missing_variable_is_named(
    command: str | None, missing: list[str], message: str, nothing: str | None
) -> None:
    changes = {"CNI_COMMAND": command} | dict.fromkeys(missing, nothing)
    error = refused(environment(**changes), config())
    assert (error.code, error.msg) == (Code.INVALID_ENVIRONMENT, message)


@pytest.mark.parametrize("command", ["add", "UPDATE", "ADD "])
def test_an_unknown_command_is_refused_with_those_that_are_known(command: str) -> None:
    error = refused(environment(command), config())
    assert error.code is Code.INVALID_ENVIRONMENT
    assert error.msg == f"CNI_COMMAND: {command!r} is not one of ADD, DEL, CHECK, GC, STATUS, VERSION"


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("CNI_CONTAINERID", "a/b"),
        ("CNI_CONTAINERID", "-a"),
        ("CNI_CONTAINERID", "a" * 129),
        ("CNI_IFNAME", "a" * 16),
        ("CNI_IFNAME", ".."),
        ("CNI_IFNAME", "eth0:1"),
        ("CNI_IFNAME", "eth 0"),
    ],
)
def test_a_malformed_variable_is_named(variable: str, value: str) -> None:
    error = refused(environment(**{variable: value}), config())
    assert error.code is Code.INVALID_ENVIRONMENT
    assert error.msg.startswith(f"{variable}: ")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"name": "no name"}, "name"),
        ({"name": None}, "name"),
        ({"name": 5}, "name"),
        ({"network": ["blue"]}, "network"),
        ({"network": ".."}, "network"),
        ({"cniVersion": 1.0}, "cniVersion"),
        ({"dns": "192.0.2.53"}, "dns"),
        ({"ipMasq": "yes"}, "ipMasq"),
        ({"ipam": []}, "ipam"),
    ],
)
def test_a_malformed_field_of_the_config_is_named(change: dict[str, Json], field: str) -> None:
    error = refused(environment(), config(**change))
    assert error.code is Code.INVALID_CONFIG
    assert error.msg.startswith(f"{field}: ")


@pytest.mark.parametrize("stdin", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b'{"a":' * 100_000])
def test_a_config_that_is_no_json_object_is_refused(stdin: bytes) -> None:
    error = refused(environment(), stdin)
    assert error.code is Code.DECODING_FAILURE
    assert error.msg.startswith("the network config on stdin")


def test_stdin_never_shows_in_an_error() -> None:
    # It may hold other plugins' secrets.
    assert "hunter2" not in refused(environment(), b'{"password": "hunter2", ').msg


def test_a_delete_needs_no_sandbox() -> None:
    for nothing in (None, ""):
        assert request(environment("DEL", CNI_NETNS=nothing), config()).sandbox == ""


def test_a_field_that_we_do_not_do_is_refused_with_its_value() -> None:
    error = refused(environment(), config(ipam={"type": "host-local"}))
    assert error.code is Code.UNSUPPORTED_FIELD
    assert error.msg == "ipam.type: 'host-local' is not supported: the addresses are those of the network"
    assert request(environment(), config(ipam={})).command is Command.ADD


def test_a_check_before_0_4_0_is_refused() -> None:
    error = refused(environment("CHECK"), config(cniVersion="0.3.1", prevResult=PREVIOUS))
    assert error.code is Code.INCOMPATIBLE_VERSION
    assert error.msg == "CHECK exists since cniVersion 0.4.0, the config says 0.3.1"


@pytest.mark.parametrize("version", ["0.4.0", "1.0.0", "1.1.0"])
def test_a_check_is_read_with_the_addresses_of_the_previous_result(version: str) -> None:
    ips: list[Json] = [{"address": "10.32.0.5/16"}, {"address": "fd00::5/64"}]
    asked = request(environment("CHECK"), config(cniVersion=version, prevResult={"ips": ips}))
    assert asked.previous.addresses == (IPv4Address("10.32.0.5"), IPv6Address("fd00::5"))


def test_a_check_without_a_previous_result_is_refused() -> None:
    error = refused(environment("CHECK"), config())
    assert (error.code, error.msg) == (Code.INVALID_CONFIG, "prevResult: is required for CHECK")


@pytest.mark.parametrize("command", ["CHECK", "ADD"])
def test_a_check_and_an_add_read_the_interfaces_of_the_previous_result(command: str) -> None:
    interfaces: list[Json] = [
        {"name": "eth0"},
        {"name": "eth0", "sandbox": "/run/netns/c1", "mac": "02:00:00:00:00:0A", "mtu": 1450},
        {"name": "eth1", "sandbox": "/run/netns/c1", "mtu": 0},
    ]
    asked = request(environment(command), config(prevResult={"interfaces": interfaces}))
    assert asked.previous.interface(ids.interface_name("eth0")) == KnownInterface("02:00:00:00:00:0a", 1450)
    assert asked.previous.interface(ids.interface_name("eth1")) == KnownInterface(None, None)
    assert asked.previous.interface(ids.interface_name("eth2")) is None


def test_an_address_of_the_previous_result_may_have_neither_interface_nor_length() -> None:
    ips: list[Json] = [{"address": "10.32.0.5", "interface": -1}]
    assert request(environment(), config(prevResult={"ips": ips})).previous.addresses == (IPv4Address("10.32.0.5"),)


def test_before_there_were_chains_a_previous_result_means_nothing() -> None:
    assert request(environment(), config(cniVersion="0.2.0", prevResult=[])).previous == NOTHING_BEFORE


@pytest.mark.parametrize("previous", [None, {}, PREVIOUS, [], {"ips": 5}])
def test_a_delete_takes_any_previous_result_or_none(previous: Json) -> None:
    assert request(environment("DEL"), config(prevResult=previous)).previous == NOTHING_BEFORE


@pytest.mark.parametrize(
    ("previous", "path"),
    [
        ([], "prevResult"),
        ({"ips": {}}, "prevResult.ips"),
        ({"ips": [5]}, "prevResult.ips[0]"),
        ({"ips": [{}]}, "prevResult.ips[0].address"),
        ({"ips": [{"address": "here"}]}, "prevResult.ips[0].address"),
        ({"ips": [{"address": "10.32.0.5/32", "interface": 0}]}, "prevResult.ips[0].interface"),
        ({"ips": [{"address": "10.32.0.5/32", "interface": -2}]}, "prevResult.ips[0].interface"),
        ({"interfaces": [{"name": "eth0", "mac": 5}]}, "prevResult.interfaces[0].mac"),
        ({"interfaces": [{"name": "eth0", "sandbox": {}}]}, "prevResult.interfaces[0].sandbox"),
        ({"interfaces": [{"mac": ""}]}, "prevResult.interfaces[0].name"),
        ({"interfaces": [{"name": "eth0", "mtu": "1450"}]}, "prevResult.interfaces[0].mtu"),
        ({"routes": [{}]}, "prevResult.routes[0].dst"),
        ({"dns": []}, "prevResult.dns"),
    ],
)
@pytest.mark.parametrize("command", ["ADD", "CHECK"])
def test_a_malformed_previous_result_is_named(command: str, previous: Json, path: str) -> None:
    error = refused(environment(command), config(prevResult=previous))
    assert error.code is Code.INVALID_CONFIG
    assert error.msg.startswith(f"{path}: ")


LISTED_NAMES = (("c1", "eth0"), ("c2", "net1"))
LISTED: list[Json] = [{"containerID": container, "ifname": name} for container, name in LISTED_NAMES]


def collection(**changes: Json) -> bytes:
    return config(**{"cniVersion": "1.1.0", "name": "k8s", "network": "blue", cni.VALID_ATTACHMENTS: LISTED, **changes})


def test_a_collection_names_its_config_and_what_is_valid() -> None:
    pairs = ((ids.container_id(container), ids.interface_name(name)) for container, name in LISTED_NAMES)
    found = cni.parse(environment("GC", CNI_CONTAINERID=None, CNI_NETNS=None, CNI_IFNAME=None), collection())
    assert found == GcRequest("1.1.0", ids.network_name("k8s"), frozenset(pairs))


@pytest.mark.parametrize("listed", [None, []])
def test_a_collection_of_everything_says_so(listed: Json) -> None:
    found = cni.parse(environment("GC"), collection(**{cni.VALID_ATTACHMENTS: listed}))
    assert isinstance(found, GcRequest)
    assert found.valid == frozenset()


@pytest.mark.parametrize(
    ("listed", "field"),
    [
        ({}, "cni.dev/valid-attachments"),
        ([5], "cni.dev/valid-attachments[0]"),
        ([{"ifname": "eth0"}], "cni.dev/valid-attachments[0].containerID"),
        ([{"containerID": "..", "ifname": "eth0"}], "cni.dev/valid-attachments[0].containerID"),
        ([*LISTED, {"containerID": "c1", "ifname": "a/b"}], "cni.dev/valid-attachments[2].ifname"),
    ],
)
def test_a_malformed_list_collects_nothing(listed: Json, field: str) -> None:
    error = refused(environment("GC"), collection(**{cni.VALID_ATTACHMENTS: listed}))
    assert error.code is Code.INVALID_CONFIG
    assert error.msg.startswith(f"{field}: ")


def test_a_collection_without_a_list_is_refused() -> None:
    error = refused(environment("GC"), config(cniVersion="1.1.0"))
    assert (error.code, error.msg) == (Code.INVALID_CONFIG, "cni.dev/valid-attachments: is required for GC")


def test_a_status_request_is_about_a_network() -> None:
    found = cni.parse({"CNI_COMMAND": "STATUS"}, config(cniVersion="1.1.0", name="k8s", network="blue"))
    assert found == StatusRequest("1.1.0", ids.network_name("blue"))


@pytest.mark.parametrize("command", ["GC", "STATUS"])
def test_collection_and_status_came_with_1_1_0(command: str) -> None:
    error = refused(environment(command), config())
    assert error.code is Code.INCOMPATIBLE_VERSION
    assert error.msg == f"{command} exists since cniVersion 1.1.0, the config says 1.0.0"
