"""A thin transport for rtnetlink over one raw socket: batches, single requests and dumps of encoded messages.

Messages come in with a header whose sequence number is 0; the transport numbers them. Nothing here knows their content.
"""

import errno
import os
import socket
import struct
from array import array
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Protocol

from overlayd.kernel.netlink.framing import (
    ATTRIBUTE,
    HEADER,
    NLM_F_ACK,
    NLM_F_ACK_TLVS,
    NLM_F_DUMP_INTR,
    NLM_F_REQUEST,
    Message,
    MessageRun,
    aligned,
    messages,
)
from overlayd.kernel.port import KernelError, translated

_NLMSG_NOOP = 1
_NLMSG_ERROR = 2
_NLMSG_DONE = 3
_NLMSGERR_ATTR_MSG = 1

SOL_NETLINK = 270
_NETLINK_CAP_ACK = 10
_NETLINK_EXT_ACK = 11
_NETLINK_GET_STRICT_CHK = 12
_SO_SNDBUFFORCE = 32
SO_RCVBUFFORCE = 33

_SOCKET_BUFFER = 4 << 20
CHUNK = 3_000
"""Messages in one send. If every one of them fails, their error messages still fit into the receive buffer."""

_DATAGRAM_MAX = 1 << 16
"""The kernel cuts dumps into datagrams of at most 32 KiB (net/netlink/af_netlink.c: netlink_recvmsg)."""

_DUMP_ATTEMPTS = 8
_TIMEOUT = struct.pack("=qq", 30, 0)
"""The answer is queued before send() returns, so a receive that has to wait means that the kernel dropped it."""

_SEQUENCE_MAX = 1 << 31
_ERROR = struct.Struct("=i")
_SEQUENCE = struct.Struct("=I")
_SEQUENCE_OFFSET = 8
_BARRIER = HEADER.pack(HEADER.size, _NLMSG_NOOP, NLM_F_REQUEST | NLM_F_ACK, 0, 0)


class Datagrams(Protocol):
    """The part of a socket that is used here."""

    def send(self, data: bytes | bytearray, /) -> int:
        """Send one datagram."""

    def recv_into(self, buffer: bytearray, nbytes: int, flags: int, /) -> int:
        """Receive one datagram and return its length."""

    def close(self) -> None:
        """Close the socket."""


def open_socket(protocol: int = socket.NETLINK_ROUTE) -> socket.socket:
    """Return a netlink socket of the network namespace in which the calling thread is now; raise `KernelError`."""
    with translated("netlink socket"), ExitStack() as failure:
        sock = _open(protocol)
        failure.callback(sock.close)
        sock.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, _SOCKET_BUFFER)
        sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, _SOCKET_BUFFER)
        sock.setsockopt(SOL_NETLINK, _NETLINK_GET_STRICT_CHK, 1)
        sock.bind((0, 0))
        failure.pop_all()
    return sock


def open_brief_socket() -> socket.socket:
    """Return a socket as `open_socket` does, for a few messages: it dumps nothing, and its buffers are not enlarged.

    The kernel binds it with the first message (net/netlink/af_netlink.c: netlink_autobind).
    """
    with translated("netlink socket"):
        return _open(socket.NETLINK_ROUTE)


def _open(protocol: int) -> socket.socket:
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
    with ExitStack() as failure:
        failure.callback(sock.close)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _TIMEOUT)
        for option in (_NETLINK_CAP_ACK, _NETLINK_EXT_ACK):
            sock.setsockopt(SOL_NETLINK, option, 1)
        failure.pop_all()
    return sock


def port_id(sock: socket.socket) -> int:
    """Return the port id by which the kernel knows a netlink socket in its namespace."""
    found: tuple[int, int] = sock.getsockname()
    return found[0]


