"""The records of the model as JSON, for the store, the feed and the API."""

from collections.abc import Callable

from overlayd.model import ids
from overlayd.model.block import Block
from overlayd.model.cluster import Record, RecordKey
from overlayd.model.endpoint import Endpoint
from overlayd.model.errors import InvalidValue
from overlayd.model.host import Host, HostState
from overlayd.model.ids import HostId, HostNumber, Vni
from overlayd.model.network import Network, NetworkState, Pool, Topology, Uplink
from overlayd.model.reservation import Holder, Reservation
from overlayd.wire import workload
from overlayd.wire.fields import Fields, Json

KINDS: dict[str, type[Record]] = {
    "network": Network,
    "host": Host,
    "block": Block,
    "endpoint": Endpoint,
    "reservation": Reservation,
}
"""The name of each kind of record on the wire."""

_UNTOLD = frozenset({*workload.FIELDS, "shares"})

_NAMES = {kind: name for name, kind in KINDS.items()}


def name_of(kind: type[Record]) -> str:
    """Return the name of a kind of record on the wire."""
    return _NAMES[kind]


def encode(record: Record) -> dict[str, Json]:
    """Return the JSON object of a record, without its kind."""
    match record:
        case Network():
            return {
                "name": record.name,
                "vni": record.vni,
                "topology": record.topology.value,
                "pools": [{"range": str(pool.range), "block_length": pool.block_length} for pool in record.pools],
                "state": record.state.value,
                "reserved": [str(kept) for kept in record.reserved],
                "uplink": record.uplink.value,
                "egress": record.egress,
                "ethertypes": [f"0x{kind:04x}" for kind in record.ethertypes],
                "gateway_number": record.gateway_number,
                "made_by": record.made_by,
            }
        case Host():
            return {
                "id": record.id,
                "number": record.number,
                "name": record.name,
                "address": str(record.address),
                "state": record.state.value,
            }
        case Block():
            return {"network": record.network, "cidr": str(record.cidr), "host": record.host}
        case Endpoint():
            return {
                "network": record.network,
                "container_id": record.container_id,
                "interface": record.interface,
                "host": record.host,
                "addresses": [str(address) for address in record.addresses],
                "mac": record.mac,
                "sandbox": record.sandbox,
                **workload.encode(record.workload),
                "shares": list(record.shares),
            }
        case Reservation():
            return {
                "network": record.network,
                "name": record.name,
                "addresses": [str(address) for address in record.addresses],
                "mac": record.mac,
                "holder": _encode_holder(record.holder),
                "shared": record.shared,
            }


def decode_pool(fields: Fields) -> Pool:
    """Read a pool."""
    cidr, block_length = fields.cidr("range"), fields.number("block_length")
    return fields.build(lambda: Pool(cidr, block_length))


def decode_network(fields: Fields) -> Network:
    """Read a network; all but `name`, `vni`, `topology` and `pools` may be missing."""
    name, vni, topology = fields.text("name"), fields.number("vni"), fields.choice("topology", Topology)
    pools = tuple(decode_pool(pool) for pool in fields.objects("pools"))
    state = fields.choice("state", NetworkState) if fields.has("state") else NetworkState.ACTIVE
    reserved = fields.cidrs("reserved") if fields.has("reserved") else ()
    uplink = fields.choice("uplink", Uplink) if fields.has("uplink") else Uplink.AUTO
    egress = fields.flag("egress") if fields.has("egress") else True
    ethertypes = fields.ethertypes("ethertypes") if fields.has("ethertypes") else ()
    gateway_number = fields.number("gateway_number") if fields.has("gateway_number") else 1
    made_by = HostId(fields.text("made_by")) if fields.has("made_by") else None
    return fields.build(
        lambda: Network(
            ids.network_name(name),
            Vni(vni),
            topology,
            pools,
            state,
            reserved,
            uplink,
            egress,
            ethertypes,
            gateway_number,
            made_by,
        )
    )


def decode_host(fields: Fields) -> Host:
    """Read a host; `state` may be missing."""
    host, number = fields.text("id"), fields.number("number")
    name, address = fields.text("name"), fields.address("address")
    state = fields.choice("state", HostState) if fields.has("state") else HostState.ACTIVE
    return fields.build(lambda: Host(ids.host_id(host), HostNumber(number), name, address, state))


def decode_block(fields: Fields) -> Block:
    """Read a block."""
    network, cidr, host = fields.text("network"), fields.cidr("cidr"), fields.text("host")
    return fields.build(lambda: Block(ids.network_name(network, "network"), cidr, ids.host_id(host, "host")))


