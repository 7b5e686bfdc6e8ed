"""TLS of a controller: the certificate that it shows, its own or a given one, for as long as it runs."""

import os
import socket
import ssl
from asyncio import sslproto
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

import structlog

from controller.api.http.auth import Security
from controller.clock import Clock
from controller.identity.authority import Authority, Issued, utc
from controller.lifecycle.bootstrap import ensure_admin, shared_authority, write_authority
from controller.overlay import Overlay
from controller.server.local_addresses import local_addresses
from controller.settings import ControllerSettings, GivenCertificate, OwnCertificate, Tls
from controller.store.port import Store
from overlayd.model.errors import InvalidValue, Unavailable

_RENEWAL = 12 * 3600.0
"""Seconds: addresses come and go, and given files are replaced before they expire."""

_READ_BUFFER = 4 * 1024
"""Bytes that each connection keeps for reading as long as it is open; most requests of hosts are smaller. asyncio takes
256 KiB, for which it has no option: with two connections of each of a thousand hosts, half a gigabyte. The benchmark
`controller_memory` is far above its budget without this."""

_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""For TLS 1.2, where OpenSSL's default has CBC too: authenticated encryption with forward secrecy alone (RFC 9325,
section 4.2). TLS 1.3 has no other."""

_ADDRESSES_MAX = 100
"""How many addresses a certificate names; clients of ours look for none of them."""

_log = structlog.get_logger()


class StartRefused(Exception):
    """What a start needs cannot be had, now or at all: a file of TLS, a thread."""


@dataclass(frozen=True, slots=True)
class Secured:
    """What connections are served with (`context`), and where its certificate comes from.

    `authority` is the cluster's own, None for given files; `listens` are addresses to name in a certificate.
    """

    context: ssl.SSLContext
    tls: Tls
    authority: Authority | None
    listens: tuple[IPv4Address | IPv6Address, ...]

    @property
    def security(self) -> Security:
        return Security(self.authority.certificate if self.authority else None, is_open=False)

    @property
    def fingerprint(self) -> str | None:
        return self.authority.fingerprint if self.authority else None

    def load(self, now: float) -> None:
        """Serve new connections with the certificate as it is now; raise `InvalidValue`."""
        match self.tls:
            case OwnCertificate(names):
                assert self.authority is not None  # noqa: S101 - see `secure`
                addresses = dict.fromkeys((*self.listens, *_addresses_among(names), *local_addresses()))
                dns = (*names, socket.gethostname(), "localhost")
                _load_issued(self.context, self.authority.issue(dns, [*addresses][:_ADDRESSES_MAX], utc(now)))
            case GivenCertificate():
                self.tls.load_into(self.context)

    async def keep(self, clock: Clock) -> None:
        """Reload the certificate at intervals, until cancelled."""
        while True:
            await clock.sleep(_RENEWAL)
            try:
                self.load(clock.wall())
            except InvalidValue as error:
                _log.warning("the certificate was not renewed", reason=str(error))


async def secure(
    chosen: ControllerSettings, overlay: Overlay, store: Store, sockets: Iterable[socket.socket]
) -> Secured:
    """Prepare TLS and, at a first start, the authority and an admin token; raise `StartRefused`."""
    if chosen.tls is None:
        raise ValueError("TLS was not asked for")
    try:
        is_own = isinstance(chosen.tls, OwnCertificate)
        authority = await shared_authority(store, overlay.clock.wall()) if is_own else None
        secured = Secured(_context(), chosen.tls, authority, _listens(sockets))
        secured.load(overlay.clock.wall())
        if authority:
            write_authority(chosen.admin_token.with_name("ca.pem"), authority)
        if await ensure_admin(overlay, chosen.admin_token):
            _log.info("made an admin token", file=str(chosen.admin_token))
    except (ValueError, OSError, InvalidValue, Unavailable) as error:
        raise StartRefused(str(error)) from error
    return secured


def _context() -> ssl.SSLContext:
    sslproto.SSLProtocol.max_size = _READ_BUFFER
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS)
    context.set_alpn_protocols(["http/1.1"])
    return context


def _listens(sockets: Iterable[socket.socket]) -> tuple[IPv4Address | IPv6Address, ...]:
    """Return the addresses at which sockets listen, but not those that stand for all."""
    addresses = [ip_address(str(sock.getsockname()[0]).partition("%")[0]) for sock in sockets]
    return tuple(address for address in addresses if not address.is_unspecified)


def _addresses_among(names: Iterable[str]) -> list[IPv4Address | IPv6Address]:
    found = []
    for name in names:
        with suppress(ValueError):
            found.append(ip_address(name))
    return found


def _load_issued(context: ssl.SSLContext, issued: Issued) -> None:
    """Load a certificate from memory: OpenSSL's interface takes files, and a private key belongs in none."""
    descriptor = os.memfd_create("certificate", os.MFD_CLOEXEC)
    with os.fdopen(descriptor, "w") as file:
        file.write(issued.key + issued.certificate)
        file.flush()
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
