"""System calls that fail: by a filter of the kernel's own on one thread (seccomp(2)), so that no code is replaced."""

import ctypes
import errno
import os
import platform
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")

_NUMBERS = {
    "x86_64": {
        "openat": 257,
        "getdents64": 217,
        "socket": 41,
        "ioctl": 16,
        "setns": 308,
        "sendto": 44,
        "recvfrom": 45,
        "fstat": 5,
        "read": 0,
        "vfork": 58,
        "clone3": 435,
    },
    "aarch64": {
        "openat": 56,
        "getdents64": 61,
        "socket": 198,
        "ioctl": 29,
        "setns": 268,
        "sendto": 206,
        "recvfrom": 207,
        "fstat": 80,
        "read": 63,
        "vfork": 220,
        "clone3": 435,
    },
}
"""Numbers of system calls (asm/unistd.h)."""

SYSTEM_CALLS = tuple(_NUMBERS["x86_64"])
"""Those by which the agent looks at namespaces, sockets, sysctls and tables, and starts programs and threads."""

SHORTAGES = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
REFUSALS = (errno.EACCES, errno.EIO, errno.EPERM)

_LIBC = ctypes.CDLL(None, use_errno=True)
_PR_SET_SECCOMP = 22
_SECCOMP_MODE_FILTER = 2
_RET_ALLOW, _RET_ERRNO = 0x7FFF0000, 0x00050000
_INSTRUCTION = struct.Struct("=HBBI")
_LOAD_NUMBER = _INSTRUCTION.pack(0x20, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Fault:
    """A system call, and the errno with which it fails."""

    call: str
    code: int

    def __str__(self) -> str:
        return f"{self.call} {errno.errorcode[self.code]}"


def under(fault: Fault, function: Callable[[], T]) -> T:
    """Call a function in a thread of its own in which a system call fails; return or raise what it does.

    The thread is in the namespaces of the one that calls this.
    """
    results: list[T] = []
    raised: list[BaseException] = []

    def run() -> None:
        impose(fault)
        try:
            results.append(function())
        except BaseException as error:  # noqa: BLE001 - raised again where it belongs
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    for error in raised:
        raise error
    return results[0]


def impose(fault: Fault) -> None:
    """Let a system call fail in this thread from now on, and in those that it starts."""
    number = _NUMBERS[platform.machine()][fault.call]
    code = b"".join(
        [
            _LOAD_NUMBER,
            _INSTRUCTION.pack(0x15, 0, 1, number),
            _INSTRUCTION.pack(0x06, 0, 0, _RET_ERRNO | fault.code),
            _INSTRUCTION.pack(0x06, 0, 0, _RET_ALLOW),
        ]
    )
    steps = ctypes.create_string_buffer(code, len(code))
    program = ctypes.create_string_buffer(struct.pack("@HP", len(code) // _INSTRUCTION.size, ctypes.addressof(steps)))
    if _LIBC.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, program, 0, 0):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
