"""CNI messages (CNI SPEC 1.1.0): the request as the launcher forwards it, results for each version, error objects.

The launcher forwards its request without reading it: the ``CNI_*`` variables as ``NAME=value`` with a NUL after each,
one more NUL, then stdin as it came. The answer is one byte, ``0`` or ``1`` (the exit status), and what goes to stdout.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum, StrEnum

from overlayd.model import ids
from overlayd.model.address import Family, IpAddress, IpInterface, IpNetwork
from overlayd.model.bandwidth import UNLIMITED, Bandwidth
from overlayd.model.endpoint import check_addresses
from overlayd.model.errors import InvalidValue
from overlayd.model.ids import ContainerId, InterfaceName, MacAddress, NetworkName, ReservationName
from overlayd.model.port import PortMapping
from overlayd.wire import bandwidth, ports
from overlayd.wire.fields import Fields, Json, parse_address

SUPPORTED_VERSIONS = ("0.3.1", "0.4.0", "1.0.0", "1.1.0")
_DEFAULT_VERSION = "0.1.0"
"""What a config without `cniVersion` means, and so what an error answers when the version could not be read."""


class Code(IntEnum):
    """Error codes: 1..99 are the CNI SPEC's (section "Error"), from 100 on they are ours."""

    INCOMPATIBLE_VERSION = 1
    UNSUPPORTED_FIELD = 2
    UNKNOWN_CONTAINER = 3
    INVALID_ENVIRONMENT = 4
    IO_FAILURE = 5
    DECODING_FAILURE = 6
    INVALID_CONFIG = 7
    INVALID_NAMESPACE = 8
    TRY_AGAIN_LATER = 11
    KERNEL = 100
    EXHAUSTED = 101
    NOT_AS_ATTACHED = 102


class CniError(Exception):
    """An operation failed; rendered as the CNI error object."""

    def __init__(self, code: Code, msg: str, details: str = "") -> None:
        super().__init__(msg)
        self.code = code
        self.msg = msg
        self.details = details


class Command(StrEnum):
    """The operations that this plugin knows."""

    ADD = "ADD"
    DEL = "DEL"
    CHECK = "CHECK"
    VERSION = "VERSION"


_REQUIRED = {
    Command.ADD: ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"),
    Command.CHECK: ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"),
    Command.DEL: ("CNI_CONTAINERID", "CNI_IFNAME", "CNI_PATH"),
    Command.VERSION: (),
}
_CHECK_SINCE = "0.4.0"


@dataclass(frozen=True, slots=True)
class Request:
    """A validated request. `sandbox` is empty for a DEL without CNI_NETNS.

    `wanted`, one of each family at most, `reservation` and `mac` are what is asked for; `dns` is passed through;
    `addresses` are those of `prevResult`, `ports` the ones of the host that are to lead to the container,
    and `bandwidth` limits it.
    """

    command: Command
    version: str
    network: NetworkName
    container_id: ContainerId
    interface: InterfaceName
    sandbox: str
    wanted: tuple[IpAddress, ...] = ()
    reservation: ReservationName | None = None
    mac: MacAddress | None = None
    dns: Json = None
    addresses: tuple[IpAddress, ...] = ()
    ports: tuple[PortMapping, ...] = ()
    bandwidth: Bandwidth = UNLIMITED


@dataclass(frozen=True, slots=True)
class Assigned:
    """An address of an interface, and the gateway of its family if there is one."""

    address: IpInterface
    gateway: IpAddress | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """What an ADD made: one interface with an address of each family that its network has. `mtu` in bytes."""

    interface: InterfaceName
    mac: MacAddress
    sandbox: str
    mtu: int
    ips: tuple[Assigned, ...]
    routes: tuple[IpNetwork, ...]
    dns: Json = None


def unpack(frame: bytes) -> tuple[dict[str, str], bytes]:
    """Split what the launcher sent into variables and stdin; raise `CniError` when it is cut short."""
    if frame.startswith(b"\0"):
        return {}, frame[1:]
    head, end, stdin = frame.partition(b"\0\0")
    if not end:
        raise CniError(Code.IO_FAILURE, "the request from the launcher is incomplete")
    pairs = (entry.partition("=") for entry in head.decode(errors="replace").split("\0") if entry)
    return {name: value for name, _, value in pairs}, stdin


def version_of(stdin: bytes) -> str:
    """Return the version in which to answer a request whose config may be unreadable."""
    try:
        config = json.loads(stdin)
    except (ValueError, RecursionError):
        return _DEFAULT_VERSION
    version = config.get("cniVersion") if isinstance(config, dict) else None
    return version if isinstance(version, str) else _DEFAULT_VERSION


