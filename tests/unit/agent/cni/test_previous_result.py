"""What a CHECK says of an attachment, compared with its record."""

import pytest

from overlayd.agent.cni.previous_result import contradictions, known_mtu
from overlayd.agent.records.attachment_records import Attachment
from overlayd.model.bandwidth import Bandwidth, Rate
from overlayd.model.published_port import PortMapping, TransportProtocol
from overlayd.wire.cni import result as cni_result
from overlayd.wire.cni.requests import Command, Request
from overlayd.wire.cni.wishes import NOTHING, Wishes
from overlayd.wire.fields import Fields, Json
from tests.support.controllers import clusters

WEB = clusters.endpoint(1, "web", "10.32.0.5,fd00:32::5")
PORTS = (PortMapping(TransportProtocol.TCP, 8080, 80), PortMapping(TransportProtocol.UDP, 53, 53))
LIMITS = Bandwidth(ingress=Rate(1_000_000, 80_000))
ATTACHED = Attachment(WEB, (4, 1), PORTS, LIMITS)


def check(*, wishes: Wishes = NOTHING, mac: str = WEB.mac, mtu: int | None = None, **changes: Json) -> Request:
    """Return a CHECK with the result of the whole chain, as it is when nothing was changed but what is said."""
    interface: Json = {"name": "eth0", "sandbox": WEB.sandbox, "mac": mac.upper(), "mtu": mtu}
    whole: dict[str, Json] = {
        "interfaces": [{"name": "eth0", "mac": "02:00:00:00:00:99"}, interface],
        "ips": [{"address": "10.32.0.5/32"}, {"address": "fd00:32::5/128"}, {"address": "192.0.2.9/24"}],
    }
    previous = cni_result.parse_previous(Fields({**whole, **changes}))
    name = WEB.network
    return Request(Command.CHECK, "1.0.0", name, WEB.container_id, WEB.interface, WEB.sandbox, name, wishes, previous)


@pytest.mark.parametrize(
    "request_",
    [
        check(),
        check(wishes=Wishes(ports=PORTS[::-1], bandwidth=LIMITS)),
        check(mac=""),
        check(mtu=0),
        check(mac="02:00:00:00:00:01"),  # the kernel says whether that is so
    ],
)
def test_what_is_as_it_was_made_has_no_contradiction(request_: Request) -> None:
    assert list(contradictions(request_, ATTACHED)) == []


@pytest.mark.parametrize(
    ("request_", "found"),
    [
        (check(ips=[{"address": "fd00:32::5/128"}]), "prevResult does not have the address 10.32.0.5"),
        (check(interfaces=[{"name": "eth0"}]), "prevResult does not have the interface eth0 in a sandbox"),
        (
            check(wishes=Wishes(ports=PORTS[:1])),
            "runtimeConfig.portMappings is not what was published: TCP port 8080, UDP port 53",
        ),
        (
            check(wishes=Wishes(bandwidth=Bandwidth(egress=Rate(1_000_000, 80_000)))),
            "runtimeConfig.bandwidth is not what was asked for at the attachment",
        ),
    ],
)
def test_a_contradiction_is_named(request_: Request, found: str) -> None:
    assert list(contradictions(request_, ATTACHED)) == [found]


@pytest.mark.parametrize(("request_", "known"), [(check(), None), (check(mtu=0), None), (check(mtu=1400), 1400)])
def test_the_mtu_that_a_runtime_knows_is_that_of_the_containers_interface(request_: Request, known: int | None) -> None:
    assert known_mtu(request_) == known


def test_without_the_interface_no_mtu_is_known() -> None:
    assert known_mtu(check(interfaces=[{"name": "eth0"}])) is None
