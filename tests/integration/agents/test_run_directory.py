"""`rm -rf /run/overlayd` under running containers: the agent writes it again, and a new agent recovers what it can."""

import contextlib
import shutil
import signal
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from tests.support.lab.lab import Container, Lab, LabHost
from tests.support.lab.processes import Forked, eventually

pytestmark = pytest.mark.usefixtures("root")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """One host with a network of each kind."""
    with Lab(tmp_path_factory.mktemp("lab"), hosts=1) as made:
        made.start_controller()
        made.overlayctl("network", "create", "blue", "--range", "10.32.0.0/24", "--block-length", "28")
        made.overlayctl("network", "create", "green", "--range", "10.33.0.0/24", "--topology", "switched")
        made.hosts[0].start_agent()
        yield made


@pytest.fixture
def host(lab: Lab) -> LabHost:
    return lab.hosts[0]


def run_directory(host: LabHost) -> Path:
    """Return where this machine sees the agent's directory."""
    return Path(f"/proc/{host.pid}/root/run/overlayd")


def indexes(container: Container) -> str:
    """Return what changes when an interface is made again."""
    return container.run("cat", f"/sys/class/net/{container.interface}/ifindex", "/proc/sys/kernel/random/boot_id")


def all_reach(containers: list[Container]) -> bool:
    return all(one.ping(other.address) is not None for one, other in pairwise(containers))


def attach_some(host: LabHost, name: str) -> list[Container]:
    return [
        *(host.attach(f"{name}{number}", "blue") for number in range(3)),
        *(host.attach(f"{name}{number}", "green") for number in range(3, 5)),
    ]


def reach_each_other(containers: list[Container]) -> bool:
    """Tell whether the containers of each network reach each other."""
    return all_reach([each for each in containers if each.network == "blue"]) and all_reach(
        [each for each in containers if each.network == "green"]
    )


def are_copied(containers: list[Container], copies: Path) -> bool:
    """Tell whether there is a copy of each container's record: those of containers that went are removed later."""
    written = ""
    for path in copies.glob("*.json"):
        with contextlib.suppress(FileNotFoundError):
            written += path.read_text()
    return all(f'"{each.name}"' in written for each in containers)


def nothing_is_wrong(host: LabHost) -> Callable[[], bool]:
    def look() -> bool:
        status = host.agent_status()
        return status is not None and status["problems"] == [] and bool(status["in_sync"])

    return look


def test_under_a_running_agent_it_is_written_again(lab: Lab, host: LabHost) -> None:
    containers = attach_some(host, "a")
    before = [indexes(each) for each in containers]
    shutil.rmtree(run_directory(host))
    # No second agent starts beside it, not even in the moment in which its directory is gone.
    command = ["run", "--name", "second", "--controller", lab.urls[0]]
    second = Forked(["overlayd", *command], lab.directory / "second.log", host.place)
    assert second.wait() != 0
    assert "another overlayd runs on this host" in second.output
    eventually(nothing_is_wrong(host), "the agent answers again")
    assert len([*(run_directory(host) / "attachments").glob("*.json")]) == len(containers)

    later = host.attach("later", "blue")
    assert later.address not in {each.address for each in containers}
    assert reach_each_other([*containers, later])
    host.stop_agent()
    host.start_agent()
    eventually(nothing_is_wrong(host), "the next agent finds all as it was")
    assert [indexes(each) for each in containers] == before
    for each in (*containers, later):
        assert host.detach(each).status == 0


def test_while_no_agent_runs_it_is_recovered(host: LabHost) -> None:
    containers = attach_some(host, "b")
    ports: dict[str, object] = {"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]}
    published = host.attach("published", "blue", capabilities={"portMappings": True}, runtimeConfig=ports)
    containers.insert(0, published)
    before = [indexes(each) for each in containers]
    copies = Path(f"/proc/{host.pid}/root/var/lib/overlayd/attachments")
    eventually(lambda: are_copied(containers, copies), "there are copies of the records")
    host.stop_agent(signal.SIGKILL)
    shutil.rmtree(run_directory(host))
    queued = host.detach(containers.pop())  # a launcher creates the directory again, for a queued DEL
    assert queued.status == 0
    host.start_agent()
    eventually(nothing_is_wrong(host), "nothing is wrong")
    assert reach_each_other(containers)
    assert [indexes(each) for each in containers] == before[:-1]
    assert f"{published.address}" in host.run("nft", "list", "table", "inet", "overlayd"), "its port leads to it"
    taken = {each.address for each in containers}
    # More than are left in the block, so that an address would come again if one were free.
    new = [host.attach(f"c{number}", "blue") for number in range(14)]
    assert taken.isdisjoint({each.address for each in new})
    assert reach_each_other([*containers, *new])
    for each in (*containers, *new):
        assert host.detach(each).status == 0
    host.stop_agent()
    host.start_agent()
    eventually(nothing_is_wrong(host), "nothing came back")
    assert [*(run_directory(host) / "attachments").glob("*.json")] == []
