"""Bad input to the real executable and the real commands: the right error, and nothing left behind."""

import json

import pytest

from tests.integration.conftest import NewNetwork
from tests.support.lab.lab import CommandFailed, Lab, LabHost, plugin_config
from tests.support.lab.processes import eventually


def state_of(host: LabHost) -> tuple[object, ...]:
    """What an attachment would change on a host: namespaces, devices in them, records."""
    namespaces = sorted(line.split()[0] for line in host.run("ip", "netns", "list").splitlines())
    devices = [host.run("ip", "-n", name, "-o", "link") for name in namespaces]
    records = host.run("sh", "-c", "ls -A /run/overlayd/attachments 2>/dev/null || true")
    return namespaces, devices, records


@pytest.fixture
def sandbox(lab: Lab) -> str:
    host = lab.hosts[0]
    if "bad-input" not in host.run("ip", "netns", "list").split():
        host.add_sandbox("bad-input")
    return "/run/netns/bad-input"


def refused(host: LabHost, config: dict[str, object] | str, **variables: str) -> dict[str, object]:
    """ADD, and see that it is refused and that nothing changed; return the error object."""
    eventually(lambda: ": rv" not in str(state_of(host)), "what earlier tests detached is deleted")
    before = state_of(host)
    done = host.cni("ADD", config, **variables)
    assert done.status == 1, done.stdout
    assert state_of(host) == before
    error = done.json
    assert set(error) <= {"cniVersion", "code", "msg", "details"}
    return error


@pytest.mark.parametrize("missing", ["CONTAINERID", "NETNS", "IFNAME"])
def test_a_missing_variable_is_named(lab: Lab, sandbox: str, missing: str) -> None:
    variables = {"CONTAINERID": "c", "NETNS": sandbox, "IFNAME": "eth0"}
    del variables[missing]
    error = refused(lab.hosts[0], plugin_config("any"), **variables)
    assert error["code"] == 4
    assert f"CNI_{missing}" in str(error["msg"])


@pytest.mark.parametrize(
    ("variables", "name"),
    [
        ({"CONTAINERID": "../../etc"}, "CNI_CONTAINERID"),
        ({"IFNAME": "a/b"}, "CNI_IFNAME"),
        ({"IFNAME": "sixteen-letters-"}, "CNI_IFNAME"),
        ({"ARGS": "IP=10.0.0.256"}, "CNI_ARGS.IP"),
    ],
)
def test_a_malformed_variable_is_named(lab: Lab, sandbox: str, variables: dict[str, str], name: str) -> None:
    error = refused(
        lab.hosts[0], plugin_config("any"), **({"CONTAINERID": "c", "NETNS": sandbox, "IFNAME": "eth0"} | variables)
    )
    assert error["code"] == 4
    assert name in str(error["msg"])


@pytest.mark.parametrize(
    ("config", "code", "word"),
    [
        ("", 6, "JSON"),
        ("{", 6, "JSON"),
        ("[1]", 6, "object"),
        ("[" * 100_000, 6, ""),
        ('{"cniVersion": "1.0.0"}', 7, "name"),
        ('{"cniVersion": "1.0.0", "name": "../up"}', 7, "name"),
        ('{"cniVersion": "1.0.0", "name": 7}', 7, "name"),
        ('{"cniVersion": "9.9.9", "name": "any"}', 1, "9.9.9"),
        ('{"cniVersion": 1, "name": "any"}', 7, "cniVersion"),
    ],
)
def test_a_malformed_config_is_refused(lab: Lab, sandbox: str, config: str, code: int, word: str) -> None:
    error = refused(lab.hosts[0], config, CONTAINERID="c", NETNS=sandbox, IFNAME="eth0")
    assert error["code"] == code
    assert word in str(error["msg"])


@pytest.mark.parametrize("path", ["/run/netns/there-is-none", "/etc/passwd", "/proc/self/ns/net"])
def test_a_namespace_that_cannot_be_attached_is_refused(lab: Lab, new_network: NewNetwork, path: str) -> None:
    network = new_network()
    host = lab.hosts[0]
    host.attach(f"{network}-first", network)
    error = refused(host, plugin_config(network), CONTAINERID="c", NETNS=path, IFNAME="eth0")
    assert error["code"] == 8
    assert path in str(error["msg"])


def test_an_unknown_network_is_refused(lab: Lab, sandbox: str) -> None:
    error = refused(lab.hosts[0], plugin_config("unheard-of"), CONTAINERID="c", NETNS=sandbox, IFNAME="eth0")
    assert error["code"] == 7
    assert "unheard-of" in str(error["msg"])


def test_an_interface_that_exists_is_refused_and_stays_as_it_is(lab: Lab, new_network: NewNetwork) -> None:
    network = new_network()
    host = lab.hosts[0]
    first = host.attach(f"{network}-first", network)
    error = refused(host, plugin_config(network), CONTAINERID=first.name, NETNS=first.sandbox, IFNAME="eth0")
    assert error["code"] == 4
    other = refused(host, plugin_config(network), CONTAINERID="other", NETNS=first.sandbox, IFNAME="eth0")
    assert other["code"] == 4
    assert "CNI_IFNAME" in str(other["msg"])
    assert first.ping(first.address) is not None


