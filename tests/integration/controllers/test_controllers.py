"""Several controllers on one etcd: whatever of them goes, traffic goes on, and agents find one that works."""

import json
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support.controllers.etcd import EtcdCluster
from tests.support.controllers.processes import ControllerProcess
from tests.support.lab.lab import CommandFailed, Container, Lab, LabHost, plugin_config
from tests.support.lab.processes import eventually
from tests.support.packets.ping_stream import Pinging

_numbers = count(1)

SLOW = 60.0
"""Seconds: a frozen controller is noticed after 8, and this machine may be busy."""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Two hosts that know three controllers on an etcd cluster of three nodes; each test leaves all of them running."""
    with ExitStack() as stack:
        made = stack.enter_context(Lab(tmp_path_factory.mktemp("lab"), hosts=2))
        made.start_controllers(*[stack.enter_context(etcd_in(made)).url] * 3)
        for host in made.hosts:
            host.start_agent()
        yield made


def etcd_in(lab: Lab) -> EtcdCluster:
    return EtcdCluster(3, inside=Path(f"/proc/{lab.underlay.pid.number}/ns/net"))


@pytest.fixture
def pair(lab: Lab) -> Iterator[tuple[Container, Container]]:
    """A container on each host, in a network of their own."""
    name = new_network(lab)
    made = [host.attach(f"{name}-{host.name}", name) for host in lab.hosts]
    lab.in_force(*made)
    yield made[0], made[1]
    for container in made:
        container.host.detach(container)


def new_network(lab: Lab) -> str:
    number = next(_numbers)
    lab.overlayctl("network", "create", f"net{number}", "--range", f"10.{100 + number}.0.0/16")
    return f"net{number}"


def followed(lab: Lab, host: LabHost) -> ControllerProcess:
    """Return the controller that a host's feed comes from."""
    status = host.agent_status() or {}
    return next(each for each in lab.controllers if each.url == status["controller"])


def is_in_sync(host: LabHost) -> bool:
    return bool((host.agent_status() or {})["in_sync"])


def changed_over(lab: Lab, host: LabHost, before: ControllerProcess) -> bool:
    return is_in_sync(host) and followed(lab, host) is not before


def connected(lab: Lab) -> set[str]:
    return {host["name"] for host in json.loads(lab.overlayctl("host", "list", "--json")) if host["connected"]}


def kill(controller: ControllerProcess) -> None:
    controller.stop(signal.SIGKILL)


Act = Callable[[ControllerProcess], None]
WAYS: dict[str, tuple[Act, Act]] = {
    "stopped": (ControllerProcess.stop, ControllerProcess.start),
    "killed": (kill, ControllerProcess.start),
    "frozen": (ControllerProcess.freeze, ControllerProcess.thaw),
    "cut off": (ControllerProcess.cut_off, ControllerProcess.join_again),
}


@pytest.mark.parametrize("way", WAYS)
def test_agents_change_over_when_their_controller_goes(
    lab: Lab, pair: tuple[Container, Container], tmp_path: Path, way: str
) -> None:
    lose, bring_back = WAYS[way]
    source, destination = pair
    host = source.host
    before = followed(lab, host)
    with Pinging(source, destination.address, tmp_path / "ping") as pinging:
        lose(before)
        late = host.attach(f"late-{way.replace(' ', '-')}", source.network)
        assert late.ping(destination.address) is not None, "attaching waits for no controller"
        eventually(lambda: changed_over(lab, host, before), f"{host.name} has changed over", SLOW)
        network = new_network(lab)
        elsewhere = host.attach(f"{network}-late", network)
        lab.in_force(late, elsewhere)
        eventually(lambda: connected(lab) == {"host1", "host2"}, "both hosts count as connected", SLOW)
        for container in (late, elsewhere):
            assert host.detach(container).status == 0
        pinging.more(50)
        bring_back(before)
        eventually(before.is_ready, f"{before.name} is back", SLOW)
        pinging.more(50)
    assert pinging.lost == set()


def test_without_any_controller_traffic_attach_detach_and_repair_go_on_and_changes_wait(
    lab: Lab, pair: tuple[Container, Container], tmp_path: Path
) -> None:
    source, destination = pair
    host = source.host
    with Pinging(source, destination.address, tmp_path / "ping") as pinging:
        for controller in lab.controllers:
            controller.stop(signal.SIGKILL)
        for each in lab.hosts:
            eventually(lambda: not is_in_sync(each), f"{each.name} notices")  # noqa: B023 - used at once
        late, kept = (host.attach(name, source.network) for name in ("nobody-late", "nobody-kept"))
        assert late.ping(destination.address) is not None
        assert host.detach(late).status == 0
        host.run("ip", "-n", f"ov-{source.network}", "route", "delete", f"{kept.address}/32")
        eventually(lambda: destination.ping(kept.address, wait=0.3) is not None, "the route is repaired")
        host.add_sandbox("nobody-new")
        refused = host.cni(
            "ADD", plugin_config("unheard-of"), CONTAINERID="nobody-new", NETNS="/run/netns/nobody-new", IFNAME="eth0"
        )
        assert refused.json["code"] == 11, "what takes a controller waits"
        pinging.more(50)
        for controller in lab.controllers:
            controller.launch()
        for controller in lab.controllers:
            eventually(partial(controller.is_ready), f"{controller.name} is back", SLOW)
        lab.in_force(source, destination, kept)
        assert late.name not in lab.published(source.network)
        pinging.more(50)
    assert pinging.lost == set()
    host.detach(kept)


