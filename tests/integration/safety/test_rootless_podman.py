"""podman without root: its containers are in networks that the host's settings allow to the user, and in no others."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.lab.lab import COMMANDS, CommandFailed, Lab
from tests.support.lab.processes import eventually
from tests.support.machines.rootfs import PODMAN_58
from tests.support.packets.conversation import Server, ask
from tests.support.runtimes.images import root_filesystem
from tests.support.runtimes.podman import PLUGINS
from tests.support.runtimes.rootless_podman import UID, RootlessPodman

pytestmark = [
    pytest.mark.thorough,
    pytest.mark.timeout(600),  # the first test waits for a root of its release, and for the mirror
]

ALLOWED = ("--allow-user", f"{UID}:blue", "--resync", "1")


@pytest.fixture(scope="module")
def user_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Two hosts that allow a user our network blue, and not green."""
    with Lab(tmp_path_factory.mktemp("lab"), hosts=2) as made:
        made.start_controller()
        for host in made.hosts:
            host.start_agent(*ALLOWED)
            host.run(str(COMMANDS / "overlayd"), "install-netavark", "--plugin-dir", PLUGINS)
        made.overlayctl("network", "create", "blue", "--range", "10.32.0.0/16", "--range", "fd00:32::/48")
        made.overlayctl("network", "create", "green", "--range", "10.33.0.0/16")
        yield made


@pytest.fixture(scope="module")
def alice(user_lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RootlessPodman]:
    """The podman of a user on the first host, with network pods (our blue)."""
    with RootlessPodman(
        user_lab.hosts[0], root_filesystem(tmp_path_factory.mktemp("image") / "root"), PODMAN_58
    ) as made:
        made.podman("network", "create", "-d", "overlayd", "-o", "network=blue", "pods")
        yield made


@pytest.fixture
def podman(alice: RootlessPodman) -> Iterator[RootlessPodman]:
    """What a test starts ends with it."""
    yield alice
    alice.podman("rm", "--force", "--all", "--time", "0")


def endpoints(lab: Lab) -> dict[str, str]:
    """Return the way by which each workload in blue was attached."""
    found = json.loads(lab.overlayctl("endpoint", "list", "--network", "blue", "--json"))
    return {each["workload"]: each["runtime"] for each in found}


def test_a_users_containers_reach_each_other_and_other_hosts(user_lab: Lab, podman: RootlessPodman) -> None:
    web, db = podman.run("web", "pods"), podman.run("db", "pods")
    beside = user_lab.hosts[1].attach("beside", "blue")
    user_lab.in_force(beside)
    assert web.ping(db.address) is not None
    assert web.ping(beside.address) is not None, "a container of CNI on another host"
    assert beside.ping(web.addresses[1]) is not None, "IPv6"
    eventually(
        lambda: endpoints(user_lab).items() >= {"web": f"netavark-{UID}", "db": f"netavark-{UID}"}.items(), "shown"
    )
    podman.podman("rm", "--force", "--time", "0", "web")
    eventually(lambda: "web" not in endpoints(user_lab), "its address is free")
    user_lab.hosts[1].detach(beside)
    user_lab.hosts[1].remove_sandbox("beside")


def test_podman_itself_publishes_ports_with_the_users_rights(user_lab: Lab, podman: RootlessPodman) -> None:
    web = podman.run("web", "pods", "--publish", "8080:80")
    with Server(web.enter, str(web.address), 80):
        assert ask(user_lab.enter_underlay, str(podman.host.address), 8080) is not None
    with pytest.raises(CommandFailed, match="privileged port"):
        podman.run("low", "pods", "--publish", "81:80")
    eventually(lambda: "low" not in endpoints(user_lab), "nothing of it stays")


def test_networks_come_and_go_while_a_container_runs(podman: RootlessPodman) -> None:
    web = podman.run("web", "pods")
    podman.podman("network", "disconnect", "pods", "web")
    eventually(lambda: "eth0" not in web.run("ip", "-o", "link"), "the interface is gone")
    podman.podman("network", "connect", "pods", "web")
    again, db = podman.found("web", "pods"), podman.run("db", "pods")
    assert again.ping(db.address) is not None


def test_what_was_not_allowed_is_refused_in_words(podman: RootlessPodman) -> None:
    refusal = f"overlayd: user {UID} may not use network green of this host: see allow-user in agent.toml"
    with pytest.raises(CommandFailed, match=refusal):
        podman.podman("network", "create", "-d", "overlayd", "green")
    with pytest.raises(CommandFailed, match="static_ips: is not allowed without root"):
        podman.run("chosen", "pods", "--ip", "10.32.0.9")


def test_a_restart_of_the_agent_and_of_the_container_keeps_the_network(user_lab: Lab, podman: RootlessPodman) -> None:
    web, db = podman.run("web", "pods"), podman.run("db", "pods")
    podman.host.stop_agent()
    podman.host.start_agent(*ALLOWED)
    assert web.ping(db.address) is not None
    podman.podman("restart", "--time", "0", "web")
    assert podman.found("web", "pods").ping(db.address) is not None
    eventually(lambda: set(endpoints(user_lab)) == {"web", "db"}, "one endpoint each")


def test_what_a_user_leaves_is_freed(user_lab: Lab, tmp_path: Path) -> None:
    """All that belongs to the user ends at once, as when a session is killed; no plugin is called."""
    with RootlessPodman(user_lab.hosts[1], root_filesystem(tmp_path / "root"), PODMAN_58) as podman:
        podman.podman("network", "create", "-d", "overlayd", "-o", "network=blue", "pods")
        podman.run("lost", "pods")
        eventually(lambda: "lost" in endpoints(user_lab), "it is published")
    eventually(lambda: "lost" not in endpoints(user_lab), "its address is free")


def test_a_container_has_the_nameservers_that_its_user_gives(podman: RootlessPodman) -> None:
    podman.run("named", "pods", "--dns", "192.0.2.53")
    process = podman.podman("inspect", "--format", "{{.State.Pid}}", "named").strip()
    assert "nameserver 192.0.2.53\n" in Path(f"/proc/{process}/root/etc/resolv.conf").read_text()


def test_an_agent_that_allows_no_user_is_named(podman: RootlessPodman) -> None:
    podman.host.stop_agent()
    podman.host.start_agent()
    with pytest.raises(CommandFailed, match="podman without root is not allowed on this host: nothing listens on"):
        podman.run("web", "pods")
    podman.host.stop_agent()
    podman.host.start_agent(*ALLOWED)
