from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from tests.support.lab.lab import Lab

_numbers = count(1)

SELDOM = ("--resync", "3600")
"""Agents hardly ever look by themselves: what is put right was noticed, however long a test waits for it."""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Two hosts in sync with one controller, for tests that leave them as they were."""
    with Lab(tmp_path_factory.mktemp("lab"), hosts=2) as made:
        made.start_controller()
        for host in made.hosts:
            host.start_agent(*SELDOM)
        yield made


@pytest.fixture
def own_lab(tmp_path: Path) -> Iterator[Lab]:
    """Two hosts in sync with one controller, for a test that breaks something."""
    with Lab(tmp_path / "lab", hosts=2) as made:
        made.start_controller()
        for host in made.hosts:
            host.start_agent(*SELDOM)
        yield made


NewNetwork = Callable[..., str]


@pytest.fixture
def new_network(lab: Lab) -> NewNetwork:
    """Make a network of a name and a range that no other test has; return the name."""

    def make(*options: str, cidr: str | None = None) -> str:
        number = next(_numbers)
        name = f"net{number}"
        lab.overlayctl("network", "create", name, "--range", cidr or f"10.{100 + number}.0.0/16", *options)
        return name

    return make
