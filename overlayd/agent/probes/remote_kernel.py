"""Probes through the tunnel that another host's kernel answers by itself."""

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from secrets import token_bytes

from overlayd.kernel.packets.checksum import internet_checksum
from overlayd.kernel.port import KernelError
from overlayd.model.address import Family, IpAddress

PATIENCE = 0.5
"""Seconds that an answer may take."""

ATTEMPTS = 3
"""How often a question is asked before its answer is missed. Kernels send some ICMP messages once a second only."""

_CLOSED_PORT = 1
"""A UDP port on which no process listens (tcpmux, RFC 1078, is TCP's)."""

_ECHO = struct.Struct("!BBHHH")
_ECHO_REQUEST = {Family.V4: 8, Family.V6: 128}
_ECHO_REPLY = {Family.V4: 0, Family.V6: 129}
_PROTOCOLS = {Family.V4: socket.IPPROTO_ICMP, Family.V6: socket.IPPROTO_ICMPV6}
_NONCE = 8
_DATAGRAM_MAX = 1 << 16


@dataclass(frozen=True, slots=True)
class ProbeRoute:
    """From an address of this host in a network to another host's."""

    source: IpAddress
    target: IpAddress

    @property
    def family(self) -> Family:
        """The IP version of both."""
        return Family.of(self.target)


async def echoes(way: ProbeRoute) -> bool:
    """Return whether an ICMP echo is answered; its checksum is made by the sending kernel in any case."""
    return await repeated(lambda: _echo(way))


async def refuses(way: ProbeRoute) -> bool:
    """Return whether the other host refuses a UDP datagram to a port on which no program listens.

    Its kernel does so only after it has verified the checksum (net/ipv4/udp.c: __udp4_lib_rcv), which this host leaves
    to the device below the tunnel if that says that it can.
    """
    return await repeated(lambda: _datagram(way))


async def repeated(ask: Callable[[], Awaitable[bool]]) -> bool:
    """Repeat a probe a few times until it is answered; raise `KernelError` when this host cannot send it."""
    for _ in range(ATTEMPTS):
        try:
            async with asyncio.timeout(PATIENCE):
                return await ask()
        except TimeoutError:
            continue
        except OSError as error:
            refusal = KernelError.of(error, "probe of another host's kernel")
            if refusal.is_shortage:
                raise refusal from error
            # Otherwise there is no way there.
    return False


async def _echo(way: ProbeRoute) -> bool:
    family, nonce = way.family, token_bytes(_NONCE)
    with opened(way, socket.SOCK_RAW, _PROTOCOLS[family]) as channel:
        bare = _ECHO.pack(_ECHO_REQUEST[family], 0, 0, 0, 0) + nonce
        # The kernel makes the checksum of ICMPv6 itself.
        checksum = internet_checksum(bare) if family is Family.V4 else 0
        channel.send(_ECHO.pack(_ECHO_REQUEST[family], 0, checksum, 0, 0) + nonce)
        loop = asyncio.get_running_loop()
        while True:
            packet = await loop.sock_recv(channel, _DATAGRAM_MAX)
            message = packet[4 * (packet[0] & 15) :] if family is Family.V4 else packet
            if message[0] == _ECHO_REPLY[family] and message[_ECHO.size :].startswith(nonce):
                return True


async def _datagram(way: ProbeRoute) -> bool:
    with opened(way, socket.SOCK_DGRAM, socket.IPPROTO_UDP) as channel:
        channel.send(token_bytes(_NONCE))
        with suppress(ConnectionRefusedError):
            await asyncio.get_running_loop().sock_recv(channel, 1)
        return True


def opened(way: ProbeRoute, kind: socket.SocketKind, protocol: int) -> socket.socket:
    """Return a socket that is bound to the source's address and connected to the target."""
    is_ipv4 = way.family is Family.V4
    channel = socket.socket(socket.AF_INET if is_ipv4 else socket.AF_INET6, kind | socket.SOCK_CLOEXEC, protocol)
    try:
        channel.settimeout(0)
        channel.bind((str(way.source), 0))
        channel.connect((str(way.target), _CLOSED_PORT if kind is socket.SOCK_DGRAM else 0))
    except OSError:
        channel.close()
        raise
    return channel
