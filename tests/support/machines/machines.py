"""Machines with a Debian and a systemd of their own, and what tests do on them, whatever they run on."""

import re
import shlex
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import TypeVar

from tests.support.lab.lab import CommandFailed, Executed, Lab
from tests.support.lab.processes import Process, eventually
from tests.support.machines.rootfs import Rootfs

T = TypeVar("T")

NETWORK = "10.0.0"
"""Addresses of machines: those that docs/install.md uses as examples, so that it can be taken by the word."""

ENVIRONMENT = (
    *("env", "-i", "HOME=/root", "USER=root", "LANG=C.UTF-8"),
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
)
"""Runs a command as one that root types."""

ROOT = "/run/machine/root"
"""Where a disk is mounted, in a mount namespace of its own."""

_OVERLAY = (
    f"mkdir -p /run/machine/upper /run/machine/work {ROOT} && "
    f"mount -t overlay -o lowerdir={{lower}},upperdir=/run/machine/upper,workdir=/run/machine/work overlay {ROOT} &&"
)

_UNDERLAY = """\
[Match]
Name=eth0

[Network]
Address={address}/24
LinkLocalAddressing=no
IPv6AcceptRA=no
"""


@dataclass(frozen=True, slots=True)
class Sandbox:
    """A container's network namespace on a machine, and the address that it got."""

    machine: "Machine"
    name: str
    address: IPv4Address

    def enter(self, command: Sequence[str]) -> list[str]:
        """Return a command that runs another one in the sandbox."""
        return self.machine.enter(["nsenter", f"--net=/run/netns/{self.name}", "--", *command])

    def ping(self, address: IPv4Address) -> bool:
        """Return whether one echo request is answered, within some seconds."""
        done = self.machine.execute("nsenter", f"--net=/run/netns/{self.name}", "ping", "-nqc1", "-W5", str(address))
        return done.returncode == 0


