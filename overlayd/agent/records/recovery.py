"""Recovery of records that were lost while containers run; what cannot be recovered stays withheld.

For a start of the agent, before anything is attached.
"""

from collections.abc import Mapping

import structlog

from overlayd.agent.records.attachment_records import UNKNOWN_SANDBOX, Attachment, AttachmentRecords, Stray
from overlayd.dataplane import ownership
from overlayd.dataplane.desired.endpoint import host_end
from overlayd.dataplane.items import (
    NETWORK_NAMESPACES,
    BridgeEntry,
    Link,
    NamespaceRef,
    Neighbour,
    SourceGuard,
    State,
    network_namespace,
)
from overlayd.dataplane.link_alias import Named, parse
from overlayd.kernel.port import Kernel, KernelError
from overlayd.model.address import IpAddress
from overlayd.model.endpoint import Endpoint, EndpointKey
from overlayd.model.ids import HostId, NetworkName

_log = structlog.get_logger(__name__)


def unexplained(kernel: Kernel, records: AttachmentRecords) -> list[Link]:
    """Return the host's ends of containers' interfaces without a record; raise `KernelError`."""
    known = {(network_namespace(each.network), host_end(each.key)) for each in records.endpoints}
    ends = (link for link in kernel.links(kernel.namespaces()) if link.name.startswith(ownership.VETH_PREFIX))
    return sorted((link for link in ends if (link.ns, link.name) not in known), key=lambda link: (link.ns, link.name))


def recover(kernel: Kernel, host: HostId, records: AttachmentRecords, copies: Mapping[EndpointKey, Attachment]) -> None:
    """Restore records from the aliases of interfaces; withhold the addresses of interfaces without a readable one.

    A copy of the record adds what the alias lacks, if it is of the same interface.

    Raises `KernelError`, or `OSError` when a record cannot be written.
    """
    ends = unexplained(kernel, records)
    observed = kernel.observe({end.ns for end in ends})
    for end in ends:
        named = parse(end.alias)
        key = (named.network, host, named.container_id, named.interface) if named else None
        if named and key and (network_namespace(named.network), host_end(key)) == (end.ns, end.name):
            copy = copies.get(key)
            is_of_this = copy and (copy.endpoint.mac, copy.endpoint.addresses) == (named.mac, named.addresses)
            records.put(copy if copy and is_of_this else _attachment(kernel, named, host))
            _log.warning("made a lost record of a container again", alias=end.alias, of_a_copy=bool(is_of_this))
        else:
            stray = Stray(_network(end.ns), end.name, frozenset(_addresses(end, observed)))
            records.withhold(stray)
            addresses = sorted(map(str, stray.addresses))
            _log.warning("no record says whose an interface is", network=stray.network, device=end.name, held=addresses)
    records.set_aside_damaged()


def described(end: Link) -> str:
    """Return a description of the container that an interface belongs to, as far as it is known."""
    named = parse(end.alias)
    return f"{named.container_id} of {named.network}" if named else f"that of {end.name} in {end.ns}"


def without_strays(observed: State, strays: frozenset[Stray]) -> State:
    """Return a state without the items on interfaces that have no record, which stay as they are. Pure."""
    devices = {(network_namespace(stray.network), stray.device) for stray in strays}
    addresses = {(network_namespace(stray.network), address) for stray in strays for address in stray.addresses}
    if not strays:
        return observed
    return frozenset(
        item
        for item in observed
        if (item.ns, item.name if isinstance(item, Link) else getattr(item, "dev", None)) not in devices
        and not (isinstance(item, Neighbour) and (item.ns, item.address) in addresses)
    )


def _attachment(kernel: Kernel, named: Named, host: HostId) -> Attachment:
    endpoint = Endpoint(
        named.network, named.container_id, named.interface, host, named.addresses, named.mac, named.sandbox
    )
    return Attachment(endpoint, _sandbox_id(kernel, named))


def _sandbox_id(kernel: Kernel, named: Named) -> tuple[int, int]:
    """Return the sandbox that a path leads to if that has the interface, as its random MAC shows; else none."""
    if not named.sandbox:
        return UNKNOWN_SANDBOX
    try:
        inside = kernel.link(NamespaceRef(named.sandbox), named.interface)
        found = kernel.sandbox_id(named.sandbox)
    except KernelError as error:
        _log.warning("cannot tell whether a path still leads to a container", path=named.sandbox, reason=str(error))
        return UNKNOWN_SANDBOX
    return found if found and inside and inside.mac == named.mac else UNKNOWN_SANDBOX


def _network(ns: NamespaceRef) -> NetworkName:
    return NetworkName(ns.removeprefix(NETWORK_NAMESPACES))


def _addresses(end: Link, observed: State) -> set[IpAddress]:
    """Return the addresses that the kernel routes to an interface."""
    here = [item for item in observed if item.ns == end.ns]
    macs = {item.mac for item in here if isinstance(item, BridgeEntry) and item.dev == end.name}
    found = {
        item.address
        for item in here
        if isinstance(item, Neighbour) and (item.dev == end.name or (item.dev == ownership.BRIDGE and item.mac in macs))
    }
    guards = (item for item in here if isinstance(item, SourceGuard) and item.dev == end.name)
    return found.union(*(guard.addresses for guard in guards))
