"""CNI requests: what is taken, and the code and the name in each refusal."""

import json
from ipaddress import IPv4Address, IPv6Address

import pytest

from overlayd.model import ids
from overlayd.wire import cni
from overlayd.wire.cni import CniError, Code, Command, Request
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


def refused(variables: dict[str, str], stdin: bytes) -> CniError:
    with pytest.raises(CniError) as caught:
        cni.parse(variables, stdin)
    return caught.value


def test_an_add_is_read() -> None:
    assert cni.parse(environment(), config()) == Request(
        command=Command.ADD,
        version="1.0.0",
        network=ids.network_name("blue"),
        container_id=ids.container_id("c1"),
        interface=ids.interface_name("eth0"),
        sandbox="/run/netns/c1",
    )


def test_the_network_may_have_another_name_than_the_configuration() -> None:
    assert cni.parse(environment(), config(name="podman-1", network="blue")).network == "blue"


@pytest.mark.parametrize("version", cni.SUPPORTED_VERSIONS)
def test_every_supported_version_is_taken(version: str) -> None:
    assert cni.parse(environment(), config(cniVersion=version)).version == version


@pytest.mark.parametrize("version", ["0.1.0", "0.2.0", "0.3.0", "1.2.0", "2.0.0", "", "one"])
def test_any_other_version_is_refused_with_those_that_are_supported(version: str) -> None:
    error = refused(environment(), config(cniVersion=version))
    assert error.code is Code.INCOMPATIBLE_VERSION
    assert repr(version) in error.msg
    assert error.details == "supported versions: 0.3.1, 0.4.0, 1.0.0, 1.1.0"


def test_a_config_without_a_version_means_0_1_0_which_is_refused() -> None:
    error = refused(environment(), config(cniVersion=None))
    assert (error.code, error.msg) == (Code.INCOMPATIBLE_VERSION, "cniVersion '0.1.0' is not supported")


@pytest.mark.parametrize(
    ("command", "missing", "message"),
    [
        (None, [], "required variable CNI_COMMAND is missing"),
        ("", [], "required variable CNI_COMMAND is missing"),
        ("ADD", ["CNI_NETNS"], "required variable CNI_NETNS is missing for ADD"),
        ("CHECK", ["CNI_PATH"], "required variable CNI_PATH is missing for CHECK"),
        ("DEL", ["CNI_IFNAME"], "required variable CNI_IFNAME is missing for DEL"),
        (
            "ADD",
            ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"],
            "required variables CNI_CONTAINERID, CNI_NETNS, CNI_IFNAME, CNI_PATH are missing for ADD",
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


@pytest.mark.parametrize("command", ["add", "GC", "STATUS", "UPDATE", "ADD "])
def test_an_unknown_command_is_refused_with_those_that_are_known(command: str) -> None:
    error = refused(environment(command), config())
    assert error.code is Code.INVALID_ENVIRONMENT
    assert error.msg == f"CNI_COMMAND: {command!r} is not one of ADD, DEL, CHECK, VERSION"


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
        ({"cniVersion": 1.0}, "cniVersion"),
        ({"dns": "192.0.2.53"}, "dns"),
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
        assert cni.parse(environment("DEL", CNI_NETNS=nothing), config()).sandbox == ""


def test_address_and_mac_come_from_the_arguments() -> None:
    arguments = "IgnoreUnknown=1;IP=10.32.0.5;K8S_POD_NAME=web=1;;MAC=02:00:0A:20:00:05;junk"
    request = cni.parse(environment(CNI_ARGS=arguments), config())
    assert (request.wanted, request.mac) == ((IPv4Address("10.32.0.5"),), "02:00:0a:20:00:05")


@pytest.mark.parametrize(
    ("arguments", "more"),
    [
        ("IP=10.32.0.5,fd00::5", {}),
        ("IP=fd00::5, 10.32.0.5/16", {}),
        ("", {"args": {"cni": {"ips": ["10.32.0.5", "fd00::5"]}}}),
        ("", {"runtimeConfig": {"ips": ["10.32.0.5/16", "fd00::5/64"]}}),
        ("IP=10.32.0.5", {"runtimeConfig": {"ips": ["fd00:0::5", "10.32.0.5"]}}),
    ],
)
def test_an_address_of_each_family_may_be_asked_for_in_three_places(arguments: str, more: dict[str, Json]) -> None:
    request = cni.parse(environment(CNI_ARGS=arguments), config(**more))
    assert request.wanted == (IPv4Address("10.32.0.5"), IPv6Address("fd00::5"))


def test_a_mac_may_be_asked_for_by_its_capability() -> None:
    assert cni.parse(environment(), config(runtimeConfig={"mac": "02:00:0A:20:00:05"})).mac == "02:00:0a:20:00:05"


@pytest.mark.parametrize(
    ("arguments", "more"), [("RESERVATION=web", {}), ("", {"args": {"overlayd": {"reservation": "web"}}})]
)
def test_a_reservation_may_be_asked_for_by_name(arguments: str, more: dict[str, Json]) -> None:
    assert cni.parse(environment(CNI_ARGS=arguments), config(**more)).reservation == "web"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"runtimeConfig": {"ips": ["10.32.0.5", "10.32.0.6"]}}, "runtimeConfig.ips[1]"),
        ({"runtimeConfig": {"ips": ["fd00::5%eth0"]}}, "runtimeConfig.ips"),
        ({"runtimeConfig": {"ips": "10.32.0.5"}}, "runtimeConfig.ips"),
        ({"runtimeConfig": []}, "runtimeConfig"),
        ({"runtimeConfig": {"mac": "5"}}, "runtimeConfig.mac"),
        ({"args": {"cni": {"ips": [5]}}}, "args.cni.ips[0]"),
        ({"args": {"overlayd": {"reservation": "a b"}}}, "args.overlayd.reservation"),
    ],
)
def test_a_malformed_wish_in_the_config_is_named(change: dict[str, Json], field: str) -> None:
    error = refused(environment(), config(**change))
    assert error.code is Code.INVALID_CONFIG
    assert error.msg.startswith(f"{field}: ")


