"""A device below the tunnel that makes no checksums or segments is found, and worked round; nothing else is."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from tests.support.lab.lab import COMMANDS, Container, Lab, LabHost
from tests.support.lab.processes import eventually

pytestmark = pytest.mark.usefixtures("root")

TALK = """
import socket, sys
with socket.create_connection((sys.argv[1], 9000), timeout=5) as channel:
    channel.sendall(bytes(1_000_000))
    channel.shutdown(socket.SHUT_WR)
    assert channel.recv(16) == b"1000000"
"""
LISTEN = """
import socket
with socket.create_server(("", 9000), family=socket.AF_INET6, dualstack_ipv6=True) as listener:
    print("ready", flush=True)
    while True:
        channel, _ = listener.accept()
        with channel:
            total = 0
            while data := channel.recv(65536):
                total += len(data)
            channel.sendall(str(total).encode())
"""


def uses_software_checksums(host: LabHost, network: str) -> bool:
    status = host.agent_status()
    assert status is not None
    return bool(status["software_checksums"]) and host.run(*offload_command(network)).strip() == "0"


def offload_command(network: str) -> list[str]:
    """Return the command that prints whether the network's VXLAN device takes packets without checksums."""
    script = (
        "import os, sys; from overlayd.kernel.apply.ethtool import is_offloaded;"
        "print(int(is_offloaded(os.open(sys.argv[1], os.O_RDONLY), 'vx0')))"
    )
    return [sys.executable, "-c", script, f"/run/netns/ov-{network}"]


@contextmanager
def listening(container: Container) -> Iterator[None]:
    command = container.host.enter(["nsenter", f"--net={container.sandbox}", sys.executable, "-c", LISTEN])
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            assert server.stdout.readline() == "ready\n"
            yield
        finally:
            server.kill()


def talks(here: Container, there: Container) -> bool:
    command = here.host.enter(["nsenter", f"--net={here.sandbox}", sys.executable, "-c", TALK, str(there.address)])
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@contextmanager
def raw_bridge(lab: Lab, host: LabHost, lack: str) -> Iterator[None]:
    """Put a wire between a host and the underlay that does not do what the host leaves to it."""
    lab.underlay_run("ip", "link", "set", f"to-{host.name}", "nomaster")
    lab.underlay_run("ip", "link", "add", "raw0", "type", "veth", "peer", "name", "raw1")
    lab.underlay_run("ip", "link", "set", "raw1", "master", "under0", "up")
    lab.underlay_run("ip", "link", "set", "raw0", "up")
    for each in lab.hosts:
        # The wire takes no frames that are still to be cut, but for those that it is to lose.
        if each is not host or lack == "checksums":
            each.run("ip", "link", "set", "eth0", "gso_max_segs", "1")
    script = [sys.executable, "-m", "tests.support.packets.raw_bridge", lack, f"to-{host.name}", "raw0"]
    with subprocess.Popen(lab.enter_underlay(script), stdout=subprocess.PIPE, text=True) as bridge:
        try:
            assert bridge.stdout is not None
            assert bridge.stdout.readline() == "ready\n"
            yield
        finally:
            bridge.kill()


def two_containers(lab: Lab, topology: str, addresses: str = "10.32.0.0/16") -> tuple[Container, Container]:
    lab.overlayctl("network", "create", "blue", "--range", addresses, "--topology", topology)
    here, there = (host.attach(f"c-{host.name}", "blue") for host in lab.hosts)
    lab.in_force(here, there)
    return here, there


@pytest.mark.parametrize(
    ("lack", "topology", "addresses"),
    [
        ("checksums", "switched", "10.32.0.0/16"),
        ("segments", "routed", "10.32.0.0/16"),
        ("segments", "routed", "fd00:32::/56"),
    ],
)
def test_a_device_that_lacks_what_it_promises_is_found_and_worked_round_where_it_is(
    own_lab: Lab, lack: str, topology: str, addresses: str
) -> None:
    one, two = own_lab.hosts
    with ExitStack() as wire:
        wire.enter_context(raw_bridge(own_lab, one, lack))
        here, there = two_containers(own_lab, topology, addresses)
        wire.enter_context(listening(there))
        eventually(lambda: here.ping(there.address) is not None, "pings, which need no help, pass")
        eventually(lambda: uses_software_checksums(one, "blue"), "the agent works round it")
        assert talks(here, there)
        status = one.run(str(COMMANDS / "overlayd"), "status")
        assert "made by the kernel" in status
        one.stop_agent()
        one.start_agent()
        assert uses_software_checksums(one, "blue")
        one.run("nsenter", "--net=/run/netns/ov-blue", *turning_on("vx0"))
        eventually(
            lambda: one.run(*offload_command("blue")).strip() == "0",
            "an offload that was switched on by hand is off again",
        )
        assert (two.agent_status() or {})["probed_hosts"] == 1
        assert not uses_software_checksums(two, "blue")


def turning_on(device: str) -> list[str]:
    script = (
        "import os, sys; from overlayd.kernel.apply.ethtool import set_offloaded;"
        "set_offloaded(os.open('/proc/self/ns/net', os.O_RDONLY), sys.argv[1], offloaded=True)"
    )
    return [sys.executable, "-c", script, device]


@pytest.mark.parametrize("dropped", [pytest.param("{ icmp, udp }", marks=pytest.mark.thorough), "udp"])
def test_a_host_that_answers_nothing_is_no_problem_of_ours(own_lab: Lab, dropped: str) -> None:
    one, two = own_lab.hosts
    two_containers(own_lab, "routed")
    two.run("nft", "add table inet deaf; add chain inet deaf in { type filter hook input priority 0; }")
    two.run("nft", f"add rule inet deaf in meta l4proto {dropped} iifname ov* drop")
    one.stop_agent()
    one.start_agent()
    eventually(lambda: (one.agent_status() or {})["probed_hosts"] == 1, "the other host was probed")
    assert not uses_software_checksums(one, "blue")
    assert (one.agent_status() or {})["problems"] == []
