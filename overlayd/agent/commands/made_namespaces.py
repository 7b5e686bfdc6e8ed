"""The namespaces that `overlayd netns add` made: a file for each says which it is, so `delete` removes no others."""

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from overlayd.agent.commands.local_commands import RUN_DIR
from overlayd.agent.commands.unfinished_adds import UnfinishedAdd
from overlayd.agent.netns.request import path_of
from overlayd.agent.runtime.boot_mark import boot_id
from overlayd.configuration.files import close_unlocked, read_regular, replace_content
from overlayd.dataplane.items import NamespaceRef
from overlayd.kernel.port import NoNamespace
from overlayd.kernel.spaces import namespaces
from overlayd.model.errors import InvalidValue
from overlayd.model.ids import ContainerId

_DIRECTORY = RUN_DIR / "netns"
_SIZE_MAX = 100


@contextmanager
def alone(name: ContainerId) -> Iterator[None]:
    """Let commands about one name come one after the other; raise `OSError`.

    The file is removed at the end, so one who waited for it looks whether it is still the one at the path.
    """
    path = _DIRECTORY / f".{name}.lock"  # no name begins with a dot
    _DIRECTORY.mkdir(mode=0o700, parents=True, exist_ok=True)
    fd = _locked(path)
    while not _is_at(path, fd):
        close_unlocked(fd)
        fd = _locked(path)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        close_unlocked(fd)


def _locked(path: Path) -> int:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _is_at(path: Path, fd: int) -> bool:
    try:
        return os.path.samestat(path.lstat(), os.fstat(fd))
    except FileNotFoundError:
        return False


def make(name: ContainerId) -> bool:
    """Make a namespace; return False when there is one of this name.

    Raises `InvalidValue` when there is something else, `KernelError` and `OSError`.
    """
    ns = NamespaceRef(path_of(name))
    if namespaces.identity(ns) is not None:
        return False
    _check_free(Path(ns))
    namespaces.create(ns)
    try:
        replace_content(_DIRECTORY / name, _identity(ns))
    except BaseException:
        namespaces.delete(ns)
        raise
    return True


def is_made(name: ContainerId) -> bool:
    """Return whether `make` made the namespace of this name, or one that is gone since.

    Raises `OSError`, `InvalidValue` or `KernelError`.
    """
    try:
        made = read_regular(_DIRECTORY / name, _SIZE_MAX)
        identity = _identity(NamespaceRef(path_of(name)))
        # Earlier releases did not write the boot: the kernel begins again to count namespaces with each.
        return made in (identity, identity.partition(b" ")[2])
    except FileNotFoundError:
        return False
    except NoNamespace:
        return True


def _identity(ns: NamespaceRef) -> bytes:
    return " ".join((boot_id(), *map(str, namespaces.lasting_identity(ns)))).encode()


def unfinished_add(name: ContainerId) -> UnfinishedAdd:
    """Return the note about an add of this name."""
    return UnfinishedAdd(_DIRECTORY / f".{name}.adding")


def forget(name: ContainerId) -> None:
    """Let a namespace count as made by others, and an add of it as never begun."""
    unfinished_add(name).end()
    (_DIRECTORY / name).unlink(missing_ok=True)


def remove(name: ContainerId) -> None:
    """Remove a namespace that `make` made. Raises `KernelError` and `OSError`."""
    namespaces.delete(NamespaceRef(path_of(name)))
    forget(name)


def _check_free(path: Path) -> None:
    """Raise `InvalidValue` unless nothing is at a path, or what a creation left that was cut short."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISREG(found.st_mode) or found.st_size:
        raise InvalidValue(f"{path} is there, and it is no network namespace", field="namespace")
