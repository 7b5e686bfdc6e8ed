"""Published ports as JSON, in the form of the CNI capability `portMappings`, for requests and for our records."""

from overlayd.model.errors import InvalidValue
from overlayd.model.ids import quoted
from overlayd.model.published_port import PortMapping, TransportProtocol
from overlayd.wire.fields import Fields, Json, parse_address

MAPPINGS_MAX = 1024
"""The largest number of ports that one attachment publishes."""


def decode(fields: Fields, name: str) -> tuple[PortMapping, ...]:
    """Read an array of mappings, and ignore those without a host port, which publish nothing. Raises `InvalidValue`."""
    entries = fields.objects(name) if fields.has(name) else []
    if len(entries) > MAPPINGS_MAX:
        raise InvalidValue(f"{len(entries)} entries are more than {MAPPINGS_MAX}", field=fields.at(name))
    found: list[PortMapping] = []
    for entry in entries:
        mapping = _decode(entry) if entry.has("hostPort") and entry.number("hostPort") else None
        if mapping and mapping not in found:
            if other := next((each for each in found if each.clashes(mapping)), None):
                raise InvalidValue(f"{mapping} is listed twice, also as {other}", field=entry.at("hostPort"))
            found.append(mapping)
    return tuple(found)


def encode(mappings: tuple[PortMapping, ...]) -> list[Json]:
    """Return the JSON array of mappings."""
    return [
        {
            "protocol": mapping.transport.value,
            "hostPort": mapping.host_port,
            "containerPort": mapping.container_port,
            "hostIP": str(mapping.host_address) if mapping.host_address else "",
        }
        for mapping in mappings
    ]


def _decode(entry: Fields) -> PortMapping:
    name = entry.text("protocol").lower() if entry.has("protocol") else TransportProtocol.TCP.value
    if name not in list(TransportProtocol):
        raise InvalidValue(f"{quoted(name)} is not one of {', '.join(TransportProtocol)}", field=entry.at("protocol"))
    where = entry.text("hostIP") if entry.has("hostIP") else ""
    address = parse_address(where, entry.at("hostIP")) if where else None
    host, container = entry.number("hostPort"), entry.number("containerPort")
    return entry.build(lambda: PortMapping(TransportProtocol(name), host, container, address))