class Machine(ABC):
    """One machine. It keeps what it has on its disk from one boot to the next, and nothing else."""

    patience = 60.0
    """Seconds for what a machine does in one or two."""
    pings_every = 0.001
    """Seconds between two of the packets that must not get lost."""

    def __init__(self, number: int, underlay: Lab, rootfs: Rootfs) -> None:
        self.name = f"host{number}"
        self.address = IPv4Address(f"{NETWORK}.{number}")
        self.log = underlay.directory / f"{self.name}.console"
        self._underlay = underlay
        # What is written is in a tmpfs of its own: nothing of it is left, however the tests end.
        self._disk = underlay.hold(f"{self.name}-disk", _OVERLAY.format(lower=rootfs.made()))
        self._process: Process | None = None
        self.prepare("/etc/hostname", f"{self.name}\n")
        hosts = "".join(f"{NETWORK}.{each} host{each}\n" for each in range(1, 10))
        self.prepare("/etc/hosts", f"127.0.0.1 localhost\n{hosts}")
        self.prepare("/etc/systemd/network/10-underlay.network", _UNDERLAY.format(address=self.address))

    def prepare(self, inside: str, text: str, mode: int = 0o644) -> None:
        """Write a file of a machine that has not been started."""
        path = Path(f"/proc/{self._disk.pid.number}/root{ROOT}{inside}")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)

    @abstractmethod
    def launch(self) -> None:
        """Start it; does not wait for it."""

    @abstractmethod
    def reboot(self) -> None:
        """Boot it again as its administrator would, and wait until it has come up."""

    @abstractmethod
    def kill(self) -> None:
        """Kill the machine, and remove it."""

    @abstractmethod
    def enter(self, command: Sequence[str]) -> list[str]:
        """Return a command that runs another one there as root; it ends with the signal that ends this one."""

    @abstractmethod
    def inside(self, command: Sequence[str]) -> list[str]:
        """Return a command that runs another one there as root, among the machine's processes."""

    @abstractmethod
    def is_entered(self) -> bool:
        """Return whether commands can be run there."""

    def reset(self) -> None:
        """Boot it again as with its button: nothing in it ends in order."""
        self.kill()
        self.launch()
        self.await_boot()

    def await_boot(self) -> None:
        """Wait until every unit that is started at boot has been."""
        eventually(self._is_up, f"{self.name} has come up", timeout=self.patience)

    def _is_up(self) -> bool:
        assert self._process is not None
        self._process.check()
        if not self.is_entered():
            return False
        return self.execute("systemctl", "is-system-running").stdout.strip() in {"running", "degraded"}

    def execute(self, *command: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run a command there as root."""
        return subprocess.run(self.inside(command), input=stdin, capture_output=True, text=True, check=False)

    def run(self, *command: str, stdin: str = "") -> str:
        """Run a command there as root; return its output or fail with all of it."""
        done = self.execute(*command, stdin=stdin)
        if done.returncode:
            said = f"{done.stdout}{done.stderr}"
            raise CommandFailed(f"{shlex.join(command)} on {self.name} ended with {done.returncode}:\n{said}")
        return done.stdout

    def shell(self, script: str, stdin: str = "") -> str:
        """Run lines as root would type them; the first that fails ends it, and fails."""
        return self.run("bash", "-eu", "-o", "pipefail", "-c", f"cd\n{script}", stdin=stdin)

    def write(self, path: str, text: str) -> None:
        self.run("sh", "-ec", 'mkdir -p "${1%/*}"; cat >"$1"', "sh", path, stdin=text)

    def journal(self, unit: str, *options: str) -> str:
        """Return the log of a unit, each message on a line."""
        return self.run("journalctl", "--no-pager", "--quiet", f"--unit={unit}", *options)

    def property(self, unit: str, name: str) -> str:
        """Return a property of a unit, as systemd shows it."""
        return self.run("systemctl", "show", f"--property={name}", "--value", unit).strip()

    def cni(self, command: str, network: str, name: str) -> Executed:
        """Execute the plugin as a container runtime does, for a sandbox of this name."""
        variables = {"COMMAND": command, "CONTAINERID": f"{name}-{self.name}", "NETNS": f"/run/netns/{name}"}
        variables |= {"IFNAME": "eth0", "PATH": "/opt/cni/bin"}
        words = [f"CNI_{variable}={value}" for variable, value in variables.items()]
        config = f'{{"cniVersion": "1.0.0", "name": "{network}", "type": "overlayd"}}'
        done = self.execute("env", *words, "/opt/cni/bin/overlayd", stdin=config)
        return Executed(done.returncode, done.stdout, done.stderr)

    def attach(self, network: str, name: str) -> Sandbox:
        """Make a sandbox and attach it."""
        self.run("ip", "netns", "add", name)
        added = self.cni("ADD", network, name)
        if added.status:
            raise CommandFailed(f"ADD of {name} to {network} on {self.name}: {added.stdout}{added.stderr}")
        ips = added.json["ips"]
        assert isinstance(ips, list)
        return Sandbox(self, name, IPv4Address(ips[0]["address"].partition("/")[0]))

    def detach(self, network: str, sandbox: Sandbox) -> None:
        """Detach a sandbox and remove it."""
        done = self.cni("DEL", network, sandbox.name)
        assert done.status == 0, f"{done.stdout}{done.stderr}"
        self.run("ip", "netns", "delete", sandbox.name)

    def give(self, path: Path, inside: str) -> None:
        """Copy a file there."""
        with path.open("rb") as file:
            command = self.inside(["sh", "-ec", 'mkdir -p "${1%/*}"; cat >"$1"', "sh", inside])
            subprocess.run(command, stdin=file, check=True, capture_output=True)


def together(machines: Sequence[Machine], do: Callable[[Machine], T]) -> list[T]:
    """Do the same on several machines at once; return what each gave."""
    with ThreadPoolExecutor(len(machines)) as threads:
        return list(threads.map(do, machines))


def remains(machine: Machine) -> list[str]:
    """Return the files of the package, and the kernel items that it makes, that are on a machine."""
    places = "/etc/overlayd /var/lib/overlay* /var/lib/private/overlay* /run/overlayd /run/netns/ov-* /usr/lib/overlayd"
    places += " /lib/systemd/system/overlay* /etc/systemd/system/*/overlay* /opt/cni/bin/overlayd /usr/bin/overlay*"
    places += " /usr/lib/cni/overlayd /etc/cni/net.d/*overlayd* /lib/systemd/network/*overlayd*"
    places += " /usr/lib/NetworkManager/conf.d/*overlayd* /run/docker/plugins/overlayd.sock"
    found = machine.run("sh", "-c", f"ls -d {places} 2>/dev/null || true").split()
    found += re.findall(r"\bov\d+\b", machine.run("ip", "-o", "link"))
    return found + re.findall(r"table inet overlayd\w*", machine.run("nft", "list", "tables"))