def test_a_second_network_with_the_same_range_in_one_sandbox_is_refused(lab: Lab, new_network: NewNetwork) -> None:
    one, two = (new_network(cidr="10.78.0.0/16") for _ in range(2))
    host = lab.hosts[0]
    host.attach(f"{two}-first", two)
    first = host.attach(f"{one}-first", one)
    error = refused(host, plugin_config(two), CONTAINERID=first.name, NETNS=first.sandbox, IFNAME="eth1")
    assert error["code"] == 7
    assert one in str(error["msg"])


def test_a_full_network_refuses_and_a_freed_address_rests_until_asked_for(lab: Lab, new_network: NewNetwork) -> None:
    network = new_network("--block-length", "29", cidr="10.79.0.0/29")
    host, other = lab.hosts
    containers = [host.attach(f"{network}-{n}", network) for n in range(5)]
    host.add_sandbox(f"{network}-late")
    late = {"CONTAINERID": f"{network}-late", "NETNS": f"/run/netns/{network}-late", "IFNAME": "eth0"}
    error = refused(host, plugin_config(network), **late)
    assert error["code"] == 101
    assert network in str(error["msg"]) or "10.79.0.0/29" in str(error["msg"])
    other.add_sandbox(f"{network}-other")
    elsewhere = refused(
        other, plugin_config(network), CONTAINERID="x", NETNS=f"/run/netns/{network}-other", IFNAME="eth0"
    )
    assert elsewhere["code"] == 101

    host.detach(containers[2])
    error = refused(host, plugin_config(network), **late)
    assert error["code"] == 101
    assert "of this host's own addresses 1 rest" in str(error["msg"])
    wanted = f"IgnoreUnknown=1;IP={containers[2].address}"
    assert host.attach(f"{network}-late", network, arguments=wanted).address == containers[2].address


def test_a_host_grows_past_its_first_block(lab: Lab, new_network: NewNetwork) -> None:
    network = new_network("--block-length", "29", cidr="10.80.0.0/27")
    host, other = lab.hosts
    containers = [host.attach(f"{network}-{n}", network) for n in range(8)]
    remote = other.attach(f"{network}-remote", network)
    assert len({container.address for container in containers}) == 8
    lab.in_force(*containers, remote)
    assert [remote.ping(container.address) is not None for container in containers] == [True] * 8


def test_an_address_can_be_asked_for(lab: Lab, new_network: NewNetwork, sandbox: str) -> None:
    network = new_network(cidr="10.81.0.0/16")
    host = lab.hosts[0]
    asked = host.attach(f"{network}-asked", network, arguments="IgnoreUnknown=1;IP=10.81.0.9;MAC=02:00:00:00:00:99")
    assert str(asked.address) == "10.81.0.9"
    for address in ("10.81.0.9", "10.81.0.1", "10.82.0.1"):
        error = refused(
            host, plugin_config(network), CONTAINERID="x", NETNS=sandbox, IFNAME="eth0", ARGS=f"IP={address}"
        )
        assert address in str(error["msg"])


@pytest.mark.parametrize(
    ("options", "field"),
    [
        (["--range", "10.0.0.0/99"], "pools[0].range"),
        (["--range", "10.0.0.1/16"], "pools[0].range"),
        (["--range", "10.0.0.0/24", "--block-length", "16"], "pools[0].block_length"),
        (["--range", "10.0.0.0/16", "--vni", "0"], "vni"),
        (["--range", "10.0.0.0/16", "--vni", "16777216"], "vni"),
    ],
)
def test_a_bad_network_is_refused_with_the_field(lab: Lab, options: list[str], field: str) -> None:
    before = lab.overlayctl("network", "list", "--json")
    with pytest.raises(CommandFailed) as refusal:
        lab.overlayctl("network", "create", "bad", *options)
    assert field in str(refusal.value)
    assert "Traceback" not in str(refusal.value)
    assert lab.overlayctl("network", "list", "--json") == before


def test_a_taken_name_and_a_taken_vni_are_refused(lab: Lab, new_network: NewNetwork) -> None:
    network = new_network("--vni", "4711")
    with pytest.raises(CommandFailed, match="name"):
        lab.overlayctl("network", "create", network, "--range", "10.0.0.0/16")
    with pytest.raises(CommandFailed, match=f"vni.*{network}"):
        lab.overlayctl("network", "create", "other", "--range", "10.0.0.0/16", "--vni", "4711")


def test_a_network_in_use_stays_and_goes_when_the_last_container_has_left(lab: Lab, new_network: NewNetwork) -> None:
    network = new_network()
    containers = lab.attach_everywhere(network)
    with pytest.raises(CommandFailed, match="2 endpoints"):
        lab.overlayctl("network", "delete", network)

    for container in containers:
        container.host.detach(container)
    lab.delete_network(network)

    def gone() -> bool:
        names = {item["name"] for item in json.loads(lab.overlayctl("network", "list", "--json"))}
        return network not in names and all(f"ov-{network}" not in host.run("ip", "netns") for host in lab.hosts)

    eventually(gone, f"network {network} is gone from the controller and every host")
