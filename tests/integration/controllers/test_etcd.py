"""What hosts and administrators see of faults of etcd: nodes killed or frozen, no quorum, a compaction."""

import json
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path

import httpx
import pytest

from tests.support.controllers.etcd import EtcdCluster
from tests.support.controllers.processes import ControllerProcess
from tests.support.lab.lab import Container, Lab, LabHost
from tests.support.lab.processes import eventually
from tests.support.packets.ping_stream import Pinging

_numbers = count(1)

SLOW = 30.0


@contextmanager
def lab_on_etcd(directory: Path, stores: Callable[[EtcdCluster], list[str]]) -> Iterator[tuple[Lab, EtcdCluster]]:
    """Run two hosts, an etcd cluster of three nodes, and a controller for each of these stores."""
    with ExitStack() as stack:
        lab = stack.enter_context(Lab(directory, hosts=2))
        etcd = stack.enter_context(EtcdCluster(3, inside=Path(f"/proc/{lab.underlay.pid.number}/ns/net")))
        lab.start_controllers(*stores(etcd))
        for host in lab.hosts:
            host.start_agent()
        yield lab, etcd


Running = tuple[Lab, EtcdCluster]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Two controllers that know all nodes; each test leaves everything running."""
    with lab_on_etcd(tmp_path_factory.mktemp("lab"), lambda etcd: [etcd.url] * 2) as made:
        yield made


@pytest.fixture
def pair(running: Running) -> Iterator[tuple[Container, Container]]:
    lab, _ = running
    name = network_names()
    lab.overlayctl("network", "create", name, "--range", "10.40.0.0/16")
    made = [host.attach(f"{name}-{host.name}", name) for host in lab.hosts]
    lab.in_force(*made)
    yield made[0], made[1]
    for container in made:
        container.host.detach(container)


def network_names() -> str:
    return f"net{next(_numbers)}"


def create(controller: ControllerProcess, name: str) -> httpx.Response:
    return controller.request("POST", "/v1/networks", {"name": name, "pools": [{"range": "10.41.0.0/16"}]})


def created(controller: ControllerProcess, name: str) -> bool:
    """Ask once for a network; tell whether it is there. A 503 names a time after which to ask again."""
    answer = create(controller, name)
    if answer.status_code == 503:
        assert answer.headers["Retry-After"]
        return False
    assert answer.status_code == 201 or answer.json()["field"] == "name", answer.text
    return True


def names(controller: ControllerProcess) -> set[str]:
    return {network["name"] for network in controller.request("GET", "/v1/networks").json()["items"]}


def status_of(host: LabHost) -> dict[str, object]:
    status = host.agent_status()
    assert status is not None
    return status


def followed(host: LabHost) -> object:
    return status_of(host)["controller"]


@pytest.mark.parametrize("fault", ["killed", "frozen"])
@pytest.mark.parametrize("node", range(3))
def test_reads_and_writes_go_on_without_any_one_node(
    running: Running, pair: tuple[Container, Container], tmp_path: Path, node: int, fault: str
) -> None:
    lab, etcd = running
    made = [network_names() for _ in range(4)]
    with Pinging(pair[0], pair[1].address, tmp_path / "ping") as pinging:
        (etcd.kill if fault == "killed" else etcd.freeze)(node)
        for index, name in enumerate(made):
            controller = lab.controllers[index % 2]
            eventually(lambda: created(controller, name), f"{name} is made", SLOW)  # noqa: B023 - used at once
        late = pair[0].host.attach(f"late-{node}-{fault}", made[-1])
        lab.in_force(late)
        (etcd.launch if fault == "killed" else etcd.thaw)(node)
        etcd.await_health()
        pinging.more(50)
    assert pinging.lost == set()
    for controller in lab.controllers:
        eventually(lambda: set(made) <= names(controller), "both controllers know them", SLOW)  # noqa: B023
    pair[0].host.detach(late)


def test_without_quorum_changes_are_refused_for_now_and_hosts_stay_where_they_are(
    running: Running, pair: tuple[Container, Container], tmp_path: Path
) -> None:
    lab, etcd = running
    source, destination = pair
    before = {host.name: followed(host) for host in lab.hosts}
    doubtful = network_names()
    with Pinging(source, destination.address, tmp_path / "ping") as pinging:
        for node in (1, 2):
            etcd.kill(node)
        refused = create(lab.controllers[0], doubtful)
        assert (refused.status_code, refused.json()["code"]) == (503, "unavailable")
        assert int(refused.headers["Retry-After"]) >= 1
        for controller in lab.controllers:
            eventually(lambda: not controller.is_ready(), f"{controller.name} is not ready", SLOW)  # noqa: B023
            assert source.network in names(controller), "what is known can be read"
        late = source.host.attach("late-quorum", source.network)
        assert destination.ping(late.address) is not None
        for controller in lab.controllers:
            eventually(lambda: "cannot follow the store" in log_of(controller), f"{controller.name} notices", SLOW)  # noqa: B023
        for _ in range(3):
            pinging.more(1500)  # more than a bookmark's interval, in which a host hears it and looks for another one
        assert {host.name: followed(host) for host in lab.hosts} == before, "no other controller is any better"
        assert all(status_of(host)["in_sync"] for host in lab.hosts)
        for node in (1, 2):
            etcd.launch(node)
        etcd.await_health()
        for controller in lab.controllers:
            eventually(controller.is_ready, f"{controller.name} is ready", SLOW)
        eventually(lambda: created(lab.controllers[1], doubtful), "the change is made", SLOW)
        lab.in_force(source, destination, late)
        pinging.more(50)
    assert pinging.lost == set()
    listed = json.loads(lab.overlayctl("network", "list", "--json"))
    assert [network["name"] for network in listed].count(doubtful) == 1
    source.host.detach(late)


def log_of(controller: ControllerProcess) -> str:
    assert controller.process is not None
    return controller.process.output


def test_a_controller_that_slept_through_a_compaction_knows_everything_afterwards(
    running: Running, pair: tuple[Container, Container], tmp_path: Path
) -> None:
    lab, etcd = running
    sleeper, awake = lab.controllers
    gone, made = network_names(), network_names()
    create(awake, gone)
    with Pinging(pair[0], pair[1].address, tmp_path / "ping") as pinging:
        sleeper.freeze()
        assert create(awake, made).status_code == 201
        assert awake.request("DELETE", f"/v1/networks/{gone}").status_code == 204
        revision = etcd.post("/v3/kv/range", {"key": "AA=="})["header"]
        assert isinstance(revision, dict)
        etcd.post("/v3/kv/compaction", {"revision": str(revision["revision"])})
        sleeper.thaw()
        eventually(lambda: names(sleeper) == names(awake), "it knows what was made and what went", SLOW)
        assert made in names(sleeper)
        for host in lab.hosts:
            eventually(lambda: status_of(host)["in_sync"], f"{host.name} is in sync", SLOW)  # noqa: B023
        late = [host.attach("late-compacted", made) for host in lab.hosts]
        lab.in_force(*pair, *late)
        assert late[0].ping(late[1].address) is not None
        pinging.more(50)
    assert pinging.lost == set()
    for container in late:
        container.host.detach(container)


def test_agents_leave_a_controller_that_is_cut_off_from_etcd(tmp_path: Path) -> None:
    def stores(etcd: EtcdCluster) -> list[str]:
        return [etcd.url_of(0, 1), etcd.url_of(2)]

    with lab_on_etcd(tmp_path / "lab", stores) as (lab, etcd):
        whole, lonely = lab.controllers
        lab.overlayctl("network", "create", "blue", "--range", "10.40.0.0/16")
        here, there = (host.attach(f"web-{host.name}", "blue") for host in lab.hosts)
        lab.in_force(here, there)
        whole.stop(signal.SIGKILL)
        for host in lab.hosts:
            eventually(lambda: status_of(host)["in_sync"] and followed(host) == lonely.url, "all follow one", SLOW)  # noqa: B023
        whole.start()
        with Pinging(here, there.address, tmp_path / "ping") as pinging:
            etcd.kill(2)
            for host in lab.hosts:
                eventually(lambda: followed(host) == whole.url, f"{host.name} has left it", SLOW)  # noqa: B023
            late = here.host.attach("late", "blue")
            lab.in_force(here, there, late)
            pinging.more(50)
        assert pinging.lost == set()
