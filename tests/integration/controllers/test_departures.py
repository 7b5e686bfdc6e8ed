"""Hosts that drain or are gone for good, on real hosts; and addresses that rest on them."""

import json
from pathlib import Path

import pytest

from tests.integration.safety.test_bad_input import refused
from tests.support.lab.lab import CommandFailed, Container, Lab, plugin_config
from tests.support.lab.processes import eventually
from tests.support.packets.ping_stream import Pinging


def host_states(lab: Lab) -> dict[str, tuple[str, bool]]:
    hosts = json.loads(lab.overlayctl("host", "list", "--json"))
    return {host["name"]: (host["state"], host["connected"]) for host in hosts}


def two_containers(lab: Lab) -> tuple[Container, Container]:
    lab.overlayctl("network", "create", "blue", "--range", "10.40.0.0/16")
    here, there = (host.attach(f"blue-{host.name}", "blue") for host in lab.hosts)
    lab.in_force(here, there)
    return here, there


def test_a_draining_host_keeps_its_containers_and_takes_no_more(own_lab: Lab, tmp_path: Path) -> None:
    here, there = two_containers(own_lab)
    host = own_lab.hosts[1]
    with Pinging(here, there.address, tmp_path / "ping") as pinging:
        assert "host2" in own_lab.overlayctl("host", "drain", "host2")
        assert host_states(own_lab)["host2"] == ("draining", True)
        own_lab.overlayctl("wait")
        late = {"CONTAINERID": "late", "NETNS": host.add_sandbox("late"), "IFNAME": "eth0"}
        error = refused(host, plugin_config("blue"), **late)
        assert error["code"] == 11
        assert "host host2 is draining and takes no containers" in str(error["msg"])
        pinging.more(50)
    assert pinging.lost == set()
    own_lab.overlayctl("host", "resume", "host2")
    own_lab.overlayctl("wait")
    own_lab.in_force(here, host.attach("blue-late", "blue"))


def test_what_a_host_had_that_is_gone_for_good_vanishes_everywhere(own_lab: Lab) -> None:
    here, there = two_containers(own_lab)
    with pytest.raises(CommandFailed, match="host host2 is connected; stop its agent"):
        own_lab.overlayctl("host", "forget", "host2")
    own_lab.hosts[1].stop_agent()
    eventually(lambda: host_states(own_lab)["host2"] == ("active", False), "the host counts as gone")
    assert here.ping(there.address) is not None, "only its agent is gone as yet"
    own_lab.overlayctl("host", "forget", "host2")
    assert set(host_states(own_lab)) == {"host1"}
    own_lab.overlayctl("wait")
    assert str(own_lab.hosts[1].address) not in own_lab.hosts[0].run("bridge", "-n", "ov-blue", "fdb", "show")
    assert own_lab.published("blue") == {"blue-host1"}
    shown = json.loads(own_lab.overlayctl("capacity", "--network", "blue", "--json"))
    assert (shown["pools"][0]["used"], shown["pools"][0]["quarantined"]) == (1, 1)


def test_without_controllers_an_address_that_rests_is_used_again_rather_than_none(own_lab: Lab) -> None:
    own_lab.overlayctl("network", "create", "tiny", "--range", "10.41.0.0/29")
    host = own_lab.hosts[0]
    containers = [host.attach(f"tiny-{number}", "tiny") for number in range(5)]
    own_lab.in_force(*containers)
    own_lab.stop_controller()
    host.detach(containers[2])
    assert host.attach("tiny-late", "tiny").address == containers[2].address