def test_what_a_deletion_is_asked_for_does_not_matter() -> None:
    request = cni.parse(environment("DEL", CNI_ARGS="IP=nonsense;MAC=5"), config(runtimeConfig={"ips": 5}))
    assert (request.wanted, request.mac) == ((), None)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ("IP=10.32.0", "CNI_ARGS.IP"),
        ("IP=", "CNI_ARGS.IP"),
        ("IP=10.32.0.5,10.32.0.6", "CNI_ARGS.IP[1]"),
        ("IP=10.32.0.5,", "CNI_ARGS.IP[1]"),
        ("RESERVATION=-", "CNI_ARGS.RESERVATION"),
        ("MAC=5", "CNI_ARGS.MAC"),
        ("MAC=", "CNI_ARGS.MAC"),
        ("MAC=ff:ff:ff:ff:ff:ff", "CNI_ARGS.MAC"),
    ],
)
def test_a_malformed_argument_is_named(arguments: str, name: str) -> None:
    error = refused(environment(CNI_ARGS=arguments), config())
    assert error.code is Code.INVALID_ENVIRONMENT
    assert error.msg.startswith(f"{name}: ")


def test_dns_is_passed_through() -> None:
    dns: Json = {"nameservers": ["192.0.2.53"], "unknown": [1]}
    assert cni.parse(environment(), config(dns=dns)).dns == dns


def test_a_check_before_0_4_0_is_refused() -> None:
    error = refused(environment("CHECK"), config(cniVersion="0.3.1", prevResult=PREVIOUS))
    assert error.code is Code.INCOMPATIBLE_VERSION
    assert error.msg == "CHECK exists since cniVersion 0.4.0, the config says 0.3.1"


@pytest.mark.parametrize("version", ["0.4.0", "1.0.0", "1.1.0"])
def test_a_check_is_read_with_the_addresses_of_the_previous_result(version: str) -> None:
    ips: list[Json] = [{"address": "10.32.0.5/16"}, {"address": "fd00::5/64"}]
    request = cni.parse(environment("CHECK"), config(cniVersion=version, prevResult={"ips": ips}))
    assert request.addresses == (IPv4Address("10.32.0.5"), IPv6Address("fd00::5"))


def test_a_check_without_a_previous_result_is_refused() -> None:
    error = refused(environment("CHECK"), config())
    assert (error.code, error.msg) == (Code.INVALID_CONFIG, "prevResult: is required for CHECK")


def test_an_add_with_a_previous_result_is_refused() -> None:
    error = refused(environment("ADD"), config(prevResult=PREVIOUS))
    assert (error.code, error.msg) == (Code.INVALID_CONFIG, "prevResult: this plugin must be the first of its chain")


@pytest.mark.parametrize("previous", [None, {}, PREVIOUS])
def test_a_delete_takes_any_previous_result_or_none(previous: Json) -> None:
    assert cni.parse(environment("DEL"), config(prevResult=previous)).command is Command.DEL


@pytest.mark.parametrize(
    ("previous", "path"),
    [
        ([], "prevResult"),
        ({"ips": {}}, "prevResult.ips"),
        ({"ips": [5]}, "prevResult.ips[0]"),
        ({"ips": [{}]}, "prevResult.ips[0].address"),
        ({"ips": [{"address": "here"}]}, "prevResult.ips[0].address"),
    ],
)
def test_a_malformed_previous_result_is_named(previous: Json, path: str) -> None:
    error = refused(environment("CHECK"), config(prevResult=previous))
    assert error.code is Code.INVALID_CONFIG
    assert error.msg.startswith(f"{path}: ")
