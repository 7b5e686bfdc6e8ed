from ipaddress import ip_network
from pathlib import Path

import pytest

from overlayd.agent.docker.docker_networks import DockerNetworks
from overlayd.agent.runtime.versioned_file import NewerVersion
from overlayd.model.errors import InvalidValue, NotFound
from overlayd.model.ids import NetworkName

BLUE, RED = NetworkName("blue"), NetworkName("red")
POOL, OTHER = ip_network("10.32.0.0/16"), ip_network("240.0.0.7/32")


def loaded(path: Path) -> DockerNetworks:
    made = DockerNetworks(path)
    made.load()
    return made


def test_networks_and_their_unnamed_pools_outlive_the_agent(tmp_path: Path) -> None:
    networks = loaded(tmp_path / "networks.json")
    networks.put("a1", BLUE, [POOL])
    networks.put("a2", BLUE, [POOL, OTHER])
    networks.put("b1", RED, [])
    again = loaded(tmp_path / "networks.json")
    assert [again.name(each) for each in ("a1", "a2", "b1")] == [BLUE, BLUE, RED]
    assert [again.of_pool(each) for each in (POOL, OTHER)] == [BLUE, BLUE]
    again.remove("a1")
    assert again.of_pool(POOL) == BLUE, "another one of the same network is left"
    again.remove("a2")
    again.remove("a2")
    assert again.of_pool(POOL) is None
    with pytest.raises(NotFound, match="create it again"):
        loaded(tmp_path / "networks.json").name("a1")


def test_an_unnamed_pool_is_behind_one_network(tmp_path: Path) -> None:
    networks = loaded(tmp_path / "networks.json")
    networks.put("a1", BLUE, [POOL])
    with pytest.raises(InvalidValue, match="name red to IPAM, too"):
        networks.put("b1", RED, [POOL])
    networks.put("b1", RED, [])


@pytest.mark.parametrize("wrong", ["", "x" * 65, "../a", "a b"])
def test_an_id_is_one_of_dockers(tmp_path: Path, wrong: str) -> None:
    with pytest.raises(InvalidValue):
        loaded(tmp_path / "networks.json").put(wrong, BLUE, [])


@pytest.mark.parametrize("content", ["", "{}", '{"v": 1, "networks": {"a": 7}, "pools": {}}'])
def test_a_damaged_file_is_set_aside(tmp_path: Path, content: str) -> None:
    path = tmp_path / "networks.json"
    path.write_text(content)
    loaded(path).put("a1", BLUE, [])
    assert (tmp_path / "networks.damaged").read_text() == content
    assert loaded(path).name("a1") == BLUE


def test_a_file_of_a_newer_agent_stops_this_one(tmp_path: Path) -> None:
    path = tmp_path / "networks.json"
    path.write_text('{"v": 9}')
    with pytest.raises(NewerVersion):
        loaded(path)
