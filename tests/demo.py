"""The demo: three simulated hosts, three networks, nine containers, and what one sees of them.

``make demo`` shows it and removes it; ``make demo KEEP=1`` leaves it running, ``make demo-down`` removes that.
"""

import json
import os
import sys
from collections.abc import Sequence
from itertools import product
from pathlib import Path

from rich.console import Console
from rich.panel import Panel
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from cni.install import Conf, install_conf
from tests.support.lab.lab import COMMANDS, CONTROLLER, PORT, ROOT, Container, Lab, run
from tests.support.lab.processes import Pid
from tests.support.packets.capture import Capture, VxlanPacket

HOSTS = 3
NETWORKS = {
    "blue": ("10.32.0.0/16", "routed"),
    "red": ("10.32.0.0/16", "routed"),
    "green": ("10.64.0.0/16", "switched"),
}
STYLES = {"blue": "bright_blue", "red": "bright_red", "green": "bright_green"}
PLACE = ROOT / "build" / "demo"
STATE = PLACE / "processes.json"
STEPS = HOSTS + 1 + HOSTS + len(NETWORKS) + HOSTS * len(NETWORKS) + 1 + len(NETWORKS) + 2

Times = dict[tuple[str, str, str], float | None]
"""Network, source host, destination host → round trip in ms, or None when no answer came."""


