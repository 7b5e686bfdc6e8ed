"""containerd, by its own command `ctr` and by the interface that Kubernetes uses, on two hosts of one network."""

from collections.abc import Iterator

import pytest

from tests.support.containerd import Containerd
from tests.support.images import archive, root_filesystem
from tests.support.lab import Lab
from tests.support.processes import eventually


@pytest.fixture(scope="module")
def containerds(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Containerd]]:
    """One on each host, which has a conflist of one network, blue."""
    directory = tmp_path_factory.mktemp("image")
    image = archive(root_filesystem(directory / "root"), directory / "image.tar")
    lab.overlayctl("network", "create", "blue", "--range", "10.32.0.0/16")
    one, other = lab.hosts
    for host in lab.hosts:
        host.install("blue")
    with Containerd(one, image) as first, Containerd(other, image) as second:
        yield [first, second]


def test_containers_of_ctr_reach_each_other_across_hosts(lab: Lab, containerds: list[Containerd]) -> None:
    here, there = (each.run("web", "blue") for each in containerds)
    lab.in_force(here, there)
    assert here.ping(there.address) is not None
    assert there.ping(here.address) is not None


def test_a_container_in_the_foreground_takes_its_attachment_with_it(lab: Lab, containerds: list[Containerd]) -> None:
    container = containerds[0].run_in_foreground("short", "blue")
    lab.in_force(container)
    containerds[0].ctr("task", "kill", "--signal", "SIGTERM", "short")
    eventually(lambda: container.name not in lab.published("blue"), "its endpoint is gone")
