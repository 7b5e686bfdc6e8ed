"""From messages about neighbours to neighbours and forwarding entries (linux/neighbour.h)."""

from overlayd.dataplane import ownership
from overlayd.dataplane.items import FLOOD, BridgeEntry, FdbEntry, NamespaceRef, Neighbour
from overlayd.kernel.netlink.decoding.values import Names, link_index, parsed_address, parsed_mac, parsed_number
from overlayd.kernel.netlink.framing import attributes
from overlayd.kernel.netlink.rtnetlink import (
    NDA_DST,
    NDA_LLADDR,
    NDA_MASTER,
    NDA_PROTOCOL,
    NDMSG,
    NTF_EXT_LEARNED,
    NTF_SELF,
    NUD_PERMANENT,
)
from overlayd.model.ids import MacAddress

_OURS = bytes([ownership.PROTOCOL])


def is_permanent(payload: bytes) -> bool:
    """Return whether the neighbour of an RTM_NEWNEIGH message was set by a program, and not resolved by the kernel."""
    return bool(NDMSG.unpack_from(payload)[4] & NUD_PERMANENT)


def neighbour(ns: NamespaceRef, payload: bytes, names: Names) -> Neighbour | None:
    """Return the neighbour that is permanent, ours and on one of the named devices."""
    _, _, _, index, state, _, _ = NDMSG.unpack_from(payload)
    if not state & NUD_PERMANENT or index not in names:
        return None
    found = attributes(payload, NDMSG.size)
    if found.get(NDA_PROTOCOL) != _OURS:
        return None
    return Neighbour(ns, names[index], parsed_address(found[NDA_DST]), parsed_mac(found[NDA_LLADDR]))


def forwarding_entry(ns: NamespaceRef, payload: bytes, names: Names) -> FdbEntry | BridgeEntry | None:
    """Return our entry of a VXLAN device (NTF_SELF) or of a bridge.

    The VXLAN driver keeps flags for each MAC, not for each destination, and the last writer decides: a destination that
    others append to the flood list takes our mark from all of them. The flood list as a whole is ours, then.
    """
    _, _, _, index, _, flags, _ = NDMSG.unpack_from(payload)
    if index not in names:
        return None
    found = attributes(payload, NDMSG.size)
    mac = parsed_mac(found[NDA_LLADDR])
    if not flags & NTF_EXT_LEARNED and mac != FLOOD:
        return None
    if flags & NTF_SELF and NDA_DST in found:
        return FdbEntry(ns, names[index], mac, parsed_address(found[NDA_DST]))
    bridge = names.get(parsed_number(found.get(NDA_MASTER)))
    return BridgeEntry(ns, bridge, mac, names[index]) if bridge else None


def forwarding_mac(payload: bytes) -> MacAddress:
    """Return the MAC of a forwarding entry."""
    return parsed_mac(attributes(payload, NDMSG.size)[NDA_LLADDR])


def forwarding_key(payload: bytes) -> tuple[object, ...]:
    """Return the key of a forwarding entry in its namespace."""
    found = attributes(payload, NDMSG.size)
    return (link_index(payload), found[NDA_LLADDR], found.get(NDA_DST))
