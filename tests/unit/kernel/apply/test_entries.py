"""A neighbour that the kernel found, and lost again, while ours is put in its place: no other entry suffers."""

import errno
import struct
import threading
from ipaddress import IPv4Address

from overlayd.dataplane.items import Neighbour, network_namespace
from overlayd.dataplane.plan import Add
from overlayd.kernel.apply import entries
from overlayd.kernel.netlink.transport import Netlink
from overlayd.kernel.port import KernelError
from overlayd.model.ids import InterfaceName, MacAddress, NetworkName
from tests.unit.kernel.netlink.test_transport import ENTRY, ERROR, Answer, ScriptedKernel, refusal

DEVICE = InterfaceName("vx0")
NUD_PERMANENT, NUD_STALE = 0x80, 0x04
OPS = [
    Add(Neighbour(network_namespace(NetworkName("blue")), DEVICE, IPv4Address(f"10.0.0.{number}"), MacAddress(mac)))
    for number, mac in enumerate(("02:00:00:00:00:01", "02:00:00:00:00:02", "02:00:00:00:00:03"))
]
DONE: Answer = (ERROR, 0, None, refusal(0))


def neighbour(state: int) -> Answer:
    return (ENTRY, 0, None, struct.pack("=BBHiHBB", 2, 0, 0, 5, state, 0, 0))


def taken(*positions: int) -> list[list[Answer]]:
    """Return the kernel's answer to a batch in which the neighbours at these positions exist already."""
    return [[*((ERROR, 0, position, refusal(errno.EEXIST)) for position in positions), DONE]]


def errors(kernel: ScriptedKernel) -> dict[int, int]:
    found = entries.execute(Netlink(kernel), {DEVICE: 5}, OPS)
    return {position: error.errno for position, error in found.items()}


def test_one_that_is_gone_again_is_made() -> None:
    gone: list[list[Answer]] = [[(ERROR, 0, None, refusal(errno.ENOENT))]]
    assert errors(ScriptedKernel(taken(1), gone, [[DONE]])) == {}


def test_one_that_cannot_be_looked_at_fails_alone() -> None:
    unknown: list[list[Answer]] = [[(ERROR, 0, None, refusal(errno.ENOMEM))]]
    assert errors(ScriptedKernel(taken(0, 2), unknown, [[neighbour(NUD_STALE)]], [[DONE]])) == {0: errno.ENOMEM}


def test_one_that_somebody_set_stays() -> None:
    assert errors(ScriptedKernel(taken(1), [[neighbour(NUD_PERMANENT)]])) == {1: errno.EEXIST}


class FullKernel(ScriptedKernel):
    """A kernel that takes no request: a socket's buffer is full, or there is no memory."""

    def send(self, data: bytes | bytearray) -> int:  # noqa: ARG002 - as a socket has it
        raise OSError(errno.ENOBUFS, "No buffer space available")


def test_a_request_that_is_not_taken_is_an_error_of_each_entry() -> None:
    assert errors(FullKernel()) == dict.fromkeys(range(3), errno.ENOBUFS)


class Asked(dict[InterfaceName, int]):
    """Indexes that remember which thread asked for each: of one device there is none."""

    def __init__(self) -> None:
        super().__init__()
        self.threads: set[threading.Thread] = set()

    def __missing__(self, name: InterfaceName) -> int:
        self.threads.add(threading.current_thread())
        if name == "gone":
            raise KernelError(errno.ENODEV, name)
        self[name] = 5 + len(self)
        return self[name]


def test_of_many_operations_the_thread_that_uses_the_socket_asks_for_devices() -> None:
    """Messages are made in another one while those before them are sent."""
    devices = [DEVICE] * 4_000 + [InterfaceName("gone")] * 2 + [InterfaceName("vx1")] * 2_000
    ns, mac = network_namespace(NetworkName("blue")), MacAddress("02:00:00:00:00:01")
    ops = [Add(Neighbour(ns, dev, IPv4Address(number), mac)) for number, dev in enumerate(devices)]
    indexes = Asked()
    refused = ScriptedKernel([[DONE]], [[(ERROR, 0, 1_005, refusal(errno.ENOMEM)), DONE]], [[DONE]])
    found = entries.execute(Netlink(refused), indexes, ops)
    assert {at: error.errno for at, error in found.items()} == {
        4_000: errno.ENODEV,
        4_001: errno.ENODEV,
        4_007: errno.ENOMEM,
    }
    assert indexes.threads == {threading.current_thread()}
