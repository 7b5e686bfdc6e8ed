"""The CNI contract through the real executable: results of every version, CHECK, VERSION, errors."""

import json
from itertools import count

import pytest

from tests.integration.conftest import NewNetwork
from tests.support.lab.lab import Container, Executed, Lab, LabHost, plugin_config
from tests.support.lab.processes import eventually

ANNOTATIONS = "io.kubernetes.cri.pod-annotations"
_numbers = count(1)

PLUGINS = "/usr/lib/cni"
"""Where Debian has those of the CNI project."""

VERSIONS = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("topology", ["routed", "switched"])
def test_the_result_tells_what_the_kernel_has(lab: Lab, new_network: NewNetwork, version: str, topology: str) -> None:
    network = new_network("--topology", topology)
    container = lab.hosts[0].attach(f"{network}-c", network, version=version)
    (link,) = json.loads(container.run("ip", "-j", "-d", "address", "show", "dev", "eth0"))
    (address,) = [a for a in link["addr_info"] if a["family"] == "inet"]
    (way_out,) = [r["gateway"] for r in routes(container) if r["dst"] == "default"]
    number = json.loads(lab.overlayctl("network", "show", network, "--json"))["gateway_number"]
    assert topology != "routed" or way_out == f"169.254.1.{number}"
    interface = {"name": "eth0", "mac": link["address"], "sandbox": container.sandbox}
    assert container.result == {
        "cniVersion": version,
        "interfaces": [interface | ({"mtu": link["mtu"]} if version == "1.1.0" else {})],
        "ips": [
            {
                **({"version": "4"} if version < "1.0.0" else {}),
                "interface": 0,
                "address": f"{address['local']}/{address['prefixlen']}",
                "gateway": way_out,
            }
        ],
        "routes": [
            {"dst": "0.0.0.0/0" if r["dst"] == "default" else r["dst"], "gw": r["gateway"]}
            for r in reversed(routes(container))
            if "gateway" in r
        ],
        "dns": {},
    }


def routes(container: Container) -> list[dict[str, str]]:
    found = json.loads(container.run("ip", "-j", "route"))
    assert isinstance(found, list)
    return found


def test_version_needs_no_agent_and_no_config(lab: Lab) -> None:
    done = lab.hosts[0].cni("VERSION", "")
    assert done.status == 0
    assert done.json == {"cniVersion": "1.1.0", "supportedVersions": ["0.1.0", "0.2.0", *VERSIONS]}


def check(container: Container, version: str = "1.0.0", **changed: object) -> Executed:
    config = plugin_config(container.network, version, prevResult={**container.result, **changed})
    return container.host.cni(
        "CHECK", config, CONTAINERID=container.name, NETNS=container.sandbox, IFNAME=container.interface
    )


@pytest.mark.parametrize("topology", ["routed", "switched"])
def test_check_is_silent_while_all_is_well(lab: Lab, new_network: NewNetwork, topology: str) -> None:
    network = new_network("--topology", topology)
    container = lab.hosts[0].attach(f"{network}-c", network)
    done = check(container)
    assert (done.status, done.stdout, done.stderr) == (0, "", "")
    container.run("ip", "address", "add", "192.0.2.7/32", "dev", "eth0")
    assert check(container).status == 0, "what others add is theirs"
    container.run("ip", "link", "set", "eth0", "mtu", "1400")
    assert check(container).status == 0, "a plugin after us may have set a smaller MTU"


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (["ip", "address", "flush", "dev", "eth0"], "Address"),
        (["ip", "link", "set", "eth0", "down"], "eth0"),
        (["ip", "link", "set", "eth0", "mtu", "1500"], "mtu 1450"),
        (["ip", "neighbour", "flush", "nud", "permanent", "dev", "eth0"], "169.254.1."),
    ],
)
def test_check_names_what_is_different_in_the_container(
    lab: Lab, new_network: NewNetwork, spoil: list[str], named: str
) -> None:
    network = new_network()
    container = lab.hosts[0].attach(f"{network}-c", network)
    container.run(*spoil)
    done = check(container)
    assert (done.status, done.json["code"]) == (1, 102)
    assert named.lower() in (str(done.json["msg"]) + str(done.json.get("details"))).lower()


