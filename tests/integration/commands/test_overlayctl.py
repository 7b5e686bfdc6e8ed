"""Every command of `overlayctl`, for people and as JSON, and the README's commands as they are printed."""

import json
import os
import subprocess

import pytest

from tests.integration.conftest import NewNetwork
from tests.support.lab.lab import COMMANDS, ROOT, CommandFailed, Lab
from tests.support.lab.processes import eventually

VTEP_MAC = "02:6f:76:00:00:02"
"""Of the host with number 2."""


def test_every_command_speaks_json(lab: Lab, new_network: NewNetwork) -> None:
    network = new_network()
    container = lab.hosts[0].attach(f"{network}-c", network)
    lab.in_force(container)
    shown = json.loads(lab.overlayctl("network", "show", network, "--json"))
    assert (shown["name"], shown["topology"], len(shown["blocks"])) == (network, "routed", 1)
    assert network in {item["name"] for item in json.loads(lab.overlayctl("network", "list", "--json"))}
    hosts = json.loads(lab.overlayctl("host", "list", "--json"))
    assert [(host["name"], host["connected"]) for host in hosts] == [("host1", True), ("host2", True)]
    assert json.loads(lab.overlayctl("host", "show", "host2", "--json"))["number"] == hosts[1]["number"]
    (endpoint,) = json.loads(lab.overlayctl("endpoint", "list", "--network", network, "--json"))
    assert endpoint["addresses"] == [str(container.address)]
    assert json.loads(lab.overlayctl("wait", "--json"))["in_force"] == 2
    made = json.loads(lab.overlayctl("network", "create", "short", "--range", "10.9.0.0/16", "--json"))
    assert made["name"] == "short"
    assert json.loads(lab.overlayctl("network", "delete", "short", "--json")) is None
    on_host = lab.hosts[0].run
    assert json.loads(on_host(str(COMMANDS / "overlayctl"), "plan", "--json")) == {"operations": []}
    assert json.loads(on_host(str(COMMANDS / "overlayctl"), "status", "--json"))["problems"] == []


def test_tables_show_what_people_look_for(lab: Lab, new_network: NewNetwork) -> None:
    network = new_network()
    container = lab.hosts[0].attach(f"{network}-c", network)
    lab.in_force(container)
    assert network in lab.overlayctl("network", "list")
    assert "host1" in lab.overlayctl("network", "show", network)
    assert "connected" in lab.overlayctl("host", "list")
    shown = lab.overlayctl("host", "show", "host1")
    assert shown.startswith("host host1 (")
    assert f"VTEP {lab.hosts[0].address}" in shown
    assert shown.endswith("no problems\n")
    assert str(container.address) in lab.overlayctl("endpoint", "list")
    assert "in force on 2 of 2 hosts" in lab.overlayctl("wait")
    on_host = lab.hosts[0].run
    assert "in sync" in on_host(str(COMMANDS / "overlayctl"), "status")
    assert "nothing to do" in on_host(str(COMMANDS / "overlayctl"), "plan")


def test_plan_shows_what_the_agent_would_do(own_lab: Lab) -> None:
    host = own_lab.hosts[0]
    own_lab.overlayctl("network", "create", "blue", "--range", "10.32.0.0/16")
    here, there = (each.attach(f"c-{each.name}", "blue") for each in own_lab.hosts[:2])
    remote = own_lab.hosts[1].address
    # As long as a foreign device has the VNI, the agent cannot do what its plan says.
    foreign = f"ip link add vxforeign type vxlan id 1 dstport 4789 local {host.address}"
    host.stop_agent()  # it would be faster
    host.run("sh", "-c", f"ip -n ov-blue link del vx0 && {foreign}")
    host.start_agent()
    eventually(lambda: "vx0" in str((host.agent_status() or {})["problems"]), "the agent has tried")
    shown = host.run(str(COMMANDS / "overlayctl"), "plan")
    assert "ip -n ov-blue link add vx0" in shown
    assert f"bridge -n ov-blue fdb add {VTEP_MAC} dev vx0 dst {remote}" in shown
    host.run("ip", "link", "del", "vxforeign")
    eventually(lambda: "nothing to do" in host.run(str(COMMANDS / "overlayctl"), "plan"), "it has done it")
    # The other host's namespace of this network has the tunnel of the same name, and is that host's.
    eventually(lambda: here.ping(there.address, wait=0.3) is not None, "the container has kept its interface")