class Netlink:
    """One conversation with the kernel. Not for use by two threads at once."""

    def __init__(self, transport: Datagrams) -> None:
        self._transport = transport
        self._buffer = bytearray(_DATAGRAM_MAX)
        self._sequence = 0

    def batch(self, messages: Sequence[bytes]) -> dict[int, KernelError]:
        """Send messages that change something; return the errors by the position of the message that they belong to.

        The kernel goes on after a message that fails. Successes are not acknowledged one by one: the answer to a no-op
        after each chunk says that all before it are through.
        """
        errors: dict[int, KernelError] = {}
        for start in range(0, len(messages), CHUNK):
            self._chunk(start, [MessageRun(message, 1) for message in messages[start : start + CHUNK]], errors)
        return errors

    def stream(self, chunks: Iterable[Sequence[MessageRun]]) -> dict[int, KernelError]:
        """Send as `batch` does, in chunks of up to `CHUNK` messages, each while the next one is being made.

        They are made in another thread, which must not use this conversation.
        """
        errors: dict[int, KernelError] = {}
        start = 0
        for chunk in _made_ahead(chunks):
            self._chunk(start, chunk, errors)
            start += sum(run.number for run in chunk)
        return errors

    def execute(self, message: bytes) -> None:
        """Send one message that changes something; raise what the kernel answers."""
        for error in self.batch([message]).values():
            raise error

    def get(self, message: bytes) -> bytes:
        """Send one request that has one answer, and return the answer's payload."""
        sequence = self._send(message)
        while True:
            for kind, flags, number, payload in self._receive():
                if number != sequence:
                    continue
                if kind != _NLMSG_ERROR:
                    return payload
                raise _error(payload, flags)

    def dump(self, message: bytes) -> list[bytes]:
        """Return the payloads of a whole table.

        A table that changes while it is read may lack entries that are there; the kernel marks such a dump with
        NLM_F_DUMP_INTR on any of its messages, and it is read again from the start.
        """
        for _ in range(_DUMP_ATTEMPTS):
            payloads = self._dump(message)
            if payloads is not None:
                return payloads
        raise KernelError(errno.EINTR, f"the table changed during each of {_DUMP_ATTEMPTS} dumps")

    def close(self) -> None:
        """Close the socket."""
        self._transport.close()

    def _next_sequence(self, count: int) -> int:
        first = self._sequence + 1 if self._sequence + count < _SEQUENCE_MAX else 1
        self._sequence = first + count - 1
        return first

    def _send(self, message: bytes) -> int:
        sequence = self._next_sequence(1)
        numbered = bytearray(message)
        _SEQUENCE.pack_into(numbered, _SEQUENCE_OFFSET, sequence)
        self._transmit(numbered)
        return sequence

    def _transmit(self, data: bytearray) -> None:
        """Send one datagram, which the kernel takes whole or not at all; raise `KernelError`."""
        with translated("netlink request not taken"):
            self._transport.send(data)

    def _chunk(self, start: int, runs: Sequence[MessageRun], errors: dict[int, KernelError]) -> None:
        count = sum(run.number for run in runs)
        first = self._next_sequence(count + 1)
        data = bytearray().join((*(run.data for run in runs), _BARRIER))
        _number(data, (*runs, MessageRun(_BARRIER, 1)), first)
        try:
            self._transmit(data)
            self._answers(first, first + count, start, errors)
        except KernelError as lost:
            for position in range(start, start + count):
                errors.setdefault(position, lost)

    def _answers(self, first: int, barrier: int, start: int, errors: dict[int, KernelError]) -> None:
        while True:
            for kind, flags, sequence, payload in self._receive():
                if sequence == barrier:
                    return
                if kind == _NLMSG_ERROR and first <= sequence < barrier and _ERROR.unpack_from(payload)[0]:
                    errors[start + sequence - first] = _error(payload, flags)

    def _dump(self, message: bytes) -> list[bytes] | None:
        """Return the payloads, or None when the dump was interrupted."""
        sequence = self._send(message)
        payloads: list[bytes] = []
        interrupted = False
        while True:
            for kind, flags, number, payload in self._receive():
                if number != sequence:
                    continue
                interrupted = interrupted or bool(flags & NLM_F_DUMP_INTR)
                if kind == _NLMSG_DONE:
                    _raise_failure(payload, flags)
                    return None if interrupted else payloads
                if kind == _NLMSG_ERROR:
                    raise _error(payload, flags)
                payloads.append(payload)

    def _receive(self) -> list[Message]:
        """Return the messages of one datagram."""
        try:
            size = self._transport.recv_into(self._buffer, 0, socket.MSG_TRUNC)
        except OSError as error:
            # ENOBUFS: the receive buffer overran. EAGAIN: the answer did not come.
            raise KernelError.of(error, "netlink answer lost") from error
        if size > len(self._buffer):
            raise KernelError(errno.EMSGSIZE, f"netlink answer of {size} bytes")
        return list(messages(bytes(memoryview(self._buffer)[:size])))


def _made_ahead(chunks: Iterable[Sequence[MessageRun]]) -> Iterator[Sequence[MessageRun]]:
    """Yield chunks, each of which is made in another thread while the one before it is in use.

    The thread that calls this sends, as it has the interpreter at that moment and gives it to the other one while the
    kernel works. Were the other one to send, it would wait for the interpreter until the next chunk is made. Where no
    other thread can be started, this one makes them.
    """
    following = iter(chunks)
    with ThreadPoolExecutor(1, thread_name_prefix="netlink") as maker:
        try:
            making = maker.submit(next, following, None)
        except RuntimeError:  # threading: the system has no room for one more thread
            yield from following
            return
        while chunk := making.result():
            making = maker.submit(next, following, None)
            yield chunk


def _number(data: bytearray, runs: Iterable[MessageRun], first: int) -> None:
    """Write sequence numbers from `first` on into the messages of the runs, of which `data` is the concatenation."""
    offset, sequence = _SEQUENCE_OFFSET, first
    for run in runs:
        if run.number == 1:
            _SEQUENCE.pack_into(data, offset, sequence)
        else:
            words, step = memoryview(data).cast("I"), len(run.data) // run.number // _SEQUENCE.size
            start = offset // _SEQUENCE.size
            numbers = array("I", range(sequence, sequence + run.number))
            words[start : start + step * run.number : step] = memoryview(numbers)
        offset += len(run.data)
        sequence += run.number


def _raise_failure(payload: bytes, flags: int) -> None:
    """Raise the error with which a dump ended, if it did (net/netlink/af_netlink.c: netlink_dump_done)."""
    if len(payload) >= _ERROR.size and _ERROR.unpack_from(payload)[0] < 0:
        raise _error(payload, flags, _ERROR.size)


def _error(payload: bytes, flags: int, attributes: int = _ERROR.size + HEADER.size) -> KernelError:
    """Return the error of an answer, whose attributes start at the offset `attributes`.

    NETLINK_CAP_ACK: of the message at fault only the header stands between the code and them.
    """
    code = -int(_ERROR.unpack_from(payload)[0])
    text = _attribute_text(payload, attributes) if flags & NLM_F_ACK_TLVS else ""
    return KernelError(code, f"{os.strerror(code)}: {text}" if text else os.strerror(code))


def _attribute_text(payload: bytes, offset: int) -> str:
    """Return the kernel's own words (NLMSGERR_ATTR_MSG), or nothing."""
    while offset + ATTRIBUTE.size <= len(payload):
        length, kind = ATTRIBUTE.unpack_from(payload, offset)
        if kind == _NLMSGERR_ATTR_MSG:
            return payload[offset + ATTRIBUTE.size : offset + length].rstrip(b"\0").decode(errors="replace")
        offset += max(aligned(length), ATTRIBUTE.size)
    return ""
