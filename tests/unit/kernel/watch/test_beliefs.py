"""Which of several queued notifications about one link is looked at, and how far."""

import pytest

from overlayd.dataplane.items import Link, NamespaceRef, Veth
from overlayd.dataplane.plan import Add
from overlayd.kernel.netlink.decoding import link_reading
from overlayd.kernel.netlink.framing import attribute, packed_number, packed_text
from overlayd.kernel.netlink.rtnetlink import (
    IFF_UP,
    IFINFOMSG,
    IFLA_ADDRESS,
    IFLA_EVENT,
    IFLA_EVENT_FEATURES,
    IFLA_IFNAME,
    IFLA_INFO_KIND,
    IFLA_LINKINFO,
    IFLA_MTU,
    RTM_NEWLINK,
)
from overlayd.kernel.watch.beliefs import Beliefs, Notification, decoded
from overlayd.model.ids import InterfaceName, MacAddress

BLUE = NamespaceRef("/run/netns/ov-blue")
OURS = Link(BLUE, InterfaceName("ve0123456789ab"), Veth(), MacAddress("02:00:00:00:00:07"), 1450)


def told(name: str = OURS.name, *more: bytes, flags: int = IFF_UP, kind: str = "veth") -> Notification:
    """Return what the kernel sends of a link with the index 7."""
    info = attribute(IFLA_INFO_KIND, kind.encode() + b"\0")
    attributes = (
        attribute(IFLA_IFNAME, packed_text(name)),
        attribute(IFLA_MTU, packed_number(1450)),
        attribute(IFLA_ADDRESS, bytes.fromhex("020000000007")),
        attribute(IFLA_LINKINFO, info),
        *more,
    )
    return RTM_NEWLINK, IFINFOMSG.pack(0, 0, 0, 7, flags, 0) + b"".join(attributes)


def is_news(*notifications: Notification) -> bool:
    beliefs = Beliefs(BLUE)
    beliefs.saw([], {})
    beliefs.did([Add(OURS)])
    return beliefs.is_news(notifications, decoded(notifications))


def test_the_last_state_of_a_link_counts() -> None:
    assert not is_news(told(flags=0), told())
    assert is_news(told(), told(flags=0))


def test_only_the_last_state_of_a_link_is_decoded() -> None:
    queued = [told(flags=0), told(), told(flags=0)]
    assert list(decoded(queued)) == [queued[-1][1]]


def test_a_device_that_others_rename_at_once_is_news() -> None:
    assert is_news(told(), told("theirs"))
    assert is_news(told(), told("theirs"), told("theirs"))
    assert not is_news(told("theirs"))


@pytest.mark.parametrize("last", [told("vx0", kind="vxlan"), told("vx0", kind="vxlan", flags=0)])
def test_changed_offloads_of_a_tunnel_are_news_whatever_comes_after_that(last: Notification) -> None:
    event = attribute(IFLA_EVENT, packed_number(IFLA_EVENT_FEATURES))
    assert is_news(told("vx0", event, kind="vxlan"), last)
    assert not is_news(told("theirs", event), told("theirs"))


def test_a_name_is_found_wherever_it_stands() -> None:
    _, payload = told()
    _, other = told("x")
    mtu = attribute(IFLA_MTU, packed_number(1450))
    moved = payload[: IFINFOMSG.size] + mtu + payload[IFINFOMSG.size :]
    assert [link_reading.name(each) for each in (payload, other, moved)] == [OURS.name, "x", OURS.name]
