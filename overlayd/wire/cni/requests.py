"""CNI requests (CNI SPEC 1.1.0), as the launcher forwards them.

The launcher does not parse a request. It sends the ``CNI_*`` variables as ``NAME=value``, each terminated by a NUL, one
more NUL, then its unchanged stdin. The answer is one byte, ``0`` or ``1`` (the exit status), then the text for stdout.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import accumulate

from overlayd.model import ids
from overlayd.model.errors import InvalidValue
from overlayd.model.ids import ContainerId, InterfaceName, NetworkName
from overlayd.wire.cni import result as cni_result
from overlayd.wire.cni import version as cni_version
from overlayd.wire.cni import wishes as cni_wishes
from overlayd.wire.cni.error import CniError, Code, unsupported
from overlayd.wire.cni.result import NOTHING_BEFORE, Previous
from overlayd.wire.cni.wishes import Wishes
from overlayd.wire.fields import Fields

VALID_ATTACHMENTS = "cni.dev/valid-attachments"


class Command(StrEnum):
    """The operations of the SPEC."""

    ADD = "ADD"
    DEL = "DEL"
    CHECK = "CHECK"
    GC = "GC"
    STATUS = "STATUS"
    VERSION = "VERSION"


_REQUIRED = {
    Command.ADD: ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"),
    Command.CHECK: ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"),
    Command.DEL: ("CNI_CONTAINERID", "CNI_IFNAME", "CNI_PATH"),
    Command.GC: ("CNI_PATH",),
    Command.STATUS: (),
    Command.VERSION: (),
}
_DEPTH_MAX = 200
"""The deepest nesting of JSON in which the version is looked for: releases of Python limit recursion differently."""

_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))

_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?')
"""A string of JSON, also one without an end. Its brackets nest nothing: closing ones would make a config look flat."""

_SINCE = {
    Command.CHECK: cni_version.CHECK,
    Command.GC: cni_version.GC,
    Command.STATUS: cni_version.STATUS,
}
"""The version of the SPEC that introduced an operation; the first one where an operation is missing here."""

Attached = tuple[ContainerId, InterfaceName]
"""An interface of a container, as a runtime names it."""


@dataclass(frozen=True, slots=True)
class Request:
    """An ADD, DEL or CHECK. `sandbox` is empty for a DEL without CNI_NETNS.

    `conf` is the name of the config, which may differ from that of the network. `wishes` are empty for a DEL, and only
    ports and bandwidth for a CHECK. `previous` is the `prevResult`.
    """

    command: Command
    version: str
    network: NetworkName
    container_id: ContainerId
    interface: InterfaceName
    sandbox: str
    conf: NetworkName
    wishes: Wishes = cni_wishes.NOTHING
    previous: Previous = NOTHING_BEFORE

    def field(self, name: str) -> str:
        """Return the field of the request that gave a field of the model, to name it in an error."""
        if name == "name":
            return "name" if self.conf == self.network else "network"
        return self.wishes.fields.get(name, name)


@dataclass(frozen=True, slots=True)
class GcRequest:
    """A GC: detach everything that the config named `conf` attached and that is not in `valid`."""

    version: str
    conf: NetworkName
    valid: frozenset[Attached]


@dataclass(frozen=True, slots=True)
class StatusRequest:
    """A STATUS asks whether an ADD could succeed now."""

    version: str
    network: NetworkName


def unpack(frame: bytes) -> tuple[dict[str, str], bytes]:
    """Split the launcher's request into variables and stdin; raise `CniError` when it is incomplete."""
    if frame.startswith(b"\0"):
        return {}, frame[1:]
    head, end, stdin = frame.partition(b"\0\0")
    if not end:
        raise CniError(Code.IO_FAILURE, "the request from the launcher is incomplete")
    pairs = (entry.partition("=") for entry in head.decode(errors="replace").split("\0") if entry)
    return {name: value for name, _, value in pairs}, stdin


def version_of(stdin: bytes) -> str:
    """Return the version for the answer: that of the config if it can be read and is supported, else the first one."""
    if _depth(stdin) > _DEPTH_MAX:
        return cni_version.SUPPORTED[0]
    try:
        config = json.loads(stdin.decode(), parse_int=float)  # int() refuses very long numbers
    except ValueError:
        return cni_version.SUPPORTED[0]
    version = config.get("cniVersion") if isinstance(config, dict) else None
    return version if version in cni_version.SUPPORTED else cni_version.SUPPORTED[0]


def _depth(text: bytes) -> int:
    """Return how deeply brackets are nested."""
    brackets = _STRING.sub(b"", text).translate(None, _NO_BRACKETS)
    return max(accumulate(1 if each in b"[{" else -1 for each in brackets), default=0)


