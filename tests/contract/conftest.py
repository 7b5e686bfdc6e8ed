"""Every test that asks for `world` runs on the kernel in memory and on that of this machine."""

from collections.abc import Iterator

import pytest

from tests.contract.kernels import World, fake_world, linux_world


@pytest.fixture(params=["fake", "linux"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    if request.param == "linux":
        request.getfixturevalue("root")
    with linux_world() if request.param == "linux" else fake_world() as made:
        yield made