def parse(environment: Mapping[str, str], stdin: bytes) -> Request:
    """Validate a request that acts on a container: VERSION, which has none, is answered by `render_version`.

    Raises:
        CniError: INVALID_ENVIRONMENT names every missing or malformed variable, DECODING_FAILURE and INVALID_CONFIG the
            field of the config, INCOMPATIBLE_VERSION the versions that are supported.
    """
    command = _command(environment)
    config = _config(stdin)
    version = _version(config)
    if command is Command.CHECK and SUPPORTED_VERSIONS.index(version) < SUPPORTED_VERSIONS.index(_CHECK_SINCE):
        raise CniError(
            Code.INCOMPATIBLE_VERSION, f"CHECK exists since cniVersion {_CHECK_SINCE}, the config says {version}"
        )
    wishes = config if command is Command.ADD else Fields({})
    requested = _requested(environment.get("CNI_ARGS", "") if command is Command.ADD else "")
    try:
        return Request(
            command=command,
            version=version,
            network=ids.network_name(config.text("network" if config.has("network") else "name")),
            container_id=ids.container_id(environment.get("CNI_CONTAINERID", ""), "CNI_CONTAINERID"),
            interface=ids.interface_name(environment.get("CNI_IFNAME", ""), "CNI_IFNAME"),
            sandbox=environment.get("CNI_NETNS", ""),
            wanted=_wanted(requested, wishes),
            reservation=_reservation(requested, wishes),
            mac=_mac(requested, wishes),
            dns=config.object("dns").value if config.has("dns") else None,
            addresses=_previous(config, command),
            ports=_ports(wishes),
            bandwidth=_bandwidth(wishes),
        )
    except InvalidValue as error:
        wrong_variable = (error.field or "").startswith("CNI_")
        code = Code.INVALID_ENVIRONMENT if wrong_variable else Code.INVALID_CONFIG
        raise CniError(code, str(error)) from None


def _command(environment: Mapping[str, str]) -> Command:
    name = environment.get("CNI_COMMAND", "")
    if not name:
        raise CniError(Code.INVALID_ENVIRONMENT, "required variable CNI_COMMAND is missing")
    try:
        command = Command(name)
    except ValueError:
        known = ", ".join(Command)
        raise CniError(Code.INVALID_ENVIRONMENT, f"CNI_COMMAND: {ids.quoted(name)} is not one of {known}") from None
    missing = [variable for variable in _REQUIRED[command] if not environment.get(variable)]
    if missing:
        plural = "s" if len(missing) > 1 else ""
        verb = "are" if len(missing) > 1 else "is"
        raise CniError(
            Code.INVALID_ENVIRONMENT, f"required variable{plural} {', '.join(missing)} {verb} missing for {command}"
        )
    return command


def _config(stdin: bytes) -> Fields:
    try:
        return Fields(json.loads(stdin))
    except ValueError as error:
        raise CniError(Code.DECODING_FAILURE, f"the network config on stdin is not JSON: {error}") from None
    except RecursionError:
        raise CniError(Code.DECODING_FAILURE, "the network config on stdin is nested too deeply") from None
    except InvalidValue as error:
        raise CniError(Code.DECODING_FAILURE, f"the network config on stdin: {error}") from None


def _version(config: Fields) -> str:
    try:
        version = config.text("cniVersion") if config.has("cniVersion") else _DEFAULT_VERSION
    except InvalidValue as error:
        raise CniError(Code.INVALID_CONFIG, str(error)) from None
    if version not in SUPPORTED_VERSIONS:
        supported = ", ".join(SUPPORTED_VERSIONS)
        raise CniError(
            Code.INCOMPATIBLE_VERSION,
            f"cniVersion {ids.quoted(version)} is not supported",
            f"supported versions: {supported}",
        )
    return version


def _requested(arguments: str) -> Fields:
    """Read CNI_ARGS (``IP=10.0.0.5;MAC=…``); names that we do not know are other plugins' or the runtime's."""
    pairs = (part.partition("=") for part in arguments.split(";") if part)
    return Fields({name: value for name, _, value in pairs}, "CNI_ARGS")


def _wanted(requested: Fields, config: Fields) -> tuple[IpAddress, ...]:
    """Return the addresses that are asked for, in CNI_ARGS or where the CNI conventions have them (`ips`).

    Some runtimes write a prefix length behind an address; it is the network's to say.
    """
    named = list(_named(requested.text("IP").split(","), "CNI_ARGS.IP")) if requested.has("IP") else []
    for place in (_args(config, "cni"), _inside(config, "runtimeConfig")):
        if place and place.has("ips"):
            named += _named(place.texts("ips"), place.at("ips"))
    found = {parse_address(text.strip().partition("/")[0], field): field for text, field in named}
    if found:
        check_addresses(tuple(found), next(reversed(found.values())))
    return tuple(sorted(found, key=Family.of))


