"""Results of CNI operations: our own in the form of each version, and the `prevResult` of earlier plugins."""

import json
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass

from overlayd.model.address import Family, IpAddress, IpInterface, IpNetwork
from overlayd.model.errors import InvalidValue
from overlayd.model.ids import InterfaceName, MacAddress
from overlayd.wire.cni import version as cni_version
from overlayd.wire.fields import Fields, Json, parse_address

_Object = dict[str, Json]

_INTERFACE_DETAILS = frozenset({"mtu", "socketPath", "pciID"})
_ROUTE_DETAILS = frozenset({"mtu", "advmss", "priority", "table", "scope"})
"""The fields that interfaces and routes have from version `DETAILS` on."""


@dataclass(frozen=True, slots=True)
class KnownInterface:
    """The container's interface in a `prevResult`. `mtu` is in bytes, and known only from version `DETAILS` on."""

    mac: str | None
    mtu: int | None


@dataclass(frozen=True, slots=True)
class Previous:
    """A `prevResult`: of the earlier plugins in an ADD, of the whole chain in a CHECK. It is passed on unchanged."""

    interfaces: tuple[Fields, ...] = ()
    ips: tuple[Fields, ...] = ()
    routes: tuple[Fields, ...] = ()
    dns: Json = None

    @property
    def addresses(self) -> tuple[IpAddress, ...]:
        """The addresses of all interfaces."""
        return tuple(_address(each) for each in self.ips)

    def interface(self, name: InterfaceName) -> KnownInterface | None:
        """Return the interface of this name in the container, None when there is none."""
        for each in self.interfaces:
            if each.text("name") == name and each.has("sandbox") and each.text("sandbox"):
                return KnownInterface(
                    each.text("mac").lower() if each.has("mac") else None,
                    each.number("mtu") if each.has("mtu") and each.number("mtu") else None,
                )
        return None


NOTHING_BEFORE = Previous()


def parse_previous(fields: Fields) -> Previous:
    """Read a `prevResult` of version `INTERFACES` or later; raise `InvalidValue` that names what is malformed."""
    interfaces, ips, routes = (
        tuple(fields.objects(name)) if fields.has(name) else () for name in ("interfaces", "ips", "routes")
    )
    for each in interfaces:
        each.text("name")
        for name in ("mac", "sandbox"):
            if each.has(name):
                each.text(name)
        if each.has("mtu"):
            each.number("mtu")
    for each in ips:
        _address(each)
        if each.has("interface") and not -1 <= each.number("interface") < len(interfaces):
            raise InvalidValue(f"there is no interface {each.number('interface')}", field=each.at("interface"))
    for each in routes:
        each.text("dst")
    return Previous(interfaces, ips, routes, fields.object("dns").value if fields.has("dns") else None)


@dataclass(frozen=True, slots=True)
class Assigned:
    """An address of an interface, and the gateway of its family if there is one."""

    address: IpInterface
    gateway: IpAddress | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """What an ADD made: one interface with an address of each family that its network has. `mtu` in bytes.

    `previous` is the result of earlier plugins, and comes first.
    """

    interface: InterfaceName
    mac: MacAddress
    sandbox: str
    mtu: int
    ips: tuple[Assigned, ...]
    routes: tuple[IpNetwork, ...]
    dns: Json = None
    previous: Previous = NOTHING_BEFORE

    def gateway(self, family: Family) -> str | None:
        """Return the gateway of a family, if there is one."""
        found = (each.gateway for each in self.ips if each.gateway and Family.of(each.gateway) is family)
        return next(map(str, found), None)


def render(version: str, result: Result) -> bytes:
    """Return the result object in the form of one version (CNI SPEC, section "ADD Success")."""
    listed = cni_version.is_since(version, cni_version.INTERFACES)
    body: _Object = {"cniVersion": version, **(_lists(version, result) if listed else _by_family(result))}
    body["dns"] = next((dns for dns in (result.dns, result.previous.dns) if dns is not None), {})
    return json.dumps(body).encode() + b"\n"  # with an indent, Python's encoder in C is not used


def _by_family(result: Result) -> _Object:
    """Return the form of the versions before `INTERFACES`: one address of each family."""
    body: _Object = {}
    for each in result.ips:
        family = Family.of(each.address.ip)
        routes: list[Json] = [_route(result, route) for route in result.routes if Family.of(route) is family]
        body[f"ip{int(family)}"] = {"ip": str(each.address), **_gateway(each), "routes": routes}
    return body


def _lists(version: str, result: Result) -> _Object:
    previous = result.previous
    interface: _Object = {"name": result.interface, "mac": result.mac, "sandbox": result.sandbox, "mtu": result.mtu}
    index = len(previous.interfaces)
    ips: list[_Object] = [{"interface": index, "address": str(each.address), **_gateway(each)} for each in result.ips]
    interfaces = [*_values(previous.interfaces), interface]
    routes = [*_values(previous.routes), *(_route(result, route) for route in result.routes)]
    return {
        "interfaces": [_of_version(version, _INTERFACE_DETAILS, each) for each in interfaces],
        "ips": [_ip(version, each) for each in (*_values(previous.ips), *ips)],
        "routes": [_of_version(version, _ROUTE_DETAILS, each) for each in routes],
    }


def _values(entries: Iterable[Fields]) -> Iterator[_Object]:
    return (each.value for each in entries)


def _gateway(assigned: Assigned) -> _Object:
    return {"gateway": str(assigned.gateway)} if assigned.gateway else {}


def _route(result: Result, route: IpNetwork) -> _Object:
    gateway = result.gateway(Family.of(route))
    return {"dst": str(route), "gw": gateway} if gateway else {"dst": str(route)}


def _of_version(version: str, details: Container[str], entry: _Object) -> _Object:
    """Return an interface or a route without the fields that its version does not have."""
    if cni_version.is_since(version, cni_version.DETAILS):
        return entry
    return {name: value for name, value in entry.items() if name not in details}


def _ip(version: str, entry: _Object) -> _Object:
    """Return an address with the field `version` in versions that have it, and without it in later ones."""
    rest = {name: value for name, value in entry.items() if name != "version"}
    if cni_version.is_since(version, cni_version.NO_IP_VERSION):
        return rest
    return {"version": str(_address(Fields(entry)).version), **rest}


def _address(entry: Fields) -> IpAddress:
    text = entry.text("address")
    return parse_address(text.partition("/")[0], entry.at("address"))
