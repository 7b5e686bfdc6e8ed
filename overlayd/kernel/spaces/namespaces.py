"""Network namespaces by path: create, delete, list, enter. Python 3.11 has no os.setns and os.unshare yet."""

import ctypes
import errno
import fcntl
import os
import socket
import sys
import time
from array import array
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from overlayd.configuration.files import close_unlocked
from overlayd.dataplane.items import NETWORK_NAMESPACES, NamespaceRef
from overlayd.kernel.port import KernelError, NoNamespace, translated

CLONE_NEWNET = 0x40000000

_MS_BIND = 0x1000
_MS_REC = 0x4000
_MS_SHARED = 0x100000
_MNT_DETACH = 0x2
_UMOUNT_NOFOLLOW = 0x8
_NS_GET_NSTYPE = 0xB703
"""linux/nsfs.h: the CLONE_NEW* value of a namespace file."""

_NS_GET_USERNS = 0xB701
"""linux/nsfs.h: a descriptor of the user namespace that a namespace belongs to."""

_NS_GET_OWNER_UID = 0xB704
"""linux/nsfs.h: the user who made a user namespace."""

_SO_NETNS_COOKIE = 71
"""asm-generic/socket.h, since Linux 5.14."""

_NO_NAMESPACE_FILE = frozenset({errno.ENOTTY, errno.EINVAL})
"""What the kernel answers to `_NS_GET_NSTYPE` on a file of another kind: most drivers ENOTTY, some EINVAL."""

_LEADS_NOWHERE = frozenset(
    {errno.ENOENT, errno.ENOTDIR, errno.ESRCH, errno.ELOOP, errno.ENAMETOOLONG, errno.ENXIO, errno.ENODEV}
)
"""What open(2) answers of a path that leads to no file of a namespace: there is no such name, or its process is gone
(ESRCH, procfs), or no name can be like that, or it is a socket or a device without a driver (ENXIO, ENODEV)."""

_LOCK_PATIENCE = 0.5
"""Seconds that a mount waits for the lock of ``ip netns``, which any local user can hold for as long as he likes."""

_LOCK_POLL = 0.02

_HERE = "/proc/thread-self/ns/net"
_LIBC = ctypes.CDLL(None, use_errno=True)

Identity = tuple[int, int]
"""Device and inode of a namespace: unique as long as a process or a mount holds the namespace."""


def _check(result: int, what: str) -> None:
    if result < 0:
        code = ctypes.get_errno()
        raise KernelError(code, f"{what}: {os.strerror(code)}")


def setns(fd: int, kind: int) -> None:
    """Move the calling thread into a namespace (setns(2))."""
    _check(_LIBC.setns(fd, kind), "setns")


def unshare(kinds: int) -> None:
    """Give the calling thread new namespaces (unshare(2))."""
    _check(_LIBC.unshare(kinds), "unshare")


def mount(source: str, target: str, kind: str, flags: int) -> None:
    """Attach a filesystem, or change how a mount point propagates (mount(2))."""
    arguments = (source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), None)
    _check(_LIBC.mount(*arguments), f"mount {target}")


