"""The process that has imported our daemons, and forks one for each order; it ends with the process that orders.

Between it and each daemon stands a keeper, which waits for the daemon's end and sends its exit status.
"""

import ctypes
import fcntl
import gc
import json
import os
import signal
import socket
import sys
import traceback
from collections.abc import Sequence

import controller.main
import overlayd.agent.main
import overlayd.agent.program
from tests.support.lab.nursery import NUMBER, ROOT, Order, Place

_MAINS = {"overlay-controller": controller.main.main, "overlayd": overlayd.agent.main.main}

_PR_SET_PDEATHSIG = 1
_OUT_OF_THE_WAY = 100
_ORDER_MAX = 1 << 20
_DESCRIPTORS_MAX = 16

_libc = ctypes.CDLL(None, use_errno=True)


def main(orders: socket.socket) -> None:
    """Fork for each order, until the sending end is closed."""
    gc.collect()
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        data, descriptors, _, _ = socket.recv_fds(orders, _ORDER_MAX, _DESCRIPTORS_MAX)
        if not data:
            return
        if os.fork() == 0:
            orders.close()
            _keep(_parsed(data), descriptors)
            os._exit(0)
        for descriptor in descriptors:
            os.close(descriptor)


def _parsed(data: bytes) -> Order:
    fields = json.loads(data)
    place = Place(**fields["place"]) if fields["place"] else None
    return Order(fields["program"], fields["arguments"], fields["environment"], place, fields["descriptors"])


def _keep(order: Order, descriptors: Sequence[int]) -> None:
    """Start what was ordered; send its process id, and later its exit status."""
    _end_with_parent()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    output, reporting, *passed = descriptors
    pid = os.fork()
    if pid == 0:
        os._exit(_run(order, output, passed))
    for descriptor in (output, *passed):
        os.close(descriptor)
    os.write(reporting, _number(pid))
    _, status = os.waitpid(pid, 0)
    os.write(reporting, _number(os.waitstatus_to_exitcode(status)))


def _number(value: int) -> bytes:
    return value.to_bytes(NUMBER, "big", signed=True)


def _run(order: Order, output: int, passed: Sequence[int]) -> int:
    _end_with_parent()
    os.setsid()
    _give(output, dict(zip(order.descriptors, passed, strict=True)))
    os.environ.clear()
    os.environ.update(order.environment)
    sys.argv = [order.program, *order.arguments]
    try:
        if order.place:
            _enter(order.place)
        _MAINS[order.program]()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # noqa: BLE001 - as the interpreter does at the end of a program
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return 0


def _end_with_parent() -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _give(output: int, passed: dict[int, int]) -> None:
    """Let the process have these descriptors, by their numbers, and no others."""
    wanted = {0: os.open(os.devnull, os.O_RDONLY), 1: output, 2: output, **passed}
    # None may be overwritten before it has its number.
    aside = {number: fcntl.fcntl(descriptor, fcntl.F_DUPFD, _OUT_OF_THE_WAY) for number, descriptor in wanted.items()}
    for number, descriptor in aside.items():
        os.dup2(descriptor, number)
    begin = 3
    for number in sorted(number for number in passed if number > 2):
        os.closerange(begin, number)
        begin = number + 1
    os.closerange(begin, os.sysconf("SC_OPEN_MAX"))


def _enter(place: Place) -> None:
    kinds = ("net", "mnt") if place.mounts else ("net",)
    for namespace in [os.open(f"/proc/{place.pid}/ns/{kind}", os.O_RDONLY) for kind in kinds]:
        if _libc.setns(namespace, 0):
            code = ctypes.get_errno()
            raise OSError(code, f"setns: {os.strerror(code)}")
        os.close(namespace)
    if place.mounts:
        os.chdir(ROOT)


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])))
