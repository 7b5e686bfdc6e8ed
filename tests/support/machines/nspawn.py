"""Machines that systemd-nspawn boots, on an underlay in a namespace of ours: they share nothing but the kernel."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from tests.support.lab.cgroups import ControlGroup
from tests.support.lab.lab import Lab, run
from tests.support.lab.processes import Pid, Process, eventually
from tests.support.machines.machines import ENVIRONMENT, ROOT, Machine
from tests.support.machines.rootfs import MACHINE, Rootfs

_REBOOTS = 133
"""With what systemd-nspawn ends when its machine wants to be booted again."""

_NAMESPACES = ("--mount", "--net", "--uts", "--ipc")


class NspawnMachine(Machine):
    """A machine of systemd-nspawn, which boots in a second."""

    def __init__(self, number: int, underlay: Lab, group: ControlGroup, rootfs: Rootfs) -> None:
        super().__init__(number, underlay, rootfs)
        self._group = group

    def launch(self) -> None:
        # Its network is a new one at each boot: the kernel would remember what the last one had.
        self._net = self._underlay.hold(self.name, "")
        net = self._net.pid.number
        self._underlay.wire(self.name, net)
        command = ["systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--boot", "--console=read-only"]
        command += [f"--directory={ROOT}", f"--machine=ovm-{self.name}", f"--hostname={self.name}"]
        # Unlike with a network that it makes itself, systemd-nspawn gives no capability to this one.
        command += [f"--network-namespace-path=/proc/{net}/ns/net", "--capability=CAP_NET_ADMIN"]
        command += ["--resolv-conf=off", "--timezone=off", "--link-journal=no"]
        disk = ["nsenter", f"--target={self._disk.pid.number}", "--mount", "--"]
        # Otherwise /proc/sys/net cannot be written there.
        writable = ["env", "SYSTEMD_NSPAWN_API_VFS_WRITABLE=network"]
        self._process = Process([*disk, *writable, *self._group.start(command)], self.log)

    def reboot(self) -> None:
        self.execute("systemctl", "reboot")
        assert self._process is not None
        ended = self._process.wait(self.patience)
        assert ended == _REBOOTS, f"{self.name} ended with {ended}: {self._process.output[-3000:]}"
        self._unplug()
        self.launch()
        self.await_boot()

    def kill(self) -> None:
        if self._process is None:
            return
        if systemd := self._systemd():
            Pid.of(systemd).end()  # and all that runs there with it, which would outlive systemd-nspawn by a moment
        self._process.kill()
        self._forget()
        self._unplug()

    def _forget(self) -> None:
        """Remove the state that systemd-nspawn (since 256) leaves of a killed machine, and refuses to start with."""
        place = f"/run/systemd/nspawn/unix-export/ovm-{self.name}"
        script = f"! mountpoint -q {place} || umount -l {place}; rm -df {place}"
        run(["nsenter", f"--target={self._disk.pid.number}", "--mount", "--", "sh", "-ec", script])

    def _unplug(self) -> None:
        self._process = None
        self._underlay.release(self._net)

    def is_entered(self) -> bool:
        return self._systemd() is not None

    def _systemd(self) -> int | None:
        """Return the number, out here, of the process that is the first one in there; None while there is none."""
        assert self._process is not None
        nspawn = self._process.pid.number
        with suppress(FileNotFoundError, ProcessLookupError):
            for child in Path(f"/proc/{nspawn}/task/{nspawn}/children").read_text().split():
                status = Path(f"/proc/{child}/status").read_text()
                numbers = next(line.split()[1:] for line in status.splitlines() if line.startswith("NSpid:"))
                if numbers[1:] == ["1"] and Path(f"/proc/{child}/comm").read_text().strip() == "systemd":
                    return int(child)
        return None

    def enter(self, command: Sequence[str]) -> list[str]:
        # Not among its processes: nsenter would wait outside for one that is in there, and pass no signal on.
        return self._nsenter(_NAMESPACES, command)

    def inside(self, command: Sequence[str]) -> list[str]:
        return self._nsenter([*_NAMESPACES, "--pid", "--cgroup"], command)

    def _nsenter(self, namespaces: Sequence[str], command: Sequence[str]) -> list[str]:
        systemd = eventually(self._systemd, f"{self.name} runs")
        return ["nsenter", f"--target={systemd}", *namespaces, "--", *ENVIRONMENT, *command]


@contextmanager
def nspawn_machines(directory: Path, count: int, rootfs: Rootfs = MACHINE) -> Iterator[list[Machine]]:
    """Boot so many machines of this root. Everything of them is gone when the context ends."""
    machines: list[Machine] = []
    with ExitStack() as stack:
        underlay = stack.enter_context(Lab(directory))
        for number in range(1, count + 1):
            group = stack.enter_context(ControlGroup("ovm"))  # of each its own: systemd makes others in there
            made = NspawnMachine(number, underlay, group, rootfs)
            stack.callback(made.kill)
            machines.append(made)
            made.launch()
        for machine in machines:
            machine.await_boot()
        yield machines
