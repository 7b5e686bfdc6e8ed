"""Redirections of ports (DNAT), parsed from the text of an nftables table. Pure."""

import re
from dataclasses import dataclass
from ipaddress import ip_address

from overlayd.model.address import Family, IpAddress
from overlayd.model.published_port import TransportProtocol

_RULE = re.compile(
    r"^\s*(?:iifname \S+ )?(?:ip6? daddr (?P<at>\S+)|meta nfproto ipv[46]) (?P<transport>udp|sctp) dport (?P<port>\d+)"
    r" dnat ip6? to \[?(?P<target>[\da-f.:]+?)\]?:(?P<target_port>\d+)$",
    re.MULTILINE,
)


@dataclass(frozen=True, slots=True)
class Redirection:
    """A rule that redirects packets to a port, at one address or at all of the namespace (None), to a target.

    Ports are in host byte order.
    """

    transport: TransportProtocol
    port: int
    at: IpAddress | None
    target: IpAddress
    target_port: int

    @property
    def family(self) -> Family:
        """The IP version of the redirected packets."""
        return Family.of(self.target)


def redirections(text: str) -> frozenset[Redirection]:
    """Return the redirections of UDP and SCTP in a table, either our own text or the kernel's listing of it.

    Tracked TCP flows end with their connections, but those of UDP and SCTP go on when a redirection changes.
    """
    return frozenset(
        Redirection(
            TransportProtocol(found["transport"]),
            int(found["port"]),
            ip_address(found["at"]) if found["at"] else None,
            ip_address(found["target"]),
            int(found["target_port"]),
        )
        for found in _RULE.finditer(text)
    )
