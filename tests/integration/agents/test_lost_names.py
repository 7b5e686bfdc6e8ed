"""Names of networks' namespaces that others unmounted, deleted or gave to something else: traffic goes on, and CNI."""

import sys
from collections.abc import Callable, Iterator

import pytest

from tests.integration.conftest import NewNetwork
from tests.support.lab.lab import Container, Executed, Lab, LabHost, plugin_config
from tests.support.lab.processes import eventually


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Two hosts whose agents hardly ever look by themselves."""
    with Lab(tmp_path_factory.mktemp("lab"), hosts=2) as made:
        made.start_controller()
        for host in made.hosts:
            host.start_agent("--resync", "3600")
        yield made


LoseName = Callable[[LabHost, str], None]


def unmount(host: LabHost, path: str) -> None:
    host.run("umount", "--lazy", path)


def unmount_and_hold(host: LabHost, path: str) -> None:
    hold(host, path)
    host.run("umount", "--lazy", path)


def delete_and_hold(host: LabHost, path: str) -> None:
    hold(host, path)
    host.run("umount", path)
    host.run("rm", path)


def hold(host: LabHost, path: str) -> None:
    """Mount the namespace elsewhere, under a name with a space in it."""
    host.run("sh", "-ec", 'touch "$1"; mount --bind "$0" "$1"', path, f"{path.replace('/netns/ov-', '/held ')}")


def replace_by_file(host: LabHost, path: str) -> None:
    host.run("sh", "-ec", 'umount --lazy "$0"; rm "$0"; echo "not a namespace" >"$0"', path)


def replace_by_link(host: LabHost, path: str) -> None:
    host.run("sh", "-ec", 'umount --lazy "$0"; rm "$0"; ln -s /proc/self/ns/net "$0"', path)


def mount_the_hosts_over(host: LabHost, path: str) -> None:
    host.run("mount", "--bind", "/proc/self/ns/net", path)


def mount_another(host: LabHost, path: str) -> None:
    """Give the name to a namespace of a stranger, with devices of his own."""
    name = path.rpartition("-")[2]
    host.run("ip", "netns", "add", name)
    host.run("ip", "-n", name, "link", "add", "theirs", "type", "veth")
    host.run("umount", "--lazy", path)
    host.run("mount", "--bind", f"/run/netns/{name}", path)


def mount_another_networks(host: LabHost, path: str) -> None:
    host.run("umount", "--lazy", path)
    host.run("mount", "--bind", "/run/netns/ov-other", path)


@pytest.fixture(scope="module", autouse=True)
def other(lab: Lab) -> Container:
    """A container of another network, which nothing changes for."""
    lab.overlayctl("network", "create", "other", "--range", "10.99.128.0/24", "--uplink", "none")
    return lab.hosts[0].attach("other", "other")


WAYS = (
    unmount,
    unmount_and_hold,
    delete_and_hold,
    replace_by_file,
    replace_by_link,
    mount_the_hosts_over,
    mount_another,
    mount_another_networks,
)


def status(host: LabHost, network: str) -> Executed:
    return host.cni("STATUS", plugin_config(network, "1.1.0"))


def devices(host: LabHost, namespace: str) -> str:
    return host.run("ip", "-n", namespace, "-br", "link")


@pytest.mark.parametrize("lose_name", WAYS)
def test_a_running_agent_puts_the_name_back_and_no_packet_is_lost(
    lab: Lab, new_network: NewNetwork, lose_name: LoseName
) -> None:
    network, host = new_network(), lab.hosts[0]
    path = f"/run/netns/ov-{network}"
    here, there = lab.attach_everywhere(network)
    assert there.ping(here.address) is not None
    before, others = identity(host, path), devices(host, "ov-other")
    lose_name(host, path)
    assert there.ping(here.address) is not None
    eventually(lambda: identity(host, path) == before, "the name leads there again, unasked")
    assert devices(host, "ov-other") == others
    works(host, network, here)
    assert there.ping(here.address) is None


def test_a_request_puts_the_name_back_too(lab: Lab, new_network: NewNetwork) -> None:
    network, host = new_network(), lab.hosts[0]
    here = host.attach(f"{network}-c", network)
    unmount(host, f"/run/netns/ov-{network}")
    assert status(host, network) == Executed(0, "", "")
    unmount(host, f"/run/netns/ov-{network}")
    assert host.detach(here) == Executed(0, "", "")


def test_a_name_that_cannot_be_put_back_is_said_at_once(lab: Lab, new_network: NewNetwork) -> None:
    network, host = new_network(), lab.hosts[0]
    path = f"/run/netns/ov-{network}"
    here = host.attach(f"{network}-c", network)
    host.run("sh", "-ec", 'umount --lazy "$0"; rm "$0"; mkdir "$0"', path)
    done = status(host, network)
    assert (done.status, done.json["code"]) == (1, 51)
    assert path in str(done.json["msg"])
    assert status(host, "other").status == 0, "another network has nothing to do with it"
    assert host.detach(here).status == 0
    host.run("rmdir", path)
    assert status(host, network).status == 0


@pytest.mark.parametrize(
    "lose_name",
    [unmount, unmount_and_hold, replace_by_link, mount_the_hosts_over, mount_another, mount_another_networks],
)
def test_an_agent_that_starts_later_finds_the_namespace_or_makes_another(
    lab: Lab, new_network: NewNetwork, lose_name: LoseName
) -> None:
    network, host = new_network(), lab.hosts[0]
    path = f"/run/netns/ov-{network}"
    here, there = lab.attach_everywhere(network)
    before, others = identity(host, path), devices(host, "ov-other")
    host.stop_agent()
    lose_name(host, path)
    host.start_agent("--resync", "3600")
    eventually(lambda: there.ping(here.address, wait=0.2) is not None, "traffic goes on")
    eventually(lambda: status(host, network).status == 0, "the network is whole")
    if lose_name is unmount_and_hold:
        assert identity(host, path) == before
    assert devices(host, "ov-other") == others
    works(host, network, here)


def as_older_releases_made_it(host: LabHost, path: str) -> None:
    """Take the mark away, and the tunnel, as when an agent ends between taking it away and making another one."""
    host.run("ip", "-n", path.rpartition("/")[2], "link", "set", "lo", "alias", "")
    host.run("ip", "-n", path.rpartition("/")[2], "link", "delete", "vx0")


def write_over_the_mark(host: LabHost, path: str) -> None:
    host.run("ip", "-n", path.rpartition("/")[2], "link", "set", "lo", "alias", "tenant 7")


@pytest.mark.parametrize("change", [as_older_releases_made_it, write_over_the_mark])
def test_a_namespace_without_its_mark_keeps_the_containers_that_hang_on_it(
    lab: Lab, new_network: NewNetwork, change: LoseName
) -> None:
    network, host = new_network(), lab.hosts[0]
    path = f"/run/netns/ov-{network}"
    here, there = lab.attach_everywhere(network)
    before = identity(host, path)
    host.stop_agent()
    change(host, path)
    host.start_agent("--resync", "3600")
    eventually(lambda: there.ping(here.address, wait=0.2) is not None, "traffic goes on")
    assert identity(host, path) == before
    works(host, network, here)


def mount_the_hosts_with_a_tunnel_over(host: LabHost, path: str) -> None:
    """Let the name lead to the host's own namespace, where another program has a device of the tunnel's name."""
    host.run("ip", "link", "add", "vx0", "type", "vxlan", "id", "7", "dstport", "8472", "local", "127.0.0.1")
    mount_the_hosts_over(host, path)


def test_the_hosts_own_namespace_is_never_taken_for_a_networks(lab: Lab, new_network: NewNetwork) -> None:
    network, host = new_network(), lab.hosts[0]
    here = host.attach(f"{network}-c", network)
    host.stop_agent()
    mount_the_hosts_with_a_tunnel_over(host, f"/run/netns/ov-{network}")
    host.start_agent("--resync", "3600")
    eventually(lambda: status(host, network).status == 0, "the network is whole")
    assert "alias" not in host.run("ip", "link", "show", "lo")
    host.run("ip", "link", "delete", "vx0")
    works(host, network, here)


CLEANUP = """
import sys
from pathlib import Path
from overlayd.agent.commands.cleanup import plan_cleanup
from overlayd.kernel.linux import LinuxKernel
from overlayd.kernel.port import KernelError
kernel = LinuxKernel(Path("/run/second"))
kernel.reap(kernel.namespaces())
kernel.apply(plan_cleanup(kernel))
try:
    kernel.observe({sys.argv[1]})