def decode_endpoint(fields: Fields) -> Endpoint:
    """Read an endpoint; one of schema 1 has `address`, and no `addresses`.

    `shares`, `pod`, `labels` and `aliases` may be missing.
    """
    texts = {name: fields.text(name) for name in ("network", "container_id", "interface", "host", "mac", "sandbox")}
    addresses = (fields.ipv4("address"),) if fields.has("address") else fields.addresses("addresses")
    known_as = workload.decode(fields)
    shares = fields.texts("shares") if fields.has("shares") else []
    return fields.build(
        lambda: Endpoint(
            network=ids.network_name(texts["network"], "network"),
            container_id=ids.container_id(texts["container_id"]),
            interface=ids.interface_name(texts["interface"]),
            host=ids.host_id(texts["host"], "host"),
            addresses=addresses,
            mac=ids.mac_address(texts["mac"]),
            sandbox=texts["sandbox"],
            workload=known_as,
            shares=tuple(ids.reservation_name(name, f"shares[{index}]") for index, name in enumerate(shares)),
        )
    )


def decode_reservation(fields: Fields) -> Reservation:
    """Read a reservation; `mac`, `holder` and `shared` may be missing."""
    network, name, addresses = fields.text("network"), fields.text("name"), fields.addresses("addresses")
    mac = fields.text("mac") if fields.has("mac") else None
    holder = _decode_holder(fields.object("holder")) if fields.has("holder") else None
    shared = fields.flag("shared")
    return fields.build(
        lambda: Reservation(
            network=ids.network_name(network, "network"),
            name=ids.reservation_name(name),
            addresses=addresses,
            mac=None if mac is None else ids.mac_address(mac),
            holder=holder,
            shared=shared,
        )
    )


def _encode_holder(holder: Holder | None) -> Json:
    if holder is None:
        return None
    return {"host": holder.host, "container_id": holder.container_id, "interface": holder.interface}


def _decode_holder(fields: Fields) -> Holder:
    host, container_id, interface = fields.text("host"), fields.text("container_id"), fields.text("interface")
    return fields.build(
        lambda: Holder(ids.host_id(host, "host"), ids.container_id(container_id), ids.interface_name(interface))
    )


def encode_tagged(record: Record) -> dict[str, Json]:
    """Return the JSON object of a record with its kind, as the feed sends it and hosts cache it.

    An endpoint's workload and shares are left out: hosts do not need those of other hosts' endpoints.
    """
    form = {"kind": _NAMES[type(record)], **encode(record)}
    return {name: value for name, value in form.items() if name not in _UNTOLD}


def decode_tagged(fields: Fields) -> Record:
    """Read a record with its kind."""
    return DECODERS[_kind(fields)](fields)


def encode_key(key: RecordKey) -> dict[str, Json]:
    """Return the key of a record as a JSON object."""
    parts: Json = key.key if isinstance(key.key, str) else [str(part) for part in key.key]
    return {"kind": _NAMES[key.kind], "key": parts}


def decode_key(fields: Fields) -> RecordKey:
    """Read the key of a record."""
    kind = _kind(fields)
    if kind is Network:
        return RecordKey(kind, ids.network_name(fields.text("key"), fields.at("key")))
    if kind is Host:
        return RecordKey(kind, ids.host_id(fields.text("key"), fields.at("key")))
    names, parts = _KEY_PARTS[kind], fields.items("key")
    if len(parts) != len(names):
        raise InvalidValue(f"expected {len(names)} parts", field=fields.at("key"))
    named = Fields(dict(zip(names, parts, strict=True)), fields.at("key"))
    network = ids.network_name(named.text("network"), named.at("network"))
    if kind is Block:
        return RecordKey(kind, (network, named.cidr("cidr")))
    if kind is Reservation:
        return RecordKey(kind, (network, ids.reservation_name(named.text("name"), named.at("name"))))
    return RecordKey(
        kind,
        (
            network,
            ids.host_id(named.text("host"), named.at("host")),
            ids.container_id(named.text("container_id"), named.at("container_id")),
            ids.interface_name(named.text("interface"), named.at("interface")),
        ),
    )


def _kind(fields: Fields) -> type[Record]:
    name = fields.text("kind")
    if name not in KINDS:
        raise InvalidValue(f"{ids.quoted(name)} is not one of {', '.join(KINDS)}", field=fields.at("kind"))
    return KINDS[name]


DECODERS: dict[type[Record], Callable[[Fields], Record]] = {
    Network: decode_network,
    Host: decode_host,
    Block: decode_block,
    Endpoint: decode_endpoint,
    Reservation: decode_reservation,
}
"""The decoder of each kind of record."""

_KEY_PARTS: dict[type[Record], tuple[str, ...]] = {
    Block: ("network", "cidr"),
    Endpoint: ("network", "host", "container_id", "interface"),
    Reservation: ("network", "name"),
}
