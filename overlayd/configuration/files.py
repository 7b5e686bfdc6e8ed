"""Files that are whole or not there, also after a crash."""

import os
from pathlib import Path

_OF_OTHERS = 0o044


def write_atomically(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Replace the file's content in one step that survives a crash of the machine.

    A directory that is missing is made for the same readers.
    """
    if not path.parent.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.parent.chmod(0o755 if mode & _OF_OTHERS else 0o700)  # whatever the umask
    temporary = path.with_name(f".{path.name}.new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)  # or that of a leftover
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