class Demo:
    """One run of the demo: what was made, and what was measured."""

    def __init__(self, lab: Lab, progress: Progress, console: Console) -> None:
        self.lab = lab
        self.containers: list[Container] = []
        self.times: Times = {}
        self.strangers: list[tuple[str, str, str, bool]] = []
        self.packet: VxlanPacket | None = None
        self._console = console
        self._progress = progress
        self._task = progress.add_task("making namespaces", total=STEPS)

    def _step(self, what: str) -> None:
        self._progress.update(self._task, advance=1, description=what)

    def build(self) -> None:
        """Start everything and attach the containers through the CNI plugin."""
        for _ in range(HOSTS):
            self._step(f"making {self.lab.add_host().name}")
        self.lab.start_controller(port=_free_or(PORT))
        self._step("controller is up")
        for host in self.lab.hosts:
            host.start_agent()
            self._step(f"agent of {host.name} is in sync")
        for name, (cidr, topology) in NETWORKS.items():
            self.lab.overlayctl("network", "create", name, "--range", cidr, "--topology", topology)
            for host in self.lab.hosts:
                install_conf(Conf(name), host.directory / "written/etc/cni/net.d")
            self._step(f"network {name} created")
        for network, host in product(NETWORKS, self.lab.hosts):
            self.containers.append(host.attach(f"{network}-{host.name}", network))
            self._step(f"CNI ADD: {network} on {host.name}")
        self.lab.in_force(*self.containers)
        self._step("in force on every host")

    def measure(self) -> None:
        """Ping every pair inside a network, look for what crosses, and capture one packet."""
        for network in NETWORKS:
            before = {c.name: _received(c) for c in self.containers}
            members = [c for c in self.containers if c.network == network]
            for source, destination in product(members, repeat=2):
                if source is not destination:
                    trip = source.ping(destination.address)
                    self.times[network, source.host.name, destination.host.name] = trip
            self._look_for_strangers(network, before)
            self._step(f"pinged every pair in {network}")
        first, *_, last = [c for c in self.containers if c.network == "blue"]
        with Capture(self.lab.enter_underlay) as capture:
            first.ping(last.address)
            # Agents send packets of their own now and then: probes.
            pings = (packet for packet in capture.packets(5.0) if packet.inner_source == str(first.address))
            self.packet = next(pings, None)
        self._step("captured a packet")

    def _look_for_strangers(self, network: str, before: dict[str, int]) -> None:
        """Tell whether a container of another network received anything, among them those with the same address."""
        members = [c for c in self.containers if c.network == network]
        for other in (name for name in NETWORKS if name != network):
            theirs = [c for c in self.containers if c.network == other]
            arrived = sum(_received(c) - before[c.name] for c in theirs)
            reachable = any(
                members[0].ping(c.address, wait=0.3) is not None
                for c in theirs
                if all(c.address != member.address for member in members)
            )
            shared = len({c.address for c in theirs} & {c.address for c in members})
            self.strangers.append((f"{network} → {other}", str(shared), str(arrived), arrived == 0 and not reachable))

    def finish(self) -> None:
        """Detach everything again, as a runtime would."""
        for container in self.containers:
            detached = container.host.detach(container)
            if detached.status:
                raise AssertionError(f"DEL of {container.name}: {detached.stdout}")
        self._step("CNI DEL: every container is detached")

    @property
    def succeeded(self) -> bool:
        return (
            all(trip is not None for trip in self.times.values())
            and all(isolated for *_, isolated in self.strangers)
            and self.packet is not None
        )

    def show(self) -> None:
        """Print the picture and the tables."""
        self._console.print()
        self._console.print(self._picture())
        self._console.print(self._matrix())
        self._console.print(self._isolation())
        if self.packet:
            self._console.print(_decoded(self.packet))
        for what in (("host", "list"), ("network", "show", "blue"), ("endpoint", "list")):
            self._console.print(f"[dim]$ overlayctl {' '.join(what)}[/]")
            self._console.print(Text(self.lab.overlayctl(*what, columns=self._console.width)))

    def _picture(self) -> Panel:
        """Draw the hosts, their containers, and the underlay that carries it all."""
        drawing = Table.grid(padding=(0, 2))
        for _ in self.lab.hosts:
            drawing.add_column(justify="center")
        drawing.add_row(*(Text(host.name, style="bold") for host in self.lab.hosts))
        for network in NETWORKS:
            cells = []
            for host in self.lab.hosts:
                container = next(c for c in self.containers if c.network == network and c.host is host)
                cells.append(Text(f"┌ {network} ┐\n{container.address}", style=STYLES[network], justify="center"))
            drawing.add_row(*cells)
            joint = "routed by vx0" if NETWORKS[network][1] == "routed" else "br0 ─ vx0"
            drawing.add_row(*(Text(f"└─ {joint} ─┘", style=STYLES[network]) for _ in self.lab.hosts))
        drawing.add_row(*("║" for _ in self.lab.hosts))
        drawing.add_row(*(Text(f"VTEP {host.address}", style="yellow") for host in self.lab.hosts))
        drawing.add_row(*(Text("══════ UDP 4789 ══════", style="yellow") for _ in self.lab.hosts))
        return Panel(drawing, title="blue and red use the same addresses", expand=False, border_style="dim")

    def _matrix(self) -> Table:
        hosts = [host.name for host in self.lab.hosts]
        matrix = Table(title="Round trips in ms", title_justify="left", title_style="bold", border_style="dim")
        for column in ("network", "from", *(f"to {host}" for host in hosts)):
            matrix.add_column(column, justify="right" if column.startswith("to") else "left")
        for network, source in product(NETWORKS, hosts):
            cells = ["·" if source == host else _trip(self.times[network, source, host]) for host in hosts]
            matrix.add_row(Text(network, style=STYLES[network]), source, *cells, end_section=source == hosts[-1])
        return matrix

    def _isolation(self) -> Table:
        table = Table(title="Nothing crosses", title_justify="left", title_style="bold", border_style="dim")
        for column in ("while pinging", "addresses that both have", "pings that the other one received", "isolated"):
            table.add_column(column)
        for direction, shared, arrived, isolated in self.strangers:
            table.add_row(direction, shared, arrived, "[green]yes[/]" if isolated else "[red]NO[/]")
        return table


def _trip(trip: float | None) -> str:
    return "[red]no answer[/]" if trip is None else f"[green]{trip:.2f}[/]"


def _decoded(packet: VxlanPacket) -> Panel:
    rows = Table.grid(padding=(0, 2))
    rows.add_row("outer IP", f"{packet.outer_source} → {packet.outer_destination}", "[dim]VTEP to VTEP[/]")
    rows.add_row("UDP", "port 4789", "[dim]VXLAN, RFC 7348[/]")
    rows.add_row("VNI", str(packet.vni), "[dim]the network[/]")
    rows.add_row(
        "inner Ethernet", f"{packet.inner_source_mac} → {packet.inner_destination_mac}", "[dim]by host number[/]"
    )
    rows.add_row("inner IP", f"{packet.inner_source} → {packet.inner_destination}", "[dim]container to container[/]")
    rows.add_row("length", f"{packet.length} bytes", "")
    return Panel(rows, title="One packet on the underlay, decoded with scapy", expand=False, border_style="dim")