def open_namespace(ns: NamespaceRef) -> int:
    """Return a descriptor of a network namespace; the caller closes it.

    Raises `NoNamespace` when the kernel reports that there is none, and another `KernelError` for any other failure.
    """
    try:
        # The path may come from a container runtime: a FIFO there must not block.
        fd = os.open(ns, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        if error.errno in _LEADS_NOWHERE:
            raise NoNamespace(f"{ns}: {error.strerror}") from error
        raise KernelError.of(error, ns) from error
    except ValueError as error:  # a NUL, or half of a surrogate pair: JSON can hold them, and no path can
        raise NoNamespace(f"{ns!r}: {error}") from error
    try:
        _check_kind(fd, ns)
    except KernelError:
        os.close(fd)
        raise
    return fd


def _check_kind(fd: int, ns: NamespaceRef) -> None:
    """Raise `NoNamespace` unless a descriptor is that of a network namespace."""
    try:
        kind = fcntl.ioctl(fd, _NS_GET_NSTYPE)
    except OSError as error:
        if error.errno not in _NO_NAMESPACE_FILE:
            raise KernelError.of(error, ns) from error
        kind = 0
    if kind != CLONE_NEWNET:
        raise NoNamespace(f"{ns}: no network namespace")


def identity(ns: NamespaceRef) -> Identity | None:
    """Return device and inode of the namespace at this path, or None when the kernel says that there is none.

    Raises `KernelError` when it does not say.
    """
    try:
        with descriptor(ns) as fd:
            return identity_of(fd, ns)
    except NoNamespace:
        return None


def identity_of(fd: int, ns: NamespaceRef) -> Identity:
    """Return device and inode of a namespace by its descriptor; raise `KernelError`, which names `ns`."""
    with translated(ns):
        found = os.fstat(fd)
    return (found.st_dev, found.st_ino)


def owner(fd: int) -> int:
    """Return the user who made the user namespace to which a network namespace belongs: root of the host's own.

    Raises `NoNamespace` when the descriptor is of something else, or another `KernelError`.
    """
    what = NamespaceRef(f"descriptor {fd}")
    _check_kind(fd, what)
    with translated(what):
        users = fcntl.ioctl(fd, _NS_GET_USERNS)
        try:
            found = array("I", [0])
            fcntl.ioctl(users, _NS_GET_OWNER_UID, found)
        finally:
            os.close(users)
    return found[0]


def lasting_identity(ns: NamespaceRef) -> tuple[int, ...]:
    """Return an identity that no other namespace gets before the next boot: its cookie, else its `identity`.

    The kernel soon gives the inode's number to another namespace. Raises `NoNamespace`, or another `KernelError`.
    """
    with descriptor(ns) as fd, translated(ns):
        with entered(fd), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as inside:
            number = cookie(inside)
        return identity_of(fd, ns) if number is None else (number,)


def cookie(inside: socket.socket) -> int | None:
    """Return the cookie of a socket's namespace, None where the kernel has none; raise `KernelError`."""
    with translated("cookie of the namespace"):
        try:
            return int.from_bytes(inside.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8), sys.byteorder)
        except OSError as error:
            if error.errno != errno.ENOPROTOOPT:
                raise
            return None


def listed() -> frozenset[NamespaceRef]:
    """Return the network namespaces that are ours by name; raise `KernelError`."""
    prefix = Path(NETWORK_NAMESPACES)
    try:
        paths = list(prefix.parent.iterdir())
    except FileNotFoundError:
        return frozenset()
    except OSError as error:
        raise KernelError.of(error, str(prefix.parent)) from error
    ours = (NamespaceRef(str(path)) for path in paths if path.name.startswith(prefix.name))
    return frozenset(ns for ns in ours if identity(ns))


@contextmanager
def descriptor(ns: NamespaceRef) -> Iterator[int]:
    """Hold a descriptor of a namespace for the time of a block."""
    fd = open_namespace(ns)
    try:
        yield fd
    finally:
        os.close(fd)


@contextmanager
def entered(fd: int) -> Iterator[None]:
    """Run a block of the calling thread inside a network namespace; raise `KernelError` when it cannot be entered."""
    with touring() as enter:
        enter(fd)
        yield


@contextmanager
def touring() -> Iterator[Callable[[int], None]]:
    """Run a block of the calling thread that enters one network namespace after another; at its end, return it home.

    The function that this yields enters the namespace of a descriptor; it raises `KernelError` when it cannot.
    """
    with translated("the namespace of this thread"):
        home = os.open(_HERE, os.O_RDONLY | os.O_CLOEXEC)
    is_away = False

    def enter(fd: int) -> None:
        nonlocal is_away
        setns(fd, CLONE_NEWNET)
        is_away = True

    try:
        try:
            yield enter
        finally:
            if is_away:
                _return_to(home)
    finally:
        os.close(home)


