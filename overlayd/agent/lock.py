"""One agent on a host."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from overlayd.model.errors import InUse


@contextmanager
def held(run_dir: Path) -> Iterator[None]:
    """Hold the lock of the agent; it ends with the process, however that ends. Raises `InUse` when another has it."""
    run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (run_dir / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InUse(f"another overlayd runs on this host: it holds {file.name}") from None
        yield
