"""The services under systemd, on three machines with controllers on etcd: faults, boots and an upgrade with traffic."""

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.lab.processes import eventually
from tests.support.machines.machines import Machine, Sandbox, remains, together
from tests.support.machines.packages import reversioned
from tests.support.packets.ping_stream import Pinging

OLD = "0.1.9"
"""The version from which the machines are upgraded."""

NETWORK = "blue"
AGENT, CONTROLLER = "overlayd.service", "overlay-controller.service"
STORE = "etcd://10.0.0.1:2379,10.0.0.2:2379,10.0.0.3:2379"

ETCD = """\
ETCD_NAME={name}
ETCD_LISTEN_CLIENT_URLS=http://0.0.0.0:2379
ETCD_ADVERTISE_CLIENT_URLS=http://{address}:2379
ETCD_LISTEN_PEER_URLS=http://0.0.0.0:2380
ETCD_INITIAL_ADVERTISE_PEER_URLS=http://{address}:2380
ETCD_INITIAL_CLUSTER=host1=http://10.0.0.1:2380,host2=http://10.0.0.2:2380,host3=http://10.0.0.3:2380
"""

EVERY_DEVICE = (
    "/etc/systemd/network/50-all.network",
    "[Match]\nName=*\n\n[Network]\nDHCP=yes\nLinkLocalAddressing=ipv4\n",
)
"""As on an image that takes an address by DHCP from whatever network it finds."""

RUNTIME = """\
[Unit]
Description=A container runtime, which starts a container at boot

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/local/bin/start-container

[Install]
WantedBy=multi-user.target
"""

START_CONTAINER = """\
#!/bin/sh
set -e
ip netns add boot
export CNI_COMMAND=ADD CNI_CONTAINERID=boot CNI_NETNS=/run/netns/boot CNI_IFNAME=eth0 CNI_PATH=/opt/cni/bin
echo '{"cniVersion": "1.0.0", "name": "blue", "type": "overlayd"}' | /opt/cni/bin/overlayd >/run/started
"""


@dataclass(frozen=True, slots=True)
class Cluster:
    """Three hosts with a sandbox each; the first two have a controller, and all of them an etcd."""

    machines: list[Machine]
    sandboxes: list[Sandbox]
    package: Path
    directory: Path

    def overlayctl(self, *words: str) -> str:
        return self.machines[0].run("overlayctl", *words)

    @contextmanager
    def pinging(self) -> Iterator[list[Pinging]]:
        """Ping from each of the first two hosts' sandboxes to the other one; not one packet may get lost."""
        here, there, _ = self.sandboxes
        ways = ((here, there, self.directory / "there"), (there, here, self.directory / "here"))
        with ExitStack() as stack:
            every = self.machines[0].pings_every
            pings = [stack.enter_context(Pinging(source, to.address, log, every)) for source, to, log in ways]
            yield pings
            for each in pings:
                each.more(50)
        assert [each.lost for each in pings] == [set(), set()]
        for _, _, log in ways:
            log.unlink()

    def await_force(self) -> None:
        """Wait until every host has what the controllers know."""
        self.overlayctl("wait", "--timeout", str(self.machines[0].patience))


