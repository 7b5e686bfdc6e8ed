"""The requests of `overlayd netns` in the terms of `attach`, its answers, and its options' names in errors. Pure."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from overlayd.agent.attach.request import AttachmentName, AttachRequest, AttachResult
from overlayd.agent.records.attachment_records import Attachment
from overlayd.dataplane.items import NETWORK_NAMESPACES
from overlayd.model import ids
from overlayd.model.endpoint import Endpoint, Workload, check_addresses
from overlayd.model.errors import InvalidValue, OverlayError
from overlayd.model.ids import ContainerId, quoted
from overlayd.model.published_port import PortMapping, TransportProtocol
from overlayd.wire.cni import ports
from overlayd.wire.fields import Fields, Json, parse_address

RUNTIME = "netns"
"""The way by which this room attaches, in a workload."""

DIRECTORY, _, _OURS = NETWORK_NAMESPACES.rpartition("/")
"""The directory of namespaces that have names (ip-netns(8)), and how the names of the networks' own begin."""

_OPTIONS = {
    "addresses": "--reservation",
    "aliases": "--alias",
    "labels": "--label",
    "name": "--network",
    "namespace": "NAME",
    "ports": "--publish",
    "sandbox": "NAME",
    "shares": "--reservation",
}
"""The arguments of `overlayd netns add` that have other names elsewhere."""

_PUBLISHED = re.compile(
    r"((?P<address>\[[0-9a-fA-F:.]+\]|[0-9.]+):)?(?P<host>[0-9]{1,5}):(?P<container>[0-9]{1,5})(/(?P<protocol>[a-z]+))?"
)


def namespace_name(text: str) -> ContainerId:
    """Check the name of a namespace that is to be attached: it serves as the id of a container.

    Raises `InvalidValue`, also for the name of a network's own namespace.
    """
    name = ids.container_id(text, "namespace")
    if name.startswith(_OURS):
        raise InvalidValue(f"{quoted(text)}: names that begin with {_OURS} are those of networks", field="namespace")
    return name


def path_of(name: ContainerId) -> str:
    """Return the path of a namespace."""
    return f"{DIRECTORY}/{name}"


def attachment_name(fields: Fields) -> AttachmentName:
    """Read which interface of which namespace a request is about; raise `InvalidValue` that names the field."""
    return AttachmentName(
        ids.network_name(fields.text("network"), "network"),
        namespace_name(fields.text("namespace")),
        ids.interface_name(fields.text("interface"), "interface"),
        RUNTIME,
    )


def attach_request(fields: Fields) -> AttachRequest:
    """Read a request to attach a namespace; raise `InvalidValue` that names the field."""
    name = attachment_name(fields)
    addresses = tuple(parse_address(each, "address") for each in fields.texts("address"))
    if addresses:
        check_addresses(addresses, "address")
    return AttachRequest(
        name,
        path_of(name.container_id),
        addresses=addresses,
        reservations=tuple(
            ids.reservation_name(each, "reservation") for each in dict.fromkeys(fields.texts("reservation"))
        ),
        mac=ids.workload_mac(fields.text("mac"), "mac") if fields.has("mac") else None,
        ports=_published(fields.texts("publish")),
        workload=Workload(
            labels=tuple(sorted(_label(each) for each in fields.texts("label"))),
            aliases=tuple(fields.texts("alias")),
            runtime=RUNTIME,
            name=name.container_id,
        ),
    )


def _label(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise InvalidValue(f"{quoted(text)} is not of the form KEY=VALUE", field="label")
    return key, value


def _published(texts: list[str]) -> tuple[PortMapping, ...]:
    """Read ports to publish, such as ``8080:80``, ``127.0.0.1:53:53/udp`` or ``[2001:db8::1]:443:443``."""
    entries: list[Json] = []
    for text in texts:
        found = _PUBLISHED.fullmatch(text)
        if found is None:
            raise InvalidValue(f"{quoted(text)} is not of the form [ADDRESS:]PORT:PORT[/PROTOCOL]", field="publish")
        if not int(found["host"]):
            raise InvalidValue(f"{quoted(text)}: the port of the host must be given", field="publish")
        entries.append(
            {
                "protocol": found["protocol"] or TransportProtocol.TCP.value,
                "hostPort": int(found["host"]),
                "containerPort": int(found["container"]),
                "hostIP": (found["address"] or "").strip("[]"),
            }
        )
    return ports.decode(Fields({"publish": entries}), "publish")


@contextmanager
def named_as_options() -> Iterator[None]:
    """Give errors of the block the names that the options of `overlayd netns add` have."""
    try:
        yield
    except OverlayError as error:
        if error.field:
            field = re.split(r"[.[]", error.field)[0]
            error.field = _OPTIONS.get(field, f"--{field}")
        raise


def shown_result(made: AttachResult) -> dict[str, Json]:
    """Return the result of an attachment as JSON: the endpoint, addresses, gateways, and MTU in bytes."""
    return {
        **_shown_endpoint(made.endpoint),
        "mtu": made.mtu,
        "addresses": [str(each.interface) for each in made.addresses],
        "gateways": [str(each.gateway) for each in made.addresses if each.gateway],
    }


def shown_attachment(attachment: Attachment) -> dict[str, Json]:
    """Return an attachment of a namespace, as a list shows it."""
    endpoint = attachment.endpoint
    return {
        "namespace": endpoint.container_id,
        **_shown_endpoint(endpoint),
        "addresses": [str(address) for address in endpoint.addresses],
        "ports": [str(port) for port in attachment.ports],
    }


def _shown_endpoint(endpoint: Endpoint) -> dict[str, Json]:
    return {"network": endpoint.network, "interface": endpoint.interface, "mac": endpoint.mac}
