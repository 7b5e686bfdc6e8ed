"""The JSON form of the model's records, in the store, in the feed and in the API."""

from overlayd.model import ids
from overlayd.model.block import Block
from overlayd.model.cluster import Record, RecordKey
from overlayd.model.endpoint import Endpoint
from overlayd.model.errors import InvalidValue
from overlayd.model.host import Host
from overlayd.model.ids import HostNumber, Vni
from overlayd.model.network import Network, NetworkState, Pool, Topology
from overlayd.wire.fields import Fields, Json

KINDS: dict[str, type[Record]] = {"network": Network, "host": Host, "block": Block, "endpoint": Endpoint}
"""The name of each kind of record on the wire."""

_NAMES = {kind: name for name, kind in KINDS.items()}


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
            }
        case Host():
            return {"id": record.id, "number": record.number, "name": record.name, "address": str(record.address)}
        case Block():
            return {"network": record.network, "cidr": str(record.cidr), "host": record.host}
        case Endpoint():
            return {
                "network": record.network,
                "container_id": record.container_id,
                "interface": record.interface,
                "host": record.host,
                "address": str(record.address),
                "mac": record.mac,
                "sandbox": record.sandbox,
            }


def decode_pool(fields: Fields) -> Pool:
    """Read a pool."""
    cidr, block_length = fields.cidr("range"), fields.number("block_length")
    return fields.build(lambda: Pool(cidr, block_length))


def decode_network(fields: Fields) -> Network:
    """Read a network; `state` may be missing."""
    name, vni, topology = fields.text("name"), fields.number("vni"), fields.choice("topology", Topology)
    pools = tuple(decode_pool(pool) for pool in fields.objects("pools"))
    state = fields.choice("state", NetworkState) if fields.has("state") else NetworkState.ACTIVE
    return fields.build(lambda: Network(ids.network_name(name), Vni(vni), topology, pools, state))


def decode_host(fields: Fields) -> Host:
    """Read a host."""
    host, number = fields.text("id"), fields.number("number")
    name, address = fields.text("name"), fields.address("address")
    return fields.build(lambda: Host(ids.host_id(host), HostNumber(number), name, address))


def decode_block(fields: Fields) -> Block:
    """Read a block."""
    network, cidr, host = fields.text("network"), fields.cidr("cidr"), fields.text("host")
    return fields.build(lambda: Block(ids.network_name(network, "network"), cidr, ids.host_id(host, "host")))


def decode_endpoint(fields: Fields) -> Endpoint:
    """Read an endpoint."""
    texts = {name: fields.text(name) for name in ("network", "container_id", "interface", "host", "mac", "sandbox")}
    address = fields.address("address")
    return fields.build(
        lambda: Endpoint(
            network=ids.network_name(texts["network"], "network"),
            container_id=ids.container_id(texts["container_id"]),
            interface=ids.interface_name(texts["interface"]),
            host=ids.host_id(texts["host"], "host"),
            address=address,
            mac=ids.mac_address(texts["mac"]),
            sandbox=texts["sandbox"],
        )
    )


def encode_tagged(record: Record) -> dict[str, Json]:
    """Return the JSON object of a record inside a message that mixes kinds."""
    return {"kind": _NAMES[type(record)], **encode(record)}


def decode_tagged(fields: Fields) -> Record:
    """Read a record inside a message that mixes kinds."""
    match _kind(fields):
        case kind if kind is Network:
            return decode_network(fields)
        case kind if kind is Host:
            return decode_host(fields)
        case kind if kind is Block:
            return decode_block(fields)
        case _:
            return decode_endpoint(fields)


def encode_key(key: RecordKey) -> dict[str, Json]:
    """Return the JSON object that names a record."""
    parts: Json = key.key if isinstance(key.key, str) else [str(part) for part in key.key]
    return {"kind": _NAMES[key.kind], "key": parts}


def decode_key(fields: Fields) -> RecordKey:
    """Read the name of a record."""
    kind = _kind(fields)
    if kind is Network:
        return RecordKey(kind, ids.network_name(fields.text("key"), fields.at("key")))
    if kind is Host:
        return RecordKey(kind, ids.host_id(fields.text("key"), fields.at("key")))
    names = ("network", "cidr") if kind is Block else ("network", "host", "container_id", "interface")
    parts = fields.items("key")
    if len(parts) != len(names):
        raise InvalidValue(f"expected {len(names)} parts", field=fields.at("key"))
    named = Fields(dict(zip(names, parts, strict=True)), fields.at("key"))
    network = ids.network_name(named.text("network"), named.at("network"))
    if kind is Block:
        return RecordKey(kind, (network, named.cidr("cidr")))
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