@pytest.mark.parametrize(
    ("topology", "plugin"),
    [
        ("routed", {"type": "tuning", "mtu": 1300}),
        ("switched", {"type": "tuning", "promisc": True, "allmulti": True, "txQLen": 500}),
        ("routed", {"type": "tuning", "sysctl": {"net.ipv6.conf.eth0.accept_ra": "2"}}),
        ("switched", {"type": "sbr"}),  # which moves routes to a table of its own
    ],
    ids=["mtu", "flags", "sysctl", "routes"],
)
@pytest.mark.parametrize("version", ["1.0.0", "1.1.0"])
def test_check_lets_debians_plugins_behind_ours_change_what_they_are_for(
    lab: Lab, new_network: NewNetwork, topology: str, plugin: dict[str, object], version: str
) -> None:
    network = new_network("--topology", topology)
    container = lab.hosts[0].attach(f"{network}-c", network, version=version)
    after = behind(container, plugin)
    # A plugin of version 1.1.0 passes our interface on as it is, with the MTU that it had.
    done = check(container, version, interfaces=(after if version == "1.0.0" else container.result)["interfaces"])
    assert (done.status, done.stdout) == (0, "")


def behind(container: Container, plugin: dict[str, object]) -> dict[str, object]:
    """Run ADD of another plugin behind ours, in the last version that Debian's know; return its result."""
    before = {**container.result, "cniVersion": "1.0.0"}
    config = {"cniVersion": "1.0.0", "name": container.network, **plugin, "prevResult": before}
    variables = {"CONTAINERID": container.name, "NETNS": container.sandbox, "IFNAME": container.interface}
    environment = {f"CNI_{name}": value for name, value in {"COMMAND": "ADD", "PATH": PLUGINS, **variables}.items()}
    done = container.host.execute([f"{PLUGINS}/{plugin['type']}"], environment, json.dumps(config))
    assert done.returncode == 0, done.stdout
    found = json.loads(done.stdout)
    assert isinstance(found, dict)
    return found


def test_check_says_that_a_plugins_mac_cuts_the_container_off(lab: Lab, new_network: NewNetwork) -> None:
    network = new_network()
    container, peer = (lab.hosts[0].attach(f"{network}-{name}", network) for name in ("c", "peer"))
    lab.in_force(container, peer)
    assert peer.ping(container.address) is not None
    after = behind(container, {"type": "tuning", "mac": "02:00:00:00:00:77"})
    assert peer.ping(container.address, wait=0.3) is None
    done = check(container, interfaces=after["interfaces"])
    assert (done.status, done.json["code"]) == (1, 102)
    assert "eth0 has the MAC address 02:00:00:00:00:77" in str(done.json["msg"])


def test_check_looks_at_ports_and_limits(lab: Lab, new_network: NewNetwork) -> None:
    network = new_network()
    wishes = {
        "portMappings": [{"hostPort": 8089, "containerPort": 80, "protocol": "tcp"}],
        "bandwidth": {"egressRate": 8_000_000, "egressBurst": 800_000},
    }
    container = lab.hosts[0].attach(f"{network}-c", network, runtimeConfig=wishes)
    assert check(container).status == 0
    container.run("tc", "qdisc", "delete", "dev", "eth0", "root")
    done = check(container)
    assert (done.status, done.json["code"]) == (1, 102)
    assert "tbf rate 8000" in str(done.json["msg"])


def test_check_refuses_what_was_never_attached_and_what_the_record_contradicts(
    lab: Lab, new_network: NewNetwork
) -> None:
    network = new_network()
    container = lab.hosts[0].attach(f"{network}-c", network)
    other = check(container, ips=[{"address": "10.9.9.9/32"}])
    assert (other.status, other.json["code"]) == (1, 102)
    assert str(container.address) in str(other.json["msg"])
    assert check(container, version="0.3.1").json["code"] == 1, "CHECK came with 0.4.0"
    lab.hosts[0].detach(container)
    gone = check(container)
    assert (gone.status, gone.json["code"]) == (1, 3)


def test_dns_of_the_config_is_passed_on(lab: Lab, new_network: NewNetwork) -> None:
    network = new_network()
    host = lab.hosts[0]
    sandbox = host.add_sandbox(f"{network}-dns")
    dns = {"nameservers": ["192.0.2.53"], "search": ["example.org"]}
    done = host.cni("ADD", plugin_config(network, dns=dns), CONTAINERID="dns", NETNS=sandbox, IFNAME="eth0")
    assert done.json["dns"] == dns


