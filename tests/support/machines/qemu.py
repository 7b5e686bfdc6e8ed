"""Machines with Debian's own kernel, emulated by qemu without KVM: slow."""

import shlex
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.support.lab.lab import Lab, run
from tests.support.lab.processes import Process, eventually
from tests.support.machines.machines import ENVIRONMENT, NETWORK, ROOT, Machine
from tests.support.machines.rootfs import VIRTUAL_MACHINE

MEMORY = 384
"""MiB of each."""

_DISK = "3G"
_OUTSIDE = f"{NETWORK}.254"
"""Where SSH comes from."""


class VirtualMachine(Machine):
    """A machine of qemu, entered by SSH over the underlay."""

    patience = 600.0
    pings_every = 0.05

    def __init__(self, number: int, underlay: Lab) -> None:
        super().__init__(number, underlay, VIRTUAL_MACHINE)
        self._image = underlay.directory / f"{self.name}.img"
        self._key = _key(underlay.directory / f"{self.name}.key")
        self._host_key = _key(underlay.directory / f"{self.name}.host-key")
        self._tap = f"tap-{self.name}"
        self.prepare("/root/.ssh/authorized_keys", self._key.with_suffix(".key.pub").read_text(), 0o600)
        self.prepare("/etc/ssh/ssh_host_ed25519_key", self._host_key.read_text(), 0o600)
        for unit in ("overlayd", "overlay-controller"):
            self.prepare(f"/etc/systemd/system/{unit}.service.d/slow.conf", "[Service]\nTimeoutStartSec=600\n")
        disk = ["nsenter", f"--target={self._disk.pid.number}", "--mount", "--"]
        run([*disk, "mke2fs", "-q", "-t", "ext4", "-d", ROOT, str(self._image), _DISK])

    def launch(self) -> None:
        tap = f"ip tuntap add {self._tap} mode tap && ip link set {self._tap} master under0 up"
        self._underlay.underlay_run("sh", "-ec", tap)
        boot = VIRTUAL_MACHINE.made() / "boot"
        (kernel,) = boot.glob("vmlinuz-*")
        (initrd,) = boot.glob("initrd.img-*")
        mac = f"02:99:00:00:00:{self.address.packed[-1]:02x}"
        command = [
            "qemu-system-x86_64",
            "-accel",
            "tcg,tb-size=256",
            "-cpu",
            "max",
            "-m",
            str(MEMORY),
            "-nographic",
            "-nodefaults",
        ]
        command += ["-serial", "stdio", "-kernel", str(kernel), "-initrd", str(initrd)]
        command += ["-append", "root=/dev/vda rw console=ttyS0 net.ifnames=0 quiet"]
        command += ["-drive", f"file={self._image},format=raw,if=virtio,cache=unsafe"]
        command += ["-netdev", f"tap,id=net,ifname={self._tap},script=no,downscript=no"]
        command += ["-device", f"virtio-net-pci,netdev=net,mac={mac}", "-device", "virtio-rng-pci"]
        self._process = Process(self._underlay.enter_underlay(command), self.log)

    def reboot(self) -> None:
        before = self._boot_id()
        self.execute("systemctl", "reboot")
        eventually(lambda: self.is_entered() and self._boot_id() != before, f"{self.name} boots", self.patience)
        self.await_boot()

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process = None
            self._underlay.underlay_run("ip", "link", "del", self._tap)

    def _boot_id(self) -> str:
        return self.execute("cat", "/proc/sys/kernel/random/boot_id").stdout

    def is_entered(self) -> bool:
        return subprocess.run(self.inside(["true"]), capture_output=True, check=False).returncode == 0

    def enter(self, command: Sequence[str]) -> list[str]:
        ssh = ["setpriv", "--pdeathsig", "KILL", "ssh", "-q", "-i", str(self._key)]
        ssh += ["-o", "BatchMode=yes", "-o", "ConnectTimeout=20"]
        ssh += ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]
        words = shlex.join([*ENVIRONMENT, *command])
        return self._underlay.enter_underlay([*ssh, f"root@{self.address}", words])

    def inside(self, command: Sequence[str]) -> list[str]:
        return self.enter(command)


def _key(path: Path) -> Path:
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)])
    return path


@contextmanager
def virtual_machines(directory: Path, count: int) -> Iterator[list[Machine]]:
    """Boot so many machines. Everything of them is gone when the context ends."""
    machines: list[Machine] = []
    with ExitStack() as stack:
        underlay = stack.enter_context(Lab(directory))
        underlay.underlay_run("ip", "address", "add", f"{_OUTSIDE}/24", "dev", "under0")
        for number in range(1, count + 1):
            made = VirtualMachine(number, underlay)
            stack.callback(made.kill)
            machines.append(made)
            made.launch()
        for machine in machines:
            machine.await_boot()
        yield machines
