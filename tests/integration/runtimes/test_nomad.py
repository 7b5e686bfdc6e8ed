"""What Nomad's client asks of the plugin, call by call: client/allocrunner/networking_cni.go of Nomad 1.7 to 2.0."""

import json
import os
from collections.abc import Sequence
from uuid import uuid4

import pytest

from overlayd.wire.fields import Fields, Json
from tests.integration.conftest import NewNetwork
from tests.support.lab.lab import COMMANDS, ROOT, CommandFailed, Executed, Lab, LabHost
from tests.support.lab.processes import eventually
from tests.support.packets.conversation import Server, ask

pytestmark = pytest.mark.usefixtures("root")

PAGE = (ROOT / "docs/nomad.md").read_text()

CONFIGURATIONS = "/opt/cni/config"
"""Nomad's default `cni_config_dir`."""

PORT, INSIDE = 24000, 8000


class Nomad:
    """One allocation of a job with `network { mode = "cni/…" }`, as Nomad's client treats it."""

    def __init__(self, host: LabHost, network: str, path: str) -> None:
        self.host = host
        self.allocation = str(uuid4())
        self.network = network
        self.sandbox = host.add_sandbox(self.allocation[:8])
        (listed,) = [
            json.loads(host.run("cat", f"{path}/{name}"))
            for name in host.run("ls", path).split()
            if name == f"10-overlayd-{network}.conflist"
        ]
        (plugin,) = listed["plugins"]
        ports = [
            {"hostPort": PORT, "containerPort": INSIDE, "protocol": protocol, "hostIP": str(host.address)}
            for protocol in ("tcp", "udp")
        ]
        self.config = {
            **plugin,
            "cniVersion": listed["cniVersion"],
            "name": listed["name"],
            "runtimeConfig": {"portMappings": ports},
        }

    def add(self) -> Json:
        """Set up the network; Nomad tries three times, and never a DEL in between."""
        arguments = {
            "IgnoreUnknown": "true",
            "NOMAD_REGION": "global",
            "NOMAD_NAMESPACE": "default",
            "NOMAD_JOB_ID": "shop",
            "NOMAD_GROUP_NAME": "web",
            "NOMAD_ALLOC_ID": self.allocation,
            "team": "blue",  # of the job's own `cni { args { … } }`
        }
        given = ";".join(f"{name}={value}" for name, value in arguments.items())
        attempts = (self.call("ADD", ARGS=given) for _ in range(3))
        refusals = []
        for done in attempts:
            if done.status == 0:
                return json_of(done.stdout)
            refusals.append(done.stdout)
        raise CommandFailed(refusals[0])

    def delete(self) -> None:
        """Tear down: DEL has neither arguments nor a result of before."""
        assert self.call("DEL").status == 0

    def call(self, command: str, **variables: str) -> Executed:
        """Execute the plugin once."""
        return self.host.cni(
            command, self.config, CONTAINERID=self.allocation, NETNS=self.sandbox, IFNAME="eth0", **variables
        )

    def enter(self, command: Sequence[str]) -> list[str]:
        return self.host.enter(["nsenter", f"--net={self.sandbox}", "--", *command])


def json_of(text: str) -> Json:
    found: Json = json.loads(text)
    return found


def install(host: LabHost, network: str, *options: str) -> str:
    """Install the plugin and the configuration as the page says."""
    (line,) = [line for line in PAGE.splitlines() if line.startswith("overlayd install-cni ")]
    words = [network if word == "blue" else word for word in line.split()[1:]]
    assert words[-1] == CONFIGURATIONS
    return host.run(str(COMMANDS / "overlayd"), *words, *options)


@pytest.mark.parametrize("line", [line for line in PAGE.splitlines() if line.startswith("overlayctl endpoint ")])
def test_a_job_is_found_as_the_page_says(lab: Lab, new_network: NewNetwork, line: str) -> None:
    network = new_network()
    install(lab.hosts[0], network)
    job = Nomad(lab.hosts[0], network, CONFIGURATIONS)
    job.add()
    eventually(lambda: network in lab.overlayctl(*line.split()[1:]), "it is published")
    job.delete()


@pytest.mark.parametrize("options", [[], ["--interpreted"]], ids=["native", "interpreted"])
def test_a_job_of_nomad_is_on_the_network(lab: Lab, new_network: NewNetwork, options: list[str]) -> None:
    network = new_network()
    host = lab.hosts[0]
    install(host, network, *options)
    job = Nomad(host, network, CONFIGURATIONS)
    result = job.add()
    # Nomad takes the first interface, in the order of names, that has a sandbox and an address.
    (interface,) = Fields(result).objects("interfaces")
    assert (interface.text("name"), interface.text("sandbox")) == ("eth0", job.sandbox)
    (ip,) = Fields(result).objects("ips")
    address = ip.text("address").partition("/")[0]

    there = lab.hosts[1].attach(f"{network}-there", network)
    lab.in_force(there)
    assert there.ping(there.address) is not None
    for protocol in ("tcp", "udp"):
        with Server(job.enter, address, INSIDE, protocol):
            assert ask(there.enter, address, INSIDE, protocol) is not None
            assert ask(lab.enter_underlay, str(host.address), PORT, protocol) is not None

    wanted = ["--network", network, "--workload", "shop-web", "--label", f"nomad.allocation={job.allocation}"]
    eventually(lambda: json.loads(lab.overlayctl("endpoint", "list", *wanted, "--json")) != [], "it is published")
    assert json.loads(lab.overlayctl("endpoint", "list", *wanted, "--label", "nomad.job=other", "--json")) == []
    job.delete()
    eventually(lambda: lab.published(network) == {there.name}, "it is gone")
    job.delete()


def test_a_second_attempt_finds_nothing_of_the_first(lab: Lab, new_network: NewNetwork) -> None:
    network = new_network()
    host = lab.hosts[0]
    install(host, network)
    holder = Nomad(host, network, CONFIGURATIONS)
    holder.add()
    waiting = Nomad(host, network, CONFIGURATIONS)
    with pytest.raises(CommandFailed, match="port 24000"):
        waiting.add()
    holder.delete()
    assert waiting.add()
    waiting.delete()


def test_nomads_fingerprint_reads_the_version(lab: Lab, new_network: NewNetwork) -> None:
    host = lab.hosts[0]
    for options in ([], ["--interpreted"]):
        install(host, new_network(), *options)
        done = host.execute(["env", "-i", f"PATH={os.defpath}", "/opt/cni/bin/overlayd"])
        words = (done.stdout + done.stderr).split()
        assert done.returncode == 0
        (found,) = [word for word in words[:4] if word[0] == "v"]
        assert found.removeprefix("v").replace(".", "").isdigit()
