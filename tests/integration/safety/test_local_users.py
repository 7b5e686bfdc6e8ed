"""What an unprivileged user of a host can do: docs/security.md's table."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.integration.traffic.test_container_reach import NOBODY, SENDER, VXLAN_PORT, echo_request, frame_into
from tests.support.controllers.secure import secure_controller
from tests.support.lab.lab import COMMANDS, Container, Lab, LabHost, plugin_config
from tests.support.lab.processes import Process, eventually
from tests.support.packets.conversation import Server, ask

STATE, RUN = "/var/lib/overlayd", "/run/overlayd"

CONNECT = "import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])"
OPEN = "import sys; open(sys.argv[1])"
ATTACH = """
import ctypes, os, sys
PTRACE_ATTACH = 16
libc = ctypes.CDLL(None, use_errno=True)
if libc.ptrace(PTRACE_ATTACH, int(sys.argv[1]), None, None):
    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
"""
HOLD = """
import signal, socket, sys
channel = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
channel.bind(("::", int(sys.argv[1])))
signal.pause()
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Two hosts that have joined, of which the second one has no network yet."""
    with Lab(tmp_path_factory.mktemp("lab"), hosts=2, secure=True) as made:
        made.start_controller()
        for host in made.hosts:
            host.start_agent()
        for name, number, topology in (("blue", 32, "routed"), ("red", 33, "switched")):
            made.overlayctl("network", "create", name, "--range", f"10.{number}.0.0/16", "--topology", topology)
        eventually(
            lambda: all("sent_by_users" in host.run("nft", "list", "ruleset") for host in made.hosts),
            "every agent has looked at its host once",
        )
        yield made


@pytest.fixture(scope="module")
def containers(lab: Lab) -> dict[tuple[str, str], Container]:
    """A container of each network on each host, by network and host."""
    made = {
        (name, host.name): host.attach(f"{name}-{host.name}", name) for name in ("blue", "red") for host in lab.hosts
    }
    lab.in_force(*made.values())
    return made


def as_nobody(host: LabHost, *command: str) -> str:
    """Let an unprivileged user of the host fail with a command; return what it says."""
    done = host.execute([*NOBODY, *command])
    assert done.returncode, f"{command} succeeds: {done.stdout}"
    return done.stderr + done.stdout


def python(program: str, *arguments: str) -> list[str]:
    return [sys.executable, "-c", program, *arguments]


def sending(address: str, content: bytes, port: int = VXLAN_PORT) -> list[str]:
    """Return a command that sends a datagram from a plain socket."""
    return python(SENDER, address, str(port), content.hex())


def is_kept_from_sending(host: LabHost, address: str, content: bytes, port: int = VXLAN_PORT) -> bool:
    """Let a user send a datagram, and root of his user namespace another one; tell whether the host counts both."""
    before = sent_by_users(host)
    other = ["unshare", "--user", "--map-root-user", "bash", "-c", f"echo other >/dev/udp/{address}/{port}"]
    for command in (sending(address, content, port), other):
        assert "Operation not permitted" in as_nobody(host, *command)
    return sent_by_users(host) == before + 2


def sent_by_users(host: LabHost) -> int:
    """Return how many packets of users to a VXLAN port this host has dropped."""
    found = re.search(r"packets (\d+)", host.run("nft", "list", "counter", "inet", "overlayd_vxlan", "sent_by_users"))
    assert found
    return int(found[1])


def test_a_user_of_a_host_without_networks_sends_nothing_to_a_vxlan_port(lab: Lab) -> None:
    """Other hosts know it as a VTEP from the time that it registered."""
    host = lab.hosts[1]
    assert "ov-" not in host.run("ls", "/run/netns")
    assert is_kept_from_sending(host, str(lab.hosts[0].address), b"?")


def test_a_user_puts_no_frame_into_a_network_of_another_host(
    lab: Lab, containers: dict[tuple[str, str], Container]
) -> None:
    host, other = lab.hosts
    here, there = (containers["blue", each.name] for each in (host, other))
    (link,) = json.loads(other.run("ip", "-n", "ov-blue", "-j", "link", "show", "dev", "vx0"))
    vni = json.loads(lab.overlayctl("network", "show", "blue", "--json"))["vni"]
    content = frame_into(vni, link["address"], echo_request(here.address, there.address))
    echoes = there.echoes
    for whole in (content, content + bytes(3000)):  # the second one would leave in fragments
        for address in (other.address, other.address6):
            assert is_kept_from_sending(host, str(address), whole)
    host.run("nft", "add table ip services; add chain ip services to { type nat hook output priority -100; }")
    host.run("nft", f"add rule ip services to udp dport 53 dnat to {other.address}:{VXLAN_PORT}")
    assert is_kept_from_sending(host, str(other.address), content, 53)
    host.run("nft", "delete table ip services")
    host.run(*sending(str(other.address), content))
    eventually(lambda: there.echoes == echoes + 1, "only the frame of root arrives")


def test_traffic_of_users_in_tunnels_passes(lab: Lab, containers: dict[tuple[str, str], Container]) -> None:
    host, other = lab.hosts
    before = sent_by_users(host)
    for network in ("blue", "red"):
        there = containers[network, other.name]
        with (
            Server(there.enter, str(there.address)) as server,
            Server(there.enter, str(there.address), 0, "udp") as udp,
        ):
            for enter in (host.enter, containers[network, host.name].enter):
                as_user = lambda command: enter([*NOBODY, *command])  # noqa: B023, E731 - used at once
                assert ask(as_user, str(there.address), server.port) is not None, network
                assert ask(as_user, str(there.address), udp.port, "udp") is not None, network
    assert sent_by_users(host) == before


def test_a_user_gets_at_nothing_that_is_an_agents(lab: Lab, containers: dict[tuple[str, str], Container]) -> None:
    host = lab.hosts[0]
    assert host.agent
    pid = str(host.agent.pid.number)
    for place in (
        f"{STATE}/credential.json",
        f"{STATE}/host-id",
        f"{STATE}/lock",
        f"{RUN}/lock",
        f"/proc/{pid}/environ",
    ):
        assert "PermissionError" in as_nobody(host, *python(OPEN, place)), place
    for name in ("control.sock", "cni.sock"):
        assert "PermissionError" in as_nobody(host, *python(CONNECT, f"{RUN}/{name}")), name
    for place in (STATE, RUN):
        assert "Permission denied" in as_nobody(host, "ls", place)
        assert "Permission denied" in as_nobody(host, "flock", "--nonblock", place, "true")
    for place in ("/opt/cni/bin/overlayd", "/etc/cni/net.d/00-blue.conflist", "/run/netns/ov-blue", "/run/netns/new"):
        assert "cannot create" in as_nobody(host, "sh", "-c", f">{place}"), place
    for command in ("status", "plan", "cleanup --yes"):
        assert "Permission denied" in as_nobody(host, str(COMMANDS / "overlayd"), *command.split()), command
    assert "Operation not permitted" in as_nobody(host, *python(ATTACH, pid))
    assert "Operation not permitted" in as_nobody(host, "kill", pid)
    assert containers["blue", host.name].ping(containers["blue", lab.hosts[1].name].address) is not None


@pytest.mark.usefixtures("containers")
def test_a_user_gets_into_no_namespace_and_changes_nothing_in_the_kernel(lab: Lab) -> None:
    host = lab.hosts[0]
    for place in ("/run/netns/ov-blue", "/run/netns/blue-host1"):
        for inside in ([], ["unshare", "--user", "--map-root-user", "--net"]):
            assert "Operation not permitted" in as_nobody(host, *inside, "nsenter", f"--net={place}", "true"), place
    for command in (
        "ip link add ov9 type dummy",
        "ip link set eth0 down",
        "nft flush ruleset",
        "ip netns delete ov-blue",
    ):
        as_nobody(host, *command.split())
    assert "sent_by_users" in host.run("nft", "list", "ruleset")
    assert "ov-blue" in host.run("ip", "netns", "list")


def test_a_user_attaches_nothing_by_the_plugin(lab: Lab) -> None:
    host = lab.hosts[0]
    sandbox = host.add_sandbox("taken")
    variables = {"CNI_COMMAND": "ADD", "CNI_CONTAINERID": "taken", "CNI_NETNS": sandbox, "CNI_IFNAME": "eth0"}
    environment = [f"{name}={value}" for name, value in variables.items()]
    command = ["env", *environment, "CNI_PATH=/opt/cni/bin", "/opt/cni/bin/overlayd"]
    done = host.execute([*NOBODY, *command], stdin=json.dumps(plugin_config("blue")))
    assert done.returncode
    assert "Permission denied" in done.stdout
    assert "eth0" not in host.run("nsenter", f"--net={sandbox}", "ip", "-br", "link")
    host.remove_sandbox("taken")


@pytest.mark.usefixtures("containers")
def test_a_user_sees_names_of_networks_and_no_secret(lab: Lab) -> None:
    """Names of namespaces are the system's, and runtimes of other users read what is configured for CNI."""
    host = lab.hosts[0]
    assert "ov-blue" in host.run(*NOBODY, "ls", "/run/netns")
    secret = json.loads(host.credential.read_text())["token"].split("_")[2]
    as_nobody(host, "grep", "-r", "--quiet", secret, "/etc/cni", "/opt/cni", "/run")


