"""From links to rtnetlink messages with sequence number 0, encoded by pyroute2. Links are addressed by name.

Those that an attachment needs are templates, which are kept: pyroute2 encodes each shape of them once.
"""

import errno
import hashlib
import socket
from functools import lru_cache

from overlayd.dataplane import ownership
from overlayd.dataplane.items import BridgePort, Link, VethPeer, Vxlan
from overlayd.kernel.netlink.encoder import Structure, encoded, nested
from overlayd.kernel.netlink.framing import NLM_F_CREATE, NLM_F_EXCL, packed_number
from overlayd.kernel.netlink.rtnetlink import IFF_UP, RTM_DELLINK, RTM_NEWLINK, RTM_SETLINK
from overlayd.kernel.netlink.template import Template, TemplateFields, TextShape, shape, values
from overlayd.kernel.port import KernelError
from overlayd.model.ids import InterfaceName, MacAddress, packed_mac

REAPED_GROUP = 0x6F760001
"""The link group into which links go that are to be deleted at one stroke."""

_CHOSEN_INDEX_BASE = 1 << 30
_ADDR_GEN_MODE_NONE = 1
"""IN6_ADDR_GEN_MODE_NONE (linux/if_link.h)."""

_SHAPES_KEPT = 512
"""Templates of one kind that are kept: texts of other lengths make other shapes, and a runtime uses few."""

_SINGLE_QUEUE = (("IFLA_NUM_TX_QUEUES", 1), ("IFLA_NUM_RX_QUEUES", 1))
"""By default a veth gets a queue for each CPU, which costs time to create."""

_VXLAN_LOCAL = {4: "IFLA_VXLAN_LOCAL", 6: "IFLA_VXLAN_LOCAL6"}


def _message(kind: int, flags: int, *attributes: tuple[str, object], index: int = 0, up: bool | None = None) -> bytes:
    state, mask = (0, 0) if up is None else (IFF_UP * up, IFF_UP)
    fields = {"family": socket.AF_UNSPEC, "index": index, "flags": state, "change": mask}
    return encoded(Structure.LINK, kind, flags, fields, attributes)


def chosen_indexes(name: InterfaceName) -> tuple[int, int]:
    """Return indexes for both ends of a veth pair, from a range that the kernel's own counting never reaches.

    The two ends must not have equal indexes, which each namespace's own counting may give: the kernel would then treat
    a carrier change as not urgent, and delay it up to a second (net/core/link_watch.c: linkwatch_urgent_event).
    """
    digest = hashlib.blake2s(name.encode(), digest_size=4).digest()
    index = _CHOSEN_INDEX_BASE | int.from_bytes(digest) >> 2
    return index, index ^ 1


def created_vxlan(link: Link, kind: Vxlan, fd: int, *, up: bool) -> bytes:
    """Return the message that creates a VXLAN device in the namespace `fd`; its socket is in that of the sender."""
    data = nested(
        ("IFLA_VXLAN_ID", kind.vni),
        (_VXLAN_LOCAL[kind.local.version], str(kind.local)),
        ("IFLA_VXLAN_LEARNING", 0),
        ("IFLA_VXLAN_PORT", kind.port),
        # Over IPv4 the UDP checksum is not needed; over IPv6 it is the default and stays (RFC 8200 section 8.1).
        ("IFLA_VXLAN_UDP_CSUM", 0),
    )
    return _message(
        RTM_NEWLINK,
        NLM_F_CREATE | NLM_F_EXCL,
        ("IFLA_IFNAME", link.name),
        *_given(("IFLA_ADDRESS", link.mac), ("IFLA_MTU", link.mtu)),
        ("IFLA_NET_NS_FD", fd),
        ("IFLA_LINKINFO", nested(("IFLA_INFO_KIND", "vxlan"), ("IFLA_INFO_DATA", data))),
        up=up,
    )


