"""Network namespaces by path: create, delete, list, enter. Python 3.11 has no os.setns and os.unshare yet."""

import ctypes
import errno
import fcntl
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

from overlayd.dataplane.items import NETWORK_NAMESPACES, NamespaceRef
from overlayd.kernel.port import KernelError

CLONE_NEWNET = 0x40000000

_MS_BIND = 0x1000
_MS_REC = 0x4000
_MS_SHARED = 0x100000
_MNT_DETACH = 0x2
_NS_GET_NSTYPE = 0xB703
"""linux/nsfs.h: the CLONE_NEW* value of a namespace file; ENOTTY on any other file."""

_HERE = "/proc/thread-self/ns/net"
_LIBC = ctypes.CDLL(None, use_errno=True)

Identity = tuple[int, int]
"""Device and inode of a namespace: unique as long as somebody holds the namespace."""


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
    """Return a descriptor of a network namespace; the caller closes it. Raises `KernelError` when it is none."""
    try:
        # The path may come from a container runtime: a FIFO there must not block.
        fd = os.open(ns, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise KernelError(error.errno or errno.EIO, f"{ns}: {error.strerror}") from error
    if not _is_network_namespace(fd):
        os.close(fd)
        raise KernelError(errno.EINVAL, f"{ns}: no network namespace")
    return fd


def _is_network_namespace(fd: int) -> bool:
    try:
        return fcntl.ioctl(fd, _NS_GET_NSTYPE) == CLONE_NEWNET
    except OSError:
        return False


def identity(ns: NamespaceRef) -> Identity | None:
    """Return device and inode of the namespace at this path, or None when there is no network namespace."""
    try:
        fd = open_namespace(ns)
    except KernelError:
        return None
    status = os.fstat(fd)
    os.close(fd)
    return (status.st_dev, status.st_ino)


def listed() -> frozenset[NamespaceRef]:
    """Return the network namespaces that are ours by name."""
    prefix = Path(NETWORK_NAMESPACES)
    try:
        paths = list(prefix.parent.iterdir())
    except FileNotFoundError:
        return frozenset()
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
    """Run a block of the calling thread inside a network namespace."""
    home = os.open(_HERE, os.O_RDONLY | os.O_CLOEXEC)
    try:
        setns(fd, CLONE_NEWNET)
        try:
            yield
        finally:
            _return_to(home)
    finally:
        os.close(home)


def _return_to(home: int) -> None:
    try:
        setns(home, CLONE_NEWNET)
    except KernelError:
        # A thread lost in a foreign namespace would go on to change the wrong tables: rather die and start afresh.
        os.abort()


def create(ns: NamespaceRef) -> None:
    """Create a namespace that outlives this process, as ``ip netns add`` does. Raises EEXIST when it is there."""
    path = Path(ns)
    try:
        _share(path.parent)
        _place(path, ns)
    except OSError as error:
        raise KernelError(error.errno or errno.EIO, f"{ns}: {error.strerror}") from error
    try:
        # A thread of its own, as unshare(2) changes the thread that calls it.
        with ThreadPoolExecutor(max_workers=1) as executor:
            executor.submit(_bind_new_namespace, ns).result()
    except KernelError:
        path.unlink()
        raise


def _share(directory: Path) -> None:
    """Make the directory a shared mount, so that a deletion reaches the mount namespaces made in the meantime."""
    directory.mkdir(mode=0o755, parents=True, exist_ok=True)
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # ip-netns holds this lock too: two bind mounts at once would hide each other's namespaces.
        fcntl.flock(fd, fcntl.LOCK_EX)
        try:
            mount("", str(directory), "none", _MS_SHARED | _MS_REC)
        except KernelError as error:
            if error.errno != errno.EINVAL:  # EINVAL: not a mount point yet
                raise
            mount(str(directory), str(directory), "none", _MS_BIND | _MS_REC)
            mount("", str(directory), "none", _MS_SHARED | _MS_REC)
    finally:
        os.close(fd)


def _place(path: Path, ns: NamespaceRef) -> None:
    """Make the file on which the namespace is mounted."""
    try:
        path.touch(mode=0o444, exist_ok=False)
    except FileExistsError:
        if identity(ns):
            raise
        path.unlink()  # left over from a creation that was cut short
        path.touch(mode=0o444, exist_ok=False)


def _bind_new_namespace(ns: NamespaceRef) -> None:
    unshare(CLONE_NEWNET)
    mount(_HERE, ns, "none", _MS_BIND)


def delete(ns: NamespaceRef) -> None:
    """Remove a namespace's name; the kernel removes the namespace when nobody is left in it. Repeating is harmless."""
    try:
        _check(_LIBC.umount2(ns.encode(), _MNT_DETACH), f"umount {ns}")
    except KernelError as error:
        if error.errno not in {errno.EINVAL, errno.ENOENT}:  # not mounted, or no such file
            raise
    with suppress(FileNotFoundError):
        Path(ns).unlink()
