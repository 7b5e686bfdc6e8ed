"""How a client authenticates controllers, and how it gets the certificate of their authority."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from overlayd.model.errors import InvalidValue, Unavailable
from overlayd.wire import credentials, problem
from overlayd.wire.credentials import CONTROLLER_NAME

if TYPE_CHECKING:
    import ssl

TIMEOUT = (3.0, 10.0, 10.0, 3.0)
"""Seconds for connecting, reading, writing, and for a connection of the pool (httpx.Timeout)."""


@dataclass(frozen=True, slots=True)
class Trust:
    """What a server must prove: a certificate of this authority (PEM form) for `CONTROLLER_NAME`.

    `authority` None: a certificate for the host name of the URL that the system's root certificates verify.
    """

    authority: str | None

    def context(self) -> "ssl.SSLContext":
        """Return the TLS context that verifies controllers; raise `InvalidValue` when the authority is damaged."""
        import ssl  # noqa: PLC0415 - a command that asks no controller starts without it

        if self.authority is None:
            return ssl.create_default_context()
        try:
            return ssl.create_default_context(cadata=self.authority)
        except ssl.SSLError as error:
            raise InvalidValue(f"cannot be read: {error}", field="certificate authority") from None

    @property
    def server_name(self) -> str | None:
        """The name to verify, whatever address the URL names; None for the host of the URL."""
        return None if self.authority is None else CONTROLLER_NAME

    @property
    def extensions(self) -> dict[str, str]:
        """What each request of httpx must carry: the name to verify."""
        return {} if self.server_name is None else {"sni_hostname": self.server_name}


def fetch_authority(url: str, fingerprint: str, field: str) -> str:
    """Ask the server at a URL for the authority's certificate, and return it if it has this fingerprint.

    Nothing secret is sent. Raises `InvalidValue`, which names `field` as the fingerprint's origin, or `Unavailable`.
    """
    import ssl  # noqa: PLC0415 - as above

    import httpx  # noqa: PLC0415 - takes 65 ms

    untrusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    untrusting.check_hostname = False
    untrusting.verify_mode = ssl.CERT_NONE  # the fingerprint proves what is fetched
    with httpx.Client(verify=untrusting, timeout=TIMEOUT, trust_env=False) as http:
        try:
            answer = http.get(f"{url}/v1/ca")
        except httpx.TransportError as error:
            raise Unavailable(f"no controller answers at {url}: {error}") from error
    if not answer.is_success:
        raise problem.decode(answer.status_code, answer.content)
    found = credentials.fingerprint(answer.text, f"{url}/v1/ca")
    if found != fingerprint:
        raise InvalidValue(
            f"{url} does not have the certificate authority with this fingerprint, but {found}: it is not trusted,"
            " and nothing was sent",
            field=field,
        )
    return answer.text
