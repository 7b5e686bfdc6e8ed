"""A controller as a process of its own, without hosts and without TLS."""

import resource
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

COMMAND = [sys.executable, "-c", "from controller.main import main; main()"]


class Controller:
    """A controller process on a socket that it inherits."""

    def __init__(self, store: Path) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        fd = self._listening.fileno()
        self._notified = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notified.settimeout(30)
        self._notified.bind(str(store.with_suffix(".notify")))
        self.process = subprocess.Popen(
            [*COMMAND, "run", "--insecure", "--store", str(store), "--listen", f"fd:{fd}"],
            pass_fds=[fd],
            env={"NOTIFY_SOCKET": str(store.with_suffix(".notify")), "PYTHONPATH": ":".join(sys.path)},
            stderr=subprocess.PIPE,
        )
        host, port = self._listening.getsockname()
        self.api = httpx.Client(base_url=f"http://{host}:{port}", timeout=30, trust_env=False)

    def notified(self) -> str:
        """Return the next message of the controller to its service manager."""
        return self._notified.recv(100).decode()

    def memory(self) -> int:
        """Return the bytes that the process has in memory (proc(5), statm)."""
        return int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * resource.getpagesize()

    def is_connected(self) -> bool:
        """Return whether host h1 holds a feed."""
        return bool(self.api.get("/v1/hosts/h1").json()["connected"])

    def close(self) -> None:
        """Kill the process."""
        self.api.close()
        self.process.kill()
        self.process.communicate()
        self._listening.close()
        self._notified.close()


@contextmanager
def controller(store: Path) -> Iterator[Controller]:
    """Run a controller without TLS on an embedded store at this path, until the end of the block."""
    store.with_suffix(".notify").unlink(missing_ok=True)
    running = Controller(store)
    try:
        yield running
    finally:
        running.close()
