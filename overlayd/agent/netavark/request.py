"""netavark's documents in the terms of `attach`, its answers, and its fields' names in errors. Pure.

A network of podman is the name of one of ours, or names it by its option `network`. Addresses are always the overlay
network's: podman's own allocation knows one host only.
"""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from overlayd.agent.attach.request import AttachmentName, AttachRequest, AttachResult
from overlayd.model import ids
from overlayd.model.address import IpNetwork, contains
from overlayd.model.endpoint import Workload, check_addresses
from overlayd.model.errors import InvalidValue, OverlayError
from overlayd.model.ids import NetworkName, ReservationName, quoted
from overlayd.model.network import Network
from overlayd.model.published_port import PORT_MAX, PortMapping
from overlayd.wire.cni import ports
from overlayd.wire.fields import Fields, Json, parse_cidr

RUNTIME = "netavark"
"""The way by which this room attaches, in a workload."""


def runtime_of(uid: int) -> str:
    """Return the way by which a user who is not root attaches: what that made is out of every other user's reach."""
    return f"{RUNTIME}-{uid}"


IPAM = "overlayd"
"""What `ipam_options.driver` says of our networks: with any that podman knows it would allocate addresses itself."""

LISTED_MAX = 64
"""Subnets, or nameservers, in one document: each takes some time to be read, in which no other request is served."""

_PODMAN_ID = re.compile("[0-9a-f]{64}")

_FIELDS = {"interface": "network_options.interface_name", "sandbox": "the namespace", "ports": "port_mappings"}
"""Where a document of netavark says what `AttachRequest` calls so."""


def parse(stdin: bytes) -> Fields:
    """Return netavark's document; raise `InvalidValue`."""
    try:
        return Fields(json.loads(stdin.decode()))
    except (ValueError, RecursionError) as error:
        raise InvalidValue(f"stdin is not JSON: {error}") from None


def completed(fields: Fields) -> dict[str, Json]:
    """Return the document of a network that podman creates, with what keeps podman from giving out addresses.

    Raises `InvalidValue` for what podman would take as promised and an overlay network does not do.
    """
    overlay_network(fields)
    for name, reason in (
        ("network_interface", "the devices of a network have their own names"),
        ("routes", "a network has its own routes"),
    ):
        if fields.value.get(name):
            raise InvalidValue(f"is not supported: {reason}", field=name)
    if fields.flag("internal"):
        raise InvalidValue("is not supported: create the network with overlayctl and --no-egress", field="internal")
    ipam = fields.object("ipam_options") if fields.has("ipam_options") else None
    driver = ipam.text("driver") if ipam and ipam.has("driver") else IPAM
    if driver != IPAM:
        reason = "is not supported: addresses are those of the overlay network"
        raise InvalidValue(f"{quoted(driver)} {reason}", field="ipam_options.driver")
    return {**fields.value, "ipam_options": {"driver": IPAM}}


def overlay_network(fields: Fields) -> NetworkName:
    """Return the overlay network of a network of podman; raise `InvalidValue`, also for an unknown option."""
    options = fields.object("options") if fields.has("options") else None
    for name in options.value if options else ():
        if name != "network":
            field = fields.at("options")
            raise InvalidValue(f"{quoted(name)} is not an option of overlayd, which are: network", field=field)
    if options and options.has("network"):
        return ids.network_name(options.text("network"), options.at("network"))
    return ids.network_name(fields.text("name"), fields.at("name"))


def check_subnets(fields: Fields, network: Network) -> None:
    """Raise `InvalidValue` for a subnet of podman's network that is not in the overlay network's ranges."""
    ranges: tuple[IpNetwork, ...] = tuple(pool.range for pool in network.pools)
    _check_count(fields, "subnets")
    for index, each in enumerate(fields.objects("subnets") if fields.has("subnets") else ()):
        field = f"subnets[{index}].subnet"
        subnet = parse_cidr(each.text("subnet"), field)
        if not any(contains(whole, subnet) for whole in ranges):
            known = ", ".join(map(str, ranges))
            raise InvalidValue(f"{subnet} is not in network {network.name}, which has {known}", field=field)


def name_of(fields: Fields, runtime: str = RUNTIME) -> AttachmentName:
    """Return the attachment that a setup or a teardown is about; raise `InvalidValue`."""
    options = fields.object("network_options")
    return AttachmentName(
        overlay_network(fields.object("network")),
        ids.container_id(fields.text("container_id")),
        ids.interface_name(options.text("interface_name"), "network_options.interface_name"),
        runtime,
    )


def attach_request(fields: Fields, sandbox: str, runtime: str = RUNTIME) -> AttachRequest:
    """Return the attachment that a setup requests; raise `InvalidValue` that names the field."""
    options = fields.object("network_options")
    addresses = tuple(dict.fromkeys(options.addresses("static_ips"))) if options.has("static_ips") else ()
    if addresses:
        check_addresses(addresses, "network_options.static_ips")
    mac = "network_options.static_mac"
    return AttachRequest(
        name_of(fields, runtime),
        sandbox,
        addresses=addresses,
        reservations=_reservations(options),
        mac=ids.workload_mac(options.text("static_mac"), mac) if options.has("static_mac") else None,
        ports=_ports(fields),
        workload=Workload(
            aliases=tuple(options.texts("aliases")) if options.has("aliases") else (),
            runtime=runtime,
            name=fields.text("container_name") if fields.has("container_name") else "",
        ),
    )


