"""What an ADD may ask for, where, what comes first, and the name in each refusal."""

import json
import re
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest

from overlayd.model.bandwidth import Rate
from overlayd.model.endpoint import Pod
from overlayd.model.published_port import PortMapping, TransportProtocol
from overlayd.wire.cni import requests as cni
from overlayd.wire.cni.error import CniError, Code
from overlayd.wire.cni.wishes import ANNOTATIONS, NOTHING, AddressRange, Wishes
from overlayd.wire.fields import Json


def asked(arguments: str = "", command: str = "ADD", /, **more: Json) -> Wishes:
    """Return what an execution with these CNI_ARGS and this config asks for."""
    variables = {
        "CNI_CONTAINERID": "c1",
        "CNI_NETNS": "/run/netns/c1",
        "CNI_IFNAME": "eth0",
        "CNI_PATH": "/opt/cni/bin",
    }
    config = {"cniVersion": "1.0.0", "name": "blue", "type": "overlayd", **more}
    found = cni.parse({**variables, "CNI_COMMAND": command, "CNI_ARGS": arguments}, json.dumps(config).encode())
    assert isinstance(found, cni.Request)
    return found.wishes


def refused(arguments: str = "", /, **more: Json) -> CniError:
    with pytest.raises(CniError) as caught:
        asked(arguments, **more)
    return caught.value


def annotated(**annotations: Json) -> dict[str, Json]:
    return {ANNOTATIONS: {f"overlayd/{name}": value for name, value in annotations.items()}}


def test_fields_of_the_runtime_may_be_spelled_as_containerd_does() -> None:
    wishes = asked(
        runtimeConfig={
            "bandwidth": {"IngressRate": 8_000_000, "IngressBurst": 4_294_967_295, "EgressRate": 0, "EgressBurst": 0},
            "portMappings": [{"HostPort": 8080, "ContainerPort": 80, "Protocol": "tcp", "HostIP": ""}],
            "ipRanges": [[{"Subnet": "10.32.0.0/24", "RangeStart": "10.32.0.9"}]],
            ANNOTATIONS: {"Gateway": "an annotation's own"},
        }
    )
    assert wishes.ranges == (AddressRange(IPv4Address("10.32.0.9"), IPv4Address("10.32.0.255")),)
    assert wishes.bandwidth.ingress == Rate(8_000_000, 0), "a burst that nobody asked for"
    assert wishes.bandwidth.egress is None
    assert asked(runtimeConfig={"bandwidth": {"EgressRate": 1000}}).bandwidth.egress == Rate(1000, 0)
    assert wishes.ports == (PortMapping(TransportProtocol.TCP, 8080, 80),)


def test_who_asks_for_nothing_gets_what_the_network_has() -> None:
    assert asked() == NOTHING


def test_address_and_mac_come_from_the_arguments() -> None:
    wishes = asked("IgnoreUnknown=1;IP=10.32.0.5;K8S_POD_NAME=web=1;;MAC=02:00:0A:20:00:05;junk")
    assert (wishes.addresses, wishes.mac) == ((IPv4Address("10.32.0.5"),), "02:00:0a:20:00:05")


@pytest.mark.parametrize("arguments", ["IPP=10.32.0.5", "IP=10.32.0.5;FOO=1", "junk", "IgnoreUnknown=0;FOO=1"])
def test_an_unknown_argument_is_refused_unless_the_runtime_says_otherwise(arguments: str) -> None:
    error = refused(arguments)
    assert error.code is Code.INVALID_ENVIRONMENT
    assert error.msg.startswith("CNI_ARGS: ")
    assert error.msg.endswith(
        "is not one of IP, IgnoreUnknown, K8S_POD_INFRA_CONTAINER_ID, K8S_POD_NAME, K8S_POD_NAMESPACE, K8S_POD_UID, "
        "MAC, RESERVATION; IgnoreUnknown=1 lets it pass"
    )
    assert re.search("'(IPP|FOO|junk)'", error.msg)