def _return_to(home: int) -> None:
    try:
        setns(home, CLONE_NEWNET)
    except KernelError:
        # A thread left in a foreign namespace would change the wrong tables: the process ends and is started again.
        os.abort()


def create(ns: NamespaceRef) -> None:
    """Create a namespace that outlives this process, as ``ip netns add`` does. Raises EEXIST when it exists."""
    path = Path(ns)
    with translated(ns):
        share()
        _place(path, ns)
    try:
        _bind_in_thread(ns)
    except BaseException:  # Ctrl-C comes to the thread that waits: the namespace may be mounted by then
        delete(ns)
        raise


def share() -> None:
    """Make the directory of namespaces a shared mount, if it is none.

    So a deletion reaches the mount namespaces made in the meantime. Raises `OSError` or `KernelError`.
    """
    directory = Path(NETWORK_NAMESPACES).parent
    directory.mkdir(mode=0o755, parents=True, exist_ok=True)
    if _is_shared(directory):
        return
    with _locked(directory):
        # Another program may have been faster: a second bind mount would hide the namespaces below the first one.
        if not _is_shared(directory):
            mount(str(directory), str(directory), "none", _MS_BIND | _MS_REC)
            mount("", str(directory), "none", _MS_SHARED | _MS_REC)


def _is_shared(directory: Path) -> bool:
    """Make a mount point shared; return whether the directory is a mount point."""
    try:
        mount("", str(directory), "none", _MS_SHARED | _MS_REC)
    except KernelError as error:
        if error.errno != errno.EINVAL:
            raise
        return False
    return True


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Hold the lock that ``ip netns`` holds while it makes the directory a mount point, if it is free in time.

    Any user who may read the directory may lock it, so this proceeds without the lock after a while.
    """
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    deadline = time.monotonic() + _LOCK_PATIENCE
    try:
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    break
                time.sleep(_LOCK_POLL)
            else:
                break
        yield
    finally:
        close_unlocked(fd)


def _place(path: Path, ns: NamespaceRef) -> None:
    """Make the file on which the namespace is mounted."""
    try:
        path.touch(mode=0o444, exist_ok=False)
    except FileExistsError:
        if identity(ns):
            raise
        path.unlink()  # left over from a creation that was cut short
        path.touch(mode=0o444, exist_ok=False)


def _bind_in_thread(ns: NamespaceRef) -> None:
    """Make the namespace in a thread of its own, as unshare(2) changes the thread that calls it."""
    with ThreadPoolExecutor(max_workers=1) as executor:
        try:
            made = executor.submit(_bind_new_namespace, ns)
        except RuntimeError as error:  # threading: the system has no room for one more thread
            raise KernelError(errno.EAGAIN, f"{ns}: {error}") from error
        made.result()


def _bind_new_namespace(ns: NamespaceRef) -> None:
    unshare(CLONE_NEWNET)
    mount(_HERE, ns, "none", _MS_BIND)


def delete(ns: NamespaceRef) -> None:
    """Remove a name and not what it leads to: the mounts, and the file below them.

    The kernel removes a namespace when nothing holds it any more. Repeating is harmless. Raises `KernelError`.
    """
    while _unmounted(ns):
        pass
    with translated(ns):
        Path(ns).unlink(missing_ok=True)


def _unmounted(ns: NamespaceRef) -> bool:
    """Remove the topmost mount at a path; return whether there was one."""
    try:
        _check(_LIBC.umount2(ns.encode(), _MNT_DETACH | _UMOUNT_NOFOLLOW), f"umount {ns}")
    except KernelError as error:
        if error.errno not in {errno.EINVAL, errno.ENOENT}:  # not mounted, or no such file
            raise
        return False
    return True