def _received(container: Container) -> int:
    """Return how many echo requests a container has received (RFC 2011: icmpInEchos).

    Not all packets: containers of a switched network hear each other's IPv6 solicitations at any time.
    """
    lines = container.run("cat", "/proc/net/snmp").splitlines()
    names, values = (line.split() for line in lines if line.startswith("Icmp:"))
    return int(dict(zip(names, values, strict=True))["InEchos"])


def _free_or(port: int) -> int:
    """Return the port if it is free on loopback, else 0: any port."""
    return port if f"127.0.0.1:{port}" not in run(["ss", "-ltnH"]) else 0


def _keep(lab: Lab, there: str, console: Console) -> None:
    """Leave a way in for each host, remember what runs, and say how to look round; `there` is an address to ping."""
    for host in lab.hosts:
        way_in = PLACE / host.name
        enter = " ".join(host.enter([]))
        script = PLACE / f"on-{host.name}"
        script.write_text(
            f"#!/bin/sh\nexport PATH={COMMANDS}:$PATH OVERLAY_CONTROLLER_URL=http://{CONTROLLER}:{PORT}\n"
            f'exec {enter} "$@"\n'
        )
        script.chmod(0o755)
        assert way_in.is_dir()
    STATE.write_text(json.dumps([[pid.number, pid.started] for pid in lab.pids]))
    here = PLACE.relative_to(ROOT)
    console.print(
        Panel(
            f"export OVERLAY_CONTROLLER_URL={lab.api_url}\n"
            ".venv/bin/overlayctl network list\n"
            ".venv/bin/overlayctl endpoint list\n"
            f"{here}/on-host1 overlayctl plan\n"
            f"{here}/on-host1 ip -n ov-blue route\n"
            f"{here}/on-host1 bridge -n ov-green fdb show dev vx0\n"
            f"{here}/on-host1 nsenter --net=/run/netns/blue-host1 ping -c3 {there}\n"
            "make demo-down",
            title="It is running: look round with these",
            expand=False,
        )
    )


def is_kept() -> bool:
    """Tell whether a demo that was kept still runs."""
    return STATE.exists() and any(Pid(number, started).alive for number, started in json.loads(STATE.read_text()))


def down() -> bool:
    """Remove what an earlier demo left running; return whether there was one."""
    if not PLACE.exists():
        return False
    if STATE.exists():
        for number, started in json.loads(STATE.read_text()):
            Pid(number, started).end()
    _remove(PLACE)
    return True


def _remove(place: Path) -> None:
    lab = Lab(place)
    lab.remove_files()


def main(arguments: Sequence[str]) -> int:
    """Run the demo, or remove it; return the exit status."""
    console = Console(emoji=False)  # a MAC may hold :cd:, the name of one
    if arguments == ["down"]:
        console.print("removed the demo" if down() else "no demo is running")
        return 0
    if os.geteuid() != 0:
        console.print("the demo needs root, for network namespaces: sudo make demo")
        return 1
    if is_kept():
        console.print("a demo that was kept still runs, and so it stays: remove it first, with `make demo-down`")
        return 1
    try:
        return show(console)
    except KeyboardInterrupt:
        console.print("\ninterrupted: the demo is removed")
        return 130
    finally:
        if not is_kept():
            down()


def show(console: Console) -> int:
    """Run the demo; return the exit status."""
    down()  # what a demo left that was killed
    keep = os.environ.get("KEEP", "") not in {"", "0"}
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Lab(PLACE, lasting=keep) as lab, Progress(*columns, console=console) as progress:
        demo = Demo(lab, progress, console)
        demo.build()
        demo.measure()
        progress.stop()
        demo.show()
        console.print(f"API documentation: [link]{lab.api_url}/docs[/]" + ("" if keep else " (while it runs: KEEP=1)"))
        if keep:
            _keep(lab, next(str(c.address) for c in demo.containers if c.name == "blue-host2"), console)
        else:
            demo.finish()
    console.print(
        "[bold green]every ping was answered, nothing crossed[/]" if demo.succeeded else "[bold red]FAILED[/]"
    )
    return 0 if demo.succeeded else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