@pytest.mark.parametrize(
    ("arguments", "more"),
    [
        ("IP=10.32.0.5,fd00::5", {}),
        ("IP=fd00::5, 10.32.0.5/16", {}),
        ("", {"args": {"cni": {"ips": ["10.32.0.5", "fd00::5"]}}}),
        ("", {"runtimeConfig": {"ips": ["10.32.0.5/16", "fd00::5/64"]}}),
        ("", {"runtimeConfig": annotated(ips="10.32.0.5, fd00::5")}),
        ("IP=10.32.0.9", {"runtimeConfig": {"ips": ["fd00:0::5", "10.32.0.5"]}}),
        ("IP=10.32.0.9", {"args": {"cni": {"ips": ["fd00::5", "10.32.0.5"]}}}),
        ("IP=10.32.0.5,fd00::5", {"runtimeConfig": {"ips": [], **annotated(ips="10.32.0.9")}}),
        ("", {"runtimeConfig": {"ips": ["10.32.0.5", "fd00::5"]}, "args": {"cni": {"ips": ["10.32.0.9"]}}}),
    ],
)
def test_an_address_of_each_family_may_be_asked_for_and_the_config_comes_first(
    arguments: str, more: dict[str, Json]
) -> None:
    assert asked(arguments, **more).addresses == (IPv4Address("10.32.0.5"), IPv6Address("fd00::5"))


@pytest.mark.parametrize(
    ("arguments", "more"),
    [
        ("", {"runtimeConfig": {"mac": "02:00:0A:20:00:05"}}),
        ("MAC=02:00:00:00:00:01", {"runtimeConfig": {"mac": "02:00:0A:20:00:05"}}),
        ("MAC=02:00:0a:20:00:05", {"runtimeConfig": {"mac": "", **annotated(mac="02:00:00:00:00:01")}}),
        ("", {"runtimeConfig": annotated(mac="02:00:0a:20:00:05")}),
    ],
)
def test_a_mac_may_be_asked_for_and_the_config_comes_first(arguments: str, more: dict[str, Json]) -> None:
    assert asked(arguments, **more).mac == "02:00:0a:20:00:05"


@pytest.mark.parametrize(
    ("arguments", "more"),
    [
        ("RESERVATION=web", {}),
        ("RESERVATION=db", {"args": {"overlayd": {"reservation": "web"}}}),
        ("", {"runtimeConfig": annotated(reservation="web")}),
    ],
)
def test_a_reservation_may_be_asked_for_by_name(arguments: str, more: dict[str, Json]) -> None:
    assert asked(arguments, **more).reservations == ("web",)


def test_several_reservations_have_commas_between_them() -> None:
    assert asked("RESERVATION=web,vip,web").reservations == ("web", "vip")
    with pytest.raises(CniError, match=r"CNI_ARGS\.RESERVATION"):
        asked("RESERVATION=web,,vip")


def test_annotations_of_others_mean_nothing() -> None:
    assert asked(runtimeConfig={ANNOTATIONS: {"ips": "x", "example.org/mac": "y"}}) == NOTHING


def test_what_kubernetes_says_of_a_pod_is_kept() -> None:
    arguments = (
        "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0;K8S_POD_INFRA_CONTAINER_ID=8f2c;K8S_POD_UID=a1-b2"
    )
    assert asked(arguments).workload.pod == Pod("shop", "web-0", "a1-b2", "8f2c")
    assert asked("IgnoreUnknown=1;K8S_POD_NAME=").workload.pod is None


def test_aliases_of_podman_are_those_for_this_network() -> None:
    given: dict[str, Json] = {"blue": ["web", "453696e45742"], "green": ["other"]}
    assert asked(runtimeConfig={"aliases": given}).workload.aliases == ("web", "453696e45742")
    assert asked(runtimeConfig={"aliases": {"green": ["other"]}}) == NOTHING


def test_the_name_of_a_network_is_no_field_of_the_conventions() -> None:
    wishes = asked(name="Gateway", runtimeConfig={"aliases": {"Gateway": ["www"]}})
    assert wishes.workload.aliases == ("www",)


def test_a_job_of_nomad_is_known_by_name_and_labels() -> None:
    arguments = (
        "IgnoreUnknown=true;NOMAD_REGION=eu;NOMAD_NAMESPACE=default;NOMAD_JOB_ID=shop;NOMAD_GROUP_NAME=web;"
        "NOMAD_ALLOC_ID=5d3bd8b0-1b4d-4f0c-8b57-3f3a8a4f6a51;team=blue"
    )
    workload = asked(arguments, args={"cni": {"labels": [{"key": "nomad.region", "value": "ours"}]}}).workload
    assert workload.name == "shop-web"
    assert dict(workload.labels) == {
        "nomad.allocation": "5d3bd8b0-1b4d-4f0c-8b57-3f3a8a4f6a51",
        "nomad.group": "web",
        "nomad.job": "shop",
        "nomad.namespace": "default",
        "nomad.region": "ours",
    }


