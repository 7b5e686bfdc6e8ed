"""A stand-in for Vagrant, whose machines are booted already: `python vagrant.py DEFINED up` and `… ssh NAME`.

DEFINED is a file in JSON: for each machine how to enter it (`enter`, the beginning of a command), its address on the
private network, and its provisions, as the Vagrantfile has them. It does what Vagrant does as far as scripts see it.
"""

import json
import shlex
import subprocess
import sys
from pathlib import Path

_USER = "id vagrant >/dev/null 2>&1 || useradd --create-home --shell /bin/bash vagrant"
_SUDO = "mkdir -p /etc/sudoers.d; echo 'vagrant ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/vagrant"


def _up(machine: dict[str, object], directory: Path) -> None:
    """Do what `vagrant up --provision` does with a machine that has been booted."""
    _root(machine, f"{_USER}; {_SUDO}; ip address replace {machine['address']}/24 dev eth0", b"")
    provisions = machine["provisions"]
    assert isinstance(provisions, list)
    for each in provisions:
        if each["kind"] == "file":
            _root(machine, f"cat >{shlex.quote(each['destination'])}", Path(each["source"]).read_bytes())
        else:
            _root(machine, "bash -s", (directory / each["path"]).read_bytes())


def _root(machine: dict[str, object], script: str, stdin: bytes) -> None:
    subprocess.run([*_enter(machine), "sh", "-ec", script], input=stdin, check=True)


def _enter(machine: dict[str, object]) -> list[str]:
    enter = machine["enter"]
    assert isinstance(enter, list)
    return enter


def _ssh(machine: dict[str, object], command: str) -> int:
    """Run a command as the user that Vagrant makes, with the standard streams of this process."""
    user = ["runuser", "-u", "vagrant", "--", "env", "HOME=/home/vagrant", "USER=vagrant", "bash", "-c", command]
    return subprocess.run([*_enter(machine), *user], check=False).returncode


def main() -> int:
    """Run a command line of Vagrant, of those that the project's scripts use."""
    machines = json.loads(Path(sys.argv[1]).read_text())
    match sys.argv[2:]:
        case ["up", "--provision"]:
            for machine in machines.values():
                _up(machine, Path.cwd())
            return 0
        case ["ssh", name, "--no-tty", "-c", command]:
            return _ssh(machines[name], command)
    return 99


if __name__ == "__main__":
    sys.exit(main())
