"""Traffic between containers on two hosts: round trips, connections, a stream, packets; against flannel's design."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.reporting.report import Report
from tests.support.lab.lab import CommandFailed, Lab, LabHost, run

PORT = 9000
SOURCE = Path(__file__).with_name("traffic.c")

WHAT = {"tcp_rr": "us", "udp_rr": "us", "connect": "1/s", "stream": "MB/s", "packets": "1/s"}
"""The measurements with their units. Lower is better for round trips, higher for the others."""

TOGETHER = {"tcp_rr", "udp_rr", "connect"}
"""Measured with both ends on one core; on two, most of a round trip would be the time to wake the other core."""

PEER, BARE_PEER = "flannel's design", "flannel's design without rules"

BARE = {"tcp_rr", "packets"}
"""Compared with flannel's design without rules as well."""

FLANNEL = "10.244.0.0/16"
FLANNEL_RULES = f"""
table ip flannel {{
    chain forward {{
        type filter hook forward priority filter;
        ip saddr {FLANNEL} accept
        ip daddr {FLANNEL} accept
    }}
    chain postrouting {{
        type nat hook postrouting priority srcnat;
        meta mark & 0x4000 == 0x4000 return
        ip saddr {FLANNEL} ip daddr {FLANNEL} return
        ip saddr {FLANNEL} ip daddr != 224.0.0.0/4 masquerade fully-random
        ip saddr != {FLANNEL} ip daddr {FLANNEL} masquerade fully-random
    }}
}}
"""
"""What flanneld adds with --ip-masq, which its own manifest for Kubernetes has. An agent has rules too."""

_RULES = "; ".join(f"ip daddr 203.0.113.{number} drop" for number in range(40))
_FILTER = "\n".join(
    f"chain {hook} {{ type filter hook {hook} priority filter; ct state established,related accept; {_RULES}; }}"
    for hook in ("input", "forward", "output")
)
_PUBLISHED = "ip daddr 198.51.100.1 tcp dport 80 dnat to 192.0.2.1;"
FIREWALL = f"""
table inet bench-filter {{
{_FILTER}
}}
table ip bench-nat {{
    chain prerouting {{ type nat hook prerouting priority dstnat; {_PUBLISHED} }}
    chain postrouting {{ type nat hook postrouting priority srcnat; meta mark 0x4000 masquerade; }}
}}
"""
"""The rules of a typical host: a filter with connection tracking, some other rules, and address translation."""


_IPTABLES = ("iptables", "ip6tables")


@dataclass(frozen=True, slots=True)
class MeasuredPath:
    """A path from host 1 to host 2: the commands that enter the namespaces of its ends, and the far end's address."""

    name: str
    here: Sequence[str]
    there: Sequence[str]
    address: str


async def measure(report: Report) -> None:
    rounds, seconds = (2, 0.05) if report.quick else (15, 0.2)
    with tempfile.TemporaryDirectory(prefix="overlay-bench-") as name, Lab(Path(name), hosts=6, executed=True) as lab:
        directory = Path(name)
        traffic = _compiled(directory)
        # Each design has hosts of its own: the rules of one would be in the way of another.
        for family in _IPTABLES:  # the underlay's bridge is the wire here, and no host's
            lab.underlay_run("sysctl", "-q", f"net.bridge.bridge-nf-call-{family}=0")
        ours, theirs, bare = (lab.hosts[place : place + 2] for place in (0, 2, 4))
        ways = [_raw(bare), _flannel(BARE_PEER, bare), _flannel(PEER, theirs), *_ours(lab, ours)]
        for host in theirs:
            host.run("nft", "-f", str(_written(directory / "flannel.nft", FLANNEL_RULES)))
        with _serving(ways, traffic, directory):
            for state in ("clean", "firewall"):
                for host in lab.hosts:
                    _prepare(host, state, directory)
                found = _rounds(report, state, ways, traffic, rounds, seconds)
                _tell(report, state, found)


def _compiled(directory: Path) -> Path:
    compiler = shutil.which("cc")
    if compiler is None:
        raise CommandFailed("the traffic is made by a C program: apt-get install gcc libc6-dev")
    program = directory / "traffic"
    run([compiler, "-O2", "-o", str(program), str(SOURCE)])
    return program


def _raw(hosts: Sequence[LabHost]) -> MeasuredPath:
    one, two = hosts
    return MeasuredPath("underlay", one.enter(()), two.enter(()), str(two.address))


def _ours(lab: Lab, hosts: Sequence[LabHost]) -> Iterator[MeasuredPath]:
    lab.start_controller()
    for host in hosts:
        host.start_agent()
    for number, topology in enumerate(("routed", "switched")):
        lab.overlayctl("network", "create", topology, "--range", f"10.{32 + number}.0.0/16", "--topology", topology)
        here, there = (host.attach(f"{topology}-{host.name}", topology) for host in hosts)
        lab.in_force(here, there)
        yield MeasuredPath(
            topology,
            here.host.enter(["nsenter", f"--net={here.sandbox}"]),
            there.host.enter(["nsenter", f"--net={there.sandbox}"]),
            str(there.address),
        )