def test_a_collection_takes_what_its_config_attached_and_the_runtime_no_longer_knows(
    lab: Lab, new_network: NewNetwork
) -> None:
    network = new_network()
    host, elsewhere = lab.hosts
    kept, gone = (host.attach(f"{network}-{name}", network) for name in ("kept", "gone"))
    other = {"CONTAINERID": "other", "NETNS": host.add_sandbox(f"{network}-other"), "IFNAME": "eth0"}
    config = {**plugin_config(network), "name": f"podman-{network}", "network": network}
    added = host.cni("ADD", config, **other)
    remote = elsewhere.attach(f"{network}-remote", network)
    valid = [{"containerID": kept.name, "ifname": "eth0"}]
    config = plugin_config(network, "1.1.0", **{"cni.dev/valid-attachments": valid})
    assert host.cni("GC", config) == Executed(0, "", "")
    assert "eth0" not in gone.run("ip", "link")
    assert check(gone).json["code"] == 3, "nothing of it has to be cleaned up any more"
    assert [check(each).status for each in (kept, remote)] == [0, 0]
    assert host.cni("CHECK", {**config, "prevResult": added.json}, **other).status == 0


def test_a_collection_may_list_ten_thousand_containers(lab: Lab, new_network: NewNetwork) -> None:
    network, host = new_network(), lab.hosts[0]
    kept, gone = (host.attach(f"{network}-{name}", network) for name in ("kept", "gone"))
    names = [kept.name, *(f"{number:064x}" for number in range(10_000))]
    valid = [{"containerID": name, "ifname": "eth0"} for name in names]
    assert host.cni("GC", plugin_config(network, "1.1.0", **{"cni.dev/valid-attachments": valid})) == Executed(
        0, "", ""
    )
    assert (check(kept).status, check(gone).json["code"]) == (0, 3)


def test_a_status_tells_whether_an_attachment_could_succeed(lab: Lab, new_network: NewNetwork) -> None:
    network = new_network()
    host = lab.hosts[0]
    assert host.cni("STATUS", plugin_config(network, "1.1.0")) == Executed(0, "", "")
    assert host.cni("STATUS", plugin_config("nowhere", "1.1.0")).json["code"] == 50
    assert host.cni("STATUS", plugin_config(network, "1.0.0")).json["code"] == 1


def test_sixteen_at_once_get_sixteen_addresses(lab: Lab, new_network: NewNetwork) -> None:
    network = new_network()
    host = lab.hosts[0]
    names = [f"{network}-{n}" for n in range(16)]
    for name in names:
        host.add_sandbox(name)
    one = "CNI_CONTAINERID=$c CNI_NETNS=/run/netns/$c /opt/cni/bin/overlayd"
    attach = f"for c in {' '.join(names)}; do {one} <$0 & done; wait"
    config = host.directory / "config.json"
    config.write_text(json.dumps(plugin_config(network)))
    environment = {"CNI_COMMAND": "ADD", "CNI_IFNAME": "eth0", "CNI_PATH": "/opt/cni/bin", "PATH": "/usr/bin:/bin"}
    done = host.execute(["sh", "-c", attach, str(config)], environment)
    assert done.stdout.count('"ips"') == 16, done.stdout + done.stderr
    addresses = {host.run("ip", "-n", name, "-o", "-4", "address", "show", "dev", "eth0").split()[3] for name in names}
    assert len(addresses) == 16


def add(host: LabHost, name: str, config: dict[str, object], interface: str = "eth0", arguments: str = "") -> Executed:
    """ADD a sandbox of this name, which is made if it is missing."""
    if name not in host.run("ip", "netns", "list").split():
        host.add_sandbox(name)
    return host.cni("ADD", config, CONTAINERID=name, NETNS=f"/run/netns/{name}", IFNAME=interface, ARGS=arguments)


def test_a_network_is_in_a_container_once(lab: Lab, new_network: NewNetwork) -> None:
    network = new_network()
    container = lab.hosts[0].attach(f"{network}-c", network)
    again = add(lab.hosts[0], container.name, plugin_config(network), "eth1")
    assert (again.status, again.json["code"]) == (1, 7)
    assert again.json["msg"] == f"name: the container is in network {network} by eth0, and can be there once"
    config = {**plugin_config(network), "name": "other", "network": network}
    other = add(lab.hosts[0], container.name, config, "eth1")
    assert other.json["msg"] == f"network: the container is in network {network} by eth0, and can be there once"
    assert check(container).status == 0