def _named(texts: list[str], field: str) -> Iterator[tuple[str, str]]:
    return ((text, f"{field}[{index}]" if len(texts) > 1 else field) for index, text in enumerate(texts))


def _reservation(requested: Fields, config: Fields) -> ReservationName | None:
    """Return the name of the reservation that is asked for, in CNI_ARGS or in the config's `args.overlayd`."""
    ours = _args(config, "overlayd")
    for place, name in ((requested, "RESERVATION"), (ours, "reservation")):
        if place and place.has(name):
            return ids.reservation_name(place.text(name), place.at(name))
    return None


def _mac(requested: Fields, config: Fields) -> MacAddress | None:
    """Return the MAC that is asked for, in CNI_ARGS or by the capability `mac`."""
    for place, name in ((requested, "MAC"), (_inside(config, "runtimeConfig"), "mac")):
        if place and place.has(name):
            return ids.mac_address(place.text(name), place.at(name))
    return None


def _ports(config: Fields) -> tuple[PortMapping, ...]:
    given = _inside(config, "runtimeConfig")
    return ports.decode(given, "portMappings") if given else ()


def _bandwidth(config: Fields) -> Bandwidth:
    given = _inside(config, "runtimeConfig")
    return bandwidth.decode(given, "bandwidth") if given else UNLIMITED


def _args(config: Fields, owner: str) -> Fields | None:
    args = _inside(config, "args")
    return _inside(args, owner) if args else None


def _inside(fields: Fields, name: str) -> Fields | None:
    return fields.object(name) if fields.has(name) else None


def _previous(config: Fields, command: Command) -> tuple[IpAddress, ...]:
    """Return the addresses of `prevResult`, in the form that 0.3.0 and later share (``ips[].address``)."""
    if not config.has("prevResult"):
        if command is Command.CHECK:
            raise CniError(Code.INVALID_CONFIG, "prevResult: is required for CHECK")
        return ()
    if command is Command.ADD:
        raise CniError(Code.INVALID_CONFIG, "prevResult: this plugin must be the first of its chain")
    previous = config.object("prevResult")
    entries = previous.objects("ips") if previous.has("ips") else []
    return tuple(parse_address(each.text("address").partition("/")[0], each.at("address")) for each in entries)


def render_result(version: str, result: Result) -> bytes:
    """Return the result object in the form of one version (CNI SPEC, section "ADD Success")."""
    modern = SUPPORTED_VERSIONS.index(version)
    interface: dict[str, Json] = {"name": result.interface, "mac": result.mac, "sandbox": result.sandbox}
    if version == "1.1.0":
        interface["mtu"] = result.mtu
    gateways = {Family.of(each.gateway): str(each.gateway) for each in result.ips if each.gateway}
    ips: list[Json] = []
    for each in result.ips:
        family = Family.of(each.address.ip)
        entry: dict[str, Json] = {} if modern >= SUPPORTED_VERSIONS.index("1.0.0") else {"version": str(int(family))}
        entry |= {"interface": 0, "address": str(each.address)}
        ips.append(entry | ({"gateway": gateways[family]} if family in gateways else {}))
    routes: list[Json] = []
    for route in result.routes:
        gateway = gateways.get(Family.of(route))
        routes.append({"dst": str(route), "gw": gateway} if gateway else {"dst": str(route)})
    body: dict[str, Json] = {"cniVersion": version, "interfaces": [interface], "ips": ips, "routes": routes}
    body["dns"] = result.dns if result.dns is not None else {}
    return json.dumps(body, indent=2).encode() + b"\n"


def render_version(requested: str) -> bytes:
    """Return the answer to VERSION."""
    version = requested if requested in SUPPORTED_VERSIONS else SUPPORTED_VERSIONS[-1]
    return json.dumps({"cniVersion": version, "supportedVersions": list(SUPPORTED_VERSIONS)}).encode() + b"\n"


def render_error(version: str, error: CniError) -> bytes:
    """Return the error object (CNI SPEC, section "Error")."""
    body: dict[str, Json] = {"cniVersion": version, "code": int(error.code), "msg": error.msg}
    if error.details:
        body["details"] = error.details
    return json.dumps(body, indent=2).encode() + b"\n"
