"""The commands and the compose file of docs/docker.md, on two hosts with Debian's Docker and its Compose."""

import json
import re
import shlex
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.lab.lab import ROOT, Lab
from tests.support.machines.rootfs import DOCKER
from tests.support.packets.conversation import Server, ask
from tests.support.runtimes.docker import IMAGE, Docker
from tests.support.runtimes.images import root_filesystem

pytestmark = pytest.mark.timeout(600)  # the first test waits for a root of its release, and for the mirror

PAGE = (ROOT / "docs/docker.md").read_text()
RELEASES = [pytest.param(release, marks=[] if release == 26 else pytest.mark.thorough) for release in sorted(DOCKER)]


@pytest.fixture(params=RELEASES, ids=lambda release: f"docker-{release}")
def engines(request: pytest.FixtureRequest, own_lab: Lab, tmp_path: Path) -> Iterator[tuple[Lab, list[Docker]]]:
    """Two hosts with the network that the page makes."""
    (create,) = commands("overlayctl network create")
    own_lab.overlayctl(*create[1:])
    root = root_filesystem(tmp_path / "root")
    with ExitStack() as running:
        yield own_lab, [running.enter_context(Docker(host, DOCKER[request.param], root)) for host in own_lab.hosts]


def commands(beginning: str) -> list[list[str]]:
    """Return the commands of the page that begin so, with the tests' image."""
    found = re.findall(rf"^(?:sudo )?({beginning}\b.*)$", PAGE, re.MULTILINE)
    return [shlex.split(command.replace("nginx", IMAGE)) for command in found]


def test_the_page_makes_a_network_and_compose_uses_it_on_two_hosts(engines: tuple[Lab, list[Docker]]) -> None:
    lab, (first, second) = engines
    (create, make), (run,) = commands("docker network create"), commands("docker run")
    if first.release == 20:
        create[3:3] = ["--subnet", "10.32.0.0/16", "--subnet", "fd00:32::/48"]
    first.docker(*create[1:])
    first.docker(*run[1:])
    (composed,) = re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    for docker in (first, second):
        docker.compose(composed.replace("nginx", IMAGE), "up", "--detach")
    web, here, there = (
        docker.found(name, "blue")
        for docker, name in (
            (first, "web"),
            (first, first.compose(composed, "ps", "--quiet")),
            (second, second.compose(composed, "ps", "--quiet")),
        )
    )
    assert len(web.addresses) == 2
    for address in (here.address, there.address):
        assert web.ping(address) is not None
    assert here.ping(there.address) is not None
    for container, docker, port in ((web, first, 8080), (here, first, 8081), (there, second, 8081)):
        with Server(container.enter, str(container.address), 80):
            assert ask(lab.enter_underlay, str(docker.host.address), port) is not None
    listed = json.loads(lab.overlayctl("endpoint", "list", "--runtime", "docker", "--json"))
    assert len(listed) == 3
    for docker in (first, second):
        docker.compose(composed, "down")
    first.docker("rm", "--force", "web")
    first.docker("network", "rm", "blue")
    (setting,) = re.findall(r"^host-networks = (\d+)$", PAGE, re.MULTILINE)
    lab.stop_controller()
    lab.start_controller("--host-networks", setting)
    for docker in (first, second):
        docker.docker(*make[1:])
    assert "shop" in lab.overlayctl("network", "list")


def test_what_docker_says_is_what_the_page_explains() -> None:
    """The sentences themselves are seen in tests/integration/runtimes/test_docker.py."""
    sources = "".join(path.read_text() for path in (ROOT / "overlayd/agent/docker").glob("*.py"))
    for sentence in ("say which network it is", "the addresses must be those of overlayd"):
        assert f"`{sentence}`" in PAGE
        assert sentence in sources
