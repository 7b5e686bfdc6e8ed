"""Simulated hosts: network and mount namespaces on one machine, joined by an underlay.

A host has its own /run, its own version of /etc, /opt and /var/lib, one underlay device `eth0`, and sees nothing of the
machine's network. Agents and controllers run in it as the real processes.
"""

import functools
import hashlib
import io
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Self
from unittest import mock

import httpx

from cni.install import BIN_DIR, CONF_DIR, PLUGIN, Conf, conflist, install_conf, plugin, replace_file
from overlayd.cli.main import main as administer
from overlayd.model.address import IpAddress
from tests.support.agents.released import Release
from tests.support.controllers.processes import ControllerProcess, start_all
from tests.support.lab import nursery
from tests.support.lab.nursery import NO_PUBLIC_AUTHORITIES, Place
from tests.support.lab.processes import Forked, Pid, Process, eventually

ROOT = nursery.ROOT
COMMANDS = Path(sys.executable).parent
"""Where the entry points of the environment that runs the lab are."""

CLEAN = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin", "LANG": "C.UTF-8"}
"""The environment of a service (systemd.exec(5), "Environment Variables in Spawned Processes")."""

UNDERLAY = "10.99.0"
CONTROLLER = f"{UNDERLAY}.1"
UNDERLAY6 = "fd00:99:"
"""The hosts' IPv6 addresses on the underlay, for agents with ``--vtep``."""

PORT = 7471

_HOLD = (
    "mount -t tmpfs -o mode=755 tmpfs /run && mount --make-shared /run && mkdir -p /run/netns && "  # as systemd has it
    "{mounts} ip link set lo up && exec sleep infinity"
)

_INSTALL = (
    "import sys; from cni.install import Conf, install_conf, install_plugin; install_plugin();"
    " [install_conf(Conf(network)) for network in sys.argv[1:]]"
)
"""What `overlayd install-cni` of a release does, without the second that it takes to start."""

_launcher = functools.cache(plugin)

_PING_HEADERS = {4: 20 + 8, 6: 40 + 8}
"""Bytes: IP and ICMP."""


class CommandFailed(AssertionError):
    """A command of the lab failed; carries what it printed."""


def run(command: Sequence[str], **options: object) -> str:
    """Run a command to its end; return its output or fail with all of it."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload]
    if done.returncode:
        raise CommandFailed(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return str(done.stdout)


def in_process(command: Sequence[str], main: Callable[[], None], environment: Mapping[str, str]) -> str:
    """Run a command's entry point here; return its output or fail with all of it."""
    output, errors, status = io.StringIO(), io.StringIO(), 0
    with (
        mock.patch.dict(os.environ, environment),
        mock.patch.object(sys, "argv", command),
        redirect_stdout(output),
        redirect_stderr(errors),
    ):
        try:
            main()
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else int(end.code is not None)
    if status:
        raise CommandFailed(f"{' '.join(command)} ended with {status}:\n{output.getvalue()}{errors.getvalue()}")
    return output.getvalue()


def program(name: str, release: Release | None) -> list[str]:
    """Return the command line that starts a command of this tree, or of an unpacked release."""
    return release.command(name) if release else [str(COMMANDS / name)]


@dataclass(frozen=True, slots=True)
class Executed:
    """What an execution of the CNI plugin gave."""

    status: int
    stdout: str
    stderr: str

    @property
    def json(self) -> dict[str, object]:
        found = json.loads(self.stdout)
        assert isinstance(found, dict)
        return found