def test_the_uplink_and_egress_of_a_network_are_set_and_shown(lab: Lab, new_network: NewNetwork) -> None:
    network = new_network("--no-egress")
    assert "uplink auto without egress" in lab.overlayctl("network", "show", network)
    assert lab.overlayctl("network", "set", network, "--uplink", "isolated").endswith(
        "uplink isolated without egress\n"
    )
    assert lab.overlayctl("network", "set", network, "--egress").endswith("uplink isolated\n")
    with pytest.raises(CommandFailed, match="give --uplink"):
        lab.overlayctl("network", "set", network)


def test_wait_names_the_host_that_lags(own_lab: Lab) -> None:
    own_lab.hosts[1].stop_agent()
    with pytest.raises(CommandFailed, match=r"(?s)1 of 2 hosts.*host2: not connected"):
        own_lab.overlayctl("wait", "--timeout", "1")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["network", "show", "there-is-none"], "there-is-none"),
        (["network", "delete", "there-is-none"], "there-is-none"),
        (["--controller", "http://127.0.0.1:1", "network", "list"], "no controller answers at http://127.0.0.1:1"),
        (["--controller", "nonsense", "network", "list"], "--controller"),
    ],
)
def test_an_error_is_one_clear_line(lab: Lab, arguments: list[str], words: str) -> None:
    with pytest.raises(CommandFailed) as refusal:
        lab.overlayctl(*arguments)
    printed = str(refusal.value).partition("\n")[2].strip()
    assert printed.startswith("error: ")
    assert words in printed
    assert len(printed.splitlines()) == 1


@pytest.mark.usefixtures("root")
def test_plan_without_an_agent_says_so() -> None:
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", f"mount -t tmpfs tmpfs /run && {COMMANDS / 'overlayctl'} plan"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "is overlayd running?" in done.stderr


def test_the_commands_of_the_readme_work_as_printed(own_lab: Lab) -> None:
    text = (ROOT / "README.md").read_text()
    block = next(part for part in text.split("```") if "overlayctl network create blue" in part)
    environment = {
        **os.environ,
        "PATH": f"{COMMANDS}:{os.environ['PATH']}",
        "OVERLAY_CONTROLLER_URL": own_lab.api_url,
    }
    done = subprocess.run(["sh", "-exc", block], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "network lan deleted" in done.stdout


def test_history_tells_what_an_address_was_and_who_changed_it(lab: Lab, new_network: NewNetwork) -> None:
    network = new_network()
    name = f"{network}-c"
    container = lab.hosts[0].attach(name, network)
    lab.in_force(container)
    about = ("--network", network, "--address", str(container.address), "--kind", "endpoint")
    (made,) = json.loads(lab.overlayctl("history", *about, "--json"))["items"]
    assert (made["before"], made["after"]["container_id"]) == (None, name)
    shown = lab.overlayctl("history", *about)
    assert name in shown
    assert made["actor"]["name"] in shown
    past = json.loads(lab.overlayctl("history", *about, "--at", made["time"], "--json"))
    assert [item["object"] for item in past["items"]] == [made["after"]]
    assert json.loads(lab.overlayctl("history", *about, "--at", "1h", "--json"))["items"] == []
    assert name in lab.overlayctl("history", *about, "--at", "0s")
    with pytest.raises(CommandFailed, match="yesterday"):
        lab.overlayctl("history", "--since", "yesterday")
