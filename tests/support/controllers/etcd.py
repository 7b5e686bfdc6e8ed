"""An etcd cluster of child processes on loopback, which can be killed, frozen and started again, node by node."""

import os
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from controller.store.etcd.cluster import Certificates
from overlayd.kernel.spaces import namespaces
from tests.support.lab.processes import Process, eventually

_MEMORY = Path("/dev/shm")  # noqa: S108 - a disk that is slow to sync would only make elections more likely


@dataclass(frozen=True, slots=True)
class Node:
    """Where one node listens."""

    name: str
    client_port: int
    peer_port: int

    @property
    def endpoint(self) -> str:
        """What clients connect to."""
        return f"127.0.0.1:{self.client_port}"


class EtcdCluster:
    """So many nodes. All of them, and their data, are gone when the context ends."""

    def __init__(
        self,
        size: int = 1,
        flags: tuple[str, ...] = (),
        scheme: str = "http",
        inside: Path | None = None,
        client: Certificates | None = None,
    ) -> None:
        """Prepare a cluster; with `inside` its nodes run in that network namespace, on its loopback.

        `client` is what the nodes want to see, if they ask clients for a certificate.
        """
        self._inside = inside
        initializer = partial(_enter, inside) if inside else None
        self._asking = ThreadPoolExecutor(1, thread_name_prefix="etcd-health", initializer=initializer)
        self._flags = flags
        self._scheme = scheme
        self._client = client
        ports = _free_ports(2 * size)
        self.nodes = [Node(f"n{index}", ports[2 * index], ports[2 * index + 1]) for index in range(size)]
        self._running: dict[int, Process] = {}
        self._token = "one"
        self.directory = Path(tempfile.mkdtemp(prefix="overlay-etcd-", dir=_MEMORY if _MEMORY.is_dir() else None))

    def __enter__(self) -> Self:
        """Start every node, and return when they have a leader."""
        for index in range(len(self.nodes)):
            self.launch(index)
        self.await_health()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End every node and remove its data."""
        for index in list(self._running):
            self.kill(index)
        self._asking.shutdown()
        shutil.rmtree(self.directory)

    @property
    def url(self) -> str:
        """The store's URL."""
        return self.url_of(*range(len(self.nodes)))

    def url_of(self, *indexes: int) -> str:
        """The URL of the store, with only the nodes of these indexes."""
        endpoints = ",".join(self.nodes[index].endpoint for index in indexes)
        return f"{'etcds' if self._scheme == 'https' else 'etcd'}://{endpoints}"

    def launch(self, index: int) -> None:
        """Start a node, with the data that it had; does not wait for it."""
        node = self.nodes[index]
        peers = ",".join(f"{each.name}=http://127.0.0.1:{each.peer_port}" for each in self.nodes)
        command = [
            *(("nsenter", f"--net={self._inside}", "--") if self._inside else ()),
            "etcd",
            *("--name", node.name),
            *("--data-dir", str(self.directory / node.name)),
            *("--listen-client-urls", f"{self._scheme}://{node.endpoint}"),
            *("--advertise-client-urls", f"{self._scheme}://{node.endpoint}"),
            *("--listen-peer-urls", f"http://127.0.0.1:{node.peer_port}"),
            *("--initial-advertise-peer-urls", f"http://127.0.0.1:{node.peer_port}"),
            *("--initial-cluster", peers),
            *("--initial-cluster-token", self._token),
            *("--logger", "zap", "--log-level", "error"),
            *self._flags,
        ]
        self._running[index] = Process(command, self.directory / f"{node.name}.log", env=_environment())

    def kill(self, index: int) -> None:
        """Kill a node, frozen or not."""
        self._running.pop(index).kill()

    def freeze(self, index: int) -> None:
        """Keep a node from running: its connections stay, and get no answer."""
        self._running[index].send(signal.SIGSTOP)

    def thaw(self, index: int) -> None:
        """Let a frozen node go on."""
        self._running[index].send(signal.SIGCONT)

    @property
    def running(self) -> tuple[int, ...]:
        """The nodes that were started and not killed."""
        return tuple(sorted(self._running))

    def save(self, path: Path) -> None:
        """Save a snapshot of a node to a file, as administrators do."""
        self._control("etcdctl", "snapshot", "save", str(path), f"--endpoints={self.nodes[self.running[0]].endpoint}")

    def renew(self) -> None:
        """Be another cluster from the next restoration on, as one on other machines is."""
        self._token = "another"

    def restore(self, path: Path) -> None:
        """Replace the data of all nodes, of which none may run, by a snapshot; does not start them."""
        peers = ",".join(f"{each.name}=http://127.0.0.1:{each.peer_port}" for each in self.nodes)
        for node in self.nodes:
            shutil.rmtree(self.directory / node.name)
            self._control(
                "etcdutl" if shutil.which("etcdutl") else "etcdctl",  # which left it to the other one in 3.6
                *("snapshot", "restore", str(path), "--name", node.name, "--initial-cluster", peers),
                *("--initial-advertise-peer-urls", f"http://127.0.0.1:{node.peer_port}"),
                *("--initial-cluster-token", self._token),
                *("--data-dir", str(self.directory / node.name)),
            )

    def _control(self, program: str, *arguments: str) -> None:
        inside = ("nsenter", f"--net={self._inside}", "--") if self._inside else ()
        environment = {**_environment(), "ETCDCTL_API": "3"}
        subprocess.run([*inside, program, *arguments], env=environment, capture_output=True, check=True)

    def await_health(self) -> None:
        """Return when every running node serves reads, which takes a leader."""
        for index in self.running:
            eventually(partial(self.serves, index), f"etcd node {index} serves")

    def serves(self, index: int) -> bool:
        """Return whether a node answers a read that takes a leader."""
        self._running[index].check()
        url = f"{self._scheme}://{self.nodes[index].endpoint}/health"
        try:
            answer = self._asking.submit(httpx.get, url, timeout=2, verify=self._trust()).result()
        except httpx.HTTPError:
            return False
        return answer.is_success and answer.json().get("health") == "true"

    def _trust(self) -> ssl.SSLContext:
        """Return how to look at a node of ours: with the client's certificate, if nodes ask for one."""
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if self._client and self._client.certificate:
            context.load_cert_chain(self._client.certificate, self._client.key)
        return context

    def post(self, path: str, body: dict[str, object], token: str | None = None) -> dict[str, object]:
        """Call a method through etcd's JSON gateway, as ``/v3/auth/enable``, and return the answer.

        `token` is what ``/v3/auth/authenticate`` gave, for a cluster that asks for one.
        """
        url = f"{self._scheme}://{self.nodes[self.running[0]].endpoint}{path}"
        answer = self._asking.submit(
            httpx.post, url, json=body, headers={"Authorization": token} if token else {}, timeout=10, verify=False
        ).result()
        answer.raise_for_status()
        found: dict[str, object] = answer.json()
        return found


def _enter(namespace: Path) -> None:
    with namespace.open() as file:
        namespaces.setns(file.fileno(), namespaces.CLONE_NEWNET)


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("ETCD")}


def _free_ports(number: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports: list[int] = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports
