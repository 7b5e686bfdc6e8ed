"""A server as a URL names it."""

from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit

from overlayd.agent.http.fault import HttpFault

_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class HttpOrigin:
    """Where to connect, and the value of the header Host. An IPv6 address is `host` without brackets."""

    host: str
    port: int
    is_secure: bool
    authority: str

    @classmethod
    def of(cls, url: str) -> "HttpOrigin":
        """Return the server of an http or https URL, of which path and user name are left out; raise `HttpFault`."""
        try:
            parts = urlsplit(url)
            host, port, default = parts.hostname, parts.port, _PORTS.get(parts.scheme)
            # A name that is not ASCII goes to the server as it goes to a nameserver (RFC 3490).
            shown = host if not host or host.isascii() else host.encode("idna").decode()
        except ValueError as error:
            raise HttpFault(f"{url!r} is not a URL: {error}") from None
        if not host or not shown or default is None:
            raise HttpFault(f"{url!r} is not a URL of http or https")
        if ":" in shown:
            shown = f"[{shown.partition('%')[0]}]"  # a zone means something on this host only (RFC 6874, section 3)
        has_port = port is not None and port != default
        return cls(host, port or default, parts.scheme == "https", f"{shown}:{port}" if has_port else shown)

    @property
    def is_literal(self) -> bool:
        """Whether the host is an address, and not a name that may have several."""
        with suppress(ValueError):
            ip_address(self.host)
            return True
        return False