@dataclass(frozen=True, slots=True)
class Container:
    """A workload: a sandbox alone, or a runtime's container with a sandbox elsewhere; and what ADD gave for it."""

    host: "LabHost"
    name: str
    network: str
    interface: str
    result: dict[str, object]
    path: str = ""

    @property
    def sandbox(self) -> str:
        return self.path or f"/run/netns/{self.name}"

    @property
    def address(self) -> IpAddress:
        """Its only address, or its IPv4 address."""
        return self.addresses[0]

    @property
    def addresses(self) -> list[IpAddress]:
        """Its addresses, that of IPv4 before that of IPv6."""
        ips = self.result["ips"]
        assert isinstance(ips, list)
        return [ip_address(entry["address"].partition("/")[0]) for entry in ips]

    def enter(self, command: Sequence[str]) -> list[str]:
        """Return a command that runs another one in the sandbox."""
        return self.host.enter(["nsenter", f"--net={self.sandbox}", "--", *command])

    def run(self, *command: str) -> str:
        """Run a command in the sandbox."""
        return self.host.run("nsenter", f"--net={self.sandbox}", *command)

    @property
    def echoes(self) -> int:
        """How many echo requests it has got, of both families."""
        counters = self.run("nstat", "-asz", "IcmpInEchos", "Icmp6InEchos").split()
        return sum(int(value) for name, value in pairwise(counters) if name.endswith("InEchos"))

    def ping(self, address: IpAddress, *, wait: float = 2.0, size: int | None = None) -> float | None:
        """Send one echo request; return the round trip in ms, or None when no answer came within `wait` seconds.

        With `size`, in bytes, the IP packet has this size and must not be fragmented.
        """
        options = ["-M", "do", "-s", str(size - _PING_HEADERS[address.version])] if size else []
        command = ["nsenter", f"--net={self.sandbox}", "ping", "-n", "-c1", f"-W{wait}", *options, str(address)]
        done = self.host.execute(command)
        if done.returncode not in {0, 1, 2}:
            raise CommandFailed(f"{' '.join(command)} ended with {done.returncode}: {done.stderr}")
        if done.returncode:
            return None
        return float(done.stdout.partition("time=")[2].partition(" ms")[0])


