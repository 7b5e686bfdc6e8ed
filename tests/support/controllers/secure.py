"""A controller with TLS and tokens, as a process on the loopback interface."""

import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx

from overlayd.agent.controllers.trust import Trust
from overlayd.wire import credentials
from overlayd.wire.credentials import CONTROLLER_NAME
from tests.support.lab.processes import Process, eventually

_COMMAND = [
    sys.executable,
    "-c",
    # The libraries' loggers too, whatever the controller sets up afterwards.
    "import logging; logging.basicConfig(level=logging.DEBUG); from controller.main import main; main()",
]


class SecureController:
    """A controller at its first start, and the credentials with which an administrator reaches it."""

    def __init__(self, directory: Path, options: tuple[str, ...], name: str) -> None:
        self.directory = directory
        self._name = name
        self._clients = ExitStack()
        self.store = directory / "store.db"
        with socket.create_server(("127.0.0.1", 0), backlog=1024) as listening:
            self.port: int = listening.getsockname()[1]
            command = [*_COMMAND, "run", "--store", str(self.store), "--listen", f"fd:{listening.fileno()}", *options]
            self.process = Process(command, directory / "controller.log", pass_fds=[listening.fileno()])
        eventually(self._answers, "the controller answers")

    def _answers(self) -> bool:
        self.process.check()
        if not (self.directory / "ca.pem").exists():
            return False
        try:
            return self.client(None).get("/readyz").is_success
        except httpx.TransportError:
            return False

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    @property
    def authority(self) -> str:
        return (self.directory / "ca.pem").read_text()

    @property
    def fingerprint(self) -> str:
        return credentials.fingerprint(self.authority)

    @property
    def admin(self) -> str:
        return (self.directory / "admin-token").read_text().strip()

    def client(self, token: str | None) -> httpx.Client:
        """Return a client that shows a token."""
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        trust = Trust(self.authority).context()

        def verify(request: httpx.Request) -> None:
            request.extensions["sni_hostname"] = self._name

        hooks = {"request": [verify]}
        return self._clients.enter_context(
            httpx.Client(
                base_url=self.url, headers=headers, verify=trust, event_hooks=hooks, timeout=30, trust_env=False
            )
        )

    def close(self) -> None:
        self._clients.close()
        self.process.kill()

    def make(self, **body: object) -> str:
        """Make a token as the administrator."""
        answer = self.client(self.admin).post("/v1/tokens", json=body)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["token"])

    def joined(self, host: str) -> str:
        """Return the credential of a new host."""
        joining = self.make(kind="join")
        answer = self.client(None).post("/v1/join", json={"token": joining, "host": host})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["token"])


@contextmanager
def secure_controller(directory: Path, *options: str, name: str = CONTROLLER_NAME) -> Iterator[SecureController]:
    """Run a controller for as long as the context lasts; its certificate is for this name."""
    directory.mkdir(exist_ok=True)
    running = SecureController(directory, options, name)
    try:
        yield running
    finally:
        running.close()