def test_a_killed_controller_loses_no_change_and_no_host(lab: Lab) -> None:
    eventually(lambda: not endpoints(lab), "what the tests before this one detached is no longer published")
    before = listed(lab)
    for controller in lab.controllers:
        name = new_network(lab)
        controller.stop(signal.SIGKILL)
        assert json.loads(lab.overlayctl("network", "show", name, "--json"))["name"] == name
        controller.start()
        lab.delete_network(name)
    assert [listed(lab, controller) for controller in lab.controllers] == [before] * 3
    eventually(lambda: connected(lab) == {"host1", "host2"}, "both hosts count as connected", SLOW)


def endpoints(lab: Lab) -> list[object]:
    found: list[object] = lab.controllers[0].request("GET", "/v1/endpoints").json()["items"]
    return found


def listed(lab: Lab, controller: ControllerProcess | None = None) -> list[object]:
    """Return all that a controller knows."""
    asked = controller or lab.controllers[0]
    paths = ("networks", "hosts", "blocks", "endpoints")
    found = [asked.request("GET", f"/v1/{path}").json()["items"] for path in paths]
    heard = {"connected", "applied", "problems"}
    return [[{name: item[name] for name in item.keys() - heard} for item in items] for items in found]


def test_a_request_that_was_given_up_at_a_frozen_controller_is_not_done_when_it_goes_on(lab: Lab) -> None:
    frozen, other = lab.controllers[:2]
    body = json.dumps({"name": "ghost", "pools": [{"range": "10.240.0.0/16"}]})
    head = f"POST /v1/networks HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    address = urlsplit(frozen.api_url)
    frozen.freeze()
    with socket.create_connection((str(address.hostname), address.port or 0)) as given_up:
        given_up.sendall(f"{head}\r\n\r\n{body}".encode())
    assert other.request("POST", "/v1/networks", json.loads(body)).status_code == 201
    assert other.request("DELETE", "/v1/networks/ghost").status_code == 204
    frozen.thaw()
    eventually(frozen.is_ready, f"{frozen.name} goes on", SLOW)
    frozen.stop()  # it answers what it has begun
    assert "ghost" not in {network["name"] for network in other.request("GET", "/v1/networks").json()["items"]}
    frozen.start()


def test_doubles_are_refused_by_every_controller_with_the_reason(lab: Lab) -> None:
    first, second = json.loads(lab.overlayctl("host", "list", "--json"))
    network = new_network(lab)
    vni = json.loads(lab.overlayctl("network", "show", network, "--json"))["vni"]
    stranger = {"name": "stranger", "address": "10.99.0.200", "instance": "i9"}
    for controller in lab.controllers:
        same_id = controller.request("PUT", f"/v1/hosts/{first['id']}", stranger)
        assert (same_id.status_code, same_id.json()["field"]) == (409, "id")
        assert f"connected from {first['address']}" in same_id.json()["detail"]
        same_vtep = controller.request("PUT", "/v1/hosts/stranger", {**stranger, "address": second["address"]})
        assert (same_vtep.status_code, same_vtep.json()["field"]) == (409, "address")
        assert second["id"] in same_vtep.json()["detail"]
        body = {"name": "double", "vni": vni, "pools": [{"range": "10.250.0.0/16"}]}
        same_vni = controller.request("POST", "/v1/networks", body)
        assert (same_vni.status_code, same_vni.json()["field"]) == (409, "vni")
        assert network in same_vni.json()["detail"]
    numbers = [host["number"] for host in json.loads(lab.overlayctl("host", "list", "--json"))]
    assert sorted(numbers) == [1, 2]


def test_a_credential_holds_with_every_controller_of_the_cluster(tmp_path: Path) -> None:
    with ExitStack() as stack:
        lab = stack.enter_context(Lab(tmp_path / "lab", hosts=1, secure=True))
        lab.start_controllers(*[stack.enter_context(etcd_in(lab)).url] * 2)
        (host,) = lab.hosts
        host.start_agent()
        lab.overlayctl("network", "create", "blue", "--range", "10.40.0.0/16")
        for _ in lab.controllers:
            before = followed(lab, host)
            before.stop(signal.SIGKILL)
            eventually(lambda: changed_over(lab, host, before), "the agent has changed over", SLOW)  # noqa: B023
            before.start()
        lab.in_force(host.attach("web", "blue"))


def test_the_agent_of_a_cloned_host_is_refused_and_says_why(tmp_path: Path) -> None:
    with ExitStack() as stack:
        lab = stack.enter_context(Lab(tmp_path / "lab", hosts=2))
        lab.start_controllers(*[stack.enter_context(etcd_in(lab)).url] * 2)
        original, clone = lab.hosts
        original.start_agent()
        identity = original.run("cat", "/var/lib/overlayd/host-id").strip()
        clone.run("mkdir", "-p", "/var/lib/overlayd")
        clone.run("sh", "-c", f"echo {identity} > /var/lib/overlayd/host-id")
        clone.start_agent(wait=False)

        def problems() -> str:
            return json.dumps((clone.agent_status() or {})["problems"])

        eventually(lambda: f"connected from {original.address}" in problems(), "the clone says why it is refused")
        lab.overlayctl("network", "create", "blue", "--range", "10.40.0.0/16")
        original.attach("web", "blue")
        with pytest.raises(CommandFailed, match="blue"):
            clone.attach("web", "blue")
        (host,) = json.loads(lab.overlayctl("host", "list", "--json"))
        assert (host["address"], host["connected"]) == (str(original.address), True)
