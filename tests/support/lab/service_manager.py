"""A stand-in for systemd on a simulated host: its `systemctl` starts our daemons."""

import json
import shutil
import socket
import sys
import threading
from types import TracebackType
from typing import Self

from tests.support.lab.lab import COMMANDS, Lab, LabHost
from tests.support.lab.processes import Process, eventually

_SOCKET = "/run/systemd/stand-in"

_PROGRAM = f"""#!{sys.executable} -IS
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as asking:
    asking.connect("{_SOCKET}")
    asking.sendall(json.dumps([os.path.basename(sys.argv[0]), *sys.argv[1:]]).encode())
    asking.shutdown(socket.SHUT_WR)
    status, output = json.loads(b"".join(iter(lambda: asking.recv(65536), b"")))
print(output, end="")
sys.exit(status)
"""

_DAEMONS = {"overlayd.service": "overlayd", "overlay-controller.service": "overlay-controller"}

_UP = ('"serving"', '"agent is up"')
"""What a daemon says when it is ready: the stand-in is as patient as systemd with Type=notify."""


class ServiceManager:
    """What `systemctl` and `journalctl` of one host talk to. Its services end with the `with` block."""

    def __init__(self, lab: Lab, host: LabHost) -> None:
        self.enabled: set[str] = set()
        self.running = dict[str, Process]()
        self.starts: list[str] = []
        self._lab = lab
        self.host = host
        self._stand_ins = host.directory / "stand-ins"
        self._stand_ins.mkdir()
        for name in ("systemctl", "journalctl"):
            self._write(name, _PROGRAM)
        self._write("sudo", '#!/bin/sh\nexec "$@"\n')
        host.run("mkdir", "-p", "/run/systemd/system", "/run/root")
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(f"/proc/{host.pid}/root{_SOCKET}")
        self._listening.listen()
        self._serving = threading.Thread(target=self._serve, name=f"services of {host.name}")

    def _write(self, name: str, script: str) -> None:
        path = self._stand_ins / name
        path.write_text(script)
        path.chmod(0o755)

    def __enter__(self) -> Self:
        self._serving.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._serving.join()
        self._listening.close()
        for process in self.running.values():
            process.stop()
        shutil.rmtree(self._stand_ins)

    def type(self, line: str) -> str:
        """Type a line at a shell of root's; return what it prints on standard output, or fail with all of it."""
        path = f"{self._stand_ins}:{COMMANDS}:/usr/sbin:/usr/bin"
        command = ["env", f"PATH={path}", "HOME=/run/root", "bash", "-eu", "-o", "pipefail", "-c", line]
        return self.host.run(*command)

    def _serve(self) -> None:
        while True:
            try:
                asked, _ = self._listening.accept()
            except OSError:  # it was shut down
                return
            with asked:
                request = json.loads(b"".join(iter(lambda: asked.recv(65536), b"")))  # noqa: B023 - used at once
                asked.sendall(json.dumps(self._answer(request)).encode())

    def _answer(self, request: list[str]) -> tuple[int, str]:
        match request:
            case ["systemctl", "enable", *_, unit]:
                self.enabled.add(unit)
            case ["systemctl", "show", "--property=ActiveState", "--value", unit]:
                return 0, "active" if unit in self.running else "inactive"
            case ["systemctl", "restart", unit]:
                if unit in self.running:
                    self.running.pop(unit).stop()
                self.starts.append(unit)
                self.host.run("mkdir", "-p", f"/var/lib/{_DAEMONS[unit]}")  # StateDirectory=
                log = self.host.directory / f"{unit}.log"
                before = log.stat().st_size if log.exists() else 0
                daemon = self._lab.start(_DAEMONS[unit], ["run"], log, self.host.place)

                def is_decided() -> bool:
                    return not daemon.pid.alive or any(word in daemon.output[before:] for word in _UP)

                eventually(is_decided, f"{unit} is up, or has ended")
                if not daemon.pid.alive:
                    return 1, ""
                self.running[unit] = daemon
            case ["systemctl", "disable", *_, unit]:
                self.enabled.discard(unit)
                if unit in self.running:
                    self.running.pop(unit).stop()
            case ["journalctl", *_]:
                return 0, "the journal"
            case _:
                return 1, f"the stand-in knows no {request}"
        return 0, ""