def user_request(fields: Fields, sandbox: str, uid: int) -> AttachRequest:
    """Return the attachment that a user who is not root requests; raise `InvalidValue` for options of root only.

    Published ports are left to podman, whose own process listens on them with the user's rights.
    """
    name_asked, options = user_name_of(fields, uid), fields.object("network_options")
    for name in ("static_ips", "static_mac", "options"):
        if options.value.get(name):
            reason = "is not allowed without root: addresses are those that the network gives"
            raise InvalidValue(reason, field=f"network_options.{name}")
    return replace(attach_request(fields, sandbox, runtime_of(uid)), name=name_asked, ports=())


def user_name_of(fields: Fields, uid: int) -> AttachmentName:
    """Return the attachment that a setup or a teardown of a user who is not root is about; raise `InvalidValue`.

    Every local user can learn the ids of others' containers, and one that has stopped may start again: its id must not
    be taken by then. So ids are the user's own.
    """
    name = name_of(fields, runtime_of(uid))
    if not _PODMAN_ID.fullmatch(name.container_id):
        raise InvalidValue("is not an id as podman makes them, of 64 digits", field="container_id")
    return replace(name, container_id=ids.container_id(f"{uid}.{name.container_id}"))


def _reservations(options: Fields) -> tuple[ReservationName, ...]:
    """Return the reservations that ``--network NAME:reservation=…`` names, separated by a slash."""
    given = options.object("options") if options.has("options") else None
    for name in given.value if given else ():
        if name != "reservation":
            field = "network_options.options"
            raise InvalidValue(f"{quoted(name)} is not an option of overlayd, which are: reservation", field=field)
    if not given:
        return ()
    field = given.at("reservation")
    return tuple(ids.reservation_name(each, field) for each in dict.fromkeys(given.text("reservation").split("/")))


def _ports(fields: Fields) -> tuple[PortMapping, ...]:
    """Return the ports to publish: podman joins protocols by commas, and neighbouring ports to a range."""
    entries: list[Json] = []
    for each in fields.objects("port_mappings") if fields.has("port_mappings") else ():
        count = each.number("range") if each.has("range") else 1
        first, inside = each.number("host_port"), each.number("container_port")
        if not first:
            raise InvalidValue("the port of the host must be given", field=each.at("host_port"))
        if count < 1 or max(first, inside) + count - 1 > PORT_MAX:
            raise InvalidValue(f"{count} ports from {first} on do not exist", field=each.at("range"))
        where = each.text("host_ip") if each.has("host_ip") else ""
        protocols = each.text("protocol").split(",")
        if len(entries) + count * len(protocols) > ports.MAPPINGS_MAX:  # before they are all made
            raise InvalidValue(f"are more than {ports.MAPPINGS_MAX} ports", field="port_mappings")
        entries += (
            {"protocol": protocol, "hostPort": first + i, "containerPort": inside + i, "hostIP": where}
            for protocol in protocols
            for i in range(count)
        )
    return ports.decode(Fields({"port_mappings": entries}), "port_mappings")


@contextmanager
def named_as_in_netavark(fields: Fields) -> Iterator[None]:
    """Give errors of the block the names that their fields have in netavark's document."""
    try:
        yield
    except OverlayError as error:
        places = {"address": "static_ips", "mac": "static_mac", "reservation": "options.reservation"}
        if error.field in {"name", "network"}:
            network = fields.object("network") if fields.has("network") else fields
            error.field = network.at("options.network" if network.value.get("options") else "name")
        elif error.field in places:
            error.field = f"network_options.{places[error.field]}"
        elif error.field:
            error.field = _FIELDS.get(error.field, error.field)
        raise


def nameservers(fields: Fields) -> list[Json]:
    """Return the nameservers that podman's network has; raise `InvalidValue`."""
    network = fields.object("network")
    _check_count(network, "network_dns_servers")
    return (
        [str(each) for each in network.addresses("network_dns_servers")] if network.has("network_dns_servers") else []
    )


def _check_count(fields: Fields, name: str) -> None:
    listed = fields.value.get(name)
    if isinstance(listed, list) and len(listed) > LISTED_MAX:
        raise InvalidValue(f"{len(listed)} entries are more than {LISTED_MAX}", field=fields.at(name))


def status_block(made: AttachResult, servers: list[Json]) -> dict[str, Json]:
    """Return the answer to a setup."""
    subnets: list[Json] = [
        {"ipnet": str(each.interface), **({"gateway": str(each.gateway)} if each.gateway else {})}
        for each in made.addresses
    ]
    interface: dict[str, Json] = {"mac_address": made.endpoint.mac, "subnets": subnets}
    return {
        "interfaces": {made.endpoint.interface: interface},
        "dns_server_ips": servers,
        "dns_search_domains": [],
    }
