"""Every way into a network with one face: start a container, end it, whatever has been left of it."""

import json
from dataclasses import dataclass
from typing import Protocol

from tests.support.lab.lab import COMMANDS, Container, LabHost, plugin_config
from tests.support.runtimes.containerd import NAMESPACE, Containerd
from tests.support.runtimes.docker import Docker
from tests.support.runtimes.podman import Podman

INSIDE = 80
"""The port of a container to which a published one leads."""


class Door(Protocol):
    """A runtime on one host."""

    @property
    def name(self) -> str:
        """What the controllers call it: the runtime of its endpoints."""

    @property
    def host(self) -> LabHost: ...

    def start(self, name: str, network: str, port: int = 0) -> Container:
        """Start a container; with a port of the host that leads to it, unless that is 0.

        Raises `CommandFailed` when the runtime refuses.
        """

    def end(self, name: str, network: str) -> None:
        """Remove a container that runs, has ended, or could not start: as its runtime's users do."""


@dataclass(frozen=True, slots=True)
class PluginDoor:
    """The CNI plugin, executed as a runtime does."""

    host: LabHost
    name: str = "cni"

    def start(self, name: str, network: str, port: int = 0) -> Container:
        ports = [{"hostPort": port, "containerPort": INSIDE, "protocol": "tcp"}] if port else []
        return self.host.attach(name, network, runtimeConfig={"portMappings": ports})

    def end(self, name: str, network: str) -> None:
        variables = {"CONTAINERID": name, "NETNS": f"/run/netns/{name}", "IFNAME": "eth0"}
        done = self.host.cni("DEL", plugin_config(network), **variables)
        assert done.status == 0, done.stdout
        if name in self.host.run("ip", "netns", "list").split():
            self.host.remove_sandbox(name)


@dataclass(frozen=True, slots=True)
class ContainerdDoor:
    """containerd, by `ctr`. It takes the network of the host's first list, and publishes no port."""

    containerd: Containerd
    name: str = "cni"

    @property
    def host(self) -> LabHost:
        return self.containerd.host

    def start(self, name: str, network: str, port: int = 0) -> Container:
        assert not port
        return self.containerd.run(name, network)

    def end(self, name: str, network: str) -> None:
        """`ctr` sends no DEL for a container in the background, so it is sent here."""
        self.containerd.remove(name)
        done = self.host.cni("DEL", plugin_config(network), CONTAINERID=f"{NAMESPACE}-{name}", IFNAME="eth0")
        assert done.status == 0, done.stdout


@dataclass(frozen=True, slots=True)
class DockerDoor:
    """Docker, with a network of its own of the same name."""

    docker: Docker
    name: str = "docker"

    @property
    def host(self) -> LabHost:
        return self.docker.host

    def start(self, name: str, network: str, port: int = 0) -> Container:
        return self.docker.run(name, network, *(["--publish", f"{port}:{INSIDE}"] if port else []))

    def end(self, name: str, network: str) -> None:  # noqa: ARG002 - a container is known by its name
        self.docker.docker("rm", "--force", name)


@dataclass(frozen=True, slots=True)
class PodmanDoor:
    """podman with netavark, with a network of its own of the same name."""

    podman: Podman
    name: str = "netavark"

    @property
    def host(self) -> LabHost:
        return self.podman.host

    def start(self, name: str, network: str, port: int = 0) -> Container:
        return self.podman.run(name, network, *(["--publish", f"{port}:{INSIDE}"] if port else []))

    def end(self, name: str, network: str) -> None:  # noqa: ARG002 - a container is known by its name
        self.podman.podman("rm", "--force", "--ignore", "--time", "0", name)


@dataclass(frozen=True, slots=True)
class NamespaceDoor:
    """`overlayd netns`."""

    host: LabHost
    name: str = "netns"

    def start(self, name: str, network: str, port: int = 0) -> Container:
        wanted = ["--publish", f"{port}:{INSIDE}"] if port else []
        made = json.loads(self._netns("add", name, "--network", network, "--json", *wanted))
        result: dict[str, object] = {"ips": [{"address": each} for each in made["addresses"]]}
        return Container(self.host, name, network, made["interface"], result)

    def end(self, name: str, network: str) -> None:  # noqa: ARG002 - it leaves all of them
        self._netns("delete", "--ignore-missing", name)

    def _netns(self, *words: str) -> str:
        return self.host.run(str(COMMANDS / "overlayd"), "netns", *words)
