"""Where the rules of a table lead a port, read from the rules. Pure."""

import re
from dataclasses import dataclass
from ipaddress import ip_address

from overlayd.model.address import Family, IpAddress
from overlayd.model.port import Transport

_RULE = re.compile(
    r"^\s*(?:iifname \S+ )?(?:ip6? daddr (?P<at>\S+)|meta nfproto ipv[46]) (?P<transport>udp|sctp) dport (?P<port>\d+)"
    r" dnat ip6? to \[?(?P<target>[\da-f.:]+?)\]?:(?P<target_port>\d+)$",
    re.MULTILINE,
)


@dataclass(frozen=True, slots=True)
class Redirection:
    """What is sent to a port, at one address or at all of the namespace's (None), goes to another place.

    Ports are in host byte order.
    """

    transport: Transport
    port: int
    at: IpAddress | None
    target: IpAddress
    target_port: int

    @property
    def family(self) -> Family:
        """The IP version of both ends."""
        return Family.of(self.target)


def redirections(text: str) -> frozenset[Redirection]:
    """Return what a table redirects whose transport has no end of its own by which flows would end: UDP and SCTP.

    The text is ours, or the kernel's listing of it.
    """
    return frozenset(
        Redirection(
            Transport(found["transport"]),
            int(found["port"]),
            ip_address(found["at"]) if found["at"] else None,
            ip_address(found["target"]),
            int(found["target_port"]),
        )
        for found in _RULE.finditer(text)
    )
