"""Which etcd a store talks to, and how."""

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from overlayd.model.errors import InvalidValue
from overlayd.model.ids import quoted

PLAIN_SCHEME = "etcd"
TLS_SCHEME = "etcds"

_PORT = 2379


@dataclass(frozen=True, slots=True)
class Certificates:
    """PEM files: what the servers' certificates are checked against (None: the system's roots), and our own."""

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None


@dataclass(frozen=True, slots=True)
class EtcdLogin:
    """A user of etcd, and the file that holds its password."""

    user: str
    password_file: Path


@dataclass(frozen=True, slots=True)
class EtcdCluster:
    """The client endpoints (HOST:PORT) of one cluster. Without `certificates` in the clear."""

    endpoints: tuple[str, ...]
    certificates: Certificates | None = None
    login: EtcdLogin | None = None

    def __str__(self) -> str:
        """Return the URL."""
        return f"{TLS_SCHEME if self.certificates else PLAIN_SCHEME}://{','.join(self.endpoints)}"


def is_url(text: str) -> bool:
    """Return whether a text means an etcd, and not a file."""
    return text.partition("://")[0] in {PLAIN_SCHEME, TLS_SCHEME}


def parse_url(url: str, certificates: Certificates, login: EtcdLogin | None, field: str) -> EtcdCluster:
    """Read ``etcd://HOST[:PORT],HOST[:PORT]…``, or ``etcds://`` for TLS; raise `InvalidValue`."""
    scheme, _, rest = url.partition("://")
    endpoints = tuple(_endpoint(part, field) for part in rest.removesuffix("/").split(","))
    if scheme == TLS_SCHEME:
        if (certificates.certificate is None) != (certificates.key is None):
            raise InvalidValue("a certificate and its key go together", field="--etcd-cert")
        return EtcdCluster(endpoints, certificates, login)
    if certificates != Certificates():
        raise InvalidValue(f"certificates are for {TLS_SCHEME}:// only", field=field)
    return EtcdCluster(endpoints, None, login)


def _endpoint(text: str, field: str) -> str:
    try:
        parts = urlsplit(f"//{text}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or _has_more(text):
        raise InvalidValue(f"{quoted(text)} is not HOST:PORT of an etcd", field=field)
    return f"[{host}]:{port or _PORT}" if ":" in host else f"{host}:{port or _PORT}"


def _has_more(text: str) -> bool:
    """Return whether a text has more than a host and a port."""
    return any(character in text for character in "/?#@ ")
