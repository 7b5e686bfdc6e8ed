"""What an administrator does on a host itself."""

import json

import pytest

from tests.support.lab.lab import COMMANDS, CommandFailed, Lab
from tests.support.lab.processes import eventually

OVERLAYD = str(COMMANDS / "overlayd")


def test_plan_and_status_tell_what_the_agent_tells(lab: Lab) -> None:
    host = lab.hosts[0]
    lab.overlayctl("network", "create", "told", "--range", "10.81.0.0/16")
    lab.in_force(host.attach("told", "told"))
    assert host.run(OVERLAYD, "plan") == "nothing to do: the kernel is as it should be\n"
    assert json.loads(host.run(OVERLAYD, "plan", "--json")) == {"operations": []}
    shown = host.run(OVERLAYD, "status")
    assert "in sync with a controller" in shown
    assert f"VTEP {host.address}, overlay MTU 1450" in shown
    assert "networks in force: told" in shown
    assert "problem" not in shown
    assert json.loads(host.run(OVERLAYD, "status", "--json"))["networks"] == ["told"]


def test_cleanup_waits_for_the_agent_and_the_containers(own_lab: Lab) -> None:
    host, other = own_lab.hosts
    own_lab.overlayctl("network", "create", "blue", "--range", "10.80.0.0/16")
    here, there = (each.attach(f"blue-{each.name}", "blue") for each in own_lab.hosts)
    own_lab.in_force(here, there)
    host.run("ip", "link", "add", "foreign0", "type", "bridge")
    host.run("nft", "add", "table", "inet", "foreign")

    with pytest.raises(CommandFailed, match="another overlayd runs on this host"):
        host.run(OVERLAYD, "cleanup", "--yes")
    host.stop_agent()
    with pytest.raises(CommandFailed, match="blue-host1 of blue"):
        host.run(OVERLAYD, "cleanup", "--yes")
    shown = host.run(OVERLAYD, "cleanup", "--attached")
    assert "ip netns del ov-blue" in shown
    planned = json.loads(host.run(OVERLAYD, "cleanup", "--attached", "--json"))
    assert "ip netns del ov-blue" in [operation["command"] for operation in planned["operations"]]
    assert (planned["done"], planned["failures"]) == (False, [])
    assert here.ping(there.address) is not None, "it was only shown"

    done = json.loads(host.run(OVERLAYD, "cleanup", "--attached", "--yes", "--json"))
    assert (done["operations"], done["done"]) == (planned["operations"], True)

    assert "ov-" not in host.run("ip", "netns", "list")
    assert "eth0" not in here.run("ip", "-o", "link")
    assert host.run("nft", "list", "tables") == "table inet foreign\n"
    assert "foreign0" in host.run("ip", "-o", "link")
    assert host.run("ls", "/run/overlayd/attachments") == ""
    assert "nothing to do" in host.run(OVERLAYD, "cleanup")

    blocks = own_lab.overlayctl("network", "show", "blue")
    host.start_agent()
    eventually(lambda: own_lab.published("blue") == {there.name}, "the endpoint is gone")
    back = host.attach("back", "blue")
    own_lab.in_force(back)
    assert back.ping(there.address) is not None
    assert own_lab.overlayctl("network", "show", "blue") == blocks, "the host is the same one"
    assert other.agent_status()
