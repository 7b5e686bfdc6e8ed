from ipaddress import ip_address
from pathlib import Path

import pytest

from overlayd.agent.records.held_addresses import HeldAddresses
from overlayd.agent.runtime.versioned_file import NewerVersion
from overlayd.model.ids import MacAddress, NetworkName

BLUE, GREEN = NetworkName("blue"), NetworkName("green")
ONE, SIX = ip_address("10.32.0.2"), ip_address("fd00:32::2")


def loaded(directory: Path) -> HeldAddresses:
    made = HeldAddresses(directory)
    made.load()
    return made


def test_what_is_held_outlives_the_agent_until_it_is_let_go(tmp_path: Path) -> None:
    held = loaded(tmp_path / "held")
    for network, address in ((BLUE, ONE), (BLUE, SIX), (GREEN, ONE)):
        held.put(network, address)
    again = loaded(tmp_path / "held")
    assert again.all() == {(BLUE, ONE), (BLUE, SIX), (GREEN, ONE)}
    again.remove(BLUE, ONE)
    again.remove(BLUE, ONE)
    assert (again.of(BLUE), again.of(GREEN)) == ({SIX}, {ONE})
    assert loaded(tmp_path / "held").all() == {(BLUE, SIX), (GREEN, ONE)}


def test_what_an_address_is_intended_for_outlives_the_agent_until_it_is_put_again(tmp_path: Path) -> None:
    held = loaded(tmp_path / "held")
    mac = MacAddress("02:00:00:00:00:55")
    held.put(BLUE, ONE, mac)
    held.put(BLUE, SIX, mac)
    held.put(GREEN, ONE)
    assert loaded(tmp_path / "held").intended() == held.intended() == {(BLUE, ONE): mac, (BLUE, SIX): mac}
    held.put(BLUE, ONE)
    held.remove(BLUE, SIX)
    assert loaded(tmp_path / "held").intended() == held.intended() == {}
    assert loaded(tmp_path / "held").all() == {(BLUE, ONE), (GREEN, ONE)}


@pytest.mark.parametrize("content", ["", "[]", '{"v": 1}', '{"v": 1, "network": "blue", "address": "x"}'])
def test_a_damaged_file_is_passed_over(tmp_path: Path, content: str) -> None:
    loaded(tmp_path).put(BLUE, ONE)
    (tmp_path / "damaged.json").write_text(content)
    assert loaded(tmp_path).all() == {(BLUE, ONE)}


def test_a_file_of_a_newer_agent_stops_this_one(tmp_path: Path) -> None:
    (tmp_path / "newer.json").write_text('{"v": 2}')
    with pytest.raises(NewerVersion):
        loaded(tmp_path)