def _flannel(name: str, hosts: Sequence[LabHost]) -> MeasuredPath:
    """Configure each host as flannel does: a bridge with the containers, a VXLAN device, and routes between them."""
    for number, host in enumerate(hosts, 1):
        other = 3 - number
        host.add_sandbox("flannel")
        for line in f"""
            ip link add cni0 type bridge
            ip address add 10.244.{number}.1/24 dev cni0
            ip link set cni0 mtu 1450 up
            ip link add fl0 mtu 1450 type veth peer name eth0 mtu 1450 netns flannel
            ip link set fl0 master cni0 up
            ip -n flannel address add 10.244.{number}.2/24 dev eth0
            ip -n flannel link set eth0 up
            ip -n flannel link set lo up
            ip -n flannel route add default via 10.244.{number}.1
            ip link add flannel.1 address 02:00:00:00:fe:{number:02} mtu 1450 type vxlan id 1 dstport 8472 nolearning
            ip link set flannel.1 up
            ip address add 10.244.{number}.0/32 dev flannel.1
            ip neighbour add 10.244.{other}.0 lladdr 02:00:00:00:fe:{other:02} dev flannel.1 nud permanent
            bridge fdb add 02:00:00:00:fe:{other:02} dev flannel.1 dst {hosts[other - 1].address} self permanent
            ip route add 10.244.{other}.0/24 via 10.244.{other}.0 dev flannel.1 onlink
            sysctl -q net.ipv4.ip_forward=1
        """.strip().splitlines():
            host.run(*line.split())
    one, two = (host.enter(["nsenter", "--net=/run/netns/flannel"]) for host in hosts)
    return MeasuredPath(name, one, two, "10.244.2.2")


@contextmanager
def _serving(ways: Sequence[MeasuredPath], traffic: Path, directory: Path) -> Iterator[None]:
    servers = []
    try:
        for way in ways:
            command = [*way.there, *_on_core(0), str(traffic), "serve", str(PORT)]
            server = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=directory)
            servers.append(server)
            if server.stdout is None or server.stdout.readline() != b"ready\n":
                raise CommandFailed(f"the server at the end of {way.name} did not start")
        yield
    finally:
        for server in servers:
            server.kill()
            server.wait()


def _on_core(place: int) -> list[str]:
    """Return the prefix of a command that makes it run on one of the cores that this process may use."""
    return ["taskset", "--cpu-list", str(sorted(os.sched_getaffinity(0))[place])]


def _written(file: Path, text: str) -> Path:
    file.write_text(text)
    return file


def _prepare(host: LabHost, state: str, directory: Path) -> None:
    if state == "firewall":
        host.run("nft", "-f", str(_written(directory / "firewall.nft", FIREWALL)))
    for family in _IPTABLES:
        host.run("sysctl", "-q", f"net.bridge.bridge-nf-call-{family}={int(state == 'firewall')}")


def _rounds(  # noqa: PLR0913, PLR0917 - a round needs them all
    report: Report, state: str, ways: Sequence[MeasuredPath], traffic: Path, rounds: int, seconds: float
) -> Mapping[tuple[str, str], list[float]]:
    """Measure everything on each path in turn. Each round starts with a different path."""
    found: dict[tuple[str, str], list[float]] = {(what, way.name): [] for what in WHAT for way in ways}
    step = report.step(state, rounds)
    for number in range(rounds):
        first = number % len(ways)
        for what in WHAT:
            for way in (*ways[first:], *ways[:first]):
                core = _on_core(0 if what in TOGETHER else -1)
                printed = run([*way.here, *core, str(traffic), what, way.address, str(PORT), str(seconds)])
                found[what, way.name].append(float(printed))
        report.progress.advance(step)
    return found


def _tell(report: Report, state: str, found: Mapping[tuple[str, str], list[float]]) -> None:
    for what, unit in WHAT.items():
        more = unit != "us"
        for name in ("routed", "switched"):
            case, ours = f"{what}/{name}/{state}", found[what, name]
            report.compare(case, unit, ours, PEER, found[what, PEER], more=more)
            if what in BARE:
                report.compare(
                    f"{case}/without rules of theirs", unit, ours, BARE_PEER, found[what, BARE_PEER], more=more
                )
            if what == "stream":
                underlay = found[what, "underlay"]
                report.compare(f"{case}/against the underlay", unit, ours, "the underlay", underlay, more=more)
        report.tell(f"{what}/underlay/{state}", unit, found[what, "underlay"], more=more)