def test_a_sandbox_that_has_the_number_of_a_dead_one_is_another_one(lab: Lab, new_network: NewNetwork) -> None:
    network, host = new_network(), lab.hosts[0]
    numbers_of_dead: set[str] = set()

    def got_the_number_of_a_dead_one() -> bool:
        # Whatever else makes namespaces on the machine may get the number first: so there is one more dead sandbox each
        # time. Each has an interface of another name, because the kernel itself refuses a name that the sandbox has.
        turn = next(_numbers)
        container = host.attach(f"{network}-{turn}", network, f"eth{turn}")
        number = host.run("stat", "-L", "-c", "%i", container.sandbox)
        if number in numbers_of_dead:
            return True
        numbers_of_dead.add(number)
        host.remove_sandbox(container.name)
        return False

    assert eventually(got_the_number_of_a_dead_one, "the kernel gives the number of a dead sandbox to a new one")


@pytest.mark.parametrize(
    ("more", "code", "field"),
    [
        ({"runtimeConfig": {"ips": ["192.0.2.7/24"]}}, 7, "runtimeConfig.ips: "),
        ({"args": {"cni": {"ips": ["192.0.2.7"]}}}, 7, "args.cni.ips: "),
        ({"runtimeConfig": {ANNOTATIONS: {"overlayd/ips": "192.0.2.7"}}}, 7, f"runtimeConfig.{ANNOTATIONS}.over"),
        ({"args": {"overlayd": {"reservation": "none"}}}, 7, "args.overlayd.reservation: "),
        ({"network": "nowhere"}, 7, "network: "),
    ],
)
def test_what_cannot_be_had_names_the_field_that_asked_for_it(
    lab: Lab, new_network: NewNetwork, more: dict[str, object], code: int, field: str
) -> None:
    network = new_network()
    done = add(lab.hosts[0], f"{network}-c", {**plugin_config(network), **more})
    assert (done.status, done.json["code"]) == (1, code)
    assert str(done.json["msg"]).startswith(field)


def test_a_variable_that_asks_for_what_cannot_be_had_is_named(lab: Lab, new_network: NewNetwork) -> None:
    network = new_network()
    done = add(lab.hosts[0], f"{network}-c", plugin_config(network), arguments="IP=192.0.2.7")
    assert (done.status, done.json["code"]) == (1, 4)
    assert str(done.json["msg"]).startswith("CNI_ARGS.IP: 192.0.2.7 is in no block")


def test_a_port_of_a_dead_container_is_free_at_once(lab: Lab, new_network: NewNetwork) -> None:
    network, host = new_network(), lab.hosts[0]
    wishes = {"portMappings": [{"hostPort": 8091, "containerPort": 80, "protocol": "tcp"}]}
    dead = host.attach(f"{network}-dead", network, runtimeConfig=wishes)
    taken = add(host, f"{network}-early", plugin_config(network, runtimeConfig=wishes))
    assert (taken.json["code"], dead.name in str(taken.json["msg"])) == (7, True)
    host.remove_sandbox(dead.name)
    late = host.attach(f"{network}-late", network, runtimeConfig=wishes)
    assert check(late).status == 0
    assert check(dead).json["code"] == 3


def test_a_deletion_finds_what_its_config_attached_to_another_network(lab: Lab, new_network: NewNetwork) -> None:
    before, after, host = new_network(), new_network(), lab.hosts[0]
    config = {**plugin_config(before), "name": "pods", "network": before}
    variables = {"CONTAINERID": f"{before}-c", "NETNS": f"/run/netns/{before}-c", "IFNAME": "eth0"}
    assert add(host, f"{before}-c", config).status == 0
    other = {**config, "name": "theirs", "network": after}
    assert host.cni("DEL", other, **variables) == Executed(0, "", "")
    assert "eth0" in host.run("ip", "-n", f"{before}-c", "link"), "another config has not attached it"
    assert host.cni("DEL", {**config, "network": after}, **variables) == Executed(0, "", "")
    assert "eth0" not in host.run("ip", "-n", f"{before}-c", "link")
    assert add(host, f"{before}-c", {**config, "network": after}).status == 0