def test_a_user_who_has_the_vxlan_port_first_is_named(lab: Lab) -> None:
    """As long as no network of the host has a tunnel; the agent goes on as soon as the port is free."""
    host = lab.add_host()
    log = host.directory / "holder.log"
    holder = Process(host.enter([*NOBODY, *python(HOLD, str(VXLAN_PORT))]), log)
    try:
        eventually(lambda: str(VXLAN_PORT) in host.run("ss", "-Hlnu"), "the port is taken")
        host.start_agent()
        done = host.cni("ADD", plugin_config("blue"), CONTAINERID="late", NETNS=host.add_sandbox("late"), IFNAME="eth0")
        assert done.status
        assert str(VXLAN_PORT) in done.stdout, done.stdout
    finally:
        holder.kill()
    container = host.attach("late", "blue")
    assert container.ping(container.address) is not None


def test_a_user_of_a_controllers_machine_gets_at_nothing_of_its_store() -> None:
    with TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o755)
        with secure_controller(directory / "controller") as controller:
            pid = str(controller.process.pid.number)
            files = sorted(controller.store.parent.glob("store.db*"))
            assert len(files) > 1, "what is written last stands beside the store (SQLite's write-ahead log)"
            for place in (*files, controller.directory / "admin-token", Path(f"/proc/{pid}/environ")):
                refused(OPEN, str(place))
            refused(ATTACH, pid)
            shown = Path(f"/proc/{pid}/cmdline").read_text()
            assert controller.admin not in shown


def refused(program: str, argument: str) -> None:
    """Check that an unprivileged user of this machine may not do something."""
    done = subprocess.run([*NOBODY, *python(program, argument)], capture_output=True, text=True, check=False)
    assert "PermissionError" in done.stderr, (argument, done)
