"""Controllers as processes: killed, frozen and started again, one by one; alone, or several of one lab."""

import signal
import socket
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

from tests.support.agents.released import Release
from tests.support.lab.nursery import Place
from tests.support.lab.processes import Forked, Process, eventually

if TYPE_CHECKING:
    from tests.support.lab.lab import Lab

PORT = 7471


class LocalController:
    """One controller, without TLS, on a port of this machine's loopback that stays the same."""

    scheme = "http"
    security: tuple[str, ...] = ("--insecure",)

    def __init__(self, name: str, directory: Path, *options: str) -> None:
        self.name = name
        self.process: Process | None = None
        self._log = directory / f"{name}.log"
        self._state = ("--state-dir", str(directory / f"{name}.state"))
        self._options = options
        self._port = 0
        self._is_frozen = False

    @property
    def api_url(self) -> str:
        """Its API, as this machine reaches it."""
        return f"{self.scheme}://127.0.0.1:{self._port}"

    @property
    def can_answer(self) -> bool:
        return self.process is not None and not self._is_frozen

    def launch(self, release: Release | None = None) -> None:
        """Start the process, of this tree or of a release; does not wait for it."""
        with socket.create_server(("127.0.0.1", self._port), backlog=128) as local:
            self._port = local.getsockname()[1]
            options = [*self.security, *self._options, "--listen", f"fd:{local.fileno()}"]
            if release is None:
                command = ["overlay-controller", "run", *self._state, *options]
                self.process = Forked(command, self._log, self.place, [local.fileno()])
            else:
                command = [*release.command("overlay-controller"), "run", *options]
                entered = self.place.enter(command) if self.place else command
                self.process = Process(entered, self._log, pass_fds=[local.fileno()])

    @property
    def place(self) -> Place | None:
        """Where the controller belongs."""
        return None

    def start(self, release: Release | None = None) -> None:
        """Start the process, and wait until it follows its store."""
        self.launch(release)
        self.await_ready()

    def await_ready(self) -> None:
        eventually(self.is_ready, f"{self.name} is ready")

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        assert self.process is not None
        self.process.stop(number)
        self.process = None

    def freeze(self) -> None:
        """Keep it from running: its connections stay, and get no answer."""
        self._send(signal.SIGSTOP)
        self._is_frozen = True

    def thaw(self) -> None:
        """Continue the frozen process."""
        self._send(signal.SIGCONT)
        self._is_frozen = False

    def is_ready(self) -> bool:
        assert self.process is not None
        self.process.check()
        try:
            return httpx.get(f"{self.api_url}/readyz", trust_env=False, timeout=2, verify=self.trust()).is_success
        except httpx.TransportError:
            return False

    def request(self, method: str, path: str, body: object = None) -> httpx.Response:
        return httpx.request(method, self.api_url + path, json=body, trust_env=False, timeout=30, verify=self.trust())

    def trust(self) -> ssl.SSLContext | bool:
        """Return the TLS context with which httpx verifies the controller, False for no verification."""
        return False

    def _send(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send(number)


class ControllerProcess(LocalController):
    """One controller of a lab: at an address of its own on the underlay too, for the agents; secure if the lab is."""

    def __init__(self, lab: "Lab", number: int, store: str, address: str, options: Sequence[str]) -> None:
        places = ("--store", store, "--listen", f"{address}:{PORT}")
        super().__init__(f"controller{number}", lab.directory, *places, *options)
        if lab.is_secure:
            self.scheme, self.security = "https", ("--admin-token-file", str(lab.directory / "admin-token"))
        self.address = address
        self.url = f"{self.scheme}://{address}:{PORT}"
        self._lab = lab

    @property
    def place(self) -> Place:
        return self._lab.place

    def trust(self) -> ssl.SSLContext | bool:
        return self._lab.trust()

    def cut_off(self) -> None:
        """Let no packet of the underlay come to it or from it."""
        # Without this, the addresses of other controllers in this subnet would go together with its first one.
        promote = "echo 1 > /proc/sys/net/ipv4/conf/under0/promote_secondaries"
        self._lab.underlay_run("sh", "-c", promote)
        self._lab.underlay_run("ip", "address", "del", f"{self.address}/24", "dev", "under0")

    def join_again(self) -> None:
        self._lab.underlay_run("ip", "address", "add", f"{self.address}/24", "dev", "under0")


def start_all(lab: "Lab", stores: Sequence[str], network: str, options: Sequence[str]) -> list[ControllerProcess]:
    """Start a controller for each of these stores, which may be the same, at the first addresses of a network."""
    made = [
        ControllerProcess(lab, index, store, f"{network}.{index}", options)
        for index, store in enumerate(stores, start=1)
    ]
    for controller in made[1:]:
        controller.join_again()
    for controller in made:
        controller.launch()
    for controller in made:
        controller.await_ready()
    return made