def test_a_job_may_have_any_name() -> None:
    """Nomad forbids spaces and NUL only; a label that cannot be kept whole must keep no job from starting."""
    workload = asked(f"IgnoreUnknown=true;NOMAD_JOB_ID=caf\u00e9\t{'x' * 300};NOMAD_GROUP_NAME=web").workload
    assert dict(workload.labels)["nomad.job"].startswith("caf\\xe9?x")
    assert len(workload.name) == len(dict(workload.labels)["nomad.job"]) == 253


def test_labels_and_aliases_are_kept() -> None:
    labels: list[Json] = [{"key": "tier", "value": "front"}, {"key": "app", "value": "web"}]
    workload = asked(args={"cni": {"labels": labels}}, runtimeConfig={"aliases": ["web", "www"]}).workload
    assert (workload.labels, workload.aliases) == ((("app", "web"), ("tier", "front")), ("web", "www"))


def test_ports_and_bandwidth_are_asked_for_also_by_a_check() -> None:
    mapping: Json = {"hostPort": 8080, "containerPort": 80, "protocol": "TCP"}
    limits: Json = {"ingressRate": 1_000_000, "ingressBurst": 80_000}
    config: Json = {"portMappings": [mapping], "bandwidth": limits}
    for command, previous in (("ADD", None), ("CHECK", {})):
        wishes = asked("", command, runtimeConfig=config, prevResult=previous)
        assert wishes.ports == (PortMapping(TransportProtocol.TCP, 8080, 80),)
        assert (wishes.bandwidth.ingress, wishes.bandwidth.egress) == (Rate(1_000_000, 80_000), None)


def test_ranges_of_several_sets_are_kept() -> None:
    sets: Json = [
        [{"subnet": "10.32.0.0/24", "rangeStart": "10.32.0.10", "rangeEnd": "10.32.0.20"}, {"subnet": "10.32.2.0/31"}],
        [{"subnet": "fd00:32::/64", "rangeStart": "fd00:32::8"}],
    ]
    found = [
        ("10.32.0.10", "10.32.0.20"),
        ("10.32.2.0", "10.32.2.1"),
        ("fd00:32::8", "fd00:32::ffff:ffff:ffff:ffff"),
    ]
    expected = tuple(AddressRange(ip_address(first), ip_address(last)) for first, last in found)
    assert asked(runtimeConfig={"ipRanges": sets}).ranges == expected


def test_as_many_ranges_as_allowed_are_read_also_of_one_address() -> None:
    one: Json = {"subnet": "10.32.0.0/24", "rangeStart": "10.32.0.9", "rangeEnd": "10.32.0.9"}
    address = IPv4Address("10.32.0.9")
    assert asked(runtimeConfig={"ipRanges": [[one] * 64]}).ranges == (AddressRange(address, address),) * 64


def test_dns_is_passed_through() -> None:
    dns: Json = {"nameservers": ["192.0.2.53"], "unknown": [1]}
    assert asked(dns=dns).dns == dns


def test_the_runtimes_dns_comes_first_in_the_words_of_a_result() -> None:
    given: Json = {"servers": ["192.0.2.1"], "searches": ["example.org"], "options": ["ndots:5"]}
    expected = {"nameservers": ["192.0.2.1"], "search": ["example.org"], "options": ["ndots:5"]}
    config: Json = {"nameservers": ["192.0.2.53"]}
    assert asked(dns=config, runtimeConfig={"dns": given}).dns == expected
    assert asked(dns=config, runtimeConfig={"dns": {"servers": [], "searches": []}}).dns == config