class LabHost:
    """One simulated host."""

    def __init__(self, lab: "Lab", number: int) -> None:
        self.name = f"host{number}"
        self.address = IPv4Address(f"{UNDERLAY}.{10 + number}")
        self.address6 = IPv6Address(f"{UNDERLAY6}:{10 + number}")
        self.directory = lab.directory / self.name
        self.agent: Process | None = None
        self._lab = lab
        self._boot()
        self.install()

    def install(self, *networks: str, release: Release | None = None) -> None:
        """Put the CNI plugin of this tree or of a release in place, and the configuration of these networks."""
        if release:
            self.run(*release.python(), "-c", _INSTALL, *networks)
            return
        replace_file(self.inside(BIN_DIR) / PLUGIN, _launcher(), mode=0o755)
        for network in networks:
            install_conf(Conf(network), self.inside(CONF_DIR))

    def inside(self, path: Path) -> Path:
        """Return how this process reaches a file of the host."""
        return Path(f"/proc/{self.pid}/root") / path.relative_to("/")

    def _boot(self) -> None:
        self._holder = self._lab.hold(self.name, self._mounts())
        self._lab.wire(self.name, self.pid)
        self.run("ip", "address", "add", f"{self.address}/24", "dev", "eth0")
        self.run("ip", "link", "set", "eth0", "up")
        self.run("ip", "address", "add", f"{self.address6}/64", "dev", "eth0", "nodad")

    def reboot(self) -> None:
        """Lose everything but the disk: processes, namespaces, and /run with them."""
        if self.agent:
            self.agent.kill()
            self.agent = None
        self._lab.release(self._holder)
        self._boot()

    @property
    def pid(self) -> int:
        return self._holder.pid.number

    def _mounts(self) -> str:
        """Give the host its own version of some directories: what it writes there outlives a boot, and stays here."""
        steps = []
        for place in ("etc", "opt", "var/lib"):
            upper, work = (self.directory / kind / place for kind in ("written", "work"))
            upper.mkdir(parents=True, exist_ok=True)
            work.mkdir(parents=True, exist_ok=True)
            options = f"lowerdir=/{place},upperdir={upper},workdir={work}"
            steps.append(f"mount -t overlay -o {options} overlay /{place} &&")
        return " ".join(steps)

    def enter(self, command: Sequence[str]) -> list[str]:
        """Return a command that runs another one on this host."""
        return self.place.enter(command)

    @property
    def place(self) -> Place:
        return Place(self.pid, mounts=True)

    def execute(
        self, command: Sequence[str], environment: Mapping[str, str] | None = None, stdin: str = ""
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.enter(command), input=stdin, capture_output=True, text=True, check=False, env=environment
        )

    def run(self, *command: str) -> str:
        """Run a command on this host; return its output or fail with all of it."""
        return run(self.enter(command))

    def start_agent(self, *options: str, wait: bool = True, release: Release | None = None) -> Process:
        """Start the agent; wait until it is in sync with a controller, or until its sockets are there."""
        if self._lab.is_secure and not self.credential.exists():
            self.join()
        command = ["run", "--name", self.name, *options]
        for url in () if self._lab.is_secure else self._lab.urls:
            command += ["--controller", url]
        agent = self._lab.start("overlayd", command, self.directory / "agent.log", self.place, release=release)
        self.agent = agent

        def ready() -> bool:
            agent.check()
            status = self.agent_status()
            return status is not None and (not wait or bool(status["in_sync"]))

        eventually(ready, f"the agent of {self.name} answers{' in sync' if wait else ''}")
        return agent

    @property
    def credential(self) -> Path:
        """Where this machine sees what the host got when it joined."""
        return self.directory / "written/var/lib/overlayd/credential.json"

    def join(self, *options: str) -> str:
        """Let this host join with a token of its own; return what the command prints."""
        token = self._lab.overlayctl("token", "create", "--join", *options)
        command = [str(COMMANDS / "overlayd"), "join", *self._lab.urls, "--no-start"]
        done = self.execute(command, stdin=token)
        if done.returncode:
            raise CommandFailed(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done.stdout

    def stop_agent(self, number: signal.Signals = signal.SIGTERM) -> None:
        assert self.agent is not None
        self.agent.stop(number)
        self.agent = None

    def agent_status(self) -> dict[str, object] | None:
        """Ask the agent's control socket; None while no agent listens."""
        return self.control("status")

    def control(self, command: str) -> dict[str, object] | None:
        path = f"/proc/{self.pid}/root/run/overlayd/control.sock"
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as channel:
            try:
                channel.connect(path)
            except (FileNotFoundError, ConnectionRefusedError):
                return None
            channel.sendall(json.dumps({"command": command}).encode())
            channel.shutdown(socket.SHUT_WR)
            answer = b"".join(iter(lambda: channel.recv(65536), b""))
        found = json.loads(answer) if answer else None
        assert found is None or isinstance(found, dict)
        return found

    def add_sandbox(self, name: str) -> str:
        """Make a network namespace as a runtime would; return its path."""
        self.run("ip", "netns", "add", name)
        return f"/run/netns/{name}"

    def remove_sandbox(self, name: str) -> None:
        self.run("ip", "netns", "delete", name)

    def cni(self, command: str, config: Mapping[str, object] | str, **variables: str) -> Executed:
        """Execute the plugin as a runtime does: the CNI_* variables and the config on stdin, nothing else."""
        environment = {"CNI_COMMAND": command, "CNI_PATH": "/opt/cni/bin", "PATH": os.defpath}
        environment |= {f"CNI_{name}": value for name, value in variables.items()}
        stdin = config if isinstance(config, str) else json.dumps(config)
        done = self.execute(["/opt/cni/bin/overlayd"], environment, stdin)
        return Executed(done.returncode, done.stdout, done.stderr)

    def attach(
        self,
        name: str,
        network: str,
        interface: str = "eth0",
        version: str = "1.0.0",
        arguments: str = "",
        **config: object,
    ) -> Container:
        """Make a sandbox if there is none of this name, and ADD it to a network; `config` goes into the plugin's."""
        if name not in self.run("ip", "netns", "list").split():
            self.add_sandbox(name)
        variables = {"CONTAINERID": name, "NETNS": f"/run/netns/{name}", "IFNAME": interface, "ARGS": arguments}
        added = self.cni("ADD", plugin_config(network, version, **config), **variables)
        if added.status:
            raise CommandFailed(f"ADD of {name} to {network} on {self.name}: {added.stdout}{added.stderr}")
        return Container(self, name, network, interface, added.json)

    def detach(self, container: Container) -> Executed:
        """DEL a container's attachment; the sandbox stays."""
        return self.cni(
            "DEL",
            plugin_config(container.network),
            CONTAINERID=container.name,
            NETNS=container.sandbox,
            IFNAME=container.interface,
        )


def plugin_config(network: str, version: str = "1.0.0", **more: object) -> dict[str, object]:
    """Return what a runtime sends on stdin: the plugin's part of the list, with the list's name and version."""
    whole = conflist(network, version)
    plugins = whole["plugins"]
    assert isinstance(plugins, list)
    return {"cniVersion": version, "name": network, **plugins[0], **more}


class Lab:
    """An underlay, a controller and hosts. Everything ends with the `with` block, or by `down` when it is lasting.

    A secure one has TLS and tokens, as an installation has them; hosts join before their agents start.
    One with `executed` starts the programs of this tree as a service manager does, imports included, where others fork
    a process that has imported them.
    """

    def __init__(
        self,
        directory: Path,
        hosts: int = 0,
        *,
        lasting: bool = False,
        secure: bool = False,
        executed: bool = False,
    ) -> None:
        self.directory = directory
        self.lasting = lasting
        self.is_secure = secure
        self._is_executed = executed
        self._scheme = "https" if secure else "http"
        self.hosts: list[LabHost] = []
        self.controller: Process | None = None
        self.controllers: list[ControllerProcess] = []
        self._release: Release | None = None
        self.urls = [f"{self._scheme}://{CONTROLLER}:{PORT}"]
        self._wanted = hosts
        self._holders: list[Process] = []
        self._port = 0

    def __enter__(self) -> Self:
        if os.geteuid() != 0:
            raise PermissionError("the lab makes network namespaces and needs root: run it as root")
        self.directory.mkdir(parents=True, exist_ok=True)
        with ExitStack() as failure:
            failure.callback(self.down)
            self.underlay = self.hold("underlay", "")
            # A bridge without a MAC of its own takes one of its ports', and another one when a host reboots.
            self.underlay_run("ip", "link", "add", "under0", "address", "02:99:00:00:00:00", "type", "bridge")
            self.underlay_run("ip", "address", "add", f"{CONTROLLER}/24", "dev", "under0")
            self.underlay_run("ip", "link", "set", "under0", "up")
            for _ in range(self._wanted):
                self.add_host()
            failure.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self.lasting or error is not None:
            self.down()

    def down(self) -> None:
        """End every process; the namespaces, and all that is in them, end with the last one."""
        for daemon in self._daemons:
            daemon.kill()
        for holder in self._holders:
            holder.kill()
        self.hosts.clear()
        self._holders.clear()

    @property
    def pids(self) -> list[Pid]:
        """Every process that the lab started."""
        return [process.pid for process in (*self._daemons, *self._holders)]

    @property
    def _daemons(self) -> list[Process]:
        several = [each.process for each in self.controllers]
        agents = [host.agent for host in self.hosts]
        return [process for process in (*agents, self.controller, *several) if process]

    def release(self, holder: Process) -> None:
        """End what holds a host's namespaces; wait until they are gone, and its port of the underlay with them."""
        holder.kill()
        self._holders.remove(holder)

    def hold(self, name: str, mounts: str) -> Process:
        """Make a network and a mount namespace, held by a process that does nothing."""
        script = _HOLD.format(mounts=mounts)
        command = ["unshare", "--net", "--mount", "--propagation", "private", "sh", "-ec", script]
        holder = Process(command, self.directory / f"{name}.log", lasting=self.lasting)
        self._holders.append(holder)

        def sleeps() -> bool:
            holder.check()
            return Path(f"/proc/{holder.pid.number}/comm").read_text().strip() == "sleep"

        eventually(sleeps, f"the namespaces of {name} are there")
        return holder

    def wire(self, name: str, pid: int, mtu: int = 1500) -> None:
        """Join a host to the underlay: its eth0 and a port of the underlay's bridge."""
        port = f"to-{name}"
        eventually(lambda: f" {port}@" not in run(self.enter_underlay(["ip", "-o", "link"])), f"{port} is free")
        # A machine has the same MAC after a reboot: others know it, and take seconds to notice another one.
        mac = "02:99:" + hashlib.blake2s(name.encode(), digest_size=4).digest().hex(":")
        peer = ["peer", "name", "eth0", "address", mac, "netns", str(pid), "mtu", str(mtu)]
        run(["ip", "link", "add", port, "netns", str(self.underlay.pid.number), "mtu", str(mtu), "type", "veth", *peer])
        self.underlay_run("ip", "link", "set", port, "master", "under0", "up")

    def set_mtu(self, mtu: int) -> None:
        """Give every device of the underlay another MTU, in bytes."""
        for host in self.hosts:
            self.underlay_run("ip", "link", "set", f"to-{host.name}", "mtu", str(mtu))
            host.run("ip", "link", "set", "eth0", "mtu", str(mtu))

    def add_host(self) -> LabHost:
        host = LabHost(self, len(self.hosts) + 1)
        self.hosts.append(host)
        return host

    def enter_underlay(self, command: Sequence[str]) -> list[str]:
        return self.place.enter(command)

    @property
    def place(self) -> Place:
        """Where controllers run: on the underlay, with the files of this machine."""
        return Place(self.underlay.pid.number, mounts=False)

    def start(  # noqa: PLR0913 - as many things as a process has
        self,
        name: str,
        arguments: list[str],
        log: Path,
        place: Place,
        *,
        release: Release | None = None,
        descriptors: Sequence[int] = (),
    ) -> Process:
        """Start a daemon of this tree, or of an unpacked release."""
        if release or self.lasting or self._is_executed:
            command = place.enter([*program(name, release), *arguments])
            environment = CLEAN if self._is_executed else None
            return Process(command, log, lasting=self.lasting, pass_fds=descriptors, env=environment)
        return Forked([name, *arguments], log, place, descriptors)

    def underlay_run(self, *command: str) -> str:
        return run(self.enter_underlay(command))

    @property
    def api_url(self) -> str:
        """The API of a controller that answers, as this machine reaches it, on loopback."""
        if self.controllers:
            return next(each.api_url for each in self.controllers if each.can_answer)
        return f"{self._scheme}://127.0.0.1:{self._port}"

    def start_controller(self, *options: str, port: int = 0, release: Release | None = None) -> Process:
        """Start the controller: on the underlay for the agents, and on this machine's loopback for us."""
        with socket.create_server(("127.0.0.1", port or self._port), backlog=128) as local:
            self._port = local.getsockname()[1]
            command = ["run", "--store", str(self.directory / "store.db"), *options]
            command += ["--listen", f"{CONTROLLER}:{PORT}", "--listen", f"fd:{local.fileno()}"]
            has_tokens = release is None or release.has_tokens
            command += ["--insecure"] if has_tokens and not self.is_secure else []
            log, passed = self.directory / "controller.log", [local.fileno()]
            controller = self.start("overlay-controller", command, log, self.place, release=release, descriptors=passed)
        self.controller = controller
        self._release = release
        path = "/readyz" if has_tokens else "/healthz"

        def ready() -> bool:
            controller.check()
            try:
                return httpx.get(self.api_url + path, trust_env=False, verify=self.trust()).is_success
            except httpx.TransportError:
                return False

        eventually(ready, "the controller answers")
        return controller

    def start_controllers(self, *stores: str, options: Sequence[str] = ()) -> list[ControllerProcess]:
        """Start a controller for each of these stores, and let agents that start from now on know all of them.

        Raise `ValueError` in a lab with `executed`: these are always forked.
        """
        if self._is_executed:
            raise ValueError("several controllers are forked, which this lab is not to do")
        self.controllers = start_all(self, stores, UNDERLAY, options)
        self.urls = [each.url for each in self.controllers]
        return self.controllers

    def trust(self) -> ssl.SSLContext | bool:
        """Return the TLS context with which httpx verifies, by the authority of a secure lab; False without one."""
        known = self.directory / "ca.pem"
        return ssl.create_default_context(cafile=known) if known.exists() else False

    def stop_controller(self, number: signal.Signals = signal.SIGTERM) -> None:
        assert self.controller is not None
        self.controller.stop(number)
        self.controller = None

    @property
    def as_admin(self) -> dict[str, str]:
        """The environment in which `overlayctl` acts as an administrator."""
        found = {"OVERLAY_CONTROLLER_URL": self.api_url}
        if self.is_secure:
            found["OVERLAY_TOKEN_FILE"] = str(self.directory / "admin-token")
            found["OVERLAY_CA_FILE"] = str(self.directory / "ca.pem")
        return found

    def overlayctl(self, *arguments: str, columns: int = 160) -> str:
        """Run the administrator's command, of the controller's release; return its output or fail with all of it.

        That of this tree runs in this process: its start takes ten times as long as what most commands do.
        """
        environment = {**self.as_admin, "COLUMNS": str(columns)}
        if not self._release:
            return in_process(["overlayctl", *arguments], administer, environment | NO_PUBLIC_AUTHORITIES)
        return run([*program("overlayctl", self._release), *arguments], env={**os.environ, **environment})

    def delete_network(self, name: str) -> None:
        """Delete a network whose containers are detached, once the controllers know that, some moments later."""
        eventually(lambda: not self.published(name), f"no endpoint of {name} is published")
        self.overlayctl("network", "delete", name)

    def published(self, network: str) -> set[str]:
        """Return the containers whose endpoints in a network the controllers know."""
        listed = json.loads(self.overlayctl("endpoint", "list", "--network", network, "--json"))
        return {endpoint["container_id"] for endpoint in listed}

    def attach_everywhere(self, network: str) -> list[Container]:
        """Attach a container of each host to a network; return them when they are in force on all hosts."""
        containers = [host.attach(f"{network}-{host.name}", network) for host in self.hosts]
        self.in_force(*containers)
        return containers

    def in_force(self, *containers: Container) -> None:
        """Wait until the controllers know these containers, and every host of their networks has them in force."""
        for network in {container.network for container in containers}:
            names = {container.name for container in containers if container.network == network}
            eventually(lambda: names <= self.published(network), f"{names} are published")  # noqa: B023 - used at once
            self.overlayctl("wait", "--network", network)

    def remove_files(self) -> None:
        shutil.rmtree(self.directory, ignore_errors=True)