def render_version(requested: str) -> bytes:
    """Return the answer to VERSION."""
    supported = cni_version.SUPPORTED
    is_known = requested in supported and cni_version.is_since(requested, cni_version.VERSION)
    body = {"cniVersion": requested if is_known else supported[-1], "supportedVersions": list(supported)}
    return json.dumps(body).encode() + b"\n"


def parse(environment: Mapping[str, str], stdin: bytes) -> Request | GcRequest | StatusRequest:
    """Validate any request except VERSION, which `render_version` answers.

    Raises:
        CniError: INVALID_ENVIRONMENT names every missing or malformed variable, DECODING_FAILURE and INVALID_CONFIG the
            field of the config, UNSUPPORTED_FIELD also its value, INCOMPATIBLE_VERSION the versions that are supported.
    """
    command = _command(environment)
    config = _config(stdin)
    version = _version(config)
    since = _SINCE.get(command)
    if since and not cni_version.is_since(version, since):
        raise CniError(
            Code.INCOMPATIBLE_VERSION, f"{command} exists since cniVersion {since}, the config says {version}"
        )
    try:
        return _request(command, version, environment, config)
    except InvalidValue as error:
        wrong_variable = (error.field or "").startswith("CNI_")
        code = Code.INVALID_ENVIRONMENT if wrong_variable else Code.INVALID_CONFIG
        raise CniError(code, str(error)) from None


def _request(
    command: Command, version: str, environment: Mapping[str, str], config: Fields
) -> Request | GcRequest | StatusRequest:
    conf = ids.network_name(config.text("name"))
    network = ids.network_name(config.text("network"), "network") if config.has("network") else conf
    if command is Command.GC:
        return GcRequest(version, conf, _valid_attachments(config))
    if command is Command.STATUS:
        return StatusRequest(version, network)
    return Request(
        command=command,
        version=version,
        network=network,
        container_id=ids.container_id(environment["CNI_CONTAINERID"], "CNI_CONTAINERID"),
        interface=ids.interface_name(environment["CNI_IFNAME"], "CNI_IFNAME"),
        sandbox=environment.get("CNI_NETNS", ""),
        conf=conf,
        wishes=_wishes(command, environment.get("CNI_ARGS", ""), config),
        previous=_previous(command, version, config),
    )


def _command(environment: Mapping[str, str]) -> Command:
    name = environment.get("CNI_COMMAND")
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
        return Fields(json.loads(stdin.decode()))
    except ValueError as error:
        raise CniError(Code.DECODING_FAILURE, f"the network config on stdin is not JSON: {error}") from None
    except RecursionError:
        raise CniError(Code.DECODING_FAILURE, "the network config on stdin is nested too deeply") from None
    except InvalidValue as error:
        raise CniError(Code.DECODING_FAILURE, f"the network config on stdin: {error}") from None


def _version(config: Fields) -> str:
    try:
        version = config.text("cniVersion") if config.has("cniVersion") else cni_version.SUPPORTED[0]
    except InvalidValue as error:
        raise CniError(Code.INVALID_CONFIG, str(error)) from None
    if version not in cni_version.SUPPORTED:
        supported = ", ".join(cni_version.SUPPORTED)
        raise CniError(
            Code.INCOMPATIBLE_VERSION,
            f"cniVersion {ids.quoted(version)} is not supported",
            f"supported versions: {supported}",
        )
    return version


def _wishes(command: Command, arguments: str, config: Fields) -> Wishes:
    if command is Command.DEL:
        return cni_wishes.NOTHING
    if command is Command.CHECK:
        return Wishes(ports=cni_wishes.port_mappings(config), bandwidth=cni_wishes.limits(config))
    ipam = config.object("ipam") if config.has("ipam") else None
    if ipam and ipam.has("type") and ipam.text("type"):
        raise unsupported(ipam.text("type"), "ipam.type", "the addresses are those of the network")
    return cni_wishes.parse(arguments, config)


def _previous(command: Command, version: str, config: Fields) -> Previous:
    if command is Command.DEL or not cni_version.is_since(version, cni_version.INTERFACES):
        return NOTHING_BEFORE  # a DEL never fails for its config; earlier versions have no `prevResult`
    if config.has("prevResult"):
        return cni_result.parse_previous(config.object("prevResult"))
    if command is Command.CHECK:
        raise InvalidValue("is required for CHECK", field="prevResult")
    return NOTHING_BEFORE


def _valid_attachments(config: Fields) -> frozenset[Attached]:
    """Return the attachments that a GC must keep.

    The key is required. Null is an empty list, as runtimes written in Go send it.
    """
    if VALID_ATTACHMENTS not in config.value:
        raise InvalidValue("is required for GC", field=VALID_ATTACHMENTS)
    listed = config.objects(VALID_ATTACHMENTS) if config.has(VALID_ATTACHMENTS) else []
    return frozenset(
        (
            ids.container_id(each.text("containerID"), each.at("containerID")),
            ids.interface_name(each.text("ifname"), each.at("ifname")),
        )
        for each in listed
    )