def test_masquerading_may_be_expected() -> None:
    assert asked(ipMasq=True).masquerade
    assert not asked(ipMasq=False).masquerade


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"runtimeConfig": {"ips": ["10.32.0.5", "10.32.0.6"]}}, "runtimeConfig.ips[1]"),
        ({"runtimeConfig": {"ips": ["fd00::5%eth0"]}}, "runtimeConfig.ips"),
        ({"runtimeConfig": {"ips": "10.32.0.5"}}, "runtimeConfig.ips"),
        ({"runtimeConfig": []}, "runtimeConfig"),
        ({"runtimeConfig": {"mac": "5"}}, "runtimeConfig.mac"),
        ({"runtimeConfig": {"mac": "02:6f:76:00:00:00"}}, "runtimeConfig.mac"),
        ({"runtimeConfig": {"mac": "ff:ff:ff:ff:ff:ff"}}, "runtimeConfig.mac"),
        ({"runtimeConfig": {"mac": "00:00:00:00:00:00"}}, "runtimeConfig.mac"),
        ({"runtimeConfig": annotated(mac="02:6f:76:00:00:09")}, f"runtimeConfig.{ANNOTATIONS}.overlayd/mac"),
        ({"runtimeConfig": {"dns": {"servers": "x"}}}, "runtimeConfig.dns.servers"),
        ({"runtimeConfig": {"aliases": [5]}}, "runtimeConfig.aliases[0]"),
        ({"runtimeConfig": {"aliases": {"blue": [5]}}}, "runtimeConfig.aliases.blue[0]"),
        ({"runtimeConfig": {"aliases": ["a\nb"]}}, "runtimeConfig.aliases"),
        ({"runtimeConfig": {"ipRanges": {}}}, "runtimeConfig.ipRanges"),
        ({"runtimeConfig": {"ipRanges": [{}]}}, "runtimeConfig.ipRanges[0]"),
        ({"runtimeConfig": {"ipRanges": [[{}]]}}, "runtimeConfig.ipRanges[0][0].subnet"),
        ({"runtimeConfig": {"ipRanges": [[{"subnet": "10.32.0.0"}]]}}, "runtimeConfig.ipRanges[0][0].subnet"),
        (
            {"runtimeConfig": {"ipRanges": [[{"subnet": "10.32.0.0/24", "rangeEnd": "10.32.1.0"}]]}},
            "runtimeConfig.ipRanges[0][0].rangeEnd",
        ),
        (
            {
                "runtimeConfig": {
                    "ipRanges": [[{"subnet": "10.32.0.0/24", "rangeStart": "10.32.0.9", "rangeEnd": "10.32.0.8"}]]
                }
            },
            "runtimeConfig.ipRanges[0][0].rangeEnd",
        ),
        ({"runtimeConfig": {"ipRanges": [[{"subnet": "10.32.0.0/24"}] * 65]}}, "runtimeConfig.ipRanges"),
        ({"runtimeConfig": annotated(mac="5")}, f"runtimeConfig.{ANNOTATIONS}.overlayd/mac"),
        ({"args": {"cni": {"ips": [5]}}}, "args.cni.ips[0]"),
        ({"args": {"cni": {"labels": {"app": "web"}}}}, "args.cni.labels"),
        ({"args": {"cni": {"labels": [{"key": "app"}]}}}, "args.cni.labels[0].value"),
        ({"args": {"cni": {"labels": [{"key": "", "value": ""}]}}}, "args.cni.labels"),
        ({"args": {"overlayd": {"reservation": "a b"}}}, "args.overlayd.reservation"),
    ],
)
def test_a_malformed_wish_in_the_config_is_named(change: dict[str, Json], field: str) -> None:
    error = refused(**change)
    assert error.code is Code.INVALID_CONFIG
    assert error.msg.startswith(f"{field}: ")


def test_a_gateway_of_ones_own_is_refused_with_its_value() -> None:
    error = refused(runtimeConfig={"ipRanges": [[{"subnet": "10.32.0.0/24", "gateway": "10.32.0.254"}]]})
    assert error.code is Code.UNSUPPORTED_FIELD
    assert error.msg == (
        "runtimeConfig.ipRanges[0][0].gateway: '10.32.0.254' is not supported: the network has its own gateway"
    )


def test_what_is_no_list_of_ranges_is_refused_with_its_value() -> None:
    error = refused(runtimeConfig={"ipRanges": ["10.32.0.0/24"]})
    assert error.msg == "runtimeConfig.ipRanges[0]: expected an array, not '10.32.0.0/24'"


def test_what_a_deletion_is_asked_for_does_not_matter() -> None:
    assert asked("IP=nonsense;MAC=5;junk", "DEL", runtimeConfig={"ips": 5}, ipam={"type": "host-local"}) == NOTHING


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
        (f"K8S_POD_NAME={'x' * 254}", "CNI_ARGS.K8S_POD_NAME"),
        ("K8S_POD_UID=a\tb", "CNI_ARGS.K8S_POD_UID"),
    ],
)
def test_a_malformed_argument_is_named(arguments: str, name: str) -> None:
    error = refused(arguments)
    assert error.code is Code.INVALID_ENVIRONMENT
    assert error.msg.startswith(f"{name}: ")
