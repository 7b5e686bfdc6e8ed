"""The commands of docs/uplinks.md work as they are printed."""

import shlex
from pathlib import Path

from tests.support.controllers.lone_controller import controller
from tests.support.controllers.terminal import Terminal
from tests.support.lab.lab import ROOT, Lab
from tests.support.pages.guide import blocks

PAGE = (ROOT / "docs/uplinks.md").read_text()
SHOWN = [
    line
    for heading in ("See it", "Bandwidth", "Forged sources")
    for block in blocks(heading, PAGE)
    for line in block.splitlines()
    if line.startswith(("ip ", "nft ", "tc ", "nsenter "))
]
"""What shows on a host what is in its kernel."""


def test_the_administrators_commands(tmp_path: Path) -> None:
    commands = [line for line in PAGE.splitlines() if line.startswith("overlayctl ")]
    assert len(commands) >= 6
    with controller(tmp_path / "store.db") as running:
        for command in commands:
            Terminal(running.api).type(*shlex.split(command, comments=True)[1:])


def test_a_host_shows_everything(lab: Lab) -> None:
    ranges = ["--range", "10.32.0.0/16", "--range", "fd00:32::/48"]
    lab.overlayctl("network", "create", "blue", *ranges, "--uplink", "isolated", "--vni", "1")
    lab.overlayctl("network", "create", "lan", "--range", "10.34.0.0/16", "--topology", "switched")
    host = lab.hosts[0]
    containers = [host.attach(f"page-{network}", network) for network in ("blue", "lan")]
    lab.in_force(*containers)
    assert len(SHOWN) > 15
    printed = {command: host.execute(["bash", "-eu", "-o", "pipefail", "-c", command]) for command in SHOWN}
    assert {command: done.stderr for command, done in printed.items() if done.returncode} == {}
    silent = {command for command, done in printed.items() if not done.stdout and not command.startswith("ip route")}
    assert silent == set()
    for container in containers:
        assert host.detach(container).status == 0
