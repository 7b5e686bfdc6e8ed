"""Debian root file systems, made once of this machine's own package sources and kept in build/.

Machines that boot are of this machine's release, but for those that test the package of another one; what else a test
needs of another release is in a root of that release.

`python -m tests.support.machines.rootfs [NAME...]` makes those that are missing, and prints where they are;
without a name, all that `make test` needs.
"""

import fcntl
import hashlib
import platform
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass
from pathlib import Path

from tests.support.lab.nursery import ROOT

_CACHE = ROOT / "build/machines"
_SOURCES = ["apt-get", "indextargets", "--format", "deb $(REPO_URI) $(CODENAME) $(COMPONENT)"]
_OF_DEBIAN = ["Created-By: Packages", "Origin: Debian"]


@dataclass(frozen=True, slots=True)
class Rootfs:
    """What a root file system consists of: Debian packages, and shell commands at the end, for which $1 is its root.

    `release` is a code name of Debian, None for that of this machine.
    """

    name: str
    packages: tuple[str, ...]
    finish: tuple[str, ...] = ()
    release: str | None = None

    @property
    def path(self) -> Path:
        """Where it is kept: another recipe is another directory."""
        digest = hashlib.sha256(repr((astuple(self), release())).encode()).hexdigest()[:12]
        return _CACHE / f"{self.name}-{digest}"

    def made(self) -> Path:
        """Return its directory; make it if it is missing, which takes a minute and says so on standard error."""
        _CACHE.mkdir(parents=True, exist_ok=True)
        with (_CACHE / f"{self.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # two files of tests want it at the same time
            if not self.path.exists():
                for older in _CACHE.glob(f"{self.name}-*"):
                    shutil.rmtree(older)
                self._make()
        return self.path

    def _make(self) -> None:
        suite = self.release or release()
        _say(f"making {self.path.relative_to(ROOT)} of packages of Debian {suite}, once; about a minute")
        started, partial = time.monotonic(), _CACHE / f"{self.name}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        command = ["mmdebstrap", "--mode=root", "--variant=apt", "--skip=check/empty", "--quiet"]
        command += ["--aptopt=APT::Install-Recommends false", f"--include={','.join(self.packages)}"]
        # A mirror that stands still for a day, or a week, is good enough to test with.
        command += ["--aptopt=Acquire::Check-Valid-Until false"]
        command += [f"--customize-hook={each}" for each in self.finish]
        command += [suite, str(partial), "-"]
        done = subprocess.run(command, input=_sources(suite), capture_output=True, text=True, check=False)
        if done.returncode:
            raise ChildProcessError(f"mmdebstrap ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        partial.rename(self.path)
        _say(f"made in {time.monotonic() - started:.0f} s")


def release() -> str:
    """Return the code name of this machine's release of Debian (os-release(5))."""
    return platform.freedesktop_os_release()["VERSION_CODENAME"]


def _sources(suite: str) -> str:
    """Return where this machine gets Debian's packages from, as lines of sources.list for a release."""
    found = _of_debian()
    if not found:  # the package lists have never been fetched
        subprocess.run(["apt-get", "-qq", "update"], check=True)
        found = _of_debian()
    assert found, "this machine's apt has no sources of Debian"
    if suite == release():
        return found
    # The archive itself has every release; updates and security have names of their own for each.
    own = (line.split() for line in found.splitlines() if line.split()[2] == release())
    return "".join(f"{kind} {uri} {suite} {part}\n" for kind, uri, _, part in own)


def _of_debian() -> str:
    return subprocess.run([*_SOURCES, *_OF_DEBIAN], capture_output=True, text=True, check=True).stdout


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


_CONFIGURE = (
    # They would want a network, or be busy while something is measured.
    'systemctl --root="$1" --quiet mask apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer',
    'systemctl --root="$1" --quiet mask fstrim.timer systemd-timesyncd.service',
    'systemctl --root="$1" --quiet disable etcd.service',
    'systemctl --root="$1" --quiet enable systemd-networkd.service systemd-networkd-wait-online.service',
    'rm -f "$1/etc/resolv.conf" "$1/etc/machine-id" && : >"$1/etc/machine-id"',
)

MACHINE = Rootfs(
    "machine",
    (
        *("dbus", "debconf", "etcd-server", "iproute2", "iputils-ping", "nftables", "procps", "python3"),
        *("sudo", "systemd", "systemd-sysv", "udev"),
    ),
    _CONFIGURE,
)
"""A machine that systemd-nspawn boots: what Debian's installer leaves, what the package depends on, and an etcd."""

PACKAGED = {"bookworm": "12", "trixie": "13"}
"""The releases of Debian for which the package is built, and their numbers, which its version ends with."""

MACHINES = {each: Rootfs(f"{each}-machine", MACHINE.packages, _CONFIGURE, each) for each in PACKAGED}
"""The same of a release that need not be this machine's."""

BUILDERS = {each: Rootfs(f"{each}-builder", ("python3",), release=each) for each in PACKAGED}
"""Where `make deb` builds the package of another release than this machine's."""

VIRTUAL_MACHINE = Rootfs(
    "virtual-machine",
    (*MACHINE.packages, "initramfs-tools", "linux-image-cloud-amd64", "openssh-server"),
    (*_CONFIGURE, 'systemctl --root="$1" --quiet mask ssh.socket', 'rm -f "$1"/etc/ssh/ssh_host_*'),
)
"""The same with Debian's kernel, for qemu; it is entered by SSH."""

PODMAN_4 = Rootfs(
    "podman-4", ("containernetworking-plugins", "iproute2", "iptables", "podman", "runc"), release="bookworm"
)
"""The last podman with CNI, and the plugins that it ran with."""

_DOCKER = ("ca-certificates", "docker-compose", "docker.io", "iproute2", "iptables", "procps")

RUNTIMES_13 = Rootfs("runtimes-13", (*_DOCKER, "docker-cli", "netavark", "podman"), release="trixie")
"""The container runtimes of Debian 13: Docker, and a podman with netavark."""

PODMAN_58 = Rootfs(
    "podman-5.8", ("iproute2", "iptables", "netavark", "passt", "podman", "runc", "uidmap"), release="forky"
)
"""podman of Debian testing, also for users who are not root."""

PODMAN = {"5.4": RUNTIMES_13, "5.8": PODMAN_58}
"""podman with netavark, by the start of podman's version."""

DOCKER = {
    20: Rootfs("docker-20", _DOCKER, release="bookworm"),
    26: RUNTIMES_13,
    28: Rootfs("docker-28", (*_DOCKER, "docker-cli"), release="forky"),
}
"""Docker and its compose, by the first number of Docker's version."""

CONTAINERD_2 = Rootfs("containerd-2", ("containerd", "runc"), release="forky")
"""A containerd that speaks CNI 1.1."""

INCUS = Rootfs(
    "incus",
    (
        *("attr", "ca-certificates", "incus-base", "iproute2", "iptables", "nftables", "procps", "squashfs-tools"),
        "xz-utils",
    ),
    release="trixie",
)
"""Incus of Debian 13, for containers only."""

_WITH_RUNTIMES = (CONTAINERD_2, INCUS, PODMAN_4, *PODMAN.values(), *DOCKER.values())
_RELEASED = (*MACHINES.values(), *BUILDERS.values())
_ALL = {each.name: each for each in (MACHINE, VIRTUAL_MACHINE, *_RELEASED, *_WITH_RUNTIMES)}
_OF_MAKE_TEST = (MACHINE, PODMAN_4, RUNTIMES_13)

if __name__ == "__main__":
    _sources(release())  # fetches apt's lists once, if they have never been
    with ThreadPoolExecutor(len(_OF_MAKE_TEST)) as _executor:  # each waits for the archive most of the time
        wanted = [_ALL[name] for name in sys.argv[1:]] or _OF_MAKE_TEST
        for _made in [_executor.submit(each.made) for each in wanted]:
            sys.stdout.write(f"{_made.result()}\n")