def created_bridge(link: Link, *, up: bool) -> bytes:
    """Return the message that creates a bridge. The MTU would not last, so it is set later."""
    data = nested(("IFLA_BR_STP_STATE", 0), ("IFLA_BR_MCAST_SNOOPING", 0))
    return _message(
        RTM_NEWLINK,
        NLM_F_CREATE | NLM_F_EXCL,
        ("IFLA_IFNAME", link.name),
        *_given(("IFLA_ADDRESS", link.mac)),
        ("IFLA_LINKINFO", nested(("IFLA_INFO_KIND", "bridge"), ("IFLA_INFO_DATA", data))),
        up=up,
    )


def created_pair(link: Link, peer: VethPeer, fd: int, *, up: bool, indexes: tuple[int, int] = (0, 0)) -> bytes:
    """Return the message that creates a veth pair, whose other end is in the namespace `fd`.

    `indexes` are those of both ends, 0 for any. Raises `KernelError` (EINVAL) for a link without MAC or MTU.
    """
    if link.mac is None or link.mtu is None:
        raise KernelError(errno.EINVAL, f"{link.name}: a veth pair needs a MAC and an MTU")
    mtu = packed_number(link.mtu)
    near, far = (packed_number(index) for index in indexes)
    return _pair(shape(link.name), shape(peer.name), up=up).fill(
        *(near, *values(link.name), packed_mac(link.mac), mtu),
        *(far, *values(peer.name), packed_mac(peer.mac), mtu, packed_number(fd)),
    )


@lru_cache(_SHAPES_KEPT)
def _pair(name: TextShape, peer: TextShape, *, up: bool) -> Template:
    field = TemplateFields()
    index = field.number()
    attributes = (
        ("IFLA_IFNAME", field.text(name)),
        ("IFLA_ADDRESS", field.mac()),
        ("IFLA_MTU", field.number()),
        *_SINGLE_QUEUE,
    )
    far_index = field.number()
    # IFF_UP is refused at the far end (ENOTCONN).
    far = nested(
        ("IFLA_IFNAME", field.text(peer)),
        ("IFLA_ADDRESS", field.mac()),
        *_SINGLE_QUEUE,
        ("IFLA_MTU", field.number()),
        ("IFLA_NET_NS_FD", field.number()),
        index=far_index,
    )
    info = nested(("IFLA_INFO_KIND", "veth"), ("IFLA_INFO_DATA", nested(("VETH_INFO_PEER", far))))
    flags = NLM_F_CREATE | NLM_F_EXCL
    return field.template(_message(RTM_NEWLINK, flags, *attributes, ("IFLA_LINKINFO", info), index=index, up=up))


def changed(  # noqa: PLR0913 - each is a setting of a link
    name: InterfaceName,
    *,
    mac: MacAddress | None = None,
    mtu: int | None = None,
    master: int | None = None,
    alias: str | None = None,
    up: bool | None = None,
) -> bytes:
    """Return the message that changes what is not None. `master` is an index, 0 for none; an empty alias is none."""
    alias_shape = None if alias is None else shape(alias)
    found = _change(shape(name), mac is not None, mtu is not None, master is not None, alias_shape, up)
    return found.fill(
        *values(name),
        *(() if mac is None else (packed_mac(mac),)),
        *(packed_number(number) for number in (mtu, master) if number is not None),
        *(() if alias is None else values(alias)),
    )


@lru_cache(_SHAPES_KEPT)
def _change(  # noqa: PLR0913, PLR0917 - each is a setting of a link
    name: TextShape,
    mac: bool,  # noqa: FBT001 - whether it is set
    mtu: bool,  # noqa: FBT001
    master: bool,  # noqa: FBT001
    alias: TextShape | None,
    up: bool | None,  # noqa: FBT001
) -> Template:
    field = TemplateFields()
    attributes: list[tuple[str, object]] = [("IFLA_IFNAME", field.text(name))]
    if mac:
        attributes.append(("IFLA_ADDRESS", field.mac()))
    if mtu:
        attributes.append(("IFLA_MTU", field.number()))
    if master:
        attributes.append(("IFLA_MASTER", field.number()))
    if alias is not None:
        # Of 256 bytes the kernel takes 255, and a zero byte is one (net/core/rtnetlink.c: ifla_policy).
        attributes.append(("IFLA_IFALIAS", field.unterminated(alias)))
    return field.template(_message(RTM_SETLINK, 0, *attributes, up=up))