@pytest.fixture(scope="module")
def old_package(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package under an older version."""
    return reversioned(package, OLD, tmp_path_factory.mktemp("old"))


@pytest.fixture(scope="module")
def cluster(
    machines: list[Machine], package: Path, old_package: Path, tmp_path_factory: pytest.TempPathFactory
) -> Cluster:
    def install(machine: Machine) -> None:
        machine.write("/etc/default/etcd", ETCD.format(name=machine.name, address=machine.address))
        machine.run("systemctl", "enable", "--now", "--no-block", "etcd")
        machine.write(*EVERY_DEVICE)
        machine.run("networkctl", "reload")  # before the package is there: the rest is its own affair
        machine.give(old_package, f"/root/{old_package.name}")
        machine.shell(f"apt-get -qq install ./{old_package.name} </dev/null")
        assert machine.property(AGENT, "ActiveState") == "inactive"

    together(machines, install)
    joining = [initialised(machine) for machine in machines[:2]]
    for said in together(machines, lambda machine: machine.shell(joining[0])):
        assert "in sync with a controller" in said
    machines[0].run("overlayctl", "network", "create", NETWORK, "--range", "10.32.0.0/16")
    sandboxes = [machine.attach(NETWORK, "web") for machine in machines]
    made = Cluster(machines, sandboxes, package, tmp_path_factory.mktemp("cluster"))
    made.await_force()
    assert all(one.ping(other.address) for one in sandboxes for other in sandboxes)
    return made


def initialised(machine: Machine) -> str:
    """Make a controller of a machine; return the line that makes a host of another one."""
    said = machine.run("overlay-controller", "init", "--listen", str(machine.address), "--store", STORE)
    (line,) = [line for line in said.splitlines() if "overlayd join" in line]
    return line.strip()


def restarts(machine: Machine, unit: str) -> int:
    """Return how often systemd has restarted a unit that ended by itself."""
    return int(machine.property(unit, "NRestarts"))


def is_up(machine: Machine, unit: str) -> bool:
    return machine.property(unit, "SubState") == "running"


def has_another_process(machine: Machine, unit: str, than: str) -> bool:
    return is_up(machine, unit) and machine.property(unit, "MainPID") not in {"0", than}


def test_no_packet_is_lost_while_services_stop_start_and_die(cluster: Cluster) -> None:
    hosts = cluster.machines[:2]
    with cluster.pinging():
        for machine in hosts:
            machine.run("systemctl", "restart", AGENT, CONTROLLER)
        killed = [
            (machine, unit, machine.property(unit, "MainPID")) for machine in hosts for unit in (AGENT, CONTROLLER)
        ]
        for machine in hosts:
            machine.run("systemctl", "kill", "--signal=KILL", AGENT, CONTROLLER)
        for machine, unit, process in killed:
            eventually(lambda: has_another_process(machine, unit, process), f"{unit} is back", machine.patience)  # noqa: B023
        for machine in hosts:
            machine.run("systemctl", "stop", AGENT, CONTROLLER)
        for machine in hosts:
            machine.run("systemctl", "start", AGENT, CONTROLLER)
        cluster.await_force()


def test_who_hangs_is_ended_by_the_watchdog_and_started_again(cluster: Cluster) -> None:
    machine = cluster.machines[1]
    short = f"[Service]\nWatchdogSec={machine.patience / 30:.0f}\nRestartSec=0\n"
    for unit in (AGENT, CONTROLLER):
        assert machine.property(unit, "WatchdogUSec") not in {"0", "infinity"}
        machine.write(f"/run/systemd/system/{unit}.d/short.conf", short)
    machine.shell(f"systemctl daemon-reload && systemctl restart {AGENT} {CONTROLLER}")
    units = (AGENT, CONTROLLER)
    hanging = [(unit, machine.property(unit, "MainPID"), restarts(machine, unit)) for unit in units]
    with cluster.pinging():
        for unit in units:
            machine.run("systemctl", "kill", "--kill-who=main", "--signal=STOP", unit)
        for unit, process, before in hanging:
            eventually(lambda: has_another_process(machine, unit, process), f"{unit} is back", machine.patience)  # noqa: B023
            assert restarts(machine, unit) == before + 1
            assert "Watchdog timeout" in machine.journal(unit)
        cluster.await_force()
    machine.shell("rm -r /run/systemd/system/overlay*; systemctl daemon-reload")
    machine.run("systemctl", "restart", AGENT, CONTROLLER)


def test_networkd_leaves_the_uplink_alone_whatever_it_is_told_to_manage(cluster: Cluster) -> None:
    machine = cluster.machines[0]
    uplink, *_ = re.findall(r"\bov\d+\b", machine.run("ip", "-o", "link"))
    # By a networkd that has run since before the package came; it may not have looked yet where udev is slow.
    eventually(lambda: state(machine, uplink) == "unmanaged", "networkd has looked at the uplink", machine.patience)
    before, since = look(machine, uplink), machine.run("date", "+%s").strip()
    with Pinging(machine, cluster.sandboxes[0].address, cluster.directory / "host", machine.pings_every) as pinging:
        machine.run("systemctl", "restart", "systemd-networkd")
        eventually(lambda: state(machine, "eth0") == "configured", "networkd has done its work", machine.patience)
        pinging.more(50)
    assert pinging.lost == set()
    assert state(machine, uplink) == "unmanaged"
    assert look(machine, uplink) == before
    if machine.property("systemd-udevd.service", "ActiveState") == "active":  # which is in no container
        properties = machine.run("udevadm", "info", "--query=property", f"--path=/sys/class/net/{uplink}")
        assert "/systemd/network/00-overlayd.link\n" in properties
    # The agent has repaired nothing. networkd may add the underlay's address again, which the agent logs.
    logged = machine.journal(AGENT, f"--since=@{since}", "--output=cat").splitlines()
    assert [line for line in logged if not line.endswith(f'the address {machine.address}"')] == []


def look(machine: Machine, device: str) -> list[str]:
    """Return a device of a machine, with its addresses and routes."""
    looks = ("link show", "address show", "-4 route show", "-6 route show")
    shown = (machine.run("ip", "-o", *look.split(), "dev", device) for look in looks)
    return [re.sub(r"\d+sec", "", each) for each in shown]


def state(machine: Machine, device: str) -> str:
    """Return what networkd makes of a device."""
    return machine.run("networkctl", "--no-legend", "list", device).split()[-1]


def test_the_journal_has_a_line_of_text_for_each_event_with_its_priority(cluster: Cluster) -> None:
    machine = cluster.machines[0]
    machine.run("systemctl", "stop", CONTROLLER)
    machine.run("systemctl", "restart", AGENT)
    assert "overlayd[" in machine.journal(AGENT, "--boot", "--grep=^agent is up name=host1$")
    warned = ["--boot", "--priority=warning", "--grep=^cannot follow a controller.* controller=https://10.0.0.1:7471"]
    eventually(
        lambda: machine.execute("journalctl", *warned, f"--unit={AGENT}").returncode == 0,
        "the agent warns",
        machine.patience,
    )
    machine.run("systemctl", "start", CONTROLLER)
    for unit in (AGENT, CONTROLLER):
        kept = machine.run("journalctl", "--boot", "--output=json", "--all", f"_SYSTEMD_UNIT={unit}")
        messages = [json.loads(line) for line in kept.splitlines()]
        assert messages
        assert not [each["MESSAGE"] for each in messages if not re.fullmatch(r"[A-Za-z].*", each["MESSAGE"])]


def test_a_machine_that_boots_has_its_agent_before_its_containers_and_no_old_addresses(cluster: Cluster) -> None:
    machine = cluster.machines[2]
    machine.write("/etc/systemd/system/containerd.service", RUNTIME)  # one of those that the agent is ordered before
    machine.write("/usr/local/bin/start-container", START_CONTAINER)
    machine.shell("chmod +x /usr/local/bin/start-container; systemctl daemon-reload; systemctl enable containerd")
    gone = cluster.sandboxes[2]
    number = host_number(cluster, machine)
    for boot in (machine.reboot, machine.reset):
        with cluster.pinging():
            boot()
            started = machine.property("containerd.service", "Result")
            assert started == "success", machine.journal("containerd.service", "--boot")
        (ip,) = json.loads(machine.run("cat", "/run/started"))["ips"]
        address = ip["address"].partition("/")[0]
        eventually(lambda: address in endpoints(cluster), "the new container is published", machine.patience)  # noqa: B023
        cluster.await_force()
        assert set(endpoints(cluster)) == {str(each.address) for each in cluster.sandboxes[:2]} | {address}
        here = cluster.sandboxes[0]
        assert here.ping(type(gone.address)(address))
    assert host_number(cluster, machine) == number
    socket = "/run/docker/plugins/overlayd.sock"
    assert machine.run("stat", "-c", "%a %U", socket).strip() == "600 root"
    assert "docker.service" in machine.property(AGENT, "Before").split()
    machine.run("systemctl", "stop", AGENT)
    assert machine.execute("test", "-e", socket).returncode == 1, "Docker is told at once that there is no plugin"
    machine.run("systemctl", "start", AGENT)
    machine.shell("systemctl disable --now containerd; rm /etc/systemd/system/containerd.service")


def host_number(cluster: Cluster, machine: Machine) -> int:
    (found,) = [
        host for host in json.loads(cluster.overlayctl("host", "list", "--json")) if host["name"] == machine.name
    ]
    return int(found["number"])


def endpoints(cluster: Cluster) -> list[str]:
    listed = json.loads(cluster.overlayctl("endpoint", "list", "--network", NETWORK, "--json"))
    return [address for each in listed for address in each["addresses"]]


def test_an_upgrade_restarts_what_runs_and_loses_no_packet(cluster: Cluster) -> None:
    pinged = cluster.machines[:2]
    before = [kernel_of(machine) for machine in pinged]
    with cluster.pinging():
        for machine in pinged:
            ran = {unit: machine.property(unit, "MainPID") for unit in (AGENT, CONTROLLER)}
            assert machine.run("overlayd", "--version").split()[-1] == OLD
            machine.shell(f"apt-get -qq install ./{cluster.package.name} </dev/null")
            assert machine.run("overlayd", "--version").split()[-1] != OLD
            for unit, process in ran.items():
                eventually(lambda: has_another_process(machine, unit, process), f"{unit} is new", machine.patience)  # noqa: B023
        cluster.await_force()
    assert [kernel_of(machine) for machine in pinged] == before


def kernel_of(machine: Machine) -> str:
    """Return the network's devices, with their indexes, addresses and routes."""
    looks = ("-o link", "-o -4 address", "-4 route show table all")
    return "".join(machine.run("ip", "-n", f"ov-{NETWORK}", *look.split()) for look in looks)


def test_an_upgrade_does_not_wait_for_an_etcd_that_is_away(cluster: Cluster) -> None:
    machine, away = cluster.machines[1], cluster.machines[1:]
    machine.write("/root/impatient/timeout", '#!/bin/sh\nshift\nexec /usr/bin/timeout 5 "$@"\n')
    with cluster.pinging():
        together(away, lambda each: each.run("systemctl", "stop", "etcd"))
        machine.run("systemctl", "restart", "--no-block", CONTROLLER)
        eventually(lambda: is_waiting(machine, "0"), "the controller waits for its store", machine.patience)
        process = machine.property(CONTROLLER, "MainPID")
        # apt-get would set PATH.
        install = f"chmod +x impatient/timeout; PATH=/root/impatient:$PATH dpkg --install {cluster.package.name} 2>&1"
        assert f"{CONTROLLER} is not ready after 60 s and keeps starting" in machine.shell(install)
        eventually(lambda: is_waiting(machine, process), "another one waits", machine.patience)
        together(away, lambda each: each.run("systemctl", "start", "--no-block", "etcd"))
        eventually(lambda: is_up(machine, CONTROLLER), "the controller has its store", machine.patience)
        cluster.await_force()


def is_waiting(machine: Machine, other: str) -> bool:
    """Tell whether a controller is starting, in another process than this one."""
    process = machine.property(CONTROLLER, "MainPID")
    return machine.property(CONTROLLER, "ActiveState") == "activating" and process not in {"0", other}


def test_a_removal_asks_first_and_leaves_traffic_and_a_purge_leaves_nothing(cluster: Cluster) -> None:
    machine = cluster.machines[0]
    apt = "DEBIAN_FRONTEND=noninteractive apt-get -qq"
    refused = machine.execute("sh", "-c", f"{apt} remove overlayd </dev/null")
    assert refused.returncode != 0
    assert "OVERLAYD_CUT_OFF=1" in refused.stdout + refused.stderr
    assert is_up(machine, AGENT)
    with cluster.pinging():
        machine.shell(f"OVERLAYD_CUT_OFF=1 {apt} remove overlayd </dev/null")
        assert not is_up(machine, AGENT)
        assert not is_up(machine, CONTROLLER)
        (uplink,) = re.findall(r"\bov\d+\b", machine.run("ip", "-o", "link"))
        assert state(machine, uplink) == "unmanaged"  # still: containers have their way out through it
        machine.shell(f"apt-get -qq install ./{cluster.package.name} </dev/null")
        eventually(lambda: is_up(machine, AGENT), "what was enabled runs again", machine.patience)
        cluster.await_force()
    machine.shell(f"OVERLAYD_CUT_OFF=1 {apt} purge overlayd </dev/null")
    assert remains(machine) == []
