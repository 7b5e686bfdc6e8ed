"""Answers to the container runtime, in the form of each version."""

import json
from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network

import pytest

from overlayd.model import ids
from overlayd.wire.cni import error as cni_error
from overlayd.wire.cni import requests as cni
from overlayd.wire.cni import result as cni_result
from overlayd.wire.cni import version as cni_version
from overlayd.wire.cni.error import CniError, Code
from overlayd.wire.cni.result import Assigned, Result
from overlayd.wire.fields import Fields, Json

ROUTED = Result(
    interface=ids.interface_name("eth0"),
    mac=ids.mac_address("02:00:0a:20:00:05"),
    sandbox="/run/netns/c1",
    mtu=1450,
    ips=(Assigned(IPv4Interface("10.32.0.5/32"), IPv4Address("169.254.1.1")),),
    routes=(IPv4Network("10.32.0.0/16"),),
    dns={"nameservers": ["192.0.2.53"]},
)
SWITCHED = replace(ROUTED, ips=(Assigned(IPv4Interface("10.32.0.5/16")),), routes=(), dns=None)
DUAL = replace(
    ROUTED,
    ips=(*ROUTED.ips, Assigned(IPv6Interface("fd00:32::5/128"), IPv6Address("fe80::1"))),
    routes=(*ROUTED.routes, IPv6Network("fd00:32::/48")),
)


def rendered(version: str, result: Result) -> str:
    """Return the JSON of a result, which is one line, as a person would write it."""
    line = cni_result.render(version, result).decode()
    assert line.endswith("}\n")
    return json.dumps(json.loads(line), indent=2) + "\n"


@pytest.mark.parametrize("version", cni_version.SUPPORTED)
@pytest.mark.parametrize(("topology", "result"), [("routed", ROUTED), ("switched", SWITCHED), ("dual", DUAL)])
def test_a_result_has_the_form_of_its_version(
    topology: str, result: Result, version: str, golden: Callable[[str, str], None]
) -> None:
    golden(f"result-{topology}-{version}.json", rendered(version, result))


def test_a_check_reads_the_addresses_of_our_own_result() -> None:
    variables = {"CNI_CONTAINERID": "c1", "CNI_NETNS": "/n", "CNI_IFNAME": "eth0", "CNI_PATH": "/bin"}
    for version in ("0.4.0", "1.0.0", "1.1.0"):
        previous = json.loads(cni_result.render(version, DUAL))
        config = json.dumps({"cniVersion": version, "name": "blue", "prevResult": previous}).encode()
        request = cni.parse({**variables, "CNI_COMMAND": "CHECK"}, config)
        assert isinstance(request, cni.Request)
        assert request.previous.addresses == tuple(each.address.ip for each in DUAL.ips)


@pytest.mark.parametrize(
    ("error", "form"),
    [
        ((Code.TRY_AGAIN_LATER, "not now"), {"cniVersion": "1.0.0", "code": 11, "msg": "not now"}),
        (
            (Code.NOT_AS_ATTACHED, "one", "two; three"),
            {"cniVersion": "1.0.0", "code": 102, "msg": "one", "details": "two; three"},
        ),
    ],
)
def test_an_error_is_an_object_with_code_and_message(error: tuple[Code, str, str], form: object) -> None:
    assert cni_error.render("1.0.0", CniError(*error)).decode() == json.dumps(form, indent=2) + "\n"


def test_a_route_without_a_gateway_leads_to_the_segment() -> None:
    answer = json.loads(cni_result.render("1.0.0", replace(SWITCHED, routes=(IPv4Network("10.64.0.0/16"),))))
    assert answer["routes"] == [{"dst": "10.64.0.0/16"}]


@pytest.mark.parametrize(
    ("requested", "answered"),
    [
        ("0.3.1", "0.3.1"),
        ("1.0.0", "1.0.0"),
        ("1.1.0", "1.1.0"),
        ("0.1.0", "1.1.0"),
        ("0.2.0", "0.2.0"),
        ("9.9.9", "1.1.0"),
    ],
)
def test_a_version_request_is_answered_with_every_supported_version(requested: str, answered: str) -> None:
    assert json.loads(cni.render_version(requested)) == {
        "cniVersion": answered,
        "supportedVersions": ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"],
    }


BEFORE: Json = {
    "interfaces": [
        {"name": "lbr0", "mac": "02:00:00:00:00:01", "mtu": 9000},
        {"name": "net0", "sandbox": "/run/netns/c1", "socketPath": "/run/x"},
    ],
    "ips": [{"version": "4", "interface": 1, "address": "192.0.2.5/24"}, {"address": "2001:db8::5/64"}],
    "routes": [{"dst": "198.51.100.0/24", "priority": 5}],
    "dns": {"nameservers": ["192.0.2.1"]},
}


@pytest.mark.parametrize("version", ["0.3.0", "1.0.0", "1.1.0"])
def test_what_plugins_before_us_made_comes_first_in_the_form_of_the_version(
    version: str, golden: Callable[[str, str], None]
) -> None:
    previous = cni_result.parse_previous(Fields(BEFORE, "prevResult"))
    golden(f"result-chained-{version}.json", rendered(version, replace(DUAL, previous=previous)))


def test_the_dns_of_plugins_before_us_stays_where_nobody_asks_for_another() -> None:
    previous = cni_result.parse_previous(Fields(BEFORE))
    for ours, expected in ((None, previous.dns), (ROUTED.dns, ROUTED.dns)):
        answer = json.loads(cni_result.render("1.0.0", replace(ROUTED, dns=ours, previous=previous)))
        assert answer["dns"] == expected