def without_addresses(name: InterfaceName) -> bytes:
    """Return the message that keeps the kernel from giving a device an IPv6 address by itself."""
    inet6 = nested(("IFLA_INET6_ADDR_GEN_MODE", _ADDR_GEN_MODE_NONE))
    return _message(RTM_SETLINK, 0, ("IFLA_IFNAME", name), ("IFLA_AF_SPEC", nested(("AF_INET6", inet6))))


def port_changed(name: InterfaceName, port: BridgePort) -> bytes:
    """Return the message that sets the flags of a bridge's port."""
    found = _port(shape(name), port.learning, port.unicast_flood, port.neigh_suppress)
    return found.fill(*values(name))


@lru_cache(_SHAPES_KEPT)
def _port(name: TextShape, learning: bool, unicast_flood: bool, neigh_suppress: bool) -> Template:  # noqa: FBT001 - flags
    field = TemplateFields()
    data = nested(
        ("IFLA_BRPORT_LEARNING", int(learning)),
        ("IFLA_BRPORT_UNICAST_FLOOD", int(unicast_flood)),
        ("IFLA_BRPORT_NEIGH_SUPPRESS", int(neigh_suppress)),
    )
    info = nested(("IFLA_INFO_SLAVE_KIND", "bridge"), ("IFLA_INFO_SLAVE_DATA", data))
    # Slave data is taken from RTM_NEWLINK only; without NLM_F_CREATE it changes a device that is there.
    return field.template(_message(RTM_NEWLINK, 0, ("IFLA_IFNAME", field.text(name)), ("IFLA_LINKINFO", info)))


def deleted(name: InterfaceName) -> bytes:
    """Return the message that deletes one link."""
    return _deletion(shape(name)).fill(*values(name))


@lru_cache(_SHAPES_KEPT)
def _deletion(name: TextShape) -> Template:
    field = TemplateFields()
    return field.template(_message(RTM_DELLINK, 0, ("IFLA_IFNAME", field.text(name))))


def doomed(name: InterfaceName) -> bytes:
    """Return the message that puts a link into the group to be deleted."""
    return _doom(shape(name)).fill(*values(name))


@lru_cache(_SHAPES_KEPT)
def _doom(name: TextShape) -> Template:
    field = TemplateFields()
    return field.template(_message(RTM_SETLINK, 0, ("IFLA_IFNAME", field.text(name)), ("IFLA_GROUP", REAPED_GROUP)))


RETIREMENT_STEPS = 2
"""How many messages take one link out of use."""


def retired(index: int) -> list[bytes]:
    """Return the messages that take a link out of use, into the group to be deleted.

    Before Linux 6.2 a device that is up keeps its name, so it goes down in a message of its own.
    """
    name = f"{ownership.RETIRED_PREFIX}{index}"
    down, out = _retirement(shape(name))
    packed = packed_number(index)
    return [down.fill(packed), out.fill(packed, *values(name))]


@lru_cache(_SHAPES_KEPT)
def _retirement(name: TextShape) -> tuple[Template, Template]:
    down = TemplateFields()
    first = _message(RTM_SETLINK, 0, index=down.number(), up=False)
    out = TemplateFields()
    index = out.number()
    marks = (("IFLA_IFNAME", out.text(name)), ("IFLA_GROUP", REAPED_GROUP))
    return down.template(first), out.template(_message(RTM_SETLINK, 0, *marks, index=index))


@lru_cache(1)
def group_deleted() -> bytes:
    """Return the message that deletes the whole group, for which the kernel waits one RCU grace period only."""
    return _message(RTM_DELLINK, 0, ("IFLA_GROUP", REAPED_GROUP))


def _given(*attributes: tuple[str, object]) -> list[tuple[str, object]]:
    return [(name, value) for name, value in attributes if value is not None]