except KernelError as error:
    print(error)
"""
"""What an agent does first, a cleanup, and a look at a network that is to be in force; prints why that fails."""


def test_networks_of_another_host_on_the_same_machine_are_not_taken(lab: Lab, new_network: NewNetwork) -> None:
    """Two hosts of one machine may see the same names, as those of ``ip netns exec`` do."""
    network, host = new_network(), lab.hosts[0]
    here, there = lab.attach_everywhere(network)
    path = f"/run/netns/ov-{network}"
    before = identity(host, path)
    host.run("ip", "netns", "add", "second")
    refused = host.run("nsenter", "--net=/run/netns/second", sys.executable, "-c", CLEANUP, path)
    assert f"{path} is another host's" in refused
    assert there.ping(here.address) is not None
    assert identity(host, path) == before
    works(host, network, here)


def identity(host: LabHost, path: str) -> str:
    return host.execute(["stat", "-L", "-c", "%d:%i", path]).stdout


def works(host: LabHost, network: str, attached: Container) -> None:
    """Attach another container, and detach both."""
    late = host.attach(f"{network}-late", network)
    eventually(lambda: late.ping(attached.address, wait=0.2) is not None, "the new one reaches the other")
    assert [host.detach(each) for each in (late, attached)] == [Executed(0, "", "")] * 2
